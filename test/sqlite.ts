/** SQLite stores for tests, as a server that opened one left it: with our tables and no rows. Copying costs a tenth of what making them each time costs. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore } from '#server/store/open.ts';

let made: Promise<Uint8Array> | undefined;

async function make(): Promise<Uint8Array> {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-store-'));
  try {
    const path = join(folder, 'store.db');
    // Closed, all of it is in the one file.
    await (await openStore(`sqlite:${path}`)).close();
    return readFileSync(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Makes one at `path` and answers its URL. */
export async function migratedSqlite(path: string): Promise<string> {
  made ??= make();
  writeFileSync(path, await made, { mode: 0o600 });
  return `sqlite:${path}`;
}
