import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMountinfo } from '#src/deployment/mountinfo.ts';
import { parseDeploymentPath, viewMounts, type MountView } from '#src/deployment/overlay.ts';
import { sections } from './vectors.ts';

const view = (text: string, root = '/'): MountView => viewMounts(parseMountinfo(text), root);
const short = ({ over }: MountView) =>
  over.map(({ path, kind, masks, writable }) => `${path} ${kind}${masks ? ' masks' : ''}${writable ? ' rw' : ''}`);

const booted = sections('mountinfo-booted-ostree.txt');
const samples = sections('mountinfo-samples.txt');
const section = (of: Map<string, string>, name: string): string => {
  const text = of.get(name);
  assert.ok(text, `no section ${name}`);
  return text;
};

const real = [
  ['composefs enabled=yes, normal boot', false, []],
  [
    'mount --bind /var/evil /usr/bin/gawk: one file replaced; note that the root field is the path on the disk, not /var/evil',
    false,
    ['/usr/bin/gawk bind masks rw'],
  ],
  ['systemd-sysext merge, extension x with /usr only', false, ['/usr sysext masks']],
  ['ostree admin unlock (development), a second deployment being staged', false, ['/usr usr-overlay masks rw']],
  ['ostree admin unlock --hotfix, same boot', false, ['/usr hotfix masks rw']],
  ['composefs enabled=verity, objects and .ostree.cfs with fs-verity, normal boot: all lines', true, []],
] as const;
for (const [name, verity, over] of real)
  test(`a booted machine: ${name.split(':')[0]}`, () => {
    const seen = view(section(booted, name));
    assert.equal(seen.root.backend, 'ostree');
    assert.equal(seen.root.verity, verity);
    assert.equal(seen.root.transient, false);
    assert.match(seen.etc!.checksum, /^[0-9a-f]{64}$/);
    assert.equal(seen.etc!.stateroot, 'bp');
    assert.deepEqual(short(seen), over);
  });

test('every section of the booted machine is in the table', () => {
  assert.deepEqual(
    [...booted.keys()],
    real.map(([name]) => name),
  );
});

const HEX = '22'.repeat(64);
const OSTREE = section(samples, 'ostree+composefs, normal');
const LEGACY = section(samples, 'legacy ostree, no composefs');
const COMPOSEFS = section(samples, 'composefs backend, normal');

test('ostree with composefs: the mount of / tells the backend, that of /etc the deployment', () => {
  const seen = view(OSTREE);
  assert.deepEqual(seen.root, {
    backend: 'ostree',
    checksum: null,
    serial: null,
    stateroot: null,
    verity: false,
    transient: false,
  });
  assert.equal(seen.etc?.checksum, '11'.repeat(32));
  assert.deepEqual(short(seen), []);
});
test('ostree without composefs: / is the deployment, and its read-only /usr is expected', () => {
  const seen = view(LEGACY);
  assert.equal(seen.root.checksum, '11'.repeat(32));
  assert.equal(seen.root.serial, 0);
  assert.equal(seen.root.stateroot, 'default');
  assert.equal(seen.root.verity, false);
  assert.deepEqual(short(seen), []);
});
test('there a /usr that was made writable is told, and hides nothing', () => {
  assert.deepEqual(short(view(LEGACY.replace('/usr ro', '/usr rw'))), ['/usr bind rw']);
});
test("another deployment's /usr hides the booted one's", () => {
  assert.deepEqual(short(view(LEGACY.replace('.0/usr', '.1/usr'))), ['/usr bind masks']);
});
test('the composefs backend: the source of / is its digest, /etc is that of the same deployment', () => {
  const seen = view(COMPOSEFS);
  assert.equal(seen.root.backend, 'composefs');
  assert.equal(seen.root.checksum, HEX);
  assert.equal(seen.root.verity, true);
  assert.equal(seen.etc?.checksum, HEX);
  assert.deepEqual(short(seen), []);
});
test("the composefs backend with another deployment's /etc", () => {
  assert.deepEqual(short(view(COMPOSEFS.replace(`/${HEX}/etc`, `/${'33'.repeat(64)}/etc`))), ['/etc bind masks rw']);
});
test('the composefs backend with a transient root: what verity demands cannot be told', () => {
  const { root } = view(section(samples, 'composefs backend, transient root'));
  assert.deepEqual([root.backend, root.checksum, root.verity, root.transient], ['composefs', HEX, null, true]);
});
test('ostree with a transient root', () => {
  const { root } = view(
    '30 1 0:26 / / rw - overlay composefs rw,lowerdir+=/a,datadir+=/b,upperdir=/run/u,workdir=/run/w',
  );
  assert.equal(root.transient, true);
});
test('an overlay that only calls itself composefs:HEX too short is none', () => {
  assert.equal(view('30 1 0:26 / / ro - overlay composefs:abcd ro,lowerdir=/a').root.backend, 'unknown');
});
test('no mounts at all: nothing is known', () => {
  assert.deepEqual(view(''), {
    root: { backend: 'unknown', checksum: null, serial: null, stateroot: null, verity: null, transient: null },
    etc: null,
    over: [],
  });
});

