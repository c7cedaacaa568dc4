/** A registry on loopback with a key's signatures, an image policy over it, and hosts that boot its images. */
import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { serveRegistry } from '#demo/registry.ts';
import { keyPolicy, makeKey, signInto, type SigningKey } from '#demo/sign.ts';
import type { StartOptions } from '#server/options.ts';
import { assessHere } from '#server/trust/assesshere.ts';
import { trustSetup, type TrustSetup } from '#server/trust/setup.ts';
import { assertTame, read } from '#test/server/web/page.ts';
import { enrol, folder, image, type TestHost, type TestImage, type TestServer } from '../fleet.ts';

export const REPOSITORY = 'team/os';
export const KEY = makeKey();
export const OTHER = makeKey();

export type Site = {
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

export async function site(t: TestContext): Promise<Site> {
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

export async function hostOn(server: TestServer, at: Site, of: TestImage, name: string): Promise<TestHost> {
  const host = await enrol(server, of, { name });
  host.reference = `${at.registry}/${REPOSITORY}:latest`;
  host.compareWith(of);
  await host.sendFull();
  return host;
}

/** A page as a person who is signed in reads it. */
export async function pageText({ server, admin }: TestServer, path: string): Promise<string> {
  const login = await server.app.request('http://server/login', {
    method: 'POST',
    headers: { host: 'server', origin: 'http://server', 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ token: admin }),
  });
  const headers = { host: 'server', cookie: login.headers.get('set-cookie')!.split(';')[0]! };
  const response = await server.app.request(`http://server${path}`, { headers });
  const seen = read(await response.text());
  assertTame(seen);
  return seen.text;
}

/** The policy under which the vectors' keyless signatures are judged: by this identity, under a root named `test`. */
export const keylessSetup = (identity: { issuer: string; subject: string }, roots: readonly Uint8Array[]) =>
  trustSetup({
    policies: [
      {
        file: 'a.yaml',
        text: JSON.stringify({
          apiVersion: 'policy.sigstore.dev/v1beta1',
          kind: 'ClusterImagePolicy',
          metadata: { name: 'ours' },
          spec: {
            images: [{ glob: 'localhost:5001/acme/*@*' }],
            authorities: [
              { keyless: { identities: [identity], trustRootRef: 'test' }, ctlog: { trustRootRef: 'test' } },
            ],
          },
        }),
      },
    ],
    roots: roots.map((bytes) => ({ name: 'test', bytes })),
  });
