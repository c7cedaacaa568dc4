/** The list of hosts as its address says it: the same words as the API's, read strictly, so that what is shown is what was asked for. */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { VERDICTS } from '#src/finding/verdict.ts';
import type { Scope } from '#src/finding/scope.ts';
import type { Image } from '#server/store/records.ts';
import type { HostCursor, HostFilter, Store } from '#server/store/store.ts';
import { nameOf } from './home.ts';

export const FRESHNESS = ['current', 'late', 'silent'] as const;
export const STATES = ['active', 'pending', 'retired'] as const;
export const SORTS = ['attention', 'name'] as const;

const LABEL = /^([^=]{1,100})=(.{0,200})$/;
const Text = (max: number) =>
  z
    .string()
    .max(max)
    .refine((text) => text.isWellFormed() && !text.includes('\0'));

/** Unknown parameters and words are left out of the filter, and said so. */
const Words = {
  verdict: z.enum(VERDICTS),
  freshness: z.enum(FRESHNESS),
  state: z.enum(STATES),
  group: Text(200),
  label: Text(301).regex(LABEL),
  image: Text(200),
  staged: Text(200),
  rollback: Text(200),
  name: Text(255),
  sort: z.enum(SORTS),
};
type Words = { readonly [Key in keyof typeof Words]?: z.infer<(typeof Words)[Key]> };

export type Asked = {
  readonly words: Words;
  /** What stands in the address and is no filter, as `name=value`. */
  readonly unknown: readonly string[];
};

const BESIDE: ReadonlySet<string> = new Set(['after', 'did', 'n']);

export function readAsked(query: URLSearchParams): Asked {
  const words: Record<string, string> = {};
  const unknown: string[] = [];
  for (const [name, value] of query) {
    if (name === 'after' && cursorFrom(value, query.get('sort') === 'name' ? 'name' : 'attention') === null)
      unknown.push(`after=${value}`.slice(0, 200));
    if (BESIDE.has(name) || value === '') continue;
    const schema = Object.hasOwn(Words, name) ? Words[name as keyof Words] : undefined;
    if (schema?.safeParse(value).success === true && words[name] === undefined) words[name] = value;
    else unknown.push(`${name}=${value}`.slice(0, 200));
  }
  return { words, unknown };
}

/** By whom and when the list is read. */
export type Seen = { readonly now: Instant; readonly scope: Scope };

/** What the store is asked; an image by each of its names. */
export async function filterOf(
  { verdict, freshness, state, group, label, image, staged, rollback, name }: Words,
  { now, scope }: Seen,
  store: Pick<Store, 'images' | 'read'>,
): Promise<HostFilter> {
  const [, key, value] = LABEL.exec(label ?? '') ?? [];
  return {
    now,
    scope,
    ...(verdict === undefined ? {} : { verdicts: [verdict] }),
    ...(freshness === undefined ? {} : { freshness }),
    ...(state === undefined ? {} : { states: [state] }),
    ...(group === undefined ? {} : { group }),
    ...(key === undefined ? {} : { label: { key, value: value ?? '' } }),
    ...(image === undefined ? {} : { booted: await namesOf(image, store) }),
    ...(staged === undefined ? {} : { staged: await namesOf(staged, store) }),
    ...(rollback === undefined ? {} : { rollback: await namesOf(rollback, store) }),
    ...(name === undefined ? {} : { namePrefix: name }),
  };
}

/** All names under which hosts may report an image. */
export async function namesOf(image: string, { images, read }: Pick<Store, 'images' | 'read'>): Promise<string[]> {
  const found = await images.find(image);
  if (found === undefined) return [image];
  const aliases = await read.aliases(found.image.digest);
  return [found.image.digest, ...aliases.map(({ alias }) => alias)];
}

/** A page's end as the address keeps it. */
export function cursorText(cursor: HostCursor): string {
  return cursor.sort === 'name' ? `n.${cursor.id}.${cursor.name}` : `a.${cursor.id}.${cursor.rank}`;
}

export function cursorFrom(text: string | undefined, sort: HostCursor['sort']): HostCursor | null {
  const match = /^([an])\.(h_[a-z2-7]{26})\.(.{0,300})$/s.exec(text ?? '');
  if (match === null) return null;
  const [, kind, id, key] = match as unknown as [string, string, string, string];
  if (kind === 'n') return sort === 'name' ? { sort, name: key, id } : null;
  return sort === 'attention' && /^[0-9]{1,4}$/.test(key) ? { sort, rank: Number(key), id } : null;
}

/** What an image is called where hosts are listed: place and version; undefined where nobody knows it. */
export type Named = { readonly digest: string; readonly place: string; readonly version: string | null };

/** Images by whatever hosts call them; each is looked up once. */
export async function imagesNamed(
  reported: Iterable<string | null>,
  { images }: Pick<Store, 'images'>,
): Promise<ReadonlyMap<string, Named>> {
  const names = new Set([...reported].filter((name) => name !== null));
  const found = await Promise.all([...names].map(async (name) => [name, (await images.find(name))?.image] as const));
  return new Map(found.flatMap(([name, image]) => (image === undefined ? [] : [[name, namedOf(image)] as const])));
}

export function namedOf(image: Pick<Image, 'digest' | 'version' | 'repositories' | 'claims'>): Named {
  return { digest: image.digest, place: nameOf(image), version: image.version };
}
