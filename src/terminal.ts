/** What every command agrees on: streams, exit codes, and how a file name may appear on a terminal. */
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';

/** The streams and environment of a command, handed in by the three `main.ts`. */
export type Io = {
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly env: Readonly<Record<string, string | undefined>>;
};
export type Stream = {
  /** Resolves when the text is with the kernel; a slow pipe holds the writer back. */
  write(text: string | Uint8Array): Promise<void>;
  readonly isTTY: boolean;
  readonly columns: number;
};

/** Exit codes (PROTOCOL 7). *Different* and *could not tell* are never the same code. */
export const EXIT = { ok: 0, different: 1, unknown: 2, usage: 64, fault: 70 } as const;
export type Exit = (typeof EXIT)[keyof typeof EXIT];

/** A command line that cannot be carried out as written: exit 64. */
export class UsageError extends BootproofError<'USAGE'> {
  constructor(message: string) {
    super('USAGE', message);
  }
}

// Control characters move the cursor or recolour the screen; the bidi and zero-width ones reorder what is read.
const UNPRINTABLE =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\\]|\p{Cs}|[\u{e0000}-\u{e007f}]/gu;

/** Text that cannot move, colour or reorder what stands around it; `\` and what is hidden appear as `\x..` or `\u{..}`. */
export function printableText(text: string): string {
  return text.replace(UNPRINTABLE, (char) => {
    const code = char.codePointAt(0)!;
    return char === '\\'
      ? '\\\\'
      : code < 0x100
        ? `\\x${code.toString(16).padStart(2, '0')}`
        : `\\u{${code.toString(16)}}`;
  });
}

/**
 * JSON for programs in which nothing can act on the terminal of a person who looks on: what `printableText` hides is written `\u....`. The
 * same document to every parser.
 */
export function jsonText(value: unknown): string {
  return JSON.stringify(value).replace(UNPRINTABLE, (text) =>
    text === '\\'
      ? text
      : Array.from({ length: text.length }, (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`).join(
          '',
        ),
  );
}

/** A file name as a person may safely see it; names that are not UTF-8 show their bytes. */
export function printable(name: ByteString): string {
  const text = toUtf8(name);
  if (text !== undefined) return printableText(text);
  return name.replace(/[^ -[\]-~]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
