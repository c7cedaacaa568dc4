/**
 * One act on many findings (docs/findings.md, section 5): first what it would do, under a token that freezes what it covers; then the
 * act, once for a key, in steps that may be cut off; then a quarter of an hour in which it can be taken back.
 */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import type { FilterLine } from '#src/finding/filter.ts';
import { BULK_CHUNK, BULK_ITEMS_MAX } from '#src/limits.ts';
import type { Principal } from '#server/access/principal.ts';
import type { Deps } from '#server/deps.ts';
import type { Ack, Bulk, BulkItem, Disposition, NewJob } from '#server/store/records.ts';
import type { BulkPlan } from '#server/store/decided.ts';
import { acknowledging, ackUntil, withdrawing } from './findings.ts';
import { readLine } from './line.ts';
import { actOf, DecisionError, isTheirs, mustBe } from './may.ts';

export type BulkDeps = Pick<Deps, 'store' | 'clock' | 'random'> & { readonly wake: () => void };

/** Goes on with an act that was begun; payload `{bulk}`. */
export const BULK_JOB = 'bulk';

const PREVIEW_MS = 15 * 60_000;
const UNDO_MS = 15 * 60_000;
/** Findings that an answer waits for; what is more is a job's. */
const AT_ONCE = 1000;

/** What is done, as it is kept with the act: ends are moments by then. */
export const BulkTerms = z.discriminatedUnion('action', [
  z.strictObject({ action: z.literal('acknowledge'), until: z.int(), note: z.string().nullable() }),
  z.strictObject({ action: z.literal('unacknowledge'), note: z.string().nullable() }),
  z.strictObject({ action: z.literal('assign'), assignee: z.string().nullable(), note: z.string().nullable() }),
]);
export type BulkTerms = z.infer<typeof BulkTerms>;

export type BulkWanted = {
  readonly terms:
    | { readonly action: 'acknowledge'; readonly until: Instant | null; readonly note: string | null }
    | Exclude<BulkTerms, { action: 'acknowledge' }>;
  /** A filter line, or the very findings; of an act that is about groups, their ids. */
  readonly cover:
    | { readonly kind: 'filter'; readonly q: string; readonly all: boolean }
    | { readonly kind: 'items'; readonly items: readonly { readonly hostId: string; readonly groupId: string }[] };
};

export type BulkPreview = {
  readonly token: string;
  readonly matched: number;
  readonly changes: number;
  readonly hosts: number;
  readonly skipped: readonly { readonly reason: string; readonly count: number }[];
  readonly asOf: Instant;
  readonly expiresAt: Instant;
};

/** Writes down what the act covers, and says what it would do. @throws {DecisionError | FilterError} */
export async function previewBulk({ terms, cover }: BulkWanted, who: Principal, deps: BulkDeps): Promise<BulkPreview> {
  const now = deps.clock();
  const may = mayDo(terms.action, who);
  const kept: BulkTerms = terms.action === 'acknowledge' ? { ...terms, until: ackUntil(terms.until, now) } : terms;
  const covered = await coverOf(kept, cover, may, now, deps);
  const id = `b_${Buffer.from(deps.random(20)).toString('hex')}`;
  const bulk = await deps.store.bulks.preview(
    {
      id,
      actor: who.id,
      action: kept.action === 'assign' ? 'group.assign' : `finding.${kept.action}`,
      terms: kept,
      filter: cover.kind === 'filter' ? { q: cover.q } : { items: cover.items.length },
      asOf: now,
      expiresAt: now + PREVIEW_MS,
    },
    covered,
  );
  if (bulk === undefined)
    throw new DecisionError(
      'BULK_TOO_WIDE',
      `it matches more than ${BULK_ITEMS_MAX.toLocaleString('en')} findings: narrow the filter, and do it in parts`,
    );
  return { token: id, ...(await forecast(bulk, kept, deps)), asOf: now, expiresAt: bulk.expiresAt };
}

function mayDo(action: BulkTerms['action'], who: Principal): Principal {
  return mustBe(who, action === 'assign' ? 'assign findings' : 'acknowledge findings', 'operator', 'reviewer', 'admin');
}

