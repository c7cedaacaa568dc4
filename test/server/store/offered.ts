/**
 * Every list that is offered, with every filter and every sort: what the plans of queries are asked of (contract-plans.ts), and what the
 * bench times (bench/lists.ts). The tables are by the types that parsers and reads have: a key without a sample does not compile.
 */
import { CompiledQuery, type Kysely, type KyselyPlugin } from 'kysely';
import {
  FILTER_CHANGES,
  FILTER_FLAGS,
  FILTER_STATUSES,
  parseFilter,
  type FilterField,
  type FilterLine,
} from '#src/finding/filter.ts';
import { WAIVER_STATES } from '#src/finding/waiver.ts';
import { TREES } from '#src/manifest/entry.ts';
import { JUDGEMENT_KINDS } from '#src/policy/judgement.ts';
import type { Engine } from '#server/store/engine.ts';
import { IMAGE_SLOTS } from '#server/store/records.ts';
import type { GroupCursor, HostCursor, HostFilter, Store } from '#server/store/store.ts';

/** Things of a fleet that stand in it: what filters name. */
export type Named = {
  readonly now: number;
  readonly host: string;
  readonly hostName: string;
  readonly group: string;
  readonly image: string;
  readonly hostGroup: string;
  readonly label: string;
  readonly waiver: string;
};

/** At least one value of each field of the filter line; closed lists whole. */
const samples = (of: Named): Readonly<Record<FilterField, readonly string[]>> => ({
  sev: ['critical', '>=high', 'low,high'],
  status: FILTER_STATUSES,
  rule: ['rule-3', 'rule-3,rule-4'],
  control: ['nist-800-53:SI-7', 'pci-dss-4'],
  kind: JUDGEMENT_KINDS.slice(0, 2),
  path: ['/usr/lib/d1*/**', '/etc/shadow'],
  tree: TREES,
  change: FILTER_CHANGES,
  group: [of.hostGroup],
  label: [of.label],
  host: [of.hostName, of.host],
  image: [of.image],
  is: [...FILTER_FLAGS, 'stale,assigned'],
  age: ['>30d', '<24h'],
  reopened: ['<24h'],
  resolved: ['<24h'],
  assignee: ['alice'],
  waiver: [of.waiver],
  id: [of.group],
  text: ['file-1999', '"nothing has this"'],
});

/** Each value of each field, each field turned around, and some fields together. */
export function lines(of: Named): readonly (readonly [string, FilterLine])[] {
  const each = Object.entries(samples(of)).flatMap(([field, values]) => [
    ...values.map((value) => `${field}:${value}`),
    `-${field}:${values[0]}`,
  ]);
  const together = [`-group:${of.hostGroup} is:stale`, `path:/usr/** -group:${of.hostGroup} age:<7d -is:stale`];
  return ['', ...each, ...together].map((text) => [text === '' ? '(none)' : text, parseFilter(text)]);
}

/** Every way that hosts are filtered. */
export function hostFilters(of: Named): readonly (readonly [string, Omit<HostFilter, 'now'>])[] {
  const by: { readonly [K in Exclude<keyof HostFilter, 'now'>]: readonly NonNullable<HostFilter[K]>[] } = {
    verdicts: [['silent'], ['new'], ['drifted'], ['drifted', 'unsigned', 'silent']],
    freshness: ['current', 'late', 'silent'],
    integrity: ['masked'],
    provenance: ['unsigned'],
    states: [['retired'], ['pending']],
    group: [of.hostGroup],
    scope: [[of.hostGroup], [of.hostGroup, 'elsewhere']],
    label: [{ key: of.label.split('=')[0]!, value: of.label.split('=')[1]! }],
    booted: [[of.image], [of.image, 'sha256:8']],
    staged: [[of.image]],
    rollback: [[of.image, 'sha256:8']],
    namePrefix: ['host-77'],
  };
  const each = Object.entries(by).flatMap(([key, values]) =>
    values.map((value) => [`${key} ${JSON.stringify(value)}`, { [key]: value }] as const),
  );
  return [
    ['(none)', {}],
    ...each,
    [`group and verdict`, { group: of.hostGroup, verdicts: ['drifted'], scope: [of.hostGroup] }],
  ];
}

const groupStarts = ({ now, group }: Named): { readonly [S in GroupCursor['sort']]: GroupCursor & { sort: S } } => ({
  severity: { sort: 'severity', severity: 3, at: now - 30_000_000, id: group },
  recent: { sort: 'recent', at: now - 30_000_000, id: group },
});
const hostStarts = ({ host }: Named): { readonly [S in HostCursor['sort']]: HostCursor & { sort: S } } => ({
  name: { sort: 'name', name: 'host-5', id: host },
  attention: { sort: 'attention', rank: 30, id: host },
});

