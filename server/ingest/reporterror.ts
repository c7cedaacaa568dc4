/** A report that was not taken: what the host is told. */
import { BootproofError } from '#src/error.ts';
import type { CheckNumber } from '#src/report/refusal.ts';
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
