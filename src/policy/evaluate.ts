/** One host's accepted report under a policy → judgements (docs/policy.md, section 6). Pure: no store, no clock. */
import { fromUtf8 } from '#src/bytes.ts';
import type { Instant } from '#src/clock.ts';
import type { DeploymentState, Overlay } from '#src/deployment/state.ts';
import type { Digest } from '#src/digest.ts';
import { driftJson, type Drift, type Hole, type Secret } from '#src/drift/drift.ts';
import { CLOCK_SKEW_MS } from '#src/limits.ts';
import { TREES, treeOf, type TreeName } from '#src/manifest/entry.ts';
import { vis } from '#src/manifest/vis.ts';
import type { Accounts } from '#src/report/report.ts';
import { areAccountsTold, judgeAccounts } from './accounts.ts';
import { freshnessOf, type Freshness, type Policy } from './document.ts';
import { fileRuleFor, pathChanges } from './files.ts';
import { NO_HOST, type HostFacts } from './host.ts';
import {
  REPORT_FLAGS,
  signatureOf,
  type Effect,
  type Judgement,
  type JudgementKind,
  type PathChange,
  type ProvenanceFault,
  type ReportFlag,
  type Stale,
} from './judgement.ts';
import {
  ageUnder,
  judgeAge,
  judgeContradictions,
  judgeEnforcement,
  judgeFlag,
  judgeHoles,
  judgeKargs,
  judgeLayered,
  judgeManifest,
  judgement,
  judgeOverlays,
  judgeProvenance,
  judgeRollback,
  judgeSilence,
  judgeStale,
  judgeTransientRoot,
  judgeVerity,
  UNNAMED,
  type Age,
  type JudgedAge,
  type Rollback,
} from './state.ts';

/** What the server has to compare with (PROTOCOL 2.7, 5). Without a manifest nothing is drift. */
export type ManifestState =
  | { readonly state: 'ready'; readonly image: Digest; readonly rule: string }
  | {
      readonly state: 'pending' | 'failed' | 'unknown' | 'not-allowed';
      /** The image digest, or what the host gave for one. */
      readonly image: string;
      /** `MANIFEST_PENDING`, `IMAGE_SOURCE_NOT_ALLOWED` … */
      readonly code: string;
      /** In words, for people; null where the code says it all. */
      readonly detail: string | null;
    };

/** What is held against who built the booted image (docs/provenance.md). */
export type ProvenanceState = {
  readonly image: string;
  /** False while nobody knows: then what was found before stands. */
  readonly told: boolean;
  readonly faults: readonly { readonly fault: ProvenanceFault; readonly why: string }[];
};

/**
 * Why a tree without holes is not known to be the image's. SECRET_PATHS_UNKNOWN: the host leaves out /etc's secrets by a list that the
 * server does not know, so /etc is held against nothing. CAPABILITIES_UNREAD: a tree's capabilities were not read.
 */
export type Untold = 'SECRET_PATHS_UNKNOWN' | 'CAPABILITIES_UNREAD';

/**
 * What is known of the host's silence: it is `over` where the report renews freshness (PROTOCOL 3.6); it was `noted`, and only such a
 * report ends it; or what is judged tells nothing of it.
 */
export type Silence = 'over' | 'noted' | 'untold';

/** What one accepted full report, and the server's memory of the host, give to judge. */
export type Evidence = {
  readonly manifest: ManifestState;
  readonly drift: readonly Drift[];
  readonly secrets: readonly Secret[];
  readonly trees: Readonly<Record<TreeName, { readonly holes: readonly Hole[]; readonly holesCapped: boolean }>>;
  readonly truncated: { readonly added: number; readonly removed: number; readonly modified: number } | null;
  readonly deployment: DeploymentState;
  /** What holds as of this report. `drift-truncated`, `holes-capped` and `clock-skew` are found here and need not be given. */
  readonly flags: readonly ReportFlag[];
  /** The host's clock minus the server's; null where it could not be told (carried by file). */
  readonly skewMs: number | null;
  readonly silence: Silence;
  /** The other importer's rule that explains a difference (PROTOCOL 2.2): a label, not drift. */
  readonly variant?: (drift: Drift) => string | undefined;
  /** Absent where every tree without holes could be held against the manifest. */
  readonly untold?: readonly Untold[];
  /** Absent where no image policy is configured. */
  readonly provenance?: ProvenanceState;
  /** What selectors and conditions of rules ask; absent: rules for some hosts are not about this one. */
  readonly host?: HostFacts;
  /** Accounts that are not the image's; null or absent where the host could not tell. */
  readonly accounts?: Accounts | null;
  /** Absent where the server does not know what the host booted before. */
  readonly lineage?: {
    /** Null where the defaults of an older image are not known. */
    readonly stale: readonly Stale[] | null;
    readonly rollback: Rollback | null;
  };
  readonly age?: Age;
};

