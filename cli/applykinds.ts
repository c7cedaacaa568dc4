/** How each kind of document is held against a server and made true there (docs/apply.md 3): what is so already is left alone. */
import type { z } from 'zod';
import { ServerError, type Connection } from './connection.ts';
import type { DocumentOf } from './applydocuments.ts';
import { fleetDiff } from './policyserver.ts';
import type { ChannelJson } from '#server/api/notices.ts';
import type * as policies from '#server/api/policyschemas.ts';
import type * as schemas from '#server/api/schemas.ts';
import type { WaiverJson } from '#server/api/waivers.ts';
import { sourcePattern } from '#server/decisions/sources.ts';
import { routingJson, routingOf, shownTarget, targetFrom } from '#server/notices/channel.ts';

export type Difference = { readonly at: string; readonly before: unknown; readonly after: unknown };
export type Outcome = {
  readonly outcome: 'created' | 'changed' | 'unchanged' | 'removed' | 'refused';
  /** In a few words: an id, what is still missing, or why not. */
  readonly detail: string;
  readonly code?: string;
  readonly differences?: readonly Difference[];
  /** Told once, and written where `--secrets` says. */
  readonly secret?: { readonly name: string; readonly text: string };
};

export type How = {
  readonly connection: Connection;
  readonly dryRun: boolean;
  /** Only whether it would be refused is asked: what it would do to the fleet is not worked out. */
  readonly isCheck?: boolean;
  readonly approve: boolean;
  readonly note: string;
  /** Whether there is a place for what the server tells once. */
  readonly keepsSecrets: boolean;
};

export const refused = (code: string, detail: string, differences: readonly Difference[] = []): Outcome => ({
  outcome: 'refused',
  code,
  detail,
  differences,
});
export const unchanged = (detail: string): Outcome => ({ outcome: 'unchanged', detail });

/** Member by member; what a side leaves out is null there. */
export function differencesOf(before: object, after: object): Difference[] {
  const [was, is] = [new Map(Object.entries(before)), new Map(Object.entries(after))];
  return [...new Set([...was.keys(), ...is.keys()])].flatMap((at): Difference[] => {
    const [b, a]: unknown[] = [was.get(at) ?? null, is.get(at) ?? null];
    return canonical(b) === canonical(a) ? [] : [{ at, before: b, after: a }];
  });
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}

// ── sources ──────────────────────────────────────────────────────────────────────────────────────────────────────────

export async function applySource({ name, spec }: DocumentOf<'Source'>, how: How): Promise<Outcome> {
  const { items } = await how.connection.ask<{ items: z.infer<typeof schemas.Source>[] }>('GET', '/api/v1/sources');
  const pattern = sourcePattern(name);
  const known = items.find((source) => source.pattern === pattern);
  const differences = differencesOf(known === undefined ? {} : { plainHttp: known.plainHttp }, spec);
  if (known !== undefined && differences.length === 0) return unchanged(pattern);
  let detail = pattern;
  if (!how.dryRun) {
    const body = { reference: name, ...spec };
    const { warning } = await how.connection.ask<{ warning?: string }>('POST', '/api/v1/sources', body);
    if (warning !== undefined) detail = `${pattern}: ${warning}`;
  }
  return { outcome: known === undefined ? 'created' : 'changed', detail, differences };
}

// ── the policy ───────────────────────────────────────────────────────────────────────────────────────────────────────

export async function applyPolicy({ policy, documents }: DocumentOf<'Policy'>, how: How): Promise<Outcome> {
  const { connection } = how;
  const { active, digest, managed } = await connection.ask<z.infer<typeof policies.PolicyList>>(
    'GET',
    '/api/v1/policies?limit=1',
  );
  if (digest === policy.digest) return unchanged(active === null ? 'it judges already' : `version ${active}`);
  if (managed !== null) return refused('POLICY_MANAGED', `the policy is changed in ${managed.place}, not over the API`);
  if (how.isCheck === true) return { outcome: 'changed', detail: policy.name };
  const { findings, hosts } = await fleetDiff(connection, { documents });
  const effect = `+${findings.added} findings, −${findings.removed}, ${findings.rerated} of another severity; ${hosts.changed} hosts change`;
  const differences = [{ at: 'digest', before: digest, after: policy.digest }];
  if (how.dryRun) return { outcome: 'changed', detail: effect, differences };
  const body = { documents, note: how.note, ...(active === null ? {} : { expect: active }) };
  const { version } = await connection.ask<{ version: number }>('POST', '/api/v1/policies', body);
  return { outcome: 'changed', detail: `version ${version}: ${effect}`, differences };
}

// ── channels ─────────────────────────────────────────────────────────────────────────────────────────────────────────

type Channel = z.infer<typeof ChannelJson>;

