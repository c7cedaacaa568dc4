/**
 * Sign-in with an OpenID provider: authorization code with PKCE, state and nonce (OpenID Connect Core 1.0, section 3.1; RFC 9700). What a
 * sign-in needs to end lies sealed in the browser that began it, so any process ends it, and none keeps what nobody comes back for.
 */
import { z } from 'zod';
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  AuthorizationResponseError,
  buildAuthorizationUrl,
  buildEndSessionUrl,
  calculatePKCECodeChallenge,
  ClientSecretBasic,
  ClientSecretPost,
  Configuration,
  customFetch,
  discovery,
  enableNonRepudiationChecks,
  fetchUserInfo,
  None,
  type CustomFetch,
} from 'openid-client';
import { BootproofError } from '#src/error.ts';
import { CLAIM_CHARS_MAX, CLAIMS_MAX, OIDC_BYTES_MAX, OIDC_TIMEOUT_MS, SIGN_IN_MS } from '#src/limits.ts';
import type { Deps } from '#server/deps.ts';
import { Seal } from './token.ts';

export class OidcError extends BootproofError<
  /** The provider does not answer, or not as one. */
  | 'OIDC_UNREACHABLE'
  /** The answer belongs to no sign-in that this browser began, or to one that is over. */
  | 'OIDC_STATE'
  /** The provider, or the person there, said no. */
  | 'OIDC_DENIED'
  /** What the provider sent does not hold: signature, audience, nonce, a code that was used. */
  | 'OIDC_ANSWER'
  | 'OIDC_SETTING'
> {}

export type OidcSettings = {
  readonly issuer: string;
  readonly clientId: string;
  /** Null: a public client; PKCE alone. */
  readonly clientSecret: string | null;
  readonly scopes: string;
  /** Where the groups stand: a claim, or a path with dots (`realm_access.roles`). */
  readonly groupsClaim: string;
};

/** Who the provider says it is. */
export type Told = {
  readonly issuer: string;
  readonly subject: string;
  readonly name: string;
  readonly email: string | null;
  readonly groups: readonly string[];
  /** Ids that would name them, best first. */
  readonly ids: readonly string[];
};

/** @throws {OidcError} OIDC_SETTING */
export function checkIssuer(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (
    url === undefined ||
    !/^https?:$/.test(url.protocol) ||
    url.search !== '' ||
    url.hash !== '' ||
    url.username !== ''
  )
    throw new OidcError(
      'OIDC_SETTING',
      `the issuer ${text}: expected the https:// address that the provider calls itself`,
    );
  if (url.protocol === 'http:' && !isLoopback(url.hostname))
    throw new OidcError(
      'OIDC_SETTING',
      `the issuer ${text}: without TLS anybody on the way could sign in as anybody; use https`,
    );
  return url;
}

const isLoopback = (host: string): boolean => /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(host);

/** What the browser keeps of a sign-in that began. */
const Flow = z.strictObject({ state: z.string(), nonce: z.string(), verifier: z.string(), next: z.string() });

export class Oidc {
  readonly settings: OidcSettings;
  readonly #deps: Pick<Deps, 'clock' | 'random' | 'log'>;
  readonly #seal: Seal;
  readonly #redirect: () => string;
  #known: Promise<Configuration> | undefined;

  /** `redirect`: where the provider sends people back to. */
  constructor(settings: OidcSettings, deps: Pick<Deps, 'clock' | 'random' | 'log' | 'keys'>, redirect: () => string) {
    checkIssuer(settings.issuer);
    this.settings = settings;
    this.#deps = deps;
    this.#seal = new Seal(deps.keys.sessionSecret, 'sign-in');
    this.#redirect = redirect;
  }

  /** For people: the provider's host. */
  get name(): string {
    return new URL(this.settings.issuer).host;
  }

  /** Where to send the browser, and what it keeps until it comes back. @throws {OidcError} OIDC_UNREACHABLE */
  async start(next: string): Promise<{ readonly url: string; readonly flow: string }> {
    const config = await this.#configuration();
    const { clock, random } = this.#deps;
    const text = () => Buffer.from(random(32)).toString('base64url');
    const flow = { state: text(), nonce: text(), verifier: text(), next: next.slice(0, NEXT_MAX) };
    const url = buildAuthorizationUrl(config, {
      redirect_uri: this.#redirect(),
      scope: this.settings.scopes,
      state: flow.state,
      nonce: flow.nonce,
      code_challenge: await calculatePKCECodeChallenge(flow.verifier),
      code_challenge_method: 'S256',
    });
    const sealed = this.#seal.issue(Buffer.from(JSON.stringify(flow)).toString('base64url'), clock() + SIGN_IN_MS);
    return { url: url.href, flow: sealed };
  }

