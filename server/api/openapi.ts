/** The OpenAPI 3.1 document: people's routes from their definitions, the agents' described here because they are read by hand. */
import { z } from 'zod';
import { EnvelopeJson } from '#src/signing/dsse.ts';
import { Answer } from '#src/wire/answer.ts';
import { EnrolAnswer, EnrolBody, NonceAnswer, NonceRequest } from '#src/wire/enrol.ts';
import { ManifestsAnswer, ManifestsPending } from '#src/wire/manifests.ts';
import { PATHS, TEXT_PARTS } from '#src/wire/paths.ts';
import { TREES } from '#src/manifest/entry.ts';
import { ALL_PROBLEMS } from './problem.ts';
import { refusalComponents, withRefusals, type Operation } from './refusals.ts';
import { needOf } from './roles.ts';
import type { Api } from './route.ts';
import { Problem } from './schemas.ts';

const made = new WeakMap<Api, object>();

/** As the document writes a path that the router knows. */
export const openApiPath = (path: string): string => path.replaceAll(/:([a-z]+)/gi, '{$1}');

const pathParameters = (path: string, words: Readonly<Record<string, readonly string[]>> = {}) =>
  [...path.matchAll(/:([a-z]+)/gi)].map(([, name]) => ({
    name: name!,
    in: 'path',
    required: true,
    schema: { type: 'string', ...(words[name!] === undefined ? {} : { enum: words[name!] }) },
  }));

/** A schema of the wire, as the document writes schemas. What cannot be written as one is told in words elsewhere. */
function written(schema: z.ZodType, io: 'input' | 'output'): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    // A tuple of one is a list of one: the same, in words that more readers of such documents know.
    override: ({ jsonSchema }) => {
      const [only, ...others] = jsonSchema.prefixItems ?? [];
      if (only === undefined || others.length > 0) return;
      jsonSchema.items = only;
      delete jsonSchema.prefixItems;
    },
  });
  return rest;
}

const jsonBody = (schema: z.ZodType) => ({
  required: true,
  content: { 'application/json': { schema: written(schema, 'input') } },
});
const jsonAnswer = (schema: z.ZodType, description: string) => ({
  description,
  content: { 'application/json': { schema: written(schema, 'output') } },
});

