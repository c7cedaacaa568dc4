/**
 * What people decided, applied to what a machine shows: which waiver covers a finding at a moment, and what its disposition is then.
 * Called when a report is judged, when a decision is made and when one ends: one function, so that all of them agree.
 */
import { fromUtf8 } from '#src/bytes.ts';
import type { Instant } from '#src/clock.ts';
import { unvis, VisError } from '#src/manifest/vis.ts';
import { SEVERITIES, type JudgementKind, type Severity } from '#src/policy/judgement.ts';
import { GlobError, matchesGlob, parseGlob } from '#src/policy/paths.ts';
import { covers } from './scope.ts';
import { stateOf, WaiverError, type Pin, type Selector, type Waiver } from './waiver.ts';

/** A finding on a host, as far as selectors ask. */
export type Target = {
  readonly rule: string;
  readonly kind: JudgementKind;
  readonly subject: string;
  readonly signature: string;
  readonly severity: Severity;
};
export type TargetHost = {
  readonly id: string;
  readonly group: string | null;
  readonly labels: Readonly<Record<string, string>>;
  /** Every name of the booted image: digest and aliases, as far as they are known. */
  readonly digests: readonly string[];
  readonly repositories: readonly string[];
};

/**
 * Who looks the other way at these would not know something, rather than accept it: that there is no manifest, that nothing is heard,
 * that two machines speak with one key, that a scan was cut. They have ways out of their own.
 */
export function isWaivable({ kind, signature }: Pick<Target, 'kind' | 'signature'>): boolean {
  if (kind === 'manifest' || kind === 'silence') return false;
  if (kind === 'provenance') return signature !== 'unverifiable';
  return kind !== 'report' || !NOT_KNOWING.has(signature);
}
const NOT_KNOWING = new Set(['identity-forked', 'cloned', 'drift-truncated', 'holes-capped', 'scan-implausible']);

export type Matcher = {
  readonly host: (host: TargetHost) => boolean;
  readonly finding: (target: Target) => boolean;
};

/** @throws {WaiverError} WAIVER_SELECTOR for a glob that is none, or where nothing at all narrows it. */
export function compileSelector(selector: Selector): Matcher {
  const { rules, subject, content, hosts, image } = selector;
  if (content === 'any' && rules === undefined && subject === undefined)
    throw new WaiverError(
      'WAIVER_SELECTOR',
      'any content of any rule at any path would be everything: name rules, a subject, or pinned content',
    );
  const rule = rules === undefined ? undefined : new Set(rules);
  const named = subjectMatcher(subject);
  const pinned = content === 'any' ? undefined : pinMatcher(content.pins);
  return {
    finding: (target) =>
      isWaivable(target) &&
      (rule === undefined || rule.has(target.rule)) &&
      named(target.subject) &&
      (pinned === undefined || pinned(target)),
    host: (host) =>
      (hosts?.ids === undefined || hosts.ids.includes(host.id)) &&
      (hosts?.groups === undefined || covers(hosts.groups, host.group)) &&
      (hosts?.labels === undefined ||
        hosts.labels.some(({ key, value }) => Object.hasOwn(host.labels, key) && host.labels[key] === value)) &&
      (image?.digest === undefined || host.digests.includes(image.digest)) &&
      (image?.repository === undefined || host.repositories.includes(image.repository)),
  };
}

function subjectMatcher(subject: Selector['subject']): (text: string) => boolean {
  if (subject === undefined) return () => true;
  if ('exact' in subject) return (text) => text === subject.exact;
  return globMatcher(subject.glob);
}

/** Whether a subject, as findings keep it, is named by a glob of policies. @throws {WaiverError} WAIVER_SELECTOR */
export function globMatcher(source: string): (subject: string) => boolean {
  let glob: ReturnType<typeof parseGlob>;
  try {
    glob = parseGlob(source, source.startsWith('/') ? 'path' : 'text');
  } catch (error) {
    if (!(error instanceof GlobError)) throw error;
    throw new WaiverError('WAIVER_SELECTOR', error.message, { cause: error });
  }
  return (subject) => {
    if (glob.kind === 'text') return matchesGlob(glob, fromUtf8(subject));
    if (!subject.startsWith('/')) return false;
    try {
      return matchesGlob(glob, unvis(subject));
    } catch (error) {
      if (error instanceof VisError) return false; // no path: a subject of another kind
      throw error;
    }
  };
}

function pinMatcher(pins: readonly Pin[]): (target: Target) => boolean {
  const digests = new Set<string>();
  const changes = new Set<string>();
  for (const pin of pins) {
    if ('digest' in pin) digests.add(pin.digest.slice('sha256:'.length));
    else changes.add(`${pin.subject}\n${pin.signature}`);
  }
  return ({ subject, signature }) => {
    if (changes.has(`${subject}\n${signature}`)) return true;
    const digest = /(?:^|;)sha256=(?:sha256:)?([0-9a-f]{64})(?:;|$)/.exec(signature)?.[1];
    return digest !== undefined && digests.has(digest);
  };
}

/** A waiver ready to be asked about many findings. */
export type Ready = { readonly waiver: Waiver; readonly matcher: Matcher };

export function ready(waiver: Waiver): Ready {
  return { waiver, matcher: compileSelector(waiver.selector) };
}

/** Whether the waiver reaches this host at all, now. */
export function reachesHost({ waiver, matcher }: Ready, host: TargetHost, now: Instant): boolean {
  return stateOf(waiver, now) === 'active' && covers(waiver.scope, host.group) && matcher.host(host);
}

/** Above its ceiling a waiver does not reach, so a finding that policy rates higher comes back. */
export function coversFinding({ waiver, matcher }: Ready, target: Target): boolean {
  return SEVERITIES.indexOf(target.severity) <= SEVERITIES.indexOf(waiver.ceiling) && matcher.finding(target);
}

export type Ack = {
  readonly by: string;
  readonly at: Instant;
  readonly until: Instant;
  readonly note: string | null;
};

export type Exemption =
  | { readonly kind: 'none' }
  | { readonly kind: 'acknowledged'; readonly ack: Ack }
  | { readonly kind: 'waived'; readonly waiver: string; readonly until: Instant };

/**
 * What holds of a present finding now. A waiver goes before an acknowledgement; of several waivers the one that ends last counts, so
 * that it is clear until when. `reaching`: the waivers that reach this finding's host.
 */
export function exemptionOf(target: Target, ack: Ack | null, reaching: readonly Ready[], now: Instant): Exemption {
  let best: Waiver | undefined;
  for (const one of reaching) {
    const { waiver } = one;
    if (best !== undefined && waiver.expiresAt <= best.expiresAt) continue;
    if (coversFinding(one, target)) best = waiver;
  }
  if (best !== undefined) return { kind: 'waived', waiver: best.id, until: best.expiresAt };
  return ack !== null && now < ack.until ? { kind: 'acknowledged', ack } : { kind: 'none' };
}
