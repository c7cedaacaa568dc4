/** The server's settings as every command of it reads them: the same options, variables and file for the server and for what is run beside it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { printableText } from '#src/terminal.ts';
import { settingsFrom, type Settings } from './config.ts';
import { readSettingsFile } from './configfile.ts';
import { configFile, Given, SettingsError, type Env } from './given.ts';

/** Settings, and how each is called where it was given: what is found wrong with them later is told of that place. */
export type Loaded = { readonly settings: Settings; readonly given: Given };

/** @throws {SettingsError} with every fault: options, variables, what stands in the file of `--config`, values that cannot be read. */
export async function loadSettings(args: readonly string[], env: Env): Promise<Settings> {
  return (await loadGiven(args, env)).settings;
}

/** As `loadSettings`, with where each was given. */
export async function loadGiven(args: readonly string[], env: Env): Promise<Loaded> {
  const file = configFile(args, env);
  const given = new Given(args, env, file === undefined ? undefined : await readSettingsFile(file));
  const settings = settingsFrom(given, env);
  return { settings: { ...settings, databaseUrl: await databaseUrlOf(settings, given) }, given };
}

async function databaseUrlOf(
  { databaseUrl, databaseUrlFile: file }: Settings,
  given: Given,
): Promise<string | undefined> {
  if (file === undefined) return databaseUrl;
  const refuse = (why: string) =>
    new SettingsError([given.placed(`--database-url-file ${printableText(file)}: ${why}`)]);
  if (databaseUrl !== undefined) throw refuse('the variable DATABASE_URL names a database too; leave one of them out');
  let text: string;
  try {
    text = (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw refuse(`cannot be read: ${(cause as NodeJS.ErrnoException).code}`);
  }
  // It holds a password: nothing of it is repeated.
  if (!/^postgres(?:ql)?:\/\/\S+$/.test(text)) throw refuse('expected one line with a postgres:// URL alone');
  return text;
}

/** Where the database lies, as `openStore` takes it: PostgreSQL where it is named, else SQLite in the data folder. */
export const storeUrlOf = ({ databaseUrl, data }: Pick<Settings, 'databaseUrl' | 'data'>): string =>
  databaseUrl ?? `sqlite:${join(data, 'bootproof.db')}`;
