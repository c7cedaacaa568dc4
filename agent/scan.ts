/**
 * The scan: walk, read, hash and compare /usr and /etc of a root. Lines stream from the workers through the comparison into
 * the digests; memory holds the manifest and what was found, not the tree.
 */
import { createHash, type Hash } from 'node:crypto';
import { accessSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { fromUtf8, type ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { HOLES_MAX, REPORT_LIST_MAX } from '#src/limits.ts';
import type { Digest } from '#src/digest.ts';
import { DriftList, isWithin, TreeComparison, type ExpectedTree } from '#src/drift/compare.ts';
import type { Drift, Glimpse, Hole, Secret } from '#src/drift/drift.ts';
import { isSecret } from '#src/drift/redact.ts';
import type { Entry, TreeName } from '#src/manifest/entry.ts';
import { extraLine, mainLine } from '#src/manifest/mtree.ts';
import type { Accounts } from '#src/report/report.ts';
import { readAccounts } from './accounts.ts';
import type { BackingData } from './backedfile.ts';
import { findBacking, type VerityLines } from './backing.ts';
import { contentsOf, type Content } from './contents.ts';
import type { DigestCache } from './digestcache.ts';
import { BATCH, HashPool, type Batch, type Manner } from './pool.ts';
import type { Neighbour } from './pressure.ts';
import { release, walkTree, type Found, type Step } from './walk.ts';

export class ScanError extends BootproofError<'ROOT_UNREADABLE'> {}

export type ScanOptions = {
  /** The root to scan: `/`, or the folder of a deployment. */
  readonly root: string;
  /** What it must be; without it only digests are made. */
  readonly expected?: { readonly trees: Readonly<Record<TreeName, ExpectedTree>> };
  /** Paths inside the root, at or below /usr or /etc, at which something is mounted over the tree. */
  readonly mounts?: readonly ByteString[];
  /** The site's own secret globs (`parseSecretPath`). */
  readonly secretPathsAdded?: readonly string[];
  /** Globs of /etc text files whose content is told where they differ; none by default. */
  readonly contents?: readonly string[];
  /** Worker threads; by default one a core, two at most: more gain little and take 8 MB each. */
  readonly workers?: number;
  /** Bytes that are read in a second at most; as many as there are by default. */
  readonly bytesPerSecond?: number;
  /** What runs before this one read; without it every file is read. It is put on the disk at the end. */
  readonly cache?: DigestCache;
  /** By which digests the kernel names the contents of the image; used where it serves nothing else. */
  readonly verity?: VerityLines;
  /** Where the data lie that are served through composefs; found out by itself for `/`. */
  readonly backing?: BackingData;
  /** Rests while others suffer, and gives back the page cache that reading brought in; without it the scan takes what it gets. */
  readonly neighbour?: Neighbour;
  readonly signal?: AbortSignal;
  /** Called often; the receiver decides how often to show it. */
  readonly onProgress?: (progress: Progress) => void;
};
export type Progress = { readonly path: ByteString; readonly files: number; readonly bytes: number };

export type TreeScan = {
  /** Of the comparison text and the extra text; null where something could not be judged. */
  readonly main: Digest | null;
  readonly extra: Digest | null;
  readonly entries: number;
  readonly holes: readonly Hole[];
  readonly holesCapped: boolean;
};

export type Scan = {
  readonly trees: Readonly<Record<TreeName, TreeScan>>;
  readonly drift: readonly Drift[];
  /** Totals by kind where the drift list was cut (PROTOCOL 3.8). */
  readonly truncated: { readonly added: number; readonly removed: number; readonly modified: number } | null;
  readonly secrets: readonly Secret[];
  readonly accounts: Accounts | null;
  /** Of differing files that `contents` names. */
  readonly contents: readonly Content[];
  /** What a person should know of how the scan went, in sentences. */
  readonly notes: readonly string[];
  readonly stats: {
    readonly files: number;
    /** Sizes of all files but the secrets. */
    readonly bytes: number;
    readonly seconds: number;
    readonly peakRssBytes: number;
    /** Files whose digest was kept from a run before (docs/agent.md, "How each file is judged"); null where there is no cache. */
    readonly cached: number | null;
    /** Files that the kernel measured (fs-verity). */
    readonly measured: number;
    /** Files that were read to their end, in this run. */
    readonly read: number;
  };
};

/** In the order of the canonical text, so that all drift comes sorted. */
const TREE_ORDER = ['etc', 'usr'] as const satisfies readonly TreeName[];

/**
 * Scans a root. What cannot be read is a hole, never an error.
 * @throws {ScanError} ROOT_UNREADABLE if the root itself is no folder that can be entered; whatever `signal` gives as its reason.
 */
export async function scan(options: ScanOptions): Promise<Scan> {
  const started = performance.now();
  const root = rootOf(options.root);
  options.signal?.throwIfAborted();
  const workers = options.workers ?? Math.min(availableParallelism(), 2);
  const { bytesPerSecond, cache, neighbour, verity } = options;
  const backing =
    options.backing ?? (cache === undefined && verity === undefined ? undefined : findBacking(root, verity));
  const pool = new HashPool({
    workers,
    root,
    bytesPerSecond,
    cache: cache?.data,
    backing,
    releases: neighbour !== undefined,
  });
  const abort = () => pool.abort(options.signal!.reason);
  options.signal?.addEventListener('abort', abort, { once: true });
  try {
    await pool.ready();
    const run = new Run(pool, root, options, backing !== undefined);
    for (const tree of TREE_ORDER) await run.tree(tree);
    cache?.save();
    return run.end(started);
  } finally {
    options.signal?.removeEventListener('abort', abort);
    await pool.close();
  }
}

/** The root as bytes, without a slash at its end: `/` is ''. */
function rootOf(given: string): ByteString {
  const root = resolve(given);
  try {
    if (!statSync(root).isDirectory()) throw new ScanError('ROOT_UNREADABLE', `${root} is no folder`);
    accessSync(root);
  } catch (cause) {
    if (cause instanceof ScanError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new ScanError('ROOT_UNREADABLE', `${root} cannot be entered: ${code}`, { cause });
  }
  return root === '/' ? '' : fromUtf8(root);
}

class Run {
  readonly #pool: HashPool;
  readonly #root: ByteString;
  readonly #options: ScanOptions;
  readonly #drift = new DriftList();
  readonly #secrets: Secret[] = [];
  readonly #trees = new Map<TreeName, TreeScan>();
  readonly #notes: string[] = [];
  readonly #secretContents = new Set<string>();
  readonly #backed: boolean;
  readonly #cachedBefore: number;
  #files = 0;
  #bytes = 0;

  constructor(pool: HashPool, root: ByteString, options: ScanOptions, backed: boolean) {
    this.#pool = pool;
    this.#root = root;
    this.#options = options;
    this.#backed = backed;
    this.#cachedBefore = options.cache?.cached ?? 0;
    if (pool.noXattr !== null)
      this.#notes.push(`xattr: unsupported (${pool.noXattr}): file capabilities were not looked at`);
  }

  async tree(tree: TreeName): Promise<void> {
    const { expected, mounts = [], secretPathsAdded = [] } = this.#options;
    const walk = walkTree(this.#root, tree, new Set(mounts));
    const texts =
      expected && (this.#pool.noXattr === null ? expected.trees[tree] : withoutCapabilities(expected.trees[tree]));
    const comparison = new TreeComparison(texts, secretPathsAdded, {
      drift: (drift) => this.#drift.add(drift),
      secret: (secret) => this.#secrets.push(secret),
    });
    const sink = new TreeSink(comparison);
    const manner: Manner = {
      dev: walk.dev,
      cached: this.#options.cache !== undefined && walk.keepsTimes,
      // /etc is the deployment's own folder, and no part of the image that is served.
      backed: this.#backed && tree === 'usr' && walk.dev === null,
      // What is on the disk goes into backups: a digest over a secret lets it be guessed (PROTOCOL 1.4).
      isSecret: (path) => isSecret(path, secretPathsAdded),
    };
    const steps = walk.steps[Symbol.iterator]();
    const between: Between[] = []; // of the batches that were given to the pool and not yet taken
    const { neighbour, signal } = this.#options;
    let more = true;
    while (more || this.#pool.pending) {
      const pressed = neighbour?.isPressed === true;
      // Where it is our own work that is waited for, that shows when there is none.
      if (pressed) {
        while (this.#pool.pending) await this.#takeAll(between, sink);
        await neighbour.rest(signal);
      }
      while (more && this.#pool.hasRoom) {
        const batch = nextBatch(steps);
        more = batch.found.length + batch.between.length > 0;
        if (!more) break;
        between.push(batch.between);
        this.#pool.give(batch.found, manner);
      }
      await this.#takeAll(between, sink);
    }
    // A sum over all files but one known apart would tell that one's size.
    this.#bytes -= comparison.secretBytes;
    for (const sha256 of comparison.secretContents) this.#secretContents.add(sha256);
    this.#trees.set(tree, sink.end(this.#pool.noXattr === null));
    if (sink.entries === 0 && sink.holes.length === 0) this.#absent(tree);
  }

  /** Takes the batches that are done; then waits for another, if there are more. */
  async #takeAll(between: Between[], sink: TreeSink): Promise<void> {
    for (let done = this.#pool.take(); done !== undefined; done = this.#pool.take())
      this.#took(between.shift()!, done, sink);
    if (this.#pool.pending) await this.#pool.change();
  }

  #took(between: Between, done: Batch, sink: TreeSink): void {
    let last: ByteString | undefined;
    let taken = 0;
    let at = 0;
    for (; at < between.length || taken < done.count;) {
      const other = between[at];
      if (other !== undefined && other.after === taken) {
        if ('done' in other.step) release(other.step.done);
        else sink.hole(other.step.hole, other.step.glimpse);
        at++;
        continue;
      }
      const seen = done.next();
      taken++;
      if ('hole' in seen) sink.hole(seen.hole, seen.glimpse);
      else {
        if (seen.type === 'file') this.#files++;
        this.#bytes += seen.size ?? 0;
        last = seen.path;
        sink.entry(seen);
      }
    }
    sink.flush();
    if (last !== undefined) this.#options.onProgress?.({ path: last, files: this.#files, bytes: this.#bytes });
  }

  #absent(tree: TreeName): void {
    const { expected } = this.#options;
    const then = expected === undefined ? '' : ': all that the image has there counts as removed';
    const undeployed = tree === 'etc' && isFolder(`${this.#root}/usr/etc`);
    this.#notes.push(
      undeployed
        ? `this root has /usr/etc but no /etc: it was checked out, not deployed${then}`
        : `this root has no /${tree}${then}`,
    );
  }

  end(started: number): Scan {
    const { cache, neighbour, contents = [], secretPathsAdded = [] } = this.#options;
    const cached = cache === undefined ? null : cache.cached - this.#cachedBefore;
    const drift = this.#drift.list();
    const about = {
      root: this.#root,
      globs: contents,
      secretPaths: secretPathsAdded,
      secretContents: this.#secretContents,
    };
    return {
      trees: { usr: this.#trees.get('usr')!, etc: this.#trees.get('etc')! },
      drift,
      truncated: this.#drift.truncated(),
      secrets: capped(this.#secrets),
      accounts: readAccounts(this.#root),
      contents: contents.length === 0 ? [] : contentsOf(drift, about),
      notes: [...this.#notes, ...(cache?.notes ?? []), ...(neighbour?.notes ?? [])],
      stats: {
        files: this.#files,
        bytes: this.#bytes,
        seconds: (performance.now() - started) / 1000,
        peakRssBytes: process.resourceUsage().maxRSS * 1024,
        cached,
        measured: this.#pool.measured,
        read: this.#files - (cached ?? 0) - this.#pool.measured,
      },
    };
  }
}

/** What a batch has besides paths to look at: holes, and descriptors to close, each after so many of its paths. */
type Between = { readonly after: number; readonly step: Exclude<Step, Found> }[];

function nextBatch(steps: Iterator<Step>): { found: Found[]; between: Between } {
  const found: Found[] = [];
  const between: Between = [];
  while (found.length + between.length < BATCH) {
    const { done, value } = steps.next();
    if (done === true) break;
    if ('kind' in value) found.push(value);
    else between.push({ after: found.length, step: value });
  }
  return { found, between };
}

/** One tree's lines on their way into comparison and digests. */
class TreeSink {
  readonly #comparison: TreeComparison;
  readonly #main: Hash = createHash('sha256');
  readonly #extra: Hash = createHash('sha256');
  #mainLines = '';
  #extraLines = '';
  #capped = false;
  #hole: ByteString | undefined;
  readonly holes: Hole[] = [];
  entries = 0;

  constructor(comparison: TreeComparison) {
    this.#comparison = comparison;
  }

  entry(entry: Entry): void {
    if (this.#isInHole(entry.path)) return;
    this.entries++;
    this.#mainLines += mainLine(entry);
    if (entry.capability !== undefined || entry.device !== undefined) this.#extraLines += extraLine(entry);
  }

  hole(hole: Hole, glimpse?: Glimpse): void {
    if (this.#isInHole(hole.path)) return;
    this.flush();
    this.#hole = hole.path;
    this.#comparison.hole(hole.path, glimpse);
    if (this.holes.length < HOLES_MAX) this.holes.push(hole);
    else this.#capped = true;
  }

  /** A folder may turn out to be a hole when what lies in it was walked already: nothing is told below one (docs/report.md 1.6). */
  #isInHole(path: ByteString): boolean {
    if (this.#hole === undefined) return false;
    if (isWithin(path, this.#hole)) return true;
    this.#hole = undefined;
    return false;
  }

  flush(): void {
    if (this.#mainLines === '') return;
    this.#main.update(this.#comparison.lines(this.#mainLines, this.#extraLines), 'latin1');
    this.#extra.update(this.#extraLines, 'latin1');
    this.#mainLines = this.#extraLines = '';
  }

  end(capabilities: boolean): TreeScan {
    this.flush();
    this.#comparison.end();
    const whole = this.holes.length === 0;
    const digest = (hash: Hash) => `sha256:${hash.digest('hex')}` as Digest;
    return {
      main: whole ? digest(this.#main) : null,
      extra: whole && capabilities ? digest(this.#extra) : null,
      entries: this.entries,
      holes: this.holes,
      holesCapped: this.#capped,
    };
  }
}

/** What can be compared where capabilities cannot be read. */
function withoutCapabilities({ main, extra }: ExpectedTree): ExpectedTree {
  return { main, extra: extra && extra.replace(/^.*\tsecurity\.capability=.*\n/gm, '') };
}

/** At most as many as a report takes: those that drift does not tell go first. */
function capped(secrets: readonly Secret[]): Secret[] {
  if (secrets.length <= REPORT_LIST_MAX) return [...secrets];
  const differing = secrets.filter(({ state }) => state === 'differs');
  const kept = new Set([...differing, ...secrets.filter(({ state }) => state !== 'differs')].slice(0, REPORT_LIST_MAX));
  return secrets.filter((secret) => kept.has(secret));
}

function isFolder(path: ByteString): boolean {
  return statSync(Buffer.from(path, 'latin1'), { throwIfNoEntry: false })?.isDirectory() ?? false;
}
