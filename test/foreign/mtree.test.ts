/**
 * Our canonical text, judged by programs that are not ours: NetBSD mtree and gomtree over trees that umoci unpacked, and umoci's own
 * mtree of the same images. Needs root, as umoci needs it to unpack owners and capabilities.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
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

/** gomtree compares modes and link targets as text, in its own spelling (docs/manifest.md 7): 02755, 0, and two backslashes for one. */
function gomtree(rootfs: string, text: string): ReturnType<typeof run> {
  const spelt = text
    .replace(/ mode=([1-7][0-7]{3}) /g, ' mode=0$1 ')
    .replace(/ mode=0000 /g, ' mode=0 ')
    .replaceAll('\\134', '\\\\');
  const file = `${rootfs}.gomtree`;
  writeFileSync(file, spelt, 'latin1');
  return run('gomtree', ['-p', rootfs, '-f', file]);
}

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
    const built = bootproof(
      'manifest',
      'build',
      `oci:${image}:latest`,
      '--backend',
      'oci',
      '--format',
      'mtree',
      '-o',
      file,
    );
    assert.equal(built.status, 0, built.stderr);
    const text = readFileSync(file, 'latin1');

    // The text speaks of /usr and /etc only; the rest of the rootfs is not its business.
    for (const entry of readdirSync(rootfs))
      if (entry !== 'usr' && entry !== 'etc') rmSync(join(rootfs, entry), { recursive: true });
    const silent = (ran: ReturnType<typeof run>, what: string) =>
      assert.deepEqual({ status: ran.status, said: ran.stdout }, { status: 0, said: '' }, `${what}: ${ran.stderr}`);
    if (!hasGlob(text)) silent(run('mtree', ['-p', rootfs, '-f', file]), 'NetBSD mtree');
    silent(gomtree(rootfs, text), 'gomtree');

    assert.deepEqual(ourFacts(text), umociFacts(join(folder, 'bundle')), "umoci's own mtree");

    const digests = JSON.parse(
      ok(join(vectors, '../../../bootproof'), [
        'manifest',
        'digest',
        `oci:${image}:latest`,
        '--backend',
        'oci',
        '--json',
      ]),
    );
    for (const tree of ['usr', 'etc']) {
      const sum = ok('sh', ['-c', `grep -aE '^\\./${tree}[ /]' "$1" | sha256sum`, 'sh', file]).slice(0, 64);
      assert.equal(digests.trees[tree].main.full, `sha256:${sum}`, tree);
    }
  });
}

/** `path key=value …` of each path below /usr and /etc, for a comparison line by line. */
function ourFacts(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => /^\.\/(?:usr|etc)[ /]/.test(line))
    .map((line) => line.slice(2))
    .map((line) => factsLine(line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)))
    .sort();
}

/** The mtree that umoci wrote when it unpacked: the classic form, with /set and one folder at a time. */
function umociFacts(bundle: string): string[] {
  const file = readdirSync(bundle).find((name) => /^sha256_.*\.mtree$/.test(name))!;
  const defaults = new Map<string, string>();
  const out: string[] = [];
  let folder: string[] = [];
  for (const line of readFileSync(join(bundle, file), 'latin1')
    .split('\n')
    .map((text) => text.trim())) {
    const [name = '', ...keys] = line.split(' ');
    if (name === '' || name.startsWith('#')) continue;
    if (name === '/set') for (const key of keys) defaults.set(...(key.split(/=(.*)/s).slice(0, 2) as [string, string]));
    else if (name === '..') folder = folder.slice(0, -1);
    else {
      const all = new Map([...defaults, ...keys.map((key) => key.split(/=(.*)/s).slice(0, 2) as [string, string])]);
      const path = [...folder, name].slice(1).join('/');
      if (all.get('type') === 'dir') folder = [...folder, name];
      if (/^(?:usr|etc)(?:\/|$)/.test(path))
        out.push(factsLine(path, [...all].map(([key, value]) => `${key}=${value}`).join(' ')));
    }
  }
  return out.sort();
}

/** One spelling for both: sizes of folders and links, modes of links, times and link counts dropped. */
function factsLine(path: string, keys: string): string {
  const map = new Map(keys.split(' ').map((key) => key.split(/=(.*)/s).slice(0, 2) as [string, string]));
  const kept = ['type', 'uid', 'gid', 'sha256digest', 'link'];
  if (map.get('type') === 'file') kept.push('size');
  const mode = map.get('type') === 'link' ? '' : Number.parseInt(map.get('mode') ?? '', 8).toString(8);
  const plain = (text: string) =>
    text
      .replace(/\\([0-7]{3})/g, (_, o: string) => String.fromCharCode(Number.parseInt(o, 8)))
      .replaceAll('\\\\', '\\')
      .replaceAll('\\s', ' ')
      .replaceAll('\\#', '#');
  return JSON.stringify([plain(path), mode, ...kept.map((key) => plain(map.get(key) ?? ''))]);
}

const planted: readonly (readonly [string, (root: string) => void])[] = [
  ['a changed byte', (root) => appendFileSync(join(root, 'usr/bin/tool'), 'x')],
  ['a mode', (root) => chmodSync(join(root, 'usr/bin/tool'), 0o777)],
  ['an owner', (root) => chownSync(join(root, 'usr/bin/tool'), 1234, 0)],
  ['a removed file', (root) => rmSync(join(root, 'usr/bin/tool'))],
  ['an added file', (root) => writeFileSync(join(root, 'usr/bin/added'), '')],
  ['another type', (root) => (rmSync(join(root, 'usr/bin/tool')), symlinkSync('x', join(root, 'usr/bin/tool')))],
  ['a setuid bit', (root) => chmodSync(join(root, 'usr/bin/tool'), 0o4755)],
  [
    'another symlink target',
    (root) => (rmSync(join(root, 'usr/lib/liba.so')), symlinkSync('x', join(root, 'usr/lib/liba.so'))),
  ],
];
for (const [what, tamper] of planted) {
  test(`mtree and gomtree find ${what}, and so does our scan`, (t) => {
    const folder = scratch(t);
    const image = `oci:${join(vectors, '01-base/image')}:latest`;
    ok('umoci', ['unpack', '--image', `${join(vectors, '01-base/image')}:latest`, join(folder, 'bundle')]);
    const rootfs = join(folder, 'bundle/rootfs');
    for (const entry of readdirSync(rootfs))
      if (entry !== 'usr' && entry !== 'etc') rmSync(join(rootfs, entry), { recursive: true });
    const file = join(folder, 'manifest.mtree');
    assert.equal(bootproof('manifest', 'build', image, '--backend', 'oci', '--format', 'mtree', '-o', file).status, 0);
    tamper(rootfs);
    const netbsd = run('mtree', ['-p', rootfs, '-f', file]);
    assert.ok(netbsd.status !== 0 || netbsd.stdout !== '', 'NetBSD mtree saw nothing');
    const go = gomtree(rootfs, readFileSync(file, 'latin1'));
    assert.ok(go.status !== 0 || go.stdout !== '', 'gomtree saw nothing');
    const scan = bootproof('agent', 'scan', '--root', rootfs, '--image', image, '--backend', 'oci', '--json');
    assert.equal(scan.status, 1, scan.stderr);
    assert.equal(JSON.parse(scan.stdout).drift.length, 1, scan.stdout);
  });
}
