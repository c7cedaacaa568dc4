/**
 * The demo fleet, end to end and for real: an image of this machine's files in a registry on loopback, hosts as deployed roots, the real agent for
 * each, the real server. Everything lies in one folder and is taken up again from there.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { digestOf, isDigest, type Digest } from '#src/digest.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { Host as HostJson } from '#server/api/schemas.ts';
import type { PolicySource } from '#server/policies.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import { startServer, type RunningServer } from '#server/start.ts';
import { DEMO_HOSTS, DEMO_IMAGES, layOut, tryPrivileges, type DemoHost } from './host.ts';
import { demoLayers, flatten, type PackedImage, type Privileges } from './pack.ts';
import { pacedPolicy, paceOf } from './pace.ts';
import type { Registry } from './registry.ts';
import { IMAGE, imagePolicy, openRegistry, packImages, stock, type ImageName } from './stock.ts';

const LAUNCHER = join(import.meta.dirname, '..', 'bootproof');
/** Time between two looks at a host; `demo/policy.yaml` says when it is late and silent. */
const AGENT_INTERVAL_MS = 10_000;
/** While others are waited for, who is as it must be reports again after this: early enough not to be late. */
const AGENT_QUIET_MS = 15_000;
/** Agents that run at the same time: two cores are what the smallest machines have. */
const AGENTS_AT_ONCE = 2;
/** Waited for since the last host got the verdict that it must get: building all images and three rounds of reports fit well within. */
const SETTLE_MS = 180_000;

export type FleetOptions = {
  /** Holds everything: database, registry, hosts. */
  readonly folder: string;
  readonly fresh: boolean;
  readonly port: { readonly port: number; readonly movable: boolean };
  readonly user: { readonly uid: number; readonly gid: number };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Ends whatever is under way; the agents that run are told to stop too. */
  readonly signal: AbortSignal;
  /** Some of the demo's hosts; all unless said. */
  readonly hosts?: readonly DemoHost[];
  /** One line of progress for a person. */
  readonly say: (line: string) => Promise<void>;
};

export type FleetHost = z.infer<typeof HostJson>;

const Saved = z.strictObject({
  // Every image of this build: a folder that lacks one is of another.
  images: z.record(z.enum(Object.keys(DEMO_IMAGES) as [ImageName, ...ImageName[]]), z.string().refine(isDigest)),
  registryPort: z.int(),
  left: z.array(z.tuple([z.string(), z.string()])),
  enrolled: z.array(z.string()),
  /** By how much its times are longer than they are on a quick machine (pace.ts). */
  pace: z.int().min(1).default(1),
});
type Saved = z.infer<typeof Saved>;

/** A fleet that is up; agents report only while `keepReporting` runs. */
export class Fleet {
  readonly #options: FleetOptions;
  readonly #server: RunningServer;
  readonly #registry: Registry;
  readonly #adminToken: string;
  /** Made by this start, so never shown before. */
  readonly isNewToken: boolean;
  readonly #saved: Saved;

  private constructor(
    options: FleetOptions,
    server: RunningServer,
    registry: Registry,
    adminToken: string,
    saved: Saved,
  ) {
    this.#options = options;
    this.#server = server;
    this.#registry = registry;
    this.#adminToken = adminToken;
    this.isNewToken = server.adminToken !== undefined;
    this.#saved = saved;
  }

