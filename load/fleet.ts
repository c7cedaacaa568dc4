/**
 * The simulated hosts, in some 250 bytes each: where each stands in its chain, and what it shows. A report that was not answered is not kept:
 * signatures of Ed25519 are the same each time, so it is sealed once more, to the same bytes.
 */
import { formatInstant, type Instant } from '#src/clock.ts';
import { digestOf, type Digest } from '#src/digest.ts';
import { SECRET_PATHS_ID } from '#src/drift/redact.ts';
import type { FullReport, Report } from '#src/report/report.ts';
import { sealReport, type Sealed } from '#src/report/seal.ts';
import type { Signer } from '#src/signing/ed25519.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import type { Answer } from '#src/wire/answer.ts';
import { TICKET_LENGTH_MAX } from '#src/wire/ticket.ts';
import { DIFFERENCES, type Images } from './images.ts';
import { DRAW, type Plan, type Seeded } from './plan.ts';

const ID_BYTES = 28;
const DIGEST_BYTES = 32;
const CONFIG = digestOf('bootproof load', nodeSha256);

export type Composed = Sealed & { readonly kind: 'full' | 'same'; readonly seq: number };

/** What is written of a host, so that a later run goes on with it. */
export type HostState = {
  readonly host: number;
  readonly id: string;
  readonly seq: number;
  readonly full: string | null;
  readonly key: number;
  readonly count: number;
  readonly image: number;
  readonly difference: number;
  readonly boots: number;
  readonly challenge: string;
  readonly checkpoint: string | null;
  readonly next: number;
  /** When the report that was not answered began; 0: none is open. */
  readonly openedAt: number;
  readonly isFull: number;
  readonly wantsFull: number;
};

export class Fleet {
  readonly #plan: Plan;
  readonly #seeded: Seeded;
  readonly #images: Images;
  readonly #ids: Buffer;
  readonly #full: Buffer;
  readonly #challenges: Buffer;
  readonly #checkpoints: (string | null)[];
  readonly #seq: Float64Array;
  readonly #count: Uint32Array;
  readonly #openedAt: Float64Array;
  readonly #next: Float64Array;
  /** `Images.keyOf` of what the last accepted full report said, plus 1; 0: there is none. */
  readonly #key: Uint32Array;
  readonly #image: Uint8Array;
  readonly #difference: Uint8Array;
  readonly #boots: Uint16Array;
  readonly #isFull: Uint8Array;
  readonly #wantsFull: Uint8Array;
  readonly #spool: Uint32Array;

  constructor(plan: Plan, seeded: Seeded, images: Images) {
    const n = plan.hosts;
    this.#plan = plan;
    this.#seeded = seeded;
    this.#images = images;
    this.#ids = Buffer.alloc(n * ID_BYTES);
    this.#full = Buffer.alloc(n * DIGEST_BYTES);
    this.#challenges = Buffer.alloc(n * TICKET_LENGTH_MAX);
    this.#checkpoints = Array.from({ length: n }, () => null);
    this.#seq = new Float64Array(n);
    this.#count = new Uint32Array(n);
    this.#openedAt = new Float64Array(n);
    this.#next = new Float64Array(n);
    this.#key = new Uint32Array(n);
    this.#image = new Uint8Array(n);
    this.#difference = new Uint8Array(n);
    this.#boots = new Uint16Array(n);
    this.#isFull = new Uint8Array(n);
    this.#wantsFull = new Uint8Array(n);
    this.#spool = new Uint32Array(n).fill(plan.spool);
  }

