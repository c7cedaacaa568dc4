/**
 * The server's operations as programs that are not ours judge them: Prometheus its alerts and metrics, podman its quadlet, the types of
 * Kubernetes its objects; and the tree that the image is made of, run as its user, who may write to nothing but data and /tmp.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { ok, root, run, scratch } from './tools.ts';

const SERVER = join(root, 'packaging/server');
const isHere = (command: string): boolean => spawnSync(command, ['--help']).error === undefined;

test('Prometheus takes the alerts', (t) => {
  if (!isHere('promtool')) return t.skip('promtool is not here (package prometheus)');
  assert.match(
    ok('promtool', ['check', 'rules', join(root, 'docs/operating/alerts.yaml')]),
    /SUCCESS: \d\d rules found/,
  );
});

test('podman’s generator makes a service of the quadlet', (t) => {
  const quadlet = ['/usr/libexec/podman/quadlet', '/usr/lib/podman/quadlet'].find((path) => existsSync(path));
  if (quadlet === undefined) return t.skip('no generator is here (podman 4.4 or later; Debian 12 has 4.3)');
  const folder = scratch(t);
  cpSync(join(SERVER, 'bootproof.container'), join(folder, 'bootproof.container'));
  const made = spawnSync(quadlet, ['-dryrun', '-no-kmsg-log'], {
    encoding: 'utf8',
    env: { ...process.env, QUADLET_UNIT_DIRS: folder },
  });
  assert.equal(made.status, 0, made.stderr);
  assert.doesNotMatch(made.stderr, /unsupported key|error/i);
  for (const option of ['--read-only', '--cap-drop all', '--user 65532:65532', '--security-opt=no-new-privileges'])
    assert.ok(made.stdout.replaceAll('=', ' ').includes(option.replaceAll('=', ' ')), `${option}\n${made.stdout}`);
});

test('the objects are those of Kubernetes', (t) => {
  const check = process.env['KUBERNETESCHECK'];
  if (check === undefined) return t.skip('KUBERNETESCHECK names no program (go -C test/foreign/kubernetescheck build)');
  const kinds = ok(check, [join(SERVER, 'kubernetes.yaml')]);
  assert.equal(kinds.trim().split('\n').length, 6, kinds);
  const wrong = join(scratch(t), 'wrong.yaml');
  writeFileSync(
    wrong,
    readFileSync(join(SERVER, 'kubernetes.yaml'), 'utf8').replace('failureThreshold', 'failuresThreshold'),
  );
  assert.notEqual(run(check, [wrong]).status, 0, 'a field that there is not is refused');
});

/** What the Containerfile copies, in a folder that nobody may write to; packages are linked. */
function tree(t: TestContext): string {
  const folder = join(scratch(t), 'opt');
  mkdirSync(folder);
  const text = readFileSync(join(SERVER, 'Containerfile'), 'utf8');
  for (const [, from] of text.matchAll(/^COPY (?!--from)(.+) (?:\.\/|[a-z]+)$/gm))
    for (const name of from!.split(' ')) cpSync(join(root, name), join(folder, name), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

test('what the image holds is enough to serve, read-only and as its user', async (t) => {
  const folder = tree(t);
  const data = join(scratch(t), 'data');
  mkdirSync(data);
  chmodSync(data, 0o777);
  const isRoot = process.getuid?.() === 0;
  ok('chmod', ['-R', 'a-w', folder]);
  t.after(() => run('chmod', ['-R', 'u+w', folder]));
  for (let at = data; at !== '/tmp' && at !== '/'; at = join(at, '..')) run('chmod', ['a+x', at]);
  for (let at = folder; at !== '/tmp' && at !== '/'; at = join(at, '..')) run('chmod', ['a+x', at]);
  const port = await free();
  const settings = ['--config', join(folder, 'packaging/server/server.yaml'), '--data', data];
  const command = [
    join(folder, 'bootproof'),
    'server',
    ...settings,
    '--listen',
    `127.0.0.1:${port}`,
    '--metrics',
    'open',
  ];
  const [program, ...args] = isRoot
    ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', ...command]
    : command;
  const child = spawn(program!, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env['PATH'] } });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.setEncoding('utf8');
  await new Promise<void>((resolve, reject) => {
    child.stderr.on('data', (part: string) => {
      said += part;
      if (said.includes('"event":"listening"')) resolve();
    });
    child.once('exit', () => reject(new Error(said)));
  });
  const url = `http://127.0.0.1:${port}`;
  assert.equal(await (await fetch(`${url}/readyz`)).text(), 'ok');
  ok(process.execPath, [join(folder, 'packaging/server/healthy.mjs'), `${url}/livez`]);
  assert.equal(run(process.execPath, [join(folder, 'packaging/server/healthy.mjs'), `${url}/none`]).status, 1);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  await t.test('and Prometheus takes its metrics', (part) => {
    if (!isHere('promtool')) return part.skip('promtool is not here (package prometheus)');
    // What the client library tells of Node bears its own names.
    const own = metrics.replace(/^(?:# (?:HELP|TYPE) )?bootproof_(?:nodejs|process)_.*\n/gm, '');
    const { status, stdout, stderr } = run('promtool', ['check', 'metrics'], { input: own });
    assert.ok(status === 0, `${stdout}${stderr}`);
  });
  const ended = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
  child.kill('SIGTERM');
  assert.equal(await ended, 0, said);
  assert.match(said, /"event":"stopped"/);
});

async function free(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
