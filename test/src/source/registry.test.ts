/** A registry over real HTTP: what it may ask of us, and what it may not make us do. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { digestOf, type Digest } from '#src/digest.ts';
import { OciManifestError } from '#src/image/ocimanifest.ts';
import type { Credentials } from '#src/source/credentials.ts';
import { findImage } from '#src/source/build.ts';
import { registrySource, type RegistryOptions } from '#src/source/registry.ts';
import { SourceError, type Source } from '#src/source/source.ts';
import { nodeSha256, readVerified } from '#src/source/verified.ts';
import { httpFetch } from '#server/sources.ts';
import { rejectsCode } from '#test/throws.ts';
import { image, indexOf, members } from './images.ts';
import { basic, serveRegistry, wantsToken, type Hook, type TestRegistry } from './registryserver.ts';

const one = image([members('one')]);
const two = image([members('two')]);
const big = new Uint8Array(randomBytes(3_000_000));
const bigBlob = { digest: digestOf(big, nodeSha256), size: big.length };
const store = new Map([...one.blobs, ...two.blobs, [bigBlob.digest, big]]);
const tags = { latest: one.digest, v2: two.digest };

const http = httpFetch({ env: {} });
test.after(() => http.close());

const password: Credentials = { kind: 'password', username: 'user', password: 'hunter2' };
const known = (credentials: Credentials | undefined) => async () => ({ credentials, hint: 'looked in /x' });

function open({ host }: { host: string }, options: Partial<RegistryOptions> = {}): Source {
  return registrySource({ registry: host, repository: 'a/b' }, { fetch: http.fetch, ...options });
}
const authorizations = ({ asked }: TestRegistry) => asked.map(({ headers }) => headers.authorization);
const paths = ({ asked }: TestRegistry) => asked.map(({ path }) => path).filter((path) => path !== '/v2/');

test('a tag, a digest and the tag latest are found; what the header says of the digest is not believed', async () => {
  await using registry = await serveRegistry(store, tags);
  assert.equal((await findImage(open(registry), 'v2')).digest, two.digest);
  assert.equal((await findImage(open(registry), one.digest)).digest, one.digest);
  assert.equal((await findImage(open(registry), undefined)).digest, one.digest);
  const asked = paths(registry);
  assert.ok(
    asked.every((path) => /^\/v2\/a\/b\/(manifests|blobs)\//.test(path)),
    asked.join(' '),
  );
});

test('no connection is made before something is asked', async () => {
  await using registry = await serveRegistry(store, tags);
  open(registry).blob(bigBlob);
  assert.deepEqual(registry.asked, []);
});

test('what is not there is said to be not there', async () => {
  await using registry = await serveRegistry(store, tags);
  await rejectsCode(() => findImage(open(registry), 'v3'), SourceError, 'SOURCE_NOT_FOUND');
  await rejectsCode(() => findImage(open(registry), digestOf('none')), SourceError, 'SOURCE_NOT_FOUND');
});

test('an answer for another digest than the one asked for is refused', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.blobs.set(one.digest, two.blobs.get(two.digest)!);
  await rejectsCode(() => findImage(open(registry), one.digest), SourceError, 'BLOB_DIGEST');
});

test('a member of an index that is another document is refused', async () => {
  const index = indexOf([{ of: one, platform: { os: 'linux', architecture: 'amd64' } }]);
  await using registry = await serveRegistry(index.blobs, { latest: index.digest });
  const platform = { os: 'linux', architecture: 'amd64' };
  assert.equal((await findImage(open(registry), undefined, { platform })).index, index.digest);
  registry.blobs.set(one.digest, two.blobs.get(two.digest)!);
  await rejectsCode(() => findImage(open(registry), undefined, { platform }), SourceError, 'BLOB_DIGEST');
});

const lies: [string, (config: Uint8Array) => Uint8Array, string][] = [
  ['other bytes', (config) => config.map((byte) => byte ^ 1), 'BLOB_DIGEST'],
  ['bytes missing', (config) => config.slice(1), 'BLOB_SIZE'],
  ['bytes too many', (config) => new Uint8Array([...config, 0x20]), 'BLOB_SIZE'],
];
for (const [name, lie, code] of lies)
  test(`a configuration with ${name} is refused`, async () => {
    await using registry = await serveRegistry(store, tags);
    const { digest } = one.manifest.config;
    registry.blobs.set(digest, lie(one.blobs.get(digest)!));
    await rejectsCode(() => findImage(open(registry), undefined), SourceError, code);
  });

test('a blob without a told length still ends where its descriptor says', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(({ path }, answer) => {
    if (!path.includes('/blobs/')) return false;
    answer.writeHead(200); // chunked, and without an end
    const more = () => void (answer.write(Buffer.alloc(65_536)) ? setImmediate(more) : answer.once('drain', more));
    more();
    return true;
  });
  await rejectsCode(() => findImage(open(registry), undefined), SourceError, 'BLOB_SIZE');
});

test('a blob of 10 GB by its header is not read', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(({ path }, answer) => {
    if (!path.includes('/blobs/')) return false;
    answer.writeHead(200, { 'content-length': 10 * 2 ** 30 });
    answer.write('x');
    return true;
  });
  await rejectsCode(() => findImage(open(registry), undefined), SourceError, 'BLOB_SIZE');
});

for (const [name, headers] of [
  ['endless', {}],
  ['10 GB by its header', { 'content-length': 10 * 2 ** 30 }],
] as const)
  test(`a manifest that is ${name} is given up`, async () => {
    await using registry = await serveRegistry(store, tags);
    let sent = 0;
    registry.hooks.push(({ path }, answer) => {
      if (!path.includes('/manifests/')) return false;
      answer.writeHead(200, headers);
      const more = () => {
        if (answer.destroyed) return;
        sent += 65_536;
        if (answer.write(' '.repeat(65_536))) setImmediate(more);
        else answer.once('drain', more);
      };
      more();
      return true;
    });
    await rejectsCode(() => findImage(open(registry), undefined), SourceError, 'SOURCE_ANSWER');
    assert.ok(sent < 64 * 2 ** 20);
  });

test('an artifact is refused as one', async () => {
  const chart = image([members('x')], {
    patch: (manifest) => ({
      ...manifest,
      config: { ...manifest.config, mediaType: 'application/vnd.cncf.helm.config.v1+json' },
    }),
  });
  await using registry = await serveRegistry(chart.blobs, { latest: chart.digest });
  await rejectsCode(() => findImage(open(registry), undefined), OciManifestError, 'NOT_AN_IMAGE');
});

test('statuses mean what they say, and the error document adds only its code', async () => {
  await using registry = await serveRegistry(store, tags);
  let status = 0;
  registry.hooks.push(({ path }, answer) => {
    if (path === '/v2/') return false;
    answer.writeHead(status);
    answer.end('{"errors":[{"code":"DENIED","message":"hunter2"}]}');
    return true;
  });
  for (const [given, code] of [
    [403, 'SOURCE_UNAUTHORIZED'],
    [429, 'SOURCE_UNAVAILABLE'],
    [500, 'SOURCE_UNAVAILABLE'],
    [503, 'SOURCE_UNAVAILABLE'],
    [418, 'SOURCE_ANSWER'],
    [204, 'SOURCE_ANSWER'],
  ] as const) {
    status = given;
    await assert.rejects(findImage(open(registry), undefined), (error) => {
      assert.ok(error instanceof SourceError);
      assert.equal(error.code, code);
      assert.match(error.message, given === 204 ? /204/ : /DENIED/);
      assert.doesNotMatch(error.message, /hunter2/);
      return true;
    });
  }
});

test('a bearer token is fetched with the password, for pulling this repository and nothing more', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(wantsToken(registry, { password: 'hunter2' }));
  const source = open(registry, { credentials: known(password) });
  assert.equal((await findImage(source, undefined)).digest, one.digest);
  const [token, ...others] = registry.asked.filter(({ path }) => path.startsWith('/token'));
  assert.deepEqual(others, [], 'one token serves all questions');
  assert.equal(token?.headers.authorization, basic('user', 'hunter2'));
  assert.deepEqual(Object.fromEntries(new URL(`http://x${token?.path}`).searchParams), {
    service: 'test',
    scope: 'repository:a/b:pull',
  });
  assert.deepEqual(
    authorizations(registry).filter((a) => a !== undefined && !/^(Bearer sesame|Basic)/.test(a)),
    [],
  );
});

test('an anonymous token will do where nothing else is known', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(wantsToken(registry));
  assert.equal((await findImage(open(registry), undefined)).digest, one.digest);
});

test('a refresh token is posted, not put into a URL', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(wantsToken(registry, { password: 'refresh-me' }));
  await findImage(open(registry, { credentials: known({ kind: 'refresh', token: 'refresh-me' }) }), undefined);
  assert.deepEqual(
    paths(registry).filter((path) => path.includes('refresh-me')),
    [],
  );
});

test('an expired token is renewed', async () => {
  await using registry = await serveRegistry(store, tags);
  let expired = false;
  registry.hooks.push(({ path }, answer) => {
    if (!expired || !path.startsWith('/v2/a/')) return false;
    expired = false;
    answer.writeHead(401, { 'www-authenticate': `Bearer realm="http://${registry.host}/token"` }).end();
    return true;
  }, wantsToken(registry));
  const source = open(registry);
  await findImage(source, undefined);
  expired = true;
  assert.equal((await findImage(source, 'v2')).digest, two.digest);
});

test('a token that is refused again is an end, not a loop', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(({ path }, answer) => {
    if (!path.startsWith('/v2/a/')) return false;
    answer.writeHead(401, { 'www-authenticate': `Bearer realm="http://${registry.host}/token"` }).end();
    return true;
  }, wantsToken(registry));
  await rejectsCode(() => findImage(open(registry), undefined), SourceError, 'SOURCE_UNAUTHORIZED');
  assert.equal(registry.asked.length < 6, true);
});

test('basic authentication works, only after it was asked for, and says where no password was found', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(({ headers, path }, answer) => {
    if (headers.authorization === basic('user', 'hunter2') || path === '/v2/') return false;
    answer.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    return true;
  });
  assert.equal((await findImage(open(registry, { credentials: known(password) }), undefined)).digest, one.digest);
  assert.equal(authorizations(registry)[0], undefined);
  await assert.rejects(
    findImage(open(registry, { credentials: known(undefined) }), undefined),
    (error) =>
      error instanceof SourceError && error.code === 'SOURCE_UNAUTHORIZED' && error.message.includes('looked in /x'),
  );
});

test('a way to log in that nobody knows is said', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(({ path }, answer) => {
    if (path === '/v2/') return false;
    answer.writeHead(401, { 'www-authenticate': 'Negotiate' }).end();
    return true;
  });
  await rejectsCode(() => findImage(open(registry), undefined), SourceError, 'SOURCE_ANSWER');
});

const realms: [string, string, string][] = [
  ['plain http elsewhere', 'http://auth.example/token', 'SOURCE_PLAIN_HTTP'],
  ['a file', 'file:///etc/passwd', 'SOURCE_ANSWER'],
  ['no URL', '/token', 'SOURCE_ANSWER'],
  ['a user', 'https://user@auth.example/token', 'SOURCE_ANSWER'],
  ['a metadata endpoint', 'http://169.254.169.254/latest', 'SOURCE_ADDRESS'],
];
for (const [name, realm, code] of realms)
  test(`a token server that is ${name} gets no credentials`, async () => {
    await using registry = await serveRegistry(store, tags);
    registry.hooks.push(wantsToken(registry, { realm }));
    await rejectsCode(() => findImage(open(registry, { credentials: known(password) }), undefined), SourceError, code);
    assert.deepEqual(authorizations(registry).filter(Boolean), []);
  });

test('a token server that redirects is not followed, and a broken token is none', async () => {
  await using registry = await serveRegistry(store, tags);
  let answered: [number, Record<string, string>, string] = [200, {}, '{"token":"a\\nb"}'];
  registry.hooks.push(({ path }, answer) => {
    if (!path.startsWith('/token')) return false;
    answer.writeHead(answered[0], answered[1]).end(answered[2]);
    return true;
  }, wantsToken(registry));
  const find = () => findImage(open(registry, { credentials: known(password) }), undefined);
  await rejectsCode(find, SourceError, 'SOURCE_ANSWER');
  answered = [200, {}, '{}'];
  await rejectsCode(find, SourceError, 'SOURCE_ANSWER');
  answered = [200, {}, 'x'.repeat(2_000_000)];
  await rejectsCode(find, SourceError, 'SOURCE_ANSWER');
  answered = [307, { location: `http://${registry.host}/elsewhere` }, ''];
  await rejectsCode(find, SourceError, 'SOURCE_REDIRECT');
  assert.ok(!paths(registry).includes('/elsewhere'));
});

/** Sends every blob elsewhere. */
const redirect =
  (location: (path: string) => string, status = 307): Hook =>
  ({ path }, answer) => {
    if (!path.includes('/blobs/')) return false;
    answer.writeHead(status, { location: location(path) }).end();
    return true;
  };

