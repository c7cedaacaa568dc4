/**
 * Random layers through the real programs of this machine: `ostree commit --tree=tar` and `ostree checkout --union --whiteouts`, which
 * are what ostree-ext runs, and `umoci unpack`. Same trees, same refusals.
 */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { BackendError, deploy, type Rule } from '../../src/image/backend.ts';
import { image, sha256, tar, type Member } from '../src/image/archive.ts';
import { ok, run, scratch } from './tools.ts';

const names = fc.constantFrom('a', 'b', 'dd', '.e', '-c', '!z');
const paths = fc
  .tuple(fc.constantFrom('usr/share', 'usr/lib'), fc.array(names, { minLength: 1, maxLength: 3 }))
  .map(([root, parts]) => [root, ...parts].join('/'));
const dirs = paths.map((path) => path.slice(0, path.lastIndexOf('/')));
const own = { uid: fc.constantFrom(0, 3, 7), gid: fc.constantFrom(0, 4) };
const links = fc.array(fc.record({ name: paths, type: fc.constant('1'), link: paths, ...own }), { maxLength: 6 });
const entry: fc.Arbitrary<Member> = fc.oneof(
  {
    arbitrary: fc.record({
      name: paths,
      data: fc.constantFrom('', 'x', 'yy'),
      mode: fc.constantFrom(0o644, 0o4755),
      ...own,
    }),
    weight: 6,
  },
  {
    arbitrary: fc.record({ name: paths, type: fc.constant('5'), mode: fc.constantFrom(0o755, 0o700, 0o2775), ...own }),
    weight: 3,
  },
  {
    arbitrary: fc.tuple(dirs, names, fc.record(own)).map(([dir, name, of]) => ({ name: `${dir}/.wh.${name}`, ...of })),
    weight: 2,
  },
  { arbitrary: fc.tuple(dirs, fc.record(own)).map(([dir, of]) => ({ name: `${dir}/.wh..wh..opq`, ...of })), weight: 1 },
);
/** A layer that contradicts itself in one case of four only; hard links last, to files of the layer, now and then to other links. */
const layer = fc
  .record({
    entries: fc.array(entry, { maxLength: 10 }),
    links,
    picks: fc.array(fc.nat(), { minLength: 6, maxLength: 6 }),
    wild: fc.nat(3).map((n) => n === 0),
  })
  .map(({ entries, links, picks, wild }) => {
    const kept: Member[] = [{ name: 'usr', type: '5' }];
    const kinds = new Map<string, 'dir' | 'file'>();
    const fits = ({ name, type }: Member) => {
      const up = name.split('/').map((_, i, parts) => parts.slice(0, i).join('/'));
      const kind = type === '5' ? 'dir' : 'file';
      if (!wild && (up.some((dir) => kinds.get(dir) === 'file') || (kinds.get(name) ?? kind) !== kind)) return false;
      for (const dir of up) kinds.set(dir, 'dir');
      kinds.set(name, kind);
      return true;
    };
    const files: string[] = [];
    for (const member of [...entries, ...links.map((link, i) => ({ ...link, pick: picks[i]! }))]) {
      if (!fits(member)) continue;
      if (!('pick' in member)) kept.push(member);
      else if (files.length > 0) kept.push({ ...member, link: files[member.pick % files.length]! });
      if (member.type === undefined && !member.name.includes('.wh.')) files.push(member.name);
      else if ('pick' in member && member.pick % 4 === 0) files.push(member.name);
    }
    return kept;
  });
const BASE: Member[] = ['usr', 'usr/share', 'usr/lib'].map((name) => ({ name, type: '5' }));

type Outcome = readonly string[] | 'refused' | 'not told';

async function ours(layers: readonly (readonly Member[])[], rule: Rule): Promise<Outcome> {
  const { layers: read, facts } = await image(layers);
  try {
    return deploy(read, facts, rule)
      .entries.filter(({ path }) => path.startsWith('/usr'))
      .map(({ path, type, mode, uid, gid, sha256 }) => [path, type, mode, uid, gid, sha256].join(' '))
      .sort();
  } catch (error) {
    if (error instanceof BackendError) return 'refused';
    throw error;
  }
}

