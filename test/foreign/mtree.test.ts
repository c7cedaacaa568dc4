/**
 * Our canonical text, judged by programs that are not ours: NetBSD mtree and gomtree over trees that umoci unpacked, and umoci's own
 * mtree of the same images. Needs root, as umoci needs it to unpack owners and capabilities.
 */
import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, chownSync, existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bootproof, ok, run, scratch, vectors } from './tools.ts';

// umoci follows a path through a symlink out of the tree's own names, and clamps `..`: its own ways, not the image's.
const UMOCI_OWN_WAYS = ['23-parent-symlink', '52-sparse-pax', '79-symlink-escape', '82-wh-bare', '86-v7-dir'];
// gomtree knows no device key and NetBSD's no way to hold devices apart.
const accepted = readdirSync(vectors)
  .filter((name) => existsSync(join(vectors, name, 'image')) && existsSync(join(vectors, name, 'oci.jsonl')))
  .filter((name) => !UMOCI_OWN_WAYS.includes(name));

test('there are images to judge', () => assert.ok(accepted.length > 80, String(accepted.length)));

/** Names that NetBSD mtree takes as globs even when they are escaped: it may not be asked about them. */
const hasGlob = (text: string) => /\\(?:052|077|133)/.test(text);

for (const name of accepted) {
  test(`${name}: mtree, gomtree and sha256sum agree with our text over what umoci unpacked`, (t) => {
    const folder = scratch(t);
    const image = join(vectors, name, 'image');
    const unpacked = run('umoci', ['unpack', '--image', `${image}:latest`, join(folder, 'bundle')]);
    if (unpacked.status !== 0) return t.skip(`this umoci refuses it: ${unpacked.stderr.slice(0, 200)}`);
    const rootfs = join(folder, 'bundle/rootfs');
    const file = join(folder, 'manifest.mtree');
    const built = bootproof('manifest', 'build', `oci:${image}:latest`, '--backend', 'oci', '--format', 'mtree', '-o', file);
    assert.equal(built.status, 0, built.stderr);
    const text = readFileSync(file, 'latin1');

    // The text speaks of /usr and /etc only; the rest of the rootfs is not its business.
    for (const entry of readdirSync(rootfs)) if (entry !== 'usr' && entry !== 'etc') rmSync(join(rootfs, entry), { recursive: true });
    const silent = (ran: ReturnType<typeof run>, what: string) =>
      assert.deepEqual({ status: ran.status, said: ran.stdout }, { status: 0, said: '' }, `${what}: ${ran.stderr}`);
    if (!hasGlob(text)) silent(run('mtree', ['-p', rootfs, '-f', file]), 'NetBSD mtree');
    silent(run('gomtree', ['--strict', '-p', rootfs, '-f', file]), 'gomtree');

    const digests = JSON.parse(ok(join(vectors, '../../../bootproof'), ['manifest', 'digest', `oci:${image}:latest`, '--backend', 'oci', '--json']));
    for (const tree of ['usr', 'etc']) {
      const sum = ok('sh', ['-c', `grep -aE '^\\./${tree}[ /]' "$1" | sha256sum`, 'sh', file]).slice(0, 64);
      assert.equal(digests.trees[tree].main.full, `sha256:${sum}`, tree);
    }
  });
}

const planted: readonly (readonly [string, (root: string) => void])[] = [
  ['a changed byte', (root) => appendFileSync(join(root, 'usr/bin/tool'), 'x')],
  ['a mode', (root) => chmodSync(join(root, 'usr/bin/tool'), 0o777)],
  ['an owner', (root) => chownSync(join(root, 'usr/bin/tool'), 1234, 0)],
  ['a removed file', (root) => rmSync(join(root, 'usr/bin/tool'))],
  ['an added file', (root) => writeFileSync(join(root, 'usr/bin/added'), '')],
  ['another type', (root) => (rmSync(join(root, 'usr/bin/tool')), symlinkSync('x', join(root, 'usr/bin/tool')))],
  ['a setuid bit', (root) => chmodSync(join(root, 'usr/bin/tool'), 0o4755)],
  ['another symlink target', (root) => (rmSync(join(root, 'usr/lib/liba.so')), symlinkSync('x', join(root, 'usr/lib/liba.so')))],
];
for (const [what, tamper] of planted) {
  test(`mtree and gomtree find ${what}, and so does our scan`, (t) => {
    const folder = scratch(t);
    const image = `oci:${join(vectors, '01-base/image')}:latest`;
    ok('umoci', ['unpack', '--image', `${join(vectors, '01-base/image')}:latest`, join(folder, 'bundle')]);
    const rootfs = join(folder, 'bundle/rootfs');
    for (const entry of readdirSync(rootfs)) if (entry !== 'usr' && entry !== 'etc') rmSync(join(rootfs, entry), { recursive: true });
    const file = join(folder, 'manifest.mtree');
    assert.equal(bootproof('manifest', 'build', image, '--backend', 'oci', '--format', 'mtree', '-o', file).status, 0);
    tamper(rootfs);
    const netbsd = run('mtree', ['-p', rootfs, '-f', file]);
    assert.ok(netbsd.status !== 0 || netbsd.stdout !== '', 'NetBSD mtree saw nothing');
    assert.notEqual(run('gomtree', ['--strict', '-p', rootfs, '-f', file]).status, 0, 'gomtree saw nothing');
    const scan = bootproof('agent', 'scan', '--root', rootfs, '--image', image, '--backend', 'oci', '--json');
    assert.equal(scan.status, 1, scan.stderr);
    assert.equal(JSON.parse(scan.stdout).drift.length, 1, scan.stdout);
  });
}
