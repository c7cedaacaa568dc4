/** What a site demands of its images, from files: what is read, in which order, and what is refused with its place. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { keyPolicy, makeKey } from '#demo/sign.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { TrustRootError } from '#src/trust/trustroot.ts';
import { UsageError, type Io } from '#src/terminal.ts';
import { serve } from '#server/serve.ts';
import { readTrustFiles, trustSetup, TrustSetupError } from '#server/trust/setup.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';
import { folder } from '../fleet.ts';

const KEY = makeKey();
const ROOT = join(import.meta.dirname, '../../vectors/sigstore/trust/trusted_root.json');

test('a folder is its YAML and JSON files by name; roots are called by their names', async (t) => {
  const at = folder(t);
  mkdirSync(join(at, 'below'));
  writeFileSync(join(at, 'below', 'c.yaml'), 'not read');
  for (const name of ['b.yml', 'a.json', 'README.md', '.hidden.yaml'])
    writeFileSync(join(at, name), name.startsWith('.') || name.endsWith('md') ? 'no: [' : keyPolicy(name, '**', [KEY]));
  const files = await readTrustFiles({ policies: [at], roots: [`acme=${ROOT}`] });
  const setup = trustSetup(files);
  assert.deepEqual(
    setup.policy.policies.map(({ name }) => name),
    ['a.json', 'b.yml'],
  );
  assert.deepEqual([...setup.roots.keys()], ['acme']);
  const other = trustSetup({ ...files, roots: [] });
  assert.equal(other.digests.policy, setup.digests.policy);
  assert.notEqual(other.digests.roots, setup.digests.roots);
});

for (const [what, policies, roots, code] of [
  ['a policy that is not there', ['nowhere.yaml'], [], 'IMAGE_POLICY_FILE'],
  ['a root without a name', [], [ROOT], 'TRUST_ROOT_NAME'],
  ['a root twice', [], [`a=${ROOT}`, `a=${ROOT}`], 'TRUST_ROOT_NAME'],
  ['a root that is not there', [], ['a=nowhere.json'], 'TRUST_ROOT_FILE'],
] as const)
  test(`${what} is refused`, () => rejectsCode(() => readTrustFiles({ policies, roots }), TrustSetupError, code));

test('trust roots and recorded cases beside policies are no policies; other JSON is held to be one', async (t) => {
  const at = folder(t);
  const read = async () => (await readTrustFiles({ policies: [at], roots: [] })).policies.map(({ file }) => file);
  writeFileSync(join(at, 'trusted_root.json'), readFileSync(ROOT));
  writeFileSync(join(at, 'case.json'), JSON.stringify({ format: 'bootproof.image-case/1' }));
  await rejectsCode(read, TrustSetupError, 'IMAGE_POLICY_FILE');
  writeFileSync(join(at, 'a.yaml'), keyPolicy('a', '**', [KEY]));
  assert.deepEqual(await read(), [join(at, 'a.yaml')]);
  for (const text of [
    '{}',
    '{',
    '{"format":"x"}',
    '{"kind":"Pod","mediaType":"application/vnd.dev.sigstore.trustedroot"}',
  ]) {
    writeFileSync(join(at, 'b.json'), text);
    assert.deepEqual(await read(), [join(at, 'a.yaml'), join(at, 'b.json')], text);
  }
  // By its own name it is what it is called.
  assert.equal((await readTrustFiles({ policies: [join(at, 'case.json')], roots: [] })).policies.length, 1);
});

test('a folder without policies is a mistake, not an empty policy', async (t) => {
  const at = folder(t);
  await rejectsCode(() => readTrustFiles({ policies: [at], roots: [] }), TrustSetupError, 'IMAGE_POLICY_FILE');
});

test('a damaged root or policy names what is wrong and where', () => {
  const bytes = readFileSync(ROOT).subarray(0, 200);
  throwsCode(() => trustSetup({ policies: [], roots: [{ name: 'a', bytes }] }), TrustRootError, 'TRUST_ROOT_SYNTAX');
  const text = keyPolicy('a', '**', []).replace('"authorities"', '"autorities"');
  assert.throws(
    () => trustSetup({ policies: [{ file: 'a.yaml', text }], roots: [] }),
    /^DocumentError: a\.yaml:\d+:\d+: .*authorities/,
  );
});

test('a server with an invalid image policy does not start', async (t) => {
  const at = folder(t);
  const file = join(at, 'policy.yaml');
  writeFileSync(file, 'kind: Deployment\n');
  const quiet = { isTTY: false, columns: 80, write: async () => {} };
  const io: Io = { stdout: quiet, stderr: quiet, env: {} };
  await rejectsCode(
    () => serve(['--data', join(at, 'data'), '--image-policy', file], io),
    DocumentError,
    'DOCUMENT_INVALID',
  );
  await rejectsCode(() => serve(['--trust-root', `a=${ROOT}`], io), UsageError, 'USAGE');
});
