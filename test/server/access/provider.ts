/** A real OpenID provider (oidc-provider) on loopback for tests of signing in: people by name, and ways to go wrong. */
import { createSign, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { Provider } from 'oidc-provider';

export type Person = {
  readonly name: string;
  readonly email?: string;
  readonly verified?: boolean;
  readonly groups?: readonly string[];
};

const keys = generateKeyPairSync('rsa', { modulusLength: 2048 });
const OTHER = generateKeyPairSync('rsa', { modulusLength: 2048 });
const json64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** The provider's page that asks whether to sign out; its own one asks a foreign place for a font. */
async function asks(ctx: { body: unknown }, form: string): Promise<void> {
  ctx.body = `<!doctype html><html lang="en"><title>Sign out?</title>${form}
    <button type="submit" form="op.logoutForm" name="logout" value="yes">Yes, sign me out</button></html>`;
  await Promise.resolve();
}

/** What becomes of the ID token on its way. */
export type Tamper = (claims: Record<string, unknown>) => {
  readonly claims?: object;
  readonly key?: KeyObject;
  readonly alg?: string;
};
export const FORGED: KeyObject = OTHER.privateKey;

export class TestProvider {
  readonly issuer: string;
  readonly #http: Server;
  readonly people = new Map<string, Person>();
  tamper: Tamper | null = null;
  /** Instead of asking who it is. */
  denies = false;
  /** Before `serve`: whether it has a place to sign out at. */
  offersSignOut = true;
  /** Requests that came, as `METHOD path`. */
  readonly asked: string[] = [];

  private constructor(http: Server) {
    this.#http = http;
    this.issuer = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  }

  /** As a server is told of it. */
  get settings() {
    return {
      issuer: this.issuer,
      clientId: 'bootproof',
      clientSecret: 'a secret',
      scopes: 'openid profile email groups',
      groupsClaim: 'groups',
    };
  }

  /** Listens; answers once `serve` says for whom. */
  static async open(t: TestContext): Promise<TestProvider> {
    const http = createServer();
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const provider = new TestProvider(http);
    t.after(() => provider.close());
    return provider;
  }

  async close(): Promise<void> {
    this.#http.closeAllConnections();
    if (this.#http.listening) await new Promise((resolve) => this.#http.close(resolve));
  }

  serve(redirect: string): void {
    const jwk = { ...keys.privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'k' };
    const provider = new Provider(this.issuer, {
      jwks: { keys: [jwk] },
      clients: [
        {
          client_id: 'bootproof',
          client_secret: 'a secret',
          redirect_uris: [redirect],
          post_logout_redirect_uris: [new URL('/login/out', redirect).href],
        },
      ],
      cookies: { keys: ['cookies of a test'] },
      scopes: ['openid', 'profile', 'email', 'groups'],
      claims: {
        openid: ['sub'],
        profile: ['name', 'preferred_username'],
        email: ['email', 'email_verified'],
        groups: ['groups'],
      },
      pkce: { required: () => true },
      features: {
        devInteractions: { enabled: false },
        rpInitiatedLogout: { enabled: this.offersSignOut, logoutSource: asks },
      },
      interactions: { url: (_: unknown, { uid }: { uid: string }) => `/who/${uid}` },
      findAccount: (_: unknown, id: string) => ({ accountId: id, claims: () => this.#claims(id) }),
      loadExistingGrant: async (ctx: any) => {
        const { client, session, provider: own } = ctx.oidc;
        const grant = new own.Grant({ clientId: client.clientId, accountId: session.accountId });
        grant.addOIDCScope('openid profile email groups');
        await grant.save();
        return grant;
      },
      ttl: { Session: 60, Interaction: 60, Grant: 60, AccessToken: 60, IdToken: 60, AuthorizationCode: 30 },
    } as any);
    const rest = provider.callback();
    this.#http.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const path = request.url!.split('?')[0]!;
      this.asked.push(`${request.method} ${path}`);
      if (path.startsWith('/who/')) return void this.#who(provider, request, response);
      if (path === '/token' && this.tamper !== null) this.#tampering(response, this.tamper);
      void rest(request, response);
    });
  }

  async #claims(id: string): Promise<Record<string, unknown>> {
    const { name, email, verified = true, groups = [] } = this.people.get(id) ?? { name: id };
    return { sub: id, name, preferred_username: id, email, email_verified: verified, groups };
  }

  /** A form for a person, and for a test the same with `as` in the address. */
  async #who(provider: any, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body: Buffer[] = [];
    for await (const part of request) body.push(part as Buffer);
    const as = new URLSearchParams(Buffer.concat(body).toString()).get('as');
    if (request.method !== 'POST' || as === null) {
      response.setHeader('content-type', 'text/html; charset=utf-8');
      response.end(
        `<!doctype html><html lang="en"><title>Who are you?</title><form method="post"><label>Name <input name="as"></label><button>Go on</button></form></html>`,
      );
      return;
    }
    const result = this.denies ? { error: 'access_denied' } : { login: { accountId: as } };
    await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }

  /** Another ID token in the answer of the token endpoint, signed by the provider's own key or by another one. */
  #tampering(response: ServerResponse, tamper: Tamper): void {
    const end = response.end.bind(response);
    response.end = ((chunk: unknown) => {
      const answer = JSON.parse(String(chunk)) as { id_token?: string };
      if (answer.id_token !== undefined) {
        const claims = JSON.parse(Buffer.from(answer.id_token.split('.')[1]!, 'base64url').toString()) as Record<
          string,
          unknown
        >;
        const { claims: other = {}, key = keys.privateKey, alg = 'RS256' } = tamper(claims);
        const text = `${json64({ alg, typ: 'JWT', kid: 'k' })}.${json64({ ...claims, ...other })}`;
        const signature = alg === 'none' ? '' : createSign('sha256').update(text).sign(key, 'base64url');
        answer.id_token = `${text}.${signature}`;
      }
      const bytes = Buffer.from(JSON.stringify(answer));
      response.setHeader('content-length', bytes.length);
      return end(bytes);
    }) as typeof response.end;
  }
}

