/** `bootproof server check-config`: whether a server would start with these settings, and all that hinders it (docs/operating.md 2). */
import type { Command } from 'commander';
import { BootproofError } from '#src/error.ts';
import { EXIT, shownText, type Exit, type Io } from '#src/terminal.ts';
import { FLAGS, OPTIONS, type OptionName } from '#server/flags.ts';
import { SettingsError, type Given } from '#server/given.ts';
import { withoutSecrets } from '#server/logging.ts';
import { faultsIn } from '#server/prepare.ts';
import { loadGiven, storeUrlOf, type Loaded } from '#server/settings.ts';
import { standingOf } from '#server/store/standing.ts';
import { writeJson } from './output.ts';
import type { AddServer } from './server.ts';

type Options = { readonly connect?: boolean; readonly json?: boolean };

export function checkConfigCommand(command: Command, add: AddServer): void {
  add<Options>(
    command
      .command('check-config')
      .description('whether a server would start with these settings: every fault, and where')
      .option('--connect', 'also ask the database whether it is there, ours, and of which schema')
      .option('--json', 'one JSON document on standard output'),
    check,
  );
}

/** Where settings cannot even be read, what they name is not looked at: it may be another file than the one meant. */
async function check({ connect = false, json = false }: Options, args: readonly string[], io: Io): Promise<Exit> {
  const faults: string[] = [];
  let loaded: Loaded | undefined;
  try {
    loaded = await loadGiven(args, io.env);
    const { settings, given } = loaded;
    faults.push(...(await faultsIn(settings, io)).map((fault) => given.placed(fault)));
    if (connect) faults.push(...(await databaseFaults(storeUrlOf(settings))));
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    faults.push(...(error instanceof SettingsError ? error.lines : [error.message]));
  }
  const told = faults.map((fault) => shownText(withoutSecrets(fault))).sort(inOrder);
  const given = loaded === undefined ? [] : settingsGiven(loaded.given);
  if (json) await writeJson({ ok: told.length === 0, faults: told, settings: given }, io);
  else if (told.length > 0) {
    const count = told.length === 1 ? 'one fault' : `${told.length} faults`;
    await io.stderr.write(`${told.join('\n')}\n${count}: a server does not start with these settings\n`);
  } else {
    const lines = given.map(({ name, value, from }) => `  ${name.padEnd(24)} ${value}  (${from})`);
    const rest = lines.length === 0 ? 'everything is as by default' : `set, and where; the rest is as by default:`;
    await io.stdout.write(`${['a server starts with these settings', rest, ...lines].map(shownText).join('\n')}\n`);
  }
  return told.length === 0 ? EXIT.ok : EXIT.usage;
}

/** Those of a file by their lines. */
const { compare: inOrder } = new Intl.Collator('en', { numeric: true });

async function databaseFaults(url: string): Promise<string[]> {
  try {
    const { version, known } = await standingOf(url);
    return version > known
      ? [`the database has schema ${version}, this build knows up to ${known}: use the newer build`]
      : [];
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    return [`the database: ${error.message}`];
  }
}

/** What was set, and in which of the three places it stands: what holds where it stands in several. */
function settingsGiven(given: Given): { name: string; value: string; from: string }[] {
  const options = (Object.keys(OPTIONS) as OptionName[]).flatMap((name) => {
    const values = given.all(name);
    if (values.length === 0) return [];
    return [{ name, value: withoutSecrets(values.join(' ')), from: given.nameOf(name).replace(/: [^:]*$/, '') }];
  });
  const flags = (Object.keys(FLAGS) as (keyof typeof FLAGS)[]).flatMap((name) =>
    given.isOn(name) ? [{ name, value: 'true', from: given.nameOf(name).replace(/: [^:]*$/, '') }] : [],
  );
  return [...options, ...flags];
}
