/** The agent's requests against servers that misbehave: what counts as an answer, and what is only noise. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempDisposableSync, readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { ANSWER_BYTES_MAX } from '#src/limits.ts';
import { problem } from '#src/wire/problem.ts';
import { parseServerUrl, PostError, postReport, retryAfterMs, Server } from '#agent/post.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';
import { full, ModelServer, T0 } from './fixture.ts';
import { json, serve, type Handler } from './httpserver.ts';

const envelope = new TextEncoder().encode(full.envelope);
const answer = new ModelServer().answer(1, 'advance');

async function post(handler: Handler, options: object = {}) {
  await using http = await serve(handler);
  const server = new Server({ url: http.url, ...options });
  try {
    return { posted: await postReport(server, envelope, () => T0), seen: http.seen };
  } finally {
    server.close();
  }
}

test('a report goes out compressed, with its length, and the answer is read', async () => {
  const { posted, seen } = await post(() => json(answer), { userAgent: 'bootproof-agent/9' });
  assert.deepEqual(posted, { kind: 'accepted', answer });
  const [one] = seen;
  assert.ok(one);
  assert.deepEqual(
    [one.method, one.path, one.headers['content-encoding'], one.headers['user-agent']],
    ['POST', '/api/v1/reports', 'gzip', 'bootproof-agent/9'],
  );
  assert.deepEqual(one.body, Buffer.from(envelope));
  assert.equal(one.headers['transfer-encoding'], undefined);
});

for (const [encoding, encode] of [
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)
  test(`an answer in ${encoding} is read`, async () => {
    const body = encode(JSON.stringify(answer));
    const { posted } = await post(() => ({ headers: { 'content-encoding': encoding }, body }));
    assert.equal(posted.kind, 'accepted');
  });

test('members of an answer that are not known are dropped, and so are orders', async () => {
  const { posted } = await post(() => json({ ...answer, run: 'rm -rf /', exclude: ['/usr'] }));
  assert.deepEqual(posted, { kind: 'accepted', answer });
});

const noise: [string, Handler, RegExp?][] = [
  ['500', () => ({ status: 500 })],
  ['500 with a problem of ours', () => json(problem('FAULT', 'oops'), 500), /oops \[FAULT\]/],
  ['502 and a page', () => ({ status: 502, body: '<html>Bad gateway</html>' })],
  ['404 of some other program', () => ({ status: 404, body: 'not found' })],
  ['403 of a captive portal', () => ({ status: 403, body: '<html>Log in</html>' })],
  [
    'a refusal whose status is not that of the response',
    () => json(problem('TREE_CONTRADICTS', 'no', { check: 7 }), 500),
  ],
  ['a problem of no check', () => json(problem('ENCODING_UNSUPPORTED', 'no gzip'), 415)],
  ['200 and a page', () => ({ body: '<html>Welcome</html>' }), /not its answer/],
  ['200 and nothing', () => ({ body: '' }), /not its answer/],
  ['200 and another form', () => json({ ok: true }), /not its answer/],
  ['200 and bytes that are no UTF-8', () => ({ body: Uint8Array.from([0xff]) }), /not its answer/],
  ['200 with a time that is none', () => json({ ...answer, next: 'soon' }), /not its answer/],
  ['204', () => ({ status: 204 })],
  ['an encoding that was not asked for', () => ({ headers: { 'content-encoding': 'br' }, body: 'x' }), /encoding/],
  ['gzip that is none', () => ({ headers: { 'content-encoding': 'gzip' }, body: 'x' }), /does not answer/],
  ['more than may be read', () => ({ body: ' '.repeat(ANSWER_BYTES_MAX + 1) }), /more than/],
  [
    'a gzip bomb',
    () => ({ headers: { 'content-encoding': 'gzip' }, body: gzipSync(Buffer.alloc(50_000_000)) }),
    /more than/,
  ],
  ['an endless answer', (_, response) => endless(response), /more than/],
  [
    'a redirect',
    (seen) => ({ status: 307, headers: { location: `http://127.0.0.1:1${seen.path}` } }),
    /sends elsewhere/,
  ],
  ['a closed connection', (_, response) => half(response, ''), /does not answer/],
  ['half an answer', (_, response) => half(response, '{'), /does not answer/],
];
function endless(response: Parameters<Handler>[1]): undefined {
  response.writeHead(200);
  const timer = setInterval(() => response.write('x'.repeat(10_000)), 1);
  response.on('close', () => clearInterval(timer));
}
function half(response: Parameters<Handler>[1], begun: string): undefined {
  if (begun !== '') response.writeHead(200, { 'content-length': '1000' }).write(begun);
  setTimeout(() => response.destroy(), 10);
}
for (const [name, handler, words] of noise)
  test(`${name}: the report waits`, async () => {
    const { posted, seen } = await post(handler);
    assert.ok(posted.kind === 'retry', JSON.stringify(posted));
    assert.equal(posted.afterMs, null);
    if (words !== undefined) assert.match(posted.why, words);
    assert.equal(seen.length, 1);
  });

test('silence ends, and so does an answer that only trickles', async () => {
  const silent = await post(() => undefined, { idleMs: 50 });
  assert.equal(silent.posted.kind, 'retry');
  const trickle: Handler = (_, response) => {
    response.writeHead(200);
    const timer = setInterval(() => response.write(' '), 5);
    response.on('close', () => clearInterval(timer));
    return undefined;
  };
  const slow = await post(trickle, { totalMs: 100 });
  assert.ok(slow.posted.kind === 'retry');
  assert.match(slow.posted.why, /took too long/);
});

test('an agent that is told to stop stops, and takes that for no answer of the server', async () => {
  await using http = await serve(() => undefined);
  const stop = new AbortController();
  const server = new Server({ url: http.url, signal: stop.signal });
  const why = new Error('stopped');
  setTimeout(() => stop.abort(why), 20);
  await assert.rejects(
    postReport(server, envelope, () => T0),
    why,
  );
  server.close();
});

test('nobody there: the report waits', async () => {
  const http = await serve(() => undefined);
  await http[Symbol.asyncDispose]();
  const server = new Server({ url: http.url });
  const posted = await postReport(server, envelope, () => T0);
  assert.ok(posted.kind === 'retry');
  assert.match(posted.why, /does not answer/);
});

test('a problem of the report is a refusal; one of the host waits', async () => {
  for (const [code, check] of [
    ['REPORT_TOO_LARGE', 1],
    ['ENVELOPE_SYNTAX', 2],
    ['SIGNATURE_INVALID', 4],
    ['SCHEMA_INVALID', 5],
    ['SEQUENCE_FORKED', 6],
    ['TREE_CONTRADICTS', 7],
  ] as const) {
    const document = problem(code, 'no', { check });
    const { posted } = await post(() => json(document, document.status));
    assert.deepEqual(posted, { kind: 'refused', problem: document });
  }
  for (const code of ['HOST_UNKNOWN', 'HOST_PENDING', 'HOST_RETIRED'] as const) {
    const document = problem(code, 'no', { check: 3 });
    const { posted } = await post(() => json(document, document.status));
    assert.deepEqual(posted, { kind: 'waits', problem: document });
  }
});

test('a refusal of a newer server, by a code that is not known here, is a refusal', async () => {
  const document = { ...problem('SCHEMA_INVALID', 'no', { check: 5 }), code: 'SOMETHING_NEW' };
  const { posted } = await post(() => json(document, 422));
  assert.equal(posted.kind, 'refused');
});

test('Retry-After comes along with what it stands in', async () => {
  for (const status of [429, 503]) {
    const reply = json(problem(status === 429 ? 'RATE_LIMITED' : 'OVERLOADED', 'busy', { check: 6 }), status);
    const { posted } = await post(() => ({ ...reply, headers: { ...reply.headers, 'retry-after': '7' } }));
    assert.ok(posted.kind === 'retry');
    assert.equal(posted.afterMs, 7000);
  }
});

const pauses: [string | undefined, number | null][] = [
  [undefined, null],
  ['0', 0],
  ['120', 120_000],
  ['Tue, 24 Nov 2026 08:01:00 GMT', 60_000],
  ['Tue, 24 Nov 2026 07:00:00 GMT', 0],
  ['-5', null],
  ['1.5', null],
  ['soon', null],
  ['2026-11-24', null],
  ['99999999999', null],
];
for (const [value, ms] of pauses)
  test(`Retry-After ${value} is ${ms}`, () => assert.equal(retryAfterMs(value, T0), ms));

const addresses: [string, string | null][] = [
  ['https://bootproof.example', null],
  ['https://bootproof.example:8443/below/', null],
  ['http://127.0.0.1:8080', null],
  ['http://127.9.9.9', null],
  ['http://[::1]:80', null],
  ['http://localhost:3000', null],
  ['http://bootproof.example', 'URL_INSECURE'],
  ['http://127.0.0.1.example', 'URL_INSECURE'],
  ['http://localhost.example', 'URL_INSECURE'],
  ['http://10.0.0.1', 'URL_INSECURE'],
  ['http://[::ffff:10.0.0.1]', 'URL_INSECURE'],
  ['ftp://bootproof.example', 'URL_SYNTAX'],
  ['bootproof.example', 'URL_SYNTAX'],
  ['https://user:pw@bootproof.example', 'URL_SYNTAX'],
  ['https://bootproof.example/?x', 'URL_SYNTAX'],
  ['', 'URL_SYNTAX'],
];
for (const [text, code] of addresses)
  test(`the address ${JSON.stringify(text)} is ${code ?? 'taken'}`, () => {
    if (code === null) parseServerUrl(text);
    else throwsCode(() => parseServerUrl(text), PostError, code);
  });

test('a file of authorities that holds none is refused by name, not as a server that cannot be believed', () => {
  const make = (ca: string) => () => new Server({ url: 'https://bootproof.example', ca });
  for (const ca of ['', 'junk', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'])
    throwsCode(make(ca), PostError, 'CA_SYNTAX');
});

test('a server below a path is asked below it', async () => {
  await using http = await serve(() => json(answer));
  const server = new Server({ url: `${http.url}/below/` });
  await postReport(server, envelope, () => T0);
  assert.equal(http.seen[0]!.path, '/below/api/v1/reports');
  server.close();
});

test('a proxy of the environment is used, and NO_PROXY spares it', async () => {
  await using proxy = await serve(() => json(answer));
  const through = new Server({ url: 'http://localhost:9', env: { HTTP_PROXY: proxy.url } });
  assert.equal((await postReport(through, envelope, () => T0)).kind, 'accepted');
  assert.equal(proxy.seen[0]!.path, 'http://localhost:9/api/v1/reports');
  const spared = new Server({ url: proxy.url, env: { HTTP_PROXY: 'http://127.0.0.1:1', NO_PROXY: '127.0.0.1' } });
  assert.equal((await postReport(spared, envelope, () => T0)).kind, 'accepted');
  through.close();
  spared.close();
});

test('a request for more than may be read is refused while it comes', async () => {
  await using http = await serve(() => ({ body: 'x'.repeat(1001) }));
  const server = new Server({ url: http.url });
  await rejectsCode(() => server.request({ method: 'GET', path: '/', limit: 1000 }), PostError, 'ANSWER_TOO_LARGE');
  assert.equal((await server.request({ method: 'GET', path: '/', limit: 1001 })).body.length, 1001);
  server.close();
});

test('over https only the given authority is believed, for its own name', async (t) => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'bootproof-tls-'));
  const make = (name: string, host: string) => {
    const [key, cert] = [join(folder.path, `${name}.key`), join(folder.path, `${name}.pem`)];
    const subject = [
      '-subj',
      `/CN=${host}`,
      '-addext',
      `subjectAltName=${host === '127.0.0.1' ? 'IP' : 'DNS'}:${host}`,
    ];
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'ed25519', '-nodes', '-days', '2', '-keyout', key, '-out', cert, ...subject],
      { stdio: 'ignore' },
    );
    return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
  };
  let good, named, other;
  try {
    good = make('good', '127.0.0.1');
    named = make('named', 'bootproof.example');
    other = make('other', '127.0.0.1');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    t.skip('no openssl on this machine');
    return;
  }
  const ask = async (identity: typeof good, ca: string | undefined) => {
    const http = createServer(identity, (_, response) => response.end(JSON.stringify(answer)));
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const server = new Server({ url: `https://127.0.0.1:${(http.address() as AddressInfo).port}`, ca });
    const posted = await postReport(server, envelope, () => T0);
    server.close();
    http.close();
    http.closeAllConnections();
    return posted.kind;
  };
  assert.equal(await ask(good, good.cert), 'accepted');
  assert.equal(await ask(good, other.cert), 'retry');
  assert.equal(await ask(good, undefined), 'retry');
  assert.equal(await ask(named, named.cert), 'retry');
});