/** A browser as far as cookies and redirects go. */
export class Visitor {
  readonly cookies = new Map<string, string>();
  /** The last address that was asked. */
  at = '';

  async ask(
    url: string,
    form?: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Response> {
    this.at = url;
    const response = await fetch(url, {
      redirect: 'manual',
      method: form === undefined ? 'GET' : 'POST',
      headers: {
        cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; '),
        ...(form === undefined ? {} : { origin: new URL(url).origin, 'sec-fetch-site': 'same-origin' }),
        ...headers,
      },
      ...(form === undefined ? {} : { body: new URLSearchParams(form) }),
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie)!;
      if (value === '' || /expires=Thu, 01 Jan 1970|max-age=0/i.test(cookie)) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    return response;
  }

  /** Follows redirects until `stop` says so of the next address, or something else than a redirect comes. */
  async follow(response: Response, stop: (next: string) => boolean = () => false): Promise<Response> {
    let now = response;
    for (let n = 0; n < 10 && now.status >= 300 && now.status < 400; n++) {
      const next = new URL(now.headers.get('location')!, this.at).href;
      if (stop(next)) return now;
      now = await this.ask(next);
    }
    return now;
  }

  /** From this server's page over the provider, where the person says who they are; stands where that leads. */
  async signIn(server: string, as: string, next = '/hosts', stop?: (next: string) => boolean): Promise<Response> {
    const form = await this.follow(await this.ask(`${server}/login/oidc?next=${encodeURIComponent(next)}`), stop);
    if (!this.at.includes('/who/')) return form;
    return this.follow(await this.ask(this.at, { as }), stop);
  }
}
