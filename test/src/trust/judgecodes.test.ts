/** Every code of a judgement and of a note is explained, and nothing there is left of codes that are gone. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { REACHED } from '#src/trust/judgement.ts';

const root = join(import.meta.dirname, '../../..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const codesIn = (text: string): string[] =>
  [...text.matchAll(/^\| ([A-Z][A-Z0-9_]+(?:, [A-Z][A-Z0-9_]+)*) \|/gm)].flatMap(([, codes]) => codes!.split(', '));
const section = (file: string, title: string): string =>
  new RegExp(`\n## ${title}\n([^]*?)(?=\n## |$)`).exec(read(file))?.[1] ?? '';

test('codes of judgements stand in docs/errors.md', () => {
  const documented = [
    ...codesIn(section('docs/errors.md', 'Signatures')),
    ...codesIn(section('docs/errors.md', 'Image policy').split('When documents are read')[0]!),
  ];
  const missing = Object.keys(REACHED).filter((code) => !documented.includes(code));
  assert.deepEqual(missing, []);
  const own = codesIn(section('docs/errors.md', 'Image policy').split('When documents are read')[0]!);
  assert.deepEqual(
    own.filter((code) => !(code in REACHED)),
    [],
  );
});

test('codes of notes stand in docs/image-policy.md', () => {
  const types = /export type LintCode =([^]*?);/.exec(read('src/trust/cipvalidate.ts'))?.[1] ?? '';
  const codes = [...types.matchAll(/'([A-Z_]+)'/g)].map(([, code]) => code);
  assert.ok(codes.length > 0);
  assert.deepEqual(new Set(codesIn(section('docs/image-policy.md', '9 Notes'))), new Set(codes));
});
