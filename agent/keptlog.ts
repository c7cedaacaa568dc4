/**
 * What this host keeps of the server's evidence log (docs/report.md 9): the newest checkpoint that continues the one before. A server that shows
 * this host another past than it showed before is refused, and both checkpoints stay: together they are the proof.
 */
import { z } from 'zod';
import { fromBase64 } from '#src/bytes.ts';
import { formatInstant, type Clock } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { CHECKPOINT_BYTES_MAX, STATE_FILE_BYTES_MAX } from '#src/limits.ts';
import { openCheckpoint, readCheckpoint } from '#src/log/checkpoint.ts';
import { verifyConsistency } from '#src/log/proof.ts';
import type { PublicKey, Verify } from '#src/signing/ed25519.ts';
import { parseVkey, printVkey } from '#src/signing/note.ts';
import { Time, type Answer } from '#src/wire/answer.ts';
import { printEcho } from '#src/wire/logecho.ts';
import { openLogKey } from '#src/wire/logkey.ts';
import { save, type Disk } from './disk.ts';

export const KEPT_LOG_FILE = 'log.json';

/** Checkpoints of logs that ended, newest last. */
const PAST_MAX = 8;

const Note = z.string().max(CHECKPOINT_BYTES_MAX);
const Kept = z.strictObject({ vkey: z.string().max(1024), checkpoint: Note, receivedAt: Time });

export const KeptLog = z.strictObject({
  version: z.literal(1),
  /** Null until the first was told. */
  current: Kept.nullable(),
  /** The last of each log that was ended by another one. */
  past: z.array(Kept).max(PAST_MAX),
  /** The first that was refused, until a person has seen to it (`agent checkpoint --dismiss`). */
  refused: z
    .strictObject({ code: z.string().max(40), why: z.string().max(1000), at: Time, checkpoint: Note })
    .nullable(),
});
export type KeptLog = Readonly<z.infer<typeof KeptLog>>;

const NOTHING: KeptLog = { version: 1, current: null, past: [], refused: null };

export type KeptLogDeps = {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly verify: Verify;
  readonly say: (sentence: string) => Promise<void>;
};

export class LogKeeper {
  readonly #deps: KeptLogDeps;
  readonly #folder: string;
  readonly #serverKey: PublicKey | null;
  #kept: KeptLog;
  /** Number of the report that echoed what is kept now. */
  #echoedIn: number | undefined;

  private constructor(deps: KeptLogDeps, folder: string, serverKey: PublicKey | null, kept: KeptLog) {
    this.#deps = deps;
    this.#folder = folder;
    this.#serverKey = serverKey;
    this.#kept = kept;
  }

  /** `serverKey`: pinned by enrolment; null where it is not known yet. A file that is damaged is put aside, and said. */
  static async open(deps: KeptLogDeps, folder: string, serverKey: PublicKey | null): Promise<LogKeeper> {
    const file = `${folder}/${KEPT_LOG_FILE}`;
    const bytes = deps.disk.read(file, STATE_FILE_BYTES_MAX);
    let kept = NOTHING;
    if (bytes !== undefined) {
      try {
        kept = KeptLog.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
      } catch {
        deps.disk.rename(file, `${file}.corrupt`);
        await deps.say(`${file} is damaged and was put aside: this host keeps the evidence log's checkpoints anew`);
      }
    }
    return new LogKeeper(deps, folder, serverKey, kept);
  }

  get kept(): KeptLog {
    return this.#kept;
  }

  /** For the report of this number. */
  echo(seq: number): string | null {
    const { current, refused } = this.#kept;
    this.#echoedIn = seq;
    return printEcho({
      kept: current?.checkpoint ?? null,
      refused: refused && { code: refused.code, checkpoint: refused.checkpoint },
    });
  }

