/** Reading small files below one root: bounded, never out of the root, never held up, and failures said in words. */
import { constants } from 'node:fs';
import { open, readdir, realpath, stat } from 'node:fs/promises';
import { compareBytes, fromBytes, type ByteString } from '#src/bytes.ts';
import { DeploymentError } from '#src/deployment/error.ts';
import { isWithin } from '#src/deployment/mountinfo.ts';

/** Reads bounded files below one root, and collects in words what could not be read. */
export class Look {
  readonly words: string[];
  readonly #root: ByteString;

  constructor(root: ByteString, words: string[] = []) {
    this.#root = root;
    this.words = words;
  }

  /** The real path of something below the root; undefined where it is absent or a link leads out of the root. */
  async path(path: ByteString): Promise<Buffer | undefined> {
    try {
      const real = await realpath(bytesPath(this.#root === '/' ? path : this.#root + path), 'buffer');
      if (isWithin(fromBytes(real), this.#root)) return real;
      this.words.push(`${path} leads out of the root and was not followed`);
    } catch (error) {
      if (!isAbsence(error)) this.words.push(`${path} could not be looked at: ${errno(error)}`);
    }
    return undefined;
  }

  /** The bytes of a file of at most `limit`; undefined where it is absent, in words where it cannot be read. */
  async bytes(path: ByteString, limit: number): Promise<Uint8Array | undefined> {
    const real = await this.path(path);
    if (real === undefined) return undefined;
    try {
      const bytes = await readBounded(real, limit);
      if (bytes === undefined) this.words.push(`${path} is no file`);
      return bytes;
    } catch (error) {
      if (!isAbsence(error)) this.words.push(`${path} could not be read: ${errno(error)}`);
      return undefined;
    }
  }

  /** What `parse` makes of a file; null where it is absent, cannot be read or is refused. */
  async parsed<T>(path: ByteString, limit: number, parse: (bytes: Uint8Array) => T): Promise<T | null> {
    const bytes = await this.bytes(path, limit);
    return bytes === undefined ? null : this.tried(path, () => parse(bytes));
  }

  /** The first line of a small file; null where there is none. */
  async line(path: ByteString): Promise<string | null> {
    const bytes = await this.bytes(path, 4096);
    const line = bytes === undefined ? '' : fromBytes(bytes).split('\n')[0]!.trim();
    return line === '' ? null : line;
  }

  /** Device and inode, as stat tells them; undefined where it is absent. */
  async identity(path: ByteString): Promise<{ readonly device: bigint; readonly inode: bigint } | undefined> {
    const real = await this.path(path);
    try {
      const facts = real && (await stat(real, { bigint: true }));
      return facts && { device: facts.dev, inode: facts.ino };
    } catch (error) {
      if (!isAbsence(error)) this.words.push(`${path} could not be looked at: ${errno(error)}`);
      return undefined;
    }
  }

  /** A refusal becomes words; our own mistakes go on. */
  tried<T>(what: string, act: () => T): T | null {
    try {
      return act();
    } catch (error) {
      if (!(error instanceof DeploymentError)) throw error;
      this.words.push(`${what}: ${error.message}`);
      return null;
    }
  }

  /** The names in a folder, sorted as bytes; none where it is absent. */
  async names(path: ByteString): Promise<ByteString[]> {
    const real = await this.path(path);
    if (real === undefined) return [];
    try {
      return (await readdir(real, { encoding: 'buffer' })).map(fromBytes).sort(compareBytes);
    } catch (error) {
      if (!isAbsence(error)) this.words.push(`${path} could not be listed: ${errno(error)}`);
      return [];
    }
  }
}

const bytesPath = (path: ByteString): Buffer => Buffer.from(path, 'latin1');

/** `EACCES` and the like; anything without an error number is our own mistake. */
function errno(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (typeof code !== 'string') throw error;
  return code;
}

const isAbsence = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(errno(error));

/** Up to one byte more than `limit`, which the parsers then refuse; undefined for what is no regular file. */
async function readBounded(path: Buffer, limit: number): Promise<Uint8Array | undefined> {
  // A fifo of that name must not hold the agent up, and what became a link since its path was resolved is not followed.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    if (!(await file.stat()).isFile()) return undefined;
    const chunks: Buffer[] = [];
    // Files of /proc tell no size: read to the end.
    for (let left = limit + 1; left > 0;) {
      const chunk = Buffer.allocUnsafe(Math.min(left, 64 * 1024));
      const { bytesRead } = await file.read(chunk, 0, chunk.length);
      if (bytesRead === 0) break;
      chunks.push(chunk.subarray(0, bytesRead));
      left -= bytesRead;
    }
    return Buffer.concat(chunks);
  } finally {
    await file.close();
  }
}
