/** The contract of server/store/store.ts as tests: lists, counts, cursors, and the plans behind them. */
import assert from 'node:assert/strict';
import { CompiledQuery } from 'kysely';
import type { Engine } from '#server/store/engine.ts';
import type { Host, Severity } from '#server/store/records.ts';
import { GROUP_STATUSES } from '#server/store/findingdraft.ts';
import {
  findingPage,
  findingParts,
  groupHostsPage,
  groupPage,
  groupParts,
  hostFindingsPage,
} from '#server/store/read/findings.ts';
import { parseFilter } from '#src/finding/filter.ts';
import { hostKeys } from '#server/store/read/hosts.ts';
import {
  SILENT_RANK,
  type FindingCursor,
  type GroupCursor,
  type HostCursor,
  type HostFilter,
  type Store,
} from '#server/store/store.ts';
import type { Tables } from '#server/store/tables.ts';
import { opened, openedEngine, type Suite } from './contract.ts';
import {
  absent,
  ADMIN,
  commit,
  digest,
  enrolment,
  groupId,
  hostId,
  MINUTE,
  present,
  report,
  T0,
  walk,
} from './make.ts';

const VERDICTS = ['new', 'unverifiable', 'unsigned', 'drifted', 'compliant'] as const;
const standing = (host: Host, n: number): Host['standing'] => ({
  ...host.standing,
  verdict: VERDICTS[n % VERDICTS.length]!,
  rank: (n % VERDICTS.length) * 10,
  integrity: n % 2 ? 'drifted' : 'intact',
});

/** Forty hosts: names that fold and leave the BMP, five verdicts, two images, a third of them silent, every ninth retired. */
async function fleet(store: Store): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < 40; n++) {
    const name = ['Web', 'web', '\u{1f427}web', '\uffedweb', 'db'][n % 5]! + (n >> 3);
    const { hostId: id } = enrolment(n);
    await store.hosts.admit(
      { ...enrolment(n, { name }), group: n % 2 ? 'lab' : 'edge', labels: { rack: String(n % 4) } },
      ADMIN,
    );
    await commit(store, id, (host) => {
      const write = report(host, 'full', n % 3 ? T0 : T0 - 100 * MINUTE);
      return {
        ...write,
        standing: standing(host, n),
        images: { booted: n % 4 ? digest('a') : 'bare-a', staged: null, rollback: digest('b') },
      };
    });
    if (n % 9 === 8) await store.hosts.retire(id, ADMIN);
    ids.push(id);
  }
  return ids;
}

const idsOf = (items: readonly { readonly id: string }[]) => items.map(({ id }) => id);
const utf8 = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));
const verdictOf = (host: Host, now: number) =>
  host.standing.verdict === 'new' || host.freshness.silentAfter > now ? host.standing.verdict : 'silent';

