/** The logs of test/vectors/tlog, good and broken: each judged as the programs that are not ours judged it, or better. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toHex } from '#src/bytes.ts';
import { checkLog, type LogFault } from './checklog.ts';
import { CheckpointError, openCheckpoint } from '#src/log/checkpoint.ts';
import {
  ProofError,
  PORTABLE,
  proveConsistency,
  proveInclusion,
  verifyConsistency,
  verifyInclusion,
} from '#src/log/proof.ts';
import {
  parseConsistencyFile,
  parseInclusionFile,
  printConsistencyFile,
  printInclusionFile,
} from '#src/log/prooffile.ts';
import { hashesIn, parseEntryBundle, tileHashes, tilePath, tilesOf } from '#src/log/tile.ts';
import { fingerprintOf } from '#src/signing/ed25519.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { NoteError, parseVkey, printVkey } from '#src/signing/note.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';
import { fileOf, textOf, VARIANTS } from './fixture.ts';

const vkey = parseVkey(textOf('good/log.vkey').trim());
const witness = parseVkey(textOf('good/witness.vkey').trim());
const open = (text: string) => openCheckpoint(text, vkey, verifyInPool, [witness]);
const whole = await open(textOf('good/checkpoint'));
const hashes = tileHashes(600, (tile) => fileOf(tilePath(tile))!);

async function judge(variant?: string): Promise<readonly LogFault[]> {
  const checkpoint = await open(new TextDecoder().decode(fileOf('checkpoint', variant)));
  return checkLog(checkpoint, (path) => fileOf(path, variant));
}

test('the good log passes to its last byte, at both of its sizes', async () => {
  assert.deepEqual(await judge(), []);
  assert.deepEqual(await checkLog(await open(textOf('good/checkpoint.300')), (path) => fileOf(path)), []);
  assert.deepEqual(
    [...tilesOf(600)].map(tilePath).filter((path) => fileOf(path) === undefined),
    [],
  );
});

const broken: Record<string, readonly string[]> = {
  '01-entry-changed': ['tile/0/000', 'tile/1/000.p/2', 'checkpoint'],
  '02-tile-hash-wrong': ['tile/0/001'],
  '03-truncated-bundle': ['tile/entries/002.p/88'],
  '04-missing-bundle': ['tile/entries/001'],
  '05-reordered': ['tile/0/001', 'tile/1/000.p/2', 'checkpoint'],
  '06-rewritten-tree-old-checkpoint': ['checkpoint'],
  // It is consistent in itself: what refuses it stands below.
  '07-forked-checkpoint': [],
  '10-level1-hash-wrong': ['tile/1/000.p/2'],
};
for (const [variant, places] of Object.entries(broken))
  test(`${variant}: ${places.length === 0 ? 'nothing is wrong inside it' : `names ${places.join(', ')}`}`, async () => {
    assert.deepEqual(
      (await judge(variant)).map(({ at }) => at),
      places,
    );
  });
test('08-bad-signature and 09-wrong-origin are refused before anything is read', async () => {
  await rejectsCode(() => judge('08-bad-signature'), NoteError, 'NOTE_SIGNATURE');
  await rejectsCode(() => judge('09-wrong-origin'), CheckpointError, 'CHECKPOINT_ORIGIN');
});
test('every variant has its verdict here', () => {
  assert.deepEqual(VARIANTS.sort(), [...Object.keys(broken), '08-bad-signature', '09-wrong-origin'].sort());
});

test('a fork that is validly signed is refused by whoever kept an earlier checkpoint', async () => {
  const kept = await open(textOf('good/checkpoint.300'));
  const good = parseConsistencyFile(textOf('good/consistency-300.txt'));
  verifyConsistency(kept, await open(good.checkpoint), good.proof);
  const fork = parseConsistencyFile(textOf('consistency-300-to-fork.txt'));
  const forked = await open(fork.checkpoint);
  throwsCode(() => verifyConsistency(kept, forked, fork.proof), ProofError, 'PROOF_ROOT');
  // Nor does a proof that the fork itself makes help it.
  const own = await proveConsistency(
    300,
    600,
    tileHashes(600, (tile) => fileOf(tilePath(tile), '07-forked-checkpoint')!),
  );
  throwsCode(() => verifyConsistency(kept, forked, own), ProofError, 'PROOF_ROOT');
  throwsCode(() => verifyConsistency(whole, forked, []), ProofError, 'PROOF_ROOT');
});

test('proofs out of the tiles are those of the vectors, and are written the same', async () => {
  const inclusion = parseInclusionFile(textOf('good/inclusion-42.tlog-proof'));
  assert.deepEqual((await proveInclusion(42, 600, hashes)).map(toHex), inclusion.proof.map(toHex));
  assert.equal(printInclusionFile(inclusion), textOf('good/inclusion-42.tlog-proof'));
  const consistency = parseConsistencyFile(textOf('good/consistency-300.txt'));
  assert.deepEqual((await proveConsistency(300, 600, hashes)).map(toHex), consistency.proof.map(toHex));
  assert.equal(printConsistencyFile(consistency), textOf('good/consistency-300.txt'));
});

test('entry 42 is in the log, an altered one is not', async () => {
  const { index, proof, checkpoint } = parseInclusionFile(textOf('good/inclusion-42.tlog-proof'));
  const tree = await open(checkpoint);
  const entry = fileOf('entry-42.json')!;
  assert.equal(toHex(parseEntryBundle(fileOf('tile/entries/000')!, 256)[42]!), toHex(entry));
  assert.equal(toHex(PORTABLE.leaf(entry)), toHex(hashesIn(fileOf('tile/0/000')!)[42]!));
  verifyInclusion(PORTABLE.leaf(entry), index, tree, proof);
  const altered = Uint8Array.from(entry, (byte, i) => (i === 10 ? byte ^ 1 : byte));
  throwsCode(() => verifyInclusion(PORTABLE.leaf(altered), index, tree, proof), ProofError, 'PROOF_ROOT');
  throwsCode(() => verifyInclusion(PORTABLE.leaf(entry), 43, tree, proof), ProofError, 'PROOF_ROOT');
});

test('the checkpoint that a real witness signed has its time, and keys are written as they came', async () => {
  const { witnesses } = await open(textOf('good/checkpoint.cosigned'));
  assert.deepEqual(
    witnesses.map(({ key, time }) => [key.name, time]),
    [['witness.example/w1', 0x6b05dd7f]],
  );
  assert.equal(printVkey(vkey), textOf('good/log.vkey').trim());
  assert.equal(printVkey(witness), textOf('good/witness.vkey').trim());
  assert.match(fingerprintOf(vkey.publicKey), /^[0-9a-f]{64}$/);
});
