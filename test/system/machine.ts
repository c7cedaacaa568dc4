/**
 * A simulated machine with the real agent on it: real cycle, outbox, spool and posting, on a disk that can lose power. Only what is being
 * simulated is replaced: instead of a kernel and a file system, `observe` and `scan` are given a model tree.
 */
import { hash } from 'node:crypto';
import type { ByteString } from '#src/bytes.ts';
import { digestOf } from '#src/digest.ts';
import type { DeploymentState } from '#src/deployment/state.ts';
import { compareTexts } from '#src/drift/compare.ts';
import type { Drift, Secret } from '#src/drift/drift.ts';
import { comparisonText } from '#src/drift/redact.ts';
import { comparePaths, treeOf, type Entry, type TreeName } from '#src/manifest/entry.ts';
import { digestTree } from '#src/manifest/treedigest.ts';
import type { TreeTexts } from '#src/manifest/header.ts';
import type { Report } from '#src/report/report.ts';
import { sealReport } from '#src/report/seal.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { AgentChain } from '#agent/chain.ts';
import { GENTLE, type AgentConfig } from '#agent/config.ts';
import { enrol } from '#agent/enrol.ts';
import { readIdentity, readKey } from '#agent/identity.ts';
import type { Observed } from '#agent/observe.ts';
import { Server, type Request, type Response } from '#agent/post.ts';
import { programDigest } from '#agent/program.ts';
import { cycle, type Cycle } from '#agent/run.ts';
import type { Scan, ScanOptions } from '#agent/scan.ts';
import { SPOOL_LIMITS, type SpoolLimits } from '#agent/spool.ts';
import { MemoryDisk } from '#test/agent/memorydisk.ts';
import { file, HOUR, type TestImage } from '#test/server/fleet.ts';

export const INTERVAL = HOUR;
export const FOLDER = '/var/lib/bootproof';
/** Once for all: a fleet would spend most of its time reading our own files. */
const PROGRAM = programDigest();

/** Something that was done to a machine's files, and whether policy forbids it. */
export type Plant = {
  readonly path: string;
  readonly forbidden: boolean;
  readonly change: (entries: readonly Entry[]) => Entry[];
};
const replace = (entry: Entry) => (entries: readonly Entry[]) => [
  ...entries.filter(({ path }) => path !== entry.path),
  entry,
];
const plant = (path: string, forbidden: boolean, change: Plant['change']): Plant => ({ path, forbidden, change });
export const PLANTS: readonly Plant[] = [
  plant('/usr/bin/login', true, replace(file('/usr/bin/login', 'not login', 0o755))),
  plant('/usr/bin/root-me', true, replace(file('/usr/bin/root-me', 'shell', 0o4755))),
  plant('/usr/lib/libc.so.6', true, (entries) => entries.filter(({ path }) => path !== '/usr/lib/libc.so.6')),
  plant('/etc/sudoers.d/all', true, replace(file('/etc/sudoers.d/all', 'ALL=(ALL) NOPASSWD: ALL', 0o440))),
  plant('/etc/hostname', false, replace(file('/etc/hostname', 'web-1'))),
];

/** How much of the machine a scan sees. */
export type Sight = 'whole' | 'hole' | 'truncated' | 'implausible';
export const HOLE = '/usr/bin';

/** What really was so at one scan: the model's knowledge, apart from what the report says. */
export type Truth = {
  readonly image: string;
  readonly changed: readonly Plant[];
  readonly visible: readonly Plant[];
  readonly sight: Sight;
  readonly hole: string | null;
};

/** What a machine is given of the world around it. */
export type Around = {
  now: number;
  readonly random: () => number;
  readonly truths: Truth[];
  carry(machine: Machine, request: Request): Promise<Response>;
};

/** The agent was killed: by a signal, not by loss of power. */
export class AgentKilled extends Error {}

/** The way to the server: the real client up to where it would open a connection. */
class Wire extends Server {
  readonly #around: Around;
  readonly #machine: Machine;

