/**
 * `bootproof server restore`: a backup in the place of a database that is gone. It is looked at first, whole, and never put over anything. The
 * evidence log is not signed on from there: more may have been published since (docs/durability.md 5).
 */
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Instant } from '#src/clock.ts';
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { makeFolders } from '#server/folder.ts';
import { CheckpointFile } from '#server/log/checkpointfile.ts';
import { restoredNote } from '#server/log/restored.ts';
import { EXPORTS, LOG_CHECKPOINT } from '#server/options.ts';
import { openStore } from '#server/store/open.ts';
import type { LogHead } from '#server/store/logrecords.ts';
import { bundlesOf } from './backup.ts';
import { KeepError } from './fault.ts';
import { copyFile, mustBeFree, namesIn, partOf, putInPlace, removeQuietly, syncFolder } from './files.ts';
import { fsck, isUsable, type Fsck } from './fsck.ts';

export type Restored = {
  readonly database: string;
  readonly checked: Fsck;
  readonly exports: number;
  /** How the log stands: it goes on where nothing was published since, else it signs nothing until it is restarted. */
  readonly log: { readonly origin: string; readonly size: number; readonly signs: boolean } | null;
};

export type RestoreOptions = {
  readonly file: string;
  /** The server's folder. */
  readonly data: string;
  /** Where the server keeps its log's last checkpoint; `log.checkpoint` in `data` where nobody says. */
  readonly checkpointFile?: string | undefined;
  /** The `log.checkpoint` of the server that was backed up, where it can still be had; the one that lies there goes before it. */
  readonly checkpoint?: string | undefined;
  /** Also with faults. */
  readonly damaged?: boolean;
  readonly now: Instant;
  readonly tell?: (step: string) => void;
};

/** @throws {KeepError} KEEP_EXISTS, KEEP_FAULTS, KEEP_FILE; {StoreError} for what is no backup of ours. */
export async function restore(options: RestoreOptions): Promise<Restored> {
  const { file, data, damaged = false, tell = () => {} } = options;
  const database = join(data, 'bootproof.db');
  for (const there of [database, `${database}-wal`, `${database}-shm`]) mustBeFree(there);
  if (!existsSync(file)) throw new KeepError('KEEP_FILE', `there is no backup ${file}`);
  if (existsSync(`${file}-wal`))
    throw new KeepError(
      'KEEP_FILE',
      `${file}-wal lies beside it: this is no backup but a database in use. A running server is backed up by 'bootproof server backup'`,
    );
  makeFolders(data);
  const part = partOf(database);
  try {
    tell('the copy');
    copyFile(file, part);
    // An older build's is brought up to this one here, and not in the backup.
    await (await openStore(`sqlite:${part}`)).close();
    const checked = await fsck({ url: `sqlite:${part}`, exports: bundlesOf(file), tell });
    if (!isUsable(checked) && !damaged)
      throw new KeepError(
        'KEEP_FAULTS',
        `the backup has faults, ${checked.faults.map(({ code, count }) => `${code} ${count}`).join(', ')}: take an older one ('bootproof server fsck --file ${file}' says more), or take it as it is with --damaged`,
      );
    const exports = restoreBundles(bundlesOf(file), join(data, EXPORTS));
    // Before the database: a server that finds the database must find this, too.
    const log = await settleLog(part, options);
    putInPlace(part, database);
    return { database, checked, exports, log };
  } finally {
    for (const left of [part, `${part}-wal`, `${part}-shm`]) removeQuietly(left);
  }
}

function restoreBundles(from: string, to: string): number {
  const names = namesIn(from).filter((name) => name.endsWith('.zip'));
  if (names.length === 0) return 0;
  if (!existsSync(to)) mkdirSync(to, { mode: 0o700 });
  let copied = 0;
  for (const name of names) {
    if (existsSync(join(to, name))) continue;
    const part = partOf(join(to, name));
    copyFile(join(from, name), part);
    renameSync(part, join(to, name));
    copied++;
  }
  syncFolder(to);
  return copied;
}

/** Leaves what the server holds its log against: the last checkpoint that was published, or the note that nobody knows it. */
async function settleLog(database: string, options: RestoreOptions): Promise<Restored['log']> {
  const head = await headOf(database);
  if (head === undefined) return null;
  const { data, checkpoint, checkpointFile, file, now } = options;
  const kept = new CheckpointFile(checkpointFile ?? join(data, LOG_CHECKPOINT));
  const known = kept.read() ?? (checkpoint === undefined ? undefined : given(checkpoint));
  const { origin, size } = head;
  if (known === undefined) {
    kept.write(restoredNote({ origin, size, backup: file, at: now }));
    return { origin, size, signs: false };
  }
  if (kept.read() === undefined) kept.write(known);
  syncFolder(dirname(kept.path));
  return { origin, size, signs: goesOn(known, head) };
}

function given(path: string): string {
  const note = new CheckpointFile(path).read();
  if (note === undefined) throw new KeepError('KEEP_FILE', `there is no ${path}`);
  return note;
}

function goesOn(note: string, head: LogHead): boolean {
  try {
    const { origin, size } = readCheckpoint(note);
    return origin === head.origin && size <= head.size;
  } catch {
    return false; // it says nothing: the server asks for the same
  }
}

async function headOf(database: string): Promise<LogHead | undefined> {
  const store = await openStore(`sqlite:${database}`);
  try {
    return await store.log.head();
  } finally {
    await store.close();
  }
}