/** What of the host could be told: only this may resolve (PROTOCOL 3.8, 3.9). */
export type Seen = {
  readonly trees: Readonly<
    Record<
      TreeName,
      {
        /** False: nothing in this tree may resolve (no manifest, truncated, capped, implausible, another list of secrets). */
        readonly told: boolean;
        /** Escaped paths; nothing at or below one may resolve. */
        readonly holes: readonly string[];
      }
    >
  >;
  /** The kinds other than drift and secret that were told whole. */
  readonly kinds: readonly JudgementKind[];
};

/** What the integrity answer needs beside the findings; plain data, to be stored with the host. */
export type IntegrityFacts = {
  readonly manifest: ManifestState;
  readonly allowed: Readonly<Record<TreeName, number>>;
  readonly local: Readonly<Record<TreeName, number>>;
  /** Differences that another importer's rule explains. */
  readonly variants: Readonly<Record<TreeName, number>>;
  /** What lies over /usr or /etc, and what policy says of it. */
  readonly masks: readonly { readonly path: string; readonly kind: Overlay['kind']; readonly effect: Effect }[];
  readonly truncated: Evidence['truncated'];
  readonly holesCapped: boolean;
  readonly implausible: boolean;
  /** As in `Evidence`; absent in what older builds stored, too. */
  readonly untold?: readonly Untold[];
  /** The booted image's age and the terms that it was held against; absent where nobody knew of any. */
  readonly age?: AgeFacts;
};

/** What the freshness answer needs later, when the clock has moved on. */
export type AgeFacts = {
  readonly madeAt: Instant | null;
  readonly behindTagSince: Instant | null;
  readonly imageAgeMax: number | null;
  readonly behindTagAfter: number | null;
  /** When the judgement on it changes by itself; null for never. */
  readonly next: Instant | null;
  /** Policy asks for what nobody knows. */
  readonly untold: boolean;
};

function agesOf({ madeAt, behindTagSince }: Age, { behindTag, tooOld, next }: JudgedAge, terms: Freshness): AgeFacts {
  return {
    madeAt,
    behindTagSince: behindTagSince ?? null,
    imageAgeMax: terms.imageAgeMax,
    behindTagAfter: terms.behindTagAfter,
    next,
    untold: behindTag === null || tooOld === null,
  };
}

export type Evaluation = {
  readonly policy: Digest;
  readonly judgements: readonly Judgement[];
  readonly facts: IntegrityFacts;
  readonly seen: Seen;
};

/** Judges one host's newest accepted full report under a policy. */
export function evaluate(evidence: Evidence, policy: Policy): Evaluation {
  const { manifest, trees, deployment, truncated, untold } = evidence;
  const holes = TREES.flatMap((tree) => trees[tree].holes);
  const holesCapped = TREES.some((tree) => trees[tree].holesCapped);
  const implausible = evidence.flags.includes('scan-implausible');
  const { host = NO_HOST } = evidence;
  const aged = evidence.age && ageUnder(freshnessOf(policy, host), evidence.age);
  const files = judgeFiles(evidence, policy, host);
  const accounts = judgeAccounts(policy, evidence.accounts, host);
  const overlays = judgeOverlays(policy, deployment, holes, host);
  const notes = flagNotes(evidence, holesCapped);
  const judgements = [
    ...files.judgements,
    ...accounts.judgements,
    ...overlays.flatMap((judged) => judged.judgement ?? []),
    ...judgeLayered(policy, deployment, host),
    ...judgeKargs(policy, deployment, host),
    ...judgeContradictions(policy, deployment, host),
    ...judgeVerity(policy, deployment, host),
    ...judgeTransientRoot(policy, deployment, host),
    ...judgeEnforcement(policy, deployment, host),
    ...judgeHoles(policy, holes, host),
    ...judgeManifest(policy, manifest, host),
    ...judgeProvenance(policy, evidence.provenance, host),
    ...judgeAge(policy, evidence.age, host),
    ...judgeRollback(policy, evidence.lineage?.rollback, host),
    ...judgeStale(policy, evidence.lineage?.stale ?? [], host),
    ...(evidence.silence === 'noted' ? judgeSilence(policy, host) : []),
    ...REPORT_FLAGS.flatMap((flag) => (notes.has(flag) ? (judgeFlag(policy, flag, notes.get(flag), host) ?? []) : [])),
  ];
  // A look beneath ends the masking (PROTOCOL 3.9), and a transient /etc hides nothing: unless the walk stopped there.
  const unseen = new Set(holes.filter(({ kind }) => kind === 'mount').map(({ path }) => path));
  const masks = overlays
    .filter(({ overlay: { path, masks, beneath } }) => (masks && beneath !== 'image') || unseen.has(fromUtf8(path)))
    .map(({ overlay, effect }) => ({
      path: vis(fromUtf8(overlay.path)),
      kind: overlay.kind,
      effect: effect ?? 'forbidden',
    }));
  return {
    policy: policy.digest,
    judgements,
    facts: {
      manifest,
      ...files.counts,
      allowed: { ...files.counts.allowed, etc: files.counts.allowed.etc + accounts.allowed },
      masks,
      truncated,
      holesCapped,
      implausible,
      ...(untold === undefined ? {} : { untold }),
      ...(evidence.age === undefined || aged === undefined
        ? {}
        : { age: agesOf(evidence.age, aged, freshnessOf(policy, host)) }),
    },
    seen: seenOf(evidence, holesCapped, implausible, aged),
  };
}

