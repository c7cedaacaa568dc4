/** Witnesses and timestamp authorities of a running server: what is asked and kept, what is told where they fail, and what is an alarm. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openCheckpoint } from '#src/log/checkpoint.ts';
import { verifyByKey, verifyInPool } from '#src/signing/node.ts';
import { parseNote, parseVkey } from '#src/signing/note.ts';
import { verifyTimestamp } from '#src/signing/timestamp.ts';
import { UsageError } from '#src/terminal.ts';
import { levelAt, stampMembers, type AnchorStanding } from '#server/log/anchors.ts';
import { readAnchors } from '#server/log/authority.ts';
import { anchorChore } from '#server/jobs/anchors.ts';
import { enrol, HOUR, image, MINUTE, serverFor, type TestServer } from '../fleet.ts';
import { answerTo, AUTHORITY, issue, pemOf, STAMPING, type Bent } from '../../src/signing/tsa.ts';
import { visitor } from '../web/visitor.ts';
import { answering, TestWitness } from './witness.ts';

const OS = image('41');

async function text(server: TestServer, path: string, headers: Record<string, string> = {}) {
  const response = await server.server.app.request(path, { headers });
  return { status: response.status, text: await response.text() };
}

const act = async (server: TestServer): Promise<void> => {
  await server.server.store.audit.append(
    { actor: 'test', at: server.time.now },
    { action: 'test.act', object: 'n:1', before: null, after: null },
  );
  await server.server.evidence.turn();
};

test('a witness: asked at its pace, its signature kept and told, what fails tried again later, another view an alarm', async (t) => {
  const witness = new TestWitness();
  const url = await answering(t, witness.answer);
  const server = await serverFor(t, {
    images: [OS],
    evidence: { origin: 'log.example/anchors' },
    anchors: readAnchors({ witnesses: [`${witness.vkey}=${url}/submit/`], authorities: [], certificates: [] }),
  });
  const { anchors, evidence } = server.server;
  const state = async () => (await server.api('/api/v1/log')).body;
  const size = () => evidence.published!.checkpoint.size;
  await server.settle();
  await evidence.turn();
  await anchors.turn();
  // It does not know the log yet: said, counted, and not asked again at once.
  const unknown = (await state()).anchors[0];
  assert.equal(unknown.trouble.code, 'WITNESS_LOG_UNKNOWN');
  assert.match(unknown.trouble.text, /give its operator the log’s key/);
  assert.equal(unknown.trouble.alarm, false);
  assert.equal((await state()).level, 0);
  assert.equal((await text(server, '/log/checkpoint.cosigned')).status, 404);
  const asked = witness.asked.length;
  await anchors.turn();
  assert.equal(witness.asked.length, asked);

  witness.logs.push((await text(server, '/log/key')).text.trimEnd());
  server.time.now += MINUTE;
  await anchors.turn();
  const first = size();
  assert.deepEqual([(await state()).level, (await state()).anchors[0].size], [2, first]);
  const opened = async (path: string) =>
    openCheckpoint((await text(server, path)).text, parseVkey(witness.logs[0]!), verifyInPool, [
      parseVkey(witness.vkey),
    ]);
  assert.deepEqual(
    (await opened('/log/checkpoint')).witnesses.map(({ key, time }) => [key.name, time]),
    [[witness.name, witness.seconds]],
  );
  // Within its pace nothing is asked, however much was signed; then the newest, with a proof from what it signed.
  await act(server);
  await anchors.turn();
  assert.equal((await opened('/log/checkpoint')).witnesses.length, 0);
  assert.equal((await opened('/log/checkpoint.cosigned')).size, first);
  server.time.now += MINUTE;
  await anchors.turn();
  assert.equal(witness.asked.at(-1), `old ${first}`);
  // At an export it is asked at once, but not for what it signed already.
  const times = witness.asked.length;
  await anchors.anchor(evidence.published!, AbortSignal.timeout(10_000));
  assert.equal(witness.asked.length, times);
  assert.equal((await opened('/log/checkpoint')).witnesses.length, 1);

  // It was set back: it says where it stands, and is asked from there.
  witness.seen.clear();
  await act(server);
  server.time.now += MINUTE;
  await anchors.turn();
  assert.equal(witness.asked.at(-1), 'old 0');
  assert.equal((await state()).anchors[0].trouble, null);

  for (const [status, code, more] of [
    [403, 'WITNESS_KEY', {}],
    [500, 'WITNESS_ANSWER', {}],
    [409, 'WITNESS_ANSWER', { body: 'what' }],
    [200, 'WITNESS_SIGNATURE', { body: '— other.example AAAAAQ==\n' }],
    [200, 'WITNESS_SIGNATURE', { body: 'fine\n' }],
    [200, 'ANCHOR_ANSWER', { body: 'x'.repeat(70_000) }],
  ] as const) {
    witness.instead = () => ({ status, ...more });
    await act(server);
    server.time.now += 2 * HOUR;
    await anchors.turn();
    const { trouble } = (await state()).anchors[0];
    assert.deepEqual([trouble.code, trouble.alarm], [code, false], `${status} ${JSON.stringify(more).slice(0, 40)}`);
  }
  // A signature by another key, in the name of this one.
  witness.instead = undefined;
  const { signer } = witness;
  Object.assign(witness, { signer: { ...signer, sign: async () => new Uint8Array(64) } });
  server.time.now += 2 * HOUR;
  await anchors.turn();
  assert.equal((await state()).anchors[0].trouble.code, 'WITNESS_SIGNATURE');
  Object.assign(witness, { signer });

  // Another view: a greater size, and a tree that is not continued. Told everywhere, once a day.
  const channels = await server.api('/api/v1/channels', {
    method: 'POST',
    body: {
      name: 'ops',
      target: { kind: 'webhook', url: 'https://hook.example/x' },
      open: 'nothing',
      routing: { events: ['finding.new'] },
    },
  });
  assert.equal(channels.status, 201, JSON.stringify(channels.body));
  for (const answer of [
    { status: 409, type: 'text/x.tlog.size', body: '999999\n' },
    { status: 422, body: 'bad proof\n' },
  ]) {
    witness.instead = () => answer;
    server.time.now += 2 * HOUR;
    await anchors.turn();
    const { trouble } = (await state()).anchors[0];
    assert.deepEqual([trouble.code, trouble.alarm, (await state()).level], ['WITNESS_VIEW', true, 0]);
    const chore = { store: server.server.store, clock: () => server.time.now, baseUrl: () => 'https://b.example' };
    await anchorChore({ ...chore, anchors, evidence }, () => {}, 1).run();
  }
  const { items } = (await server.api('/api/v1/deliveries')).body;
  assert.deepEqual(
    items.map((one: { transition: string }) => one.transition),
    [new Date(server.time.now).toISOString().slice(0, 10)],
  );
  assert.match(JSON.stringify(items), /log\.alarm|witness\.example/);
  assert.match((await text(server, '/readyz')).text, /evidence log: .* another log/);
  assert.match(
    (await text(server, '/metrics', { authorization: `Bearer ${server.admin}` })).text,
    /^bootproof_log_alarm 1$/m,
  );
  // Intake and signing go on.
  const before = size();
  await (await enrol(server, OS)).sendFull();
  await evidence.turn();
  assert.ok(size() > before);
  witness.instead = undefined;
  server.time.now += 2 * HOUR;
  await anchors.turn();
  assert.deepEqual([(await state()).anchors[0].trouble, (await state()).level], [null, 2]);
});

test('an authority stamps once a day what grew, at an export anything; what does not verify is not kept; hosts that keep checkpoints count', async (t) => {
  let bent: Partial<Bent> & { readonly type?: string; readonly by?: typeof AUTHORITY.tsa } = {};
  let asked = 0;
  const url = await answering(t, (query) => {
    asked++;
    const { type = 'application/timestamp-reply', by = AUTHORITY.tsa, ...more } = bent;
    return { status: 200, type, body: answerTo(query, by, { time: server.time.now, ...more }) };
  });
  const certificates = [{ name: 'corp', pem: pemOf(AUTHORITY.root) }];
  const server = await serverFor(t, {
    images: [OS],
    anchors: readAnchors({ witnesses: [], authorities: [`corp=${url}/tsa?key=secret`], certificates }),
  });
  const { anchors, evidence, store } = server.server;
  const host = await enrol(server, OS);
  const { body: first } = await host.sendFull();
  await server.settle();
  await evidence.turn();
  const { origin } = evidence.published!.checkpoint;
  const standing = () => anchors.standing(origin);
  for (const [what, code] of [
    [{ type: 'text/html' }, 'TIMESTAMP_ANSWER'],
    [{ status: 2 }, 'TIMESTAMP_REFUSED'],
    [{ nonce: Uint8Array.of(1) }, 'TIMESTAMP_NONCE'],
    [{ by: issue({ name: 'TSA', issuer: null, usage: STAMPING }) }, 'TIMESTAMP_UNTRUSTED'],
  ] as const) {
    bent = what;
    server.time.now += 2 * HOUR;
    await anchors.turn();
    const [{ trouble }] = (await standing()).anchors as [AnchorStanding];
    assert.deepEqual([trouble?.code, trouble?.text.includes('secret')], [code, false]);
  }
  assert.deepEqual([(await standing()).level, await store.anchors.stamps(origin, 0)], [0, []]);
  bent = {};
  server.time.now += 2 * HOUR;
  await anchors.turn();
  const [stamp] = await store.anchors.stamps(origin, 0);
  const { size } = stamp!;
  assert.deepEqual([(await standing()).level, (await standing()).anchors[0]!.size], [2, size]);
  const trusted = [AUTHORITY.root.read];
  const text = parseNote((await store.log.checkpoint(origin, size))!.note).text;
  const read = await verifyTimestamp(stamp!.token, Buffer.from(text), { trusted, verify: verifyByKey });
  assert.equal(read.time, Math.floor(server.time.now / 1000) * 1000);

  // Not again within the day, however much was logged; at an export all the same.
  await act(server);
  const before = asked;
  await anchors.turn();
  assert.equal(asked, before);
  assert.equal(await levelAt(store.anchors, origin, evidence.published!.checkpoint.size), 0);
  // A host that repeats what it keeps.
  await host.sendSame({ checkpoint: first.checkpoint! });
  await host.sendSame({ checkpoint: first.checkpoint! });
  await anchors.turn();
  assert.deepEqual(
    (await standing()).anchors.map(({ kind }) => kind),
    ['authority', 'hosts'],
  );
  assert.equal(await levelAt(store.anchors, origin, evidence.published!.checkpoint.size), 1);
  const published = evidence.published!;
  await anchors.anchor(published, AbortSignal.timeout(10_000));
  assert.equal(await levelAt(store.anchors, origin, published.checkpoint.size), 2);
  assert.deepEqual(
    (await stampMembers(store.anchors, origin, { from: 0, size: published.checkpoint.size })).map(({ name }) => name),
    [size, published.checkpoint.size].map((of) => `log/timestamps/corp.${of}.tsr`),
  );
  await act(server);
  server.time.now += 24 * HOUR;
  await anchors.turn();
  assert.ok((await standing()).anchors[0]!.size > published.checkpoint.size);
  const page = await visitor(server);
  assert.match((await page.page('/log')).text, /level 2[\s\S]*corp[\s\S]*stamped/);
});

test('witnesses and authorities are named with all that it takes, or refused', () => {
  const { vkey } = new TestWitness();
  const good = {
    witnesses: [`${vkey}=https://w.example/`],
    authorities: ['corp=https://tsa.example/'],
    certificates: [{ name: 'corp', pem: pemOf(AUTHORITY.root) }],
  };
  const { witnesses, authorities } = readAnchors(good);
  assert.deepEqual([witnesses[0]!.url, authorities[0]!.url], ['https://w.example', 'https://tsa.example/']);
  const log = vkey.replace(/\+.*/, '');
  for (const [what, says] of [
    [{ witnesses: [vkey] }, /VKEY=URL/],
    [{ witnesses: [`${vkey}=ftp://w.example`] }, /VKEY=URL/],
    [{ witnesses: [`${vkey}=https://u:p@w.example`] }, /VKEY=URL/],
    [{ witnesses: [`${log}=https://w.example`] }, /verifier key/],
    [{ witnesses: [...good.witnesses, ...good.witnesses] }, /named twice/],
    [{ certificates: [] }, /--timestamp-ca corp=FILE/],
    [{ certificates: [{ name: 'corp', pem: 'nothing' }] }, /no certificate in PEM/],
    [{ certificates: [...good.certificates, { name: 'other', pem: '' }] }, /other without --timestamp-authority/],
    [{ authorities: ['https://tsa.example/'] }, /NAME=URL/],
    [{ authorities: ['a b=https://tsa.example/'] }, /NAME=URL/],
  ] as const)
    assert.throws(
      () => readAnchors({ ...good, ...what }),
      (error: Error) => error instanceof UsageError && says.test(error.message),
      JSON.stringify(what).slice(0, 80),
    );
});
