/**
 * The evidence log of this process (docs/log.md): gives what was logged its place, signs the head, and publishes it. In this order: entries
 * and tiles are committed, then the head is signed, then the checkpoint is committed, then it is written to its file, and only then is
 * it told to anybody. What is not durable is never signed; where the store has less than what was published, nothing is signed any more.
 */
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { LOG_BATCH_MAX } from '#src/limits.ts';
import { toBase64 } from '#src/bytes.ts';
import { openCheckpoint, readCheckpoint, signCheckpoint, type Checkpoint } from '#src/log/checkpoint.ts';
import type { NamedHead } from '#src/log/entry.ts';
import { sameBytes } from '#src/log/proof.ts';
import type { Signer } from '#src/signing/ed25519.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { noteKey, printVkey, type NoteKey } from '#src/signing/note.ts';
import type { Log } from '#server/deps.ts';
import type { LogHead, StoredCheckpoint } from '#server/store/logrecords.ts';
import type { Act } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import type { CheckpointFile } from './checkpointfile.ts';
import { isRestoredNote } from './restored.ts';
import { TreeReads } from './treereads.ts';

export class LogError extends BootproofError<
  /** Another origin was configured than the log has. */
  | 'LOG_ORIGIN'
  /** The store has less than what was published, or something else: it was restored from a backup, or changed. */
  | 'LOG_REWOUND'
  /** A second root of a size that was signed before. */
  | 'LOG_FORKED'
  /** A restart without need, with a name that was used, or while another process did it. */
  | 'LOG_RESTART'
> {}

export type EvidenceDeps = {
  readonly store: Pick<Store, 'log'>;
  readonly clock: () => Instant;
  readonly log: Log;
  readonly signer: Signer;
};

export type EvidenceSettings = {
  /** The origin that the operator named; undefined: the one that stands, or `defaultOrigin` for a new log. */
  readonly origin: string | undefined;
  readonly defaultOrigin: string;
  /** Where the last published checkpoint is kept apart from the store; null: nowhere. */
  readonly file: CheckpointFile | null;
};

/** A log as it is told: a head that was signed and made durable everywhere. */
export type Published = {
  readonly log: number;
  readonly checkpoint: StoredCheckpoint;
};

export class EvidenceLog {
  readonly #deps: EvidenceDeps;
  readonly #settings: EvidenceSettings;
  #published: Published | undefined;
  #refusal: LogError | undefined;
  #heard: string | undefined;
  /** Of those that this log's key signed, the one that is furthest ahead. */
  #ahead: Checkpoint | undefined;
  #turning: Promise<void> | undefined;
  readonly reads: TreeReads;

  private constructor(deps: EvidenceDeps, settings: EvidenceSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.reads = new TreeReads(deps.store);
  }

