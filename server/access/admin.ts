/**
 * Who is let in: by the first day's admin token, by an API token, or by the session of a browser that showed who it is. Whatever the way,
 * it ends in a `Principal`, looked up anew for every request: what is revoked is over at once, in every process.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { BlockList } from 'node:net';
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import {
  SESSION_IDLE_MS,
  SESSION_MS,
  SESSIONS_MAX,
  SIGN_INS_FAILED,
  TOKENS_FAILED,
  USED_NOTED_MS,
} from '#src/limits.ts';
import type { Deps } from '#server/deps.ts';
import type { ApiToken, Held, Session } from '#server/store/accessrecords.ts';
import { cameFrom, trustedProxies, viaProxy, type Came } from './address.ts';
import { apiTokenHash } from './apitoken.ts';
import { Attempts } from './attempts.ts';
import { boundGrants, type Configured } from './bindings.ts';
import type { Oidc } from './oidc.ts';
import { both, FIRST_ADMIN, principalOf, ROLES, type Grant, type Principal } from './principal.ts';
import { hashToken, isAdminToken, newAdminToken, sessionSubject } from './token.ts';

const ADMIN_HASH = 'admin-token-sha256';

const decoder = new TextDecoder();
const encoder = new TextEncoder();

type AccessDeps = Pick<Deps, 'store' | 'clock' | 'random' | 'keys'>;

/** What a browser's cookie stands for. */
export type Entered = {
  readonly principal: Principal;
  readonly session: Session;
};

/** A token's grants as they are kept; `through`: the token that it was made with, without which they are nothing (docs/access.md 3.5). */
export const TokenGrants = z.array(
  z.strictObject({
    role: z.enum(ROLES),
    groups: z.array(z.string()).nullable(),
    through: z.string().optional(),
  }),
);

/** The token that one was made with; null where a person or the admin token made it. */
export function madeWith({ grants }: Pick<ApiToken, 'grants'>): string | null {
  return TokenGrants.parse(grants).find(({ through }) => through !== undefined)?.through ?? null;
}

export type AccessOptions = {
  /** Roles that the server's settings bind to groups of the provider. */
  readonly configured?: readonly Configured[];
  /** Proxies whose X-Forwarded-For is believed. */
  readonly proxies?: BlockList;
  /** Null: people come with the admin token alone. */
  readonly oidc?: Oidc | null;
};

export class Access {
  /** Wrong bearers, and what came instead of a sign-in. */
  readonly #tokensFailed: Attempts;
  readonly #signInsFailed: Attempts;
  readonly #proxies: BlockList;
  readonly oidc: Oidc | null;
  readonly configured: readonly Configured[];
  readonly #deps: AccessDeps;
  readonly #csrf: Uint8Array;
  /** When the use of a token or session was last written down by this process; bounded as what is written is. */
  readonly #noted = new Map<string, Instant>();

  constructor(deps: AccessDeps, { configured = [], proxies = trustedProxies([]), oidc = null }: AccessOptions = {}) {
    this.#deps = deps;
    this.configured = configured;
    this.oidc = oidc;
    this.#proxies = proxies;
    this.#tokensFailed = new Attempts(deps.clock, TOKENS_FAILED);
    this.#signInsFailed = new Attempts(deps.clock, SIGN_INS_FAILED);
    this.#csrf = createHmac('sha256', deps.keys.sessionSecret).update('bootproof csrf').digest();
  }

  // ── the first day's token ──

  /** Makes the admin token where there is none yet; undefined where there is one. */
  async first(): Promise<string | undefined> {
    const { store, random } = this.#deps;
    if ((await store.settings.get(ADMIN_HASH)) !== undefined) return undefined;
    const { token, hash } = newAdminToken(random);
    return (await store.settings.swap(ADMIN_HASH, null, encoder.encode(hash))) ? token : undefined;
  }

  /** Makes another admin token; the old one and every session that it opened end. */
  async renew(): Promise<string> {
    const { store, random, clock } = this.#deps;
    const { token, hash } = newAdminToken(random);
    const old = (await store.settings.get(ADMIN_HASH)) ?? null;
    if (!(await store.settings.swap(ADMIN_HASH, old, encoder.encode(hash)))) return this.renew();
    const by = { actor: 'console', at: clock() };
    await store.audit.append(by, {
      action: 'admin-token.renew',
      object: 'setting:admin-token',
      before: null,
      after: null,
    });
    return token;
  }

