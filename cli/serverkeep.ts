/** `bootproof server backup` and `restore` (docs/durability.md 4 and 5). */
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { parseInstant, type Instant } from '#src/clock.ts';
import { EXIT, printableText, UsageError, type Io } from '#src/terminal.ts';
import { parseOrigin } from '#server/config.ts';
import { backUp, nameAt, newestUntil, thin } from '#server/keep/backup.ts';
import { fsck, isUsable } from '#server/keep/fsck.ts';
import { restore, type Restored } from '#server/keep/restore.ts';
import { logSigner } from '#server/keys.ts';
import { CheckpointFile } from '#server/log/checkpointfile.ts';
import { restartLog } from '#server/log/evidencelog.ts';
import { EXPORTS, LOG_CHECKPOINT } from '#server/options.ts';
import { loadSettings, storeUrlOf } from '#server/settings.ts';
import { openStore } from '#server/store/open.ts';
import { writeJson } from './output.ts';
import { tellFsck } from './serverfsck.ts';
import type { AddServer } from './server.ts';

type BackupOptions = {
  readonly output?: string;
  readonly into?: string;
  readonly keep?: string;
  readonly exports: boolean;
  readonly check?: boolean;
  readonly json?: boolean;
};
type RestoreOptions = {
  readonly at?: string;
  readonly checkpoint?: string;
  readonly newOrigin?: string;
  readonly damaged?: boolean;
  readonly json?: boolean;
};

const POSTGRES =
  'this database is PostgreSQL: it is backed up by its own tools (pg_basebackup and an archive of its log, or pg_dump), see docs/durability.md 6';

export function backupCommand(command: Command, add: AddServer): void {
  add<BackupOptions>(
    command
      .command('backup')
      .description('write the database of this moment into one file, while the server runs')
      .option('-o, --output <file>', 'the file; it must not be there')
      .option('--into <dir>', 'a series: a file named by the time, in this folder')
      .option('--keep <n>', 'of a series the newest so many stay (default: all)')
      .option('--no-exports', 'without the bundles that were exported')
      .option('--check', 'look at the backup as fsck does')
      .option('--json', 'one JSON document on standard output'),
    async ({ output, into, keep, exports, check, json }, args, io) => {
      const settings = await loadSettings(args, io.env);
      const url = storeUrlOf(settings);
      if (!url.startsWith('sqlite:')) throw new UsageError(POSTGRES);
      if ((output === undefined) === (into === undefined))
        throw new UsageError('name either a file with -o FILE or the folder of a series with --into DIR');
      const kept = keep === undefined ? null : whole(keep);
      if (kept !== null && into === undefined) throw new UsageError('--keep is for a series: --into DIR');
      const file = resolve(output ?? join(into!, nameAt(Date.now())));
      const done = await backUp(url.slice('sqlite:'.length), file, exports ? join(settings.data, EXPORTS) : null);
      const checked = check === true ? await fsck({ url: `sqlite:${file}` }) : null;
      // What could not be used must not push out what can.
      const isWell = checked === null || isUsable(checked);
      const removed = kept === null || !isWell ? [] : thin(into!, kept);
      if (json === true) await writeJson({ ...done, removed, checked }, io);
      else {
        if (checked !== null) await tellFsck(checked, io);
        const bundles = done.exports === 0 ? '' : `, ${done.exports} bundles beside it`;
        await io.stderr.write(
          `${printableText(done.file)}: ${done.bytes} bytes${bundles}${removed.length === 0 ? '' : `; ${removed.length} older ones removed`}. It holds the server's keys: keep it as you keep those.\n`,
        );
      }
      return isWell ? EXIT.ok : EXIT.different;
    },
  );
}

function whole(text: string): number {
  if (!/^[1-9][0-9]{0,5}$/.test(text)) throw new UsageError(`--keep ${text}: expected a number from 1`);
  return Number(text);
}

