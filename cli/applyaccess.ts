/** Documents about people and programs, and what they want again (docs/apply.md 3): access, API tokens, views, settings, denials. */
import type { z } from 'zod';
import type { ApiTokenBody, BindingJson, TokenJson } from '#server/api/access.ts';
import type { Denied, DenyEntry } from '#server/api/trust.ts';
import type { ViewJson } from '#server/api/views.ts';
import type { DocumentOf } from './applydocuments.ts';
import { differencesOf, refused, unchanged, type How, type Outcome } from './applykinds.ts';
import { ServerError } from './connection.ts';

export type Binding = z.infer<typeof BindingJson>;
export type ApiToken = z.infer<typeof TokenJson>;
export type View = z.infer<typeof ViewJson>;
export type Denial = z.infer<typeof Denied>;

// ── who holds which role ─────────────────────────────────────────────────────────────────────────────────────────────

/** `claim:sre` as whoever holds it; all else is an account. */
export const holderOf = (name: string): Binding['holder'] =>
  name.startsWith('claim:') ? { kind: 'claim', id: name.slice('claim:'.length) } : { kind: 'account', id: name };
export const holderName = ({ kind, id }: Binding['holder']): string => (kind === 'claim' ? `claim:${id}` : id);

type Held = { readonly role: string; readonly group: string | null };
const heldText = ({ role, group }: Held): string => (group === null ? role : `${role}@${group}`);

/** The roles that the document names, and no others: what the server's settings bind besides is theirs. */
export async function applyAccess({ name, spec }: DocumentOf<'Access'>, how: How): Promise<Outcome> {
  const { connection } = how;
  const holder = holderOf(name);
  const service = /^service:(.+)$/.exec(name)?.[1];
  const { items } = await connection.ask<{ items: Binding[] }>('GET', '/api/v1/access/bindings');
  const stands = items.filter((one) => one.id !== null && holderName(one.holder) === holderName(holder));
  const has = (all: readonly Held[], one: Held): boolean => all.some((other) => heldText(other) === heldText(one));
  const missing = spec.roles.filter((one) => !has(stands, one));
  const extra = stands.filter((one) => !has(spec.roles, one));
  const isNew = holder.kind === 'account' && !(await isAccount(holder.id, how));
  if (isNew && service === undefined)
    return refused('USER_UNKNOWN', `there is no account ${holder.id}; people get theirs when they first sign in`);
  const roles = (all: readonly Held[]): string[] => all.map(heldText).sort();
  const differences = differencesOf({ roles: roles(stands) }, { roles: roles(spec.roles) });
  if (!isNew && missing.length + extra.length === 0) return unchanged(roles(spec.roles).join(', ') || 'no role');
  if (!how.dryRun) {
    if (isNew) await connection.ask('POST', '/api/v1/access/users', { service });
    for (const { role, group } of missing)
      await connection.ask('POST', '/api/v1/access/bindings', { holder, role, group });
    for (const { id } of extra) await connection.ask('DELETE', `/api/v1/access/bindings/${encodeURIComponent(id!)}`);
  }
  const outcome = isNew || stands.length === 0 ? 'created' : 'changed';
  return { outcome, detail: roles(spec.roles).join(', ') || 'no role', differences };
}

async function isAccount(id: string, { connection }: How): Promise<boolean> {
  try {
    await connection.ask('GET', `/api/v1/access/users/${encodeURIComponent(id)}`);
    return true;
  } catch (error) {
    if (error instanceof ServerError && error.code === 'USER_UNKNOWN') return false;
    throw error;
  }
}

