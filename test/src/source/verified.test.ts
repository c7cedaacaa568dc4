import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf, parseDigest } from '#src/digest.ts';
import { SourceError } from '#src/source/source.ts';
import { readBounded, readVerified, verified, verifiedDigest } from '#src/source/verified.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';

const text = (chunk: string) => new TextEncoder().encode(chunk);
async function* chunks(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield text(part);
}
const of = (content: string, size = content.length) => ({ digest: digestOf(content), size });
const zeros = parseDigest(`sha256:${'0'.repeat(64)}`);

test('what is as expected passes through unchanged', async () => {
  assert.deepEqual(await readVerified(chunks('ab', '', 'c'), of('abc'), 'x'), text('abc'));
  assert.deepEqual(await readVerified(chunks(), of(''), 'x'), text(''));
});

const refused: [string, string[], { digest: ReturnType<typeof digestOf>; size: number }, string][] = [
  ['short', ['ab'], of('abc'), 'BLOB_SIZE'],
  ['long', ['abc', 'd'], of('abc'), 'BLOB_SIZE'],
  ['empty', [], of('abc'), 'BLOB_SIZE'],
  ['other content of the same size', ['abd'], of('abc'), 'BLOB_DIGEST'],
  ['a wrong size with the right digest', ['abc'], of('abc', 4), 'BLOB_SIZE'],
  ['a wrong digest', ['abc'], { digest: zeros, size: 3 }, 'BLOB_DIGEST'],
];
for (const [name, parts, expected, code] of refused)
  test(`refuses a blob that is ${name}`, () =>
    rejectsCode(() => readVerified(chunks(...parts), expected, 'x'), SourceError, code));

test('an endless blob ends at the first byte too many, and its source is told', async () => {
  let sent = 0;
  let ended = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield ((sent += 10), text('0123456789'));
    } finally {
      ended = true;
    }
  }
  await rejectsCode(() => readVerified(endless(), { digest: zeros, size: 25 }, 'x'), SourceError, 'BLOB_SIZE');
  assert.equal(sent, 30);
  assert.ok(ended);
});

test('chunks are handed on before the end, but the end still fails', async () => {
  const got: string[] = [];
  await rejectsCode(
    async () => {
      for await (const chunk of verified(chunks('a', 'b'), { digest: zeros, size: 2 }, 'x')) got.push(String(chunk));
    },
    SourceError,
    'BLOB_DIGEST',
  );
  assert.equal(got.length, 2);
});

test('a stream of unknown length is read up to its bound', async () => {
  assert.deepEqual(await readBounded(chunks('ab', 'c'), 3, 'x'), text('abc'));
  await rejectsCode(() => readBounded(chunks('ab', 'cd'), 3, 'x'), SourceError, 'SOURCE_ANSWER');
});

test('whole bytes are hashed, and compared where something is expected', () => {
  assert.equal(verifiedDigest(text('abc'), undefined, 'x'), of('abc').digest);
  throwsCode(() => verifiedDigest(text('abc'), zeros, 'x'), SourceError, 'BLOB_DIGEST');
});
