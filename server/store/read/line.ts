/**
 * A filter line (src/finding/filter.ts) as conditions on rows. What is about groups makes a set of groups, what is about hosts a set of
 * hosts; both are asked of one and the same finding, so that a list of groups is the list of findings that match, grouped. A set is made
 * once a statement, and a walk past what does not match reads nothing but the index: no filter makes a list slow.
 */
import { sql, type RawBuilder } from 'kysely';
import { ageBound, type FilterFlag, type FilterLine, type FilterTerm } from '#src/finding/filter.ts';
import { TREES } from '#src/manifest/entry.ts';
import { parseGlob, regexOf } from '#src/policy/paths.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { FLAPPING_MS, FLAPPING_TURNS } from '#src/limits.ts';
import type { Instant } from '#src/clock.ts';
import type * as r from '../records.ts';

type Condition = RawBuilder<boolean>;
export type EngineKind = 'sqlite' | 'postgres';

/** What remains of a line beside its severities and statuses, which choose the walks. */
export type LineParts = {
  /** Severities that the line leaves; undefined for all. */
  readonly severities: readonly r.Severity[] | undefined;
  /** Statuses that it leaves; undefined where it names none. */
  readonly statuses: readonly r.FindingStatus[] | undefined;
  /** On `finding_group`: together they make one set of groups. */
  readonly group: readonly Condition[];
  /** On `host`: together they make one set of hosts. */
  readonly host: readonly Condition[];
  /** On `finding` itself. */
  readonly own: readonly Condition[];
  /** A waiver is named: what matches is waived. */
  readonly namesWaiver: boolean;
  /** Hosts are named, so they are few: what they have is looked up from there. */
  readonly namesHosts: boolean;
};

const STATUSES = ['open', 'acknowledged', 'waived', 'resolved'] as const satisfies readonly r.FindingStatus[];

/** Takes a line apart. `now` is for what the clock decides. */
export function partsOf(
  line: FilterLine,
  { now, engine, scope }: { now: Instant | undefined; engine: EngineKind; scope: readonly string[] | null | undefined },
): LineParts {
  let severities: r.Severity[] | undefined;
  let statuses: r.FindingStatus[] | undefined;
  const parts: Record<About, Condition[]> = { group: [], host: [], own: [] };
  const names = (wanted: FilterTerm['field']) => line.some(({ field, negated }) => field === wanted && !negated);
  if (scope !== null && scope !== undefined) parts.host.push(within(walked('host.host_group', engine), scope));
  const asked = { now, engine, hosts: parts.host, namesHosts: names('host') };
  // What is about hosts first: what is asked of groups is asked of them as those hosts have them.
  const isOfHosts = ({ field, ...term }: FilterTerm): boolean =>
    HOST_FIELDS.has(field) || (field === 'is' && (term.values as readonly string[]).every((flag) => flag === 'stale'));
  for (const term of [...line.filter(isOfHosts), ...line.filter((one) => !isOfHosts(one))]) {
    const has = (value: string): boolean => (term.values as readonly string[]).includes(value) !== term.negated;
    if (term.field === 'sev')
      severities = (severities ?? [0, 1, 2, 3, 4]).filter((severity) => has(SEVERITIES[severity]));
    else if (term.field === 'status') statuses = (statuses ?? [...STATUSES]).filter(has);
    else {
      const { about, condition } = conditionOf(term, asked);
      const whole = term.negated ? sql<boolean>`not ${condition}` : condition;
      parts[about].push(whole);
    }
  }
  return { severities, statuses, ...parts, namesWaiver: names('waiver'), namesHosts: asked.namesHosts };
}

const HOST_FIELDS: ReadonlySet<string> = new Set<FilterTerm['field']>(['group', 'host', 'image', 'label']);

/** What a condition may depend on beside its own term. */
type Around = {
  readonly now: Instant | undefined;
  readonly engine: EngineKind;
  /** Conditions on `host` of the whole line; none: every host. */
  readonly hosts: readonly Condition[];
  readonly namesHosts: boolean;
};

/** A finding's host among those that are asked for. */
export function onHosts({ hosts, namesHosts, engine }: Omit<Around, 'now'>): Condition {
  const id = namesHosts ? sql.ref('finding.host_id') : walked('finding.host_id', engine);
  return sql<boolean>`${id} in ${hostsWith(hosts)}`;
}

