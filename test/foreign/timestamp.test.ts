/**
 * Timestamps of a running server's log by a real authority: OpenSSL behind HTTP on loopback. What we ask it understands, what it answers we verify,
 * and what we keep it verifies in turn, by the command of VERIFY.md.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readAnchors } from '../../server/log/authority.ts';
import { stampMembers } from '../../server/log/anchors.ts';
import { readPem } from '../../src/signing/x509.ts';
import { parseNote } from '../../src/signing/note.ts';
import { HOUR, serverFor } from '../server/fleet.ts';
import { answering } from '../server/log/witness.ts';
import { authority, KEYS } from './authority.ts';
import { run, scratch } from './tools.ts';

for (const [what, key] of Object.entries(KEYS))
  test(`OpenSSL with a key of ${what} stamps checkpoints of a running server, and finds them good itself`, async (t) => {
    const at = scratch(t);
    const { answer, pem } = authority(at, key);
    const url = await answering(t, answer);
    const anchors = readAnchors({
      witnesses: [],
      authorities: [`clock=${url}/`],
      certificates: [{ name: 'clock', pem }],
    });
    assert.equal(readPem(pem)[0]!.name, 'Root');
    const server = await serverFor(t, { anchors });
    const { evidence, store } = server.server;
    // Its clock is the machine's.
    server.time.now = Date.now();
    await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: 1 } });
    await server.settle();
    await evidence.turn();
    await server.server.anchors.turn();
    const { body } = await server.api('/api/v1/log');
    assert.deepEqual([body.anchors[0].trouble, body.level], [null, 2]);
    const { size } = body.anchors[0];
    assert.ok(Math.abs(Date.parse(body.anchors[0].at) - Date.now()) < HOUR);

    const { origin, note } = (await store.log.checkpoint(body.origin, size))!;
    const [member] = await stampMembers(store.anchors, origin, { from: 0, size });
    assert.equal(member!.name, `log/timestamps/clock.${size}.tsr`);
    writeFileSync(join(at, 'cp.txt'), parseNote(note).text);
    writeFileSync(join(at, 'stamp.tsr'), member!.content);
    const verify = () =>
      run('openssl', ['ts', '-verify', '-data', 'cp.txt', '-in', 'stamp.tsr', '-CAfile', 'ca.pem'], { cwd: at });
    const good = verify();
    assert.equal(good.status, 0, good.stderr);
    writeFileSync(join(at, 'cp.txt'), parseNote(note).text.replace(`\n${size}\n`, `\n${size + 1}\n`));
    assert.notEqual(verify().status, 0);
  });
