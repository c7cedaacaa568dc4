/** What a verification says, step by step (docs/evidence.md 4). */
import { FAULTS_SHOWN } from '#src/limits.ts';

export type Step = {
  /** Of the closed list of docs/evidence.md 4. */
  readonly check: string;
  readonly ok: boolean;
  /** A sentence: what was checked and counted, or the first things that are wrong. */
  readonly detail: string;
};

/** What is wrong, in words; the first few of it, and how many in all. */
export class Faults {
  readonly #shown: string[] = [];
  #count = 0;

  add(fault: string): void {
    this.#count++;
    if (this.#shown.length < FAULTS_SHOWN) this.#shown.push(fault.length > 600 ? `${fault.slice(0, 600)}…` : fault);
  }

  get ok(): boolean {
    return this.#count === 0;
  }

  /** The step that comes of it; `good` is told where nothing is wrong. */
  step(check: string, good: string): Step {
    if (this.ok) return { check, ok: true, detail: good };
    const more = this.#count - this.#shown.length;
    return { check, ok: false, detail: `${this.#shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}` };
  }
}

/** `1 finding`, `2 findings`. */
export const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;
