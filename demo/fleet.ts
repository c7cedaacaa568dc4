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
import { readTrustFiles, trustSetup, type TrustSetup } from '#server/trust/setup.ts';
import { DEMO_HOSTS, DEMO_IMAGES, layOut, tryPrivileges, type DemoHost } from './host.ts';
import { demoLayers, flatten, manifestSize, packImage, push, type PackedImage, type Privileges } from './pack.ts';
import { serveRegistry, type Registry } from './registry.ts';
import { keylessBundle, keylessSignature } from './keyless.ts';
import { keyPolicy, makeKey, signatureImage, signatureOf, signatureTag } from './sign.ts';
import { startSigstore, type Who } from './sigstore.ts';

const IMAGE = 'demo/os';
/** What the demo's images must be signed by, as teams write it. */
const POLICY = 'image-policy.yaml';
/** Whose certificates and logs count for it, under the name by which the policy calls it. */
const TRUST_ROOT = { name: 'demo', file: 'trusted_root.json' } as const;
/** Who builds the demo's images, and who must not. */
const BUILDER: Who = {
  issuer: 'https://token.actions.githubusercontent.com',
  subject: 'https://github.com/acme/os/.github/workflows/build.yml@refs/heads/main',
};
const BRANCH: Who = { ...BUILDER, subject: BUILDER.subject.replace(/main$/, 'try-it') };
const LAUNCHER = join(import.meta.dirname, '..', 'bootproof');
/** Time between two looks at a host; `demo/policy.yaml` says when it is late and silent. */
const AGENT_INTERVAL_MS = 10_000;
/** While others are waited for, who is as it must be reports again after this: early enough not to be late. */
const AGENT_QUIET_MS = 15_000;
/** Agents that run at the same time: two cores are what the smallest machines have. */
const AGENTS_AT_ONCE = 2;
/** Packing, building and three rounds of reports fit well within; a machine that needs longer is told so. */
const SETTLE_MS = 180_000;

export type FleetOptions = {
  /** Holds everything: database, registry, hosts. */
  readonly folder: string;
  readonly fresh: boolean;
  readonly port: { readonly port: number; readonly movable: boolean };
  readonly user: { readonly uid: number; readonly gid: number };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Ends waiting, enrolling and reporting; what is under way is finished first. */
  readonly signal: AbortSignal;
  /** One line of progress for a person. */
  readonly say: (line: string) => Promise<void>;
};

export type FleetHost = z.infer<typeof HostJson>;

type ImageName = keyof typeof DEMO_IMAGES;

const Saved = z.strictObject({
  // Every image of this build: a folder that lacks one is of another.
  images: z.record(z.enum(Object.keys(DEMO_IMAGES) as [ImageName, ...ImageName[]]), z.string().refine(isDigest)),
  registryPort: z.int(),
  left: z.array(z.tuple([z.string(), z.string()])),
  enrolled: z.array(z.string()),
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
        left: layOutHosts(folder, tree, who),
        enrolled: [],
      };
    }
    const registry = await openRegistry(join(folder, 'registry'), saved.registryPort);
    const registryPort = Number(registry.host.split(':')[1]);
    if (images !== undefined)
      for (const [name, image] of images) await push(image, registry.host, IMAGE, DEMO_IMAGES[name]);
    // Signatures are made for a name, and the port is part of it.
    if (registryPort !== saved.registryPort) {
      const { policy, trustedRoot } = await signImages(saved.images, registry.host);
      writeFileSync(join(folder, POLICY), policy);
      writeFileSync(join(folder, TRUST_ROOT.file), trustedRoot);
      await say(`pushed to a registry on ${registry.host}, and signed`);
      saved = { ...saved, registryPort };
    }
    for (const [name, what] of saved.left) await say(`  ${name}: ${what} needs root here and was left out`);
    writeSaved(folder, saved);
    try {
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
    const until = Date.now() + SETTLE_MS;
    await this.#options.say('agents report');
    let said = '';
    for (;;) {
      const hosts = await this.hosts();
      const open = DEMO_HOSTS.filter(
        ({ name, verdict }) => hosts.find((host) => host.name === name)?.verdict !== verdict,
      );
      if (open.length === 0 || Date.now() > until || signal.aborted) return hosts;
      const waiting = `  waiting for ${open.map(({ name, verdict }) => `${name} to be ${verdict}`).join(', ')}`;
      if (waiting !== said) await this.#options.say(waiting);
      said = waiting;
      await this.#round(hosts, AGENT_QUIET_MS);
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
      await pause(Math.max(1000, AGENT_INTERVAL_MS - (Date.now() - began)), signal);
    }
  }

  async close(): Promise<void> {
    await this.#server.close();
    await this.#registry.close();
  }

  async #enrolAll(): Promise<void> {
    const missing = DEMO_HOSTS.filter(({ name }) => !this.#saved.enrolled.includes(name));
    if (missing.length === 0) return;
    const made = await this.#api('/api/v1/tokens', { maxUses: missing.length, labels: { fleet: 'demo' } });
    const { token } = z.looseObject({ token: z.string() }).parse(made);
    const file = join(this.#options.folder, 'enrolment-token');
    writeFileSync(file, token, { mode: 0o600 });
    await this.#each(missing, async (host) => {
      await this.#options.say(`enrolling ${host.name}: ${host.about}`);
      await this.#agent(['enroll', '--token-file', file], host, [0]);
      this.#saved.enrolled.push(host.name);
      writeSaved(this.#options.folder, this.#saved);
    });
    rmSync(file);
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
    const turns = DEMO_HOSTS.toSorted((a, b) => Number(b.stops ?? false) - Number(a.stops ?? false));
    await this.#each(turns, async (host) => {
      const before = known.find(({ name }) => name === host.name);
      if (host.stops === true && before?.integrity.state === 'intact') return;
      const heard = Date.parse(before?.last?.receivedAt ?? '');
      if (before?.verdict === host.verdict && Date.now() - heard < quietMs) return;
      const { boots = 'signed' } = host;
      const digest = boots === 'nowhere' ? nowhere(this.#saved.images.signed) : this.#saved.images[boots];
      const booted = ['--backend', 'ostree', '--image', digest];
      await this.#agent(['run', '--interval', `${AGENT_INTERVAL_MS / 1000}s`, ...booted], host, [0, 1, 2]);
    });
  }

  /** Runs the real agent as a process of its own, on this host's root with this host's state. */
  async #agent(args: readonly string[], { name }: DemoHost, good: readonly number[]): Promise<void> {
    const home = join(this.#options.folder, 'hosts', name);
    const all = ['agent', ...args, '--server', this.url, '--root', join(home, 'root'), '--state', join(home, 'state')];
    // In a group of its own: a Ctrl-C at the terminal is for this process, which lets the agent finish.
    const child = spawn(LAUNCHER, all, { stdio: ['ignore', 'ignore', 'pipe'], env: this.#options.env, detached: true });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-4000)));
    const [status] = (await once(child, 'close')) as [number | null];
    if (!good.includes(status ?? -1)) throw new Error(`agent ${args[0]} on ${name} ended with ${status}:\n${said}`);
  }

  async #api(path: string, body?: object): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.#adminToken}`, 'content-type': 'application/json' };
    const post = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
    const answer = await this.#server.app.request(path, { headers, ...post });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
    return answer.json();
  }
}

