/** What is said where no route takes a request: that there is none, or which methods it takes (RFC 9110 section 15.5.6). */
import type { MiddlewareHandler } from 'hono';
import { methodsByPath } from './openapi.ts';
import { ApiError } from './problem.ts';
import type { Api, Env } from './route.ts';

class MethodError extends ApiError {
  readonly allow: readonly string[];

  constructor(allow: readonly string[]) {
    super('METHOD_NOT_ALLOWED', `this route takes ${allow.join(', ')}`);
    this.allow = allow;
  }
}

type Table = { readonly fixed: ReadonlyMap<string, readonly string[]>; readonly templates: readonly Template[] };
type Template = { readonly parts: readonly string[]; readonly methods: readonly string[] };
const tables = new WeakMap<Api, Table>();

function tableOf(api: Api): Table {
  let table = tables.get(api);
  if (table === undefined) {
    const all = [...methodsByPath(api)].map(([path, taken]) => {
      const methods = taken.map((method) => method.toUpperCase());
      return { path, methods: methods.includes('GET') ? [...methods, 'HEAD'] : methods };
    });
    table = {
      fixed: new Map(all.filter(({ path }) => !path.includes('{')).map(({ path, methods }) => [path, methods])),
      templates: all
        .filter(({ path }) => path.includes('{'))
        .map(({ path, methods }) => ({ parts: path.split('/'), methods })),
    };
    tables.set(api, table);
  }
  return table;
}

/** Before all routes: `GET /policies/diff` is a wrong method of that route, not the policy of the name `diff`. */
export function takenMethods(api: Api): MiddlewareHandler<Env> {
  return async (c, next) => {
    const methods = tableOf(api).fixed.get(c.req.path);
    if (methods !== undefined && !methods.includes(c.req.method)) throw new MethodError(methods);
    await next();
  };
}

/** The refusal of a request that no route took. */
export function noSuchRoute(api: Api, path: string): ApiError {
  const asked = path.split('/');
  const found = tableOf(api).templates.find(
    ({ parts }) =>
      parts.length === asked.length &&
      parts.every((part, at) => (part.startsWith('{') ? asked[at] !== '' : part === asked[at])),
  );
  if (found !== undefined) return new MethodError(found.methods);
  return new ApiError('NOT_FOUND', 'there is no such route; /api/v1/openapi.json lists those that are');
}
