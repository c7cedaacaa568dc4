/** How a report is refused, and what may stand out about one that is not (docs/report.md 3). */
import { printableText } from '#src/terminal.ts';
import { PROBLEMS, type ProblemCode } from '#src/wire/problem.ts';

export type CheckNumber = 1 | 2 | 3 | 4 | 5 | 6 | 7;

/** A report that was not taken, and what the host is told. An expected outcome, so a value. */
export type Refused = {
  readonly kind: 'refused';
  readonly check: CheckNumber;
  readonly code: ProblemCode;
  /** For people; what the host wrote appears in it only with its control characters made visible. */
  readonly message: string;
  /** HTTP. */
  readonly status: number;
  /** With check 6: number of the newest report that was taken (docs/report.md 4.6). */
  readonly head?: number;
};

export function refuse(check: CheckNumber, code: ProblemCode, message: string): Refused {
  return { kind: 'refused', check, code, message: printableText(message.slice(0, 1000)), status: PROBLEMS[code] };
}

/**
 * What stands out about an accepted report, or a forked one; each is a finding of its own. `drift-truncated` and
 * `scan-implausible` also mean that nothing may be resolved by it.
 */
export type Flag = 'chain-gap' | 'identity-forked' | 'cloned' | 'clock-skew' | 'drift-truncated' | 'scan-implausible';