export type Offered = {
  readonly name: string;
  /** From a cursor in the middle. */
  readonly deep: boolean;
  readonly ask: (
    store: Pick<Store, 'read' | 'waivers' | 'audit' | 'findings' | 'bulks' | 'postures'>,
  ) => Promise<unknown>;
};

/** All of them. `deep` ones begin at a cursor in the middle. */
export function* offered(of: Named): Generator<Offered> {
  const { now } = of;
  const page = <C>(cursor: C | null) => ({ cursor, limit: 50 });
  for (const [text, filter] of hostFilters(of)) {
    const asked = { now, ...filter };
    for (const [sort, start] of Object.entries(hostStarts(of)))
      for (const cursor of [null, start])
        yield {
          name: `hosts, ${text}, by ${sort}`,
          deep: cursor !== null,
          ask: ({ read }) => read.hosts(asked, sort as HostCursor['sort'], page<HostCursor>(cursor)),
        };
    yield { name: `hosts, ${text}, counted`, deep: false, ask: ({ read }) => read.countHosts(asked, 10_000) };
  }
  for (const [text, line] of lines(of)) {
    for (const tab of [undefined, ...FILTER_STATUSES]) {
      const filter = { line, now, ...(tab === undefined ? { status: 'all' as const } : { tab }) };
      for (const [sort, start] of Object.entries(groupStarts(of)))
        yield {
          name: `groups ${tab ?? 'all'}, ${text}, by ${sort}`,
          deep: text === '(none)',
          ask: ({ read }) =>
            read.groups(filter, sort as GroupCursor['sort'], page<GroupCursor>(text === '(none)' ? start : null)),
        };
      yield {
        name: `groups ${tab ?? 'all'}, ${text}, counted`,
        deep: false,
        ask: ({ read }) => read.countGroups(filter, 10_000),
      };
    }
    for (const status of [undefined, 'open', 'acknowledged', 'waived'] as const)
      for (const deep of [false, true]) {
        const filter = { line, now, ...(status === undefined ? {} : { statuses: [status] }) };
        const cursor = deep ? { severity: 2, at: now - 5_000_000, hostId: of.host, groupId: of.group } : null;
        yield {
          name: `findings ${status ?? 'any'}, ${text}`,
          deep,
          ask: ({ read }) => read.findings(filter, page(cursor)),
        };
        if (!deep)
          yield {
            name: `findings ${status ?? 'any'}, ${text}, counted`,
            deep,
            ask: ({ read }) => read.countFindings(filter, 10_000),
          };
      }
  }
  // As somebody sees them who is bound to host groups.
  const scoped = { now, scope: [of.hostGroup] };
  yield { name: 'groups within a scope', deep: false, ask: ({ read }) => read.groups(scoped, 'severity', page(null)) };
  yield { name: 'findings within a scope', deep: false, ask: ({ read }) => read.findings(scoped, page(null)) };
  yield {
    name: 'findings within a scope, counted',
    deep: false,
    ask: ({ read }) => read.countFindings(scoped, 10_000),
  };
  for (const scope of [null, [of.hostGroup]]) {
    const within = scope === null ? '' : ' within a scope';
    yield { name: `hosts by verdict${within}`, deep: false, ask: ({ read }) => read.verdicts(now, scope) };
    yield { name: `host groups${within}`, deep: false, ask: ({ read }) => read.hostGroups(scope) };
    yield { name: `images${within}`, deep: false, ask: ({ read }) => read.images({ scope }, page(null)) };
    yield {
      name: `hosts of a group${within}`,
      deep: true,
      ask: ({ read }) => read.groupHosts(of.group, page({ hostId: of.host }), scope),
    };
    yield {
      name: `waivers of a group${within}`,
      deep: false,
      ask: ({ findings }) => findings.waiversOf(of.group, scope),
    };
    if (scope !== null)
      yield {
        name: `an image${within}`,
        deep: false,
        ask: ({ read }) => read.isImageWithin(of.image, scope),
      };
    yield {
      name: `changes of a group${within}`,
      deep: false,
      ask: ({ findings }) => findings.changes(of.group, 50, scope),
    };
  }
  for (const status of FILTER_STATUSES)
    yield {
      name: `hosts of a group, ${status}, of a label`,
      deep: true,
      ask: ({ read }) =>
        read.groupHosts(of.group, page({ hostId: of.host }), null, {
          status,
          line: parseFilter(`label:${of.label} -is:stale`),
          now,
        }),
    };
  yield {
    name: 'images, deep',
    deep: true,
    ask: ({ read }) => read.images({ states: ['ready'] }, page({ at: now, digest: of.image })),
  };
  for (const slot of IMAGE_SLOTS)
    yield {
      name: `hosts ${slot} on an image`,
      deep: true,
      ask: ({ read }) => read.hostsOnImage([of.image], slot, page({ id: of.host })),
    };
  for (const which of ['present', 'resolved'] as const)
    yield {
      name: `findings of a host, ${which}`,
      deep: true,
      ask: ({ read }) => read.hostFindings(of.host, which, page({ severity: 2, groupId: of.group })),
    };
  yield { name: 'reports of a host', deep: true, ask: ({ read }) => read.reports(of.host, page({ seq: 100 })) };
  yield { name: 'verdicts of a host', deep: false, ask: ({ read }) => read.history(of.host, 50) };
  yield { name: 'silence to note', deep: true, ask: ({ read }) => read.unnotedSilence(now, 200) };
  yield {
    name: 'hosts of groups',
    deep: true,
    ask: ({ findings }) => findings.hostsOf([of.group], page({ id: of.host })),
  };
  yield {
    name: 'groups that are present',
    deep: true,
    ask: ({ findings }) => findings.presentGroups(page({ id: of.group })),
  };
  yield { name: 'dispositions that ended', deep: true, ask: ({ findings }) => findings.lapsed(now, 100) };
  yield { name: 'the next end of a disposition', deep: false, ask: ({ findings }) => findings.nextLapse() };
  for (const states of [undefined, ...WAIVER_STATES.map((state) => [state])])
    yield {
      name: `waivers, ${states?.[0] ?? '(all)'}`,
      deep: false,
      ask: ({ waivers }) => waivers.list({ now, ...(states === undefined ? {} : { states }) }, page({ n: 100 })),
    };
  yield {
    name: 'waivers, ending',
    deep: false,
    ask: ({ waivers }) => waivers.list({ now, expiringBefore: now }, page(null)),
  };
  yield { name: 'waivers, counted', deep: false, ask: ({ waivers }) => waivers.count(now, now) };
  yield {
    name: 'hosts under a waiver',
    deep: true,
    ask: ({ waivers }) => waivers.hosts(of.waiver, page({ id: of.host })),
  };
  type AuditFilter = Parameters<Store['audit']['list']>[0];
  const about: Required<AuditFilter> = {
    object: `host:${of.host}`,
    actor: 'alice',
    since: now - 1e9,
    until: now,
  };
  for (const filter of [{}, about, ...Object.entries(about).map(([key, value]) => ({ [key]: value }))])
    yield {
      name: `activity by ${Object.keys(filter).join(', ')}`,
      deep: true,
      ask: ({ audit }) => audit.list(filter, page({ id: 'a_5' })),
    };
  yield* postures(of);
}

