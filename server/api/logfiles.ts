/**
 * `/log/…`: the evidence log as C2SP tlog-tiles has it, for everybody who reaches the server (docs/log.md): entries hold host ids, words and salted
 * digests, and a log that only its owner may read proves nothing to others.
 */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Context } from 'hono';
import { printEntryBundle, parseTilePath, TileError, TILE_WIDTH, type Tile } from '#src/log/tile.ts';
import type { Published } from '#server/log/evidencelog.ts';
import { ApiError } from './problem.ts';
import type { Api } from './route.ts';
import type { ApiServices } from './services.ts';

const gzipAsync = promisify(gzip);

const TEXT = { 'Content-Type': 'text/plain; charset=utf-8' } as const;
/** Hosts and proxies may be a second behind, and no more. */
const CHANGES = { 'Cache-Control': 'public, max-age=1' } as const;
const STAYS = { 'Cache-Control': 'public, max-age=31536000, immutable' } as const;
const BYTES = { 'Content-Type': 'application/octet-stream', ...STAYS } as const;

type Services = Pick<ApiServices, 'evidence' | 'anchors' | 'store'>;

export function logFileRoutes(app: Api, services: Services): void {
  app.get('/log/checkpoint', async (c) =>
    c.body(await services.anchors.cosigned(publishedOf(services)), 200, { ...TEXT, ...CHANGES }),
  );
  // While the log grows, its newest checkpoint is seldom the one that witnesses saw last.
  app.get('/log/checkpoint.cosigned', async (c) => {
    const note = await services.anchors.newestCosigned(publishedOf(services));
    if (note === undefined) throw new ApiError('NOT_FOUND', 'no witness cosigned a checkpoint of this log');
    return c.body(note, 200, { ...TEXT, ...CHANGES });
  });
  app.get('/log/key', (c) => {
    const { checkpoint } = publishedOf(services);
    return c.body(`${services.evidence.vkey(checkpoint.origin)}\n`, 200, { ...TEXT, ...CHANGES });
  });
  app.get('/log/tile/*', (c) => sendTile(c, services));
  // For programs, to whom a page to sign in on says nothing.
  app.all('/log/:rest{.+}', () => {
    throw new ApiError('NOT_FOUND', 'the log has checkpoint, key and tiles: docs/log.md');
  });
}

/** @throws {ApiError} LOG_NOT_SIGNED */
export function publishedOf({ evidence }: Pick<ApiServices, 'evidence'>): Published {
  const { published, refusal } = evidence;
  if (published !== undefined) return published;
  throw new ApiError('LOG_NOT_SIGNED', refusal?.message ?? 'the log has no checkpoint yet; ask again');
}

async function sendTile(c: Context, services: Services): Promise<Response> {
  const { log, checkpoint } = publishedOf(services);
  const tile = tileOf(c.req.path);
  const bytes = tile.level === 'entries' ? await bundle(tile, log, services) : await hashes(tile, log, services);
  if (bytes === undefined)
    throw new ApiError('NOT_FOUND', `the log has no such tile: its newest checkpoint is of ${checkpoint.size} entries`);
  const isGzip =
    tile.level === 'entries' && /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?(?:,|$))/.test(c.req.header('accept-encoding') ?? '');
  if (tile.level !== 'entries') return c.body(new Uint8Array(bytes), 200, BYTES);
  const headers = { ...BYTES, Vary: 'Accept-Encoding' };
  return isGzip
    ? c.body(new Uint8Array(await gzipAsync(bytes)), 200, { ...headers, 'Content-Encoding': 'gzip' })
    : c.body(new Uint8Array(bytes), 200, headers);
}

function tileOf(path: string): Tile {
  try {
    return parseTilePath(path.replace(/^\/log\//, ''));
  } catch (error) {
    if (error instanceof TileError) throw new ApiError('NOT_FOUND', error.message);
    throw error;
  }
}

async function hashes({ level, n, width }: Tile, log: number, { evidence }: Services): Promise<Uint8Array | undefined> {
  return evidence.reads.tile(log, Number(level), n, width);
}

/** Nothing where a row is missing: what is told must be what was hashed. */
async function bundle({ n, width }: Tile, log: number, { store }: Services): Promise<Uint8Array | undefined> {
  const from = n * TILE_WIDTH;
  const rows = await store.log.entries(log, from, width);
  if (rows.length < width || rows.some(({ index }, i) => index !== from + i)) return undefined;
  return printEntryBundle(rows.map(({ entry }) => entry));
}
