/** A whole log against a checkpoint (docs/log.md 6): entries → leaves → tiles → root, and every file that is not what the entries make it. */
import {
  EMPTY_RANGE,
  HASH_BYTES,
  PORTABLE,
  appendLeaf,
  rootOfRange,
  sameBytes,
  type CompactRange,
  type TreeHash,
} from '#src/log/proof.ts';
import { TileError, hashesIn, parseEntryBundle, tilePath, TILE_WIDTH, widthAt, type Tile } from '#src/log/tile.ts';

/** Something that is not as it should be, and where: the path of a tile, or `checkpoint`. */
export type LogFault = { readonly at: string; readonly why: string };

/** Whole tiles or bundles by their paths; undefined where there is none. */
export type LogFiles = (path: string) => Uint8Array | undefined | Promise<Uint8Array | undefined>;

/**
 * Every fault of a log, in the order of its files; none where every entry, tile and the root agree. Memory holds one bundle and one tile a level.
 * `entry` is told each entry in turn. That the checkpoint is signed, and that it is no fork of another, is asked elsewhere.
 */
export async function checkLog(
  { size, root }: { readonly size: number; readonly root: Uint8Array },
  files: LogFiles,
  entry?: (index: number, bytes: Uint8Array) => void,
  tree: TreeHash = PORTABLE,
): Promise<readonly LogFault[]> {
  const faults: LogFault[] = [];
  const edges = new Map<number, { n: number; hashes: Uint8Array[] }>();
  const finished: { tile: Tile; hashes: readonly Uint8Array[] }[] = [];
  let range: CompactRange = EMPTY_RANGE;
  const grown = ({ height, index }: { readonly height: number; readonly index: number }, hash: Uint8Array) => {
    if (height % 8 !== 0) return;
    const level = height / 8;
    const n = Math.floor(index / TILE_WIDTH);
    let edge = edges.get(level);
    if (edge?.n !== n) edges.set(level, (edge = { n, hashes: [] }));
    edge.hashes.push(hash);
    if (edge.hashes.length === TILE_WIDTH)
      finished.push({ tile: { level, n, width: TILE_WIDTH }, hashes: edge.hashes });
  };
  const compare = async () => {
    for (const { tile, hashes } of finished.splice(0)) {
      const fault = tileFault(await readTile(tile, files), hashes);
      if (fault !== undefined) faults.push({ at: tilePath(tile), why: fault });
    }
  };
  for (let n = 0; n * TILE_WIDTH < size; n++) {
    const bundle: Tile = { level: 'entries', n, width: widthAt({ level: 'entries', n }, size) };
    const at = tilePath(bundle);
    const leaves = await leavesOf(bundle, files, (why) => faults.push({ at, why }), entry, tree);
    // Neither entries nor their hashes: what lies above cannot be told.
    if (leaves === undefined) return faults;
    for (const leaf of leaves) range = appendLeaf(range, leaf, tree, grown);
    await compare();
  }
  for (const [level, { n, hashes }] of [...edges].sort(([a], [b]) => a - b))
    if (hashes.length < TILE_WIDTH) finished.push({ tile: { level, n, width: hashes.length }, hashes });
  await compare();
  if (!sameBytes(rootOfRange(range, tree), root))
    faults.push({ at: 'checkpoint', why: 'the entries lead to another root than the one that was signed' });
  return faults;
}

async function leavesOf(
  bundle: Tile,
  files: LogFiles,
  fault: (why: string) => void,
  entry: ((index: number, bytes: Uint8Array) => void) | undefined,
  tree: TreeHash,
): Promise<readonly Uint8Array[] | undefined> {
  const { n, width } = bundle;
  try {
    // The whole bundle holds the partial one's entries, but its length is another: asked for by its own name.
    const bytes = (await files(tilePath(bundle))) ?? (await files(tilePath({ ...bundle, width: TILE_WIDTH })));
    if (bytes === undefined) fault('it is not there');
    else {
      const entries = parseEntryBundle(bytes, width);
      for (const [i, one] of entries.entries()) entry?.(n * TILE_WIDTH + i, one);
      return entries.map((one) => tree.leaf(one));
    }
  } catch (error) {
    if (!(error instanceof TileError)) throw error;
    fault(error.message);
  }
  // Its leaves' hashes stand in for it, so that the rest is still told.
  const tile = await readTile({ level: 0, n, width }, files);
  return tile !== undefined && tile.length >= width * HASH_BYTES ? hashesIn(tile).slice(0, width) : undefined;
}

async function readTile(tile: Tile, files: LogFiles): Promise<Uint8Array | undefined> {
  const own = await files(tilePath(tile));
  return own ?? (tile.width === TILE_WIDTH ? undefined : await files(tilePath({ ...tile, width: TILE_WIDTH })));
}

function tileFault(bytes: Uint8Array | undefined, hashes: readonly Uint8Array[]): string | undefined {
  if (bytes === undefined) return 'it is not there';
  if (bytes.length < hashes.length * HASH_BYTES || bytes.length % HASH_BYTES !== 0)
    return `it has ${bytes.length} bytes`;
  const wrong = hashesIn(bytes).findIndex((hash, i) => i < hashes.length && !sameBytes(hash, hashes[i]!));
  return wrong < 0 ? undefined : `hash ${wrong} of it is not what the entries lead to`;
}
