/** Check 7 (docs/report.md 3.4): whoever leaves something out, or adds it, contradicts himself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf, sha256Hex, type Digest } from '#src/digest.ts';
import { checkConsistency, readContents, type KnownManifest } from '#src/report/contradict.ts';
import { FullReport } from '#src/report/report.ts';
import { full, manifest, someDigest } from './vectors.ts';

const document = full.document;
const known: KnownManifest = { header: manifest.header, texts: (tree) => Promise.resolve(manifest.trees[tree]) };
const booted = manifest.header.image;

async function judge(
  report: FullReport,
  have: { manifest?: KnownManifest | undefined; booted?: Digest | undefined } = {},
) {
  FullReport.parse(report); // each case must pass the checks before this one
  const contents = readContents(report);
  if (contents.kind === 'refused') return contents;
  const { manifest = known } = have;
  return checkConsistency(
    report,
    contents,
    { manifest: 'manifest' in have ? have.manifest : manifest, booted: 'booted' in have ? have.booted : booted },
    sha256Hex,
  );
}

const { usr, etc } = document.trees;
const [hosts, evil, changed] = document.drift as [
  FullReport['drift'][0],
  FullReport['drift'][0],
  FullReport['drift'][0],
];
const hole = { path: '/etc/ssl', kind: 'unreadable' as const, detail: 'EACCES' };
const holed = { ...etc, main: null, extra: null, holes: [hole] };
/** /etc/hosts, of which only lstat is known. */
const unread: FullReport['drift'][0] = {
  ...hosts,
  change: 'modified',
  attributes: ['mode', 'size'],
  actual: { type: 'file', mode: '0600', uid: hosts.expected!.uid, gid: hosts.expected!.gid, size: 2 ** 40 },
};
const unreadEtc = { ...holed, holes: [{ ...hole, path: '/etc/hosts' }] };
const secretFile = {
  path: '/etc/shadow',
  change: 'modified' as const,
  attributes: ['mode' as const],
  expected: { type: 'file' as const, mode: '0000', uid: 0, gid: 0 },
  actual: { type: 'file' as const, mode: '0644', uid: 0, gid: 0 },
};

const motd = { path: '/etc/motd', text: 'Grüße\n' };
/** /etc/motd, added with that text. */
const motdLine: FullReport['drift'][0] = {
  path: motd.path,
  change: 'added',
  attributes: [],
  actual: {
    type: 'file',
    mode: '0644',
    uid: 0,
    gid: 0,
    size: 8,
    sha256: sha256Hex(new TextEncoder().encode(motd.text)),
  },
};
const withMotd = (contents: FullReport['contents'], line: FullReport['drift'][0] = motdLine) => ({
  drift: [hosts, line, evil, changed],
  contents,
});

