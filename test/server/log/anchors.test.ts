/** Witnesses and timestamp authorities of a running server: what is asked and kept, what is told where they fail, and what is an alarm. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { openCheckpoint } from '#src/log/checkpoint.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { parseVkey } from '#src/signing/note.ts';
import { readPem } from '#src/signing/x509.ts';
import { readAnchors } from '#server/log/authority.ts';
import { anchorChore } from '#server/jobs/anchors.ts';
import { enrol, HOUR, image, MINUTE, serverFor, type TestServer } from '../fleet.ts';
import { throwsCode } from '../../throws.ts';
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
    assert.deepEqual([trouble.code, trouble.alarm], ['WITNESS_VIEW', true]);
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
    /bootproof_log_alarm 1[\s\S]*/,
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
