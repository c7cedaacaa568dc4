/** Problem documents (RFC 9457): how the server says no to machines, and which codes there are on the agent's routes. */
import { z } from 'zod';

/** Code and HTTP status. Codes of checks stand in docs/report.md 3; all are explained in docs/errors.md. */
export const PROBLEMS = {
  // The checks of a report, in their order.
  REPORT_TOO_LARGE: 413,
  ENVELOPE_SYNTAX: 400,
  PAYLOAD_TYPE: 400,
  PAYLOAD_SYNTAX: 400,
  HOST_UNKNOWN: 404,
  HOST_PENDING: 403,
  HOST_RETIRED: 403,
  SIGNATURE_INVALID: 401,
  VERSION_UNSUPPORTED: 422,
  SCHEMA_INVALID: 422,
  PAYLOAD_NOT_CANONICAL: 422,
  CHALLENGE_MALFORMED: 422,
  CHALLENGE_FOREIGN: 422,
  SEQUENCE_FORKED: 409,
  SEQUENCE_FORGOTTEN: 409,
  DRIFT_CONTRADICTS: 422,
  HOLES_CONTRADICT: 422,
  MANIFEST_CONTRADICTS: 422,
  TREE_CONTRADICTS: 422,
  CONTENTS_CONTRADICT: 422,
  SAME_CONTRADICTS: 422,
  // Enrolment.
  ENROL_SYNTAX: 400,
  ENROL_TOKEN: 403,
  ENROL_NONCE: 403,
  ENROL_PROOF: 403,
  ENROL_KEY: 422,
  // Manifests.
  BEARER_INVALID: 401,
  MANIFEST_UNKNOWN: 404,
  IMAGE_SOURCE_NOT_ALLOWED: 403,
  // Any route.
  ENCODING_UNSUPPORTED: 415,
  BODY_TOO_LARGE: 413,
  NOT_FOUND: 404,
  RATE_LIMITED: 429,
  OVERLOADED: 503,
  FAULT: 500,
} as const;
export type ProblemCode = keyof typeof PROBLEMS;

export function isProblemCode(code: string): code is ProblemCode {
  return Object.hasOwn(PROBLEMS, code);
}

export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

/** As it is read: codes of a newer server are let through, unknown members dropped. */
export const Problem = z.object({
  /** A reference, relative to the server: `/problems/<CODE>`. */
  type: z.string().max(200),
  title: z.string().max(200),
  status: z.int().min(400).max(599),
  detail: z.string().max(4000),
  code: z.string().regex(/^[A-Z][A-Z0-9_]{0,63}$/),
  /** Number of the check that a report failed (docs/report.md 3). */
  check: z.int().min(1).max(7).optional(),
  /** With VERSION_UNSUPPORTED: report versions that the server takes, highest first. */
  accepts: z.array(z.int().min(1)).min(1).max(8).optional(),
  /** With SEQUENCE_FORKED and SEQUENCE_FORGOTTEN: number of the newest report that the server took of this host (docs/report.md 4.6). */
  head: z.int().min(0).optional(),
});
export type Problem = z.infer<typeof Problem>;

/** A problem document. `detail` is for people and holds no secret. */
export function problem(
  code: ProblemCode,
  detail: string,
  more: Pick<Problem, 'check' | 'accepts' | 'head'> = {},
): Problem {
  const title = code.toLowerCase().replaceAll('_', ' ');
  return { type: `/problems/${code}`, title, status: PROBLEMS[code], detail: detail.slice(0, 4000), code, ...more };
}