  /** Takes what an answer tells, if it continues what is kept; durable when it resolves. What does not is kept beside it, and said. */
  async take(answer: Pick<Answer, 'seq' | 'checkpoint' | 'consistency' | 'logKey'>): Promise<void> {
    const { checkpoint, consistency = null, logKey = null } = answer;
    if (checkpoint === null || this.#serverKey === null) return;
    try {
      if (logKey === null) await this.#continue(checkpoint, consistency, answer.seq);
      else await this.#begin(checkpoint, logKey, this.#serverKey);
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      await this.#refuse(error, checkpoint);
    }
  }

  /** A person has seen to what was refused. */
  dismiss(): void {
    this.#keep({ ...this.#kept, refused: null });
  }

  async #continue(note: string, consistency: (Answer['consistency'] & {}) | null, seq: number): Promise<void> {
    const { current } = this.#kept;
    // Nothing is known yet: a server that tells no key tells nothing.
    if (current === null || current.checkpoint === note) return;
    const before = readCheckpoint(current.checkpoint);
    if (consistency?.from !== before.size) {
      // The answer to a report that was sealed before this was kept proves from what it echoed: the next one will do.
      if (seq !== this.#echoedIn) return;
      throw new LogRefusal(
        'CONSISTENCY_MISSING',
        `it does not prove that it continues the ${before.size} entries that this host knows`,
      );
    }
    const after = await openCheckpoint(note, parseVkey(current.vkey), this.#deps.verify);
    verifyConsistency(
      before,
      after,
      consistency.proof.map((hash) => fromBase64(hash)),
    );
    if (after.size === before.size) return;
    this.#keep({ ...this.#kept, current: { ...current, checkpoint: note, receivedAt: this.#now() } });
  }

  async #begin(note: string, logKey: Answer['logKey'] & {}, serverKey: PublicKey): Promise<void> {
    const key = await openLogKey(logKey, serverKey, this.#deps.verify);
    const after = await openCheckpoint(note, key, this.#deps.verify);
    const { current, past } = this.#kept;
    const vkey = printVkey(key);
    const next = { vkey, checkpoint: note, receivedAt: this.#now() };
    if (current === null) {
      this.#keep({ ...this.#kept, current: next });
      return;
    }
    const before = readCheckpoint(current.checkpoint);
    // The answer to an older report: this log is known by now.
    if (before.origin === after.origin && current.vkey === vkey) return;
    if (before.origin === after.origin)
      throw new LogRefusal(
        'LOG_KEY_CHANGED',
        `the log ${before.origin} is said to have another key than this host knows`,
      );
    if (past.some(({ checkpoint }) => readCheckpoint(checkpoint).origin === after.origin))
      throw new LogRefusal('LOG_ENDED', `the log ${after.origin} ended before, and is told again`);
    this.#keep({ ...this.#kept, current: next, past: [...past, current].slice(-PAST_MAX) });
    await this.#deps.say(
      `the server's evidence log was begun anew: ${after.origin} instead of ${before.origin}, which had at least ${before.size} entries. This host keeps the last checkpoint of both (bootproof agent checkpoint); ask why`,
    );
  }

  async #refuse({ code, message }: BootproofError, checkpoint: string): Promise<void> {
    await this.#deps.say(
      `THE SERVER'S EVIDENCE LOG IS NOT THE ONE THAT THIS HOST KNOWS: ${message} [${code}]. It was changed, or this host is shown another one. Both checkpoints are kept: bootproof agent checkpoint`,
    );
    // The first one is the proof; what comes after it adds nothing.
    if (this.#kept.refused !== null) return;
    const refused = { code, why: message.slice(0, 1000), at: this.#now(), checkpoint };
    this.#keep({ ...this.#kept, refused });
  }

  #now(): string {
    return formatInstant(this.#deps.clock());
  }

  #keep(kept: KeptLog): void {
    save(this.#deps.disk, this.#folder, KEPT_LOG_FILE, new TextEncoder().encode(`${JSON.stringify(kept, null, 2)}\n`));
    this.#kept = kept;
    this.#echoedIn = undefined;
  }
}

/** Why a checkpoint is not taken, besides what `src/log` says. */
class LogRefusal extends BootproofError<
  /** No proof, or from another size, although this host said what it keeps. */
  | 'CONSISTENCY_MISSING'
  /** Another key for a log that is known. */
  | 'LOG_KEY_CHANGED'
  /** A log that ended, told again. */
  | 'LOG_ENDED'
> {}