export async function applyChannel({ name, spec }: DocumentOf<'Channel'>, how: How): Promise<Outcome> {
  const { connection } = how;
  const { items } = await connection.ask<{ items: Channel[] }>('GET', '/api/v1/channels');
  const known = items.find((channel) => channel.name === name);
  const { target, routing, open } = spec;
  // Paths and queries of webhooks are secret and not told: what is compared is what the server shows.
  const shown = { kind: target.kind, target: shownTarget(targetFrom(target, () => '')) };
  const after = { ...shown, routing: routingJson(routingOf(routing)), state: 'active' };
  // Where messages may go is for whoever runs the server to say: it is asked before anything is promised.
  const checked = () => connection.ask('POST', '/api/v1/channels?dryRun=true', { name, target, routing, open });
  if (known === undefined) {
    const makesKey = (target.kind === 'webhook' || target.kind === 'ocsf') && target.key === undefined;
    if (makesKey && !how.keepsSecrets)
      return refused(
        'SECRET_PLACE',
        'its signing key would be told once: name a folder with --secrets, or give the key in spec.target.key',
      );
    const differences = differencesOf({}, after);
    if (how.dryRun) {
      await checked();
      return { outcome: 'created', detail: shown.target, differences };
    }
    const made = await connection.ask<{ channel: Channel; key: string | null }>('POST', '/api/v1/channels', {
      name,
      target,
      routing,
      open,
    });
    return {
      outcome: 'created',
      detail: `${made.channel.id}, ${shown.target}`,
      differences,
      ...(makesKey && made.key !== null ? { secret: { name: `channel-${made.channel.id}`, text: made.key } } : {}),
    };
  }
  const { id, revision, kind, target: place, routing: told, state } = known;
  const differences = differencesOf({ kind, target: place, routing: told, state }, after);
  if (differences.length === 0) return unchanged(id);
  if (how.dryRun) await checked();
  else {
    const moved = differences.some(({ at }) => at === 'kind' || at === 'target');
    const body = { ...(moved ? { target } : {}), routing, state: 'active' };
    await connection.ask('PATCH', `/api/v1/channels/${id}`, body, { 'if-match': `"${revision}"` });
  }
  return { outcome: 'changed', detail: id, differences };
}

// ── enrolment tokens ─────────────────────────────────────────────────────────────────────────────────────────────────

/** Tokens have no names: this label of the hosts that enrol with one says which document it is of. */
export const TOKEN_LABEL = 'token';

export async function applyToken({ name, spec }: DocumentOf<'Token'>, how: How): Promise<Outcome> {
  const { connection } = how;
  if (Object.hasOwn(spec.labels, TOKEN_LABEL) && spec.labels[TOKEN_LABEL] !== name)
    return refused('TOKEN_LABEL', `the label ${TOKEN_LABEL} is the name of the document: leave it out`);
  const body = { ...spec, labels: { ...spec.labels, [TOKEN_LABEL]: name } };
  const { items } = await connection.list<z.infer<typeof schemas.Token>>('/api/v1/tokens', {}, Infinity);
  const [known] = items
    .filter(({ labels }) => labels[TOKEN_LABEL] === name)
    .sort((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt) || (a.revokedAt === null ? -1 : 1));
  // By the server's clock: not revoked, not used up, and still of no use.
  const isUsedUp = known !== undefined && known.maxUses !== null && known.uses >= known.maxUses;
  const isOver = known !== undefined && known.revokedAt === null && !known.usable && !isUsedUp;
  const { lifeSeconds: _, ...terms } = body;
  const before =
    known === undefined || isOver ? {} : { labels: known.labels, group: known.group, maxUses: known.maxUses };
  const differences = differencesOf(before, terms);
  if (known !== undefined && !isOver) {
    if (known.revokedAt !== null)
      return refused('TOKEN_REVOKED', `${known.id} of this name was revoked: take the document out, or rename it`);
    if (differences.length === 0)
      return unchanged(`${known.id}, until ${known.expiresAt}${known.usable ? '' : ', used up'}`);
  }
  if (!how.keepsSecrets)
    return refused('SECRET_PLACE', 'the token would be told once: name a folder for it with --secrets', differences);
  const outcome = known === undefined || isOver ? 'created' : 'changed';
  if (how.dryRun) return { outcome, detail: 'a new token', differences };
  const made = await connection.ask<{ id: string; token: string }>('POST', '/api/v1/tokens', body);
  if (outcome === 'changed') await connection.ask('DELETE', `/api/v1/tokens/${known!.id}`);
  const detail = outcome === 'changed' ? `${made.id}; ${known!.id} is revoked` : made.id;
  return { outcome, detail, differences, secret: { name: `token-${name}`, text: made.token } };
}

// ── waivers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

type Waiver = z.infer<typeof WaiverJson>;
const LIVE = new Set(['requested', 'approved', 'active']);
const waiverPath = (id: string): string => `/api/v1/waivers/${encodeURIComponent(id)}`;

