/**
 * Judgements on what a host says of itself and on how we heard of it (docs/policy.md, section 5): overlays, layered packages,
 * kernel arguments, contradictions, verity, holes, manifests, reports, silence, age, stale configuration.
 */
import { fromUtf8, toUtf8 } from '#src/bytes.ts';
import type { Instant } from '#src/clock.ts';
import type { Expression } from '#src/document/expression.ts';
import type { DeploymentState, Overlay } from '#src/deployment/state.ts';
import type { Hole } from '#src/drift/drift.ts';
import { treeOf } from '#src/manifest/entry.ts';
import { factsJson } from '#src/manifest/json.ts';
import { vis } from '#src/manifest/vis.ts';
import { printableText } from '#src/terminal.ts';
import {
  freshnessOf,
  type FileRule,
  type Freshness,
  type Policy,
  type StateRule,
  type StateRuleOn,
} from './document.ts';
import { askOfState } from './condition.ts';
import { decide } from './decide.ts';
import { isAbout, type HostFacts } from './host.ts';
import type { ManifestState, ProvenanceState } from './evaluate.ts';
import {
  staleSignature,
  type Detail,
  type Effect,
  type Judgement,
  type JudgementKind,
  type ReportFlag,
  type Severity,
  type Stale,
  type Weight,
} from './judgement.ts';
import { matchesGlob, type Glob } from './paths.ts';
import type { StateSubject } from './schema.ts';

/** What of a rule goes into a judgement. */
type Saying = Pick<FileRule, 'id' | 'effect' | 'severity' | 'verdict' | 'reason' | 'controls'>;

const unnamed = (id: string, severity: Severity, verdict: Weight, reason: string): Saying => ({
  id: `unnamed-${id}`,
  effect: 'forbidden',
  severity,
  verdict,
  reason,
  controls: [],
});

/** What no rule names is a finding (docs/policy.md, section 2): a policy with a gap is loud, not blind. */
export const UNNAMED = {
  usr: unnamed('usr', 'high', 'drifted', '/usr must be the image, and no rule of the policy names this path.'),
  etc: unnamed('etc', 'medium', 'drifted', 'This differs from the image, and no rule of the policy names it.'),
  overlay: unnamed('overlay', 'high', 'drifted', 'Something lies over the image, and no rule of the policy names it.'),
  layered: unnamed(
    'layered',
    'high',
    'drifted',
    'Packages lie on top of the image, and no rule of the policy names them.',
  ),
  contradiction: unnamed(
    'contradiction',
    'medium',
    'none',
    'The host contradicts itself, and no rule of the policy names it.',
  ),
  hole: unnamed('hole', 'medium', 'unverifiable', 'This could not be read, so it could not be judged.'),
  manifest: unnamed('manifest', 'medium', 'unverifiable', 'There is no manifest to compare the host with.'),
  report: unnamed('report', 'medium', 'none', 'Something is odd about the reports of this host.'),
  silence: unnamed('silence', 'medium', 'none', 'The host does not report in time.'),
  outdated: unnamed('outdated', 'medium', 'none', 'The host runs an image that policy holds for outdated.'),
  account: unnamed(
    'account',
    'high',
    'drifted',
    'An account is not as in the image, and no rule of the policy names it.',
  ),
  provenance: unnamed('provenance', 'high', 'none', 'The image is not signed as the image policy demands.'),
} as const;

/** Where a host may well be so, policy speaks up or nobody does. */
const SILENT: Saying = { ...UNNAMED.report, effect: 'allowed' };

/** A judgement, where the rule forbids; undefined where it does not. */
export function judgement(
  rule: Saying,
  kind: JudgementKind,
  subject: string,
  signature: string,
  detail: Detail,
): Judgement | undefined {
  if (rule.effect !== 'forbidden') return undefined;
  const { id, severity, verdict, reason, controls } = rule;
  return { rule: id, kind, subject, signature, severity, verdict, controls, reason, detail };
}

