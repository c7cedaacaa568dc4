/** Lists as lines of JSON (docs/evidence.md 1.3), read as they come, and bytes that are hashed on their way. */
import { z } from 'zod';
import { BUNDLE_LINE_BYTES_MAX } from '#src/limits.ts';
import { BundleError } from './bundle.ts';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The lines of a member, each ended by a newline. @throws {BundleError} MEMBER_SYNTAX */
export async function* linesOf(pieces: AsyncIterable<Uint8Array>, name: string): AsyncIterable<string> {
  let held: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces)
    for (let at = 0; at < piece.length;) {
      const end = piece.indexOf(0x0a, at);
      const part = piece.subarray(at, end < 0 ? piece.length : end);
      bytes += part.length;
      if (bytes > BUNDLE_LINE_BYTES_MAX) throw no(name, `a line of more than ${BUNDLE_LINE_BYTES_MAX} bytes`);
      at += part.length + (end < 0 ? 0 : 1);
      if (end < 0) {
        held.push(part);
        continue;
      }
      yield textOf(held.length === 0 ? part : joined([...held, part], bytes), name);
      held = [];
      bytes = 0;
    }
  if (bytes > 0) throw no(name, 'its last line has no end');
}

/** Lines as values of a schema. @throws {BundleError} MEMBER_SYNTAX with the number of the line */
export async function* valuesOf<Schema extends z.ZodType>(
  pieces: AsyncIterable<Uint8Array>,
  name: string,
  schema: Schema,
): AsyncIterable<z.infer<Schema>> {
  let number = 0;
  for await (const line of linesOf(pieces, name)) {
    number++;
    yield valueOf(line, `${name}, line ${number}`, schema);
  }
}

/** JSON of a schema. @throws {BundleError} MEMBER_SYNTAX */
export function valueOf<Schema extends z.ZodType>(text: string, where: string, schema: Schema): z.infer<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw no(where, 'it is not JSON', cause);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw no(where, z.prettifyError(parsed.error).replaceAll('\n', ' '));
  return parsed.data;
}

/** A whole member in memory, at most `max` bytes. @throws {BundleError} MEMBER_SYNTAX */
export async function bytesOf(pieces: AsyncIterable<Uint8Array>, name: string, max: number): Promise<Uint8Array> {
  const held: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    bytes += piece.length;
    if (bytes > max) throw no(name, `more than ${max} bytes`);
    held.push(piece);
  }
  return joined(held, bytes);
}

/** @throws {BundleError} MEMBER_SYNTAX for what is not UTF-8 */
export function textOf(bytes: Uint8Array, name: string): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw no(name, 'it is not UTF-8', cause);
  }
}

function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const out = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const no = (where: string, why: string, cause?: unknown) =>
  new BundleError('MEMBER_SYNTAX', `${where}: ${why}`, { cause });
