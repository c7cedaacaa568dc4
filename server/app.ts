/** Both faces as one application: the API, and the pages. */
import { Hono } from 'hono';
import { PATHS } from '#src/wire/paths.ts';
import { apiApp } from '#server/api/app.ts';
import { openApiDocument } from '#server/api/openapi.ts';
import type { ApiServices } from '#server/api/services.ts';
import { webApp } from '#server/web/app.ts';
import { requestIds } from './requests.ts';

export function buildApp(services: ApiServices): Hono {
  const app = new Hono();
  const { access, health, log, metrics } = services;
  app.use(
    requestIds({
      log,
      viaProxy: (c) => access.viaProxy(c),
      answered: metrics.answered,
      isStopping: () => health.isStopping,
    }),
  );
  app.use(PATHS.reports, metrics.reports);
  app.get('/metrics', metrics.answer);
  // The API first: a report passes nothing that is there for pages.
  const api = apiApp(services);
  app.route('/', api);
  // Pages read as the API does: what ended a moment ago is over in every list and count.
  app.use(async (_c, next) => {
    await services.lapses.settled();
    await next();
  });
  app.route('/', webApp({ ...services, apiDocument: () => openApiDocument(api) }));
  return app;
}
