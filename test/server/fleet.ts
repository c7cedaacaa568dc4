/**
 * A server and hosts for tests: the real application on a real store, with a clock that tests move, images that are made of entries,
 * and hosts that enrol, seal and post as the agent does.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { formatInstant } from '#src/clock.ts';
import { digestOf, type Digest } from '#src/digest.ts';
import type { DeploymentState } from '#src/deployment/state.ts';
import { compareTexts } from '#src/drift/compare.ts';
import { driftJson } from '#src/drift/drift.ts';
import { comparisonText, SECRET_PATHS_ID } from '#src/drift/redact.ts';
import { ContentGatherer } from '#src/manifest/contents.ts';
import { comparePaths, treeOf, type Entry, type TreeName } from '#src/manifest/entry.ts';
import { MANIFEST_FORMAT, type ManifestHeader, type TreeTexts } from '#src/manifest/header.ts';
import { nameJson } from '#src/manifest/json.ts';
import { digestTree } from '#src/manifest/treedigest.ts';
import { sealReport, stateDigest } from '#src/report/seal.ts';
import type { FullReport, Report, SameReport } from '#src/report/report.ts';
import { nodeSigner, pkcs8OfSeed, verifyInPool } from '#src/signing/node.ts';
import type { Signer } from '#src/signing/ed25519.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { EnrolAnswer, NonceAnswer, openEnrolment, sealEnrolRequest } from '#src/wire/enrol.ts';
import type { Answer } from '#src/wire/answer.ts';
import type { Problem } from '#src/wire/problem.ts';
import { parseToken } from '#src/wire/token.ts';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Build, BuiltManifest } from '#server/jobs/builder.ts';
import { readPolicy } from '#server/prepare.ts';
import type { StartOptions } from '#server/options.ts';
import { startServer, type RunningServer } from '#server/start.ts';
import { migratedSqlite } from '#test/sqlite.ts';

export const T0 = Date.UTC(2026, 10, 24, 12);
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const SOURCE = 'docker://registry.example/team/os';

// ── images ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const sha = (text: string): string => nodeSha256(text);
export const file = (path: string, content: string, mode = 0o644): Entry => ({
  path,
  type: 'file',
  mode,
  uid: 0,
  gid: 0,
  size: content.length,
  sha256: sha(content),
});
export const dir = (path: string): Entry => ({ path, type: 'dir', mode: 0o755, uid: 0, gid: 0 });

/** A small but whole image: what a plain host shows of it. */
export const BASE: readonly Entry[] = [
  dir('/etc'),
  file('/etc/hostname', 'localhost'),
  file('/etc/motd', 'welcome'),
  file('/etc/shadow', 'root:!:', 0),
  dir('/etc/sudoers.d'),
  dir('/usr'),
  dir('/usr/bin'),
  file('/usr/bin/login', 'login', 0o755),
  file('/usr/bin/sudo', 'sudo', 0o4755),
  dir('/usr/lib'),
  file('/usr/lib/libc.so.6', 'libc', 0o755),
  file('/usr/lib/os-release', 'ID=test'),
];

export type TestImage = {
  readonly digest: Digest;
  readonly config: Digest;
  readonly rules: ReadonlyMap<string, readonly Entry[]>;
  /** The allowed source that has it. */
  readonly source: string;
};

export function image(
  name: string,
  entries: readonly Entry[] = BASE,
  more: Partial<Pick<TestImage, 'rules' | 'source'>> = {},
): TestImage {
  return {
    digest: digestOf(`image ${name}`, nodeSha256),
    config: digestOf(`config ${name}`, nodeSha256),
    rules: more.rules ?? new Map([['ostree/1', entries]]),
    source: more.source ?? SOURCE,
  };
}

const ofTree = (entries: readonly Entry[], tree: TreeName): Entry[] =>
  entries.filter(({ path }) => treeOf(path) === tree).sort((a, b) => comparePaths(a.path, b.path));

