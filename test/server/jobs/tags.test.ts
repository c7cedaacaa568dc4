/** Where tags point: looked up where policy asks, and only in repositories that are allowed. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { parsePolicy } from '#src/policy/document.ts';
import { SourceError } from '#src/source/source.ts';
import { followedTag, type LookUp } from '#server/jobs/tags.ts';
import { readPolicy } from '#server/prepare.ts';
import { enrol, image, serverFor, SOURCE, type TestHost, type TestServer } from '../fleet.ts';

const OLD = image('old');
const NEW = image('new');
const HOUR = 3_600_000;

type World = { readonly server: TestServer; readonly host: TestHost; readonly asked: string[]; points: string | Error };

async function world(
  t: TestContext,
  terms = '{behindTagAfter: 2h, silentAfter: 9d}',
  reference = 'registry.example/team/os:stable',
): Promise<World> {
  const shipped = await readPolicy(undefined);
  const text = `format: bootproof.policy/1\nname: strict\nextends: default\nfreshness: ${terms}\n`;
  const policy = parsePolicy(text, { file: 'strict.yaml', base: () => shipped });
  const asked: string[] = [];
  const lookUp: LookUp = async ({ pattern }, tag) => {
    asked.push(`${pattern}:${tag}`);
    if (at.points instanceof Error) throw at.points;
    return [at.points];
  };
  const server = await serverFor(t, { images: [OLD, NEW], policy, lookUp });
  const host = await enrol(server, OLD);
  const at: World = { server, host, asked, points: OLD.digest };
  host.reference = reference;
  await host.sendFull();
  await server.settle();
  host.compareWith(OLD);
  await host.sendFull();
  await server.settle();
  return at;
}

const outdated = async ({ host }: World): Promise<string[]> =>
  (await host.findings()).filter(({ kind }) => kind === 'outdated').map(({ subject, rule }) => `${rule} ${subject}`);
/** A quarter of an hour, so that the tag is looked up again. */
async function later({ server }: World, ms = HOUR): Promise<void> {
  server.time.now += ms;
  await server.settle();
}

test('a host is behind once its tag has pointed elsewhere for longer than policy allows', async (t) => {
  const at = await world(t);
  assert.deepEqual(at.asked[0], `${SOURCE}:stable`);
  assert.deepEqual(await outdated(at), []);
  at.points = NEW.digest;
  await later(at);
  assert.deepEqual(await outdated(at), [], 'it has two hours');
  at.server.time.now += 2 * HOUR;
  await at.host.sendSame();
  await at.host.sendSame();
  assert.deepEqual(await outdated(at), [`image-outdated ${OLD.digest}`]);
  assert.equal((await at.host.told()).freshness.state, 'outdated');
  // Back where it was: over.
  at.points = OLD.digest;
  await later(at, 16 * 60_000);
  assert.deepEqual(await outdated(at), []);
});

test('a registry that does not answer moves no tag, and ends nothing', async (t) => {
  const at = await world(t);
  at.points = NEW.digest;
  await later(at);
  at.server.time.now += 2 * HOUR;
  await at.host.sendSame();
  assert.equal((await outdated(at)).length, 1);
  at.points = new SourceError('SOURCE_NETWORK', 'down');
  await later(at);
  assert.equal((await outdated(at)).length, 1);
  const known = await at.server.server.store.imageTags.get(`${SOURCE}:stable`);
  assert.deepEqual([known!.digests, known!.failure], [[NEW.digest], 'SOURCE_NETWORK: down']);
});

test('where policy does not ask, and where a host names another repository, nobody is asked', async (t) => {
  assert.deepEqual((await world(t, '{silentAfter: 9d}')).asked, []);
  const away = await world(t, undefined, 'evil.example/team/os:stable');
  assert.deepEqual(away.asked, []);
  assert.match((await away.host.told()).sentence, /compliant \(.*age of the image not assessed/);
  const pinned = await world(t, undefined, `registry.example/team/os@${OLD.digest}`);
  assert.deepEqual(pinned.asked, []);
  assert.doesNotMatch((await pinned.host.told()).sentence, /age of the image/);
});

const claims: [claim: string, reference: string | undefined][] = [
  ['registry.example/team/os:stable', 'docker://registry.example/team/os:stable'],
  ['docker://registry.example/team/os:stable', 'docker://registry.example/team/os:stable'],
  ['registry:registry.example/team/os', 'docker://registry.example/team/os:latest'],
  ['registry.example:5000/team/os:1', 'docker://registry.example:5000/team/os:1'],
  [`registry.example/team/os@sha256:${'a'.repeat(64)}`, undefined],
  ['containers-storage:localhost/x:1', undefined],
  ['os:stable', undefined],
  ['', undefined],
];
for (const [claim, reference] of claims)
  test(`${JSON.stringify(claim)} follows ${reference ?? 'no tag'}`, () => {
    assert.equal(followedTag(claim)?.reference, reference);
  });
