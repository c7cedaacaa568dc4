/** Two policies rule by rule: what was added, removed, changed, or stands elsewhere now. */
import { SECTIONS, type Policy, type RuleBase, type Section } from './document.ts';
import { plainRule } from './canonical.ts';

export type RuleDifference = {
  readonly section: Section;
  readonly id: string;
  /** `moved`: the same, but before or behind another rule now, which may decide otherwise. */
  readonly change: 'added' | 'removed' | 'changed' | 'moved';
  /** Keys that differ; empty for the others. */
  readonly keys: readonly string[];
};

export type PolicyDifference = {
  readonly rules: readonly RuleDifference[];
  /** Keys of `freshness` that differ; `freshnessFor` where the terms for some hosts do. */
  readonly freshness: readonly string[];
  /** Other files are kept from being shown. */
  readonly contents?: true;
};

export function comparePolicies(before: Policy, after: Policy): PolicyDifference {
  const rules = SECTIONS.flatMap((section) => compareSection(section, before[section], after[section]));
  const terms = Object.keys(after.freshness) as (keyof Policy['freshness'])[];
  const freshness = terms.filter((key) => before.freshness[key] !== after.freshness[key]) as string[];
  if (JSON.stringify(plainRule(before.freshnessFor)) !== JSON.stringify(plainRule(after.freshnessFor)))
    freshness.push('freshnessFor');
  const denied = ({ contentsDenied }: Policy): string => JSON.stringify(plainRule(contentsDenied));
  return { rules, freshness, ...(denied(before) === denied(after) ? {} : { contents: true }) };
}

function compareSection(section: Section, before: readonly RuleBase[], after: readonly RuleBase[]): RuleDifference[] {
  const old = new Map(before.map((rule) => [rule.id, rule]));
  const now = new Set(after.map(({ id }) => id));
  const out: RuleDifference[] = before
    .filter(({ id }) => !now.has(id))
    .map(({ id }) => ({ section, id, change: 'removed', keys: [] }));
  // Of the rules that both have, those that keep their order are the longest run; the others moved.
  const kept = before.filter(({ id }) => now.has(id)).map(({ id }) => id);
  const steady = inOrder(
    after.filter(({ id }) => old.has(id)).map(({ id }) => id),
    new Map(kept.map((id, index) => [id, index])),
  );
  for (const rule of after) {
    const stood = old.get(rule.id);
    if (stood === undefined) {
      out.push({ section, id: rule.id, change: 'added', keys: [] });
      continue;
    }
    const keys = differing(stood, rule);
    if (keys.length > 0) out.push({ section, id: rule.id, change: 'changed', keys });
    else if (!steady.has(rule.id)) out.push({ section, id: rule.id, change: 'moved', keys: [] });
  }
  return out;
}

function differing(a: RuleBase, b: RuleBase): string[] {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  keys.delete('place');
  const text = (rule: RuleBase, key: string) => JSON.stringify(plainRule((rule as Record<string, unknown>)[key])) ?? '';
  return [...keys].filter((key) => text(a, key) !== text(b, key)).sort();
}

/** A longest rising subsequence of the ids by their places (patience sorting). */
function inOrder(ids: readonly string[], place: ReadonlyMap<string, number>): ReadonlySet<string> {
  const piles: { id: string; place: number; under: number }[][] = [];
  for (const id of ids) {
    const at = place.get(id)!;
    let low = 0;
    let high = piles.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (piles[middle]!.at(-1)!.place < at) low = middle + 1;
      else high = middle;
    }
    const under = low === 0 ? -1 : piles[low - 1]!.length - 1;
    (piles[low] ??= []).push({ id, place: at, under });
  }
  const out = new Set<string>();
  let index = (piles.at(-1)?.length ?? 0) - 1;
  for (let pile = piles.length - 1; pile >= 0; pile--) {
    const card = piles[pile]![index]!;
    out.add(card.id);
    index = card.under;
  }
  return out;
}
