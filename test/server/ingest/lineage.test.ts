/** What a host booted before: files that keep what an older image said, and the way back to an older image. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Entry } from '#src/manifest/entry.ts';
import { parsePolicy } from '#src/policy/document.ts';
import type { Build } from '#server/jobs/builder.ts';
import { readPolicy } from '#server/prepare.ts';
import {
  BASE,
  builderOf,
  enrol,
  file,
  image,
  serverFor,
  T0,
  type TestHost,
  type TestImage,
  type TestServer,
} from '../fleet.ts';

/** Images of one line: each with its own motd, and a banner from the second on. */
const with_ = (...more: Entry[]): Entry[] => [
  ...BASE.filter(({ path }) => !more.some((one) => one.path === path)),
  ...more,
];
const A = image('a', with_(file('/etc/motd', 'from a')));
const B = image('b', with_(file('/etc/motd', 'from b'), file('/etc/banner', 'from b')));
const C = image('c', with_(file('/etc/motd', 'from b'), file('/etc/banner', 'from c')));
const entriesOf = (of: TestImage): readonly Entry[] => of.rules.get('ostree/1')!;

async function fleet(t: TestContext): Promise<{ server: TestServer; host: TestHost }> {
  const server = await serverFor(t, { images: [A, B, C] });
  const host = await enrol(server, A);
  await boot(server, host, A);
  return { server, host };
}

/** The host boots an image, with its own files in place of the image's; an hour later. */
async function boot(server: TestServer, host: TestHost, of: TestImage, own: readonly Entry[] = []): Promise<void> {
  server.time.now += 3_600_000;
  host.booted = of.digest;
  host.entries = [...entriesOf(of).filter(({ path }) => !own.some((one) => one.path === path)), ...own];
  host.compareWith(of);
  await host.sendFull();
  await server.settle();
  await host.sendFull();
  await server.settle();
}

const kinds = async (host: TestHost, kind: string): Promise<string[]> =>
  (await host.findings()).filter((finding) => finding.kind === kind).map(({ subject, rule }) => `${rule} ${subject}`);
const stale = (host: TestHost) => kinds(host, 'stale-config');

test('a file changed under one image hides what the next one says, and is told so', async (t) => {
  const { server, host } = await fleet(t);
  const own = file('/etc/motd', 'ours');
  await boot(server, host, A, [own]);
  assert.deepEqual(await stale(host), [], 'the image says what it said when the copy was made');
  await boot(server, host, B, [own]);
  assert.deepEqual(await stale(host), ['config-stale /etc/motd']);
  const finding = (await host.findings()).find(({ kind }) => kind === 'stale-config') as any;
  assert.match(finding.text ?? finding.description ?? JSON.stringify(finding), /keeps what an older image said/);
  // The next image says the same as this one: still hidden.
  await boot(server, host, C, [own]);
  assert.deepEqual(await stale(host), ['config-stale /etc/motd']);
  // Weightless: what the file differs in is drift, that it is old is not.
  assert.equal((await host.told()).verdict, 'drifted');
});

test('a copy that is made anew under the newer image hides nothing; nor does one that is the image’s own', async (t) => {
  const { server, host } = await fleet(t);
  await boot(server, host, A, [file('/etc/motd', 'ours')]);
  await boot(server, host, B, [file('/etc/motd', 'ours')]);
  assert.equal((await stale(host)).length, 1);
  await boot(server, host, B, [file('/etc/motd', 'ours, with what b says')]);
  assert.deepEqual(await stale(host), []);
  await boot(server, host, A);
  await boot(server, host, B);
  assert.deepEqual(await stale(host), []);
});

test('a copy that is an older image’s own file is stale from its first sight', async (t) => {
  const { server, host } = await fleet(t);
  await boot(server, host, B);
  await boot(server, host, B, [file('/etc/motd', 'from a')]);
  assert.deepEqual(await stale(host), ['config-stale /etc/motd']);
});

test('a file that only the newer image brings, and one that is gone here', async (t) => {
  const { server, host } = await fleet(t);
  await boot(server, host, A, [file('/etc/banner', 'ours')]);
  await boot(server, host, B, [file('/etc/banner', 'ours')]);
  assert.deepEqual(await stale(host), ['config-stale /etc/banner']);
  await boot(server, host, B);
  assert.deepEqual(await stale(host), []);
});

test('nothing is over while the older image is not known', async (t) => {
  const { server, host } = await fleet(t);
  await boot(server, host, A, [file('/etc/motd', 'ours')]);
  await boot(server, host, B, [file('/etc/motd', 'ours')]);
  assert.equal((await stale(host)).length, 1);
  // A report with a hole over it neither finds nor ends it.
  host.entries = entriesOf(B).filter(({ path }) => path !== '/etc/motd');
  const report = host.fullReport();
  const hole = { path: '/etc/motd', kind: 'unreadable' as const, detail: 'EIO' };
  await host.send({
    ...report,
    trees: { ...report.trees, etc: { ...report.trees.etc, main: null, extra: null, holes: [hole] } },
    drift: report.drift.filter(({ path }) => path !== '/etc/motd'),
  });
  assert.deepEqual(await stale(host), ['config-stale /etc/motd']);
});