/** Where findings of one group lie, each with its index by group. */
export const PRESENT = sql`finding where finding.is_open = 1`;
export const ENDED = [
  sql`finding where finding.is_open = 0`,
  sql`finding_archive as finding where finding.is_open = 0`,
] as const;

/** Whether the group has such a finding, on hosts that are asked for. */
function theirs(from: readonly RawBuilder<unknown>[], condition: Condition, around: Around): Condition {
  return some(
    from.map(
      (place) =>
        sql<boolean>`exists (select 1 from ${place} and finding.group_id = finding_group.id and ${condition}
          and ${onHosts(around)})`,
    ),
  );
}

/** What is kept with the group of the whole fleet is asked first: cheap, and never so of some hosts alone. `and` has no order. */
function alsoOn(onAll: Condition, onTheirs: Condition): Condition {
  return sql<boolean>`(case when ${onAll} then ${onTheirs} else false end)`;
}

/** Until when a finding's last openings and endings say that it flaps (server/store/findingdraft.ts); 0 where they do not. */
export function flappingEnd(engine: EngineKind): RawBuilder<number> {
  const turns = engine === 'sqlite' ? sql`finding.turns` : sql`cast(finding.turns as jsonb)`;
  const turn = (n: number) => sql`cast(${turns} ->> ${sql.lit(n)} as bigint)`;
  return sql<number>`(case when ${turn(FLAPPING_TURNS - 1)} - ${turn(0)} <= ${sql.lit(FLAPPING_MS)}
    then ${turn(0)} + ${sql.lit(FLAPPING_MS)} else 0 end)`;
}

/**
 * A column that SQLite must not drive the query from: without statistics it would take every row that a filter matches, and sort them.
 * Walking the list's own index stops when the page is full. PostgreSQL knows how many rows each way has.
 */
export function walked(column: string, engine: EngineKind): RawBuilder<unknown> {
  return engine === 'sqlite' ? sql`+${sql.ref(column)}` : sql.ref(column);
}

/** The set of hosts that conditions on `host` make, for `in`: made once a statement, then asked of each row that is walked past. */
export function hostsWith(conditions: readonly Condition[]): RawBuilder<unknown> {
  return sql`(select host.id from host where ${every(conditions)})`;
}

/** The set of groups, likewise. */
export function groupsWith(conditions: readonly Condition[]): RawBuilder<unknown> {
  return sql`(select finding_group.id from finding_group where ${every(conditions)})`;
}

export function every(conditions: readonly Condition[]): Condition {
  return sql<boolean>`(${sql.join([...conditions], sql` and `)})`;
}

/**
 * Whether a host is among those of another table. SQLite makes their set once; PostgreSQL does so for `exists`, and asks a set that is
 * large and negated row by row.
 */
function among(
  host: RawBuilder<unknown>,
  table: 'pulse' | 'host_label',
  condition: Condition,
  engine: EngineKind,
): Condition {
  const id = sql.ref(`${table}.host_id`);
  return engine === 'sqlite'
    ? sql<boolean>`(${host} in (select ${id} from ${sql.table(table)} where ${condition}))`
    : sql<boolean>`(exists (select 1 from ${sql.table(table)} where ${id} = ${host} and ${condition}))`;
}

/** Hosts that are silent, or late or silent, at a moment. The columns before the time are those before it in the index. */
export function overdue(
  column: 'silent_after' | 'late_after',
  host: RawBuilder<unknown>,
  now: Instant,
  engine: EngineKind,
): Condition {
  const condition = sql<boolean>`(pulse.state in ('active', 'pending', 'retired') and pulse.silence_noted in (0, 1)
    and ${sql.ref(`pulse.${column}`)} <= ${now})`;
  return among(host, 'pulse', condition, engine);
}

export function labelled(host: RawBuilder<unknown>, key: string, value: string, engine: EngineKind): Condition {
  const condition = sql<boolean>`(host_label.key = ${key} and host_label.value = ${value})`;
  return among(host, 'host_label', condition, engine);
}

/** Hosts of these groups and of those below them (src/finding/scope.ts). */
export function within(column: RawBuilder<unknown>, scope: readonly string[]): Condition {
  if (scope.length === 0) return sql<boolean>`(1 = 0)`;
  return some(
    // `0` follows on `/`, so this is all that begins with the group and a slash; one range first, for an index.
    scope.map(
      (group) =>
        sql<boolean>`(${column} >= ${group} and ${column} < ${`${group}0`} and (${column} = ${group} or ${column} > ${`${group}/`}))`,
    ),
  );
}