  /** Opens the log, or begins it. @throws {LogError} LOG_ORIGIN; what else is wrong is told by `refusal`. */
  static async open(deps: EvidenceDeps, settings: EvidenceSettings): Promise<EvidenceLog> {
    const log = new EvidenceLog(deps, settings);
    await log.#settled(async () => {
      const head = await log.#standing();
      if (settings.origin !== undefined && head.origin !== settings.origin)
        throw new LogError(
          'LOG_ORIGIN',
          `this log is ${head.origin} for as long as it lives, not ${settings.origin}: leave --log-origin out, or end the log with 'bootproof log restart --new-origin NAME'`,
        );
      await log.#publish(head);
    });
    return log;
  }

  /** Why nothing is signed; undefined while all is well. */
  get refusal(): LogError | undefined {
    return this.#refusal;
  }

  /** What may be told; undefined until the first checkpoint is durable, or while nothing is signed. */
  get published(): Published | undefined {
    return this.#refusal === undefined ? this.#published : undefined;
  }

  /** By which the log's checkpoints are checked. */
  key(origin: string): NoteKey {
    return noteKey(origin, 1, this.#deps.signer.publicKey);
  }

  vkey(origin: string): string {
    return printVkey(this.key(origin));
  }

  /** A checkpoint that somebody was told, and that is beyond what this process published. Looked into with the next turn. */
  heard(note: string): void {
    this.#heard = note;
  }

  /** Gives everything that waits its place, signs and publishes. Calls at once share one run, and the next begins after it. */
  async turn(): Promise<void> {
    while (this.#turning !== undefined) await this.#turning;
    const mine = this.#settled(() => this.#advance()).finally(() => {
      this.#turning = undefined;
    });
    this.#turning = mine.catch(() => undefined);
    await mine;
  }

  /**
   * A signed checkpoint of the log that stands, of an earlier size: what an export is about ends with its own act. @throws {LogError} while
   * nothing is signed.
   */
  async checkpointOf(size: number): Promise<StoredCheckpoint> {
    const { store, clock, signer } = this.#deps;
    if (this.#refusal !== undefined) throw this.#refusal;
    const head = await store.log.head();
    const root = head && (await this.reads.rootAt(head.log, size));
    if (head === undefined || root === undefined) throw new LogError('LOG_REWOUND', `the log has not ${size} entries`);
    const known = await store.log.checkpoint(head.origin, size);
    const checkpoint = known ?? {
      origin: head.origin,
      size,
      root,
      note: await signCheckpoint({ origin: head.origin, size, root }, signer),
      at: clock(),
    };
    if (
      !sameBytes(checkpoint.root, root) ||
      (known === undefined && (await store.log.keepCheckpoint(checkpoint)) === 'forked')
    )
      throw new LogError(
        'LOG_FORKED',
        `another tree of ${size} entries was signed as ${head.origin} before: somebody changed the database; 'bootproof log verify' names what`,
      );
    return (await store.log.checkpoint(head.origin, size)) ?? checkpoint;
  }

  /** Ends the log, and begins one of another name that names where this one was. @throws {LogError} LOG_RESTART */
  async restart(origin: string, by: Act): Promise<NamedHead> {
    const { store, signer } = this.#deps;
    const previous = await restartLog(
      { store },
      { origin, publicKey: signer.publicKey, file: this.#settings.file },
      by,
    );
    await this.turn();
    return previous;
  }

  async #advance(): Promise<void> {
    const standing = await this.#standing();
    for (let head = standing; ;) {
      const done = await this.#deps.store.log.sequence(head.log, LOG_BATCH_MAX);
      // Restarted by somebody meanwhile: looked at anew in the next turn.
      if (done === undefined) return;
      head = done.head;
      await this.#publish(head);
      if (done.added < LOG_BATCH_MAX) return;
    }
  }

  /** Runs, and remembers what makes it impossible to sign, until that is over. */
  async #settled(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      if (this.#refusal !== undefined) this.#deps.log('info', 'evidence log signs again');
      this.#refusal = undefined;
    } catch (error) {
      if (!(error instanceof LogError) || error.code === 'LOG_ORIGIN') throw error;
      if (this.#refusal?.message !== error.message)
        this.#deps.log('error', 'evidence log is not signed', { code: error.code, why: error.message });
      this.#refusal = error;
    }
  }

  /** The log that stands, held against what was published last. @throws {LogError} LOG_REWOUND. */
  async #standing(): Promise<LogHead> {
    const { store, signer, clock } = this.#deps;
    const { file, origin, defaultOrigin } = this.#settings;
    const last = file && lastOf(file);
    await this.#hear();
    let head = await store.log.head();
    if (head === undefined) {
      if (last !== null) throw rewound('it has no log', last, file!.path);
      head = await store.log.begin({ origin: origin ?? defaultOrigin, publicKey: signer.publicKey }, clock());
    }
    if (this.#ahead?.origin === head.origin && this.#ahead.size > head.size)
      throw rewound(`its log has ${head.size} entries`, this.#ahead, 'a host');
    if (last === null || file === null) return head;
    if (last.origin !== head.origin) {
      // After a restart the file is of the old log, until the new one is published here.
      const { previous } = head;
      if (previous?.origin === last.origin && covers(previous, last)) return head;
      throw rewound(`its log is ${head.origin}`, last, file.path);
    }
    if (head.size < last.size) throw rewound(`its log has ${head.size} entries`, last, file.path);
    // What this process published itself was compared then: whether it still stands is enough.
    const isOurs = this.#published !== undefined && sameBytes(this.#published.checkpoint.root, last.root);
    const root = isOurs
      ? (await store.log.checkpoint(last.origin, last.size))?.root
      : await this.reads.rootAt(head.log, last.size);
    if (root === undefined || !sameBytes(root, last.root))
      throw rewound(`its first ${last.size} entries are not those that were published`, last, file.path);
    return head;
  }

  /** What hosts bring counts if this log's own key signed it. */
  async #hear(): Promise<void> {
    const note = this.#heard;
    this.#heard = undefined;
    if (note === undefined) return;
    try {
      const { origin } = readCheckpoint(note);
      const { size, root } = await openCheckpoint(note, this.key(origin), verifyInPool);
      if (this.#ahead?.origin !== origin || this.#ahead.size < size) this.#ahead = { origin, size, root };
    } catch (error) {
      // Nobody's checkpoint: a host may say what it likes.
      if (!(error instanceof BootproofError)) throw error;
    }
  }

  /** @throws {LogError} LOG_FORKED, LOG_REWOUND. */
  async #publish(head: LogHead): Promise<void> {
    const { store, clock, signer } = this.#deps;
    let newest = await store.log.newestCheckpoint(head.origin);
    if (newest === undefined || newest.size < head.size) {
      const checkpoint = {
        origin: head.origin,
        size: head.size,
        root: head.root,
        note: await signCheckpoint(head, signer),
        at: clock(),
      };
      const kept = await store.log.keepCheckpoint(checkpoint);
      if (kept === 'forked')
        throw new LogError(
          'LOG_FORKED',
          `another tree of ${head.size} entries was signed as ${head.origin} before: somebody changed the database; 'bootproof log verify' names what`,
        );
      // Another process restarted the log, or went on: its turn tells.
      if (kept === 'ahead') return;
      newest = await store.log.newestCheckpoint(head.origin);
    }
    if (newest === undefined) return;
    if (newest.size > head.size) return; // signed by another process a moment ago: published with the next turn
    if (!sameBytes(newest.root, head.root))
      throw new LogError(
        'LOG_FORKED',
        `the tree of ${head.size} entries is not the one that was signed as ${head.origin}: somebody changed the database; 'bootproof log verify' names what`,
      );
    if (this.#published?.checkpoint.note === newest.note) return;
    this.#settings.file?.write(newest.note);
    this.#published = { log: head.log, checkpoint: newest };
  }
}

