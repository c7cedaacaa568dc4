/** `bootproof image policy test|explain`: recorded cases of what real signers made, held against policies without a network. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { image } from '#cli/verify.ts';
import { keyPolicy } from '#demo/sign.ts';
import { UsageError } from '#src/terminal.ts';
import { isFull } from '#test/depth.ts';
import { readCase, RecordedCaseError, recordCase } from '#server/trust/recorded.ts';
import { rejectsCode, throwsCode } from '#test/throws.ts';
import { caseOf, cases, pem, vectors, type Case } from '#test/src/trust/cases.ts';
import { ran } from '#test/ran.ts';

const ROOT = join(vectors, 'trust/trusted_root.json');

const run = (...args: string[]) => ran(image, args, { columns: 80 });

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'bootproof-imagepolicy-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** Records a case as `image verify --record` does; answers its file. */
async function record(at: string, { name, layout, digest, reference }: Case, ...more: string[]): Promise<string> {
  const file = join(at, `${name}.json`);
  const as = reference === undefined ? [] : ['--as', reference];
  await run(
    'verify',
    `oci:${join(vectors, layout)}@${digest}`,
    ...as,
    '--key',
    join(vectors, 'keys/p256.pub'),
    '--record',
    file,
    ...more,
  );
  return file;
}

const KEY = { publicPem: pem('keys/p256.pub') };
const SIGNED = caseOf('v-legacy2-key-p256');
const KEYLESS = caseOf('v-bundle-keyless-rekor2');
const WRONG = caseOf('n-wrong-key');

/** A folder with a policy over the vectors' names, and recorded cases. */
async function site(t: TestContext): Promise<{ at: string; tests: (text: string) => void }> {
  const at = folder(t);
  mkdirSync(join(at, 'cases'));
  for (const each of [SIGNED, KEYLESS, WRONG]) await record(join(at, 'cases'), each);
  writeFileSync(join(at, 'acme.yaml'), keyPolicy('acme', 'localhost:5001/acme/*@*', [KEY]));
  return { at, tests: (text) => writeFileSync(join(at, 'acme.test.yaml'), `format: bootproof.image-test/1\n${text}`) };
}

test('tests beside a policy pass, fail with both sides, and cannot be run, each with its own exit code', async (t) => {
  const { at, tests } = await site(t);
  const good = `tests:
  - name: our key vouches
    case: cases/${SIGNED.name}.json
    expect: trusted
    policies: [acme]
    by: key sha256
  - name: another key does not
    case: cases/${WRONG.name}.json
    expect: rejected
    code: WRONG_KEY
  - name: no policy is about another name
    case: cases/${SIGNED.name}.json
    as: localhost:5001/other/os
    expect: unsigned
    code: NO_POLICY
`;
  tests(good);
  const passed = await run('policy', 'test', at);
  assert.equal(passed.exit, 0, passed.out);
  assert.match(passed.out, /^pass {2}\S+acme\.test\.yaml:3: our key vouches$/m);
  assert.match(passed.err, /^3 tests: 3 pass, 0 fail\n$/);
  // The files themselves, by name: the tests' own folder has the policies.
  assert.equal((await run('policy', 'test', join(at, 'acme.test.yaml'))).exit, 0);
  assert.equal((await run('policy', 'test', join(at, 'acme.yaml'), join(at, 'acme.test.yaml'))).exit, 0);
  assert.equal((await run('policy', 'check', at)).exit, 0, 'tests are no policies');

  tests(good.replace('expect: trusted\n    policies: [acme]\n    by: key sha256', 'expect: rejected'));
  const failed = await run('policy', 'test', at, '--json');
  assert.equal(failed.exit, 1);
  const { tests: ran, ...counts } = JSON.parse(failed.out);
  assert.deepEqual(counts, { passed: 2, failed: 1, errors: 0 });
  assert.equal(ran[0].outcome, 'fail');
  assert.deepEqual(ran[0].why, ['expected rejected, got trusted']);
  assert.deepEqual([ran[0].actual.state, ran[0].actual.policies], ['trusted', ['acme']]);

  tests(good.replace(`cases/${WRONG.name}`, 'cases/nowhere'));
  const absent = await run('policy', 'test', at);
  assert.equal(absent.exit, 2);
  assert.match(absent.out, /^ERROR .*another key does not\n {6}.*nowhere\.json cannot be read: ENOENT/m);
  assert.match(absent.out, /^pass .*our key vouches$/m, 'the others run');
});

