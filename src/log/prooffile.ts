/** Proofs as files (docs/log.md 4): C2SP tlog-proof for inclusion, and the body of tlog-witness's add-checkpoint for consistency. */
import { fromBase64, toBase64 } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { CHECKPOINT_BYTES_MAX } from '#src/limits.ts';
import { HASH_BYTES } from './proof.ts';

export class ProofFileError extends BootproofError<'PROOF_FILE_SYNTAX'> {}

/** Hashes in a proof: a consistency proof of 2^53 entries has fewer, and tlog-witness takes no more. */
const HASHES_MAX = 63;
const LINE_MAX = 64;
const BYTES_MAX = CHECKPOINT_BYTES_MAX + (HASHES_MAX + 3) * LINE_MAX;
const HEAD = 'c2sp.org/tlog-proof@v1';

export type InclusionFile = {
  readonly index: number;
  /** From the leaf's sibling upward. */
  readonly proof: readonly Uint8Array[];
  /** The checkpoint's note, as it is. */
  readonly checkpoint: string;
};

export type ConsistencyFile = {
  /** Size of the older tree. */
  readonly old: number;
  readonly proof: readonly Uint8Array[];
  readonly checkpoint: string;
};

export function printInclusionFile({ index, proof, checkpoint }: InclusionFile): string {
  return `${HEAD}\nindex ${index}\n${hashLines(proof)}\n${checkpoint}`;
}

/** @throws {ProofFileError} for every spelling that `printInclusionFile` would not have written; `extra`, which nobody signs, among them. */
export function parseInclusionFile(text: string): InclusionFile {
  const { lines, checkpoint } = parted(text);
  if (lines[0] !== HEAD) throw no(`it does not begin with ${HEAD}`);
  return { index: numberIn(lines[1], 'index'), proof: lines.slice(2).map(hashIn), checkpoint };
}

export function printConsistencyFile({ old, proof, checkpoint }: ConsistencyFile): string {
  return `old ${old}\n${hashLines(proof)}\n${checkpoint}`;
}

/** @throws {ProofFileError} for every spelling that `printConsistencyFile` would not have written. */
export function parseConsistencyFile(text: string): ConsistencyFile {
  const { lines, checkpoint } = parted(text);
  return { old: numberIn(lines[0], 'old'), proof: lines.slice(1).map(hashIn), checkpoint };
}

const hashLines = (hashes: readonly Uint8Array[]) => hashes.map((hash) => `${toBase64(hash)}\n`).join('');
const no = (why: string) => new ProofFileError('PROOF_FILE_SYNTAX', `not a proof: ${why}`);

function parted(text: string): { readonly lines: readonly string[]; readonly checkpoint: string } {
  if (text.length > BYTES_MAX) throw no(`${text.length} characters; ${BYTES_MAX} are taken`);
  const at = text.indexOf('\n\n');
  if (at < 0) throw no('no empty line parts it from a checkpoint');
  return { lines: text.slice(0, at).split('\n'), checkpoint: text.slice(at + 2) };
}

function numberIn(line: string | undefined, word: string): number {
  const digits = new RegExp(`^${word} (0|[1-9][0-9]{0,15})$`).exec(line ?? '')?.[1];
  if (digits === undefined || !Number.isSafeInteger(Number(digits))) throw no(`expected ${word} and a number`);
  return Number(digits);
}

function hashIn(line: string, index: number): Uint8Array {
  if (index >= HASHES_MAX) throw no(`more than ${HASHES_MAX} hashes`);
  let hash: Uint8Array | undefined;
  try {
    hash = fromBase64(line);
  } catch {
    // told below
  }
  if (hash?.length !== HASH_BYTES) throw no('a line is no hash of 32 bytes in base64');
  return hash;
}
