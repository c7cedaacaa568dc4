/** `bootproof server fsck`: whether everything that was acknowledged is there, and whole (docs/durability.md 3). */
import { join } from 'node:path';
import type { Command } from 'commander';
import { EXIT, printableText, shownText, UsageError, type Io } from '#src/terminal.ts';
import { fsck, type Fsck } from '#server/keep/fsck.ts';
import { readLedger } from '#server/keep/ledger.ts';
import { EXPORTS, LOG_CHECKPOINT } from '#server/options.ts';
import { loadSettings, storeUrlOf } from '#server/settings.ts';
import { writeJson } from './output.ts';
import type { AddServer } from './server.ts';

type Options = { readonly json?: boolean; readonly ledger?: string; readonly file?: string };

export function fsckCommand(command: Command, add: AddServer): void {
  add<Options>(
    command
      .command('fsck')
      .description('whether everything that was acknowledged is there, and whole; also while the server runs')
      .option('--file <file>', 'a backup instead of the server’s own database')
      .option('--ledger <file>', 'that each report of this record is there: lines HOST SEQ DIGEST [full|same]')
      .option('--json', 'one JSON document on standard output'),
    async ({ json, ledger, file }, args, io) => {
      const settings = await loadSettings(args, io.env);
      if (file === '') throw new UsageError('--file needs the name of a file');
      const own = {
        url: storeUrlOf(settings),
        checkpointFile: settings.logCheckpoint ?? join(settings.data, LOG_CHECKPOINT),
        exports: join(settings.data, EXPORTS),
      };
      const done = await fsck({
        ...(file === undefined ? own : { url: `sqlite:${file}` }),
        ledger: ledger === undefined ? undefined : readLedger(ledger),
        tell: (step) => {
          if (io.stderr.isTTY && json !== true) void io.stderr.write(`looking at ${step}\x1b[K\r`);
        },
      });
      if (io.stderr.isTTY && json !== true) await io.stderr.write('\x1b[K');
      if (json === true) await writeJson(done, io);
      else await tellFsck(done, io);
      return done.sound ? EXIT.ok : EXIT.different;
    },
  );
}

/** What was found, for people. */
export async function tellFsck({ sound, looked, ledger, faults, ended }: Fsck, io: Io): Promise<void> {
  for (const { code, table, count, first, means, todo } of faults) {
    await io.stdout.write(`${table}: ${means} [${code}]\n  what to do: ${todo}\n`);
    for (const { key, found } of first)
      await io.stdout.write(`    ${printableText(key)}${found === '' ? '' : `: ${shownText(found)}`}\n`);
    if (count > first.length) await io.stdout.write(`    and ${count - first.length} more\n`);
  }
  const all = faults.reduce((sum, { count }) => sum + count, 0);
  const seen = `${looked.hosts} hosts, ${looked.reports} reports${looked.purged === 0 ? '' : ` (${looked.purged} purged)`}, ${looked.blobs} blobs, ${looked.entries} log entries`;
  await io.stdout.write(sound ? `sound: ${seen}\n` : `FAULTS: ${all} in ${seen}\n`);
  if (ledger !== null)
    await io.stdout.write(
      `acknowledged: ${ledger.acknowledged}, of which ${ledger.kept} are kept and ${ledger.passed} gave way to a newer one that says the same\n`,
    );
  if (ended !== null) await io.stdout.write(`the rest could not be read: ${shownText(ended)}\n`);
}