test('a case is judged when it was recorded or when the test says, under the roots that the tests name', async (t) => {
  const { at, tests } = await site(t);
  const { subject, issuer } = KEYLESS.check.identity!;
  const policy = {
    apiVersion: 'policy.sigstore.dev/v1beta1',
    kind: 'ClusterImagePolicy',
    metadata: { name: 'keyless' },
    spec: {
      images: [{ glob: 'localhost:5001/acme/*@*' }],
      authorities: [
        { keyless: { identities: [{ subject, issuer }], trustRootRef: 'test' }, ctlog: { trustRootRef: 'test' } },
      ],
    },
  };
  writeFileSync(join(at, 'acme.yaml'), JSON.stringify(policy));
  const one = (more: string) => `tests:\n  - name: a\n    case: cases/${KEYLESS.name}.json\n${more}`;
  writeFileSync(join(at, 'cases', 'root.json'), readFileSync(ROOT));
  tests(`trustRoots: [{name: test, file: cases/root.json}]\n${one('    expect: trusted\n')}`);
  const trusted = await run('policy', 'test', at);
  assert.equal(trusted.exit, 0, trusted.out);
  tests(one('    expect: unverifiable\n    code: NO_TRUST_ROOT\n'));
  assert.equal((await run('policy', 'test', at)).exit, 0);
  tests(one('    expect: trusted\n'));
  assert.equal((await run('policy', 'test', at, '--trusted-root', `test=${ROOT}`)).exit, 0);
  // Before it was signed.
  tests(one('    expect: rejected\n    code: FUTURE_TIMESTAMP\n    at: 2026-01-01T00:00:00Z\n'));
  const early = await run('policy', 'test', at, '--trusted-root', `test=${ROOT}`);
  assert.equal(early.exit, 0, early.out);
});

test('a place that the policy names and nobody looked in is "could not tell", never "unsigned"', async (t) => {
  const { at, tests } = await site(t);
  const policy = JSON.parse(keyPolicy('acme', '**', [{ publicPem: pem('keys/p384.pub') }]));
  policy.spec.authorities[0].source = [{ oci: 'registry.example/signatures' }];
  writeFileSync(join(at, 'acme.yaml'), JSON.stringify(policy));
  tests(`tests:\n  - {name: a, case: cases/${SIGNED.name}.json, expect: unverifiable, code: NOT_READ}\n`);
  const ran = await run('policy', 'test', at);
  assert.equal(ran.exit, 0, ran.out);
});

for (const [what, text, message] of [
  ['an unknown key', 'tests:\n  - {name: a, case: b, expects: trusted, expect: trusted}', /did you mean expect\?/],
  ['a state that is none', 'tests:\n  - {name: a, case: b, expect: trustd}', /did you mean trusted\?/],
  [
    'a code that is none',
    'tests:\n  - {name: a, case: b, expect: rejected, code: WRONG_KEI}',
    /did you mean WRONG_KEY\?/,
  ],
  [
    'a name twice',
    'tests:\n  - {name: a, case: b, expect: rejected}\n  - {name: a, case: b, expect: rejected}',
    /another test/,
  ],
  ['trust with a code', 'tests:\n  - {name: a, case: b, expect: trusted, code: WRONG_KEY}', /has no code/],
  ['a refusal with a voucher', 'tests:\n  - {name: a, case: b, expect: rejected, by: c}', /nobody vouches/],
  ['no tests', 'tests: []', /at least one test/],
] as const)
  test(`${what} is told with its place, and is exit 2`, async (t) => {
    const { at, tests } = await site(t);
    tests(text);
    const ran = await run('policy', 'test', at);
    assert.equal(ran.exit, 2);
    assert.match(ran.out, message);
    assert.match(ran.out, /acme\.test\.yaml:\d+:\d+: /);
  });

test('a folder without tests is wrong use, not success', async (t) => {
  const { at } = await site(t);
  await rejectsCode(() => run('policy', 'test', at), UsageError, 'USAGE');
});

