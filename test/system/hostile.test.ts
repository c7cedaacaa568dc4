/**
 * Hostile parties, end to end: real files scanned by the real agent, a real registry, the real server with its build thread, and a line in
 * between that keeps every byte, or alters it.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { EXIT, type Io } from '#src/terminal.ts';
import { main as agentMain } from '#agent/main.ts';
import { main as cliAgent } from '#cli/agent.ts';
import { findings, host as hostCommand, hosts } from '#cli/fleet.ts';
import { images } from '#cli/supply.ts';
import { deployRoot } from '#demo/host.ts';
import { flatten, packImage, push, type Layer, type PackedImage } from '#demo/pack.ts';
import { serveRegistry, type Registry } from '#demo/registry.ts';
import type { TarItem } from '#demo/tar.ts';
import { buildInWorker } from '#server/jobs/builder.ts';
import { json, serve, type Handler, type Reply, type TestServer as Line } from '#test/agent/httpserver.ts';
import { assertTame, read } from '#test/server/web/page.ts';
import { enrol, folder, serverFor, type TestServer } from '#test/server/fleet.ts';

// ── an image of files that whoever runs this may own ─────────────────────────────────────────────────────────────────────

const owner = { uid: process.getuid!(), gid: process.getgid!() };
const dir = (path: string): TarItem => ({ path, type: 'dir', mode: 0o755, ...owner });
const file = (path: string, content: string, mode = 0o644): TarItem => ({
  path,
  type: 'file',
  mode,
  ...owner,
  content: Buffer.from(content),
});

/** Written to disk from the image, and changed on the host: none of it may ever leave. */
const SHIPPED_PASSWORD = 'root:letmein-shipped:19000:0:99999:7:::\n';
const CHANGED_PASSWORD = 'root:letmein-canary:20000:0:99999:7:::\n';
const HOST_KEY = '-----BEGIN OPENSSH PRIVATE KEY-----\ncanary-key-material\n-----END OPENSSH PRIVATE KEY-----\n';
const CONNECTION = '[wifi-security]\npsk=canary-wifi\n';
const CONTENT = 'canary of an ordinary file: its digest may leave, its content may not';

const LAYERS: readonly Layer[] = [
  {
    about: 'all',
    items: [
      ...[
        'usr',
        'usr/bin',
        'usr/lib',
        'etc',
        'etc/ssh',
        'etc/NetworkManager',
        'etc/NetworkManager/system-connections',
      ].map(dir),
      file('usr/bin/tool', 'tool', 0o755),
      file('usr/lib/os-release', 'ID=test\n'),
      file('etc/motd', 'welcome\n'),
      file('etc/shadow', SHIPPED_PASSWORD, 0o600),
    ],
  },
];
const IMAGE = packImage(LAYERS, '41.1');

async function registryOf(t: TestContext, ...packed: PackedImage[]): Promise<Registry> {
  const registry = await serveRegistry(folder(t), 0);
  t.after(() => registry.close());
  for (const image of packed) await push(image, registry.host, 'team/os', 'latest');
  return registry;
}

/** A server that fetches from these places, with its real build thread. */
function serverFetching(t: TestContext, repositories: readonly string[], registry = {}): Promise<TestServer> {
  return serverFor(t, {
    sources: repositories.map((name) => ({ reference: `docker://${name}`, plainHttp: true })),
    build: buildInWorker,
    clock: Date.now,
    registry,
  });
}

// ── a host on real files ─────────────────────────────────────────────────────────────────────────────────────────────────

type Ran = { readonly exit: number; readonly out: string; readonly err: string };

async function run(
  act: (args: readonly string[], io: Io) => Promise<number>,
  args: readonly string[],
  env = {},
  tty = false,
): Promise<Ran> {
  const said = { out: '', err: '' };
  const stream = (name: 'out' | 'err') => ({
    isTTY: tty,
    columns: 80,
    write: (text: string | Uint8Array) => Promise.resolve(void (said[name] += String(text))),
  });
  const exit = await act(args, { stdout: stream('out'), stderr: stream('err'), env: { TERM: 'xterm', ...env } });
  return { exit, ...said };
}