function walk(root: string, path = '/usr'): string[] {
  const stat = lstatSync(root + path);
  const facts = [stat.mode & 0o7777, stat.uid, stat.gid];
  if (stat.isSymbolicLink()) return [[path, 'symlink', readlinkSync(root + path)].join(' ')];
  if (!stat.isDirectory()) return [[path, 'file', ...facts, sha256(readFileSync(root + path))].join(' ')];
  return [
    [path, 'dir', ...facts, ''].join(' '),
    ...readdirSync(root + path).flatMap((name) => walk(root, `${path}/${name}`)),
  ];
}

function ostree(folder: string, layers: readonly (readonly Member[])[]): Outcome {
  const repo = `--repo=${folder}/repo`;
  ok('ostree', [repo, 'init', '--mode=bare']);
  for (const [index, members] of layers.entries()) {
    writeFileSync(join(folder, 'layer.tar'), tar(members));
    const commit = [
      repo,
      'commit',
      '--no-bindings',
      '--tar-autocreate-parents',
      `--tree=tar=${folder}/layer.tar`,
      '-b',
      `l${index}`,
    ];
    if (run('ostree', commit).status !== 0) return 'refused';
    const checkout = run('ostree', [repo, 'checkout', '--union', '--whiteouts', `l${index}`, join(folder, 'root')]);
    // Until 2023.8 a directory could not replace a file here.
    if (checkout.stderr.includes('opendir(')) return 'not told';
    if (checkout.status !== 0) return 'refused';
  }
  return walk(join(folder, 'root')).sort();
}

function umoci(folder: string, layers: readonly (readonly Member[])[]): Outcome {
  mkdirSync(join(folder, 'image/blobs/sha256'), { recursive: true });
  const blob = (data: Buffer | string) => {
    const hex = sha256(data);
    writeFileSync(join(folder, 'image/blobs/sha256', hex), data);
    return { digest: `sha256:${hex}`, size: Buffer.byteLength(data) };
  };
  const oci = 'application/vnd.oci.image';
  const blobs = layers.map((members) => ({ ...blob(tar(members)), mediaType: `${oci}.layer.v1.tar` }));
  const rootfs = { type: 'layers', diff_ids: blobs.map(({ digest }) => digest) };
  const config = blob(JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs, history: [] }));
  const manifest = blob(
    JSON.stringify({ schemaVersion: 2, config: { ...config, mediaType: `${oci}.config.v1+json` }, layers: blobs }),
  );
  const annotations = { 'org.opencontainers.image.ref.name': 'latest' };
  writeFileSync(join(folder, 'image/oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    join(folder, 'image/index.json'),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [{ ...manifest, mediaType: `${oci}.manifest.v1+json`, annotations }],
    }),
  );
  const unpack = run('umoci', ['unpack', '--image', `${folder}/image:latest`, join(folder, 'bundle')]);
  // Until 0.5 a file in the way of a path was an error.
  if (/mkdir parent: mkdir .* not a directory/.test(unpack.stderr)) return 'not told';
  return unpack.status === 0 ? walk(join(folder, 'bundle/rootfs')).sort() : 'refused';
}

for (const [name, rule, real] of [
  ['ostree', 'ostree/1', ostree],
  ['umoci', 'oci', umoci],
] as const)
  test(`${name} makes of random layers what we make of them`, async (t) => {
    if (process.getuid?.() !== 0) return t.skip('needs root: the programs set owners');
    const folder = scratch(t);
    const told = { tree: 0, refused: 0 };
    let count = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(layer, { minLength: 1, maxLength: 3 }), async (layers) => {
        const work = join(folder, String(count++));
        mkdirSync(work);
        const theirs = real(work, [BASE, ...layers]);
        if (theirs === 'not told') return;
        told[theirs === 'refused' ? 'refused' : 'tree']++;
        assert.deepEqual(await ours([BASE, ...layers], rule), theirs);
      }),
      { numRuns: 100 },
    );
    assert.ok(told.tree > 15 && told.refused > 5, JSON.stringify(told));
  });
