/**
 * Our OSCAL Assessment Results, judged by NIST's JSON schema (ajv) and by compliance-trestle (PyPI), which `TRESTLE` names: import into a
 * workspace, and validate.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { assess, prepare } from '../../src/evidence/controls.ts';
import { oscalDocument } from '../../src/evidence/oscal.ts';
import type { BundleHead } from '../../src/evidence/facts.ts';
import { shippedFrameworks } from '../../server/controlfiles.ts';
import { fleet } from '../src/evidence/fleet.ts';
import { ok, root, run, scratch } from './tools.ts';

const ALL = ['nist-800-53', 'pci-dss-4', 'iso-27001', 'soc-2', 'cis-8', 'nist-800-171'];
const mappings = (await shippedFrameworks()).map(({ framework }) => framework);

async function written(size: number, over: Partial<BundleHead> = {}): Promise<string> {
  const assessment = await prepare(fleet(size, over), mappings);
  let out = '';
  for await (const piece of oscalDocument(assessment, await assess(assessment))) out += piece;
  return out;
}

const documents: readonly (readonly [what: string, size: number, over: Partial<BundleHead>])[] = [
  ['a fleet and every framework', 120, { frameworks: ALL }],
  ['a fleet in which nothing is wrong', 3, { frameworks: ['nist-800-53'] }],
  ['no host at all', 0, { frameworks: ALL }],
];

test("NIST's schema takes what we write, and refuses it with a word too much", async (t) => {
  // Unknown to the linter of a clone in which nobody ran npm ci here: so their types are asserted.
  const load: (name: string) => unknown = createRequire(join(import.meta.dirname, 'package.json'));
  let ajv: typeof import('ajv');
  let formats: typeof import('ajv-formats');
  try {
    ajv = load('ajv') as typeof ajv;
    formats = load('ajv-formats') as typeof formats;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    t.skip('ajv is not installed: npm ci in test/foreign');
    return;
  }
  const checker = new ajv.Ajv({ strict: false, allErrors: true, unicodeRegExp: true });
  formats.default(checker);
  const schema = readFileSync(join(root, 'test/vectors/oscal/oscal_assessment-results_schema.json'), 'utf8');
  const valid = checker.compile(JSON.parse(schema) as object);
  for (const [what, size, over] of documents)
    assert.ok(
      valid(JSON.parse(await written(size, over))),
      `${what}: ${checker.errorsText(valid.errors).slice(0, 2000)}`,
    );
  const bent = JSON.parse(await written(1)) as { 'assessment-results': Record<string, unknown> };
  bent['assessment-results']['surprise'] = 1;
  assert.ok(!valid(bent));
});

test('compliance-trestle reads it and finds nothing wrong', async (t) => {
  const trestle = process.env['TRESTLE'];
  if (trestle === undefined) {
    t.skip(
      'TRESTLE names no compliance-trestle (python3 -m venv DIR && DIR/bin/pip install compliance-trestle==5.2.0; TRESTLE=DIR/bin/trestle)',
    );
    return;
  }
  const [folder, outside] = [scratch(t), scratch(t)];
  ok(trestle, ['init', '--local'], { cwd: folder });
  for (const [index, [what, size, over]] of documents.entries()) {
    const file = join(outside, `in-${index}.json`);
    writeFileSync(file, await written(size, over));
    const imported = run(trestle, ['import', '-f', file, '-o', `ours${index}`], { cwd: folder });
    assert.equal(imported.status, 0, `${what}: ${imported.stdout}${imported.stderr}`);
    const judged = run(trestle, ['validate', '-t', 'assessment-results', '-n', `ours${index}`], { cwd: folder });
    assert.equal(judged.status, 0, `${what}: ${judged.stdout}${judged.stderr}`);
    assert.match(judged.stdout, /VALID/, what);
  }
});
