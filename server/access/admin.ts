/** Who is let in for now: whoever has the admin token, by bearer or by the session that a browser got for it. */
import type { Deps } from '#server/deps.ts';
import { isAdminToken, newAdminToken, Seal, SESSION_MS, sessionSubject } from './token.ts';

const ADMIN_HASH = 'admin-token-sha256';

const decoder = new TextDecoder();
const encoder = new TextEncoder();

export class Access {
  readonly #deps: Pick<Deps, 'store' | 'clock' | 'random'>;
  readonly #seal: Seal;

  constructor(deps: Pick<Deps, 'store' | 'clock' | 'random' | 'keys'>) {
    this.#deps = deps;
    this.#seal = new Seal(deps.keys.sessionSecret, 'session');
  }

  /** Makes the admin token where there is none yet; undefined where there is one. */
  async first(): Promise<string | undefined> {
    const { store, random } = this.#deps;
    if ((await store.settings.get(ADMIN_HASH)) !== undefined) return undefined;
    const { token, hash } = newAdminToken(random);
    return (await store.settings.swap(ADMIN_HASH, null, encoder.encode(hash))) ? token : undefined;
  }

  /** Makes another admin token; the old one and every session end. */
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

  /** A session for whoever showed this token, or undefined if it is not the admin token. */
  async signIn(token: string): Promise<string | undefined> {
    const hash = await this.#hash();
    if (!isAdminToken(token, hash)) return undefined;
    return this.#seal.issue(sessionSubject(hash), this.#deps.clock() + SESSION_MS);
  }

  async isSession(session: string): Promise<boolean> {
    const subject = this.#seal.open(session, this.#deps.clock());
    return subject !== undefined && subject === sessionSubject(await this.#hash());
  }
}
