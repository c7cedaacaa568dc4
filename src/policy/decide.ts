/** Which of several rules decides (docs/policy.md, sections 2.3 and 4.6): the first that matches, and no rule that fails makes it milder. */
import type { RuleBase } from './document.ts';
import { SEVERITIES } from './judgement.ts';

/**
 * `whyNot` says what of a rule does not hold: undefined where all does, `error` where its condition could not be answered. Such a rule
 * lets nothing pass; but where it forbids and stands before the one that decides, it decides if that one would be milder: else whoever
 * can make a condition fail could choose the rule.
 */
export function decide<Rule extends Pick<RuleBase, 'effect' | 'severity'>>(
  rules: Iterable<Rule>,
  whyNot: (rule: Rule) => string | undefined,
): Rule | undefined {
  let failed: Rule | undefined;
  for (const rule of rules) {
    const why = whyNot(rule);
    if (why === 'error') {
      if (rule.effect === 'forbidden' && (failed === undefined || weight(rule) > weight(failed))) failed = rule;
    } else if (why === undefined) return failed !== undefined && weight(failed) > weight(rule) ? failed : rule;
  }
  return failed;
}

const weight = ({ effect, severity }: Pick<RuleBase, 'effect' | 'severity'>): number =>
  effect === 'forbidden' ? SEVERITIES.indexOf(severity) : -1;
