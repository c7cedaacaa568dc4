/** composefs-dump: what we write, held against what composefs-rs wrote of the same images. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dumpLines } from '#src/manifest/dump.ts';
import type { Entry } from '#src/manifest/entry.ts';
import { deploy } from '#src/image/backend.ts';
import { readImage } from '#src/source/build.ts';
import { layoutSource } from '#src/source/layout.ts';
import { folder } from '#server/sources.ts';

const vectors = join(import.meta.dirname, '../../vectors/source');

for (const name of ['28-xattrs', '38-odd-names'])
  test(`${name}: path, size, type, mode, links, owner, device, target and capability are as composefs-rs has them`, async () => {
    const image = await readImage(layoutSource(folder(join(vectors, name, 'image')), name), undefined);
    const ours = [...dumpLines(deploy(image.layers, image.facts, 'composefs/1').entries)];
    const theirs = readFileSync(join(vectors, name, 'composefs.dump'), 'latin1')
      .split('\n')
      .filter(Boolean);
    /** What both can know; links of files, times, contents and fs-verity are theirs alone. */
    const known = (line: string) => {
      const [path = '', size, mode = '', links, uid, gid, device, , payload, , , ...attributes] = line
        .trimEnd()
        .split(' ');
      const isDir = mode.startsWith('4');
      return {
        path,
        // `/` has other children with them than /usr and /etc.
        facts: [
          isDir ? 0 : size,
          mode,
          isDir && path !== '/' ? links : '',
          uid,
          gid,
          device,
          mode.startsWith('12') ? payload : '',
        ],
        attributes: attributes.filter((a) => a.startsWith('security.')),
      };
    };
    // Where they say that a path is another name of a file, we say what the file is.
    const all = new Map(theirs.map((line) => [line.split(' ')[0], line]));
    const resolved = theirs.map((line) => {
      const [path, , mode, , , , , , target] = line.split(' ');
      return mode?.startsWith('@') ? [path, ...all.get(target)!.split(' ').slice(1)].join(' ') : line;
    });
    const expected = resolved.map(known).filter(({ path }) => /^\/(?:$|usr(?:\/|$)|etc(?:\/|$))/.test(path));
    const byPath = (a: { path: string }, b: { path: string }) => (a.path < b.path ? -1 : 1);
    assert.deepEqual(ours.map(known).sort(byPath), expected.sort(byPath));
  });

const lines = (...entries: Entry[]) => [...dumpLines(entries)].slice(1);

test('each kind of path has its line', () => {
  const sha256 = 'ab'.repeat(32);
  const base = { mode: 0o4755, uid: 1, gid: 2 };
  assert.deepEqual(
    lines(
      { path: '/usr', type: 'dir', mode: 0o755, uid: 0, gid: 0 },
      { path: '/usr/-', type: 'file', ...base, size: 3, sha256 },
      { path: '/usr/a b\\\n=\xff', type: 'symlink', mode: 0, uid: 0, gid: 0, link: '-' },
      { path: '/usr/c', type: 'char', ...base, device: '5:1' },
      { path: '/usr/d', type: 'block', ...base, device: '4096:257' },
      { path: '/usr/f', type: 'fifo', ...base },
      { path: '/usr/s', type: 'socket', ...base },
      { path: '/usr/x', type: 'file', ...base, size: 0, sha256, capability: 'AD1c' },
    ),
    [
      '/usr 0 40755 2 0 0 0 0.0 - - -\n',
      `/usr/- 3 104755 1 1 2 0 0.0 - - - user.bootproof.sha256=${sha256}\n`,
      '/usr/a\\x20b\\\\\\n=\\xff 1 120777 1 0 0 0 0.0 \\x2d - -\n',
      '/usr/c 0 24755 1 1 2 1281 0.0 - - -\n',
      '/usr/d 0 64755 1 1 2 17592187092993 0.0 - - -\n',
      '/usr/f 0 14755 1 1 2 0 0.0 - - -\n',
      '/usr/s 0 144755 1 1 2 0 0.0 - - -\n',
      `/usr/x 0 104755 1 1 2 0 0.0 - - - security.capability=\\x00\\x3d\\\\ user.bootproof.sha256=${sha256}\n`,
    ],
  );
});

test('the root takes mode and owner of /usr', () => {
  const [root] = dumpLines([{ path: '/usr', type: 'dir', mode: 0o711, uid: 3, gid: 4 }]);
  assert.equal(root, '/ 0 40711 3 3 4 0 0.0 - - -\n');
});
