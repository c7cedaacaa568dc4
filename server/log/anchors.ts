/**
 * Anchors outside the server (docs/log.md 8): witnesses cosign the log's checkpoints, timestamp authorities stamp them, hosts keep them. Asked beside
 * everything else: intake and signing wait for none of it. What fails is told and tried again; what shows another log than ours is an alarm.
 */
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { ANCHOR_RETRY_MOST_MS } from '#src/limits.ts';
import type { Checkpoint } from '#src/log/checkpoint.ts';
import { howToRaise, levelOf, type Level } from '#src/log/level.ts';
import { sameBytes } from '#src/log/proof.ts';
import { verifyInPool } from '#src/signing/node.ts';
import type { World } from '#server/deps.ts';
import {
  anchorOf,
  HOSTS_ANCHOR,
  type AnchorState,
  type AnchorTrouble,
  type LogAnchors,
} from '#server/store/anchorrecords.ts';
import type { Store } from '#server/store/store.ts';
import { askAuthority, type Authority } from './authority.ts';
import type { EvidenceLog, Published } from './evidencelog.ts';
import { keepWitnessKey } from './checkanchors.ts';
import { askWitness, type Witness } from './witness.ts';

export type AnchorsDeps = World & {
  readonly store: Pick<Store, 'log' | 'anchors' | 'settings'>;
  readonly evidence: Pick<EvidenceLog, 'published' | 'reads'>;
};

export type AnchorsSettings = {
  readonly witnesses: readonly Witness[];
  readonly authorities: readonly Authority[];
  /** How often a witness is asked for the newest checkpoint, and an authority. */
  readonly witnessEveryMs: number;
  readonly stampEveryMs: number;
  /** More certificate authorities for TLS, PEM. */
  readonly ca: readonly string[];
};

export const NO_ANCHORS: AnchorsSettings = {
  witnesses: [],
  authorities: [],
  witnessEveryMs: 60_000,
  stampEveryMs: 86_400_000,
  ca: [],
};

export type AnchorStanding = {
  readonly kind: 'witness' | 'authority' | 'hosts';
  readonly name: string;
  /** The last size that it signed, stamped or keeps; 0 for none. */
  readonly size: number;
  readonly at: Instant | null;
  readonly triedAt: Instant | null;
  readonly trouble: AnchorTrouble | null;
};

export type AnchorsStanding = {
  /** Of the log as far as anchors reach; `anchors` says how far each does. */
  readonly level: Level;
  /** In words: what there is to be done for a higher one. */
  readonly raise: readonly string[];
  readonly anchors: readonly AnchorStanding[];
  /** What shows another log than ours. */
  readonly alarms: readonly AnchorStanding[];
};

const NONCE_BYTES = 8;
const RETRY_FIRST_MS = 60_000;

type Asked = {
  readonly kind: 'witness' | 'authority';
  readonly anchor: string;
  readonly everyMs: number;
  ask(published: Published, from: number, signal: AbortSignal): Promise<void>;
};

export class Anchors {
  readonly #deps: AnchorsDeps;
  readonly settings: AnchorsSettings;
  readonly #stop = new AbortController();
  #turning: Promise<void> | undefined;
  /** The largest checkpoint that a host repeated, not noted yet. */
  #kept: Checkpoint | undefined;

  constructor(deps: AnchorsDeps, settings: AnchorsSettings) {
    this.#deps = deps;
    this.settings = settings;
  }

  /** A host keeps it: noted with the next turn, if it is this log's. */
  kept(checkpoint: Checkpoint): void {
    if (this.#kept === undefined || this.#kept.origin !== checkpoint.origin || this.#kept.size < checkpoint.size)
      this.#kept = checkpoint;
  }

  /** Asks every anchor that is due, each beside the others. Never throws for what one of them does. One run at a time. */
  async turn(): Promise<void> {
    while (this.#turning !== undefined) await this.#turning;
    const mine = this.#turn().finally(() => {
      this.#turning = undefined;
    });
    this.#turning = mine.catch(() => undefined);
    await mine;
  }

  async #turn(): Promise<void> {
    const { published } = this.#deps.evidence;
    if (published === undefined) return;
    await this.#noteKept(published);
    const states = await this.#states(published);
    await Promise.all(this.#asked().map((one) => this.#askIfDue(one, published, states.get(one.anchor))));
  }

