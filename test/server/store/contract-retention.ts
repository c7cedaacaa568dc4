/** The contract of server/store/retentionrecords.ts as tests: what goes, what stays, and what the log says of both. */
import assert from 'node:assert/strict';
import { sql } from 'kysely';
import { checkRows } from '#server/log/checkrows.ts';
import { retain } from '#server/jobs/retention.ts';
import { KEEP_ALL, type RetentionSettings } from '#server/retention.ts';
import type { Engine } from '#server/store/engine.ts';
import { openStore, storeOn } from '#server/store/open.ts';
import type { Judged } from '#server/store/logpayload.ts';
import type { FindingChange } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { parseEntry } from '#src/log/entry.ts';
import { opened, openedEngine, type Suite } from './contract.ts';
import { faulty, type Fault } from './faulty.ts';
import { ADMIN, absent, admit, backTo, commit, DAY, hostId, present, report, sha, T0 } from './make.ts';

const NOW = T0 + 100 * DAY;
const settings = (more: Partial<RetentionSettings>): RetentionSettings => ({ ...KEEP_ALL, ...more });

async function sequenced(store: Store): Promise<void> {
  await store.log.begin({ origin: 'log.example/a', publicKey: sha('log key') }, T0);
  while ((await store.log.sequence(1, 1000))!.added > 0);
}
const night = async (store: Store, more: Partial<RetentionSettings>, now = NOW) => {
  await sequenced(store);
  // Other settings than before wait for a day.
  await store.retention.note(settings(more), KEEP_ALL, { actor: 'configuration', at: now - DAY });
  const gone = await retain({ store, clock: () => now, log: () => {}, retention: settings(more) });
  await sequenced(store);
  return gone;
};

/** Hosts that sent full reports on these days, with what they found. */
async function host(
  store: Store,
  n: number | string,
  days: readonly (readonly [day: number, findings?: readonly FindingChange[]])[],
): Promise<void> {
  if ((await store.hosts.get(hostId(n))) === undefined) await admit(store, n);
  for (const [day, findings] of days)
    await commit(store, hostId(n), (own) => ({
      ...report(own, 'full', T0 + day * DAY),
      ...(findings === undefined ? {} : { findings }),
    }));
}

/** Numbers of a host's reports whose envelopes are kept. */
async function kept(store: Store, n: number | string): Promise<number[]> {
  const { headSeq } = (await store.hosts.get(hostId(n)))!.chain;
  const found: number[] = [];
  for (let seq = 1; seq <= headSeq; seq++) {
    const one = await store.reports.get(hostId(n), seq);
    if (one !== undefined && one.envelope.length > 0) found.push(seq);
  }
  return found;
}

/** Nothing that is in the log is called wrong; answers how many payloads are gone. */
async function verified(store: Store): Promise<number> {
  const head = (await store.log.head())!;
  const { faults, purged } = await checkRows(store, head, 0, 10_000);
  assert.deepEqual(faults, []);
  return purged;
}

async function told(store: Store) {
  const { items } = await store.retention.purges({ cursor: null, limit: 100 });
  return items.toReversed().map(({ of, payloads, rule, entries }) => ({
    of,
    payloads,
    rule: rule.kind,
    listed: entries.flatMap(({ ranges }) => ranges).reduce((sum, [first, last]) => sum + last - first + 1, 0),
  }));
}

const hold = (store: Store, more: Partial<Parameters<Store['holds']['set']>[0]>) =>
  store.holds.set({ scope: null, from: null, to: null, reason: 'case 7', ...more }, ADMIN);

