/** What a waiver is about: a person's draft, pinned to the content that is there, and the findings that a selector covers. */
import type { Instant } from '#src/clock.ts';
import { compileSelector } from '#src/finding/exempt.ts';
import type { Scope } from '#src/finding/scope.ts';
import {
  checkLife,
  higher,
  WaiverError,
  type Pin,
  type Selector,
  type Waiver,
  type WaiverTerms,
} from '#src/finding/waiver.ts';
import { WAIVER_PINS_MAX } from '#src/limits.ts';
import { SEVERITIES, type JudgementKind, type Severity } from '#src/policy/judgement.ts';
import type { Principal } from '#server/access/principal.ts';
import type { Deps } from '#server/deps.ts';
import { FORECAST_GROUPS } from '#server/store/decided.ts';
import type { FindingGroup } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { DecisionError, mustBe } from './may.ts';

type Reads = Pick<Deps, 'store' | 'clock'>;
/** What of the store tells which content hosts show. */
type Contents = Pick<Store, 'findings' | 'waivers' | 'images' | 'read'>;
const PAGE = 200;

/** What a person asks for. Content is pinned to what is seen now unless they say otherwise. */
export type WaiverDraft = Omit<WaiverTerms, 'selector' | 'ceiling'> & {
  readonly selector: Omit<Selector, 'content'> & { readonly content: 'pinned' | Selector['content'] };
  /** Null: the highest of what it matches now. */
  readonly ceiling: Severity | null;
};

/** What is asked for, and how far whoever asks for it reaches. */
export type Asked = { readonly terms: WaiverTerms; readonly scope: Scope };

/**
 * The draft with its content pinned and its ceiling found, by what is there now on hosts that it is for and that are the asker's.
 * @throws {WaiverError | DecisionError}
 */
export async function termsOf(draft: WaiverDraft, who: Principal, deps: Reads): Promise<Asked> {
  const { content, ...where } = draft.selector;
  const { groups: scope } =
    content === 'any'
      ? mustBe(who, 'ask for a waiver of any content', 'reviewer', 'admin')
      : mustBe(who, 'ask for waivers', 'operator', 'reviewer', 'admin');
  const selector: Selector = { ...where, content: content === 'pinned' ? 'any' : content };
  // What is pinned narrows it, whatever else does not.
  if (content !== 'pinned') compileSelector(selector);
  const groups = await reached(selector, scope, await matching(selector, deps.store, content === 'pinned'), deps.store);
  const pinned: Selector = content === 'pinned' ? { ...where, content: { pins: pinsOf(groups) } } : selector;
  compileSelector(pinned);
  const found = groups.reduce<Severity | null>((most, { severity }) => {
    const word = SEVERITIES[severity];
    return most === null ? word : higher(most, word);
  }, null);
  const terms: WaiverTerms = { ...draft, selector: pinned, ceiling: draft.ceiling ?? found ?? 'medium' };
  checkLife(terms, deps.clock());
  return { terms, scope };
}

function pinsOf(groups: readonly FindingGroup[]): Pin[] {
  if (groups.length === 0)
    throw new DecisionError(
      'WAIVER_EMPTY',
      'nothing that is present matches, so there is no content to pin; check rule and path, name a digest, or say content: any',
    );
  const pins = new Map(
    groups.map(({ subject, signature }) => [
      `${subject}\n${String(signature)}`,
      { subject, signature: String(signature) },
    ]),
  );
  if (pins.size > WAIVER_PINS_MAX)
    throw new WaiverError(
      'WAIVER_SELECTOR',
      `it matches ${pins.size} different contents, and pins hold ${WAIVER_PINS_MAX}: narrow it, or ask a reviewer for any content`,
    );
  return [...pins.values()];
}

/** Of groups, those that are present on hosts that the selector names within the scope. */
async function reached(
  { hosts, image }: Selector,
  scope: Scope,
  groups: readonly FindingGroup[],
  store: Contents,
): Promise<readonly FindingGroup[]> {
  if (hosts === undefined && image === undefined && scope === null) return groups;
  const booted = image === undefined ? null : await imagesOf(image, store);
  const about = { ceiling: 4, hosts, booted, scopes: [scope], now: null } as const;
  const there = new Set<string>();
  for (let from = 0; from < groups.length; from += FORECAST_GROUPS) {
    const ids = groups.slice(from, from + FORECAST_GROUPS).map(({ id }) => id);
    for (const id of (await store.waivers.forecast({ ...about, groups: ids })).groups) there.add(id);
  }
  return groups.filter(({ id }) => there.has(id));
}

/** Of pinned content, what hosts within the scope show: other groups' content is not told to whoever reads only these. */
export async function pinsShown(pins: readonly Pin[], scope: Scope, store: Contents): Promise<Pin[]> {
  const selector: Selector = { content: { pins: [...pins] } };
  const groups = (await reached(selector, scope, await matching(selector, store), store)).map(targetOf);
  return pins.filter((pin) => groups.some(compileSelector({ content: { pins: [pin] } }).finding));
}

/** Present groups that a selector covers, hosts aside. */
export async function matching(
  selector: Selector,
  store: Pick<Store, 'findings'>,
  pinning = false,
): Promise<FindingGroup[]> {
  const narrowed = pinning && selector.rules === undefined && selector.subject === undefined;
  if (narrowed)
    throw new WaiverError('WAIVER_SELECTOR', 'name rules or a subject: what is pinned is what those match now');
  const { finding } = compileSelector(selector);
  const out: FindingGroup[] = [];
  let cursor: { readonly id: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.findings.presentGroups>> = await store.findings.presentGroups({
      cursor,
      limit: PAGE,
    });
    out.push(...page.items.filter((group) => finding(targetOf(group))));
    cursor = page.next;
  } while (cursor !== null);
  return out;
}

export function targetOf({ rule, kind, subject, signature, severity }: FindingGroup) {
  return {
    rule,
    kind: kind as JudgementKind,
    subject,
    signature: String(signature),
    severity: SEVERITIES[severity],
  };
}

/** Images by all their names, as hosts may tell them. */
export async function imagesOf(
  { digest, repository }: NonNullable<Waiver['selector']['image']>,
  { images, read }: Pick<Store, 'images' | 'read'>,
): Promise<readonly string[]> {
  const names = async (known: string): Promise<string[]> => [
    known,
    ...(await read.aliases(known)).map(({ alias }) => alias),
  ];
  if (digest !== undefined) {
    const found = (await images.find(digest))?.image;
    if (repository !== undefined && found?.repositories.includes(repository) !== true) return [];
    return found === undefined ? [digest] : [...new Set([digest, ...(await names(found.digest))])];
  }
  const out: string[] = [];
  let cursor: { readonly at: Instant; readonly digest: string } | null = null;
  do {
    const page: Awaited<ReturnType<typeof read.images>> = await read.images({}, { cursor, limit: PAGE });
    for (const image of page.items)
      if (image.repositories.includes(repository!)) out.push(...(await names(image.digest)));
    cursor = page.next;
  } while (cursor !== null);
  return out;
}