function built(image: TestImage, rule: string, entries: readonly Entry[]): BuiltManifest {
  const of = (tree: TreeName) =>
    digestTree(ofTree(entries, tree), nodeSha256, tree === 'usr' ? (main) => main : (main) => comparisonText(main));
  const trees = { usr: of('usr'), etc: of('etc') };
  const header: ManifestHeader = {
    format: MANIFEST_FORMAT,
    image: image.digest,
    index: null,
    config: image.config,
    platform: 'linux/amd64',
    layers: [],
    rule,
    secretPaths: SECRET_PATHS_ID,
    trees: { usr: trees.usr.digests, etc: trees.etc.digests },
    warnings: [],
    builder: 'test',
  };
  const text = (key: string, content: string) => ({ key, bytes: zstdCompressSync(Buffer.from(content, 'latin1')) });
  const texts = (tree: TreeName) => ({
    main: text(trees[tree].digests.main.full, trees[tree].texts.main),
    extra: text(trees[tree].digests.extra, trees[tree].texts.extra),
  });
  return { header, trees: { usr: texts('usr'), etc: texts('etc') } };
}

/** A `Build` over images that are in memory; `asked` records every digest and source that was asked. */
export function builderOf(images: readonly TestImage[]): Build & { readonly asked: string[] } {
  const asked: string[] = [];
  const build: Build = async ({ digest, sources }) => {
    for (const { pattern } of sources) {
      asked.push(`${pattern}@${digest}`);
      const image = images.find(
        (candidate) => candidate.source === pattern && [candidate.digest, candidate.config].includes(digest),
      );
      if (image === undefined) continue;
      const manifests = [...image.rules].map(([rule, entries]) => built(image, rule, entries));
      const contents = new ContentGatherer();
      for (const { trees } of manifests)
        for (const { main } of [trees.usr, trees.etc]) contents.add(zstdDecompressSync(main.bytes).toString('latin1'));
      return {
        kind: 'built',
        pattern,
        digest: image.digest,
        index: null,
        config: image.config,
        version: '41.1',
        manifests,
        warnings: [],
        refused: [],
        marks: contents.marks(),
      };
    }
    return {
      kind: 'failed',
      reasons: sources.map(({ pattern }) => ({ code: 'SOURCE_NOT_FOUND', text: `${pattern} has no ${digest}` })),
    };
  };
  return Object.assign(build, { asked });
}

// ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────

export type TestServer = {
  readonly server: RunningServer;
  readonly admin: string;
  /** The clock; `time.now` may be set. */
  readonly time: { now: number };
  readonly events: { readonly level: string; readonly event: string; readonly fields: unknown }[];
  /** An admin's request; the body as JSON. */
  api(
    path: string,
    init?: { method?: string; body?: unknown },
  ): Promise<{ status: number; body: any; headers: Headers }>;
  /** Waits until nothing is due in the queue any more. */
  settle(): Promise<void>;
};

export function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'bootproof-server-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

