/**
 * A filter line (src/finding/filter.ts) as conditions on rows. What is about the group stands on its own row; what is about hosts is
 * asked of one and the same finding, so that a list of groups is the list of findings that match, grouped.
 */
import { sql, type RawBuilder } from 'kysely';
import { ageBound, type FilterLine, type FilterTerm } from '#src/finding/filter.ts';
import { TREES } from '#src/manifest/entry.ts';
import { parseGlob, regexOf } from '#src/policy/paths.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
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
  readonly group: readonly Condition[];
  /** On tables `finding`, `host` and `pulse`. */
  readonly host: readonly Condition[];
  /** Hosts are named, so they are few: what they have is looked up once. */
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
  const group: Condition[] = [];
  const host: Condition[] = [];
  for (const term of line) {
    const has = (value: string): boolean => (term.values as readonly string[]).includes(value) !== term.negated;
    if (term.field === 'sev')
      severities = (severities ?? [0, 1, 2, 3, 4]).filter((severity) => has(SEVERITIES[severity]));
    else if (term.field === 'status') statuses = (statuses ?? [...STATUSES]).filter(has);
    else {
      const { about, condition } = conditionOf(term, now, engine);
      const whole = term.negated ? sql<boolean>`not ${condition}` : condition;
      (about === 'group' ? group : host).push(whole);
    }
  }
  if (scope !== null && scope !== undefined) host.push(within(walked('host.host_group', engine), scope));
  const namesHosts = line.some(({ field, negated }) => field === 'host' && !negated);
  return { severities, statuses, group, host, namesHosts };
}

/**
 * A column that SQLite must not drive the query from: without statistics it would take every finding of a large host group, and sort
 * them. Walking the list's own index stops when the page is full. PostgreSQL knows how many rows each way has.
 */
function walked(column: string, engine: EngineKind): RawBuilder<unknown> {
  return engine === 'sqlite' ? sql`+${sql.ref(column)}` : sql.ref(column);
}

/** Hosts of these groups and of those below them (src/finding/scope.ts). */
export function within(column: RawBuilder<unknown>, scope: readonly string[]): Condition {
  if (scope.length === 0) return sql<boolean>`(1 = 0)`;
  return some(
    // `0` follows on `/`, so this is all that begins with the group and a slash.
    scope.map(
      (group) => sql<boolean>`(${column} = ${group} or (${column} > ${`${group}/`} and ${column} < ${`${group}0`}))`,
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

function conditionOf(
  term: Rest,
  now: Instant | undefined,
  engine: EngineKind,
): { readonly about: 'group' | 'host'; readonly condition: Condition } {
  const group = (condition: Condition) => ({ about: 'group', condition }) as const;
  const host = (condition: Condition) => ({ about: 'host', condition }) as const;
  switch (term.field) {
    case 'rule':
      return group(anyOf(sql.ref('finding_group.rule'), term.values));
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
      return group(
        sql<boolean>`exists (select 1 from group_change as g where g.group_id = finding_group.id
          and g.at > ${since} and g.kind = ${sql.lit(term.field)})`,
      );
    }
    case 'assignee':
      return group(anyOf(sql.ref('finding_group.assignee'), term.values));
    case 'age':
      return group(
        some(
          term.values.map(({ older, ms }) => {
            const bound = ageBound(ms, clock(now));
            return older
              ? sql<boolean>`finding_group.first_seen <= ${bound}`
              : sql<boolean>`finding_group.first_seen > ${bound}`;
          }),
        ),
      );
    case 'text':
      return group(some(term.values.map(contains)));
    case 'is': {
      // Staleness is of a host; the other flags are of the group. A term of both asks the finding.
      const flags = term.values.map((flag): Condition => {
        switch (flag) {
          case 'stale':
            return sql<boolean>`pulse.silent_after <= ${clock(now)}`;
          case 'regressed':
            return sql<boolean>`exists (select 1 from group_count as c where c.group_id = finding_group.id and c.reopened > 0)`;
          case 'flapping':
            return sql<boolean>`finding_group.flapping_until > ${clock(now)}`;
          case 'assigned':
            return sql<boolean>`finding_group.assignee is not null`;
        }
      });
      return (term.values.includes('stale') ? host : group)(some(flags));
    }
    case 'group':
      return host(anyOf(walked('host.host_group', engine), term.values));
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
      return host(anyOf(walked('host.image_booted', engine), term.values));
    case 'label':
      return host(
        some(
          term.values.map(
            ({ key, value }) => sql<boolean>`exists (select 1 from host_label as l
              where l.host_id = finding.host_id and l.key = ${key} and l.value = ${value})`,
          ),
        ),
      );
    case 'waiver':
      return host(
        sql<boolean>`(finding.disposition = 2 and ${anyOf(walked('finding.waiver_id', engine), term.values)})`,
      );
  }
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
