/** Where files come from: layer, package and other images of a finding; what a host ran before; an image that is to be read again. */
import { z } from '@hono/zod-openapi';
import { formatInstant } from '#src/clock.ts';
import { VisError, unvis, vis } from '#src/manifest/vis.ts';
import { packageText } from '#src/image/origins.ts';
import { groupOf } from '#server/decisions/findings.ts';
import { imageFor, readAgain } from '#server/decisions/images.ts';
import { isTheirs } from '#server/decisions/may.ts';
import { elsewhereText, originOf, toldText } from '#server/findingorigin.ts';
import { lineageSteps } from '#server/hostlineage.ts';
import type { Elsewhere, Told } from '#server/origins.ts';
import { whoOf } from './deciding.ts';
import { groupJson } from './findings.ts';
import { ApiError } from './problem.ts';
import { ImageParam } from './query.ts';
import { provenanceJson } from './provenance.ts';
import { actOf, adminRoute, json, type Api } from './route.ts';
import { Group, Provenance, Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const Count = z.int().min(0);
const PathOrigin = z
  .object({
    state: z.enum(['told', 'absent', 'not_kept', 'other_text', 'not_ready']).openapi({
      description:
        '`absent`: the image has no such path, so no layer and no package of it brings it. `not_kept`: it was built before that was kept, and can be read again (`rebuildImage`). `other_text`: read again, it makes another tree by now. `not_ready`: it has no manifest.',
    }),
    text: z.string().nullable().openapi({ description: 'In one line, for people.' }),
    layer: z
      .object({
        number: Count.openapi({ description: 'From 1, the base first.' }),
        of: Count,
        digest: z.string(),
        createdBy: z.string().nullable(),
        comment: z.string().nullable(),
        components: z.array(z.string()),
      })
      .nullable()
      .openapi({ description: 'That wrote the path last, with what the image says of it.' }),
    packages: z
      .array(z.object({ name: z.string(), version: z.string(), arch: z.string(), text: z.string() }))
      .openapi({ description: 'That own the path; at most 8.' }),
    altered: z.boolean().openapi({ description: 'The image has other content there than its packages brought.' }),
    database: z
      .object({ kind: z.enum(['rpm', 'dpkg']), path: z.string() })
      .nullable()
      .openapi({ description: 'From which package database that is; null where none could be read.' }),
  })
  .openapi('PathOrigin', { description: 'Where a path of an image comes from.' });

const ContentPlaces = z
  .object({
    text: z.string().openapi({ description: 'In one line, for people.' }),
    places: z
      .array(
        z.object({
          image: z.string(),
          name: z.string(),
          path: z.string().openapi({ description: 'As a main text spells it (docs/manifest.md, rule 2).' }),
          same: z.boolean().openapi({ description: 'At the very path that the finding is about.' }),
          slot: z
            .enum(['booted', 'staged', 'rollback', 'before'])
            .nullable()
            .openapi({ description: 'What the image is to the host.' }),
        }),
      )
      .openapi({ description: 'At most 4, those that matter to the host first.' }),
    images: Count.openapi({ description: 'Images that have the content.' }),
    looked: Count.openapi({ description: 'Images that were looked through.' }),
    more: z.boolean().openapi({ description: 'There are more images than are looked through.' }),
  })
  .openapi('ContentPlaces', { description: 'Known images that have the content which a host shows.' });

const FindingOrigin = z
  .object({
    host: z.object({ id: z.string(), name: z.string() }).nullable(),
    image: z.string().nullable().openapi({ description: 'That this host runs; the origin is told of it.' }),
    origin: PathOrigin.nullable(),
    elsewhere: ContentPlaces.nullable(),
    since: z
      .object({
        seq: Count,
        at: Time,
        before: z.object({ seq: Count, at: Time.nullable() }).nullable(),
      })
      .nullable()
      .openapi({ description: 'The report that showed it first on this host, and the one before, which did not.' }),
    alike: z
      .array(Group)
      .openapi({ description: 'Other findings of the very same content: another path, or another mode. At most 5.' }),
  })
  .openapi('FindingOrigin', {
    description: 'Where the changed file comes from, told of the first host that shows it.',
  });

const IdParam = z.object({
  id: z
    .string()
    .max(80)
    .openapi({ param: { name: 'id', in: 'path' } }),
});

const groupOrigin = adminRoute({
  method: 'get',
  path: '/api/v1/groups/{id}/origin',
  operationId: 'getGroupOrigin',
  tags: ['findings'],
  request: { params: IdParam },
  responses: { 200: json(FindingOrigin, 'Layer and package, other images with the same content, and since when.') },
});

const imageOrigin = adminRoute({
  method: 'get',
  path: '/api/v1/images/{digest}/origin',
  operationId: 'getPathOrigin',
  tags: ['images'],
  request: {
    params: ImageParam,
    query: z.strictObject({
      path: z
        .string()
        .min(2)
        .max(1000)
        .regex(/^\/(?:usr|etc)(?:\/|$)/, 'expected a path below /usr or /etc')
        .openapi({ description: 'As a main text spells it: bytes outside `!` to `~` as `\\ooo`.' }),
      rule: z.string().max(100).optional().openapi({ description: 'Under which rule; the newest by default.' }),
    }),
  },
  responses: { 200: json(PathOrigin, 'Where the path comes from.') },
});

const rebuildImage = adminRoute({
  method: 'post',
  path: '/api/v1/images/{digest}/rebuild',
  operationId: 'rebuildImage',
  tags: ['images'],
  request: { params: ImageParam },
  responses: {
    202: json(
      z.object({ image: z.string(), state: z.string() }),
      'It is read again from an allowed source, for where its files come from; its manifests stay as they are.',
    ),
  },
});

const hostLineage = adminRoute({
  method: 'get',
  path: '/api/v1/hosts/{id}/lineage',
  operationId: 'getHostLineage',
  tags: ['hosts'],
  request: { params: IdParam },
  responses: {
    200: json(
      z.object({
        items: z.array(
          z
            .object({
              image: z.string(),
              version: z.string().nullable(),
              repositories: z.array(z.string()),
              reference: z.string().nullable().openapi({ description: 'What the host said that it followed.' }),
              firstSeen: Time,
              report: Count.nullable().openapi({ description: 'Number of the first report of it.' }),
              lastSeen: Time.nullable(),
              running: z.boolean(),
              provenance: Provenance,
              before: z
                .string()
                .nullable()
                .openapi({ description: 'The image before: what came between is the difference of the two.' }),
            })
            .openapi('LineageStep'),
        ),
      }),
      'What the host ran, one time after the other, newest first; at most 64.',
    ),
  },
});

function originJson(told: Told, image: string | null): z.infer<typeof PathOrigin> {
  const text = toldText(told, image);
  if (told.kind !== 'told') {
    const state = told.kind === 'absent' ? 'absent' : (told.why.replace('-', '_') as 'not_kept');
    return { state, text, layer: null, packages: [], altered: false, database: null };
  }
  const { layer, layers, packages, altered, database } = told.origin;
  const { number, digest, createdBy, comment, components } = layer;
  return {
    state: 'told',
    text,
    layer: { number, of: layers, digest, createdBy, comment, components: [...components] },
    packages: packages.map((each) => ({ ...each, text: packageText(each, database?.kind ?? 'rpm') })),
    altered,
    database: database === null ? null : { ...database },
  };
}

function elsewhereJson(elsewhere: Elsewhere): z.infer<typeof ContentPlaces> {
  const { places, images, looked, more } = elsewhere;
  return {
    text: elsewhereText(elsewhere),
    places: places.map(({ digest, name, path, same, slot }) => ({ image: digest, name, path, same, slot })),
    images,
    looked,
    more,
  };
}

export function originRoutes(api: Api, services: ApiServices): void {
  const { store, clock, origins, wake } = services;

  api.openapi(groupOrigin, async (c) => {
    const who = whoOf(c);
    const group = await groupOf(c.req.valid('param').id, who, services);
    const { items } = await store.read.groupHosts(group.id, { limit: 1, cursor: null }, who.groups);
    const [finding] = items;
    if (finding === undefined)
      return c.json({ host: null, image: null, origin: null, elsewhere: null, since: null, alike: [] }, 200);
    const host = await store.hosts.get(finding.hostId);
    const { told, elsewhere, since, alike } = await originOf(finding, group, host, services, {
      groups: who.groups,
      now: clock(),
    });
    const image = host?.images.booted ?? null;
    return c.json(
      {
        host: { id: finding.hostId, name: finding.hostName },
        image,
        origin: told === null ? null : originJson(told, image),
        elsewhere: elsewhere === null ? null : elsewhereJson(elsewhere),
        since:
          since === null
            ? null
            : {
                seq: since.seq,
                at: formatInstant(since.at),
                before:
                  since.before === null
                    ? null
                    : {
                        seq: since.before.seq,
                        at: since.before.at === null ? null : formatInstant(since.before.at),
                      },
              },
        alike: alike.map((each) => groupJson(each, clock())),
      },
      200,
    );
  });

  api.openapi(imageOrigin, async (c) => {
    const { path, rule = null } = c.req.valid('query');
    const found = await imageFor(whoOf(c), c.req.valid('param').digest, store);
    if (found === undefined) throw new ApiError('IMAGE_UNKNOWN', 'no host has named this image');
    const bytes = bytesOf(path);
    const known = await services.images.resolve(found.image.digest);
    if (rule !== null && known.kind === 'ready' && !known.image.manifests.some(({ header }) => header.rule === rule))
      throw new ApiError('QUERY_INVALID', `rule: this image has no manifest of ${rule}`, [
        { parameter: 'rule', detail: known.image.manifests.map(({ header }) => header.rule).join(', ') },
      ]);
    const told = (await origins.of(found.image.digest, rule, [bytes])).get(bytes)!;
    return c.json(originJson(told, found.image.digest), 200);
  });

  api.openapi(rebuildImage, async (c) => {
    const asked = await readAgain(c.req.valid('param').digest, actOf(c, clock()), services);
    if (asked === undefined) throw new ApiError('IMAGE_UNKNOWN', 'no host has named this image');
    wake();
    return c.json({ image: asked.digest, state: asked.state }, 202);
  });

  api.openapi(hostLineage, async (c) => {
    const host = await store.hosts.get(c.req.valid('param').id);
    if (host === undefined || !isTheirs(whoOf(c), host.group))
      throw new ApiError('HOST_UNKNOWN', 'there is no such host');
    const steps = await lineageSteps(host, services);
    return c.json(
      {
        items: steps.map(({ image, known, from, seq, last, running, reference, provenance, before }) => ({
          image,
          version: known?.version ?? null,
          repositories: [...(known?.repositories ?? [])],
          reference,
          firstSeen: formatInstant(from),
          report: seq,
          lastSeen: last === null ? null : formatInstant(last),
          running,
          provenance: provenanceJson(provenance),
          before,
        })),
      },
      200,
    );
  });
}

/** A path as a person or a text spells it: what needs no escape may stand unescaped. */
export function bytesOf(path: string): string {
  try {
    return unvis(path);
  } catch (error) {
    if (!(error instanceof VisError)) throw error;
    throw new ApiError('QUERY_INVALID', `path: expected it as a main text spells it, such as ${vis('/usr/a b')}`, [
      { parameter: 'path', detail: 'expected bytes outside ! to ~, and \\ # * ? [ =, as \\ooo' },
    ]);
  }
}