export async function serverFor(
  t: TestContext,
  options: Partial<StartOptions> & {
    readonly images?: readonly TestImage[];
    readonly admin?: string;
    /** When it starts. */
    readonly now?: number;
  } = {},
): Promise<TestServer> {
  const { images = [], admin, now = T0, ...rest } = options;
  const time = { now };
  const events: TestServer['events'] = [];
  const data = mkdtempSync(join(tmpdir(), 'bootproof-server-'));
  let running: RunningServer | undefined;
  // In this order: a server that ends still writes to its folder.
  t.after(async () => {
    await running?.close();
    rmSync(data, { recursive: true, force: true });
  });
  const server = await startServer({
    storeUrl: await migratedSqlite(join(data, 'store.db')),
    policy: await readPolicy(undefined),
    listen: { host: '127.0.0.1', port: 0 },
    sources: images.length === 0 ? [] : [{ reference: SOURCE }],
    build: builderOf(images),
    clock: () => time.now,
    log: (level, event, fields) => events.push({ level, event, fields }),
    // What is queued here is begun at once; this is for what falls due as tests move the clock. Looking costs.
    jobsEveryMs: 20,
    ...rest,
  });
  running = server;
  const token = server.adminToken ?? admin ?? '';
  return {
    server,
    admin: token,
    time,
    events,
    async api(path, { method = 'GET', body } = {}) {
      const response = await server.app.request(path, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      return { status: response.status, body: isJson(response) ? JSON.parse(text) : text, headers: response.headers };
    },
    async settle() {
      for (;;) {
        const waiting = await server.store.jobs.lag(time.now);
        if (waiting.every(({ oldest }) => oldest > time.now)) return;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
  };
}

function isJson(response: Response): boolean {
  return /\bjson\b/.test(response.headers.get('content-type') ?? '');
}

// ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────────────────

export type Posted = { readonly status: number; readonly body: Answer & Problem; readonly headers: Headers };

/** A host as the server sees one: its key, its chain, and what it would scan. */
export class TestHost {
  readonly id: string;
  readonly signer: Signer;
  readonly #server: TestServer;
  bootId = randomUUID();
  seq = 0;
  challenge: string | null;
  bearer: string;
  full: { digest: Digest; report: FullReport } | null = null;
  count = 0;
  /** What it shows of each path; `hide` are paths that it cannot read. */
  entries: readonly Entry[];
  booted: Digest | string | null;
  reference = 'registry.example/team/os:latest';
  manifest: { image: Digest; rule: string; entries: readonly Entry[] } | null = null;
  more: Partial<FullReport> = {};
  state: Partial<DeploymentState> = {};

  constructor(
    server: TestServer,
    signer: Signer,
    enrolment: { host: string; challenge: string; manifestBearer: string },
    image: TestImage | null,
  ) {
    this.#server = server;
    this.signer = signer;
    this.id = enrolment.host;
    this.challenge = enrolment.challenge;
    this.bearer = enrolment.manifestBearer;
    this.entries = image === null ? BASE : [...image.rules.values()][0]!;
    this.booted = image?.digest ?? null;
  }

  /** Takes the manifest of an image to compare with, as the agent does once the server has it. */
  compareWith(image: TestImage, rule = 'ostree/1'): void {
    this.manifest = { image: image.digest, rule, entries: image.rules.get(rule)! };
  }

  deployment(): DeploymentState {
    return {
      backend: 'ostree',
      via: 'bootc',
      booted: {
        image: {
          reference: this.reference,
          transport: 'registry',
          digest: this.booted,
          version: null,
          signature: 'containerPolicy',
        },
        checksum: null,
        stateroot: 'default',
        pinned: false,
        layered: [],
      },
      staged: null,
      rollback: null,
      overlays: [],
      kargs: ['root=UUID=1'],
      kernel: '6.12.0',
      verity: null,
      transientRoot: null,
      contradictions: [],
      ...this.state,
    };
  }

  common(more: Partial<Report> = {}) {
    const at = formatInstant(this.#server.time.now);
    return {
      version: 1 as const,
      host: this.id,
      seq: ++this.seq,
      bootId: this.bootId,
      startedAt: at,
      finishedAt: at,
      challenge: this.challenge,
      checkpoint: null,
      dropped: [],
      ...more,
    };
  }

  fullReport(more: Partial<FullReport> = {}): FullReport {
    const texts = (entries: readonly Entry[], tree: TreeName): TreeTexts =>
      digestTree(ofTree(entries, tree), nodeSha256, (main) => main).texts;
    const trees = {} as Record<TreeName, FullReport['trees']['usr']>;
    const drift: FullReport['drift'] = [];
    const secrets: FullReport['secrets'] = [];
    for (const tree of ['etc', 'usr'] as const) {
      const actual = texts(this.entries, tree);
      trees[tree] = {
        main: digestOf(comparisonText(actual.main), nodeSha256),
        extra: digestOf(actual.extra, nodeSha256),
        entries: ofTree(this.entries, tree).length,
        holes: [],
        holesCapped: false,
      };
      if (this.manifest === null) continue;
      const found = compareTexts(texts(this.manifest.entries, tree), actual);
      drift.push(...found.drift.map(driftJson));
      secrets.push(...found.secrets.map(({ path, state }) => ({ ...nameJson('path', path), state })));
    }
    return {
      ...this.common(),
      kind: 'full',
      previous: this.full?.digest ?? null,
      agent: { version: '0.1.0', executable: null, config: digestOf('config', nodeSha256) },
      deployment: this.deployment(),
      manifest: this.manifest === null ? null : { image: this.manifest.image, rule: this.manifest.rule },
      secretPaths: { id: SECRET_PATHS_ID, added: [] },
      trees: { usr: trees.usr, etc: trees.etc },
      drift,
      truncated: null,
      secrets,
      accounts: null,
      contents: null,
      stats: { files: this.entries.length, bytes: 1, seconds: 0.1, peakRssBytes: 1, cached: null },
      attestation: null,
      ...this.more,
      ...more,
    };
  }

  sameReport(more: Partial<SameReport> = {}): SameReport {
    const { report, digest } = this.full!;
    const digests = ({ main, extra }: FullReport['trees']['usr']) => ({ main, extra });
    return {
      ...this.common(),
      kind: 'same',
      full: digest,
      count: ++this.count,
      trees: { usr: digests(report.trees.usr), etc: digests(report.trees.etc) },
      state: stateDigest(report.deployment, nodeSha256),
      ...more,
    };
  }

  seal(report: Report): Promise<{ text: string; digest: Digest }> {
    return sealReport(report, this.signer, nodeSha256);
  }

  /** Posts bytes as they are; keeps nothing of the answer. */
  async post(body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}): Promise<Posted> {
    const response = await this.#server.server.app.request('/api/v1/reports', { method: 'POST', body, headers });
    return { status: response.status, body: (await response.json()) as Posted['body'], headers: response.headers };
  }

  /** Seals and posts a report, and takes over what an accepted one is answered. */
  async send(report: Report): Promise<Posted & { text: string; digest: Digest }> {
    const sealed = await this.seal(report);
    const posted = await this.post(sealed.text);
    if (posted.status === 200) {
      if (report.kind === 'full') {
        this.full = { digest: sealed.digest, report };
        this.count = 0;
      }
      this.challenge = posted.body.challenge ?? this.challenge;
      this.bearer = posted.body.manifestBearer ?? this.bearer;
    }
    return { ...posted, ...sealed };
  }

  sendFull(more: Partial<FullReport> = {}): ReturnType<TestHost['send']> {
    return this.send(this.fullReport(more));
  }

  sendSame(more: Partial<SameReport> = {}): ReturnType<TestHost['send']> {
    return this.send(this.sameReport(more));
  }

  /** The host as the API tells it. */
  async told(): Promise<any> {
    return (await this.#server.api(`/api/v1/hosts/${this.id}`)).body;
  }

  /** Its present findings: `severity what`. */
  async findings(): Promise<{ kind: string; subject: string; severity: string; rule: string; status: string }[]> {
    return (await this.#server.api(`/api/v1/hosts/${this.id}/findings`)).body.items;
  }
}

/** Enrols a host over HTTP with a token of its own. `machine`: the fingerprint of its machine id. */
export async function enrol(
  server: TestServer,
  image: TestImage | null,
  about: { readonly name?: string; readonly machine?: string; readonly token?: string; readonly signer?: Signer } = {},
): Promise<TestHost> {
  const text = about.token ?? (await server.api('/api/v1/tokens', { method: 'POST', body: {} })).body.token;
  const token = parseToken(text);
  const signer = about.signer ?? nodeSigner(pkcs8OfSeed(randomBytes(32)));
  const ask = async (path: string, body: unknown): Promise<unknown> => {
    const response = await server.server.app.request(path, { method: 'POST', body: JSON.stringify(body) });
    const answer = await response.json();
    if (response.status !== 200) throw Object.assign(new Error(JSON.stringify(answer)), { problem: answer });
    return answer;
  };
  const { nonce } = NonceAnswer.parse(await ask('/api/v1/enrol/nonce', { tokenId: token.id }));
  const body = await sealEnrolRequest(
    {
      version: 1,
      tokenId: token.id,
      nonce,
      host: null,
      publicKey: signer.publicKey,
      machine: about.machine ?? randomBytes(16).toString('hex'),
      hostname: about.name ?? 'host-1',
      agentVersion: '0.1.0',
      writes: [1],
    },
    signer,
    nodeSigner(pkcs8OfSeed(token.seed)),
  );
  const answer = EnrolAnswer.parse(await ask('/api/v1/enrol', body));
  const { enrolment } = await openEnrolment(
    answer,
    { serverFingerprint: token.serverFingerprint, publicKey: signer.publicKey, nonce },
    verifyInPool,
  );
  return new TestHost(server, signer, enrolment, image);
}
