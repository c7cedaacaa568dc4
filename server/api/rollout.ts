/** `/api/v1/images/{digest}/preview`: what a newer image would meet on the hosts of this one (docs/policy.md, section 11.4). */
import { z } from '@hono/zod-openapi';
import { factsJson, nameJson } from '#src/manifest/json.ts';
import { previewRollout, RolloutError } from '#server/rollout.ts';
import { whoOf } from './deciding.ts';
import { ApiError } from './problem.ts';
import { boundTo, CURSOR, parseCursor, printCursor } from './query.ts';
import { adminRoute, json, type Api } from './route.ts';
import { ImagePreview } from './policyschemas.ts';
import type { ApiServices } from './services.ts';

const Name = z.string().min(1).max(200);

const previewImage = adminRoute({
  method: 'get',
  path: '/api/v1/images/{digest}/preview',
  operationId: 'previewImage',
  tags: ['images'],
  request: {
    params: z.object({
      digest: Name.openapi({ param: { name: 'digest', in: 'path' }, description: 'What hosts run.' }),
    }),
    query: z.strictObject({ to: Name.openapi({ description: 'What they would run.' }), cursor: CURSOR }),
  },
  responses: { 200: json(ImagePreview, 'Nothing is written.') },
});

/** How long one answer is worked on: below what proxies wait for. */
const PREVIEW_MS = 10_000;
/** Paths of one answer; those that no host meets are at the end. */
const PATHS_MAX = 500;
const HostKeys = z.strictObject({ sort: z.literal('name'), name: z.string(), id: z.string() });

export function rolloutRoutes(api: Api, services: ApiServices): void {
  api.openapi(previewImage, async (c) => {
    const { digest } = c.req.valid('param');
    const { to, cursor } = c.req.valid('query');
    const bound = boundTo('image preview', { digest, to });
    const from = parseCursor(cursor, bound, HostKeys);
    try {
      const found = await previewRollout(
        { before: digest, after: to },
        { cursor: from, until: services.clock() + PREVIEW_MS },
        whoOf(c),
        services,
      );
      return c.json(
        {
          before: found.before,
          after: found.after,
          changed: found.paths.length,
          hosts: found.hosts,
          paths: found.paths.slice(0, PATHS_MAX).map(({ path, before, after, examples, ...rest }) => ({
            ...nameJson('path', path),
            ...rest,
            before: before === null ? null : factsJson(before),
            after: after === null ? null : factsJson(after),
            examples: examples.map((each) => ({ ...each })),
          })),
          next: printCursor({ items: [], next: found.next }, bound),
        },
        200,
      );
    } catch (error) {
      if (error instanceof RolloutError) throw new ApiError(error.code, error.message);
      throw error;
    }
  });
}
