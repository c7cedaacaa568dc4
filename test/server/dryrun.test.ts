/** Looking at the whole fleet lets others have their turn: what judges hosts one after another must not hold the event loop. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { evaluate } from '#src/policy/evaluate.ts';
import { eachHost } from '#server/dryrun.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import { judgeOf } from '#server/trial.ts';
import { openStore } from '#server/store/open.ts';
import { admit, T0 } from './store/make.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { added, INTACT } from '#test/src/policy/evidence.ts';

const evidenceWith = (...drift: ReturnType<typeof added>[]) => ({ ...INTACT, drift });

test('between hosts of a dry run the event loop turns', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-dryrun-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const store = await openStore(`sqlite:${join(folder, 'store.db')}`);
  t.after(() => store.close());
  for (let n = 1; n <= 32; n++) await admit(store, n);
  let turns = 0;
  let isDone = false;
  const count = (): void => {
    turns++;
    if (!isDone) setImmediate(count);
  };
  setImmediate(count);
  const seen: string[] = [];
  const next = await eachHost({ cursor: null, until: T0 + 60_000 }, { store, clock: () => T0 }, (host) =>
    Promise.resolve(void seen.push(host.name)),
  );
  isDone = true;
  assert.deepEqual([next, seen.length], [null, 32]);
  // Some hosts are looked at beside each other, so not one turn each.
  assert.ok(turns >= 4, `${turns} turns for 32 hosts`);
});

test('what a policy that is tried asks in CEL is asked beside the event loop, and answers the same', async () => {
  const shipped = (await shippedPolicy()).policy;
  const text = `format: bootproof.policy/1
name: dear
extends: default
files:
  - {id: dear, paths: ['/usr/**'], when: {cel: 'path.matches("(a|a)*b")'}, effect: allowed, reason: x}
`;
  const documents = [{ file: 'dear.yaml', text }];
  const { policy } = policyOfDocuments(documents, shipped);
  const evidence = evidenceWith(added('/usr/bin/aab'), added('/usr/bin/c'));
  let variants = 0;
  const told = { ...evidence, variant: () => void variants++ };
  const judge = judgeOf({ policy, documents }, shipped);
  try {
    const here = evaluate(told, policy);
    assert.deepEqual([variants, await judge.evaluate(told)], [2, here]);
    let turns = 0;
    const count = setInterval(() => turns++, 0);
    const many = Array.from({ length: 400 }, (_, n) => added(`/usr/bin/${'a'.repeat(200)}${n}`));
    await judge.evaluate(evidenceWith(...many));
    clearInterval(count);
    assert.ok(turns > 0, 'others had their turn');
  } finally {
    await judge.close();
  }
  await assert.rejects(judge.evaluate(told), /ended/);
  // What the shipped policy asks is known: no thread for that.
  const plain = judgeOf({ policy: shipped, documents }, shipped);
  assert.deepEqual(await plain.evaluate(evidence), evaluate(evidence, shipped));
});
