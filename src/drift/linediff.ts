/**
 * Two texts line by line, as `diff -u` tells them: by Myers' greedy algorithm (An O(ND) Difference Algorithm, 1986), as long as it takes few
 * steps. Of texts that differ in more, lines that stand once on either side are matched first (patience diff), and Myers does what lies
 * between with the steps that are left: beyond them, lines have gone and come.
 */
import { DIFF_STEPS_MAX } from '#src/limits.ts';

/** `was`, `is`: line numbers from 1; 0 on the side where the line is not. */
export type DiffLine = {
  readonly kind: 'same' | 'del' | 'add';
  /** Without its line break. */
  readonly text: string;
  readonly was: number;
  readonly is: number;
  /** The last line of its text, and no line break at its end. */
  readonly open?: true;
};

/** Lines that changed, with those around them. */
export type Hunk = {
  /** As in `@@ -was,wasLines +is,isLines @@`: 0 where a side has no line at all. */
  readonly was: number;
  readonly wasLines: number;
  readonly is: number;
  readonly isLines: number;
  readonly lines: readonly DiffLine[];
};

/** Every line of both texts. Time and memory grow no faster than the texts, whatever stands in them. */
export function diffLines(before: string, after: string): DiffLine[] {
  const [a, b] = [splitLines(before), splitLines(after)];
  const ids = new Map<string, number>();
  const idOf = (line: string): number => {
    let id = ids.get(line);
    if (id === undefined) ids.set(line, (id = ids.size));
    return id;
  };
  const matcher = new Matcher(Int32Array.from(a, idOf), Int32Array.from(b, idOf), ids.size);
  const partner = matcher.match();
  const line = (kind: DiffLine['kind'], text: string, was: number, is: number): DiffLine =>
    text.endsWith('\n') ? { kind, text: text.slice(0, -1), was, is } : { kind, text, was, is, open: true };
  const out: DiffLine[] = [];
  let j = 0;
  for (let i = 0; i < a.length; i++) {
    const other = partner[i]!;
    if (other < 0) {
      out.push(line('del', a[i]!, i + 1, 0));
      continue;
    }
    for (; j < other; j++) out.push(line('add', b[j]!, 0, j + 1));
    out.push(line('same', a[i]!, i + 1, ++j));
  }
  for (; j < b.length; j++) out.push(line('add', b[j]!, 0, j + 1));
  return out;
}

/** Lines with their breaks; only LF ends one. */
function splitLines(text: string): string[] {
  const lines: string[] = [];
  for (let from = 0; from < text.length;) {
    const end = text.indexOf('\n', from) + 1 || text.length;
    lines.push(text.slice(from, end));
    from = end;
  }
  return lines;
}

/** What changed, each change with up to `around` lines before and behind it. */
export function hunksOf(lines: readonly DiffLine[], around = 3): Hunk[] {
  const hunks: Hunk[] = [];
  let from = -1; // first line of the hunk that is being gathered
  let end = 0; // behind its last
  let [was, is] = [0, 0]; // lines before `from`, on either side
  let [passedWas, passedIs] = [0, 0]; // lines before `done`
  let done = 0;
  const close = (): void => {
    if (from < 0) return;
    for (; done < from; done++) {
      if (lines[done]!.kind !== 'add') passedWas++;
      if (lines[done]!.kind !== 'del') passedIs++;
    }
    [was, is] = [passedWas, passedIs];
    const inside = lines.slice(from, end);
    const wasLines = inside.filter(({ kind }) => kind !== 'add').length;
    const isLines = inside.filter(({ kind }) => kind !== 'del').length;
    hunks.push({
      was: wasLines === 0 ? was : was + 1,
      wasLines,
      is: isLines === 0 ? is : is + 1,
      isLines,
      lines: inside,
    });
    from = -1;
  };
  for (const [at, { kind }] of lines.entries()) {
    if (kind === 'same') continue;
    if (from >= 0 && at - around > end) close();
    if (from < 0) from = Math.max(at - around, 0);
    end = Math.min(at + around + 1, lines.length);
  }
  close();
  return hunks;
}

/** `@@ -1,4 +1,5 @@`, as GNU diff writes it. */
export function hunkHead({ was, wasLines, is, isLines }: Omit<Hunk, 'lines'>): string {
  const range = (at: number, count: number): string => (count === 1 ? String(at) : `${at},${count}`);
  return `@@ -${range(was, wasLines)} +${range(is, isLines)} @@`;
}

export const DIFF_SIGNS = { same: ' ', del: '-', add: '+' } as const;

/** Below the line that it is about, where a text does not end its last line. */
export const NO_NEWLINE = '\\ No newline at end of file';

type Range = { readonly a0: number; readonly a1: number; readonly b0: number; readonly b1: number };

/** Finds which line of the one text is which of the other; lines are numbers, equal where the lines are. */
class Matcher {
  readonly #a: Int32Array;
  readonly #b: Int32Array;
  readonly #ids: number;
  /** For each line of `a` its partner in `b`, or -1. */
  readonly #partner: Int32Array;
  #steps = 0;

