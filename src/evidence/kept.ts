/**
 * Checkpoints that somebody kept (docs/evidence.md 4.6): a note as `/log/checkpoint` serves it, or what `bootproof agent checkpoint` prints: the same
 * in an envelope signed by the host. It counts only if the log's own key signed it; who kept it, the auditor knows who brings it.
 */
import { BootproofError } from '#src/error.ts';
import { openCheckpoint } from '#src/log/checkpoint.ts';
import { parseEnvelope } from '#src/signing/dsse.ts';
import type { Verify } from '#src/signing/ed25519.ts';
import type { NoteKey } from '#src/signing/note.ts';

export class KnownError extends BootproofError<'KNOWN_CHECKPOINT'> {}

export const KEPT_PAYLOAD_TYPE = 'application/vnd.bootproof.checkpoint+json';
const PAYLOAD_BYTES_MAX = 64 * 1024;

export type KeptCheckpoint = { readonly name: string; readonly size: number; readonly root: Uint8Array };

/** @throws {BootproofError} for what is none, and for a checkpoint that this log did not sign */
export async function openKept(name: string, text: string, log: NoteKey, verify: Verify): Promise<KeptCheckpoint> {
  const { size, root } = await openCheckpoint(noteIn(text), log, verify);
  return { name, size, root };
}

function noteIn(text: string): string {
  if (!text.startsWith('{')) return text;
  const { payload } = parseEnvelope(text.trimEnd(), KEPT_PAYLOAD_TYPE, PAYLOAD_BYTES_MAX);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch {
    // told below
  }
  const { checkpoint } = (typeof value === 'object' && value !== null ? value : {}) as { checkpoint?: unknown };
  if (typeof checkpoint !== 'string')
    throw new KnownError('KNOWN_CHECKPOINT', 'what the host signed holds no checkpoint');
  return checkpoint;
}