/** Terms as they are compared: moments as numbers; what the server filled in for an absent one is no difference. */
function termsOf(
  document: DocumentOf<'Waiver'>['spec'],
  waiver: Waiver,
): { readonly before: object; readonly after: object } {
  const moment = (text: string): number =>
    text.length === 10 ? Date.parse(`${text}T00:00:00.000Z`) + 86_400_000 : Date.parse(text);
  const time = (text: string | null): string | null => (text === null ? null : new Date(moment(text)).toISOString());
  const { content, ...selector } = document.selector;
  const { content: held, ...heldSelector } = waiver.selector as { readonly content?: unknown };
  // What was present when it was asked for was pinned then, and stays.
  const same = content === 'pinned' && held !== 'any';
  const of = (from: DocumentOf<'Waiver'>['spec'] | Waiver, ends: string) => ({
    kind: from.kind,
    justification: from.justification,
    compensating: from.compensating,
    ticket: from.ticket,
    // Its approval, where the document says nothing.
    startsAt: time(document.startsAt === null ? waiver.startsAt : from.startsAt),
    expiresAt: time(ends),
  });
  return {
    before: {
      ...of(waiver, waiver.extension?.expiresAt ?? waiver.expiresAt),
      ceiling: waiver.ceiling,
      selector: heldSelector,
      content: same ? content : held,
    },
    after: { ...of(document, document.expiresAt), ceiling: document.ceiling ?? waiver.ceiling, selector, content },
  };
}

export async function applyWaiver({ name, spec }: DocumentOf<'Waiver'>, how: How): Promise<Outcome> {
  const { connection } = how;
  const { items } = await connection.list<Waiver>('/api/v1/waivers', {}, Infinity);
  const named = items.filter(({ title }) => title === name);
  const live = named.filter(({ state }) => LIVE.has(state));
  if (live.length > 1)
    return refused('WAIVER_NAME', `${live.map(({ id }) => id).join(' and ')} both have this title: end one of them`);
  const [known = named[0]] = live;
  const body = { ...spec, title: name };
  if (known !== undefined) {
    const { before, after } = termsOf(spec, known);
    const differences = differencesOf(before, after);
    if (differences.length === 0) return standing(known, how);
    if (LIVE.has(known.state)) return change(known, body, differences, how);
  }
  const preview = await connection.ask<{ text: string }>('POST', '/api/v1/waivers/preview', body);
  const differences = differencesOf({}, spec);
  if (how.dryRun) return { outcome: 'created', detail: `a request: ${preview.text}`, differences };
  const made = await connection.ask<Waiver>('POST', '/api/v1/waivers', body);
  const { detail } = await decided(made, how);
  return { outcome: 'created', detail, differences };
}

/** A waiver with the very terms of the document. */
async function standing(known: Waiver, how: How): Promise<Outcome> {
  const { id, state, extension, endedBy, decidedBy, decisionNote, endReason } = known;
  const why = (text: string | null) => (text === null ? '' : `: ${text}`);
  if (state === 'expired') return unchanged(`${id} ended; give it a later end to ask again`);
  if (state === 'rejected') return refused('WAIVER_STATE', `${decidedBy} rejected ${id}${why(decisionNote)}`);
  if (!LIVE.has(state)) return refused('WAIVER_STATE', `${endedBy} ended ${id} (${state})${why(endReason)}`);
  if (state !== 'requested' && extension === null) return unchanged(`${id}, ${state}`);
  if (how.dryRun) return unchanged(`${id} waits for approval`);
  const { approved, detail } = await decided(known, how);
  return approved ? { outcome: 'changed', detail } : unchanged(detail);
}

/** As far as its state lets it be changed: words and reach until it is approved, then its end alone. */
async function change(known: Waiver, body: object, differences: readonly Difference[], how: How): Promise<Outcome> {
  const { id, state, revision } = known;
  const match = { 'if-match': `"${revision}"` };
  if (state === 'requested') {
    if (how.dryRun) return { outcome: 'changed', detail: id, differences };
    const changed = await how.connection.ask<Waiver>('PATCH', waiverPath(id), body, match);
    return { outcome: 'changed', detail: (await decided(changed, how)).detail, differences };
  }
  const [end, ...others] = differences;
  const isLater = end?.at === 'expiresAt' && Date.parse(String(end.after)) > Date.parse(String(end.before));
  if (!isLater || others.length > 0)
    return refused(
      'WAIVER_STATE',
      `${id} is approved as it is, and only a later end can be asked for; for other terms revoke it and rename the document`,
      differences,
    );
  if (how.dryRun) return { outcome: 'changed', detail: `${id}: a later end`, differences };
  const ask = { expiresAt: end.after, note: how.note };
  const { waiver } = await how.connection.ask<{ waiver: Waiver }>('POST', `${waiverPath(id)}/extend`, ask, match);
  return { outcome: 'changed', detail: (await decided(waiver, how)).detail, differences };
}

/** Codes that say: not by this person. The request stands then. */
const ANOTHER = new Set(['WAIVER_OWN', 'WAIVER_ROLE', 'FORBIDDEN']);

/** Approves what whoever asks may approve; else it stays a request. */
async function decided({ id, revision }: Waiver, { connection, approve, note }: How) {
  if (!approve) return { approved: false, detail: `${id} waits for approval` };
  try {
    const match = { 'if-match': `"${revision}"` };
    await connection.ask('POST', `${waiverPath(id)}/approve`, { note }, match);
    return { approved: true, detail: `${id} is approved` };
  } catch (error) {
    if (!(error instanceof ServerError) || !ANOTHER.has(error.code)) throw error;
    return { approved: false, detail: `${id} waits for another person's approval` };
  }
}
