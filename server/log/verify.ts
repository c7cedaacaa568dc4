/**
 * `bootproof log verify`: every entry's bytes → leaf → tiles → root → every checkpoint that was signed, and what lies beside the log against
 * what its entries say. Reads through a `LogReader`, so that a database and a server that is asked over HTTP are verified by the same steps.
 */
import { LOG_FAULTS_TOLD } from '#src/limits.ts';
import { openCheckpoint } from '#src/log/checkpoint.ts';
import { BootproofError } from '#src/error.ts';
import { appendLeaf, EMPTY_RANGE, HASH_BYTES, rootOfRange, sameBytes, type CompactRange } from '#src/log/proof.ts';
import { hashesIn, levelsOf, placeOf, TILE_WIDTH, tilePath, widthAt } from '#src/log/tile.ts';
import type { Verify } from '#src/signing/ed25519.ts';
import type { NoteKey } from '#src/signing/note.ts';
import { toBase64 } from '#src/bytes.ts';
import { TREE } from './treereads.ts';

/** Something that is not as it was when it was logged. */
export type LogFault = {
  /** `entry 42`, `tile/0/000`, `checkpoint 300`, `head`. */
  readonly place: string;
  readonly detail: string;
};

/** What was found of rows beside the tree: columns, payloads and where they lie. */
export type RowsChecked = {
  /** From where to go on; null at the end. */
  readonly next: number | null;
  readonly faults: readonly LogFault[];
  /** Payloads that are held and fit, and those whose purge is recorded. */
  readonly held: number;
  readonly purged: number;
  /** What others signed of checkpoints of these sizes. */
  readonly anchors: AnchorsSeen;
};

export type AnchorsSeen = {
  readonly cosignatures: number;
  readonly stamps: number;
  /** Witnesses whose key is not kept, so that only the form of their signatures could be looked at. */
  readonly unknown: readonly string[];
};

/** What is said of an entry whose row is gone. */
export const MISSING = 'is not there any more: its row was removed';

export type SignedCheckpoint = { readonly size: number; readonly root: Uint8Array; readonly note: string };

/** A log to be verified, as somebody tells it. */
export type LogReader = {
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
  /** Entries of a bundle; undefined where one is not there, or, of a bundle that is told as a whole, where it is not told. */
  entries(from: number, count: number): Promise<readonly (Uint8Array | undefined)[] | undefined>;
  tile(level: number, n: number, width: number): Promise<Uint8Array | undefined>;
  /** Checkpoints from a size on, by size; empty at the end. */
  checkpoints(from: number): Promise<readonly SignedCheckpoint[]>;
  rows(from: number): Promise<RowsChecked>;
};

export type LogVerified = {
  readonly origin: string;
  readonly size: number;
  /** In base64, as computed from the entries. */
  readonly root: string;
  readonly checkpoints: number;
  readonly payloads: { readonly held: number; readonly purged: number };
  readonly anchors: AnchorsSeen;
  readonly faults: readonly LogFault[];
  /** Faults beyond those that are told. */
  readonly more: number;
};

export async function verifyLog(
  reader: LogReader,
  key: NoteKey,
  verify: Verify,
  progress: (entries: number) => void = () => {},
): Promise<LogVerified> {
  const found = new Faults();
  const walk = new Walk(reader, found);
  const checkpoints = new Checkpoints(reader, found, key, verify);
  await checkpoints.at(walk);
  for (let from = 0; from < reader.size; from += TILE_WIDTH) {
    await walk.bundle(from, () => checkpoints.at(walk));
    progress(Math.min(from + TILE_WIDTH, reader.size));
  }
  await walk.end();
  await checkpoints.end();
  let held = 0;
  let purged = 0;
  let cosignatures = 0;
  let stamps = 0;
  const unknown = new Set<string>();
  for (let next: number | null = 0; next !== null;) {
    const rows: RowsChecked = await reader.rows(next);
    for (const fault of rows.faults) found.add(fault.place, fault.detail);
    held += rows.held;
    purged += rows.purged;
    cosignatures += rows.anchors.cosignatures;
    stamps += rows.anchors.stamps;
    for (const witness of rows.anchors.unknown) unknown.add(witness);
    next = rows.next;
  }
  return {
    origin: reader.origin,
    size: reader.size,
    root: toBase64(walk.root),
    checkpoints: checkpoints.count,
    payloads: { held, purged },
    anchors: { cosignatures, stamps, unknown: [...unknown].sort() },
    faults: found.told,
    more: found.more,
  };
}

