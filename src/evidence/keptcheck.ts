/**
 * Checkpoints that others than the server kept, against the log of a bundle (docs/evidence.md 4, checks `known-checkpoint` and `echoes`): those that
 * the auditor brought, and those that hosts repeated in the reports which they signed.
 */
import { toBase64 } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { BUNDLE_ECHOES_MAX } from '#src/limits.ts';
import { openCheckpoint, readCheckpoint } from '#src/log/checkpoint.ts';
import { parseConsistencyFile } from '#src/log/prooffile.ts';
import { appendLeaf, ProofError, rootOfRange, sameBytes, verifyConsistency } from '#src/log/proof.ts';
import type { PublicKey, Verify } from '#src/signing/ed25519.ts';
import type { NoteKey } from '#src/signing/note.ts';
import { parseEcho } from '#src/wire/logecho.ts';
import { isByHost, openKept, type KeptCheckpoint } from './kept.ts';
import { counted, Faults, type Step } from './steps.ts';
import { leftEdge, type Walk } from './walk.ts';

/** What an auditor brings. */
export type Files = readonly { readonly name: string; readonly text: string }[];
type Echo = { readonly root: string; readonly note: string; readonly where: string };

export type KeptOutcome = {
  readonly steps: readonly Step[];
  readonly notChecked: readonly string[];
  /** A checkpoint from elsewhere that this log is. */
  readonly seen: boolean;
  /** One was brought that cannot be compared. */
  readonly incomplete: boolean;
};

export class KeptCheck {
  readonly #log: NoteKey;
  readonly #verify: Verify;
  readonly #known: KeptCheckpoint[] = [];
  readonly #steps: Step[] = [];
  readonly #notChecked: string[] = [];
  readonly #echoes = new Map<number, Echo[]>();
  #held = 0;
  #foreign = 0;
  #refusals = 0;
  #uncompared = 0;

  constructor(log: NoteKey, verify: Verify) {
    this.#log = log;
    this.#verify = verify;
  }

