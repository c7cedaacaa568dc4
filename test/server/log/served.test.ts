/** The evidence log as a server tells it: what reports and acts leave in it, its files, its verification, what is refused. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { test } from 'node:test';
import { openCheckpoint } from '#src/log/checkpoint.ts';
import { parseEntry } from '#src/log/entry.ts';
import { PORTABLE, verifyConsistency, verifyInclusion } from '#src/log/proof.ts';
import { parseConsistencyFile, parseInclusionFile } from '#src/log/prooffile.ts';
import { parseEntryBundle } from '#src/log/tile.ts';
import { fromBase64 } from '#src/bytes.ts';
import { nodeSigner, pkcs8OfSeed, verifyInPool } from '#src/signing/node.ts';
import { printEcho } from '#src/wire/logecho.ts';
import { openLogKey } from '#src/wire/logkey.ts';
import { parseVkey } from '#src/signing/note.ts';
import { enrol, folder, image, serverFor, type TestServer } from '../fleet.ts';
import { visitor } from '../web/visitor.ts';

const OS = image('41');

async function text(server: TestServer, path: string, headers: Record<string, string> = {}) {
  const response = await server.server.app.request(path, { headers });
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
}

async function opened(server: TestServer) {
  const key = parseVkey((await text(server, '/log/key')).bytes.toString().trimEnd());
  return openCheckpoint((await text(server, '/log/checkpoint')).bytes, key, verifyInPool);
}

async function entriesOf(server: TestServer, size: number): Promise<Uint8Array[]> {
  const all: Uint8Array[] = [];
  for (let n = 0; n * 256 < size; n++) {
    const width = Math.min(256, size - n * 256);
    const path = `/log/tile/entries/${String(n).padStart(3, '0')}${width === 256 ? '' : `.p/${width}`}`;
    all.push(...parseEntryBundle((await text(server, path)).bytes, width));
  }
  return all;
}

test('what reports and people do is in the log, in files as C2SP has them, with receipt and proofs', async (t) => {
  const server = await serverFor(t, { images: [OS], baseUrl: 'https://bootproof.example/base' });
  const host = await enrol(server, OS);
  await host.sendFull();
  await server.settle();
  await server.server.evidence.turn();
  const first = await opened(server);
  assert.equal(first.origin, 'bootproof.example/base/log');
  host.compareWith(OS);
  await host.sendFull();
  await host.sendSame();
  const { body: before } = await server.api(`/api/v1/hosts/${host.id}/reports/2/receipt`);
  await server.server.evidence.turn();
  const { body: receipt } = await server.api(`/api/v1/hosts/${host.id}/reports/2/receipt`);
  assert.ok(['pending', 'logged'].includes(before.state));
  assert.equal(receipt.state, 'logged');
  assert.equal((await server.api(`/api/v1/hosts/${host.id}/reports/3/receipt`)).body.state, 'daily');
  assert.equal((await server.api(`/api/v1/hosts/${host.id}/reports/9/receipt`)).status, 404);

  const second = await opened(server);
  const entries = (await entriesOf(server, second.size)).map((bytes) => parseEntry(bytes));
  const kinds = entries.map((entry) => (entry.kind === 'act' ? entry.facts.action : entry.kind));
  for (const kind of ['token.create', 'host.enrol', 'source.allow', 'report', 'judgement'])
    assert.ok(kinds.includes(kind), kind);
  const logged = entries[receipt.index]!;
  assert.deepEqual(logged.kind === 'report' && logged.facts, { report: 'full', seq: 2, copy: 0, count: null });
  // Everybody reads it: no name, no address, nothing that a person wrote.
  const whole = entries.map((entry) => JSON.stringify(entry)).join('\n');
  for (const secret of ['registry.example', 'admin']) assert.ok(!whole.includes(secret), secret);

  const { body: shown } = await server.api(`/api/v1/log/entries/${receipt.index}`);
  const digest = createHash('sha256')
    .update(Buffer.from(shown.salt, 'base64'))
    .update(Buffer.from(shown.payload, 'base64'))
    .digest('hex');
  assert.equal(logged.digest, `sha256:${digest}`);
  const admin = { authorization: `Bearer ${server.admin}` };
  const proof = parseInclusionFile(
    (await text(server, `/api/v1/log/entries/${receipt.index}/proof`, admin)).bytes.toString(),
  );
  verifyInclusion(PORTABLE.leaf(Buffer.from(shown.bytes, 'base64')), receipt.index, second, proof.proof);
  const grown = parseConsistencyFile(
    (await text(server, `/api/v1/log/consistency?from=${first.size}`, admin)).bytes.toString(),
  );
  verifyConsistency(first, second, grown.proof);
  assert.equal((await server.api('/api/v1/log/consistency?from=100000')).status, 404);
  assert.equal((await server.api('/api/v1/log/entries/100000')).status, 404);
});

test('tiles are told for every width that there is, with how long they stay, and nothing else is', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  for (let n = 0; n < 300; n++)
    await server.server.store.audit.append(
      { actor: 'test', at: server.time.now },
      { action: 'test.act', object: `n:${n}`, before: null, after: null },
    );
  await server.server.evidence.turn();
  const { size } = await opened(server);
  const rest = size - 256;
  const full = await text(server, '/log/tile/0/000');
  assert.equal(full.bytes.length, 8192);
  assert.equal(full.headers.get('content-type'), 'application/octet-stream');
  assert.match(full.headers.get('cache-control')!, /immutable/);
  assert.equal((await text(server, '/log/tile/1/000.p/1')).bytes.length, 32);
  for (const width of [1, rest - 1, rest])
    assert.equal((await text(server, `/log/tile/0/001.p/${width}`)).bytes.length, 32 * width);
  const plain = await text(server, '/log/tile/entries/000');
  const packed = await text(server, '/log/tile/entries/000', { 'accept-encoding': 'gzip' });
  assert.equal(packed.headers.get('content-encoding'), 'gzip');
  assert.equal(Buffer.compare(gunzipSync(packed.bytes), plain.bytes), 0);
  assert.equal(
    (await text(server, '/log/tile/entries/000', { 'accept-encoding': 'gzip;q=0' })).headers.get('content-encoding'),
    null,
  );
  const checkpoint = await text(server, '/log/checkpoint');
  assert.equal(checkpoint.headers.get('content-type'), 'text/plain; charset=utf-8');
  assert.equal(checkpoint.headers.get('cache-control'), 'public, max-age=1');
  for (const path of [
    `/log/tile/0/001.p/${rest + 1}`,
    '/log/tile/0/001',
    '/log/tile/1/000',
    '/log/tile/0/000.p/0',
    '/log/tile/0/000.p/256',
    '/log/tile/0/00',
    '/log/tile/00/000',
    '/log/tile/64/000',
    '/log/tile/entries/002.p/1',
    '/log/tile/0/x000/000',
    '/log/tile/',
    '/log/nothing',
  ])
    assert.equal((await text(server, path)).status, 404, path);
});

test('a database that was restored from a backup is not signed on, until a new log names the old head', async (t) => {
  const at = folder(t);
  const storeUrl = `sqlite:${join(at, 'store.db')}`;
  const first = await serverFor(t, { storeUrl });
  const act = (server: TestServer, n: number) =>
    server.server.store.audit.append(
      { actor: 'test', at: server.time.now },
      { action: 'test.act', object: `n:${n}`, before: null, after: null },
    );
  await act(first, 1);
  await first.server.evidence.turn();
  const { admin } = first;
  await first.server.close();
  copyFileSync(join(at, 'store.db'), join(at, 'backup.db'));
  const second = await serverFor(t, { storeUrl, admin });
  await act(second, 2);
  await second.server.evidence.turn();
  const published = await opened(second);
  await second.server.close();
  const kept = readFileSync(join(at, 'log.checkpoint'), 'utf8');
  assert.ok(kept.startsWith(`${published.origin}\n${published.size}\n`));
  copyFileSync(join(at, 'backup.db'), join(at, 'store.db'));

  const third = await serverFor(t, { storeUrl, admin });
  await act(third, 3);
  await third.server.evidence.turn();
  assert.equal((await text(third, '/log/checkpoint')).status, 503);
  assert.match((await text(third, '/readyz')).bytes.toString(), /evidence log not signed.*log restart --new-origin/s);
  const { body: state } = await third.api('/api/v1/log');
  assert.equal(state.state, 'refused');
  assert.match(state.why, /behind what was published/);
  assert.match(
    (await text(third, '/metrics', { authorization: `Bearer ${admin}` })).bytes.toString(),
    /bootproof_log_signing 0/,
  );
  assert.ok(third.events.some(({ level, event }) => level === 'error' && event === 'evidence log is not signed'));
  assert.equal(readFileSync(join(at, 'log.checkpoint'), 'utf8'), kept);
  const { status } = await third.api('/api/v1/log/restart', { method: 'POST', body: { origin: published.origin } });
  assert.equal(status, 409);
  const { body } = await third.api('/api/v1/log/restart', { method: 'POST', body: { origin: 'log.example/second' } });
  assert.equal(body.previous.size, published.size);
  const now = await opened(third);
  assert.equal(now.origin, 'log.example/second');
  const [entry] = await entriesOf(third, now.size);
  const restart = parseEntry(entry!);
  assert.deepEqual(restart.kind === 'restart' && restart.facts.previous, body.previous);
  // What happened while nothing was signed is there.
  assert.ok(now.size >= 3);
  await third.server.close();
  const fourth = await serverFor(t, { storeUrl, admin });
  assert.equal((await fourth.api('/api/v1/log')).body.state, 'signing');
});

test('answers carry the newest checkpoint: with the key to who knows none, with a proof from what was echoed', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await enrol(server, OS);
  const told = (await host.sendFull()).body;
  const seed = await server.server.store.settings.get('server-key-seed');
  const key = await openLogKey(told.logKey!, nodeSigner(pkcs8OfSeed(seed!)).publicKey, verifyInPool);
  const first = await openCheckpoint(told.checkpoint!, key, verifyInPool);
  assert.equal(told.consistency, null);
  await server.server.evidence.turn();
  const { body } = await host.sendSame({ checkpoint: told.checkpoint! });
  const second = await openCheckpoint(body.checkpoint!, key, verifyInPool);
  assert.ok(second.size > first.size);
  assert.equal(body.logKey, null);
  assert.equal(body.consistency!.from, first.size);
  verifyConsistency(first, second, body.consistency!.proof.map(fromBase64));
  // What a host makes up is nobody's checkpoint.
  for (const made of [
    'nonsense',
    'a\nb\n\nc\n',
    `${first.origin}\n999999\n${'A'.repeat(43)}=\n\n\u2014 x AAAAAAAA\n`,
  ]) {
    assert.equal((await host.sendSame({ checkpoint: made })).status, 200);
    await server.server.evidence.turn();
    assert.equal(server.server.evidence.refusal, undefined, made);
  }
  // A refusal is heard.
  const refusing = printEcho({ kept: told.checkpoint!, refused: { code: 'PROOF_ROOT', checkpoint: 'x' } });
  assert.equal((await host.sendSame({ checkpoint: refusing })).body.consistency!.from, first.size);
  assert.ok(server.events.some(({ event }) => event === 'a host refuses the evidence log'));
});

test('a host that was told more than the database has shows that it was rewound, without any file', async (t) => {
  const at = folder(t);
  const options = { images: [OS], storeUrl: `sqlite:${join(at, 'store.db')}`, evidence: { checkpointFile: null } };
  const first = await serverFor(t, options);
  const host = await enrol(first, OS);
  await host.sendFull();
  const { admin } = first;
  await first.server.close();
  copyFileSync(join(at, 'store.db'), join(at, 'backup.db'));
  const second = await serverFor(t, { ...options, admin });
  for (let n = 0; n < 3; n++)
    await second.server.store.audit.append(
      { actor: 'test', at: second.time.now },
      { action: 'test.act', object: `n:${n}`, before: null, after: null },
    );
  await second.server.evidence.turn();
  const { bytes } = await text(second, '/log/checkpoint');
  await second.server.close();
  copyFileSync(join(at, 'backup.db'), join(at, 'store.db'));
  const third = await serverFor(t, { ...options, admin });
  assert.ok(third.server.evidence.published !== undefined);
  const { seq } = host;
  const report = host.fullReport({ checkpoint: bytes.toString() });
  const sealed = await host.seal(report);
  const answer = await third.server.app.request('/api/v1/reports', { method: 'POST', body: sealed.text });
  assert.deepEqual([answer.status, ((await answer.json()) as { checkpoint: null }).checkpoint], [200, null]);
  await third.server.evidence.turn();
  assert.equal(third.server.evidence.refusal?.code, 'LOG_REWOUND');
  assert.equal(host.seq, seq + 1);
});

test('the page says how the log stands, what it proves and how that becomes more', async (t) => {
  const server = await serverFor(t);
  const reader = await visitor(server);
  const page = await reader.page('/log');
  for (const said of ['Evidence log', 'Level 1', 'bootproof agent checkpoint', 'bootproof log verify'])
    assert.ok(page.html.includes(said), said);
  assert.match((await reader.page('/settings')).html, /href="\/log"/);
});
