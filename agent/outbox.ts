/**
 * From a sealed report to the server's answer, so that the machine may stop anywhere: what was posted is on the disk, no number
 * means two things, and what the server took is remembered before its file goes (docs/report.md 4.4).
 */
import { hash } from 'node:crypto';
import { fromUtf8 } from '#src/bytes.ts';
import { formatInstant, parseInstant, type Clock, type Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { REPORT_BYTES_MAX, RETRY_AFTER_MS_MAX, STATE_FILE_BYTES_MAX } from '#src/limits.ts';
import { Report, REPORT_PAYLOAD_TYPE } from '#src/report/report.ts';
import { sealReport, type AcceptedFull } from '#src/report/seal.ts';
import { DsseError, envelopeBytesMax, envelopeDigest, parseEnvelope, verifyEnvelope } from '#src/signing/dsse.ts';
import type { Signer, Verify } from '#src/signing/ed25519.ts';
import { UsageError } from '#src/terminal.ts';
import type { Answer } from '#src/wire/answer.ts';
import type { Problem } from '#src/wire/problem.ts';
import {
  AgentChain,
  answered,
  carriedAway,
  givenUp,
  isDropped,
  NEW_CHAIN,
  numberAfterLoss,
  refused,
  sealed,
  withRule,
} from './chain.ts';
import { DiskError, save, type Disk } from './disk.ts';
import { Spool, SPOOL_LIMITS, type SpoolLimits, type Waiting } from './spool.ts';

/** What became of one post. `refused`: this report never passes. `waits`: none of this host does for now. */
export type Posted =
  | { readonly kind: 'accepted'; readonly answer: Answer }
  | { readonly kind: 'refused'; readonly problem: Problem }
  | { readonly kind: 'waits'; readonly problem: Problem }
  | { readonly kind: 'retry'; readonly why: string; readonly afterMs: number | null };

export type OutboxDeps = {
  readonly disk: Disk;
  readonly clock: Clock;
  /** From 0 up to 1. */
  readonly random: () => number;
  /** Rejects when the agent is told to stop. */
  readonly sleep: (ms: number) => Promise<void>;
  readonly verify: Verify;
  /** One sentence for people. */
  readonly say: (sentence: string) => Promise<void>;
};

export type FlushResult = {
  readonly accepted: number;
  readonly refused: readonly Problem[];
  /** Still in the spool. */
  readonly waiting: number;
  /** Why the rest waits; null where nothing does. */
  readonly why: string | null;
};

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');
/** In the agent's folder. Enrolment makes it. */
export const CHAIN_FILE = 'chain.json';

/** Posts of one report in one run, and the first pause between them; the next run tries again. */
const TRIES = 4;
const PAUSE_MS = 1000;
/** A server that wants a longer pause than this within a run gets its quiet until another run. */
const PAUSE_MS_MAX = 30_000;

export class Outbox {
  readonly #deps: OutboxDeps;
  readonly #folder: string;
  readonly #signer: Signer;
  readonly #host: string;
  readonly #spool: Spool;
  #chain: AgentChain = NEW_CHAIN;

  private constructor(deps: OutboxDeps, folder: string, host: string, signer: Signer, limits: SpoolLimits) {
    this.#deps = deps;
    this.#folder = folder;
    this.#host = host;
    this.#signer = signer;
    this.#spool = new Spool(deps.disk, `${folder}/spool`, limits);
  }

  /** Opens what is there, and finishes what a stopped machine left half done. One process at a time. */
  static async open(
    deps: OutboxDeps,
    about: { readonly folder: string; readonly host: string; readonly signer: Signer; readonly limits?: SpoolLimits },
  ): Promise<Outbox> {
    const outbox = new Outbox(deps, about.folder, about.host, about.signer, about.limits ?? SPOOL_LIMITS);
    await outbox.#recover();
    return outbox;
  }

  get chain(): AgentChain {
    return this.#chain;
  }

  /** Reports that wait. */
  get waiting(): number {
    return this.#spool.list().length;
  }

  /** The full report that a `same` may lean on: the last one that the server took, if none went out since. */
  get accepted(): AcceptedFull | null {
    const { accepted, unanswered } = this.#chain;
    return unanswered.length > 0 || accepted === null ? null : { ...accepted };
  }

  /** Room for one more report of about `bytes`; what must go for it is remembered as dropped before it goes. */
  async makeRoom(bytes: number): Promise<void> {
    const surplus = this.#spool.surplus(bytes);
    if (surplus.length === 0) return;
    this.#keep(
      givenUp(
        this.#chain,
        surplus.map(({ seq }) => seq),
      ),
    );
    this.#spool.remove(surplus);
    await this.#deps.say(
      `the spool is full: ${surplus.length} of the oldest reports were dropped, the next report says so`,
    );
  }

  /** Seals a report under the next number. Durable when it resolves, number and all. */
  async put(report: Report): Promise<void> {
    if (report.seq !== this.#chain.seq + 1) throw new Error(`report ${report.seq} does not follow ${this.#chain.seq}`);
    const { text, digest } = await sealReport(report, this.#signer, sha256);
    this.#spool.add(report.seq, report.kind, Buffer.from(text, 'latin1'));
    // From here a stopped machine finds the number in the spool.
    this.#keep(sealed(this.#chain, report, digest, sha256));
  }

  remember(image: Digest, rule: string): void {
    if (!this.#chain.rules.some((known) => known.image === image && known.rule === rule))
      this.#keep(withRule(this.#chain, image, rule));
  }

  /** Posts what waits, oldest first, until the server takes no more. */
  async flush(post: (envelope: Uint8Array) => Promise<Posted>): Promise<FlushResult> {
    const quiet = this.#quietUntil();
    const problems: Problem[] = [];
    let accepted = 0;
    let why: string | null = quiet && `the server asked for quiet until ${quiet}`;
    for (const waiting of this.#spool.list()) {
      if (why !== null) break;
      const found = await this.#read(waiting);
      if (found === undefined) continue;
      const posted = await this.#tries(() => post(found.envelope));
      switch (posted.kind) {
        case 'accepted':
          // The file goes only when its answer is durable: a stop in between posts it again, which changes nothing.
          this.#keep(answered(this.#chain, found.report, posted.answer, this.#deps.clock()));
          this.#spool.remove([waiting]);
          accepted++;
          break;
        case 'refused':
          problems.push(posted.problem);
          this.#keep(refused(this.#chain, waiting.seq, posted.problem, this.#deps.clock()));
          this.#spool.setAside(waiting, 'refused');
          await this.#deps.say(
            `the server refused report ${waiting.seq}: ${posted.problem.detail} [${posted.problem.code}]`,
          );
          break;
        case 'waits':
          why = `${posted.problem.detail} [${posted.problem.code}]`;
          break;
        case 'retry':
          why = posted.why;
          if (posted.afterMs !== null) this.#beQuiet(posted.afterMs);
          break;
      }
    }
    return { accepted, refused: problems, waiting: this.waiting, why };
  }

  /**
   * Hands all that waits to `write`, which makes it durable elsewhere, and forgets it: for hosts without a network.
   * @returns how many reports were written
   */
  async hand(write: (envelopes: readonly Uint8Array[]) => void): Promise<number> {
    const handed: Waiting[] = [];
    const envelopes: Uint8Array[] = [];
    for (const waiting of this.#spool.list()) {
      const found = await this.#read(waiting);
      if (found === undefined) continue;
      handed.push(waiting);
      envelopes.push(found.envelope);
    }
    write(envelopes);
    this.#keep(
      carriedAway(
        this.#chain,
        handed.map(({ seq }) => seq),
      ),
    );
    this.#spool.remove(handed);
    return handed.length;
  }

  async #tries(post: () => Promise<Posted>): Promise<Posted> {
    for (let tried = 1; ; tried++) {
      const posted = await post();
      if (posted.kind !== 'retry' || tried === TRIES) return posted;
      const pause = Math.max(posted.afterMs ?? 0, PAUSE_MS * 2 ** (tried - 1) * (0.5 + this.#deps.random()));
      if (pause > PAUSE_MS_MAX) return posted;
      await this.#deps.sleep(pause);
    }
  }

  async #recover(): Promise<void> {
    await this.#load();
    let chain = this.#chain;
    const unfinished: Waiting[] = [];
    for (const waiting of this.#spool.list()) {
      if (isDropped(chain, waiting.seq)) unfinished.push(waiting);
      else if (waiting.seq > chain.seq) {
        const found = await this.#read(waiting);
        chain = found === undefined ? this.#chain : sealed(this.#chain, found.report, found.digest, sha256);
        // A number that was used is never used again, whatever became of its report.
        this.#keep({ ...chain, seq: Math.max(chain.seq, waiting.seq) });
        chain = this.#chain;
      }
    }
    this.#spool.remove(unfinished);
  }

  async #load(): Promise<void> {
    const { disk, say } = this.#deps;
    const file = `${this.#folder}/${CHAIN_FILE}`;
    const bytes = disk.read(file, STATE_FILE_BYTES_MAX);
    try {
      // Absent is lost: enrolment made one.
      if (bytes === undefined) throw new SyntaxError('absent');
      this.#chain = AgentChain.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
    } catch {
      const seq = numberAfterLoss(this.#deps.clock());
      if (bytes !== undefined) disk.rename(file, `${file}.corrupt`);
      // No number may be used twice.
      this.#keep({ ...NEW_CHAIN, seq });
      await say(`${file} is lost or damaged: numbers go on from ${seq}, and the server will see a gap`);
    }
  }

  /** A waiting report that is whole, ours, and what its name says; others are set aside. */
  async #read(waiting: Waiting): Promise<{ envelope: Uint8Array; report: Report; digest: Digest } | undefined> {
    try {
      const envelope = this.#spool.read(waiting, envelopeBytesMax(REPORT_BYTES_MAX));
      if (envelope === undefined) return undefined;
      const opened = parseEnvelope(envelope, REPORT_PAYLOAD_TYPE, REPORT_BYTES_MAX);
      if (await verifyEnvelope(opened, this.#signer.publicKey, this.#deps.verify)) {
        // Our own signature is on it, so it is JSON; an agent that was long out of use may have written another version.
        const { data: report } = Report.safeParse(JSON.parse(new TextDecoder().decode(opened.payload)));
        if (report?.seq === waiting.seq && report.kind === waiting.kind && report.host === this.#host)
          return { envelope, report, digest: envelopeDigest(envelope, sha256) };
      }
    } catch (error) {
      // A block that cannot be read would keep back all that came after it, for good.
      const { code, syscall } = error as NodeJS.ErrnoException;
      const isBad = code === 'EIO' && syscall === 'read';
      if (!(error instanceof DsseError || error instanceof DiskError || isBad)) throw error;
    }
    this.#keep(givenUp(this.#chain, [waiting.seq]));
    this.#spool.setAside(waiting, 'corrupt');
    await this.#deps.say(
      `report ${waiting.seq} in the spool is damaged and was set aside; the next report says that it is missing`,
    );
    return undefined;
  }

  #keep(chain: AgentChain): void {
    if (chain === this.#chain) return;
    save(this.#deps.disk, this.#folder, CHAIN_FILE, Buffer.from(fromUtf8(`${JSON.stringify(chain)}\n`), 'latin1'));
    this.#chain = chain;
  }

  #beQuiet(ms: number): void {
    const until = this.#deps.clock() + Math.min(ms, RETRY_AFTER_MS_MAX);
    this.#keep({ ...this.#chain, notBefore: formatInstant(until) });
  }

  #quietUntil(): string | null {
    const { notBefore } = this.#chain;
    const now: Instant = this.#deps.clock();
    const until = notBefore === null ? undefined : parseInstant(notBefore);
    // Further off than any pause that is obeyed: the clock was set back meanwhile.
    return until !== undefined && now < until && until - now <= RETRY_AFTER_MS_MAX ? notBefore : null;
  }
}

/** The folder and the name of a file that a person named. */
export function placeOf(file: string): { readonly folder: string; readonly name: string } {
  const at = file.lastIndexOf('/');
  return { folder: at < 0 ? '.' : file.slice(0, at) || '/', name: file.slice(at + 1) };
}

/** What to throw where a file that a person named cannot be written; whatever is no errno stays what it is. */
export function cannotWrite(file: string, error: unknown): unknown {
  if (!(error instanceof Error) || !('errno' in error)) return error;
  return new UsageError(`${file} cannot be written: ${(error as NodeJS.ErrnoException).code}`);
}
