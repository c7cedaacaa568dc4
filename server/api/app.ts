/** The API as one application: agents' routes first, then health, then people's routes behind the admin token. */
import { bodyLimit } from 'hono/body-limit';
import { API_BODY_BYTES_MAX, INVENTORY_BODY_BYTES_MAX, POLICY_BODY_BYTES_MAX } from '#src/limits.ts';
import { accessRoutes } from './access.ts';
import { agentRoutes, takeReport } from './agents.ts';
import { auditRoutes } from './audit.ts';
import { bulkRoutes } from './bulk.ts';
import { evidenceRoutes } from './evidence.ts';
import { facetRoutes } from './facets.ts';
import { findingRoutes } from './findings.ts';
import { hostRoutes } from './hosts.ts';
import { imageRoutes } from './images.ts';
import { inventoryRoutes } from './inventories.ts';
import { logRoutes } from './log.ts';
import { logFileRoutes } from './logfiles.ts';
import { noSuchRoute, takenMethods } from './methods.ts';
import { noticeRoutes } from './notices.ts';
import { openApiDocument } from './openapi.ts';
import { differenceRoutes } from './differences.ts';
import { originRoutes } from './origins.ts';
import { ApiError, problemResponse } from './problem.ts';
import { postureRoutes } from './posture.ts';
import { problemRoutes } from './problems.ts';
import { retentionRoutes } from './retention.ts';
import { holdRoutes } from './holds.ts';
import { newApi, type Api } from './route.ts';
import { needOf, requires } from './roles.ts';
import { tokenRoutes } from './tokens.ts';
import { policyRoutes } from './policies.ts';
import { rolloutRoutes } from './rollout.ts';
import { trustRoutes } from './trust.ts';
import { viewRoutes } from './views.ts';
import { waiverRoutes } from './waivers.ts';
import type { ApiServices } from './services.ts';
import { whoAsks } from './who.ts';

/** Reports from files, by a person's hand (PROTOCOL 4). */
const CARRIED = '/api/v1/reports/carried';

export function apiApp(services: ApiServices): Api {
  const api = newApi();
  api.onError((error, c) => problemResponse(error, c, services.log));

  // Nothing stands before these: a fleet's reports pay for no middleware.
  agentRoutes(api, services);

  problemRoutes(api);
  logFileRoutes(api, services);
  api.get('/livez', services.health.live);
  api.get('/readyz', services.health.ready);
  api.get('/api/v1/openapi.json', (c) => c.json(openApiDocument(api)));

  api.use('/api/v1/*', async (c, next) => {
    const who = await whoAsks(c, services);
    c.set('actor', who.id);
    c.set('principal', who);
    c.header('Cache-Control', 'no-store');
    // What ended a moment ago is over in every list and count before anything is read or decided.
    await services.lapses.settled();
    await next();
  });
  api.post(CARRIED, requires(needOf('post', CARRIED), false), (c) => takeReport(c, services, true));
  api.use('/api/v1/*', takenMethods(api));
  const bounded = boundedTo(API_BODY_BYTES_MAX);
  const boundedPolicy = boundedTo(POLICY_BODY_BYTES_MAX);
  const boundedInventory = boundedTo(INVENTORY_BODY_BYTES_MAX);
  api.use('/api/v1/*', (c, next) => {
    if (c.req.path.startsWith('/api/v1/policies')) return boundedPolicy(c, next);
    return (c.req.path.startsWith('/api/v1/inventories/') ? boundedInventory : bounded)(c, next);
  });
  hostRoutes(api, services);
  postureRoutes(api, services);
  facetRoutes(api, services);
  findingRoutes(api, services);
  imageRoutes(api, services);
  originRoutes(api, services);
  differenceRoutes(api, services);
  tokenRoutes(api, services);
  trustRoutes(api, services);
  policyRoutes(api, services);
  rolloutRoutes(api, services);
  waiverRoutes(api, services);
  bulkRoutes(api, services);
  viewRoutes(api, services);
  noticeRoutes(api, services);
  accessRoutes(api, services);
  auditRoutes(api, services);
  logRoutes(api, services);
  evidenceRoutes(api, services);
  retentionRoutes(api, services);
  holdRoutes(api, services);
  inventoryRoutes(api, services);
  // Not `/api` itself: that is a page.
  api.all('/api/:rest{.+}', (c) => {
    throw noSuchRoute(api, c.req.path);
  });
  return api;
}

function boundedTo(maxSize: number) {
  return bodyLimit({
    maxSize,
    onError: () => {
      throw new ApiError('BODY_TOO_LARGE', `at most ${maxSize} bytes are taken here`);
    },
  });
}
