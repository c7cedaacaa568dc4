/** A real server, as its command starts it, with a certificate for the address by which guests reach it; and what its API says. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, fetch } from 'undici';

/** Loopback of the machine that runs qemu, as its user network shows it to guests. */
const SEEN_BY_GUESTS = '10.0.2.2';

export type Finding = {
  readonly rule: string;
  readonly kind: string;
  readonly subject: string;
  readonly what: string;
  readonly severity: string;
  readonly status: string;
};
export type Reason = { readonly text: string; readonly rule?: string; readonly subject?: string };
export type HostAnswer = {
  readonly id: string;
  readonly name: string;
  readonly verdict: string;
  readonly sentence: string;
  readonly integrity: {
    readonly state: string;
    readonly code: string | null;
    readonly allowed: number;
    readonly local: number;
  };
  readonly reasons: readonly Reason[];
  readonly images: { readonly booted: string | null; readonly rollback: string | null };
  readonly last: { readonly seq: number; readonly kind: string } | null;
  readonly rule: string | null;
  readonly backend: string | null;
};
export type Overlay = { readonly path: string; readonly kind: string; readonly masks: boolean };
export type Drifted = {
  readonly comparedWith: { readonly image: string; readonly rule: string } | null;
  readonly trees: Readonly<
    Record<
      'usr' | 'etc',
      { readonly holes: readonly { readonly path?: string; readonly kind: string; readonly detail: string }[] }
    >
  >;
  readonly drift: readonly { readonly path: string; readonly change: string }[];
  readonly deployment: {
    readonly backend: string;
    readonly via: string;
    readonly verity: boolean | null;
    readonly transientRoot: boolean | null;
    readonly booted: {
      readonly checksum: string | null;
      readonly image: { readonly reference: string; readonly digest: string; readonly signature: string | null } | null;
    } | null;
    readonly rollback: unknown;
    readonly overlays: readonly Overlay[];
    readonly kargs: readonly string[];
    readonly kernel: string | null;
    readonly contradictions: readonly string[];
  };
};

export type Stats = {
  readonly files: number;
  readonly seconds: number;
  readonly cached: number | null;
  readonly measured?: number;
};

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

export class Service {
  /** What guests are told. */
  readonly url: string;
  /** File with the authority that they trust. */
  readonly authority: string;
  readonly #child: ChildProcess;
  readonly #here: string;
  readonly #token: string;
  readonly #dispatcher: Agent;

  private constructor(child: ChildProcess, port: number, token: string, authority: string) {
    this.#child = child;
    this.#here = `https://127.0.0.1:${port}`;
    this.url = `https://${SEEN_BY_GUESTS}:${port}`;
    this.authority = authority;
    this.#token = token;
    this.#dispatcher = new Agent({ connect: { ca: readFileSync(authority) } });
  }

  /** Starts it in `folder`, with leave to fetch images from `source`. */
  static async start(root: string, folder: string, source: string): Promise<Service> {
    mkdirSync(folder, { recursive: true });
    const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
    const made = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=bootproof -addext subjectAltName=IP:127.0.0.1,IP:${SEEN_BY_GUESTS} -keyout ${key} -out ${cert}`;
    execFileSync('openssl', made.split(' '), { stdio: 'ignore' });
    const port = await freePort();
    const log = join(folder, 'server.log');
    const out = openSync(log, 'w');
    const args = [
      '--data',
      join(folder, 'data'),
      '--listen',
      `127.0.0.1:${port}`,
      '--tls-cert',
      cert,
      '--tls-key',
      key,
    ];
    const base = ['--base-url', `https://${SEEN_BY_GUESTS}:${port}`, '--source', source];
    const child = spawn(join(root, 'bootproof'), ['server', ...args, ...base], { stdio: ['ignore', out, out] });
    for (let tried = 0; tried < 300; tried++) {
      const told = readFileSync(log, 'utf8');
      const token = /^admin token [^:]*: (\S+)$/m.exec(told)?.[1];
      if (token !== undefined && /^bootproof server at /m.test(told)) return new Service(child, port, token, cert);
      if (child.exitCode !== null) throw new Error(`the server did not start: ${told}`);
      await sleep(200);
    }
    throw new Error(`the server did not start in a minute: ${readFileSync(log, 'utf8')}`);
  }

  async stop(): Promise<void> {
    await this.#dispatcher.close();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGTERM');
    await once(this.#child, 'exit');
  }

  async ask<T>(path: string, body?: object): Promise<T> {
    return JSON.parse(await this.#text(path, body)) as T;
  }

  async #text(path: string, body?: object): Promise<string> {
    const response = await fetch(this.#here + path, {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      dispatcher: this.#dispatcher,
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return text;
  }

  /** An enrolment token for one host, which then bears this label. */
  async enrolmentToken(mode: string): Promise<string> {
    const { token } = await this.ask<{ token: string }>('/api/v1/tokens', { labels: { mode } });
    return token;
  }

  /** The host that enrolled with that label's token; undefined before it did. */
  async host(mode: string): Promise<HostAnswer | undefined> {
    const { items } = await this.ask<{ items: HostAnswer[] }>(
      `/api/v1/hosts?label=${encodeURIComponent(`mode=${mode}`)}`,
    );
    const [found] = items;
    return found && (await this.ask<HostAnswer>(`/api/v1/hosts/${found.id}`));
  }

  async findings(host: HostAnswer): Promise<Finding[]> {
    return (await this.ask<{ items: Finding[] }>(`/api/v1/hosts/${host.id}/findings?which=present&limit=200`)).items;
  }

  drift(host: HostAnswer): Promise<Drifted> {
    return this.ask(`/api/v1/hosts/${host.id}/drift`);
  }

  /** What the scan of its last report cost, where that was a full one. */
  async stats(host: HostAnswer): Promise<Stats | undefined> {
    if (host.last?.kind !== 'full') return undefined;
    const { payload } = JSON.parse(await this.#text(`/api/v1/hosts/${host.id}/reports/${host.last.seq}`)) as {
      payload: string;
    };
    return (JSON.parse(Buffer.from(payload, 'base64').toString()) as { stats: Stats }).stats;
  }

  async imageState(digest: string): Promise<string> {
    const { items } = await this.ask<{ items: { digest: string; state: string; reasons: unknown }[] }>(
      '/api/v1/images',
    );
    const image = items.find((one) => one.digest === digest);
    return image === undefined
      ? 'unknown'
      : image.state === 'failed'
        ? `failed: ${JSON.stringify(image.reasons)}`
        : image.state;
  }
}
