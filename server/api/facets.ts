/** `/api/v1/groups/facets`: for each word that narrows the list of groups, how long it is then (docs/findings.md 6). */
import { z } from '@hono/zod-openapi';
import { FACETS, facetOf, PLACES_MAX, PLACES_SHOWN } from '#server/facets.ts';
import type { GroupFilter } from '#server/store/store.ts';
import { lineOf, Q, whoOf } from './deciding.ts';
import { TABS } from './findings.ts';
import { COUNT_MAX, queryInt, queryList, Total, totalJson } from './query.ts';
import { adminRoute, json, type Api } from './route.ts';
import type { ApiServices } from './services.ts';

const Facet = z.record(z.string(), Total);

const groupFacets = adminRoute({
  method: 'get',
  path: '/api/v1/groups/facets',
  operationId: 'groupFacets',
  tags: ['findings'],
  request: {
    query: z.strictObject({
      q: Q,
      tab: z.enum(TABS).optional().openapi({ description: 'Of that tab; default: what is present on some host.' }),
      of: queryList(FACETS).openapi({ description: 'Those alone; default: all but `group` and `image`.' }),
      places: queryInt(1, PLACES_MAX, PLACES_SHOWN).openapi({
        description: 'Of host groups and images at most so many, those with the most hosts.',
      }),
    }),
  },
  responses: {
    200: json(
      z.object({
        tabs: z.record(z.enum(TABS), Total),
        severity: Facet.optional(),
        rule: Facet.optional(),
        control: Facet.optional().openapi({ description: 'By the rules of the policy that judges.' }),
        tree: Facet.optional(),
        change: Facet.optional(),
        age: Facet.optional(),
        is: Facet.optional(),
        group: Facet.optional().openapi({ description: 'The host groups with the most hosts.' }),
        image: Facet.optional().openapi({ description: 'The images that the most hosts booted.' }),
      }),
      'How many groups each further word would leave; each number is the length of that list.',
    ),
  },
});

const ALWAYS = FACETS.filter((name) => name !== 'group' && name !== 'image');

export function facetRoutes(api: Api, services: ApiServices): void {
  const { store, clock } = services;
  api.openapi(groupFacets, async (c) => {
    const { q, tab, of = ALWAYS, places } = c.req.valid('query');
    const base: GroupFilter = { line: await lineOf(q, store), scope: whoOf(c).groups, now: clock() };
    const filter: GroupFilter = tab === undefined ? base : { ...base, tab };
    const tabs = await Promise.all(
      TABS.map(
        async (one) => [one, totalJson(await store.read.countGroups({ ...base, tab: one }, COUNT_MAX))] as const,
      ),
    );
    const facets = await Promise.all(
      [...new Set(of)].map(async (name) => {
        const found = await facetOf(name, filter, COUNT_MAX, services, places);
        return [name, Object.fromEntries(found.map(({ value, count }) => [value, totalJson(count)]))] as const;
      }),
    );
    return c.json(
      {
        tabs: Object.fromEntries(tabs) as Record<(typeof TABS)[number], (typeof tabs)[0][1]>,
        ...Object.fromEntries(facets),
      },
      200,
    );
  });
}
