/** Every code that a server tells stands in docs/errors.md, with its status. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ALL_PROBLEMS } from '#server/api/problem.ts';

const rows = readFileSync(join(import.meta.dirname, '../../../docs/errors.md'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| '));

for (const [code, status] of Object.entries(ALL_PROBLEMS))
  test(`${code} is explained, as ${status}`, () => {
    const row = rows.find(
      (line) => new RegExp(`\\b${code}\\b`).test(line.split('|')[1]!) && line.includes(String(status)),
    );
    assert.ok(row !== undefined);
    assert.ok(row.split('|')[3]!.trim().length > 5, row);
  });
