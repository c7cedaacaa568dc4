/** A bundle with all that is computed from its facts: verified by computing it again, and written out again to read. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { main as evidence } from '#cli/evidence.ts';
import { derivedMembers } from '#src/evidence/derived.ts';
import { factsOf } from '#src/evidence/facts.ts';
import type { NewMember } from '#src/evidence/zip.ts';
import { fingerprintOf } from '#src/signing/ed25519.ts';
import { EXIT, UsageError } from '#src/terminal.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { ran } from '#test/ran.ts';
import { bundleOf, goodParts, server } from '#test/src/evidence/madebundle.ts';
import { rejectsCode } from '#test/throws.ts';

const folder = mkdtempSync(join(tmpdir(), 'bootproof-compute-'));
after(() => rmSync(folder, { recursive: true }));
const key = fingerprintOf(server.publicKey);

/** A good bundle that holds what its facts come to; `bend` changes a member before all is signed. */
async function bundle(name: string, bend: (name: string, text: string) => string = (_, text) => text): Promise<string> {
  const parts = await goodParts();
  const { head, hosts, images, findings, decisions, policies } = parts;
  const facts = factsOf({ head, hosts, images, findings, decisions, policies });
  const computed: NewMember[] = [];
  for await (const member of derivedMembers(facts, await shippedFrameworks(), { fingerprint: key })) {
    const held: Uint8Array[] = [];
    for await (const piece of member.content instanceof Uint8Array ? [member.content] : member.content)
      held.push(piece);
    const text = bend(member.name, Buffer.concat(held).toString());
    computed.push({ name: member.name, content: Buffer.from(text) });
  }
  const taken = new Set(computed.map((member) => member.name));
  const file = join(folder, `${name}.zip`);
  writeFileSync(
    file,
    await bundleOf({ ...parts, files: [...parts.files.filter((member) => !taken.has(member.name)), ...computed] }),
  );
  return file;
}

test('results in a bundle are computed again, and everything that is computed can be written out', async () => {
  const out = join(folder, 'out');
  const { exit, out: said } = await ran(evidence, ['verify', await bundle('good'), '--key', key, '--write', out]);
  assert.equal(exit, EXIT.ok, said);
  assert.match(said, /^ok +controls +the results of every control follow from the facts$/m);
  assert.match(readFileSync(join(out, 'report/report.html'), 'utf8'), new RegExp(key));
  assert.ok(readFileSync(join(out, 'csv/population.csv'), 'utf8').startsWith('\uFEFFhost,'));
  JSON.parse(readFileSync(join(out, 'oscal/assessment-results.json'), 'utf8'));
});

test('a better result than the facts give, signed by the server itself, is named', async () => {
  const file = await bundle('better', (name, text) =>
    name === 'controls/results.json' ? text.replace('"not-satisfied":0', '"not-satisfied":1') : text,
  );
  const { exit, out } = await ran(evidence, ['verify', file, '--key', key]);
  assert.equal(exit, EXIT.different);
  assert.match(out, /^FAIL +controls /m);
});

test('a folder that holds something is not written into', async () => {
  const file = await bundle('again');
  await rejectsCode(() => ran(evidence, ['verify', file, '--key', key, '--write', folder]), UsageError, 'USAGE');
});

test('hosts are drawn from a bundle by their ids', async () => {
  const { out } = await ran(evidence, ['sample', await bundle('drawn'), '--seed', 'x', '--size', '2', '--json']);
  const { from, drawn } = JSON.parse(out) as { from: number; drawn: unknown[] };
  assert.deepEqual([from, drawn.length], [3, 2]);
});