/** The rule that decides about one thing of a subject; `facts` are what its CEL may ask (condition.ts). */
function ruleOn<On extends StateSubject>(
  policy: Policy,
  on: On,
  host: HostFacts,
  holds: (when: StateRuleOn<On>['when']) => boolean,
  facts: Readonly<Record<string, unknown>> = {},
): Saying | undefined {
  return decide(
    policy.state.filter((rule) => rule.on === on),
    (rule) => whyNotState(rule, host, holds, facts),
  );
}

function whyNotState(
  rule: StateRule,
  host: HostFacts,
  holds: (when: StateRule['when']) => boolean,
  facts: Readonly<Record<string, unknown>>,
): string | undefined {
  if (!isAbout(rule, host)) return 'hosts';
  if (!holds(rule.when)) return 'when';
  const { cel } = rule.when as { readonly cel?: Expression };
  if (cel === undefined) return undefined;
  const { kind } = askOfState(cel, facts, host);
  return kind === 'true' ? undefined : kind === 'false' ? 'cel' : 'error';
}

const isIn = <T>(list: readonly T[] | undefined, item: T): boolean => list === undefined || list.includes(item);
const matchesOne = (globs: readonly Glob[] | undefined, text: string): boolean =>
  globs === undefined || globs.some((glob) => matchesGlob(glob, fromUtf8(text)));

/** An overlay with what policy says of it; `effect` is null where it lies on neither tree and no rule names it. */
export type JudgedOverlay = {
  readonly overlay: Overlay;
  readonly effect: Effect | null;
  readonly judgement: Judgement | undefined;
};

const MET = { writable: false, masks: true, beneath: null } as const;

/** Everything that lies over something: what the host told, and mounts that the walk met and the host did not tell. */
export function judgeOverlays(
  policy: Policy,
  state: DeploymentState,
  holes: readonly Hole[],
  host: HostFacts,
): JudgedOverlay[] {
  const told = new Set(state.overlays.map(({ path }) => path));
  const met = holes
    .filter(({ kind }) => kind === 'mount')
    .map(({ path, detail }): Overlay => ({ path: toUtf8(path) ?? vis(path), kind: 'other', detail, ...MET }))
    .filter(({ path }) => !told.has(path));
  return [...state.overlays, ...met].map((overlay) => {
    const path = fromUtf8(overlay.path);
    const rule =
      ruleOn(
        policy,
        'overlay',
        host,
        (when) =>
          isIn(when.kinds, overlay.kind) &&
          matchesOne(when.paths, overlay.path) &&
          (when.writable ?? overlay.writable) === overlay.writable &&
          (when.masks ?? overlay.masks) === overlay.masks &&
          matchesOne(when.detail, overlay.detail),
        { overlay: celOf(overlay) },
      ) ?? (treeOf(path) === undefined ? undefined : UNNAMED.overlay);
    if (rule === undefined) return { overlay, effect: null, judgement: undefined };
    // Which extensions is what matters of an extension; mount options and device numbers differ from host to host.
    const named = overlay.kind === 'sysext' || overlay.kind === 'confext' ? [escaped(overlay.detail)] : [];
    const signature = [overlay.kind, overlay.writable ? 'rw' : 'ro', ...named].join(';');
    return { overlay, effect: rule.effect, judgement: judgement(rule, 'overlay', vis(path), signature, { overlay }) };
  });
}

const celOf = ({ path, kind, detail, writable, masks }: Overlay) => ({ path, kind, detail, writable, masks });

const escaped = (text: string): string => vis(fromUtf8(text)).replaceAll(';', '\\073');

export function judgeLayered(policy: Policy, state: DeploymentState, host: HostFacts): Judgement[] {
  return (state.booted?.layered ?? []).flatMap((name) => {
    const rule = ruleOn(policy, 'layered', host, (when) => matchesOne(when.names, name), { name }) ?? UNNAMED.layered;
    return judgement(rule, 'layered', printableText(name), 'layered', {}) ?? [];
  });
}

