/**
 * Files that are served through composefs, judged by the file beneath (docs/agent.md, "How each file is judged"). It stands alone, with nothing but
 * `node:`, because its source is handed to the worker threads as text (pool.ts, `workerSource`).
 */
import * as fs from 'node:fs';
import type { C } from './clibrary.ts';

/** What is shared with the workers. */
export type BackingData = {
  /** What stands before `/usr` in the access paths of the tree. */
  readonly root: string;
  /** The deployment's folder, in which the same files stand, as links to their objects. Bytes. */
  readonly folder: string;
  /** The device of the folder's file system. */
  readonly dev: bigint;
  /** Whether that tells each change of a file by its times. */
  readonly keepsTimes: boolean;
  /** Where nothing is served that has not the digest in the mounted image (`verity=require`): lines of `measures`; else null. */
  readonly verity: SharedArrayBuffer | null;
};

/** A line: what the kernel measures, and the SHA-256 of that content; sorted by the former. */
export const VERITY_BYTES = 64;

/** Of the files that could be measured so many are read all the same: that what is measured can be read, the kernel only finds out by reading. */
const SAMPLE = 1 / 64;

/** An open file that holds the very data that another one serves. */
export type Beneath = { readonly fd: number; readonly stat: fs.BigIntStats };

export class Backing {
  readonly data: BackingData;
  readonly #c: C;
  readonly #lines: Buffer | undefined;
  readonly #chance: () => number;

  constructor(data: BackingData, c: C, chance: () => number = Math.random) {
    this.data = data;
    this.#c = c;
    this.#lines = data.verity === null ? undefined : Buffer.from(data.verity);
    this.#chance = chance;
  }

  /** The path beneath; undefined where the access path tells none. */
  pathOf(access: string): string | undefined {
    const { root, folder } = this.data;
    return access.startsWith(`${root}/usr/`) ? folder + access.slice(root.length) : undefined;
  }

  /**
   * Opens the file beneath, if it is the one whose data `fd` serves: a deployment holds links to the objects that it was made of, and an object that
   * was replaced since is served from elsewhere. To be closed by the caller.
   */
  open(fd: number, path: string | Buffer, flags: number): Beneath | undefined {
    let under: number;
    try {
      under = fs.openSync(path, flags);
    } catch {
      return undefined; // nothing there that could say something of what is served, which is then read
    }
    const stat = fs.fstatSync(under, { bigint: true });
    if (stat.isFile() && stat.dev === this.data.dev && this.#c.isSamePlace(fd, under)) return { fd: under, stat };
    fs.closeSync(under);
    return undefined;
  }

  /** Whether `beneath` is still what it was, and still what `fd` serves. */
  isSame(fd: number, { fd: under, stat }: Beneath): boolean {
    const now = fs.fstatSync(under, { bigint: true });
    const same = now.size === stat.size && now.mtimeNs === stat.mtimeNs && now.ctimeNs === stat.ctimeNs;
    return same && this.#c.isSamePlace(fd, under);
  }

  /** The SHA-256 of what the kernel measures, in hex; undefined where the file is to be read. */
  measured({ fd, stat }: Beneath): string | undefined {
    const lines = this.#lines;
    if (lines === undefined || stat.size === 0n || this.#chance() < SAMPLE) return undefined;
    const found = this.#c.verity(fd);
    if (found === undefined) return undefined;
    const wanted = Buffer.from(found, 'hex');
    for (let from = 0, to = lines.length / VERITY_BYTES; from < to;) {
      const middle = (from + to) >>> 1;
      const at = middle * VERITY_BYTES;
      const order = wanted.compare(lines, at, at + 32);
      if (order === 0) return lines.toString('hex', at + 32, at + VERITY_BYTES);
      if (order < 0) to = middle;
      else from = middle + 1;
    }
    return undefined; // no content of the image: what it is, reading tells
  }
}