test('back to an image that was left for a newer one is told, until it goes forward', async (t) => {
  const { server, host } = await fleet(t);
  await boot(server, host, B);
  assert.deepEqual(await kinds(host, 'rollback'), []);
  await boot(server, host, A);
  assert.deepEqual(await kinds(host, 'rollback'), [`image-rolled-back ${A.digest}`]);
  await boot(server, host, C);
  assert.deepEqual(await kinds(host, 'rollback'), []);
});

test('the row of a host is written where something of it changed, and only then', async (t) => {
  const { server, host } = await fleet(t);
  await boot(server, host, A, [file('/etc/motd', 'ours'), file('/etc/hostname', 'web-1')]);
  const before = await server.server.store.lineages.get(host.id);
  assert.deepEqual(
    before!.copies.map(([path, , index]) => [path, index]),
    [
      ['/etc/hostname', 0],
      ['/etc/motd', 0],
    ],
  );
  assert.deepEqual(
    before!.images.map(({ image: name }) => name),
    [A.digest],
  );
  await boot(server, host, B, [file('/etc/motd', 'ours'), file('/etc/hostname', 'web-1')]);
  const after = await server.server.store.lineages.get(host.id);
  assert.deepEqual(
    after!.images.map(({ image: name }) => name),
    [A.digest, B.digest],
  );
  assert.deepEqual(after!.copies, before!.copies);
});

test('an image that grows too old is told without a new full report; where its age is not known, the verdict says so', async (t) => {
  const DAY = 86_400_000;
  const shipped = await readPolicy(undefined);
  const policy = parsePolicy(
    'format: bootproof.policy/1\nname: strict\nextends: default\nfreshness: {imageAgeMax: 30d, silentAfter: 7d}\n',
    { file: 'strict.yaml', base: () => shipped },
  );
  const plain = builderOf([A, B]);
  const build: Build = async (request, signal) => {
    const found = await plain(request, signal);
    return found.kind === 'built' && found.digest === A.digest ? { ...found, madeAt: T0 - 29 * DAY } : found;
  };
  const server = await serverFor(t, { images: [A, B], policy, build });
  const host = await enrol(server, A);
  await boot(server, host, A);
  const outdated = () => kinds(host, 'outdated');
  assert.deepEqual([await outdated(), (await host.told()).freshness.state], [[], 'current']);
  server.time.now += 2 * DAY;
  // By the clock alone, before anybody wrote anything.
  assert.equal((await host.told()).freshness.state, 'late');
  // The first one echoes a challenge of two days ago, so only the second is live.
  await host.sendSame();
  await host.sendSame();
  assert.deepEqual(await outdated(), [`image-outdated ${A.digest}`]);
  assert.equal((await host.told()).freshness.state, 'outdated');
  await boot(server, host, B);
  assert.match((await host.told()).sentence, /compliant \(.*age of the image not assessed/);
  // Nobody knows how old the other one is: that it is young enough is not said either.
  assert.deepEqual(await outdated(), [`image-outdated ${A.digest}`]);
});

test('times of one image each, with the tag that was followed then, are kept one after the other; going back is another time', async (t) => {
  const { server, host } = await fleet(t);
  const stays = async () =>
    (await server.server.store.lineages.get(host.id))!.stays!.map(({ image: of, seq, reference, from, to }) => [
      of,
      seq,
      reference?.split(':').at(-1),
      (from - T0) / 3_600_000,
      to === null ? null : (to - T0) / 3_600_000,
    ]);
  host.reference = 'registry.example/team/os:stable';
  await boot(server, host, B);
  await boot(server, host, B);
  host.reference = 'registry.example/team/os:next';
  await boot(server, host, A);
  const [first, second, third] = await stays();
  assert.deepEqual([first![0], first![4]], [A.digest, 1], 'last heard an hour before the next one was');
  assert.deepEqual(second, [B.digest, second![1], 'stable', 2, 3]);
  assert.deepEqual([third![0], third![2], third![3], third![4]], [A.digest, 'next', 4, null]);
  const [a, b, c] = [first, second, third].map((row) => Number(row![1]));
  assert.ok(a! < b! && b! < c!);
  // The same image by another tag is the same time.
  host.reference = 'registry.example/team/os:stable';
  await boot(server, host, A);
  assert.deepEqual((await stays()).at(-1), [A.digest, third![1], 'stable', 4, null]);
  assert.equal((await stays()).length, 3);
});