/** What is asked about a moment in the past: of one host, of an image, of waivers. */
function* postures({ now, host, image, group, hostGroup }: Named): Generator<Offered> {
  const range = { from: 0, to: now };
  const one = (name: string, deep: boolean, ask: (reads: Store['postures']) => Promise<unknown>): Offered => ({
    name,
    deep,
    ask: ({ postures: reads }) => ask(reads),
  });
  for (const order of ['newest', 'oldest'] as const) {
    yield one(`judgements of a host, ${order}`, true, (reads) => reads.judged(host, range, order, 200));
    yield one(`reports of a host as logged, ${order}`, true, (reads) => reads.reports(host, range, order, 200));
  }
  yield one('judgements of a host at moments', false, (reads) => reads.judgedAt(host, [now, now - 1]));
  yield one('the next full report', true, (reads) => reads.nextFull(host, 1));
  yield one('reports that came late', true, (reads) => reads.late(host, now, 100));
  yield one('episodes of a host', false, (reads) => reads.episodes(host, { openedBy: now, endedFrom: now }, 100));
  yield one('what groups are about', false, (reads) => reads.groups([group]));
  yield one('acts until a moment', true, (reads) => reads.acts(`host:${host}`, now, 200));
  yield one('acts after a moment', true, (reads) => reads.nextActs(`host:${host}`, 0, ['host.rename'], 10));
  yield one('places in the log', false, (reads) => reads.places([`report:${host}/1/0`]));
  yield one('the policy at a moment', false, (reads) => reads.policyAt(now));
  yield one('waivers, of a period', false, (reads) => reads.waiversIn(range, { cursor: null, limit: 50 }));
  yield one('waivers, of a period from a cursor', false, (reads) =>
    reads.waiversIn(range, { cursor: { n: 9 }, limit: 50 }),
  );
  for (const scope of [null, [hostGroup]])
    for (const cursor of [null, { id: host }])
      yield one(`hosts that ran an image${scope === null ? '' : ', of a group'}`, true, (reads) =>
        reads.hostsOn([image], { ...range, scope }, { cursor, limit: 50 }),
      );
}