for (const status of [301, 302, 303, 307, 308])
  test(`a blob is followed to another host (${status}) without credentials`, async () => {
    await using elsewhere = await serveRegistry(store);
    await using registry = await serveRegistry(store, tags);
    registry.hooks.push(
      wantsToken(registry, { password: 'hunter2' }),
      redirect((path) => `http://${elsewhere.host}${path}?signature=x`, status),
    );
    elsewhere.hooks.push((asked, answer) => {
      if (!asked.path.includes('?')) return false;
      answer.writeHead(200).end(store.get(/sha256:[0-9a-f]+/.exec(asked.path)![0]));
      return true;
    });
    await findImage(open(registry, { credentials: known(password) }), undefined);
    assert.equal(elsewhere.asked.length, 1);
    assert.deepEqual(authorizations(elsewhere), [undefined]);
  });

test('credentials do not go along even to the registry itself, and whoever wants them there is told no', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(
    wantsToken(registry),
    redirect((path) => path.replace('/blobs/', '/other/')),
  );
  await rejectsCode(() => findImage(open(registry), undefined), SourceError, 'SOURCE_UNAUTHORIZED');
  const [other] = registry.asked.filter(({ path }) => path.includes('/other/'));
  assert.equal(other?.headers.authorization, undefined);
});

