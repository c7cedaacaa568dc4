/** Where the server listens, and how it stops listening. */
import type { Server } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import { createServer } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { Hono } from 'hono';
import { BootproofError } from '#src/error.ts';
import {
  CONNECTIONS_KEPT,
  CONNECTIONS_MAX,
  HEADER_BYTES_MAX,
  LISTEN_PORTS_TRIED,
  STOP_WITHIN_MS,
} from '#src/limits.ts';
import type { OwnCertificate, Pair } from './certificate.ts';
import type { Log } from './deps.ts';

export class StartError extends BootproofError<'LISTEN_ADDRESS'> {}

export type Address = {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** A taken port moves to the next free one. */
  readonly movable?: boolean;
};

export type Listening = { readonly server: Server; readonly port: number };

/** Whether an address that may not move can be had at all: asked before anything is made on disk. @throws {StartError} LISTEN_ADDRESS */
export async function mustBeFree({ host, port, movable = false }: Address): Promise<void> {
  if (movable || port === 0) return;
  const probe = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once('error', reject);
      probe.listen(port, host, () => resolve());
    });
  } catch (cause) {
    throw refused({ host, port }, cause as NodeJS.ErrnoException);
  }
  await new Promise<void>((resolve) => probe.close(() => resolve()));
}

function refused({ host, port }: Address, cause: NodeJS.ErrnoException): StartError {
  const why =
    cause.code === 'EADDRINUSE'
      ? 'another program has it; end that one, or name another port with --listen'
      : cause.code;
  return new StartError('LISTEN_ADDRESS', `cannot listen on ${host} port ${port}: ${why}`, { cause });
}

/** @throws {StartError} */
export async function listen(
  app: Hono,
  { host, port, movable = false }: Address,
  log: Log,
  certificate: OwnCertificate | null = null,
): Promise<Listening> {
  for (let tried = 0; ; tried++) {
    const server = createAdaptorServer({
      fetch: app.fetch,
      ...(certificate === null ? {} : { createServer: createTlsServer as never }),
      serverOptions: {
        ...(certificate === null ? {} : { cert: certificate.pair.cert, key: certificate.pair.key }),
        // A body of some megabytes over a slow line; nobody needs longer, and nobody may hold a connection open for nothing.
        requestTimeout: 120_000,
        headersTimeout: 15_000,
        keepAliveTimeout: 75_000,
        // Node looks every 30 s by itself, which doubles what it allows.
        connectionsCheckingInterval: 5_000,
        maxHeaderSize: HEADER_BYTES_MAX,
      },
    }) as Server;
    boundConnections(server, log);
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(port === 0 ? 0 : port + tried, host, () => resolve());
      });
    } catch (error) {
      const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      if (taken && movable && tried + 1 < LISTEN_PORTS_TRIED && port + tried < 65_535) continue;
      throw refused({ host, port }, error as NodeJS.ErrnoException);
    }
    const address = server.address();
    const actual = typeof address === 'object' && address !== null ? address.port : port;
    if (actual !== port && port !== 0) log('warn', 'port taken', { wanted: port, got: actual });
    return { server, port: actual };
  }
}

/**
 * A fleet that comes at one moment has a connection a host: memory must not grow with them. Where many are open an answer ends its own, so that
 * others find room; beyond the bound new ones are closed unheard, which agents take for no answer, and wait.
 */
export function boundConnections(server: Server, log: Log, kept = CONNECTIONS_KEPT, most = CONNECTIONS_MAX): void {
  let open = 0;
  let dropped = 0;
  let told = -Infinity;
  server.maxConnections = most;
  server.on('connection', (socket) => {
    open++;
    socket.once('close', () => open--);
  });
  server.prependListener('request', (_request, response) => {
    if (open > kept) response.setHeader('Connection', 'close');
  });
  server.on('drop', () => {
    dropped++;
    if (performance.now() - told < TELL_DROPPED_MS) return;
    told = performance.now();
    log('warn', 'connections closed unheard', { open, dropped });
  });
}

/** How often it is told that connections were closed. */
const TELL_DROPPED_MS = 10_000;

/** Connections that stand keep the certificate that they were made with; each new one gets this. */
export function useCertificate({ server }: Listening, { cert, key }: Pair): void {
  (server as unknown as TlsServer).setSecureContext({ cert, key });
}

export function urlOf(host: string, port: number, scheme: 'http' | 'https' = 'http'): string {
  const name = host === '0.0.0.0' || host === '::' ? 'localhost' : host.includes(':') ? `[${host}]` : host;
  return `${scheme}://${name}:${port}`;
}

/** Takes no connection any more; ends what is under way, and after `withinMs` what takes too long. */
export async function closeHttp(server: Server, withinMs = STOP_WITHIN_MS): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // One that was busy is idle when its answer is out, and Node would keep it for the next request.
  const idle = setInterval(() => server.closeIdleConnections(), 50);
  server.closeIdleConnections();
  const late = setTimeout(() => server.closeAllConnections(), withinMs);
  await closed;
  clearTimeout(late);
  clearInterval(idle);
}