/** Ends the log that stands and begins one that names the last head that was published. @throws {LogError} LOG_RESTART. */
export async function restartLog(
  { store }: { readonly store: Pick<Store, 'log'> },
  about: { readonly origin: string; readonly publicKey: string; readonly file: CheckpointFile | null },
  by: Act,
): Promise<NamedHead> {
  const head = await store.log.head();
  const last = about.file && restartedAfter(about.file);
  const known = [last ?? null, head ?? null].filter((one) => one !== null);
  const previous = known.sort((a, b) => b.size - a.size)[0];
  if (previous === undefined)
    throw new LogError(
      'LOG_RESTART',
      'there is no log yet, here or in the checkpoint file: a server begins one when it starts',
    );
  const named: NamedHead = { origin: previous.origin, size: previous.size, root: toBase64(previous.root) };
  const done = await store.log.restart(
    { origin: about.origin, publicKey: about.publicKey, previous: named, expect: head?.log ?? null },
    by,
  );
  if (!done)
    throw new LogError(
      'LOG_RESTART',
      `the log was not restarted: ${about.origin} is or was the origin of a log here, or somebody restarted it just now; look with 'bootproof log status' and name another`,
    );
  // It would keep the new log from being signed, too.
  if (last === undefined) about.file?.remove();
  return named;
}

/** As `lastOf`; undefined where the file says nothing: the head that stands is then the last that anybody knows. */
function restartedAfter(file: CheckpointFile): Checkpoint | null | undefined {
  try {
    return lastOf(file);
  } catch (error) {
    if (!(error instanceof LogError)) throw error;
    return undefined;
  }
}

/** What the file says was published last; null where there is none. @throws {LogError} where it says nothing. */
function lastOf(file: CheckpointFile): Checkpoint | null {
  const note = file.read();
  if (note === undefined) return null;
  try {
    return readCheckpoint(note);
  } catch (cause) {
    if (isRestoredNote(note))
      throw new LogError(
        'LOG_REWOUND',
        `this database was restored from a backup, and what was published since is not known here (${file.path} says more). Signing on could be a fork. Put the log.checkpoint of before in the place of that file, or begin a new log that names the old one: 'bootproof log restart --new-origin NAME'`,
        { cause },
      );
    throw new LogError(
      'LOG_REWOUND',
      `${file.path} must hold the log's last checkpoint, and holds something else: put back what it held, or begin a new log with 'bootproof log restart --new-origin NAME'`,
      { cause },
    );
  }
}

function rewound(found: string, last: Checkpoint, path: string): LogError {
  return new LogError(
    'LOG_REWOUND',
    `the database is behind what was published: ${found}, and ${path} has a checkpoint by which ${last.origin} had ${last.size}. Was it restored from a backup? Signing on would be a fork. Put the newer database back, or begin a new log that names the old one: 'bootproof log restart --new-origin NAME'`,
  );
}

const covers = (previous: NamedHead, last: Checkpoint) =>
  previous.size > last.size || (previous.size === last.size && previous.root === toBase64(last.root));