  constructor(a: Int32Array, b: Int32Array, ids: number) {
    this.#a = a;
    this.#b = b;
    this.#ids = ids;
    this.#partner = new Int32Array(a.length).fill(-1);
  }

  match(): Int32Array {
    const whole = this.#trim({ a0: 0, a1: this.#a.length, b0: 0, b1: this.#b.length });
    this.#steps = DIFF_STEPS_MAX / 2;
    if (this.#between(whole)) return this.#partner;
    this.#steps = DIFF_STEPS_MAX / 2;
    let { a0, b0 } = whole;
    for (const [i, j] of [...this.#anchors(whole), [whole.a1, whole.b1] as const]) {
      this.#between(this.#trim({ a0, a1: i, b0, b1: j }));
      if (i < whole.a1) this.#partner[i] = j;
      [a0, b0] = [i + 1, j + 1];
    }
    return this.#partner;
  }

  /** Matches what is equal at both ends; what is left. */
  #trim({ a0, a1, b0, b1 }: Range): Range {
    while (a0 < a1 && b0 < b1 && this.#a[a0] === this.#b[b0]) this.#partner[a0++] = b0++;
    while (a0 < a1 && b0 < b1 && this.#a[a1 - 1] === this.#b[b1 - 1]) this.#partner[--a1] = --b1;
    return { a0, a1, b0, b1 };
  }

  /** Lines that stand once in either range, the most of them that keep their order. */
  #anchors({ a0, a1, b0, b1 }: Range): (readonly [number, number])[] {
    const [inA, inB] = [new Int32Array(this.#ids), new Int32Array(this.#ids)];
    const placeInB = new Int32Array(this.#ids);
    for (let i = a0; i < a1; i++) inA[this.#a[i]!]!++;
    for (let j = b0; j < b1; j++) {
      const id = this.#b[j]!;
      inB[id]!++;
      placeInB[id] = j;
    }
    const pairs: (readonly [number, number])[] = [];
    for (let i = a0; i < a1; i++) {
      const id = this.#a[i]!;
      if (inA[id] === 1 && inB[id] === 1) pairs.push([i, placeInB[id]!]);
    }
    return rising(pairs);
  }

  /** Myers: the furthest point on each diagonal after 0, 1, 2 … changes. False, with nothing matched, where the steps do not reach. */
  #between({ a0, a1, b0, b1 }: Range): boolean {
    const [n, m] = [a1 - a0, b1 - b0];
    if (n === 0 || m === 0) return true;
    const most = n + m;
    const furthest = new Int32Array(2 * most + 2);
    const rounds: Int32Array[] = [];
    for (let d = 0; d <= most; d++) {
      this.#steps -= d + 1;
      if (this.#steps < 0) return false;
      rounds.push(furthest.slice(most - d, most + d + 1));
      for (let k = -d; k <= d; k += 2) {
        const down = k === -d || (k !== d && furthest[most + k - 1]! < furthest[most + k + 1]!);
        let x = down ? furthest[most + k + 1]! : furthest[most + k - 1]! + 1;
        for (; x < n && x - k < m && this.#a[a0 + x] === this.#b[b0 + x - k]; x++) this.#steps--;
        furthest[most + k] = x;
        if (x < n || x - k < m) continue;
        this.#back(rounds, a0, b0, n, m);
        return true;
      }
    }
    throw new Error('after as many changes as there are lines, one text is the other');
  }

  /** The way that was found, from its end: `rounds[d]` is what was reached before round `d`, from diagonal -d on. */
  #back(rounds: readonly Int32Array[], a0: number, b0: number, n: number, m: number): void {
    let [x, y] = [n, m];
    for (let d = rounds.length - 1; d >= 0; d--) {
      const before = rounds[d]!;
      const k = x - y;
      const at = (diagonal: number): number => before[diagonal + d]!;
      const down = k === -d || (k !== d && at(k - 1) < at(k + 1));
      const fromX = d === 0 ? 0 : down ? at(k + 1) : at(k - 1);
      const fromY = d === 0 ? 0 : fromX - (down ? k + 1 : k - 1);
      while (x > fromX && y > fromY) this.#partner[a0 + --x] = b0 + --y;
      [x, y] = [fromX, fromY];
    }
  }
}

/** A longest run of pairs whose second numbers rise; the first ones do already (patience sorting). */
function rising(pairs: readonly (readonly [number, number])[]): (readonly [number, number])[] {
  const tops: number[] = []; // of each pile its last pair
  const under = new Int32Array(pairs.length);
  for (const [at, [, place]] of pairs.entries()) {
    let [low, high] = [0, tops.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[tops[middle]!]![1] < place) low = middle + 1;
      else high = middle;
    }
    under[at] = low === 0 ? -1 : tops[low - 1]!;
    tops[low] = at;
  }
  const out: (readonly [number, number])[] = [];
  for (let at = tops.at(-1) ?? -1; at >= 0; at = under[at]!) out.push(pairs[at]!);
  return out.reverse();
}
