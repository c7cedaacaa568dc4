/**
 * What a report (or a new policy) makes of a host's findings: opened, reopened, resolved, unchanged. A person is nowhere in
 * here: people acknowledge and waive, only what a host shows opens and resolves (docs/policy.md, section 9).
 */
import { treeOf } from '#src/manifest/entry.ts';
import type { Seen } from '#src/policy/evaluate.ts';
import type { Judgement, JudgementKind, Severity } from '#src/policy/judgement.ts';
import { groupOf } from './group.ts';

/** What the machine sees. `unknown` is never stored: it is `present` on a host that fell silent. */
export type Observation = 'present' | 'absent' | 'unknown';
/** What people decided. */
export type Disposition = 'none' | 'acknowledged' | 'waived';
export type Status = 'open' | 'acknowledged' | 'waived' | 'stale' | 'resolved';

/** The one word that is shown, from what the machine sees and what people decided. */
export function statusOf(observation: Observation, disposition: Disposition): Status {
  if (observation === 'absent') return 'resolved';
  // Of a silent host nothing is known, so what was there still counts as open, waived or not.
  if (observation === 'unknown') return 'stale';
  return disposition === 'none' ? 'open' : disposition;
}

/** A stored finding of one host, as far as its life needs it. */
export type Held = {
  /** `groupOf(judgement)`. */
  readonly group: string;
  readonly kind: JudgementKind;
  readonly subject: string;
  readonly severity: Severity;
  readonly observation: 'present' | 'absent';
};

/** Why findings are looked at again. */
export type Cause =
  /** A newer accepted report; whether the booted image is another than that of the report before. */
  | { readonly kind: 'report'; readonly imageChanged: boolean }
  /** The last report again, under another policy. */
  | { readonly kind: 'policy' }
  /** An older report that came late: it touches nothing (PROTOCOL 3.5). */
  | { readonly kind: 'history' };

/** `superseded`: the same path differs in another way now. */
export type Resolution = 'reverted' | 'superseded' | 'host_updated' | 'policy_changed' | 'host_retired';

export type Changes<H extends Held> = {
  /** Not among the held ones. */
  readonly opened: readonly { readonly group: string; readonly judgement: Judgement }[];
  /** Seen before, resolved, and here again: same row, new episode; an acknowledgement does not come back. */
  readonly reopened: readonly { readonly held: H; readonly judgement: Judgement }[];
  readonly resolved: readonly { readonly held: H; readonly reason: Resolution }[];
  /** Still there, with a severity that policy rates otherwise now. */
  readonly rerated: readonly { readonly held: H; readonly severity: Severity }[];
  /** Still there: no row is written. */
  readonly unchanged: number;
  /** Not seen this time because it could not be read: kept as it was. */
  readonly kept: number;
};

/** `held`: the host's present findings, and those absent ones whose group a judgement names. */
export function advance<H extends Held>(
  held: Iterable<H>,
  judgements: readonly Judgement[],
  seen: Seen,
  cause: Cause,
): Changes<H> {
  const changes = { opened: [], reopened: [], resolved: [], rerated: [] } as {
    opened: { group: string; judgement: Judgement }[];
    reopened: { held: H; judgement: Judgement }[];
    resolved: { held: H; reason: Resolution }[];
    rerated: { held: H; severity: Severity }[];
  };
  let unchanged = 0;
  let kept = 0;
  // What was so in the past is history: the host has said newer things since.
  if (cause.kind === 'history') return { ...changes, unchanged, kept };

  // Two mounts over one another are one group on a host, as are two judgements of one thing.
  const now = new Map<string, Judgement>();
  for (const judgement of judgements) {
    const group = groupOf(judgement);
    if (!now.has(group)) now.set(group, judgement);
  }
  const reason = cause.kind === 'policy' ? 'policy_changed' : cause.imageChanged ? 'host_updated' : 'reverted';
  const stillDiffers = new Set(
    [...now.values()].filter(({ kind }) => ON_PATHS.has(kind)).map(({ subject }) => subject),
  );
  const couldSee = sight(seen);
  for (const finding of held) {
    const judgement = now.get(finding.group);
    now.delete(finding.group);
    if (finding.observation === 'absent') {
      if (judgement !== undefined) changes.reopened.push({ held: finding, judgement });
    } else if (judgement === undefined) {
      if (!couldSee(finding)) kept++;
      else if (reason === 'reverted' && ON_PATHS.has(finding.kind) && stillDiffers.has(finding.subject))
        changes.resolved.push({ held: finding, reason: 'superseded' });
      else changes.resolved.push({ held: finding, reason });
    } else if (judgement.severity !== finding.severity)
      changes.rerated.push({ held: finding, severity: judgement.severity });
    else unchanged++;
  }
  for (const [group, judgement] of now) changes.opened.push({ group, judgement });
  return { ...changes, unchanged, kept };
}

const ON_PATHS = new Set<JudgementKind>(['drift', 'secret', 'overlay', 'hole']);
const ON_TREES = new Set<JudgementKind>(['drift', 'secret', 'stale-config']);

/** Whether a finding, were it still so, would have been seen: only then does its absence mean anything. */
function sight(seen: Seen): (finding: Pick<Held, 'kind' | 'subject'>) => boolean {
  const kinds = new Set(seen.kinds);
  const holes = { usr: new Set(seen.trees.usr.holes), etc: new Set(seen.trees.etc.holes) };
  return ({ kind, subject }) => {
    if (!ON_TREES.has(kind)) return kinds.has(kind);
    // Stale only beside the image's older defaults: where those are not known, nothing was told.
    if (kind === 'stale-config' && !kinds.has(kind)) return false;
    // Escapes leave slashes alone, so folders of escaped paths are those of the paths.
    const tree = treeOf(subject);
    if (tree === undefined || !seen.trees[tree].told) return false;
    if (holes[tree].size === 0) return true;
    for (let end = subject.length; end > 0; end = subject.lastIndexOf('/', end - 1))
      if (holes[tree].has(subject.slice(0, end))) return false;
    return true;
  };
}
