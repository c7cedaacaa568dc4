/** Request bodies: what decodes, and what is refused before it costs memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { BodyError, isSmall, readBody } from '#server/ingest/body.ts';
import { rejectsCode } from '#test/throws.ts';

const MAX = 100_000;
const request = (
  body: Uint8Array<ArrayBuffer> | ReadableStream | null,
  headers: Record<string, string> = {},
): Request =>
  new Request('http://server/', { method: 'POST', body, headers, ...(body === null ? {} : { duplex: 'half' }) });
const text = new TextEncoder().encode('{"a":1}');

for (const [name, body, headers] of [
  ['plain', text, {}],
  ['plain with its length', text, { 'content-length': String(text.length) }],
  ['gzip', new Uint8Array(gzipSync(text)), { 'content-encoding': 'gzip' }],
  ['zstd', new Uint8Array(zstdCompressSync(text)), { 'content-encoding': 'zstd' }],
  ['chunked', new Blob([text]).stream(), {}],
] as const)
  test(`a ${name} body decodes`, async () => {
    assert.deepEqual(Buffer.from(await readBody(request(body, headers), MAX)), Buffer.from(text));
  });

const zeros = new Uint8Array(64 * 1024 * 1024);
const refused = [
  ['no body', null, {}, 'BODY_MISSING'],
  ['a body longer than the limit', new Uint8Array(MAX + 1), {}, 'BODY_TOO_LARGE'],
  ['a declared length beyond the limit', text, { 'content-length': String(MAX + 1) }, 'BODY_TOO_LARGE'],
  ['a declared length that is none', text, { 'content-length': 'x' }, 'BODY_TOO_LARGE'],
  ['an endless stream', new ReadableStream({ pull: (c) => c.enqueue(new Uint8Array(1000)) }), {}, 'BODY_TOO_LARGE'],
  ['a gzip bomb', new Uint8Array(gzipSync(zeros)), { 'content-encoding': 'gzip' }, 'BODY_TOO_LARGE'],
  ['a zstd bomb', new Uint8Array(zstdCompressSync(zeros)), { 'content-encoding': 'zstd' }, 'BODY_TOO_LARGE'],
  ['gzip that is none', text, { 'content-encoding': 'gzip' }, 'BODY_SYNTAX'],
  ['gzip cut short', new Uint8Array(gzipSync(text)).slice(0, -6), { 'content-encoding': 'gzip' }, 'BODY_SYNTAX'],
  ['zstd that is none', text, { 'content-encoding': 'zstd' }, 'BODY_SYNTAX'],
  ['brotli', text, { 'content-encoding': 'br' }, 'ENCODING_UNSUPPORTED'],
  ['two encodings', text, { 'content-encoding': 'gzip, gzip' }, 'ENCODING_UNSUPPORTED'],
] as const;
for (const [name, body, headers, code] of refused)
  test(`${name} is refused`, () => rejectsCode(() => readBody(request(body, headers), MAX), BodyError, code));

test('a refused body leaves the inflater free for the next', async () => {
  const bomb = new Uint8Array(gzipSync(zeros));
  const answers = await Promise.allSettled(
    Array.from({ length: 12 }, () => readBody(request(bomb, { 'content-encoding': 'gzip' }), MAX)),
  );
  assert.ok(answers.every((answer) => answer.status === 'rejected'));
  assert.equal(
    (await readBody(request(new Uint8Array(gzipSync(text)), { 'content-encoding': 'gzip' }), MAX)).length,
    7,
  );
});

test('whoever counts is told of what comes and of what it becomes, and may end it', async () => {
  const packed = new Uint8Array(gzipSync(zeros.subarray(0, MAX)));
  const told: number[] = [];
  await readBody(request(packed, { 'content-encoding': 'gzip' }), MAX, (bytes) => told.push(bytes));
  assert.deepEqual([told[0], told.at(-1)], [packed.length, MAX]);
  let came = 0;
  const stop = new Error('enough');
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(text) });
  const reading = readBody(request(endless), MAX, (bytes) => {
    came += bytes;
    if (came > 10 * text.length) throw stop;
  });
  await assert.rejects(reading, stop);
});

test('a small body is told of as what it decodes to, once, whatever it decodes to', async () => {
  for (const length of [700, MAX]) {
    const packed = new Uint8Array(gzipSync(zeros.subarray(0, length)));
    const told: number[] = [];
    const headers = { 'content-encoding': 'gzip', 'content-length': String(packed.length) };
    const asked = request(packed);
    // Request itself keeps such fields out of what it is made of; what stands before it does not.
    Object.defineProperty(asked, 'headers', { value: new Headers(headers) });
    assert.equal((await readBody(asked, MAX, (bytes) => told.push(bytes))).length, length);
    assert.deepEqual(told, [length]);
  }
});

for (const [name, headers, small] of [
  ['its length is small', { 'content-length': '100' }, true],
  ['its length is large', { 'content-length': '101' }, false],
  ['its length is not told', {}, false],
  ['its length is small, compressed as it is', { 'content-length': '10', 'content-encoding': 'gzip' }, true],
  ['its length is no number', { 'content-length': 'x' }, false],
] as const)
  test(`a body is ${small ? 'small' : 'not known to be small'} where ${name}`, () => {
    // Request itself keeps such fields out; what stands before it does not.
    const asked = { headers: new Headers(headers) } as Request;
    assert.equal(isSmall(asked, 100), small);
  });
