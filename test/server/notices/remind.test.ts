/**
 * Reminders, the day's digest and conditions (docs/notices.md 1.3 and 9), on both stores, with the clock handed in: each is told once,
 * whichever process looks, after a crash too, and what is so no more is not told.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { UNDECIDED, type Waiver } from '#src/finding/waiver.ts';
import { NOTICE_WAIT_MS } from '#src/limits.ts';
import { ConditionError } from '#src/document/expression.ts';
import { parseCondition } from '#server/noticecondition.ts';
import type { Notice } from '#server/notices/notice.ts';
import { remind } from '#server/notices/remind.ts';
import { tell } from '#server/notices/tell.ts';
import { openStore } from '#server/store/open.ts';
import type { Routing } from '#server/store/noticerecords.ts';
import type { Store } from '#server/store/store.ts';
import { onPostgres } from '#test/postgres.ts';
import {
  absent,
  ADMIN,
  admit,
  channel,
  commit,
  DAY,
  groupId,
  hostId,
  MINUTE,
  present,
  report,
  T0,
} from '#test/server/store/make.ts';
import { throwsCode } from '#test/throws.ts';

type Bench = {
  readonly store: Store;
  readonly time: { now: number };
  readonly sees: (n: number, ...findings: Parameters<typeof commitFindings>[3]) => Promise<unknown>;
  /** Looks for reminders in two processes at once, tells what is due, and answers the new messages. */
  readonly told: () => Promise<Notice[]>;
};

const commitFindings = (store: Store, n: number, at: number, findings: ReturnType<typeof present>[]) =>
  commit(store, hostId(n), (host) => ({ ...report(host, 'full', at), findings }));

function onBoth(title: string, routing: Partial<Routing>, body: (bench: Bench) => Promise<void>): void {
  const run = async (t: TestContext, url: string): Promise<void> => {
    const store = await openStore(url);
    t.after(() => store.close());
    const time = { now: T0 + MINUTE };
    await store.notices.create({ ...channel('ops', routing), id: 'c_1' }, ADMIN, [], []);
    for (const n of [1, 2]) await admit(store, n);
    await store.hosts.setLabels(hostId(1), { tier: 'data' }, ADMIN);
    const deps = { store, clock: () => time.now, log: () => {}, baseUrl: () => 'https://bootproof.example' };
    let seen = new Set<string>();
    await body({
      store,
      time,
      sees: (n, ...findings) => commitFindings(store, n, time.now, [...findings]),
      told: async () => {
        await Promise.all([remind(deps), remind(deps)]);
        time.now += NOTICE_WAIT_MS;
        await tell('c_1', deps);
        const { items } = await store.notices.deliveries({ channelId: 'c_1' }, { cursor: null, limit: 1000 });
        const fresh = items.filter(({ id }) => !seen.has(id)).reverse();
        seen = new Set(items.map(({ id }) => id));
        return fresh.map(({ notice }) => notice as Notice);
      },
    });
  };
  test(`sqlite: ${title}`, (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'bootproof-remind-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    return run(t, `sqlite:${join(folder, 'store.db')}`);
  });
  onPostgres(title, run);
}

const texts = (notices: readonly Notice[]): string[] => notices.map(({ type, text }) => `${type}: ${text}`);
const acknowledge = (store: Store, n: number, at: number, until: number) =>
  store.findings.dispose(
    [
      {
        hostId: hostId(n),
        disposal: { groupId: groupId(1), to: { kind: 'acknowledged', ack: { by: 'mira', at, until, note: null } } },
      },
    ],
    { actor: 'mira', at },
    null,
  );