/** The same layers under several versions. */
function packImages(layers: Parameters<typeof packImage>[0]): Map<ImageName, PackedImage> {
  const names = Object.keys(DEMO_IMAGES) as ImageName[];
  return new Map(names.map((name) => [name, packImage(layers, DEMO_IMAGES[name])]));
}

/** Signs with keys that are forgotten at once, each image as its story says; answers what a server must be given to judge them. */
async function signImages(
  images: Saved['images'],
  registry: string,
): Promise<{ readonly policy: string; readonly trustedRoot: string }> {
  const [own, stranger] = [makeKey(), makeKey()];
  const name = `${registry}/${IMAGE}`;
  const byKey = (digest: Digest, key: typeof own) => signatureImage(digest, [signatureOf(digest, name, key)]);
  const signed = byKey(images.signed, own);
  const foreign = byKey(images.foreign, stranger);
  await push(signed.image, registry, IMAGE, signed.tag);
  await push(foreign.image, registry, IMAGE, foreign.tag);
  // Whoever may push can lay a good signature beside any image.
  await push(signed.image, registry, IMAGE, signatureTag(images.copied));

  const sigstore = await startSigstore();
  // Both forms: a bundle alone would be no signature to a host that enforces containers policy.
  const bundle = await keylessBundle(sigstore, BUILDER, {
    digest: images.keyless,
    size: await manifestSize(registry, IMAGE, images.keyless),
  });
  await push(bundle, registry, IMAGE, bundle.digest);
  const keyless = await keylessSignature(sigstore, BUILDER, images.keyless, name);
  await push(keyless.image, registry, IMAGE, keyless.tag);
  const branch = await keylessSignature(sigstore, BRANCH, images.branch, name);
  await push(branch.image, registry, IMAGE, branch.tag);
  const { name: trustRootRef } = TRUST_ROOT;
  // Any port: it may be another one at the next start.
  const policy = keyPolicy(
    'demo',
    `127.0.0.1:*/${IMAGE}@*`,
    [own],
    [{ name: 'builder', keyless: { identities: [BUILDER], trustRootRef }, ctlog: { trustRootRef } }],
  );
  return { policy, trustedRoot: sigstore.trustedRoot };
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

function layOutHosts(folder: string, tree: ReturnType<typeof flatten>, who: Privileges): Saved['left'] {
  return DEMO_HOSTS.flatMap((host) => {
    const home = join(folder, 'hosts', host.name);
    mkdirSync(join(home, 'state'), { recursive: true, mode: 0o700 });
    return layOut(host, tree, join(home, 'root'), who).map((what): [string, string] => [host.name, what]);
  });
}

/** The port it had, so that the server's sources still name it; another one if that is taken now. */
async function openRegistry(folder: string, port: number): Promise<Registry> {
  try {
    return await serveRegistry(folder, port);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    return serveRegistry(folder, 0);
  }
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
  if (server.adminToken !== undefined) writeFileSync(file, `${server.adminToken}\n`, { mode: 0o600 });
  const adminToken = readFileSync(file, 'utf8').trim();
  const asked = await server.app.request('/api/v1/tokens?limit=1', {
    headers: { authorization: `Bearer ${adminToken}` },
  });
  if (asked.status !== 401) return { server, adminToken };
  // Somebody made another token by hand, and that one was told to them alone.
  await server.close();
  rmSync(file);
  return openServer(options, registry);
}

/** The demo's own as the first version, kept as any server's are: others can be tried and applied over it, and what they extend is the shipped one. */
async function demoPolicy(): Promise<PolicySource> {
  const shipped = await shippedPolicy();
  const document = { file: 'demo/policy.yaml', text: await readFile(join(import.meta.dirname, 'policy.yaml'), 'utf8') };
  return { kind: 'store', shipped, first: { policy: policyOfDocuments([document], shipped.policy).policy, document } };
}

async function imagePolicy(folder: string): Promise<TrustSetup> {
  const roots = [`${TRUST_ROOT.name}=${join(folder, TRUST_ROOT.file)}`];
  return trustSetup(await readTrustFiles({ policies: [join(folder, POLICY)], roots }));
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
