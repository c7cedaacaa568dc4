/**
 * The evidence log of a running server, judged by programs that are not ours: tessera's fsck and, by a few lines of Go, torchwood and x/mod's tlog.
 * `FSCK` and `TLOGCHECK` name them. fsck v1.0.4 exits 0 whatever it finds: only its last line counts; with one worker it hangs on a wrong tile.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { readCheckpoint } from '../../src/log/checkpoint.ts';
import { enrol, image, serverFor, type TestServer } from '../server/fleet.ts';
import { root, scratch } from './tools.ts';

/** Beside the server, which is in this process. */
function beside(command: string, args: readonly string[]): Promise<{ status: number | null; out: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000, killSignal: 'SIGKILL' });
    let out = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (out += bytes.toString()));
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, out }));
  });
}

async function fill(server: TestServer, acts: number): Promise<void> {
  for (let n = 0; n < acts; n++)
    await server.server.store.audit.append(
      { actor: 'user:alice', at: server.time.now },
      { action: 'test.act', object: `n:${n}`, before: null, after: n },
    );
  await server.server.evidence.turn();
}

const fsck = (tool: string, storage: string, key: string) =>
  beside(tool, ['--ui=false', '-N', '16', `--storage_url=${storage}`, `--public_key=${key}`]);

test('fsck and torchwood take the log of a running server as it is, and nothing else for it', async (t: TestContext) => {
  const folder = scratch(t);
  const { FSCK, TLOGCHECK } = process.env;
  if (FSCK === undefined || TLOGCHECK === undefined)
    return t.skip('FSCK and TLOGCHECK name no programs: .ci/run says how they are made');
  const tools = { fsck: FSCK, tlogcheck: TLOGCHECK };
  const os = image('41');
  const server = await serverFor(t, { images: [os] });
  const host = await enrol(server, os);
  await host.sendFull();
  await fill(server, 300);
  const url = `${server.server.url}/log/`;
  const get = async (path: string) => Buffer.from(await (await fetch(url + path)).arrayBuffer());
  const file = (name: string, bytes: string | Uint8Array) => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const old = file('old', await get('checkpoint'));
  const oldSize = readFileSync(old, 'utf8').split('\n')[1]!;
  await fill(server, 400);
  const key = file('key', await get('key'));
  const good = await fsck(tools.fsck, url, key);
  assert.match(good.out, /Successfully fsck'd log with size 7[0-9]{2}/);

  const { body: proof } = await server.api('/api/v1/log/entries/42/proof');
  const { body: shown } = await server.api('/api/v1/log/entries/42');
  const { body: grown } = await server.api(`/api/v1/log/consistency?from=${oldSize}`);
  // It may have grown since: what is verified is the checkpoint that the proof leads to.
  const size = readCheckpoint((grown as string).slice((grown as string).indexOf('\n\n') + 2)).size;
  const vkey = readFileSync(key, 'utf8').trim();
  const entry = file('entry', Buffer.from(shown.bytes, 'base64'));
  const judged = (consistency: string) =>
    beside(tools.tlogcheck, [url, vkey, old, file('consistency', consistency), file('proof', proof), entry]);
  assert.deepEqual(await judged(grown), { status: 0, out: `verified ${size} entries\n` });
  const lines = (grown as string).split('\n');
  assert.equal((await judged([lines[0], lines[2], lines[1], ...lines.slice(3)].join('\n'))).status, 1);

  // The same as files; and one byte of them changed.
  const files = join(folder, 'files');
  mkdirSync(files);
  const token = file('token', server.admin);
  const dumped = await beside(join(root, 'bootproof'), [
    'log',
    'dump',
    files,
    '--server',
    server.server.url,
    '--token-file',
    token,
  ]);
  assert.equal(dumped.status, 0, dumped.out);
  assert.match((await fsck(tools.fsck, `file://${files}/`, key)).out, /Successfully fsck'd/);
  const bundle = join(files, 'tile/entries/001');
  writeFileSync(bundle, readFileSync(bundle, 'latin1').replace('test.act', 'test.axt'), 'latin1');
  assert.doesNotMatch((await fsck(tools.fsck, `file://${files}/`, key)).out, /Successfully fsck'd/);
});
