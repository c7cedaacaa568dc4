/** How a finding reads on the pages. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { actionText } from '#server/web/activity.ts';
import { sentenceOf, whatHtml } from '#server/web/parts/finding.ts';
import { enrol, serverFor } from '#test/server/fleet.ts';
import { hostAs, odd, OS, shows } from '../decisions/people.ts';
import { visitor } from './visitor.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}`;

for (const [what, subject, signature, begin] of [
  ['a digest that stands first stays as it is', DIGEST, 'rejected', ''],
  ['a host has its capital', 'host', 'silent', 'The host is silent'],
] as const)
  test(what, () => {
    const finding = { kind: subject === DIGEST ? 'provenance' : 'silence', subject, signature };
    for (const shown of [whatHtml(finding), sentenceOf(finding, 2)]) {
      const text = shown.toString().replaceAll(/<[^>]*>/g, '');
      assert.doesNotMatch(text, /Sha256/);
      assert.ok(text.startsWith(begin), text);
    }
  });

test('every act that the server writes down has words', async () => {
  const root = new URL('../../../server/', import.meta.url);
  const acts = new Set<string>();
  for (const name of await readdir(root, { recursive: true })) {
    if (!name.endsWith('.ts')) continue;
    const text = await readFile(new URL(name, root), 'utf8');
    for (const [, act] of text.matchAll(/\baction: '([a-z-]+\.[a-z-]+)'/g)) acts.add(act!);
  }
  for (const verb of ['approve', 'reject', 'withdraw', 'revoke', 'extend']) acts.add(`waiver.${verb}`);
  for (const verb of ['approve', 'reject', 'withdraw']) acts.add(`waiver.${verb}-extension`);
  for (const what of ['finding', 'group']) for (const verb of ['', 'un']) acts.add(`${what}.${verb}acknowledge.undo`);
  assert.ok(acts.size > 40);
  for (const act of acts) assert.equal(typeof actionText(act), 'string', `${act} is shown as it is`);
});

test('a facet that is longer than what is shown of it is shown whole by a link, and short again', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const last = await hostAs(server, 'web-9');
  await shows(last, odd());
  const into = (id: string, group: string) => server.api(`/api/v1/hosts/${id}`, { method: 'PATCH', body: { group } });
  await into(last.id, 'g9');
  for (let n = 1; n < 9; n++) await into((await enrol(server, OS, { name: `web-${n}` })).id, `g${n}`);
  const reader = await visitor(server);
  const inGroup = '/findings?q=group%3Ag9';
  const short = await reader.page('/findings');
  assert.ok(!short.links.includes(inGroup));
  const whole = await reader.page(short.links.find((link) => link.includes('more=group'))!);
  assert.ok(whole.links.includes(inGroup));
  assert.match(whole.text, /Host group g9 ?1 ?Fewer of host group/);
  // A word that is chosen leads to the list with the facet short.
  assert.ok((await reader.page(inGroup)).links.some((link) => link.includes('more=group')));
  const asked = async (more: string) => (await server.api(`/api/v1/groups/facets?of=group,image${more}`)).body;
  assert.deepEqual(Object.keys((await asked('')).group), ['g9']);
  assert.equal((await server.api('/api/v1/groups/facets?places=0')).status, 400);
});
