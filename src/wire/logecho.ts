/**
 * What a report says of the evidence log (docs/report.md 9.4): the checkpoint that the host keeps and, where it refused a later one, why, and that one.
 */
import { CHECKPOINT_BYTES_MAX } from '#src/limits.ts';

export type LogEcho = {
  /** The kept checkpoint's note; null where the host refused the first that it was told. */
  readonly kept: string | null;
  readonly refused: { readonly code: string; readonly checkpoint: string } | null;
};

// A checkpoint has one empty line, before its signatures, which begin with a dash: after them this cannot be part of it.
const REFUSED = /^([\s\S]*?)\nrefused ([A-Z_]{1,40})\n([\s\S]*)$/;

export function printEcho({ kept, refused }: LogEcho): string | null {
  if (refused === null) return kept;
  const text = `${kept ?? ''}\nrefused ${refused.code}\n`;
  return text.length + refused.checkpoint.length > CHECKPOINT_BYTES_MAX ? text : text + refused.checkpoint;
}

/** Says nothing of whether either is a checkpoint. */
export function parseEcho(text: string): LogEcho {
  const [, kept = '', code = '', checkpoint = ''] = REFUSED.exec(text) ?? [];
  if (code === '') return { kept: text, refused: null };
  return { kept: kept === '' ? null : kept, refused: { code, checkpoint } };
}
