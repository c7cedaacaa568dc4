/**
 * Request bodies as bytes, with the limit on what they decode to (PROTOCOL 3.8): a framework's own body limit sees only the
 * compressed size. Gzip and zstd are inflated in the thread pool, few at a time, so that bombs cost bounded memory.
 */
import { promisify } from 'node:util';
import { constants, gunzip, gunzipSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { BootproofError } from '#src/error.ts';
import { INFLATE_CONCURRENCY_MAX, SAME_BYTES_MAX, ZSTD_WINDOW_LOG_MAX } from '#src/limits.ts';

export class BodyError extends BootproofError<
  'BODY_TOO_LARGE' | 'ENCODING_UNSUPPORTED' | 'BODY_SYNTAX' | 'BODY_MISSING'
> {}

const gunzipAsync = promisify(gunzip);
const zstdAsync = promisify(zstdDecompress);

const encodingOf = ({ headers }: Request): string =>
  (headers.get('content-encoding') ?? 'identity').trim().toLowerCase();

/** Whether a body says of itself that it is no larger than `max` as it is sent, so that nothing has to be counted while it comes. */
export function isSmall(request: Request, max: number): boolean {
  const declared = request.headers.get('content-length');
  return declared !== null && Number(declared) <= max;
}

/**
 * The decoded body, at most `max` bytes. `came` is told of bytes as they are held, and of a small body only what it decodes to; it may throw.
 * @throws {BodyError} BODY_TOO_LARGE before more than `max` bytes were held, ENCODING_UNSUPPORTED, BODY_SYNTAX, BODY_MISSING.
 */
export async function readBody(request: Request, max: number, came?: (bytes: number) => void): Promise<Uint8Array> {
  const encoding = encodingOf(request);
  if (encoding !== 'identity' && encoding !== 'gzip' && encoding !== 'zstd')
    throw new BodyError(
      'ENCODING_UNSUPPORTED',
      'send the body plain, or with Content-Encoding: gzip or zstd, and only one of them',
    );
  const sent = await readSent(request, max, isSmall(request, SAME_BYTES_MAX) ? undefined : came);
  if (sent.length === 0) throw new BodyError('BODY_MISSING', 'the request has no body');
  if (encoding === 'identity') return sent;
  const bytes = atOnce(encoding, sent) ?? (await inflate(encoding, sent, max));
  came?.(bytes.length);
  return bytes;
}

async function readSent(request: Request, max: number, came?: (bytes: number) => void): Promise<Uint8Array> {
  const declared = request.headers.get('content-length');
  if (declared !== null && !(Number(declared) <= max)) throw tooLarge(max);
  // Node's parser ends a body at its declared length, so a small declared length is a bound, and reading at once is fast.
  if (declared !== null && came === undefined) {
    const bytes = new Uint8Array(await request.arrayBuffer());
    if (bytes.length > max) throw tooLarge(max);
    return bytes;
  }
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body) {
    length += chunk.length;
    if (length > max) throw tooLarge(max);
    came?.(chunk.length);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}

function tooLarge(max: number): BodyError {
  return new BodyError('BODY_TOO_LARGE', `the body is larger than ${max} bytes, decoded`);
}

const optionsOf = (max: number) => ({
  gzip: { maxOutputLength: max },
  zstd: { maxOutputLength: max, params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX } },
});

/**
 * What is small, and small when it is decoded: some µs, here and now. A `same` that repeats a checkpoint is sent compressed, and must not wait behind
 * what strangers send. Undefined for what is not.
 */
function atOnce(encoding: 'gzip' | 'zstd', sent: Uint8Array): Uint8Array | undefined {
  if (sent.length > SAME_BYTES_MAX) return undefined;
  const { gzip, zstd } = optionsOf(SAME_BYTES_MAX);
  try {
    return encoding === 'gzip' ? gunzipSync(sent, gzip) : zstdDecompressSync(sent, zstd);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return undefined;
    throw new BodyError('BODY_SYNTAX', `the body is not valid ${encoding}`, { cause });
  }
}

let running = 0;
const waiting: (() => void)[] = [];

async function inflate(encoding: 'gzip' | 'zstd', sent: Uint8Array, max: number): Promise<Uint8Array> {
  // A place is handed from who leaves to who waits longest, so `running` never exceeds its bound.
  if (running < INFLATE_CONCURRENCY_MAX) running++;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    const { gzip, zstd } = optionsOf(max);
    return encoding === 'gzip' ? await gunzipAsync(sent, gzip) : await zstdAsync(sent, zstd);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(max);
    throw new BodyError('BODY_SYNTAX', `the body is not valid ${encoding}`, { cause });
  } finally {
    const next = waiting.shift();
    if (next === undefined) running--;
    else next();
  }
}
