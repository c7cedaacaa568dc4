/** The store's contract, continued (store.ts): who may do what. Secrets come here as their hashes and never leave as anything else. */
import type { Instant } from '#src/clock.ts';
import type * as r from './records.ts';
import type { PageRequest } from './store.ts';

export type AccountKind = 'person' | 'service';

/** Whoever may hold roles, beside the holder of the first day's admin token, who has no account. */
export type Account = {
  /** What the trail names; never given to another one. */
  readonly id: string;
  readonly kind: AccountKind;
  readonly name: string;
  /** Who vouches for the person, and the name of the person there; null for a service. */
  readonly issuer: string | null;
  readonly subject: string | null;
  readonly email: string | null;
  /** The groups that the issuer told at the last sign-in. */
  readonly claims: readonly string[];
  readonly createdAt: Instant;
  readonly createdBy: string;
  readonly signedInAt: Instant | null;
  readonly disabledAt: Instant | null;
};

/** A role for an account, or for everybody whom the issuer counts to a group. */
export type Binding = {
  readonly id: string;
  readonly holder: { readonly kind: 'account' | 'claim'; readonly id: string };
  readonly role: string;
  /** With all groups below it; null: every host, and all that belongs to no host. */
  readonly group: string | null;
  readonly createdAt: Instant;
  readonly createdBy: string;
};

export type Session = {
  /** SHA-256 of what the browser has, lower-case hex: its name for people too. */
  readonly hash: string;
  readonly accountId: string;
  /** What must still be so for it to count; null for nothing. */
  readonly mark: string | null;
  readonly createdAt: Instant;
  readonly seenAt: Instant;
  /** Over by then unless something is asked before. */
  readonly idleUntil: Instant;
  readonly endsAt: Instant;
  readonly address: string;
};

export type ApiToken = {
  readonly id: string;
  readonly hash: string;
  readonly name: string;
  /** The account whose id its acts carry. */
  readonly owner: string;
  /** A JSON value: roles and host groups, at most those of the owner. */
  readonly grants: unknown;
  readonly createdAt: Instant;
  readonly createdBy: string;
  readonly expiresAt: Instant;
  readonly revokedAt: Instant | null;
  /** To the minute or so. */
  readonly usedAt: Instant | null;
};

/** An account with what is bound to it, by its id or by a claim of its last sign-in. */
export type Held = { readonly account: Account; readonly bindings: readonly Binding[] };

export interface AccessStore {
  /** With bindings. */
  account(id: string): Promise<Held | undefined>;
  /** By id. */
  accounts(page: PageRequest<{ readonly id: string }>): Promise<r.Page<Account, { readonly id: string }>>;
  /**
   * A person whom the issuer vouched for: the account of (issuer, subject) with what is told now, or a new one under the first of `ids`
   * that nobody has. A disabled one stays so. Undefined where all of `ids` are taken.
   */
  person(
    told: Pick<Account, 'name' | 'email' | 'claims'> & {
      readonly issuer: string;
      readonly subject: string;
      readonly ids: readonly string[];
    },
    at: Instant,
  ): Promise<Held | undefined>;
  /** False where the id is taken. */
  createService(service: Pick<Account, 'id' | 'name'>, by: r.Act): Promise<boolean>;
  /** With `true` its sessions end; its tokens stop counting as long as it is so. False where it is so already, or not there. */
  setDisabled(id: string, disabled: boolean, by: r.Act): Promise<boolean>;

  /** All of them, by holder: a house has tens. */
  bindings(): Promise<readonly Binding[]>;
  /** False where that very binding stands. The sessions of whoever gains it end: who comes back comes with the new roles. */
  bind(binding: Omit<Binding, 'createdAt' | 'createdBy'>, by: r.Act): Promise<boolean>;
  /** As `bind`: sessions end. False where it is not there. */
  unbind(id: string, by: r.Act): Promise<boolean>;

  /** With the trail's entry of the sign-in. At most `keep` of an account stay, the newest. */
  beginSession(session: Session, by: r.Act, entry: Pick<r.AuditEntry, 'after'>, keep: number): Promise<void>;
  /** With its account; `held` is undefined where it has none (the admin token's). */
  session(hash: string): Promise<{ readonly session: Session; readonly held: Held | undefined } | undefined>;
  touchSession(hash: string, seenAt: Instant, idleUntil: Instant): Promise<void>;
  /** False where it was over. */
  endSession(hash: string, by: r.Act): Promise<boolean>;
  /** Every session of an account; how many there were. */
  endSessions(accountId: string, by: r.Act): Promise<number>;
  /** Of one account, or of all: those that are not over at `now`, newest first, at most `limit`. */
  sessions(accountId: string | null, now: Instant, limit: number): Promise<readonly Session[]>;
  /** Drops those that are over; how many. */
  sweepSessions(now: Instant): Promise<number>;

  createToken(token: Omit<ApiToken, 'createdAt' | 'createdBy' | 'revokedAt' | 'usedAt'>, by: r.Act): Promise<void>;
  token(hash: string): Promise<{ readonly token: ApiToken; readonly held: Held | undefined } | undefined>;
  tokenById(id: string): Promise<ApiToken | undefined>;
  tokens(
    owner: string | null,
    page: PageRequest<{ readonly id: string }>,
  ): Promise<r.Page<ApiToken, { readonly id: string }>>;
  /** False where it was revoked before, or is not there. */
  revokeToken(id: string, by: r.Act): Promise<boolean>;
  usedToken(id: string, at: Instant): Promise<void>;
}
