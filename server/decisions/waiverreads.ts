/**
 * Waivers as one person may read them (docs/findings.md 3.13): those that reach hosts of theirs, with these hosts counted, and with no
 * host and no host group named that is not theirs. Every face reads them here: lists, counts, pages, the story of each.
 */
import type { Instant } from '#src/clock.ts';
import { covers, intersection, lies, type Scope } from '#src/finding/scope.ts';
import { stateOf, WAIVER_STATES, type Waiver, type WaiverState } from '#src/finding/waiver.ts';
import { acting, type Principal, type Role } from '#server/access/principal.ts';
import type { AuditEntry, Page } from '#server/store/records.ts';
import { waiversInEffect } from '#server/posturefacts.ts';
import type { AuditCursor, PageRequest, Store } from '#server/store/store.ts';
import { DecisionError } from './may.ts';
import { pinsShown } from './waiverterms.ts';

/** Who reads waivers at all: what is excepted, and why, is for those who decide, ask, or look after it. */
export const WAIVER_READERS = [
  'auditor',
  'operator',
  'reviewer',
  'policy_editor',
  'admin',
] as const satisfies readonly Role[];

type Reads = { readonly store: Pick<Store, 'waivers' | 'hosts' | 'audit' | 'findings' | 'images' | 'read'> };
type Filter = Parameters<Store['waivers']['list']>[0];
export type WaiverCounts = Awaited<ReturnType<Store['waivers']['count']>>;

/** A waiver as it is shown. */
export type ShownWaiver = Waiver & {
  /** It reaches hosts that are not the reader's; those, and their groups, are not named. */
  readonly beyond: boolean;
};

/** Where they read waivers; undefined where nowhere. */
const scopeOf = (who: Principal): Scope | undefined => acting(who, ...WAIVER_READERS)?.groups;

type WaiverPage = Page<Waiver, { readonly n: number }>;
type ByNumber = PageRequest<{ readonly n: number }>;

/** Waivers of theirs, newest first. */
export function listWaivers(
  filter: Filter,
  page: ByNumber,
  who: Principal,
  { store }: Reads,
): Promise<Page<ShownWaiver, { readonly n: number }>> {
  return theirsOf((asked) => store.waivers.list(filter, asked), page, who, store);
}

/** Those of theirs that had an effect at some time of a period, as it was known at a moment. */
export function waiversOfPeriod(
  period: { readonly from: Instant; readonly to: Instant },
  known: Instant,
  page: ByNumber,
  who: Principal,
  { store }: { readonly store: Reads['store'] & Pick<Store, 'postures'> },
): Promise<Page<ShownWaiver, { readonly n: number }>> {
  return theirsOf((asked) => waiversInEffect(period, known, asked, store), page, who, store);
}

async function theirsOf(
  find: (page: ByNumber) => Promise<WaiverPage>,
  page: ByNumber,
  who: Principal,
  store: Reads['store'],
): Promise<Page<ShownWaiver, { readonly n: number }>> {
  const scope = scopeOf(who);
  if (scope === undefined) return { items: [], next: null };
  const items: ShownWaiver[] = [];
  let { cursor } = page;
  for (;;) {
    const found = await find({ cursor, limit: page.limit });
    for (const [at, waiver] of found.items.entries()) {
      if (!(await isTheirs(waiver, who, scope, store))) continue;
      items.push(await shown(waiver, who, scope, store));
      // Full: it goes on behind this one, if anything is there.
      if (items.length === page.limit)
        return {
          items,
          next: at === found.items.length - 1 && found.next === null ? null : { n: Number(waiver.id.slice(2)) },
        };
    }
    if (found.next === null) return { items, next: null };
    cursor = found.next;
  }
}

/** Of these ids, those of waivers that they may read; undefined where they read none anywhere. */
export async function readableWaivers(
  ids: readonly string[],
  who: Principal,
  { store }: Reads,
): Promise<ReadonlySet<string> | undefined> {
  const scope = scopeOf(who);
  if (scope === undefined) return undefined;
  const readable = await Promise.all(
    ids.map(async (id) => {
      const waiver = await store.waivers.get(id);
      return waiver !== undefined && (await isTheirs(waiver, who, scope, store)) ? [id] : [];
    }),
  );
  return new Set(readable.flat());
}

/** Numbers of the lists, as the reader sees them. */
export async function countWaivers(
  now: Instant,
  expiringBefore: Instant,
  who: Principal,
  { store }: Reads,
): Promise<WaiverCounts> {
  const scope = scopeOf(who);
  if (scope === null) return store.waivers.count(now, expiringBefore);
  const counts = Object.fromEntries(WAIVER_STATES.map((state) => [state, 0])) as Record<WaiverState, number>;
  let expiring = 0;
  if (scope === undefined) return { ...counts, expiring };
  let cursor: { readonly n: number } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.waivers.list>> = await store.waivers.list(
      { now },
      { cursor, limit: WALK },
    );
    for (const waiver of page.items) {
      if (!(await isTheirs(waiver, who, scope, store))) continue;
      const state = stateOf(waiver, now);
      counts[state]++;
      if (state === 'active' && waiver.expiresAt <= expiringBefore) expiring++;
    }
    cursor = page.next;
  } while (cursor !== null);
  return { ...counts, expiring };
}
const WALK = 200;

