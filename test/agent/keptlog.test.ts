/** What a host keeps of the evidence log: it goes forward with proof alone, and what does not continue what it knows is refused, kept and said. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { nodeDisk } from '#agent/disk.ts';
import { LogKeeper } from '#agent/keptlog.ts';
import { toBase64 } from '#src/bytes.ts';
import { signCheckpoint } from '#src/log/checkpoint.ts';
import { PORTABLE, proveConsistency, rootAt, subtreesOf } from '#src/log/proof.ts';
import { rootOfWhole } from '#src/log/tile.ts';
import { nodeSigner, pkcs8OfSeed, verifyInPool } from '#src/signing/node.ts';
import { noteKey } from '#src/signing/note.ts';
import { parseEcho } from '#src/wire/logecho.ts';
import { sealLogKey } from '#src/wire/logkey.ts';
import type { Answer } from '#src/wire/answer.ts';

const keyOf = (n: number) => nodeSigner(pkcs8OfSeed(new Uint8Array(32).fill(n)));
const SERVER = keyOf(1);
const LOG = keyOf(2);
const ORIGIN = 'log.example/a';

/** A log in memory, told as a server does. */
function logOf(entries: readonly string[], origin = ORIGIN, signer = LOG) {
  const leaves = entries.map((entry) => PORTABLE.leaf(new TextEncoder().encode(entry)));
  const read = ({ height, index }: ReturnType<typeof subtreesOf>[number]) =>
    rootOfWhole(leaves.slice(index * 2 ** height, (index + 1) * 2 ** height));
  const noteAt = async (size: number) => signCheckpoint({ origin, size, root: await rootAt(size, read) }, signer);
  type Told = Pick<Answer, 'seq' | 'checkpoint' | 'consistency' | 'logKey'>;
  return {
    noteAt,
    first: async (size: number, seq = 1): Promise<Told> => ({
      seq,
      checkpoint: await noteAt(size),
      consistency: null,
      logKey: await sealLogKey(noteKey(origin, 1, signer.publicKey), SERVER),
    }),
    next: async (from: number, size: number, seq = 2): Promise<Told> => ({
      seq,
      checkpoint: await noteAt(size),
      consistency: { from, proof: (await proveConsistency(from, size, read)).map(toBase64) },
      logKey: null,
    }),
  };
}
const ENTRIES = Array.from({ length: 40 }, (_, n) => `entry ${n}`);
const GOOD = logOf(ENTRIES);
const FORK = logOf(ENTRIES.map((entry, n) => (n === 5 ? 'another' : entry)));

async function keeper(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-kept-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const said: string[] = [];
  const open = () =>
    LogKeeper.open(
      {
        disk: nodeDisk,
        clock: () => Date.UTC(2026, 0, 1),
        verify: verifyInPool,
        say: async (text) => void said.push(text),
      },
      folder,
      SERVER.publicKey,
    );
  return { folder, said, open };
}

test('the first checkpoint is taken with a key that the pinned server signed, and then only what continues it', async (t) => {
  const { open, said } = await keeper(t);
  const kept = await open();
  assert.equal(kept.echo(1), null);
  await kept.take(await GOOD.first(7));
  assert.equal(kept.echo(2), await GOOD.noteAt(7));
  await kept.take(await GOOD.next(7, 20));
  await kept.take(await GOOD.next(20, 20));
  // Of another process of the server, a moment behind.
  await kept.take({ seq: 3, checkpoint: null, consistency: null, logKey: null });
  const again = await open();
  assert.equal(again.echo(3), await GOOD.noteAt(20));
  assert.deepEqual([again.kept.refused, said], [null, []]);
});

test('nothing is taken before the server is known, of a server without a log, or of an older one', async (t) => {
  const { open } = await keeper(t);
  const kept = await open();
  await kept.take({ seq: 1, checkpoint: null });
  await kept.take({ seq: 1, checkpoint: await GOOD.noteAt(7) });
  assert.equal(kept.echo(1), null);
});

