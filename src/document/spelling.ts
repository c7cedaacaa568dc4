/** What was meant: the nearest of the words that would have been right. */
import { UsageError } from '#src/terminal.ts';

/** A word where a command's name stands. `program`: `bootproof agent`, whose `help` lists them. */
export function noCommand(program: string, word: string, commands: readonly string[]): UsageError {
  const meant = nearest(word, commands);
  const near = meant === undefined ? '' : `, did you mean ${meant}?`;
  return new UsageError(`no command ${JSON.stringify(word)}${near === '' ? ';' : near} '${program} help' lists them`);
}

/** What `parseArgs` of `node:util` holds against a command line. */
export function wrongOption(error: unknown, options: readonly string[]): UsageError {
  const message = (error as Error).message.split('\n')[0]!;
  const word = /^Unknown option '--?([^']+)'/.exec(message)?.[1];
  const meant = word === undefined ? undefined : nearest(word, options);
  // Its advice on how to pass a positional that begins with a dash helps nobody here.
  const said = word === undefined ? message : `unknown option --${word}`.replace(/^(unknown option )--(.)$/, '$1-$2');
  return new UsageError(meant === undefined ? said : `${said}, did you mean --${meant}?`);
}

/** The candidate that is at most a third of its letters away; undefined where none is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Infinity;
  // A long word cannot be near: and distance takes time in proportion to both lengths.
  if (word.length > 40) return undefined;
  for (const candidate of candidates) {
    const far = distance(word.toLowerCase(), candidate.toLowerCase());
    if (far < least && far <= Math.max(1, Math.floor(candidate.length / 3))) {
      least = far;
      best = candidate;
    }
  }
  return best;
}

/** Letters to insert, remove, replace, or swap with their neighbour (optimal string alignment). */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      row[j] = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        row[j] = Math.min(row[j]!, before[j - 2]! + 1);
    }
    before = last;
    last = row;
  }
  return last[b.length]!;
}
