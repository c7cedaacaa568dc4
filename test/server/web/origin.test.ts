/** Where a changed file comes from, from a real build on: an image with an RPM database, hosts that differ, and what pages, API and command say. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { deploy } from '#src/image/backend.ts';
import { OCI_MANIFEST } from '#src/image/ocimanifest.ts';
import { readImage } from '#src/source/build.ts';
import { layoutSource } from '#src/source/layout.ts';
import { findings, host as hostCommand } from '#cli/fleet.ts';
import { images as imagesCommand } from '#cli/supply.ts';
import type { Build } from '#server/jobs/builder.ts';
import { contentsChore } from '#server/jobs/contents.ts';
import { folder as folderOf } from '#server/sources.ts';
import { dir, digestOf, file, PLAIN, symlink, tar, type Member } from '#test/src/image/archive.ts';
import { ran } from '#test/ran.ts';
import {
  builderOf,
  enrol,
  file as entryOf,
  folder,
  image,
  serverFor,
  SOURCE,
  type TestHost,
  type TestImage,
  type TestServer,
} from '../fleet.ts';
import { personAs } from '../access/signedin.ts';
import { visitor } from './visitor.ts';

const RPMDB = readFileSync(join(import.meta.dirname, '../../vectors/packages/rpm/rpmdb.sqlite'));
const BASE: readonly Member[] = [
  ...['usr', 'usr/bin', 'usr/lib', 'usr/lib/sysimage', 'usr/lib/sysimage/rpm', 'usr/share', 'etc'].map((path) =>
    dir(path),
  ),
  symlink('bin', 'usr/bin'),
  file('usr/lib/sysimage/rpm/rpmdb.sqlite', '', { data: RPMDB }),
  file('etc/motd', 'welcome\n'),
];
const layersOf = (tool: string): readonly (readonly Member[])[] => [
  BASE,
  [dir('usr/bin'), file('usr/bin/tool', 'tool\n', { mode: 0o755 }), file('etc/tool.conf', 'conf\n')],
  [dir('usr/bin'), file('usr/bin/helper', tool, { mode: 0o755 })],
];
const MADE = ['ostree export', 'RUN /bin/sh -c dnf -y install tool # buildkit', 'COPY helper /usr/bin # buildkit'];

/** Adds an image to a layout and answers what a host that booted it shows. */
async function put(layout: string, version: string, layers: readonly (readonly Member[])[]): Promise<TestImage> {
  const blobs = join(layout, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const add = (bytes: Buffer) => {
    const digest = digestOf(bytes);
    writeFileSync(join(blobs, digest.slice('sha256:'.length)), bytes);
    return { digest, size: bytes.length };
  };
  const json = (value: unknown) => add(Buffer.from(JSON.stringify(value)));
  const tars = layers.map((members) => add(tar(members)));
  const config = json({
    os: 'linux',
    architecture: 'amd64',
    config: { Labels: { 'org.opencontainers.image.version': version } },
    rootfs: { type: 'layers', diff_ids: tars.map(({ digest }) => digest) },
    history: [{ created_by: 'ENV x', empty_layer: true }, ...MADE.map((created_by) => ({ created_by }))],
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
    layers: tars.map((layer) => ({ mediaType: PLAIN, ...layer })),
  });
  writeFileSync(
    join(layout, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType: OCI_MANIFEST, ...manifest }] }),
  );
  const read = await readImage(layoutSource(folderOf(layout), layout), manifest.digest);
  const { entries } = deploy(read.layers, read.facts, 'ostree/1');
  return { ...image(version, entries), digest: manifest.digest };
}

/** The booted image, with other files in the places of its own. */
async function report(
  server: TestServer,
  host: TestHost,
  of: TestImage,
  own: ReturnType<typeof entryOf>[],
): Promise<void> {
  const entries = of.rules.get('ostree/1')!;
  host.booted = of.digest;
  host.entries = [...entries.filter(({ path }) => !own.some((each) => each.path === path)), ...own];
  host.compareWith(of);
  server.time.now += 60_000;
  assert.equal((await host.sendFull()).status, 200);
  await server.settle();
}

