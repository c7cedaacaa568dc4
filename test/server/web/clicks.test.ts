/** Every number leads to exactly as much: each link that says how many is followed, and what is behind it is counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { acknowledge } from '#server/decisions/findings.ts';
import { decideWaiver, requestWaiver } from '#server/decisions/waivers.ts';
import { enrol, file, HOUR, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { ALICE, BOB, DAY, deciding, FIRST_ADMIN, groupAt, hostAs, NEXT, odd, OS, shows } from '../decisions/people.ts';
import { lengthOf, numbered, visitor } from './visitor.ts';

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
  // One host goes back to its image, and then one falls silent.
  await shows(hosts[2]!);
  server.time.now += 3 * HOUR;
  for (const host of hosts.slice(0, 5)) await host.sendFull();
}

test('each number of the front page, the queue and the waivers is the length of the list that it leads to', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  await mixed(server);
  const reader = await visitor(server);
  const from = [
    '/',
    '/findings',
    '/findings?tab=acknowledged',
    '/findings?q=sev:>=high',
    '/findings?tab=resolved',
    '/waivers',
    '/waivers?tab=active',
  ];
  const asked = new Map<string, number>();
  let followed = 0;
  for (const path of from) {
    const { html } = await reader.page(path);
    for (const { path: to, says, text } of numbered(html)) {
      if (to.startsWith('/images')) continue;
      if (!asked.has(to)) asked.set(to, await lengthOf(to, reader));
      // What a host's line says of its findings is told by another list than that of groups.
      const counted = /finding/.test(text) ? undefined : asked.get(to);
      if (counted === undefined) continue;
      assert.equal(says, counted, `${path} says “${text}” and leads to ${to}`);
      followed++;
    }
  }
  assert.ok(followed > 60, `only ${followed} numbers were followed`);
  // Not all of them nothing.
  assert.ok([...asked.values()].filter((n) => n > 0).length > 15, [...asked].join(' '));
});

test('a list of several pages is as long as its number, whichever way it is sorted', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await hostAs(server, 'web-1');
  await shows(host, ...Array.from({ length: 120 }, (_, n) => file(`/usr/bin/odd-${n}`, `${n}`, 0o755)));
  const reader = await visitor(server);
  for (const path of ['/findings', '/findings?sort=recent', '/findings?q=sev:high'])
    assert.equal(await lengthOf(path, reader), 120, path);
});
