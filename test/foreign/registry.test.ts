/** A real registry (Debian's docker-registry) and a real client (skopeo): the same image gives the same manifest from everywhere. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import { bootproof, ok, scratch, vectors } from './tools.ts';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

async function startRegistry(t: TestContext, folder: string): Promise<string> {
  const port = await freePort();
  const config = join(folder, 'registry.yml');
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${join(folder, 'registry')}}}\nhttp: {addr: "127.0.0.1:${port}"}\n`,
  );
  const child = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  t.after(() => child.kill());
  for (let i = 0; i < 100; i++) {
    const up = await fetch(`http://127.0.0.1:${port}/v2/`).then(
      (r) => r.ok,
      () => false,
    );
    if (up) return `127.0.0.1:${port}`;
    await sleep(100);
  }
  throw new Error('docker-registry did not come up');
}

test('docker-registry, oci-archive and layout give one manifest', async (t) => {
  const folder = scratch(t);
  const registry = await startRegistry(t, folder);
  for (const name of ['02-base-chunked', '39-compression', '48-mix-encapsulated', '47-mix5']) {
    const layout = `oci:${join(vectors, name, 'image')}:latest`;
    const archive = `oci-archive:${join(folder, `${name}.tar`)}`;
    const pushed = `docker://${registry}/bootproof/${name}:latest`;
    ok('skopeo', ['--insecure-policy', 'copy', '-q', '--preserve-digests', layout, `${archive}:latest`]);
    ok('skopeo', ['--insecure-policy', 'copy', '-q', '--preserve-digests', '--dest-tls-verify=false', layout, pushed]);
    const build = (reference: string) => {
      const built = bootproof('manifest', 'build', reference, '--backend', 'ostree', '--format', 'mtree');
      assert.equal(built.status, 0, `${reference}: ${built.stderr}`);
      return built.stdout;
    };
    const text = build(layout);
    assert.match(text, /^#mtree\n\. type=dir\n/);
    assert.equal(build(archive), text, archive);
    assert.equal(build(pushed), text, pushed);
    const digest = JSON.parse(ok('skopeo', ['--insecure-policy', 'inspect', '--tls-verify=false', pushed])).Digest;
    assert.equal(build(`docker://${registry}/bootproof/${name}@${digest}`), text, 'by digest');
  }
  const missing = bootproof('manifest', 'build', `docker://${registry}/bootproof/none:latest`, '--backend', 'ostree');
  assert.equal(missing.status, 2, missing.stderr);
  assert.match(missing.stderr, /\[[A-Z_]+\]/);
});

test('our loopback registry is one to skopeo too', async (t) => {
  const folder = scratch(t);
  const { serveRegistry } = await import('../../demo/registry.ts');
  const registry = await serveRegistry(join(folder, 'ours'), 0);
  t.after(() => registry.close());
  // skopeo must not block this process, which serves it.
  const child = spawn('skopeo', [
    '--insecure-policy',
    'copy',
    '-q',
    '--preserve-digests',
    '--src-tls-verify=false',
    '--dest-tls-verify=false',
    `oci:${join(vectors, '01-base/image')}:latest`,
    `docker://${registry.host}/demo/os:1`,
  ]);
  const [status] = await once(child, 'exit');
  assert.equal(status, 0);
  const answer = await fetch(`http://${registry.host}/v2/demo/os/manifests/1`);
  assert.equal(answer.status, 200);
});