const redirects: [string, (path: string) => string, string][] = [
  ['a file', () => 'file:///etc/passwd', 'SOURCE_REDIRECT'],
  ['no URL', () => 'http://', 'SOURCE_REDIRECT'],
  ['a URL with a user', () => 'https://u:p@127.0.0.1/', 'SOURCE_REDIRECT'],
  ['a metadata endpoint', () => 'http://169.254.169.254/latest/meta-data', 'SOURCE_ADDRESS'],
  ['a metadata endpoint in IPv6 clothes', () => 'http://[::ffff:a9fe:a9fe]/', 'SOURCE_ADDRESS'],
  ['plain http on another machine', () => 'http://192.0.2.1/x', 'SOURCE_PLAIN_HTTP'],
  ['itself, again and again', (path) => path, 'SOURCE_REDIRECT'],
];
for (const [name, location, code] of redirects)
  test(`a redirect to ${name} is not followed`, async () => {
    await using registry = await serveRegistry(store, tags);
    registry.hooks.push(redirect(location));
    await rejectsCode(() => findImage(open(registry), undefined), SourceError, code);
    assert.ok(registry.asked.length < 10);
  });

test('a registry elsewhere cannot send us to our own loopback', async () => {
  const asked: string[] = [];
  const source = registrySource(
    { registry: 'registry.example', repository: 'a/b' },
    {
      fetch: async ({ url }) => {
        asked.push(url);
        return {
          status: 307,
          header: (name) => (name === 'location' ? 'https://localhost:9/x' : undefined),
          body: (async function* () {})(),
          cancel() {},
        };
      },
    },
  );
  await rejectsCode(() => source.manifest(), SourceError, 'SOURCE_ADDRESS');
  assert.deepEqual(asked, ['https://registry.example/v2/a/b/manifests/latest']);
});

