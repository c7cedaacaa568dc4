/** `/api/v1/inventories`: lists of hosts that others keep, and what they and we do not agree on (docs/inventory.md). */
import { z } from '@hono/zod-openapi';
import { formatInstant } from '#src/clock.ts';
import { INVENTORY_CHARS_MAX } from '#src/limits.ts';
import { importInventory, MappingBody, SourceName } from '#server/decisions/inventory.ts';
import { InventoryError } from '#server/inventory.ts';
import type { Inventory } from '#server/store/inventoryrecords.ts';
import { whoOf } from './deciding.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { adminRoute, body, json, type Api } from './route.ts';
import { Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const SourceParam = z.object({
  source: SourceName.openapi({ param: { name: 'source', in: 'path' }, example: 'cmdb' }),
});

export const InventoryJson = z
  .object({
    source: z.string(),
    version: z.int(),
    at: Time,
    by: z.string(),
    digest: z.string().openapi({ description: 'SHA-256 of the file.' }),
    bytes: z.int(),
    mapping: z.object({
      id: z.string().nullable(),
      name: z.string().nullable(),
      labels: z.array(z.object({ key: z.string(), column: z.string() })),
      shortNames: z.boolean(),
    }),
    theirs: z.int().openapi({ description: 'Rows of the list that name something, each once.' }),
    ours: z.int().openapi({ description: 'Hosts that were enrolled at the import.' }),
    matched: z.array(z.object({ by: z.string(), rows: z.int() })),
    repeated: z.int(),
    blank: z.int(),
    onlyTheirs: z.int().openapi({ description: 'Rows that match no host that is enrolled.' }),
    onlyOurs: z.int().openapi({ description: 'Hosts that no row matches.' }),
  })
  .openapi('Inventory');

const DifferencesJson = z.object({
  inventory: InventoryJson,
  onlyTheirs: z.array(z.string()),
  onlyOurs: z.array(z.object({ host: z.string(), name: z.string() })),
});

function inventoryJson({ mapping, matched, at, ...rest }: Inventory): z.infer<typeof InventoryJson> {
  return {
    ...rest,
    at: formatInstant(at),
    mapping: { ...mapping, labels: mapping.labels.map((label) => ({ ...label })) },
    matched: matched.map((one) => ({ ...one })),
  };
}

const list = adminRoute({
  method: 'get',
  path: '/api/v1/inventories',
  operationId: 'listInventories',
  tags: ['inventory'],
  responses: { 200: json(z.object({ items: z.array(InventoryJson) }), 'The newest import of each source, by name.') },
});

const show = adminRoute({
  method: 'get',
  path: '/api/v1/inventories/{source}',
  operationId: 'getInventory',
  tags: ['inventory'],
  request: {
    params: SourceParam,
    query: z.strictObject({
      version: z
        .string()
        .regex(/^[1-9][0-9]{0,8}$/, 'expected a number')
        .optional()
        .openapi({ description: 'The newest where none is named.' }),
    }),
  },
  responses: { 200: json(DifferencesJson, 'An import with both differences, as they were then.') },
});

const versions = adminRoute({
  method: 'get',
  path: '/api/v1/inventories/{source}/versions',
  operationId: 'listInventoryVersions',
  tags: ['inventory'],
  request: { params: SourceParam, query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: {
    200: json(
      z.object({ items: z.array(InventoryJson), next: z.string().nullable() }),
      'Imports of a source, newest first.',
    ),
  },
});

const add = adminRoute({
  method: 'post',
  path: '/api/v1/inventories/{source}',
  operationId: 'importInventory',
  tags: ['inventory'],
  request: {
    params: SourceParam,
    body: body(
      z.strictObject({
        csv: z
          .string()
          .max(INVENTORY_CHARS_MAX)
          .openapi({ description: 'The file as it is, commas between its cells; the first line names the columns.' }),
        mapping: MappingBody.prefault({}),
      }),
    ),
  },
  responses: { 201: json(DifferencesJson, 'Imported as the next version, with both differences.') },
});

export function inventoryRoutes(api: Api, services: Pick<ApiServices, 'store' | 'clock'>): void {
  const { inventories } = services.store;
  const whole = async (inventory: Inventory): Promise<z.infer<typeof DifferencesJson>> => {
    const { onlyTheirs, onlyOurs } = (await inventories.differences(inventory.source, inventory.version))!;
    return {
      inventory: inventoryJson(inventory),
      onlyTheirs: [...onlyTheirs],
      onlyOurs: onlyOurs.map((one) => ({ ...one })),
    };
  };
  api.openapi(list, async (c) => c.json({ items: (await inventories.newest()).map(inventoryJson) }, 200));
  api.openapi(show, async (c) => {
    const { source } = c.req.valid('param');
    const { version } = c.req.valid('query');
    const found = await inventories.get(source, version === undefined ? null : Number(version));
    if (found === undefined) throw unknown(source, version);
    return c.json(await whole(found), 200);
  });
  api.openapi(versions, async (c) => {
    const { source } = c.req.valid('param');
    const query = c.req.valid('query');
    const bound = boundTo(`inventories/${source}`, query);
    const cursor = parseCursor(query.cursor, bound, z.strictObject({ version: z.int() }));
    const page = await inventories.versions(source, { limit: query.limit, cursor });
    if (page.items.length === 0 && cursor === null) throw unknown(source, undefined);
    return c.json({ items: page.items.map(inventoryJson), next: printCursor(page, bound) }, 200);
  });
  api.openapi(add, async (c) => {
    const { source } = c.req.valid('param');
    const { csv, mapping } = c.req.valid('json');
    return c.json(await whole(await importInventory({ source, csv, mapping }, whoOf(c), services)), 201);
  });
}

function unknown(source: string, version: string | undefined): InventoryError {
  return new InventoryError(
    'INVENTORY_UNKNOWN',
    version === undefined ? `no list of ${source} was ever imported` : `there is no version ${version} of ${source}`,
  );
}
