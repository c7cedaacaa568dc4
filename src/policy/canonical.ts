/** The canonical text of a policy (docs/policy.md, section 8): its digest names what it means. */
import type { Policy, RuleBase } from './document.ts';
import { POLICY_FORMAT } from './schema.ts';

/** The text whose digest names a policy: JSON in fixed key order, rules in their order (docs/policy.md, section 8). */
export function canonicalText(policy: Omit<Policy, 'digest'>): string {
  // What was added to the format later stands only where it is used: else every policy would get another digest.
  const said = ({ id, effect, severity, verdict, reason, controls, hosts, except }: RuleBase) => ({
    id,
    ...(hosts === undefined ? {} : { hosts: plainRule(hosts) }),
    ...(except === undefined ? {} : { except: plainRule(except) }),
    effect,
    ...(effect === 'forbidden' ? { severity, verdict } : {}),
    reason,
    controls,
  });
  const { name, description, freshness: f } = policy;
  return JSON.stringify({
    format: POLICY_FORMAT,
    name,
    description,
    freshness: [f.reportEvery, f.lateAfter, f.silentAfter, f.behindTagAfter, f.imageAgeMax],
    ...(policy.freshnessFor.length === 0 ? {} : { freshnessFor: plainRule(policy.freshnessFor) }),
    ...(policy.contentsDenied.length === 0 ? {} : { contentsDenied: plainRule(policy.contentsDenied) }),
    ...(policy.accounts.length === 0
      ? {}
      : { accounts: policy.accounts.map((rule) => ({ ...said(rule), when: plainRule(rule.when) })) }),
    files: policy.files.map((rule) => ({
      ...said(rule),
      paths: rule.paths.map(plainRule),
      when: plainRule(rule.when),
    })),
    state: policy.state.map((rule) => ({ ...said(rule), on: rule.on, when: plainRule(rule.when) })),
  });
}

/** Conditions in the order of their names; a glob is its source. */
export function plainRule(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plainRule);
  if (typeof value !== 'object' || value === null) return value;
  if ('source' in value) return value.source;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, plainRule(item)]),
  );
}
