/** The log's arithmetic and texts on their own (docs/log.md 2 to 5): every size, every index, and what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { toHex } from '#src/bytes.ts';
import {
  CheckpointError,
  openCheckpoint,
  parseCheckpoint,
  printCheckpoint,
  signCheckpoint,
} from '#src/log/checkpoint.ts';
import { encodeEntry, EntryError, parseEntry, saltedDigest, type LogEntry } from '#src/log/entry.ts';
import {
  appendLeaf,
  EMPTY_RANGE,
  PORTABLE,
  ProofError,
  proveConsistency,
  proveInclusion,
  rootAt,
  rootOfRange,
  verifyConsistency,
  verifyInclusion,
} from '#src/log/proof.ts';
import { parseConsistencyFile, parseInclusionFile, ProofFileError } from '#src/log/prooffile.ts';
import { parseEntryBundle, parseTilePath, printEntryBundle, TileError, tilePath, widthAt } from '#src/log/tile.ts';
import { nodeSigner, pkcs8OfSeed, verifyInPool } from '#src/signing/node.ts';
import {
  cosignNote,
  NoteError,
  noteKey,
  parseNote,
  parseVkey,
  printNote,
  printVkey,
  signNote,
  verifyNote,
} from '#src/signing/note.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';

const encoder = new TextEncoder();
const leaves = Array.from({ length: 40 }, (_, i) => PORTABLE.leaf(encoder.encode(`entry ${i}`)));

/** RFC 6962 2.1 as it is written: the definition that the fast ways are held against. */
function mth(hashes: readonly Uint8Array[]): Uint8Array {
  if (hashes.length < 2) return hashes[0] ?? PORTABLE.empty;
  let k = 1;
  while (k * 2 < hashes.length) k *= 2;
  return PORTABLE.node(mth(hashes.slice(0, k)), mth(hashes.slice(k)));
}
const read = ({ height, index }: { height: number; index: number }) =>
  mth(leaves.slice(index * 2 ** height, (index + 1) * 2 ** height));
const treeOf = (size: number) => ({ size, root: mth(leaves.slice(0, size)) });

test('growing leaf by leaf, and reading, lead to the roots of the definition', async () => {
  let range = EMPTY_RANGE;
  for (const [i, leaf] of leaves.entries()) {
    assert.equal(toHex(rootOfRange(range)), toHex(treeOf(i).root));
    assert.equal(toHex(await rootAt(i, read)), toHex(treeOf(i).root));
    range = appendLeaf(range, leaf, PORTABLE, (node, hash) => assert.equal(toHex(hash), toHex(read(node))));
  }
});

test('every entry of every tree is proven, and no other in its place', async () => {
  for (let size = 1; size <= 20; size++)
    for (let index = 0; index < size; index++) {
      const proof = await proveInclusion(index, size, read);
      verifyInclusion(leaves[index]!, index, treeOf(size), proof);
      const wrong = () => verifyInclusion(leaves[(index + 1) % 40]!, index, treeOf(size), proof);
      throwsCode(wrong, ProofError, 'PROOF_ROOT');
      throwsCode(
        () => verifyInclusion(leaves[index]!, index, treeOf(size), [...proof, leaves[0]!]),
        ProofError,
        'PROOF_SHAPE',
      );
    }
});

test('every tree begins with every smaller one, and with none that differs in an entry', async () => {
  for (let size = 1; size <= 20; size++)
    for (let old = 0; old <= size; old++) {
      const proof = await proveConsistency(old, size, read);
      verifyConsistency(treeOf(old), treeOf(size), proof);
      const forked = { size: old, root: mth(leaves.slice(1, old + 1)) };
      if (old > 0) throwsCode(() => verifyConsistency(forked, treeOf(size), proof), ProofError, 'PROOF_ROOT');
      for (let i = 0; i < proof.length; i++) {
        const altered = proof.with(i, leaves[39]!);
        throwsCode(() => verifyConsistency(treeOf(old), treeOf(size), altered), ProofError, 'PROOF_ROOT');
      }
      throwsCode(() => verifyConsistency(treeOf(old), treeOf(size), [...proof, leaves[0]!]), ProofError, 'PROOF_SHAPE');
    }
});