class Host {
  readonly root: string;
  readonly where: readonly string[];
  readonly booted: readonly string[];

  constructor(t: TestContext, image = IMAGE, layers = LAYERS) {
    const home = folder(t);
    this.root = join(home, 'root');
    deployRoot(flatten(layers), this.root);
    this.where = ['--root', this.root, '--state', join(home, 'state')];
    this.booted = ['--backend', 'ostree', '--image', image.digest];
  }

  async enrol(url: string, server: TestServer): Promise<string> {
    const { token } = (await server.api('/api/v1/tokens', { method: 'POST', body: {} })).body;
    const { exit, err } = await run(agentMain, ['enroll', '--server', url, '--token', token, ...this.where]);
    assert.equal(exit, EXIT.ok, err);
    return /enrolled as (h_\w+)/.exec(err)![1]!;
  }

  run(): Promise<Ran> {
    return run(agentMain, ['run', '--json', ...this.booted, ...this.where]);
  }
}

/** Hands everything on to a server; `alter` may change what comes back. Keeps both ways. */
async function lineTo(
  t: TestContext,
  server: TestServer,
  alter: (path: string, reply: Reply) => Reply = (_, reply) => reply,
) {
  const bodies: Buffer[] = [];
  const line = await serve(async ({ method, path, headers, body }): Promise<Reply> => {
    bodies.push(Buffer.from(`${method} ${path} ${JSON.stringify(headers)}`), body);
    const { authorization, 'accept-encoding': accepts } = headers;
    const response = await server.server.app.request(path, {
      method,
      headers: {
        ...(authorization === undefined ? {} : { authorization }),
        ...(accepts === undefined ? {} : { 'accept-encoding': accepts }),
      },
      ...(method === 'POST' ? { body: new Uint8Array(body) } : {}),
    });
    const bytes = Buffer.from(await response.arrayBuffer());
    bodies.push(bytes);
    const kept: Record<string, string> = {};
    for (const name of ['content-type', 'content-encoding'])
      if (response.headers.has(name)) kept[name] = response.headers.get(name)!;
    return alter(path, { status: response.status, headers: kept, body: bytes });
  });
  t.after(() => line[Symbol.asyncDispose]());
  return { url: line.url, bodies };
}

