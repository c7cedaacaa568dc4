/** Package databases on disk while an image is read: the newest layer's under each name. What does not fit, or cannot be written, is not kept. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ByteString } from '#src/bytes.ts';
import { beginsAsWanted, HEAD_BYTES, isWanted, type Keep, type Sink } from '#src/image/keep.ts';
import { components } from '#src/image/tree.ts';
import { PACKAGE_KEPT_BYTES_MAX, PACKAGE_KEPT_FILES_MAX } from '#src/limits.ts';

type Kept = { readonly file: string; readonly size: number; names: number };

export class KeptFiles implements Keep {
  #folder: string | undefined;
  readonly #byContent = new Map<string, Kept>();
  readonly #byName = new Map<ByteString, { readonly layer: number; readonly sha256: string }>();
  readonly #open = new Set<number>();
  #files = 0;
  #bytes = 0;
  #trouble: string | undefined;

  /** Why something that was wanted is not here, if that happened. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  open(layer: number, name: ByteString, size: number): Sink | undefined {
    const wanted = isWanted(name, size);
    if (wanted === 'no' || this.#trouble !== undefined) return undefined;
    const key = components(name).join('/');
    if ((this.#byName.get(key)?.layer ?? -1) > layer) return undefined;
    return wanted === 'yes' ? this.#sink(layer, key, size) : this.#looking(layer, key, size);
  }

  /** A file that has this content, to be opened by name; undefined where it was not kept. */
  file(sha256: string): string | undefined {
    return this.#byContent.get(sha256)?.file;
  }

  /** The content itself, as a byte string. */
  text(sha256: string): ByteString | undefined {
    const file = this.file(sha256);
    return file === undefined ? undefined : readFileSync(file, 'latin1');
  }

  [Symbol.dispose](): void {
    // Of layers that were refused in the middle.
    for (const fd of this.#open) this.#close(fd);
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Waits until it is seen how the file begins. */
  #looking(layer: number, key: ByteString, size: number): Sink {
    let head: Uint8Array[] | undefined = [];
    let seen = 0;
    let sink: Sink | undefined;
    return {
      write: (data) => {
        if (head === undefined) {
          sink?.write(data);
          return;
        }
        head.push(Uint8Array.from(seen < HEAD_BYTES ? data : []));
        seen += data.length;
        if (seen < Math.min(HEAD_BYTES, size)) return;
        const begun = Buffer.concat(head);
        head = undefined;
        if (!beginsAsWanted(begun)) return;
        sink = this.#sink(layer, key, size);
        sink?.write(begun);
      },
      end: (sha256) => sink?.end(sha256),
    };
  }

  #sink(layer: number, key: ByteString, size: number): Sink | undefined {
    if (this.#bytes + size > PACKAGE_KEPT_BYTES_MAX || this.#files >= PACKAGE_KEPT_FILES_MAX) {
      this.#trouble = `package databases of all layers are more than ${PACKAGE_KEPT_BYTES_MAX / 2 ** 20} MiB`;
      return undefined;
    }
    const file = this.#path();
    const fd = file === undefined ? undefined : this.#trying(() => openSync(file, 'wx', 0o600));
    if (file === undefined || fd === undefined) return undefined;
    this.#open.add(fd);
    this.#files++;
    this.#bytes += size;
    return {
      write: (data) => {
        this.#trying(() => writeAll(fd, data));
      },
      end: (sha256) => {
        this.#close(fd);
        this.#keep({ file, size, names: 0 }, { layer, key, sha256 });
      },
    };
  }

  #keep(made: Kept, { layer, key, sha256 }: { layer: number; key: ByteString; sha256: string }): void {
    const before = this.#byName.get(key);
    // Layers are read beside each other: a newer one may have come first.
    if (before !== undefined && before.layer > layer) return this.#remove(made);
    let kept = this.#byContent.get(sha256);
    if (kept === undefined) this.#byContent.set(sha256, (kept = made));
    else this.#remove(made);
    kept.names++;
    this.#byName.set(key, { layer, sha256 });
    const old = before && this.#byContent.get(before.sha256);
    if (old === undefined || --old.names > 0) return;
    this.#byContent.delete(before!.sha256);
    this.#remove(old);
  }

  #close(fd: number): void {
    this.#open.delete(fd);
    closeSync(fd);
  }

  #remove({ file, size }: Kept): void {
    rmSync(file, { force: true });
    this.#bytes -= size;
  }

  #path(): string | undefined {
    this.#folder ??= this.#trying(() => mkdtempSync(join(tmpdir(), 'bootproof-packages-')));
    return this.#folder === undefined ? undefined : join(this.#folder, String(this.#files));
  }

  /** A full or read-only disk costs the names of packages, never the image. */
  #trying<T>(act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === undefined) throw error;
      this.#trouble ??= `the server's folder for temporary files: ${(error as Error).message}`;
      return undefined;
    }
  }
}

function writeAll(fd: number, data: Uint8Array): void {
  for (let at = 0; at < data.length;) at += writeSync(fd, data, at);
}
