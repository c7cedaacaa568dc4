/** AIDE as a second opinion (init, change, check): the same paths, the same kinds of change, the same attributes, for changes drawn from a seed. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CAP_NET_RAW } from '../../demo/pack.ts';
import { setCapability } from '../../demo/capability.ts';
import { bootproof, ok, run, scratch, vectors } from './tools.ts';

const IMAGES = ['01-base', '17-hardlinks', '27-suid', '28-xattrs', '29-etc', '38-odd-names'];
const SEED = Number(process.env['SEED'] ?? 20261124);

/** mulberry32: small, and the same everywhere. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

function files(root: string, folder = ''): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? [path, ...files(root, path)] : [path];
    })
    .filter((path) => /^[ -~]+$/.test(path)); // AIDE's JSON is not for other names
}

const ACTS: readonly ((path: string, pick: (below: number) => number) => void)[] = [
  (path) => lstatSync(path).isFile() && appendFileSync(path, 'more'),
  (path) => {
    if (!lstatSync(path).isFile() || lstatSync(path).size === 0) return;
    const bytes = readFileSync(path); // the same size, other content
    bytes[0] = bytes[0]! ^ 1;
    writeFileSync(path, bytes);
  },
  (path, pick) => lstatSync(path).isSymbolicLink() || chmodSync(path, pick(0o7777)),
  (path, pick) => lstatSync(path).isSymbolicLink() || chownSync(path, pick(3000), pick(3000)),
  (path) => lstatSync(path).isFile() && setCapability(path, CAP_NET_RAW),
  (path) => rmSync(path, { recursive: true }),
  (path) => (rmSync(path, { recursive: true }), symlinkSync('elsewhere', path)),
  (path) => (rmSync(path, { recursive: true }), mkdirSync(path)),
  (path) => lstatSync(path).isDirectory() && writeFileSync(join(path, 'new file'), 'new'),
  (path) => renameSync(path, `${path}.moved`),
];

// What AIDE calls our attributes. A mode's kin: AIDE's perm holds the file type, which it tells apart.
const NAMES = new Map([
  ['perm', 'mode'],
  ['uid', 'uid'],
  ['gid', 'gid'],
  ['size', 'size'],
  ['sha256', 'sha256'],
  ['linkname', 'link'],
  ['capabilities', 'capability'],
]);

for (const [index, name] of IMAGES.entries()) {
  test(`${name}: AIDE and our scan see the same changes (SEED=${SEED})`, (t) => {
    const folder = scratch(t);
    const layout = join(vectors, name, 'image');
    ok('umoci', ['unpack', '--image', `${layout}:latest`, join(folder, 'bundle')]);
    const root = join(folder, 'bundle/rootfs');
    const config = join(folder, 'aide.conf');
    const db = `file:${folder}/db`;
    writeFileSync(
      config,
      `database_in=${db}\ndatabase_out=${db}\ndatabase_new=${db}\ngzip_dbout=no\nreport_format=json\nreport_level=changed_attributes\nroot_prefix=${root}\n` +
        '/usr d ftype+p+u+g\n/etc d ftype+p+u+g\n/usr ftype+p+u+g+s+l+sha256+caps\n/etc ftype+p+u+g+s+l+sha256+caps\n',
    );
    ok('aide', ['-c', config, '--init']);

    const pick = random(SEED + index);
    const done = new Set<string>();
    for (let i = 0; i < 25; i++) {
      const all = files(root).filter((path) => /^(?:usr|etc)\//.test(path));
      const path = all[pick(all.length)]!;
      // One act a place: AIDE does not look below a folder that became something else, and neither should this test.
      if ([...done].some((other) => path.startsWith(`${other}/`) || other.startsWith(`${path}/`) || other === path))
        continue;
      done.add(path);
      ACTS[pick(ACTS.length)]!(join(root, path), pick);
    }

    const checked = run('aide', ['-c', config, '--check']);
    assert.ok(checked.status < 8, checked.stderr);
    const aide = JSON.parse(checked.stdout);
    const scan = bootproof(
      'agent',
      'scan',
      '--root',
      root,
      '--image',
      `oci:${layout}:latest`,
      '--backend',
      'oci',
      '--json',
    );
    assert.equal(scan.status, checked.status === 0 ? 0 : 1, scan.stderr);
    type Line = { path?: string; change: string; attributes: string[] };
    const ours: Line[] = JSON.parse(scan.stdout).drift.filter((line: Line) => /^[ -~]+$/.test(line.path ?? 'é'));
    const paths = (change: string) =>
      ours
        .filter((line) => line.change === change)
        .map((line) => line.path!)
        .sort();
    // Secrets have no digest and are told apart; AIDE knows no such thing.
    const secret = new Set((JSON.parse(scan.stdout).secrets as { path: string }[]).map(({ path }) => path));
    const known = (of: object | undefined) =>
      Object.keys(of ?? {})
        .filter((path) => !secret.has(path))
        .sort();
    assert.deepEqual(
      paths('added').filter((path) => !secret.has(path)),
      known(aide.added),
    );
    assert.deepEqual(
      paths('removed').filter((path) => !secret.has(path)),
      known(aide.removed),
    );
    // AIDE tells apart an attribute that changed and one that came or went (`"+caps"`, `"-s-sha256"`); for us both are changes.
    const came = new Map(Object.entries((aide.different_attributes ?? {}) as Record<string, string>));
    const changed = new Set([...known(aide.changed), ...known(aide.different_attributes)]);
    assert.deepEqual(
      paths('modified').filter((path) => !secret.has(path)),
      [...changed].sort(),
    );
    for (const line of ours.filter((line) => line.change === 'modified' && !secret.has(line.path!))) {
      if (line.attributes.includes('type')) continue;
      const theirs = new Set(Object.keys(aide.details[line.path!] ?? {}).map((key) => NAMES.get(key) ?? key));
      if (came.get(line.path!)?.includes('caps') === true) theirs.add('capability');
      assert.deepEqual([...theirs].sort(), [...line.attributes].sort(), line.path!);
    }
  });
}