test('places that no tree has are refused before anything is read', async () => {
  for (const [index, size] of [
    [0, 0],
    [3, 3],
    [-1, 2],
    [0.5, 2],
    [0, 2 ** 53],
  ] as const)
    await rejectsCode(() => proveInclusion(index, size, read), ProofError, 'PROOF_SHAPE');
  await rejectsCode(() => proveConsistency(3, 2, read), ProofError, 'PROOF_SHAPE');
  throwsCode(
    () => verifyInclusion(leaves[0]!, 0, { size: 2, root: leaves[0]! }, [new Uint8Array(31)]),
    ProofError,
    'PROOF_SHAPE',
  );
});

test('tiles have the names of the specification', () => {
  for (const [tile, path] of [
    [{ level: 0, n: 0, width: 256 }, 'tile/0/000'],
    [{ level: 0, n: 1234067, width: 5 }, 'tile/0/x001/x234/067.p/5'],
    [{ level: 'entries', n: 1000, width: 256 }, 'tile/entries/x001/000'],
    [{ level: 63, n: 7, width: 255 }, 'tile/63/007.p/255'],
  ] as const) {
    assert.equal(tilePath(tile), path);
    assert.deepEqual(parseTilePath(path), tile);
  }
  for (const path of [
    '',
    'tile/0/0',
    'tile/00/000',
    'tile/64/000',
    'tile/0/000.p/0',
    'tile/0/000.p/256',
    'tile/0/000.p/01',
    'tile/0/x000/001',
    'tile/0/001/000',
    'tile/entries/000/',
    'tile/0/x999/x999/x999/x999/x999/999',
    '/tile/0/000',
    'tile/0/../000',
    'tile/0/000\n',
  ])
    throwsCode(() => parseTilePath(path), TileError, 'TILE_PATH');
  const width = (level: number, size: number) => [0, 1, 2, 273, 274].map((n) => widthAt({ level, n }, size));
  assert.deepEqual(
    [width(0, 256), width(1, 256)],
    [
      [256, 0, 0, 0, 0],
      [1, 0, 0, 0, 0],
    ],
  );
  assert.deepEqual(
    [width(0, 70_000), width(1, 70_000), width(2, 70_000)],
    [
      [256, 256, 256, 112, 0],
      [256, 17, 0, 0, 0],
      [1, 0, 0, 0, 0],
    ],
  );
});

test('bundles are read to the last byte', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 600 }), { maxLength: 6 }), (entries) => {
      const bytes = printEntryBundle(entries);
      assert.deepEqual(parseEntryBundle(bytes, entries.length).map(toHex), entries.map(toHex));
      throwsCode(() => parseEntryBundle(bytes, entries.length + 1), TileError, 'TILE_SIZE');
      if (bytes.length > 0)
        throwsCode(() => parseEntryBundle(bytes.subarray(0, -1), entries.length), TileError, 'TILE_SIZE');
    }),
    { numRuns: 30 },
  );
  throwsCode(() => printEntryBundle([new Uint8Array(65_536)]), TileError, 'TILE_SIZE');
});

const signer = nodeSigner(pkcs8OfSeed(new Uint8Array(32).fill(7)));
const other = nodeSigner(pkcs8OfSeed(new Uint8Array(32).fill(8)));
const key = noteKey('example.org/log', 1, signer.publicKey);

test('a checkpoint is signed and read again; another log, key or text is refused', async () => {
  const note = await signCheckpoint({ origin: key.name, ...treeOf(7) }, signer);
  const { size, root, witnesses } = await openCheckpoint(note, key, verifyInPool);
  assert.deepEqual([size, toHex(root), witnesses], [7, toHex(treeOf(7).root), []]);
  const elsewhere = noteKey('example.org/other', 1, signer.publicKey);
  await rejectsCode(() => openCheckpoint(note, elsewhere, verifyInPool), CheckpointError, 'CHECKPOINT_ORIGIN');
  const byOther = noteKey(key.name, 1, other.publicKey);
  await rejectsCode(() => openCheckpoint(note, byOther, verifyInPool), NoteError, 'NOTE_UNSIGNED');
  await rejectsCode(
    () => openCheckpoint(note.replace('\n7\n', '\n8\n'), key, verifyInPool),
    NoteError,
    'NOTE_SIGNATURE',
  );
});

