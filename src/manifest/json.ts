/**
 * Entries as JSON, in the form of the golden trees: `path` or `path_b64`, type, mode, uid, gid, size, sha256, link or
 * `link_b64`, rdev, xattrs. One spelling for `manifest build --format jsonl`, scan output and reports.
 */
import { z } from 'zod';
import { BytesError, fromBase64, fromBytes, fromUtf8, toBase64, toBytes, toUtf8, type ByteString } from '#src/bytes.ts';
import { isDigest } from '#src/digest.ts';
import type { Entry, Facts } from './entry.ts';
import { PATH_BYTES_MAX } from '#src/limits.ts';

const Base64 = z
  .string()
  .max(2 * PATH_BYTES_MAX)
  .regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/);
const Id = z.int().min(0).max(0xffff_ffff);

/** A content digest in a document. */
export const DigestJson = z.string().refine(isDigest, 'expected sha256:<64 lower-case hex>');

/** What is known of one path, without the path. */
export const FactsJson = z.strictObject({
  type: z.enum(['dir', 'file', 'symlink', 'char', 'block', 'fifo', 'socket']),
  mode: z
    .string()
    .regex(/^[0-7]{4}$/)
    .optional(),
  uid: Id,
  gid: Id,
  size: z.int().min(0).optional(),
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
  link: z.string().max(PATH_BYTES_MAX).optional(),
  link_b64: Base64.optional(),
  rdev: z
    .string()
    .regex(/^(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,9})$/)
    .optional(),
  xattrs: z.strictObject({ 'security.capability': Base64 }).optional(),
});
export type FactsJson = z.infer<typeof FactsJson>;

/** A name as JSON: text where it is UTF-8, else base64 of its bytes under another key. */
export function nameJson(key: 'path' | 'link', name: ByteString): { [key: string]: string } {
  const text = toUtf8(name);
  return text === undefined ? { [`${key}_b64`]: toBase64(toBytes(name)) } : { [key]: text };
}

/** The inverse of `nameJson`; undefined if neither spelling is there, the base64 one where text would do, or it is no base64. */
export function nameFromJson(text: string | undefined, base64: string | undefined): ByteString | undefined {
  if ((text === undefined) === (base64 === undefined)) return undefined;
  // A lone surrogate has no bytes of its own: encoding would fold it into U+FFFD.
  if (text !== undefined) return text.isWellFormed() ? fromUtf8(text) : undefined;
  let bytes: Uint8Array;
  try {
    bytes = fromBase64(base64!);
  } catch (error) {
    // What a host wrote is refused, and no fault of ours.
    if (error instanceof BytesError) return undefined;
    throw error;
  }
  const out = fromBytes(bytes);
  return toUtf8(out) === undefined ? out : undefined;
}

export function factsJson(facts: Facts): FactsJson {
  return {
    type: facts.type,
    ...(facts.type === 'symlink' ? {} : { mode: facts.mode.toString(8).padStart(4, '0') }),
    uid: facts.uid,
    gid: facts.gid,
    ...(facts.size === undefined ? {} : { size: facts.size }),
    ...(facts.sha256 === undefined ? {} : { sha256: facts.sha256 }),
    ...(facts.link === undefined ? {} : nameJson('link', facts.link)),
    ...(facts.device === undefined ? {} : { rdev: facts.device }),
    ...(facts.capability === undefined ? {} : { xattrs: { 'security.capability': facts.capability } }),
  };
}

/** Facts of a document that passed `FactsJson`; undefined where its fields do not belong to its type. */
export function factsFromJson(json: FactsJson): Facts | undefined {
  const symlink = json.type === 'symlink';
  const isLinkTold = json.link !== undefined || json.link_b64 !== undefined;
  if (isLinkTold !== symlink || (json.mode === undefined) !== symlink) return undefined;
  const link = symlink ? nameFromJson(json.link, json.link_b64) : undefined;
  if (symlink && link === undefined) return undefined;
  if (json.type !== 'file' && (json.size !== undefined || json.sha256 !== undefined)) return undefined;
  // A size alone is a file whose content could not be read (docs/report.md 1.10); where that may stand, its reader knows.
  if (json.size === undefined && json.sha256 !== undefined) return undefined;
  if (json.rdev !== undefined && json.type !== 'char' && json.type !== 'block') return undefined;
  const capability = json.xattrs?.['security.capability'];
  return {
    type: json.type,
    mode: json.mode === undefined ? 0 : Number.parseInt(json.mode, 8),
    uid: json.uid,
    gid: json.gid,
    ...(json.size === undefined ? {} : { size: json.size }),
    ...(json.sha256 === undefined ? {} : { sha256: json.sha256 }),
    ...(link === undefined ? {} : { link }),
    ...(json.rdev === undefined ? {} : { device: json.rdev }),
    ...(capability === undefined ? {} : { capability }),
  };
}

/** One line of jsonl output. */
export function entryLine(entry: Entry): string {
  return `${JSON.stringify({ ...nameJson('path', entry.path), ...factsJson(entry) })}\n`;
}
