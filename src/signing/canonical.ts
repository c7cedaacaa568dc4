/** Canonical JSON, RFC 8785 (docs/report.md 2.1): one text for one value, so that a digest or signature fits a document. */
import { BootproofError } from '#src/error.ts';

export class CanonicalError extends BootproofError<'NOT_JSON'> {}

/**
 * The one spelling of a JSON value: no white space, keys sorted by UTF-16 code units, numbers as ECMAScript prints them.
 * Recursion is as deep as the value: hand it what passed a schema, not what a stranger sent.
 * @throws {CanonicalError} for what JSON cannot hold: undefined, functions, infinite numbers, lone surrogates.
 */
export function canonicalJson(value: unknown): string {
  switch (typeof value) {
    case 'string':
      if (!value.isWellFormed()) throw new CanonicalError('NOT_JSON', 'a text with a lone surrogate has no UTF-8');
      return JSON.stringify(value);
    case 'boolean':
      return value ? 'true' : 'false';
    case 'number':
      if (!Number.isFinite(value)) throw new CanonicalError('NOT_JSON', 'JSON has no infinite numbers and no NaN');
      return JSON.stringify(value);
    case 'object':
      return value === null ? 'null' : Array.isArray(value) ? arrayJson(value) : objectJson(value);
    default:
      throw new CanonicalError('NOT_JSON', `JSON has no ${typeof value}`);
  }
}

function arrayJson(values: readonly unknown[]): string {
  let out = '[';
  for (let i = 0; i < values.length; i++) out += (i === 0 ? '' : ',') + canonicalJson(values[i]);
  return `${out}]`;
}

function objectJson(value: object): string {
  let out = '{';
  // Without a comparator sort() compares UTF-16 code units, which is what RFC 8785 section 3.2.3 asks for.
  for (const key of Object.keys(value).sort())
    out += `${out === '{' ? '' : ','}${canonicalJson(key)}:${canonicalJson((value as Record<string, unknown>)[key])}`;
  return `${out}}`;
}
