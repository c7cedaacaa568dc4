/** OSCAL out of facts: the mapping of docs/controls.md, ids that do not change, nothing claimed of what was not assessed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assess, prepare } from '#src/evidence/controls.ts';
import { hasOscal, oscalDocument, uuidV5 } from '#src/evidence/oscal.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import type { BundleHead } from '#src/evidence/facts.ts';
import { fleet } from './fleet.ts';

const mappings = (await shippedFrameworks()).map(({ framework }) => framework);

async function written(size: number, over: Partial<BundleHead> = {}): Promise<string> {
  const assessment = await prepare(fleet(size, over), mappings);
  let out = '';
  for await (const piece of oscalDocument(assessment, await assess(assessment))) out += piece;
  return out;
}

// oxlint-disable-next-line typescript/no-explicit-any -- somebody else's format, looked at here and there
const parsed = async (size: number, over: Partial<BundleHead> = {}): Promise<any> =>
  JSON.parse(await written(size, over))['assessment-results'];

test('a UUID of version 5 is that of RFC 9562, appendix A.4', () => {
  assert.equal(
    uuidV5('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'www.example.com'),
    '2ed6657d-e927-568b-95e1-2665a8aea6a2',
  );
});

test('two exports of the same facts are equal to the byte', async () =>
  assert.equal(await written(80), await written(80)));

test('hosts are inventory, exceptions observations, waivers risks that were approved, results findings', async () => {
  const { results, metadata, 'back-matter': back } = await parsed(80);
  const [result] = results;
  assert.equal(result['local-definitions']['inventory-items'].length, 80);
  const observations = new Map(result.observations.map((one: { uuid: string }) => [one.uuid, one]));
  assert.equal(observations.size, result.observations.length, 'each has an id of its own');
  assert.ok(result.observations.every((one: { methods: string[] }) => one.methods.join() === 'TEST'));

  const waiver = result.risks.find((risk: { title: string }) => risk.title.startsWith('W-17'));
  assert.equal(waiver.status, 'deviation-approved');
  const parties = new Map(metadata.parties.map((party: { uuid: string; name: string }) => [party.uuid, party.name]));
  assert.deepEqual(
    waiver['risk-log'].entries.map((entry: { 'logged-by': { 'party-uuid': string }[] }) =>
      parties.get(entry['logged-by'][0]!['party-uuid']),
    ),
    ['J. Brandt', 'M. Okafor'],
  );
  assert.equal(waiver['related-observations'].length, 2);
  for (const { 'observation-uuid': uuid } of waiver['related-observations']) assert.ok(observations.has(uuid));

  const targets = result.findings.map((finding: { target: object }) => finding.target);
  assert.deepEqual(targets[0], {
    type: 'objective-id',
    'target-id': 'si-7_obj',
    status: { state: 'not-satisfied', reason: 'fail' },
  });
  // Every reference inside the document leads somewhere.
  const resources = new Set(back.resources.map(({ uuid }: { uuid: string }) => `#${uuid}`));
  for (const one of result.observations)
    for (const { href } of one['relevant-evidence'] ?? []) assert.ok(resources.has(href));
});

test('a control that was not assessed has an observation that says so, and no finding', async () => {
  const { results } = await parsed(80, { frameworks: ['pci-dss-4'] });
  const said = results[0].observations.filter(({ types }: { types: string[] }) => types[0] === 'control-objective');
  const outcome = (title: string) =>
    said.find((one: { title: string }) => one.title.includes(` ${title}:`)).props[0].value;
  assert.equal(outcome('5.2.1'), 'not-assessed');
  assert.ok(!results[0].findings.some(({ title }: { title: string }) => title.includes(' 5.2.1:')));
  assert.ok(!JSON.stringify(results[0].findings).includes('not-assessed"'), 'OSCAL knows no such state');
});

test('what strangers wrote is neither markup nor a way to reorder what is read', async () => {
  const { results } = await parsed(40);
  const text = JSON.stringify(results);
  assert.ok(!text.includes('\u202E') && text.includes('\\\\u\\\\{202e\\\\}'));
  assert.ok(results[0].observations.some(({ title }: { title: string }) => title.startsWith('\\<script\\>')));
});

test('a list is never empty: a fleet of none has no inventory, and without a control there is no document', async () => {
  const { results } = await parsed(0, { frameworks: ['soc-2'] });
  assert.ok(!('inventory-items' in results[0]['local-definitions']) && !('findings' in results[0]));
  assert.equal(hasOscal(await prepare(fleet(2, { frameworks: [] }), mappings)), false);
});
