/** Checkpoints (C2SP tlog-checkpoint; docs/log.md 3): a log's name, size and root, signed by its key, and perhaps by witnesses. */
import { fromBase64, toBase64 } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { type Signer, type Verify } from '#src/signing/ed25519.ts';
import {
  parseNote,
  printNote,
  signNote,
  verifyNote,
  type Note,
  type NoteKey,
  type NoteVouch,
} from '#src/signing/note.ts';
import { HASH_BYTES } from './proof.ts';

export class CheckpointError extends BootproofError<
  /** Not a checkpoint in its one spelling. */
  | 'CHECKPOINT_SYNTAX'
  /** Of another log than expected. */
  | 'CHECKPOINT_ORIGIN'
  /** Its own log did not sign it: a witness alone vouches for nothing. */
  | 'CHECKPOINT_UNSIGNED'
> {}

export type Checkpoint = {
  /** The log's name, for its life: what its address is without scheme. */
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
};

/** A checkpoint whose signatures were checked. */
export type OpenCheckpoint = Checkpoint & {
  readonly note: Note;
  /** Witnesses that are known and signed it, with the time that they state. */
  readonly witnesses: readonly NoteVouch[];
};

/** The text that is signed. We write no extension lines: no witness vouches for them. */
export function printCheckpoint({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${toBase64(root)}\n`;
}

/**
 * Reads a note's text; extension lines are taken and told nothing of.
 * @throws {CheckpointError} CHECKPOINT_SYNTAX for every spelling that `printCheckpoint` would not have written.
 */
export function parseCheckpoint(text: string): Checkpoint {
  const [origin = '', sizeText = '', rootText = '', ...rest] = text.split('\n');
  const size = Number(sizeText);
  let root: Uint8Array | undefined;
  try {
    root = fromBase64(rootText);
  } catch {
    // told with the rest
  }
  if (
    origin === '' ||
    !/^(?:0|[1-9][0-9]{0,15})$/.test(sizeText) ||
    !Number.isSafeInteger(size) ||
    root?.length !== HASH_BYTES ||
    rest.at(-1) !== '' ||
    rest.slice(0, -1).includes('')
  )
    throw new CheckpointError(
      'CHECKPOINT_SYNTAX',
      'a checkpoint is three lines: the name of the log, its size, its root in base64',
    );
  return { origin, size, root };
}

/** A checkpoint's note, signed under the log's name. Never for a tree that is not durable, never for a second tree of its size. */
export async function signCheckpoint(checkpoint: Checkpoint, signer: Signer): Promise<string> {
  const text = printCheckpoint(checkpoint);
  return printNote({ text, signatures: [await signNote(text, checkpoint.origin, signer)] });
}

/** What a note says, signed or not. @throws {NoteError | CheckpointError} for what is no checkpoint. */
export function readCheckpoint(source: string | Uint8Array): Checkpoint & { readonly note: Note } {
  const note = parseNote(source);
  return { ...parseCheckpoint(note.text), note };
}

/**
 * Reads a checkpoint and checks that its log signed it. `log` is the log's key, named as its origin.
 * @throws {NoteError | CheckpointError}
 */
export async function openCheckpoint(
  source: string | Uint8Array,
  log: NoteKey,
  verify: Verify,
  witnesses: readonly NoteKey[] = [],
): Promise<OpenCheckpoint> {
  const read = readCheckpoint(source);
  if (read.origin !== log.name)
    throw new CheckpointError(
      'CHECKPOINT_ORIGIN',
      `a checkpoint of the log ${JSON.stringify(read.origin.slice(0, 200))}, not of ${log.name}`,
    );
  const vouches = await verifyNote(read.note, [log, ...witnesses], verify);
  if (!vouches.some(({ key }) => key === log))
    throw new CheckpointError('CHECKPOINT_UNSIGNED', `witnesses signed it, the log ${log.name} did not`);
  return { ...read, witnesses: vouches.filter(({ key }) => key !== log) };
}