  /** Ends what is asked now. */
  close(): void {
    this.#stop.abort();
  }

  /**
   * For a bundle: asks every witness and authority for this checkpoint now, and ends when all answered or the signal says so. What came of it lies in the
   * store (`levelAt`, `stampMembers`); what did not is told as trouble, and an export waits for nobody longer.
   */
  async anchor(published: Published, signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#deps;
    const { origin, size } = published.checkpoint;
    const states = await this.#states(published);
    const stamped = new Set((await store.anchors.stamps(origin, size)).map((one) => anchorOf(one.authority)));
    await Promise.all(
      this.#asked().map(async (one) => {
        const from = states.get(one.anchor)?.size ?? 0;
        // A witness signs nothing behind what it signed; an authority stamps anything.
        if (one.kind === 'witness' ? from >= size : stamped.has(one.anchor)) return;
        await store.anchors.claim(one.anchor, origin, clock(), clock());
        await this.#attempt(one, published, from, signal);
      }),
    );
  }

  /** The published checkpoint with the cosignatures that it has by now. */
  async cosigned({ checkpoint: { origin, size, note } }: Published): Promise<string> {
    return withCosignatures(note, await this.#deps.store.anchors.cosignatures(origin, size));
  }

  /** The newest checkpoint that some witness cosigned; undefined for none. */
  async newestCosigned({ checkpoint: { origin } }: Published): Promise<string | undefined> {
    const { store } = this.#deps;
    const size = await store.anchors.newestCosigned(origin);
    const checkpoint = size === undefined ? undefined : await store.log.checkpoint(origin, size);
    return checkpoint && withCosignatures(checkpoint.note, await store.anchors.cosignatures(origin, checkpoint.size));
  }

  async standing(origin: string | undefined): Promise<AnchorsStanding> {
    const { witnesses, authorities } = this.settings;
    const states = new Map(
      (origin === undefined ? [] : await this.#deps.store.anchors.states(origin)).map((state) => [state.anchor, state]),
    );
    const of = (kind: AnchorStanding['kind'], name: string, anchor: string): AnchorStanding => {
      const { size = 0, at = null, triedAt = null, trouble = null } = states.get(anchor) ?? {};
      return { kind, name, size, at, triedAt, trouble };
    };
    const hosts = of('hosts', 'hosts', HOSTS_ANCHOR);
    const anchors = [
      ...witnesses.map(({ key: { name } }) => of('witness', name, name)),
      ...authorities.map(({ name }) => of('authority', name, anchorOf(name))),
      ...(hosts.size > 0 ? [hosts] : []),
    ];
    const level = levelOf({
      // What one signed that knows another log is no word for this one.
      outside: anchors.some(({ kind, size, trouble }) => kind !== 'hosts' && size > 0 && trouble?.alarm !== true),
      kept: hosts.size > 0,
    });
    return {
      level,
      raise: howToRaise(level),
      anchors,
      alarms: anchors.filter(({ trouble }) => trouble?.alarm === true),
    };
  }

  async #states({ checkpoint }: Published): Promise<ReadonlyMap<string, AnchorState>> {
    const states = await this.#deps.store.anchors.states(checkpoint.origin);
    return new Map(states.map((state) => [state.anchor, state]));
  }

  /** A host may write what it likes: it counts where it is what was signed at its size. */
  async #noteKept({ checkpoint: { origin } }: Published): Promise<void> {
    const { store, clock } = this.#deps;
    const kept = this.#kept;
    if (kept?.origin !== origin) return;
    this.#kept = undefined;
    const signed = await store.log.checkpoint(origin, kept.size);
    if (signed !== undefined && sameBytes(signed.root, kept.root))
      await store.anchors.noted(HOSTS_ANCHOR, origin, kept.size, clock());
  }

  async #askIfDue(one: Asked, published: Published, state: AnchorState | undefined): Promise<void> {
    const { store, clock } = this.#deps;
    const { origin, size } = published.checkpoint;
    const trouble = state?.trouble ?? null;
    if (trouble === null && (state?.size ?? 0) >= size) return;
    const waits = trouble === null ? one.everyMs : retryAfter(trouble.times);
    const now = clock();
    const since = now - waits;
    if (state?.triedAt != null && state.triedAt > since) return;
    if (!(await store.anchors.claim(one.anchor, origin, now, since))) return;
    await this.#attempt(one, published, state?.size ?? 0, this.#stop.signal);
  }

  async #attempt(one: Asked, published: Published, from: number, signal: AbortSignal): Promise<void> {
    const { store, clock, log } = this.#deps;
    const { origin, size } = published.checkpoint;
    try {
      await one.ask(published, from, signal);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      if (!(error instanceof BootproofError)) throw error;
      const alarm = error.code === 'WITNESS_VIEW';
      log(alarm ? 'error' : 'warn', alarm ? 'a witness knows another log' : 'anchor does not answer as it should', {
        anchor: one.anchor,
        size,
        code: error.code,
        why: error.message,
      });
      await store.anchors.failed(one.anchor, origin, { code: error.code, text: error.message, alarm }, clock());
    }
  }

  #asked(): Asked[] {
    const { witnesses, authorities, witnessEveryMs, stampEveryMs } = this.settings;
    return [
      ...witnesses.map((witness): Asked => ({
        kind: 'witness',
        anchor: witness.key.name,
        everyMs: witnessEveryMs,
        ask: (published, from, signal) => this.#cosign(witness, published, from, signal),
      })),
      ...authorities.map((authority): Asked => ({
        kind: 'authority',
        anchor: anchorOf(authority.name),
        everyMs: stampEveryMs,
        ask: (published, _, signal) => this.#stamp(authority, published, signal),
      })),
    ];
  }

  async #cosign(witness: Witness, { log, checkpoint }: Published, from: number, signal: AbortSignal): Promise<void> {
    const { store, evidence } = this.#deps;
    const { origin, size, note } = checkpoint;
    const found = await askWitness({
      witness,
      note,
      from,
      consistency: (old, to) => evidence.reads.consistency(log, old, to),
      newest: async () => (await store.log.newestCheckpoint(origin))?.size ?? 0,
      verify: verifyInPool,
      terms: { ca: this.settings.ca, signal },
    });
    if (found === undefined) return;
    const { line, time } = found;
    await keepWitnessKey(store, witness.key);
    await store.anchors.cosigned(origin, { size, witness: witness.key.name, line, at: 1000 * time });
  }

  async #stamp(authority: Authority, { checkpoint }: Published, signal: AbortSignal): Promise<void> {
    const { store, random } = this.#deps;
    const { origin, size, note } = checkpoint;
    const { token, stamp } = await askAuthority(authority, note, random(NONCE_BYTES), { ca: this.settings.ca, signal });
    await store.anchors.stamped(origin, { size, authority: authority.name, token, at: stamp.time });
  }
}

