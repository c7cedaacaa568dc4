/** Who built what runs, through the real server: signatures in a registry on loopback, hosts that report, what changes and what then is so. */
import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { serveRegistry } from '#demo/registry.ts';
import { keyPolicy, makeKey, signInto, type SigningKey } from '#demo/sign.ts';
import type { StartOptions } from '#server/start.ts';
import { assessHere } from '#server/trust/assesshere.ts';
import { trustSetup, type TrustSetup } from '#server/trust/setup.ts';
import { enrol, folder, HOUR, image, serverFor, type TestHost, type TestImage, type TestServer } from '../fleet.ts';

const REPOSITORY = 'team/os';
const KEY = makeKey();
const OTHER = makeKey();

type Site = {
  readonly registry: string;
  readonly source: string;
  readonly stop: () => Promise<void>;
  readonly image: (name: string) => TestImage;
  readonly sign: (image: TestImage, key?: SigningKey) => Promise<void>;
  /** Takes a tag away. */
  readonly remove: (image: TestImage) => void;
  readonly policy: (keys: readonly SigningKey[], more?: string) => TrustSetup;
  readonly options: (trust: TrustSetup | null) => Partial<StartOptions>;
};

async function site(t: TestContext): Promise<Site> {
  const at = folder(t);
  const registry = await serveRegistry(at, 0);
  const { host } = registry;
  let open = true;
  const stop = async (): Promise<void> => {
    if (open) await registry.close();
    open = false;
  };
  t.after(stop);
  const source = `docker://${host}/${REPOSITORY}`;
  const fileOf = ({ digest }: TestImage) => join(at, 'manifests', REPOSITORY, `${digest.replace(':', '-')}.sig.json`);
  return {
    registry: host,
    source,
    stop,
    image: (name) => image(name, undefined, { source }),
    sign: ({ digest }, key = KEY) => signInto(host, { name: REPOSITORY, digest, key }),
    remove: (of) => {
      assert.ok(existsSync(fileOf(of)));
      rmSync(fileOf(of));
    },
    policy: (keys, more) =>
      trustSetup({
        policies: [
          { file: 'os.yaml', text: keyPolicy('os', `${host}/${REPOSITORY}@*`, keys) },
          ...(more === undefined ? [] : [{ file: 'more.yaml', text: more }]),
        ],
        roots: [],
      }),
    options: (trust) => ({ trust, assess: assessHere, sources: [{ reference: source, plainHttp: true }] }),
  };
}

async function hostOn(server: TestServer, at: Site, of: TestImage, name: string): Promise<TestHost> {
  const host = await enrol(server, of, { name });
  host.reference = `${at.registry}/${REPOSITORY}:latest`;
  host.compareWith(of);
  await host.sendFull();
  return host;
}

const kinds = async (host: TestHost) =>
  (await host.findings()).filter(({ kind }) => kind === 'provenance').map(({ rule }) => rule);

test('without an image policy nothing is assessed, and the sentence says so', async (t) => {
  const at = await site(t);
  const os = at.image('a');
  const server = await serverFor(t, { images: [os], ...at.options(null) });
  const host = await hostOn(server, at, os, 'a-1');
  await server.settle();
  await host.sendFull();
  const told = await host.told();
  assert.equal(told.provenance.state, 'not-assessed');
  assert.match(told.sentence, /signatures not assessed/);
});

test('a signed image is trusted, an unsigned one flagged within one check-in, each with its findings', async (t) => {
  const at = await site(t);
  const [signed, unsigned, foreign] = [at.image('signed'), at.image('unsigned'), at.image('foreign')];
  await at.sign(signed);
  await at.sign(foreign, OTHER);
  const server = await serverFor(t, { images: [signed, unsigned, foreign], ...at.options(at.policy([KEY])) });
  const hosts = [
    await hostOn(server, at, signed, 'good-1'),
    await hostOn(server, at, unsigned, 'bad-1'),
    await hostOn(server, at, foreign, 'ugly-1'),
  ] as const;
  await server.settle();
  for (const host of hosts) await host.sendFull();
  const [good, bad, ugly] = await Promise.all(hosts.map((host) => host.told()));
  assert.equal(good.verdict, 'compliant');
  assert.match(good.sentence, /signatures trusted/);
  assert.equal(good.provenance.state, 'trusted');
  assert.match(good.provenance.by, /^key sha256:[0-9a-f]{64}$/);
  assert.equal(good.provenance.policy, 'os');
  assert.equal(bad.verdict, 'unsigned');
  assert.equal(bad.provenance.state, 'unsigned');
  assert.match(bad.provenance.why, /no signature/);
  assert.equal(ugly.verdict, 'unsigned');
  assert.equal(ugly.provenance.state, 'rejected');
  assert.match(ugly.provenance.why, /not signed by the key sha256:/);
  assert.deepEqual(await kinds(hosts[0]), []);
  assert.deepEqual(await kinds(hosts[1]), ['image-unsigned']);
  assert.deepEqual(await kinds(hosts[2]), ['image-rejected']);
  const finding = (await hosts[1].findings()).find(({ kind }) => kind === 'provenance')!;
  assert.equal(finding.subject, unsigned.digest);
});

test('before anybody looked an image is unverifiable and no finding, and a later signature is found on schedule', async (t) => {
  const at = await site(t);
  const os = at.image('late');
  const server = await serverFor(t, { images: [os], ...at.options(at.policy([KEY])), reverifyEveryMs: HOUR });
  const host = await hostOn(server, at, os, 'a-1');
  const first = await host.told();
  assert.equal(first.provenance.state, 'unverifiable');
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'unsigned');
  await at.sign(os);
  server.time.now += HOUR;
  await server.settle();
  assert.equal((await host.told()).provenance.state, 'trusted');
  assert.deepEqual(await kinds(host), [], 'and its finding is resolved');
});