async function built(server: TestServer, digest: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    const found = await server.server.store.images.find(digest);
    if (found?.image.state === 'ready') break;
    assert.ok(tries < 2000 && found?.image.state !== 'failed', JSON.stringify(found?.image.reasons));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest('hex');

/** What travelled, in every coding in which it could be read. */
function readings(bodies: readonly Buffer[]): string[] {
  const out: string[] = [];
  for (const body of bodies) {
    let plain = body;
    if (body[0] === 0x1f && body[1] === 0x8b) plain = gunzipSync(body);
    else if (body.readUInt32LE && body.length > 4 && body.readUInt32LE(0) === 0xfd2fb528)
      plain = zstdDecompressSync(body);
    const text = plain.toString('latin1');
    out.push(text);
    for (const [, payload] of text.matchAll(/"payload":"([A-Za-z0-9+/=]+)"/g))
      out.push(Buffer.from(payload!, 'base64').toString('latin1'));
  }
  return out;
}

test('planted secrets never leave, and cannot be guessed from what does', async (t) => {
  const registry = await registryOf(t, IMAGE);
  const server = await serverFetching(t, [`${registry.host}/team/os`]);
  const line = await lineTo(t, server);
  const host = new Host(t);
  const at = (path: string) => join(host.root, path);
  writeFileSync(at('etc/shadow'), CHANGED_PASSWORD, { mode: 0o600 });
  writeFileSync(at('etc/ssh/ssh_host_ed25519_key'), HOST_KEY, { mode: 0o600 });
  writeFileSync(at('etc/NetworkManager/system-connections/home.nmconnection'), CONNECTION, { mode: 0o600 });
  writeFileSync(at('usr/lib/plain'), CONTENT);
  const id = await host.enrol(line.url, server);
  await host.run();
  await built(server, IMAGE.digest);
  const compared = await host.run();
  assert.equal(compared.exit, EXIT.different, compared.err);

  const told = readings(line.bodies);
  const said = told.join('\n');
  assert.ok(said.includes('/etc/shadow') && said.includes('ssh_host_ed25519_key'), 'that they differ is told');
  assert.ok(said.includes(sha256(CONTENT)), 'the digest of an ordinary file does leave: so this looks where it must');
  for (const canary of ['canary', 'letmein'])
    for (const coded of [
      canary,
      Buffer.from(canary).toString('base64').slice(0, 8),
      Buffer.from(canary).toString('hex'),
    ])
      assert.ok(!said.includes(coded), `${canary} left the host`);

  // Who sees all that leaves guesses passwords: the digest of the file alone, and of the tree with everything else known.
  const digests = new Set([...said.matchAll(/[0-9a-f]{64}/g)].map(([digest]) => digest));
  const full = await fullText(server);
  const guesses = ['hunter2', 'letmein-canary', 'letmein-shipped', '123456'];
  const hits = (has: (digest: string) => boolean) =>
    guesses.filter((guess) => {
      const content = `root:${guess}:20000:0:99999:7:::\n`;
      const line = `size=${content.length} sha256digest=${sha256(content)}`;
      const tree = full.replace(
        /^(\.\/etc\/shadow .*?)size=\S+ sha256digest=\S+/m,
        (_, before: string) => before + line,
      );
      assert.notEqual(tree, full);
      return has(sha256(content)) || has(sha256(tree));
    });
  assert.deepEqual(
    hits((digest) => digests.has(digest)),
    [],
  );
  // The same attack on what stays on the host succeeds: it is a real one.
  assert.deepEqual(
    hits((digest) => digest === sha256(CHANGED_PASSWORD)),
    ['letmein-canary'],
  );

  // Nor does anybody who looks at the server see more.
  const seen = JSON.stringify([
    (await server.api(`/api/v1/hosts/${id}`)).body,
    (await server.api(`/api/v1/hosts/${id}/drift`)).body,
    (await server.api(`/api/v1/hosts/${id}/findings`)).body,
  ]);
  assert.ok(seen.includes('/etc/shadow'));
  for (const secret of [CHANGED_PASSWORD, HOST_KEY, CONNECTION])
    assert.ok(!seen.includes(sha256(secret)) && !seen.includes(`"size":${secret.length}`));
});

/** The full text of /etc, which hosts and server have: what an attacker knows of all other lines. */
async function fullText(server: TestServer): Promise<string> {
  const path = `/api/v1/manifests/${IMAGE.digest}/ostree.1/etc/main`;
  const response = await server.server.app.request(path, { headers: { authorization: `Bearer ${server.admin}` } });
  assert.equal(response.status, 200);
  return response.text();
}

// ── a line that alters ───────────────────────────────────────────────────────────────────────────────────────────────────

const other = (text: string): Reply => ({ status: 200, headers: { 'content-encoding': 'gzip' }, body: gzipSync(text) });
const decoded = ({ headers, body }: Reply): string => {
  const bytes = Buffer.from(body!);
  const coding = headers?.['content-encoding'];
  return (coding === 'zstd' ? zstdDecompressSync(bytes) : coding === 'gzip' ? gunzipSync(bytes) : bytes).toString(
    'latin1',
  );
};
const substitutions: [string, (path: string, reply: Reply) => Reply][] = [
  [
    'a text in which the intruder is at home',
    (path, reply) => (path.endsWith('/usr/main') ? other(decoded(reply).replace('mode=0755', 'mode=4755')) : reply),
  ],
  ['an empty text', (path, reply) => (path.endsWith('/etc/main') ? other('') : reply)],
  [
    'a header that another key signed',
    (path, reply) =>
      path.includes('?') ? { ...reply, body: decoded(reply).replaceAll(/"sig":"..../g, '"sig":"AAAA') } : reply,
  ],
  [
    'a header whose digests are others',
    (path, reply) => {
      if (!path.includes('?') || reply.status !== 200) return reply;
      const answer = JSON.parse(decoded(reply)) as { headers: { payload: string }[] };
      for (const header of answer.headers)
        header.payload = Buffer.from(
          Buffer.from(header.payload, 'base64')
            .toString()
            .replaceAll(/sha256:..../g, 'sha256:0000'),
        ).toString('base64');
      return json(answer);
    },
  ],
  ['no headers at all', (path, reply) => (path.includes('?') ? json({ headers: [] }) : reply)],
  [
    'a way elsewhere',
    (path, reply) =>
      path.includes('/manifests/') ? { status: 307, headers: { location: 'http://127.0.0.1:9/' } } : reply,
  ],
];
test('in transit nothing takes the place of what the server signed', async (t) => {
  const registry = await registryOf(t, IMAGE);
  const server = await serverFetching(t, [`${registry.host}/team/os`]);
  const first = new Host(t);
  await first.enrol(server.server.url, server);
  await first.run();
  await built(server, IMAGE.digest);
  for (const [name, substitute] of substitutions)
    await t.test(`${name}: the agent compares with nothing rather than with that`, async (t) => {
      let isHostile = true;
      let altered = 0;
      const line = await lineTo(t, server, (path, reply) => {
        if (!isHostile) return reply;
        const put = substitute(path, reply);
        if (put !== reply) altered++;
        return put;
      });
      const host = new Host(t);
      const id = await host.enrol(line.url, server);
      writeFileSync(join(host.root, 'usr/bin/tool'), 'no tool');
      const deceived = await host.run();
      const { comparedWith } = JSON.parse(deceived.out) as { comparedWith: { none?: string } };
      assert.ok(comparedWith.none !== undefined, deceived.out);
      assert.ok(altered > 0, 'the agent asked for it');
      assert.equal(deceived.exit, EXIT.unknown);
      assert.notEqual((await server.api(`/api/v1/hosts/${id}`)).body.verdict, 'compliant');
      isHostile = false;
      const honest = await host.run();
      assert.equal(honest.exit, EXIT.different, honest.err);
      assert.equal((await server.api(`/api/v1/hosts/${id}`)).body.verdict, 'drifted');
    });
});

// ── registries ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const OTHER = packImage([{ about: 'other', items: [dir('usr'), dir('etc'), file('usr/tool', 'other')] }], '6.6.6');

/** A place that nobody has any business at; it also tells who knocked without a word. */
async function trap(t: TestContext): Promise<Line> {
  const line = await serve(() => ({ body: 'caught' }));
  t.after(() => line[Symbol.asyncDispose]());
  return line;
}

const blobOf = (path: string) => /\/blobs\/(sha256:[0-9a-f]{64})$/.exec(path)?.[1];
const hostileRegistries: [string, string, (trapUrl: string) => Handler][] = [
  ['answers another manifest', 'BLOB_DIGEST', () => served(IMAGE, { manifest: OTHER.manifest })],
  [
    'answers another blob of the same size',
    'BLOB_DIGEST',
    () => served(IMAGE, { blob: (bytes) => Buffer.from(bytes).fill(bytes[0]!, 1) }),
  ],
  [
    'answers half of a blob',
    'BLOB_SIZE',
    () => served(IMAGE, { blob: (bytes) => bytes.subarray(0, bytes.length / 2) }),
  ],
  [
    'sends to a metadata endpoint',
    'SOURCE_ADDRESS',
    () =>
      ({ path }) =>
        blobOf(path) === undefined
          ? served(IMAGE)({ path } as never, undefined as never)
          : { status: 307, headers: { location: 'http://169.254.169.254/latest/meta-data' } },
  ],
  [
    'sends to a file',
    'SOURCE_REDIRECT',
    () =>
      ({ path }) =>
        blobOf(path) === undefined
          ? served(IMAGE)({ path } as never, undefined as never)
          : { status: 307, headers: { location: 'file:///etc/shadow' } },
  ],
  [
    'wants the password at a metadata endpoint',
    'SOURCE_ADDRESS',
    () => () => ({
      status: 401,
      headers: { 'www-authenticate': 'Bearer realm="http://169.254.169.254/token",service="x"' },
    }),
  ],
];

function served(
  image: PackedImage,
  lie: { manifest?: Uint8Array; blob?: (bytes: Uint8Array) => Uint8Array } = {},
): Handler {
  return ({ path }) => {
    const digest = blobOf(path);
    const bytes = image.blobs.get(digest as never);
    if (path.includes('/manifests/'))
      return {
        headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
        body: lie.manifest ?? image.manifest,
      };
    return bytes === undefined ? { status: 404 } : { body: (lie.blob ?? ((b) => b))(bytes) };
  };
}

for (const [name, code, make] of hostileRegistries)
  test(`a registry that ${name}: no manifest, the reason is told, and the password stays`, async (t) => {
    const elsewhere = await trap(t);
    const registry = await serve(make(elsewhere.url));
    t.after(() => registry[Symbol.asyncDispose]());
    const place = new URL(registry.url).host;
    const authFile = join(folder(t), 'auth.json');
    writeFileSync(
      authFile,
      JSON.stringify({ auths: { [place]: { auth: Buffer.from('u:hunter2').toString('base64') } } }),
    );
    const server = await serverFetching(t, [`${place}/team/os`], { authFile });
    const host = await enrol(server, null);
    host.booted = IMAGE.digest;
    await host.sendFull();
    for (let tries = 0; (await server.server.store.images.find(IMAGE.digest))?.image.state !== 'failed'; tries++) {
      assert.ok(tries < 3000, 'it is never given up');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    server.time.now = Date.now();
    await server.settle();
    const told = await host.told();
    assert.equal(told.verdict, 'unverifiable');
    assert.match(told.integrity.code, new RegExp(`^${code}`), JSON.stringify(told.reasons));
    assert.ok(!JSON.stringify([told, server.events]).includes('hunter2'));
    assert.deepEqual(elsewhere.seen, []);
    for (const { headers } of registry.seen) assert.equal(headers.authorization, undefined);
  });

test('a registry that sends elsewhere on loopback, where it lies itself, sends no password along', async (t) => {
  const elsewhere = await trap(t);
  const registry = await serve((seen, response) =>
    seen.headers.authorization === undefined
      ? { status: 401, headers: { 'www-authenticate': 'Basic realm="here"' } }
      : blobOf(seen.path) === undefined
        ? served(IMAGE)(seen, response)
        : { status: 307, headers: { location: elsewhere.url } },
  );
  t.after(() => registry[Symbol.asyncDispose]());
  const place = new URL(registry.url).host;
  const authFile = join(folder(t), 'auth.json');
  writeFileSync(
    authFile,
    JSON.stringify({ auths: { [place]: { auth: Buffer.from('u:hunter2').toString('base64') } } }),
  );
  const server = await serverFetching(t, [`${place}/team/os`], { authFile });
  const host = await enrol(server, null);
  host.booted = IMAGE.digest;
  await host.sendFull();
  for (let tries = 0; (await server.server.store.images.find(IMAGE.digest))?.image.state !== 'failed'; tries++) {
    assert.ok(tries < 3000);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.ok(elsewhere.seen.length > 0, 'it was followed');
  for (const { headers } of elsewhere.seen) assert.equal(headers.authorization, undefined);
});

// ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a host that names a location in every field that it fills has nobody go there', async (t) => {
  const elsewhere = await trap(t);
  const place = new URL(elsewhere.url).host;
  const registry = await registryOf(t, IMAGE);
  const server = await serverFetching(t, [`${registry.host}/team/os`]);
  const host = await enrol(server, null, { name: elsewhere.url });
  const names = [
    `${place}/team/os:latest`,
    `docker://${place}/team/os`,
    `${elsewhere.url}/v2/team/os`,
    `registry:${place}/team/os@${OTHER.digest}`,
    `ostree-remote-registry:x:${place}/team/os`,
    `oci:/etc`,
  ];
  for (const reference of names)
    for (const booted of [OTHER.digest, OTHER.digest.slice(7), elsewhere.url, `${place}/team/os@${OTHER.digest}`]) {
      host.reference = reference;
      host.booted = booted;
      const claim = {
        image: {
          reference,
          transport: elsewhere.url,
          digest: OTHER.digest,
          version: elsewhere.url,
          signature: elsewhere.url,
        },
      };
      const entry = { ...host.deployment().booted!, ...claim, checksum: elsewhere.url };
      host.state = { staged: entry, rollback: entry, contradictions: [elsewhere.url], kargs: [elsewhere.url] };
      const { status, body } = await host.sendFull();
      assert.ok(status === 200, JSON.stringify(body));
    }
  server.time.now = Date.now();
  await server.settle();
  const told = await host.told();
  assert.equal(told.verdict, 'unverifiable');
  const { reasons } = (await server.server.store.images.find(OTHER.digest))!.image;
  assert.equal(reasons[0]?.code, 'IMAGE_SOURCE_NOT_ALLOWED');
  assert.deepEqual(elsewhere.seen, []);
});

/** Acts on terminals, in HTML, in CSV and in logs; and turns a line around. */
const EVIL =
  '\u001b]0;owned\u0007\u001b[2J"\'><script>alert(1)</script><img src=x onerror=alert(1)>\u202ecod.exe\r\n=cmd|&amp;';

// eslint-disable-next-line no-control-regex
const ACTING = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

test('names that act on terminals or in pages are text on every surface', async (t) => {
  const registry = await registryOf(t, IMAGE);
  const server = await serverFetching(t, [`${registry.host}/team/os`]);
  const host = new Host(t);
  const evil = EVIL.replaceAll('/', '\u2215');
  mkdirSync(join(host.root, 'usr/lib', evil));
  writeFileSync(join(host.root, 'usr/lib', evil, evil), 'x');
  writeFileSync(join(host.root, 'etc', evil), 'x');
  writeFileSync(Buffer.from(`${host.root}/usr/bin/\xff\x9b31m\x1b`, 'latin1'), 'x');
  chmodSync(join(host.root, 'usr/lib', evil, evil), 0o755);
  const id = await host.enrol(server.server.url, server);
  await host.run();
  await built(server, IMAGE.digest);
  const done = await host.run();
  assert.equal(done.exit, EXIT.different, done.err);
  // One that lies about its own name and state as well.
  const liar = await enrol(server, null, { name: EVIL });
  liar.reference = EVIL;
  liar.booted = EVIL;
  liar.state = { contradictions: [EVIL], kargs: [EVIL], kernel: EVIL };
  await liar.sendFull();
  await server.settle();

  const env = { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin };
  const scanning = ['--root', host.root, '--image', `docker://${registry.host}/team/os:latest`, '--backend', 'ostree'];
  const groups = (await server.api('/api/v1/groups')).body.items as { id: string }[];
  const commands: [(args: readonly string[], io: Io) => Promise<number>, string[]][] = [
    [cliAgent, ['scan', ...scanning]],
    [cliAgent, ['scan', ...scanning, '--json']],
    [agentMain, ['run', ...host.booted, ...host.where]],
    [hosts, []],
    [hostCommand, [id]],
    [hostCommand, [liar.id]],
    [findings, []],
    [images, []],
  ];
  for (const [act, args] of commands)
    for (const tty of [false, true]) {
      const { out, err, exit } = await run(act, args, env, tty);
      assert.ok(exit !== EXIT.fault && exit !== EXIT.usage, err);
      // Ours on a terminal: colours, and the line of progress that is drawn over itself.
      // eslint-disable-next-line no-control-regex
      const text = tty ? (out + err).replaceAll(/\u001b\[[0-9;]*[mK]|\r/g, '') : out + err;
      assert.doesNotMatch(text, ACTING, `${args.join(' ')}: ${JSON.stringify(text.slice(0, 500))}`);
    }

  const session = await signIn(server);
  const paths = [
    '/',
    `/hosts/${id}`,
    `/hosts/${liar.id}`,
    '/findings',
    '/images',
    ...groups.map((group) => `/findings/${group.id}`),
  ];
  let shown = 0;
  for (const path of paths) {
    const page = await server.server.app.request(path, { headers: { cookie: session } });
    assert.ok(page.status === 200 || page.status === 404, `${path}: ${page.status}`);
    const html = await page.text();
    if (html.includes('alert(1)')) shown++;
    assertTame(read(html));
    assert.match(page.headers.get('content-security-policy')!, /default-src 'none'/);
  }
  assert.ok(shown > 2, 'the pages do show these names');
  for (const path of [
    '/api/v1/hosts',
    `/api/v1/hosts/${id}`,
    `/api/v1/hosts/${id}/drift`,
    '/api/v1/groups',
    '/api/v1/images',
  ]) {
    const { status, headers, body } = await server.api(path);
    assert.equal(status, 200, path);
    assert.match(headers.get('content-type')!, /^application\/json/);
    assert.ok(typeof body === 'object');
  }
  for (const event of server.events) {
    // eslint-disable-next-line no-control-regex
    assert.doesNotMatch(JSON.stringify(event), /[\u0000-\u001f]/);
  }
});

async function signIn(server: TestServer): Promise<string> {
  const response = await server.server.app.request(`${server.server.url}/login`, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      origin: server.server.url,
      'sec-fetch-site': 'same-origin',
    },
    body: new URLSearchParams({ token: server.admin }),
  });
  const cookie = response.headers.get('set-cookie');
  assert.ok(cookie !== null, `no session: ${response.status}`);
  return cookie.split(';')[0]!;
}

// ── bombs ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const MB = 2 ** 20;
const bombs: [string, string, () => Buffer][] = [
  ['64 MiB in gzip', 'gzip', () => gzipSync(Buffer.alloc(64 * MB))],
  ['64 MiB in zstd', 'zstd', () => zstdCompressSync(Buffer.alloc(64 * MB))],
  ['nested arrays', 'gzip', () => gzipSync(Buffer.from('['.repeat(7 * MB)))],
  ['quotes without end', 'gzip', () => gzipSync(Buffer.from(`{"payload":"${'A'.repeat(7 * MB)}`))],
];
test('report bombs end as refusals, and intake goes on beside them', async (t) => {
  const server = await serverFor(t);
  const host = await enrol(server, null);
  const before = process.memoryUsage().rss;
  const posts = bombs.flatMap(([, coding, make]) => {
    const body = make();
    return Array.from({ length: 8 }, () => post(server.server.port, coding, body));
  });
  const [answers, sent] = await Promise.all([Promise.all(posts), host.sendFull()]);
  assert.equal(sent.status, 200);
  for (const status of answers) assert.ok([400, 413, 503].includes(status), String(status));
  assert.ok(process.memoryUsage().rss - before < 512 * MB, 'what bombs hold is bounded');
});

/** A post over a real connection; answers the status. */
function post(port: number, coding: string, body: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      const status = /^HTTP\/1\.1 ([0-9]{3})/.exec(text)?.[1];
      if (status !== undefined) {
        socket.destroy();
        resolve(Number(status));
      }
    });
    socket.on('error', reject);
    socket.write(
      `POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Encoding: ${coding}\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    socket.write(body);
  });
}