/** Never null, so that `not` is its opposite. */
function anyOf(column: RawBuilder<unknown>, values: readonly string[]): Condition {
  if (values.length === 0) return sql<boolean>`(1 = 0)`;
  return sql<boolean>`(${column} is not null and ${column} in (${sql.join([...values])}))`;
}

function some(conditions: readonly Condition[]): Condition {
  return sql<boolean>`(${sql.join(conditions, sql` or `)})`;
}

type Rest = Exclude<FilterTerm, { field: 'sev' | 'status' }>;
type About = 'group' | 'host' | 'own';

function conditionOf(term: Rest, around: Around): { readonly about: About; readonly condition: Condition } {
  const { now, engine } = around;
  const onAll = around.hosts.length === 0;
  const group = (condition: Condition) => ({ about: 'group', condition }) as const;
  const host = (condition: Condition) => ({ about: 'host', condition }) as const;
  const own = (condition: Condition) => ({ about: 'own', condition }) as const;
  switch (term.field) {
    case 'rule':
      return group(anyOf(sql.ref('finding_group.rule'), term.values));
    case 'control':
      return group(
        sql<boolean>`(finding_group.rule in (select rule_control.rule from rule_control where ${some(term.values.map(controlIs))}))`,
      );
    case 'kind':
      return group(anyOf(sql.ref('finding_group.kind'), term.values));
    case 'path':
      return group(some(term.values.map((glob) => subjectIs(glob, engine))));
    case 'tree':
      return group(some(TREES.filter((tree) => term.values.includes(tree)).map(below)));
    case 'change':
      return group(some(term.values.map(changeIs)));
    case 'id':
      return group(anyOf(sql.ref('finding_group.id'), term.values));
    case 'reopened':
    case 'resolved': {
      const since = Math.min(...term.values.map(({ ms }) => ageBound(ms, clock(now))));
      const onSome = sql<boolean>`exists (select 1 from group_change as g where g.group_id = finding_group.id
          and g.at > ${since} and g.kind = ${sql.lit(term.field)})`;
      return group(onAll ? onSome : alsoOn(onSome, turnedSince(term.field, since, around)));
    }
    case 'assignee':
      return group(anyOf(sql.ref('finding_group.assignee'), term.values));
    case 'age':
      return group(
        some(
          term.values.map(({ older, ms }) => {
            const bound = ageBound(ms, clock(now));
            const isOld = sql<boolean>`finding_group.first_seen <= ${bound}`;
            const onTheirs = sql<boolean>`finding.first_seen <= ${bound}`;
            const both = onAll ? isOld : alsoOn(isOld, theirs([PRESENT, ...ENDED], onTheirs, around));
            return older ? both : sql<boolean>`not ${both}`;
          }),
        ),
      );
    case 'text':
      return group(some(term.values.map(contains)));
    case 'is': {
      const flags = term.values.filter((flag) => flag !== 'stale').map((flag) => flagIs(flag, around));
      if (!term.values.includes('stale')) return group(some(flags));
      const stale = (id: RawBuilder<unknown>) => overdue('silent_after', id, clock(now), engine);
      if (flags.length === 0) return host(stale(sql.ref('host.id')));
      // Staleness is of a host, the other flags are of the group: either is asked of the finding.
      return own(
        some([
          stale(walked('finding.host_id', engine)),
          sql<boolean>`${walked('finding.group_id', engine)} in ${groupsWith([some(flags)])}`,
        ]),
      );
    }
    case 'group':
      // Never null, so that `not` is its opposite.
      return host(sql<boolean>`(host.host_group is not null and ${within(sql.ref('host.host_group'), term.values)})`);
    case 'host':
      return host(
        some([
          anyOf(sql.ref('host.id'), term.values),
          anyOf(
            sql.ref('host.name_fold'),
            term.values.map((name) => name.toLowerCase()),
          ),
        ]),
      );
    case 'image':
      return host(anyOf(sql.ref('host.image_booted'), term.values));
    case 'label':
      return host(some(term.values.map(({ key, value }) => labelled(sql.ref('host.id'), key, value, engine))));
    case 'waiver':
      // Twice, for the index of those that people decided about.
      return own(
        sql<boolean>`(finding.disposition = 2 and finding.disposition > 0 and ${anyOf(walked('finding.waiver_id', engine), term.values)})`,
      );
  }
}

