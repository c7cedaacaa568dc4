/** What was purged (docs/evidence.md 4, check `records`): nothing may be missing for "purged" that no entry of the log says was purged. */
import { parseInstant, type Instant } from '#src/clock.ts';
import type { Faults } from './steps.ts';
import type { Walked } from './walk.ts';

type Kind = {
  missing: number;
  /** Time of the newest that is missing. */ newest: Instant;
  told: number;
  before: Instant;
};

export class Purges {
  readonly #kinds = new Map<string, Kind>();

  #of(kind: string): Kind {
    const found = this.#kinds.get(kind) ?? { missing: 0, newest: -Infinity, told: 0, before: -Infinity };
    this.#kinds.set(kind, found);
    return found;
  }

  seen({ entry, record, payload }: Walked, at: Instant): void {
    if (entry.kind === 'purge') {
      const { of, count, before } = entry.facts;
      const kind = this.#of(of);
      kind.told += count;
      kind.before = Math.max(kind.before, parseInstant(before)!);
    } else if (record !== undefined && record.payload === null && payload === undefined && entry.digest !== null) {
      const kind = this.#of(entry.kind);
      kind.missing++;
      kind.newest = Math.max(kind.newest, at);
    }
  }

  /** After the walk. */
  finish(faults: Faults): void {
    for (const [name, { missing, newest, told, before }] of this.#kinds)
      if (missing > told || newest >= before)
        faults.add(
          `${missing} ${name}s are said to be purged; the log tells of ${told} that were${told === 0 ? '' : `, all older than ${new Date(before).toISOString()}`}`,
        );
  }
}
