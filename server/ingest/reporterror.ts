/** A report that was not taken: what the host is told. */
import { BootproofError } from '#src/error.ts';
import type { CheckNumber } from '#src/report/refusal.ts';
import { RETRY_LEAST_SECONDS, RETRY_MOST_SECONDS } from '#src/limits.ts';
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

let refused = 0;

/** No place now. Each is told another time to come back, so that a fleet that came at one moment does not do so again. */
export function overloaded(message: string): ReportError {
  const spread = refused++ % (RETRY_MOST_SECONDS - RETRY_LEAST_SECONDS + 1);
  return new ReportError('OVERLOADED', message, { retryAfter: RETRY_LEAST_SECONDS + spread });
}