onBoth(
  'a finding that nobody acknowledges is reminded of once it is over the limit of its severity, and once more when it is again',
  { events: ['finding.overdue'] },
  async ({ store, time, sees, told }) => {
    await sees(1, present(1, 4), present(2, 3), present(3, 1));
    await sees(2, present(1, 4));
    time.now += DAY - 2 * MINUTE;
    assert.deepEqual(await told(), []);
    time.now += 2 * MINUTE;
    assert.deepEqual(texts(await told()), [
      'finding.overdue: /usr/lib/file-1: modified: open on 2 hosts and acknowledged by nobody; first seen 1 day ago',
    ]);
    assert.deepEqual(await told(), [], 'once');
    // The next severity has its own limit; what is low has none.
    time.now += 2 * DAY;
    assert.deepEqual(
      (await told()).map(({ group, severity }) => [group!.id, severity]),
      [[groupId(2), 'high']],
    );
    // Acknowledged, it is not reminded of; when that is over, it is overdue at once.
    for (const n of [1, 2]) await acknowledge(store, n, time.now, time.now + DAY);
    assert.deepEqual(await told(), []);
    time.now += DAY;
    for (const n of [1, 2])
      await store.findings.dispose(
        [{ hostId: hostId(n), disposal: { groupId: groupId(1), to: { kind: 'none', why: null } } }],
        { actor: 'job:lapse', at: time.now },
        null,
      );
    assert.deepEqual(
      (await told()).map(({ group }) => group!.id),
      [groupId(1)],
    );
    // Gone between the look and the word: no word.
    await sees(1, absent(2));
    assert.deepEqual(await told(), []);
    await sees(2, present(2, 3));
    time.now += 4 * DAY;
    const deps = { store, clock: () => time.now, log: () => {}, baseUrl: () => 'x' };
    assert.equal(await remind(deps), true);
    await sees(2, absent(2));
    assert.deepEqual(await told(), []);
  },
);

const WAIVER: Omit<Waiver, 'id' | 'revision'> = {
  kind: 'accepted_risk',
  title: 'odd',
  justification: 'known',
  compensating: null,
  ticket: null,
  selector: { subject: { exact: '/usr/bin/odd' }, content: 'any', hosts: { groups: ['web'] } },
  ceiling: 'high',
  startsAt: T0,
  expiresAt: T0 + 60 * DAY,
  decision: 'approved',
  requestedBy: 'alice',
  requestedAt: T0,
  ...UNDECIDED,
  decidedBy: 'bob',
  decidedAt: T0,
  scope: null,
};

onBoth(
  'a waiver is reminded of 14 and 3 days before its end, and a request that waits for a day, each once',
  { events: ['waiver.expiring', 'waiver.waiting'] },
  async ({ store, time, told }) => {
    await store.waivers.create(WAIVER, ADMIN);
    // A short one is not warned of from its first day.
    await store.waivers.create({ ...WAIVER, expiresAt: T0 + 10 * DAY }, ADMIN);
    assert.deepEqual(await told(), []);
    time.now = T0 + 7 * DAY;
    assert.deepEqual(texts(await told()), [
      'waiver.expiring: W-2 ends on 2026-01-15: what it covers is open again then, unless more time is approved (odd)',
    ]);
    time.now = T0 + 46 * DAY;
    const [first, ...none] = await told();
    assert.deepEqual(
      [first!.waiver, none],
      [{ id: 'W-1', title: 'odd', expiresAt: '2026-03-06T12:00:00.000Z', requestedBy: 'alice', decidedBy: 'bob' }, []],
    );
    time.now = T0 + 50 * DAY;
    assert.deepEqual(await told(), []);
    time.now = T0 + 57 * DAY;
    assert.equal((await told()).length, 1);
    // More time is asked for: that waits, from then on.
    const stands = (await store.waivers.get('W-1'))!;
    const extension = { expiresAt: T0 + 90 * DAY, requestedBy: 'alice', requestedAt: time.now, note: 'late' };
    await store.waivers.put(
      { ...stands, revision: 2, extension },
      { actor: 'alice', at: time.now },
      'waiver.extend',
      [],
    );
    await store.waivers.create(
      {
        ...WAIVER,
        decision: 'requested',
        decidedBy: null,
        decidedAt: null,
        requestedAt: time.now,
        expiresAt: T0 + 80 * DAY,
      },
      ADMIN,
    );
    assert.deepEqual(await told(), []);
    time.now += DAY;
    assert.deepEqual(texts(await told()).sort(), [
      'waiver.waiting: W-1 waits for a decision: alice asks for it until 2026-04-05 (odd)',
      'waiver.waiting: W-3 waits for a decision: alice asks for it until 2026-03-26 (odd)',
    ]);
    assert.deepEqual(await told(), []);
  },
);

