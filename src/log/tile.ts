/** Tiles of the log (C2SP tlog-tiles; docs/log.md 2): where a hash lies, how its tile is called, and bundles of entries. Arithmetic only. */
import { BootproofError } from '#src/error.ts';
import { LOG_ENTRY_BYTES_MAX } from '#src/limits.ts';
import { foldRight, HASH_BYTES, PORTABLE, type HashReader, type TreeHash, type TreeNode } from './proof.ts';

export class TileError extends BootproofError<
  /** No path that a tile has. */
  | 'TILE_PATH'
  /** Not as many bytes, hashes or entries as its name says. */
  | 'TILE_SIZE'
> {}

export const TILE_WIDTH = 256;
/** Heights of the tree that a tile spans. */
const TILE_HEIGHT = 8;
const LEVEL_MAX = 63;

/** A tile of hashes, or, with level `entries`, the bundle of entries below the level-0 tile of that number. */
export type Tile = {
  readonly level: number | 'entries';
  readonly n: number;
  /** 1 to 256; below that it is partial, the beginning of the whole one. */
  readonly width: number;
};

/** Below the log's prefix: `tile/0/x001/x234/067.p/5`. */
export function tilePath({ level, n, width }: Tile): string {
  let path = String(n % 1000).padStart(3, '0');
  for (let rest = Math.floor(n / 1000); rest > 0; rest = Math.floor(rest / 1000))
    path = `x${String(rest % 1000).padStart(3, '0')}/${path}`;
  return `tile/${level}/${path}${width === TILE_WIDTH ? '' : `.p/${width}`}`;
}

/** @throws {TileError} TILE_PATH for every spelling that `tilePath` would not have written. */
export function parseTilePath(path: string): Tile {
  const match = /^tile\/(entries|0|[1-9][0-9]?)\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/.exec(path);
  if (match !== null) {
    const [, level = '', number = '', width] = match;
    const tile: Tile = {
      level: level === 'entries' ? level : Number(level),
      n: Number(number.replace(/[x/]/g, '')),
      width: width === undefined ? TILE_WIDTH : Number(width),
    };
    if (
      Number.isSafeInteger(tile.n) &&
      (tile.level === 'entries' || tile.level <= LEVEL_MAX) &&
      tilePath(tile) === path
    )
      return tile;
  }
  throw new TileError('TILE_PATH', `no tile has the path ${JSON.stringify(path.slice(0, 80))}`);
}

/** How many hashes the tile has in a log of `size`; 0 where it has none yet. */
export function widthAt({ level, n }: Pick<Tile, 'level' | 'n'>, size: number): number {
  const hashes = Math.floor(size / TILE_WIDTH ** (level === 'entries' ? 0 : level));
  return Math.max(0, Math.min(TILE_WIDTH, hashes - n * TILE_WIDTH));
}

/** All tiles of a log of `size`, bundles first, then level by level. */
export function* tilesOf(size: number): Generator<Tile> {
  for (const level of levelsOf(size))
    for (let n = 0; ; n++) {
      const width = widthAt({ level, n }, size);
      if (width > 0) yield { level, n, width };
      if (width < TILE_WIDTH) break;
    }
}

/** Levels that a log of `size` has, bundles first. */
export function levelsOf(size: number): Tile['level'][] {
  const out: Tile['level'][] = size === 0 ? [] : ['entries'];
  for (let level = 0; size >= TILE_WIDTH ** level; level++) out.push(level);
  return size === 0 ? [] : out;
}

/** The tile that holds what a subtree is made of, and where in it: `count` hashes from `first` on. */
export function placeOf({ height, index }: TreeNode): { level: number; n: number; first: number; count: number } {
  const level = Math.floor(height / TILE_HEIGHT);
  const count = 2 ** (height % TILE_HEIGHT);
  const at = index * count;
  return { level, n: Math.floor(at / TILE_WIDTH), first: at % TILE_WIDTH, count };
}

/** Reads a tile at least as wide as asked for, wider ones are cut. */
export type TileReader = (tile: Tile & { readonly level: number }) => Uint8Array | Promise<Uint8Array>;

/**
 * Hashes out of the tiles of a log of `size`. Of what the tiles say nothing is checked.
 * @throws {TileError} TILE_SIZE where a tile holds fewer bytes than its width says.
 */
export function tileHashes(size: number, read: TileReader, tree: TreeHash = PORTABLE): HashReader {
  return async (node) => {
    const { level, n, first, count } = placeOf(node);
    const width = widthAt({ level, n }, size);
    if (first + count > width)
      throw new TileError('TILE_SIZE', `a log of ${size} has no subtree ${node.index} of height ${node.height}`);
    const bytes = await read({ level, n, width });
    if (bytes.length < width * HASH_BYTES || bytes.length % HASH_BYTES !== 0)
      throw new TileError('TILE_SIZE', `${tilePath({ level, n, width })} has ${bytes.length} bytes`);
    const hashes = hashesIn(bytes).slice(first, first + count);
    return rootOfWhole(hashes, tree);
  };
}

export function hashesIn(tile: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.floor(tile.length / HASH_BYTES) }, (_, i) =>
    tile.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES),
  );
}

/** The hash of a whole subtree over a power of two of hashes: what the level above a full tile holds of it. */
export function rootOfWhole(hashes: readonly Uint8Array[], tree: TreeHash = PORTABLE): Uint8Array {
  let row = hashes;
  while (row.length > 1)
    row = Array.from({ length: row.length / 2 }, (_, i) => tree.node(row[2 * i]!, row[2 * i + 1]!));
  return row.length === 1 ? row[0]! : foldRight([], tree);
}

/** @throws {TileError} TILE_SIZE for an entry that no bundle can hold. */
export function printEntryBundle(entries: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(entries.reduce((sum, { length }) => sum + 2 + length, 0));
  let at = 0;
  for (const entry of entries) {
    if (entry.length > LOG_ENTRY_BYTES_MAX)
      throw new TileError('TILE_SIZE', `an entry of ${entry.length} bytes; ${LOG_ENTRY_BYTES_MAX} are the most`);
    out[at] = entry.length >> 8;
    out[at + 1] = entry.length & 0xff;
    out.set(entry, at + 2);
    at += 2 + entry.length;
  }
  return out;
}

/** The entries of a bundle, to its last byte. @throws {TileError} TILE_SIZE where it does not hold exactly `width` of them. */
export function parseEntryBundle(bytes: Uint8Array, width: number): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    if (at + 2 > bytes.length) throw cut(bytes.length);
    const end = at + 2 + ((bytes[at]! << 8) | bytes[at + 1]!);
    if (end > bytes.length) throw cut(bytes.length);
    out.push(bytes.subarray(at + 2, end));
    at = end;
  }
  if (out.length !== width) throw new TileError('TILE_SIZE', `a bundle of ${out.length} entries, not ${width}`);
  return out;
}

const cut = (length: number) => new TileError('TILE_SIZE', `a bundle that ends inside an entry, after ${length} bytes`);
