/** What a finding's own page, the API and the command tell beside the change itself: who brought the file, whose file it is, and since when. */
import type { Instant } from '#src/clock.ts';
import { originText } from '#src/image/origins.ts';
import { pathOfSubject } from '#src/finding/describe.ts';
import type { Scope } from '#src/finding/scope.ts';
import { PAGE_ITEMS_MAX } from '#src/limits.ts';
import { shellQuoted } from '#src/terminal.ts';
import type { FindingDetail } from '#server/ingest/judge.ts';
import type { Chain, FindingGroup, FindingWithHost, Host } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import type { ContentPlace, Elsewhere, KnownOrigins, Told } from './origins.ts';

export type FindingOrigin = {
  /** Of the path in the image that the host runs; null for a finding that is about no path of an image. */
  readonly told: Told | null;
  /** Of what the host shows; null where no file's content changed. */
  readonly elsewhere: Elsewhere | null;
  readonly since: Since | null;
  /** Other findings of the very same content, with the hosts that the asker sees: under another path, or with another mode. At most ALIKE_MAX. */
  readonly alike: readonly FindingGroup[];
};
export const ALIKE_MAX = 5;

/** The report that first showed it, and the one before, which did not; of a report that is not kept the time is not known. */
export type Since = {
  readonly seq: number;
  readonly at: Instant;
  /** Null: it is the host's first report, or the ones before did not come. */
  readonly before: { readonly seq: number; readonly at: Instant | null } | null;
};

/** Of one host's finding; `host` undefined where it is retired or gone. */
export async function originOf(
  finding: FindingWithHost,
  group: Pick<FindingGroup, 'id' | 'kind' | 'subject'>,
  host: Host | undefined,
  deps: { readonly store: Store; readonly origins: KnownOrigins },
  seen: { readonly groups: readonly string[] | null; readonly now: Instant },
): Promise<FindingOrigin> {
  const { store, origins } = deps;
  const path = pathOfSubject(group);
  const { change } = (finding.detail ?? {}) as Partial<FindingDetail>;
  const lineage = host === undefined ? undefined : await store.lineages.get(host.id);
  const [told, elsewhere, since, alike] = await Promise.all([
    path === undefined || host === undefined ? undefined : origins.of(host.images.booted, host.rule, [path]),
    origins.elsewhere(
      change,
      path,
      host,
      lineage?.images.map(({ image }) => image) ?? [],
      seen.groups === null ? undefined : () => imagesWithin(seen.groups, store),
    ),
    host === undefined ? null : sinceOf(finding, host, store),
    alikeOf(change?.actual?.sha256, group.id, store, seen),
  ]);
  return { told: told?.get(path!) ?? null, elsewhere: elsewhere ?? null, since, alike };
}

/** Images that hosts of these groups name now or ran once (docs/access.md 2.1). */
async function imagesWithin(scope: Scope, { read }: Pick<Store, 'read'>): Promise<ReadonlySet<string>> {
  const out = new Set<string>();
  let cursor: { readonly at: Instant; readonly digest: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof read.images>> = await read.images(
      { scope },
      { cursor, limit: PAGE_ITEMS_MAX },
    );
    for (const { digest } of page.items) out.add(digest);
    cursor = page.next;
  } while (cursor !== null);
  return out;
}

/** Who brings the path in an image that others of its hosts run. */
export type OriginElsewhere = { readonly image: string; readonly told: Told; readonly hosts: number };
/** Images that are looked into beside the first host's. */
export const IMAGES_TOLD_MAX = 3;

/**
 * The same of the other images that these hosts run, those with the most of them first; `more`: images that were not looked into. Hosts that
 * run the first one's image are told with it.
 */