/** The engine, writing down what it is asked. */
export function recording(engine: Engine, asked: CompiledQuery[]): Engine {
  const heard = <Db>(db: Db): Db => {
    const plain = db as Kysely<never>;
    const recorder: KyselyPlugin = {
      transformQuery({ node, queryId }) {
        asked.push(plain.getExecutor().compileQuery(node, queryId));
        return node;
      },
      transformResult: async ({ result }) => result,
    };
    return plain.withPlugin(recorder) as Db;
  };
  return {
    ...engine,
    reading: (work) => engine.reading((db, select) => work(heard(db), select)),
    listing: (work) => engine.listing((db) => work(heard(db))),
  };
}

/** One step of a plan: what is read or sorted, and by which index, in words that are the same for both engines. */
export type Step =
  | { readonly kind: 'scan'; readonly table: string; readonly index: string | null; readonly covering: boolean }
  | { readonly kind: 'search'; readonly table: string; readonly by: string }
  | { readonly kind: 'sort'; readonly what: string };

/** The plan as steps. `settings`: of PostgreSQL, for this plan only. */
export async function planOf(engine: Engine, query: CompiledQuery, settings: readonly string[] = []): Promise<Step[]> {
  const verb = engine.kind === 'sqlite' ? 'explain query plan' : 'explain (format json)';
  const { rows } = await engine.write(async ({ db }) => {
    for (const setting of settings) await db.executeQuery(CompiledQuery.raw(`set local ${setting}`));
    return db.executeQuery(CompiledQuery.raw(`${verb} ${query.sql}`, [...query.parameters]));
  });
  if (engine.kind === 'sqlite') return (rows as { detail: string }[]).flatMap(({ detail }) => stepOfSqlite(detail));
  const [{ 'QUERY PLAN': plan }] = rows as [{ 'QUERY PLAN': [{ Plan: PostgresNode }] }];
  // What can match nothing is not even read.
  return JSON.stringify(plan).includes('"One-Time Filter":"false"') ? [] : [...stepsOfPostgres(plan[0].Plan)];
}

function stepOfSqlite(detail: string): Step[] {
  const scan = /^SCAN (\S+)(?: EXISTS)?(?: USING (COVERING )?INDEX (\S+))?$/.exec(detail);
  // What a subquery made is no table.
  if (scan !== null)
    return /^\(|^\d/.test(scan[1]!)
      ? []
      : [{ kind: 'scan', table: scan[1]!, index: scan[3] ?? null, covering: scan[2] !== undefined }];
  const search = /^SEARCH (\S+)(?: EXISTS)? USING (.*)$/.exec(detail);
  if (search !== null) return [{ kind: 'search', table: search[1]!, by: search[2]! }];
  return detail.startsWith('USE TEMP B-TREE') ? [{ kind: 'sort', what: detail }] : [];
}

type PostgresNode = {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Index Cond'?: string;
  readonly Plans?: readonly PostgresNode[];
};

/** `above`: a sort below a sum is what it sums by. */
function* stepsOfPostgres(node: PostgresNode, above = ''): Generator<Step> {
  const { 'Node Type': type, 'Relation Name': table = '', 'Index Name': index = '', 'Index Cond': by } = node;
  if (type === 'Seq Scan') yield { kind: 'scan', table, index: null, covering: false };
  else if (/^Index|^Bitmap Heap/.test(type))
    yield by === undefined && type !== 'Bitmap Heap Scan'
      ? { kind: 'scan', table, index, covering: type === 'Index Only Scan' }
      : { kind: 'search', table, by: `${index} ${by ?? ''}` };
  else if (type.endsWith('Sort'))
    yield { kind: 'sort', what: above === 'Aggregate' ? 'GROUP BY' : above === 'Unique' ? 'DISTINCT' : type };
  for (const under of node.Plans ?? []) yield* stepsOfPostgres(under, type);
}
