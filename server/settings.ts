/** The server's settings as every command of it reads them: the same options, variables and file for the server and for what is run beside it. */
import { join } from 'node:path';
import { readSettings, type Settings } from './config.ts';

/** @throws {UsageError} for an option, variable or value that cannot be read. */
export async function loadSettings(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<Settings> {
  return readSettings(args, env);
}

/** Where the database lies, as `openStore` takes it: PostgreSQL where it is named, else SQLite in the data folder. */
export const storeUrlOf = ({ databaseUrl, data }: Pick<Settings, 'databaseUrl' | 'data'>): string =>
  databaseUrl ?? `sqlite:${join(data, 'bootproof.db')}`;
