/** /proc/cmdline: kernel arguments (Linux, lib/cmdline.c next_arg), without the secrets that some carry. */
import { toUtf8, type ByteString } from '#src/bytes.ts';
import { CMDLINE_BYTES_MAX } from '#src/limits.ts';
import { checkLength } from './error.ts';

export type Karg = {
  readonly name: string;
  /** Null for a bare word; what follows the first `=` else. */
  readonly value: string | null;
};

/**
 * The arguments in their order. White space inside double quotes belongs to the argument, the quotes themselves do not.
 * @throws {DeploymentError} HOST_TEXT_TOO_LARGE
 */
export function parseKargs(cmdline: ByteString): Karg[] {
  checkLength('the kernel command line', cmdline.length, CMDLINE_BYTES_MAX);
  const kargs: Karg[] = [];
  let [word, quoted, begun] = ['', false, false];
  const end = (): void => {
    if (begun) {
      const equals = word.indexOf('=');
      kargs.push(
        equals < 0
          ? { name: text(word), value: null }
          : { name: text(word.slice(0, equals)), value: text(word.slice(equals + 1)) },
      );
    }
    [word, begun] = ['', false];
  };
  for (const char of cmdline) {
    // Linux's isspace is latin1's: a no-break space ends a word too.
    if (!quoted && /[\t-\r \xa0]/.test(char)) end();
    else if (char === '"') [quoted, begun] = [!quoted, true];
    else [word, begun] = [word + char, true];
  }
  end();
  return kargs;
}

function text(bytes: ByteString): string {
  return toUtf8(bytes) ?? bytes;
}

const SECRET_NAME = /credential|passw|passphrase|secret|token|private[-_.]?key/i;

/** One argument as it may leave the host: values that are or carry passwords are replaced by `…`. */
export function kargText({ name, value }: Karg): string {
  if (value === null) return name;
  if (SECRET_NAME.test(name)) return `${name}=…`;
  return `${name}=${withoutUserinfo(value)}`;
}

/** Cuts what stands before the last `@` after a scheme: `http://user:password@host`, `iscsi:user:password@host::…`. */
function withoutUserinfo(value: string): string {
  const at = value.lastIndexOf('@');
  const slashes = value.indexOf('://');
  const from = slashes >= 0 ? slashes + 3 : value.indexOf(':') + 1;
  return from === 0 || at <= from ? value : `${value.slice(0, from)}…${value.slice(at)}`;
}

/** The last value of an argument, as the kernel and dracut take it; undefined where it is absent. */
export function kargValue(kargs: readonly Karg[], name: string): string | undefined {
  return kargs.findLast((karg) => karg.name === name)?.value ?? undefined;
}
