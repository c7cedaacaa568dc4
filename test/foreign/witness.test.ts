/**
 * litewitness, a real C2SP witness, and our log: it cosigns what continues, and what it refuses is told apart. `LITEWITNESS` names the program
 * (go install filippo.io/torchwood/cmd/litewitness@v0.9.0); it needs an ssh-agent that holds its key, and knows logs by rows in its database.
 */
import assert from 'node:assert/strict';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openCheckpoint } from '../../src/log/checkpoint.ts';
import { parseVkey } from '../../src/signing/note.ts';
import { verifyInPool } from '../../src/signing/node.ts';
import { readAnchors } from '../../server/log/authority.ts';
import { enrol, HOUR, image, MINUTE, serverFor, type TestServer } from '../server/fleet.ts';
import { witness } from './litewitness.ts';
import { run, scratch } from './tools.ts';

const OS = image('41');

const told = async (server: TestServer) => (await server.api('/api/v1/log')).body;

async function acts(server: TestServer, count: number): Promise<void> {
  for (let n = 0; n < count; n++)
    await server.server.store.audit.append(
      { actor: 'user:alice', at: server.time.now },
      { action: 'test.act', object: `n:${n}`, before: null, after: server.server.port },
    );
  await server.server.evidence.turn();
}

test('litewitness cosigns the log of a running server as it grows, and shows a rewound and a forked one', async (t) => {
  const program = process.env['LITEWITNESS'];
  if (program === undefined)
    return t.skip('LITEWITNESS names no witness (go install filippo.io/torchwood/cmd/litewitness@v0.9.0)');
  const other = await witness(t, program);
  const anchors = readAnchors({ witnesses: [`${other.vkey}=${other.url}`], authorities: [], certificates: [] });
  const at = scratch(t);
  const evidence = { origin: 'bootproof.example/log', checkpointFile: null };
  const server = await serverFor(t, { images: [OS], storeUrl: `sqlite:${join(at, 'a.db')}`, evidence, anchors });
  await (await enrol(server, OS)).sendFull();
  await server.settle();
  await acts(server, 300);
  await server.server.anchors.turn();
  assert.equal((await told(server)).anchors[0].trouble.code, 'WITNESS_LOG_UNKNOWN');

  const { vkey } = await told(server);
  other.know(vkey);
  const step = async (one: TestServer) => {
    one.time.now += HOUR;
    await one.server.anchors.turn();
    return (await told(one)).anchors[0];
  };
  const first = await step(server);
  assert.equal(first.trouble, null);
  assert.ok(first.size > 300);
  await acts(server, 400);
  const second = await step(server);
  assert.deepEqual([second.trouble, second.size > first.size + 399], [null, true]);
  const note = await (await fetch(`${server.server.url}/log/checkpoint.cosigned`)).text();
  const opened = await openCheckpoint(note, parseVkey(vkey), verifyInPool, [parseVkey(other.vkey)]);
  assert.deepEqual([opened.size, opened.witnesses.length], [second.size, 1]);
  // Its clock is the machine's, which no test moves.
  assert.ok(Math.abs(opened.witnesses[0]!.time! * 1000 - Date.now()) < 10 * MINUTE);

  // torchwood holds both signatures, too.
  const check = process.env['TLOGCHECK'];
  if (check !== undefined) {
    const file = join(at, 'cosigned');
    writeFileSync(file, note);
    const ran = run(check, ['cosigned', vkey, other.vkey, file]);
    assert.equal(ran.stdout, `cosigned ${second.size} entries\n`);
  }

  // The database as it was, on another machine: behind what the witness signed, and then, grown by itself, a fork of it.
  await server.server.close();
  copyFileSync(join(at, 'a.db'), join(at, 'backup.db'));
  const more = await serverFor(t, { storeUrl: `sqlite:${join(at, 'a.db')}`, evidence, anchors, admin: server.admin });
  more.time.now = server.time.now;
  await acts(more, 50);
  const third = await step(more);
  assert.deepEqual([third.trouble, third.size > second.size], [null, true]);
  await more.server.close();
  const restored = await serverFor(t, {
    storeUrl: `sqlite:${join(at, 'backup.db')}`,
    evidence,
    anchors,
    admin: server.admin,
  });
  restored.time.now = more.time.now;
  await acts(restored, 1);
  const behind = await step(restored);
  assert.deepEqual([behind.trouble.code, behind.trouble.alarm], ['WITNESS_VIEW', true]);
  assert.match(behind.trouble.text, new RegExp(`signed ${third.size} entries`));
  await acts(restored, 100);
  const forked = await step(restored);
  assert.deepEqual([forked.trouble.code, forked.trouble.alarm], ['WITNESS_VIEW', true]);
  assert.match(forked.trouble.text, /refuses that .*\(status 422/);
  return undefined;
});
