/** `/api/v1/access/…`: who may do what: oneself, accounts, roles, API tokens, sessions (docs/access.md). Secrets are told once or never. */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { API_TOKEN_MS, API_TOKEN_MS_MAX } from '#src/limits.ts';
import { isUsable, madeWith, TokenGrants } from '#server/access/admin.ts';
import type { Configured } from '#server/access/bindings.ts';
import { grantsOf, ROLES, type Role } from '#server/access/principal.ts';
import {
  accountOf,
  bind,
  createApiToken,
  createService,
  endSession,
  isOverAll,
  revokeApiToken,
  sessionsOf,
  setDisabled,
  unbind,
} from '#server/decisions/access.ts';
import { isSinglePerson } from '#server/decisions/waivers.ts';
import type { Account, ApiToken, Binding, Session } from '#server/store/accessrecords.ts';
import { whoOf } from './deciding.ts';
import { ApiError } from './problem.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { adminRoute, body, json, type Api } from './route.ts';
import { GroupName, Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const TimeOrNull = z.string().nullable().openapi({ format: 'date-time' });
const time = (at: Instant | null): string | null => (at === null ? null : formatInstant(at));
const RoleName = z.enum(ROLES);
const Groups = z
  .array(z.string())
  .nullable()
  .openapi({ description: 'Host groups, each with all below it; null: every host.' });
const GrantJson = z.object({ role: RoleName, groups: Groups });
const Id = z
  .string()
  .min(1)
  .max(200)
  .refine((text) => !text.includes('\0'), 'must not hold a NUL');
const Param = z.object({ id: Id.openapi({ param: { name: 'id', in: 'path' } }) });
const NoQuery = z.strictObject({});

const Me = z
  .object({
    id: z.string().openapi({ description: 'What the trail names, and what "second person" compares.' }),
    name: z.string(),
    roles: z.array(RoleName),
    groups: Groups,
    grants: z.array(GrantJson),
    oneAdmin: z.boolean().openapi({ description: 'Nobody else may review yet: the admin token holds every role.' }),
  })
  .openapi('Me');

/** What each role is for, in the words of the pages. */
const ABOUT: Readonly<Record<Role, string>> = {
  viewer: 'reads hosts, findings, images, policies',
  auditor: 'reads all that is here, waivers and the trail too; changes nothing',
  operator: 'in their host groups: acknowledges, comments, asks for waivers, sorts and labels hosts',
  reviewer: 'decides about waivers of others, assigns findings, shares views',
  policy_editor: 'changes policies, and what is denied',
  admin: 'accounts, roles, tokens, enrolment, sources; approves waivers only in single-person mode',
};

const User = z
  .object({
    id: z.string(),
    kind: z.enum(['person', 'service']),
    name: z.string(),
    email: z.string().nullable(),
    issuer: z.string().nullable(),
    subject: z.string().nullable(),
    claims: z.array(z.string()).openapi({ description: 'Groups that the provider told at the last sign-in.' }),
    roles: z.array(
      z.object({
        role: z.string(),
        group: z.string().nullable(),
        by: z.enum(['account', 'claim', 'configuration']),
        claim: z.string().nullable(),
        binding: z.string().nullable(),
      }),
    ),
    createdAt: Time,
    createdBy: z.string(),
    signedInAt: TimeOrNull,
    disabledAt: TimeOrNull,
  })
  .openapi('User');

/** An account with the roles that it holds, and through what. */
export function userJson(
  account: Account,
  bindings: readonly Binding[],
  configured: readonly Configured[],
): z.infer<typeof User> {
  const { createdAt, signedInAt, disabledAt, claims, ...rest } = account;
  const theirs = bindings.filter(({ holder }) =>
    holder.kind === 'account' ? holder.id === account.id : claims.includes(holder.id),
  );
  const set = account.kind === 'person' ? configured.filter(({ claim }) => claims.includes(claim)) : [];
  return {
    ...rest,
    claims: [...claims],
    roles: [
      ...theirs.map(({ id, holder, role, group }) => ({
        role,
        group,
        by: holder.kind,
        claim: holder.kind === 'claim' ? holder.id : null,
        binding: id,
      })),
      ...set.map(({ claim, role, group }) => ({ role, group, by: 'configuration' as const, claim, binding: null })),
    ],
    createdAt: formatInstant(createdAt),
    signedInAt: time(signedInAt),
    disabledAt: time(disabledAt),
  };
}

export const BindingJson = z
  .object({
    id: z.string().nullable().openapi({ description: 'Null: of the server’s settings, and changed there.' }),
    holder: z.object({ kind: z.enum(['account', 'claim']), id: z.string() }),
    role: z.string(),
    group: z.string().nullable(),
    createdAt: TimeOrNull,
    createdBy: z.string(),
  })
  .openapi('RoleBinding');

const bindingJson = ({ createdAt, ...rest }: Binding): z.infer<typeof BindingJson> => ({
  ...rest,
  holder: { ...rest.holder },
  createdAt: formatInstant(createdAt),
});
const configuredJson = ({ claim, role, group }: Configured): z.infer<typeof BindingJson> => ({
  id: null,
  holder: { kind: 'claim', id: claim },
  role,
  group,
  createdAt: null,
  createdBy: 'configuration',
});

export const TokenJson = z
  .object({
    id: z.string(),
    name: z.string(),
    owner: z.string(),
    grants: z.array(GrantJson).openapi({ description: 'At most; it never reaches further than its owner does now.' }),
    createdAt: Time,
    createdBy: z.string(),
    expiresAt: Time,
    revokedAt: TimeOrNull,
    usedAt: TimeOrNull,
    usable: z.boolean(),
    madeWith: z.string().nullable().openapi({ description: 'The token that it was made with, and ends with.' }),
  })
  .openapi('ApiToken');

export function apiTokenJson(token: ApiToken, now: Instant): z.infer<typeof TokenJson> {
  const { hash: _, grants, createdAt, expiresAt, revokedAt, usedAt, ...rest } = token;
  return {
    ...rest,
    grants: TokenGrants.parse(grants).map(({ role, groups }) => ({ role, groups })),
    madeWith: madeWith(token),
    createdAt: formatInstant(createdAt),
    expiresAt: formatInstant(expiresAt),
    revokedAt: time(revokedAt),
    usedAt: time(usedAt),
    usable: isUsable(token, now),
  };
}

const SessionJson = z
  .object({ id: z.string(), user: z.string(), createdAt: Time, seenAt: Time, endsAt: Time, address: z.string() })
  .openapi('Session');
const sessionJson = ({ hash, accountId, createdAt, seenAt, endsAt, idleUntil, address }: Session) => ({
  id: hash,
  user: accountId,
  createdAt: formatInstant(createdAt),
  seenAt: formatInstant(seenAt),
  endsAt: formatInstant(Math.min(endsAt, idleUntil)),
  address,
});

const Line = z
  .string()
  .min(1)
  .max(100)
  // eslint-disable-next-line no-control-regex
  .regex(/^[^\x00-\x1f\x7f]*$/, 'expected one line of text');
/** Of the trail and of command lines: no spaces. */
const ServiceName = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'expected lower-case letters, digits and . _ -');

