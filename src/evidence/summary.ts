/** What a verification comes to, in a sentence: the same on a terminal and in a browser. Never a plain "verified" (docs/evidence.md 4). */
import type { Verification } from './verify.ts';

const LEVELS = [
  "that the log was not rewritten is the server's own word (level 0)",
  'its log is the one that was seen elsewhere (level 1)',
  'a witness or timestamp authority that you trust saw its log (level 2)',
] as const;

export type Summary = {
  readonly kind: 'holds' | 'fails' | 'open';
  readonly title: string;
  readonly text: string;
};

export function summaryOf({ ok, steps, level, incomplete }: Verification): Summary {
  const failed = steps.filter((step) => !step.ok).length;
  if (failed > 0)
    return {
      kind: 'fails',
      title: 'Not what was signed, or not true in itself',
      text: `${failed} of ${steps.length} checks failed: do not rely on it, and keep it as it is.`,
    };
  if (!ok)
    return {
      kind: 'open',
      title: 'Whose it is was not checked',
      text: 'Nothing in it contradicts itself, but no key came by another way: anybody could have made it.',
    };
  return {
    kind: incomplete ? 'open' : 'holds',
    title: 'As signed by the key that you gave',
    text: `It is true in itself; ${LEVELS[level]}.${incomplete ? ' Something that you asked for could not be told.' : ''}`,
  };
}