test('a registry at a link-local address must be allowed first', async () => {
  const make = (reach: RegistryOptions['reach']) => () =>
    registrySource(
      { registry: '169.254.1.1:5000', repository: 'a' },
      { fetch: http.fetch, ...(reach ? { reach } : {}) },
    );
  await rejectsCode(async () => make(undefined)(), SourceError, 'SOURCE_ADDRESS');
  make('any')();
});

test('plain http is for loopback, or for who asks for it', async () => {
  const asked: string[] = [];
  const fetch: RegistryOptions['fetch'] = async ({ url }) => {
    asked.push(url);
    throw Object.assign(new Error('no TLS'), { code: 'EPROTO' });
  };
  for (const insecureHttp of [false, true]) {
    const source = registrySource({ registry: 'registry.example', repository: 'a' }, { fetch, insecureHttp });
    await rejectsCode(() => source.manifest(), SourceError, 'SOURCE_NETWORK');
  }
  assert.deepEqual(
    asked.map((url) => url.split('/').slice(0, 3).join('/')),
    [
      'https://registry.example',
      'https://registry.example',
      'https://registry.example',
      'http://registry.example',
      'http://registry.example',
    ],
  );
});

test('a connection that breaks inside a blob is taken up again where it broke', async () => {
  await using registry = await serveRegistry(store, tags);
  let broken = 0;
  registry.hooks.push(({ path, headers }, answer) => {
    if (!path.includes('/blobs/') || headers.range !== undefined) return false;
    broken++;
    answer.writeHead(200, { 'content-length': big.length });
    answer.write(big.subarray(0, 1_000_000), () => setTimeout(() => answer.destroy(), 20));
    return true;
  });
  assert.deepEqual(await readVerified(open(registry).blob(bigBlob), bigBlob, 'x'), big);
  assert.equal(broken, 1);
  assert.match(registry.asked.at(-1)?.headers.range ?? '', /^bytes=[1-9][0-9]*-2999999$/);
});

