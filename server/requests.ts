/** Every request has an id: in its answer, in its problem document, and in each line that is logged about it. */
import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { Context, MiddlewareHandler } from 'hono';
import { PATHS } from '#src/wire/paths.ts';
import type { Log } from './deps.ts';
import { inRequest } from './logging.ts';

export const REQUEST_ID = 'X-Request-Id';
/** An id of somebody else's that is taken over: what a proxy writes, and nothing that could be mistaken in a log. */
const FOREIGN = /^[A-Za-z0-9][A-Za-z0-9._:-]{7,127}$/;
/** Requests that take longer are worth a line, whatever they are, ms. */
const SLOW_MS = 10_000;

export type RequestDeps = {
  readonly log: Log;
  /** Whether the request comes over a proxy that the configuration names: then its id is taken over. */
  readonly viaProxy: (c: Context) => boolean;
  /** Hears of each answer. */
  readonly answered: (path: string, status: number, ms: number) => void;
  /** The server ends: whoever holds a connection is told to come over another one, which leads to another process. */
  readonly isStopping: () => boolean;
};

/** Stands before everything: it costs a report some microseconds, as it touches no header of the answer that Hono makes. */
export function requestIds({ log, viaProxy, answered, isStopping }: RequestDeps): MiddlewareHandler {
  return (c, next) => {
    const given = c.req.header(REQUEST_ID);
    const id = given !== undefined && FOREIGN.test(given) && viaProxy(c) ? given : randomUUID();
    const { outgoing } = (c.env ?? {}) as { readonly outgoing?: ServerResponse };
    if (outgoing === undefined) c.header(REQUEST_ID, id);
    else outgoing.setHeader(REQUEST_ID, id);
    return inRequest(id, async () => {
      const begun = performance.now();
      await next();
      // Not before: it may have been on its way when the server was told to stop.
      if (isStopping() && outgoing?.headersSent === false) outgoing.setHeader('Connection', 'close');
      const ms = performance.now() - begun;
      answered(c.req.path, c.res.status, ms);
      tell(c, ms, log);
    });
  };
}

/** Paths and never queries, which may hold what somebody looks for. */
function tell(c: Context, ms: number, log: Log): void {
  const { method, path } = c.req;
  const { status } = c.res;
  // Of a flood of refused reports the metrics tell.
  const isReport = path === PATHS.reports;
  const level =
    (status >= 500 && !(isReport && status === 503)) || ms >= SLOW_MS
      ? 'warn'
      : isReport || method === 'GET' || method === 'HEAD'
        ? 'debug'
        : 'info';
  log(level, 'request', { method, path, status, ms: Math.round(ms) });
}
