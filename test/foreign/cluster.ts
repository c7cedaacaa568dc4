/** PostgreSQL as Debian has it, in folders of its own: started, killed, copied, promoted, restored. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, connect, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

const BIN = ['/usr/lib/postgresql/15/bin', '/usr/lib/postgresql/16/bin', '/usr/lib/postgresql/17/bin'].find((folder) =>
  existsSync(join(folder, 'pg_basebackup')),
);
/** Why these tests cannot run here. */
export const noCluster: string | undefined =
  BIN === undefined ? 'PostgreSQL of Debian is not installed (apt-get install postgresql-15)' : undefined;

/** PostgreSQL refuses root: then it runs as `nobody`. */
const NOBODY = 65_534;
const ids = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

/** A short folder, as a socket's path must be, that PostgreSQL owns. */
export function clusterFolder(t: TestContext, parent = '/tmp'): string {
  const made = mkdtempSync(join(parent, 'bp-'));
  chmodSync(made, 0o755);
  own(made);
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

export function own(path: string): void {
  if (ids.uid !== undefined) chownSync(path, ids.uid, ids.gid);
}

function run(program: string, ...args: string[]): string {
  const done = spawnSync(join(BIN!, program), args, {
    ...ids,
    cwd: '/',
    env: { LC_ALL: 'C', PATH: '/usr/bin:/bin' },
    encoding: 'utf8',
  });
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.status} ${done.stdout}${done.stderr}`);
  return done.stdout;
}

export class Cluster {
  readonly folder: string;
  readonly data: string;
  readonly #settings: readonly string[];

  private constructor(t: TestContext, folder: string, settings: readonly string[]) {
    this.folder = folder;
    this.data = join(folder, 'data');
    this.#settings = settings;
    // Before the folder goes, which was registered first: hooks run in their order, so it is ended by itself, too.
    t.after(() => this.kill());
  }

  /** A new one, running. */
  static made(t: TestContext, folder: string, settings: readonly string[] = []): Cluster {
    const cluster = new Cluster(t, folder, settings);
    run('initdb', '-D', cluster.data, '-U', 'bootproof', '--auth=trust', '--encoding=UTF8', '--locale=C');
    cluster.start();
    return cluster;
  }

  /** One whose data lies there, from a base backup; running. `more`: lines of its configuration. `signal`: what it begins as. */
  static from(
    t: TestContext,
    folder: string,
    signal: 'standby.signal' | 'recovery.signal',
    more: readonly string[],
  ): Cluster {
    const cluster = new Cluster(t, folder, []);
    appendFileSync(join(cluster.data, 'postgresql.auto.conf'), `${more.join('\n')}\n`);
    const file = join(cluster.data, signal);
    writeFileSync(file, '');
    own(file);
    cluster.start();
    return cluster;
  }

  get socket(): string {
    return join(this.folder, '.s.PGSQL.5432');
  }

  url(database = 'postgres', folder = this.folder): string {
    return `postgres://bootproof@localhost/${database}?host=${encodeURIComponent(folder)}`;
  }

  start(): void {
    const settings = [
      'listen_addresses=',
      `unix_socket_directories=${this.folder}`,
      'max_connections=60',
      ...this.#settings,
    ];
    const options = settings.map((setting) => `-c "${setting}"`).join(' ');
    run('pg_ctl', 'start', '-w', '-t', '60', '-D', this.data, '-l', join(this.folder, 'log'), '-o', options);
  }

  /** As kill -9 and a machine that starts again: nothing is written any more. */
  kill(): void {
    const pid = join(this.data, 'postmaster.pid');
    if (existsSync(pid))
      spawnSync(join(BIN!, 'pg_ctl'), ['stop', '-m', 'immediate', '-w', '-D', this.data], { ...ids, cwd: '/' });
  }

  promote(): void {
    run('pg_ctl', 'promote', '-w', '-t', '60', '-D', this.data);
  }

  /** A copy of it while it runs, in another folder. */
  baseBackup(to: string): void {
    mkdirSync(to, { mode: 0o700, recursive: true });
    own(to);
    const host = this.folder;
    run('pg_basebackup', '-h', host, '-U', 'bootproof', '-D', join(to, 'data'), '-X', 'stream', '-c', 'fast');
  }

  log(): string {
    return readFileSync(join(this.folder, 'log'), 'utf8').slice(-2000);
  }
}

/** What stands between servers and databases: an address that leads to the one that counts now. */
export class Address {
  readonly folder: string;
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  #to: string;

  private constructor(folder: string, to: string) {
    this.folder = folder;
    this.#to = to;
    this.#server = createServer((client) => {
      const database = connect(this.#to);
      for (const socket of [client, database]) {
        this.#open.add(socket);
        socket.on('error', () => socket.destroy());
        socket.on('close', () => {
          this.#open.delete(socket);
          client.destroy();
          database.destroy();
        });
      }
      client.pipe(database).pipe(client);
    });
  }

  static async of(t: TestContext, to: string): Promise<Address> {
    const address = new Address(clusterFolder(t), to);
    await new Promise<void>((resolve) => void address.#server.listen(join(address.folder, '.s.PGSQL.5432'), resolve));
    t.after(() => {
      address.cut();
      address.#server.close();
    });
    return address;
  }

  cut(): void {
    for (const socket of this.#open) socket.destroy();
  }

  leadTo(socket: string): void {
    this.#to = socket;
    this.cut();
  }
}
