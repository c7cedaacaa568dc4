/**
 * The identity of findings (docs/policy.md, section 7): the same judgement on many hosts and under many images is one group, and
 * other content is another, so that what people decide about one never hides the other.
 */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import type { Judgement } from '#src/policy/judgement.ts';

type Identity = Pick<Judgement, 'rule' | 'kind' | 'subject' | 'signature'>;

const VERSION = 'bootproof.group/1';

/**
 * `fg_` and 40 hex digits: SHA-256 over the version, rule, kind, subject and change signature, a line each. 160 bits, because
 * who could make two contents with one group would have the second one waived with the first.
 */
export function groupOf({ rule, kind, subject, signature }: Identity): string {
  for (const field of [rule, kind, subject, signature])
    assert.ok(!field.includes('\n'), 'a line break would move the borders between the fields');
  return `fg_${hash('sha256', [VERSION, rule, kind, subject, signature, ''].join('\n')).slice(0, 40)}`;
}
