/**
 * Which role each route of people's API asks for: one table, walked by a test against the OpenAPI document (docs/access.md, section 2).
 * A route that is not in it is for admins.
 */
import type { MiddlewareHandler } from 'hono';
import {
  acting,
  isFleetWide,
  principalOf,
  grantsOf,
  ROLES,
  type Principal,
  type Role,
} from '#server/access/principal.ts';
import { EXPORTERS } from '#server/evidence/exports.ts';
import { TOKEN_MAKERS } from '#server/decisions/access.ts';
import { WAIVER_READERS } from '#server/decisions/waiverreads.ts';
import { ApiError } from './problem.ts';
import type { Env } from './route.ts';

export type Need = {
  /** One of them is enough. */
  readonly roles: readonly Role[];
  /** `hosts`: where it is held, on hosts of those groups. `fleet`: held for every host, as what is asked for belongs to none. */
  readonly of: 'hosts' | 'fleet';
};

const READ = ROLES;
const WAIVERS = WAIVER_READERS;
const TRIAGE = ['operator', 'reviewer', 'admin'] as const;

const on = (of: Need['of'], ...roles: readonly Role[]): Need => ({ roles, of });
const hosts = (...roles: readonly Role[]): Need => on('hosts', ...roles);
const fleet = (...roles: readonly Role[]): Need => on('fleet', ...roles);

