/** A host's three answers and the verdict that follows from them (PROTOCOL 5): a function of what is known and of now. */
import type { Instant } from '#src/clock.ts';
import type { IntegrityFacts, Untold } from '#src/policy/evaluate.ts';
import type { Freshness as FreshnessPolicy } from '#src/policy/document.ts';
import { SEVERITIES, type JudgementKind, type Severity, type Weight } from '#src/policy/judgement.ts';
import { describe } from './describe.ts';

/** In the order in which they apply. */
export const VERDICTS = ['new', 'silent', 'unverifiable', 'unsigned', 'drifted', 'compliant'] as const;
export type Verdict = (typeof VERDICTS)[number];

/** One present finding as the verdict sees it. */
export type FindingFacts = {
  readonly rule: string;
  readonly kind: JudgementKind;
  readonly subject: string;
  readonly signature: string;
  readonly severity: Severity;
  readonly verdict: Weight;
  /** Acknowledged ones still weigh; waived ones do not. */
  readonly waived: boolean;
};

export type Provenance =
  | { readonly state: 'not-assessed' }
  | { readonly state: 'trusted'; readonly by: string; readonly policy: string }
  | { readonly state: 'unsigned' | 'rejected'; readonly why: string }
  | { readonly state: 'unverifiable'; readonly since: Instant; readonly why: string };

export type HostFacts = {
  readonly enrolledAt: Instant;
  /** From the last evaluation; null where no full report was ever accepted. */
  readonly integrity: IntegrityFacts | null;
  /** Every present finding of the host, the waived ones too. */
  readonly findings: Iterable<FindingFacts>;
  readonly provenance: Provenance;
  /** When the last *live* report was accepted, by the server's clock. */
  readonly lastLiveAt: Instant | null;
  readonly freshness: FreshnessPolicy;
  /** What the server knows of the booted image's age; both null where it knows nothing. */
  readonly image: { readonly behindTagSince: Instant | null; readonly builtAt: Instant | null };
};

/** Why: a sentence for people, with what it is about for programs. */
export type Reason = {
  readonly text: string;
  readonly weight: Weight;
  readonly severity?: Severity;
  readonly rule?: string;
  readonly kind?: JudgementKind;
  readonly subject?: string;
};

export type Integrity = {
  readonly state: 'intact' | 'drifted' | 'masked' | 'unverifiable';
  /** The first reason's code where `unverifiable`: `MANIFEST_PENDING`, `HOLES` … */
  readonly code: string | null;
  readonly allowed: number;
  readonly local: number;
  readonly waived: number;
};
export type Freshness = {
  readonly state: 'current' | 'late' | 'silent' | 'outdated';
  /** When that state began; null for `current`. */
  readonly since: Instant | null;
};

export type Standing = {
  readonly verdict: Verdict;
  /** `compliant (3 allowed differences, signatures not assessed)`. */
  readonly sentence: string;
  readonly integrity: Integrity;
  readonly provenance: Provenance;
  readonly freshness: Freshness;
  /** The findings and facts that explain the verdict, heaviest first; at most 20. */
  readonly reasons: readonly Reason[];
};

/** Reasons that one answer carries: enough for a page's head; the findings themselves are listed elsewhere. */
const REASONS_MAX = 20;

