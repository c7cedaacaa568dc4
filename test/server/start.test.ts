/** Starting and stopping: ports, the admin token, settings that are told, and the command as a process. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { request, type IncomingMessage } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { readPolicy } from '#server/prepare.ts';
import { serve } from '#server/serve.ts';
import { StartError } from '#server/listen.ts';
import type { StartOptions } from '#server/options.ts';
import { startServer } from '#server/start.ts';
import { openStore } from '#server/store/open.ts';
import { runCommand, UsageError } from '#src/terminal.ts';
import { bootproof } from '#cli/commands.ts';
import { ran, type Ran } from '#test/ran.ts';
import { rejectsCode } from '#test/throws.ts';
import { enrol, folder, image, serverFor } from './fleet.ts';

async function options(t: TestContext, more: Partial<StartOptions> = {}): Promise<StartOptions> {
  return {
    storeUrl: `sqlite:${join(folder(t), 'store.db')}`,
    policy: await readPolicy(undefined),
    listen: { host: '127.0.0.1', port: 0 },
    ...more,
  };
}

/** `bootproof server` in this process, to its exit code: for what ends before anything starts. */
const command = (...args: string[]): Promise<Ran> =>
  ran((given, io) => runCommand(given, io, bootproof), ['server', ...args]);

async function taken(t: TestContext): Promise<number> {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  t.after(() => other.close());
  return (other.address() as AddressInfo).port;
}

test('a taken default port moves to the next free one; one that was asked for does not', async (t) => {
  const port = await taken(t);
  const moved = await startServer(await options(t, { listen: { host: '127.0.0.1', port, movable: true } }));
  t.after(() => moved.close());
  assert.ok(moved.port > port);
  assert.equal(moved.url, `http://127.0.0.1:${moved.port}`);
  assert.equal((await fetch(`${moved.url}/livez`)).status, 200);
  await rejectsCode(
    async () => startServer(await options(t, { listen: { host: '127.0.0.1', port } })),
    StartError,
    'LISTEN_ADDRESS',
  );
});

test('the admin token is told once, and another one ends it', async (t) => {
  const about = await options(t);
  const first = await startServer(about);
  const token = first.adminToken!;
  assert.match(token, /^bp_admin_[A-Za-z0-9_-]{43}$/);
  await first.close();
  const second = await startServer(about);
  assert.equal(second.adminToken, undefined);
  const ask = (app: typeof first.app, by: string) =>
    app.request('/api/v1/hosts', { headers: { authorization: `Bearer ${by}` } });
  assert.equal((await ask(second.app, token)).status, 200);
  await second.close();
  const third = await startServer({ ...about, newAdminToken: true });
  t.after(() => third.close());
  assert.notEqual(third.adminToken, token);
  assert.equal((await ask(third.app, token)).status, 401);
  assert.equal((await ask(third.app, third.adminToken!)).status, 200);
});

test('a base URL is what tokens name', async (t) => {
  const server = await startServer(await options(t, { baseUrl: 'https://bootproof.example' }));
  t.after(() => server.close());
  const response = await server.app.request('/api/v1/tokens', {
    method: 'POST',
    body: '{}',
    headers: { authorization: `Bearer ${server.adminToken}`, 'content-type': 'application/json' },
  });
  assert.match(((await response.json()) as { enrol: string }).enrol, /--server https:\/\/bootproof\.example(?: |$)/);
  const login = await server.app.request('https://bootproof.example/login', {
    method: 'POST',
    headers: {
      host: 'bootproof.example',
      origin: 'https://bootproof.example',
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: new URLSearchParams({ token: server.adminToken! }),
  });
  assert.match(login.headers.get('set-cookie')!, /; Secure/);
});

test('closing ends what is under way and refuses what comes after', async (t) => {
  const server = await startServer(await options(t));
  await server.close();
  await assert.rejects(() => fetch(`${server.url}/livez`));
  await assert.rejects(() => server.store.ping());
});

test('a policy file that is not there, or says something wrong, is told before anything starts', async (t) => {
  await rejectsCode(() => readPolicy('/nowhere/policy.yaml'), UsageError, 'USAGE');
  const file = join(folder(t), 'policy.yaml');
  writeFileSync(file, 'format: bootproof.policy/1\nname: mine\nextends: default\nfreshnes: {}\n');
  const launcher = join(import.meta.dirname, '../../bootproof');
  const data = join(folder(t), 'data');
  // As a process once: its code and streams.
  const wrong = spawnSync(launcher, ['server', '--data', data, '--policy', file], { encoding: 'utf8' });
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /policy\.yaml:4.*freshnes.*did you mean freshness/);
  const port = await taken(t);
  rmSync(data, { recursive: true, force: true });
  const busy = await command('--data', data, '--listen', `127.0.0.1:${port}`);
  assert.equal(busy.exit, 2);
  assert.match(busy.err, /another program has it.*\[LISTEN_ADDRESS\]/);
  assert.ok(!existsSync(data), 'nothing was made for it');
  assert.equal((await command('--help')).exit, 0);
});

test('a start that fails does not use up the admin token', async (t) => {
  const about = await options(t);
  const port = await taken(t);
  for (const wrong of [{ sources: [{ reference: 'foo/bar' }] }, { listen: { host: '127.0.0.1', port } }])
    await assert.rejects(() => startServer({ ...about, ...wrong }));
  const server = await startServer(about);
  t.after(() => server.close());
  assert.match(server.adminToken ?? '', /^bp_admin_/);
});

