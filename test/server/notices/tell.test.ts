/** From the outbox to messages: what belongs together is one message, told once, held back where it says little, and few where much happens. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { FLAPPING_MS, NOTICE_INTERVAL_MS, NOTICE_STORM_MS, NOTICE_WAIT_MS } from '#src/limits.ts';
import type { Notice } from '#server/notices/notice.ts';
import { quietUntil } from '#server/notices/quiet.ts';
import { summary, tell } from '#server/notices/tell.ts';
import { openStore } from '#server/store/open.ts';
import type { Routing } from '#server/store/noticerecords.ts';
import type { FindingChange } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import {
  absent,
  ADMIN,
  admit,
  channel,
  commit,
  groupId,
  hostId,
  MINUTE,
  present,
  report,
  T0,
} from '#test/server/store/make.ts';

type Bench = {
  readonly store: Store;
  readonly time: { now: number };
  readonly sees: (n: number, ...findings: FindingChange[]) => Promise<unknown>;
  readonly become: (n: number, verdict: string) => Promise<unknown>;
  /** Tells what is due, and answers the messages since the last call: `type: text`. */
  readonly told: () => Promise<string[]>;
  readonly notices: () => Promise<Notice[]>;
};

async function bench(t: TestContext, hosts: number, routing: Partial<Routing> = {}): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-tell-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const store = await openStore(`sqlite:${join(folder, 'store.db')}`);
  t.after(() => store.close());
  const time = { now: T0 + MINUTE };
  await store.notices.create({ ...channel('ops', routing), id: 'c_1' }, ADMIN, [], []);
  for (let n = 1; n <= hosts; n++) await admit(store, n);
  const deps = { store, clock: () => time.now, log: () => {}, baseUrl: () => 'https://bootproof.example' };
  let seen = '';
  const list = async (): Promise<Notice[]> => {
    const { items } = await store.notices.deliveries({ channelId: 'c_1' }, { cursor: null, limit: 1000 });
    const fresh = items.filter(({ id }) => id > seen).reverse();
    seen = fresh.at(-1)?.id ?? seen;
    return fresh.map(({ notice }) => notice as Notice);
  };
  const notices = async (): Promise<Notice[]> => {
    await tell('c_1', deps);
    return list();
  };
  return {
    store,
    time,
    sees: (n, ...findings) => commit(store, hostId(n), (host) => ({ ...report(host, 'full', time.now), findings })),
    become: (n, verdict) =>
      commit(store, hostId(n), (host) => ({
        ...report(host, 'same', time.now),
        standing: { ...host.standing, verdict, rank: 1, since: time.now },
      })),
    notices,
    told: async () => (await notices()).map(({ type, text }) => `${type}: ${text}`),
  };
}

test('one message for a group, after the wait, with the hosts that it is on', async (t) => {
  const { time, sees, notices } = await bench(t, 3);
  for (const n of [1, 2, 3]) await sees(n, present(1));
  time.now += NOTICE_WAIT_MS - 1;
  assert.deepEqual(await notices(), []);
  time.now += 1;
  const [notice, ...none] = await notices();
  assert.deepEqual(none, []);
  assert.equal(notice!.type, 'finding.new');
  assert.match(notice!.text, /: new on 3 hosts$/);
  assert.deepEqual(
    notice!.hosts.map(({ name }) => name),
    ['host-1', 'host-2', 'host-3'],
  );
  assert.deepEqual(notice!.group!.hosts, { open: 3, acknowledged: 0, waived: 0 });
  assert.equal(notice!.link, `https://bootproof.example/findings/${groupId(1)}`);
  assert.equal(notice!.dedupe, `c_1/finding:${groupId(1)}/new/1/1`);
  time.now += 10 * MINUTE;
  assert.deepEqual(await notices(), [], 'told once');
});