/** What machines ask: read by hand, so described by hand. */
function agentPaths(): Record<string, Record<string, Operation>> {
  const carried = needOf('post', CARRIED_PATH);
  const report = {
    requestBody: jsonBody(EnvelopeJson),
    responses: { 200: jsonAnswer(Answer, 'Taken and durable; the answer of docs/report.md 4.') },
  };
  const operation = (about: object, given: Operation): Operation => withRefusals({ ...about, ...given });
  return {
    [PATHS.reports]: {
      post: operation(
        {
          operationId: 'postReport',
          tags: ['agents'],
          description:
            'One signed report (docs/report.md); the body may be compressed with gzip or zstd. Of a refusal `check` is the check that failed (docs/report.md 3).',
        },
        report,
      ),
    },
    [CARRIED_PATH]: {
      post: operation(
        {
          operationId: 'postCarriedReport',
          tags: ['hosts'],
          'x-roles': { anyOf: carried.roles, of: carried.of },
          description:
            'One signed report that came by file (docs/report.md 5.3): evidence of its own time, never freshness.',
        },
        { security: [{ admin: [] }], ...report },
      ),
    },
    [PATHS.enrolNonce]: {
      post: operation(
        { operationId: 'enrolNonce', tags: ['agents'], description: 'A nonce for a token id (docs/report.md 6.2).' },
        { requestBody: jsonBody(NonceRequest), responses: { 200: jsonAnswer(NonceAnswer, 'The nonce.') } },
      ),
    },
    [PATHS.enrol]: {
      post: operation(
        { operationId: 'enrol', tags: ['agents'], description: 'Enrols a host (docs/report.md 6.3).' },
        {
          requestBody: jsonBody(EnrolBody),
          responses: { 200: jsonAnswer(EnrolAnswer, "The answer, signed by the server's key.") },
        },
      ),
    },
    [openApiPath(PATHS.manifests)]: {
      get: operation(
        {
          operationId: 'getManifests',
          tags: ['agents'],
          description: 'Signed headers of an image, newest rule first (docs/report.md 7.1).',
        },
        {
          security: [{ bearer: [] }],
          parameters: [
            ...pathParameters(PATHS.manifests),
            {
              name: 'backend',
              in: 'query',
              description: 'Another word is as `unknown`: headers for every backend.',
              schema: { type: 'string', default: 'unknown' },
            },
          ],
          responses: {
            200: jsonAnswer(ManifestsAnswer, 'The headers.'),
            202: jsonAnswer(ManifestsPending, 'They are being built.'),
          },
        },
      ),
    },
    [openApiPath(PATHS.manifestVerity)]: {
      get: operation(
        {
          operationId: 'getManifestVerity',
          tags: ['agents'],
          description: 'The fs-verity digests of an image (docs/report.md 7.3).',
        },
        {
          security: [{ bearer: [] }],
          parameters: pathParameters(PATHS.manifestVerity),
          responses: { 200: { description: 'The text.', content: { 'text/plain': { schema: { type: 'string' } } } } },
        },
      ),
    },
    [openApiPath(PATHS.manifestText)]: {
      get: operation(
        {
          operationId: 'getManifestText',
          tags: ['agents'],
          description: 'One canonical text (docs/report.md 7.2): immutable.',
        },
        {
          security: [{ bearer: [] }],
          parameters: pathParameters(PATHS.manifestText, { tree: TREES, part: TEXT_PARTS }),
          responses: {
            200: { description: 'The text.', content: { 'text/plain': { schema: { type: 'string' } } } },
            304: { description: 'The asker has it.' },
          },
        },
      ),
    },
  };
}

/** Reports from files, by a person's hand (PROTOCOL 4). */
export const CARRIED_PATH = '/api/v1/reports/carried';

/** The path of each route, as the document writes it, and its methods in small letters: without the document, which costs far more. */
export function methodsByPath(api: Api): ReadonlyMap<string, readonly string[]> {
  const all = new Map(Object.entries(agentPaths()).map(([path, operations]) => [path, Object.keys(operations)]));
  for (const each of api.openAPIRegistry.definitions) {
    if (each.type !== 'route') continue;
    const { path, method } = each.route;
    all.set(path, [...(all.get(path) ?? []), method]);
  }
  return all;
}

/** Made once: routes do not change while a server runs. */
export function openApiDocument(api: Api): object {
  const known = made.get(api);
  if (known !== undefined) return known;
  api.openAPIRegistry.register('Problem', Problem);
  const document = api.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Bootproof',
      version: '1',
      description: `Is each host still the image that its builders signed? Times are RFC 3339 in UTC; new enum values may come. Codes of refusals: ${Object.keys(ALL_PROBLEMS).join(', ')}.`,
    },
    servers: [{ url: '/' }],
  });
  const people = Object.entries((document.paths ?? {}) as Record<string, Record<string, Operation>>).map(
    ([path, operations]) =>
      [
        path,
        Object.fromEntries(Object.entries(operations).map(([method, each]) => [method, withRefusals(each)] as const)),
      ] as const,
  );
  const whole = {
    ...document,
    paths: { ...agentPaths(), ...Object.fromEntries(people) },
    components: {
      ...document.components,
      responses: refusalComponents(),
      securitySchemes: {
        admin: { type: 'http', scheme: 'bearer', description: 'An API token, or the admin token.' },
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description: 'The manifest bearer of the last answer, or a token of a person.',
        },
      },
    },
  };
  made.set(api, whole);
  return whole;
}