export const ApiTokenBody = z.strictObject({
  name: Line,
  owner: Id.nullable().default(null).openapi({ description: 'Null: oneself. A service, for admins.' }),
  roles: z.array(RoleName).min(1).max(ROLES.length),
  groups: z
    .array(GroupName)
    .min(1)
    .max(100)
    .nullable()
    .default(null)
    .openapi({ description: 'Null: wherever the owner holds the roles.' }),
  lifeSeconds: z
    .int()
    .min(60)
    .max(API_TOKEN_MS_MAX / 1000)
    .default(API_TOKEN_MS / 1000),
});
/** What a holder has in one place. */
export const RoleHeld = z.strictObject({
  role: RoleName,
  group: GroupName.nullable().default(null).openapi({ description: 'Null: every host.' }),
});

const route = <
  const Method extends 'get' | 'post' | 'patch' | 'delete',
  const Path extends string,
  const Rest extends Omit<Parameters<typeof adminRoute>[0], 'method' | 'path' | 'tags'>,
>(
  method: Method,
  path: Path,
  rest: Rest,
) => adminRoute({ method, path, tags: ['access'], ...rest });

const Done = z.object({ done: z.boolean() });
const Page = <Item extends z.ZodType>(item: Item) => z.object({ items: z.array(item), next: z.string().nullable() });