export async function originsElsewhere(
  { kind, subject }: Pick<FindingGroup, 'kind' | 'subject'>,
  first: Host | undefined,
  hosts: Iterable<Host>,
  { origins }: { readonly origins: KnownOrigins },
): Promise<{ readonly images: readonly OriginElsewhere[]; readonly more: number }> {
  const path = pathOfSubject({ kind, subject });
  if (path === undefined) return { images: [], more: 0 };
  const others = new Map<string, { readonly image: string; readonly rule: string | null; hosts: number }>();
  for (const { images, rule } of hosts) {
    if (images.booted === null || images.booted === (first?.images.booted ?? null)) continue;
    const known = others.get(images.booted) ?? { image: images.booted, rule, hosts: 0 };
    known.hosts++;
    others.set(images.booted, known);
  }
  const most = [...others.values()].sort((a, b) => b.hosts - a.hosts || (a.image < b.image ? -1 : 1));
  const told = await Promise.all(
    most.slice(0, IMAGES_TOLD_MAX).map(async ({ image, rule, hosts: n }): Promise<readonly OriginElsewhere[]> => {
      const found = (await origins.of(image, rule, [path])).get(path);
      return found === undefined ? [] : [{ image, told: found, hosts: n }];
    }),
  );
  return { images: told.flat(), more: Math.max(0, most.length - IMAGES_TOLD_MAX) };
}

async function alikeOf(
  sha256: string | undefined,
  own: string,
  { imageOrigins, read }: Store,
  { groups: scope, now }: { readonly groups: readonly string[] | null; readonly now: Instant },
): Promise<readonly FindingGroup[]> {
  if (sha256 === undefined) return [];
  // More than are shown: of some, this asker may see no host.
  const ids = (await imageOrigins.groups(sha256, 10 * ALIKE_MAX)).filter((id) => id !== own);
  if (ids.length === 0) return [];
  const line = [{ field: 'id', negated: false, values: ids }] as const;
  const page = await read.groups({ line, scope, now, status: 'open' }, 'severity', { cursor: null, limit: ALIKE_MAX });
  return page.items;
}

async function sinceOf(
  { hostId, groupId, openedAt }: FindingWithHost,
  { chain }: Host,
  store: Store,
): Promise<Since | null> {
  const seq = (await store.findings.episodes(hostId, groupId)).at(-1)?.openedSeq ?? null;
  if (seq === null) return null;
  const before = reportBefore(seq, chain);
  if (before === null) return { seq, at: openedAt, before: null };
  // Of reports that say the same only some are kept.
  const head = await store.reports.head(hostId, before);
  return { seq, at: openedAt, before: { seq: before, at: head?.receivedAt ?? null } };
}

/** The report before this one that came; null where this one is the first. */
export function reportBefore(seq: number, { gaps }: Pick<Chain, 'gaps'>): number | null {
  let before = seq - 1;
  for (let gap = gaps.find(({ from, to }) => from <= before && before <= to); gap !== undefined;) {
    before = gap.from - 1;
    gap = gaps.find(({ from, to }) => from <= before && before <= to);
  }
  return before < 1 ? null : before;
}

/** In one line for people; `image`: as a command names it. Null where there is nothing to say. */
export function toldText(told: Told, image: string | null): string | null {
  switch (told.kind) {
    case 'told':
      return originText(told.origin);
    case 'absent':
      return 'no layer and no package of this image brings it';
    case 'untold':
      if (told.why === 'not-ready') return null;
      return told.why === 'not-kept'
        ? `built before layers were kept${told.failure === null ? '' : `, and could not be read again (${told.failure})`}: ${rebuildCommand(image)}`
        : 'the image was read again, and makes another tree by now';
  }
}

/** What reads an image's layers once more. */
export const rebuildCommand = (image: string | null): string =>
  `bootproof images rebuild ${image === null || /^[\w:]+$/.test(image) ? (image ?? 'DIGEST') : shellQuoted(image)}`;

const SLOTS = {
  booted: 'which this host runs',
  staged: 'which is staged on this host',
  rollback: 'which this host would go back to',
  before: 'which this host ran before',
} as const;

/** What an image is to the host, as a clause. */
export const slotText = (slot: ContentPlace['slot']): string => (slot === null ? '' : SLOTS[slot]);

/** Whose file the host shows, in one line for people. */
export function elsewhereText({ places, images, looked, more }: Elsewhere): string {
  const [first] = places;
  if (first === undefined)
    return `no known image has this content (${looked === 1 ? '1 image' : `${looked} images`} looked through${more ? ', and there are more' : ''})`;
  const where = first.same ? 'it is the file of' : `it is ${first.path} of`;
  const slot = slotText(first.slot);
  const others = images > 1 ? `, and of ${images - 1} more` : '';
  return `${where} ${first.name} (${first.digest})${slot === '' ? '' : `, ${slot}`}${others}`;
}
