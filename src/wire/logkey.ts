/**
 * The evidence log's key as the server tells it to its hosts (docs/report.md 9.2): signed by the server's own key, which enrolment pinned. From then on
 * the log's key counts, and no other for that log.
 */
import { z } from 'zod';
import { canonicalJson } from '#src/signing/canonical.ts';
import { EnvelopeJson, envelopeFromJson, envelopeJson, signEnvelope, verifyEnvelope } from '#src/signing/dsse.ts';
import type { PublicKey, Signer, Verify } from '#src/signing/ed25519.ts';
import { parseVkey, printVkey, type NoteKey } from '#src/signing/note.ts';
import { BootproofError } from '#src/error.ts';

export class LogKeyError extends BootproofError</** Not what the server's key signed. */
'LOG_KEY_INVALID'> {}

export const LOG_KEY_TYPE = 'application/vnd.bootproof.log-key+json';
const BYTES_MAX = 4096;

const LogKey = z.object({ version: z.literal(1), vkey: z.string().max(1024) });

/** Envelope of the log's key, signed by the server's. */
export async function sealLogKey(key: NoteKey, server: Signer): Promise<EnvelopeJson> {
  const document: z.infer<typeof LogKey> = { version: 1, vkey: printVkey(key) };
  return envelopeJson(await signEnvelope(LOG_KEY_TYPE, canonicalJson(document), server));
}

/** @throws {LogKeyError} */
export async function openLogKey(json: EnvelopeJson, server: PublicKey, verify: Verify): Promise<NoteKey> {
  let key: NoteKey;
  try {
    const envelope = envelopeFromJson(json, LOG_KEY_TYPE, BYTES_MAX);
    if (!(await verifyEnvelope(envelope, server, verify)))
      throw new LogKeyError(
        'LOG_KEY_INVALID',
        'the key of the log is not signed by the server that this host was enrolled with',
      );
    const { vkey } = LogKey.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(envelope.payload)));
    key = parseVkey(vkey);
  } catch (cause) {
    if (cause instanceof LogKeyError) throw cause;
    throw new LogKeyError('LOG_KEY_INVALID', 'what the server told as the key of its log is none', { cause });
  }
  return key;
}