// A line on top of a host of that kind, and how it is told.
const lines = [
  [
    'ostree admin unlock',
    OSTREE,
    samples.get('ostree admin unlock / bootc usr-overlay on ostree backend')!,
    '/usr usr-overlay masks rw',
  ],
  [
    'unlock --transient, a read-only mount',
    OSTREE,
    '35 30 0:50 / /usr ro - overlay overlay ro,lowerdir=usr,upperdir=/proc/self/fd/9/upper,workdir=/proc/self/fd/9/work',
    '/usr usr-overlay masks',
  ],
  ['hotfix', OSTREE, samples.get('ostree admin unlock --hotfix, same boot')!, '/usr hotfix masks rw'],
  ['hotfix after a reboot', OSTREE, samples.get('hotfix after reboot')!, '/usr hotfix masks rw'],
  ['system extension', OSTREE, samples.get('systemd-sysext')!, '/usr sysext masks'],
  [
    'configuration extension',
    OSTREE,
    '36 31 0:51 / /etc ro,nodev - overlay confext ro,lowerdir=/run/systemd/confext/meta/etc:/run/systemd/confext/extensions/site/etc:/etc',
    '/etc confext masks',
  ],
  [
    'bootc usr-overlay on the composefs backend',
    COMPOSEFS,
    samples.get('composefs backend, bootc usr-overlay')!,
    '/usr usr-overlay masks rw',
  ],
  ['one file', OSTREE, samples.get('attack / override: single-file bind')!, '/usr/bin/sudo bind masks'],
  [
    'one file of /etc',
    OSTREE,
    '50 31 252:4 /ostree/deploy/default/var/x /etc/shadow rw - xfs /dev/vda4 rw',
    '/etc/shadow bind masks rw',
  ],
  [
    'a folder of /',
    OSTREE,
    '50 30 0:26 /usr/bin /usr/sbin ro - overlay composefs ro,lowerdir+=/run/ostree/.private/cfsroot-lower',
    '/usr/sbin bind masks',
  ],
  [
    '/usr again, as ProtectSystem= does',
    OSTREE,
    '50 30 0:26 /usr /usr ro - overlay composefs ro,lowerdir+=/run/ostree/.private/cfsroot-lower',
    '/usr bind',
  ],
  ['a tmpfs', OSTREE, '50 30 0:60 / /usr/lib/modules rw - tmpfs tmpfs rw', '/usr/lib/modules other masks rw'],
  [
    'an overlay of no known make',
    OSTREE,
    '50 30 0:61 / /usr rw - overlay overlay rw,lowerdir=/usr,upperdir=/tmp/u,workdir=/tmp/w',
    '/usr other masks rw',
  ],
  [
    'an overlay that calls itself sysext',
    OSTREE,
    '50 30 0:61 / /usr rw - overlay sysext rw,lowerdir=/usr,upperdir=/tmp/u,workdir=/tmp/w',
    '/usr other masks rw',
  ],
  [
    'an overlay that calls itself transient where ostree never does',
    OSTREE,
    '50 30 0:61 / /usr rw - overlay transient rw,lowerdir=/usr,upperdir=/u,workdir=/w',
    '/usr other masks rw',
  ],
  [
    'a state overlay',
    OSTREE,
    '50 30 0:61 / /usr/local rw - overlay overlay rw,lowerdir=/usr/local,upperdir=/var/ostree/state-overlays/x/upper,workdir=/w',
    '/usr/local state-overlay masks rw',
  ],
  [
    'an /etc overlay of the composefs backend',
    COMPOSEFS,
    '50 41 0:61 / /etc rw - overlay overlay rw,lowerdir+=/,upperdir=/upper,workdir=/work',
    '/etc state-overlay rw',
  ],
  ['a namespace file', OSTREE, '50 30 0:4 net:[4026531840] /usr/x rw - nsfs nsfs rw', '/usr/x bind masks rw'],
] as const;
for (const [name, host, line, expected] of lines)
  test(`over a host: ${name}`, () => assert.deepEqual(short(view(`${host}${line}\n`)), [expected]));

test('a transient /etc is told and hides nothing', () => {
  const text = `${OSTREE.split('\n')[0]}\n${samples.get('ostree transient etc')}`;
  assert.deepEqual(short(view(text)), ['/etc transient-etc rw']);
});

test('extensions are named, topmost first', () => {
  const line =
    '36 30 0:51 / /usr ro - overlay sysext ro,lowerdir=/run/systemd/sysext/meta/usr:/run/systemd/sysext/extensions/b\\040c/usr:/run/systemd/sysext/extensions/a/usr:/usr\n';
  assert.equal(view(OSTREE + line).over[0]?.detail, 'system extensions b c, a');
});