/** Judges a host at a moment. The answers stand apart; the verdict is the first of `VERDICTS` that applies. */
export function judgeHost(facts: HostFacts, now: Instant): Standing {
  const { provenance } = facts;
  // The provenance answer says it already; its finding is for grouping and history.
  const findings = [...facts.findings].filter(
    ({ kind, signature, waived }) => kind !== 'provenance' || signature !== provenance.state || waived,
  );
  const freshness = freshnessOf(facts, now);
  const judged = integrityOf(facts.integrity, findings);
  const rest = { integrity: judged.integrity, provenance, freshness };
  const weighing = findings.filter((finding) => !finding.waived && finding.verdict !== 'none');
  const say = (verdict: Verdict, sentence: string, reasons: readonly Reason[]): Standing => ({
    verdict,
    sentence,
    ...rest,
    reasons: reasons.slice(0, REASONS_MAX),
  });

  if (facts.integrity === null) {
    const text = freshness.state === 'silent' ? 'never reported since it was enrolled' : 'no report yet';
    return say('new', `new (${text})`, [{ text, weight: 'none' }]);
  }
  if (freshness.state === 'silent') {
    const last = facts.lastLiveAt ?? facts.enrolledAt;
    const text = `nothing heard for ${duration(now - last)}; it is silent after ${duration(facts.freshness.silentAfter)}`;
    return say('silent', `silent (${text})`, [{ text, weight: 'none' }, ...judged.reasons]);
  }
  const unknown = weighing.filter(({ kind, verdict }) => verdict === 'unverifiable' && !IN_INTEGRITY.has(kind));
  if (judged.weight === 'unverifiable' || provenance.state === 'unverifiable' || unknown.length > 0) {
    const reasons: Reason[] = [
      ...(judged.weight === 'unverifiable' ? judged.reasons : []),
      ...(provenance.state === 'unverifiable' ? [{ text: provenance.why, weight: 'unverifiable' } as const] : []),
      ...reasonsOf(unknown),
      ...(judged.weight === 'unverifiable' ? [] : judged.reasons),
    ];
    return say('unverifiable', `unverifiable (${reasons[0]!.text})`, reasons);
  }
  // Waived is what a person answers for, until it ends; the answer itself stays what it is.
  const isExcused = findings.some(
    ({ kind, signature, waived }) => kind === 'provenance' && signature === provenance.state && waived,
  );
  if (!isExcused && (provenance.state === 'unsigned' || provenance.state === 'rejected')) {
    const text = provenance.state === 'rejected' ? `rejected: ${provenance.why}` : provenance.why;
    const own: Reason = { text, weight: 'none' };
    return say('unsigned', `unsigned (${own.text})`, [own, ...judged.reasons]);
  }
  // What policy lets weigh beside integrity: an outdated image, odd reports.
  const others = weighing.filter(({ kind, verdict }) => verdict === 'drifted' && BESIDE_INTEGRITY.has(kind));
  if (judged.weight === 'drifted' || others.length > 0) {
    const reasons = [...judged.reasons, ...reasonsOf(others)];
    return say('drifted', `drifted (${driftedText(judged, weighing)})`, reasons);
  }
  return say('compliant', compliantText(judged, facts, findings), judged.reasons);
}

/** When a host that says nothing more will be silent: for a column with an index. */
export function silentAt({ enrolledAt, lastLiveAt, freshness }: TimeFacts): Instant {
  return (lastLiveAt ?? enrolledAt) + freshness.silentAfter;
}
type TimeFacts = Pick<HostFacts, 'enrolledAt' | 'lastLiveAt' | 'freshness'>;

/** From the clock alone, at the moment of reading: no job has to run for a host to be silent. */
export function freshnessOf(facts: TimeFacts & Pick<HostFacts, 'image'>, now: Instant): Freshness {
  const { freshness, image } = facts;
  const silent = silentAt(facts);
  if (now >= silent) return { state: 'silent', since: silent };
  const late = (facts.lastLiveAt ?? facts.enrolledAt) + freshness.lateAfter;
  if (now >= late) return { state: 'late', since: late };
  const ends = [
    ...(freshness.behindTagAfter === null || image.behindTagSince === null
      ? []
      : [image.behindTagSince + freshness.behindTagAfter]),
    ...(freshness.imageAgeMax === null || image.builtAt === null ? [] : [image.builtAt + freshness.imageAgeMax]),
  ];
  const outdated = Math.min(...ends);
  return now >= outdated ? { state: 'outdated', since: outdated } : { state: 'current', since: null };
}

