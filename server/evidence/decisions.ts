/**
 * Waivers, acknowledgements and policies of a period (docs/evidence.md 3.3), from the trail and where its lines stand in the log. Waivers come one by
 * one; acknowledgements are collected, a person's acts.
 */
import type { Instant } from '#src/clock.ts';
import { formatInstant } from '#src/clock.ts';
import { digestOf } from '#src/digest.ts';
import type { DecisionFact, PolicyFact } from '#src/evidence/facts.ts';
import type { Scope } from '#src/finding/scope.ts';
import { stateOf, type Waiver } from '#src/finding/waiver.ts';
import { EXPORT_PAGE, EXPORT_REPORTS_BACK } from '#src/limits.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { pinsShown } from '#server/decisions/waiverterms.ts';
import { effectOf, waiverAsKnown } from '#server/posturefacts.ts';
import type { LogCut, Range } from '#server/store/evidencerecords.ts';
import { auditRef } from '#server/store/logpayload.ts';
import type { AuditEntry, Page } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { configurationIn, ConfigurationNote } from '#server/trust/basis.ts';
import type { TrustFiles } from '#server/trust/setup.ts';

export type DecisionsAbout = {
  readonly store: Store;
  readonly cut: LogCut;
  readonly period: Range;
  readonly exportedAt: Instant;
};

const NOTE_MAX = 8192;
const text = (value: string): string => value.slice(0, NOTE_MAX);

/** Where acts stand in this log; null for one of an older log, and before there was any. */
async function indexesOf(
  acts: readonly AuditEntry[],
  { store, cut }: Pick<DecisionsAbout, 'store' | 'cut'>,
): Promise<ReadonlyMap<string, number | null>> {
  const places = await store.postures.places(acts.map(({ id }) => auditRef(id)));
  return new Map(
    acts.map(({ id }) => {
      const place = places.get(auditRef(id));
      return [id, place?.log === cut.log && place.index < cut.size ? place.index : null];
    }),
  );
}

async function historyOf(acts: readonly AuditEntry[], about: DecisionsAbout): Promise<DecisionFact['history']> {
  const indexes = await indexesOf(acts, about);
  return acts
    .toSorted((a, b) => a.at - b.at || (indexes.get(a.id) ?? -1) - (indexes.get(b.id) ?? -1))
    .map(({ id, at, actor, action, note }) => ({
      index: indexes.get(id) ?? null,
      at: formatInstant(at),
      actor,
      action,
      note: note === null ? null : text(note),
    }));
}

/** How a waiver may be shown in a bundle of a part; undefined: not at all. */
export type Shown = (waiver: Waiver) => 'whole' | 'apart' | undefined;

/**
 * Waivers that were decided about, or in force, in the period, newest first. One that reaches beyond a part is told by its terms alone: its
 * acts hold the names of others, so they are not in the bundle, nor is pinned content that no host of the part's groups shows.
 */
export async function* waiverFacts(shown: Shown, scope: Scope, about: DecisionsAbout): AsyncGenerator<DecisionFact> {
  const { store, period, exportedAt } = about;
  let cursor: { readonly n: number } | null = null;
  do {
    const page: Page<Waiver, { readonly n: number }> = await store.waivers.list(
      { now: exportedAt },
      { cursor, limit: EXPORT_PAGE },
    );
    for (const now of page.items) {
      const how = shown(now);
      if (how === undefined || now.requestedAt >= period.to) continue;
      const acts = await store.postures.acts(`waiver:${now.id}`, period.to - 1, EXPORT_REPORTS_BACK);
      const waiver = (await waiverAsKnown(now, period.to - 1, store)) ?? now;
      const effect = effectOf(waiver);
      const inForce = effect !== undefined && effect.from < period.to && effect.until > period.from;
      if (!inForce && !acts.some(({ at }) => at >= period.from)) continue;
      const told = how === 'apart' && scope !== null ? await apartOf(waiver, scope, store) : waiver;
      yield waiverFact(told, await historyOf(acts, about), how, period.to);
    }
    cursor = page.next;
  } while (cursor !== null);
}

async function apartOf(waiver: Waiver, scope: Scope, store: Store): Promise<Waiver> {
  const { content } = waiver.selector;
  if (content === 'any') return waiver;
  return {
    ...waiver,
    selector: { ...waiver.selector, content: { pins: await pinsShown(content.pins, scope, store) } },
  };
}

function waiverFact(
  waiver: Waiver,
  history: DecisionFact['history'],
  how: 'whole' | 'apart',
  to: Instant,
): DecisionFact {
  const effect = effectOf(waiver);
  const { hosts: _, ...others } = waiver.selector;
  const apart = how === 'apart';
  return {
    id: waiver.id,
    kind: 'waiver',
    state: stateOf(waiver, to - 1),
    title: text(waiver.title),
    justification: text(waiver.justification),
    ticket: waiver.ticket,
    covers: text(JSON.stringify(apart ? others : waiver.selector)),
    requestedBy: waiver.requestedBy,
    requestedAt: formatInstant(waiver.requestedAt),
    decidedBy: waiver.decidedBy,
    decidedAt: waiver.decidedAt === null ? null : formatInstant(waiver.decidedAt),
    alone: waiver.alone,
    startsAt: effect === undefined ? null : formatInstant(effect.from),
    endsAt: effect === undefined ? null : formatInstant(effect.until),
    history: apart ? history.map((step) => ({ ...step, index: null, note: null })) : history,
  };
}