const refused: [string, Partial<FullReport>, string][] = [
  ['another text than the one that was hashed', withMotd([{ ...motd, text: 'Gruß\n\n' }]), 'CONTENTS_CONTRADICT'],
  [
    'a text of another size',
    withMotd([motd], { ...motdLine, actual: { ...motdLine.actual!, size: 7 } }),
    'CONTENTS_CONTRADICT',
  ],
  ['a text with a NUL', withMotd([{ ...motd, text: 'a\0' }]), 'CONTENTS_CONTRADICT'],
  ['a text of a file that is not listed', { contents: [motd] }, 'CONTENTS_CONTRADICT'],
  ['a text twice', withMotd([motd, { path: motd.path, omitted: 'limit' }]), 'CONTENTS_CONTRADICT'],
  ['a text of a program', { contents: [{ path: '/usr/bin/evil', text: '' }] }, 'CONTENTS_CONTRADICT'],
  [
    'a text of a secret, even if only to say that there is none',
    withMotd([{ path: '/etc/shadow', omitted: 'secret' }]),
    'CONTENTS_CONTRADICT',
  ],
  [
    'a text of a secret of the site',
    { ...withMotd([motd]), secretPaths: { id: document.secretPaths.id, added: ['/etc/m*'] } },
    'CONTENTS_CONTRADICT',
  ],
  ['a line left out', { drift: [hosts, changed] }, 'TREE_CONTRADICTS'],
  ['every line left out', { drift: [] }, 'TREE_CONTRADICTS'],
  ['a line too many', { drift: [hosts, evil, { ...evil, path: '/usr/bin/evil2' }, changed] }, 'TREE_CONTRADICTS'],
  ['another digest of the extra text', { trees: { usr: { ...usr, extra: someDigest(1) }, etc } }, 'TREE_CONTRADICTS'],
  [
    'the digest of a tree as it was built, beside drift',
    { trees: { usr: { ...usr, main: manifest.header.trees.usr.main.comparison }, etc } },
    'TREE_CONTRADICTS',
  ],
  [
    'something called expected that the manifest does not say',
    {
      drift: [
        hosts,
        evil,
        { ...changed, expected: { ...changed.expected!, uid: 7 }, attributes: ['uid', 'size', 'sha256'] },
      ],
    },
    'TREE_CONTRADICTS',
  ],
  [
    'something called removed that never was',
    { drift: [{ ...hosts, path: '/etc/motd' }, evil, changed] },
    'TREE_CONTRADICTS',
  ],
  [
    'attributes that are not those that differ',
    { drift: [hosts, evil, { ...changed, attributes: ['size'] }] },
    'DRIFT_CONTRADICTS',
  ],
  [
    'a modification that changes nothing',
    { drift: [hosts, evil, { ...changed, actual: changed.expected!, attributes: [] }] },
    'DRIFT_CONTRADICTS',
  ],
  ['a line out of order', { drift: [evil, hosts, changed] }, 'DRIFT_CONTRADICTS'],
  ['a line twice', { drift: [hosts, hosts, evil, changed] }, 'DRIFT_CONTRADICTS'],
  ['a path outside the trees', { drift: [hosts, evil, changed, { ...evil, path: '/var/x' }] }, 'DRIFT_CONTRADICTS'],
  ['a path that climbs out', { drift: [{ ...evil, path: '/etc/../var' }, hosts, evil, changed] }, 'DRIFT_CONTRADICTS'],
  [
    'a path in base64 that needs none',
    {
      drift: [hosts, { ...evil, path: undefined as never, path_b64: btoa('/usr/bin/evil') }, changed].map(
        withoutUndefined,
      ),
    },
    'DRIFT_CONTRADICTS',
  ],
  ...['!', 'QR=='].map((path_b64): [string, Partial<FullReport>, string] => [
    `a path in ${path_b64}, which is no base64`,
    { drift: [hosts, withoutUndefined({ ...evil, path: undefined as never, path_b64 }), changed] },
    'DRIFT_CONTRADICTS',
  ]),
  [
    'a link target of a file',
    { drift: [hosts, { ...evil, actual: { ...evil.actual!, link_b64: 'QR==' } }, changed] },
    'DRIFT_CONTRADICTS',
  ],
  ['a content of no proper name', { contents: [{ path_b64: '!', text: '' }] }, 'CONTENTS_CONTRADICT'],
  [
    'the size and digest of a secret',
    {
      drift: [
        hosts,
        {
          ...secretFile,
          actual: { ...secretFile.actual, size: 1, sha256: '0'.repeat(64) },
          attributes: ['mode', 'size', 'sha256'],
        },
        evil,
        changed,
      ],
    },
    'DRIFT_CONTRADICTS',
  ],
  [
    'a file without size and digest that is no secret',
    { drift: [hosts, evil, { ...changed, actual: { type: 'file', mode: '0755', uid: 0, gid: 0 } }] },
    'DRIFT_CONTRADICTS',
  ],
  ['a secret that is none', { secrets: [{ path: '/etc/hosts', state: 'differs' }] }, 'DRIFT_CONTRADICTS'],
  [
    'a secret called added that the manifest has',
    { secrets: [{ path: '/etc/shadow', state: 'added' }] },
    'DRIFT_CONTRADICTS',
  ],
  ['drift without a manifest', { manifest: null, secrets: [] }, 'DRIFT_CONTRADICTS'],
  ['secrets without a manifest', { manifest: null, drift: [] }, 'DRIFT_CONTRADICTS'],
  [
    'totals without a manifest',
    { manifest: null, drift: [], secrets: [], truncated: { added: 1, removed: 0, modified: 0 } },
    'DRIFT_CONTRADICTS',
  ],
  ['totals below what is listed', { truncated: { added: 0, removed: 1, modified: 1 } }, 'DRIFT_CONTRADICTS'],
  ['a hole beside digests', { trees: { usr, etc: { ...etc, holes: [hole] } } }, 'HOLES_CONTRADICT'],
  ['no digest and no hole', { trees: { usr, etc: { ...etc, main: null, extra: null } } }, 'HOLES_CONTRADICT'],
  ['one digest of two', { trees: { usr, etc: { ...etc, main: null, holes: [hole] } } }, 'HOLES_CONTRADICT'],
  ['a capped list of holes beside digests', { trees: { usr, etc: { ...etc, holesCapped: true } } }, 'HOLES_CONTRADICT'],
  [
    'a hole of the other tree',
    { trees: { usr, etc: { ...holed, holes: [{ ...hole, path: '/usr/lib' }] } } },
    'HOLES_CONTRADICT',
  ],
  [
    'a hole outside the trees',
    { trees: { usr, etc: { ...holed, holes: [{ ...hole, path: '/' }] } } },
    'HOLES_CONTRADICT',
  ],
  ['drift below a hole', { trees: { usr, etc: { ...holed, holes: [{ ...hole, path: '/etc' }] } } }, 'HOLES_CONTRADICT'],
  [
    'a digest of what could not be read',
    { trees: { usr, etc: { ...holed, holes: [{ ...hole, path: '/etc/hosts' }] } } },
    'HOLES_CONTRADICT',
  ],
  [
    'what could not be read called removed',
    {
      drift: [{ path: '/etc/hosts', change: 'removed', attributes: [], expected: hosts.expected! }, evil, changed],
      trees: { usr, etc: { ...holed, holes: [{ ...hole, path: '/etc/hosts' }] } },
    },
    'HOLES_CONTRADICT',
  ],
  [
    'what lies under a mount',
    {
      drift: [unread, evil, changed],
      trees: { usr, etc: { ...holed, holes: [{ ...hole, kind: 'mount', path: '/etc/hosts' }] } },
    },
    'HOLES_CONTRADICT',
  ],
  ['a size without a digest of what was read', { drift: [unread, evil, changed] }, 'HOLES_CONTRADICT'],
  [
    'a size without a digest as what is expected',
    { drift: [{ ...hosts, expected: { ...hosts.expected!, sha256: undefined } }, evil, changed] },
    'DRIFT_CONTRADICTS',
  ],
  [
    'content called different that was not read',
    { drift: [{ ...unread, attributes: ['mode', 'size', 'sha256'] }, evil, changed], trees: { usr, etc: unreadEtc } },
    'DRIFT_CONTRADICTS',
  ],
  [
    'the size of a secret that could not be read',
    {
      drift: [
        { ...secretFile, attributes: ['mode', 'size'], actual: { ...secretFile.actual, size: 7 } },
        evil,
        changed,
      ],
      secrets: [],
      trees: { usr, etc: { ...holed, holes: [{ ...hole, path: '/etc/shadow' }] } },
    },
    'DRIFT_CONTRADICTS',
  ],
  [
    'a wrong expectation at a hole',
    {
      drift: [
        { ...unread, expected: { ...hosts.expected!, uid: 1 }, attributes: ['mode', 'uid', 'size'] },
        evil,
        changed,
      ],
      trees: { usr, etc: unreadEtc },
    },
    'TREE_CONTRADICTS',
  ],
  [
    'a wrong expectation in a tree with holes',
    { drift: [{ ...hosts, expected: { ...hosts.expected!, uid: 1 } }, evil, changed], trees: { usr, etc: holed } },
    'TREE_CONTRADICTS',
  ],
  [
    'a wrong expectation in a truncated list',
    {
      drift: [{ ...hosts, expected: { ...hosts.expected!, uid: 1 } }],
      truncated: { added: 9, removed: 9, modified: 9 },
    },
    'TREE_CONTRADICTS',
  ],
  [
    'another /usr under a list of secret paths that is not known',
    { secretPaths: { id: 'secret-paths/999', added: [] }, trees: { usr: { ...usr, main: someDigest(1) }, etc } },
    'TREE_CONTRADICTS',
  ],
  [
    'other capabilities in /usr under a list of secret paths that is not known',
    { secretPaths: { id: 'secret-paths/999', added: [] }, trees: { usr: { ...usr, extra: someDigest(1) }, etc } },
    'TREE_CONTRADICTS',
  ],
  [
    'other capabilities in /etc under a list of secret paths that is not known',
    { secretPaths: { id: 'secret-paths/999', added: [] }, trees: { usr, etc: { ...etc, extra: someDigest(1) } } },
    'TREE_CONTRADICTS',
  ],
  [
    'a capability called expected that the manifest has not, under a list of secret paths that is not known',
    {
      secretPaths: { id: 'secret-paths/999', added: [] },
      drift: [
        {
          ...hosts,
          expected: { ...hosts.expected!, xattrs: { 'security.capability': 'AQAAAgAgAAAAAAAAAAAAAAAAAAA=' } },
        },
        evil,
        changed,
      ],
    },
    'TREE_CONTRADICTS',
  ],
  ['the manifest of another image', { manifest: { image: someDigest(5), rule: 'ostree/1' } }, 'MANIFEST_CONTRADICTS'],
];
function withoutUndefined<T extends object>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
for (const [name, change, code] of refused)
  test(`refuses ${name}`, async () => {
    const found = await judge({ ...document, ...change });
    assert.ok(found.kind === 'refused', JSON.stringify(found));
    assert.deepEqual([found.check, found.code, found.status], [7, code, 422], found.message);
  });

