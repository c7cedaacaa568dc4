import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DocumentError, readYaml, readYamlDocuments } from '#src/document/yaml.ts';
import { throwsCode } from '#test/throws.ts';

test('several documents are read, those in which nothing stands are left out, and each knows its lines', () => {
  const [first, second, ...rest] = readYamlDocuments('# a licence\n\n---\n# why\na: 1\n---\nb:\n  c: 2\n---\n', 'x');
  assert.deepEqual([first?.value, second?.value, rest], [{ a: 1 }, { b: { c: 2 } }, []]);
  assert.deepEqual(first?.placeOf(['a']), { line: 5, column: 4 });
  assert.deepEqual(second?.placeOf(['b', 'c']), { line: 8, column: 6 });
  assert.deepEqual(second?.placeOfKey(['b'], 'c'), { line: 8, column: 3 });
});

test('a text in which nothing stands has no documents', () => {
  for (const text of ['', '\n', '# only this\n', '---\n', '---\n---\n# x\n'])
    assert.deepEqual(readYamlDocuments(text, 'x'), []);
});

test('JSON is YAML, with tabs as well', () => {
  assert.deepEqual(readYamlDocuments('{\n\t"a": [\n\t\t1\n\t]\n}\n', 'x')[0]?.value, { a: [1] });
});

test('where one document is meant, two are refused', () => {
  throwsCode(() => readYaml('a: 1\n---\nb: 2\n', 'x'), DocumentError, 'DOCUMENT_SYNTAX');
});

const refused: [name: string, second: string][] = [
  ['an anchor', 'a: &x 1'],
  ['an alias', 'a: *x'],
  ['a tag', 'a: !!binary aGk='],
  ['a key that stands twice', 'a: 1\na: 2'],
  ['a bracket that never closes', 'a: [1'],
  ['a directive', '%YAML 1.1\n---\na: 1'],
];
for (const [name, second] of refused)
  test(`refuses ${name} in the second document as in the first`, () => {
    throwsCode(() => readYamlDocuments(`ok: 1\n---\n${second}\n`, 'x'), DocumentError, 'DOCUMENT_SYNTAX');
  });