/** Arguments that no rule names are the machine's own affair (root=, console=), so there is no rule for the unnamed. */
export function judgeKargs(policy: Policy, state: DeploymentState, host: HostFacts): Judgement[] {
  // A running kernel always has arguments: none means that they could not be read.
  if (state.kargs.length === 0) return [];
  const present = [...new Set(state.kargs)].flatMap((text) => {
    const rule = ruleOn(policy, 'karg', host, (when) => when.missing === undefined && matchesOne(when.present, text), {
      argument: text,
    });
    return judgement(rule ?? SILENT, 'karg', printableText(text), 'present', {}) ?? [];
  });
  const missing = policy.state.flatMap((rule) => {
    if (rule.on !== 'karg' || !isAbout(rule, host)) return [];
    const absent = (rule.when.missing ?? []).filter((glob) => !state.kargs.some((text) => matchesOne([glob], text)));
    return absent.flatMap((glob) => judgement(rule, 'karg', printableText(glob.source), 'missing', {}) ?? []);
  });
  return [...present, ...missing];
}

export function judgeContradictions(policy: Policy, state: DeploymentState, host: HostFacts): Judgement[] {
  return state.contradictions.flatMap((text) => {
    const rule =
      ruleOn(policy, 'contradiction', host, (when) => matchesOne(when.text, text), { text }) ?? UNNAMED.contradiction;
    return judgement(rule, 'contradiction', printableText(text), 'contradiction', {}) ?? [];
  });
}

export function judgeVerity(policy: Policy, state: DeploymentState, host: HostFacts): Judgement[] {
  if (state.verity !== false) return [];
  return list(judgement(ruleOn(policy, 'verity', host, () => true) ?? SILENT, 'verity', 'host', 'verity=off', {}));
}

export function judgeTransientRoot(policy: Policy, state: DeploymentState, host: HostFacts): Judgement[] {
  if (state.transientRoot !== true) return [];
  const rule = ruleOn(policy, 'transient-root', host, () => true) ?? SILENT;
  return list(judgement(rule, 'transient-root', 'host', 'transient-root=on', {}));
}

/** Whether the origin demands a signature at each pull; whether one was *verified* is provenance, not this. */
export function judgeEnforcement(policy: Policy, state: DeploymentState, host: HostFacts): Judgement[] {
  const image = state.booted?.image ?? null;
  if (image === null || (image.signature !== null && image.signature !== 'insecure')) return [];
  const rule = ruleOn(policy, 'enforcement', host, () => true) ?? SILENT;
  return list(judgement(rule, 'enforcement', 'host', `signature=${image.signature ?? 'not-demanded'}`, {}));
}

const list = (found: Judgement | undefined): Judgement[] => (found === undefined ? [] : [found]);

/** Holes that are no mounts; those are judged as overlays. */
export function judgeHoles(policy: Policy, holes: readonly Hole[], host: HostFacts): Judgement[] {
  return holes.flatMap(({ path, kind, detail }) => {
    if (kind === 'mount') return [];
    const rule =
      ruleOn(
        policy,
        'hole',
        host,
        (when) =>
          isIn(when.kinds, kind) && (when.paths === undefined || when.paths.some((glob) => matchesGlob(glob, path))),
        { hole: { path: toUtf8(path) ?? vis(path), kind, detail } },
      ) ?? UNNAMED.hole;
    return judgement(rule, 'hole', vis(path), kind, { hole: { kind, detail: printableText(detail) } }) ?? [];
  });
}

export function judgeManifest(policy: Policy, manifest: ManifestState, host: HostFacts): Judgement[] {
  if (manifest.state === 'ready') return [];
  const { state, image, code, detail } = manifest;
  const rule =
    ruleOn(policy, 'manifest', host, (when) => isIn(when.states, state) && isIn(when.codes, code)) ?? UNNAMED.manifest;
  const note = detail === null ? {} : { note: printableText(detail) };
  return list(judgement(rule, 'manifest', printableText(image), code, { manifest: { state, code }, ...note }));
}

export function judgeFlag(
  policy: Policy,
  flag: ReportFlag,
  note: string | undefined,
  host: HostFacts,
): Judgement | undefined {
  const rule = ruleOn(policy, 'report', host, (when) => isIn(when.flags, flag)) ?? UNNAMED.report;
  return judgement(rule, 'report', 'host', flag, note === undefined ? {} : { note });
}

/** The finding of a host that is silent. Being late is told by its freshness alone: most who are late come by themselves. */
export function judgeSilence(policy: Policy, host: HostFacts): Judgement[] {
  const rule = ruleOn(policy, 'silence', host, () => true) ?? UNNAMED.silence;
  return list(judgement(rule, 'silence', 'host', 'silent', {}));
}