test('what lies outside /usr and /etc is no matter, and names that begin alike are outside', () => {
  const text = ['/opt', '/usr-local', '/etcetera', '/var/usr/bin']
    .map((point, i) => `${60 + i} 30 0:6${i} / ${point} rw - tmpfs tmpfs rw\n`)
    .join('');
  assert.deepEqual(short(view(OSTREE + text)), []);
});

test('order and stacking: the last mount at a place is what is seen', () => {
  const bind = '50 31 252:4 /ostree/deploy/default/var/etc /etc rw - xfs /dev/vda4 rw\n';
  assert.deepEqual(short(view(OSTREE + bind)), ['/etc bind masks rw']);
  // The deployment's own /etc on top again: nothing is hidden.
  const own = OSTREE.split('\n')[1]!.replace('31 30', '51 50');
  assert.deepEqual(short(view(`${OSTREE}${bind}${own}\n`)), []);
  // A file that was replaced before a system extension came over it is not what is seen.
  const file = samples.get('attack / override: single-file bind')!;
  assert.deepEqual(short(view(OSTREE + file + samples.get('systemd-sysext')!)), ['/usr sysext masks']);
});

test("the deployment's /etc counts only where it really lies", () => {
  const forged = OSTREE.replace(
    '/ostree/deploy/default/deploy/',
    '/ostree/deploy/default/var/evil/ostree/deploy/default/deploy/',
  );
  assert.deepEqual(short(view(forged)), ['/etc bind masks rw']);
  const elsewhere = OSTREE.replace('31 30 252:4', '31 30 252:9');
  assert.deepEqual(short(view(elsewhere)), ['/etc bind masks rw']);
  const subvolume = OSTREE.replace('252:4 /ostree', '252:4 /root/ostree').replace(
    '252:4 / /sysroot',
    '252:4 /root /sysroot',
  );
  assert.deepEqual(short(view(subvolume)), []);
});

test('below another root: only its own mounts, with paths inside it', () => {
  const text = `1 0 8:1 / / rw - ext4 /dev/sda rw
2 1 0:9 / /srv/host/usr/bin/x rw - tmpfs t rw
3 1 0:9 / /srv/hosts/usr/bin/x rw - tmpfs t rw
4 1 0:9 / /usr/bin/x rw - tmpfs t rw
5 1 8:1 /srv/host/etc /srv/host/etc rw - ext4 /dev/sda rw
`;
  const seen = view(text, '/srv/host');
  assert.deepEqual(short(seen), ['/etc bind rw', '/usr/bin/x other masks rw']);
  assert.equal(seen.root.backend, 'unknown');
  assert.equal(view(text, '/srv/other').over.length, 0);
});

test('below a mounted deployment, or its folder, the deployment is known', () => {
  const path = `/ostree/deploy/default/deploy/${'11'.repeat(32)}.0`;
  const disk = '1 0 8:1 / / rw - ext4 /dev/sda rw\n';
  for (const [text, root] of [
    [disk, path],
    [`${disk}2 1 252:4 ${path} /mnt ro - xfs /dev/vda4 rw\n`, '/mnt'],
  ] as const) {
    const seen = view(text, root);
    assert.deepEqual([seen.root.backend, seen.root.checksum, seen.root.serial], ['ostree', '11'.repeat(32), 0]);
  }
  const { root } = view(`${disk}2 1 0:30 / /mnt ro - overlay composefs:${HEX} ro,lowerdir+=/,verity=require\n`, '/mnt');
  assert.deepEqual([root.backend, root.verity], ['composefs', true]);
});

const paths = [
  [`/ostree/deploy/default/deploy/${'ab'.repeat(32)}.12`, 'ostree', 12, ''],
  [`/sysroot/ostree/deploy/x/deploy/${'ab'.repeat(32)}.0`, 'ostree', 0, '/sysroot'],
  [`/state/deploy/${'ab'.repeat(64)}`, 'composefs', null, ''],
  [`/sysroot/state/deploy/${'ab'.repeat(32)}`, 'composefs', null, '/sysroot'],
] as const;
for (const [path, backend, serial, sysroot] of paths)
  test(`${path.slice(0, 40)}… is a deployment`, () => {
    const found = parseDeploymentPath(path);
    assert.deepEqual([found?.backend, found?.serial, found?.sysroot], [backend, serial, sysroot]);
  });
for (const path of [
  '/',
  '',
  `/ostree/deploy/default/deploy/${'ab'.repeat(32)}`,
  `/ostree/deploy/default/${'ab'.repeat(32)}.0`,
  `/ostree/deploy/default/deploy/${'AB'.repeat(32)}.0`,
  `/ostree/deploy/default/deploy/${'ab'.repeat(32)}.0/`,
  `/state/deploy/${'ab'.repeat(33)}`,
])
  test(`${JSON.stringify(path.slice(0, 60))} is none`, () => assert.equal(parseDeploymentPath(path), undefined));