export function lists(suite: Suite): void {
  suite('every list of hosts is exactly what its filter says, page by page, and counted alike', async (url, t) => {
    const store = await opened(t, url);
    const ids = await fleet(store);
    const now = T0 + MINUTE;
    const all = [...(await store.hosts.getMany(ids)).values()];
    type Case = [HostFilter, (host: Host) => boolean];
    const listed = ({ state }: Host) => state !== 'retired';
    const cases: Case[] = [
      [{ now }, listed],
      [{ now, states: ['retired'] }, ({ state }) => state === 'retired'],
      [{ now, states: ['active', 'retired', 'pending'] }, () => true],
      [{ now, verdicts: ['silent'] }, (h) => listed(h) && verdictOf(h, now) === 'silent'],
      [
        { now, verdicts: ['drifted', 'silent', 'new', 'drifted'] },
        (h) => listed(h) && ['drifted', 'silent', 'new'].includes(verdictOf(h, now)),
      ],
      [{ now, verdicts: [] }, () => false],
      [{ now, freshness: 'silent' }, (h) => listed(h) && h.freshness.silentAfter <= now],
      [{ now, freshness: 'current' }, (h) => listed(h) && h.freshness.lateAfter > now],
      [
        { now: T0 + 45 * MINUTE, freshness: 'late' },
        (h) => listed(h) && h.freshness.lateAfter <= T0 + 45 * MINUTE && h.freshness.silentAfter > T0 + 45 * MINUTE,
      ],
      [{ now, integrity: 'drifted', group: 'lab' }, (h) => listed(h) && h.standing.integrity === 'drifted'],
      [{ now, provenance: 'not-assessed' }, listed],
      [{ now, label: { key: 'rack', value: '3' } }, (h) => listed(h) && h.labels['rack'] === '3'],
      [{ now, namePrefix: 'WEB' }, (h) => listed(h) && h.name.toLowerCase().startsWith('web')],
      [{ now, booted: [digest('a')] }, (h) => listed(h) && h.images.booted === digest('a')],
      [
        { now, booted: ['bare-a', digest('a')], verdicts: ['compliant', 'unsigned'] },
        (h) => {
          return listed(h) && ['compliant', 'unsigned'].includes(verdictOf(h, now));
        },
      ],
    ];
    for (const [filter, fits] of cases) {
      const wanted = all.filter(fits);
      const byName = wanted.toSorted((a, b) => utf8(a.name.toLowerCase(), b.name.toLowerCase()) || utf8(a.id, b.id));
      const rank = (h: Host) =>
        verdictOf(h, now) === 'silent' ? Math.max(SILENT_RANK, h.standing.rank) : h.standing.rank;
      const byRank = wanted.toSorted((a, b) => rank(b) - rank(a) || utf8(b.id, a.id));
      const said = JSON.stringify(filter);
      for (const [sort, order] of [
        ['name', byName],
        ['attention', byRank],
      ] as const) {
        const got = await walk((cursor: HostCursor | null) => store.read.hosts(filter, sort, { cursor, limit: 3 }));
        assert.deepEqual(idsOf(got), idsOf(order), `${sort} ${said}`);
      }
      assert.deepEqual(await store.read.countHosts(filter, 100), { count: wanted.length, exact: true }, said);
    }
    assert.deepEqual(await store.read.countHosts({ now }, 5), { count: 5, exact: false });
    const counted = await store.read.verdicts(now);
    for (const { verdict, count } of counted)
      assert.equal((await store.read.countHosts({ now, verdicts: [verdict] }, 100)).count, count, verdict);
    assert.equal(
      counted.reduce((sum, { count }) => sum + count, 0),
      all.filter(listed).length,
    );

    const onImage = await walk((cursor: { id: string } | null) =>
      store.read.hostsOnImage([digest('a'), 'bare-a'], 'booted', { cursor, limit: 4 }),
    );
    assert.deepEqual(onImage, idsOf(all.filter(listed)).toSorted(utf8));
    await store.images.note([{ reported: digest('a'), claim: null }], T0);
    const [image] = (await store.read.images({ states: ['pending'] }, { cursor: null, limit: 5 })).items;
    const booted = await store.read.countHosts({ now, booted: [digest('a')] }, 100);
    assert.deepEqual(image?.hosts, { booted: booted.count, staged: 0, rollback: 0 });
  });

  suite('lists of groups and findings are whole, ordered, and counted alike', async (url, t) => {
    const store = await opened(t, url);
    const ids: string[] = [];
    for (let n = 0; n < 6; n++) {
      await store.hosts.admit({ ...enrolment(n), group: null, labels: {} }, ADMIN);
      ids.push(hostId(n));
    }
    const severityOf = (g: number) => (g % 5) as Severity;
    for (const [n, id] of ids.entries())
      await commit(store, id, (host) => ({
        ...report(host, 'full', T0 + n * MINUTE),
        findings: Array.from({ length: 11 }, (_, g) => g)
          .filter((g) => g % 6 >= n)
          .map((g) => present(g, severityOf(g), { subject: g % 2 ? `/etc/${g}` : `/usr/${g}` })),
      }));
    await commit(store, ids[0]!, (host) => ({ ...report(host, 'full', T0), findings: [absent(0), absent(6)] }));

    const groups = (filter: object, sort: GroupCursor['sort']) =>
      walk((cursor: GroupCursor | null) => store.read.groups(filter, sort, { cursor, limit: 2 }));
    const every = await groups({ status: 'all' }, 'severity');
    assert.equal(every.length, 11);
    const bySeverity = every.toSorted(
      (a, b) => b.severity - a.severity || b.lastNewAt - a.lastNewAt || utf8(b.id, a.id),
    );
    assert.deepEqual(idsOf(every), idsOf(bySeverity));
    const open = bySeverity.filter(({ hosts }) => hosts.open > 0);
    assert.equal(open.length, 9);
    const recent = open.toSorted((a, b) => b.lastNewAt - a.lastNewAt || utf8(b.id, a.id));
    assert.deepEqual(idsOf(await groups({}, 'severity')), idsOf(open));
    assert.deepEqual(idsOf(await groups({}, 'recent')), idsOf(recent));
    const high = ({ severity }: { severity: number }) => severity >= 3;
    assert.deepEqual(idsOf(await groups({ severities: [3, 4, 4] }, 'severity')), idsOf(open.filter(high)));
    assert.deepEqual(idsOf(await groups({ severities: [4, 3] }, 'recent')), idsOf(recent.filter(high)));
    const etc = open.filter(({ subject }) => subject.startsWith('/etc/'));
    assert.deepEqual(idsOf(await groups({ subjectPrefix: '/etc/' }, 'severity')), idsOf(etc));
    assert.deepEqual(await groups({ rule: 'other' }, 'severity'), []);
    assert.deepEqual(await store.read.countGroups({ kind: 'drift', severities: [3, 4] }, 99), {
      count: open.filter(high).length,
      exact: true,
    });

    const findings = await walk((cursor: FindingCursor | null) => store.read.findings({}, { cursor, limit: 4 }));
    const ordered = findings.toSorted(
      (a, b) =>
        b.severity - a.severity || b.openedAt - a.openedAt || utf8(b.hostId, a.hostId) || utf8(b.groupId, a.groupId),
    );
    assert.deepEqual(findings, ordered);
    assert.equal(
      findings.length,
      open.reduce((sum, { hosts }) => sum + hosts.open, 0),
    );
    assert.deepEqual(await store.read.countFindings({}, 99), { count: findings.length, exact: true });
    const filter = { severities: [0, 4, 2] as Severity[], statuses: ['open' as const] };
    const some = await walk((cursor: FindingCursor | null) => store.read.findings(filter, { cursor, limit: 3 }));
    assert.deepEqual(
      some,
      findings.filter(({ severity }) => filter.severities.includes(severity)),
    );
    assert.equal((await store.read.countFindings({ statuses: ['waived'] }, 9)).count, 0);
    assert.deepEqual(await store.read.countFindings({}, 3), { count: 3, exact: false });

    for (const { id, hosts } of open) {
      const where = await walk((cursor: { hostId: string } | null) => store.read.groupHosts(id, { cursor, limit: 2 }));
      assert.equal(where.length, hosts.open);
      assert.deepEqual(
        where.map((f) => f.hostId),
        where.map((f) => f.hostId).toSorted(utf8),
      );
      assert.equal(where[0]?.hostName, `host-${ids.indexOf(where[0]!.hostId)}`);
    }
    for (const id of ids) {
      type Key = { severity: number; groupId: string };
      const mine = await walk((cursor: Key | null) => store.read.hostFindings(id, 'present', { cursor, limit: 2 }));
      assert.deepEqual(
        new Set(mine.map((f) => f.groupId)),
        new Set((await store.findings.present(id)).map((f) => f.groupId)),
      );
      assert.deepEqual(
        mine.map((f) => f.severity),
        mine.map((f) => f.severity).toSorted((a, b) => b - a),
      );
    }
    type Key = { severity: number; groupId: string };
    const gone = await walk((cursor: Key | null) => store.read.hostFindings(ids[0]!, 'resolved', { cursor, limit: 1 }));
    assert.deepEqual(new Set(gone.map((f) => f.groupId)), new Set([groupId(0), groupId(6)]));
  });

  suite('no list sorts, and none walks all findings', async (url, t) => {
    const { engine } = await openedEngine(t, url);
    await seed(engine);
    for (const { name, deep, query } of await offered(engine)) {
      const plan = await explain(engine, query);
      // A waiver on what is open: nothing can match, and PostgreSQL sees it.
      if (plan.includes('One-Time Filter: false')) continue;
      assert.doesNotMatch(plan, /SCAN finding$/m, `${name}:\n${plan}`);
      assert.doesNotMatch(plan, /Seq Scan on (finding|episode|report)\b/, `${name}:\n${plan}`);
      // The findings of one host are few, and may be sorted; it is driven from there.
      if (name.includes('host:') && /^SEARCH (host|finding) USING|Bitmap|Index Scan using host/m.test(plan)) continue;
      assert.doesNotMatch(plan, /TEMP B-TREE|\bSort\b/, `${name}:\n${plan}`);
      // From a cursor the walk begins there, not at the index's start.
      if (deep) assert.match(plan, /SEARCH (host|finding|finding_group) |Index Cond: .*[<>]/, `${name}:\n${plan}`);
    }
    // The test can fail: a sort that no index serves is seen as one.
    const bad = await engine.reading(async (db) =>
      db.selectFrom('finding').selectAll().orderBy('detail').limit(50).compile(),
    );
    assert.match(await explain(engine, bad), /TEMP B-TREE|\bSort\b/);
  });
}

