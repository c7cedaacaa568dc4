/**
 * What the server says of itself while it runs (docs/operating.md 5): one event a line on standard error, JSON for a journal, words for a
 * person at a terminal. Every line has an event; those of a request have its id; none has a secret.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { pino } from 'pino';
import { jsonText, printableText, type Io } from '#src/terminal.ts';
import type { Log } from './deps.ts';

/** What is said: each with what stands left of it. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const scope = new AsyncLocalStorage<string>();

/** Runs what belongs to one request: each line that it says carries the id. */
export function inRequest<T>(id: string, run: () => T): T {
  return scope.run(id, run);
}

/** The request that this belongs to; undefined for what the clock or a job does. */
export function requestId(): string | undefined {
  return scope.getStore();
}

/** Fields that hold a secret by their name, whoever fills them in. */
const SECRET_FIELDS = ['token', 'secret', 'password', 'authorization', 'cookie', 'bearer'];
/**
 * Secrets by their shape, wherever they stand: tokens of people and of enrolment, bearers, cookies' values, and what stands before the `@`
 * of a URL. Drivers and registries put such things into the messages of their errors.
 */
const SECRET_TEXTS: readonly (readonly [RegExp, string])[] = [
  [/\bbp_(?:admin_)?[A-Za-z0-9_-]{20,}/g, 'bp_…'],
  [/\bbp1\.([a-z2-7]{16})\.[A-Za-z0-9_-]{20,}(?:\.[0-9a-f]+)?/g, 'bp1.$1.…'],
  [/\b(Bearer|Basic) +[A-Za-z0-9._~+/=-]{8,}/gi, '$1 …'],
  [/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@"'\\]+@/gi, '$1…@'],
];

/** Text without what must not be told. */
export function withoutSecrets(text: string): string {
  let out = text;
  for (const [secret, instead] of SECRET_TEXTS) out = out.replace(secret, instead);
  return out;
}

/** The server's log on standard error. */
export function logTo({ stderr }: Pick<Io, 'stderr'>, level: LogLevel = 'info'): Log {
  const written = stderr.isTTY ? readable : (line: Line) => `${jsonText(line)}\n`;
  const logger = pino(
    {
      level,
      base: null,
      timestamp: () => `,"at":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      mixin: () => {
        const request = requestId();
        return request === undefined ? {} : { request };
      },
      redact: { paths: SECRET_FIELDS.flatMap((name) => [name, `*.${name}`]), censor: '…' },
    },
    {
      write: (line: string) => {
        const parsed = JSON.parse(withoutSecrets(line)) as Line;
        // Nobody waits for a log line; what fails here has no other place to be told.
        stderr.write(written(parsed)).catch(() => {});
      },
    },
  );
  return (at, event, fields = {}) => logger[at]({ event, ...fields });
}

type Line = Readonly<Record<string, unknown>> & {
  readonly level: string;
  readonly event: string;
  readonly at: string;
};

/** `17:03:09 warn   store unavailable  error="…"`; what stands over several lines, such as a stack, is indented below. */
function readable({ level, event, at, ...fields }: Line): string {
  const short: string[] = [];
  const long: string[] = [];
  for (const [name, value] of Object.entries(fields)) {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    if (text.includes('\n')) long.push(...text.split('\n').map((line) => `         ${printableText(line)}`));
    else short.push(`${name}=${/^[^\s"=]+$/.test(text) ? printableText(text) : `"${printableText(text)}"`}`);
  }
  const head = `${at.slice(11, 19)} ${level.padEnd(5)} ${printableText(event)}`;
  return `${[[head, ...short].join('  '), ...long].join('\n')}\n`;
}