async function coverOf(
  terms: BulkTerms,
  cover: BulkWanted['cover'],
  who: Principal,
  now: Instant,
  { store }: BulkDeps,
): Promise<Parameters<typeof store.bulks.preview>[1]> {
  if (cover.kind === 'items' && terms.action === 'assign') {
    const values = [...new Set(cover.items.map(({ groupId }) => groupId))];
    const line: FilterLine = [{ field: 'id', negated: false, values }];
    return { kind: 'groups', filter: { line, scope: who.groups, now } };
  }
  if (cover.kind === 'items') {
    if (who.groups !== null) {
      const hosts = await store.hosts.getMany(cover.items.map(({ hostId }) => hostId));
      const foreign = cover.items.find(({ hostId }) => !isTheirs(who, hosts.get(hostId)?.group ?? null));
      if (foreign !== undefined)
        throw new DecisionError('FINDING_UNKNOWN', `host ${foreign.hostId} has no such finding`);
    }
    return { kind: 'items', items: cover.items };
  }
  const line = await readLine(cover.q, store);
  // An empty filter is everything, and is never meant by mistake: it has to be said.
  if (line.length === 0 && !cover.all)
    throw new DecisionError(
      'BULK_TOO_WIDE',
      'an empty filter is every finding of the fleet; say all: true if that is meant',
    );
  const filter = { line, scope: who.groups, now };
  return terms.action === 'assign' ? { kind: 'groups', filter } : { kind: 'findings', filter };
}

/** What becomes of the items, as they stand now. */
async function forecast(
  bulk: Bulk,
  terms: BulkTerms,
  { store }: BulkDeps,
): Promise<Pick<BulkPreview, 'matched' | 'changes' | 'hosts' | 'skipped'>> {
  if (terms.action === 'assign') return { matched: bulk.matched, changes: bulk.matched, hosts: 0, skipped: [] };
  const summary = await store.bulks.summary(bulk.id);
  const skipped: { reason: string; count: number }[] = [];
  const changing: Disposition[] = [];
  let changes = 0;
  for (const { disposition, count } of summary) {
    const reason = whyNot(terms.action, disposition);
    if (disposition === null || reason !== null) skipped.push({ reason: reason ?? 'resolved', count });
    else {
      changes += count;
      changing.push(disposition);
    }
  }
  const hosts = changing.length === 0 ? 0 : await store.bulks.hostsIn(bulk.id, changing);
  return { matched: bulk.matched, changes, hosts, skipped };
}

function whyNot(action: 'acknowledge' | 'unacknowledge', disposition: Disposition | null): string | null {
  if (disposition === null) return 'resolved';
  if (disposition === 'waived') return 'waived';
  return action === 'unacknowledge' && disposition === 'none' ? 'not_acknowledged' : null;
}

/** Does what was previewed. The same key again gets the same act's state. @throws {DecisionError} */
export async function applyBulk(token: string, key: string, who: Principal, deps: BulkDeps): Promise<Bulk> {
  const bulk = await bulkOf(token, who, deps);
  const now = deps.clock();
  // Roles and hosts may have moved since it was looked at.
  const { groups } = mayDo(BulkTerms.parse(bulk.terms).action, who);
  const begun = await deps.store.bulks.begin(bulk.id, key, actOf(who, now), groups, [bulkJob(bulk.id, now)]);
  if (begun === undefined)
    throw new DecisionError(
      'BULK_OVER',
      bulk.state === 'previewed'
        ? 'this preview is older than 15 minutes; look at it again, things may have changed'
        : 'it was applied already, under another Idempotency-Key',
    );
  return carryOn(begun.id, deps, AT_ONCE);
}

function bulkJob(id: string, runAt: Instant): NewJob {
  return { kind: BULK_JOB, dedupeKey: `${BULK_JOB}:${id}`, runAt, payload: { bulk: id } };
}

/** An act of theirs. @throws {DecisionError} BULK_UNKNOWN */
export async function bulkOf(id: string, who: Principal, { store }: Pick<BulkDeps, 'store'>): Promise<Bulk> {
  const bulk = await store.bulks.get(id);
  if (bulk === undefined || bulk.actor !== who.id)
    throw new DecisionError('BULK_UNKNOWN', 'there is no such act of yours; previews are kept for 15 minutes');
  return bulk;
}