async function fleet(t: TestContext) {
  const layout = join(folder(t), 'layout');
  const [old, newer] = [await put(layout, '41.1', layersOf('old\n')), await put(layout, '41.2', layersOf('new\n'))];
  const server = await serverFor(t, { build: undefined as never, sources: [{ reference: `oci:${layout}` }] });
  const host = await enrol(server, old, { name: 'web-1' });
  const staged = host.deployment().booted!;
  host.state = { staged: { ...staged, image: { ...staged.image!, digest: newer.digest } } };
  await report(server, host, old, []);
  await report(server, host, old, []);
  return { layout, server, host, old, newer };
}

const groupOf = async (server: TestServer, path: string): Promise<string> => {
  const { items } = (await server.api(`/api/v1/groups?subject=${encodeURIComponent(path)}`)).body;
  assert.equal(items.length, 1, `${path}: one group`);
  return items[0].id;
};
const sha = (text: string): string => digestOf(Buffer.from(text)).slice('sha256:'.length);

test('who brought a file, whose file a host shows and since when is told by page, API and terminal; an image of an older build says how to learn it', async (t) => {
  const { layout, server, host, old, newer } = await fleet(t);
  const own = [
    entryOf('/usr/bin/helper', 'new\n', 0o755),
    entryOf('/usr/bin/tool', 'changed by hand\n', 0o755),
    entryOf('/usr/bin/implant', 'conf\n', 0o755),
    entryOf('/usr/lib/implant.so', 'conf\n'),
  ];
  await report(server, host, old, own);
  const person = await visitor(server);
  const told = async (path: string) => {
    const id = await groupOf(server, path);
    return {
      ...(await server.api(`/api/v1/groups/${id}/origin`)).body,
      text: (await person.page(`/findings/${id}`)).text,
    };
  };

  // The staged image's own file: the host is between two images.
  const helper = await told('/usr/bin/helper');
  assert.equal(helper.origin.text, 'from layer 3 of 3 (COPY helper /usr/bin), of no package');
  assert.deepEqual(
    [
      helper.elsewhere.images,
      helper.elsewhere.looked,
      helper.elsewhere.places[0].slot,
      helper.elsewhere.places[0].same,
    ],
    [1, 2, 'staged', true],
  );
  assert.match(helper.text, /this very file of .*41\.2 .*which is staged on this host/);
  assert.equal(helper.since.before.seq, helper.since.seq - 1);
  assert.match(helper.text, new RegExp(`between reports ${helper.since.seq - 1} \\(.*\\) and ${helper.since.seq} \\(`));

  const tool = await told('/usr/bin/tool');
  assert.equal(tool.origin.text, 'from layer 2 of 3 (RUN dnf -y install tool), package tool-1:2.5-3.noarch');
  assert.deepEqual(tool.origin.packages, [
    { name: 'tool', version: '1:2.5-3', arch: 'noarch', text: 'tool-1:2.5-3.noarch' },
  ]);
  assert.deepEqual([tool.elsewhere.images, tool.elsewhere.places], [0, []]);
  assert.match(
    tool.text,
    /2 of 3 .*RUN dnf -y install tool.*tool-1:2\.5-3\.noarch.*of no known image: 2 images looked through/s,
  );

  // On a host of another image it comes from there: each image that hosts of the change run is told.
  const beside = await enrol(server, newer, { name: 'web-2' });
  await report(server, beside, newer, []);
  await report(server, beside, newer, [entryOf('/usr/bin/tool', 'changed by hand\n', 0o755)]);
  assert.match(
    (await told('/usr/bin/tool')).text,
    /2 of 3 .*Elsewhere in .*41\.[12], which 1 of these hosts runs: the same layer and package/,
  );
  await report(server, beside, newer, []);

  // An added file that no layer brings is, byte for byte, the image's own configuration in another place.
  const implant = await told('/usr/bin/implant');
  assert.deepEqual([implant.origin.state, implant.origin.layer, implant.origin.packages], ['absent', null, []]);
  assert.match(implant.text, /nothing of the image: no layer and no package of it has this path/);
  assert.deepEqual(
    implant.elsewhere.places.map(({ path, same, slot }: any) => [path, same, slot]),
    [
      ['/usr/etc/tool.conf', false, 'staged'],
      ['/usr/etc/tool.conf', false, 'booted'],
    ],
  );

  assert.deepEqual(
    implant.alike.map(({ subject }: { subject: string }) => subject),
    ['/usr/lib/implant.so'],
    'the same bytes in another place are another finding',
  );
  assert.match(implant.text, /The same bytes \/usr\/lib\/implant\.so .* on 1 host/);

  const tree = await person.page(`/hosts/${host.id}/tree`);
  assert.match(tree.text, /From layer 2 of 3 \(RUN dnf -y install tool\), package tool-1:2\.5-3\.noarch/);
  assert.match(tree.text, /No layer and no package of this image brings it/);

  const env = { BOOTPROOF_TOKEN: server.admin };
  const address = ['--server', server.server.url];
  const shown = await ran(findings, ['show', await groupOf(server, '/usr/bin/tool'), ...address], { env });
  assert.match(shown.out, /brought by +from layer 2 of 3 \(RUN dnf -y install tool\), package tool-1:2\.5-3\.noarch/);
  const path = await ran(imagesCommand, ['origin', old.digest, '/etc/tool.conf', ...address], { env });
  assert.match(path.out, /package tool-1:2\.5-3\.noarch/);

  const asked = (query: string) => server.api(`/api/v1/images/${old.digest}/origin?${query}`);
  for (const [query, status, of] of [
    ['path=/usr/bin/tool&rule=composefs/1', 200, 'told'],
    ['path=/usr/bin/nothing', 200, 'absent'],
    ['path=/usr/bin/tool&rule=ostree/9', 400, 'QUERY_INVALID'],
    ['path=/var/x', 400, 'QUERY_INVALID'],
    [`path=${encodeURIComponent('/usr/a b')}`, 400, 'QUERY_INVALID'],
  ] as const) {
    const { status: answered, body } = await asked(query);
    assert.deepEqual([answered, body.state ?? body.code], [status, of], query);
  }

  // Images that no host of theirs runs or ran are not looked through for them, and not named.
  await server.api(`/api/v1/hosts/${beside.id}`, { method: 'PATCH', body: { group: 'web' } });
  await report(server, beside, newer, [entryOf('/usr/bin/copy', 'old\n', 0o755)]);
  const copy = await groupOf(server, '/usr/bin/copy');
  const { token } = await personAs(server, 'wanda', [{ role: 'viewer', groups: ['web'] }]);
  const theirs = await fetch(`${server.server.url}/api/v1/groups/${copy}/origin`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const { elsewhere } = (await theirs.json()) as any;
  assert.deepEqual([elsewhere.looked, elsewhere.places], [1, []]);
  assert.deepEqual((await told('/usr/bin/copy')).elsewhere.places[0].image, old.digest);
  await report(server, beside, newer, []);

  // The update: another time, with what it changed one click away.
  host.state = {};
  await report(server, host, newer, []);
  const { items } = (await server.api(`/api/v1/hosts/${host.id}/lineage`)).body;
  assert.deepEqual(
    items.map(({ image: of, version, running, before }: any) => [of, version, running, before]),
    [
      [newer.digest, '41.2', true, old.digest],
      [old.digest, '41.1', false, null],
    ],
  );
  assert.ok(items[1].lastSeen < items[0].firstSeen && items[0].firstSeen <= items[0].lastSeen);
  const deployments = await person.page(`/hosts/${host.id}/deployments`);
  assert.ok(
    deployments.html.includes(`/images/${encodeURIComponent(old.digest)}/diff?to=${encodeURIComponent(newer.digest)}`),
  );
  const one = await ran(hostCommand, [host.id, ...address], { env });
  assert.match(one.out, new RegExp(`${newer.digest} +41\\.2 .*\\(running\\)`));

  // An image that an older build made.
  await report(server, host, old, [entryOf('/usr/bin/tool', 'changed\n', 0o755)]);
  const id = await groupOf(server, '/usr/bin/tool');
  const { store } = server.server;
  const rows = await store.imageOrigins.shard(Number.parseInt(sha('tool\n').slice(0, 2), 16), 10);
  assert.equal(rows.length, 2, 'both images are in the index');

  // As if an older build had made it: another server on a store without what is kept.
  const plain = image('bare', old.rules.get('ostree/1'));
  const build: Build = async (...asked) => {
    const result = await builderOf([plain])(...asked);
    if (result.kind === 'failed') return result;
    const { marks: _, ...older } = result;
    return older;
  };
  const bare = await serverFor(t, { build, sources: [{ reference: SOURCE }] });
  const other = await enrol(bare, plain);
  await report(bare, other, plain, []);
  await report(bare, other, plain, [entryOf('/usr/bin/tool', 'changed\n', 0o755)]);
  const untold = (await bare.api(`/api/v1/groups/${await groupOf(bare, '/usr/bin/tool')}/origin`)).body;
  assert.equal(untold.origin.state, 'not_kept');
  assert.equal(untold.origin.text, `built before layers were kept: bootproof images rebuild ${other.booted}`);
  // Which contents it has is learnt from its texts, without a network.
  assert.equal(untold.elsewhere.looked, 0);
  await contentsChore({ store: bare.server.store, clock: () => bare.time.now }, 1).run();
  await contentsChore({ store: bare.server.store, clock: () => bare.time.now }, 1).run();
  const copied = entryOf('/usr/lib/copied', 'tool\n');
  await report(bare, other, plain, [entryOf('/usr/bin/tool', 'changed\n', 0o755), copied]);
  const known = (await bare.api(`/api/v1/groups/${await groupOf(bare, copied.path)}/origin`)).body.elsewhere;
  assert.deepEqual([known.looked, known.places[0].path, known.places[0].slot], [1, '/usr/bin/tool', 'booted']);
  const page = await (await visitor(bare)).page(`/findings/${await groupOf(bare, '/usr/bin/tool')}`);
  assert.match(page.text, /not known: the image was built before layers were kept/);
  assert.match(page.text, /bootproof images rebuild sha256:/);

  // Read again, it is as before; from nowhere, it says why, and what was known stands.
  const again = await server.api(`/api/v1/images/${old.digest}/rebuild`, { method: 'POST' });
  assert.deepEqual([again.status, again.body], [202, { image: old.digest, state: 'ready' }]);
  await server.settle();
  assert.match((await person.page(`/findings/${id}`)).text, /tool-1:2\.5-3\.noarch/);
  assert.equal((await server.api('/api/v1/images/sha256:00/rebuild', { method: 'POST' })).status, 404);
  await server.api(`/api/v1/sources?reference=${encodeURIComponent(`oci:${layout}`)}`, { method: 'DELETE' });
  await server.api(`/api/v1/images/${old.digest}/rebuild`, { method: 'POST' });
  await server.settle();
  assert.match((await store.imageOrigins.get(old.digest))!.failure!, /IMAGE_SOURCE_NOT_ALLOWED/);
  assert.match((await person.page(`/findings/${id}`)).text, /tool-1:2\.5-3\.noarch/);
  const trail = (await server.api(`/api/v1/audit?object=${encodeURIComponent(`image:${old.digest}`)}`)).body.items;
  assert.deepEqual(
    trail.map(({ action }: { action: string }) => action),
    ['image.rebuild', 'image.rebuild'],
    'who asked stands in the trail',
  );
});
