/**
 * The agent's way to the server: plain requests, bounded in time and size, over TLS. What comes back is treated as from anyone: no
 * redirect is followed, nothing unknown is obeyed (docs/report.md 4.3).
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { X509Certificate } from 'node:crypto';
import { getCACertificates } from 'node:tls';
import { createGunzip, createZstdDecompress, gzipSync } from 'node:zlib';
import { type Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { ANSWER_BYTES_MAX } from '#src/limits.ts';
import { Answer } from '#src/wire/answer.ts';
import { PATHS } from '#src/wire/paths.ts';
import { Problem } from '#src/wire/problem.ts';
import type { Posted } from './outbox.ts';

/** URL_SYNTAX, URL_INSECURE: the setting is wrong. The others: this request failed, another may not. */
export class PostError extends BootproofError<
  'URL_SYNTAX' | 'URL_INSECURE' | 'CA_SYNTAX' | 'NO_ANSWER' | 'ANSWER_TOO_LARGE' | 'ANSWER_SYNTAX' | 'REDIRECTED'
> {}

export type Request = {
  readonly method: 'GET' | 'POST';
  /** Below the server's address, with its query. */
  readonly path: string;
  readonly body?: Uint8Array;
  readonly contentType?: string;
  readonly bearer?: string;
  /** Bytes of the decoded answer that are read; more is an error. */
  readonly limit: number;
  /** Takes the decoded body of a 200 as it comes; it is then not kept. */
  readonly sink?: (piece: Uint8Array) => void;
};
export type Response = {
  readonly status: number;
  /** First value; names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Uint8Array;
};

export type ServerOptions = {
  readonly url: string;
  /** PEM: the only authorities that are trusted. Without it, those of Node and of the host. */
  readonly ca?: string | undefined;
  /** HTTPS_PROXY, NO_PROXY and the like are read from it. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Silence on the wire after which a request is given up. */
  readonly idleMs?: number;
  /** All that a request may take. */
  readonly totalMs?: number;
  readonly userAgent?: string;
  readonly signal?: AbortSignal | undefined;
};

const IDLE_MS = 30_000;
const TOTAL_MS = 10 * 60_000;
/** Smaller bodies fit a packet or two as they are. */
const GZIP_FROM_BYTES = 1400;

/** A server at an address. Holds connections open between requests; `close` ends them. */
export class Server {
  readonly #base: URL;
  readonly #options: ServerOptions;
  readonly #agent: HttpAgent;

  /** @throws {PostError} URL_SYNTAX; URL_INSECURE for plain http to anything but loopback; CA_SYNTAX. */
  constructor(options: ServerOptions) {
    this.#base = parseServerUrl(options.url);
    this.#options = options;
    const shared = { keepAlive: true, maxSockets: 1, proxyEnv: { ...options.env } };
    this.#agent =
      this.#base.protocol === 'https:'
        ? new HttpsAgent({
            ...shared,
            ca: options.ca === undefined ? authorities() : checkedAuthorities(options.ca),
            minVersion: 'TLSv1.2',
          })
        : new HttpAgent(shared);
  }

  /** For messages. */
  get name(): string {
    return this.#base.href.replace(/\/$/, '');
  }

  close(): void {
    this.#agent.destroy();
  }

  /** @throws {PostError} NO_ANSWER, ANSWER_TOO_LARGE, REDIRECTED, ANSWER_SYNTAX. */
  async request(request: Request): Promise<Response> {
    const total = AbortSignal.timeout(this.#options.totalMs ?? TOTAL_MS);
    const { signal } = this.#options;
    const message = await this.#send(request, signal === undefined ? total : AbortSignal.any([signal, total]));
    const status = message.statusCode ?? 0;
    if (status >= 300 && status < 400) {
      message.destroy();
      throw new PostError(
        'REDIRECTED',
        `${this.name} sends elsewhere (${status}); an agent goes nowhere but to its server`,
      );
    }
    const headers = Object.fromEntries(
      Object.entries(message.headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]),
    );
    try {
      return {
        status,
        headers,
        body: await readBody(message, request.limit, this.name, status === 200 ? request.sink : undefined),
      };
    } catch (cause) {
      message.destroy();
      if (signal?.aborted === true) throw signal.reason;
      throw cause instanceof PostError ? cause : this.#noAnswer(total.aborted ? total.reason : cause);
    }
  }

  #send(request: Request, signal: AbortSignal): Promise<IncomingMessage> {
    const plain = request.body;
    const compress = plain !== undefined && plain.length > GZIP_FROM_BYTES;
    const body = compress ? gzipSync(plain) : plain;
    const secure = this.#base.protocol === 'https:';
    const url = new URL(this.#base.pathname.replace(/\/$/, '') + request.path, this.#base);
    return new Promise((resolve, reject) => {
      const sent = (secure ? httpsRequest : httpRequest)(url, {
        agent: this.#agent,
        method: request.method,
        signal,
        headers: {
          'user-agent': this.#options.userAgent ?? 'bootproof-agent',
          'accept-encoding': 'zstd, gzip',
          ...(request.bearer === undefined ? {} : { authorization: `Bearer ${request.bearer}` }),
          ...(body === undefined
            ? {}
            : { 'content-length': body.length, 'content-type': request.contentType ?? 'application/json' }),
          ...(compress ? { 'content-encoding': 'gzip' } : {}),
        },
      });
      const idleMs = this.#options.idleMs ?? IDLE_MS;
      sent.setTimeout(idleMs, () => sent.destroy(new Error(`silent for ${idleMs / 1000} s`)));
      sent.on('response', resolve);
      sent.on('error', (cause) => {
        const stopped = this.#options.signal;
        reject(stopped?.aborted === true ? (stopped.reason as Error) : this.#noAnswer(cause));
      });
      sent.end(body);
    });
  }

  #noAnswer(cause: unknown): PostError {
    const timeout = cause instanceof Error && cause.name === 'TimeoutError';
    const code = (cause as NodeJS.ErrnoException).code;
    const why = timeout
      ? 'it took too long'
      : cause instanceof Error
        ? cause.message || code || cause.name
        : String(cause);
    return new PostError('NO_ANSWER', `${this.name} does not answer: ${why}`, { cause });
  }
}

