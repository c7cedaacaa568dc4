/**
 * Registry credentials as containers-auth.json(5) and docker's config.json hold them. A name matches whole parts only: never a
 * substring, never a parent domain.
 */
import { z } from 'zod';
import { fromBase64, toUtf8, fromBytes } from '#src/bytes.ts';
import { SourceError } from './source.ts';

export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token (distribution, "token/oauth"). */
  | { readonly kind: 'refresh'; readonly token: string };

/** What was found for a repository; `hint` says where it was looked for, if there is nothing. */
export type FoundCredentials = { readonly credentials: Credentials | undefined; readonly hint: string };

/** What one file says, ready to be asked. */
export type CredentialFile = {
  /** The most specific entry for a repository, or undefined. */
  find(registry: string, repository: string): Credentials | undefined;
  /** The program that the file names for this registry. We start none; a message can say so. */
  helper(registry: string): string | undefined;
};

const AuthFile = z.object({
  auths: z
    .record(
      z.string(),
      z.object({
        auth: z.string().optional(),
        username: z.string().optional(),
        password: z.string().optional(),
        identitytoken: z.string().optional(),
      }),
    )
    .optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
  credsStore: z.string().optional(),
});

/**
 * @param name names the file in messages.
 * @throws {SourceError} CREDENTIALS_SYNTAX, never with anything that the file holds but its keys.
 */
export function parseCredentials(text: string, name: string): CredentialFile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new SourceError('CREDENTIALS_SYNTAX', `${name} is no JSON`); // the parser's message would quote it
  }
  const parsed = AuthFile.safeParse(json);
  if (!parsed.success)
    throw new SourceError('CREDENTIALS_SYNTAX', `${name}: ${parsed.error.issues[0]!.path.join('.')} is malformed`);
  const { auths = {}, credHelpers = {}, credsStore } = parsed.data;
  const byKey = new Map(Object.entries(auths));
  const helpers = new Map(Object.entries(credHelpers));
  return {
    find(registry, repository) {
      for (const key of keysFor(registry, repository)) {
        const found = byKey.get(key);
        const credentials = found === undefined ? undefined : credentialsOf(found, `${name}: ${key}`);
        if (credentials !== undefined) return credentials;
      }
      return undefined;
    },
    helper: (registry) => helpers.get(registry) ?? (credsStore === '' ? undefined : credsStore),
  };
}

/** `host/a/b`, `host/a`, `host`, then what docker wrote: `https://host`, `https://host/v1/` … */
function* keysFor(registry: string, repository: string): Generator<string> {
  const hosts = registry === 'docker.io' ? ['docker.io', 'index.docker.io', 'registry-1.docker.io'] : [registry];
  for (const host of hosts) {
    const parts = repository.split('/');
    for (let n = parts.length; n >= 0; n--) yield [host, ...parts.slice(0, n)].join('/');
  }
  for (const host of hosts)
    for (const scheme of ['https://', 'http://'])
      for (const path of ['', '/', '/v1/', '/v1', '/v2/', '/v2']) yield `${scheme}${host}${path}`;
}

type Auth = {
  auth?: string | undefined;
  username?: string | undefined;
  password?: string | undefined;
  identitytoken?: string | undefined;
};

function credentialsOf(entry: Auth, name: string): Credentials | undefined {
  if (entry.identitytoken) return { kind: 'refresh', token: entry.identitytoken };
  if (entry.auth) {
    // Docker pads with NUL bytes now and then; containers/image strips them too.
    const text = decode(entry.auth.replace(/\0+$/, ''))?.replace(/\0+$/, '');
    const colon = text?.indexOf(':') ?? -1;
    if (text === undefined || colon < 0)
      throw new SourceError('CREDENTIALS_SYNTAX', `${name}: 'auth' is not base64 of user:password`);
    return { kind: 'password', username: text.slice(0, colon), password: text.slice(colon + 1) };
  }
  if (entry.username !== undefined && entry.password !== undefined && entry.username !== '')
    return { kind: 'password', username: entry.username, password: entry.password };
  return undefined; // `{}`: docker's way to say that a helper holds it
}

function decode(base64: string): string | undefined {
  try {
    return toUtf8(fromBytes(fromBase64(base64)));
  } catch {
    return undefined; // not base64: the caller names the entry
  }
}