export function retention(suite: Suite): void {
  suite('envelopes past their time go, and the full report that shows the host at the line stays', async (url, t) => {
    const store = await opened(t, url);
    await host(store, 1, [[0], [10], [20], [60], [95]]);
    await host(store, 2, [[3]]);
    const answer = (await store.reports.head(hostId(1), 1))!;
    assert.deepEqual(await night(store, { reports: 50 }), { report: 2, judgement: 0, act: 0 });
    // Line at day 50: report 3 of day 20 shows the host then; host 2 has but one.
    assert.deepEqual([await kept(store, 1), await kept(store, 2)], [[3, 4, 5], [1]]);
    assert.equal(await verified(store), 2);
    assert.deepEqual(await told(store), [{ of: 'report', payloads: 2, rule: 'age', listed: 2 }]);
    // Nothing goes under other settings until they stood for a day.
    const hasty = { store, log: () => {}, retention: settings({ reports: 3 }) };
    assert.equal((await retain({ ...hasty, clock: () => NOW })).report, 0);
    assert.equal((await retain({ ...hasty, clock: () => NOW + DAY - 1 })).report, 0);
    assert.deepEqual(await store.retention.noted(), { settings: settings({ reports: 3 }), since: NOW });
    // A report that is sent again gets its first answer.
    assert.deepEqual(await store.reports.head(hostId(1), 1), answer);
    assert.deepEqual(await night(store, { reports: 50 }), { report: 0, judgement: 0, act: 0 });
    assert.deepEqual(await night(store, { reports: 6 }), { report: 1, judgement: 0, act: 0 });
    assert.deepEqual(await kept(store, 1), [4, 5]);
    assert.equal(await verified(store), 3);
    const entries = await store.log.entries(1, 0, 1000);
    const purges = entries.map(({ entry }) => parseEntry(entry)).flatMap((one) => (one.kind === 'purge' ? [one] : []));
    assert.deepEqual(
      purges.map(({ facts }) => [facts.of, facts.count, facts.before]),
      [
        ['report', 2, new Date(NOW - 50 * DAY).toISOString()],
        ['report', 1, new Date(NOW - 6 * DAY).toISOString()],
      ],
    );
  });

  suite('what brought something that is open, and a judgement of it, stay as long as it is', async (url, t) => {
    const store = await opened(t, url);
    await host(store, 1, [[0, [present(1), present(2)]], [5, [absent(2)]], [6, [present(3)]], [7, [absent(3)]], [8]]);
    await host(store, 2, [[1, [present(1)]], [2, [absent(1)]], [3, [present(4)]], [4, [absent(4)]], [5]]);
    await night(store, { reports: 50, judgements: 50 });
    assert.deepEqual([await kept(store, 1), await kept(store, 2)], [[1, 5], [5]]);
    const bodies = async () => {
      const rows = (await store.log.entries(1, 0, 1000)).filter(({ kind }) => kind === 'judgement');
      const payloads = await store.log.payloads(rows.map(({ id }) => id));
      return [...payloads.values()].flatMap(({ bytes }) => {
        if (bytes === null) return [];
        const { host: id, revision } = JSON.parse(Buffer.from(bytes).toString()) as Judged;
        return [`${id === hostId(1) ? 1 : 2}/${revision}`];
      });
    };
    // The first tells of what is open; the last of each how it stood at the line.
    assert.deepEqual(await bodies(), ['1/2', '2/5', '1/5']);
    assert.ok((await verified(store)) > 0);
    await host(store, 1, [[90, [absent(1)]]]);
    assert.deepEqual(await night(store, { reports: 50, judgements: 50 }), { report: 1, judgement: 0, act: 0 });
    // It was open at the line, so its judgement is part of the history of that time.
    assert.deepEqual(await bodies(), ['1/2', '2/5', '1/5', '1/7']);
    assert.deepEqual(await night(store, { judgements: 5 }), { report: 0, judgement: 2, act: 0 });
    await verified(store);
  });

  suite('acts on which nothing leans go, enrolments and what is in force stay', async (url, t) => {
    const store = await opened(t, url);
    await host(store, 1, [[0, [present(1)]]]);
    const act = (action: string, object: string) =>
      store.audit.append(ADMIN, { action, object, before: null, after: null });
    const open = present(1) as Extract<ReturnType<typeof present>, { kind: 'present' }>;
    for (const [action, object] of [
      ['session.begin', 'user:a'],
      ['notice.opened', 'channel:c'],
      ['group.comment', `group:${open.group.id}`],
      ['group.comment', 'group:fg_gone'],
      ['finding.acknowledge', `finding:${hostId(1)}/fg_gone`],
      ['role.bind', 'binding:b'],
      ['source.allow', 'source:docker://r/x'],
      ['waiver.request', 'waiver:W-99'],
      ['evidence.export', 'evidence:e'],
    ] as const)
      await act(action, object);
    assert.deepEqual(await night(store, { acts: 50 }), { report: 0, judgement: 0, act: 4 });
    const { items } = await store.audit.list({ until: NOW - 50 * DAY }, { cursor: null, limit: 100 });
    assert.deepEqual(items.map(({ action }) => action).sort(), [
      'evidence.export',
      'group.comment',
      'host.enrol',
      'role.bind',
      'source.allow',
      'waiver.request',
    ]);
    assert.equal(await verified(store), 4);
  });

  suite('where more is held than allowed the oldest go, and nothing that is young', async (url, t) => {
    const store = await opened(t, url);
    await host(
      store,
      1,
      Array.from({ length: 25 }, (_, n) => [4 * n] as const),
    );
    await sequenced(store);
    while ((await store.retention.count(7)) > 0);
    const bytes = async () => (await store.retention.retained()).reduce((sum, one) => sum + one.bytes, 0);
    const each = (await store.reports.get(hostId(1), 20))!.envelope.length;
    const acts = (await store.retention.retained()).filter(({ of }) => of === 'act');
    const actBytes = acts.reduce((sum, one) => sum + one.bytes, 0);
    const whole = (await bytes()) - actBytes;
    assert.ok(Math.abs(whole - 25 * each) < 50, `${whole} of ${each}`);
    assert.deepEqual(await night(store, { bytes: whole, atLeast: 30 }), { report: 0, judgement: 0, act: 0 });
    assert.deepEqual(await night(store, { bytes: whole - 10 * each, atLeast: 30 }), {
      report: 11,
      judgement: 0,
      act: 0,
    });
    assert.deepEqual((await kept(store, 1))[0], 12);
    // The setting changed twice: whoever reads the trail sees from what.
    const { items } = await store.audit.list({ object: 'setting:retention' }, { cursor: null, limit: 10 });
    assert.deepEqual(
      items.map(({ before }) => (before as RetentionSettings).bytes === null),
      items.map(({ after }) => (after as RetentionSettings).bytes === whole),
    );
    assert.equal(items.length, 2);
    // Thirty days stay, whatever there is: from day 70 on, and the one that shows the host there.
    assert.deepEqual(await night(store, { bytes: 1, atLeast: 30 }), { report: 6, judgement: 0, act: 0 });
    assert.deepEqual((await kept(store, 1))[0], 18);
    const now =
      (await bytes()) -
      actBytes -
      (await store.retention.retained())
        .filter(({ of }) => of === 'act')
        .reduce((sum, one) => sum + one.bytes, -actBytes);
    assert.ok(Math.abs(now - 8 * each) < 20, String(now));
    assert.equal(await verified(store), 17);
  });

  suite('what a hold is on stays: everything, hosts, or whoever was in a group since', async (url, t) => {
    const store = await opened(t, url);
    for (const n of [1, 2, 3, 4]) await host(store, n, [[0], [10], [90]]);
    await store.hosts.setGroup(hostId(2), 'prod/web', { actor: 'admin', at: T0 });
    await store.hosts.setGroup(hostId(3), 'lab', { actor: 'admin', at: T0 });
    const all = await hold(store, {});
    assert.deepEqual([all.id, (await store.holds.standing()).length], ['H-1', 1]);
    assert.deepEqual(await night(store, { reports: 50, acts: 50 }), { report: 0, judgement: 0, act: 0 });
    const by = { actor: 'user:counsel', at: NOW };
    const released = await store.holds.release('H-1', 'settled', by);
    assert.deepEqual(released?.hold.released, { by: 'user:counsel', at: NOW, reason: 'settled' });
    assert.deepEqual((await store.holds.release('H-1', 'again', by))?.changed, false);
    assert.equal(await store.holds.release('H-9', 'none', by), undefined);
    await hold(store, { scope: { hosts: [hostId(1)], groups: ['prod'] } });
    // Out of the group does not mean out of the hold.
    await store.hosts.setGroup(hostId(2), null, { actor: 'admin', at: NOW });
    // Only the first ten days.
    await hold(store, { scope: { hosts: [hostId(4)], groups: [] }, to: T0 + 5 * DAY });
    assert.deepEqual(await night(store, { reports: 50 }), { report: 1, judgement: 0, act: 0 });
    const left = [];
    for (const n of [1, 2, 3, 4]) left.push(await kept(store, n));
    assert.deepEqual(left, [
      [1, 2, 3],
      [1, 2, 3],
      [2, 3],
      [1, 2, 3],
    ]);
    assert.deepEqual(await night(store, { reports: 5 }, NOW), { report: 2, judgement: 0, act: 0 });
    assert.deepEqual([await kept(store, 3), await kept(store, 4)], [[3], [1, 3]]);
    await verified(store);
    const acts = await store.audit.list({ object: 'hold:H-1' }, { cursor: null, limit: 10 });
    assert.deepEqual(
      acts.items.map(({ action, actor, note }) => [action, actor, note]),
      [
        ['hold.release', 'user:counsel', 'settled'],
        ['hold.set', 'admin', 'case 7'],
      ],
    );
    const list = await store.holds.list({ cursor: null, limit: 2 });
    assert.deepEqual([list.items.map(({ id }) => id), list.next], [['H-3', 'H-2'], { n: 2 }]);
  });

  suite('both envelopes of a fork stay until somebody accepts it', async (url, t) => {
    const store = await opened(t, url);
    await host(store, 1, [[0], [1], [2], [90]]);
    const forked = (flag: boolean) =>
      commit(store, hostId(1), (own) => {
        const { forked: _, ...flags } = own.chain.flags;
        const write = report(own, 'full', T0 + 3 * DAY, 'other');
        return {
          ...write,
          report: { ...write.report!, seq: 1, kind: 'fork' },
          chain: { ...own.chain, flags: flag ? { ...flags, forked: T0 } : flags },
          last: own.last!,
          freshness: own.freshness,
        };
      });
    await forked(true);
    assert.equal((await night(store, { reports: 50 })).report, 1);
    assert.deepEqual(await kept(store, 1), [1, 3, 4]);
    await forked(false);
    assert.equal((await night(store, { reports: 50 })).report, 2);
    assert.equal((await store.reports.forks(hostId(1), 1))[0]!.envelope.length, 0);
    await verified(store);
  });

  suite('ended in the middle, or by two at once, each payload that went is told of once', async (url, t) => {
    const store = await opened(t, url);
    for (let n = 0; n < 3; n++)
      await host(
        store,
        n,
        Array.from({ length: 9 }, (_, day) => [day] as const),
      );
    await sequenced(store);
    const calls: string[] = [];
    for (const fault of ['unpersisted', 'persisted'] satisfies Fault[])
      for (const method of ['retention.count', 'retention.purge', 'retention.note'])
        await night(
          faulty(store, (call) => {
            calls.push(call.method);
            return call.method === method ? fault : undefined;
          }),
          { reports: 99 - calls.length / 100 },
        ).catch(() => undefined);
    assert.ok(calls.includes('retention.purge'));
    const other = await openStore(url);
    t.after(() => other.close());
    await Promise.all([store, other, store].map((one) => night(one, { reports: 50 })));
    await sequenced(store);
    assert.equal(await verified(store), 24);
    const purges = await told(store);
    assert.equal(
      purges.reduce((sum, { payloads }) => sum + payloads, 0),
      24,
    );
    assert.equal(
      purges.reduce((sum, { listed }) => sum + listed, 0),
      24,
    );
    const reports = (await store.retention.retained()).filter(({ of }) => of === 'report');
    assert.equal(
      reports.reduce((sum, { payloads }) => sum + payloads, 0),
      3,
    );
  });

  suite('what comes into the log while it is counted is counted once', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    await host(store, 1, [[0], [1]]);
    await sequenced(store);
    let isFirst = true;
    // Between the head, which is read first, and the entries.
    const meanwhile = async () => {
      if (!isFirst) return;
      isFirst = false;
      await host(store, 1, [[2]]);
      await sequenced(store);
    };
    const slow: Engine = {
      ...engine,
      reading: (work) =>
        engine.reading((db, select) =>
          work(
            db.withPlugin({
              transformQuery: ({ node }) => node,
              transformResult: async ({ result }) => {
                await meanwhile();
                return result;
              },
            }),
            select,
          ),
        ),
    };
    while ((await storeOn(slow).retention.count(1000)) > 0);
    assert.equal(isFirst, false);
    const reports = (await store.retention.retained()).filter(({ of }) => of === 'report');
    assert.equal(
      reports.reduce((sum, { payloads }) => sum + payloads, 0),
      3,
    );
  });

  suite('a payload that was emptied by hand is no purge', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    await host(store, 1, [[0], [1], [2], [90]]);
    await night(store, { reports: 50 });
    assert.equal(await verified(store), 2);
    const ref = `report:${hostId(1)}/3/0`;
    const by = (await store.retention.purges({ cursor: null, limit: 1 })).items[0]!;
    assert.deepEqual(by.entries, [{ log: 1, ranges: by.entries[0]!.ranges }]);
    // Even where it names a purge that was.
    await engine.write(({ db }) =>
      sql`update log_payload set salt = null, purged_at = 5,
        purged_by = (select min(purged_by) from log_payload where purged_by is not null) where ref = ${ref}`.execute(
        db,
      ),
    );
    const { faults } = await checkRows(store, (await store.log.head())!, 0, 1000);
    assert.match(faults.map(({ detail }) => detail).join('\n'), /^says that it was purged, and no entry of the log/);
  });

  suite('a store of an older build is purged like others', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    await host(store, 1, [[0], [1], [2], [90]]);
    await sequenced(store);
    await backTo(engine, 12);
    await store.close();
    const again = await opened(t, url);
    assert.deepEqual(await night(again, { reports: 50 }), { report: 2, judgement: 0, act: 0 });
    assert.equal(await verified(again), 2);
    assert.deepEqual([await again.holds.standing(), await again.inventories.newest()], [[], []]);
  });
}
