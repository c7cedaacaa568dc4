/** litewitness with a key of its own in an ssh-agent, on loopback; its database is told of logs as its operator does it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TestContext } from 'node:test';
import { parseVkey } from '../../src/signing/note.ts';
import { ok, scratch } from './tools.ts';

/** Runs beside the test until it ends, by its own id. */
function beside(t: TestContext, command: string, args: readonly string[]): ChildProcess & { said: string } {
  const child = Object.assign(spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }), { said: '' });
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (bytes: Buffer) => (child.said += bytes.toString()));
  t.after(() => child.kill('SIGTERM'));
  return child;
}

async function until<T>(what: string, found: () => T | undefined): Promise<T> {
  for (let tries = 0; tries < 600; tries++) {
    const it = found();
    if (it !== undefined) return it;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${what} did not come`);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A witness with a key of its own; `know` tells it of a log, as its operator does. */
export async function witness(t: TestContext, program: string) {
  const folder = scratch(t);
  const [key, socket, db] = [join(folder, 'key'), join(folder, 'agent.sock'), join(folder, 'witness.db')];
  ok('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  const fingerprint = /SHA256:\S+/.exec(ok('ssh-keygen', ['-lf', `${key}.pub`]))![0];
  const agent = beside(t, 'ssh-agent', ['-D', '-a', socket]);
  await until('ssh-agent', () => (agent.said === '' ? undefined : true));
  ok('env', [`SSH_AUTH_SOCK=${socket}`, 'ssh-add', '-q', key]);
  const port = await freePort();
  const args = ['-db', db, '-name', 'witness.example/lite', '-key', fingerprint, '-ssh-agent', socket];
  const child = beside(t, program, [...args, '-listen', `127.0.0.1:${port}`]);
  const vkey = await until('the key of litewitness', () => /vkey="?([^\s"]+)/.exec(child.said)?.[1]);
  const know = (log: string): void => {
    const rows = new DatabaseSync(db);
    const { name } = parseVkey(log);
    rows
      .prepare('insert into log (origin, tree_size, tree_hash) values (?, 0, ?)')
      .run(name, '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=');
    rows.prepare('insert into key (origin, key) values (?, ?)').run(name, log);
    rows.close();
  };
  return { vkey, url: `http://127.0.0.1:${port}`, know };
}