test('in quiet hours only what is critical is told, and the rest when they end, as what it became', async (t) => {
  // T0 and a minute lies in them.
  const now = T0 + MINUTE;
  const quiet = { from: '11:00', to: '13:00' };
  const { time, sees, told } = await bench(t, 3, { quiet });
  await sees(1, present(1, 2), present(2, 4), present(3, 3));
  time.now += NOTICE_WAIT_MS;
  assert.equal((await told()).length, 1, 'the critical one');
  await sees(1, absent(3));
  time.now = now + 50 * MINUTE;
  assert.deepEqual(await told(), []);
  time.now = quietUntil({ quiet }, now)!;
  assert.equal(time.now, T0 + 60 * MINUTE);
  assert.deepEqual((await told()).sort(), [
    'finding.new: /usr/lib/file-1: modified: new on host-1',
    'finding.new: /usr/lib/file-3: modified: new on host-1; it is over there by now',
  ]);
  // Over midnight, and at its very ends.
  const night = { quiet: { from: '22:00', to: '06:30' } };
  const at = (time: string) => Date.parse(`2026-11-24T${time}:00Z`);
  for (const [when, until] of [
    ['21:59', null],
    ['22:00', at('06:30') + 24 * 60 * MINUTE],
    ['00:00', at('06:30')],
    ['06:29', at('06:30')],
    ['06:30', null],
  ] as const)
    assert.equal(quietUntil(night, at(when)), until, when);
  assert.equal(quietUntil({ quiet: null }, now), null);
});

test('updates of a group stand five minutes apart, its end is told once, and its return begins anew', async (t) => {
  const { time, sees, told, notices } = await bench(t, 3);
  await sees(1, present(1));
  time.now += NOTICE_WAIT_MS;
  assert.equal((await told()).length, 1);
  time.now += MINUTE;
  await sees(2, present(1));
  time.now += MINUTE;
  await sees(3, present(1));
  assert.deepEqual(await told(), []);
  time.now += NOTICE_INTERVAL_MS - 2 * MINUTE;
  assert.deepEqual(
    (await told()).map((line) => line.replace(/^.*: also/, 'also')),
    ['also on 2 hosts; open on 3 hosts now'],
  );
  // Partly over is no message.
  await sees(1, absent(1));
  time.now += NOTICE_INTERVAL_MS;
  assert.deepEqual(await told(), []);
  await sees(2, absent(1));
  await sees(3, absent(1));
  time.now += NOTICE_INTERVAL_MS;
  const [end] = await notices();
  assert.deepEqual(
    [end!.type, end!.why, end!.dedupe.split('/').slice(-3)],
    ['finding.resolved', 'reverted', ['resolved', '1', '3']],
  );
  await sees(2, present(1));
  time.now += NOTICE_INTERVAL_MS;
  const [back] = await notices();
  assert.deepEqual([back!.type, back!.dedupe.split('/').slice(-3)], ['finding.regressed', ['regressed', '2', '1']]);
});

test('what came and went within the wait is told as over, and what was waived meanwhile is not told', async (t) => {
  const { store, time, sees, told } = await bench(t, 2);
  await sees(1, present(1));
  await sees(1, absent(1));
  await sees(2, present(2));
  await commit(store, hostId(2), (host) => ({
    hostId: host.id,
    expectRevision: host.revision,
    at: time.now,
    disposals: [{ groupId: groupId(2), to: { kind: 'waived', waiverId: 'W-1', until: time.now + MINUTE } }],
  }));
  time.now += NOTICE_WAIT_MS;
  assert.deepEqual(await told(), ['finding.new: /usr/lib/file-1: modified: new on host-1; it is over there by now']);
});

test('a new host is told of after its grace, and only what is still so', async (t) => {
  const { time, sees, told } = await bench(t, 2, { graceMs: 60 * MINUTE });
  await sees(1, present(1), present(2));
  time.now += MINUTE;
  await sees(1, absent(1), present(2));
  time.now = T0 + 59 * MINUTE;
  assert.deepEqual(await told(), []);
  time.now = T0 + 60 * MINUTE + NOTICE_WAIT_MS;
  assert.deepEqual(
    (await told()).map((line) => /file-[0-9]/.exec(line)![0]),
    ['file-2'],
  );
});

test('a finding that flaps is told, then held until it is quiet', async (t) => {
  const { time, sees, told } = await bench(t, 1);
  const all: string[] = [];
  for (let turn = 0; turn < 10; turn++) {
    await sees(1, turn % 2 === 0 ? present(1) : absent(1));
    time.now += NOTICE_INTERVAL_MS;
    all.push(...(await told()));
  }
  assert.deepEqual(
    all.map((line) => line.split(':')[0]),
    ['finding.new', 'finding.resolved', 'finding.regressed'],
  );
  await sees(1, present(1));
  time.now += 2 * FLAPPING_MS;
  assert.equal((await told()).length, 1, 'what stands once it is quiet');
});

test('hosts whose verdict changed the same way are one message; those that changed on are left out', async (t) => {
  const { time, become, told } = await bench(t, 3);
  for (const n of [1, 2, 3]) await become(n, 'drifted');
  await become(3, 'compliant');
  time.now += NOTICE_WAIT_MS;
  assert.deepEqual((await told()).sort(), [
    'host.verdict: 2 hosts are drifted now',
    'host.verdict: host-3 is compliant now',
  ]);
});