export const isAcknowledgement = (action: string): boolean => /\.(?:un)?acknowledge$/.test(action);

/** Acknowledgements that were given or taken back in the period, by what they are about. */
export async function acknowledgementFacts(
  acts: readonly AuditEntry[],
  about: DecisionsAbout,
): Promise<readonly DecisionFact[]> {
  const byObject = new Map<string, AuditEntry[]>();
  for (const act of acts) byObject.set(act.object, [...(byObject.get(act.object) ?? []), act]);
  const out: DecisionFact[] = [];
  for (const [object, own] of [...byObject].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const history = await historyOf(own, about);
    const first = history[0]!;
    const last = history.at(-1)!;
    const isGiven = !last.action.endsWith('unacknowledge');
    const until = (own.at(-1)!.after as { readonly until?: number } | null)?.until;
    out.push({
      id: object.slice(0, 400),
      kind: 'acknowledgement',
      state: isGiven ? 'acknowledged' : 'withdrawn',
      title: text(`acknowledgement of ${object}`),
      justification: text(last.note ?? ''),
      ticket: null,
      covers: text(object),
      requestedBy: first.actor,
      requestedAt: first.at,
      decidedBy: null,
      decidedAt: null,
      alone: true,
      startsAt: first.at,
      endsAt: typeof until === 'number' ? formatInstant(until) : null,
      history,
    });
  }
  return out;
}

/** A document of a policy, as a member of the bundle. */
export type PolicyMember = { readonly name: string; readonly text: string };
export type PolicyFound = { readonly fact: PolicyFact; readonly members: readonly PolicyMember[] };

/** A name that a member may have, out of a path. */
const fileWord = (file: string): string =>
  (file.split('/').at(-1) ?? '')
    .replaceAll(/[^A-Za-z0-9._-]/g, '_')
    .replace(/^\.+/, '')
    .slice(-100) || 'document';

function membersOf(prefix: string, documents: readonly { readonly file: string; readonly text: string }[]) {
  const taken = new Set<string>();
  return documents.map(({ file, text: content }) => {
    let name = `policies/${prefix}-${fileWord(file)}`;
    for (let n = 2; taken.has(name); n++) name = `policies/${prefix}-${n}-${fileWord(file)}`;
    taken.add(name);
    return { file, name, text: content, digest: digestOf(content, nodeSha256) };
  });
}

/** Versions of the host policy in force in the period, oldest first. */
export async function hostPolicies(about: DecisionsAbout): Promise<readonly PolicyFound[]> {
  const { store, period } = about;
  const out: PolicyFound[] = [];
  let until: Instant | null = null;
  const head = await store.policies.head();
  for (let n = head ?? 0; n >= 1; n--) {
    const version = await store.policies.get(n);
    if (version === undefined) continue;
    const to: Instant | null = until;
    until = version.createdAt;
    if (version.createdAt >= period.to) continue;
    const [act] = await store.postures.acts(`policy:${n}`, version.createdAt, 1);
    const index = act === undefined ? null : ((await indexesOf([act], about)).get(act.id) ?? null);
    const members = membersOf(`host-${n}`, version.documents);
    out.unshift({
      fact: {
        kind: 'host',
        version: n,
        digest: version.digest,
        name: text(version.name),
        documents: members.map(({ file, name, digest }) => ({ file: text(file), member: name, digest })),
        inForce: { from: formatInstant(version.createdAt), to: to === null ? null : formatInstant(to) },
        by: version.createdBy,
        note: version.note === null ? null : text(version.note),
        index,
      },
      members,
    });
    // The one before was over when this began.
    if (version.createdAt <= period.from) break;
  }
  return out;
}

const CONFIGURED = 'image-policy.configure';

/** Image policies in force from the period's begin until the export, oldest first: images may have been judged since. */
export async function imagePolicies(about: DecisionsAbout): Promise<readonly PolicyFound[]> {
  const { store, period, exportedAt } = about;
  const acts = (await store.postures.acts('image-policy', exportedAt, EXPORT_REPORTS_BACK))
    .filter(({ action }) => action === CONFIGURED)
    .reverse();
  const indexes = await indexesOf(acts, about);
  const out: PolicyFound[] = [];
  for (const [i, act] of acts.entries()) {
    const to = acts[i + 1]?.at ?? null;
    const blob = ConfigurationNote.safeParse(act.after).data?.blob ?? null;
    if (blob === null || (to !== null && to <= period.from)) continue;
    const files: TrustFiles | undefined = (await configurationIn(blob, store))?.files;
    const members = membersOf(`image-${i + 1}`, files?.policies ?? []);
    out.push({
      fact: {
        kind: 'image',
        version: i + 1,
        digest: blob,
        name: 'image policy',
        documents: members.map(({ file, name, digest }) => ({ file: text(file), member: name, digest })),
        inForce: { from: formatInstant(act.at), to: to === null ? null : formatInstant(to) },
        by: act.actor,
        note: act.note === null ? null : text(act.note),
        index: indexes.get(act.id) ?? null,
      },
      members,
    });
  }
  return out;
}
