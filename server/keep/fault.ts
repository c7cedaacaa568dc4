/** What `bootproof server fsck` tells: each fault with its place, what it means, and what to do; of many of a kind the first, and their number. */
import { FSCK_TOLD } from '#src/limits.ts';
import { BootproofError } from '#src/error.ts';

export class KeepError extends BootproofError<
  /** A backup, or what it is to be written to, is not as it must be. */
  | 'KEEP_FILE'
  /** Something stands already where a backup would be written or restored. */
  | 'KEEP_EXISTS'
  /** A backup with faults is not restored. */
  | 'KEEP_FAULTS'
  /** A line of a ledger is none. */
  | 'KEEP_LEDGER'
> {}

export type FaultKind = {
  /** For programs: stable. */
  readonly code: string;
  readonly table: string;
  readonly means: string;
  readonly todo: string;
};
export type Fault = {
  /** What names the row. */
  readonly key: string;
  /** What was found there; empty where the kind says all. */
  readonly found: string;
};
export type Faults = FaultKind & {
  /** All of them. */
  readonly count: number;
  readonly first: readonly Fault[];
};

export class FaultList {
  readonly #kinds = new Map<string, { kind: FaultKind; count: number; first: Fault[] }>();

  add(kind: FaultKind, key: string, found = ''): void {
    this.addAll(kind, [{ key, found }], 1);
  }

  /** `first` of `count`. */
  addAll({ code, table, means, todo }: FaultKind, first: readonly Fault[], count: number): void {
    if (count === 0) return;
    const id = `${code} ${table} ${means}`;
    const known = this.#kinds.get(id) ?? { kind: { code, table, means, todo }, count: 0, first: [] };
    known.count += count;
    known.first.push(...first.slice(0, FSCK_TOLD - known.first.length));
    this.#kinds.set(id, known);
  }

  get all(): readonly Faults[] {
    return [...this.#kinds.values()].map(({ kind, ...rest }) => ({ ...kind, ...rest }));
  }
}
