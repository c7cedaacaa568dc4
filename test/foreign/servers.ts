/** Servers in processes of their own on one PostgreSQL, and a balancer before them: each request to the next one, whoever it is from. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestServer } from '../server/fleet.ts';
import { root, scratch } from './tools.ts';

/** Whatever these tests wait for comes far sooner; where it does not, they say what was awaited. */
const PATIENCE_MS = 240_000;

export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  for (const end = Date.now() + PATIENCE_MS; ;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await sleep(50);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** One server, of this build or of another one. */
export class Process {
  readonly name: string;
  readonly child: ChildProcess;
  readonly url: string;
  #text = '';

  private constructor(name: string, url: string, child: ChildProcess) {
    this.name = name;
    this.url = url;
    this.child = child;
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (bytes: Buffer) => (this.#text += bytes.toString()));
  }

  /** `build`: the folder of its source. */
  static async begin(
    t: TestContext,
    name: string,
    { build = root, databaseUrl, args = [] }: { build?: string; databaseUrl: string; args?: readonly string[] },
  ): Promise<Process> {
    const address = `127.0.0.1:${await freePort()}`;
    const command = ['--disable-warning=ExperimentalWarning', 'server/main.ts', '--data', scratch(t)];
    const child = spawn(process.execPath, [...command, '--listen', address, '--jobs-interval', '100ms', ...args], {
      cwd: build,
      env: { DATABASE_URL: databaseUrl, PATH: process.env['PATH'] },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.after(() => child.kill('SIGKILL'));
    return new Process(name, `http://${address}`, child);
  }

  /** Serving: its admin token, where it is the one that made it. */
  async serving(): Promise<string | undefined> {
    await this.said(/bootproof server at /);
    return /admin token .*: (\S+)/.exec(this.#text)?.[1];
  }

  said(pattern: RegExp): Promise<string> {
    return until(`${this.name} says ${String(pattern)}`, () => {
      const match = pattern.exec(this.#text);
      if (match === null && this.child.exitCode !== null)
        throw new Error(`${this.name} ended with ${this.child.exitCode}: ${this.#text}`);
      return match === null ? undefined : (match[1] ?? match[0]);
    });
  }

  /** Its log's events of a name. */
  events(name: string): { readonly [field: string]: unknown }[] {
    return this.#text
      .split('\n')
      .filter((line) => line.startsWith('{') && line.includes(`"event":${JSON.stringify(name)}`))
      .map((line) => JSON.parse(line) as { [field: string]: unknown });
  }

  /** Everything that it logged as an error. */
  errors(): string[] {
    return this.#text.split('\n').filter((line) => line.startsWith('{') && line.includes('"level":"error"'));
  }

  kill(): Promise<void> {
    return this.#ended('SIGKILL');
  }

  stop(): Promise<void> {
    return this.#ended('SIGTERM');
  }

  async #ended(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const gone = once(this.child, 'close');
    this.child.kill(signal);
    await gone;
  }
}

/** Connections that a server had when it died: a balancer has no answer to give. */
const GONE = JSON.stringify({ detail: 'the balancer: no server answered' });

/** A balancer: requests in turn, to the next one where nobody listens; where a server dies before its answer, 503. */
export class Balancer {
  readonly backends: Process[] = [];
  readonly url: string;
  /** While it is set, everything goes there. */
  pinned: Process | undefined;
  #turn = 0;

  private constructor(server: Server) {
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async of(t: TestContext): Promise<Balancer> {
    let balancer: Balancer | undefined;
    const server = createServer((asked, answer) => void balancer!.#pass(asked, answer));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    balancer = new Balancer(server);
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    return balancer;
  }

  remove(one: Process): void {
    this.backends.splice(this.backends.indexOf(one), 1);
  }

  async #pass(asked: IncomingMessage, answer: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of asked) parts.push(part as Buffer);
    const body = Buffer.concat(parts);
    for (let tried = 0; tried < this.backends.length; tried++) {
      const backend = this.pinned ?? this.backends[this.#turn++ % this.backends.length]!;
      if (await this.#passTo(backend, asked, body, answer)) return;
    }
    answer.writeHead(503, { 'content-type': 'application/json' }).end(GONE);
  }

  /** False where nobody listens there. */
  #passTo(
    to: Process,
    { method, url, headers }: IncomingMessage,
    body: Buffer,
    answer: ServerResponse,
  ): Promise<boolean> {
    return new Promise((resolve) => {
      const passed = request(to.url + url!, { method, headers, agent: false }, (got) => {
        answer.writeHead(got.statusCode!, got.headers);
        got.pipe(answer);
        got.on('error', () => answer.destroy());
        resolve(true);
      });
      passed.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ECONNREFUSED') return resolve(false);
        if (answer.headersSent) answer.destroy();
        else answer.writeHead(503, { 'content-type': 'application/json' }).end(GONE);
        resolve(true);
      });
      passed.end(body);
    });
  }
}

/** Servers behind an address, as `TestHost`, `enrol` and `Load` speak with one; their clock is the machine's. */
export function remote(url: string, admin: string): TestServer {
  const ask = (path: string, init?: RequestInit) => fetch(url + path, { ...init, signal: AbortSignal.timeout(60_000) });
  const shim = {
    server: { app: { request: ask } },
    time: {
      get now() {
        return Date.now();
      },
      // Those who would move it on have to take their time.
      set now(_: number) {},
    },
    async api(path: string, { method = 'GET', body }: { method?: string; body?: unknown } = {}) {
      const response = await ask(path, {
        method,
        headers: { authorization: `Bearer ${admin}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.status, body: await response.json(), headers: response.headers };
    },
  };
  return shim as unknown as TestServer;
}

/** Which of some processes has the other end of a connection on loopback. */
export function processAt(port: number, among: readonly Process[]): Process | undefined {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const line = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .find((row) => row.trim().split(/\s+/)[1] === local);
  const inode = line?.trim().split(/\s+/)[9];
  return among.find(({ child: { pid, exitCode, signalCode } }) => {
    if (exitCode !== null || signalCode !== null) return false;
    const folder = `/proc/${pid}/fd`;
    return readdirSync(folder).some((fd) => {
      try {
        return readlinkSync(join(folder, fd)) === `socket:[${inode}]`;
      } catch {
        return false; // closed meanwhile
      }
    });
  });
}
