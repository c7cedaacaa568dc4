/** Where `bootproof log` reads from: a database that no server needs to run for, or a server over its API. Both read the same way. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fromBase64 } from '#src/bytes.ts';
import { openCheckpoint, readCheckpoint } from '#src/log/checkpoint.ts';
import {
  parseEntryBundle,
  printEntryBundle,
  tilePath,
  TileError,
  tilesOf,
  widthAt,
  TILE_WIDTH,
} from '#src/log/tile.ts';
import { parseVkey, printVkey, type NoteKey } from '#src/signing/note.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { UsageError } from '#src/terminal.ts';
import { withCosignatures } from '#server/log/anchors.ts';
import { CheckpointFile } from '#server/log/checkpointfile.ts';
import { keyOf, storeReader } from '#server/log/storereader.ts';
import { LOG_CHECKPOINT } from '#server/options.ts';
import type { LogReader, RowsChecked } from '#server/log/verify.ts';
import { openStore } from '#server/store/open.ts';
import type { Store } from '#server/store/store.ts';
import { ServerError, type Connection } from './connection.ts';

export type LogSource = {
  readonly reader: LogReader;
  /** By what the source itself says; who verifies should know it another way. */
  readonly key: NoteKey;
  /** The newest checkpoint's note. */
  readonly checkpoint: string;
};

export type Offline = { readonly data?: string; readonly database?: string; readonly logCheckpoint?: string };

/** The database that the options name, opened. @throws {UsageError | StoreError} */
export async function offlineStore({ data, database, logCheckpoint }: Offline): Promise<{
  readonly store: Store;
  readonly file: CheckpointFile;
}> {
  const folder = resolve(data ?? 'bootproof-data');
  const path = join(folder, 'bootproof.db');
  if (database === undefined && !existsSync(path))
    throw new UsageError(
      `--data ${folder}: there is no bootproof.db in it; for another database name its URL after --database`,
    );
  const store = await openStore(database ?? `sqlite:${path}`);
  return { store, file: new CheckpointFile(logCheckpoint ?? join(folder, LOG_CHECKPOINT)) };
}

/** The log that stands in a database, or an older one by its number. @throws {UsageError} where there is none. */
export async function storeSource(
  store: Pick<Store, 'log' | 'anchors' | 'settings'>,
  number?: number,
): Promise<LogSource> {
  const { log: rows, anchors } = store;
  const standing = await rows.head();
  const head =
    number === undefined || number === standing?.log ? standing : (await rows.past()).find(({ log }) => log === number);
  if (head === undefined)
    throw new UsageError(
      number === undefined
        ? 'there is no log in this database yet: a server begins one'
        : `there is no log ${number} here`,
    );
  const { origin } = head;
  const newest = await rows.newestCheckpoint(origin);
  return {
    key: keyOf(head),
    // As a server tells it: with what witnesses signed of it.
    checkpoint:
      newest === undefined ? '' : withCosignatures(newest.note, await anchors.cosignatures(origin, newest.size)),
    reader: storeReader(store, head),
  };
}

type Told = { readonly items: readonly { readonly size: number; readonly root: string; readonly note: string }[] };

/** A server's log. What it tells of the tree is taken for nothing: it is computed here. @throws {ServerError} */
export async function serverSource(connection: Connection): Promise<LogSource> {
  const checkpoint = text(await connection.bytes('/log/checkpoint'));
  const key = parseVkey(text(await connection.bytes('/log/key')).trimEnd());
  const { origin, size, root } = await openCheckpoint(checkpoint, key, verifyInPool);
  return {
    key,
    checkpoint,
    reader: {
      origin,
      size,
      root,
      async entries(from, count) {
        const tile = {
          level: 'entries',
          n: from / TILE_WIDTH,
          width: widthAt({ level: 0, n: from / TILE_WIDTH }, size),
        } as const;
        const bytes = await connection.bytes(`/log/${tilePath(tile)}`);
        try {
          return bytes && parseEntryBundle(bytes, count);
        } catch (error) {
          if (error instanceof TileError) return undefined;
          throw error;
        }
      },
      tile: (level, n, width) => connection.bytes(`/log/${tilePath({ level, n, width })}`),
      async checkpoints(from) {
        const { items }: Told = await connection.ask('GET', `/api/v1/log/checkpoints?from=${from}`);
        // Signed meanwhile, beyond what is verified now.
        return items.flatMap((one) => (one.size > size ? [] : [{ ...one, root: fromBase64(one.root) }]));
      },
      rows: (from): Promise<RowsChecked> => connection.ask('GET', `/api/v1/log/check?from=${from}`),
    },
  };
}

function text(bytes: Uint8Array | undefined): string {
  if (bytes === undefined)
    throw new ServerError('SERVER_ANSWER', 'the server has no log: is it older than this command?');
  return new TextDecoder().decode(bytes);
}

/** Every file of the log at its newest checkpoint, by the paths of C2SP tlog-tiles. */
export async function* filesOf({ reader, key, checkpoint }: LogSource): AsyncGenerator<readonly [string, Uint8Array]> {
  // Of a database more may be sequenced than was signed: what was signed is what is written.
  const { size } = readCheckpoint(checkpoint);
  for (const tile of tilesOf(size)) {
    const path = tilePath(tile);
    if (tile.level === 'entries') {
      const entries = await reader.entries(tile.n * TILE_WIDTH, tile.width);
      if (entries?.includes(undefined) !== false)
        throw new ServerError('SERVER_ANSWER', `${path} is not there: bootproof log verify says more`);
      yield [path, printEntryBundle(entries as Uint8Array[])];
    } else {
      const bytes = await reader.tile(tile.level, tile.n, tile.width);
      if (bytes === undefined)
        throw new ServerError('SERVER_ANSWER', `${path} is not there: bootproof log verify says more`);
      yield [path, bytes];
    }
  }
  yield ['key', Buffer.from(`${printVkey(key)}\n`)];
  yield ['checkpoint', Buffer.from(checkpoint)];
}