/** Came back, or ended, on a host that is asked for. `since`: changes are kept by the minute they fell into. */
function turnedSince(turn: 'reopened' | 'resolved', since: Instant, around: Around): Condition {
  const from = (Math.floor(since / 60_000) + 1) * 60_000;
  const cameBack = sql<boolean>`(finding.episode > 1 and finding.opened_at >= ${from})`;
  if (turn === 'reopened') return theirs([PRESENT, ...ENDED], cameBack, around);
  // What came back since may have ended since, before that.
  const before = sql<boolean>`(${cameBack} and exists (select 1 from episode where episode.host_id = finding.host_id
    and episode.group_id = finding.group_id and episode.closed_at >= ${from}))`;
  return some([theirs([PRESENT], before, around), theirs(ENDED, sql<boolean>`finding.resolved_at >= ${from}`, around)]);
}

function flagIs(flag: Exclude<FilterFlag, 'stale'>, around: Around): Condition {
  const { now, engine, hosts } = around;
  const alsoTheirs = (onAll: Condition, condition: () => Condition): Condition =>
    hosts.length === 0 ? onAll : alsoOn(onAll, theirs([PRESENT, ...ENDED], condition(), around));
  switch (flag) {
    case 'regressed':
      return alsoTheirs(
        sql<boolean>`exists (select 1 from group_count as c where c.group_id = finding_group.id and c.reopened > 0)`,
        () => sql<boolean>`(finding.is_open = 1 and finding.episode > 1)`,
      );
    case 'flapping':
      return alsoTheirs(
        sql<boolean>`finding_group.flapping_until > ${clock(now)}`,
        () => sql<boolean>`${flappingEnd(engine)} > ${clock(now)}`,
      );
    case 'assigned':
      return sql<boolean>`finding_group.assignee is not null`;
    case 'signature':
      return sql<boolean>`finding_group.kind = 'provenance'`;
  }
}

/** A control, or all of a framework: `;` follows on `:`. */
function controlIs(value: string): Condition {
  return value.includes(':')
    ? sql<boolean>`rule_control.control = ${value}`
    : sql<boolean>`(rule_control.control > ${`${value}:`} and rule_control.control < ${`${value};`})`;
}

function clock(now: Instant | undefined): Instant {
  if (now === undefined) throw new TypeError('a filter that the clock decides needs `now`');
  return now;
}

/** SQLite asks our own matcher; PostgreSQL gets the same glob as a regular expression, which it matches without backtracking. */
function subjectIs(glob: string, engine: EngineKind): Condition {
  if (engine === 'sqlite') return sql<boolean>`bp_glob(${glob}, finding_group.subject) = 1`;
  return sql<boolean>`finding_group.subject ~ ${regexOf(parseGlob(glob, glob.startsWith('/') ? 'path' : 'text'))}`;
}

function below(tree: string): Condition {
  return sql<boolean>`(finding_group.subject = ${`/${tree}`} or
    (finding_group.subject >= ${`/${tree}/`} and finding_group.subject < ${`/${tree}0`}))`;
}

/** The signature is JSON text, so a word of it begins behind a quote. */
function changeIs(change: 'added' | 'removed' | 'modified' | 'differs'): Condition {
  const begins = (word: string) =>
    sql<boolean>`substr(finding_group.signature, 1, ${sql.lit(word.length + 1)}) = ${`"${word}`}`;
  const onFiles = sql<boolean>`finding_group.kind in ('drift', 'secret')`;
  if (change === 'differs')
    return sql<boolean>`(${onFiles} and (${begins('differs')} or ${begins('modified;differs')}))`;
  const own = begins(change);
  return change === 'modified'
    ? sql<boolean>`(${onFiles} and (${own} or ${begins('differs')}))`
    : sql<boolean>`(${onFiles} and ${own})`;
}

/** In the subject or the rule, whatever the case of ASCII letters. */
function contains(text: string): Condition {
  const pattern = `%${text.toLowerCase().replaceAll(/[\\%_]/g, (char) => `\\${char}`)}%`;
  return sql<boolean>`(lower(finding_group.subject) like ${pattern} escape '\\'
    or lower(finding_group.rule) like ${pattern} escape '\\')`;
}
