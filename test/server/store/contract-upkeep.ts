/** The contract of server/store/store.ts as tests: what is done by the night. */
import assert from 'node:assert/strict';
import { sql } from 'kysely';
import { parseFilter } from '#src/finding/filter.ts';
import { openedEngine, type Suite } from './contract.ts';
import { absent, admit, ADMIN, commit, DAY, groupId, hostId, present, report, T0, walk } from './make.ts';

const NIGHT = { actor: 'job:recount', at: T0 + DAY };

export function upkeep(suite: Suite): void {
  suite('counters that do not count what they should are set right, and the trail says so', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    for (let n = 0; n < 5; n++) {
      await admit(store, n);
      await commit(store, hostId(n), (host) => ({
        ...report(host, 'full'),
        findings: [present(1, 4), ...(n % 2 === 0 ? [present(2, 1)] : [])],
      }));
    }
    await commit(store, hostId(0), (host) => ({ ...report(host, 'full'), findings: [absent(2)] }));
    await commit(store, hostId(0), (host) => ({ ...report(host, 'full'), findings: [present(2, 1)] }));
    await commit(store, hostId(1), (host) => ({ ...report(host, 'full'), findings: [absent(1)] }));
    const all = async () => {
      const repaired: string[] = [];
      for (const what of ['groups', 'hosts'] as const)
        for (let after: string | null = null, checked = 0; ;) {
          const step: Awaited<ReturnType<typeof store.upkeep.recount>> = await store.upkeep.recount(
            what,
            after,
            2,
            NIGHT,
          );
          repaired.push(...step.repaired);
          checked += step.checked;
          if (step.next === null) {
            assert.equal(checked, what === 'groups' ? 2 : 5);
            break;
          }
          after = step.next;
        }
      return repaired;
    };
    assert.deepEqual(await all(), [], 'what intake counted is what is there');
    const before = await store.findings.group(groupId(2));
    assert.deepEqual(before?.hosts, { open: 3, acknowledged: 0, waived: 0, ever: 3, reopened: 1 });
    await engine.write(async ({ db }) => {
      await sql`update group_count set open = 0, ever = 9, reopened = 0 where group_id = ${groupId(2)}`.execute(db);
      await sql`update finding_group set is_open = 0, status = 3 where id = ${groupId(2)}`.execute(db);
      await sql`update host set open4 = 0, waived_findings = 2 where id = ${hostId(3)}`.execute(db);
    });
    assert.deepEqual(await all(), [groupId(2), hostId(3)]);
    assert.deepEqual(await store.findings.group(groupId(2)), before);
    assert.deepEqual((await store.hosts.get(hostId(3)))?.counters, {
      open: [0, 0, 0, 0, 1],
      acknowledged: 0,
      waived: 0,
    });
    assert.deepEqual(await all(), []);
    const { items } = await store.audit.list({ actor: NIGHT.actor }, { cursor: null, limit: 10 });
    const told = items.map(({ action, object, before: was, after }) => [action, object, was, after]);
    assert.deepEqual(
      told.find(([action]) => action === 'group.recount'),
      [
        'group.recount',
        `group:${groupId(2)}`,
        { open: 0, acknowledged: 0, waived: 0, ever: 9, reopened: 0 },
        { open: 3, acknowledged: 0, waived: 0, ever: 3, reopened: 1 },
      ],
    );
    assert.equal(told.length, 2);
  });

  suite('what ended long ago is moved aside, still told, and comes back as what it was', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    await admit(store, 1, { silentAfter: T0 + 900 * DAY });
    const at = (days: number, findings: readonly ReturnType<typeof present | typeof absent>[]) =>
      commit(store, hostId(1), (host) => ({ ...report(host, 'full', T0 + days * DAY), findings }));
    await at(0, [present(1), present(2), present(3)]);
    await at(1, [absent(1), absent(2)]);
    await at(2, [absent(3)]);
    const page = { cursor: null, limit: 10 };
    const resolved = () => store.read.hostFindings(hostId(1), 'resolved', page);
    const before = await resolved();
    const groups = await Promise.all([1, 2, 3].map((n) => store.findings.group(groupId(n))));
    assert.equal(await store.upkeep.archive(T0 + DAY, 10), 0);
    assert.equal(await store.upkeep.archive(T0 + 2 * DAY, 1), 1);
    assert.equal(await store.upkeep.archive(T0 + 2 * DAY, 10), 1);
    assert.equal(await store.upkeep.archive(T0 + 2 * DAY, 10), 0);
    const rows = await engine.reading((db) => db.selectFrom('finding').select('group_id').execute());
    assert.deepEqual(rows, [{ group_id: groupId(3) }]);
    assert.deepEqual(await resolved(), before);
    // The list finds it as it finds what is over since yesterday: by its host's name, by what is said of hosts, within a scope.
    for (const [line, found] of [
      [`host:${hostId(1)}`, 3],
      ['-group:elsewhere', 3],
      [`host:${hostId(2)}`, 0],
      ['group:elsewhere', 0],
    ] as const) {
      const filter = { tab: 'resolved', line: parseFilter(line), now: T0 + 3 * DAY } as const;
      const listed = await store.read.groups(filter, 'severity', page);
      assert.equal(listed.items.length, found, line);
      assert.deepEqual(await store.read.countGroups(filter, 10), { count: found, exact: true }, line);
    }
    type Key = { severity: number; groupId: string };
    const paged = await walk((cursor: Key | null) =>
      store.read.hostFindings(hostId(1), 'resolved', { cursor, limit: 1 }),
    );
    assert.deepEqual(paged, before.items);
    const one = await store.findings.get(hostId(1), groupId(1));
    assert.equal(one?.resolvedAt, T0 + DAY);
    assert.deepEqual(await Promise.all([1, 2, 3].map((n) => store.findings.group(groupId(n)))), groups);
    assert.deepEqual((await store.upkeep.recount('groups', null, 10, ADMIN)).repaired, [], 'what lies aside counts');
    await at(500, [present(1)]);
    const back = await store.findings.get(hostId(1), groupId(1));
    assert.deepEqual([back?.status, back?.reopened, back?.firstSeen], ['open', 1, T0]);
    assert.deepEqual((await resolved()).items.map(({ groupId: id }) => id).sort(), [groupId(2), groupId(3)].sort());
    assert.equal((await store.findings.episodes(hostId(1), groupId(1))).length, 2);
    assert.deepEqual((await store.upkeep.recount('groups', null, 10, ADMIN)).repaired, []);
    const aside = await engine.reading((db) => db.selectFrom('finding_archive').select('group_id').execute());
    assert.deepEqual(aside, [{ group_id: groupId(2) }]);
  });
}
