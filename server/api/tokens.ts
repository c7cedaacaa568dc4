/** `/api/v1/tokens`: enrolment tokens. Their text is told once, when they are made. */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { TOKEN_ID } from '#src/wire/token.ts';
import { createToken } from '#server/decisions/tokens.ts';
import type { Token as TokenRecord } from '#server/store/records.ts';
import { ApiError } from './problem.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { actOf, adminRoute, body, json, type Api } from './route.ts';
import { GroupName, LabelKey, LabelValue, Token } from './schemas.ts';
import type { ApiServices } from './services.ts';

export function tokenJson(token: TokenRecord, now: Instant): z.infer<typeof Token> {
  const { id, labels, group, maxUses, uses, createdAt, createdBy, expiresAt, revokedAt } = token;
  return {
    id,
    labels: { ...labels },
    group,
    maxUses,
    uses,
    createdAt: formatInstant(createdAt),
    createdBy,
    expiresAt: formatInstant(expiresAt),
    revokedAt: revokedAt === null ? null : formatInstant(revokedAt),
    usable: revokedAt === null && now < expiresAt && (maxUses === null || uses < maxUses),
  };
}

/** A day is enough to enrol what is at hand; a year is the most that a secret in an image should live. */
const LIFE_SECONDS = { standard: 86_400, max: 366 * 86_400 } as const;

export const TokenBody = z.strictObject({
  labels: z.record(LabelKey, LabelValue).default({}),
  group: GroupName.nullable().default(null),
  maxUses: z
    .int()
    .min(1)
    .max(1_000_000)
    .nullable()
    .default(1)
    .openapi({ description: 'Null: any number until it is over.' }),
  lifeSeconds: z.int().min(60).max(LIFE_SECONDS.max).default(LIFE_SECONDS.standard),
});

const listTokens = adminRoute({
  method: 'get',
  path: '/api/v1/tokens',
  operationId: 'listTokens',
  tags: ['tokens'],
  request: { query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: {
    200: json(z.object({ items: z.array(Token), next: z.string().nullable() }), 'Tokens, without their secrets.'),
  },
});

const postToken = adminRoute({
  method: 'post',
  path: '/api/v1/tokens',
  operationId: 'createToken',
  tags: ['tokens'],
  request: { body: body(TokenBody) },
  responses: {
    201: json(
      z.object({ id: z.string(), token: z.string(), enrol: z.string() }),
      'The token, told this once, and the line that enrols a host with it.',
    ),
  },
});

const deleteToken = adminRoute({
  method: 'delete',
  path: '/api/v1/tokens/{id}',
  operationId: 'revokeToken',
  tags: ['tokens'],
  request: {
    params: z.object({
      id: z
        .string()
        .regex(TOKEN_ID)
        .openapi({ param: { name: 'id', in: 'path' } }),
    }),
  },
  responses: {
    200: json(z.object({ done: z.boolean() }), 'Revoked; hosts that it enrolled stay. Already so: done is false.'),
  },
});

export function tokenRoutes(api: Api, services: ApiServices): void {
  const { store, clock, baseUrl } = services;

  api.openapi(listTokens, async (c) => {
    const query = c.req.valid('query');
    const bound = boundTo('tokens', query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ id: z.string() }));
    const page = await store.read.tokens({ limit: query.limit, cursor });
    return c.json({ items: page.items.map((token) => tokenJson(token, clock())), next: printCursor(page, bound) }, 200);
  });

  api.openapi(postToken, async (c) => {
    const { labels, group, maxUses, lifeSeconds } = c.req.valid('json');
    const now = clock();
    const terms = { labels, group, maxUses, expiresAt: now + lifeSeconds * 1000 };
    const { id, token } = await createToken(terms, actOf(c, now), services);
    // As an argument every user of the host could read the token in the list of processes.
    const enrol = `BOOTPROOF_ENROLL_TOKEN=${token} /usr/lib/bootproof/bootproof agent enroll --server ${baseUrl()}`;
    return c.json({ id, token, enrol }, 201, { 'Cache-Control': 'no-store' });
  });

  api.openapi(deleteToken, async (c) => {
    const { id } = c.req.valid('param');
    if ((await store.tokens.get(id)) === undefined) throw new ApiError('TOKEN_UNKNOWN', 'there is no such token');
    return c.json({ done: await store.tokens.revoke(id, actOf(c, clock())) }, 200);
  });
}