test('the report of the vectors is consistent', async () =>
  assert.deepEqual(await judge(document), { kind: 'consistent', why: null, flags: [] }));

const asBuilt: FullReport = {
  ...document,
  drift: [],
  secrets: [],
  trees: {
    usr: { ...usr, main: manifest.header.trees.usr.main.comparison, entries: 6 },
    etc: { ...etc, main: manifest.header.trees.etc.main.comparison, entries: 3 },
  },
};

test('a host that is as it was built is consistent without a look at any text', async () => {
  const blind: KnownManifest = { ...known, texts: () => assert.fail('not needed') };
  assert.deepEqual(await judge(asBuilt, { manifest: blind }), { kind: 'consistent', why: null, flags: [] });
});

test("a site's own secret paths change the comparison text, on both sides", async () => {
  const text = manifest.trees.etc.main.replace(/( type=file mode=0(?:644|000) uid=0 gid=0) size=.*/g, '$1');
  const hidden: FullReport = {
    ...asBuilt,
    secretPaths: { id: 'secret-paths/1', added: ['/etc/hosts'] },
    trees: { ...asBuilt.trees, etc: { ...asBuilt.trees.etc, main: digestOf(text) } },
    secrets: [{ path: '/etc/hosts', state: 'differs' }],
  };
  assert.deepEqual(await judge(hidden), { kind: 'consistent', why: null, flags: [] });
  const unnamed = await judge({ ...hidden, secretPaths: { id: 'secret-paths/1', added: [] } });
  assert.equal(unnamed.kind, 'refused');
});

