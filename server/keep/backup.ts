/**
 * `bootproof server backup`: the database of one moment in one file, while the server runs, with the exported bundles beside it; and a series of
 * them, of which the oldest go (docs/durability.md 4).
 */
import { join } from 'node:path';
import { formatInstant, parseInstant, type Instant } from '#src/clock.ts';
import { makeFolders } from '#server/folder.ts';
import { fileOf } from '#server/evidence/attempts.ts';
import { openMoment } from '#server/store/moment.ts';
import { copySqlite } from '#server/store/copy.ts';
import { KeepError } from './fault.ts';
import { copyFile, mustBeFree, namesIn, partOf, putInPlace, removeQuietly, syncFolder } from './files.ts';
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

export type Backup = {
  readonly file: string;
  readonly bytes: number;
  /** Bundles that were copied. */
  readonly exports: number;
};

/** The folder of a backup's bundles. */
export const bundlesOf = (file: string): string => `${file}.evidence`;

/**
 * Backs a database up. `path`: its file; `exports`: the folder of its bundles, null leaves them out. Durable when it returns, or nothing is there.
 * @throws {KeepError} KEEP_EXISTS, KEEP_FILE; {StoreError} where the database cannot be read.
 */
export async function backUp(path: string, file: string, exports: string | null): Promise<Backup> {
  if (!existsSync(path))
    throw new KeepError('KEEP_FILE', `there is no database at ${path}: name its folder with --data, or BOOTPROOF_DATA`);
  mustBeFree(file);
  mustBeFree(bundlesOf(file));
  makeFolders(dirname(file));
  const part = partOf(file);
  const bundles = partOf(bundlesOf(file));
  try {
    copySqlite(path, part);
    const copied = exports === null ? 0 : await copyBundles(part, exports, bundles);
    // Bundles first: a backup whose name stands is whole.
    if (copied > 0) renameSync(bundles, bundlesOf(file));
    putInPlace(part, file);
    return { file, bytes: statSync(file).size, exports: copied };
  } finally {
    for (const left of [part, `${part}-wal`, `${part}-shm`, `${part}-journal`, bundles]) removeQuietly(left);
  }
}

/** Those that the copy says are finished, and that lie here. */
async function copyBundles(copy: string, exports: string, to: string): Promise<number> {
  const moment = await openMoment(`sqlite:${copy}`);
  try {
    let copied = 0;
    for (const attempt of await moment.sound.exports()) {
      const from = fileOf(exports, attempt);
      if (!existsSync(from)) continue;
      if (copied++ === 0) mkdirSync(to, { mode: 0o700 });
      copyFile(from, fileOf(to, attempt));
    }
    if (copied > 0) syncFolder(to);
    return copied;
  } finally {
    await moment.close();
  }
}

const NAME = /^bootproof-([0-9]{4}-[0-9]{2}-[0-9]{2}T)([0-9]{2})-([0-9]{2})-([0-9]{2})Z\.db$/;

/** The name of a backup in a series: it says when, and sorts by it. */
export const nameAt = (at: Instant): string => `bootproof-${formatInstant(at).slice(0, 19).replaceAll(':', '-')}Z.db`;

/** A series in a folder, oldest first. */
export function seriesIn(folder: string): readonly { readonly file: string; readonly at: Instant }[] {
  return namesIn(folder).flatMap((name) => {
    const [, day, hour, minute, second] = NAME.exec(name) ?? [];
    const at = day === undefined ? undefined : parseInstant(`${day}${hour}:${minute}:${second}.000Z`);
    return at === undefined ? [] : [{ file: join(folder, name), at }];
  });
}

/** Removes the oldest of a series beyond `keep`; answers them. */
export function thin(folder: string, keep: number): readonly string[] {
  const gone = seriesIn(folder).slice(0, -keep);
  for (const { file } of gone) {
    // Its own name first: what is left of one that is half gone must not look like a backup.
    removeQuietly(file);
    removeQuietly(bundlesOf(file));
  }
  return gone.map(({ file }) => file);
}

/** The newest of a series that is not later than a time. @throws {KeepError} KEEP_FILE where there is none. */
export function newestUntil(folder: string, at: Instant): string {
  const series = seriesIn(folder);
  const found = series.findLast((one) => one.at <= at);
  if (found !== undefined) return found.file;
  const oldest = series[0];
  throw new KeepError(
    'KEEP_FILE',
    oldest === undefined
      ? `${folder} holds no backup of a series (bootproof-2026-01-31T12-00-00Z.db): name a file instead`
      : `the oldest backup in ${folder} is of ${formatInstant(oldest.at)}: nothing is known of ${formatInstant(at)}`,
  );
}
