/**
 * What witnesses and timestamp authorities signed of the log, as it is kept (docs/log.md 7.5): each cosignature is held against the key of its witness and the
 * checkpoint of its size, each timestamp against that checkpoint and the certificate in it.
 */
import { BootproofError } from '#src/error.ts';
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { verifyByKey, verifyInPool } from '#src/signing/node.ts';
import { parseSignatureLine, parseVkey, printVkey, verifyNote, type NoteKey } from '#src/signing/note.ts';
import { selfVerifyTimestamp } from '#src/signing/timestamp.ts';
import type { Cosignature, Stamp } from '#server/store/anchorrecords.ts';
import type { Store } from '#server/store/store.ts';
import type { AnchorsSeen, LogFault } from './verify.ts';

type Stores = Pick<Store, 'log' | 'anchors' | 'settings'>;

const settingOf = (witness: string): string => `log-witness ${witness}`;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Every key under which a witness signed. */
async function keysOf({ settings }: Pick<Store, 'settings'>, witness: string) {
  const kept = await settings.get(settingOf(witness));
  const vkeys = kept === undefined ? [] : (JSON.parse(decoder.decode(kept)) as readonly string[]);
  return { kept, vkeys };
}

/** Keeps the key by which a witness signs: whoever verifies the database alone has no configuration. */
export async function keepWitnessKey(store: Pick<Store, 'settings'>, key: NoteKey): Promise<void> {
  const vkey = printVkey(key);
  for (;;) {
    const { kept, vkeys } = await keysOf(store, key.name);
    if (vkeys.includes(vkey)) return;
    const value = encoder.encode(JSON.stringify([...vkeys, vkey]));
    if (await store.settings.swap(settingOf(key.name), kept ?? null, value)) return;
  }
}

/** What others signed of checkpoints from a size on, below another; null: of all that follow. */
export async function checkAnchors(
  store: Stores,
  origin: string,
  { from, below }: { readonly from: number; readonly below: number | null },
): Promise<AnchorsSeen & { readonly faults: readonly LogFault[] }> {
  const found = new Checking(store, origin);
  const cosignatures = await store.anchors.cosignaturesIn(origin, from, below);
  for (const one of cosignatures) await found.cosignature(one);
  const stamps = await store.anchors.stamps(origin, from, below);
  for (const one of stamps) await found.stamp(one);
  return {
    cosignatures: cosignatures.length,
    stamps: stamps.length,
    unknown: [...found.unknown].sort(),
    faults: found.faults,
  };
}

class Checking {
  readonly #store: Stores;
  readonly #origin: string;
  readonly #keys = new Map<string, readonly NoteKey[]>();
  readonly unknown = new Set<string>();
  readonly faults: LogFault[] = [];

  constructor(store: Stores, origin: string) {
    this.#store = store;
    this.#origin = origin;
  }

  async cosignature({ size, witness, line, at }: Cosignature): Promise<void> {
    await this.#refused(`cosignature of ${witness} at ${size}`, async () => {
      const text = await this.#text(size);
      const signature = parseSignatureLine(line);
      if (signature.name !== witness) return `is by ${signature.name}: its row was changed`;
      const keys = await this.#keysOf(witness);
      if (keys.length === 0) {
        this.unknown.add(witness);
        return undefined;
      }
      const [vouch] = await verifyNote({ text, signatures: [signature] }, keys, verifyInPool);
      return vouch?.time === at / 1000 ? undefined : 'states another time than its row: that was changed';
    });
  }

  async stamp({ size, authority, token, at }: Stamp): Promise<void> {
    await this.#refused(`timestamp of ${authority} at ${size}`, async () => {
      const text = encoder.encode(await this.#text(size));
      const { time } = await selfVerifyTimestamp(token, text, verifyByKey);
      return time === at ? undefined : 'states another time than its row: that was changed';
    });
  }

  async #refused(place: string, check: () => Promise<string | undefined>): Promise<void> {
    try {
      const detail = await check();
      if (detail !== undefined) this.faults.push({ place, detail });
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      this.faults.push({ place, detail: `was changed, or is over another checkpoint: ${error.message}` });
    }
  }

  /** What is signed. That the checkpoint itself is the log's, is checked with the tree. */
  async #text(size: number): Promise<string> {
    const kept = await this.#store.log.checkpoint(this.#origin, size);
    if (kept === undefined) throw new AnchorError('ANCHOR_CHECKPOINT', `no checkpoint of ${size} entries is kept`);
    return readCheckpoint(kept.note).note.text;
  }

  async #keysOf(witness: string): Promise<readonly NoteKey[]> {
    let keys = this.#keys.get(witness);
    if (keys === undefined) {
      keys = (await keysOf(this.#store, witness)).vkeys.map(parseVkey);
      this.#keys.set(witness, keys);
    }
    return keys;
  }
}

class AnchorError extends BootproofError</** What was signed is not kept: its row was removed, or that of the signature changed. */
'ANCHOR_CHECKPOINT'> {}
