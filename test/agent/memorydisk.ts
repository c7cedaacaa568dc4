/**
 * A disk that can lose power between any two acts. What was not made durable may be there afterwards or not: names that no
 * `syncFolder` followed come and go each by itself, and a file that was being written holds any part of its bytes.
 */
import assert from 'node:assert/strict';
import { save, type Disk } from '#agent/disk.ts';

/** Power is gone: thrown by the act in which it went, and by every later one. */
export class PowerCut extends Error {}

type File = { bytes: Uint8Array; synced: boolean; mode: number };
type Names = Map<string, File>;
/** A change of names that is not durable yet, and the folders whose syncing makes it so. */
type Change = { readonly folders: readonly string[]; apply(names: Names): void };

const folderOf = (path: string) => path.slice(0, path.lastIndexOf('/'));
const errno = (code: string, path: string) => Object.assign(new Error(`${code}: ${path}`), { code, errno: -1 });

export class MemoryDisk implements Disk {
  #durable: Names = new Map();
  #changes: Change[] = [];
  /** What a running process sees: all of it, durable or not. */
  #seen: Names = new Map();
  /** Acts so far. */
  acts = 0;
  /** The act at which power goes, and whether it is still done. */
  cutAt = Infinity;
  cutAfter = false;
  /** An act that fails without loss of power: a full disk, an I/O error. */
  failAt = Infinity;
  #dead = false;

  /** Power comes back: `chance` (0 up to 1) decides what of the unfinished is there. */
  reboot(chance: () => number): void {
    for (const change of this.#changes) if (chance() < 0.5) change.apply(this.#durable);
    this.#changes = [];
    for (const [path, file] of this.#durable)
      if (!file.synced)
        this.#durable.set(path, {
          ...file,
          synced: true,
          bytes: file.bytes.slice(0, Math.floor(chance() * (file.bytes.length + 1))),
        });
    this.#seen = new Map(this.#durable);
    this.#dead = false;
    this.cutAt = Infinity;
    this.failAt = Infinity;
  }

  /** A backup, or a clone: another disk with what a running process sees on this one. */
  copy(): MemoryDisk {
    const disk = new MemoryDisk();
    disk.#durable = new Map([...this.#seen].map(([path, file]) => [path, { ...file, synced: true }]));
    disk.#seen = new Map(disk.#durable);
    return disk;
  }

  /** Every path with its content, as a running process sees it. */
  files(): Map<string, Uint8Array> {
    return new Map([...this.#seen].map(([path, { bytes }]) => [path, bytes]));
  }

  list(folder: string): string[] {
    this.#act(() => {});
    const below = [...this.#seen.keys()].filter((path) => path.startsWith(`${folder}/`));
    return [...new Set(below.map((path) => path.slice(folder.length + 1).split('/')[0]!))].reverse();
  }

  read(path: string, limit: number): Uint8Array | undefined {
    this.#act(() => {});
    const file = this.#seen.get(path);
    assert.ok((file?.bytes.length ?? 0) <= limit);
    return file?.bytes.slice();
  }

  stat(path: string): { bytes: number; mode: number } | undefined {
    this.#act(() => {});
    const file = this.#seen.get(path);
    return file && { bytes: file.bytes.length, mode: file.mode };
  }

  pieces(path: string): Iterable<Uint8Array> {
    return { [Symbol.iterator]: () => this.#pieces(path) };
  }

  *#pieces(path: string): Generator<Uint8Array> {
    const bytes = this.read(path, Infinity) ?? new Uint8Array();
    // Small, so that lines are cut in their middle.
    for (let at = 0; at < bytes.length; at += 100) yield bytes.subarray(at, at + 100);
  }

  writer(path: string, mode: number): { write(bytes: Uint8Array): void; end(): void } {
    const pieces: Uint8Array[] = [];
    return {
      write: (bytes) => void pieces.push(bytes.slice()),
      end: () => this.create(path, Buffer.concat(pieces), mode),
    };
  }

  create(path: string, bytes: Uint8Array, mode: number): void {
    if (this.#seen.has(path)) throw errno('EEXIST', path);
    const file: File = { bytes: bytes.slice(), synced: false, mode };
    // Two acts: the name and some bytes, then all of them for certain.
    this.#change([folderOf(path)], (names) => names.set(path, file));
    this.#act(() => (file.synced = true));
  }

  link(from: string, to: string): void {
    const names = this.#seen;
    const file = names.get(from);
    if (file === undefined) throw errno('ENOENT', from);
    if (names.has(to)) throw errno('EEXIST', to);
    this.#change([folderOf(to)], (names) => names.set(to, file));
  }

  rename(from: string, to: string): void {
    const moved = [...this.#seen].filter(([path]) => path === from || path.startsWith(`${from}/`));
    if (moved.length === 0) throw errno('ENOENT', from);
    this.#change([folderOf(from), folderOf(to)], (names) => {
      for (const [path, file] of moved) {
        names.delete(path);
        names.set(to + path.slice(from.length), file);
      }
    });
  }

  unlink(path: string): void {
    if (this.#seen.has(path)) this.#change([folderOf(path)], (names) => names.delete(path));
  }

  syncFolder(folder: string): void {
    this.#act(() => {
      const settled = this.#changes.filter((change) => change.folders.includes(folder));
      for (const change of settled) change.apply(this.#durable);
      this.#changes = this.#changes.filter((change) => !settled.includes(change));
    });
  }

  makeFolder(): void {
    this.#act(() => {});
  }

  #change(folders: readonly string[], apply: (names: Names) => void): void {
    this.#act(() => {
      this.#changes.push({ folders, apply });
      apply(this.#seen);
    });
  }

  #act(act: () => unknown): void {
    if (this.#dead) throw new PowerCut();
    this.acts++;
    if (this.acts === this.failAt) throw errno('EIO', 'the disk');
    if (this.acts === this.cutAt) {
      this.#dead = true;
      if (this.cutAfter) act();
      throw new PowerCut();
    }
    act();
  }
}

/** A disk that holds some files for good. */
export function diskWith(files: Readonly<Record<string, string | Uint8Array>>): MemoryDisk {
  const disk = new MemoryDisk();
  for (const [path, content] of Object.entries(files))
    save(
      disk,
      folderOf(path),
      path.slice(path.lastIndexOf('/') + 1),
      typeof content === 'string' ? new TextEncoder().encode(content) : content,
    );
  return disk;
}
