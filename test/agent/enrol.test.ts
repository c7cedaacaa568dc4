/** Enrolment by the agent, against a server that is right, wrong, deaf or not there at all. */
import assert from 'node:assert/strict';
import { mkdtempDisposableSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { verifyInPool } from '#src/signing/node.ts';
import { EnrolBody, EnrolError, openEnrolRequest } from '#src/wire/enrol.ts';
import { problem } from '#src/wire/problem.ts';
import { TokenError } from '#src/wire/token.ts';
import { nodeDisk } from '#agent/disk.ts';
import { enrol, enrolOffline, putAway } from '#agent/enrol.ts';
import { IdentityError, readIdentity, readKey } from '#agent/identity.ts';
import { PostError, Server } from '#agent/post.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';
import { enrol as vector, keys, T0, tokenSigner } from '../src/report/vectors.ts';
import { EnrolServer } from './enrolserver.ts';
import { FOLDER, HOST, seeded } from './fixture.ts';
import { json, serve, type Handler, type Reply } from './httpserver.ts';
import { diskWith, MemoryDisk, PowerCut } from './memorydisk.ts';

const machine = { machineId: vector.request.machine, hostname: 'web-1' };

function deps(disk = diskWith({}), seed = 1) {
  const chance = seeded(seed);
  const random = (bytes: number) => Uint8Array.from({ length: bytes }, () => Math.floor(chance() * 256));
  return { disk, clock: () => T0, random, verify: verifyInPool };
}

async function enrolAt(handler: Handler, d = deps(), token = vector.token) {
  await using http = await serve(handler);
  const server = new Server({ url: http.url });
  try {
    const enrolment = await enrol(d, { folder: FOLDER, machine, token, server, url: http.url });
    return { enrolment, seen: http.seen, url: http.url };
  } finally {
    server.close();
  }
}

test('a host enrols: key and identity are kept, the token is not, nor was it sent', async () => {
  const d = deps();
  const server = new EnrolServer();
  const { enrolment, seen, url } = await enrolAt(server.handle, d);
  const key = readKey(d.disk, FOLDER)!;
  assert.deepEqual([...server.hosts], [[key.publicKey, enrolment.host]]);
  assert.deepEqual(readIdentity(d.disk, FOLDER), {
    version: 1,
    host: enrolment.host,
    url,
    serverKey: keys.server.publicKey,
    publicKey: key.publicKey,
    enrolledAt: '2026-11-24T08:00:00.000Z',
    challenge: vector.enrolment.challenge,
    manifestBearer: vector.enrolment.manifestBearer,
  });
  const secret = vector.token.split('.')[2]!;
  const everything = [
    ...seen.map(({ body }) => body.toString()),
    ...[...d.disk.files().values()].map((b) => new TextDecoder().decode(b)),
  ];
  for (const text of everything) assert.ok(!text.includes(secret) && !text.includes(keys.token.seed));
});

test('the key file is of its owner alone, and one that others can read is not used', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'bootproof-key-'));
  const { body } = await enrolOffline({ ...deps(), disk: nodeDisk }, { folder: folder.path, machine, token: null });
  assert.equal(body.tokenSignature, null);
  const file = join(folder.path, 'host.key');
  assert.equal(statSync(file).mode & 0o7777, 0o600);
  assert.ok(readKey(nodeDisk, folder.path));
  const exposed = diskWith({});
  exposed.create(`${FOLDER}/host.key`, new TextEncoder().encode(keys.host.pkcs8), 0o640);
  throwsCode(() => readKey(exposed, FOLDER), IdentityError, 'KEY_EXPOSED');
  throwsCode(() => readKey(diskWith({ [`${FOLDER}/host.key`]: 'x' }), FOLDER), IdentityError, 'KEY_UNREADABLE');
  throwsCode(
    () => readIdentity(diskWith({ [`${FOLDER}/identity.json`]: '{}' }), FOLDER),
    IdentityError,
    'IDENTITY_UNREADABLE',
  );
});

test('a lost answer: asked again with the same key, it is the same host', async () => {
  const d = deps();
  const server = new EnrolServer();
  let lost = false;
  const handler: Handler = async (seen, response) => {
    const reply = await server.handle(seen);
    if (seen.path !== '/api/v1/enrol' || lost) return reply;
    lost = true;
    response.destroy();
    return undefined;
  };
  await rejectsCode(() => enrolAt(handler, d), PostError, 'NO_ANSWER');
  assert.equal(readIdentity(d.disk, FOLDER), undefined);
  const { enrolment } = await enrolAt(handler, d);
  assert.deepEqual([...server.hosts.values()], [enrolment.host]);
});