type Counts = Record<TreeName, number>;
const none = (): Counts => ({ usr: 0, etc: 0 });

function judgeFiles({ manifest, drift, secrets, variant, accounts }: Evidence, policy: Policy, host: HostFacts) {
  const counts = { allowed: none(), local: none(), variants: none() };
  const judgements: Judgement[] = [];
  // Without a manifest nothing is drift (PROTOCOL 2.7), whatever the host compared itself with.
  if (manifest.state !== 'ready') return { judgements, counts };
  // Rules on accounts must be there: else nobody would judge what a rule leaves to them.
  const setting = { host, accountsTold: policy.accounts.length > 0 && areAccountsTold(accounts) };
  for (const change of pathChanges(drift, secrets)) {
    // Acceptance lets no other paths through; should one come, it is judged as strictly as /usr.
    const tree = treeOf(change.path) ?? 'usr';
    if (change.drift !== undefined && change.secret === undefined && variant?.(change.drift) !== undefined) {
      counts.variants[tree]++;
      continue;
    }
    const rule = fileRuleFor(policy, change, setting) ?? UNNAMED[tree];
    if (rule.effect === 'allowed') counts.allowed[tree]++;
    else if (rule.effect === 'expected-local') counts.local[tree]++;
    const kind = change.secret === undefined ? 'drift' : 'secret';
    const found = judgement(rule, kind, vis(change.path), signatureOf(change), detailOf(change));
    if (found !== undefined) judgements.push(found);
  }
  return { judgements, counts };
}

const detailOf = ({ drift, secret }: PathChange) => ({
  ...(drift === undefined ? {} : { change: driftJson(drift) }),
  ...(secret === undefined ? {} : { secret }),
});

/** The flags that hold, each with its figure in words. */
function flagNotes({ flags, truncated, skewMs }: Evidence, holesCapped: boolean): Map<ReportFlag, string | undefined> {
  const notes = new Map<ReportFlag, string | undefined>(flags.map((flag) => [flag, undefined]));
  if (truncated !== null) {
    const { added, removed, modified } = truncated;
    notes.set('drift-truncated', `added ${added}, removed ${removed}, modified ${modified}`);
  }
  if (holesCapped) notes.set('holes-capped', undefined);
  if (skewMs !== null && Math.abs(skewMs) > CLOCK_SKEW_MS) {
    const minutes = Math.round(Math.abs(skewMs) / 60_000);
    notes.set('clock-skew', `${minutes} min ${skewMs > 0 ? 'ahead' : 'behind'}`);
  }
  return notes;
}

function seenOf(evidence: Evidence, holesCapped: boolean, implausible: boolean, aged: JudgedAge | undefined): Seen {
  const { manifest, trees, truncated, deployment, silence } = evidence;
  // A report that was cut, or that is too small to be believed, resolves nothing (PROTOCOL 3.8, 3.9).
  const isWhole = truncated === null && !implausible;
  const tree = (name: TreeName) => ({
    told:
      isWhole &&
      manifest.state === 'ready' &&
      !trees[name].holesCapped &&
      !(name === 'etc' && evidence.untold?.includes('SECRET_PATHS_UNKNOWN')),
    holes: trees[name].holes.map(({ path }) => vis(path)),
  });
  const isKnown = deployment.booted !== null && deployment.via !== 'none' && deployment.via !== 'option';
  const kinds: [JudgementKind, boolean][] = [
    ['silence', silence !== 'untold'],
    ['overlay', isWhole],
    ['layered', isWhole && isKnown],
    ['karg', isWhole && deployment.kargs.length > 0],
    ['contradiction', isWhole],
    ['verity', isWhole && deployment.verity !== null],
    ['transient-root', isWhole && deployment.transientRoot !== null],
    ['enforcement', isWhole && isKnown],
    ['hole', isWhole && !holesCapped],
    ['manifest', isWhole],
    ['report', isWhole],
    // Of the image, not of this report: told even where the report was cut.
    ['provenance', evidence.provenance?.told ?? true],
    ['account', isWhole && areAccountsTold(evidence.accounts)],
    ['stale-config', isWhole && evidence.lineage !== undefined && evidence.lineage.stale !== null],
    ['rollback', evidence.lineage !== undefined],
    ['outdated', aged !== undefined && aged.behindTag !== null && aged.tooOld !== null],
  ];
  return {
    trees: { usr: tree('usr'), etc: tree('etc') },
    kinds: kinds.filter(([, told]) => told).map(([kind]) => kind),
  };
}