/** Carries an act on, at most `limit` items; ends it where nothing is left. */
export async function carryOn(id: string, deps: BulkDeps, limit = Infinity, signal?: AbortSignal): Promise<Bulk> {
  const { store, clock } = deps;
  const bulk = await store.bulks.get(id);
  if (bulk === undefined) throw new DecisionError('BULK_UNKNOWN', 'there is no such act');
  if (bulk.state !== 'applying') return bulk;
  const plan = await planOf(bulk, deps);
  for (let done = 0; done < limit;) {
    if (signal?.aborted === true) break;
    const by = { actor: bulk.actor, at: bulk.appliedAt ?? clock() };
    const looked = await store.bulks.step(id, Math.min(BULK_CHUNK, limit - done), plan, by);
    done += looked;
    if (looked > 0) continue;
    const undoUntil = bulk.undoes === null ? clock() + UNDO_MS : null;
    // What was said of it stands in the story of every group that it changed.
    const note = bulk.undoes === null ? BulkTerms.parse(bulk.terms).note : null;
    await store.bulks.end(id, actOf({ id: bulk.actor }, clock(), note), undoUntil);
    break;
  }
  deps.wake();
  return (await store.bulks.get(id)) ?? bulk;
}

async function planOf(bulk: Bulk, { store }: BulkDeps): Promise<BulkPlan> {
  const terms = BulkTerms.parse(bulk.terms);
  const at = bulk.appliedAt ?? bulk.asOf;
  if (bulk.undoes !== null) {
    const undone = await store.bulks.get(bulk.undoes);
    return backPlan(terms, bulk, undone?.appliedAt ?? 0);
  }
  if (terms.action === 'assign') return { kind: 'assign', to: () => ({ assignee: terms.assignee }) };
  if (terms.action === 'unacknowledge') {
    const disposal = withdrawing({ id: bulk.actor }, at);
    return { kind: 'dispose', disposal: ({ groupId }) => disposal(groupId) };
  }
  const ack: Ack = { by: bulk.actor, at, until: terms.until, note: terms.note };
  const disposal = acknowledging(ack);
  return { kind: 'dispose', disposal: ({ groupId }) => disposal(groupId) };
}

/** Takes back what the act made, and nothing that somebody decided since. */
function backPlan(terms: BulkTerms, { actor, appliedAt, asOf }: Bulk, madeAt: Instant): BulkPlan {
  if (terms.action === 'assign')
    return {
      kind: 'assign',
      to: ({ before }) => ({
        assignee: (before as { readonly assignee: string | null }).assignee,
        expect: terms.assignee,
      }),
    };
  return {
    kind: 'dispose',
    disposal: ({ groupId, before }: BulkItem) => {
      const { ack } = before as { readonly ack: Ack | null };
      if (terms.action === 'unacknowledge')
        return ack === null ? null : { groupId, from: ['none'], to: { kind: 'acknowledged', ack } };
      const made = { groupId, from: ['acknowledged'], ofAck: madeAt } as const;
      return ack === null
        ? {
            ...made,
            to: { kind: 'none', why: { how: 'acknowledgement_withdrawn', what: actor, at: appliedAt ?? asOf } },
          }
        : { ...made, to: { kind: 'acknowledged', ack } };
    },
  };
}

/** Takes an act back, within a quarter of an hour. @throws {DecisionError} */
export async function undoBulk(id: string, who: Principal, deps: BulkDeps): Promise<Bulk> {
  const bulk = await bulkOf(id, who, deps);
  const now = deps.clock();
  const { groups } = mayDo(BulkTerms.parse(bulk.terms).action, who);
  const begun = await deps.store.bulks.undo(bulk.id, actOf(who, now), groups, [bulkJob(`${bulk.id}.undo`, now)]);
  if (begun === undefined)
    throw new DecisionError(
      'BULK_OVER',
      bulk.state === 'undone' ? 'it was taken back already' : 'it can be taken back for 15 minutes after it was done',
    );
  return carryOn(begun.id, deps, AT_ONCE);
}
