/**
 * Signed notes (C2SP signed-note; docs/log.md 3): a text, an empty line, signature lines. Ed25519 as 0x01 and, for witnesses, the cosignature
 * with a time as 0x04 (C2SP tlog-cosignature). What others sign with other algorithms is carried along and not judged.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { fromBase64, fromHex, toBase64, toHex } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { CHECKPOINT_BYTES_MAX, NOTE_SIGNATURES_MAX } from '#src/limits.ts';
import { KeyError, parsePublicKey, type PublicKey, type Signer, type Verify } from './ed25519.ts';

export class NoteError extends BootproofError<
  /** Not a note, or not in its one spelling. */
  | 'NOTE_SYNTAX'
  /** More bytes or signatures than are taken. */
  | 'NOTE_TOO_LARGE'
  /** A signature in the name of a known key that is not by it: the whole note is refused. */
  | 'NOTE_SIGNATURE'
  /** None of the known keys signed it. */
  | 'NOTE_UNSIGNED'
  /** Not a verifier key that is taken. */
  | 'VKEY_SYNTAX'
> {}

/** 0x01: Ed25519 over the text. 0x04: Ed25519 over time and text. */
export type NoteKeyType = 1 | 4;

/** A key by which notes are checked, under its name. */
export type NoteKey = {
  readonly name: string;
  readonly type: NoteKeyType;
  readonly publicKey: PublicKey;
  /** Eight lower-case hex digits; a hint, never a proof. */
  readonly id: string;
};

export type NoteSignature = {
  readonly name: string;
  readonly id: string;
  /** What follows the key id: 64 bytes of Ed25519, before them 8 of time under 0x04; whatever another algorithm has. */
  readonly signature: Uint8Array;
};

export type Note = {
  /** What is signed, its last newline included. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
};

/** A signature by a known key. */
export type NoteVouch = {
  readonly key: NoteKey;
  /** POSIX seconds that a cosigner states; null under 0x01. */
  readonly time: number | null;
};

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

// No Unicode space, no plus (signed-note "Verifier keys"), no control characters.
const NAME = /^[^\s+\p{Cc}\p{Z}]{1,256}$/u;
/** A name that is given to a log here: the same, shorter, and spelt as programs know it that read the OpenAPI document. */
// eslint-disable-next-line no-control-regex -- what must not stand in it
export const ORIGIN = /^[^\s+\x00-\x1f\x7f-\x9f]{1,200}$/u;
const LINE = /^\u2014 ([^ ]+) ([A-Za-z0-9+/]+={0,2})$/;
const ID_BYTES = 4;
const ED25519_BYTES = 64;
const TIME_BYTES = 8;

/** @throws {NoteError} VKEY_SYNTAX for a name that no note can carry. */
export function noteKey(name: string, type: NoteKeyType, publicKey: PublicKey): NoteKey {
  if (!NAME.test(name))
    throw new NoteError('VKEY_SYNTAX', `a key's name has no space and no plus: ${JSON.stringify(name.slice(0, 80))}`);
  const hashed = sha256(join(encoder.encode(`${name}\n`), Uint8Array.of(type), fromHex(publicKey)));
  return { name, type, publicKey, id: toHex(hashed.subarray(0, ID_BYTES)) };
}

/** `name+id+key`, as public tools take it. */
export function printVkey({ name, type, publicKey, id }: NoteKey): string {
  return `${name}+${id}+${toBase64(join(Uint8Array.of(type), fromHex(publicKey)))}`;
}

/** @throws {NoteError} VKEY_SYNTAX for every spelling but one, for other algorithms, and for weak keys. */
export function parseVkey(text: string): NoteKey {
  // Base64 may hold a plus itself: only the first two part.
  const match = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})$/.exec(text);
  if (match === null) throw new NoteError('VKEY_SYNTAX', 'expected a verifier key: name+8 hex digits+base64');
  const [, name = '', id = '', coded = ''] = match;
  let key: NoteKey;
  try {
    const bytes = fromBase64(coded);
    const type = bytes[0];
    if (type !== 1 && type !== 4)
      throw new NoteError('VKEY_SYNTAX', `algorithm ${type} is not taken: Ed25519 (1) and its cosignature (4) are`);
    key = noteKey(name, type, parsePublicKey(toHex(bytes.subarray(1))));
  } catch (cause) {
    if (cause instanceof NoteError) throw cause;
    throw new NoteError('VKEY_SYNTAX', cause instanceof KeyError ? cause.message : 'the key is not base64', { cause });
  }
  if (key.id !== id) throw new NoteError('VKEY_SYNTAX', `the key's id is ${key.id}, not ${id}`);
  return key;
}

/**
 * Reads a note. Says nothing of its signatures.
 * @throws {NoteError} NOTE_TOO_LARGE, NOTE_SYNTAX.
 */