test('explain tells which policies are about an image and why, what each asked for, found, and how that made the result', async (t) => {
  const { at } = await site(t);
  const base = JSON.parse(keyPolicy('base', 'localhost:5001/**', [KEY, { publicPem: pem('keys/p384.pub') }]));
  writeFileSync(join(at, 'base.yaml'), JSON.stringify({ ...base, spec: { ...base.spec, mode: 'warn' } }));
  writeFileSync(join(at, 'other.yaml'), keyPolicy('other', 'ghcr.io/acme/os', [KEY]));
  const reference = `oci:${join(vectors, WRONG.layout)}@${WRONG.digest}`;
  const told = await run('policy', 'explain', reference, '--as', WRONG.reference!, '--policy', at);
  assert.equal(told.exit, 1);
  assert.match(told.out, new RegExp(`^rejected: ${WRONG.digest}$`, 'm'));
  assert.match(told.out, /^policy acme \(\S+acme\.yaml:1\), enforced: failed$/m);
  assert.match(
    told.out,
    /^ {2}about it: localhost:5001\/acme\/\*@\* matches localhost:5001\/acme\/n-wrong-key@sha256:/m,
  );
  assert.match(told.out, /^ {2}its one authority is not satisfied: key-1$/m);
  assert.match(told.out, /^ {2}authority key-1: failed: .* \[WRONG_KEY\]$/m);
  assert.match(told.out, /^ {4}asked for: a signature of the image, by the key sha256:[0-9a-f]{64} with sha256$/m);
  assert.match(told.out, /^ {4}found: oci:\S+.* \(bundle\): failed: .* \[WRONG_KEY\]$/m);
  assert.match(told.out, /^policy base .*, which only warns: failed$/m);
  assert.match(told.out, /^ {2}one authority would suffice, and none of 2 is satisfied: key-1, key-2$/m);
  assert.match(told.out, /^policy other .*: not about it: ghcr\.io\/acme\/os$/m);
  assert.match(told.out, /^note .*matches no image.* \[NEVER_MATCHES\]$/m);

  const recorded = join(at, 'cases', `${SIGNED.name}.json`);
  const json = await run('policy', 'explain', '--case', recorded, '--policy', at, '--json');
  assert.equal(json.exit, 0);
  const document = JSON.parse(json.out);
  assert.equal(document.status, 'trusted');
  assert.deepEqual(
    document.policies.map(({ name, applies, state }: any) => [name, applies, state]),
    [
      ['acme', true, 'passed'],
      ['base', true, 'passed'],
      ['other', false, null],
    ],
  );
  assert.match(document.because, /and each is: acme, base$/);
  assert.equal(document.policies[0].authorities[0].found[0].outcome, 'verified');
  assert.equal(document.lints[0].code, 'NEVER_MATCHES');

  const unknown = await run('policy', 'explain', '--case', recorded, '--policy', at, '--as', 'quay.io/x/y');
  assert.equal(unknown.exit, 1);
  assert.match(unknown.out, /no policy is about it; such an image counts as unsigned \(noMatch: unsigned\)/);
  for (const args of [[], [reference, '--case', recorded]])
    await rejectsCode(() => run('policy', 'explain', ...args, '--policy', at), UsageError, 'USAGE');
});

test('every recorded case is judged as the image that it was recorded from', async (t) => {
  const at = folder(t);
  // Each is judged elsewhere (test/src/trust); of what is recorded, one in six unless in depth.
  for (const each of cases.filter((_, i) => isFull || i % 6 === 0)) {
    const file = await record(at, each);
    const { check, reference, digest, layout } = each;
    const by =
      check.key === undefined
        ? ['--certificate-identity', check.identity!.subject, '--certificate-oidc-issuer', check.identity!.issuer]
        : ['--key', join(vectors, check.key)];
    const demands = [
      ...by,
      '--trusted-root',
      ROOT,
      ...(check.requireTlog === true && check.key !== undefined ? ['--require-log'] : []),
      ...(check.requireTimestamp === true ? ['--require-timestamp'] : []),
      ...(check.hashAlgorithm === undefined ? [] : ['--signature-digest', check.hashAlgorithm]),
      ...(check.what === 'attestation' ? ['--attestation', check.predicateType!] : []),
      '--json',
    ];
    const as = reference === undefined ? [] : ['--as', reference];
    const lives = JSON.parse((await run('verify', `oci:${join(vectors, layout)}@${digest}`, ...as, ...demands)).out);
    const kept = JSON.parse((await run('policy', 'explain', '--case', file, ...demands)).out);
    assert.deepEqual([kept.status, kept.code, kept.reason], [lives.status, lives.code, lives.reason], each.name);
    const bytes = readFileSync(file);
    assert.equal(recordCase(readCase(bytes, file)), bytes.toString(), 'written again it is the same');
  }
});

test('what is no recorded case is refused with what is wrong', () => {
  const whole = {
    format: 'bootproof.image-case/1',
    image: SIGNED.digest,
    recordedAt: '2026-11-25T00:00:00Z',
    references: [],
    places: [],
    complete: true,
    isIndex: false,
    own: [],
    manifest: null,
    indexes: [],
    looked: [],
    signatures: [],
  };
  const read = (value: unknown) => readCase(Buffer.from(JSON.stringify(value)), 'a.json');
  assert.equal(read(whole).image, SIGNED.digest);
  for (const wrong of [
    [],
    { ...whole, format: 'x' },
    { ...whole, image: 'sha256:1' },
    { ...whole, manifest: '!' },
    { ...whole, more: 1 },
    { ...whole, looked: [{}] },
    { ...whole, signatures: [{ format: 'bundle' }] },
  ])
    throwsCode(() => read(wrong), RecordedCaseError, 'CASE_SYNTAX');
  throwsCode(() => readCase(Buffer.from('{'), 'a.json'), RecordedCaseError, 'CASE_SYNTAX');
});
