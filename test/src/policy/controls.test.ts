/** Control mappings: the document, what it refuses, and those that ship. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DocumentError } from '#src/document/yaml.ts';
import { lintControls, parseFramework, type Framework } from '#src/policy/controls.ts';
import { parsePolicy } from '#src/policy/document.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import { throwsCode } from '#test/throws.ts';

const HEAD = `format: bootproof.controls/1
framework: acme-1
title: Acme
version: '1'
about: Of Acme.
`;
const ROW = `controls:
  - id: A.1
    title: One
    summary: Something holds.
    status: draft
    rules: [R-int]
    data: [reports]
    doesNotProve: [More than that.]
`;
const parse = (text: string): Framework => parseFramework(text, 'acme.yaml');

test('a mapping is read with the place of each control', () => {
  const { id, controls } = parse(HEAD + ROW);
  assert.equal(id, 'acme-1');
  assert.deepEqual(controls[0]?.rules, ['R-int']);
  assert.deepEqual(controls[0]?.place, { line: 7, column: 9 });
});

const refused: readonly (readonly [what: string, text: string, says: RegExp])[] = [
  [
    'another format',
    HEAD.replace('controls/1', 'controls/2') + ROW,
    /^DocumentError: acme\.yaml:1:9: expected bootproof\.controls\/1$/,
  ],
  [
    'an unknown key',
    HEAD + ROW.replace('summary:', 'sumary:'),
    /acme\.yaml:9:5: unknown key "sumary", did you mean summary\?/,
  ],
  ['a rule that is none', HEAD + ROW.replace('R-int', 'R-imt'), /acme\.yaml:11:13: did you mean R-int\?/],
  [
    'no rule and no reason',
    HEAD + ROW.replace('[R-int]', '[]'),
    /acme\.yaml:11:12: without a rule nothing computes it/,
  ],
  ['a reason beside a rule', `${HEAD}${ROW}    notComputed: Because.\n`, /:14:18: a rule computes it/],
  ['a review that nobody did', HEAD + ROW.replace('draft', 'reviewed'), /:10:13: who reviewed it, and when\?/],
  [
    'a draft that was reviewed',
    `${HEAD}${ROW}    reviewed: { by: Ann, on: '2026-01-02' }\n`,
    /:14:15: a draft was not reviewed/,
  ],
  [
    'nothing that is not proved',
    HEAD + ROW.replace('[More than that.]', '[]'),
    /:13:19: nothing proves a whole control/,
  ],
  ['an interval without R-int', `${HEAD}${ROW.replace('R-int', 'R-log')}    interval: 7d\n`, /:14:15: only R-int/],
  ['an id twice', `${HEAD}${ROW}${ROW.slice(ROW.indexOf('\n') + 1)}`, /:14:9: A\.1 stands here twice; first in line 7/],
  [
    'an OSCAL id that is no token',
    `${HEAD}${ROW}    oscal: { control: 11.5, target: x, kind: statement-id }\n`,
    /:14:23: /,
  ],
  ['an id that YAML reads as a number', HEAD + ROW.replace('A.1', '2.1'), /:7:9: expected an id in quotes/],
];
for (const [what, text, says] of refused)
  test(`refuses ${what}`, () => {
    throwsCode(() => parse(text), DocumentError, 'DOCUMENT_INVALID');
    assert.throws(() => parse(text), says);
  });

test('what ships is a mapping of six frameworks, and all of it is draft', async () => {
  const shipped = await shippedFrameworks();
  assert.deepEqual(
    shipped.map(({ framework }) => framework.id),
    ['cis-8', 'iso-27001', 'nist-800-171', 'nist-800-53', 'pci-dss-4', 'soc-2'],
  );
  for (const { framework } of shipped)
    assert.deepEqual(
      framework.controls.filter(({ status }) => status !== 'draft'),
      [],
      framework.id,
    );
});

test('names in the OSCAL catalog are those that NIST gives', async () => {
  const file = join(import.meta.dirname, '../../vectors/controls/nist-800-53.json');
  const { ids, others } = JSON.parse(readFileSync(file, 'utf8')) as Record<'ids' | 'others', Record<string, string[]>>;
  const known = new Map(Object.entries({ ...others, ...ids }));
  const nist = (await shippedFrameworks()).find(({ framework }) => framework.id === 'nist-800-53')!.framework;
  for (const { id, oscal } of nist.controls) {
    assert.equal(oscal?.control, id.toLowerCase().replace('(', '.').replace(')', ''), id);
    assert.ok(known.get(oscal.control)?.includes(oscal.target), `${id}: ${oscal.target} is in no catalog`);
    assert.equal(oscal.kind, oscal.target.endsWith('_obj') ? 'objective-id' : 'statement-id', id);
  }
  const cui = (await shippedFrameworks()).find(({ framework }) => framework.id === 'nist-800-171')!.framework;
  for (const { id, oscal } of cui.controls)
    assert.deepEqual(oscal, { control: `SP_800_171_${id}`, target: `statement_${id}`, kind: 'statement-id' });
});

test('every control that the shipped policy names is mapped', async () => {
  const frameworks = (await shippedFrameworks()).map(({ framework }) => framework);
  assert.deepEqual(lintControls((await shippedPolicy()).policy, frameworks), []);
});

test('a rule that names no such control is told, and a framework of one’s own is left alone', () => {
  const rule = (controls: string) => `  - id: ${controls
    .replace(/[^a-z0-9]+/gi, '-')
    .replace(/^-|-$/g, '')
    .toLowerCase()}
    paths: ['/usr/**']
    effect: forbidden
    severity: high
    reason: Because.
    controls: [${controls}]
`;
  const policy = parsePolicy(
    `format: bootproof.policy/1\nname: p\ndescription: d\nfiles:\n${rule("'acme-1:A.1'")}${rule("'acme-1:a.01'")}${rule("'acme-1:A.22'")}${rule("'acme-2:A'")}${rule("'house-rules:9'")}`,
    { file: 'p.yaml' },
  );
  assert.deepEqual(
    lintControls(policy, [parse(HEAD + ROW)]).map(({ place, message }) => [place?.line, message]),
    [
      [11, 'acme-1-a-01 names acme-1:a.01: acme-1 maps no such control, did you mean A.1?'],
      [17, 'acme-1-a-22 names acme-1:A.22: acme-1 maps no such control'],
      [23, 'acme-2-a names acme-2:A: no mapping is called acme-2, did you mean acme-1?'],
    ],
  );
});