class Faults {
  readonly told: LogFault[] = [];
  readonly #known = new Set<string>();
  more = 0;

  add(place: string, detail: string): void {
    const key = `${place} ${detail}`;
    if (this.#known.has(key)) return;
    if (this.told.length >= LOG_FAULTS_TOLD) {
      this.more++;
      return;
    }
    this.#known.add(key);
    this.told.push({ place, detail });
  }
}

/** Goes from entry to entry, growing the tree twice where entries and tiles part: so it is known which of them was changed. */
class Walk {
  readonly #reader: LogReader;
  readonly #found: Faults;
  #ofEntries: CompactRange = EMPTY_RANGE;
  /** Undefined as long as both are one. */
  #ofTiles: CompactRange | undefined;
  readonly #upper = new Map<number, Uint8Array[]>();

  constructor(reader: LogReader, found: Faults) {
    this.#reader = reader;
    this.#found = found;
  }

  get size(): number {
    return this.#ofEntries.size;
  }

  /** As the entries give it. */
  get root(): Uint8Array {
    return rootOfRange(this.#ofEntries, TREE);
  }

  get rootOfTiles(): Uint8Array {
    return rootOfRange(this.#ofTiles ?? this.#ofEntries, TREE);
  }

  async bundle(from: number, each: () => Promise<void>): Promise<void> {
    const n = from / TILE_WIDTH;
    const width = widthAt({ level: 0, n }, this.#reader.size);
    const entries = await this.#reader.entries(from, width);
    const hashes = hashesIn((await this.#tile(0, n, width)) ?? new Uint8Array());
    if (entries === undefined)
      this.#found.add(tilePath({ level: 'entries', n, width }), 'is not told: entries of it are missing');
    const leaves = entries?.map((entry) => entry && TREE.leaf(entry)) ?? hashes;
    for (let i = 0; i < width; i++) {
      const leaf = leaves[i];
      const hash = hashes[i];
      if (leaf === undefined) this.#found.add(`entry ${from + i}`, MISSING);
      else if (hash !== undefined && !sameBytes(leaf, hash)) this.#differs(from, i, leaf, hashes);
      this.#append(leaf ?? hash ?? TREE.empty, hash ?? leaf ?? TREE.empty);
      await each();
    }
  }

  #differs(from: number, i: number, leaf: Uint8Array, hashes: readonly Uint8Array[]): void {
    const other = hashes.findIndex((hash) => sameBytes(hash, leaf));
    const path = tilePath({ level: 0, n: from / TILE_WIDTH, width: TILE_WIDTH });
    this.#found.add(
      `entry ${from + i}`,
      other >= 0
        ? `stands in the wrong place: it is entry ${from + other} of the tree`
        : `is not what ${path} has in this place: the entry, or the tile, was changed`,
    );
  }

  #append(ofEntry: Uint8Array, ofTile: Uint8Array): void {
    if (this.#ofTiles === undefined && !sameBytes(ofEntry, ofTile)) this.#ofTiles = this.#ofEntries;
    const note = (node: Parameters<typeof placeOf>[0], hash: Uint8Array): void => {
      const { level, count } = placeOf(node);
      if (count !== 1 || level === 0) return;
      const row = this.#upper.get(level) ?? [];
      row.push(hash);
      this.#upper.set(level, row);
    };
    const parted = this.#ofTiles;
    this.#ofEntries = appendLeaf(this.#ofEntries, ofEntry, TREE, parted === undefined ? note : undefined);
    if (parted !== undefined) this.#ofTiles = appendLeaf(parted, ofTile, TREE, note);
  }

  /** Tiles above, and the head. */
  async end(): Promise<void> {
    const { size, root } = this.#reader;
    for (const level of levelsOf(size)) {
      if (level === 'entries' || level === 0) continue;
      const hashes = this.#upper.get(level) ?? [];
      for (let n = 0; n * TILE_WIDTH < hashes.length; n++) {
        const expected = hashes.slice(n * TILE_WIDTH, (n + 1) * TILE_WIDTH);
        const tile = await this.#tile(level, n, expected.length);
        if (tile === undefined) continue;
        const wrong = hashesIn(tile).findIndex((hash, i) => !sameBytes(hash, expected[i]!));
        if (wrong >= 0)
          this.#found.add(
            tilePath({ level, n, width: expected.length }),
            `hash ${wrong} is not that of the tile below it: it was changed`,
          );
      }
    }
    if (!sameBytes(this.root, root)) this.#found.add('head', this.#whose(root));
  }

  #whose(root: Uint8Array): string {
    if (sameBytes(this.rootOfTiles, root)) return 'is that of the tiles and not of the entries: entries were changed';
    return `has another root than the ${this.size} entries give: the head, or entries and tiles together, were changed`;
  }

  async #tile(level: number, n: number, width: number): Promise<Uint8Array | undefined> {
    const tile = await this.#reader.tile(level, n, width);
    if (tile?.length === width * HASH_BYTES) return tile;
    this.#found.add(tilePath({ level, n, width }), 'is not there any more, or has lost hashes');
    return undefined;
  }
}

/** Every checkpoint that was kept, held against the tree when it had that size. */
class Checkpoints {
  readonly #reader: LogReader;
  readonly #found: Faults;
  readonly #key: NoteKey;
  readonly #verify: Verify;
  #page: SignedCheckpoint[] | undefined;
  #over = false;
  count = 0;