test('power cut at any act: afterwards the host is enrolled whole, or can be enrolled as the same', async () => {
  for (let cutAt = 1; ; cutAt++) {
    const d = deps(new MemoryDisk(), cutAt);
    const server = new EnrolServer();
    d.disk.cutAt = cutAt;
    d.disk.cutAfter = cutAt % 2 === 0;
    try {
      await enrolAt(server.handle, d);
      break;
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error;
    }
    d.disk.reboot(seeded(cutAt));
    if (readIdentity(d.disk, FOLDER) === undefined) await enrolAt(server.handle, d);
    const identity = readIdentity(d.disk, FOLDER)!;
    assert.equal(readKey(d.disk, FOLDER)?.publicKey, identity.publicKey, `cut at ${cutAt}`);
    assert.equal(server.hosts.get(identity.publicKey), identity.host);
    assert.ok(d.disk.files().has(`${FOLDER}/chain.json`));
  }
});

test('a server with another key is refused, and nothing is kept but the key', async () => {
  const wrong = new EnrolServer();
  wrong.signer = tokenSigner;
  const d = deps();
  await rejectsCode(() => enrolAt(wrong.handle, d), EnrolError, 'ENROL_SERVER_KEY');
  wrong.change = { serverKey: keys.token.publicKey };
  await rejectsCode(() => enrolAt(wrong.handle, d), EnrolError, 'ENROL_SERVER_KEY');
  assert.equal(readIdentity(d.disk, FOLDER), undefined);
});

test('an answer to another host is refused', async () => {
  const server = new EnrolServer();
  server.change = { publicKey: keys.host.publicKey };
  await rejectsCode(() => enrolAt(server.handle), EnrolError, 'ENROL_ANSWER');
});

test('another token is refused by the server, in its words', async () => {
  const other = vector.token.replace(/(?<=^bp1\.[a-z0-9]{16}\.)../, 'AA');
  await rejectsCode(() => enrolAt(new EnrolServer().handle, deps(), other), EnrolError, 'ENROL_TOKEN');
  await rejectsCode(() => enrolAt(new EnrolServer().handle, deps(), 'bp1.x'), TokenError, 'TOKEN_SYNTAX');
});

const strangers: [string, Reply, string][] = [
  ['a page', { body: '<html></html>' }, 'ANSWER_SYNTAX'],
  ['404 and a page', { status: 404, body: 'no' }, 'ANSWER_SYNTAX'],
  ['a redirect', { status: 302, headers: { location: 'http://127.0.0.1:1/' } }, 'REDIRECTED'],
  ['a problem that has nothing to do with it', json(problem('OVERLOADED', 'busy'), 503), 'NO_ANSWER'],
];
for (const [name, reply, code] of strangers)
  test(`${name} is no enrolment`, () => rejectsCode(() => enrolAt(() => reply), PostError, code));

test('a second enrolment is refused; to begin anew puts everything away, and deletes nothing', async () => {
  const d = deps();
  const server = new EnrolServer();
  const first = await enrolAt(server.handle, d);
  await rejectsCode(() => enrolAt(server.handle, d), IdentityError, 'ALREADY_ENROLLED');
  d.disk.create(`${FOLDER}/spool/0000000000000001.full`, new Uint8Array(3), 0o600);
  d.disk.syncFolder(`${FOLDER}/spool`);
  const before = [...d.disk.files().values()].map(String).sort();
  putAway(d, FOLDER);
  assert.deepEqual([...d.disk.files().values()].map(String).sort(), before);
  const second = await enrolAt(server.handle, d);
  assert.notEqual(second.enrolment.host, first.enrolment.host);
  assert.equal(server.hosts.size, 2);
});

test('by file: the host names itself, and its request proves key and, where there is one, token', async () => {
  const d = deps();
  const { host, body } = await enrolOffline(d, { folder: FOLDER, machine, token: vector.token });
  const opened = await openEnrolRequest(EnrolBody.parse(JSON.parse(JSON.stringify(body))), verifyInPool);
  assert.deepEqual([opened.request.host, opened.request.nonce, opened.request.tokenId], [host, null, vector.tokenId]);
  assert.notEqual(host, HOST);
  assert.ok(body.tokenSignature);
  const identity = readIdentity(d.disk, FOLDER)!;
  assert.deepEqual([identity.host, identity.url, identity.challenge, identity.serverKey], [host, null, null, null]);
});
