/** The way to the servers: as many connections as are allowed, kept open; several servers in turn, as a balancer would. */
import { gzipSync } from 'node:zlib';
import { Pool } from 'undici';
import { ANSWER_BYTES_MAX, HEADERS_BYTES_MAX } from '#src/limits.ts';
import { BootproofError } from '#src/error.ts';
import { networkReason } from '#src/wire/network.ts';
import { Problem } from '#src/wire/problem.ts';

/** LOAD_TOKEN: the server takes no host with this token. LOAD_ANSWER: what answers is no server of ours. LOAD_SERVER: none answers. */
export class LoadError extends BootproofError<'LOAD_TOKEN' | 'LOAD_ANSWER' | 'LOAD_SERVER' | 'LOAD_STATE'> {}

/** Agents send as they are what fits a packet or two. */
const GZIP_FROM_BYTES = 1400;
const WAIT_MS = 120_000;

export type Got = {
  /** 0: there was no answer. */
  readonly status: number;
  readonly body: Buffer;
  /** Why there was no answer. */
  readonly why: string;
  /** As the server says it; null where it does not. */
  readonly retryAfterMs: number | null;
  /** From the first byte sent to the last one that came, ms. */
  readonly ms: number;
};

export type Poster = {
  post(path: string, body: string): Promise<Got>;
  get(path: string, bearer: string): Promise<Got>;
};

export class Servers implements Poster {
  readonly #pools: readonly { readonly pool: Pool; readonly base: string }[];
  #turn = 0;

  /** `ca`: PEM of the only authorities that are trusted. */
  constructor(urls: readonly URL[], { connections, ca }: { readonly connections: number; readonly ca?: string }) {
    this.#pools = urls.map(({ origin, pathname }) => ({
      base: pathname.replace(/\/$/, ''),
      pool: new Pool(origin, {
        connections: Math.max(1, Math.ceil(connections / urls.length)),
        pipelining: 1,
        headersTimeout: WAIT_MS,
        bodyTimeout: WAIT_MS,
        ...(ca === undefined ? {} : { connect: { ca } }),
      }),
    }));
  }

  post(path: string, body: string): Promise<Got> {
    const compress = body.length > GZIP_FROM_BYTES;
    return this.#ask('POST', path, compress ? gzipSync(body) : body, ANSWER_BYTES_MAX, {
      'content-type': 'application/json',
      ...(compress ? { 'content-encoding': 'gzip' } : {}),
    });
  }

  get(path: string, bearer: string): Promise<Got> {
    return this.#ask('GET', path, null, 4 * HEADERS_BYTES_MAX, { authorization: `Bearer ${bearer}` });
  }

  async close(): Promise<void> {
    await Promise.all(this.#pools.map(({ pool }) => pool.destroy()));
  }

  async #ask(
    method: 'GET' | 'POST',
    path: string,
    body: string | Buffer | null,
    limit: number,
    headers: Readonly<Record<string, string>>,
  ): Promise<Got> {
    const { pool, base } = this.#pools[this.#turn++ % this.#pools.length]!;
    const begun = performance.now();
    try {
      const answer = await pool.request({ method, path: base + path, body, headers });
      const chunks: Buffer[] = [];
      let length = 0;
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > limit) throw new LoadError('LOAD_ANSWER', `more than ${limit} bytes came as an answer`);
        chunks.push(chunk);
      }
      return {
        status: answer.statusCode,
        body: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks),
        why: '',
        retryAfterMs: retryAfterOf(answer.headers['retry-after']),
        ms: performance.now() - begun,
      };
    } catch (cause) {
      if (cause instanceof LoadError) throw cause;
      const { code, name } = cause as NodeJS.ErrnoException;
      const why = networkReason(code) ?? code ?? name;
      return { status: 0, body: Buffer.alloc(0), why, retryAfterMs: null, ms: performance.now() - begun };
    }
  }
}

/** Ours are seconds. */
function retryAfterOf(value: string | string[] | undefined): number | null {
  return typeof value === 'string' && /^[0-9]{1,9}$/.test(value) ? 1000 * Number(value) : null;
}

/** The problem document of a refusal; undefined where something else answered. */
export function problemIn({ status, body }: Got): Problem | undefined {
  try {
    const found = Problem.safeParse(JSON.parse(body.toString('utf8')));
    return found.success && found.data.status === status ? found.data : undefined;
  } catch {
    return undefined;
  }
}

/** In words: a code of ours, a status of something before the server, or why nothing came. */
export function reasonIn(got: Got): string {
  if (got.status === 0) return `no answer: ${got.why}`;
  return problemIn(got)?.code ?? `status ${got.status}`;
}