test('settings that cannot be used are refused in plain words, one problem a line', async (t) => {
  const at = folder(t);
  const file = join(at, 'policy.yaml');
  writeFileSync(file, 'format: bootproof.policy/1\nname: 5\nextends: default\n"fresh\\nnes": {}\n');
  const refused = async (...args: string[]) => told(serve, ...args);
  const told = async (command: typeof serve, ...args: string[]) => {
    let err = '';
    const stream = {
      isTTY: false,
      columns: 80,
      write: async (text: string | Uint8Array) => void (err += String(text)),
    };
    const exit = await command(args, { stdout: stream, stderr: stream, env: {} });
    return { exit, err };
  };
  await rejectsCode(() => refused('--data', file), UsageError, 'USAGE');
  await rejectsCode(() => refused('--data', join(file, 'below')), UsageError, 'USAGE');
  // Where nothing can be made at all: Node's own mkdir never came back from there.
  await rejectsCode(() => refused('--data', '/proc/x/y'), UsageError, 'USAGE');
  const pem = join(at, 'ca.pem');
  writeFileSync(pem, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
  for (const [flag, named] of [
    ['--authfile', join(at, 'nope')],
    ['--authfile', file],
    ['--ca-file', join(at, 'nope')],
    ['--ca-file', file],
    ['--ca-file', pem],
  ] as const)
    await assert.rejects(refused('--data', join(at, 'data'), flag, named), (error) => {
      assert.ok(error instanceof UsageError, String(error));
      assert.ok(error.message.includes(named) && error.message.includes(flag), error.message);
      return true;
    });
  const whole: typeof serve = (args, io) => runCommand(args, io, serve);
  const { exit, err } = await told(whole, '--data', at, '--policy', file);
  assert.equal(exit, 2);
  const lines = err.trimEnd().split('\n');
  assert.equal(lines.length, 2);
  for (const line of lines) assert.match(line, /policy\.yaml:[24]:[17]: /, err);
});

test('a source on disk that is not there yet is told, at start and where a person allows it', async (t) => {
  const absent = join(folder(t), 'layout');
  const data = join(folder(t), 'data');
  const listen = `127.0.0.1:${await taken(t)}`;
  const { exit, err } = await command('--data', data, '--source', `oci:${absent}`, '--listen', listen);
  assert.equal(exit, 2);
  assert.match(err, /^warning: --source oci:.*oci-layout is not there/m);
  const server = await serverFor(t);
  const allow = (reference: string) => server.api('/api/v1/sources', { method: 'POST', body: { reference } });
  assert.match((await allow(`oci:${absent}`)).body.warning, /oci-layout is not there/);
  assert.match((await allow(`oci-archive:${absent}.tar`)).body.warning, /layout\.tar is not there/);
  assert.equal((await allow('docker://registry.example/os')).body.warning, undefined);
});

test('a report that is on its way when the server stops is taken, answered and kept', async (t) => {
  const storeUrl = `sqlite:${join(folder(t), 'store.db')}`;
  const os = image('os');
  const server = await serverFor(t, { storeUrl, images: [os] });
  const host = await enrol(server, os);
  const { text } = await host.seal(host.fullReport());
  const sending = request(`${server.server.url}/api/v1/reports`, {
    method: 'POST',
    headers: { expect: '100-continue', 'content-length': Buffer.byteLength(text) },
  });
  const answered = new Promise<IncomingMessage>((resolve, reject) =>
    sending.on('response', resolve).on('error', reject),
  );
  sending.flushHeaders();
  await new Promise((resolve) => sending.once('continue', resolve));
  sending.write(text.slice(0, 100));
  const closed = server.server.close();
  sending.end(text.slice(100));
  const answer = await answered;
  assert.deepEqual([answer.statusCode, answer.headers.connection], [200, 'close']);
  answer.resume();
  await closed;
  const store = await openStore(storeUrl);
  t.after(() => store.close());
  assert.equal((await store.hosts.get(host.id))?.chain.headSeq, 1);
});

test('told to stop, a server says so to balancers and serves on; a second signal ends it at once', async (t) => {
  const data = join(folder(t), 'data');
  const args = ['server', '--data', data, '--listen', '127.0.0.1:0', '--stop-delay', '10m'];
  const child = spawn(join(import.meta.dirname, '../../bootproof'), args, { stdio: ['ignore', 'ignore', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  const told = (what: RegExp) =>
    new Promise<RegExpExecArray>((resolve, reject) => {
      const look = (): void => {
        const found = what.exec(said);
        if (found !== null) resolve(found);
      };
      child.stderr.on('data', look);
      child.once('exit', () => reject(new Error(said)));
      look();
    });
  child.stderr.setEncoding('utf8').on('data', (part: string) => (said += part));
  const [, line] = await told(/^(\{.*"event":"listening".*\})$/m);
  const { url, level } = JSON.parse(line!) as { url: string; level: string };
  assert.equal(level, 'info');
  const ask = async (path: string) => {
    const response = await fetch(`${url}${path}`);
    return [response.status, await response.text()];
  };
  assert.deepEqual(await ask('/readyz'), [200, 'ok']);
  child.kill('SIGTERM');
  await told(/^stopping$/m);
  assert.deepEqual(await ask('/readyz'), [503, 'not ready\nthis server is stopping']);
  assert.deepEqual(await ask('/livez'), [200, 'ok']);
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  assert.equal(await ended, 130);
  assert.match(said, /"event":"stopped at once"/);
});
