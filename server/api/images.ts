/** `/api/v1/images` and `/api/v1/sources`: what hosts boot, whether its manifest is there, and where images may come from. */
import { z } from '@hono/zod-openapi';
import { formatInstant } from '#src/clock.ts';
import type { Provenance } from '#src/finding/verdict.ts';
import { imageFor } from '#server/decisions/images.ts';
import { allowSource, repositoryOf, sourcePattern, SourceTerms } from '#server/decisions/sources.ts';
import { absence } from '#server/sources.ts';
import type { Image as ImageRecord, ImageInList } from '#server/store/records.ts';
import { whoOf } from './deciding.ts';
import { ApiError } from './problem.ts';
import { provenanceJson } from './provenance.ts';
import { boundTo, CURSOR, ImageParam, LIMIT, parseCursor, printCursor, queryList } from './query.ts';
import { actOf, adminRoute, body, json, type Api } from './route.ts';
import { Image, ImageDetail, Source } from './schemas.ts';
import type { ApiServices } from './services.ts';

const timeOrNull = (at: number | null): string | null => (at === null ? null : formatInstant(at));

export function imageJson(image: ImageRecord | ImageInList, provenance: Provenance): z.infer<typeof Image> {
  return {
    digest: image.digest,
    state: image.state,
    reasons: image.reasons.map((reason) => ({ ...reason })),
    attempts: image.attempts,
    nextTry: timeOrNull(image.nextTry),
    firstSeen: formatInstant(image.firstSeen),
    builtAt: timeOrNull(image.builtAt),
    config: image.config,
    repositories: [...image.repositories],
    claims: [...image.claims],
    version: image.version,
    provenance: provenanceJson(provenance),
    ...('hosts' in image ? { hosts: { ...image.hosts } } : {}),
  };
}

const listImages = adminRoute({
  method: 'get',
  path: '/api/v1/images',
  operationId: 'listImages',
  tags: ['images'],
  request: {
    query: z.strictObject({
      state: queryList(['pending', 'building', 'ready', 'failed']),
      limit: LIMIT,
      cursor: CURSOR,
    }),
  },
  responses: {
    200: json(z.object({ items: z.array(Image), next: z.string().nullable() }), 'Images that hosts named.'),
  },
});

const getImage = adminRoute({
  method: 'get',
  path: '/api/v1/images/{digest}',
  operationId: 'getImage',
  tags: ['images'],
  request: {
    params: ImageParam,
  },
  responses: {
    200: json(
      ImageDetail.extend({ via: z.enum(['digest', 'config', 'index', 'bare-hex']) }),
      'The image, by its digest or one of its aliases; `via` says which it was.',
    ),
  },
});

/** Written with escapes it still fits into the address of a request. */
const REFERENCE_MAX = 1024;

const listSources = adminRoute({
  method: 'get',
  path: '/api/v1/sources',
  operationId: 'listSources',
  tags: ['sources'],
  request: { query: z.strictObject({}) },
  responses: { 200: json(z.object({ items: z.array(Source) }), 'Sources that are allowed.') },
});

const postSource = adminRoute({
  method: 'post',
  path: '/api/v1/sources',
  operationId: 'allowSource',
  tags: ['sources'],
  request: { body: body(SourceTerms.extend({ reference: z.string().max(REFERENCE_MAX) })) },
  responses: {
    200: json(
      z.object({
        pattern: z.string(),
        warning: z
          .string()
          .optional()
          .openapi({ description: 'Why the layout or archive cannot be read by the server now; it may come later.' }),
      }),
      'Allowed; images that wait for a source are looked for at once.',
    ),
  },
});

const deleteSource = adminRoute({
  method: 'delete',
  path: '/api/v1/sources',
  operationId: 'forbidSource',
  tags: ['sources'],
  request: { query: z.strictObject({ reference: z.string().max(REFERENCE_MAX) }) },
  responses: { 200: json(z.object({ done: z.boolean() }), 'No longer allowed; manifests that were built stay.') },
});

export function imageRoutes(api: Api, services: ApiServices): void {
  const { store, clock, trust, wake } = services;

  api.openapi(listImages, async (c) => {
    const query = c.req.valid('query');
    const bound = boundTo('images', query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ at: z.int(), digest: z.string() }));
    const filter = query.state === undefined ? {} : { states: query.state };
    const page = await store.read.images({ ...filter, scope: whoOf(c).groups }, { limit: query.limit, cursor });
    const known = await trust.ofMany(page.items);
    const items = page.items.map((image) => imageJson(image, known.get(image.digest)!.provenance));
    return c.json({ items, next: printCursor(page, bound) }, 200);
  });

  api.openapi(getImage, async (c) => {
    const found = await imageFor(whoOf(c), c.req.valid('param').digest, store);
    if (found === undefined) throw new ApiError('IMAGE_UNKNOWN', 'no host has named this image');
    const { image, via } = found;
    const [aliases, manifests, signed] = await Promise.all([
      store.read.aliases(image.digest),
      store.images.manifests(image.digest),
      trust.of(image.digest),
    ]);
    return c.json(
      {
        ...imageJson(image, signed.facts.provenance),
        via,
        aliases: aliases.map((alias) => ({ ...alias })),
        warnings: image.warnings,
        manifests: manifests.map(({ rule, builtAt, trees }) => ({
          rule,
          builtAt: formatInstant(builtAt),
          trees: Object.fromEntries(
            Object.entries(trees).map(([tree, { main, extra, entries }]) => [
              tree,
              { main: { ...main }, extra, entries },
            ]),
          ),
        })),
      },
      200,
    );
  });

  api.openapi(listSources, async (c) => {
    const items = await store.sources.list();
    return c.json(
      {
        items: items.map(({ pattern, options, createdAt, createdBy }) => ({
          pattern,
          plainHttp: SourceTerms.parse(options ?? {}).plainHttp,
          createdAt: formatInstant(createdAt),
          createdBy,
        })),
      },
      200,
    );
  });

  api.openapi(postSource, async (c) => {
    const { reference, ...terms } = c.req.valid('json');
    const pattern = await allowSource(reference, terms, actOf(c, clock()), services);
    wake();
    const warning = await absence(repositoryOf(pattern));
    return c.json({ pattern, ...(warning === undefined ? {} : { warning }) }, 200);
  });

  api.openapi(deleteSource, async (c) => {
    const pattern = sourcePattern(c.req.valid('query').reference);
    return c.json({ done: await store.sources.forbid(pattern, actOf(c, clock())) }, 200);
  });
}
