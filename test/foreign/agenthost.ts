/** A host with an agent from a checkout, as a process of its own, beside a server in this process: nothing here may block. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Entry } from '../../src/manifest/entry.ts';
import type { TestServer } from '../server/fleet.ts';
import { root as checkoutHere, type Ran } from './tools.ts';

/** Ends with `status` -1 where it was killed. */
export function start(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const { NODE_COMPILE_CACHE: cache = '' } = process.env;
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH']!, NODE_COMPILE_CACHE: cache, ...env },
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (bytes: Buffer) => (stdout += bytes.toString('latin1')));
    child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString('latin1')));
    child.on('error', reject).on('close', (status) => resolve({ status: status ?? -1, stdout, stderr }));
  });
}

/** Writes entries of an image below a root, their contents by path. */
export function write(root: string, entries: readonly Entry[], texts: Readonly<Record<string, string>>): void {
  for (const { path, type, mode } of [...entries].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    const at = join(root, path);
    mkdirSync(type === 'dir' ? at : dirname(at), { recursive: true });
    if (type === 'file') writeFileSync(at, texts[path]!);
    if (type === 'file' || type === 'dir') chmodSync(at, mode);
  }
}

export class AgentHost {
  readonly folder: string;
  readonly root: string;
  readonly state: string;
  /** Of the image that it says it booted. */
  image: string;
  /** Whose agent it runs. */
  checkout: string;

  constructor(t: TestContext, image: string, fill: (root: string) => void, checkout = checkoutHere) {
    this.folder = mkdtempSync(join(tmpdir(), 'bootproof-host-'));
    t.after(() => rmSync(this.folder, { recursive: true, force: true }));
    [this.root, this.state] = [join(this.folder, 'root'), join(this.folder, 'state')];
    this.image = image;
    this.checkout = checkout;
    mkdirSync(this.root);
    fill(this.root);
  }

  /** The agent's command line, to be run by itself or below another program. */
  command(...args: string[]): string[] {
    return [
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      join(this.checkout, 'agent/main.ts'),
      ...args,
      '--root',
      this.root,
      '--state',
      this.state,
    ];
  }

  agent(...args: string[]): Promise<Ran> {
    const [program, ...rest] = this.command(...args);
    return start(program!, rest);
  }

  /** One cycle. */
  cycle(...below: string[]): Promise<Ran> {
    const [program, ...rest] = [...below, ...this.command('run', '--backend', 'ostree', '--image', this.image)];
    return start(program!, rest);
  }

  async enrol(server: TestServer | { url: string; token: string }, ...below: string[]): Promise<Ran> {
    const { url, token } = 'url' in server ? server : { url: server.server.url, token: await tokenOf(server) };
    const file = join(this.folder, 'token');
    writeFileSync(file, token);
    const [program, ...rest] = [...below, ...this.command('enroll', '--server', url, '--token-file', file)];
    return start(program!, rest);
  }

  get host(): string {
    return (this.json('identity.json') as { host: string }).host;
  }
  /** Number of the last report that was sealed. */
  get seq(): number {
    return (this.json('chain.json') as { seq: number }).seq;
  }
  json(name: string): unknown {
    return JSON.parse(readFileSync(join(this.state, name), 'utf8'));
  }
  /** Files of the spool, or of what was set aside there. */
  spool(below = ''): string[] {
    const folder = join(this.state, 'spool', below);
    return existsSync(folder) ? readdirSync(folder).filter((name) => /^[0-9]+\./.test(name)) : [];
  }
}

export async function tokenOf(server: TestServer): Promise<string> {
  const { status, body } = await server.api('/api/v1/tokens', { method: 'POST', body: {} });
  assert.ok(status < 300, JSON.stringify(body));
  return (body as { token: string }).token;
}