  /** What was brought, as far as it can be read; each other one is a failed step. */
  async bring(known: Files): Promise<void> {
    for (const { name, text } of known) {
      try {
        this.#known.push(await openKept(name, text, this.#log, this.#verify));
      } catch (error) {
        if (!(error instanceof BootproofError)) throw error;
        this.#fail(name, `${error.message} [${error.code}]`);
      }
    }
    if (known.length === 0)
      this.#notChecked.push(
        'whether the server rewrote its log: no checkpoint that somebody else kept was given (--known-checkpoint; `bootproof agent checkpoint` on some hosts prints one)',
      );
  }

  /** Sizes at which the walk shall note the root. */
  get sizes(): ReadonlySet<number> {
    return new Set(this.#known.map(({ size }) => size));
  }

  /** What a report that its host signed says of the log. */
  echo(where: string, text: string): void {
    const { kept, refused } = parseEcho(text);
    if (refused !== null) this.#refusals++;
    for (const note of [kept, refused?.checkpoint ?? null]) if (note !== null && note !== '') this.#hold(where, note);
  }

  #hold(where: string, note: string): void {
    let read: ReturnType<typeof readCheckpoint>;
    try {
      read = readCheckpoint(note);
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      this.#foreign++; // whatever a host writes there is its own word
      return;
    }
    if (read.origin !== this.#log.name) {
      this.#foreign++;
      return;
    }
    const root = toBase64(read.root);
    const at = this.#echoes.get(read.size) ?? [];
    if (at.some((echo) => echo.root === root)) return;
    if (this.#held >= BUNDLE_ECHOES_MAX) {
      this.#uncompared++;
      return;
    }
    this.#held++;
    this.#echoes.set(read.size, [...at, { root, note, where }]);
  }

  /** After the walk, which filled `walk.roots`. */
  async finish(
    walk: Walk,
    entries: AsyncIterable<Uint8Array>,
    consistency: Files,
    keyOf: (host: string) => PublicKey | undefined,
  ): Promise<KeptOutcome> {
    let seen = false;
    let incomplete = false;
    for (const known of this.#known) {
      const { name, size, root } = known;
      const by = await isByHost(known, keyOf, this.#verify);
      if (by === false) {
        this.#fail(name, `it says that it is from ${known.host}, whose key did not sign it`);
        continue;
      }
      if (by === undefined)
        this.#notChecked.push(`${name}: whether ${known.host} signed it: that host is not in the bundle`);
      const at = walk.roots.get(size);
      const holds = at === undefined ? consistent(known, walk, consistency) : sameBytes(at, root);
      if (holds === undefined) {
        incomplete = true;
        const why =
          size > walk.size
            ? `is newer (size ${size}) than the bundle's own`
            : `lies before what the bundle holds (size ${size})`;
        this.#notChecked.push(
          `${name}: that checkpoint ${why}; bring a proof between the two, as the server gives it out (--consistency)`,
        );
      } else if (holds) {
        seen = true;
        const detail = `${name}: the log is the one that was seen at ${size} entries`;
        this.#steps.push({ check: 'known-checkpoint', ok: true, detail });
      } else
        this.#fail(
          name,
          `at ${size} entries the log was another one: it was FORKED or rewritten. Keep this file: it is the evidence`,
        );
      if (known.refused !== null)
        this.#notChecked.push(`${name}: that host REFUSED a checkpoint of this server: ${known.refused}`);
    }
    await this.#compare(walk, entries);
    return { steps: this.#steps, notChecked: this.#notChecked, seen, incomplete };
  }

  #fail(name: string, why: string): void {
    this.#steps.push({ check: 'known-checkpoint', ok: false, detail: `${name}: ${why}` });
  }

  /** Echoes against the roots of their sizes, in a walk of its own: which sizes there are is known only after the first. */
  async #compare(walk: Walk, entries: AsyncIterable<Uint8Array>): Promise<void> {
    const faults = new Faults();
    let range = leftEdge(walk);
    let held = 0;
    let strange = 0;
    let done = 0;
    const meet = async (size: number, root: Uint8Array) => {
      for (const echo of this.#echoes.get(size) ?? []) {
        done++;
        if (echo.root === toBase64(root)) held++;
        // A host may write what it likes; what the log itself signed for two trees of one size is a fork.
        else if (await this.#signed(echo.note))
          faults.add(
            `${echo.where} repeats a checkpoint of ${size} entries that this log signed and is not: it was FORKED or rewritten`,
          );
        else strange++;
      }
    };
    if (range !== undefined && this.#held > 0) {
      await meet(range.size, rootOfRange(range, walk.tree));
      for await (const entry of entries) {
        range = appendLeaf(range, walk.tree.leaf(entry), walk.tree);
        if (this.#echoes.has(range.size)) await meet(range.size, rootOfRange(range, walk.tree));
      }
    }
    this.#steps.push(
      faults.step(
        'echoes',
        held === 0
          ? 'no report repeats a checkpoint of this log that could be compared'
          : `${counted(held, 'checkpoint')} of this log, as hosts repeat them in their signed reports`,
      ),
    );
    const note = (count: number, what: string) => {
      if (count > 0) this.#notChecked.push(`${count} ${what}`);
    };
    note(this.#held - done + this.#uncompared, 'checkpoints in reports that lie outside what the bundle holds');
    note(this.#foreign + strange, 'checkpoints in reports that are of another log, or that this one never signed');
    note(this.#refusals, 'reports in which a host says that it REFUSED a checkpoint of this server: ask why');
  }

  async #signed(note: string): Promise<boolean> {
    try {
      await openCheckpoint(note, this.#log, this.#verify);
      return true;
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      return false;
    }
  }
}

/** Whether a proof that was brought leads from one to the other; undefined where none is about them. */
function consistent({ size, root }: KeptCheckpoint, walk: Walk, files: Files): boolean | undefined {
  for (const { text } of files) {
    try {
      const { old, proof, checkpoint } = parseConsistencyFile(text);
      const newer = readCheckpoint(checkpoint);
      const [low, high] = size < walk.size ? [{ size, root }, walk] : [walk, { size, root }];
      if (old !== low.size || newer.size !== high.size) continue;
      verifyConsistency(low, high, proof, walk.tree);
      return true;
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      if (error instanceof ProofError && error.code === 'PROOF_ROOT') return false;
    }
  }
  return undefined;
}
