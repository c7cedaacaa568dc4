/** A report that was not taken: what the host is told. */
import { BootproofError } from '#src/error.ts';
import type { CheckNumber } from '#src/report/refusal.ts';
import { RETRY_LAST_SECONDS, RETRY_LEAST_SECONDS, RETRY_MOST_SECONDS } from '#src/limits.ts';
import { REPORT_VERSIONS } from '#src/report/report.ts';
import type { ProblemCode } from '#src/wire/problem.ts';

export class ReportError extends BootproofError<ProblemCode> {
  readonly check: CheckNumber | undefined;
  readonly accepts: readonly number[] | undefined;
  /** Seconds after which it makes sense to send it again. */
  readonly retryAfter: number | undefined;
  readonly head: number | undefined;

  constructor(
    code: ProblemCode,
    message: string,
    more: { check?: CheckNumber; retryAfter?: number; head?: number | undefined } = {},
  ) {
    super(code, message);
    this.check = more.check;
    this.accepts = code === 'VERSION_UNSUPPORTED' ? REPORT_VERSIONS : undefined;
    this.retryAfter = more.retryAfter;
    this.head = more.head;
  }
}

/**
 * When those come back who found no place: each at another time, so that a fleet that came at one moment does not do so again; and no more in a
 * second than are taken in one, after the first minute half of that, so that whoever was sent away finds a place when it comes.
 */
export class Returns {
  readonly #now: () => number;
  #refused = 0;
  /** The next place that was promised to nobody, ms. */
  #free = 0;
  #taken = 0;
  #since = 0;
  #perSecond = PACE_LEAST;

  /** `now`: ms of any clock that does not jump. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** One was taken. */
  took(): void {
    this.#taken++;
    const passed = this.#now() - this.#since;
    if (passed < PACE_MS) return;
    // A pause says nothing of what could be taken.
    if (passed < 2 * PACE_MS) this.#perSecond = Math.max(PACE_LEAST, (1000 * this.#taken) / passed);
    this.#taken = 0;
    this.#since += passed;
  }

  /** One found no place: seconds until it comes again. */
  seconds(): number {
    const spread = RETRY_LEAST_SECONDS + (this.#refused++ % (RETRY_MOST_SECONDS - RETRY_LEAST_SECONDS + 1));
    const now = this.#now();
    this.#free = Math.max(this.#free, now) + 2000 / this.#perSecond;
    const promised = Math.ceil((this.#free - now) / 1000);
    if (promised <= RETRY_LAST_SECONDS) return Math.max(spread, promised);
    // More than all places: those behind them begin anew at the front, where some will not have come.
    this.#free = now;
    return spread;
  }
}

/** What is taken is counted over so long, ms. */
const PACE_MS = 5000;
/** A second, where nothing is known yet. */
const PACE_LEAST = 50;

/** Of this process: whatever refuses for want of room, it is one machine that has none. */
export const returns = new Returns(() => performance.now());

/** No place now; told when there may be one. */
export function overloaded(message: string): ReportError {
  return new ReportError('OVERLOADED', message, { retryAfter: returns.seconds() });
}