/** Longer after each failure, up to an hour. */
const retryAfter = (times: number): number =>
  Math.min(ANCHOR_RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(times - 1, 20));

/** The note with the lines of witnesses behind the log's own. */
export const withCosignatures = (note: string, lines: readonly { readonly line: string }[]): string =>
  note + lines.map(({ line }) => `${line}\n`).join('');

/** How much a checkpoint proves by itself: what a bundle's statement says of its own (`predicate.head.log.level`). */
export async function levelAt(
  anchors: Pick<LogAnchors, 'cosignatures' | 'stamps' | 'states'>,
  origin: string,
  size: number,
): Promise<Level> {
  const stamps = (await anchors.stamps(origin, size)).filter((stamp) => stamp.size === size);
  const states = await anchors.states(origin);
  return levelOf({
    outside: stamps.length > 0 || (await anchors.cosignatures(origin, size)).length > 0,
    kept: states.some(({ anchor, size: of }) => anchor === HOSTS_ANCHOR && of > 0),
  });
}

/** Members of a bundle below `log/`: every stamp of a size from `from` on, the checkpoint's own among them. */
export async function stampMembers(
  anchors: Pick<LogAnchors, 'stamps'>,
  origin: string,
  { from, size }: { readonly from: number; readonly size: number },
): Promise<readonly { readonly name: string; readonly content: Uint8Array }[]> {
  return (await anchors.stamps(origin, from))
    .filter((stamp) => stamp.size <= size)
    .map(({ authority, size: of, token }) => ({ name: `log/timestamps/${authority}.${of}.tsr`, content: token }));
}
