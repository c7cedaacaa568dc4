/**
 * What a host booted before, and what follows from it (docs/policy.md, section 11): files of /etc that keep what an older image said, and
 * whether the host went back to an older image. Known from its own reports and from manifests; nothing of it is asked of the host.
 */
import { hash } from 'node:crypto';
import type { Instant } from '#src/clock.ts';
import type { Drift, Secret } from '#src/drift/drift.ts';
import { isSecret } from '#src/drift/redact.ts';
import { backendOf, type Rule } from '#src/image/backend.ts';
import { KNOWN_DEFAULTS_MAX, LINEAGE_COPIES_MAX, LINEAGE_IMAGES_MAX, LINEAGE_STAYS_MAX } from '#src/limits.ts';
import { comparePaths, treeOf, type Entry, type Facts } from '#src/manifest/entry.ts';
import { parseTexts } from '#src/manifest/mtree.ts';
import { unvis, vis } from '#src/manifest/vis.ts';
import type { Evidence } from '#src/policy/evaluate.ts';
import type { Stale } from '#src/policy/judgement.ts';
import type { Age } from '#src/policy/state.ts';
import type { Booted, Lineage, Stay } from '#server/store/policyrecords.ts';
import { Lru } from '#server/lru.ts';
import type { KnownImages, ReadyImage } from './known.ts';

/** What an image has in /etc, by path as it is. */
export type Defaults = ReadonlyMap<string, Facts>;

/** The /etc of images, read once and kept at hand: hosts of one fleet come from the same few. */
export class KnownDefaults {
  readonly #images: KnownImages;
  readonly #known = new Lru<string, Defaults>(KNOWN_DEFAULTS_MAX);

  constructor(images: KnownImages) {
    this.#images = images;
  }

