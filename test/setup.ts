/** Before and after all files of a run of all tests: one PostgreSQL for them, since starting one costs more than most files. */
import { startPostgres, type Postgres } from '#test/postgres.ts';

let postgres: Postgres | undefined;

export async function globalSetup(): Promise<void> {
  const started = await startPostgres();
  // Then each file says so itself, and skips what needs it.
  if ('skip' in started) return;
  postgres = started;
  // The processes of the files inherit it.
  process.env['TEST_DATABASE_URL'] = started.url;
}

export async function globalTeardown(): Promise<void> {
  await postgres?.stop();
}