  /**
   * Ends a sign-in: `search` is what the provider added to the address, `kept` what the browser kept.
   * @throws {OidcError}
   */
  async finish(
    search: string,
    kept: string | undefined,
  ): Promise<{ readonly told: Told; readonly next: string; readonly idToken: string | undefined }> {
    const flow = this.#opened(kept);
    const config = await this.#configuration();
    const current = new URL(this.#redirect());
    current.search = search;
    // Another state is another sign-in: perhaps somebody else's, whose account this browser must not get into.
    if (current.searchParams.get('state') !== flow.state) throw begun();
    try {
      const tokens = await authorizationCodeGrant(config, current, {
        expectedState: flow.state,
        expectedNonce: flow.nonce,
        pkceCodeVerifier: flow.verifier,
        idTokenExpected: true,
      });
      const claims = tokens.claims()!;
      const more =
        config.serverMetadata().userinfo_endpoint === undefined
          ? {}
          : await fetchUserInfo(config, tokens.access_token, claims.sub);
      return { told: this.#told({ ...more, ...claims }), next: flow.next, idToken: tokens.id_token };
    } catch (error) {
      throw this.#refusal(error);
    }
  }

  /**
   * Where the browser signs out at the provider (OpenID Connect RP-Initiated Logout 1.0, section 2); undefined where the provider offers
   * no such place, or does not answer. `idToken` says who it is about; without it the provider may ask.
   */
  async signOutAt(idToken: string | undefined): Promise<URL | undefined> {
    let config: Configuration;
    try {
      config = await this.#configuration();
    } catch (error) {
      if (error instanceof OidcError) return undefined; // signed out here all the same; the log says why
      throw error;
    }
    const { end_session_endpoint: place } = config.serverMetadata();
    if (place === undefined || !URL.canParse(place)) return undefined;
    const { protocol, hostname } = new URL(place);
    if (protocol !== 'https:' && !(protocol === 'http:' && isLoopback(hostname))) return undefined;
    return buildEndSessionUrl(config, {
      post_logout_redirect_uri: new URL(SIGNED_OUT, this.#redirect()).href,
      ...(idToken === undefined ? {} : { id_token_hint: idToken }),
    });
  }

  #opened(kept: string | undefined): z.infer<typeof Flow> {
    const text = kept === undefined ? undefined : this.#seal.open(kept, this.#deps.clock());
    if (text === undefined) throw begun();
    return Flow.parse(JSON.parse(Buffer.from(text, 'base64url').toString()));
  }

  #told(claims: Readonly<Record<string, unknown>>): Told {
    const text = (name: string) => {
      const value = claims[name];
      return typeof value === 'string' && value !== '' && value.length <= 1000 ? value.replaceAll('\0', '') : undefined;
    };
    const subject = text('sub')!;
    const email = text('email');
    const nick = text('preferred_username');
    // An address that nobody verified may be another person's.
    const named = [claims['email_verified'] === true ? email : undefined, nick, subject];
    const bases = named.filter((one) => one !== undefined).filter(isId);
    const [base = `person-${Buffer.from(this.#deps.random(6)).toString('hex')}`] = bases;
    return {
      issuer: this.settings.issuer,
      subject,
      name: (text('name') ?? nick ?? email ?? subject).slice(0, 200),
      email: email?.slice(0, 320) ?? null,
      groups: groupsIn(claims, this.settings.groupsClaim),
      ids: [base, ...Array.from({ length: 50 }, (_, n) => `${base}-${n + 2}`)],
    };
  }

  /** The provider as it describes itself, asked once; after a failure the next sign-in asks again. */
  #configuration(): Promise<Configuration> {
    this.#known ??= this.#discover().catch((error: unknown) => {
      this.#known = undefined;
      throw this.#refusal(error, true);
    });
    return this.#known;
  }

  async #discover(): Promise<Configuration> {
    const { issuer, clientId, clientSecret } = this.settings;
    const url = checkIssuer(issuer);
    const plainHttp = url.protocol === 'http:' ? [allowInsecureRequests] : [];
    const timeout = OIDC_TIMEOUT_MS / 1000;
    const found = await discovery(url, clientId, undefined, None(), {
      [customFetch]: boundedFetch,
      execute: plainHttp,
      timeout,
    });
    const server = found.serverMetadata();
    // RFC 8414: where nothing is said, HTTP Basic.
    const methods = server.token_endpoint_auth_methods_supported ?? ['client_secret_basic'];
    const proof =
      clientSecret === null
        ? None()
        : methods.includes('client_secret_basic')
          ? ClientSecretBasic(clientSecret)
          : ClientSecretPost(clientSecret);
    const config = new Configuration(server, clientId, undefined, proof);
    config[customFetch] = boundedFetch;
    config.timeout = timeout;
    for (const allow of plainHttp) allow(config);
    // Core 3.1.3.7 lets TLS stand for the signature; a proxy that ends TLS must not be able to say who somebody is.
    enableNonRepudiationChecks(config);
    return config;
  }

  #refusal(error: unknown, asking = false): BootproofError {
    if (error instanceof BootproofError) return error;
    const told = error as Error & { code?: string; error?: string; error_description?: string; cause?: unknown };
    // For whoever keeps the server: the person at the browser gets the sentence.
    this.#deps.log('warn', 'sign-in', { issuer: this.settings.issuer, error: whole(error) });
    if (error instanceof AuthorizationResponseError && told.error === 'access_denied')
      return new OidcError('OIDC_DENIED', `${this.name} did not sign you in: it says access_denied`, { cause: error });
    if (asking || isNetwork(told))
      return new OidcError(
        'OIDC_UNREACHABLE',
        `${this.name} does not answer as an OpenID provider; try again in a minute, or use the admin token. The log of the server says more`,
        { cause: error },
      );
    if (told.error === 'invalid_grant')
      return new OidcError('OIDC_ANSWER', `${this.name} does not know this sign-in any more: begin again`, {
        cause: error,
      });
    return new OidcError(
      'OIDC_ANSWER',
      `what ${this.name} answered does not hold, so nobody was signed in; begin again. The log of the server says what was wrong`,
      { cause: error },
    );
  }
}