  /** Brings the fleet up, or takes it up again where it was left. */
  static async up(options: FleetOptions): Promise<Fleet> {
    const { folder, say } = options;
    if (options.fresh) rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    let before = readSaved(folder);
    if (before === 'other') {
      await say('the demo fleet here is of another build: it is built anew');
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      before = undefined;
    }
    const who = tryPrivileges(folder, options.user.uid, options.user.gid);
    let images: Map<ImageName, PackedImage> | undefined;
    let saved = before;
    if (saved === undefined) {
      await say('packing real files of this machine into an OCI image');
      const layers = demoLayers(who);
      const tree = flatten(layers);
      images = packImages(layers);
      const { blobs, digest } = images.get('signed')!;
      const bytes = [...blobs.values()].reduce((sum, blob) => sum + blob.length, 0);
      await say(`  ${layers.length} layers, ${tree.size} paths, ${(bytes / 1e6).toFixed(1)} MB: ${digest}`);
      saved = {
        images: Saved.shape.images.parse(Object.fromEntries([...images].map(([name, image]) => [name, image.digest]))),
        registryPort: 0,
        left: layOutHosts(options.hosts ?? DEMO_HOSTS, folder, tree, who),
        enrolled: [],
        pace: 1,
      };
    }
    options.signal.throwIfAborted();
    const registry = await openRegistry(join(folder, 'registry'), saved.registryPort);
    try {
      const registryPort = Number(registry.host.split(':')[1]);
      // Signatures are made for a name, and the port is part of it.
      const moved = registryPort !== saved.registryPort;
      await stock(options, registry, images ?? new Map(), moved ? saved.images : null);
      if (moved) await say(`pushed to a registry on ${registry.host}, and signed`);
      for (const [name, what] of saved.left) await say(`  ${name}: ${what} needs root here and was left out`);
      saved = { ...saved, registryPort };
      writeSaved(folder, saved);
      options.signal.throwIfAborted();
      const { server, adminToken } = await openServer(options, registry);
      return new Fleet(options, server, registry, adminToken, saved);
    } catch (error) {
      await registry.close();
      throw error;
    }
  }

  get url(): string {
    return this.#server.url;
  }

  get port(): number {
    return this.#server.port;
  }

  /** Also in `admin-token` in the folder, for this user only. */
  get adminToken(): string {
    return this.#adminToken;
  }

  /** Enrols each host that is not yet, and has each report until its verdict is the one that it must get, time is up, or it is told to stop. */
  async settle(): Promise<FleetHost[]> {
    const { signal } = this.#options;
    await this.#enrolAll();
    await this.#options.say('agents report');
    let fewest = this.#hosts.length + 1;
    let progress = 0;
    let said = '';
    for (;;) {
      const hosts = await this.hosts();
      const open = this.#hosts.filter(
        ({ name, verdict }) => hosts.find((host) => host.name === name)?.verdict !== verdict,
      );
      if (open.length < fewest) [fewest, progress] = [open.length, Date.now()];
      if (open.length === 0 || Date.now() > progress + SETTLE_MS * this.#saved.pace || signal.aborted) return hosts;
      const waiting = `  waiting for ${open.map(({ name, verdict }) => `${name} to be ${verdict}`).join(', ')}`;
      if (waiting !== said) await this.#options.say(waiting);
      said = waiting;
      await this.#round(hosts, AGENT_QUIET_MS * this.#saved.pace);
      await pause(2000, signal);
    }
  }

  /** The fleet as the server's API tells it. */
  async hosts(): Promise<FleetHost[]> {
    const answer = await this.#api('/api/v1/hosts?limit=100');
    return z.looseObject({ items: z.array(HostJson) }).parse(answer).items;
  }

  /** Agents go on, as their timers would have them, until the signal. */
  async keepReporting(): Promise<void> {
    const { signal } = this.#options;
    while (!signal.aborted) {
      const began = Date.now();
      await this.#round(await this.hosts(), 0);
      await pause(Math.max(1000, this.#interval - (Date.now() - began)), signal);
    }
  }

  async close(): Promise<void> {
    await this.#server.close();
    await this.#registry.close();
  }

  get #hosts(): readonly DemoHost[] {
    return this.#options.hosts ?? DEMO_HOSTS;
  }

  get #interval(): number {
    return AGENT_INTERVAL_MS * this.#saved.pace;
  }

