import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { groupOf } from '#src/finding/group.ts';
import type { JudgementKind } from '#src/policy/judgement.ts';

type Row = [rule: string, kind: JudgementKind, subject: string, signature: string, group: string];
const vectors = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../vectors/policy/groups.json'), 'utf8'),
) as Row[];

for (const [rule, kind, subject, signature, group] of vectors)
  test(`the group of ${rule} ${kind} ${subject} ${signature.slice(0, 30)} stays what it is`, () => {
    assert.equal(groupOf({ rule, kind, subject, signature }), group);
    // As docs/policy.md says it, with a hash that is not ours.
    const text = `bootproof.group/1\n${rule}\n${kind}\n${subject}\n${signature}\n`;
    assert.equal(group, `fg_${createHash('sha256').update(text).digest('hex').slice(0, 40)}`);
  });

test('rule, kind, subject and signature each make another group', () => {
  const one = { rule: 'a', kind: 'drift', subject: '/usr/x', signature: 'removed' } as const;
  const groups = [
    one,
    { ...one, rule: 'b' },
    { ...one, kind: 'secret' },
    { ...one, subject: '/usr/y' },
    { ...one, signature: 'added' },
  ].map((x) => groupOf(x as typeof one));
  assert.equal(new Set(groups).size, groups.length);
});

test('fields cannot run into one another', () => {
  assert.throws(() => groupOf({ rule: 'a', kind: 'drift', subject: 'x\ny', signature: 'z' }), assert.AssertionError);
  assert.throws(() => groupOf({ rule: 'a', kind: 'drift', subject: 'x', signature: 'y\nz' }), assert.AssertionError);
});