/** Where the provider sends people who signed out there. */
export const SIGNED_OUT = '/login/out';

/** A path with a filter line; longer ones lead to the front page after the cookie would not fit. */
const NEXT_MAX = 1500;

const begun = (): OidcError =>
  new OidcError('OIDC_STATE', 'this sign-in was not begun in this browser, or more than ten minutes ago: begin again');

function isNetwork({ name, code, cause }: Error & { code?: string }): boolean {
  if (name === 'TimeoutError' || name === 'AbortError' || code === 'OAUTH_TIMEOUT') return true;
  if (name === 'TypeError' && cause !== undefined) return true;
  return cause instanceof Error && isNetwork(cause);
}

function whole(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at instanceof Error && parts.length < 5; at = at.cause) {
    const { code, error: said } = at as Error & { code?: string; error?: string };
    parts.push(
      [at.message, code, typeof said === 'string' ? said : undefined].filter((part) => part !== undefined).join(' '),
    );
  }
  return parts.join('; ').slice(0, 1000);
}

/** Words that the trail uses for others than people. */
const RESERVED = new Set(['admin', 'anonymous', 'console', 'configuration', 'server', 'nobody', 'system']);

/** Whether a text can name a person for good: readable, and like nobody else's name in the trail. */
function isId(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$/.test(text) && !RESERVED.has(text.toLowerCase());
}

function groupsIn(claims: Readonly<Record<string, unknown>>, name: string): string[] {
  let found = claims[name];
  if (found === undefined) {
    found = claims;
    for (const part of name.split('.'))
      found =
        typeof found === 'object' && found !== null && Object.hasOwn(found, part)
          ? (found as Record<string, unknown>)[part]
          : undefined;
  }
  const all = typeof found === 'string' ? [found] : Array.isArray(found) ? found : [];
  const texts = all.filter(
    (one): one is string => typeof one === 'string' && one !== '' && one.length <= CLAIM_CHARS_MAX,
  );
  return [...new Set(texts.filter((one) => !one.includes('\0')))].slice(0, CLAIMS_MAX);
}

/** Documents of a provider are small; what is larger is none. */
const boundedFetch: CustomFetch = async (url, options) => {
  const response = await fetch(url, options as RequestInit);
  if (response.body === null) return response;
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body) {
    size += part.length;
    if (size > OIDC_BYTES_MAX)
      throw new TypeError('the answer is too large', { cause: new Error(`more than ${OIDC_BYTES_MAX} bytes`) });
    parts.push(part);
  }
  return new Response(Buffer.concat(parts), { status: response.status, headers: response.headers });
};
