/** How a host changed a text file of /etc: the image's own beside what its last full report carries, or why that is not shown. */
import { z } from '@hono/zod-openapi';
import { PATH_QUERY_CHARS_MAX } from '#src/limits.ts';
import { vis } from '#src/manifest/vis.ts';
import { differenceIn, differenceOn, hiddenText, type Difference as Found } from '#server/contents.ts';
import { groupOf } from '#server/decisions/findings.ts';
import { isTheirs } from '#server/decisions/may.ts';
import type { Host } from '#server/store/records.ts';
import { whoOf } from './deciding.ts';
import { bytesOf } from './origins.ts';
import { ApiError } from './problem.ts';
import { adminRoute, json, type Api } from './route.ts';
import type { ApiServices } from './services.ts';

const Lines = z.int().min(0);
const Difference = z
  .object({
    host: z.object({ id: z.string(), name: z.string() }).nullable().openapi({
      description: 'The host whose report it is told from; null where no host shows it.',
    }),
    path: z.string().openapi({ description: 'As a main text spells it (docs/manifest.md, rule 2).' }),
    seq: z.int().nullable().openapi({ description: 'Number of that report.' }),
    change: z
      .enum(['added', 'modified'])
      .nullable()
      .openapi({ description: '`added`: the image has no such file, so every line is new.' }),
    hidden: z
      .object({
        why: z.string().openapi({
          description:
            'Such as `secret`, `denied` (by the policy), `not-named` (by the agent’s configuration in the image), `too-large`, `not-text`, `image-unread`, `no-content` (docs/policy.md, section 14).',
        }),
        text: z.string().openapi({ description: 'In a sentence, for people.' }),
      })
      .nullable()
      .openapi({ description: 'Null where the difference is shown.' }),
    hunks: z
      .array(
        z.object({
          was: Lines,
          wasLines: Lines,
          is: Lines,
          isLines: Lines,
          lines: z.array(
            z.object({
              kind: z.enum(['same', 'del', 'add']),
              was: Lines.openapi({ description: 'Line number in the image’s file; 0 where it is not there.' }),
              is: Lines.openapi({ description: 'Line number in the host’s file; 0 where it is not there.' }),
              text: z.string(),
              open: z.literal(true).optional().openapi({ description: 'The last line, without a line break.' }),
            }),
          ),
        }),
      )
      .openapi({
        description:
          'Empty where nothing is shown. The text is as it stands in the files: escape it where it is shown.',
      }),
  })
  .openapi('Difference');
type Difference = z.infer<typeof Difference>;

const IdParam = z.object({
  id: z
    .string()
    .max(80)
    .openapi({ param: { name: 'id', in: 'path' } }),
});

const hostDifference = adminRoute({
  method: 'get',
  path: '/api/v1/hosts/{id}/difference',
  operationId: 'getHostDifference',
  tags: ['hosts'],
  request: {
    params: IdParam,
    query: z.strictObject({
      path: z
        .string()
        .max(PATH_QUERY_CHARS_MAX)
        .regex(/^[!-~]+$/, 'expected bytes outside ! to ~, and \\ # * ? [ =, as \\ooo')
        .openapi({ description: 'As a main text spells it: /etc/ssh/sshd_config.' }),
    }),
  },
  responses: { 200: json(Difference, 'The difference of one file, or why it is not shown.') },
});

const groupDifference = adminRoute({
  method: 'get',
  path: '/api/v1/groups/{id}/difference',
  operationId: 'getGroupDifference',
  tags: ['findings'],
  request: { params: IdParam },
  responses: { 200: json(Difference, 'The difference that the finding is about, or why it is not shown.') },
});

const NO_CONTENT = 'it is not about the content of a file of /etc that a host shows now';

function differenceJson(found: Found, host: Pick<Host, 'id' | 'name' | 'images'>): Difference {
  const about = { host: { id: host.id, name: host.name }, path: vis(found.path), seq: found.seq };
  return found.kind === 'hidden'
    ? {
        ...about,
        change: null,
        hidden: { why: found.why, text: hiddenText(found.why, host.images.booted) },
        hunks: [],
      }
    : {
        ...about,
        change: found.change,
        hidden: null,
        hunks: found.hunks.map((hunk) => ({ ...hunk, lines: hunk.lines.map((line) => ({ ...line })) })),
      };
}

const nothing = (path: string): Difference => ({
  host: null,
  path,
  seq: null,
  change: null,
  hidden: { why: 'no-content', text: NO_CONTENT },
  hunks: [],
});

export function differenceRoutes(api: Api, services: ApiServices): void {
  const { store } = services;

  api.openapi(hostDifference, async (c) => {
    const host = await store.hosts.get(c.req.valid('param').id);
    if (host === undefined || !isTheirs(whoOf(c), host.group))
      throw new ApiError('HOST_UNKNOWN', 'there is no such host');
    const path = bytesOf(c.req.valid('query').path);
    const found = await differenceOn(host, path, services);
    return c.json(found === undefined ? nothing(vis(path)) : differenceJson(found.difference, host), 200);
  });

  api.openapi(groupDifference, async (c) => {
    const who = whoOf(c);
    const group = await groupOf(c.req.valid('param').id, who, services);
    const { items } = await store.read.groupHosts(group.id, { limit: 3, cursor: null }, who.groups);
    const found = await differenceIn(group, items, services);
    return c.json(found === undefined ? nothing(group.subject) : differenceJson(found.difference, found.host), 200);
  });
}
