/**
 * What accepted reports are answered (docs/report.md 4): when to come again, spread evenly over the interval, and what to send then.
 */
import { createHash } from 'node:crypto';
import { formatInstant, type Instant } from '#src/clock.ts';
import { STRETCH_MOST } from '#src/limits.ts';
import { REPORT_VERSIONS } from '#src/report/report.ts';
import type { Answer } from '#src/wire/answer.ts';
import { makeChallenge } from '#src/wire/challenge.ts';
import { makeBearer } from '#src/wire/manifests.ts';
import type { Deps } from '#server/deps.ts';
import type { Host } from '#server/store/records.ts';

export type Want = Answer['want'];

/** What an answer tells of the evidence log. */
export type LogTold = Required<Pick<Answer, 'checkpoint' | 'consistency' | 'logKey'>>;
/** The log as far as answers need it. */
export type EvidenceTold = { tell(echo: string | null): Promise<LogTold> };

const NOTHING_TOLD: LogTold = { checkpoint: null, consistency: null, logKey: null };

export type AnsweredHost = Pick<Host, 'id' | 'group' | 'labels'>;

export class Answers {
  readonly #deps: Pick<Deps, 'clock' | 'keys'> & { readonly evidence: EvidenceTold };
  readonly #interval: (host: AnsweredHost) => number;
  readonly #strain: () => number;

  /** `interval`: how often a host is asked to report, ms. `strain`: from 0 to 1, how much less of that there must be now. */
  constructor(
    deps: Pick<Deps, 'clock' | 'keys'> & { readonly evidence: EvidenceTold },
    interval: (host: AnsweredHost) => number,
    strain: () => number = () => 0,
  ) {
    this.#deps = deps;
    this.#interval = interval;
    this.#strain = strain;
  }

  /** What is told of the log to who echoed this. */
  log(echo: string | null): Promise<LogTold> {
    return this.#deps.evidence.tell(echo);
  }

  /**
   * The answer's JSON text, as it is sent and kept. A `replay` gets no tickets: whoever holds the bytes of an old report has not shown
   * that it is the host, and must not live on by repeating them (docs/report.md 4.5).
   */
  text(
    host: AnsweredHost,
    about: { readonly seq: number; readonly effect: Answer['effect']; readonly want: Want },
    log: LogTold,
  ): string {
    const now = this.#deps.clock();
    const { tickets } = this.#deps.keys;
    const proven = about.effect !== 'replay';
    const answer: Answer = {
      seq: about.seq,
      effect: about.effect,
      next: formatInstant(this.next(host, now, about.want === 'full')),
      want: about.want,
      challenge: proven ? makeChallenge(host.id, now, tickets) : null,
      ...(proven ? log : NOTHING_TOLD),
      manifestBearer: proven ? makeBearer(host.id, now, tickets) : null,
      accepts: [...REPORT_VERSIONS],
    };
    return JSON.stringify(answer);
  }

  /**
   * When this host should come again: at its own place in the interval, which its id decides, so that a fleet that booted at one
   * moment is spread evenly after one round. Where something is waited for, within the first half after the least wait. A server at its limit
   * stretches both, in steps, so that those of one step have their places beside each other; never so far that a report which comes when it was
   * asked for is no longer live (docs/report.md 5.3: two intervals).
   */
  next(host: AnsweredHost, now: Instant, soon: boolean): Instant {
    const interval = this.#interval(host);
    const step = Math.ceil(this.#strain() * STRETCH_STEPS) / STRETCH_STEPS;
    const period = (soon && step === 0 ? interval / 4 : interval) * (1 + step * STRETCH_MOST);
    const place = shareOf(host.id) * period;
    // Agents come no sooner than half their interval (docs/report.md 4.3).
    const least = now + interval / 2;
    return Math.ceil(least + ((((place - least) % period) + period) % period));
  }
}

const STRETCH_STEPS = 4;

/** A number in [0, 1) that a host keeps for life. */
function shareOf(hostId: string): number {
  return createHash('sha256').update(hostId).digest().readUInt32BE(0) / 2 ** 32;
}