// Their weight is part of the integrity answer; the rest weighs on its own where policy says so.
export const IN_INTEGRITY: ReadonlySet<JudgementKind> = new Set(['hole', 'manifest']);
export const BESIDE_INTEGRITY: ReadonlySet<JudgementKind> = new Set([
  'report',
  'contradiction',
  'enforcement',
  'silence',
  'outdated',
  'provenance',
]);

type JudgedIntegrity = { readonly integrity: Integrity; readonly weight: Weight; readonly reasons: readonly Reason[] };

/**
 * The integrity answer, after policy (PROTOCOL 3.8, 3.9, 5). What is known to differ outweighs what could not be told: an
 * attacker must not turn "drifted" into "could not tell" by making one more file unreadable.
 */
function integrityOf(facts: IntegrityFacts | null, findings: readonly FindingFacts[]): JudgedIntegrity {
  const waived = findings.filter((finding) => finding.waived).length;
  const open = findings.filter((finding) => !finding.waived);
  if (facts === null) {
    const integrity = { state: 'unverifiable', code: 'NO_REPORT', allowed: 0, local: 0, waived } as const;
    return { integrity, weight: 'unverifiable', reasons: [{ text: 'no report yet', weight: 'unverifiable' }] };
  }
  const { manifest, masks, truncated } = facts;
  const counts = { allowed: facts.allowed.usr + facts.allowed.etc, local: facts.local.usr + facts.local.etc, waived };
  if (manifest.state !== 'ready') {
    const { state, code, detail } = manifest;
    const text = `${code}: ${detail ?? MANIFEST_TEXT[state]}`;
    const integrity = { state: 'unverifiable', code, ...counts } as const;
    // What was found under an older image stands until it is looked for again, but says nothing of this one.
    return { integrity, weight: 'unverifiable', reasons: [{ text, weight: 'unverifiable', kind: 'manifest' }] };
  }
  const heavy = open.filter(({ kind, verdict }) => verdict === 'drifted' && !BESIDE_INTEGRITY.has(kind));
  const cut: Reason[] =
    truncated === null
      ? []
      : [{ text: `more drift than a report lists: ${totals(truncated)}`, weight: 'drifted', kind: 'report' }];
  const masked = masks.map(({ path, kind, effect }): Reason => ({
    text: `${path} lies under a ${kind}${effect === 'forbidden' ? '' : ', which policy allows'}: what is beneath was not seen`,
    weight: 'none',
    kind: 'overlay',
    subject: path,
  }));
  const unread: Reason[] = [
    ...reasonsOf(open.filter(({ kind, verdict }) => kind === 'hole' && verdict === 'unverifiable')),
    ...(facts.holesCapped ? [{ text: 'more unread paths than a report lists', weight: 'unverifiable' } as const] : []),
    ...(facts.implausible
      ? [{ text: 'the scan saw far less than the image holds', weight: 'unverifiable' } as const]
      : []),
  ];
  const unheld = facts.untold ?? [];
  const untold = [...unread, ...unheld.map((code): Reason => ({ text: UNTOLD_TEXT[code], weight: 'unverifiable' }))];
  const reasons = [...reasonsOf(heavy), ...cut, ...masked, ...untold];
  const isDifferent = heavy.length > 0 || cut.length > 0;
  const weight = isDifferent ? 'drifted' : untold.length > 0 ? 'unverifiable' : 'none';
  const light = reasonsOf(open.filter(({ verdict }) => verdict === 'none'));
  if (masks.length > 0)
    return { integrity: { state: 'masked', code: null, ...counts }, weight, reasons: [...reasons, ...light] };
  const state = isDifferent ? 'drifted' : untold.length > 0 ? 'unverifiable' : 'intact';
  const first = facts.implausible ? 'SCAN_IMPLAUSIBLE' : unread.length > 0 ? 'HOLES' : unheld[0]!;
  const code = state === 'unverifiable' ? first : null;
  return { integrity: { state, code, ...counts }, weight, reasons: [...reasons, ...light] };
}

