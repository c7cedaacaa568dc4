/** The machine's side of sources: certificates, proxies, resolvers, credential files, folders and archives. */
import assert from 'node:assert/strict';
import type { lookup } from 'node:dns';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { parseReference } from '#src/image/reference.ts';
import { findImage } from '#src/source/build.ts';
import { SourceError } from '#src/source/source.ts';
import { parseMirrors } from '#server/mirrors.ts';
import { findCredentials, folder, guardedLookup, httpFetch, openSource, type SourceOptions } from '#server/sources.ts';
import { image, members, tar } from '#test/src/source/images.ts';
import { basic, serveRegistry, wantsToken, type TestRegistry } from '#test/src/source/registryserver.ts';
import { rejectsCode } from '#test/throws.ts';

const vectors = join(import.meta.dirname, '../vectors/source/tls');
const one = image([members('one')]);

async function temporary(): Promise<
  AsyncDisposable & { path: string; write(name: string, content: string | Uint8Array): Promise<string> }
> {
  const path = await mkdtemp(join(tmpdir(), 'bootproof-'));
  return {
    path,
    async write(name, content) {
      const file = join(path, name);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, content);
      return file;
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true }),
  };
}

async function find(reference: string, options: Partial<SourceOptions> = {}) {
  const { source, close } = await openSource(parseReference(reference), { env: {}, ...options });
  try {
    const { tag, digest } = parseReference(reference);
    return await findImage(source, digest ?? tag);
  } finally {
    await close();
  }
}

const tls = async () => ({
  key: await readFile(join(vectors, 'key.pem'), 'utf8'),
  cert: await readFile(join(vectors, 'cert.pem'), 'utf8'),
});

test('a registry with a certificate of our own authority needs that authority', async () => {
  await using registry = await serveRegistry(one.blobs, { latest: one.digest }, await tls());
  const reference = `docker://${registry.host}/a/b`;
  const found = await find(reference, { caFiles: [join(vectors, 'ca.pem')] });
  assert.equal(found.digest, one.digest);
  registry.asked.length = 0;
  await assert.rejects(
    find(reference),
    (error) =>
      error instanceof SourceError && error.code === 'SOURCE_NETWORK' && /CERT|VERIFY|ISSUER/i.test(error.message),
  );
  // The flag for plain http is no leave to take any certificate, nor to fall back.
  await rejectsCode(() => find(reference, { insecureHttp: true }), SourceError, 'SOURCE_NETWORK');
  assert.deepEqual(registry.asked, []);
});

test('a file of certificates that is none is refused', async () => {
  await using folder = await temporary();
  await using registry = await serveRegistry(one.blobs, { latest: one.digest }, await tls());
  const reference = `docker://${registry.host}/a/b`;
  await rejectsCode(() => find(reference, { caFiles: [join(folder.path, 'none')] }), SourceError, 'CREDENTIALS_FILE');
  const junk = await folder.write('junk.pem', 'no certificate');
  await rejectsCode(() => find(reference, { caFiles: [junk] }), SourceError, 'CREDENTIALS_FILE');
});

