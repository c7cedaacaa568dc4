/**
 * Every image that the real programs imported (test/vectors/merge): our tree is theirs to the byte, what they refused we refuse with
 * a reason, and where the program itself was at fault we give the right tree and say so.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BootproofError } from '#src/error.ts';
import {
  BackendError,
  deploy,
  lint,
  rulesOf,
  type Backend,
  type Deployed,
  type WarningCode,
} from '#src/image/backend.ts';
import { ImageError, type Layer } from '#src/image/layer.ts';
import { comparePathBytes, comparePaths, treeOf } from '#src/manifest/entry.ts';
import { entryLine } from '#src/manifest/json.ts';
import { readLayout } from './layout.ts';

const vectors = join(import.meta.dirname, '../../vectors/merge');
const cases = readdirSync(vectors, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name)
  .sort();

/** The golden lines of /usr and /etc; of xattrs only security.capability, as manifests have it. */
function golden(file: string): string[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { path?: string; path_b64?: string; xattrs?: Record<string, string> })
    .filter(({ path, path_b64 }) => treeOf(path ?? Buffer.from(path_b64!, 'base64').toString('latin1')) !== undefined)
    .map(({ xattrs, ...rest }) => {
      const capability = xattrs?.['security.capability'];
      return JSON.stringify(capability ? { ...rest, xattrs: { 'security.capability': capability } } : rest);
    });
}

/** Every image is read once for all backends: reading is most of the work, and nothing changes what was read. */
const read = new Map<string, ReturnType<typeof readLayout>>();
function layoutOf(name: string): ReturnType<typeof readLayout> {
  let layout = read.get(name);
  if (layout === undefined) read.set(name, (layout = readLayout(join(vectors, name, 'image'))));
  return layout;
}

async function build(
  name: string,
  backend: Backend,
  layout = () => layoutOf(name),
): Promise<Deployed | BootproofError> {
  try {
    const { layers, facts } = await layout();
    return deploy(layers, facts, rulesOf(backend)[0]!);
  } catch (error) {
    if (error instanceof ImageError || error instanceof BackendError) return error;
    throw error;
  }
}

const lines = (of: Deployed): string[] =>
  of.entries.toSorted(comparePathBytes).map((entry) => entryLine(entry).trimEnd());

