/** What is judged by the file beneath an overlay: only where the kernel shows that it is the one that is served. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, linkSync, mkdirSync, openSync, renameSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Backing } from '#agent/backedfile.ts';
import { backingAt, verityLines } from '#agent/backing.ts';
import { openC, type C } from '#agent/clibrary.ts';
import { DigestCache } from '#agent/digestcache.ts';
import { scan } from '#agent/scan.ts';
import { verityDigest } from '#src/image/verity.ts';
import { printVerity } from '#src/manifest/verity.ts';
import { entriesOf, isRoot, manifestOf, sha256, temporary } from './roots.ts';

const HOUR = 3_600_000;
const NAMES = ['a', 'b', 'c', 'd'];
const contentOf = (name: string): string => `content of ${name}, `.repeat(500);

/**
 * A host as composefs makes one, on a disk of its own: objects, a deployment that links them, and an overlay that serves the objects under the image's
 * metadata. Undefined where that cannot be had.
 */
function composefsHost(t: TestContext) {
  const mounted: string[] = [];
  t.after(() => mounted.toReversed().forEach((path) => execFileSync('umount', [path])));
  const folder = temporary(t);
  const [disk, root] = [join(folder, 'disk'), join(folder, 'root')];
  const mount = (path: string, ...args: string[]) => {
    execFileSync('mount', [...args, path], { stdio: 'ignore' });
    mounted.push(path);
  };
  for (const path of [disk, root]) mkdirSync(path);
  try {
    writeFileSync(join(folder, 'image'), '');
    truncateSync(join(folder, 'image'), 16 * 2 ** 20);
    execFileSync('mkfs.ext4', ['-q', '-F', join(folder, 'image')], { stdio: 'ignore' });
    mount(disk, '-o', 'loop', join(folder, 'image'));
  } catch {
    return undefined; // no loop device, no mkfs, or no right to mount: the tests say that they were skipped
  }
  for (const name of ['objects/usr', 'objects/etc', 'deploy/usr', 'upper', 'work'])
    mkdirSync(join(disk, name), { recursive: true });
  const object = (name: string) => join(disk, 'objects/usr', name);
  for (const name of NAMES) {
    writeFileSync(object(name), contentOf(name), { mode: 0o600 });
    linkSync(object(name), join(disk, 'deploy/usr', name));
  }
  const overlay = `lowerdir=${disk}/objects,upperdir=${disk}/upper,workdir=${disk}/work,metacopy=on,redirect_dir=on`;
  const serve = () => mount(root, '-t', 'overlay', 'overlay', '-o', overlay);
  try {
    serve();
    // Which takes the metadata alone into the upper layer, as an image of metadata has them.
    execFileSync('chmod', ['0644', ...NAMES.map((name) => join(root, 'usr', name))]);
    execFileSync('sync', ['-f', disk]);
  } catch {
    return undefined; // no overlay, or none with metacopy
  }
  /** Another boot, as far as the overlay goes: what it knew of its layers is forgotten. */
  const again = () => (execFileSync('umount', [mounted.pop()!]), serve());
  return { root, object, deployment: join(disk, 'deploy'), again, cache: join(folder, 'digests') };
}

test('a file that composefs serves is known by the one beneath, as long as that is the one and has not changed', async (t) => {
  if (!isRoot) return t.skip('mounting wants root');
  const host = composefsHost(t);
  if (host === undefined) return t.skip('no loop device or overlay can be mounted here');
  const { root, object, deployment, again } = host;
  const expected = manifestOf(entriesOf(root));
  let minutes = 0;
  const look = async () => {
    const about = { file: host.cache, rereadMs: 24 * HOUR, bootId: 'b'.repeat(36), nowMs: Date.now() + HOUR };
    const cache = new DigestCache({ ...about, uptimeMs: minutes++ * 1000 });
    const found = await scan({ root, expected, cache, backing: backingAt(root, deployment), workers: 1 });
    assert.deepEqual(found.trees.usr.holes, []);
    return [found.stats.cached, found.stats.read, found.drift.map(({ path }) => path).join()];
  };
  assert.deepEqual(await look(), [0, 4, '']);
  assert.deepEqual(await look(), [4, 0, '']);

  // Into the object: times through / stay the image's, those beneath do not.
  const before = statSync(join(root, 'usr/a'), { bigint: true });
  writeFileSync(object('a'), contentOf('a').toUpperCase());
  const served = statSync(join(root, 'usr/a'), { bigint: true });
  assert.deepEqual([served.size, served.mtimeNs, served.ctimeNs], [before.size, before.mtimeNs, before.ctimeNs]);
  assert.deepEqual(await look(), [3, 1, '/usr/a']);

  // Another object in its place: the deployment still has the old one, and is not what is served.
  writeFileSync(`${object('b')}.new`, contentOf('b').toUpperCase(), { mode: 0o600 });
  renameSync(`${object('b')}.new`, object('b'));
  again();
  assert.deepEqual(await look(), [3, 1, '/usr/a,/usr/b']);
  assert.deepEqual(await look(), [3, 1, '/usr/a,/usr/b'], 'and never will be known by it');

  // More behind the end that is told.
  writeFileSync(object('c'), `${contentOf('c')}more`);
  assert.deepEqual(await look(), [2, 2, '/usr/a,/usr/b,/usr/c']);
});

