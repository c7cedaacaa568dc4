/**
 * How the API says no (RFC 9457): one table from code to status, one place that turns a thrown refusal into a response. Codes of the
 * agents' routes stand in `src/wire/problem.ts`; here are those of people's routes.
 */
import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { BootproofError } from '#src/error.ts';
import { isProblemCode, problem, PROBLEM_MEDIA_TYPE, PROBLEMS, type ProblemCode } from '#src/wire/problem.ts';
import type { Log } from '#server/deps.ts';
import { returns } from '#server/ingest/reporterror.ts';
import { requestId } from '#server/logging.ts';

const API_PROBLEMS = {
  // Requests that are not as the OpenAPI document says.
  QUERY_INVALID: 400,
  CURSOR_INVALID: 400,
  BODY_SYNTAX: 400,
  BODY_MISSING: 400,
  BODY_INVALID: 400,
  PATH_INVALID: 400,
  MEDIA_TYPE: 415,
  METHOD_NOT_ALLOWED: 405,
  // Who asks.
  UNAUTHENTICATED: 401,
  TOO_MANY_FAILURES: 429,
  // What is asked for.
  TOKEN_UNKNOWN: 404,
  USER_UNKNOWN: 404,
  USER_EXISTS: 409,
  BINDING_UNKNOWN: 404,
  API_TOKEN_UNKNOWN: 404,
  API_TOKEN_SCOPE: 422,
  SESSION_UNKNOWN: 404,
  FINDING_UNKNOWN: 404,
  IMAGE_UNKNOWN: 404,
  REPORT_UNKNOWN: 404,
  TRUST_ROOT_NOT_KEPT_UP: 404,
  HOST_NOT_PENDING: 409,
  NOT_FORKED: 409,
  SOURCE_SYNTAX: 422,
  DENY_INVALID: 422,
  POLICY_UNKNOWN: 404,
  POLICY_INVALID: 422,
  POLICY_MANAGED: 409,
  POLICY_CONFLICT: 409,
  IMAGE_NOT_READY: 409,
  IMAGES_UNLIKE: 409,
  LOG_NOT_SIGNED: 503,
  LOG_ENTRY_UNKNOWN: 404,
  LOG_RESTART: 409,
  EVIDENCE_UNKNOWN: 404,
  EVIDENCE_PERIOD: 422,
  EVIDENCE_HOSTS: 422,
  EVIDENCE_FRAMEWORK: 422,
  EVIDENCE_FULL: 409,
  EVIDENCE_STATE: 409,
  RANGE_INVALID: 416,
  HOLD_UNKNOWN: 404,
  HOLD_INVALID: 422,
  HOLD_OVER: 409,
  INVENTORY_SYNTAX: 422,
  INVENTORY_COLUMN: 422,
  INVENTORY_TOO_LARGE: 422,
  INVENTORY_UNKNOWN: 404,
  INVENTORY_FULL: 409,
  CONFLICT: 409,
  // Decisions.
  FORBIDDEN: 403,
  PRECONDITION_REQUIRED: 428,
  STALE_DECISION: 412,
  UNTIL_INVALID: 422,
  WAIVER_UNKNOWN: 404,
  WAIVER_STATE: 409,
  WAIVER_OWN: 403,
  WAIVER_ROLE: 403,
  WAIVER_LIFE: 422,
  WAIVER_SELECTOR: 422,
  WAIVER_EMPTY: 422,
  BULK_UNKNOWN: 404,
  BULK_TOO_WIDE: 422,
  BULK_OVER: 409,
  VIEW_UNKNOWN: 404,
  VIEW_CONFLICT: 409,
  CHANNEL_UNKNOWN: 404,
  DELIVERY_UNKNOWN: 404,
  CHANNEL_INVALID: 422,
  CHANNEL_CONFLICT: 409,
  FILTER_SYNTAX: 400,
  FILTER_FIELD: 400,
  FILTER_VALUE: 400,
} as const;
type ApiCode = keyof typeof API_PROBLEMS;

/** A place in the request that is wrong: a JSON pointer into the body, or the name of a parameter. */
export type Fault = { readonly pointer?: string; readonly parameter?: string; readonly detail: string };

/** A request that cannot be answered as it stands. */
export class ApiError extends BootproofError<ApiCode | ProblemCode> {
  readonly faults: readonly Fault[];
  /** Seconds after which it may be tried again. */
  readonly retryAfter: number | undefined;