  constructor(reader: LogReader, found: Faults, key: NoteKey, verify: Verify) {
    this.#reader = reader;
    this.#found = found;
    this.#key = key;
    this.#verify = verify;
  }

  async #next(from: number): Promise<SignedCheckpoint | undefined> {
    if (this.#over) return undefined;
    if (this.#page === undefined || this.#page.length === 0) {
      this.#page = [...(await this.#reader.checkpoints(from))];
      this.#over = this.#page.length === 0;
    }
    return this.#page[0];
  }

  /** Those of the size that the walk has now. */
  async at(walk: Walk): Promise<void> {
    for (let one = await this.#next(walk.size); one?.size === walk.size; one = await this.#next(walk.size + 1)) {
      this.#page!.shift();
      await this.#check(one, walk);
    }
  }

  async #check(one: SignedCheckpoint, walk: Walk): Promise<void> {
    this.count++;
    const place = `checkpoint ${one.size}`;
    try {
      const { size, root } = await openCheckpoint(one.note, this.#key, this.#verify);
      if (size !== one.size || !sameBytes(root, one.root))
        this.#found.add(place, `its row and what was signed are not the same: signed were ${size} entries`);
      if (!sameBytes(root, walk.root))
        this.#found.add(
          place,
          sameBytes(root, walk.rootOfTiles)
            ? 'is that of the tiles and not of the entries: entries were changed since it was signed'
            : 'was signed for another tree than the entries give: they were changed since, or it is a fork',
        );
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      this.#found.add(place, `is not signed by the log: ${error.message}`);
    }
  }

  /** What was signed beyond the end of the tree. */
  async end(): Promise<void> {
    const { size } = this.#reader;
    for (let one = await this.#next(size + 1); one !== undefined; one = await this.#next(one.size + 1)) {
      this.#page!.shift();
      this.count++;
      this.#found.add(
        `checkpoint ${one.size}`,
        `more was signed than there is: the tree has ${size} entries. Entries were removed, or a backup was restored`,
      );
    }
  }
}
