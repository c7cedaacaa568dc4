/** What people decide about each other: accounts of services, roles, tokens, and the end of any of them (docs/access.md). */
import type { Instant } from '#src/clock.ts';
import { covers, lies } from '#src/finding/scope.ts';
import { BootproofError } from '#src/error.ts';
import { API_TOKEN_MS_MAX, PAGE_ITEMS_MAX } from '#src/limits.ts';
import { madeWith, type Access } from '#server/access/admin.ts';
import { newApiToken } from '#server/access/apitoken.ts';
import {
  both,
  FIRST_ADMIN,
  grantsOf,
  includes,
  isFleetWide,
  type Grant,
  type Principal,
  type Role,
} from '#server/access/principal.ts';
import type { Deps } from '#server/deps.ts';
import type { ApiToken, Binding, Held, Session } from '#server/store/accessrecords.ts';
import { actOf, mustBe } from './may.ts';

export class AccessError extends BootproofError<
  | 'USER_UNKNOWN'
  | 'USER_EXISTS'
  | 'BINDING_UNKNOWN'
  | 'API_TOKEN_UNKNOWN'
  /** It would reach further than whoever it is of. */
  | 'API_TOKEN_SCOPE'
  | 'SESSION_UNKNOWN'
  | 'FORBIDDEN'
> {}

export type AccessDeps = Pick<Deps, 'store' | 'clock' | 'random'> & { readonly access: Access };

const idOf = (prefix: string, { random }: Pick<Deps, 'random'>): string =>
  `${prefix}_${Buffer.from(random(10)).toString('hex')}`;

/** @throws {AccessError} USER_UNKNOWN */
export async function accountOf(id: string, { store }: Pick<Deps, 'store'>): Promise<Held> {
  const held = await store.access.account(id);
  if (held === undefined)
    throw new AccessError('USER_UNKNOWN', `there is no account ${id}; people get theirs when they first sign in`);
  return held;
}

/** An account for a program: it has no way in but API tokens. @throws {AccessError} USER_EXISTS */
export async function createService(name: string, who: Principal, deps: AccessDeps): Promise<Held> {
  const id = `service:${name}`;
  if (!(await deps.store.access.createService({ id, name }, actOf(who, deps.clock()))))
    throw new AccessError(
      'USER_EXISTS',
      `there is a service ${name} already; names are not given twice, as the trail names them`,
    );
  return accountOf(id, deps);
}

/** False where it is so already. @throws {AccessError} */
export async function setDisabled(id: string, disabled: boolean, who: Principal, deps: AccessDeps): Promise<boolean> {
  await accountOf(id, deps);
  return deps.store.access.setDisabled(id, disabled, actOf(who, deps.clock()));
}

/** Answers the binding that stands then, and whether it is new. @throws {AccessError} USER_UNKNOWN */
export async function bind(
  wanted: { readonly holder: Binding['holder']; readonly role: Role; readonly group: string | null },
  who: Principal,
  deps: AccessDeps,
): Promise<{ readonly binding: Binding; readonly made: boolean }> {
  if (wanted.holder.kind === 'account') await accountOf(wanted.holder.id, deps);
  const id = idOf('rb', deps);
  const made = await deps.store.access.bind({ id, ...wanted }, actOf(who, deps.clock()));
  const all = await deps.store.access.bindings();
  const { holder, role, group } = wanted;
  const binding = all.find(
    (one) => one.holder.kind === holder.kind && one.holder.id === holder.id && one.role === role && one.group === group,
  );
  if (binding === undefined) throw new AccessError('BINDING_UNKNOWN', 'somebody took it away at the same moment');
  return { binding, made };
}

/** @throws {AccessError} BINDING_UNKNOWN */
export async function unbind(id: string, who: Principal, { store, clock }: AccessDeps): Promise<void> {
  if (!(await store.access.unbind(id, actOf(who, clock()))))
    throw new AccessError(
      'BINDING_UNKNOWN',
      `there is no binding ${id}; those of the server's settings are changed there`,
    );
}

export type TokenWanted = {
  readonly name: string;
  /** Null: the asker's own. */
  readonly owner: string | null;
  readonly roles: readonly Role[];
  /** Null: wherever the owner holds the roles. */
  readonly groups: readonly string[] | null;
  readonly lifeMs: number;
};

/** Who makes and revokes API tokens of their own: an auditor changes nothing (docs/access.md, section 2). */
export const TOKEN_MAKERS = ['viewer', 'operator', 'reviewer', 'policy_editor', 'admin'] as const;

/**
 * Makes a token. Its text is known here once and never again. One that is made with a token ends with it, at the latest.
 * @throws {AccessError | DecisionError}
 */
