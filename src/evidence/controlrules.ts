/**
 * What the facts of one host come to (docs/controls.md 2): everything in the period that was not as it should be, each with its weight.
 * The result of a rule is a fold over those exceptions that concern it.
 */
import type { Instant } from '#src/clock.ts';
import { parseInstant } from '#src/clock.ts';
import type { ControlRule } from '#src/policy/controls.ts';
import type { JudgementKind, Severity } from '#src/policy/judgement.ts';
import type { BundleHead, DecisionFact, FindingFact, HostInScope, ImageFact } from './facts.ts';

export const OUTCOMES = ['satisfied', 'not-satisfied', 'not-assessed'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** `fails`: not satisfied; `unknown`: cannot be told; the others are named and counted, and do not weigh. */
export const WEIGHTS = ['fails', 'unknown', 'waived', 'explained', 'ended'] as const;
export type Weight = (typeof WEIGHTS)[number];

export type ExceptionKind =
  /** Below the completeness limit, or nothing heard at all. */
  | 'incomplete'
  /** How it stood at the end does not let anything be told, or contradicts its findings. */
  | 'standing'
  | 'gap'
  /** Longer between two check-ins than a framework allows. */
  | 'interval'
  | 'finding'
  | 'image'
  | 'answer'
  | 'log';

export type Exception = {
  readonly kind: ExceptionKind;
  readonly weight: Weight;
  /** A sentence without the host's name. */
  readonly cause: string;
  /** What it is about: a path as findings show it, an image's digest. */
  readonly subject: string | null;
  readonly severity: Severity | null;
  /** RFC 3339. Null: not known, or not over. */
  readonly from: string | null;
  readonly to: string | null;
  /** When Bootproof first told of it. */
  readonly noticedAt: string | null;
  /** The waiver, and who asked and approved. */
  readonly decision: DecisionFact | null;
  /** The finding that it is about. */
  readonly finding: FindingFact | null;
  /** Rules that it concerns; `interval`: and only the instance with that interval. */
  readonly rules: readonly ControlRule[];
  readonly interval: number | null;
};

/** A rule as a control asks for it. `control`, of R-find: `framework:id`. */
export type Instance = {
  readonly rule: ControlRule;
  readonly interval: number | null;
  readonly control: string | null;
};

/** What is known besides the host's own lines; small beside a fleet. */
export type Known = {
  readonly head: BundleHead;
  readonly images: ReadonlyMap<string, ImageFact>;
  readonly waivers: ReadonlyMap<string, DecisionFact>;
  /** Intervals that some control asks for, ms. */
  readonly intervals: readonly number[];
};

export function concerns(exception: Exception, { rule, interval, control }: Instance): boolean {
  if (rule === 'R-find' && exception.kind === 'finding') return exception.finding!.controls.includes(control!);
  if (!exception.rules.includes(rule)) return false;
  if (exception.kind === 'interval') return exception.interval === interval;
  // A framework's own interval stands in the place of the policy's.
  return !(exception.kind === 'gap' && rule === 'R-int' && interval !== null);
}

export function outcomeOf(exceptions: Iterable<Exception>): Outcome {
  let outcome: Outcome = 'satisfied';
  for (const { weight } of exceptions) {
    if (weight === 'fails') return 'not-satisfied';
    if (weight === 'unknown') outcome = 'not-assessed';
  }
  return outcome;
}

const ALL: readonly ControlRule[] = ['R-int', 'R-sig', 'R-chg', 'R-inv', 'R-log', 'R-find'];
const NONE = {
  subject: null,
  severity: null,
  from: null,
  to: null,
  noticedAt: null,
  decision: null,
  finding: null,
  interval: null,
};

/** Every exception of a host, in an order that its facts alone decide. */
export function exceptionsOf(host: HostInScope, findings: readonly FindingFact[], known: Known): Exception[] {
  return [
    ...completeness(host, known),
    ...standing(host, findings, known),
    ...gaps(host, findings),
    ...intervals(host, known),
    ...findings.flatMap((finding) => findingException(finding, known)),
    ...images(host, findings, known),
    ...findings.flatMap((finding) => lateAnswers(finding, known)),
  ];
}

/** Facts passed their schema, so a time in them is one. */
export const at = (time: string): Instant => parseInstant(time)!;

/** Share of the expected check-ins that came, 0 to 1; a host of which not one was due has all of them if it has any. */
export function share({ expected, received }: HostInScope['checkIns']): number {
  if (expected === 0) return received > 0 ? 1 : 0;
  return Math.min(1, received / expected);
}

export function belowLimit(host: HostInScope, { parameters }: BundleHead): boolean {
  return host.checkIns.received === 0 || share(host.checkIns) < parameters.completenessMin;
}

function completeness(host: HostInScope, { head }: Known): Exception[] {
  if (!belowLimit(host, head)) return [];
  const { expected, received } = host.checkIns;
  const cause =
    received === 0
      ? `No report in the period; ${expected} were expected.`
      : `${received} of ${expected} expected reports came: ${percent(share(host.checkIns))}, and the limit is ${percent(head.parameters.completenessMin)}.`;
  return [{ ...NONE, kind: 'incomplete', weight: 'unknown', cause, ...head.period, rules: ALL }];
}

/** Cut, never rounded up: 94.999 % is below 95 %. */
export const percent = (part: number): string => `${Math.floor(part * 10_000) / 100} %`;

const UNTOLD: Readonly<Record<string, string>> = {
  new: 'It had not proved anything yet when the period ended.',
  silent: 'It was silent when the period ended.',
  unverifiable: 'Whether it was its image could not be told when the period ended.',
};

function standing(host: HostInScope, findings: readonly FindingFact[], { head }: Known): Exception[] {
  const { verdict, integrity } = host.standing;
  const base = { ...NONE, kind: 'standing', to: head.period.to } as const;
  const untold = UNTOLD[verdict] ?? UNTOLD[integrity];
  // Of one that was retired nothing more is to be heard.
  if (untold !== undefined && host.retiredAt === null)
    return [{ ...base, weight: 'unknown', cause: untold, rules: ALL }];
  // A standing that no line explains: a finding was left out.
  const bad = integrity === 'drifted' || integrity === 'masked';
  if (!bad || findings.some(({ kind, open }) => open && isIntegrity(kind))) return [];
  return [{ ...base, weight: 'fails', cause: `It stood as ${integrity}, and no finding says why.`, rules: ['R-int'] }];
}

function gaps(host: HostInScope, findings: readonly FindingFact[]): Exception[] {
  return host.gaps.map(({ from, to, why }): Exception => {
    const lasted = duration(at(to) - at(from));
    const told = findings
      .filter(({ kind }) => kind === 'silence')
      .flatMap(({ history }) => history)
      .find(
        (step) => (step.transition === 'new' || step.transition === 'regressed') && step.at >= from && step.at <= to,
      );
    return {
      ...NONE,
      kind: 'gap',
      weight: why === null ? 'fails' : 'explained',
      cause: why === null ? `No report for ${lasted}, and nobody said why.` : `No report for ${lasted}: ${why}`,
      from,
      to,
      noticedAt: told?.at ?? null,
      rules: ['R-int', 'R-inv'],
    };
  });
}

function intervals({ checkIns: { longestSeconds } }: HostInScope, { intervals: limits }: Known): Exception[] {
  return limits
    .filter((limit) => longestSeconds * 1000 > limit)
    .map((interval): Exception => ({
      ...NONE,
      kind: 'interval',
      weight: 'fails',
      cause: `${duration(longestSeconds * 1000)} between two reports; the framework allows ${duration(interval)}.`,
      rules: ['R-int'],
      interval,
    }));
}

/** What kinds of finding say of the trees; `unknown`: a place was not seen. */
const INTEGRITY: Partial<Readonly<Record<JudgementKind, 'fails' | 'unknown'>>> = {
  drift: 'fails',
  secret: 'fails',
  account: 'fails',
  overlay: 'fails',
  layered: 'fails',
  karg: 'fails',
  contradiction: 'fails',
  verity: 'fails',
  'transient-root': 'fails',
  'stale-config': 'fails',
  report: 'fails',
  hole: 'unknown',
  manifest: 'unknown',
};
const isIntegrity = (kind: string): boolean => Object.hasOwn(INTEGRITY, kind);
/** Kinds that say that a host runs an image that policy does not allow. */
const IMAGE_KINDS = new Set(['outdated', 'rollback']);

function findingException(finding: FindingFact, known: Known): Exception[] {
  const { kind, subject, severity, open, rule } = finding;
  const { period } = known.head;
  const ended = open ? undefined : finding.history.findLast(({ transition }) => transition === 'resolved');
  if (ended !== undefined && ended.at < period.from) return [];
  const rules: ControlRule[] = isIntegrity(kind) ? ['R-int'] : IMAGE_KINDS.has(kind) ? ['R-chg'] : [];
  const begun = finding.history.findLast(({ transition }) => transition === 'new' || transition === 'regressed');
  const { weight, why, decision } = weightOf(finding, known);
  return [
    {
      ...NONE,
      kind: 'finding',
      weight,
      cause: `${KIND_TEXT[kind] ?? kind}, by rule ${rule}${why === null ? '' : `: ${why}`}`,
      subject,
      severity,
      from: begun?.at ?? finding.firstSeen,
      to: ended?.at ?? null,
      noticedAt: begun?.at ?? finding.firstSeen,
      decision,
      finding,
      rules,
    },
  ];
}

function weightOf(
  { open, disposition, waiver, kind }: FindingFact,
  { waivers, head }: Known,
): { weight: Weight; why: string | null; decision: DecisionFact | null } {
  if (!open) return { weight: 'ended', why: null, decision: null };
  const bare: Weight = INTEGRITY[kind as JudgementKind] ?? 'fails';
  if (disposition !== 'waived')
    return {
      weight: bare,
      why: disposition === 'acknowledged' ? 'acknowledged, which excepts nothing' : null,
      decision: null,
    };
  const decision = waivers.get(waiver ?? '');
  // A waiver counts only as far as the bundle shows who approved it, and until when.
  if (decision?.decidedBy == null)
    return {
      weight: 'unknown',
      why: `waived by ${waiver ?? 'no waiver'}, of which the bundle shows no approval`,
      decision: null,
    };
  if (decision.endsAt !== null && decision.endsAt < head.period.to)
    return { weight: 'fails', why: `its waiver ${decision.id} ended before the period did`, decision };
  return { weight: 'waived', why: `waived by ${decision.id}`, decision };
}

const KIND_TEXT: Readonly<Record<string, string>> = {
  drift: 'A path differs from the image',
  secret: 'A secret file differs from the image',
  hole: 'A path could not be read',
  overlay: 'Something lies over the image',
  layered: 'A package was layered onto the image',
  karg: 'A kernel argument is not as it should be',
  contradiction: 'What the host says of itself contradicts itself',
  verity: 'Integrity protection of the file system is off',
  'transient-root': 'The root file system is transient',
  enforcement: 'The host does not refuse unsigned images',
  manifest: 'The image has no manifest to compare with',
  report: 'A report was not as reports must be',
  silence: 'The host was silent',
  outdated: 'The image is not current',
  provenance: 'Who built the image could not be accepted',
  account: 'An account is not the image’s',
  'stale-config': 'Configuration is older than the image’s',
  rollback: 'The host went back to an older image',
};

function images(host: HostInScope, findings: readonly FindingFact[], known: Known): Exception[] {
  const { period } = known.head;
  const out: Exception[] = [];
  const rulesOf = (changed: boolean): readonly ControlRule[] => (changed ? ['R-sig', 'R-chg'] : ['R-sig']);
  const shown = host.deployments.filter(({ from, to }) => from < period.to && (to === null || to > period.from));
  if (shown.length === 0)
    out.push({
      ...NONE,
      kind: 'image',
      weight: 'unknown',
      cause: 'Which image it booted is not known.',
      ...period,
      rules: rulesOf(false),
    });
  for (const { image, from, to } of shown) {
    const trust = known.images.get(image)?.trust;
    if (trust?.state === 'trusted') continue;
    const finding = findings.find(
      ({ kind, subject, open }) => kind === 'provenance' && open && subject.includes(image),
    );
    const judged = finding === undefined ? undefined : weightOf(finding, known);
    const bare: Weight = trust?.state === 'unsigned' || trust?.state === 'rejected' ? 'fails' : 'unknown';
    const weight = judged?.weight === 'waived' ? 'waived' : bare;
    const cause = IMAGE_TEXT[trust?.state ?? 'missing']! + (trust?.why == null ? '' : ` ${trust.why}`);
    out.push({
      ...NONE,
      kind: 'image',
      weight,
      cause,
      subject: image,
      from,
      to,
      noticedAt: trust?.since ?? null,
      decision: weight === 'waived' ? judged!.decision : null,
      finding: finding ?? null,
      rules: rulesOf(from >= period.from),
    });
  }
  return out;
}

const IMAGE_TEXT: Readonly<Record<string, string>> = {
  unsigned: 'It ran an image that nobody signed.',
  rejected: 'It ran an image whose signature policy does not accept.',
  unverifiable: 'Whether the image was signed could not be told.',
  'not-assessed': 'No policy said who may sign the image.',
  missing: 'The bundle says nothing of this image.',
};

/** Times that a finding was open without an answer for longer than allowed. */
function lateAnswers(finding: FindingFact, { head }: Known): Exception[] {
  const { period, parameters } = head;
  const limit = parameters.answerHours * 3_600_000;
  return stretches(finding).flatMap(({ from, answered }): Exception[] => {
    if (answered !== null && answered < period.from) return [];
    const end = answered ?? period.to;
    const took = at(end) - at(from);
    if (took <= limit) return [];
    const verb = answered === null ? 'Not answered for' : 'Answered only after';
    return [
      {
        ...NONE,
        kind: 'answer',
        weight: 'fails',
        cause: `${verb} ${duration(took)}; the limit is ${duration(limit)}.`,
        subject: finding.subject,
        severity: finding.severity,
        from,
        to: answered,
        noticedAt: from,
        finding,
        rules: ['R-chg'],
      },
    ];
  });
}

/** From when a finding waited for an answer, and when it got one: each time it opened, or its answer ran out. */
function stretches({ history, firstSeen, answeredAt }: FindingFact): { from: string; answered: string | null }[] {
  if (history.length === 0) return [{ from: firstSeen, answered: answeredAt }];
  const out: { from: string; answered: string | null }[] = [];
  let since: string | undefined;
  // Its beginning may be older than the history that is kept.
  if (!OPENS.has(history[0]!.transition)) since = firstSeen;
  for (const { transition, at: when } of history) {
    if (OPENS.has(transition)) since ??= when;
    else if (since !== undefined) {
      out.push({ from: since, answered: when });
      since = undefined;
    }
  }
  if (since !== undefined) out.push({ from: since, answered: null });
  return out;
}
const OPENS = new Set<string>(['new', 'regressed', 'returned']);

/** `3 d 4 h`, `20 min`: the two largest units, cut. */
export function duration(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  const units: readonly (readonly [number, string])[] = [
    [Math.floor(minutes / 1440), 'd'],
    [Math.floor(minutes / 60) % 24, 'h'],
    [minutes % 60, 'min'],
  ];
  const first = units.findIndex(([n]) => n > 0);
  if (first < 0) return `${Math.floor(ms / 1000)} s`;
  return units
    .slice(first, first + 2)
    .filter(([n]) => n > 0)
    .map(([n, unit]) => `${n} ${unit}`)
    .join(' ');
}