/** A proxy that notes what it was asked for and passes on to `target`. */
async function serveProxy(target: { host: string }): Promise<AsyncDisposable & { url: string; asked: string[] }> {
  const asked: string[] = [];
  const [host = '', port = ''] = target.host.split(':');
  const server = createServer((request, answer) => {
    asked.push(request.url ?? '');
    const socket = connect(Number(port), host);
    const { pathname } = new URL(request.url ?? '');
    socket.write(`${request.method} ${pathname} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    socket.pipe(answer.socket!);
  });
  server.on('connect', (request: IncomingMessage, client: Socket) => {
    asked.push(`CONNECT ${request.url}`);
    const socket = connect(Number(port), host, () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      socket.pipe(client).pipe(socket);
    });
    socket.on('error', () => client.destroy());
    client.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

test('https goes through the proxy of the environment, loopback and NO_PROXY do not', async () => {
  await using registry = await serveRegistry(one.blobs, { latest: one.digest }, await tls());
  await using proxy = await serveProxy(registry);
  const caFiles = [join(vectors, 'ca.pem')];
  // The proxy leads every name to our registry, whose certificate is for localhost: what counts is who was asked.
  await assert.rejects(find('docker://registry.example/a/b', { env: { HTTPS_PROXY: proxy.url }, caFiles }));
  assert.equal(proxy.asked[0], 'CONNECT registry.example:443');
  proxy.asked.length = 0;
  await find(`docker://${registry.host}/a/b`, { env: { https_proxy: proxy.url }, caFiles });
  const noProxy = { HTTPS_PROXY: proxy.url, NO_PROXY: 'registry.invalid' };
  await assert.rejects(find('docker://registry.invalid/a/b', { env: noProxy, caFiles }));
  assert.deepEqual(proxy.asked, []);
});

type Answer = { address: string; family: number }[];
function resolve(addresses: Answer, reach: 'public' | 'loopback' | 'any', all: boolean): Promise<unknown> {
  const fake = ((_name: string, _options: object, done: (error: null, found: Answer) => void) =>
    done(null, addresses)) as unknown as typeof lookup;
  return new Promise((done, fail) => {
    guardedLookup(reach, fake)('name.example', { all }, (error, address, family) =>
      error ? fail(error) : done(all ? address : [address, family]),
    );
  });
}

test('a name cannot stand for an address that must not be spoken with', async () => {
  const local = { address: '127.0.0.1', family: 4 };
  const metadata = { address: 'fe80::1', family: 6 };
  const open = { address: '10.0.0.1', family: 4 };
  assert.deepEqual(await resolve([local, metadata, open], 'public', true), [open]);
  assert.deepEqual(await resolve([local, open], 'public', false), ['10.0.0.1', 4]);
  assert.deepEqual(await resolve([local, metadata], 'loopback', true), [local]);
  assert.deepEqual(await resolve([local, metadata], 'any', true), [local, metadata]);
  for (const all of [true, false])
    await rejectsCode(() => resolve([local, metadata], 'public', all), SourceError, 'SOURCE_ADDRESS');
});

test('the fetch itself looks at addresses that are spelled out', async () => {
  await using registry = await serveRegistry(one.blobs);
  const http = httpFetch({ env: {} });
  const ask = (reach: 'public' | 'loopback') => http.fetch({ url: `http://${registry.host}/`, headers: {}, reach });
  await rejectsCode(() => ask('public'), SourceError, 'SOURCE_ADDRESS');
  (await ask('loopback')).cancel();
  await http.close();
  assert.equal(registry.asked.length, 1);
});

const auths = (user: string, registry = 'r.example') =>
  JSON.stringify({ auths: { [registry]: { auth: btoa(`${user}:p`) } } });
const user = async (options: Pick<SourceOptions, 'env' | 'authFile'>) => {
  const { credentials, hint } = await findCredentials('r.example', 'a/b', options);
  return credentials?.kind === 'password' ? credentials.username : hint;
};

test('credentials come from where podman and docker keep them, in their order', async () => {
  await using home = await temporary();
  const run = join(home.path, 'run');
  const env = { HOME: home.path, XDG_RUNTIME_DIR: run };
  assert.match(await user({ env }), /no file/);
  await home.write('.docker/config.json', auths('docker'));
  assert.equal(await user({ env }), 'docker');
  await home.write('.config/containers/auth.json', auths('home'));
  assert.equal(await user({ env }), 'home');
  await home.write('run/containers/auth.json', auths('other', 'else.example'));
  assert.equal(await user({ env }), 'home', 'a file without an entry is passed over');
  await home.write('run/containers/auth.json', auths('run'));
  assert.equal(await user({ env }), 'run');
  const named = await home.write('named.json', auths('named'));
  assert.equal(await user({ env: { ...env, REGISTRY_AUTH_FILE: named } }), 'named');
  assert.equal(await user({ env, authFile: named }), 'named');
  const docker = await home.write('d/config.json', auths('elsewhere'));
  assert.equal(
    await user({ env: { HOME: '/nonexistent', XDG_RUNTIME_DIR: run, DOCKER_CONFIG: dirname(docker) } }),
    'run',
  );
});

test('a named file of credentials must be there, and a broken one is an error', async () => {
  await using home = await temporary();
  const env = { HOME: home.path, XDG_RUNTIME_DIR: home.path };
  await rejectsCode(() => user({ env, authFile: join(home.path, 'none') }), SourceError, 'CREDENTIALS_FILE');
  await home.write('.docker/config.json', '{');
  await rejectsCode(() => user({ env }), SourceError, 'CREDENTIALS_SYNTAX');
  await home.write('.docker/config.json', ' '.repeat(1_100_000));
  await rejectsCode(() => user({ env }), SourceError, 'CREDENTIALS_FILE');
});

test('where a helper holds the password, that is said', async () => {
  await using home = await temporary();
  await home.write('.docker/config.json', '{"auths":{"r.example":{}},"credsStore":"desktop"}');
  assert.match(
    await user({ env: { HOME: home.path, XDG_RUNTIME_DIR: home.path } }),
    /docker-credential-desktop .* not run/,
  );
});

test('credentials are read only once the registry wants them', async () => {
  await using home = await temporary();
  await using registry: TestRegistry = await serveRegistry(one.blobs, { latest: one.digest });
  const authFile = await home.write('auth.json', '{');
  const reference = `docker://${registry.host}/a/b`;
  await find(reference, { authFile });
  registry.hooks.push(wantsToken(registry, { password: 'p' }));
  await rejectsCode(() => find(reference, { authFile }), SourceError, 'CREDENTIALS_SYNTAX');
  await home.write('auth.json', auths('user', registry.host));
  assert.equal((await find(reference, { authFile })).digest, one.digest);
  assert.ok(registry.asked.some(({ headers }) => headers.authorization === basic('user', 'p')));
});

test('a layout is read from a folder and from an archive', async () => {
  await using home = await temporary();
  const files = [
    ['oci-layout', '{"imageLayoutVersion":"1.0.0"}'],
    [
      'index.json',
      JSON.stringify({
        schemaVersion: 2,
        manifests: [
          {
            mediaType: 'application/vnd.oci.image.manifest.v1+json',
            digest: one.digest,
            size: one.blobs.get(one.digest)!.length,
          },
        ],
      }),
    ],
    ...[...one.blobs].map(
      ([digest, bytes]) => [`blobs/${digest.replace(':', '/')}`, Buffer.from(bytes).toString('latin1')] as const,
    ),
  ] as const;
  for (const [name, content] of files) await home.write(`layout/${name}`, Buffer.from(content, 'latin1'));
  const archive = await home.write('image.tar', tar(files.map(([name, content]) => ({ name, content }))));
  assert.equal((await find(`oci:${home.path}/layout`)).digest, one.digest);
  assert.equal((await find(`oci-archive:${archive}`)).digest, one.digest);
  await rejectsCode(() => find(`oci:${home.path}/none`), SourceError, 'SOURCE_NOT_FOUND');
  await rejectsCode(() => find(`oci-archive:${home.path}/none`), SourceError, 'SOURCE_NOT_FOUND');
  await rejectsCode(() => find(`oci-archive:${home.path}`), SourceError, 'SOURCE_NOT_FOUND');
  await rejectsCode(() => find(`oci:${archive}`), SourceError, 'SOURCE_NOT_FOUND');
});

test('of a folder, only regular files count', async () => {
  await using home = await temporary();
  await home.write('file', 'x'.repeat(600_000));
  await symlink('file', join(home.path, 'link'));
  const directory = folder(home.path);
  assert.deepEqual(await directory.stat('file'), { size: 600_000 });
  assert.deepEqual(await directory.stat('link'), { size: 600_000 });
  assert.equal(await directory.stat('.'), undefined);
  assert.equal(await directory.stat('file/x'), undefined);
  const chunks = await Array.fromAsync(directory.read('file'));
  assert.equal(Buffer.concat(chunks).length, 600_000);
  assert.ok(chunks.every((chunk) => chunk.every((byte) => byte === 0x78)));
  await rejectsCode(() => Array.fromAsync(directory.read('.')), SourceError, 'SOURCE_NOT_FOUND');
});

test('an image behind a mirror is read there, and keeps its own name', async () => {
  await using registry = await serveRegistry(one.blobs, { latest: one.digest });
  const mirrors = parseMirrors([`quay.invalid/acme=${registry.host}/a`], () => true);
  const reference = parseReference('docker://quay.invalid/acme/b');
  const { source, close } = await openSource(reference, { env: {}, mirrors });
  try {
    assert.equal(source.name, 'docker://quay.invalid/acme/b');
    const { bytes } = await source.manifest('latest');
    assert.equal(JSON.parse(Buffer.from(bytes).toString()).schemaVersion, 2);
    assert.match(registry.asked[0]!.path, /^\/v2\/a\/b\/manifests\/latest$/);
  } finally {
    await close();
  }
  await rejectsCode(
    async () => {
      const opened = await openSource(reference, {
        env: {},
        mirrors: parseMirrors(['quay.invalid=127.0.0.1:1/x'], () => true),
      });
      try {
        await opened.source.manifest('latest');
      } finally {
        await opened.close();
      }
    },
    SourceError,
    'SOURCE_NETWORK',
  );
});
