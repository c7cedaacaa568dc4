/**
 * Asks a witness to cosign a checkpoint (C2SP tlog-witness, add-checkpoint; docs/log.md 8): it signs only what continues the tree that it signed
 * last. So what it refuses is told apart: that it does not know this log, or that it knows another one of its name.
 */
import { BootproofError } from '#src/error.ts';
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { printConsistencyFile } from '#src/log/prooffile.ts';
import type { Verify } from '#src/signing/ed25519.ts';
import {
  NoteError,
  parseSignatureLine,
  parseVkey,
  printSignatureLine,
  verifyNote,
  type NoteKey,
} from '#src/signing/note.ts';
import { printableText, UsageError } from '#src/terminal.ts';
import { ask, type AnchorAnswer, type AskTerms } from './ask.ts';

export class WitnessError extends BootproofError<
  /** It does not know this log: its operator must be told. */
  | 'WITNESS_LOG_UNKNOWN'
  /** It knows this log under another key. */
  | 'WITNESS_KEY'
  /** It signed something else under this log's name before: one of the two is a fork. */
  | 'WITNESS_VIEW'
  /** What it sent is not its signature. */
  | 'WITNESS_SIGNATURE'
  /** Anything else. */
  | 'WITNESS_ANSWER'
> {}

export type Witness = {
  /** Of type 4, under the witness's name. */
  readonly key: NoteKey;
  /** Its submission prefix, without a slash at its end. */
  readonly url: string;
};

/** `VKEY=URL` of the configuration. @throws {UsageError} */
export function parseWitness(text: string): Witness {
  // Neither key nor URL begins with what is looked for; a name may hold anything else.
  const at = text.search(/=https?:\/\//);
  const url = at < 0 ? null : URL.parse(text.slice(at + 1));
  if (url === null || url.username !== '' || url.search !== '' || url.hash !== '')
    throw new UsageError(
      `--witness ${printableText(text)}: expected VKEY=URL, the witness’s key and where it takes checkpoints, such as w.example+1a2b3c4d+BB…=https://w.example/submit`,
    );
  try {
    const key = parseVkey(text.slice(0, at));
    if (key.type !== 4) throw new NoteError('VKEY_SYNTAX', 'its key is one of a log, not of a witness (type 4)');
    return { key, url: url.href.replace(/\/+$/, '') };
  } catch (cause) {
    if (!(cause instanceof NoteError)) throw cause;
    throw new UsageError(`--witness ${printableText(text)}: ${printableText(cause.message)}`);
  }
}

export type WitnessQuestion = {
  readonly witness: Witness;
  /** The note that is to be cosigned. */
  readonly note: string;
  /** The last size that it signed, as far as we know. */
  readonly from: number;
  readonly consistency: (from: number, size: number) => Promise<readonly Uint8Array[]>;
  /** The newest size that any process of ours signed. */
  readonly newest: () => Promise<number>;
  readonly verify: Verify;
  readonly terms: AskTerms;
};

/** Its signature line, and the second that it states. Undefined: another process of ours is ahead, and asks itself. @throws {WitnessError | AskError} */
export async function askWitness(
  question: WitnessQuestion,
): Promise<{ readonly line: string; readonly time: number } | undefined> {
  const { witness, note, verify, terms, consistency, newest } = question;
  const { name } = witness.key;
  const { size, note: parsed } = readCheckpoint(note);
  let from = Math.min(question.from, size);
  // Once as we remember it, once as it says that it is; a third where a process of ours came between.
  for (let tried = 0; tried < 3; tried++) {
    const proof = await consistency(from, size);
    const body = printConsistencyFile({ old: from, proof, checkpoint: note });
    const answer = await ask(`${witness.url}/add-checkpoint`, { type: 'text/plain; charset=utf-8', body }, terms);
    if (answer.status === 200) return cosignatureIn(answer, parsed.text, witness.key, verify);
    if (answer.status !== 409) throw refusalOf(answer, witness, from, size);
    const its = sizeIn(answer, name);
    if (its > size) {
      if ((await newest()) >= its) return undefined;
      throw view(
        `${name} signed ${its} entries under this log’s name, and we have ${size}`,
        'The database was restored from a backup, or somebody else signs with the log’s key',
      );
    }
    if (its === from) break;
    from = its;
  }
  throw new WitnessError(
    'WITNESS_ANSWER',
    `${name} does not stand where it says that it stands (${from}); tell its operator`,
  );
}

const view = (what: string, then: string): WitnessError =>
  new WitnessError(
    'WITNESS_VIEW',
    `${what}: the witness saw another log. ${then}. Keep the database as it is, run 'bootproof log verify', and ask the witness for its newest checkpoint`,
  );

/** C2SP tlog-witness: with 409 comes its size. */
function sizeIn({ bytes }: AnchorAnswer, name: string): number {
  const text = Buffer.from(bytes).toString('latin1');
  const digits = /^(0|[1-9][0-9]{0,15})\n?$/.exec(text)?.[1];
  if (digits === undefined || !Number.isSafeInteger(Number(digits)))
    throw new WitnessError('WITNESS_ANSWER', `${name} says that it stands elsewhere (409), and not where`);
  return Number(digits);
}

function refusalOf(
  { status, bytes }: AnchorAnswer,
  { key: { name } }: Witness,
  from: number,
  size: number,
): WitnessError {
  const text = printableText(Buffer.from(bytes).toString('utf8').trim().slice(0, 200));
  const said = `status ${status}${text === '' ? '' : `: ${text}`}`;
  switch (status) {
    case 404:
      return new WitnessError(
        'WITNESS_LOG_UNKNOWN',
        `${name} does not know this log (${said}): give its operator the log’s key, as /log/key tells it`,
      );
    case 403:
      return new WitnessError(
        'WITNESS_KEY',
        `${name} does not take the log’s signature (${said}): it knows this log under another key; give its operator what /log/key tells`,
      );
    case 422:
      return view(
        `${name} refuses that ${size} entries continue the ${from} that it signed (${said})`,
        'The log was written anew, or forked',
      );
    default:
      return new WitnessError('WITNESS_ANSWER', `${name} answers with ${said}`);
  }
}

async function cosignatureIn({ bytes }: AnchorAnswer, text: string, key: NoteKey, verify: Verify) {
  const no = (why: string, cause?: unknown) =>
    new WitnessError('WITNESS_SIGNATURE', `${key.name} sends ${why}; is it configured by the key that it has?`, {
      cause,
    });
  try {
    const lines = Buffer.from(bytes).toString('utf8').replace(/\n$/, '').split('\n').map(parseSignatureLine);
    // It may have several keys, of which one is ours to know.
    const own = lines.filter(({ name, id }) => name === key.name && id === key.id);
    const [signature] = own;
    if (signature === undefined) throw no('no signature by the key that it is known by');
    const [vouch] = await verifyNote({ text, signatures: [signature] }, [key], verify);
    return { line: printSignatureLine(signature), time: vouch!.time! };
  } catch (cause) {
    if (cause instanceof NoteError) throw no(`something else than its signature: ${cause.message}`, cause);
    throw cause;
  }
}