test('a witness signs with its time; alone it does not make a checkpoint', async () => {
  const text = printCheckpoint({ origin: key.name, ...treeOf(3) });
  const seconds = 1_790_000_000;
  const witness = noteKey('w.example', 4, other.publicKey);
  const line = await cosignNote(text, witness.name, other, seconds);
  const own = await signNote(text, key.name, signer);
  const both = printNote({ text, signatures: [own, line] });
  assert.deepEqual((await openCheckpoint(both, key, verifyInPool, [witness])).witnesses, [
    { key: witness, time: seconds },
  ]);
  assert.deepEqual((await openCheckpoint(both, key, verifyInPool)).witnesses, []);
  const alone = printNote({ text, signatures: [line] });
  await rejectsCode(() => openCheckpoint(alone, key, verifyInPool, [witness]), CheckpointError, 'CHECKPOINT_UNSIGNED');
  const late = line.signature.slice();
  late[7]! ^= 1;
  const forged = printNote({ text, signatures: [own, { ...line, signature: late }] });
  await rejectsCode(() => openCheckpoint(forged, key, verifyInPool, [witness]), NoteError, 'NOTE_SIGNATURE');
});

test('a bad signature in the name of a known key refuses the note, though another one is good', async () => {
  const good = await signNote('a\n', key.name, signer);
  const bad = { ...good, signature: good.signature.map((byte) => byte ^ 1) };
  await rejectsCode(
    () => verifyNote({ text: 'a\n', signatures: [good, bad] }, [key], verifyInPool),
    NoteError,
    'NOTE_SIGNATURE',
  );
});

const line = '\u2014 a AAAAAAA=';
const notes: readonly (readonly [string, string, string])[] = [
  ['nothing', '', 'NOTE_SYNTAX'],
  ['no signature', 'text\n\n', 'NOTE_SYNTAX'],
  ['no empty line', `text\n${line}\n`, 'NOTE_SYNTAX'],
  ['no newline at the end', `text\n\n${line}`, 'NOTE_SYNTAX'],
  ['a hyphen for the dash', 'text\n\n- a AAAAAAA=\n', 'NOTE_SYNTAX'],
  ['two spaces', 'text\n\n\u2014 a  AAAAAAA=\n', 'NOTE_SYNTAX'],
  ['a plus in the name', 'text\n\n\u2014 a+b AAAAAAA=\n', 'NOTE_SYNTAX'],
  ['a signature of nothing but an id', 'text\n\n\u2014 a AAAAAA==\n', 'NOTE_SYNTAX'],
  ['loose base64', 'text\n\n\u2014 a AAAAAAB=\n', 'NOTE_SYNTAX'],
  ['a carriage return', `text\r\n\n${line}\n`, 'NOTE_SYNTAX'],
  ['too many signatures', `text\n\n${`${line}\n`.repeat(33)}`, 'NOTE_TOO_LARGE'],
  ['too many bytes', `${'text'.repeat(3000)}\n\n${line}\n`, 'NOTE_TOO_LARGE'],
];
for (const [name, text, code] of notes)
  test(`a note with ${name} is refused`, () => throwsCode(() => parseNote(text), NoteError, code));

test('a text may hold empty lines: the last one parts it', () => {
  const { text, signatures } = parseNote(`a\n\nb\n\n${line}\n`);
  assert.deepEqual([text, signatures.length], ['a\n\nb\n', 1]);
  assert.equal(printNote({ text, signatures }), `a\n\nb\n\n${line}\n`);
});

test('a verifier key is read as it is written, and in no other way', () => {
  assert.deepEqual(parseVkey(printVkey(key)), key);
  const text = printVkey(key);
  for (const wrong of [
    '',
    text.slice(1),
    `${text}=`,
    text.replace(/\+[0-9a-f]{8}\+/, '+00000000+'),
    `a b${text}`,
    `example.org/log+${key.id}+AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA`,
  ])
    throwsCode(() => parseVkey(wrong), NoteError, 'VKEY_SYNTAX');
});