// Where the golden tree is a fault of the program itself (README: errata 10 and 14): lines of ours instead of theirs.
const FAULTS = new Map<string, { readonly code: WarningCode; readonly theirs: RegExp; readonly ours: RegExp }>([
  ['44-ostree-wh ostree', { code: 'OVERLAY_WHITEOUT', theirs: /"\/usr\/share\/d\/new"/, ours: /\.ostree-wh\.new"/ }],
  ['51-sparse-gnu ostree', { code: 'SPARSE_MISREAD', theirs: /share\/sparse"/, ours: /share\/(?:sparse|after)"/ }],
]);

for (const name of cases)
  for (const backend of ['ostree', 'composefs', 'oci'] as const) {
    const file = join(vectors, name, `${backend}.jsonl`);
    if (!existsSync(file)) {
      test(`${name}: ${backend} refuses it, and so do we`, async () => {
        assert.ok(existsSync(join(vectors, name, `${backend}.refused.txt`)));
        const refused = await build(name, backend);
        assert.ok(refused instanceof BootproofError, 'accepted');
        assert.equal(refused.code, REFUSED.get(`${name} ${backend}`) ?? (name.startsWith('fuzz-') && 'PARENT_MISSING'));
      });
      continue;
    }
    test(`${name}: the tree of ${backend}`, async () => {
      const deployed = await build(name, backend);
      if (deployed instanceof BootproofError) throw deployed;
      assert.deepEqual(
        deployed.entries,
        deployed.entries.toSorted((a, b) => comparePaths(a.path, b.path)),
      );
      const fault = FAULTS.get(`${name} ${backend}`);
      const [theirs, ours] = [golden(file), lines(deployed)];
      if (fault === undefined) return assert.deepEqual(ours, theirs);
      assert.ok(deployed.warnings.some(({ code }) => code === fault.code));
      assert.ok(theirs.some((line) => fault.theirs.test(line)) && ours.some((line) => fault.ours.test(line)));
      assert.deepEqual(
        ours.filter((line) => !fault.ours.test(line)),
        theirs.filter((line) => !fault.theirs.test(line)),
      );
    });
  }

test('an old GNU sparse file and what follows it are as the image has them', async () => {
  const { layers, facts } = await layoutOf('51-sparse-gnu');
  const right = golden(join(vectors, '52-sparse-pax', 'ostree.jsonl')).filter((line) =>
    /share\/(?:sparse|after)"/.test(line),
  );
  const ours = lines(deploy(layers, facts, 'ostree/1')).filter((line) => /share\/(?:sparse|after)"/.test(line));
  assert.equal(right.length, 2);
  assert.deepEqual(ours, right);
});

test('how a blob comes in pieces changes nothing', async () => {
  // Most begin with the same layer: byte for byte once is enough.
  const known = new Map<string, Layer>();
  for (const name of [
    '02-base-chunked',
    '37-longnames',
    '39-compression',
    '51-sparse-gnu',
    '52-sparse-pax',
    '56-gzip-members',
  ])
    assert.deepEqual(
      await build(name, 'ostree', () => readLayout(join(vectors, name, 'image'), 1, known)),
      await build(name, 'ostree', () => readLayout(join(vectors, name, 'image'), 100_000)),
      name,
    );
});

/** What a host would lose or change silently, and nothing else: on ostree, by case. */
const WARNED = new Map<string, readonly string[]>([
  ['01-base', []],
  ['03-plain', []],
  ['12-whiteout', []],
  ['04-dirmeta-base', ['DIRECTORY_KEPT']],
  ['09-opaque-nodir', ['OPAQUE_RESET']],
  ['23-parent-symlink', ['PARENT_REPLACED']],
  ['25-autoparents', ['PARENT_STAMPED']],
  ['25b-restamp-plain', ['PARENT_STAMPED']],
  ['28-xattrs', ['XATTR_EMPTY']],
  ['32-toplevel-nocfs', ['TOPLEVEL_DROPPED']],
  ['33-debris', ['DEBRIS_REMOVED', 'TOPLEVEL_DROPPED']],
  ['44-ostree-wh', ['OVERLAY_WHITEOUT']],
  ['45-wh-odd', ['MARKER_KEPT']],
  ['46-symlink-mode', ['SYMLINK_MODE']],
  ['51-sparse-gnu', ['SPARSE_MISREAD']],
  ['52-sparse-pax', ['SPARSE_UNPORTABLE']],
  ['53-symlink-targets', ['SYMLINK_REWRITTEN']],
  ['56-gzip-members', ['GZIP_MEMBERS_LOST']],
  ['71-wrong-diffid', ['DIFFID_MISMATCH']],
  ['89-sysroot-hardlink-only', ['SYSROOT_LINK_DROPPED']],
  ['91-wh-sort', ['MARKER_ORDER']],
  ['91b-wh-sort-dotfiles', ['MARKER_ORDER']],
]);
for (const [name, codes] of WARNED)
  test(`${name}: warns of ${codes.join(', ') || 'nothing'}`, async () => {
    const deployed = await build(name, 'ostree');
    if (deployed instanceof BootproofError) throw deployed;
    assert.deepEqual([...new Set(deployed.warnings.map(({ code }) => code))].sort(), codes);
  });

test('a warning names the layer and the path', async () => {
  const deployed = await build('25b-restamp-plain', 'ostree');
  if (deployed instanceof BootproofError) throw deployed;
  assert.deepEqual(
    deployed.warnings.map(({ layer, path }) => [layer, path]),
    ['/usr', '/usr/share', '/usr/share/k', '/usr/share/k/none'].map((path) => [0, path]),
  );
});

test('lint tells for each backend whether it deploys the image', async () => {
  const { layers, facts } = await layoutOf('56-gzip-members');
  assert.deepEqual(
    lint(layers, facts).map(({ backend, deployable }) => [backend, deployable]),
    [
      ['ostree', true],
      ['composefs', true],
      ['oci', true],
    ],
  );
  const chardev = await layoutOf('60-chardev');
  const [ostree, composefs] = lint(chardev.layers, chardev.facts);
  assert.ok(
    ostree?.deployable === false && ostree.code === 'DEVICE_IN_TREE' && ostree.message.includes('usr/share/null'),
  );
  assert.equal(composefs?.deployable, true);
});

/** Why each image is refused. */
const REFUSED = new Map<string, string>([
  ['23-parent-symlink composefs', 'PARENT_NOT_DIRECTORY'],
  ['25-autoparents composefs', 'PARENT_MISSING'],
  ['25b-restamp-plain composefs', 'PARENT_MISSING'],
  ['25c-restamp-derived composefs', 'PARENT_MISSING'],
  ['26-child-before-parent composefs', 'PARENT_MISSING'],
  ['36b-dup-dir-then-file ostree', 'TYPE_CONFLICT'],
  ['36c-dup-file-then-dir ostree', 'TYPE_CONFLICT'],
  ['43-global-pax ostree', 'GLOBAL_HEADER'],
  ['43-global-pax oci', 'GLOBAL_HEADER'],
  ['49-hardlink-lower ostree', 'HARDLINK_TARGET_MISSING'],
  ['50-hardlink-forward composefs', 'HARDLINK_TARGET_MISSING'],
  ['50-hardlink-forward oci', 'HARDLINK_TARGET_MISSING'],
  ['51-sparse-gnu composefs', 'SPARSE_UNSUPPORTED'],
  ['51-sparse-gnu oci', 'SPARSE_UNSUPPORTED'],
  ['52-sparse-pax composefs', 'SPARSE_UNSUPPORTED'],
  ['54-xattr-newline ostree', 'PAX_NEWLINE'],
  ['55-zstd-frames composefs', 'MEMBER_CUT'],
  ['57-gzip-members-cut ostree', 'MEMBER_CUT'],
  ['57-gzip-members-cut composefs', 'MEMBER_CUT'],
  ['58-root-slash ostree', 'ROOT_ENTRY'],
  ['59-ostree-wh-existing ostree', 'OVERLAY_WHITEOUT_CONFLICT'],
  ['60-chardev ostree', 'DEVICE_IN_TREE'],
  ['61-blockdev ostree', 'DEVICE_IN_TREE'],
  ['62-fifo ostree', 'FIFO_IN_TREE'],
  ['63-nonutf8 ostree', 'NOT_UTF8'],
  ['64-nonutf8-link ostree', 'NOT_UTF8'],
  ['65-hardlink-missing ostree', 'HARDLINK_TARGET_MISSING'],
  ['65-hardlink-missing composefs', 'HARDLINK_TARGET_MISSING'],
  ['65-hardlink-missing oci', 'HARDLINK_TARGET_MISSING'],
  ['66-dotdot ostree', 'DOTDOT'],
  ['66-dotdot composefs', 'DOTDOT'],
  ['67-dotdot-inside ostree', 'DOTDOT'],
  ['67-dotdot-inside composefs', 'DOTDOT'],
  ['68-hardlink-dotdot ostree', 'HARDLINK_TARGET_OUTSIDE'],
  ['68-hardlink-dotdot composefs', 'HARDLINK_TARGET_OUTSIDE'],
  ['68-hardlink-dotdot oci', 'HARDLINK_TARGET_MISSING'],
  ['69-truncated ostree', 'TAR_TRUNCATED'],
  ['69-truncated composefs', 'TAR_TRUNCATED'],
  ['69-truncated oci', 'TAR_TRUNCATED'],
  ['71-wrong-diffid oci', 'DIFFID_MISMATCH'],
  ['72-bad-chksum ostree', 'TAR_CHECKSUM'],
  ['72-bad-chksum composefs', 'TAR_CHECKSUM'],
  ['72-bad-chksum oci', 'TAR_CHECKSUM'],
  ['73-contiguous oci', 'TYPE_UNSUPPORTED'],
  ['74-unknown-type composefs', 'TYPE_UNSUPPORTED'],
  ['74-unknown-type oci', 'TYPE_UNSUPPORTED'],
  ['75-label-wrong ostree', 'BASE_LABEL_UNKNOWN'],
  ['76-label-plain ostree', 'BASE_COMMIT_MISSING'],
  ['78-empty-name ostree', 'TAR_NAME'],
  ['78-empty-name composefs', 'TAR_NAME'],
  ['78-empty-name oci', 'TAR_NAME'],
  ['79-symlink-escape ostree', 'PARENT_NOT_DIRECTORY'],
  ['79-symlink-escape composefs', 'PARENT_NOT_DIRECTORY'],
  ['81-no-usr ostree', 'USR_MISSING'],
  ['81-no-usr composefs', 'USR_MISSING'],
  ['82-wh-bare ostree', 'WHITEOUT_NAME'],
  ['83-wh-dotdot ostree', 'WHITEOUT_NAME'],
  ['83-wh-dotdot oci', 'WHITEOUT_NAME'],
  ['84-dev-in-etc ostree', 'DEVICE_IN_TREE'],
  ['85-overlay-whiteout ostree', 'DEVICE_IN_TREE'],
  ['87-wh-kinds composefs', 'HARDLINK_TARGET_MISSING'],
  ['89b-sysroot-hardlink-old ostree', 'HARDLINK_TARGET_MISSING'],
  ['97-mislabelled ostree', 'COMPRESSION_MISMATCH'],
  ['97-mislabelled composefs', 'COMPRESSION_MISMATCH'],
  ['97-mislabelled oci', 'COMPRESSION_MISMATCH'],
  ['98-docker-types composefs', 'DOCKER_MEDIA_TYPES'],
  ['98-docker-types oci', 'DOCKER_MEDIA_TYPES'],
  ['99-mislabelled-plain ostree', 'COMPRESSION_MISMATCH'],
  ['99-mislabelled-plain composefs', 'COMPRESSION_MISMATCH'],
  ['99-mislabelled-plain oci', 'COMPRESSION_MISMATCH'],
]);
