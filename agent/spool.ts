/**
 * Reports that wait for the server: one file each, named by its number, durable before anything is posted (PROTOCOL 3.4). Bounded:
 * where it is full the oldest `same` go first, then the oldest `full`.
 */
import type { Disk } from './disk.ts';

/** A report in the spool. */
export type Waiting = { readonly seq: number; readonly kind: 'full' | 'same'; readonly bytes: number };

export type SpoolLimits = { readonly files: number; readonly bytes: number };

/** Nine days of reports at four an hour, which nearly all are small; full ones of a host with much drift fill the bytes first. */
export const SPOOL_LIMITS: SpoolLimits = { files: 900, bytes: 64 * 1024 * 1024 };

/** Files of each kind that are kept for a person to look at. */
const ASIDE_MAX = 20;

const NAME = /^([0-9]{16})\.(full|same)$/;

export class Spool {
  readonly #disk: Disk;
  readonly #folder: string;
  readonly #limits: SpoolLimits;

  /** `folder` is the spool's own. */
  constructor(disk: Disk, folder: string, limits: SpoolLimits = SPOOL_LIMITS) {
    this.#disk = disk;
    this.#folder = folder;
    this.#limits = limits;
    disk.makeFolder(folder);
  }

  /** What waits, oldest first. */
  list(): Waiting[] {
    return this.#disk
      .list(this.#folder)
      .flatMap((name) => {
        const match = NAME.exec(name);
        const stat = match === null ? undefined : this.#disk.stat(`${this.#folder}/${name}`);
        if (match === null || stat === undefined) return [];
        return [{ seq: Number(match[1]), kind: match[2] as 'full' | 'same', bytes: stat.bytes }];
      })
      .sort((a, b) => a.seq - b.seq);
  }

  /** Adds a report. Durable when it returns. Fails with EEXIST where its number is taken: no number is ever used twice. */
  add(seq: number, kind: 'full' | 'same', envelope: Uint8Array): void {
    const fresh = `${this.#folder}/.new-report`;
    this.#disk.unlink(fresh);
    this.#disk.create(fresh, envelope, 0o600);
    this.#disk.link(fresh, this.#path({ seq, kind }));
    this.#disk.unlink(fresh);
    this.#disk.syncFolder(this.#folder);
  }

  /** Undefined where it is not there any more. */
  read(report: Waiting, limit: number): Uint8Array | undefined {
    return this.#disk.read(this.#path(report), limit);
  }

  remove(reports: readonly Waiting[]): void {
    for (const report of reports) this.#disk.unlink(this.#path(report));
    if (reports.length > 0) this.#disk.syncFolder(this.#folder);
  }

  /** Keeps a report for a person to look at, out of the way: the newest of each kind. */
  setAside(report: Waiting, why: 'corrupt' | 'refused'): void {
    const folder = `${this.#folder}/${why}`;
    this.#disk.makeFolder(folder);
    this.#disk.rename(this.#path(report), `${folder}/${this.#name(report)}`);
    const kept = this.#disk.list(folder).sort();
    for (const name of kept.slice(0, -ASIDE_MAX)) this.#disk.unlink(`${folder}/${name}`);
    this.#disk.syncFolder(folder);
    this.#disk.syncFolder(this.#folder);
  }

  /** What must go so that one more report of `bytes` has room, in the order of the rule. */
  surplus(bytes: number): Waiting[] {
    const waiting = this.list();
    const total = waiting.reduce((sum, report) => sum + report.bytes, bytes);
    const over = { files: waiting.length + 1 - this.#limits.files, bytes: total - this.#limits.bytes };
    const order = [...waiting.filter(({ kind }) => kind === 'same'), ...waiting.filter(({ kind }) => kind === 'full')];
    const out: Waiting[] = [];
    for (const report of order) {
      if (over.files <= 0 && over.bytes <= 0) break;
      over.files--;
      over.bytes -= report.bytes;
      out.push(report);
    }
    return out;
  }

  #name({ seq, kind }: Pick<Waiting, 'seq' | 'kind'>): string {
    return `${String(seq).padStart(16, '0')}.${kind}`;
  }

  #path(report: Pick<Waiting, 'seq' | 'kind'>): string {
    return `${this.#folder}/${this.#name(report)}`;
  }
}