test('a registry that knows no ranges is read again from the start', async () => {
  await using registry = await serveRegistry(store, tags);
  let first = true;
  registry.hooks.push(({ path }, answer) => {
    if (!path.includes('/blobs/')) return false;
    answer.writeHead(200, { 'content-length': big.length });
    if (first) answer.write(big.subarray(0, 1_000_000), () => setTimeout(() => answer.destroy(), 20));
    else answer.end(big);
    first = false;
    return true;
  });
  assert.deepEqual(await readVerified(open(registry).blob(bigBlob), bigBlob, 'x'), big);
});

test('a connection that breaks twice is the end', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(({ path, headers }, answer) => {
    if (!path.includes('/blobs/')) return false;
    const from = Number(/=([0-9]+)-/.exec(headers.range ?? '')?.[1] ?? 0);
    answer.writeHead(from ? 206 : 200, {
      'content-length': big.length - from,
      ...(from ? { 'content-range': `bytes ${from}-${big.length - 1}/${big.length}` } : {}),
    });
    answer.write(big.subarray(from, from + 500_000), () => setTimeout(() => answer.destroy(), 20));
    return true;
  });
  await rejectsCode(() => readVerified(open(registry).blob(bigBlob), bigBlob, 'x'), SourceError, 'SOURCE_NETWORK');
});

test('a part that was not asked for is not glued in', async () => {
  await using registry = await serveRegistry(store, tags);
  registry.hooks.push(({ path, headers }, answer) => {
    if (!path.includes('/blobs/')) return false;
    if (headers.range === undefined) {
      answer.writeHead(200, { 'content-length': big.length });
      answer.write(big.subarray(0, 500_000), () => setTimeout(() => answer.destroy(), 20));
    } else answer.writeHead(206, { 'content-range': 'bytes 0-5/6' }).end('other!');
    return true;
  });
  await rejectsCode(() => readVerified(open(registry).blob(bigBlob), bigBlob, 'x'), SourceError, 'SOURCE_ANSWER');
});

test('an unreachable registry is named with the reason', async () => {
  const registry = await serveRegistry(store, tags);
  await registry[Symbol.asyncDispose]();
  await assert.rejects(
    findImage(open(registry), undefined),
    (error) => error instanceof SourceError && error.code === 'SOURCE_NETWORK' && /ECONNREFUSED/.test(error.message),
  );
});

test('a signal ends the waiting', async () => {
  await using registry = await serveRegistry(store, tags);
  const stop = new AbortController();
  registry.hooks.push(({ path }) => {
    if (!path.includes('/manifests/')) return false;
    setTimeout(() => stop.abort(), 20);
    return true; // and never an answer
  });
  await rejectsCode(() => findImage(open(registry, { signal: stop.signal }), undefined), SourceError, 'SOURCE_ABORTED');
});

test('coded bytes are taken as they lie, not undone', async () => {
  await using registry = await serveRegistry(store, tags);
  const content = new TextEncoder().encode('not gzip at all');
  const digest: Digest = digestOf(content);
  registry.hooks.push(({ path, headers }, answer) => {
    if (!path.includes(digest)) return false;
    assert.equal(headers['accept-encoding'], 'identity');
    answer.writeHead(200, { 'content-encoding': 'gzip' }).end(content);
    return true;
  });
  const descriptor = { digest, size: content.length };
  assert.deepEqual(await readVerified(open(registry).blob(descriptor), descriptor, 'x'), content);
});