/** By method and path as the OpenAPI document writes them. */
export const ROUTE_NEEDS: Readonly<Record<string, Need>> = {
  'GET /api/v1/hosts': hosts(...READ),
  'GET /api/v1/verdicts': hosts(...READ),
  'GET /api/v1/hosts/{id}': hosts(...READ),
  'GET /api/v1/hosts/{id}/drift': hosts(...READ),
  'GET /api/v1/hosts/{id}/lineage': hosts(...READ),
  'GET /api/v1/hosts/{id}/posture': hosts(...READ),
  'GET /api/v1/hosts/{id}/difference': hosts(...READ),
  'GET /api/v1/hosts/{id}/findings': hosts(...READ),
  'GET /api/v1/hosts/{id}/reports': hosts(...READ),
  'GET /api/v1/hosts/{id}/reports/{seq}': hosts(...READ),
  'PATCH /api/v1/hosts/{id}': hosts('operator', 'admin'),
  'POST /api/v1/hosts/{id}/approve': hosts('admin'),
  'POST /api/v1/hosts/{id}/retire': hosts('admin'),
  'POST /api/v1/hosts/{id}/accept-fork': hosts('admin'),
  'POST /api/v1/hosts': fleet('admin'),
  'POST /api/v1/reports/carried': hosts('operator', 'admin'),

  'GET /api/v1/groups': hosts(...READ),
  'GET /api/v1/groups/facets': hosts(...READ),
  'GET /api/v1/groups/{id}': hosts(...READ),
  'GET /api/v1/groups/{id}/hosts': hosts(...READ),
  'GET /api/v1/groups/{id}/timeline': hosts(...READ),
  'GET /api/v1/groups/{id}/origin': hosts(...READ),
  'GET /api/v1/groups/{id}/difference': hosts(...READ),
  'GET /api/v1/findings': hosts(...READ),
  'POST /api/v1/groups/{id}/acknowledge': hosts(...TRIAGE),
  'POST /api/v1/groups/{id}/unacknowledge': hosts(...TRIAGE),
  'POST /api/v1/groups/{id}/assign': hosts(...TRIAGE),
  'POST /api/v1/groups/{id}/comments': hosts(...TRIAGE),
  'POST /api/v1/hosts/{id}/findings/{group}/acknowledge': hosts(...TRIAGE),
  'POST /api/v1/hosts/{id}/findings/{group}/unacknowledge': hosts(...TRIAGE),
  'POST /api/v1/bulk/preview': hosts(...TRIAGE),
  'POST /api/v1/bulk/{id}/apply': hosts(...TRIAGE),
  'POST /api/v1/bulk/{id}/undo': hosts(...TRIAGE),
  'GET /api/v1/bulk/{id}': hosts(...TRIAGE),
  'GET /api/v1/bulk/{id}/items': hosts(...TRIAGE),
  'GET /api/v1/views': hosts(...READ),
  'POST /api/v1/views': hosts('operator', 'reviewer', 'policy_editor', 'admin'),
  'PUT /api/v1/views/{id}': hosts('operator', 'reviewer', 'policy_editor', 'admin'),
  'DELETE /api/v1/views/{id}': hosts('operator', 'reviewer', 'policy_editor', 'admin'),

  'GET /api/v1/waivers': hosts(...WAIVERS),
  'GET /api/v1/waivers/counts': hosts(...WAIVERS),
  'GET /api/v1/waivers/hygiene': hosts(...WAIVERS),
  'GET /api/v1/waivers/{id}': hosts(...WAIVERS),
  'GET /api/v1/waivers/{id}/history': hosts(...WAIVERS),
  'GET /api/v1/settings/waivers': hosts(...WAIVERS),
  'POST /api/v1/waivers': hosts(...TRIAGE),
  'POST /api/v1/waivers/preview': hosts(...TRIAGE),
  'PATCH /api/v1/waivers/{id}': hosts(...TRIAGE),
  'POST /api/v1/waivers/{id}/withdraw': hosts(...TRIAGE),
  'POST /api/v1/waivers/{id}/extend': hosts(...TRIAGE),
  // Admins in single-person mode alone: the decision asks.
  'POST /api/v1/waivers/{id}/approve': hosts('reviewer', 'admin'),
  'POST /api/v1/waivers/{id}/reject': hosts('reviewer', 'admin'),
  'POST /api/v1/waivers/{id}/revoke': hosts('reviewer', 'admin'),
  'PUT /api/v1/settings/waivers': fleet('admin'),

  'GET /api/v1/images': hosts(...READ),
  'GET /api/v1/images/{digest}': hosts(...READ),
  'GET /api/v1/images/{digest}/trust': hosts(...READ),
  'GET /api/v1/images/{digest}/hosts': hosts(...READ),
  'GET /api/v1/images/{digest}/origin': hosts(...READ),
  'POST /api/v1/images/{digest}/rebuild': fleet('operator', 'admin'),
  'GET /api/v1/images/{digest}/preview': hosts(...READ),
  'GET /api/v1/trust': hosts(...READ),
  'POST /api/v1/trust/roots/{name}/refresh': fleet('policy_editor', 'admin'),
  'GET /api/v1/deny': hosts(...READ),
  'PUT /api/v1/deny': fleet('policy_editor', 'admin'),
  'DELETE /api/v1/deny/{id}': fleet('policy_editor', 'admin'),
  'GET /api/v1/sources': hosts(...READ),
  'POST /api/v1/sources': fleet('admin'),
  'DELETE /api/v1/sources': fleet('admin'),
  'GET /api/v1/policies': hosts(...READ),
  'GET /api/v1/policies/{version}': hosts(...READ),
  'POST /api/v1/policies/diff': fleet('policy_editor', 'admin'),
  'POST /api/v1/policies': fleet('policy_editor', 'admin'),

  'GET /api/v1/tokens': fleet('auditor', 'admin'),
  'POST /api/v1/tokens': fleet('admin'),
  'DELETE /api/v1/tokens/{id}': fleet('admin'),
  'GET /api/v1/audit': fleet('auditor', 'admin'),

  // Says how much is logged, of the whole fleet; what it says of hosts everybody may read at /log.
  'GET /api/v1/log': hosts(...READ),
  'GET /api/v1/log/checkpoints': hosts(...READ),
  'GET /api/v1/log/consistency': hosts(...READ),
  'GET /api/v1/log/entries/{index}/proof': hosts(...READ),
  // With the payload, which may be of any host.
  'GET /api/v1/log/entries/{index}': fleet('auditor', 'admin'),
  'GET /api/v1/log/check': fleet('auditor', 'admin'),
  'POST /api/v1/log/restart': fleet('admin'),
  'GET /api/v1/hosts/{id}/reports/{seq}/receipt': hosts(...READ),

  'GET /api/v1/retention': fleet('auditor', 'admin'),
  'GET /api/v1/retention/purges': fleet('auditor', 'admin'),
  'GET /api/v1/holds': fleet('auditor', 'admin'),
  'POST /api/v1/holds': fleet('admin'),
  'POST /api/v1/holds/{id}/release': fleet('admin'),

  // Of an operator their own host groups' part.
  'GET /api/v1/evidence/exports': hosts(...EXPORTERS),
  'POST /api/v1/evidence/exports': hosts(...EXPORTERS),
  'GET /api/v1/evidence/exports/{id}': hosts(...EXPORTERS),
  'GET /api/v1/evidence/exports/{id}/file': hosts(...EXPORTERS),
  'DELETE /api/v1/evidence/exports/{id}': hosts(...EXPORTERS),

  'GET /api/v1/inventories': fleet('auditor', 'operator', 'admin'),
  'GET /api/v1/inventories/{source}': fleet('auditor', 'operator', 'admin'),
  'GET /api/v1/inventories/{source}/versions': fleet('auditor', 'operator', 'admin'),
  'POST /api/v1/inventories/{source}': fleet('operator', 'admin'),

  'GET /api/v1/channels': fleet('auditor', 'admin'),
  'GET /api/v1/channels/{id}': fleet('auditor', 'admin'),
  'POST /api/v1/channels': fleet('admin'),
  'PATCH /api/v1/channels/{id}': fleet('admin'),
  'DELETE /api/v1/channels/{id}': fleet('admin'),
  'POST /api/v1/channels/{id}/test': fleet('admin'),
  'POST /api/v1/channels/{id}/new-key': fleet('admin'),
  'GET /api/v1/deliveries': fleet('auditor', 'admin'),
  'GET /api/v1/deliveries/{id}': fleet('auditor', 'admin'),
  'POST /api/v1/deliveries/{id}/resend': fleet('admin'),

  'GET /api/v1/access/me': hosts(...READ),
  'GET /api/v1/access/roles': hosts(...READ),
  'GET /api/v1/access/settings': fleet('auditor', 'admin'),
  'GET /api/v1/access/users': fleet('auditor', 'admin'),
  'GET /api/v1/access/users/{id}': fleet('auditor', 'admin'),
  'POST /api/v1/access/users': fleet('admin'),
  'PATCH /api/v1/access/users/{id}': fleet('admin'),
  'GET /api/v1/access/bindings': fleet('auditor', 'admin'),
  'POST /api/v1/access/bindings': fleet('admin'),
  'DELETE /api/v1/access/bindings/{id}': fleet('admin'),
  // One's own; of others for admins: the route asks.
  'GET /api/v1/access/tokens': hosts(...READ),
  'POST /api/v1/access/tokens': hosts(...TOKEN_MAKERS),
  'DELETE /api/v1/access/tokens/{id}': hosts(...TOKEN_MAKERS),
  'GET /api/v1/access/sessions': hosts(...READ),
  'DELETE /api/v1/access/sessions/{id}': hosts('viewer', 'operator', 'reviewer', 'policy_editor', 'admin'),
};