test('places on the disk are the same for two names of one file, and for no others', async (t) => {
  if (!isRoot) return t.skip('mounting wants root');
  const host = composefsHost(t);
  if (host === undefined) return t.skip('no loop device or overlay can be mounted here');
  const c = await openC();
  const paths = [join(host.root, 'usr/a'), join(host.deployment, 'usr/a'), host.object('a'), host.object('b')];
  const fds = [...paths, '/proc/self/status'].map((path) => openSync(path, 'r'));
  try {
    const same = fds.map((one) => fds.map((other) => (c.isSamePlace(one, other) ? 1 : 0)).join(''));
    assert.deepEqual(same, ['11100', '11100', '11100', '00010', '00000']);
    assert.equal(c.verity(fds[0]!), undefined);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
});

/** A kernel that measures what its files are said to hold, and serves each from where it lies. */
function kernel(measures: ReadonlyMap<number, string>): C {
  const none = () => undefined;
  return {
    file: none,
    path: none,
    data: () => 0,
    hole: () => 0,
    verity: (fd) => measures.get(fd),
    isSamePlace: () => true,
    isResident: () => true,
    forget: none,
  };
}

test('what the kernel measures is a content of the image, or the file is read', () => {
  const contents = Array.from({ length: 200 }, (_, i) => Buffer.from(`content ${i}`));
  const text = [...printVerity(new Map(contents.map((bytes) => [sha256(bytes), verityDigest(bytes)])))].join('');
  const verity = verityLines([text], text.length);
  const data = { root: '', folder: '/deployment', dev: 1n, keepsTimes: true, verity };
  const measures = new Map(contents.map((bytes, fd) => [fd, verityDigest(bytes)]));
  const stranger = contents.length;
  measures.set(stranger, verityDigest(Buffer.from('no content of the image')));
  const backing = new Backing(data, kernel(measures), () => 0.9);
  const stat = statSync(import.meta.filename, { bigint: true });
  for (const [fd, bytes] of contents.entries()) assert.equal(backing.measured({ fd, stat }), sha256(bytes));
  for (const fd of [stranger, stranger + 1]) assert.equal(backing.measured({ fd, stat }), undefined);
  const empty = Object.assign(Object.create(stat) as typeof stat, { size: 0n });
  assert.equal(backing.measured({ fd: 0, stat: empty }), undefined, 'an empty file has no digest');
  // Without `verity=require` something else may be served at any time.
  assert.equal(new Backing({ ...data, verity: null }, kernel(measures)).measured({ fd: 0, stat }), undefined);
  const sampled = new Backing(data, kernel(measures), () => 0);
  assert.equal(sampled.measured({ fd: 0, stat }), undefined, 'a sample is read');
});

test('only what lies in the tree that is served has a file beneath', () => {
  const data = { root: '/mnt', folder: '/deployment', dev: 1n, keepsTimes: true, verity: null };
  const backing = new Backing(data, kernel(new Map()));
  assert.equal(backing.pathOf('/mnt/usr/bin/sh'), '/deployment/usr/bin/sh');
  for (const path of ['/mnt/etc/passwd', '/usr/bin/sh', '/proc/self/fd/7/deep', '/mnt/usr'])
    assert.equal(backing.pathOf(path), undefined);
});
