/** Every number leads to exactly as much: each link that says how many is followed, and what is behind it is counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFilter } from '#src/finding/filter.ts';
import { acknowledge } from '#server/decisions/findings.ts';
import { decideWaiver, requestWaiver } from '#server/decisions/waivers.ts';
import { enrol, file, HOUR, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { ALICE, BOB, DAY, deciding, FIRST_ADMIN, groupAt, hostAs, NEXT, odd, OS, shows } from '../decisions/people.ts';
import { lengthOf, numbered, pagesFrom, visitor } from './visitor.ts';

/** Drift of several kinds and severities, decided about in every way; silent, new and unverifiable hosts. */
async function mixed(server: TestServer): Promise<void> {
  const hosts = [];
  for (let n = 1; n <= 6; n++) hosts.push(await hostAs(server, `web-${n}`));
  const cron = file('/etc/cron.d/job', 'x');
  const sudo = file('/etc/sudoers.d/all', 'ALL', 0o440);
  await shows(hosts[0]!, odd(), cron);
  await shows(hosts[1]!, odd(), cron, sudo);
  await shows(hosts[2]!, odd('y'), sudo);
  await shows(hosts[3]!, cron);
  await shows(hosts[4]!);
  const lost = await enrol(server, image('nobody has it'), { name: 'lab-1' });
  await lost.sendFull();
  await enrol(server, OS, { name: 'new-1' });
  await server.settle();
  const deps = deciding(server);
  const cronGroup = (await groupAt(server, '/etc/cron.d/job')).id;
  await acknowledge({ groupId: cronGroup, hostId: hosts[0]!.id }, { until: null, note: null }, ALICE, deps);
  const draft = (path: string) =>
    ({
      kind: 'mitigated',
      title: path,
      justification: 'Put there by hand until the next image has it.',
      compensating: null,
      ticket: null,
      selector: { subject: { exact: path }, content: 'pinned' },
      ceiling: null,
      startsAt: null,
      expiresAt: server.time.now + 10 * DAY,
    }) as const;
  const { id, revision } = await requestWaiver(draft('/etc/sudoers.d/all'), ALICE, deps);
  await decideWaiver(id, revision, { kind: 'approve', note: null }, BOB, deps);
  await requestWaiver(draft('/etc/cron.d/job'), FIRST_ADMIN, deps);
  // A host group with a number in its name: its facet says two.
  const moved = await server.api(`/api/v1/hosts/${hosts[3]!.id}`, { method: 'PATCH', body: { group: 'rack/7' } });
  assert.equal(moved.status, 200);
  // One host goes back to its image, and then one falls silent.
  await shows(hosts[2]!);
  server.time.now += 3 * HOUR;
  for (const host of hosts.slice(0, 5)) await host.sendFull();
}

/** Follows every number of every page, and answers how many lists were something, how many nothing. */
async function followed(
  server: TestServer,
): Promise<{ readonly pages: number; readonly full: number; readonly empty: number }> {
  const reader = await visitor(server);
  const pages = await pagesFrom('/', reader, 1);
  const lengths = new Map<string, number>();
  const measured = async (path: string): Promise<number> => {
    if (!lengths.has(path)) lengths.set(path, await lengthOf(path, reader));
    return lengths.get(path)!;
  };
  const wrong: string[] = [];
  for (const [path, html] of pages)
    for (const { path: to, says, text, here } of numbered(html)) {
      // How many findings: the list behind it shows them by what changed.
      if (says === null) wrong.push(`${path} says “${text}”: which of its numbers is how many?`);
      const counted = / findings?\b/.test(text) ? await findingsAt(to, server) : await measured(here ? path : to);
      if (says !== null && counted !== says)
        wrong.push(`${path} says “${text}” and leads to ${counted} at ${here ? path : to}`);
    }
  assert.deepEqual(wrong, []);
  const all = [...lengths.values()];
  return { pages: pages.size, full: all.filter((n) => n > 0).length, empty: all.filter((n) => n === 0).length };
}

async function findingsAt(path: string, server: TestServer): Promise<number> {
  const query = new URL(path, 'http://server').searchParams;
  const statuses = [(query.get('tab') ?? 'open') as 'open' | 'acknowledged' | 'waived'];
  const line = parseFilter(query.get('q') ?? '');
  return (await server.server.store.read.countFindings({ line, statuses, now: server.time.now }, 1000)).count;
}

test('every number of every page is the length of the list that it leads to', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  await mixed(server);
  const { pages, full, empty } = await followed(server);
  assert.ok(pages > 45 && full > 80 && empty > 60, `${pages} pages, ${full} lists, ${empty} of them empty`);
});

test('on a server of which nothing is known yet, every number is nothing, and leads there', async (t) => {
  const { pages, full, empty } = await followed(await serverFor(t));
  assert.ok(pages > 20 && empty > 7, `${pages} pages, ${empty} empty lists`);
  assert.equal(full, 0);
});

test('a list of several pages is as long as its number, whichever way it is sorted', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await hostAs(server, 'web-1');
  await shows(host, ...Array.from({ length: 120 }, (_, n) => file(`/usr/bin/odd-${n}`, `${n}`, 0o755)));
  const reader = await visitor(server);
  for (const path of ['/findings', '/findings?sort=recent', '/findings?q=sev:high'])
    assert.equal(await lengthOf(path, reader), 120, path);
});