export function parseNote(source: string | Uint8Array): Note {
  if (source.length > CHECKPOINT_BYTES_MAX)
    throw new NoteError('NOTE_TOO_LARGE', `${source.length} bytes; ${CHECKPOINT_BYTES_MAX} are taken`);
  const whole = typeof source === 'string' ? source : decode(source);
  if (!whole.isWellFormed() || Array.from(whole).some((char) => char < ' ' && char !== '\n'))
    throw new NoteError('NOTE_SYNTAX', 'a note has no control characters');
  // The last empty line: the text may hold some itself.
  const at = whole.lastIndexOf('\n\n');
  if (at < 0 || !whole.endsWith('\n') || at + 2 >= whole.length)
    throw new NoteError('NOTE_SYNTAX', 'a note is a text, an empty line and signature lines, each ended by a newline');
  const lines = whole.slice(at + 2, -1).split('\n');
  if (lines.length > NOTE_SIGNATURES_MAX)
    throw new NoteError('NOTE_TOO_LARGE', `${lines.length} signatures; ${NOTE_SIGNATURES_MAX} are taken`);
  return { text: whole.slice(0, at + 1), signatures: lines.map(parseSignatureLine) };
}

/** @throws {NoteError} NOTE_SYNTAX for anything but one signature line without its newline. */
export function parseSignatureLine(line: string): NoteSignature {
  const [, name = '', coded = ''] = LINE.exec(line) ?? [];
  let bytes: Uint8Array | undefined;
  try {
    bytes = fromBase64(coded);
  } catch {
    // told with the rest: the line has not the form of one
  }
  if (!NAME.test(name) || bytes === undefined || bytes.length <= ID_BYTES)
    throw new NoteError('NOTE_SYNTAX', `not a signature line: ${JSON.stringify(line.slice(0, 80))}`);
  return { name, id: toHex(bytes.subarray(0, ID_BYTES)), signature: bytes.subarray(ID_BYTES) };
}

/** One line without its newline. */
export function printSignatureLine({ name, id, signature }: NoteSignature): string {
  return `\u2014 ${name} ${toBase64(join(fromHex(id), signature))}`;
}

export function printNote({ text, signatures }: Note): string {
  return `${text}\n${signatures.map((one) => `${printSignatureLine(one)}\n`).join('')}`;
}

/** Signs a text as 0x01. The text ends in a newline and has no empty line at its end. */
export async function signNote(text: string, name: string, signer: Signer): Promise<NoteSignature> {
  const { id } = noteKey(name, 1, signer.publicKey);
  return { name, id, signature: await signer.sign(encoder.encode(text)) };
}

/** Cosigns a checkpoint's text as 0x04, stating a time in POSIX seconds. */
export async function cosignNote(text: string, name: string, signer: Signer, time: number): Promise<NoteSignature> {
  const { id } = noteKey(name, 4, signer.publicKey);
  const stamp = new Uint8Array(TIME_BYTES);
  new DataView(stamp.buffer).setBigUint64(0, BigInt(time));
  return { name, id, signature: join(stamp, await signer.sign(cosigned(text, time))) };
}

/** C2SP tlog-cosignature: what is signed under 0x04. */
function cosigned(text: string, time: number): Uint8Array {
  return encoder.encode(`cosignature/v1\ntime ${time}\n${text}`);
}

/**
 * Which of `keys` signed the note. Signatures of others are ignored.
 * @throws {NoteError} NOTE_SIGNATURE where one in the name of a known key is not by it, NOTE_UNSIGNED where none is by any of them.
 */
export async function verifyNote(note: Note, keys: readonly NoteKey[], verify: Verify): Promise<readonly NoteVouch[]> {
  const vouches: NoteVouch[] = [];
  for (const signature of note.signatures) {
    const key = keys.find(({ name, id }) => name === signature.name && id === signature.id);
    if (key === undefined) continue;
    const vouch = await vouchOf(note.text, signature, key, verify);
    if (vouch === undefined)
      throw new NoteError('NOTE_SIGNATURE', `the signature named ${key.name} is not by the key ${key.id}`);
    if (!vouches.some((before) => before.key === key)) vouches.push(vouch);
  }
  if (vouches.length === 0)
    throw new NoteError(
      'NOTE_UNSIGNED',
      `signed by ${note.signatures.map(({ name, id }) => `${name} (${id})`).join(', ')}; expected ${keys.map(({ name, id }) => `${name} (${id})`).join(' or ')}`,
    );
  return vouches;
}

async function vouchOf(
  text: string,
  { signature }: NoteSignature,
  key: NoteKey,
  verify: Verify,
): Promise<NoteVouch | undefined> {
  if (key.type === 1)
    return signature.length === ED25519_BYTES && (await verify(key.publicKey, encoder.encode(text), signature))
      ? { key, time: null }
      : undefined;
  if (signature.length !== TIME_BYTES + ED25519_BYTES) return undefined;
  const stamp = new DataView(signature.buffer, signature.byteOffset, TIME_BYTES).getBigUint64(0);
  // Beyond what a number holds exactly there is no time, and the text that was signed would be another.
  if (stamp > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  const time = Number(stamp);
  return (await verify(key.publicKey, cosigned(text, time), signature.subarray(TIME_BYTES)))
    ? { key, time }
    : undefined;
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new NoteError('NOTE_SYNTAX', 'a note is UTF-8', { cause });
  }
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