/** How old the booted image is, beside what is newer (docs/policy.md, section 5.5). */
export type Age = {
  readonly image: string;
  /** When it is judged, by the server's clock. */
  readonly at: Instant;
  /** When the image says that it was made; null where it does not say. */
  readonly madeAt: Instant | null;
  /** Since when its tag points at another one, null while it does not; undefined where nobody looked. */
  readonly behindTagSince: Instant | null | undefined;
};

/** What policy makes of an age: null where it asks and nobody knows. `next`: when that changes by itself. */
export type JudgedAge = {
  readonly behindTag: boolean | null;
  readonly tooOld: boolean | null;
  readonly next: Instant | null;
};

export function ageUnder(terms: Freshness, { at, madeAt, behindTagSince }: Omit<Age, 'image'>): JudgedAge {
  const { behindTagAfter, imageAgeMax } = terms;
  const oldAt = imageAgeMax === null || madeAt === null ? null : madeAt + imageAgeMax;
  const behindAt =
    behindTagAfter === null || behindTagSince === null || behindTagSince === undefined
      ? null
      : behindTagSince + behindTagAfter;
  const coming = [oldAt, behindAt].filter((when) => when !== null && when > at) as Instant[];
  return {
    behindTag: behindTagAfter !== null && behindTagSince === undefined ? null : behindAt !== null && at >= behindAt,
    tooOld: imageAgeMax !== null && madeAt === null ? null : oldAt !== null && at >= oldAt,
    next: coming.length === 0 ? null : Math.min(...coming),
  };
}

export function judgeAge(policy: Policy, age: Age | undefined, host: HostFacts): Judgement[] {
  if (age === undefined) return [];
  const { behindTag, tooOld } = ageUnder(freshnessOf(policy, host), age);
  const states = [
    ...(behindTag === true ? (['behind-tag'] as const) : []),
    ...(tooOld === true ? (['too-old'] as const) : []),
  ];
  return states.flatMap((state) => {
    const rule = ruleOn(policy, 'outdated', host, (when) => isIn(when.states, state)) ?? UNNAMED.outdated;
    return judgement(rule, 'outdated', printableText(age.image), state, {}) ?? [];
  });
}

/** The host runs an image that is older than one which it ran before: null where nobody knows. */
export type Rollback = { readonly image: string; readonly from: string };

export function judgeRollback(policy: Policy, rollback: Rollback | null | undefined, host: HostFacts): Judgement[] {
  if (rollback === null || rollback === undefined) return [];
  const rule = ruleOn(policy, 'rollback', host, () => true) ?? SILENT;
  const note = `it ran ${printableText(rollback.from)} before, which is newer`;
  return list(judgement(rule, 'rollback', printableText(rollback.image), 'rolled-back', { note }));
}

/** Files of /etc that hide what the image says now: where no rule speaks of them, nothing is said. */
export function judgeStale(policy: Policy, stale: readonly Stale[], host: HostFacts): Judgement[] {
  return stale.flatMap((each) => {
    const { path, since, now, was } = each;
    const rule = ruleOn(policy, 'stale-config', host, (when) => {
      return when.paths === undefined || when.paths.some((glob) => matchesGlob(glob, path));
    });
    const facts = (said: Stale['now']) => (said === null ? null : factsJson(said));
    const detail = { stale: { since, now: facts(now), was: facts(was) } };
    return judgement(rule ?? SILENT, 'stale-config', vis(path), staleSignature(each), detail) ?? [];
  });
}

/** Who built the booted image. Its weight is the provenance answer's own; a finding says it, groups it, and keeps when it began. */
export function judgeProvenance(policy: Policy, provenance: ProvenanceState | undefined, host: HostFacts): Judgement[] {
  return (provenance?.faults ?? []).flatMap(({ fault, why }) => {
    const rule = ruleOn(policy, 'provenance', host, (when) => isIn(when.states, fault)) ?? UNNAMED.provenance;
    return judgement(rule, 'provenance', printableText(provenance!.image), fault, { note: printableText(why) }) ?? [];
  });
}