  /** Under this rule, or the newest of its backend; undefined while the image has no manifest. */
  async of(image: string, rule: string): Promise<Defaults | undefined> {
    const key = `${rule} ${image}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const resolved = await this.#images.resolve(image);
    if (resolved.kind !== 'ready') return undefined;
    const { manifests } = resolved.image;
    const ruled =
      manifests.find(({ header }) => header.rule === rule) ??
      manifests.find(({ header }) => backendOf(header.rule as Rule) === backendOf(rule as Rule));
    if (ruled === undefined) return undefined;
    const { main, extra } = await ruled.texts('etc');
    const defaults = new Map(parseTexts(main, extra).map(({ path, ...facts }: Entry) => [path, facts as Facts]));
    this.#known.set(key, defaults);
    return defaults;
  }
}

export type LineageDeps = {
  readonly images: KnownImages;
  readonly defaults: KnownDefaults;
};

/** What of a report the lineage needs. */
export type Told = {
  /** Manifest digest of the booted image, or what the host gives for one; null where it gives none. */
  readonly booted: string | null;
  readonly rule: string | null;
  /** What differs from the booted image; null where that was not told whole. */
  readonly differs: { readonly drift: readonly Drift[]; readonly secrets: readonly Secret[] } | null;
  /** Paths of /etc that could not be read, as they are. */
  readonly holes: readonly string[];
  /** The report's number, what the host says that it follows, and when it was heard before; absent where nothing is kept of it. */
  readonly seq?: number;
  readonly reference?: string | null;
  readonly heardAt?: Instant | null;
};

export type Lineaged = {
  /** Undefined where it is what is stored already. */
  readonly lineage: Lineage | undefined;
  readonly evidence: NonNullable<Evidence['lineage']> | undefined;
};

const EMPTY: Lineage = { images: [], copies: [] };

/** The host's lineage with this report in it, and what it says. */
export async function lineageOf(stored: Lineage | null, told: Told, at: Instant, deps: LineageDeps): Promise<Lineaged> {
  const { booted, rule } = told;
  const before = stored ?? EMPTY;
  if (booted === null) return { lineage: undefined, evidence: undefined };
  const images = imagesWith(before, booted, at);
  const stays = staysWith(before, booted, told, at);
  const now = images.list.findIndex(({ image }) => image === booted);
  const rollback = await rollbackOf(images.list, now, deps);
  const defaults = rule === null ? undefined : await deps.defaults.of(booted, rule);
  if (told.differs === null || rule === null || defaults === undefined) {
    const lineage =
      images.changed || stays !== before.stays ? { images: images.list, copies: images.copies, stays } : undefined;
    return { lineage, evidence: { stale: null, rollback } };
  }
  const older = await Promise.all(
    images.list.map(async ({ image }, index) => (index === now ? defaults : deps.defaults.of(image, rule))),
  );
  const copies = copiesOf(told.differs, told.holes, { images: images.list, copies: images.copies }, now, older);
  const lineage: Lineage = { images: images.list, copies: copies.list, stays };
  const changed =
    images.changed || stays !== before.stays || JSON.stringify(copies.list) !== JSON.stringify(before.copies);
  const stale = copies.capped ? null : staleOf(lineage, now, older, defaults);
  return { lineage: changed ? lineage : undefined, evidence: { stale, rollback } };
}

function imagesWith(
  { images, copies }: Lineage,
  booted: string,
  at: Instant,
): { readonly list: readonly Booted[]; readonly copies: Lineage['copies']; readonly changed: boolean } {
  if (images.some(({ image }) => image === booted)) return { list: images, copies, changed: false };
  const list = [...images, { image: booted, firstAt: at }];
  if (list.length <= LINEAGE_IMAGES_MAX) return { list, copies, changed: true };
  // The oldest is forgotten, and with it what was made under it.
  const rest = copies.filter(([, , image]) => image > 0).map(([path, copy, image]) => [path, copy, image - 1] as const);
  return { list: list.slice(1), copies: rest, changed: true };
}

/** What the host ran one after the other; the stored list itself where nothing of it changed. */
function staysWith(
  { images, stays }: Lineage,
  booted: string,
  told: Pick<Told, 'seq' | 'reference' | 'heardAt'>,
  at: Instant,
): readonly Stay[] {
  const { seq = null, reference = null, heardAt = null } = told;
  const known = images.find(({ image }) => image === booted);
  // Of what an older build wrote only the first boot of each is known.
  const last = stays?.at(-1);
  if (stays === undefined || last === undefined)
    return [{ image: booted, from: known?.firstAt ?? at, seq: known === undefined ? seq : null, to: null, reference }];
  const isSame = last.image === booted || (seq !== null && last.seq === seq);
  if (isSame && last.image === booted && (reference === null || last.reference === reference)) return stays;
  // The image got its own name, or the host follows another tag to the same one.
  if (isSame) return [...stays.slice(0, -1), { ...last, image: booted, reference: reference ?? last.reference }];
  const ended = { ...last, to: Math.max(last.from, heardAt ?? at) };
  return [...stays.slice(0, -1), ended, { image: booted, from: at, seq, to: null, reference }].slice(
    -LINEAGE_STAYS_MAX,
  );
}

/** An image that the host ran before and that is newer: made later, or, where images do not say when they were made, first booted later. */
async function rollbackOf(
  images: readonly Booted[],
  now: number,
  { images: known }: LineageDeps,
): Promise<NonNullable<Evidence['lineage']>['rollback']> {
  const booted = images[now]!;
  if (images.length === 1) return null;
  const made = new Map<string, Instant>();
  for (const { image } of images) {
    const found = await known.resolve(image);
    if (found.kind === 'ready' && found.image.madeAt != null) made.set(image, found.image.madeAt);
  }
  const own = made.get(booted.image);
  const age = ({ image, firstAt }: Booted): number => (own === undefined ? firstAt : (made.get(image) ?? -Infinity));
  let newest: Booted | undefined;
  for (const other of images)
    if (other !== booted && age(other) > age(booted) && (newest === undefined || age(other) > age(newest)))
      newest = other;
  return newest === undefined ? null : { image: booted.image, from: newest.image };
}

/** What the host has of a path, in short; a secret's content is never known, so only that there is one. */
function copyOf(drift: Drift | undefined): string {
  if (drift === undefined) return 'secret';
  if (drift.change === 'removed') return 'removed';
  return hash('sha256', spelled(drift.actual)).slice(0, 12);
}

const NAMES = ['type', 'mode', 'uid', 'gid', 'size', 'sha256', 'link', 'capability', 'device'] as const;
const spelled = (facts: Partial<Facts>): string => JSON.stringify(NAMES.map((name) => facts[name] ?? null));
export const sameFacts = (a: Facts | undefined, b: Facts | undefined): boolean =>
  a === undefined || b === undefined ? a === b : spelled(a) === spelled(b);

function copiesOf(
  { drift, secrets }: NonNullable<Told['differs']>,
  holes: readonly string[],
  before: Lineage,
  now: number,
  older: readonly (Defaults | undefined)[],
): { readonly list: Lineage['copies']; readonly capped: boolean } {
  const stood = new Map(before.copies.map(([path, copy, image]) => [path, { copy, image }]));
  const found = new Map<string, Drift | undefined>();
  // Sites name secrets of their own.
  const hidden = new Set(secrets.map(({ path }) => path));
  for (const line of drift) if (treeOf(line.path) === 'etc') found.set(line.path, line);
  for (const { path, state } of secrets) if (state !== 'same' && !found.has(path)) found.set(path, undefined);
  const out = new Map<string, readonly [string, string, number]>();
  for (const [path, line] of found) {
    const name = vis(path);
    const known = stood.get(name);
    const secret = isSecret(path) || line === undefined || hidden.has(path);
    const copy = secret ? 'secret' : copyOf(line);
    // Of a secret nobody knows when it was changed last: it stays with the image under which it first differed.
    if (known !== undefined && (known.copy === copy || secret)) out.set(name, [name, copy, known.image]);
    else out.set(name, [name, copy, secret ? now : originOf(path, line, now, older)]);
  }
  // What could not be read this time is as it was.
  for (const [name, { copy, image }] of stood)
    if (!out.has(name) && isUnder(unvis(name), holes)) out.set(name, [name, copy, image]);
  const list = [...out.values()].sort(([a], [b]) => comparePaths(unvis(a), unvis(b)));
  return { list: list.slice(0, LINEAGE_COPIES_MAX), capped: list.length > LINEAGE_COPIES_MAX };
}

function isUnder(path: string, holes: readonly string[]): boolean {
  return holes.some((hole) => path === hole || path.startsWith(`${hole}/`));
}

/** The newest earlier image whose own default the copy is; else the booted one, under which it was made. */
function originOf(path: string, line: Drift, now: number, older: readonly (Defaults | undefined)[]): number {
  const actual = line.change === 'removed' ? undefined : line.actual;
  for (let index = older.length - 1; index >= 0; index--) {
    const defaults = older[index];
    if (index !== now && defaults !== undefined && actual !== undefined && sameFacts(defaults.get(path), actual))
      return index;
  }
  return now;
}

/** Null where the default under which some copy was made is not known. */
function staleOf(
  { images, copies }: Lineage,
  now: number,
  older: readonly (Defaults | undefined)[],
  booted: Defaults,
): Stale[] | null {
  const out: Stale[] = [];
  for (const [name, copy, index] of copies) {
    if (index === now) continue;
    const then = older[index];
    if (then === undefined) return null;
    const path = unvis(name);
    const [was, is] = [then.get(path), booted.get(path)];
    if (sameFacts(was, is)) continue;
    out.push({ path, since: images[index]!.image, now: shown(path, is, copy), was: shown(path, was, copy) });
  }
  return out;
}

/** Digest and size of a secret would let whoever knows the rest guess it, also where it is the image's. */
export function shown(path: string, facts: Facts | undefined, copy?: string): Facts | null {
  if (facts === undefined) return null;
  if (!isSecret(path) && copy !== 'secret') return facts;
  const { type, mode, uid, gid, link } = facts;
  return { type, mode, uid, gid, ...(link === undefined ? {} : { link }) };
}

/** Where the tag led that a host follows, when it was last looked up. */
export type TagFacts = { readonly digests: readonly string[]; readonly movedAt: Instant };

/**
 * What is known of the booted image's age. `tag`: null where the host follows none; undefined where nobody knows where it leads. It may lead to
 * an index that lists the image, so that any name of the image will do.
 */
export function ageOf(
  { digest, index, madeAt }: Pick<ReadyImage, 'digest' | 'index' | 'madeAt'>,
  tag: TagFacts | null | undefined,
  at: Instant,
): Age {
  const isThere =
    tag !== null && tag !== undefined && [digest, index].some((name) => name !== null && tag.digests.includes(name));
  const behindTagSince = tag === undefined ? undefined : tag === null || isThere ? null : tag.movedAt;
  return { image: digest, at, madeAt: madeAt ?? null, behindTagSince };
}
