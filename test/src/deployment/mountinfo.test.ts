import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { throwsCode } from '#test/throws.ts';
import { DeploymentError } from '#src/deployment/error.ts';
import { lowerDirs, optionValues, parseMountinfo, visibleMounts } from '#src/deployment/mountinfo.ts';

const one = (line: string) => parseMountinfo(`${line}\n`)[0]!;

test('reads every field, with any number of tags', () => {
  const mount = one('36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue');
  assert.deepEqual(mount, {
    id: 36,
    parent: 35,
    device: '98:0',
    root: '/mnt1',
    point: '/mnt2',
    fstype: 'ext3',
    source: '/dev/root',
    writable: true,
    options: [
      ['rw', ''],
      ['errors', 'continue'],
    ],
  });
  assert.equal(one('36 35 98:0 / / ro - ext3 /dev/root rw').writable, false);
  assert.equal(one('36 35 98:0 / / rw - ext3 /dev/root ro').writable, false);
});

test('undoes octal escapes after splitting, so that no name can make a field', () => {
  const mount = one(
    '1 0 0:1 /a\\040-\\040b /usr/x\\011\\012\\134040 rw - overlay over\\040lay rw,lowerdir=/a\\054b:/c',
  );
  assert.equal(mount.root, '/a - b');
  assert.equal(mount.point, '/usr/x\t\n\\040');
  assert.equal(mount.source, 'over lay');
  assert.deepEqual(lowerDirs(mount), ['/a,b', '/c']);
});

test('reads a mount without a source, and one whose root is no path', () => {
  assert.equal(one('1 0 0:1 / /mnt rw - fuse  rw').source, '');
  assert.equal(one('1 0 0:4 net:[4026531840] /run/netns/x rw - nsfs nsfs rw').root, 'net:[4026531840]');
});

test('options that are given several times keep their order', () => {
  const mount = one('1 0 0:1 / / ro - overlay composefs ro,lowerdir+=/a,lowerdir+=/b,datadir+=/c');
  assert.deepEqual(lowerDirs(mount), ['/a', '/b']);
  assert.deepEqual(optionValues(mount, 'datadir+'), ['/c']);
});

test("reads this machine's own mounts", { skip: process.platform !== 'linux' }, () => {
  const text = readFileSync('/proc/self/mountinfo', 'latin1');
  assert.equal(parseMountinfo(text).length, text.split('\n').length - 1);
});

const refused = [
  ['no separator', '36 35 98:0 / / rw ext3 /dev/root rw'],
  ['too few fields', '36 35 98:0 / / - ext3 /dev/root rw'],
  ['an id that is none', 'x 35 98:0 / / rw - ext3 /dev/root rw'],
  ['a negative parent', '36 -1 98:0 / / rw - ext3 /dev/root rw'],
  ['a device that is none', '36 35 98 / / rw - ext3 /dev/root rw'],
  ['a mount point that is no path', '36 35 98:0 / mnt rw - ext3 /dev/root rw'],
  ['more fields after the options', '36 35 98:0 / / rw - ext3 /dev/root rw more'],
  ['nothing after the separator', '36 35 98:0 / / rw - '],
] as const;
for (const [name, line] of refused)
  test(`refuses ${name}`, () => throwsCode(() => parseMountinfo(line), DeploymentError, 'MOUNTINFO_SYNTAX'));
test('refuses more than 32 MiB', () =>
  throwsCode(() => parseMountinfo('\n'.repeat(2 ** 25 + 1)), DeploymentError, 'HOST_TEXT_TOO_LARGE'));

// Which of the ids can be seen: [id, parent, mount point]…
const seen: readonly [string, readonly [number, number, string][], number[]][] = [
  [
    'a plain tree',
    [
      [1, 0, '/'],
      [2, 1, '/usr'],
      [3, 2, '/usr/bin/x'],
    ],
    [1, 2, 3],
  ],
  [
    'the last of two at one place',
    [
      [1, 0, '/'],
      [2, 1, '/usr'],
      [3, 2, '/usr'],
    ],
    [1, 3],
  ],
  [
    'the last of two with one parent, as propagation makes them',
    [
      [1, 0, '/'],
      [2, 1, '/usr'],
      [3, 1, '/usr'],
    ],
    [1, 3],
  ],
  [
    'not what lies below a later mount',
    [
      [1, 0, '/'],
      [2, 1, '/usr/bin/x'],
      [3, 1, '/usr'],
    ],
    [1, 3],
  ],
  [
    'what was mounted below it afterwards',
    [
      [1, 0, '/'],
      [2, 1, '/usr/bin/x'],
      [3, 1, '/usr'],
      [4, 3, '/usr/bin/x'],
    ],
    [1, 3, 4],
  ],
  [
    'not a child of what is covered',
    [
      [1, 0, '/'],
      [2, 1, '/usr/a'],
      [3, 2, '/usr/a/b'],
      [4, 1, '/usr'],
    ],
    [1, 4],
  ],
  [
    'neighbours whose names begin alike',
    [
      [1, 0, '/'],
      [2, 1, '/usr'],
      [3, 1, '/usr-local'],
      [4, 1, '/usr.d'],
    ],
    [1, 2, 3, 4],
  ],
  [
    'a root over the root',
    [
      [1, 0, '/'],
      [2, 1, '/usr'],
      [3, 1, '/'],
      [4, 3, '/etc'],
    ],
    [3, 4],
  ],
  [
    'the first root, its own parent',
    [
      [1, 1, '/'],
      [2, 1, '/'],
      [3, 2, '/etc'],
    ],
    [2, 3],
  ],
  [
    'children of a parent outside the namespace',
    [
      [5, 4, '/usr'],
      [6, 4, '/etc'],
    ],
    [5, 6],
  ],
  [
    'no mounts whose parents go round',
    [
      [1, 0, '/'],
      [2, 3, '/a'],
      [3, 2, '/b'],
    ],
    [1],
  ],
  [
    'a stack of three',
    [
      [1, 0, '/'],
      [2, 1, '/etc'],
      [3, 2, '/etc'],
      [4, 3, '/etc'],
      [5, 2, '/etc/x'],
    ],
    [1, 4],
  ],
];
for (const [name, mounts, expected] of seen)
  test(`sees ${name}`, () => {
    const text = mounts.map(([id, parent, point]) => `${id} ${parent} 0:1 / ${point} rw - tmpfs t rw\n`).join('');
    const ids = visibleMounts(parseMountinfo(text)).map(({ id }) => id);
    assert.deepEqual(ids, expected);
  });
