/** Layer and package of a path: real databases of rpm and dpkg in layers, read as the build thread reads them, kept small and asked again. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import Database from 'better-sqlite3';
import { fromUtf8 } from '#src/bytes.ts';
import { deploy, type Rule } from '#src/image/backend.ts';
import { readLayer } from '#src/image/layer.ts';
import { Origins, originText, OriginsWriter, type PathOrigin } from '#src/image/origins.ts';
import { parseRpmHeader, RpmHeaderError } from '#src/image/rpmheader.ts';
import { IMAGE_LIMITS } from '#src/limits.ts';
import { treeOf } from '#src/manifest/entry.ts';
import { KeptFiles } from '#server/jobs/kept.ts';
import { PackageReader } from '#server/jobs/packages.ts';
import { readRpmDatabase } from '#server/store/rpmdb.ts';
import {
  dir,
  file,
  hardlink,
  pieces,
  plain,
  PLAIN,
  symlink,
  tar,
  digestOf,
  type Member,
} from '#test/src/image/archive.ts';
import { throwsCode } from '#test/throws.ts';

const vectors = join(import.meta.dirname, '../../vectors/packages');
const RPMDB = readFileSync(join(vectors, 'rpm/rpmdb.sqlite')).toString('latin1');
const scratch = mkdtempSync(join(tmpdir(), 'bootproof-test-'));
after(() => rmSync(scratch, { recursive: true }));

/** What the real `rpm -qa` says: package, TAB, path. */
const OWNED = readFileSync(join(vectors, 'rpm/owned.txt'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => line.split('\t') as [string, string]);

const latin = (name: string, data: string): Member => file(name, '', { data: Buffer.from(data, 'latin1') });

type Told = {
  readonly at: (path: string, rule?: Rule) => PathOrigin | undefined;
  readonly text: (path: string, rule?: Rule) => string;
  readonly notes: Origins['notes'];
  readonly bytes: number;
};

/** As buildworker.ts does it: layers read once with a `Keep`, every rule deployed, one document. */
async function told(
  layers: readonly (readonly Member[])[],
  rules: readonly Rule[] = ['ostree/1', 'composefs/1'],
  labels: ReadonlyMap<string, string> = new Map(),
): Promise<Told> {
  using kept = new KeptFiles();
  const read = await Promise.all(
    layers.map((members, index) => {
      const { bytes, diffId } = plain(tar(members));
      const of = { index, digest: digestOf(bytes), mediaType: PLAIN, diffId };
      // Pieces smaller than what a file is known by.
      return readLayer(of, pieces(bytes, 1009), IMAGE_LIMITS, kept);
    }),
  );
  const reader = new PackageReader(kept);
  const facts = {
    labels: new Map([...labels].map(([key, value]) => [key, value === 'LAST' ? read[0]!.diffId : value])),
    diffIds: read.map(({ diffId }) => diffId),
    dockerInLayout: false,
  };
  const writer = new OriginsWriter(
    read.map(({ digest, bytes }, index) => ({
      digest,
      size: bytes,
      createdBy: `RUN /bin/sh -c make layer ${index + 1} # buildkit`,
      comment: null,
      components: [],
    })),
  );
  const lines = new Map<string, number>();
  const text = (rule: Rule, tree: string) => digestOf(Buffer.from(`${rule} ${tree}`));
  for (const rule of rules) {
    const deployed = deploy(read, facts, rule, IMAGE_LIMITS, (root) => reader.owners(root));
    const counts = { usr: 0, etc: 0 };
    for (const { path } of deployed.entries) lines.set(`${rule} ${path}`, counts[treeOf(path)!]++);
    const texts = { usr: text(rule, 'usr'), etc: text(rule, 'etc') };
    writer.add({ rule, deployed, texts, database: reader.found });
  }
  const json = JSON.stringify(writer.done([...reader.notes]));
  const origins = new Origins(JSON.parse(json));
  const at = (path: string, rule: Rule = rules[0]!) => {
    const bytes = fromUtf8(path);
    const line = lines.get(`${rule} ${bytes}`);
    assert.ok(line !== undefined, `${path} is no path under ${rule}`);
    return origins.at(rule, treeOf(bytes)!, text(rule, treeOf(bytes)!), line);
  };
  return { at, text: (path, rule) => originText(at(path, rule)!), notes: origins.notes, bytes: json.length };
}

const BASE: readonly Member[] = [
  dir('usr'),
  dir('usr/bin'),
  symlink('bin', 'usr/bin'),
  symlink('usr/sbin', 'bin'),
  dir('etc'),
  dir('etc/tool.d'),
  dir('usr/lib'),
  dir('usr/lib/sysimage'),
  dir('usr/lib/sysimage/rpm'),
  dir('usr/share'),
  dir('usr/share/tool'),
  dir('usr/share/tool/a folder'),
  dir('usr/share/licenses'),
  dir('usr/share/licenses/tool'),
  file('usr/bin/stray', 'of no package'),
  // As dnf leaves it in the base: a later layer has another.
  latin('usr/lib/sysimage/rpm/rpmdb.sqlite', `${RPMDB.slice(0, 4096)}older`),
];
const TOOL: readonly Member[] = [
  file('usr/bin/tool', 'tool\n'),
  symlink('usr/bin/t', 'tool'),
  file('usr/bin/tooladm', 'admin\n'),
  file('usr/bin/toolsh', 'old\n'),
  file('etc/tool.conf', 'conf\n'),
  file('etc/tool.d/state', 'made later'),
  file('usr/share/tool/a folder/näme', 'conf\n'),
  file('usr/share/licenses/tool/COPYING', 'licence\n'),
  latin('usr/lib/sysimage/rpm/rpmdb.sqlite', RPMDB),
];

test('every path that rpm says is owned is owned by that package, through symlinked folders as well', async () => {
  const { at, text, notes } = await told([BASE, TOOL, [file('usr/bin/tool', 'patched\n')]]);
  assert.deepEqual(notes, []);
  const owners = new Map<string, string[]>();
  for (const [nevra, path] of OWNED) owners.set(path, [...(owners.get(path) ?? []), nevra]);
  assert.equal(owners.size, 10);
  for (const rule of ['ostree/1', 'composefs/1'] as const)
    for (const [path, nevras] of owners) {
      // In the image of today /bin and /usr/sbin lead to /usr/bin.
      const origin = at(path.replace(/^\/bin\/|^\/usr\/sbin\//, '/usr/bin/'), rule)!;
      assert.deepEqual(
        origin.packages.map(({ name, version, arch }) => `${name}-${version}.${arch}`).sort(),
        nevras,
        path,
      );
      assert.equal(origin.altered, path === '/usr/bin/tool', path);
      assert.deepEqual(origin.database, { kind: 'rpm', path: '/usr/lib/sysimage/rpm/rpmdb.sqlite' });
    }
  assert.equal(at('/usr/bin/stray')!.packages.length, 0);
  assert.deepEqual(
    ['/usr/bin/stray', '/etc/tool.conf', '/usr/bin/tool', '/usr/share/licenses/tool/COPYING'].map((path) => text(path)),
    [
      'from layer 1 of 3 (RUN make layer 1), of no package',
      'from layer 2 of 3 (RUN make layer 2), package tool-1:2.5-3.noarch',
      'from layer 3 of 3 (RUN make layer 3), over what package tool-1:2.5-3.noarch brought',
      'from layer 2 of 3 (RUN make layer 2), package tool-1:2.5-3.noarch and 1 more',
    ],
  );
  // On an ostree host the defaults of /etc stand in /usr/etc as well.
  assert.equal(at('/usr/etc/tool.conf')!.packages[0]!.name, 'tool');
});

test('in an encapsulated commit the database is an object without a name, and is found by how it begins', async () => {
  const object = (hex: string) => `sysroot/ostree/repo/objects/${hex.slice(0, 2)}/${hex.slice(2)}.file`;
  const [db, tool] = [object('aa11'), object('bb22')];
  const base = [
    dir('sysroot/ostree/repo/objects/cc'),
    file(object('cc33').replace('.file', '.commit'), 'commit'),
    file(tool, 'tool\n'),
    latin(db, RPMDB),
    dir('usr'),
    dir('usr/bin'),
    hardlink('usr/bin/tool', tool),
    dir('usr/share'),
    dir('usr/share/rpm'),
    hardlink('usr/share/rpm/rpmdb.sqlite', db),
  ];
  const { text } = await told([base], ['ostree/1'], new Map([['ostree.final-diffid', 'LAST']]));
  assert.equal(text('/usr/bin/tool'), 'from layer 1 of 1 (RUN make layer 1), package tool-1:2.5-3.noarch');
});

test("dpkg's lists name the owners of files, wherever the image moved them", async () => {
  const dpkg = join(vectors, 'dpkg');
  for (const at of ['usr/lib/sysimage/dpkg', 'var/lib/dpkg']) {
    const parents = at.split('/').map((_, i, parts) => dir(parts.slice(0, i + 1).join('/')));
    const { text, at: origin } = await told([
      [dir('usr'), dir('usr/bin'), dir('usr/lib'), dir('usr/lib/tool'), dir('usr/lib/x'), dir('etc')],
      [
        file('usr/bin/tool', 'tool\n'),
        file('etc/tool.conf', 'changed since\n'),
        file('usr/lib/tool/näme with space', 'x\n'),
        file('usr/lib/x/libtool.so.1', 'l\n'),
        ...parents,
        dir(`${at}/info`),
        latin(`${at}/status`, readFileSync(join(dpkg, 'status'), 'latin1')),
        ...readdirSync(join(dpkg, 'info')).map((name) =>
          latin(`${at}/info/${name}`, readFileSync(join(dpkg, 'info', name), 'latin1')),
        ),
      ],
    ]);
    assert.equal(text('/usr/bin/tool'), 'from layer 2 of 2 (RUN make layer 2), package tool 1:2.5-3');
    assert.equal(text('/usr/lib/tool/näme with space'), 'from layer 2 of 2 (RUN make layer 2), package tool 1:2.5-3');
    assert.equal(origin('/usr/lib/x/libtool.so.1')!.packages[0]!.name, 'libtool1');
    // dpkg has MD5 alone: what is altered is not told. Folders are everybody's.
    assert.equal(origin('/etc/tool.conf')!.altered, false);
    assert.equal(origin('/usr/bin')!.packages.length, 0);
  }
});

const DB_TEXT = (name: string, sql: string): string => {
  const path = join(scratch, name);
  const db = new Database(path);
  db.exec(sql);
  db.close();
  return readFileSync(path).toString('latin1');
};
const refused: readonly (readonly [name: string, db: string, why: RegExp])[] = [
  ['bytes that are no database', `SQLite format 3\0${'x'.repeat(5000)}`, /SQLite says/],
  ['a database cut in the middle', RPMDB.slice(0, 100_000), /SQLite says/],
  ['another database', DB_TEXT('other', 'create table x (y)'), /no table of packages/],
  [
    'a view that never ends',
    DB_TEXT(
      'view',
      'create view Packages as with recursive r(blob) as (select 1 union all select blob from r) select blob from r',
    ),
    /no table of packages/,
  ],
  [
    'a table that computes its column',
    DB_TEXT('computed', 'create table Packages (hnum integer primary key, blob as (zeroblob(1e9)))'),
    /not what rpm makes/,
  ],
  [
    'rows that are no blobs',
    DB_TEXT('numbers', 'create table Packages (hnum integer primary key, blob); insert into Packages values (1, 7)'),
    /no header/,
  ],
];
for (const [name, db, why] of refused)
  test(`${name} instead of packages is a note, and layers are told all the same`, async () => {
    const { notes, text } = await told([[...BASE.slice(0, -1), latin('usr/lib/sysimage/rpm/rpmdb.sqlite', db)]]);
    assert.equal(notes.length, 1);
    assert.equal(notes[0]!.code, 'PACKAGES_UNREAD');
    assert.match(notes[0]!.text, why);
    assert.equal(text('/usr/bin/stray'), 'from layer 1 of 1 (RUN make layer 1)');
  });

test('without a database, with one of another form, or with one that was not kept, it is said why', async () => {
  const rest = BASE.slice(0, -1);
  assert.deepEqual(
    (await told([rest])).notes.map(({ code }) => code),
    ['PACKAGES_NONE'],
  );
  const old = await told([[...rest, file('usr/lib/sysimage/rpm/Packages', 'bdb')]]);
  assert.match(old.notes[0]!.text, /Berkeley DB/);
  // By another name in the archive: a hard link of a file that nobody had a reason to keep.
  const linked = await told([
    [...rest, latin('usr/share/tool/db', RPMDB), hardlink('usr/lib/sysimage/rpm/rpmdb.sqlite', 'usr/share/tool/db')],
  ]);
  assert.deepEqual(
    linked.notes.map(({ code }) => code),
    ['PACKAGES_UNREAD'],
  );
});

test('nothing is left on the disk, and an older layer never takes the place of a newer one', async () => {
  const before = readdirSync(tmpdir()).filter((name) => name.startsWith('bootproof-packages-')).length;
  await told([BASE, TOOL], ['composefs/1']);
  const kept = new KeptFiles();
  const put = (layer: number, data: string) => {
    const sink = kept.open(layer, 'usr/lib/sysimage/rpm/rpmdb.sqlite', data.length);
    sink?.write(Buffer.from(data));
    sink?.end(data);
  };
  put(2, 'newer');
  put(1, 'older');
  assert.equal(kept.file('older'), undefined);
  const path = kept.file('newer')!;
  assert.equal(readFileSync(path, 'utf8'), 'newer');
  put(3, 'newest');
  assert.equal(existsSync(path), false);
  kept[Symbol.dispose]();
  assert.equal(readdirSync(tmpdir()).filter((name) => name.startsWith('bootproof-packages-')).length, before);
});

test('a header that lies about itself is refused', () => {
  const headers: Uint8Array[] = [];
  const path = join(scratch, 'rpmdb.sqlite');
  copyFileSync(join(vectors, 'rpm/rpmdb.sqlite'), path);
  assert.deepEqual(
    readRpmDatabase(path, (header) => void headers.push(Uint8Array.from(header))),
    {
      kind: 'read',
      packages: 2,
    },
  );
  const whole = headers.find((header) => parseRpmHeader(header)?.name === 'tool')!;
  const tags = new DataView(whole.buffer).getUint32(0);
  const change = (act: (view: DataView) => void): Uint8Array => {
    const copy = Uint8Array.from(whole);
    act(new DataView(copy.buffer));
    return copy;
  };
  const entry = (view: DataView, tag: number): number => {
    for (let i = 0; i < tags; i++) if (view.getUint32(8 + 16 * i) === tag) return 8 + 16 * i;
    throw new Error(`no tag ${tag}`);
  };
  const lies: readonly (readonly [string, Uint8Array])[] = [
    ['empty', new Uint8Array()],
    ['cut', whole.subarray(0, 200)],
    ['more tags than bytes', change((view) => view.setUint32(0, 0x7fffffff))],
    ['a longer store', change((view) => view.setUint32(4, 0xffffffff))],
    ['more names than bytes', change((view) => view.setUint32(entry(view, 1117) + 12, 1_000_000))],
    ['names that are numbers', change((view) => view.setUint32(entry(view, 1117) + 4, 4))],
    ['an offset behind the end', change((view) => view.setUint32(entry(view, 1000) + 8, 0xfffffff0))],
    ['a folder that is not there', change((view) => view.setUint32(entry(view, 1118) + 12, 1))],
  ];
  for (const [name, bytes] of lies)
    throwsCode(() => assert.fail(`${name}: ${parseRpmHeader(bytes)?.name}`), RpmHeaderError, 'RPM_HEADER');
  writeFileSync(path, '');
  assert.equal(readRpmDatabase(path, () => {}).kind, 'unread');
});

test('what is kept of an image stays small', async () => {
  const many = Array.from({ length: 3000 }, (_, i) => file(`usr/share/tool/f${i}`, `${i}`));
  const { bytes } = await told([BASE, [...TOOL, ...many]]);
  assert.ok(bytes < 4000, `${bytes} bytes for 3,000 paths of one layer`);
});