const unchecked: [string, Partial<FullReport>, Parameters<typeof judge>[1], object][] = [
  ['had no manifest', { manifest: null, drift: [], secrets: [] }, {}, { why: 'no-manifest', flags: [] }],
  [
    'names a manifest that the server has not got',
    {},
    { manifest: undefined, booted: undefined },
    { why: 'no-manifest', flags: [] },
  ],
  [
    'has another list of secret paths, and so another text of /etc',
    { secretPaths: { id: 'secret-paths/0', added: [] }, trees: { usr, etc: { ...etc, main: someDigest(1) } } },
    {},
    { why: 'other-secret-paths', flags: [] },
  ],
  [
    'was truncated',
    { drift: [evil], secrets: [], truncated: { added: 30_000, removed: 0, modified: 0 } },
    {},
    { why: 'truncated', flags: ['drift-truncated'] },
  ],
  ['has holes', { trees: { usr, etc: holed } }, {}, { why: 'holes', flags: [] }],
  [
    'says of a hole what lstat shows',
    { drift: [unread, evil, changed], trees: { usr, etc: unreadEtc } },
    {},
    { why: 'holes', flags: [] },
  ],
  [
    'says of a secret that could not be read what lstat shows',
    {
      drift: [secretFile, evil, changed],
      secrets: [],
      trees: { usr, etc: { ...holed, holes: [{ ...hole, path: '/etc/shadow' }] } },
    },
    {},
    { why: 'holes', flags: [] },
  ],
];
for (const [name, change, have, expected] of unchecked)
  test(`is accepted unchecked if it ${name}`, async () =>
    assert.deepEqual(await judge({ ...document, ...change }, have), { kind: 'unchecked', ...expected }));

