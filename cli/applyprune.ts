/**
 * What no document names any more (docs/apply.md 3.11): removed only where `--prune` names its kind, and only what documents of that kind
 * could have made. Whoever applies never takes away what they act with.
 */
import type { z } from 'zod';
import type { ChannelJson } from '#server/api/notices.ts';
import type * as schemas from '#server/api/schemas.ts';
import type { WaiverJson } from '#server/api/waivers.ts';
import { sourcePattern } from '#server/decisions/sources.ts';
import { denialKey, holderName, type ApiToken, type Binding, type Denial, type View } from './applyaccess.ts';
import type { Document, Kind } from './applydocuments.ts';
import { TOKEN_LABEL, type How } from './applykinds.ts';

/** Policy and Setting always have one that stands. */
export const PRUNED = [
  'Source',
  'Denial',
  'Channel',
  'Token',
  'Access',
  'ApiToken',
  'View',
  'Waiver',
] as const satisfies readonly Kind[];
export type Pruned = (typeof PRUNED)[number];

/** One thing that no document names; `remove` takes it away. */
export type Extra = {
  readonly kind: Pruned;
  readonly name: string;
  readonly detail: string;
  readonly remove: () => Promise<unknown>;
  /** Why it cannot be removed by whoever asks; absent where it can, as far as can be known. */
  readonly refused?: string;
};

/** Of each kind the things that are there and that no document names. */
export async function extras(kinds: readonly Pruned[], documents: readonly Document[], how: How): Promise<Extra[]> {
  const out: Extra[] = [];
  // The other way round than they are applied: what leans on another goes first.
  for (const kind of PRUNED.toReversed()) {
    if (!kinds.includes(kind)) continue;
    const named = new Set(documents.filter((one) => one.kind === kind).map(({ name }) => name));
    out.push(...(await FIND[kind](named, documents, how)));
  }
  return out;
}

type Find = (named: ReadonlySet<string>, documents: readonly Document[], how: How) => Promise<Extra[]>;
const at = (path: string, id: string): string => `${path}/${encodeURIComponent(id)}`;

const FIND: Readonly<Record<Pruned, Find>> = {
  async Source(named, _, { connection }) {
    const { items } = await connection.ask<{ items: z.infer<typeof schemas.Source>[] }>('GET', '/api/v1/sources');
    const patterns = new Set([...named].map(sourcePattern));
    return items
      .filter(({ pattern }) => !patterns.has(pattern))
      .map(({ pattern }) => ({
        kind: 'Source',
        name: pattern,
        detail: 'no longer allowed',
        remove: () => connection.ask('DELETE', `/api/v1/sources?reference=${encodeURIComponent(pattern)}`),
      }));
  },
  async Denial(_, documents, { connection }) {
    const kept = new Set(
      documents.flatMap((one) => (one.kind === 'Denial' ? [denialKey({ ...one.spec, reason: one.name })] : [])),
    );
    const { items } = await connection.ask<{ items: Denial[] }>('GET', '/api/v1/deny');
    return items
      .filter(({ entry }) => !kept.has(denialKey(entry)))
      .map(({ id, entry }) => ({
        kind: 'Denial',
        name: entry.reason,
        detail: id,
        remove: () => connection.ask('DELETE', at('/api/v1/deny', id)),
      }));
  },
  async Channel(named, _, { connection }) {
    const { items } = await connection.ask<{ items: z.infer<typeof ChannelJson>[] }>('GET', '/api/v1/channels');
    return items
      .filter(({ name }) => !named.has(name))
      .map(({ id, name }) => ({
        kind: 'Channel',
        name,
        detail: `${id}, with what it had yet to tell`,
        remove: () => connection.ask('DELETE', at('/api/v1/channels', id)),
      }));
  },
  async Token(named, _, { connection }) {
    const { items } = await connection.list<z.infer<typeof schemas.Token>>('/api/v1/tokens', {}, Infinity);
    // Those that a document made: hosts that enrolled with them keep the label.
    return items.flatMap(({ id, labels, usable }) => {
      const name = labels[TOKEN_LABEL];
      return name === undefined || named.has(name) || !usable
        ? []
        : [
            {
              kind: 'Token' as const,
              name,
              detail: id,
              remove: () => connection.ask('DELETE', at('/api/v1/tokens', id)),
            },
          ];
    });
  },
  async Access(named, _, { connection }) {
    const me = await connection.ask<{ id: string }>('GET', '/api/v1/access/me');
    const { items } = await connection.ask<{ items: Binding[] }>('GET', '/api/v1/access/bindings');
    return items.flatMap(({ id, holder, role, group }) => {
      const name = holderName(holder);
      return id === null || named.has(name) || name === me.id
        ? []
        : [
            {
              kind: 'Access' as const,
              name,
              detail: group === null ? role : `${role}@${group}`,
              remove: () => connection.ask('DELETE', at('/api/v1/access/bindings', id)),
            },
          ];
    });
  },
  async ApiToken(_, documents, { connection }) {
    const me = await connection.ask<{ id: string }>('GET', '/api/v1/access/me');
    const kept = new Set(
      documents.flatMap((one) => (one.kind === 'ApiToken' ? [`${one.spec.owner ?? me.id} ${one.name}`] : [])),
    );
    const { items } = await connection.list<ApiToken>('/api/v1/access/tokens', {}, Infinity);
    // Those of people are theirs.
    return items
      .filter(
        ({ owner, name, usable }) =>
          usable && owner.startsWith('service:') && owner !== me.id && !kept.has(`${owner} ${name}`),
      )
      .map(({ id, name, owner }) => ({
        kind: 'ApiToken',
        name,
        detail: `${id} of ${owner}`,
        remove: () => connection.ask('DELETE', at('/api/v1/access/tokens', id)),
      }));
  },
  async View(named, _, { connection }) {
    const { items } = await connection.ask<{ items: View[] }>('GET', '/api/v1/views');
    return items
      .filter(({ name, shared }) => shared && !named.has(name))
      .map(({ id, name }) => ({
        kind: 'View',
        name,
        detail: id,
        remove: () => connection.ask('DELETE', at('/api/v1/views', id)),
      }));
  },
  async Waiver(named, _, { connection, note }) {
    const query = { state: 'requested,approved,active' };
    const me = await connection.ask<{ roles: string[] }>('GET', '/api/v1/access/me');
    const { singlePerson } = await connection.ask<{ singlePerson: boolean }>('GET', '/api/v1/settings/waivers');
    const decides = me.roles.includes('reviewer') || (singlePerson && me.roles.includes('admin'));
    const { items } = await connection.list<z.infer<typeof WaiverJson>>('/api/v1/waivers', query, Infinity);
    return items
      .filter(({ title }) => !named.has(title))
      .map(({ id, title, state, revision }) => ({
        kind: 'Waiver',
        name: title,
        detail: `${id}, ${state}`,
        ...(decides ? {} : { refused: `${id} is ended by reviewers; you are ${me.roles.join(', ')}` }),
        remove: () =>
          connection.ask(
            'POST',
            `${at('/api/v1/waivers', id)}/${state === 'requested' ? 'reject' : 'revoke'}`,
            state === 'requested' ? { note } : { reason: note },
            { 'if-match': `"${revision}"` },
          ),
      }));
  },
};