  constructor(code: ApiCode | ProblemCode, message: string, faults: readonly Fault[] = [], retryAfter?: number) {
    super(code, message);
    this.faults = faults;
    this.retryAfter = retryAfter;
  }
}

/** Seconds after which a refused request may work: after 503 and 429 alike. */
const RETRY_AFTER_SECONDS = 5;

/** Members of a refusal that go into the document, where the thrown error has them. */
type Extras = {
  readonly check?: number;
  readonly accepts?: readonly number[];
  readonly head?: number;
  readonly faults?: readonly Fault[];
  readonly retryAfter?: number | undefined;
  /** Methods that the route takes. */
  readonly allow?: readonly string[];
  /** What stands now, where somebody decided on what was before. */
  readonly current?: { readonly revision: number };
};

/** The response to anything that was thrown. What is no refusal of ours is our own fault: logged whole, told in one word. */
export function problemResponse(error: unknown, context: Context, log: Log): Response {
  if (error instanceof HTTPException) return respond(context, httpProblem(error), {});
  if (error instanceof BootproofError) {
    const code: string = error.code;
    const extras = error as BootproofError & Extras;
    if (isProblemCode(code)) return respond(context, problem(code, error.message), extras);
    if (isApiCode(code)) return respond(context, apiProblem(code, error.message), extras);
    if (code === 'STORE_TEXT') return respond(context, apiProblem('BODY_SYNTAX', 'text must not hold a NUL'), {});
    if (code === 'STORE_SLOW') return respond(context, problem('OVERLOADED', error.message), {});
    // The outcome of a write is not known: sent again, it is recognised.
    if (code === 'STORE_UNAVAILABLE' || code === 'STORE_CLOSED') {
      log('warn', 'store unavailable', { error: error.message });
      // A fleet that is told one time comes back as one, the moment that the store is there again.
      const retryAfter = returns.seconds();
      return respond(context, problem('OVERLOADED', 'the store cannot take this now; send it again'), { retryAfter });
    }
  }
  log('error', 'fault', {
    path: context.req.path,
    error: error instanceof Error ? (error.stack ?? error.message) : String(error),
  });
  return respond(context, problem('FAULT', 'our own fault; the log of the server says more'), {});
}

function isApiCode(code: string): code is ApiCode {
  return Object.hasOwn(API_PROBLEMS, code);
}

type Document = Omit<ReturnType<typeof problem>, 'code'> & { readonly code: string };

function apiProblem(code: ApiCode, detail: string): Document {
  const title = code.toLowerCase().replaceAll('_', ' ');
  return { type: `/problems/${code}`, title, status: API_PROBLEMS[code], detail: detail.slice(0, 4000), code };
}

function httpProblem(error: HTTPException): Document {
  if (error.status === 415) return apiProblem('MEDIA_TYPE', 'send the body as application/json');
  if (error.status === 413) return problem('BODY_TOO_LARGE', 'the body is too large for this route');
  return apiProblem('BODY_SYNTAX', 'the request cannot be read');
}

function respond(
  context: Context,
  document: Document,
  { check, accepts, head, faults, retryAfter, allow, current }: Extras,
): Response {
  const wait = document.status === 503 || document.status === 429;
  const request = requestId();
  return context.body(
    JSON.stringify({
      ...document,
      ...(request === undefined ? {} : { requestId: request }),
      ...(check === undefined ? {} : { check }),
      ...(accepts === undefined ? {} : { accepts }),
      ...(head === undefined ? {} : { head }),
      ...(current === undefined ? {} : { current }),
      ...(faults === undefined || faults.length === 0 ? {} : { errors: faults }),
    }),
    document.status as 400,
    {
      'Content-Type': PROBLEM_MEDIA_TYPE,
      ...(wait ? { 'Retry-After': String(retryAfter ?? RETRY_AFTER_SECONDS) } : {}),
      ...(allow === undefined ? {} : { Allow: allow.join(', ') }),
      ...(current === undefined ? {} : { ETag: `"${current.revision}"` }),
      ...(document.status === 401 ? { 'WWW-Authenticate': 'Bearer realm="bootproof"' } : {}),
    },
  );
}

/** Every code with its status: for the OpenAPI document and `docs/errors.md`. */
export const ALL_PROBLEMS: Readonly<Record<string, number>> = { ...PROBLEMS, ...API_PROBLEMS };
