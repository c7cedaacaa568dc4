/**
 * Judgements on what a host says of itself and on how we heard of it (docs/policy.md, section 5): overlays, layered packages,
 * kernel arguments, contradictions, verity, holes, manifests, reports, silence, age.
 */
import { fromUtf8, toUtf8 } from '#src/bytes.ts';
import type { DeploymentState, Overlay } from '#src/deployment/state.ts';
import type { Hole } from '#src/drift/drift.ts';
import { treeOf } from '#src/manifest/entry.ts';
import { vis } from '#src/manifest/vis.ts';
import { printableText } from '#src/terminal.ts';
import type { FileRule, Policy, StateRuleOn } from './document.ts';
import type { ManifestState, ProvenanceState } from './evaluate.ts';
import type { Detail, Effect, Judgement, JudgementKind, ReportFlag, Severity, Weight } from './judgement.ts';
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

function ruleOn<On extends StateSubject>(
  policy: Policy,
  on: On,
  holds: (when: StateRuleOn<On>['when']) => boolean,
): Saying | undefined {
  return policy.state.find((rule) => rule.on === on && holds(rule.when as StateRuleOn<On>['when']));
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
export function judgeOverlays(policy: Policy, state: DeploymentState, holes: readonly Hole[]): JudgedOverlay[] {
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
        (when) =>
          isIn(when.kinds, overlay.kind) &&
          matchesOne(when.paths, overlay.path) &&
          (when.writable ?? overlay.writable) === overlay.writable &&
          (when.masks ?? overlay.masks) === overlay.masks &&
          matchesOne(when.detail, overlay.detail),
      ) ?? (treeOf(path) === undefined ? undefined : UNNAMED.overlay);
    if (rule === undefined) return { overlay, effect: null, judgement: undefined };
    // Which extensions is what matters of an extension; mount options and device numbers differ from host to host.
    const named = overlay.kind === 'sysext' || overlay.kind === 'confext' ? [escaped(overlay.detail)] : [];
    const signature = [overlay.kind, overlay.writable ? 'rw' : 'ro', ...named].join(';');
    return { overlay, effect: rule.effect, judgement: judgement(rule, 'overlay', vis(path), signature, { overlay }) };
  });
}

const escaped = (text: string): string => vis(fromUtf8(text)).replaceAll(';', '\\073');

export function judgeLayered(policy: Policy, state: DeploymentState): Judgement[] {
  return (state.booted?.layered ?? []).flatMap((name) => {
    const rule = ruleOn(policy, 'layered', (when) => matchesOne(when.names, name)) ?? UNNAMED.layered;
    return judgement(rule, 'layered', printableText(name), 'layered', {}) ?? [];
  });
}

/** Arguments that no rule names are the machine's own affair (root=, console=), so there is no rule for the unnamed. */
export function judgeKargs(policy: Policy, state: DeploymentState): Judgement[] {
  // A running kernel always has arguments: none means that they could not be read.
  if (state.kargs.length === 0) return [];
  const present = [...new Set(state.kargs)].flatMap((text) => {
    const rule = ruleOn(policy, 'karg', (when) => when.missing === undefined && matchesOne(when.present, text));
    return judgement(rule ?? SILENT, 'karg', printableText(text), 'present', {}) ?? [];
  });
  const missing = policy.state.flatMap((rule) => {
    if (rule.on !== 'karg') return [];
    const absent = (rule.when.missing ?? []).filter((glob) => !state.kargs.some((text) => matchesOne([glob], text)));
    return absent.flatMap((glob) => judgement(rule, 'karg', printableText(glob.source), 'missing', {}) ?? []);
  });
  return [...present, ...missing];
}

export function judgeContradictions(policy: Policy, state: DeploymentState): Judgement[] {
  return state.contradictions.flatMap((text) => {
    const rule = ruleOn(policy, 'contradiction', (when) => matchesOne(when.text, text)) ?? UNNAMED.contradiction;
    return judgement(rule, 'contradiction', printableText(text), 'contradiction', {}) ?? [];
  });
}

