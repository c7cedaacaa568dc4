/** The facets beside the queue: words that narrow it, each with how long the list is then (docs/findings.md 6). */
import { printFilter, type FilterLine, type FilterTerm } from '#src/finding/filter.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Principal } from '#server/access/principal.ts';
import { facetOf, type FacetName } from '#server/facets.ts';
import type { Count } from '#server/store/records.ts';
import type { GroupFilter } from '#server/store/store.ts';
import { termOf, toggled, type Facet } from './parts/filter.ts';
import type { WebServices } from './services.ts';
import { bounded, capital, severityHtml } from './words.ts';

/** Facets count so far: they say which word helps, and the list behind them counts itself. */
const FACET_MAX = 1000;
/** Above so many hosts a count by host group costs more than the group's name tells. */
const GROUPS_COUNTED_HOSTS_MAX = 5000;
const SHOWN = 8;
/** Of one section that is asked for whole. */
const SHOWN_WHOLE = 200;
/** Sections that may have more than are shown. */
export const LONG = ['rule', 'control', 'group'] as const;
export type Long = (typeof LONG)[number];
const AGES = new Map([
  ['<24h', 'Since yesterday'],
  ['<7d', 'Within a week'],
  ['>7d', 'Longer than a week'],
  ['>30d', 'Longer than 30 days'],
]);

const FLAGS = [
  ['Regressed', 'is:regressed'],
  ['Flapping', 'is:flapping'],
  ['On silent hosts', 'is:stale'],
  ['Unassigned', '-is:assigned'],
] as const;
const PLACES = [
  ['/etc', 'tree:etc'],
  ['/usr', 'tree:usr'],
  ['Who signed the image', 'kind:provenance'],
  ['Overlays', 'kind:overlay'],
  ['Accounts', 'kind:account'],
  ['Older defaults kept', 'kind:stale-config'],
  ['Could not be read', 'kind:hole'],
  ['Reports and silence', 'kind:report,silence'],
] as const;

type Counted = Facet & { readonly n: number };
/** `more`: its name where there is more than is shown; `whole`: it is shown whole. */
export type Section = {
  readonly title: string;
  readonly facets: readonly Facet[];
  readonly more?: Long | undefined;
  readonly whole?: boolean;
};

const same = (a: FilterTerm, b: FilterTerm): boolean => printFilter([a]) === printFilter([b]);
const told = (word: Facet['word'], term: FilterTerm, count: Count | undefined): Counted => ({
  word,
  term,
  count: count === undefined ? undefined : bounded(count),
  n: count?.count ?? 1,
});

/** What a facet's number says is the length of the list that its link leads to. */
export async function facetsOf(
  line: FilterLine,
  filter: GroupFilter,
  who: Principal,
  services: WebServices,
  whole?: Long,
): Promise<readonly Section[]> {
  const { store } = services;
  const groups = await store.read.hostGroups(who.groups);
  const isSmall = groups.reduce((sum, { hosts }) => sum + hosts, 0) <= GROUPS_COUNTED_HOSTS_MAX;
  const facet = async (word: Facet['word'], text: string, counted = true): Promise<Counted> => {
    const term = termOf(text);
    const added = line.some((one) => same(one, term)) ? line : toggled(line, term);
    const count = counted ? await store.read.countGroups({ ...filter, line: added }, FACET_MAX) : undefined;
    return told(word, term, count);
  };
  /** Those that leave something, and those that are asked for. */
  const some = (list: readonly Counted[]): readonly Facet[] =>
    list.filter(({ n, term }) => n > 0 || line.some((one) => same(one, term)));
  const all = async (list: readonly Promise<Counted>[]): Promise<readonly Facet[]> => some(await Promise.all(list));
  const most = async (
    title: string,
    name: FacetName & ('age' | Long),
    word: (value: string) => Facet['word'],
  ): Promise<Section> => {
    const found = await facetOf(name, filter, FACET_MAX, services);
    const shown = found.slice(0, name === whole ? SHOWN_WHOLE : SHOWN);
    const facets = some(shown.map(({ value, term, count }) => told(word(value), term, count)));
    return { title, facets, ...lengthOf(name === 'age' ? undefined : name, found.length) };
  };
  const lengthOf = (name: Long | undefined, n: number): Pick<Section, 'more' | 'whole'> =>
    name === undefined || n <= SHOWN ? {} : { more: name, whole: name === whole };
  const mine = groups.slice(0, whole === 'group' ? SHOWN_WHOLE : SHOWN);
  return [
    {
      title: 'Severity',
      facets: await all([...SEVERITIES].reverse().map((word) => facet(severityHtml(word), `sev:${word}`))),
    },
    { title: 'Where', facets: await all(PLACES.map(([word, text]) => facet(word, text))) },
    {
      title: 'Change',
      facets: await all(['added', 'modified', 'removed'].map((word) => facet(capital(word), `change:${word}`))),
    },
    await most('Age', 'age', (value) => AGES.get(value) ?? value),
    {
      title: 'Host group',
      facets: await all(
        mine.map(({ name }) => facet(name, printFilter([{ field: 'group', negated: false, values: [name] }]), isSmall)),
      ),
      ...lengthOf('group', groups.length),
    },
    await most('Rule', 'rule', (value) => value),
    await most('Control', 'control', (value) => value.replace(':', ' ')),
    { title: 'Flag', facets: await all(FLAGS.map(([word, text]) => facet(word, text))) },
  ];
}
