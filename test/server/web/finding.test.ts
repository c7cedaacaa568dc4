/** How a finding reads on the pages. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sentenceOf, whatHtml } from '#server/web/parts/finding.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}`;

for (const [what, subject, signature, begin] of [
  ['a digest that stands first stays as it is', DIGEST, 'rejected', ''],
  ['a host has its capital', 'host', 'silent', 'The host is silent'],
] as const)
  test(what, () => {
    const finding = { kind: subject === DIGEST ? 'provenance' : 'silence', subject, signature };
    for (const shown of [whatHtml(finding), sentenceOf(finding, 2)]) {
      const text = shown.toString().replaceAll(/<[^>]*>/g, '');
      assert.doesNotMatch(text, /Sha256/);
      assert.ok(text.startsWith(begin), text);
    }
  });