export function needOf(method: string, path: string): Need {
  return ROUTE_NEEDS[`${method.toUpperCase()} ${path}`] ?? fleet('admin');
}

/** The asker as far as a route lets them. @throws {ApiError} FORBIDDEN that says which role is asked for */
export function allowed(who: Principal, { roles, of }: Need, isRead: boolean): Principal {
  const held = acting(who, ...roles);
  if (held === undefined || (of === 'fleet' && !isFleetWide(who, ...roles)))
    throw new ApiError(
      'FORBIDDEN',
      `this is for ${roles.join(' or ')}${of === 'fleet' ? ' of every host group' : ''}; you are ${roleText(who)}`,
    );
  // Whoever reads sees what any of their roles lets them see (of waivers: waiverreads.ts asks where they are read); whoever acts, acts
  // where the role is held that lets them.
  if (isRead && of === 'hosts') return who;
  return of === 'fleet'
    ? principalOf(
        who,
        grantsOf(held).filter(({ groups }) => groups === null),
      )
    : held;
}

function roleText(who: Principal): string {
  const held = grantsOf(who).map(({ role, groups }) => (groups === null ? role : `${role} of ${groups.join(', ')}`));
  return held.length === 0 ? 'without a role' : held.join(', ');
}

export function requires(need: Need, isRead: boolean): MiddlewareHandler<Env> {
  return async (c, next) => {
    c.set('principal', allowed(c.get('principal'), need, isRead));
    await next();
  };
}