/** @throws {PostError} URL_SYNTAX, URL_INSECURE (docs/report.md 6.7). */
export function parseServerUrl(text: string): URL {
  const url = URL.parse(text);
  if (
    url === null ||
    !/^https?:$/.test(url.protocol) ||
    url.search !== '' ||
    url.hash !== '' ||
    url.username + url.password !== ''
  )
    throw new PostError(
      'URL_SYNTAX',
      `expected an address such as https://bootproof.example, got ${JSON.stringify(text.slice(0, 200))}`,
    );
  if (url.protocol === 'http:' && !/^(?:localhost|127(?:\.[0-9]+){3}|\[::1\])$/.test(url.hostname))
    throw new PostError('URL_INSECURE', `plain http is spoken to this machine alone; ${url.host} needs https`);
  return url;
}

/** Node takes a file without a single certificate for a list of none, and then says only that nobody can be believed. */
function checkedAuthorities(pem: string): string {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  try {
    if (found.length === 0) throw new Error('there is no certificate in it');
    for (const certificate of found) new X509Certificate(certificate); // eslint-disable-line no-new
    return pem;
  } catch (cause) {
    throw new PostError(
      'CA_SYNTAX',
      `the file of authorities holds no certificates in PEM: ${(cause as Error).message}`,
      { cause },
    );
  }
}

function authorities(): string[] {
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system')])];
}

async function readBody(
  message: IncomingMessage,
  limit: number,
  server: string,
  sink: Request['sink'],
): Promise<Uint8Array> {
  const tooLarge = () => new PostError('ANSWER_TOO_LARGE', `${server} answered more than ${limit} bytes`);
  const encoding = message.headers['content-encoding'] ?? 'identity';
  const decoder = encoding === 'gzip' ? createGunzip() : encoding === 'zstd' ? createZstdDecompress() : undefined;
  if (decoder === undefined && encoding !== 'identity')
    throw new PostError('ANSWER_SYNTAX', `${server} answered in an encoding that was not asked for`);
  const chunks: Buffer[] = [];
  let bytes = 0;
  // Errors of the message must reach the loop over the decoder.
  const stream = decoder === undefined ? message : message.on('error', (error) => decoder.destroy(error)).pipe(decoder);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > limit) throw tooLarge();
    if (sink === undefined) chunks.push(chunk);
    else sink(chunk);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

/** JSON in the form of a schema. @throws {PostError} ANSWER_SYNTAX. */
export function parseAnswer<T>(response: Response, schema: { parse(value: unknown): T }, server: string): T {
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(response.body)));
  } catch (cause) {
    throw new PostError(
      'ANSWER_SYNTAX',
      `${server} answered ${response.status} with something that is not its answer`,
      { cause },
    );
  }
}

/** The problem document of a refusal, if it is one of ours: a proxy's page is none. */
export function problemOf(response: Response): Problem | undefined {
  try {
    const found = Problem.safeParse(JSON.parse(new TextDecoder().decode(response.body)));
    return found.success && found.data.status === response.status ? found.data : undefined;
  } catch {
    return undefined;
  }
}

/** Milliseconds of a Retry-After (RFC 9110 section 10.2.3), or null. */
export function retryAfterMs(value: string | undefined, now: Instant): number | null {
  if (value === undefined) return null;
  if (/^[0-9]{1,9}$/.test(value)) return Number(value) * 1000;
  const date = /^[A-Z][a-z]{2}, /.test(value) ? Date.parse(value) : NaN;
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

/** Posts one report, and reads the answer as docs/report.md 4.4 says. */
export async function postReport(server: Server, envelope: Uint8Array, now: () => Instant): Promise<Posted> {
  const retry = (why: string, afterMs: number | null = null): Posted => ({ kind: 'retry', why, afterMs });
  let response: Response;
  try {
    response = await server.request({
      method: 'POST',
      path: PATHS.reports,
      body: envelope,
      contentType: 'application/json',
      limit: ANSWER_BYTES_MAX,
    });
  } catch (error) {
    if (error instanceof PostError) return retry(error.message);
    throw error;
  }
  const { status } = response;
  if (status === 200) {
    try {
      return { kind: 'accepted', answer: parseAnswer(response, Answer, server.name) };
    } catch (error) {
      if (error instanceof PostError) return retry(error.message);
      throw error;
    }
  }
  const problem = problemOf(response);
  const after = retryAfterMs(response.headers['retry-after'], now());
  // Check 3 is of the host, which may be heard yet; each other one is of the report, which never will (docs/report.md 3).
  if (problem?.check === 3) return { kind: 'waits', problem };
  if (problem?.check !== undefined && status < 500 && status !== 429) return { kind: 'refused', problem };
  return retry(
    `${server.name} answers ${status}${problem === undefined ? '' : `: ${problem.detail} [${problem.code}]`}`,
    after,
  );
}
