/** The checking stream: nothing that a source hands out counts before its size and digest have matched, to the last byte. */
import { createHash, hash } from 'node:crypto';
import { digestOf, type Digest, type Sha256 } from '#src/digest.ts';
import { SourceError, type Descriptor } from './source.ts';

type Expected = Pick<Descriptor, 'digest' | 'size'>;

/** Node's own SHA-256, for whole texts and documents. */
export const nodeSha256: Sha256 = (data) => hash('sha256', data, 'hex');

/**
 * Passes chunks on and fails, at the latest at the end, unless they were `expected`. Whoever stops early has verified nothing.
 * @throws {SourceError} BLOB_SIZE, BLOB_DIGEST
 */
export async function* verified(
  chunks: AsyncIterable<Uint8Array>,
  expected: Expected,
  what: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  const sha256 = createHash('sha256');
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    // At once: what is too long already may be endless.
    if (size > expected.size) throw tooLong(expected, what);
    sha256.update(chunk);
    yield chunk;
  }
  if (size !== expected.size)
    throw new SourceError('BLOB_SIZE', `${what} ends after ${size} of ${expected.size} bytes`);
  const digest = sha256.digest('hex');
  if (`sha256:${digest}` !== expected.digest) throw wrongDigest(expected.digest, `sha256:${digest}`, what);
}

/** The whole of a small blob, checked. @throws {SourceError} BLOB_SIZE, BLOB_DIGEST */
export async function readVerified(
  chunks: AsyncIterable<Uint8Array>,
  expected: Expected,
  what: string,
): Promise<Uint8Array> {
  return concat(await Array.fromAsync(verified(chunks, expected, what)));
}

/** The digest of bytes that are held whole; fails unless it is the one expected. @throws {SourceError} BLOB_DIGEST */
export function verifiedDigest(bytes: Uint8Array, expected: Digest | undefined, what: string): Digest {
  const digest = digestOf(bytes, nodeSha256);
  if (expected !== undefined && digest !== expected) throw wrongDigest(expected, digest, what);
  return digest;
}

/** Reads a stream of unknown length whole, but never more than `max` bytes. @throws {SourceError} SOURCE_ANSWER */
export async function readBounded(chunks: AsyncIterable<Uint8Array>, max: number, what: string): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > max) throw new SourceError('SOURCE_ANSWER', `${what} is longer than ${max} bytes`);
    parts.push(chunk);
  }
  return concat(parts);
}

export function tooLong(expected: Expected, what: string): SourceError {
  return new SourceError('BLOB_SIZE', `${what} is longer than the ${expected.size} bytes that its descriptor says`);
}

function wrongDigest(expected: string, actual: string, what: string): SourceError {
  return new SourceError('BLOB_DIGEST', `${what} is not what was asked for: expected ${expected}, got ${actual}`);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
