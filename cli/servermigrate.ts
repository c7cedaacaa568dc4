/** `bootproof server migrate`: brings the database up to this build, or says what that would be (docs/operating.md 7). */
import type { Command } from 'commander';
import { EXIT, type Exit, type Io } from '#src/terminal.ts';
import { openStore } from '#server/store/open.ts';
import { standingOf, type Standing } from '#server/store/standing.ts';
import { loadSettings, storeUrlOf } from '#server/settings.ts';
import { writeJson } from './output.ts';
import type { AddServer } from './server.ts';

type Options = { readonly status?: boolean; readonly dryRun?: boolean; readonly json?: boolean };

export function migrateCommand(command: Command, add: AddServer): void {
  add<Options>(
    command
      .command('migrate')
      .description('bring the database up to this build, apart from the server')
      .option('--status', 'only say how it stands: exit 0 where nothing is to do, 1 where it is behind or ahead')
      .option('--dry-run', 'only write the statements that would run')
      .option('--json', 'one JSON document on standard output'),
    migrate,
  );
}

async function migrate(
  { status = false, dryRun = false, json = false }: Options,
  args: readonly string[],
  io: Io,
): Promise<Exit> {
  const url = storeUrlOf(await loadSettings(args, io.env));
  const before = await standingOf(url);
  const { engine, version, known, steps } = before;
  if (status || dryRun) {
    const sql = steps.flatMap((step) => [`-- ${step.version}`, ...step.statements.map((one) => `${one.trim()};`)]);
    if (json) await writeJson({ engine, version, known, ...(dryRun ? { steps } : { steps: steps.length }) }, io);
    else if (dryRun && sql.length > 0) await io.stdout.write(`${sql.join('\n')}\n`);
    else await io.stdout.write(`${standingText(before)}\n`);
    return version === known || dryRun ? EXIT.ok : EXIT.different;
  }
  const begun = performance.now();
  // Opening brings it up to date, in one transaction that excludes other migrators; a newer schema is refused.
  await (await openStore(url)).close();
  const ms = Math.round(performance.now() - begun);
  if (json) await writeJson({ engine, from: version, to: known, ms }, io);
  else
    await io.stdout.write(
      version === known
        ? `${standingText(before)}\n`
        : `${engine}: schema ${version} → ${known}, ${steps.length} ${steps.length === 1 ? 'step' : 'steps'} in ${ms} ms\n`,
    );
  return EXIT.ok;
}

function standingText({ engine, version, known, steps }: Standing): string {
  if (version === known) return `${engine}: schema ${version}, as this build needs it: nothing is to do`;
  if (version > known)
    return `${engine}: schema ${version}, and this build knows up to ${known}: use the newer build that was here`;
  const which = steps.length === 1 ? `step ${known}` : `steps ${version + 1} to ${known}`;
  return `${engine}: ${version === 0 ? 'nothing of ours yet' : `schema ${version}`}, this build needs ${known}: ${which} would run (--dry-run writes them)`;
}