test('much at once is one message, and its updates stand ten minutes apart', async (t) => {
  const { store, time, notices, sees } = await bench(t, 120);
  const hosts = [...(await store.hosts.getMany(Array.from({ length: 120 }, (_, n) => hostId(n + 1)))).values()];
  await store.intake(
    hosts.map((host, n) => ({ ...report(host, 'full', time.now), findings: [present(n % 30), present(100)] })),
  );
  time.now += NOTICE_WAIT_MS;
  const [storm, ...none] = await notices();
  assert.deepEqual(none, []);
  assert.equal(storm!.type, 'fleet.mass_change');
  assert.match(storm!.text, /^mass drift: 31 groups of findings changed on 120 of 120 hosts/);
  assert.deepEqual([storm!.groups.length, storm!.moreGroups, storm!.hosts.length, storm!.more], [10, 21, 100, 20]);
  assert.equal(storm!.groups[0]!.id, groupId(100), 'what is on most hosts first');
  // It goes on: held, and one message more.
  await sees(1, absent(100));
  await sees(2, present(500));
  time.now += NOTICE_WAIT_MS;
  assert.deepEqual(await notices(), []);
  time.now += NOTICE_STORM_MS;
  // By then it is no storm any more: what waited is told as always.
  assert.deepEqual(
    (await notices()).map(({ type }) => type),
    ['finding.new'],
  );
});

test('a channel of some host groups is told of their share, and begins with what is open there', async (t) => {
  const { store, time, notices, sees } = await bench(t, 24, { hosts: { groups: ['lab'], labels: [] } });
  for (let n = 1; n <= 21; n++) await store.hosts.setGroup(hostId(n), n === 1 ? 'lab/a' : 'lab', ADMIN);
  for (let n = 1; n <= 22; n++) await sees(n, present(n === 22 ? 2 : 1));
  const deps = { store, clock: () => time.now, log: () => {}, baseUrl: () => 'https://bootproof.example' };
  const { text, link } = (await summary((await store.notices.channel('c_1'))!, deps))!.notice as Notice;
  assert.match(text, /^1 group of findings is open as this channel begins/);
  assert.equal(link, 'https://bootproof.example/findings?q=group%3Alab');
  time.now += NOTICE_WAIT_MS;
  assert.deepEqual(
    (await notices()).map((notice) => / on \d+ of \d+ hosts/.exec(notice.text)?.[0]),
    [' on 21 of 21 hosts'],
  );
});

test('more than five hundred groups are a storm, however few the hosts', async (t) => {
  const { time, notices, sees } = await bench(t, 1);
  await sees(1, ...Array.from({ length: 501 }, (_, n) => present(n)));
  time.now += NOTICE_WAIT_MS;
  assert.deepEqual(
    (await notices()).map(({ type, moreGroups }) => [type, moreGroups]),
    [['fleet.mass_change', 491]],
  );
});

test('five hundred groups are five hundred messages', async (t) => {
  const { time, notices, sees } = await bench(t, 1);
  await sees(1, ...Array.from({ length: 500 }, (_, n) => present(n)));
  time.now += NOTICE_WAIT_MS;
  assert.equal((await notices()).length, 500);
});

test('a channel that was switched off is not told of the past', async (t) => {
  const { store, time, notices, sees } = await bench(t, 1);
  await sees(1, present(1));
  const channel = (await store.notices.channel('c_1'))!;
  await store.notices.put({ ...channel, state: 'disabled', revision: 2 }, ADMIN, 'channel.change');
  time.now += NOTICE_WAIT_MS;
  assert.deepEqual(await notices(), []);
  await store.notices.put({ ...channel, state: 'active', revision: 3 }, ADMIN, 'channel.change');
  time.now += NOTICE_WAIT_MS;
  assert.deepEqual(await notices(), []);
});

test('of processes that tell at once, one does', async (t) => {
  const { store, time, sees, notices } = await bench(t, 2);
  await sees(1, present(1));
  await sees(2, present(2));
  time.now += NOTICE_WAIT_MS;
  const deps = { store, clock: () => time.now, log: () => {}, baseUrl: () => 'https://bootproof.example' };
  await Promise.all([1, 2, 3].map(() => tell('c_1', deps)));
  assert.deepEqual((await notices()).map(({ group }) => group!.id).sort(), [groupId(1), groupId(2)].sort());
});
