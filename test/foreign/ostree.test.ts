/** A real ostree deployment: commit, deploy, tamper, upgrade; the scan sees exactly the tampering. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { observe } from '../../agent/observe.ts';
import { bootproof, ok, run, vectors } from './tools.ts';

const LAYOUT = join(vectors, '01-base/image');

type Host = { readonly folder: string; readonly sysroot: string; readonly digest: string };

/** The image as a commit in a repository, with the digest that bootc's import would write into it. */
function host(t: TestContext): Host {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-foreign-'));
  const sysroot = join(folder, 'sysroot');
  t.after(() => {
    run('chattr', ['-R', '-f', '-i', sysroot]); // ostree makes the folders of deployments immutable
    rmSync(folder, { recursive: true, force: true });
  });
  ok('umoci', ['unpack', '--image', `${LAYOUT}:latest`, join(folder, 'bundle')]);
  const tree = join(folder, 'bundle/rootfs');
  rmSync(join(tree, 'sysroot/ostree'), { recursive: true, force: true });
  renameSync(join(tree, 'etc'), join(tree, 'usr/etc'));
  mkdirSync(sysroot);
  ok('ostree', ['admin', 'init-fs', '--modern', sysroot]);
  ok('ostree', ['admin', 'os-init', `--sysroot=${sysroot}`, 'edge']);
  ok('ostree', [`--repo=${sysroot}/ostree/repo`, 'config', 'set', 'sysroot.bootloader', 'none']);
  const [manifest] = (
    JSON.parse(readFileSync(join(LAYOUT, 'index.json'), 'utf8')) as { manifests: { digest: string }[] }
  ).manifests;
  return { folder, sysroot, digest: manifest!.digest };
}

/** Commits the tree as it is and deploys it; the folder of the new deployment. */
function deploy({ folder, sysroot, digest }: Host): string {
  const commit = ok('ostree', [
    `--repo=${sysroot}/ostree/repo`,
    'commit',
    '-b',
    'os/edge',
    `--tree=dir=${join(folder, 'bundle/rootfs')}`,
    `--add-metadata-string=ostree.manifest-digest=${digest}`,
  ]).trim();
  ok('ostree', ['admin', 'deploy', `--sysroot=${sysroot}`, '--os=edge', 'os/edge']);
  const deployments = join(sysroot, 'ostree/deploy/edge/deploy');
  const name = readdirSync(deployments).find((entry) => entry.startsWith(commit) && !entry.endsWith('.origin'));
  assert.ok(name, `no deployment of ${commit}`);
  writeFileSync(
    join(deployments, `${name}.origin`),
    '[origin]\ncontainer-image-reference=ostree-unverified-registry:registry.example.test/os/edge:prod\n',
  );
  return join(deployments, name);
}

type Line = { readonly path: string; readonly change: string; readonly attributes: readonly string[] };
function scan(deployment: string): { readonly status: number; readonly lines: string[]; readonly secrets: string[] } {
  const ran = bootproof(
    'agent',
    'scan',
    '--root',
    deployment,
    '--image',
    `oci:${LAYOUT}:latest`,
    '--backend',
    'ostree',
    '--json',
  );
  assert.ok([0, 1].includes(ran.status), ran.stderr);
  const told = JSON.parse(ran.stdout) as {
    complete: boolean;
    drift: Line[];
    secrets: { path: string; state: string }[];
  };
  assert.equal(told.complete, true);
  return {
    status: ran.status,
    lines: told.drift.map(({ path, change, attributes }) => [path, change, ...attributes].join(' ')),
    secrets: told.secrets.filter(({ state }) => state !== 'same').map(({ path, state }) => `${path} ${state}`),
  };
}

test('a fresh deployment is its image, and tells which', async (t) => {
  const made = host(t);
  const deployment = deploy(made);
  assert.deepEqual(scan(deployment), { status: 0, lines: [], secrets: [] });
  const { state, mounts } = await observe({ root: deployment });
  assert.equal(state.backend, 'ostree');
  assert.equal(state.via, 'origin');
  assert.equal(state.booted?.image?.digest, made.digest);
  assert.equal(state.booted?.image?.reference, 'registry.example.test/os/edge:prod');
  assert.equal(state.booted?.stateroot, 'edge');
  assert.deepEqual([mounts, state.contradictions], [[], []]);
  // The physical root, not booted, with its one deployment.
  const whole = await observe({ root: made.sysroot });
  assert.deepEqual(whole.state.booted, state.booted);
});

test('the scan sees exactly the tampering', (t) => {
  const made = host(t);
  const deployment = deploy(made);
  const at = (path: string) => join(deployment, path);
  appendFileSync(at('usr/bin/tool'), 'x'); // in place: the object in the repository has changed with it
  writeFileSync(at('usr/bin/backdoor'), '#!/bin/sh\n', { mode: 0o755 });
  chownSync(at('usr/bin/backdoor'), 0, 0);
  chmodSync(at('usr/bin/backdoor'), 0o4755);
  rmSync(at('usr/lib/liba.so.1'));
  chmodSync(at('usr/bin/suidtool'), 0o755);
  chownSync(at('usr/bin/sgid'), 7, 5);
  ok('setfattr', ['-x', 'security.capability', at('usr/bin/ping')]);
  writeFileSync(at('etc/os.conf'), 'changed\n');
  mkdirSync(at('etc/new.d'));
  writeFileSync(at('etc/new.d/local.conf'), 'local\n');
  writeFileSync(at('etc/shadow'), 'root:x:::::::\n');
  const seen = scan(deployment);
  assert.equal(seen.status, 1);
  assert.deepEqual(seen.lines.sort(), [
    '/etc/new.d added',
    '/etc/new.d/local.conf added',
    '/etc/os.conf modified size sha256',
    '/usr/bin/backdoor added',
    '/usr/bin/ping modified capability',
    '/usr/bin/sgid modified mode uid', // the kernel drops the bit with the owner
    '/usr/bin/suidtool modified mode',
    '/usr/bin/tool modified size sha256',
    '/usr/lib/liba.so.1 removed',
  ]);
  assert.deepEqual(seen.secrets, ['/etc/shadow differs']);
  assert.notEqual(
    run('ostree', ['fsck', `--repo=${made.sysroot}/ostree/repo`]).status,
    0,
    'ostree sees the changed object too',
  );
});

test('an upgrade carries what was changed in /etc, and nothing else', async (t) => {
  const made = host(t);
  const first = deploy(made);
  writeFileSync(join(first, 'etc/os.conf'), 'changed\n');
  writeFileSync(join(first, 'etc/local.conf'), 'local\n');
  writeFileSync(join(first, 'usr/bin/backdoor'), 'gone with the deployment\n');
  // The same image once more, as another commit: only its time differs.
  const second = deploy(made);
  assert.notEqual(second, first);
  assert.deepEqual(scan(second).lines, ['/etc/local.conf added', '/etc/os.conf modified size sha256']);
  const { state } = await observe({ root: made.sysroot });
  assert.match(state.contradictions.join('\n'), /2 deployments lie below the root; none is marked as booted/);
});
