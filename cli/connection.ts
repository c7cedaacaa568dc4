/** A person's way to a server's API: where it is, who asks, and what it says no with. */
import { open, readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { BootproofError } from '#src/error.ts';
import { printableText, UsageError, type Io } from '#src/terminal.ts';
import { networkReason } from '#src/wire/network.ts';

/** What a server refused, or that it did not answer. The code is the server's own, or SERVER_UNREACHABLE, SERVER_ANSWER. */
export class ServerError extends BootproofError {}

export type ConnectionOptions = { readonly server?: string; readonly tokenFile?: string };

const DEFAULT_SERVER = 'http://127.0.0.1:8340';
/** The largest document that a command reads; lists come in pages. */
const ANSWER_BYTES_MAX = 64 * 2 ** 20;
const TIMEOUT_MS = 60_000;
/** Items asked for at once: the server answers more, but in more time than a person waits before something appears. */
const PAGE_ITEMS = 200;

/** Adds the options that name a server and who asks. */
export function connectionOptions(command: Command): Command {
  return command
    .option('--server <url>', `the server; else BOOTPROOF_SERVER, else ${DEFAULT_SERVER}`)
    .option(
      '--token-file <file>',
      'a file with your token, or the admin token; else BOOTPROOF_TOKEN (never an argument: others see those)',
    );
}

export type Page<Item> = { readonly items: readonly Item[]; readonly next: string | null };

/** A list, or its beginning. */
export type Listed<Item> = {
  readonly items: readonly Item[];
  /** Whether the server has more of it. */
  readonly more: boolean;
};

export class Connection {
  readonly #base: string;
  readonly #token: string;

  private constructor(base: string, token: string) {
    this.#base = base;
    this.#token = token;
  }

  /** @throws {UsageError} where the options and variables do not name a server and a token. */
  static async open({ server, tokenFile }: ConnectionOptions, { env }: Pick<Io, 'env'>): Promise<Connection> {
    const base = (server ?? env['BOOTPROOF_SERVER'] ?? DEFAULT_SERVER).replace(/\/+$/, '');
    if (!URL.canParse(base) || !/^https?:$/.test(new URL(base).protocol))
      throw new UsageError(`--server ${base}: expected http(s)://host[:port]`);
    const { protocol, hostname } = new URL(base);
    if (protocol === 'http:' && !/^(?:localhost|127\.[0-9.]+|\[::1\])$/.test(hostname))
      throw new UsageError(`--server ${base}: the token would travel in the clear; use https, http is for loopback`);
    const token = tokenFile === undefined ? env['BOOTPROOF_TOKEN'] : await readSmall(tokenFile);
    if (token === undefined || token.trim() === '')
      throw new UsageError(
        'who asks? Put your token, or the admin token, into BOOTPROOF_TOKEN, or a file with it after --token-file',
      );
    // What a header cannot hold is told by fetch with the whole header in the message; the secret must not be there.
    if (!/^[!-~]+$/.test(token.trim()))
      throw new UsageError(
        `the token is not one line of plain letters: ${tokenFile === undefined ? 'BOOTPROOF_TOKEN' : printableText(tokenFile)} must hold the token alone`,
      );
    return new Connection(base, token.trim());
  }

  /**
   * Asks, and gives the answer's JSON. Path, query and body are made of options here, so what the server holds against those is wrong use.
   * @throws {ServerError | UsageError}
   */
  async ask<Answer>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Answer> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    try {
      return JSON.parse(await this.send(method, path, text, headers)) as Answer;
    } catch (error) {
      if (error instanceof ServerError && WRONG_USE.has(error.code)) throw new UsageError(plainFault(error.message));
      throw error;
    }
  }

  /** Sends a body as it is, and gives the answer's text. @throws {ServerError} */
  async send(
    method: string,
    path: string,
    body?: string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    let response: Response;
    let text: string;
    try {
      response = await fetch(this.#base + path, {
        method,
        headers: {
          ...headers,
          authorization: `Bearer ${this.#token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        // The token is for this server alone.
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...(body === undefined ? {} : { body }),
      });
      text = await bounded(response);
    } catch (error) {
      if (error instanceof ServerError) throw error;
      throw new ServerError('SERVER_UNREACHABLE', `${this.#base} does not answer: ${whyNot(error as Error)}`, {
        cause: error,
      });
    }
    if (response.ok) return text;
    throw refusal(response.status, text, this.#base);
  }

  /** A file of the server's, as bytes; undefined where it has none. @throws {ServerError} */
  async bytes(path: string): Promise<Uint8Array | undefined> {
    let response: Response;
    try {
      response = await fetch(this.#base + path, { redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (response.ok) return new Uint8Array(await response.arrayBuffer());
    } catch (error) {
      throw new ServerError('SERVER_UNREACHABLE', `${this.#base} does not answer: ${whyNot(error as Error)}`, {
        cause: error,
      });
    }
    if (response.status === 404) return undefined;
    throw refusal(response.status, await response.text(), this.#base);
  }

  /** A file that only its asker may have, from a byte on; the answer is read as it comes. @throws {ServerError} */
  async file(path: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(this.#base + path, {
        headers: { ...headers, authorization: `Bearer ${this.#token}` },
        redirect: 'error',
        signal,
      });
    } catch (error) {
      throw new ServerError('SERVER_UNREACHABLE', `${this.#base} does not answer: ${whyNot(error as Error)}`, {
        cause: error,
      });
    }
    if (response.ok) return response;
    throw refusal(response.status, await bounded(response), this.#base);
  }

  /** Up to `limit` items of a list, page by page. */
  async list<Item>(
    path: string,
    query: Readonly<Record<string, string | undefined>>,
    limit: number,
  ): Promise<Listed<Item>> {
    const items: Item[] = [];
    let cursor: string | null = null;
    do {
      const search = new URLSearchParams({ limit: String(Math.min(PAGE_ITEMS, limit - items.length)) });
      for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, value);
      if (cursor !== null) search.set('cursor', cursor);
      const page: Page<Item> = await this.ask('GET', `${path}?${search.toString()}`);
      items.push(...page.items);
      cursor = page.next;
    } while (cursor !== null && items.length < limit);
    return { items, more: cursor !== null };
  }
}

const WRONG_USE = new Set([
  'QUERY_INVALID',
  'PATH_INVALID',
  'BODY_INVALID',
  'DENY_INVALID',
  'EVIDENCE_PERIOD',
  'EVIDENCE_HOSTS',
  'EVIDENCE_FRAMEWORK',
]);

/** A schema's own words mean nothing to whoever typed an option: which one is wrong is what is left of them. */
function plainFault(message: string): string {
  return message
    .replaceAll(/Invalid (?:string|input|option|key)[^;]*/g, (said) => {
      const words = /expected one of (.*)/.exec(said)?.[1];
      return words === undefined ? 'not such a value' : `expected ${words.replaceAll('"', '').replaceAll('|', ', ')}`;
    })
    .replaceAll(/Too (?:small|big): expected [a-z]+ to (?:have|be) /g, 'expected ');
}

/** Why there was no answer: fetch itself says no more than that it failed. */
function whyNot(error: Error): string {
  if (error.name === 'TimeoutError') return `no answer within ${TIMEOUT_MS / 1000} seconds`;
  const { code, message } = (error.cause ?? error) as { readonly code?: string; readonly message?: string };
  if (message === 'bad port')
    return 'no connection is made to this port, which is reserved for another protocol than HTTP';
  return networkReason(code) ?? message ?? error.message;
}

async function bounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > ANSWER_BYTES_MAX)
      throw new ServerError('SERVER_ANSWER', `an answer of more than ${ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function refusal(status: number, text: string, server: string): ServerError {
  let problem: { code?: unknown; detail?: unknown } = {};
  try {
    problem = JSON.parse(text) as typeof problem;
  } catch {
    // no problem document of ours: what stands before the server may answer as well
  }
  if (typeof problem.code !== 'string' || typeof problem.detail !== 'string')
    return new ServerError('SERVER_ANSWER', `the server, or what stands before it, answers ${status}`);
  // Whoever holds a token of another server, or another port, learns which one was asked.
  const where =
    status === 401 ? `${server} does not take this token (--server or BOOTPROOF_SERVER names another): ` : '';
  return new ServerError(printableText(problem.code), where + problem.detail);
}

async function readSmall(file: string): Promise<string> {
  return (await readOperand(file, 4096)).toString('utf8');
}

/** A file that a command line names, at most `max` bytes of it. @throws {UsageError} */
export async function readOperand(file: string, max: number): Promise<Buffer> {
  try {
    await using handle = await open(file, 'r');
    const { size } = await handle.stat();
    if (size > max) throw new UsageError(`${printableText(file)} has ${size} bytes; at most ${max} are read`);
    return await readFile(handle);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${printableText(file)} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
}
