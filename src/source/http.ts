/** HTTP as the source room needs it: one question without redirects, decoding or cookies; judging the answers is pure. */
import { printableText } from '#src/terminal.ts';
import { addressClass, reaches, type Reach } from './address.ts';
import { SourceError } from './source.ts';
import { readBounded } from './verified.ts';

export type Request = {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The form of a POST; without it, a GET. */
  readonly form?: string;
  /** Addresses that the host's name may resolve to. */
  readonly reach: Reach;
  readonly signal?: AbortSignal;
};

export type Answer = {
  readonly status: number;
  /** Several fields of one name are joined by `, `. */
  header(name: string): string | undefined;
  /** As sent: no content coding is undone. Each chunk belongs to who reads it. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Ends an answer whose body is not wanted; harmless after its end. */
  cancel(): void;
};

/**
 * Asks once: follows no redirect, sends what it is given and nothing of its own that names us, and refuses with SOURCE_ADDRESS to
 * connect where `reach` does not allow. Network failures are thrown as Node has them.
 */
export type Fetch = (request: Request) => Promise<Answer>;

type Rules = { readonly reach: Reach; readonly plain: boolean; readonly what: string };

/** The URL that a redirect leads to, if we go there. @throws {SourceError} SOURCE_REDIRECT, SOURCE_ADDRESS */
export function followed(from: string, answer: Answer, rules: Rules): string {
  const location = answer.header('location');
  if (location === undefined) throw new SourceError('SOURCE_ANSWER', `${rules.what}: status ${answer.status}`);
  return allowedUrl(location, from, 'SOURCE_REDIRECT', `${rules.what}: redirected to`, rules);
}

/** A URL that a registry named, if it may be asked. @throws {SourceError} `code`, SOURCE_ADDRESS, SOURCE_PLAIN_HTTP */
export function allowedUrl(
  text: string,
  base: string | undefined,
  code: 'SOURCE_REDIRECT' | 'SOURCE_ANSWER',
  what: string,
  { reach, plain }: Rules,
): string {
  // Signed URLs of stores are long, but not this long.
  const url = text.length > 16_384 ? null : URL.parse(text, base);
  if (url === null) throw new SourceError(code, `${what} something that is no URL`);
  // Queries hold signatures: only scheme, host and path are ever shown.
  const shown = printableText(`${url.protocol}//${url.host}${url.pathname}`.slice(0, 300));
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new SourceError(code, `${what} ${shown}`);
  if (url.username !== '' || url.password !== '') throw new SourceError(code, `${what} ${shown} with a user in it`);
  const address = addressClass(url.hostname);
  if (!reaches(reach, address))
    throw new SourceError('SOURCE_ADDRESS', `${what} ${shown}, a ${address} address; that is refused`);
  if (url.protocol === 'http:' && !plain && address !== 'loopback')
    throw new SourceError('SOURCE_PLAIN_HTTP', `${what} ${shown}: plain http is refused`);
  url.hash = '';
  return url.href;
}

/** What an answer means that is not the one hoped for. */
export async function answerFault(answer: Answer, what: string, hint: string | undefined): Promise<SourceError> {
  const { status } = answer;
  const told = await errorCode(answer);
  const said = `${what}: status ${status}${told === '' ? '' : ` ${told}`}`;
  if (status === 404) return new SourceError('SOURCE_NOT_FOUND', `${said}: it is not there`);
  if (status === 401 || status === 403)
    return new SourceError('SOURCE_UNAUTHORIZED', `${said}: no access${hint === undefined ? '' : ` (${hint})`}`);
  if (status === 429 || status >= 500) return new SourceError('SOURCE_UNAVAILABLE', `${said}: try again later`);
  return new SourceError('SOURCE_ANSWER', said);
}

/** The code in the registry's error document, `''` where there is none: the one word of it that can be shown to anyone. */
async function errorCode(answer: Answer): Promise<string> {
  try {
    const bytes = await readBounded(answer.body, 65_536, 'an error document');
    const json = JSON.parse(new TextDecoder().decode(bytes)) as { errors?: { code?: unknown }[] } | null;
    const code = json?.errors?.[0]?.code;
    return typeof code === 'string' && /^[A-Z_]{1,60}$/.test(code) ? code : '';
  } catch {
    return ''; // the status was the answer; a document that cannot be read adds nothing to it
  } finally {
    answer.cancel();
  }
}