test('where capabilities cannot be read, the main text is held against the manifest all the same', async () => {
  const blind = { usr: { ...usr, extra: null }, etc };
  assert.deepEqual(await judge({ ...document, trees: blind }), { kind: 'unchecked', why: 'capabilities', flags: [] });
  const liar = await judge({ ...document, trees: blind, drift: [hosts, changed] });
  assert.equal(liar.kind === 'refused' && liar.code, 'TREE_CONTRADICTS');
});

test('a changed file that should have a capability is told without it where none can be read', async () => {
  const facts = { type: 'file' as const, uid: 0, gid: 0, size: 5, sha256: sha256Hex('shell') };
  const sh = {
    path: '/usr/bin/sh',
    change: 'modified' as const,
    attributes: ['mode' as const],
    expected: { ...facts, mode: '0755' },
    actual: { ...facts, mode: '0700' },
  };
  const text = manifest.trees.usr.main.replace('/bin/sh type=file mode=0755', '/bin/sh type=file mode=0700');
  const report = {
    ...document,
    drift: [hosts, sh],
    trees: { usr: { ...usr, main: digestOf(text), extra: null, entries: 6 }, etc },
  };
  assert.deepEqual(await judge(report), { kind: 'unchecked', why: 'capabilities', flags: [] });
  const seeing = await judge({ ...report, trees: { ...report.trees, usr: { ...report.trees.usr, extra: usr.extra } } });
  assert.equal(seeing.kind === 'refused' && seeing.code, 'TREE_CONTRADICTS');
});

test('a scan of fewer than half the entries is implausible, unless holes explain it', async () => {
  const gone = manifest.trees.usr.main.split('\n').slice(3, -1);
  assert.ok(gone.length > 2);
  const small = { ...document, trees: { usr: { ...usr, entries: 2 }, etc } };
  const found = await judge(small);
  assert.ok(found.kind === 'consistent');
  assert.deepEqual(found.flags, ['scan-implausible']);
  const holes = await judge({ ...document, trees: { usr, etc: { ...holed, entries: 1 } } });
  assert.deepEqual(holes.kind === 'unchecked' && holes.flags, []);
});

test('a text that is the listed content of its file is taken, and so is the reason why one is missing', async () => {
  for (const content of [motd, { path: motd.path, omitted: 'too-large' as const }]) {
    const report = { ...document, ...withMotd([content]) };
    assert.equal((await judge(report, { manifest: undefined })).kind, 'unchecked');
  }
  // A list that this build does not know may have other secrets: such a text is taken, and never shown.
  const other = { ...document, ...withMotd([motd]), secretPaths: { id: 'secret-paths/0', added: ['/etc/m*'] } };
  assert.equal((await judge(other, { manifest: undefined })).kind, 'unchecked');
});
