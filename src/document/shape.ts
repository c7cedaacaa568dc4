/** Schemas of documents of ours: what may stand where, and refusals that say what was meant. */
import { z } from 'zod';
import { nearest } from './spelling.ts';
import type { Problem, YamlDocument } from './yaml.ts';

/** An object of ours: an unknown key is refused, and the error says which one was meant. */
export function record<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code === 'invalid_type') return `expected keys with values: ${known.join(', ')}`;
      if (issue.code !== 'unrecognized_keys') return undefined;
      const told = issue.keys.map((key) => {
        const meant = nearest(key, known);
        return `unknown key ${quote(key)}${meant === undefined ? '' : `, did you mean ${meant}?`}`;
      });
      return `${told.join('; ')}${told.some((t) => !t.endsWith('?')) ? `; here may stand ${known.join(', ')}` : ''}`;
    },
  });
}

/** One of a closed list of words. */
export function word<const Words extends readonly [string, ...string[]]>(words: Words) {
  return z.enum(words, {
    error: (issue) => {
      const meant = typeof issue.input === 'string' ? nearest(issue.input, words) : undefined;
      return meant === undefined ? `expected one of ${words.join(', ')}` : `did you mean ${meant}?`;
    },
  });
}

/** A schema's issue as a problem of the document, where it stands. */
export function problemOf(issue: z.core.$ZodIssue, yaml: YamlDocument): Problem {
  if (issue.code === 'unrecognized_keys')
    return { ...yaml.placeOfKey(issue.path, issue.keys[0]!), message: issue.message };
  const key = issue.path.at(-1);
  if (issue.input === undefined && typeof key === 'string')
    return { ...yaml.placeOf(issue.path.slice(0, -1)), message: `${key} is missing: ${issue.message}` };
  return { ...yaml.placeOf(issue.path), message: issue.message };
}

const quote = (text: string): string => JSON.stringify(text.slice(0, 100));
