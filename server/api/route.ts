/** What every route of people's API has in common: its refusals, its tag, and how a failed check becomes a problem document. */
import { createRoute, OpenAPIHono, type RouteConfig } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { z } from 'zod';
import type { Principal } from '#server/access/principal.ts';
import type { Act } from '#server/store/records.ts';
import { ApiError, type Fault } from './problem.ts';
import { needOf, requires } from './roles.ts';
import { Problem } from './schemas.ts';

/** `actor` is the principal's id. */
export type Env = { Variables: { actor: string; principal: Principal } };
export type Api = OpenAPIHono<Env>;

export function newApi(): Api {
  return new OpenAPIHono<Env>({
    defaultHook: (result) => {
      if (!result.success) throw invalid(result.target, result.error.issues);
    },
  });
}

/** A refusal that names each wrong place; what was sent is not repeated. */
function invalid(target: string, issues: readonly z.core.$ZodIssue[]): ApiError {
  const faults = issues.flatMap((issue): Fault[] => {
    const keys = issue.code === 'unrecognized_keys' ? issue.keys : [];
    const named = keys.map((key) => ({ at: [...issue.path, key], detail: 'is not known here' }));
    const all = named.length > 0 ? named : [{ at: issue.path, detail: issue.message }];
    return all.map(({ at, detail }) =>
      target === 'json'
        ? { pointer: `/${at.map(String).join('/')}`, detail }
        : { parameter: at.map(String).join('.'), detail },
    );
  });
  const code = target === 'json' ? 'BODY_INVALID' : target === 'param' ? 'PATH_INVALID' : 'QUERY_INVALID';
  const places = faults.map(({ pointer, parameter, detail }) => `${pointer ?? parameter}: ${detail}`).join('; ');
  return new ApiError(code, places.slice(0, 1000), faults);
}

const REFUSALS = {
  default: {
    description: 'A refusal (RFC 9457).',
    content: { 'application/problem+json': { schema: Problem } },
  },
} as const;

type Content<Schema> = {
  readonly description: string;
  readonly content: { readonly 'application/json': { readonly schema: Schema } };
};

/** A JSON answer of a route. */
export function json<Schema extends z.ZodType>(schema: Schema, description: string): Content<Schema> {
  return { description, content: { 'application/json': { schema } } };
}

/** A JSON body of a route. */
export function body<Schema extends z.ZodType>(
  schema: Schema,
): { readonly required: true; readonly content: { readonly 'application/json': { readonly schema: Schema } } } {
  return { required: true, content: { 'application/json': { schema } } };
}

/** A route for whoever holds the role that the table of roles names, with refusals as they all have. */
export function adminRoute<const Config extends RouteConfig>(config: Config) {
  const need = needOf(config.method, config.path);
  return createRoute({
    security: [{ admin: [] }],
    // For readers of the document: one of these roles, held where.
    'x-roles': { anyOf: need.roles, of: need.of },
    middleware: requires(need, config.method === 'get'),
    ...config,
    responses: { ...config.responses, ...REFUSALS },
  });
}

/** The person behind a request. */
export function actOf(c: Context<Env>, at: number): Act {
  return { actor: c.get('actor'), at };
}
