/**
 * What the printed report shows of a fleet of any size: like exceptions of many hosts as one line, the worst of what is said host by host, and
 * the period day by day. Folded as hosts stream by.
 */
import { REPORT_ROWS_MAX } from '#src/limits.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { at, belowLimit, share, type Exception, type Weight } from './controlrules.ts';
import type { HostResult } from './controls.ts';
import type { BundleHead, HostInScope } from './facts.ts';
import { Top } from './reportmarkup.ts';

/** The same exception on many hosts. */
export type ExceptionLine = {
  readonly exception: Exception;
  hosts: number;
  /** The first in the order of ids. */
  readonly example: string;
  /** When the first of them began, and the last ended; null where one is not over. */
  from: string | null;
  to: string | null;
  noticedAt: string | null;
  longest: number;
};

export type HostLine = { readonly host: HostInScope; readonly exception: Exception; readonly lasted: number };

const DAY_MS = 86_400_000;
/** Bars of the chart: a day each, or several where the period is longer. */
const BINS_MAX = 124;

export type Bins = {
  readonly days: number;
  readonly from: number;
  readonly opened: Float64Array;
  readonly ended: Float64Array;
  /** Hosts within a gap at some time of it. */
  readonly gaps: Float64Array;
};

export class ReportFold {
  readonly #head: BundleHead;
  readonly #groups = new Map<string, ExceptionLine>();
  #beyond = 0;
  readonly below = new Top<HostInScope>(REPORT_ROWS_MAX, (a, b) => share(a.checkIns) - share(b.checkIns));
  readonly gaps = new Top<HostLine>(
    REPORT_ROWS_MAX,
    (a, b) =>
      Number(a.exception.weight === 'explained') - Number(b.exception.weight === 'explained') || b.lasted - a.lasted,
  );
  readonly bins: Bins;
  /** Hosts by image, at the end. */
  readonly booted = new Map<string, number>();
  hostsWaived = 0;

  constructor(head: BundleHead) {
    this.#head = head;
    const from = at(head.period.from);
    const days = Math.max(1, Math.ceil((at(head.period.to) - from) / DAY_MS));
    const each = Math.ceil(days / BINS_MAX);
    const count = Math.ceil(days / each);
    const zeros = () => new Float64Array(count);
    this.bins = { days: each, from, opened: zeros(), ended: zeros(), gaps: zeros() };
  }

  add({ host, findings, exceptions }: HostResult): void {
    const { period } = this.#head;
    if (belowLimit(host, this.#head)) this.below.offer(host);
    if (exceptions.some(({ weight }) => weight === 'waived')) this.hostsWaived++;
    const image = host.deployments.at(-1)?.image;
    if (image !== undefined) this.booted.set(image, (this.booted.get(image) ?? 0) + 1);
    for (const { history } of findings)
      for (const step of history) {
        if (step.transition === 'new' || step.transition === 'regressed') this.#bin(this.bins.opened, step.at);
        if (step.transition === 'resolved') this.#bin(this.bins.ended, step.at);
      }
    const silent = new Set<number>();
    for (const { from, to } of host.gaps)
      for (let bin = this.#index(from); bin <= this.#index(to); bin++) silent.add(bin);
    for (const bin of silent) if (bin >= 0 && bin < this.bins.gaps.length) this.bins.gaps[bin]!++;
    for (const exception of exceptions) {
      const lasted = exception.from === null ? 0 : at(exception.to ?? period.to) - at(exception.from);
      if (exception.kind === 'gap') this.gaps.offer({ host, exception, lasted });
      else if (exception.kind !== 'incomplete') this.#group(host, exception, lasted);
    }
  }

  #index(time: string): number {
    return Math.floor((at(time) - this.bins.from) / (this.bins.days * DAY_MS));
  }

  #bin(counts: Float64Array, time: string): void {
    const index = this.#index(time);
    if (index >= 0 && index < counts.length) counts[index]!++;
  }

  #group(host: HostInScope, exception: Exception, lasted: number): void {
    const { kind, weight, subject, finding, cause, decision } = exception;
    // Durations differ from host to host; what is one thing is one line.
    const own = kind === 'answer' || kind === 'interval' ? '' : cause;
    const key = JSON.stringify([kind, weight, subject, finding?.group ?? null, decision?.id ?? null, own]);
    const group = this.#groups.get(key);
    if (group === undefined) {
      if (this.#groups.size >= 20 * REPORT_ROWS_MAX) {
        this.#beyond++;
        return;
      }
      const { from, to, noticedAt } = exception;
      this.#groups.set(key, { exception, hosts: 1, example: host.name, from, to, noticedAt, longest: lasted });
      return;
    }
    group.hosts++;
    group.longest = Math.max(group.longest, lasted);
    group.from = earlier(group.from, exception.from);
    group.noticedAt = earlier(group.noticedAt, exception.noticedAt);
    group.to = group.to === null || exception.to === null ? null : group.to > exception.to ? group.to : exception.to;
  }

  /** Lines of a weight, the worst first, those that do not fit counted. */
  lines(...weights: readonly Weight[]): { readonly lines: readonly ExceptionLine[]; readonly beyond: number } {
    const rank = ({ severity }: Exception) => (severity === null ? -3 : -SEVERITIES.indexOf(severity));
    const all = [...this.#groups.values()]
      .filter(({ exception }) => weights.includes(exception.weight))
      .sort((a, b) => rank(a.exception) - rank(b.exception) || b.hosts - a.hosts || b.longest - a.longest);
    return { lines: all.slice(0, REPORT_ROWS_MAX), beyond: Math.max(0, all.length - REPORT_ROWS_MAX) + this.#beyond };
  }
}

const earlier = (a: string | null, b: string | null): string | null => (a === null ? b : b === null || a < b ? a : b);
