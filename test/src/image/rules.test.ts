/** What the golden images do not show: the importers' own source decides, and these cases say what it says. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { fromUtf8 } from '#src/bytes.ts';
import {
  BackendError,
  backendOf,
  BACKENDS,
  deploy,
  lint,
  RULES,
  rulesOf,
  type Deployed,
  type RefusalCode,
  type Rule,
} from '#src/image/backend.ts';
import { hashTableOrder } from '#src/image/ghash.ts';
import { enablesComposefs } from '#src/image/preparerootconf.ts';
import { IMAGE_LIMITS } from '#src/limits.ts';
import { throwsCode } from '#test/throws.ts';
import { dir, file, hardlink, image, member, read, record, symlink, tar, type Member } from './archive.ts';
import { readLayout } from './layout.ts';

type Layers = readonly (readonly (Member | Buffer)[])[];
const USR: readonly Member[] = [dir('usr'), dir('usr/share'), dir('etc')];
const pax = (name: string, records: Buffer[], of: Partial<Member> = {}): Buffer =>
  Buffer.concat([member({ name: 'pax', type: 'x', data: Buffer.concat(records) }), member({ name, ...of })]);

async function deployed(
  layers: Layers,
  rule: Rule = 'ostree/1',
  labels: Record<string, string> = {},
): Promise<Deployed> {
  const { layers: read, facts } = await image(layers, labels);
  return deploy(read, facts, rule);
}
async function paths(layers: Layers, rule: Rule = 'ostree/1'): Promise<string[]> {
  return (await deployed(layers, rule)).entries.map((entry) => entry.path);
}
async function refused(layers: Layers, rule: Rule, code: RefusalCode): Promise<void> {
  const { layers: read, facts } = await image(layers);
  throwsCode(() => deploy(read, facts, rule), BackendError, code);
}
const codes = (of: Deployed): string[] => [...new Set(of.warnings.map(({ code }) => code))].sort();

test('rules are named for their backend, newest first', () => {
  assert.deepEqual(BACKENDS.flatMap(rulesOf), RULES);
  for (const backend of BACKENDS) for (const rule of rulesOf(backend)) assert.equal(backendOf(rule), backend);
  assert.deepEqual(rulesOf('ostree'), ['ostree/1', 'ostree/1-debris', 'ostree/1-debris-noxattr']);
});

describe('older importers', () => {
  const vectors = join(import.meta.dirname, '../../vectors/merge');
  const under = async (name: string, rule: Rule) => {
    const { layers, facts } = await readLayout(join(vectors, name, 'image'));
    return deploy(layers, facts, rule);
  };
  const only = (a: Deployed, b: Deployed) =>
    a.entries.filter((entry) => !b.entries.some((other) => JSON.stringify(other) === JSON.stringify(entry)));

  test('-debris: zero-size hostname and resolv.conf stay, and nothing else differs', async () => {
    const [newest, debris] = [await under('33-debris', 'ostree/1'), await under('33-debris', 'ostree/1-debris')];
    assert.deepEqual(
      only(debris, newest).map(({ path, size }) => [path, size]),
      ['/etc/hostname', '/etc/resolv.conf', '/usr/etc/hostname', '/usr/etc/resolv.conf'].map((path) => [path, 0]),
    );
    assert.deepEqual(only(newest, debris), []);
  });
  test('-debris-noxattr: capabilities of derived layers are lost, those of the base stay', async () => {
    const [newest, old] = [await under('28-xattrs', 'ostree/1'), await under('28-xattrs', 'ostree/1-debris-noxattr')];
    const capable = (of: Deployed) =>
      of.entries.filter((entry) => entry.capability !== undefined).map(({ path }) => path);
    assert.deepEqual([capable(newest), capable(old)], [['/etc/capfile', '/usr/etc/capfile'], []]);
    assert.deepEqual(capable(await under('01-base', 'ostree/1-debris-noxattr')), ['/usr/bin/ping']);
    assert.ok(codes(old).includes('XATTR_LOST'));
    assert.deepEqual(
      old.entries.map(({ path }) => path),
      newest.entries.map(({ path }) => path),
    );
  });
  test('-debris-noxattr: an image without the label is refused', async () => {
    await assert.rejects(under('03-plain', 'ostree/1-debris-noxattr'), { code: 'BASE_LABEL_MISSING' });
  });
});

describe('ostree: place', () => {
  const cases: readonly (readonly [string, Member, readonly string[]])[] = [
    ['etc moves below usr', file('./etc/x'), ['/etc/x', '/usr/etc/x']],
    ['usr/etc falls together with it', file('usr/etc/y'), ['/etc/y', '/usr/etc/y']],
    ['names that only begin alike stay', file('etcc/x'), []],
    ['children of run are dropped, whatever they are', file('run/p', '', { type: '6' }), []],
    ['".." behind what is dropped is not looked at', file('tmp/a/../../usr/x'), []],
  ];
  for (const [name, entry, expected] of cases)
    test(name, async () => {
      const found = await paths([[...USR, dir('usr/etc'), entry]]);
      assert.deepEqual(
        found.filter((path) => !['/usr', '/usr/share', '/etc', '/usr/etc'].includes(path)),
        expected,
      );
    });
  test('".." is refused elsewhere', async () => {
    for (const name of ['../usr/x', 'usr/../x', 'run/../usr/x', 'opt/..'])
      await refused([[...USR, file(name)]], 'ostree/1', 'DOTDOT');
  });
  test('the root as an absolute path is refused, as a relative one not', async () => {
    for (const name of ['/', '//', '/.', '/./']) await refused([[...USR, dir(name)]], 'ostree/1', 'ROOT_ENTRY');
    for (const name of ['.', './', './/.']) assert.equal((await paths([[...USR, dir(name)]])).length, 4);
    await refused([[...USR, file('./')]], 'ostree/1', 'ROOT_ENTRY');
  });
  test('a PAX global header is dropped with its name, or refused', async () => {
    const global = (name: string) => file(name, record('comment', 'x').toString(), { type: 'g' });
    assert.equal((await paths([[global('/tmp/GlobalHead.1.1'), ...USR]])).length, 4);
    await refused([[global('pax_global_header'), ...USR]], 'ostree/1', 'GLOBAL_HEADER');
    await refused([[global('pax_global_header'), ...USR]], 'oci', 'GLOBAL_HEADER');
    assert.equal((await paths([[global('pax_global_header'), ...USR]], 'composefs/1')).length, 3);
  });
  test('a newline in a PAX value is no matter where the entry is dropped', async () => {
    const records = [record('SCHILY.xattr.user.x', 'a\nb')];
    assert.equal((await paths([[...USR, pax('run/x', records)]])).length, 4);
    await refused([[...USR, pax('usr/x', records)]], 'ostree/1', 'PAX_NEWLINE');
  });
});

describe('ostree: links', () => {
  test('targets that fit the header are brought to normal form, longer ones are kept', async () => {
    const cases = [
      ['a//b/./c', 'a/b/c'],
      ['//x', '/x'],
      ['/', '//'],
      ['//', '//'],
      ['a/', 'a/'],
      ['./x', './x'],
      ['././x', './x'],
      ['.', '.'],
      ['./', './'],
      ['a/.', 'a'],
      ['../..//x', '../../x'],
      [`${'d/'.repeat(60)}/x`, `${'d/'.repeat(60)}/x`],
      [`${'d/'.repeat(49)}${'/'.repeat(30)}x`, `${'d/'.repeat(49)}x`],
    ] as const;
    const links = cases.map(([target], i) => symlink(`usr/share/${i}`, target));
    const { entries } = await deployed([[...USR, ...links]]);
    for (const [i, [, expected]] of cases.entries())
      assert.equal(entries.find(({ path }) => path === `/usr/share/${i}`)?.link, expected);
  });
  test('targets of hard links are read from the root of the layer, etc moved as well', async () => {
    const targets = ['etc/t', './etc/t', '/etc/t', '/../usr/etc/t', '///usr//etc/./t', 'usr/etc/t'];
    const links = targets.map((target, i) => hardlink(`usr/share/${i}`, target));
    const { entries } = await deployed([[...USR, file('etc/t', 'content'), ...links]]);
    assert.equal(entries.filter(({ size }) => size === 7).length, 2 + targets.length);
  });
  test('".." in a hard link, and a target that is a directory or has a trailing slash, are refused', async () => {
    const target = file('usr/t', 'x');
    await refused([[...USR, target, hardlink('usr/l', 'usr/share/../t')]], 'ostree/1', 'HARDLINK_TARGET_OUTSIDE');
    await refused([[...USR, target, hardlink('usr/l', 'usr/share')]], 'ostree/1', 'HARDLINK_TARGET_DIRECTORY');
    await refused([[...USR, target, hardlink('usr/l', 'usr/t/')]], 'ostree/1', 'HARDLINK_TARGET_MISSING');
    await refused([[...USR, target, hardlink('usr/l', '/')]], 'ostree/1', 'HARDLINK_TARGET_MISSING');
  });
  test('links to links are resolved in the order of GLib’s hash table, or not at all', async () => {
    const chain = (a: string, b: string) => [
      ...USR,
      file('usr/t', 'x'),
      hardlink(`usr/${a}`, 'usr/t'),
      hardlink('usr/z', `usr/${a}`),
      b === '' ? file('usr/n') : hardlink('usr/y', `usr/${b}`),
    ];
    const order = (...names: string[]) => hashTableOrder(names.map((name) => `usr/${name}`));
    for (const name of ['a', 'b', 'cc', 'ddd', 'e0', 'f1']) {
      const resolves = order('t', name)[0] === 'usr/t';
      if (resolves) assert.ok((await paths([chain(name, '')])).includes('/usr/z'));
      else await refused([chain(name, '')], 'ostree/1', 'HARDLINK_TARGET_MISSING');
    }
  });
});

describe('ostree: changed objects of the base (write.rs)', () => {
  const object = 'sysroot/ostree/repo/objects/ab/cdef.file';
  const changed = file(object, 'changed', { mtime: 1, mode: 0o600, uid: 5 });
  const link = (name: string, target = object, mtime = 1) => hardlink(name, target, { mtime, uid: 9 });
  test('the first link becomes the file, further ones link to it', async () => {
    const { entries, warnings } = await deployed([[...USR, changed, link('usr/b'), link('usr/a')]]);
    const facts = entries
      .filter(({ type }) => type === 'file')
      .map(({ path, uid, mode, size }) => [path, uid, mode, size]);
    assert.deepEqual(facts, [
      ['/usr/a', 5, 0o600, 7],
      ['/usr/b', 5, 0o600, 7],
    ]);
    assert.deepEqual(
      warnings.map(({ code }) => code),
      ['KERNEL_MISSING'],
    );
  });
  test('its capability is lost: the PAX header stays behind', async () => {
    const records = [record('SCHILY.xattr.security.capability', Buffer.from('AQAAAgAgAAAAAAAAAAAAAAAAAAA=', 'base64'))];
    const { entries } = await deployed([[...USR, pax(object, records, { mtime: 1, data: 'x' }), link('usr/a')]]);
    assert.equal(entries.find(({ path }) => path === '/usr/a')?.capability, undefined);
  });
  test('a link below etc does not move: the deployment would have two etc', async () => {
    await refused([[...USR, file('usr/etc/x'), changed, link('etc/y')]], 'ostree/1', 'ETC_TWICE');
  });
  test('without its object the link is dropped; an old one, or a link from the root, is an ordinary link', async () => {
    const dropped = await deployed([[...USR, link('usr/a')]]);
    assert.ok(
      codes(dropped).includes('SYSROOT_LINK_DROPPED') && !dropped.entries.some(({ path }) => path === '/usr/a'),
    );
    await refused([[...USR, link('usr/a', object, 0)]], 'ostree/1', 'HARDLINK_TARGET_MISSING');
    await refused([[...USR, changed, link('usr/a', `/${object}`)]], 'ostree/1', 'HARDLINK_TARGET_MISSING');
    assert.ok((await paths([[...USR, file(object, 'old'), link('usr/a', object, 0)]])).includes('/usr/a'));
  });
});

describe('ostree: markers', () => {
  test('an opaque marker at the root takes everything below away', async () => {
    assert.deepEqual(
      await paths([
        [...USR, file('usr/old')],
        [file('.wh..wh..opq'), dir('usr'), file('usr/new')],
      ]),
      ['/usr', '/usr/new'],
    );
  });
  test('a symlink named as the opaque marker acts, and stays', async () => {
    const found = await deployed([
      [...USR, dir('usr/d'), file('usr/d/old')],
      [dir('usr/d'), symlink('usr/d/.wh..wh..opq', 'x')],
    ]);
    assert.deepEqual(
      found.entries.filter(({ path }) => path.startsWith('/usr/d')).map(({ path }) => path),
      ['/usr/d', '/usr/d/.wh..wh..opq'],
    );
  });
  test('an overlay whiteout is a device where composefs is off, but not in /etc', async () => {
    const conf = dir('usr/lib');
    const off = [
      ...USR,
      conf,
      dir('usr/lib/ostree'),
      file('usr/lib/ostree/prepare-root.conf', '[composefs]\nenabled = no\n'),
      file('usr/.ostree-wh.x', '', { mode: 0o600 }),
      file('etc/.ostree-wh.y'),
    ];
    const { entries } = await deployed([off]);
    assert.deepEqual(
      entries
        .filter(({ path }) => /[xy]$/.test(path))
        .map(({ path, type, device, mode }) => [path, type, device, mode]),
      [
        ['/etc/.ostree-wh.y', 'file', undefined, 0o644],
        ['/usr/etc/y', 'char', '0:0', 0o644],
        ['/usr/x', 'char', '0:0', 0o600],
      ],
    );
  });
  test('beside what it hides, or hiding nothing, it cannot be checked out, wherever it is', async () => {
    for (const entries of [
      [file('usr/.ostree-wh.')],
      [file('usr/.ostree-wh.x'), dir('usr/x')],
      [dir('opt'), file('opt/.ostree-wh.x'), file('opt/x')],
      [file('usr/.ostree-wh...')],
    ])
      await refused([[...USR, ...entries]], 'ostree/1', 'OVERLAY_WHITEOUT_CONFLICT');
  });
});

describe('ostree: sparse files', () => {
  const sparse = (header: string, name: string) =>
    pax(header, [record('GNU.sparse.size', '3'), record('GNU.sparse.map', '0,3'), record('GNU.sparse.name', name)], {
      data: 'abc',
    });
  test('are placed by the header’s name and called by their own', async () => {
    const found = await deployed([[...USR, sparse('usr/GNUSparseFile.1/f', 'usr/share/f')]]);
    assert.ok(found.entries.some(({ path, size }) => path === '/usr/share/f' && size === 3));
    assert.ok(codes(found).includes('SPARSE_UNPORTABLE'));
    assert.equal((await paths([[...USR, sparse('tmp/GNUSparseFile.1/f', 'usr/share/f')]])).length, 4);
  });
  test('below etc do not move, so the deployment fails', async () => {
    await refused([[...USR, sparse('etc/GNUSparseFile.1/f', 'etc/f')]], 'ostree/1', 'ETC_TWICE');
  });
});

describe('ostree: an encapsulated base', () => {
  const objects = 'sysroot/ostree/repo/objects';
  const conf = (text: string): Member[] => [
    file(`${objects}/cc/conf.file`, text),
    dir('usr/lib'),
    dir('usr/lib/ostree'),
    hardlink('usr/lib/ostree/prepare-root.conf', `${objects}/cc/conf.file`),
  ];
  const base = (text: string): Member[] => [
    file(`${objects}/aa/commit.commit`, 'x'),
    ...USR,
    ...conf(text),
    dir('usr/bin'),
    file(`${objects}/bb/tool.file`, 'tool', { mode: 0o755, uid: 3 }),
    hardlink('usr/bin/tool', `${objects}/bb/tool.file`),
    file('usr/empty'),
    dir('var'),
    dir('var/tmp'),
  ];
  const build = async (text: string, derived: readonly Member[], target = 0) => {
    const { layers, facts } = await image([base(text), derived]);
    const label = new Map([['ostree.final-diffid', layers[target]!.diffId as string]]);
    return deploy(layers, { ...facts, labels: label }, 'ostree/1');
  };
  test('its files are the objects that they link to', async () => {
    const { entries } = await build('[composefs]\nenabled=yes\n', []);
    const tool = entries.find(({ path }) => path === '/usr/bin/tool');
    assert.deepEqual([tool?.mode, tool?.uid, tool?.size], [0o755, 3, 4]);
    assert.ok(entries.some(({ path, size }) => path === '/usr/empty' && size === 0));
  });
  test('without composefs or a transient root other top levels are dropped, with it they stay', async () => {
    for (const [text, kept] of [
      ['[composefs]\nenabled=yes\n', true],
      ['[root]\ntransient = true\n', true],
      ['[composefs]\nenabled=no\n', false],
      ['# nothing\n', false],
    ] as const) {
      const { warnings } = await build(text, [dir('opt'), file('opt/x')]);
      assert.equal(
        warnings.some(({ code, path }) => code === 'TOPLEVEL_DROPPED' && path === '/opt'),
        !kept,
        text,
      );
    }
  });
  test('a missing object, a missing commit, a configuration that is none are refused', async () => {
    const label = (digest: string) => ({ 'ostree.final-diffid': digest });
    const { layers } = await image([base('')]);
    const missing = await image([
      [file(`${objects}/aa/x.commit`), dir('usr'), hardlink('usr/x', `${objects}/zz/none.file`)],
    ]);
    const at = (of: Awaited<ReturnType<typeof image>>) => () =>
      deploy(of.layers, { ...of.facts, labels: new Map(Object.entries(label(of.layers[0]!.diffId))) }, 'ostree/1');
    throwsCode(at(missing), BackendError, 'BASE_OBJECT_MISSING');
    throwsCode(at(await image([base('').slice(1)])), BackendError, 'BASE_COMMIT_MISSING');
    throwsCode(at(await image([base('[composefs]\nno key\n')])), BackendError, 'PREPARE_ROOT_SYNTAX');
    assert.equal(layers.length, 1);
  });
  test('the layer of the label twice is refused', async () => {
    const archive = tar(base(''));
    const twice = [await read(archive), await read(archive, { index: 1 })];
    const diffIds = twice.map(({ diffId }) => diffId);
    const labels = new Map([['ostree.final-diffid', diffIds[0]! as string]]);
    throwsCode(
      () => deploy(twice, { labels, diffIds, dockerInLayout: false }, 'ostree/1'),
      BackendError,
      'BASE_LABEL_UNKNOWN',
    );
  });
});

test('prepare-root.conf is read as GLib reads key files', () => {
  const cases: readonly (readonly [string, boolean | undefined])[] = [
    ['', false],
    ['[composefs]\nenabled = yes', true],
    ['[composefs]\nenabled=verity\n', true],
    ['[composefs]\nenabled=signed\n', true],
    ['[composefs]\nenabled=maybe\n', true],
    ['[composefs]\nenabled=1\n', true],
    ['[composefs]\nenabled=no\n', false],
    ['[composefs]\nenabled=junk\n', false],
    ['[other]\nenabled=yes\n', false],
    ['# c\n\n[root]\ntransient=true\n[composefs]\nenabled=false', true],
    ['[root]\ntransient=perhaps\n', undefined],
    ['enabled=yes\n', undefined],
    ['[composefs]\nenabled\n', undefined],
  ];
  for (const [text, expected] of cases) assert.equal(enablesComposefs(text), expected, text);
});

describe('capabilities', () => {
  const capable = (base64: string) => [
    [...USR, pax('usr/x', [record('SCHILY.xattr.security.capability', Buffer.from(base64, 'base64'))])],
  ];
  test('that the kernel would not take are refused where files are written', async () => {
    for (const base64 of ['', 'AAAA', 'AQAAAgAgAAAAAAAAAAAAAAAA', Buffer.alloc(20).toString('base64')]) {
      await refused(capable(base64), 'ostree/1', 'CAPABILITY_INVALID');
      await refused(capable(base64), 'oci', 'CAPABILITY_INVALID');
      assert.equal((await paths(capable(base64), 'composefs/1')).length, 4);
    }
  });
  test('of revision 2 and 3 are kept', async () => {
    const v3 = Buffer.alloc(24);
    v3[3] = 3;
    for (const base64 of ['AQAAAgAgAAAAAAAAAAAAAAAAAAA=', v3.toString('base64')])
      for (const rule of ['ostree/1', 'composefs/1', 'oci'] as const)
        assert.equal(
          (await deployed(capable(base64), rule)).entries.find(({ path }) => path === '/usr/x')?.capability,
          base64,
        );
  });
});

test('what one program takes for damage is refused for its backend alone', async () => {
  const mark = (at: number) => (header: Buffer) => void header.write('zz', at, 'latin1');
  // tar-rs wants UTF-8 keys (ostree-ext, tar/write.rs: copy_entry).
  const odd = Buffer.from('25 SCHILY.xattr.user.\xff=x\n', 'latin1');
  // The others run with umoci 0.6.0, composefs-rs 0.7.0 and `ostree commit` 2022.7.
  const cases: readonly (readonly [Member | Buffer, RefusalCode, readonly Rule[]])[] = [
    [file('usr/x', '', { patch: mark(136) }), 'HEADER_NUMBER', ['composefs/1', 'oci']],
    [file('usr/x', '', { patch: mark(329) }), 'HEADER_NUMBER', ['composefs/1', 'oci']],
    [pax('usr/x', [record('atime', 'x')]), 'PAX_UNREADABLE', ['oci']],
    [pax('usr/x', [record('mtime', '1.x')]), 'PAX_UNREADABLE', ['oci']],
    [pax('usr/x', [record('gname', 'a\0b')]), 'PAX_UNREADABLE', ['oci']],
    [pax('usr/x', [odd]), 'NOT_UTF8', ['ostree/1']],
  ];
  for (const [entry, code, refusing] of cases)
    for (const rule of ['ostree/1', 'composefs/1', 'oci'] as const)
      if (refusing.includes(rule)) await refused([[...USR, entry]], rule, code);
      else assert.ok((await paths([[...USR, entry]], rule)).includes('/usr/x'));
});

describe('extended attributes that the kernel does not set', () => {
  const v = (name: string, value = 'x') => record(`SCHILY.xattr.${name}`, value);
  const link = { type: '2', link: 'x' } as const;
  // Each of them run with umoci 0.6.0 and `ostree commit` 2022.7 as root on ext4.
  const cases: readonly (readonly [string, Buffer, Partial<Member>, readonly Rule[]])[] = [
    ['user.* on a file', v('user.x'), {}, []],
    ['user.* on a directory', v('user.x'), { type: '5' }, []],
    ['user.* on a symlink', v('user.x'), link, ['ostree/1', 'oci']],
    ['trusted.* on a symlink', v('trusted.x'), link, []],
    ['a name with an equals sign', v('user.a=b'), {}, []],
    ['a namespace that there is not', v('foo.bar'), {}, ['ostree/1']],
    ['no namespace', v('foo'), {}, ['ostree/1']],
    ['a namespace alone', v('user.'), {}, ['ostree/1', 'oci']],
    ['a name of 256 bytes', v(`user.${'n'.repeat(251)}`), {}, ['ostree/1', 'oci']],
    ['a name of 255 bytes', v(`user.${'n'.repeat(250)}`), {}, []],
    ['a value of 64 KiB', v('user.x', 'x'.repeat(65_536)), {}, []],
    ['a value of more', v('user.x', 'x'.repeat(65_537)), {}, ['ostree/1', 'oci']],
  ];
  for (const [name, records, of, refusing] of cases)
    test(name, async () => {
      const layers = [[...USR, pax('usr/x', [records], of)]];
      for (const rule of ['ostree/1', 'composefs/1', 'oci'] as const)
        if (refusing.includes(rule)) await refused(layers, rule, 'XATTR_INVALID');
        else assert.ok((await paths(layers, rule)).includes('/usr/x'), rule);
    });
  test('on a hard link are no matter: it is what its target is', async () => {
    const layers = [[...USR, file('usr/t'), pax('usr/x', [v('user.')], { type: '1', link: 'usr/t' })]];
    for (const rule of ['ostree/1', 'oci'] as const) assert.ok((await paths(layers, rule)).includes('/usr/x'));
  });
});

describe('composefs', () => {
  test('a time before 1970 in PAX, half an end, no /usr are refused', async () => {
    await refused([[...USR, pax('usr/x', [record('mtime', '-1')])]], 'composefs/1', 'PAX_TIME');
    await refused([[dir('etc')]], 'composefs/1', 'USR_MISSING');
    await refused([[symlink('usr', 'x')]], 'composefs/1', 'USR_NOT_DIRECTORY');
    const half = [await read(tar([...USR], Buffer.alloc(512)))];
    const facts = { labels: new Map(), diffIds: half.map(({ diffId }) => diffId), dockerInLayout: false };
    throwsCode(() => deploy(half, facts, 'composefs/1'), BackendError, 'END_BLOCK_MISSING');
    assert.equal(deploy(half, facts, 'ostree/1').entries.length, 4);
  });
  test('a root entry must be a directory, and a directory that ends in ".." is taken for one', async () => {
    await refused([[...USR, file('./')]], 'composefs/1', 'ROOT_ENTRY');
    await refused([[...USR, file('usr/..')]], 'composefs/1', 'DOTDOT');
    assert.equal((await paths([[...USR, dir('usr/..'), dir('/'), dir('./')]], 'composefs/1')).length, 3);
  });
  test('hard links resolve at once, through directories only', async () => {
    for (const [target, code] of [
      ['usr', 'HARDLINK_TARGET_DIRECTORY'],
      ['usr/none/x', 'HARDLINK_TARGET_MISSING'],
      ['usr/f/x', 'HARDLINK_TARGET_MISSING'],
      ['usr/../usr/f', 'HARDLINK_TARGET_OUTSIDE'],
    ] as const)
      await refused([[...USR, file('usr/f'), hardlink('usr/l', target)]], 'composefs/1', code);
  });
  test('devices and FIFOs stay', async () => {
    const { entries } = await deployed(
      [[...USR, file('usr/n', '', { type: '3', device: [1, 3] }), file('usr/p', '', { type: '6' })]],
      'composefs/1',
    );
    assert.ok(entries.some(({ path, type }) => path === '/usr/p' && type === 'fifo'));
    assert.ok(entries.some(({ path, device }) => path === '/usr/n' && device === '1:3'));
  });
});

describe('oci', () => {
  test('symlinks are followed inside the root, loops are refused', async () => {
    const found = await paths(
      [
        [...USR, symlink('usr/up', '../../../../usr/share'), symlink('usr/abs', '/usr/share')],
        [file('usr/up/a'), file('usr/abs/b'), file('usr/new/../../../usr/c')],
      ],
      'oci',
    );
    assert.deepEqual(
      found.filter((path) => /\/[abc]$/.test(path)),
      ['/usr/c', '/usr/share/a', '/usr/share/b'],
    );
    await refused([[...USR, symlink('usr/a', 'b'), symlink('usr/b', 'a'), file('usr/a/x')]], 'oci', 'SYMLINK_LOOP');
  });
  test('a file in the way of a path gives way, and its metadata passes on', async () => {
    const { entries } = await deployed(
      [[...USR, file('usr/f', 'x', { mode: 0o640, uid: 5, gid: 6 })], [file('usr/f/g')]],
      'oci',
    );
    const f = entries.find(({ path }) => path === '/usr/f');
    assert.deepEqual([f?.type, f?.mode, f?.uid, f?.gid], ['dir', 0o640, 5, 6]);
  });
  test('a hard link to a directory, or to what it replaces, is refused', async () => {
    await refused([[...USR, hardlink('usr/l', 'usr/share')]], 'oci', 'HARDLINK_TARGET_DIRECTORY');
    await refused([[...USR, file('usr/l'), hardlink('usr/l', 'usr/l')]], 'oci', 'HARDLINK_TARGET_MISSING');
  });
  test('a whiteout of its own directory works only where the layer made it', async () => {
    await refused([[...USR], [file('usr/share/.wh..')]], 'oci', 'WHITEOUT_NAME');
    await refused([[...USR], [file('usr/.wh...')]], 'oci', 'WHITEOUT_NAME');
    const found = await paths(
      [
        [...USR, file('usr/share/low')],
        [dir('usr/share'), file('usr/share/high'), file('usr/share/.wh..')],
      ],
      'oci',
    );
    assert.deepEqual(found, ['/etc', '/usr', '/usr/share', '/usr/share/high']);
  });
  test('a whiteout of the directory above works from where there is none', async () => {
    const lower = [...USR, dir('usr/x'), file('usr/x/low')];
    const usr = ['/etc', '/usr', '/usr/share'];
    assert.deepEqual(await paths([lower, [file('usr/x/none/.wh...')]], 'oci'), usr);
    assert.deepEqual(await paths([lower, [file('usr/x/none/.wh..')]], 'oci'), [...usr, '/usr/x', '/usr/x/low']);
    // Made by the layer, so it stays; what was there before goes.
    const high = [file('usr/x/high'), file('usr/x/none/.wh...')];
    assert.deepEqual(await paths([lower, high], 'oci'), [...usr, '/usr/x', '/usr/x/high']);
    // What stands at its directory's place is put back in the end, and is gone.
    for (const name of ['usr/x/low/.wh..', 'usr/x/low/.wh...', 'none/.wh...'])
      await refused([lower, [file(name)]], 'oci', 'WHITEOUT_NAME');
    assert.deepEqual(await paths([[...lower, file('usr/x/low/.wh..')]], 'oci'), [...usr, '/usr/x', '/usr/x/low']);
  });
});

describe('hostile trees end in a refusal', () => {
  const limits = { ...IMAGE_LIMITS, treeNodes: 5000, treePathBytes: 100_000 };
  const deep = (i: number) => file(`usr/${i}/${'d/'.repeat(1500)}f`);
  test('paths that share nothing make too many parents', async () => {
    const { layers, facts } = await image([[...USR, ...Array.from({ length: 5 }, (_, i) => deep(i))]]);
    for (const rule of ['ostree/1', 'oci'] as const)
      throwsCode(() => deploy(layers, facts, rule, limits), BackendError, 'TREE_LIMIT');
  });
  test('one path of 3,000 bytes makes millions of bytes of paths', async () => {
    const { layers, facts } = await image([[...USR, deep(0)]]);
    for (const rule of ['ostree/1', 'oci'] as const)
      throwsCode(() => deploy(layers, facts, rule, limits), BackendError, 'TREE_LIMIT');
    assert.equal(deploy(layers, facts, 'ostree/1').entries.length, 1506);
  });
  test('a path that grows beyond 4,095 bytes by its move below usr is refused', async () => {
    const { layers, facts } = await image([[...USR, dir('etc/x'), file(`etc/${'d/'.repeat(2045)}`)]]);
    throwsCode(() => deploy(layers, facts, 'ostree/1'), BackendError, 'TREE_LIMIT');
  });
  test('symlinks that lead on and on', async () => {
    const links = Array.from({ length: 200 }, (_, i) => symlink(`usr/l${i}`, `${'./'.repeat(40)}l${i + 1}`));
    const { layers, facts } = await image([
      [...USR, ...links, dir('usr/l200'), ...Array.from({ length: 9 }, (_, i) => file(`usr/l0/${i}`))],
    ]);
    throwsCode(() => deploy(layers, facts, 'oci', limits), BackendError, 'TREE_LIMIT');
    assert.ok(deploy(layers, facts, 'oci').entries.some(({ path }) => path === '/usr/l200/8'));
  });
  test('of a thousand warnings of a kind twenty are told, the rest is counted', async () => {
    const { layers, facts } = await image([
      [...USR, ...Array.from({ length: 1000 }, (_, i) => symlink(`usr/${i}`, 'a//b'))],
    ]);
    const warnings = deploy(layers, facts, 'ostree/1').warnings.filter(({ code }) => code === 'SYMLINK_REWRITTEN');
    assert.equal(warnings.length, 21);
    assert.match(warnings.at(-1)!.message, /980 more/);
  });
});

test('refusals show names as they are, and say which layer and entry', async () => {
  const message = async (layers: Layers, rule: Rule, limits = IMAGE_LIMITS): Promise<string> => {
    const { layers: read, facts } = await image(layers);
    try {
      deploy(read, facts, rule, limits);
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };
  const missing = (link: string) => [[...USR], [{ name: 'usr/l', type: '1', link }]];
  for (const rule of ['composefs/1', 'oci'] as const) {
    assert.match(await message(missing(fromUtf8('usr/größe')), rule), /^layer 1: usr\/l: .*usr\/größe$/);
    assert.match(await message(missing('usr/a\xffb\x1b'), rule), /usr\/a\\xffb\\x1b$/);
  }
  assert.match(await message(missing(fromUtf8('usr/größe')), 'ostree/1'), /^layer 1: usr\/l: .*usr\/größe to link to$/);
  // 300 bytes are shown, and the cut is not inside a character.
  assert.match(await message(missing(`${'x'.repeat(299)}${fromUtf8('ü')}`), 'oci'), /x{299}…$/);
  assert.match(
    await message([[...USR], [file(`usr/${'d/'.repeat(100)}f`)]], 'oci', { ...IMAGE_LIMITS, treeNodes: 50 }),
    /^layer 1: usr\/d\/d\/.*: the tree has more than 50 paths$/,
  );
  assert.match(
    await message([[...USR], [file(`usr/${'d/'.repeat(100)}f`)]], 'ostree/1', { ...IMAGE_LIMITS, treePathBytes: 500 }),
    /^layer 1: \/usr\/.*: the tree's paths are more than 500 bytes in all$/,
  );
});

test('a stamp is told of only where it changed what the directory has, and says that an entry came late', async () => {
  const stamped = async (...entries: Member[]) =>
    (await deployed([entries])).warnings.flatMap(({ code, path, message }) =>
      code === 'PARENT_STAMPED' ? [`${path}: ${message}`] : [],
    );
  // etc/ is usr/etc/, before usr/: the root has no place in a manifest, and the later entry sets /usr again.
  assert.deepEqual(await stamped(dir('etc'), file('etc/motd'), dir('usr'), dir('usr/share'), file('usr/share/x')), []);
  // 0755 0:0 before, 0755 0:0 after.
  assert.deepEqual(await stamped(dir('usr', { mode: 0o755 }), file('usr/share/x'), dir('usr/share')), []);
  assert.deepEqual(await stamped(dir('usr', { mode: 0o700 }), file('usr/share/x'), dir('usr/share')), [
    '/usr: /usr becomes 0755 0:0, because what is in /usr/share comes before its entry',
  ]);
  assert.deepEqual(await stamped(dir('usr', { mode: 0o700 }), file('usr/share/x'), dir('usr', { mode: 0o700 })), [
    '/usr/share: /usr/share becomes 0755 0:0, because the layer has no entry for it',
  ]);
});

test('lint says of every backend whether it deploys the image, with a code where not', async () => {
  const { layers, facts } = await image([[...USR, file('usr/x/y')]]);
  const [ostree, composefs, oci] = lint(layers, facts);
  assert.ok(
    ostree?.deployable && ostree.warnings.some(({ code, path }) => code === 'PARENT_STAMPED' && path === '/usr/x'),
  );
  assert.ok(composefs?.deployable === false && composefs.code === 'PARENT_MISSING');
  assert.ok(oci?.deployable && oci.warnings.some(({ code }) => code === 'PARENT_MADE'));
});

test('the order of a hash table has every key once, and is the one of GLib', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string({ maxLength: 12 }), { maxLength: 300 }), (keys) =>
      assert.deepEqual(hashTableOrder(keys).sort(), [...keys].sort()),
    ),
  );
  // Read off imports by ostree 2022.7 with GLib 2.74, where of two targets for one link the last that is walked wins.
  const glib = [2, 8, 1, 7, 0, 6, 10, 5, 4, 3, 9, 11].map((i) => `usr/t${i}`);
  assert.deepEqual(hashTableOrder(Array.from({ length: 12 }, (_, i) => `usr/t${i}`)), glib);
});