test('checkpoints have one spelling', () => {
  const hash = `${'A'.repeat(43)}=`;
  assert.deepEqual(parseCheckpoint(`o\n5\n${hash}\nextension\n`).size, 5);
  for (const text of [
    '',
    `o\n5\n${hash}`,
    `\n5\n${hash}\n`,
    `o\n05\n${hash}\n`,
    `o\n-1\n${hash}\n`,
    `o\n9007199254740992\n${hash}\n`,
    `o\n5\n${hash.slice(4)}\n`,
    `o\n5\n${hash}\n\n`,
    `o\n5 \n${hash}\n`,
  ])
    throwsCode(() => parseCheckpoint(text), CheckpointError, 'CHECKPOINT_SYNTAX');
});

test('proof files of another form are refused', () => {
  for (const text of [
    '',
    'index 1\n\nx',
    'c2sp.org/tlog-proof@v1\nextra AA==\nindex 1\n\nx',
    'c2sp.org/tlog-proof@v1\nindex 01\n\nx',
    'c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nx',
  ])
    throwsCode(() => parseInclusionFile(text), ProofFileError, 'PROOF_FILE_SYNTAX');
  throwsCode(
    () => parseConsistencyFile(`old 1\n${`${'A'.repeat(43)}=\n`.repeat(64)}\nx`),
    ProofFileError,
    'PROOF_FILE_SYNTAX',
  );
});

const host = `h_${'a'.repeat(26)}`;
const digest = saltedDigest(new Uint8Array(32), new Uint8Array());
const common = { v: 1, at: '2026-11-25T04:00:00.000Z', digest } as const;
const entries: readonly LogEntry[] = [
  { ...common, kind: 'report', host, facts: { report: 'full', seq: 3, copy: 0, count: null } },
  { ...common, kind: 'report', host, facts: { report: 'same', seq: 4, copy: 1, count: 17 } },
  { ...common, kind: 'judgement', host, facts: { findings: 2, verdict: { from: 'compliant', to: 'drifted' } } },
  { ...common, kind: 'act', host: null, facts: { action: 'policy.apply' } },
  { ...common, kind: 'act', host, facts: { action: 'host.accept-fork' } },
  { ...common, kind: 'restart', host: null, facts: { previous: { origin: 'a', size: 4, root: `${'A'.repeat(43)}=` } } },
  { ...common, digest: null, kind: 'purge', host: null, facts: { of: 'report', count: 1, before: common.at } },
];
test('entries are written and read again, each kind', () => {
  for (const entry of entries) assert.deepEqual(parseEntry(encodeEntry(entry)), entry);
});

const text = new TextDecoder().decode(encodeEntry(entries[0]!));
const wrongEntries: readonly (readonly [string, string])[] = [
  ['no JSON', text.slice(1)],
  ['another order', `{"v":1,${text.slice(1).replace(',"v":1}', '}')}`],
  ['white space', text.replace(',', ', ')],
  ['a member that is not ours', text.replace('{"at"', '{"a":1,"at"')],
  ['another version', text.replace('"v":1', '"v":2')],
  ['an unknown kind', text.replace('"report","v"', '"other","v"')],
  ['a name of its own for a host', text.replace(host, 'web-1')],
  ['a time without milliseconds', text.replace('.000Z', 'Z')],
  ['a digest that is none', text.replace('sha256:', 'sha512:')],
  ['a member twice', text.replace('"v":1', '"v":1,"v":1')],
];
for (const [name, wrong] of wrongEntries)
  test(`an entry with ${name} is refused`, () => {
    assert.notEqual(wrong, text);
    throwsCode(() => parseEntry(encoder.encode(wrong)), EntryError, 'ENTRY_SYNTAX');
  });

test('what does not fit an entry is refused before it is parsed', () => {
  throwsCode(() => parseEntry(new Uint8Array(65_536)), EntryError, 'ENTRY_TOO_LARGE');
});

test('a salted digest is the hash of salt and payload one after the other', () => {
  const salt = new Uint8Array(32).fill(1);
  // printf '\001%.0s' $(seq 32); printf abc
  assert.equal(
    saltedDigest(salt, encoder.encode('abc')),
    'sha256:f138dfb92f2d15143be6aa75d8c22a848559e77362670c45c8ab5852fe23e081',
  );
  assert.throws(() => saltedDigest(new Uint8Array(31), salt), RangeError);
});