/** A medium fleet as rows: 3,000 hosts, 2,000 groups, 90,000 findings of which a tenth is open. */
async function seed(engine: Engine): Promise<void> {
  const HOSTS = 3000;
  const GROUPS = 2000;
  const sev = (n: number) => (n * 7) % 5;
  await engine.write(async ({ db, bulk }) => {
    const numbers = Array.from({ length: HOSTS }, (_, n) => n);
    const base = {
      machine_id: '',
      state: 'active',
      host_group: 'lab',
      labels: '{}',
      token_id: null,
      created_at: T0,
      facts: null,
      image_booted: digest('a') as string,
      image_staged: null,
      image_rollback: null,
      rule: null,
      since: T0,
      integrity: 'intact',
      provenance: 'not-assessed',
      allowed: 0,
      waived: 0,
      reasons: '[]',
      drift: null,
      open0: 0,
      open1: 0,
      open2: 0,
      open3: 0,
      open4: 0,
      acknowledged: 0,
      waived_findings: 0,
      valid_until: null,
      bare_verdict: null,
      bare_rank: null,
      bare_integrity: null,
    };
    const hosts = numbers.map((n) => ({
      ...base,
      id: hostId(n),
      name: `host-${n}`,
      name_fold: `host-${n}`,
      public_key: `key ${n}`,
      machine_id: `m ${n}`,
      verdict: VERDICTS[n % 5]!,
      rank: n % 5,
    }));
    await bulk.insert('host', Object.keys(hosts[0]!) as (keyof Tables['host'])[], hosts);
    const pulses = numbers.map((n) => ({
      host_id: hostId(n),
      revision: 1,
      state: 'active',
      verdict: VERDICTS[n % 5]!,
      head_seq: 1,
      same_count: 0,
      recent: new Uint8Array(),
      doubts: '{}',
      report_interval: 1,
      late_after: T0 + n,
      silent_after: T0 + n,
      silence_noted: 0,
    }));
    await bulk.insert('pulse', Object.keys(pulses[0]!) as 'host_id'[], pulses);
    const groups = Array.from({ length: GROUPS }, (_, n) => ({
      id: groupId(n),
      rule: 'r',
      kind: 'drift',
      subject: `/usr/${n}`,
      signature: '{}',
      sev: sev(n),
      is_open: n % 3 ? 1 : 0,
      first_seen: T0,
      last_new_at: T0 + ((n * 13) % 997) * MINUTE,
      status: n % 3 ? n % 2 : 3,
      assignee: null,
      revision: 0,
      flapping_until: 0,
    }));
    await bulk.insert('finding_group', Object.keys(groups[0]!) as (keyof Tables['finding_group'])[], groups);
    const counts = groups.map(({ id }) => ({ group_id: id, open: 1, acknowledged: 0, waived: 0, ever: 1 }));
    await bulk.insert('group_count', ['group_id', 'open', 'acknowledged', 'waived', 'ever'], counts);
    const findings = numbers.flatMap((n) =>
      Array.from({ length: 30 }, (_, k) => ({
        host_id: hostId(n),
        group_id: groupId((n * 31 + k * 61) % GROUPS),
        is_open: (n + k) % 10 ? 0 : 1,
        disposition: 0,
        sev: sev(n + k),
        first_seen: T0,
        opened_at: T0 + n + k,
        resolved_at: null,
        episode: 1,
        waiver_id: null,
        until: null,
        ack: null,
        returned: null,
        turns: null,
        detail: '{}',
      })),
    );
    const key = ['host_id', 'group_id'] as const;
    await bulk.insert('finding', Object.keys(findings[0]!) as (keyof Tables['finding'])[], findings, {
      key,
      nothing: true,
    });
    if (engine.kind === 'postgres')
      for (const table of ['host', 'pulse', 'finding', 'finding_group', 'group_count'])
        await db.executeQuery(CompiledQuery.raw(`analyze ${table}`));
  });
}

