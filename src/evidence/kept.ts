/**
 * A checkpoint that somebody kept, as a file (docs/evidence.md 6): a note as `/log/checkpoint` serves it, or what `bootproof agent checkpoint` prints: the
 * same in an envelope signed by the host. It counts only if the log's own key signed it.
 */
import { z } from 'zod';
import { BootproofError } from '#src/error.ts';
import { openCheckpoint } from '#src/log/checkpoint.ts';
import { parseEnvelope, verifyEnvelope, type Envelope } from '#src/signing/dsse.ts';
import type { PublicKey, Verify } from '#src/signing/ed25519.ts';
import type { NoteKey } from '#src/signing/note.ts';
import { HostId } from '#src/wire/hostid.ts';

export class KnownError extends BootproofError</** What a host signed is no checkpoint that it kept. */
'KNOWN_CHECKPOINT'> {}

export const KEPT_PAYLOAD_TYPE = 'application/vnd.bootproof.checkpoint+json';
const PAYLOAD_BYTES_MAX = 2 ** 20;

export type KeptCheckpoint = {
  readonly name: string;
  readonly size: number;
  readonly root: Uint8Array;
  /** Null for a note alone. */
  readonly host: string | null;
  readonly envelope: Envelope | null;
  /** Why the host refused a later one, if it did. */
  readonly refused: string | null;
};

/** What is needed of it; agents of later versions may say more. */
const Document = z.object({
  host: HostId,
  checkpoint: z.string().nullable(),
  refused: z.object({ code: z.string().max(100), why: z.string().max(2000) }).nullish(),
});

/** @throws {BootproofError} for what is none, and for a checkpoint that this log did not sign */
export async function openKept(name: string, text: string, log: NoteKey, verify: Verify): Promise<KeptCheckpoint> {
  if (!text.startsWith('{')) {
    const { size, root } = await openCheckpoint(text, log, verify);
    return { name, size, root, host: null, envelope: null, refused: null };
  }
  const envelope = parseEnvelope(text.trimEnd(), KEPT_PAYLOAD_TYPE, PAYLOAD_BYTES_MAX);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(envelope.payload));
  } catch {
    // told below: it is no document
  }
  const parsed = Document.safeParse(value);
  if (!parsed.success) throw new KnownError('KNOWN_CHECKPOINT', 'what is signed there is not what a host prints');
  const { host, checkpoint, refused } = parsed.data;
  const told = refused ? `${refused.why} [${refused.code}]` : null;
  if (checkpoint === null)
    throw new KnownError(
      'KNOWN_CHECKPOINT',
      `${host} kept none${told === null ? '' : `: it refused what it was told: ${told}`}`,
    );
  const { size, root } = await openCheckpoint(checkpoint, log, verify);
  return { name, size, root, host, envelope, refused: told };
}

/** Whether the host that it names signed it; true for a note alone, undefined where that host's key is not known. */
export async function isByHost(
  { host, envelope }: KeptCheckpoint,
  keyOf: (host: string) => PublicKey | undefined,
  verify: Verify,
): Promise<boolean | undefined> {
  if (host === null || envelope === null) return true;
  const key = keyOf(host);
  return key === undefined ? undefined : verifyEnvelope(envelope, key, verify);
}
