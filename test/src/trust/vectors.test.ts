import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cases, codesOf, judge, layoutOf, verifiedOf } from './cases.ts';

for (const vector of cases)
  test(`${vector.name}: ${vector.expect}`, async () => {
    const judged = await judge(vector, layoutOf(vector));
    const verified = verifiedOf(judged);
    if (process.env['SHOW'])
      console.log(
        vector.name,
        vector.expect,
        verified.length,
        JSON.stringify(
          judged.outcomes.map((o) => (o.kind === 'failed' ? o.code + ': ' + o.message : o.algorithm + ' ' + o.format)),
        ),
        judged.found.hostReadable.code,
      );
    assert.equal(verified.length > 0, vector.expect !== 'reject', codesOf(judged).join());
  });