export async function createApiToken(
  { name, owner, roles, groups, lifeMs }: TokenWanted,
  who: Principal,
  deps: AccessDeps,
): Promise<{ readonly token: string; readonly record: ApiToken }> {
  mustBe(who, 'make API tokens', ...TOKEN_MAKERS);
  const of = owner ?? who.id;
  const held = of === FIRST_ADMIN.id ? undefined : await accountOf(of, deps);
  if (of !== who.id && (!isFleetWide(who, 'admin') || held?.account.kind !== 'service'))
    throw new AccessError('FORBIDDEN', 'tokens are one’s own; admins make those of services besides');
  const theirs = held === undefined ? grantsOf(who) : deps.access.grants(held);
  // Of one's own: never further than what is asked with, which may be a token of less.
  const most = of === who.id ? both(grantsOf(who), theirs) : theirs;
  const wanted = roles.map((role): Grant => ({ role, groups }));
  for (const { role, groups: where } of wanted) {
    const reach = most.filter((grant) => includes(grant.role, role));
    const fits =
      where === null ? reach.length > 0 : where.every((group) => reach.some((grant) => covers(grant.groups, group)));
    if (!fits)
      throw new AccessError(
        'API_TOKEN_SCOPE',
        `${of} is not ${role}${where === null ? '' : ` of ${where.join(', ')}`}: a token reaches no further than whoever it is of`,
      );
  }
  const by = who.token;
  if (by !== undefined && by.madeWith !== null)
    throw new AccessError(
      'FORBIDDEN',
      'this token was made with another one, and makes no further ones: make it with that one, or signed in as a person',
    );
  // What is granted is written down as it is now where it was made with less than the owner has.
  const granted = groups === null ? both(wanted, most) : wanted;
  const grants = by === undefined ? granted : granted.map((grant) => ({ ...grant, through: by.id }));
  const { token, hash } = newApiToken(deps.random);
  const now = deps.clock();
  // A token does not renew itself.
  const expiresAt: Instant = Math.min(now + Math.min(lifeMs, API_TOKEN_MS_MAX), by?.expiresAt ?? Infinity);
  const record = { id: idOf('tok', deps), hash, name, owner: of, grants, expiresAt };
  await deps.store.access.createToken(record, actOf(who, now));
  return { token, record: { ...record, createdAt: now, createdBy: who.id, revokedAt: null, usedAt: null } };
}

/** Whether somebody may see and end what is another one's. */
export const isOverAll = (who: Principal): boolean => isFleetWide(who, 'admin');

/** With all that were made with it. False where it was revoked before. @throws {AccessError | DecisionError} API_TOKEN_UNKNOWN */
export async function revokeApiToken(id: string, who: Principal, { store, clock }: AccessDeps): Promise<boolean> {
  mustBe(who, 'revoke API tokens', ...TOKEN_MAKERS);
  const token = await store.access.tokenById(id);
  if (token === undefined || (token.owner !== who.id && !isOverAll(who)))
    throw new AccessError('API_TOKEN_UNKNOWN', 'there is no such token of yours');
  const done = await store.access.revokeToken(id, actOf(who, clock()));
  // They count no longer from the moment that it does not (server/access/admin.ts): this is for lists and the trail to say so.
  let cursor: { readonly id: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.access.tokens>> = await store.access.tokens(null, {
      cursor,
      limit: PAGE_ITEMS_MAX,
    });
    for (const one of page.items)
      if (one.revokedAt === null && madeWith(one) === id)
        await store.access.revokeToken(one.id, actOf(who, clock(), `made with ${id}`));
    cursor = page.next;
  } while (cursor !== null);
  return done;
}

/** Signs somebody out in one browser. @throws {AccessError} SESSION_UNKNOWN */
export async function endSession(hash: string, who: Principal, { store, clock }: AccessDeps): Promise<void> {
  const found = await store.access.session(hash);
  if (found === undefined || (found.session.accountId !== who.id && !isOverAll(who)))
    throw new AccessError('SESSION_UNKNOWN', 'there is no such session of yours');
  await store.access.endSession(hash, actOf(who, clock()));
}

/** Of one account those that are not over. */
export function sessionsOf(accountId: string, { store, clock }: AccessDeps): Promise<readonly Session[]> {
  return store.access.sessions(accountId, clock(), 100);
}

/** Whether a token of somebody reaches all that it says. For lists: what it says may be more than what its owner has by now. */
export function isWhole(token: readonly Grant[], owner: readonly Grant[]): boolean {
  return token.every(({ role, groups }) =>
    owner.some((grant) => includes(grant.role, role) && lies(groups, grant.groups)),
  );
}
