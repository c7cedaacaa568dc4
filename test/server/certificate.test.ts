/** TLS by the server's own certificate: what is refused, and that a new pair takes over without a connection being dropped. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request, Agent } from 'node:https';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { readPair } from '#server/certificate.ts';
import { closeHttp } from '#server/listen.ts';
import { UsageError } from '#src/terminal.ts';
import { issue } from '#test/src/signing/tsa.ts';
import { rejectsCode } from '#test/throws.ts';
import { createServer } from 'node:http';
import { folder, serverFor } from './fleet.ts';

const TLS = join(import.meta.dirname, '../vectors/source/tls');
const NOW = Date.UTC(2026, 10, 25);

type Made = { readonly cert: string; readonly key: string };
function made(t: TestContext): Made {
  const at = folder(t);
  for (const file of ['cert.pem', 'key.pem']) cpSync(join(TLS, file), join(at, file));
  return { cert: join(at, 'cert.pem'), key: join(at, 'key.pem') };
}

const pem = (der: Uint8Array): string =>
  `-----BEGIN CERTIFICATE-----\n${der.toBase64().replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
function another(files: Made, name = 'another', more: { from?: number; to?: number } = {}): void {
  const { der, key } = issue({ name, issuer: null, ...more });
  writeFileSync(files.cert, pem(der));
  writeFileSync(files.key, key.export({ format: 'pem', type: 'pkcs8' }));
}

const REFUSED: readonly (readonly [string, (files: Made) => void, RegExp])[] = [
  ['no certificate file', ({ cert }) => rmSync(cert), /--tls-cert .* cannot be read: ENOENT/],
  ['no key file', ({ key }) => rmSync(key), /--tls-key .* cannot be read: ENOENT/],
  ['a file without a certificate', ({ cert }) => writeFileSync(cert, 'hello'), /holds no certificate in PEM/],
  [
    'half a certificate',
    ({ cert }) => writeFileSync(cert, pem(Uint8Array.of(48, 3, 1))),
    /certificate 1 cannot be read/,
  ],
  ['no key in its file', ({ key }) => cpSync(join(TLS, 'ca.pem'), key), /--tls-key .* holds no private key/],
  [
    'the key of another certificate',
    (files) => {
      const before = readFileSync(files.cert);
      another(files);
      writeFileSync(files.cert, before);
    },
    /is not the key of the first certificate/,
  ],
  ['a certificate that is over', (files) => another(files, 'old', { to: NOW - 1 }), /was over at 2026-11-24T23:59:59/],
  ['one that is not good yet', (files) => another(files, 'new', { from: NOW + 1000 }), /good from 2026-11-25T00:00:01/],
  [
    'a key that wants a password',
    ({ key, cert }) => {
      const { der, key: own } = issue({ name: 'x', issuer: null });
      writeFileSync(cert, pem(der));
      writeFileSync(key, own.export({ format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'x' }));
    },
    /is encrypted/,
  ],
];
for (const [name, spoil, why] of REFUSED)
  test(`${name} is refused, with what to do`, async (t) => {
    const files = made(t);
    spoil(files);
    await assert.rejects(readPair(files, NOW), (error) => error instanceof UsageError && why.test(error.message));
  });

test('a server speaks TLS alone; a new pair is for new connections, and one that does not fit is for none', async (t) => {
  const files = made(t);
  const server = await serverFor(t, { tls: files });
  assert.match(server.server.url, /^https:/);
  const agent = new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
  t.after(() => agent.destroy());
  /** Whose certificate the connection has, and its own number. */
  const ask = (over: Agent | false, path = '/livez') =>
    new Promise<{ by: string; port: number; text: string }>((resolve, reject) => {
      const url = `${server.server.url}${path}`;
      const asked = request(url, { agent: over, rejectUnauthorized: false }, (response) => {
        const socket = response.socket as TLSSocket;
        const { subject } = socket.getPeerCertificate();
        const port = socket.localPort!;
        let text = '';
        response.on('data', (part) => (text += String(part)));
        response.on('end', () => resolve({ by: String(subject?.CN ?? ''), port, text }));
      });
      asked.on('error', reject).end();
    });
  const first = await ask(agent);
  another(files, 'another');
  await server.server.renewCertificate();
  assert.deepEqual(await ask(agent), { ...first, by: first.by }, 'the connection that stands goes on');
  assert.equal((await ask(false)).by, 'another');
  const before = readFileSync(files.key);
  another(files, 'third');
  writeFileSync(files.key, before);
  await server.server.renewCertificate();
  assert.equal((await ask(false)).by, 'another', 'the pair before goes on');
  const told = server.events.filter(({ event }) => event === 'certificate refused');
  assert.equal(told.length, 1);
  assert.match(JSON.stringify(told[0]!.fields), /is not the key of the first certificate.*the one before, until 2040/);
  assert.match((await ask(false, '/readyz')).text, /^ok\ncertificate: the new one is not used/);
  another(files, 'third');
  await server.server.renewCertificate();
  assert.equal((await ask(false)).by, 'third');
  assert.equal((await ask(false, '/readyz')).text, 'ok');
  await assert.rejects(fetch(server.server.url.replace('https', 'http')), 'nothing is said in the clear');
});

test('nothing is served without a pair that fits', async (t) => {
  const files = made(t);
  rmSync(files.key);
  await rejectsCode(() => serverFor(t, { tls: files }), UsageError, 'USAGE');
});

test('a connection that was busy when the server stopped ends with its answer', async () => {
  const came = Promise.withResolvers<() => void>();
  const server = createServer((_request, response) => came.resolve(() => response.end('done')));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const asked = fetch(`http://127.0.0.1:${port}`);
  const answer = await came.promise;
  const closed = closeHttp(server, 60_000);
  answer();
  assert.equal(await (await asked).text(), 'done');
  await closed;
});
