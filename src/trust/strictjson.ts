/**
 * JSON that was signed, or that decides what was: read so that no two readers can understand it differently (docs/trust.md 2.3). A key
 * that stands twice is refused: Go takes the last, others the first, and a signature covers both.
 */
import { fromBase64 } from '#src/bytes.ts';
import { SIGNED_JSON_DEPTH_MAX } from '#src/limits.ts';
import { printableText } from '#src/terminal.ts';
import { TrustError } from './material.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export type JsonObject = Readonly<Record<string, unknown>>;

/** The object that UTF-8 JSON text spells. @throws {TrustError} MALFORMED */
export function strictObject(bytes: Uint8Array | string, what: string): JsonObject {
  let text: string;
  let json: unknown;
  try {
    text = typeof bytes === 'string' ? bytes : utf8.decode(bytes);
    json = JSON.parse(text);
  } catch (cause) {
    // The parser's own message quotes the text.
    throw new TrustError('MALFORMED', `${what} is no JSON`, { cause });
  }
  if (!isObject(json)) throw new TrustError('MALFORMED', `${what} is no JSON object`);
  refuseDuplicates(text, what);
  return json;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Walks text that `JSON.parse` accepted, so only strings, brackets and commas need to be told apart. */
function refuseDuplicates(text: string, what: string): void {
  const stack: (Set<string> | undefined)[] = [];
  let keyNext = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '{' || char === '[') {
      if (stack.length === SIGNED_JSON_DEPTH_MAX)
        throw new TrustError('MALFORMED', `${what} is nested more than ${SIGNED_JSON_DEPTH_MAX} levels deep`);
      stack.push(char === '{' ? new Set() : undefined);
      keyNext = char === '{';
    } else if (char === '}' || char === ']') {
      stack.pop();
      keyNext = false;
    } else if (char === ',') keyNext = stack.at(-1) !== undefined;
    else if (char === '"') {
      const start = at;
      for (at++; text[at] !== '"'; at++) if (text[at] === '\\') at++;
      if (!keyNext) continue;
      keyNext = false;
      const key = JSON.parse(text.slice(start, at + 1)) as string;
      const keys = stack.at(-1)!;
      if (keys.has(key)) throw new TrustError('MALFORMED', `${what} has ${quote(key)} twice`);
      keys.add(key);
    }
  }
}

/**
 * Go's encoding/json folds the case of names: `Subject` beside, or instead of, `subject` is another document to it than to us.
 * @throws {TrustError} MALFORMED
 */
export function refuseFolded(json: JsonObject, names: readonly string[], what: string): void {
  for (const key of Object.keys(json)) {
    const name = names.find((known) => known !== key && known.toLowerCase() === key.toLowerCase());
    if (name !== undefined) throw new TrustError('MALFORMED', `${what} has ${quote(key)} where ${name} is meant`);
  }
}

/** Standard base64 in its one spelling, at least one byte. @throws {TrustError} MALFORMED */
export function base64(text: unknown, what: string): Uint8Array {
  if (typeof text !== 'string' || text === '') throw new TrustError('MALFORMED', `${what} is no base64 text`);
  try {
    return fromBase64(text);
  } catch (cause) {
    throw new TrustError('MALFORMED', `${what} is not base64 in its one canonical spelling`, { cause });
  }
}

/** Foreign text as it may stand in a message. */
export const quote = (text: string): string => `"${printableText(text.slice(0, 300))}${text.length > 300 ? '…' : ''}"`;