/** Each field of the filter line by itself, and some together. */
const LINES = [
  '',
  'rule:r',
  'kind:drift',
  'path:/usr/1*',
  'tree:usr',
  'change:modified',
  'group:lab',
  '-group:lab label:site=a',
  'host:host-2',
  `image:${digest('a')}`,
  'is:regressed',
  'is:flapping',
  'is:stale',
  '-is:stale',
  'is:assigned',
  'age:>1d',
  'assignee:alice',
  'waiver:W-1',
  'usr',
  'path:/usr/** -group:lab is:stale age:<7d',
].map((text) => [text === '' ? 'no line' : text, parseFilter(text)] as const);

type Offered = { readonly name: string; readonly deep: boolean; readonly query: CompiledQuery };

/** Every list with every sort, from its start and from deep inside. */
async function offered(engine: Engine): Promise<Offered[]> {
  const now = T0 + 1500;
  const at = T0 + 500 * MINUTE;
  const inName: HostCursor = { sort: 'name', name: 'host-2', id: hostId(2) };
  const inRank: HostCursor = { sort: 'attention', rank: 2, id: hostId(2) };
  const inFindings: FindingCursor = { severity: 2, at: T0 + 1500, hostId: hostId(2), groupId: groupId(2) };
  const inGroups = {
    severity: { sort: 'severity', severity: 3, at, id: groupId(9) },
    recent: { sort: 'recent', at, id: groupId(9) },
  } as const;
  return engine.reading(async (db) => {
    const found: Offered[] = [];
    const walkOf = (filter: HostFilter, verdict?: string, booted?: string) => ({ filter, verdict, booted });
    for (const deep of [false, true]) {
      const add = (name: string, query: { compile(): CompiledQuery }) =>
        found.push({ name: deep ? `${name}, deep` : name, deep, query: query.compile() });
      const from = <C>(cursor: C) => ({ cursor: deep ? cursor : null, limit: 50 });
      add('hosts by name', hostKeys(db, walkOf({ now }), 'name', from(inName)));
      add('hosts by name, drifted', hostKeys(db, walkOf({ now }, 'drifted'), 'name', from(inName)));
      add('hosts by name, on an image', hostKeys(db, walkOf({ now }, undefined, digest('a')), 'name', from(inName)));
      add('hosts by name, in a group', hostKeys(db, walkOf({ now, group: 'lab' }), 'name', from(inName)));
      add('hosts by prefix', hostKeys(db, walkOf({ now, namePrefix: 'host-1' }), 'name', from(inName)));
      const byAttention = { ...walkOf({ now }), raised: false };
      add('hosts by attention', hostKeys(db, byAttention, 'attention', from(inRank)));
      for (const status of ['open', 'all'] as const)
        for (const severity of [undefined, 3 as const])
          for (const sort of ['severity', 'recent'] as const) {
            const walk = { severity, from: from(inGroups[sort]).cursor };
            add(
              `groups ${status}, ${severity ?? 'any'}, by ${sort}`,
              groupPage(db, { status }, { ...walk, status: undefined }, sort, 50),
            );
          }
      for (const severity of [undefined, 2 as const])
        add(
          `findings ${severity ?? 'any'}`,
          findingPage(db, { severity, status: undefined, from: from(inFindings).cursor }, 50),
        );
      const lapsed = { lapsed: true, raised: false };
      add(
        'hosts past a waiver by name',
        hostKeys(db, { ...walkOf({ now }, 'drifted'), ...lapsed }, 'name', from(inName)),
      );
      add(
        'hosts past a waiver by attention',
        hostKeys(db, { ...walkOf({ now }), ...lapsed }, 'attention', from(inRank)),
      );
      for (const [text, line] of LINES) {
        for (const tab of GROUP_STATUSES)
          for (const severity of [undefined, 3 as const])
            for (const sort of ['severity', 'recent'] as const) {
              const walk = { severity, status: tab, from: from(inGroups[sort]).cursor };
              const parts = groupParts({ line, now }, engine.kind);
              add(`groups ${tab}, ${severity ?? 'any'}, ${text}, by ${sort}`, groupPage(db, {}, walk, sort, 50, parts));
            }
        for (const status of [undefined, 'open', 'acknowledged', 'waived'] as const)
          for (const severity of [undefined, 2 as const]) {
            const parts = findingParts({ line, now }, engine.kind);
            const walk = { severity, status, from: from(inFindings).cursor };
            add(`findings ${status ?? 'any'}, ${severity ?? 'any'}, ${text}`, findingPage(db, walk, 50, parts));
          }
      }
      add('hosts of a group', groupHostsPage(db, groupId(1), from({ hostId: hostId(9) })));
      for (const which of ['present', 'resolved'] as const) {
        const page = from({ severity: 2, groupId: groupId(9) });
        add(`findings of a host, ${which}`, hostFindingsPage(db, hostId(1), which, page));
      }
    }
    return found;
  });
}

/**
 * The plan as text. At this size PostgreSQL may rightly sort a few rows: with sorting made dear it shows whether an index
 * gives the order, which is what counts when the table is a hundred times as long.
 */
async function explain(engine: Engine, query: CompiledQuery): Promise<string> {
  const verb = engine.kind === 'sqlite' ? 'explain query plan' : 'explain';
  const { rows } = await engine.write(async ({ db }) => {
    if (engine.kind === 'postgres')
      for (const way of ['sort', 'bitmapscan'])
        await db.executeQuery(CompiledQuery.raw(`set local enable_${way} = off`));
    return db.executeQuery(CompiledQuery.raw(`${verb} ${query.sql}`, [...query.parameters]));
  });
  return (rows as Record<string, unknown>[]).map((row) => String(row['detail'] ?? row['QUERY PLAN'])).join('\n');
}