const UNTOLD_TEXT: Readonly<Record<Untold, string>> = {
  SECRET_PATHS_UNKNOWN: 'the host leaves out secrets of /etc by a list that this server does not know',
  CAPABILITIES_UNREAD: 'file capabilities were not read',
};

const MANIFEST_TEXT = {
  pending: 'the manifest of this image is being built',
  failed: 'the manifest of this image could not be built',
  unknown: 'the host names no image that can be found',
  'not-allowed': 'the image lies where this server may not fetch from',
} as const;

/** Heaviest first; equals in the order of rule and subject, so that the same facts give the same answer. */
function reasonsOf(findings: readonly FindingFacts[]): Reason[] {
  return [...findings]
    .sort(
      (a, b) =>
        SEVERITIES.indexOf(b.severity) - SEVERITIES.indexOf(a.severity) ||
        compare(a.rule, b.rule) ||
        compare(a.subject, b.subject) ||
        compare(a.signature, b.signature),
    )
    .slice(0, REASONS_MAX)
    .map((finding) => ({
      text: describe(finding),
      weight: finding.verdict,
      severity: finding.severity,
      rule: finding.rule,
      kind: finding.kind,
      subject: finding.subject,
    }));
}
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function driftedText({ integrity, reasons }: JudgedIntegrity, weighing: readonly FindingFacts[]): string {
  const bySeverity = [...SEVERITIES].reverse().flatMap((severity) => {
    const n = weighing.filter((finding) => finding.severity === severity && finding.verdict === 'drifted').length;
    return n === 0 ? [] : [`${n} ${severity}`];
  });
  const parts = bySeverity.length === 0 ? [reasons[0]!.text] : [bySeverity.join(', ')];
  if (integrity.state === 'masked') parts.push('the image lies under something else');
  if (integrity.allowed > 0) parts.push(differences(integrity.allowed, 'allowed'));
  if (integrity.waived > 0) parts.push(`${integrity.waived} waived`);
  return parts.join('; ');
}

/** Never bare where something is allowed, waived, masked or not assessed. */
function compliantText(
  { integrity }: JudgedIntegrity,
  { provenance, integrity: facts }: HostFacts,
  findings: readonly FindingFacts[],
): string {
  const noted = findings.filter((finding) => !finding.waived).length;
  const variants = facts!.variants.usr + facts!.variants.etc;
  const parts = [
    ...(integrity.allowed > 0 ? [differences(integrity.allowed, 'allowed')] : []),
    ...(integrity.local > 0 ? [differences(integrity.local, 'local')] : []),
    ...(variants > 0 ? [differences(variants, 'importer')] : []),
    ...(integrity.waived > 0 ? [`${integrity.waived} waived`] : []),
    ...(noted > 0 ? [`${noted} noted`] : []),
    ...(integrity.state === 'masked' ? ['image partly masked'] : []),
    // Policy asks for an age that nobody knows: that is not the same as young enough.
    ...(facts!.age?.untold === true ? ['age of the image not assessed'] : []),
    SIGNED_TEXT[provenance.state],
  ];
  return `compliant (${parts.join(', ')})`;
}

const SIGNED_TEXT: Readonly<Record<Provenance['state'], string>> = {
  'not-assessed': 'signatures not assessed',
  trusted: 'signatures trusted',
  unsigned: 'image unsigned, which is waived',
  rejected: 'image rejected, which is waived',
  unverifiable: 'signatures could not be checked',
};

const differences = (n: number, what: string): string => `${n} ${what} difference${n === 1 ? '' : 's'}`;

const totals = ({ added, removed, modified }: { added: number; removed: number; modified: number }): string =>
  `${added} added, ${removed} removed, ${modified} modified`;

/** The largest whole unit: what a person needs of a time span. */
function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 72 ? `${hours} h` : `${Math.floor(hours / 24)} days`;
}