const refusals: readonly (readonly [
  name: string,
  code: string,
  told: () => Promise<Parameters<LogKeeper['take']>[0]>,
])[] = [
  ['a fork of what it knows', 'PROOF_ROOT', () => FORK.next(7, 20)],
  ['another tree of the same size', 'PROOF_ROOT', () => FORK.next(7, 7)],
  [
    'a proof of another length',
    'PROOF_SHAPE',
    async () => ({ ...(await GOOD.next(7, 20)), consistency: { from: 7, proof: [] } }),
  ],
  ['no proof', 'CONSISTENCY_MISSING', async () => ({ ...(await GOOD.next(7, 20)), consistency: null })],
  ['a proof from elsewhere', 'CONSISTENCY_MISSING', () => GOOD.next(6, 20)],
  [
    'a smaller tree',
    'PROOF_SHAPE',
    () => GOOD.next(7, 7).then(async (told) => ({ ...told, checkpoint: await GOOD.noteAt(3) })),
  ],
  ['another key of the same log', 'LOG_KEY_CHANGED', () => logOf(ENTRIES, ORIGIN, keyOf(3)).first(20)],
  [
    'a key that another server signed',
    'LOG_KEY_INVALID',
    async () => ({ ...(await GOOD.first(20)), logKey: await sealLogKey(noteKey(ORIGIN, 1, LOG.publicKey), keyOf(9)) }),
  ],
  [
    'a checkpoint that another key signed',
    'NOTE_UNSIGNED',
    async () => ({ ...(await GOOD.next(7, 20)), checkpoint: await logOf(ENTRIES, ORIGIN, keyOf(3)).noteAt(20) }),
  ],
  [
    'a checkpoint of another log without its key',
    'CHECKPOINT_ORIGIN',
    async () => ({ ...(await GOOD.next(7, 20)), checkpoint: await logOf(ENTRIES, 'log.example/b').noteAt(20) }),
  ],
];
for (const [name, code, told] of refusals)
  test(`${name} is refused, kept beside what is known, echoed and said`, async (t) => {
    const { open, said } = await keeper(t);
    const kept = await open();
    await kept.take(await GOOD.first(7));
    kept.echo(2);
    const offending = await told();
    await kept.take(offending);
    assert.equal(kept.kept.refused?.code, code);
    assert.equal(kept.kept.current?.checkpoint, await GOOD.noteAt(7));
    assert.match(said.join('\n'), new RegExp(`NOT THE ONE THAT THIS HOST KNOWS.*\\[${code}\\]`, 's'));
    const again = await open();
    assert.deepEqual(parseEcho(again.echo(3)!), {
      kept: await GOOD.noteAt(7),
      refused: { code, checkpoint: offending.checkpoint },
    });
    // The server comes to its senses: what is proven is taken, and what was refused stays until a person has seen to it.
    await again.take(await GOOD.next(7, 30, 3));
    assert.equal(again.kept.current?.checkpoint, await GOOD.noteAt(30));
    assert.equal(again.kept.refused?.code, code);
    again.dismiss();
    assert.equal((await open()).kept.refused, null);
  });

test('the answer to a report that echoed something older is no fault', async (t) => {
  const { open } = await keeper(t);
  const kept = await open();
  await kept.take(await GOOD.first(7));
  kept.echo(5);
  await kept.take(await GOOD.next(3, 20, 4));
  assert.deepEqual([kept.kept.refused, kept.kept.current?.checkpoint], [null, await GOOD.noteAt(7)]);
});

test('a log that was begun anew is said, and the last checkpoint of both is kept; the old one never comes back', async (t) => {
  const { open, said } = await keeper(t);
  const kept = await open();
  await kept.take(await GOOD.first(7));
  await kept.take(await logOf(ENTRIES, 'log.example/b').first(3));
  assert.match(said[0]!, /begun anew: log\.example\/b instead of log\.example\/a, which had at least 7/);
  assert.equal(kept.kept.past[0]?.checkpoint, await GOOD.noteAt(7));
  assert.deepEqual([kept.kept.refused, said.length], [null, 1]);
  await kept.take(await GOOD.first(20));
  assert.equal(kept.kept.refused?.code, 'LOG_ENDED');
});

test('a damaged file is put aside, and said', async (t) => {
  const { open, folder, said } = await keeper(t);
  await (await open()).take(await GOOD.first(7));
  writeFileSync(join(folder, 'log.json'), '{');
  assert.equal((await open()).echo(1), null);
  assert.match(said[0]!, /damaged/);
  assert.equal(readFileSync(join(folder, 'log.json.corrupt'), 'utf8'), '{');
});