export function judgeVerity(policy: Policy, state: DeploymentState): Judgement[] {
  if (state.verity !== false) return [];
  return list(judgement(ruleOn(policy, 'verity', () => true) ?? SILENT, 'verity', 'host', 'verity=off', {}));
}

export function judgeTransientRoot(policy: Policy, state: DeploymentState): Judgement[] {
  if (state.transientRoot !== true) return [];
  const rule = ruleOn(policy, 'transient-root', () => true) ?? SILENT;
  return list(judgement(rule, 'transient-root', 'host', 'transient-root=on', {}));
}

/** Whether the origin demands a signature at each pull; whether one was *verified* is provenance, not this. */
export function judgeEnforcement(policy: Policy, state: DeploymentState): Judgement[] {
  const image = state.booted?.image ?? null;
  if (image === null || (image.signature !== null && image.signature !== 'insecure')) return [];
  const rule = ruleOn(policy, 'enforcement', () => true) ?? SILENT;
  return list(judgement(rule, 'enforcement', 'host', `signature=${image.signature ?? 'not-demanded'}`, {}));
}

const list = (found: Judgement | undefined): Judgement[] => (found === undefined ? [] : [found]);

/** Holes that are no mounts; those are judged as overlays. */
export function judgeHoles(policy: Policy, holes: readonly Hole[]): Judgement[] {
  return holes.flatMap(({ path, kind, detail }) => {
    if (kind === 'mount') return [];
    const rule =
      ruleOn(
        policy,
        'hole',
        (when) =>
          isIn(when.kinds, kind) && (when.paths === undefined || when.paths.some((glob) => matchesGlob(glob, path))),
      ) ?? UNNAMED.hole;
    return judgement(rule, 'hole', vis(path), kind, { hole: { kind, detail: printableText(detail) } }) ?? [];
  });
}

export function judgeManifest(policy: Policy, manifest: ManifestState): Judgement[] {
  if (manifest.state === 'ready') return [];
  const { state, image, code, detail } = manifest;
  const rule =
    ruleOn(policy, 'manifest', (when) => isIn(when.states, state) && isIn(when.codes, code)) ?? UNNAMED.manifest;
  const note = detail === null ? {} : { note: printableText(detail) };
  return list(judgement(rule, 'manifest', printableText(image), code, { manifest: { state, code }, ...note }));
}

export function judgeFlag(policy: Policy, flag: ReportFlag, note: string | undefined): Judgement | undefined {
  const rule = ruleOn(policy, 'report', (when) => isIn(when.flags, flag)) ?? UNNAMED.report;
  return judgement(rule, 'report', 'host', flag, note === undefined ? {} : { note });
}

/** For the job that watches the clock: the finding of a host that is late or silent. */
export function judgeSilence(policy: Policy, state: 'late' | 'silent'): Judgement | undefined {
  const rule = ruleOn(policy, 'silence', (when) => isIn(when.states, state)) ?? UNNAMED.silence;
  return judgement(rule, 'silence', 'host', state, {});
}

/** For the job that watches tags: the finding of a host whose image is behind its tag, or too old. */
export function judgeOutdated(policy: Policy, image: string, state: 'behind-tag' | 'too-old'): Judgement | undefined {
  const rule = ruleOn(policy, 'outdated', (when) => isIn(when.states, state)) ?? UNNAMED.outdated;
  return judgement(rule, 'outdated', printableText(image), state, {});
}

/** Who built the booted image. Its weight is the provenance answer's own; a finding says it, groups it, and keeps when it began. */
export function judgeProvenance(policy: Policy, provenance: ProvenanceState | undefined): Judgement[] {
  return (provenance?.faults ?? []).flatMap(({ fault, why }) => {
    const rule = ruleOn(policy, 'provenance', (when) => isIn(when.states, fault)) ?? UNNAMED.provenance;
    return judgement(rule, 'provenance', printableText(provenance!.image), fault, { note: printableText(why) }) ?? [];
  });
}
