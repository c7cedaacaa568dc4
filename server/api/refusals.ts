/** Which refusals a route can answer, told from its shape: one place, so that no route answers what the OpenAPI document does not say. */
import { ALL_PROBLEMS } from './problem.ts';

/** An operation of the OpenAPI document, as far as its refusals follow from it. */
export type Operation = {
  readonly operationId?: string;
  readonly security?: readonly object[];
  readonly parameters?: readonly {
    readonly in: string;
    readonly name: string;
    readonly required?: boolean;
    readonly description?: string;
    readonly schema?: object;
  }[];
  readonly requestBody?: unknown;
  readonly responses: Readonly<Record<string, unknown>>;
};

const MEANINGS: Readonly<Record<number, string>> = {
  400: 'The request is not as described here; `errors` names each wrong place.',
  401: 'It is not said who asks, or not so that it counts.',
  403: 'Not for whoever asks.',
  404: 'What the request names is not here.',
  405: 'The route does not take this method; `Allow` lists those that it takes.',
  409: 'What stands now does not allow it.',
  412: 'Somebody changed it since it was read; `current` says what stands.',
  413: 'The body is too large.',
  416: 'The file has no such part.',
  415: 'The body is not of a media type or coding that is taken.',
  422: 'Well formed, but it cannot mean this.',
  428: 'Say what you decide on: `If-Match` with the ETag of what you read.',
  431: 'Address and header lines are longer than is read; answered before anybody looked, without a document.',
  429: 'Too much; `Retry-After` says for how long to wait.',
  500: 'Our own fault; the log of the server says more.',
  503: 'It cannot be taken now; `Retry-After` says when to send it again.',
};

/** Each status of a refusal as a component that operations refer to. */
export function refusalComponents(): Record<string, object> {
  return Object.fromEntries(
    Object.entries(MEANINGS).map(([status, description]) => {
      const waits = status === '429' || status === '503';
      return [
        `Refused${status}`,
        {
          description,
          // For readers of the document: what `code` can be. New ones may come.
          'x-codes': Object.keys(ALL_PROBLEMS).filter((code) => ALL_PROBLEMS[code] === Number(status)),
          ...(waits ? { headers: { 'Retry-After': { description: 'Seconds.', schema: { type: 'integer' } } } } : {}),
          ...(Number(status) === HEADERS_TOO_LONG ? {} : { content: problemContent(Number(status)) }),
        },
      ];
    }),
  );
}

function problemContent(status: number): object {
  const code = Object.keys(ALL_PROBLEMS).find((each) => ALL_PROBLEMS[each] === status);
  if (code === undefined) throw new Error(`no refusal has the status ${status}`);
  const title = code.toLowerCase().replaceAll('_', ' ');
  const example = { type: `/problems/${code}`, title, status, detail: MEANINGS[status], code };
  return { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' }, example } };
}

/** Node's HTTP server answers it by itself. */
const HEADERS_TOO_LONG = 431;

/** Those that every route may answer. */
const ALWAYS = [400, 405, 429, HEADERS_TOO_LONG, 500, 503] as const;

/** What does not follow from a route's shape, by the id of its operation. */
const MORE: Readonly<Record<string, readonly number[]>> = {
  downloadEvidenceExport: [416],
  enrol: [401, 403],
  enrolNonce: [403],
  forbidSource: [422],
  postReport: [401, 403],
  previewImage: [422],
  proveLogConsistency: [404],
};

function statusesOf({ operationId, security, parameters = [], requestBody }: Operation): readonly number[] {
  const has = (place: string, name?: string) =>
    parameters.some((each) => each.in === place && (name === undefined || each.name.toLowerCase() === name));
  return [
    ...ALWAYS,
    ...(security === undefined || security.length === 0 ? [] : [401, 403]),
    ...(has('path') ? [404, 409, 422] : []),
    ...(requestBody === undefined ? [] : [404, 409, 413, 415, 422]),
    ...(has('header', 'if-match') ? [412, 428] : []),
    ...(has('header', 'idempotency-key') ? [422, 428] : []),
    ...(MORE[operationId ?? ''] ?? []),
  ];
}

/** The operation with all that it can answer. What it describes itself stays. */
export function withRefusals<Given extends Operation>(operation: Given): Given {
  const { default: _, ...described } = operation.responses;
  const statuses = [...new Set(statusesOf(operation))].sort((a, b) => a - b);
  const refusals = statuses.map((status) => [status, { $ref: `#/components/responses/Refused${status}` }] as const);
  return { ...operation, responses: { ...Object.fromEntries(refusals), ...described } };
}