onBoth(
  'a channel of some host groups is reminded of waivers that may reach them, and of no others',
  { events: ['waiver.waiting'], hosts: { groups: ['web'], labels: [] } },
  async ({ store, time, told }) => {
    const asked = { ...WAIVER, decision: 'requested', decidedBy: null, decidedAt: null } as const;
    await store.waivers.create(asked, ADMIN);
    await store.waivers.create({ ...asked, selector: { ...asked.selector, hosts: { groups: ['db'] } } }, ADMIN);
    await store.waivers.create({ ...asked, scope: ['db'] }, ADMIN);
    time.now += 2 * DAY;
    assert.deepEqual(
      (await told()).map(({ waiver }) => waiver!.id),
      ['W-1'],
    );
  },
);

onBoth(
  "the day's digest is told once, from its hour on, with the numbers of the lists",
  { events: ['waiver.waiting'], digestAt: '06:30' },
  async ({ store, time, sees, told }) => {
    // T0 is noon: the channel began after the hour of its first day.
    assert.deepEqual(await told(), []);
    await sees(1, present(1, 4), present(2, 3));
    time.now = Date.UTC(2026, 0, 6, 6, 29);
    assert.deepEqual(await told(), []);
    time.now = Date.UTC(2026, 0, 6, 6, 30);
    const [notice, ...none] = await told();
    assert.deepEqual(none, []);
    assert.equal(
      notice!.text,
      '2026-01-06: 1 critical, 1 high open; 2 new, 0 back and 0 resolved since yesterday; 0 of 2 hosts compliant',
    );
    assert.deepEqual(
      [notice!.type, notice!.severity, notice!.digest!.open['critical'], notice!.digest!.since.new, notice!.dedupe],
      ['fleet.digest', 'critical', 1, 2, 'c_1/digest/2026-01-06/1/1'],
    );
    time.now += 10 * 3_600_000;
    assert.deepEqual(await told(), [], 'once a day');
    // Down at its hour: told when it is back, of that day alone.
    time.now = Date.UTC(2026, 0, 9, 23);
    await store.notices.sweep({ told: time.now, delivered: time.now, dead: time.now, reminded: 0 });
    assert.deepEqual(
      (await told()).map(({ digest }) => digest!.day),
      ['2026-01-09'],
    );
  },
);

onBoth(
  'a condition is asked of each transition; what it cannot judge is told, and the channel says so',
  { condition: 'severity == "critical" || host.labels.tier == "data"' },
  async ({ store, time, sees, told }) => {
    await sees(1, present(1, 2));
    assert.deepEqual(
      (await told()).map(({ hosts, conditionError }) => [hosts[0]!.name, conditionError]),
      [['host-1', null]],
    );
    // The second host has no such label: the question has no answer, save where the first half answers it.
    await sees(2, present(3, 4));
    const [critical] = await told();
    assert.equal(critical!.conditionError, null);
    assert.equal((await store.notices.channel('c_1'))!.conditionError, null);
    time.now += 10 * MINUTE;
    await sees(2, present(3, 4), present(4, 2));
    const [unknown] = await told();
    assert.match(unknown!.conditionError!, /tier/);
    assert.match((await store.notices.channel('c_1'))!.conditionError!.text, /tier/);
  },
);

onBoth(
  'what a condition says no to is not told, and leaves no row',
  { condition: 'event == "host.verdict" || (kind == "drift" && subject.startsWith("/usr/lib/file-2"))' },
  async ({ store, time, sees, told }) => {
    await sees(1, present(1, 4), present(2, 1));
    assert.deepEqual(
      (await told()).map(({ group }) => group!.id),
      [groupId(2)],
    );
    assert.deepEqual(await store.notices.lately('c_1', 0, null, 10).then((rows) => rows.map(({ topic }) => topic)), [
      `finding:${groupId(2)}`,
    ]);
    assert.ok(time.now > T0);
  },
);

for (const [name, source, code, message] of [
  ['a name that means nothing', 'severty == "high"', 'CONDITION_SYNTAX', /at 1:1.*severity/],
  ['a field that a host has not', 'host.nmae == "x"', 'CONDITION_SYNTAX', /name/],
  ['no expression', 'severity ==', 'CONDITION_SYNTAX', /./],
  ['too much of it', `severity == "${'x'.repeat(2048)}"`, 'CONDITION_LIMIT', /2048/],
] as const)
  test(`refuses ${name} as a condition, with its place`, () => {
    throwsCode(() => parseCondition(source), ConditionError, code);
    assert.throws(() => parseCondition(source), message);
  });
