/**
 * How a registry learns who asks: Basic (RFC 7617) or a bearer token from the token server that it names (distribution, "token/jwt"
 * and "token/oauth"). Requests are made here, sent elsewhere.
 */
import { z } from 'zod';
import { fromUtf8, toBase64, toBytes } from '#src/bytes.ts';
import { TOKEN_BYTES_MAX } from '#src/limits.ts';
import type { Reach } from './address.ts';
import { parseChallenges, type Challenge } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import { allowedUrl, answerFault, type Answer, type Request } from './http.ts';
import { SourceError } from './source.ts';
import { readBounded } from './verified.ts';

/** Bearer before Basic, as the registry's own word allows. @throws {SourceError} SOURCE_ANSWER */
export function chooseChallenge(header: string, what: string): Challenge {
  const all = parseChallenges(header);
  const chosen = all.find(({ scheme }) => scheme === 'bearer') ?? all.find(({ scheme }) => scheme === 'basic');
  if (chosen !== undefined) return chosen;
  throw new SourceError(
    'SOURCE_ANSWER',
    `${what}: the registry wants a way to log in that is neither Bearer nor Basic`,
  );
}

/** @throws {SourceError} SOURCE_UNAUTHORIZED where there is no password to send. */
export function basicAuthorization(
  credentials: Credentials | undefined,
  what: string,
  hint: string | undefined,
): string {
  if (credentials?.kind !== 'password')
    throw new SourceError(
      'SOURCE_UNAUTHORIZED',
      `${what}: the registry wants a user and a password${hint === undefined ? '' : ` (${hint})`}`,
    );
  return `Basic ${toBase64(toBytes(fromUtf8(`${credentials.username}:${credentials.password}`)))}`;
}

/**
 * The question to the token server. The scope is our own, pull and nothing more, whatever the challenge says.
 * @throws {SourceError} for a realm that credentials must not go to.
 */
export function tokenRequest(
  challenge: Challenge,
  repository: string,
  credentials: Credentials | undefined,
  rules: { readonly reach: Reach; readonly plain: boolean; readonly what: string },
): Request {
  const realm = challenge.parameters.get('realm') ?? '';
  const url = new URL(allowedUrl(realm, undefined, 'SOURCE_ANSWER', `${rules.what}: the token server is`, rules));
  const scope = `repository:${repository}:pull`;
  const service = challenge.parameters.get('service');
  if (credentials?.kind === 'refresh') {
    const form = new URLSearchParams({ grant_type: 'refresh_token', client_id: 'bootproof', scope });
    if (service !== undefined) form.set('service', service);
    form.set('refresh_token', credentials.token);
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    return { url: url.href, headers, form: form.toString(), reach: rules.reach };
  }
  if (service !== undefined) url.searchParams.set('service', service);
  url.searchParams.set('scope', scope);
  const headers =
    credentials === undefined ? {} : { authorization: basicAuthorization(credentials, rules.what, undefined) };
  return { url: url.href, headers, reach: rules.reach };
}

// A token becomes a header's value: nothing that could end it.
const Token = z.string().regex(/^[\x21-\x7e]+$/);
const TokenAnswer = z.object({ token: Token.optional(), access_token: Token.optional() });

/** The token of a token server's answer. @throws {SourceError} */
export async function tokenFrom(answer: Answer, what: string, hint: string | undefined): Promise<string> {
  if (answer.status !== 200) {
    // Redirects included: credentials may have gone with the question, and none go along a redirect.
    if (answer.status >= 300 && answer.status < 400) {
      answer.cancel();
      throw new SourceError('SOURCE_REDIRECT', `${what} redirects; that is not followed`);
    }
    throw await answerFault(answer, what, hint);
  }
  const bytes = await readBounded(answer.body, TOKEN_BYTES_MAX, `${what}: the answer`);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new SourceError('SOURCE_ANSWER', `${what}: the answer is no JSON`); // and must not be quoted: it may hold a token
  }
  const parsed = TokenAnswer.safeParse(json);
  const token = parsed.success ? (parsed.data.token ?? parsed.data.access_token) : undefined;
  if (token === undefined) throw new SourceError('SOURCE_ANSWER', `${what}: no token in the answer`);
  return token;
}