const me = route('get', '/api/v1/access/me', {
  operationId: 'getMe',
  request: { query: NoQuery },
  responses: { 200: json(Me, 'Whoever asks, and what they may.') },
});
const roles = route('get', '/api/v1/access/roles', {
  operationId: 'listRoles',
  request: { query: NoQuery },
  responses: {
    200: json(z.object({ items: z.array(z.object({ role: RoleName, about: z.string() })) }), 'The roles there are.'),
  },
});
const settings = route('get', '/api/v1/access/settings', {
  operationId: 'getAccessSettings',
  request: { query: NoQuery },
  responses: {
    200: json(
      z.object({
        oneAdmin: z.boolean(),
        singlePerson: z.boolean(),
        oidc: z
          .object({
            issuer: z.string(),
            clientId: z.string(),
            scopes: z.string(),
            groupsClaim: z.string(),
            redirect: z.string().openapi({ description: 'What the provider must know as a redirect URI.' }),
          })
          .nullable(),
      }),
      'How people sign in.',
    ),
  },
});
const users = route('get', '/api/v1/access/users', {
  operationId: 'listUsers',
  request: { query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: { 200: json(Page(User), 'People who signed in, and services.') },
});
const getUser = route('get', '/api/v1/access/users/{id}', {
  operationId: 'getUser',
  request: { params: Param },
  responses: { 200: json(User, 'The account, and what it holds through what.') },
});
const postUser = route('post', '/api/v1/access/users', {
  operationId: 'createService',
  request: { body: body(z.strictObject({ service: ServiceName })) },
  responses: { 201: json(User, 'A service: bind roles to it, then make a token of it.') },
});
const patchUser = route('patch', '/api/v1/access/users/{id}', {
  operationId: 'changeUser',
  request: { params: Param, body: body(z.strictObject({ disabled: z.boolean() })) },
  responses: { 200: json(User, 'Disabled: its sessions ended, its tokens count for nothing until it is enabled.') },
});
const bindings = route('get', '/api/v1/access/bindings', {
  operationId: 'listBindings',
  request: { query: NoQuery },
  responses: { 200: json(z.object({ items: z.array(BindingJson) }), 'Roles, and who holds them where.') },
});
const postBinding = route('post', '/api/v1/access/bindings', {
  operationId: 'bindRole',
  request: {
    body: body(
      z.strictObject({
        holder: z.strictObject({ kind: z.enum(['account', 'claim']).default('account'), id: Id }),
        ...RoleHeld.shape,
      }),
    ),
  },
  responses: {
    200: json(BindingJson, 'It stood already.'),
    201: json(BindingJson, 'Bound; whoever it is about signs in again, and then has it.'),
  },
});
const deleteBinding = route('delete', '/api/v1/access/bindings/{id}', {
  operationId: 'unbindRole',
  request: { params: Param },
  responses: { 200: json(Done, 'No longer; sessions of whoever held it ended.') },
});
const tokens = route('get', '/api/v1/access/tokens', {
  operationId: 'listApiTokens',
  request: {
    query: z.strictObject({
      owner: Id.optional().openapi({ description: 'For admins: of one account; absent: of all.' }),
      limit: LIMIT,
      cursor: CURSOR,
    }),
  },
  responses: { 200: json(Page(TokenJson), 'Tokens without their text: one’s own; admins see all.') },
});
const postToken = route('post', '/api/v1/access/tokens', {
  operationId: 'createApiToken',
  request: { body: body(ApiTokenBody) },
  responses: {
    201: json(z.object({ token: z.string(), record: TokenJson }), 'The token; its text is told this once.'),
  },
});
const deleteToken = route('delete', '/api/v1/access/tokens/{id}', {
  operationId: 'revokeApiToken',
  request: { params: Param },
  responses: { 200: json(Done, 'Revoked at once. Already so: done is false.') },
});
const sessions = route('get', '/api/v1/access/sessions', {
  operationId: 'listSessions',
  request: { query: z.strictObject({ user: Id.optional().openapi({ description: 'Of another one, for admins.' }) }) },
  responses: { 200: json(z.object({ items: z.array(SessionJson) }), 'Browsers that are signed in, newest first.') },
});
const deleteSession = route('delete', '/api/v1/access/sessions/{id}', {
  operationId: 'endSession',
  request: { params: Param },
  responses: { 200: json(Done, 'Signed out there.') },
});

export function accessRoutes(api: Api, services: ApiServices): void {
  const { store, clock, access, baseUrl } = services;
  const user = async (id: string) => {
    const { account, bindings: held } = await accountOf(id, services);
    return userJson(account, held, access.configured);
  };

  api.openapi(me, async (c) => {
    const who = whoOf(c);
    const grants = grantsOf(who).map(({ role, groups }) => ({ role, groups: groups === null ? null : [...groups] }));
    return c.json(
      {
        id: who.id,
        name: who.name,
        roles: [...who.roles],
        groups: who.groups === null ? null : [...who.groups],
        grants,
        oneAdmin: await access.isOneAdmin(),
      },
      200,
    );
  });
  api.openapi(roles, (c) => c.json({ items: ROLES.map((role) => ({ role, about: ABOUT[role] })) }, 200));
  api.openapi(settings, async (c) => {
    const { oidc } = access;
    const told = oidc === null ? null : { ...publicOf(oidc.settings), redirect: `${baseUrl()}/login/callback` };
    return c.json({ oneAdmin: await access.isOneAdmin(), singlePerson: await isSinglePerson(store), oidc: told }, 200);
  });

  api.openapi(users, async (c) => {
    const query = c.req.valid('query');
    const bound = boundTo('access/users', query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ id: z.string() }));
    const [page, all] = await Promise.all([
      store.access.accounts({ limit: query.limit, cursor }),
      store.access.bindings(),
    ]);
    const items = page.items.map((account) => userJson(account, all, access.configured));
    return c.json({ items, next: printCursor(page, bound) }, 200);
  });
  api.openapi(getUser, async (c) => c.json(await user(c.req.valid('param').id), 200));
  api.openapi(postUser, async (c) => {
    const { account } = await createService(c.req.valid('json').service, whoOf(c), services);
    return c.json(await user(account.id), 201);
  });
  api.openapi(patchUser, async (c) => {
    const { id } = c.req.valid('param');
    await setDisabled(id, c.req.valid('json').disabled, whoOf(c), services);
    return c.json(await user(id), 200);
  });

  api.openapi(bindings, async (c) => {
    const stored = await store.access.bindings();
    return c.json({ items: [...stored.map(bindingJson), ...access.configured.map(configuredJson)] }, 200);
  });
  api.openapi(postBinding, async (c) => {
    const { binding, made } = await bind(c.req.valid('json'), whoOf(c), services);
    return made ? c.json(bindingJson(binding), 201) : c.json(bindingJson(binding), 200);
  });
  api.openapi(deleteBinding, async (c) => {
    await unbind(c.req.valid('param').id, whoOf(c), services);
    return c.json({ done: true }, 200);
  });

  api.openapi(tokens, async (c) => {
    const query = c.req.valid('query');
    const who = whoOf(c);
    const owner = isOverAll(who) ? (query.owner ?? null) : who.id;
    if (query.owner !== undefined && owner !== query.owner) throw othersAre();
    const bound = boundTo(`access/tokens of ${owner ?? 'all'}`, query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ id: z.string() }));
    const page = await store.access.tokens(owner, { limit: query.limit, cursor });
    return c.json(
      { items: page.items.map((token) => apiTokenJson(token, clock())), next: printCursor(page, bound) },
      200,
    );
  });
  api.openapi(postToken, async (c) => {
    const { lifeSeconds, ...wanted } = c.req.valid('json');
    const { token, record } = await createApiToken({ ...wanted, lifeMs: lifeSeconds * 1000 }, whoOf(c), services);
    return c.json({ token, record: apiTokenJson(record, clock()) }, 201);
  });
  api.openapi(deleteToken, async (c) =>
    c.json({ done: await revokeApiToken(c.req.valid('param').id, whoOf(c), services) }, 200),
  );

  api.openapi(sessions, async (c) => {
    const who = whoOf(c);
    const of = c.req.valid('query').user ?? who.id;
    if (of !== who.id && !isOverAll(who)) throw othersAre();
    return c.json({ items: (await sessionsOf(of, services)).map(sessionJson) }, 200);
  });
  api.openapi(deleteSession, async (c) => {
    await endSession(c.req.valid('param').id, whoOf(c), services);
    return c.json({ done: true }, 200);
  });
}

const othersAre = () => new ApiError('FORBIDDEN', 'what is another one’s is for admins to see');

/** Without the secret, whatever is added to the settings. */
const publicOf = ({
  issuer,
  clientId,
  scopes,
  groupsClaim,
}: Record<'issuer' | 'clientId' | 'scopes' | 'groupsClaim', string>) => ({
  issuer,
  clientId,
  scopes,
  groupsClaim,
});
