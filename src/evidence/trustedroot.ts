/** What an auditor trusts, as a file (docs/evidence.md 6), and the fingerprint of a server's key as people hand it on. */
import { z } from 'zod';
import { BootproofError } from '#src/error.ts';
import { NoteError, parseVkey, type NoteKey } from '#src/signing/note.ts';
import { CertificateError, readPem, type Certificate } from '#src/signing/x509.ts';

export class TrustedRootError extends BootproofError<
  /** Not 64 hex digits. */
  | 'FINGERPRINT_SYNTAX'
  /** Not a trusted root of this version. */
  | 'TRUSTED_ROOT_SYNTAX'
> {}

export type TrustedRoot = {
  /** Fingerprints of server keys. */
  readonly keys: readonly string[];
  readonly logs: readonly NoteKey[];
  readonly witnesses: readonly NoteKey[];
  /** Certificates of timestamp authorities, or of who certified them. */
  readonly tsas: readonly Certificate[];
};

const Document = z.strictObject({
  format: z.literal('bootproof.trusted-root/1'),
  keys: z.array(z.string()).min(1),
  logs: z.array(z.string()).default([]),
  witnesses: z.array(z.string()).default([]),
  tsas: z.array(z.string()).default([]),
});

/** A fingerprint with or without `sha256:` before it. @throws {TrustedRootError} FINGERPRINT_SYNTAX */
export function readFingerprint(text: string): string {
  const match = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text.trim().toLowerCase());
  if (match === null)
    throw new TrustedRootError(
      'FINGERPRINT_SYNTAX',
      `${JSON.stringify(text.slice(0, 100))} is no fingerprint: expected 64 hex digits, as openssl pkey -pubin -outform DER | sha256sum prints`,
    );
  return match[1]!;
}

/** @throws {TrustedRootError} FINGERPRINT_SYNTAX, TRUSTED_ROOT_SYNTAX */
export function readTrustedRoot(text: string): TrustedRoot {
  const no = (why: string, cause?: unknown) =>
    new TrustedRootError('TRUSTED_ROOT_SYNTAX', `no trusted root (docs/evidence.md 6): ${why}`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw no('it is not JSON', cause);
  }
  const parsed = Document.safeParse(value);
  if (!parsed.success) throw no(z.prettifyError(parsed.error).replaceAll('\n', ' '));
  const { keys, logs, witnesses, tsas } = parsed.data;
  try {
    return {
      keys: keys.map(readFingerprint),
      logs: logs.map(parseVkey),
      witnesses: witnesses.map(parseVkey),
      tsas: tsas.flatMap(readPem),
    };
  } catch (cause) {
    if (!(cause instanceof NoteError || cause instanceof CertificateError)) throw cause;
    throw no(cause.message, cause);
  }
}