/** Those of theirs that have an effect, or will have one. */
export async function effectiveWaivers(
  now: Instant,
  who: Principal,
  { store }: Reads,
): Promise<readonly ShownWaiver[]> {
  const scope = scopeOf(who);
  if (scope === undefined) return [];
  const out: ShownWaiver[] = [];
  for (const waiver of (await store.waivers.effective(now)).waivers)
    if (await isTheirs(waiver, who, scope, store)) out.push(await shown(waiver, who, scope, store));
  return out;
}

/** @throws {DecisionError} WAIVER_UNKNOWN, also where it reaches no host of theirs. */
export async function readWaiver(id: string, who: Principal, { store }: Reads): Promise<ShownWaiver> {
  const waiver = await store.waivers.get(id);
  const scope = scopeOf(who);
  if (waiver === undefined || scope === undefined || !(await isTheirs(waiver, who, scope, store)))
    throw new DecisionError('WAIVER_UNKNOWN', `there is no waiver ${id}`);
  return shown(waiver, who, scope, store);
}

/** One that was just decided about, as it is shown to whoever did. */
export async function shownTo(waiver: Waiver, who: Principal, { store }: Reads): Promise<ShownWaiver> {
  const scope = scopeOf(who);
  return shown(waiver, who, scope === undefined ? [] : scope, store);
}

/** What waivers cover, on hosts that they see: as many as the list of it has. */
export async function useOf(
  ids: readonly string[],
  who: Principal,
  { store }: Reads,
): Promise<Awaited<ReturnType<Store['waivers']['use']>>> {
  return store.waivers.use(ids, who.groups);
}

/** Who did what with it, newest first; before and after as it is shown. @throws {DecisionError} WAIVER_UNKNOWN */
export async function waiverStory(
  id: string,
  page: PageRequest<AuditCursor>,
  who: Principal,
  { store }: Reads,
): Promise<Page<AuditEntry, AuditCursor>> {
  const scope = scopeOf(who);
  const { id: known } = await readWaiver(id, who, { store });
  const found = await store.audit.list({ object: `waiver:${known}` }, page);
  if (scope === null) return found;
  const items = await Promise.all(
    found.items.map(async (entry) => ({
      ...entry,
      before: await told(entry.before, who, scope ?? [], store),
      after: await told(entry.after, who, scope ?? [], store),
    })),
  );
  return { items, next: found.next };
}

/** The trail holds whole waivers, and the two words of one that came to its end. */
async function told(value: unknown, who: Principal, scope: Scope, store: Reads['store']): Promise<unknown> {
  if (typeof value !== 'object' || value === null || !('selector' in value)) return value;
  const { beyond: _, ...waiver } = await shown(value as Waiver, who, scope, store);
  return waiver;
}

/**
 * Whether it may reach a host of theirs. Their own request is theirs wherever it reaches; one that names no hosts, or groups alone, is
 * told without asking the database.
 */
async function isTheirs(
  { requestedBy, selector: { hosts }, scope: reach }: Waiver,
  { id }: Pick<Principal, 'id'>,
  scope: Scope,
  store: Reads['store'],
): Promise<boolean> {
  if (scope === null || requestedBy === id) return true;
  const both = intersection(reach, scope)!;
  if (both.length === 0) return false;
  if (hosts === undefined) return true;
  if (hosts.groups !== undefined && intersection(hosts.groups, both)!.length === 0) return false;
  return hosts.ids === undefined && hosts.labels === undefined ? true : store.waivers.reaches(hosts, [both]);
}

async function shown(
  waiver: Waiver,
  { id }: Pick<Principal, 'id'>,
  scope: Scope,
  store: Reads['store'],
): Promise<ShownWaiver> {
  // Whoever wrote it knows it.
  if (scope === null || waiver.requestedBy === id) return { ...waiver, beyond: false };
  const { hosts, content } = waiver.selector;
  const theirs =
    hosts?.ids === undefined
      ? undefined
      : [...(await store.hosts.getMany(hosts.ids)).values()]
          .filter(({ group }) => covers(scope, group))
          .map(({ id: host }) => host);
  const ids = theirs && hosts?.ids?.filter((host) => theirs.includes(host));
  const groups = hosts?.groups && [...intersection(hosts.groups, scope)!];
  const within =
    hosts?.groups !== undefined
      ? lies(hosts.groups, scope)
      : ids !== undefined
        ? ids.length === hosts!.ids!.length
        : lies(waiver.scope, scope);
  return {
    ...waiver,
    selector: {
      ...waiver.selector,
      // What lies within their hosts was pinned by what those show, or shown once.
      content: content === 'any' || within ? content : { pins: await pinsShown(content.pins, scope, store) },
      ...(hosts === undefined
        ? {}
        : {
            hosts: {
              ...hosts,
              ...(ids === undefined ? {} : { ids }),
              ...(groups === undefined ? {} : { groups }),
            },
          }),
    },
    // Of every host is told as that: it names nobody.
    scope: waiver.scope === null ? null : intersection(waiver.scope, scope),
    beyond: !within,
  };
}
