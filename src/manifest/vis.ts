/**
 * The escape of mtree names: `\ooo`, three octal digits a byte, for every byte outside `[!-~]` and for
 * `\ # * ? [ =` (docs/manifest.md, rule 1; vis(3) VIS_OCTAL). NetBSD mtree, gomtree and bsdtar all read it.
 */
import type { ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';

export class VisError extends BootproofError<'VIS_SYNTAX'> {}

const MUST_ESCAPE = /[^!-~]|[\\#*?[=]/g;
const ESCAPED = /^(?:[!-[\]-~]|\\[0-3][0-7]{2})*$/;

export function vis(bytes: ByteString): string {
  return bytes.replace(MUST_ESCAPE, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

/** @throws {VisError} for every spelling that `vis` would not have written. */
export function unvis(text: string): ByteString {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  if (!ESCAPED.test(text) || vis(bytes) !== text)
    throw new VisError('VIS_SYNTAX', `not a canonical escaped name: ${JSON.stringify(text.slice(0, 200))}`);
  return bytes;
}