  signerOf(host: number): Signer {
    return nodeSigner(pkcs8OfSeed(this.#seeded.keyOf(host)));
  }

  isEnrolled(host: number): boolean {
    return this.#ids[host * ID_BYTES] !== 0;
  }

  idOf(host: number): string {
    return this.#ids.toString('latin1', host * ID_BYTES, (host + 1) * ID_BYTES);
  }

  enrolled(host: number, { id, challenge }: { readonly id: string; readonly challenge: string }): void {
    this.#ids.write(id, host * ID_BYTES, 'latin1');
    this.#setChallenge(host, challenge);
  }

  /** When each was last told to come again. */
  get next(): Float64Array {
    return this.#next;
  }

  /** Reports that it still holds from an outage. */
  spoolOf(host: number): number {
    return this.#spool[host]!;
  }

  /** Whether its last report was not answered yet. */
  isOpen(host: number): boolean {
    return this.#openedAt[host] !== 0;
  }

  /** The report that this host posts now: a new one, or once more the one that was not answered. `begunAt`: when the run began. */
  async compose(host: number, now: Instant, begunAt: Instant): Promise<Composed> {
    if (!this.isOpen(host)) this.#open(host, now, begunAt);
    const report = this.#report(host);
    const { text, digest } = await sealReport(report, this.signerOf(host), nodeSha256);
    return { text, digest, kind: report.kind, seq: report.seq };
  }

  /** Its open report was taken. */
  accepted(host: number, { digest, kind }: Composed, { challenge, checkpoint, next, want }: Answer): void {
    if (kind === 'full') {
      Buffer.from(digest.slice('sha256:'.length), 'hex').copy(this.#full, host * DIGEST_BYTES);
      this.#key[host] = 1 + this.#images.keyOf(this.#image[host]!, this.#difference[host]!);
      this.#count[host] = 0;
    } else this.#count[host] = this.#count[host]! + 1;
    this.#done(host);
    this.#wantsFull[host] = want === 'full' ? 1 : 0;
    this.#next[host] = Date.parse(next);
    // What lies in its spool was sealed before this answer came.
    if (this.#spool[host]! > 0) return;
    if (challenge !== null) this.#setChallenge(host, challenge);
    if (checkpoint !== null) this.#checkpoints[host] = this.#shared(checkpoint);
  }

  /** Its open report never will be taken: it goes on with the next, behind `head` where that is named. */
  refused(host: number, head: number | undefined): void {
    this.#done(host);
    this.#wantsFull[host] = 1;
    if (head !== undefined) this.#seq[host] = Math.max(this.#seq[host]!, head);
  }

  stateOf(host: number): HostState {
    const full = this.#full.toString('hex', host * DIGEST_BYTES, (host + 1) * DIGEST_BYTES);
    return {
      host,
      id: this.idOf(host),
      seq: this.#seq[host]!,
      full: this.#key[host] === 0 ? null : full,
      key: this.#key[host]!,
      count: this.#count[host]!,
      image: this.#image[host]!,
      difference: this.#difference[host]!,
      boots: this.#boots[host]!,
      challenge: this.#challengeOf(host),
      checkpoint: this.#checkpoints[host]!,
      next: this.#next[host]!,
      openedAt: this.#openedAt[host]!,
      isFull: this.#isFull[host]!,
      wantsFull: this.#wantsFull[host]!,
    };
  }

  restore(state: HostState): void {
    const { host, full } = state;
    this.enrolled(host, state);
    if (full !== null) Buffer.from(full, 'hex').copy(this.#full, host * DIGEST_BYTES);
    this.#checkpoints[host] = state.checkpoint === null ? null : this.#shared(state.checkpoint);
    this.#seq[host] = state.seq;
    this.#key[host] = state.key;
    this.#count[host] = state.count;
    this.#image[host] = state.image;
    this.#difference[host] = state.difference;
    this.#boots[host] = state.boots;
    this.#next[host] = state.next;
    this.#openedAt[host] = state.openedAt;
    this.#isFull[host] = state.isFull;
    this.#wantsFull[host] = state.wantsFull;
  }

  /** Decides everything that the next report says, once. */
  #open(host: number, now: Instant, begunAt: Instant): void {
    const { everyMs, skew, skewMs, drift, spool } = this.#plan;
    const seq = (this.#seq[host] = this.#seq[host]! + 1);
    this.#roll(host, now - begunAt);
    if (this.#seeded.chance(host, DRAW.drift, seq) < drift)
      this.#difference[host] =
        this.#difference[host] === 0 ? 1 + Math.floor(this.#seeded.chance(host, DRAW.kind, seq) * DIFFERENCES) : 0;
    const key = 1 + this.#images.keyOf(this.#image[host]!, this.#difference[host]!);
    this.#isFull[host] = this.#key[host] !== key || this.#wantsFull[host] === 1 ? 1 : 0;
    const off = this.#seeded.chance(host, DRAW.skew) < skew ? skewMs : 0;
    // Those of an outage were made one after the other before the run began.
    const before = spool === 0 ? 0 : this.#spool[host]! * (everyMs ?? 900_000);
    this.#openedAt[host] = (before === 0 ? now : begunAt - before) + off;
  }

  /** Boots the next image when it is this host's turn. */
  #roll(host: number, sinceMs: number): void {
    const { rolloutAfterMs, waveEveryMs, waves } = this.#plan;
    const wave = Math.floor(this.#seeded.chance(host, DRAW.wave) * waves);
    const last = this.#images.count - 1;
    if (this.#image[host]! >= last) return;
    const rolled = 1 + Math.floor((sinceMs - rolloutAfterMs - wave * waveEveryMs) / (waves * waveEveryMs || 1));
    const image = Math.max(0, Math.min(last, rolled));
    if (image <= this.#image[host]!) return;
    this.#image[host] = image;
    this.#boots[host] = this.#boots[host]! + 1;
  }

  #report(host: number): Report {
    const shown = this.#images.shown(this.#image[host]!, this.#difference[host]!);
    const at = formatInstant(this.#openedAt[host]!);
    const common = {
      version: 1 as const,
      host: this.idOf(host),
      seq: this.#seq[host]!,
      bootId: this.#seeded.bootOf(host, this.#boots[host]!),
      startedAt: at,
      finishedAt: at,
      challenge: this.#challengeOf(host),
      checkpoint: this.#checkpoints[host]!,
      dropped: [],
    };
    const { trees, drift, manifest, deployment, state } = shown;
    const full = this.#key[host] === 0 ? null : this.#fullOf(host);
    if (this.#isFull[host] === 0) {
      const digests = ({ main, extra }: FullReport['trees']['usr']) => ({ main, extra });
      const own = { usr: digests(trees.usr), etc: digests(trees.etc) };
      return { ...common, kind: 'same', full: full!, count: this.#count[host]! + 1, trees: own, state };
    }
    return {
      ...common,
      kind: 'full',
      previous: full,
      agent: { version: '0.1.0', executable: null, config: CONFIG },
      deployment,
      manifest,
      secretPaths: { id: SECRET_PATHS_ID, added: [] },
      trees,
      drift,
      truncated: null,
      secrets: [],
      accounts: null,
      contents: null,
      stats: { files: 41_000, bytes: 2 ** 31, seconds: 4, peakRssBytes: 110 * 2 ** 20, cached: null },
      attestation: null,
    };
  }

  #done(host: number): void {
    this.#openedAt[host] = 0;
    this.#spool[host] = Math.max(0, this.#spool[host]! - 1);
  }

  #fullOf(host: number): Digest {
    return `sha256:${this.#full.toString('hex', host * DIGEST_BYTES, (host + 1) * DIGEST_BYTES)}` as Digest;
  }

  #setChallenge(host: number, challenge: string): void {
    const slot = this.#challenges.subarray(host * TICKET_LENGTH_MAX, (host + 1) * TICKET_LENGTH_MAX).fill(0);
    slot.write(challenge, 'latin1');
  }

  #challengeOf(host: number): string {
    const slot = this.#challenges.subarray(host * TICKET_LENGTH_MAX, (host + 1) * TICKET_LENGTH_MAX);
    const end = slot.indexOf(0);
    return slot.toString('latin1', 0, end < 0 ? TICKET_LENGTH_MAX : end);
  }

  readonly #lately = new Map<string, string>();

  /** One text for all hosts that were told the same: many are within a second, and a text of its own for each would be most of the memory. */
  #shared(checkpoint: string): string {
    const known = this.#lately.get(checkpoint);
    if (known !== undefined) return known;
    this.#lately.set(checkpoint, checkpoint);
    const [oldest] = this.#lately.keys();
    if (this.#lately.size > CHECKPOINTS_SHARED) this.#lately.delete(oldest!);
    return checkpoint;
  }
}

const CHECKPOINTS_SHARED = 64;
