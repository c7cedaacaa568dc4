/** The OpenAPI 3.1 document: people's routes from their definitions, the agents' described here because they are read by hand. */
import type { Api } from './route.ts';
import { PATHS } from '#src/wire/paths.ts';
import { ALL_PROBLEMS } from './problem.ts';

const made = new WeakMap<Api, object>();

const openApiPath = (path: string): string => path.replaceAll(/:([a-z]+)/gi, '{$1}');
const parameters = (path: string): object[] =>
  [...path.matchAll(/:([a-z]+)/gi)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));

const refusals = {
  default: { description: 'A refusal (RFC 9457); of a report `check` is the check that failed (docs/report.md 3).' },
};

/** Made once: routes do not change while a server runs. */
export function openApiDocument(api: Api): object {
  const known = made.get(api);
  if (known !== undefined) return known;
  const document = api.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Bootproof',
      version: '1',
      description: `Is each host still the image that its builders signed? Times are RFC 3339 in UTC; new enum values may come. Codes of refusals: ${Object.keys(ALL_PROBLEMS).join(', ')}.`,
    },
    servers: [{ url: '/' }],
  });
  const agents = {
    [PATHS.reports]: {
      post: {
        operationId: 'postReport',
        tags: ['agents'],
        description: 'One signed report (docs/report.md); the body may be compressed with gzip or zstd.',
        requestBody: { required: true, content: { 'application/json': { schema: { type: 'object' } } } },
        responses: { 200: { description: 'Taken and durable; the answer of docs/report.md 4.' }, ...refusals },
      },
    },
    '/api/v1/reports/carried': {
      post: {
        operationId: 'postCarriedReport',
        tags: ['hosts'],
        security: [{ admin: [] }],
        description:
          'One signed report that came by file (docs/report.md 5.3): evidence of its own time, never freshness.',
        requestBody: { required: true, content: { 'application/json': { schema: { type: 'object' } } } },
        responses: { 200: { description: 'Taken and durable.' }, ...refusals },
      },
    },
    [PATHS.enrolNonce]: {
      post: {
        operationId: 'enrolNonce',
        tags: ['agents'],
        description: 'A nonce for a token id (docs/report.md 6.2).',
        responses: { 200: { description: 'The nonce.' }, ...refusals },
      },
    },
    [PATHS.enrol]: {
      post: {
        operationId: 'enrol',
        tags: ['agents'],
        description: 'Enrols a host (docs/report.md 6.3).',
        responses: { 200: { description: "The answer, signed by the server's key." }, ...refusals },
      },
    },
    [openApiPath(PATHS.manifests)]: {
      get: {
        operationId: 'getManifests',
        tags: ['agents'],
        security: [{ bearer: [] }],
        description: 'Signed headers of an image, newest rule first (docs/report.md 7.1).',
        parameters: [
          ...parameters(PATHS.manifests),
          { name: 'backend', in: 'query', schema: { type: 'string', enum: ['ostree', 'composefs', 'unknown'] } },
        ],
        responses: { 200: { description: 'The headers.' }, 202: { description: 'They are being built.' }, ...refusals },
      },
    },
    [openApiPath(PATHS.manifestText)]: {
      get: {
        operationId: 'getManifestText',
        tags: ['agents'],
        security: [{ bearer: [] }],
        description: 'One canonical text (docs/report.md 7.2): immutable.',
        parameters: parameters(PATHS.manifestText),
        responses: { 200: { description: 'The text.' }, 304: { description: 'The asker has it.' }, ...refusals },
      },
    },
  };
  const whole = {
    ...document,
    paths: { ...agents, ...document.paths },
    components: {
      ...document.components,
      securitySchemes: {
        admin: { type: 'http', scheme: 'bearer', description: 'The admin token.' },
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description: 'The manifest bearer of the last answer, or the admin token.',
        },
      },
    },
  };
  made.set(api, whole);
  return whole;
}