  async #enrolAll(): Promise<void> {
    const missing = this.#hosts.filter(({ name }) => !this.#saved.enrolled.includes(name));
    if (missing.length === 0) return;
    const folder = join(this.#options.folder, 'enrolment-tokens');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const files = new Map<DemoHost, string>();
    // Who stops has a label of its own, by which demo/policy.yaml calls it silent sooner.
    for (const [stops, hosts] of Map.groupBy(missing, ({ stops = false }) => stops)) {
      const labels = { fleet: 'demo', ...(stops ? { kind: 'kiosk' } : {}) };
      const made = await this.#api('/api/v1/tokens', { maxUses: hosts.length, labels });
      const file = join(folder, String(stops));
      writeFileSync(file, z.looseObject({ token: z.string() }).parse(made).token, { mode: 0o600 });
      for (const host of hosts) files.set(host, file);
    }
    await this.#each(missing, async (host) => {
      await this.#options.say(`enrolling ${host.name}: ${host.about}`);
      if (!(await this.#agent(['enroll', '--token-file', files.get(host)!], host, [0]))) return;
      this.#saved.enrolled.push(host.name);
      writeSaved(this.#options.folder, this.#saved);
    });
    rmSync(folder, { recursive: true });
  }

  /** A few hosts at a time, until the signal; what is under way is finished even where another host's turn failed. */
  async #each(hosts: readonly DemoHost[], act: (host: DemoHost) => Promise<void>): Promise<void> {
    const left = hosts.values();
    const turns = Array.from({ length: AGENTS_AT_ONCE }, async () => {
      for (const host of left) {
        if (this.#options.signal.aborted) return;
        await act(host);
      }
    });
    const failed = (await Promise.allSettled(turns)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }

  /** Every host's agent once; one that has stopped reports only if it never did, one that is as it must be only if it was quiet for so long. */
  async #round(known: readonly FleetHost[], quietMs: number): Promise<void> {
    // Who stops is to be silent at the end, so it begins.
    const turns = this.#hosts.toSorted((a, b) => Number(b.stops ?? false) - Number(a.stops ?? false));
    const took: number[] = [];
    await this.#each(turns, async (host) => {
      const before = known.find(({ name }) => name === host.name);
      if (host.stops === true && before?.integrity.state === 'intact') return;
      const heard = Date.parse(before?.last?.receivedAt ?? '');
      if (before?.verdict === host.verdict && Date.now() - heard < quietMs) return;
      const { boots = 'signed' } = host;
      const digest = boots === 'nowhere' ? nowhere(this.#saved.images.signed) : this.#saved.images[boots];
      const booted = ['--backend', 'ostree', '--image', digest];
      const began = Date.now();
      await this.#agent(['run', '--interval', `${this.#interval / 1000}s`, ...booted], host, [0, 1, 2]);
      took.push(Date.now() - began);
    });
    if (took.length === 0 || this.#options.signal.aborted) return;
    const mean = took.reduce((sum, ms) => sum + ms, 0) / took.length;
    await this.#keepUpWith((mean * this.#hosts.length) / AGENTS_AT_ONCE);
  }

  /** Where a round of all agents takes longer than there is room for, all times become longer: else hosts were silent that only wait for their turn. */
  async #keepUpWith(roundMs: number): Promise<void> {
    const pace = paceOf(roundMs);
    if (pace <= this.#saved.pace) return;
    const listed = await this.#api('/api/v1/policies?limit=1');
    const { active, items } = z
      .looseObject({ active: z.int(), items: z.array(z.looseObject({ version: z.int(), name: z.string() })) })
      .parse(listed);
    // Whoever applied another policy has their own times in it.
    if (items[0]?.version === active && items[0].name === 'demo') {
      const { file, text } = await policyFile();
      const documents = [{ file, text: pacedPolicy(text, pace) }];
      await this.#api('/api/v1/policies', { documents, note: 'for a slower machine', expect: active });
    }
    this.#saved.pace = pace;
    writeSaved(this.#options.folder, this.#saved);
    const seconds = Math.round(roundMs / 1000);
    await this.#options.say(
      `  all agents need ${seconds} s here: they report every ${this.#interval / 1000} s instead`,
    );
  }

  /** Runs the real agent as a process of its own, on this host's root with this host's state; false where it was told to stop. */
  async #agent(args: readonly string[], { name }: DemoHost, good: readonly number[]): Promise<boolean> {
    const { signal } = this.#options;
    if (signal.aborted) return false;
    const home = join(this.#options.folder, 'hosts', name);
    const all = ['agent', ...args, '--server', this.url, '--root', join(home, 'root'), '--state', join(home, 'state')];
    // In a group of its own: a Ctrl-C at the terminal is for this process, which tells the agent.
    const child = spawn(LAUNCHER, all, { stdio: ['ignore', 'ignore', 'pipe'], env: this.#options.env, detached: true });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-4000)));
    const stop = (): unknown => child.kill('SIGTERM');
    signal.addEventListener('abort', stop);
    const [status] = (await once(child, 'close')) as [number | null];
    signal.removeEventListener('abort', stop);
    if (signal.aborted) return false;
    if (!good.includes(status ?? -1)) throw new Error(`agent ${args[0]} on ${name} ended with ${status}:\n${said}`);
    return true;
  }

  async #api(path: string, body?: object): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.#adminToken}`, 'content-type': 'application/json' };
    const post = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
    const answer = await this.#server.app.request(path, { headers, ...post });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
    return answer.json();
  }
}

/** Sleeps, or wakes early at the signal. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** A digest that no registry has. */
const nowhere = (image: Digest): Digest => digestOf(`not ${image}`);

function layOutHosts(
  hosts: readonly DemoHost[],
  folder: string,
  tree: ReturnType<typeof flatten>,
  who: Privileges,
): Saved['left'] {
  return hosts.flatMap((host) => {
    const home = join(folder, 'hosts', host.name);
    mkdirSync(join(home, 'state'), { recursive: true, mode: 0o700 });
    return layOut(host, tree, join(home, 'root'), who).map((what): [string, string] => [host.name, what]);
  });
}

async function openServer(
  options: FleetOptions,
  registry: Registry,
): Promise<{ server: RunningServer; adminToken: string }> {
  const { folder, port, env } = options;
  const file = join(folder, 'admin-token');
  const server = await startServer({
    storeUrl: `sqlite:${join(folder, 'bootproof.db')}`,
    policy: await demoPolicy(),
    listen: { host: '127.0.0.1', ...port },
    sources: [{ reference: `docker://${registry.host}/${IMAGE}`, plainHttp: true }],
    registry: { env },
    trust: await imagePolicy(folder),
    newAdminToken: !existsSync(file),
    jobsEveryMs: 250,
    random: randomBytes,
  });
  try {
    if (server.adminToken !== undefined) writeFileSync(file, `${server.adminToken}\n`, { mode: 0o600 });
    const adminToken = readFileSync(file, 'utf8').trim();
    const asked = await server.app.request('/api/v1/tokens?limit=1', {
      headers: { authorization: `Bearer ${adminToken}` },
    });
    if (asked.status !== 401) return { server, adminToken };
  } catch (error) {
    await server.close();
    throw error;
  }
  // Somebody made another token by hand, and that one was told to them alone.
  await server.close();
  rmSync(file);
  return openServer(options, registry);
}

/** The demo's own as the first version, kept as any server's are: others can be tried and applied over it, and what they extend is the shipped one. */
async function demoPolicy(): Promise<PolicySource> {
  const shipped = await shippedPolicy();
  const document = await policyFile();
  return { kind: 'store', shipped, first: { policy: policyOfDocuments([document], shipped.policy).policy, document } };
}

async function policyFile() {
  return { file: 'demo/policy.yaml', text: await readFile(join(import.meta.dirname, 'policy.yaml'), 'utf8') };
}

/** `other`: of another build, with images that this one does not know. */
function readSaved(folder: string): Saved | 'other' | undefined {
  const file = join(folder, 'fleet.json');
  if (!existsSync(file)) return undefined;
  return Saved.safeParse(JSON.parse(readFileSync(file, 'utf8'))).data ?? 'other';
}

function writeSaved(folder: string, saved: Saved): void {
  const file = join(folder, 'fleet.json');
  writeFileSync(`${file}.new`, JSON.stringify(saved));
  renameSync(`${file}.new`, file);
}