// ── API tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** As an enrolment token: made once, made anew when its time is over or its terms are others, and never after a person revoked it. */
export async function applyApiToken({ name, spec }: DocumentOf<'ApiToken'>, how: How): Promise<Outcome> {
  const { connection } = how;
  const owner = spec.owner ?? (await connection.ask<{ id: string }>('GET', '/api/v1/access/me')).id;
  const { items } = await connection.list<ApiToken>('/api/v1/access/tokens', {}, Infinity);
  const [known] = items
    .filter((token) => token.name === name && token.owner === owner)
    .sort((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt) || (a.revokedAt === null ? -1 : 1));
  const isOver = known !== undefined && known.revokedAt === null && !known.usable;
  const after = { owner, ...termsOf(spec) };
  const differences = differencesOf(known === undefined || isOver ? {} : { owner, ...termsHeld(known) }, after);
  if (known !== undefined && !isOver) {
    if (known.revokedAt !== null)
      return refused('TOKEN_REVOKED', `${known.id} of this name was revoked: take the document out, or rename it`);
    // Where no group is named it holds what its owner held when it was made; that may be narrower than every host.
    const { groups: where } = spec;
    const roles = differences.some(({ at }) => at === 'roles');
    if (!roles && (where === null || differences.length === 0))
      return unchanged(`${known.id}, until ${known.expiresAt}`);
  }
  if (!how.keepsSecrets)
    return refused('SECRET_PLACE', 'the token would be told once: name a folder for it with --secrets', differences);
  const outcome = known === undefined || isOver ? 'created' : 'changed';
  if (how.dryRun) return { outcome, detail: 'a new API token', differences };
  const made = await connection.ask<{ token: string; record: ApiToken }>('POST', '/api/v1/access/tokens', {
    ...spec,
    name,
  });
  if (outcome === 'changed') await connection.ask('DELETE', `/api/v1/access/tokens/${encodeURIComponent(known!.id)}`);
  const detail = outcome === 'changed' ? `${made.record.id}; ${known!.id} is revoked` : made.record.id;
  return { outcome, detail, differences, secret: { name: `api-token-${name}`, text: made.token } };
}

const termsOf = ({ roles, groups }: Pick<z.infer<typeof ApiTokenBody>, 'roles' | 'groups'>) => ({
  roles: [...new Set(roles)].sort(),
  groups: groups === null ? null : [...groups].sort(),
});
function termsHeld({ grants }: ApiToken) {
  const groups = grants.flatMap((grant) => grant.groups ?? []);
  return {
    roles: [...new Set(grants.map(({ role }) => role))].sort(),
    groups: grants.some((grant) => grant.groups === null) ? null : [...new Set(groups)].sort(),
  };
}

// ── views, settings, denials ─────────────────────────────────────────────────────────────────────────────────────────

export async function applyView({ name, spec }: DocumentOf<'View'>, how: How): Promise<Outcome> {
  const { connection } = how;
  const { items } = await connection.ask<{ items: View[] }>('GET', '/api/v1/views');
  const known = items.find((view) => view.name === name && view.shared === spec.shared);
  const differences = differencesOf(known === undefined ? {} : { q: known.q, shared: known.shared }, spec);
  if (known !== undefined && differences.length === 0) return unchanged(known.id);
  const body = { ...spec, name };
  if (how.dryRun) return { outcome: known === undefined ? 'created' : 'changed', detail: spec.q, differences };
  const { id } =
    known === undefined
      ? await connection.ask<View>('POST', '/api/v1/views', body)
      : await connection.ask<View>('PUT', `/api/v1/views/${encodeURIComponent(known.id)}`, body);
  return { outcome: known === undefined ? 'created' : 'changed', detail: id, differences };
}

export async function applySetting({ name, spec }: DocumentOf<'Setting'>, how: How): Promise<Outcome> {
  const before = await how.connection.ask<typeof spec>('GET', `/api/v1/settings/${name}`);
  const differences = differencesOf(before, spec);
  const detail = spec.singlePerson ? 'one person may ask and approve' : 'two persons';
  if (differences.length === 0) return unchanged(detail);
  if (!how.dryRun) await how.connection.ask('PUT', `/api/v1/settings/${name}`, spec);
  return { outcome: 'changed', detail, differences };
}

const WHAT = ['image', 'key', 'identity', 'certificate', 'logEntry'] as const;
/** The thing that is denied, in one line: what two entries have in common that say the same. */
export function denialKey(entry: z.infer<typeof DenyEntry>): string {
  const kind = WHAT.find((one) => entry[one] !== undefined);
  return JSON.stringify([kind, kind === undefined ? null : entry[kind]]);
}

export async function applyDenial({ name, spec }: DocumentOf<'Denial'>, how: How): Promise<Outcome> {
  const { connection } = how;
  const entry = { ...spec, reason: name };
  const { items } = await connection.ask<{ items: Denial[] }>('GET', '/api/v1/deny');
  const known = items.find((one) => denialKey(one.entry) === denialKey(entry));
  const differences = differencesOf(known?.entry ?? {}, entry);
  if (known !== undefined && differences.length === 0) return unchanged(known.id);
  const outcome = known === undefined ? 'created' : 'changed';
  if (how.dryRun) return { outcome, detail: denialKey(entry), differences };
  const { id } = await connection.ask<{ id: string }>('PUT', '/api/v1/deny', entry);
  return { outcome, detail: id, differences };
}