export function restoreCommand(command: Command, add: AddServer): void {
  const own = command.command('restore');
  add<RestoreOptions>(
    own
      .description('put the backup FILE, or the newest in a folder of them, in the place of a database that is gone')
      .option('--at <time>', 'of a series the newest that is not later, such as 2026-11-25T12:00:00Z')
      .option('--checkpoint <file>', 'the log.checkpoint of the server that is gone, where it can still be had')
      .option('--new-origin <name>', 'begin a new log at once, which names where the old one was')
      .option('--damaged', 'also a backup with faults')
      .option('--json', 'one JSON document on standard output'),
    async ({ at, checkpoint, newOrigin, damaged, json }, given, io) => {
      const [named, args] = operand(given);
      const settings = await loadSettings(args, io.env);
      if (!storeUrlOf(settings).startsWith('sqlite:')) throw new UsageError(POSTGRES);
      const origin = newOrigin === undefined ? undefined : parseOrigin(newOrigin, '--new-origin')!;
      const checkpointFile = settings.logCheckpoint ?? join(settings.data, LOG_CHECKPOINT);
      const now = Date.now();
      const file = isFolder(named) ? newestUntil(named, at === undefined ? now : instant(at)) : named;
      if (at !== undefined && file === named) throw new UsageError('--at chooses from a series: name its folder');
      const done = await restore({
        file: resolve(file),
        data: settings.data,
        checkpointFile,
        checkpoint,
        damaged: damaged === true,
        now,
        tell: (step) => {
          if (io.stderr.isTTY && json !== true) void io.stderr.write(`looking at ${step}\x1b[K\r`);
        },
      });
      const previous = origin === undefined ? null : await restart(done.database, checkpointFile, origin, now);
      if (json === true) await writeJson({ file, ...done, restarted: previous && { origin, previous } }, io);
      else await tellRestored(done, { file, data: settings.data, origin }, io);
      return EXIT.ok;
    },
  );
  own.usage('FILE [options] [options of the server]');
}

/** The one word that is neither an option nor, behind an option, its value; and the rest. */
function operand(given: readonly string[]): readonly [string, readonly string[]] {
  const isWord = (at: number): boolean => given[at] !== undefined && !given[at].startsWith('-');
  const words = given.flatMap((_, at) => (isWord(at) && (at === 0 || isWord(at - 1)) ? [at] : []));
  const [first, ...more] = words;
  if (first === undefined || more.length > 0)
    throw new UsageError('name the backup first: bootproof server restore FILE --data DIR');
  return [given[first]!, given.toSpliced(first, 1)];
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function instant(text: string): Instant {
  const [, minute, second = '00', rest = ''] =
    /^([0-9-]{10}T[0-9]{2}:[0-9]{2})(?::([0-9]{2}))?(?:\.([0-9]{1,3}))?Z$/.exec(text) ?? [];
  const at = parseInstant(`${minute}:${second}.${rest.padEnd(3, '0')}Z`);
  if (at === undefined) throw new UsageError(`--at ${text}: expected a time such as 2026-11-25T12:00:00Z`);
  return at;
}

async function restart(database: string, checkpointFile: string, origin: string, at: Instant) {
  const store = await openStore(`sqlite:${database}`);
  try {
    const { publicKey } = await logSigner(store, randomBytes);
    const file = new CheckpointFile(checkpointFile);
    return await restartLog({ store }, { origin, publicKey, file }, { actor: 'offline', at });
  } finally {
    await store.close();
  }
}

async function tellRestored(
  { database, checked, exports, log }: Restored,
  about: { readonly file: string; readonly data: string; readonly origin: string | undefined },
  io: Io,
): Promise<void> {
  await tellFsck(checked, io);
  const bundles = exports === 0 ? '' : `, with ${exports} bundles`;
  const lines = [`${printableText(about.file)} is now ${printableText(database)}${bundles}; start the server`];
  if (about.origin !== undefined)
    lines.push(`the evidence log begins anew as ${printableText(about.origin)}: tell whoever keeps checkpoints`);
  else if (log?.signs === false)
    lines.push(
      `the evidence log ${printableText(log.origin)} is not signed from here on, because more may have been published than its ${log.size} entries. Begin a new one that names it: bootproof log restart --data ${printableText(about.data)} --new-origin NAME`,
    );
  lines.push(
    'hosts send what they have not been told was taken; what was taken after the backup is not sent again, and stands as a gap in the chains of those hosts',
  );
  await io.stderr.write(`${lines.join('\n')}\n`);
}