  constructor(around: Around, machine: Machine) {
    super({ url: 'http://127.0.0.1:1' });
    this.#around = around;
    this.#machine = machine;
  }

  override request(request: Request): Promise<Response> {
    return this.#around.carry(this.#machine, request);
  }
}

export const bytesFrom =
  (random: () => number) =>
  (length: number): Uint8Array =>
    Uint8Array.from({ length }, () => Math.floor(random() * 256));

export function uuidFrom(random: () => number): string {
  const hex = Buffer.from(bytesFrom(random)(16)).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

export class Machine {
  readonly name: string;
  readonly around: Around;
  readonly wire: Wire;
  disk = new MemoryDisk();
  /** The host's clock minus the server's, ms. */
  offset = 0;
  bootId: string;
  image: TestImage;
  changed: readonly Plant[] = [];
  sight: Sight = 'whole';
  /** The agent's own interval, while no server says otherwise. */
  interval = INTERVAL;
  /** How much waits on its disk. */
  spoolLimits: SpoolLimits = SPOOL_LIMITS;
  /** Cut off: nothing it sends arrives. */
  offline = false;
  /** Reports go to a file instead. */
  byFile = false;
  wakeAt = 0;
  readonly said: string[] = [];

  constructor(around: Around, name: string, image: TestImage) {
    this.around = around;
    this.name = name;
    this.image = image;
    this.bootId = uuidFrom(around.random);
    this.wire = new Wire(around, this);
  }

  get clock(): () => number {
    return () => this.around.now + this.offset;
  }

  async enrol(token: string): Promise<string> {
    const machineId = Buffer.from(bytesFrom(this.around.random)(16)).toString('hex');
    const about = {
      folder: FOLDER,
      machine: { machineId, hostname: this.name },
      token,
      server: this.wire,
      url: 'http://127.0.0.1:1',
    };
    const { disk, clock } = this;
    const { host } = await enrol({ disk, clock, random: bytesFrom(this.around.random), verify: verifyInPool }, about);
    return host;
  }

  get host(): string {
    return readIdentity(this.disk, FOLDER)!.host;
  }

  /** Another machine with this one's disk: a clone, or this one restored from a backup. */
  twin(name: string): Machine {
    const twin = new Machine(this.around, name, this.image);
    twin.disk = this.disk.copy();
    return twin;
  }

  reboot(): void {
    this.bootId = uuidFrom(this.around.random);
  }

  /** One run of the agent; sets when the next one begins. */
  async run(): Promise<Cycle> {
    const { disk, clock, around } = this;
    const config: AgentConfig = {
      url: 'http://127.0.0.1:1',
      ca: null,
      intervalMs: this.interval,
      secretPaths: [],
      contents: [],
      rereadMs: null,
      gentle: GENTLE,
      root: '/',
      stateFolder: FOLDER,
      digest: digestOf('config', nodeSha256),
    };
    const done = await cycle(
      {
        disk,
        clock,
        random: around.random,
        sleep: (ms) => {
          around.now += Math.ceil(ms);
          return Promise.resolve();
        },
        verify: verifyInPool,
        say: (sentence) => Promise.resolve(void this.said.push(sentence)),
        observe: () => Promise.resolve(this.#observed()),
        scan: (options) => Promise.resolve(this.#scan(options)),
        server: this.byFile ? null : this.wire,
      },
      {
        config,
        identity: readIdentity(disk, FOLDER)!,
        signer: readKey(disk, FOLDER)!,
        spool: this.spoolLimits,
        program: PROGRAM,
        ...(this.byFile ? { out: '/mnt/reports.jsonl' } : {}),
      },
    );
    this.wakeAt = around.now + Math.max(1, Math.ceil(done.next - clock()));
    return done;
  }

  /** Signs a report with this machine's key that its agent would not write. */
  async seal(report: Report): Promise<Uint8Array> {
    const { text } = await sealReport(report, readKey(this.disk, FOLDER)!, sha256);
    return new TextEncoder().encode(text);
  }

  /** What the agent keeps of its own reports. */
  get #chain(): AgentChain {
    return AgentChain.parse(JSON.parse(Buffer.from(this.disk.files().get(`${FOLDER}/chain.json`)!).toString()));
  }

  /** Number of the last sealed report. */
  get sealed(): number {
    return this.#chain.seq;
  }

  /** The server's last answer. */
  get answer(): NonNullable<AgentChain['answer']> {
    return this.#chain.answer!;
  }

  /** What waits in the spool. */
  spool(): string[] {
    return [...this.disk.files().keys()].filter((path) => /\/spool\/[0-9]+\.(?:full|same)$/.test(path)).sort();
  }

  #observed(): Observed {
    const state: DeploymentState = {
      backend: 'ostree',
      via: 'bootc',
      booted: {
        image: {
          reference: 'registry.example/team/os:latest',
          transport: 'registry',
          digest: this.image.digest,
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
    };
    return { state, mounts: [], bootId: this.bootId, machineId: null, hostname: this.name };
  }

  #scan({ expected }: ScanOptions): Scan {
    const built = [...this.image.rules.values()][0]!;
    const actual = this.changed.reduce((entries, { change }) => change(entries), [...built]);
    const hole = this.sight === 'hole' ? HOLE : null;
    const isHidden = (path: ByteString) => hole !== null && (path === hole || path.startsWith(`${hole}/`));
    const texts = textsOf(actual);
    const drift: Drift[] = [];
    const secrets: Secret[] = [];
    const scan = (tree: TreeName): Scan['trees']['usr'] => {
      const { main, extra } = texts[tree];
      const entries = this.sight === 'implausible' ? 1 : main.split('\n').length - 1;
      const unread = hole !== null && treeOf(hole) === tree;
      return {
        main: unread ? null : digestOf(comparisonText(main), nodeSha256),
        extra: unread ? null : digestOf(extra, nodeSha256),
        entries,
        holes: unread ? [{ path: hole, kind: 'unreadable', detail: 'EIO' }] : [],
        holesCapped: false,
      };
    };
    for (const tree of ['etc', 'usr'] as const) {
      const given = expected?.trees[tree];
      if (given === undefined) continue;
      const found = compareTexts({ main: Array.from(given.main).join(''), extra: given.extra! }, texts[tree]);
      drift.push(...found.drift.filter(({ path }) => !isHidden(path)));
      secrets.push(...found.secrets);
    }
    const isCut = this.sight === 'truncated' && drift.length > 1;
    const listed = isCut ? drift.slice(0, 1) : drift;
    const count = (change: Drift['change']) => drift.filter((line) => line.change === change).length;
    const sight = this.sight === 'truncated' && !isCut ? 'whole' : this.sight;
    this.around.truths.push({
      image: this.image.digest,
      changed: this.changed,
      visible: this.changed.filter(({ path }) => listed.some((line) => line.path === path)),
      sight,
      hole,
    });
    return {
      trees: { usr: scan('usr'), etc: scan('etc') },
      drift: listed,
      truncated: isCut ? { added: count('added'), removed: count('removed'), modified: count('modified') } : null,
      secrets,
      accounts: null,
      contents: [],
      notes: [],
      // Not part of what a `same` compares: here it tells which scan this was.
      stats: {
        files: this.around.truths.length - 1,
        bytes: 1,
        seconds: 1,
        peakRssBytes: 1,
        cached: null,
        measured: 0,
        read: 1,
      },
    };
  }
}

function textsOf(entries: readonly Entry[]): Record<TreeName, TreeTexts> {
  const of = (tree: TreeName) =>
    digestTree(
      entries.filter(({ path }) => treeOf(path) === tree).sort((a, b) => comparePaths(a.path, b.path)),
      nodeSha256,
      (main) => main,
    ).texts;
  return { usr: of('usr'), etc: of('etc') };
}
