/**
 * The image's own /etc text files, so that what a host made of one can be shown beside it (docs/policy.md, section 14). While layers are read
 * small text files wait on disk; once the tree is known, those of /etc that are no secret are kept by their content.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import type { ByteString } from '#src/bytes.ts';
import { textOf, type Omission } from '#src/drift/contents.ts';
import { isEtcGlob, isSecret } from '#src/drift/redact.ts';
import type { Keep, Sink } from '#src/image/keep.ts';
import { OBJECTS } from '#src/image/tarentry.ts';
import { CONTENT_BYTES_MAX, IMAGE_TEXTS_BYTES_MAX, TEXT_SPOOL_BYTES_MAX } from '#src/limits.ts';
import type { Entry } from '#src/manifest/entry.ts';

/** What the image's agent may tell of (docs/agent.md); the site's own secrets stand there, too. */
const AGENT_CONFIG = '/usr/lib/bootproof/agent.json';

const WANTED = /(?:^|\/)etc\/|(?:^|\/)usr\/lib\/bootproof\/agent\.json$/;

/** Small text files by content, on disk. What does not fit, or cannot be written, is not kept. */
export class TextSpool implements Keep {
  #folder: string | undefined;
  #fd: number | undefined;
  #end = 0;
  #full = false;
  readonly #places = new Map<string, { readonly at: number; readonly size: number }>();

  open(_layer: number, name: ByteString, size: number): Sink | undefined {
    if (size === 0 || size > CONTENT_BYTES_MAX || this.#full) return undefined;
    // In an encapsulated ostree commit content comes before its name, as an object.
    if (name.includes(OBJECTS) ? !name.endsWith('.file') : !WANTED.test(name)) return undefined;
    let parts: Uint8Array[] | undefined = [];
    return {
      write: (data) => {
        if (data.includes(0)) parts = undefined;
        else parts?.push(Uint8Array.from(data));
      },
      end: (sha256) => {
        if (parts !== undefined && !this.#places.has(sha256)) this.#append(sha256, Buffer.concat(parts));
      },
    };
  }

  /** Undefined where such a content was not kept. */
  bytes(sha256: string): Uint8Array | undefined {
    const place = this.#places.get(sha256);
    if (place === undefined) return undefined;
    const bytes = Buffer.alloc(place.size);
    for (let n = 0; n < bytes.length;) {
      const read = readSync(this.#fd!, bytes, n, bytes.length - n, place.at + n);
      if (read === 0) return undefined;
      n += read;
    }
    return bytes;
  }

  /** Whether something was left out for want of room. */
  get isFull(): boolean {
    return this.#full;
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }

  #append(sha256: string, bytes: Buffer): void {
    if (this.#end + bytes.length > TEXT_SPOOL_BYTES_MAX) {
      this.#full = true;
      return;
    }
    try {
      this.#folder ??= mkdtempSync(join(tmpdir(), 'bootproof-texts-'));
      this.#fd ??= openSync(join(this.#folder, 'texts'), 'wx+', 0o600);
      for (let n = 0; n < bytes.length;) n += writeSync(this.#fd, bytes, n, bytes.length - n, this.#end + n);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === undefined) throw error;
      // A full or read-only disk costs differences that could be shown, never the image.
      this.#full = true;
      return;
    }
    this.#places.set(sha256, { at: this.#end, size: bytes.length });
    this.#end += bytes.length;
  }
}

/** One file's content for two that may want it. */
export function bothKeep(one: Keep, other: Keep): Keep {
  return {
    open(layer, name, size) {
      const a = one.open(layer, name, size);
      const b = other.open(layer, name, size);
      if (a === undefined || b === undefined) return a ?? b;
      return {
        write: (data) => {
          a.write(data);
          b.write(data);
        },
        end: (sha256) => {
          a.end(sha256);
          b.end(sha256);
        },
      };
    },
  };
}

/** Texts in zstd by their SHA-256 (hex), and why others are not there. */
export type KeptTexts = {
  readonly texts: readonly { readonly sha256: string; readonly bytes: Uint8Array }[];
  readonly omitted: readonly (readonly [sha256: string, why: Omission])[];
};

/** Gathers, over the trees of all rules, what is kept of an image. */
export class TextGatherer {
  readonly #spool: TextSpool;
  readonly #texts = new Map<string, Uint8Array>();
  readonly #omitted = new Map<string, Omission>();
  #bytes = 0;

  constructor(spool: TextSpool) {
    this.#spool = spool;
  }

  add(entries: readonly Entry[]): void {
    const secrets = this.#siteSecrets(entries);
    // A copy of a secret under another name is a secret.
    const secretContents = new Set<string>();
    for (const { path, type, sha256, size } of entries)
      if (type === 'file' && size! > 0 && isSecret(path, secrets)) secretContents.add(sha256!);
    for (const { path, type, sha256, size } of entries) {
      if (type !== 'file' || size === 0 || !path.startsWith('/etc/') || isSecret(path, secrets)) continue;
      if (this.#texts.has(sha256!)) {
        if (secretContents.has(sha256!)) this.#drop(sha256!);
      } else if (!this.#omitted.has(sha256!)) this.#take(sha256!, size!, secretContents.has(sha256!));
    }
  }

  done(): KeptTexts {
    return {
      texts: [...this.#texts].map(([sha256, bytes]) => ({ sha256, bytes })),
      omitted: [...this.#omitted],
    };
  }

  #take(sha256: string, size: number, isSecretContent: boolean): void {
    const bytes = size > CONTENT_BYTES_MAX || isSecretContent ? undefined : this.#spool.bytes(sha256);
    const found = bytes && textOf(bytes);
    if (isSecretContent) this.#omitted.set(sha256, 'secret');
    else if (size > CONTENT_BYTES_MAX) this.#omitted.set(sha256, 'too-large');
    else if (found === undefined) this.#omitted.set(sha256, this.#spool.isFull ? 'limit' : 'not-text');
    else if ('omitted' in found) this.#omitted.set(sha256, found.omitted);
    else if (this.#bytes + size > IMAGE_TEXTS_BYTES_MAX) this.#omitted.set(sha256, 'limit');
    else {
      this.#bytes += size;
      this.#texts.set(sha256, zstdCompressSync(bytes!));
    }
  }

  #drop(sha256: string): void {
    this.#texts.delete(sha256);
    this.#omitted.set(sha256, 'secret');
  }

  /** Those that the configuration inside the image adds; what the agent would not read is no list. */
  #siteSecrets(entries: readonly Entry[]): string[] {
    const config = entries.find(({ path, type }) => path === AGENT_CONFIG && type === 'file');
    const bytes = config && this.#spool.bytes(config.sha256!);
    if (bytes === undefined) return [];
    try {
      const { secretPaths } = JSON.parse(Buffer.from(bytes).toString('utf8')) as { readonly secretPaths?: unknown };
      if (!Array.isArray(secretPaths)) return [];
      return secretPaths.slice(0, 100).filter((glob): glob is string => typeof glob === 'string' && isEtcGlob(glob));
    } catch (error) {
      if (error instanceof SyntaxError || error instanceof TypeError) return [];
      throw error;
    }
  }
}