  // The hash is read each time: another process may have renewed it.
  async #hash(): Promise<string> {
    const hash = await this.#deps.store.settings.get(ADMIN_HASH);
    return hash === undefined ? '' : decoder.decode(hash);
  }

  async isAdmin(token: string): Promise<boolean> {
    return isAdminToken(token, await this.#hash());
  }

  /**
   * Nobody holds a role yet but whoever has the admin token: it holds all of them. As soon as another one may review, approving waivers is
   * for reviewers: the token is an admin like any other.
   */
  async isOneAdmin(): Promise<boolean> {
    return !this.#isReviewed(await this.#deps.store.access.bindings());
  }

  #isReviewed(bindings: readonly { readonly role: string }[]): boolean {
    return [...bindings, ...this.configured].some(({ role }) => role === 'reviewer');
  }

  async #admin(): Promise<Principal> {
    if (await this.isOneAdmin()) return FIRST_ADMIN;
    return { ...FIRST_ADMIN, roles: FIRST_ADMIN.roles.filter((role) => role !== 'reviewer') };
  }

  // ── tokens ──

  /** Where a request comes from; null where over no connection. */
  addressOf(came: Came): string | null {
    return cameFrom(came, this.#proxies);
  }

  /** Whether it comes over a proxy that the configuration names. */
  viaProxy(came: Came): boolean {
    return viaProxy(came, this.#proxies);
  }

  /** Counts a wrong bearer: the seconds to wait where there were too many, else 0. */
  wrongBearer(address: string | null): number {
    return address === null ? 0 : this.#tokensFailed.note(address);
  }

  /** Whose credential this is; undefined where it is nobody's, or no longer. */
  async bearer(credential: string): Promise<Principal | undefined> {
    if (credential.startsWith('bp_admin_')) return (await this.isAdmin(credential)) ? this.#admin() : undefined;
    const hash = apiTokenHash(credential);
    if (hash === undefined) return undefined;
    const { store, clock } = this.#deps;
    const found = await store.access.token(hash);
    const now = clock();
    if (found === undefined || !isUsable(found.token, now)) return undefined;
    const through = madeWith(found.token);
    if (through !== null && !(await this.#stands(through, now))) return undefined;
    const principal = await this.#tokenPrincipal(found.token, found.held);
    if (principal === undefined) return undefined;
    const { id, expiresAt } = found.token;
    if (this.#isDue(id, found.token.usedAt, now)) await store.access.usedToken(id, now);
    return { ...principal, token: { id, expiresAt, madeWith: through } };
  }

  /** Whether a token that another one was made with still counts: not over, and its owner not disabled. */
  async #stands(id: string, now: Instant): Promise<boolean> {
    const { store } = this.#deps;
    const token = await store.access.tokenById(id);
    if (token === undefined || !isUsable(token, now)) return false;
    if (token.owner === FIRST_ADMIN.id) return true;
    const held = await store.access.account(token.owner);
    return held !== undefined && held.account.disabledAt === null;
  }

  async #tokenPrincipal({ owner, grants }: ApiToken, held: Held | undefined): Promise<Principal | undefined> {
    const own = TokenGrants.parse(grants);
    // The admin token's own tokens have no account behind them.
    if (owner === FIRST_ADMIN.id) {
      const { roles } = await this.#admin();
      const all = roles.map((role): Grant => ({ role, groups: null }));
      return principalOf(FIRST_ADMIN, both(own, all));
    }
    if (held === undefined || held.account.disabledAt !== null) return undefined;
    return principalOf(held.account, both(own, this.grants(held)));
  }

  /** What an account may do now. */
  grants({ account, bindings }: Held): Grant[] {
    return boundGrants(account, bindings, this.configured);
  }

  // ── sessions ──

  /** A session for whoever showed the admin token, or undefined if it is another text. */
  async signIn(token: string, address: string | null = null): Promise<string | undefined> {
    const hash = await this.#hash();
    if (!isAdminToken(token, hash)) return undefined;
    return this.#begin(FIRST_ADMIN.id, sessionSubject(hash), address, { by: 'admin-token', address });
  }

  /** A session for a person whom the provider vouched for. */
  begin(accountId: string, address: string | null): Promise<string> {
    return this.#begin(accountId, null, address, { by: 'oidc', address });
  }

  async #begin(accountId: string, mark: string | null, address: string | null, after: object): Promise<string> {
    const { store, clock, random } = this.#deps;
    const secret = Buffer.from(random(32)).toString('base64url');
    const now = clock();
    const session: Session = {
      hash: hashToken(secret),
      accountId,
      mark,
      createdAt: now,
      seenAt: now,
      idleUntil: now + SESSION_IDLE_MS,
      endsAt: now + SESSION_MS,
      address: address ?? '',
    };
    await store.access.beginSession(session, { actor: accountId, at: now }, { after }, SESSIONS_MAX);
    return secret;
  }

  /** Whose session it is; undefined where it is over, whatever ended it. */
  async session(secret: string): Promise<Entered | undefined> {
    if (!/^[A-Za-z0-9_-]{43}$/.test(secret)) return undefined;
    const { store, clock } = this.#deps;
    const found = await store.access.session(hashToken(secret));
    const now = clock();
    if (found === undefined) return undefined;
    const { session, held } = found;
    if (session.endsAt <= now || session.idleUntil <= now) return undefined;
    const principal = await this.#sessionPrincipal(session, held);
    if (principal === undefined) return undefined;
    if (this.#isDue(session.hash, session.seenAt, now))
      await store.access.touchSession(session.hash, now, now + SESSION_IDLE_MS);
    return { principal, session };
  }

  async #sessionPrincipal({ accountId, mark }: Session, held: Held | undefined): Promise<Principal | undefined> {
    if (accountId === FIRST_ADMIN.id) return mark === sessionSubject(await this.#hash()) ? this.#admin() : undefined;
    if (held === undefined || held.account.disabledAt !== null) return undefined;
    const grants = this.grants(held);
    return grants.length === 0 ? undefined : principalOf(held.account, grants);
  }

  async signOut(secret: string): Promise<void> {
    const { store, clock } = this.#deps;
    const hash = hashToken(secret);
    const found = await store.access.session(hash);
    if (found !== undefined) await store.access.endSession(hash, { actor: found.session.accountId, at: clock() });
  }

  /** Seconds to wait before something that costs others something is tried again, 0 for none. */
  waitFor(address: string | null): number {
    return address === null ? 0 : this.#signInsFailed.wait(address);
  }

  /** Somebody was not let in: into the trail, as far as failures may fill it. Seconds to wait where there were too many. */
  async refused(why: string, way: 'admin-token' | 'oidc', address: string | null, more: object = {}): Promise<number> {
    const { store, clock } = this.#deps;
    const wait = this.#signInsFailed.note(address ?? '');
    if (wait === 0)
      await store.audit.append(
        { actor: 'anonymous', at: clock(), note: why.slice(0, 500) },
        { action: 'session.refuse', object: 'sign-in', before: null, after: { by: way, address, ...more } },
      );
    return wait;
  }

  /** What each form of a session's pages carries: another site can make a browser post, and does not know this. */
  csrfToken({ hash }: Pick<Session, 'hash'>): string {
    return createHmac('sha256', this.#csrf).update(hash).digest('base64url');
  }

  isCsrfToken(session: Pick<Session, 'hash'>, token: unknown): boolean {
    if (typeof token !== 'string') return false;
    const digest = (text: string) => createHash('sha256').update(text).digest();
    return timingSafeEqual(digest(token), digest(this.csrfToken(session)));
  }

  /** Whether the use of something is to be written down: once a while, and as often as it must where processes take turns. */
  #isDue(key: string, noted: Instant | null, now: Instant): boolean {
    const last = Math.max(noted ?? 0, this.#noted.get(key) ?? 0);
    if (now - last < USED_NOTED_MS) return false;
    if (this.#noted.size >= NOTED_MAX) this.#noted.clear();
    this.#noted.set(key, now);
    return true;
  }
}
const NOTED_MAX = 10_000;

export function isUsable({ revokedAt, expiresAt }: Pick<ApiToken, 'revokedAt' | 'expiresAt'>, now: Instant): boolean {
  return revokedAt === null && now < expiresAt;
}
