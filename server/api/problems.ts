/** `/problems/CODE`: what a refusal's `type` leads to, for programs; browsers get a page (server/web/problem.ts). For everybody. */
import { explanations } from '#server/problems.ts';
import { ALL_PROBLEMS, ApiError } from './problem.ts';
import type { Api } from './route.ts';

export function problemRoutes(api: Api): void {
  api.get('/problems/:code', async (c, next) => {
    c.header('Vary', 'Accept');
    if (/\btext\/html\b/.test(c.req.header('accept') ?? '')) return next();
    const code = c.req.param('code');
    const found = explanations().get(code);
    if (found === undefined)
      throw new ApiError('NOT_FOUND', 'there is no such code; docs/errors.md lists those that are');
    c.header('Cache-Control', 'public, max-age=300');
    return c.json({
      code,
      status: ALL_PROBLEMS[code] ?? null,
      explanations: found.map(({ section, cells }) => ({
        section,
        text: Object.fromEntries(cells.map(({ name, text }) => [name, text])),
      })),
    });
  });
}
