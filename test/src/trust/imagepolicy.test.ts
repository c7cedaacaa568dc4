import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DocumentError } from '#src/document/yaml.ts';
import { parseImagePolicy, type ImagePolicy } from '#src/trust/imagepolicy.ts';
import { IMAGES_FORMAT } from '#src/trust/imagesdocument.ts';
import { exponent } from '#test/exponent.ts';
import { vectors } from './cases.ts';
import { attested, byKey, KEY, policy, STATIC_PASS } from './policies.ts';

const read = (...texts: string[]): ImagePolicy =>
  parseImagePolicy(texts.map((text, i) => ({ file: `${i}.yaml`, text })));
const images = (body: string) => `format: ${IMAGES_FORMAT}\n${body}`;
const SHA = `sha256:${'ab'.repeat(32)}`;
const SLSA1 = 'https://slsa.dev/provenance/v1';

function problemsOf(...texts: string[]): string[] {
  try {
    read(...texts);
  } catch (error) {
    assert.ok(error instanceof DocumentError, String(error));
    return error.problems.map(({ line, column, message }) => `${error.file}:${line}:${column} ${message}`);
  }
  return [];
}

test('no files are no policy: nothing is assessed', () => {
  const { policies, noMatch, deny } = parseImagePolicy([]);
  assert.deepEqual([policies, noMatch, deny], [[], 'not-assessed', []]);
});
test('with policies, an image that none is about is unsigned unless the site says otherwise', () => {
  assert.equal(read(policy('a', STATIC_PASS)).noMatch, 'unsigned');
  assert.equal(read(policy('a', STATIC_PASS), images('noMatch: allow\n')).noMatch, 'allow');
  assert.equal(read(images('noMatch: unsigned\n')).noMatch, 'unsigned');
});

test('the deny list is read to the letter', () => {
  const { deny } = read(
    images(
      `deny:
  - {image: "${SHA}", reason: it does not boot}
  - {key: "${SHA}", from: "2026-11-01T01:00:00+01:00", reason: stolen}
  - {identity: {issuer: "https://ci"}, reason: retired}
  - {identity: {issuerRegExp: "^https://ci$", subject: joe@acme.example}, reason: left}
  - {certificate: "00:0A:ff", reason: stolen}
  - {certificate: "a0b", reason: stolen}
  - {logEntry: {log: "${'cd'.repeat(32)}", index: 17}, reason: odd}
`,
    ),
  );
  const [from, reason] = [undefined, 'stolen'];
  assert.deepEqual(deny, [
    { what: 'image', digest: SHA, from, reason: 'it does not boot' },
    { what: 'key', fingerprint: SHA, from: Date.parse('2026-11-01T00:00:00Z'), reason },
    { what: 'identity', issuer: { exact: 'https://ci' }, subject: { regExp: '' }, from, reason: 'retired' },
    {
      what: 'identity',
      issuer: { regExp: '^https://ci$' },
      subject: { exact: 'joe@acme.example' },
      from,
      reason: 'left',
    },
    { what: 'certificate', serial: '0aff', from, reason },
    { what: 'certificate', serial: '0a0b', from, reason },
    { what: 'log-entry', logId: 'cd'.repeat(32), logIndex: '17', from, reason: 'odd' },
  ]);
});

const POLICY = policy(
  'release',
  byKey(KEY, `      name: ci\n${attested([SLSA1], '          policy: {type: cue, data: x}\n')}`),
);
const condition = (more: string) => images(`conditions:\n  - {id: built-here, reason: ours, ${more}}\n`);
const refused: [name: string, texts: readonly string[], problems: RegExp][] = [
  ['another format', ['format: bootproof.images/2\n'], /^0\.yaml:1:1 expected format: bootproof\.images\/1$/],
  ['a misspelt key', [images('noMach: allow\n')], /^0\.yaml:2:1 unknown key "noMach", did you mean noMatch\?$/],
  ['a misspelt word', [images('noMatch: alow\n')], /^0\.yaml:2:10 did you mean allow\?$/],
  ['a word that is none', [images('noMatch: warn\n')], /expected one of unsigned, allow, not-assessed/],
  [
    'the same said in two files',
    [images('noMatch: allow\n'), images('noMatch: unsigned\n')],
    /^1\.yaml:1:1 noMatch is said in 0\.yaml as well/,
  ],
  [
    'a denial of nothing',
    [images('deny: [{reason: x}]\n')],
    /expected exactly one of image, key, identity, certificate, logEntry$/,
  ],
  ['a denial of two things', [images(`deny: [{image: "${SHA}", key: "${SHA}", reason: x}]\n`)], /got image, key$/],
  ['a denial without a reason', [images(`deny: [{image: "${SHA}"}]\n`)], /reason is missing/],
  ['a digest that is none', [images('deny: [{image: "sha256:ab", reason: x}]\n')], /64 lower-case hex digits/],
  ['a serial without quotes', [images('deny: [{certificate: 17, reason: x}]\n')], /must be quoted/],
  [
    'a time without zone',
    [images(`deny: [{image: "${SHA}", from: "2026-11-01T00:00:00", reason: x}]\n`)],
    /with its zone/,
  ],
  ['an identity of nobody', [images('deny: [{identity: {}, reason: x}]\n')], /an issuer, a subject, or both/],
  [
    'an identity said twice',
    [images('deny: [{identity: {issuer: a, issuerRegExp: b}, reason: x}]\n')],
    /issuer and issuerRegExp: one of them/,
  ],
  [
    'a broken expression',
    [images('deny: [{identity: {subjectRegExp: "****"}, reason: x}]\n')],
    /invalid value: \*\*\*\*/,
  ],
  [
    'a condition for no policy',
    [POLICY, condition(`policy: relaese, predicateType: "${SLSA1}"`)],
    /^1\.yaml:3:5 no policy is called relaese, did you mean release\?$/,
  ],
  [
    'a condition for no authority',
    [POLICY, condition(`policy: release, authority: cj, predicateType: "${SLSA1}"`)],
    /release has no authority cj, did you mean ci\?$/,
  ],
  [
    'a condition for a static authority',
    [policy('a', STATIC_PASS), condition(`policy: a, predicateType: "${SLSA1}"`)],
    /is static: nobody signs for it/,
  ],
  ['a condition of no type', [POLICY, condition('policy: release, condition: "true"')], /predicateType is missing/],
  [
    'a condition instead of none',
    [POLICY, condition('policy: release, insteadOf: a1, condition: "true"')],
    /has no attestation a1, did you mean a0\?$/,
  ],
  [
    'a condition instead of one, of another type',
    [POLICY, condition('policy: release, insteadOf: a0, predicateType: custom, condition: "true"')],
    /a0 is of the type/,
  ],
  ['nothing instead of a policy', [POLICY, condition('policy: release, insteadOf: a0')], /condition is missing/],
  [
    'two conditions instead of one',
    [
      POLICY,
      images(
        'conditions:\n  - {id: a, reason: x, policy: release, insteadOf: a0, condition: "true"}\n  - {id: b, reason: x, policy: release, insteadOf: a0, condition: "true"}\n',
      ),
    ],
    /^1\.yaml:4:5 another condition stands for a0/,
  ],
  [
    'two conditions of one name',
    [
      POLICY,
      images(
        `conditions:\n  - {id: a, reason: x, policy: release, predicateType: custom}\n  - {id: a, reason: x, policy: release, predicateType: custom}\n`,
      ),
    ],
    /^1\.yaml:4:10 the id a is taken$/,
  ],
  [
    'a condition with a misspelt name',
    [POLICY, condition(`policy: release, predicateType: custom, condition: "predicat.a == 1"`)],
    /^1\.yaml:3:87 in the expression, at 1:1: "predicat" means nothing here, did you mean predicate\?$/,
  ],
];
for (const [name, texts, expected] of refused)
  test(`refuses ${name}`, () => {
    const problems = problemsOf(...texts);
    assert.ok(
      problems.some((problem) => expected.test(problem)),
      problems.join('\n') || 'accepted',
    );
  });

test('a condition that stands for a policy in another language silences what was noted of it', () => {
  assert.deepEqual(
    read(POLICY).lints.map(({ code }) => code),
    ['UNSUPPORTED'],
  );
  assert.deepEqual(read(POLICY, condition('policy: release, insteadOf: a0, condition: "true"')).lints, []);
});

test('the default root is what authorities without a root are read with', () => {
  const keyless = '    - keyless: {identities: [{issuer: a, subject: b}]}\n';
  const { policies } = read(policy('a', keyless), images('defaultTrustRoot: acme\n'));
  const signer = policies[0]!.authorities[0]!.signer;
  assert.ok(signer.kind === 'signer' && signer.authority.kind === 'keyless');
  assert.equal(signer.authority.trustRoot, 'acme');
});

test('the digest is of what decides: layout, comments, names of files and the order of policies are nothing to it', () => {
  const [a, b] = [policy('a', byKey(KEY)), policy('b', STATIC_PASS)];
  const { digest } = read(a, b);
  assert.equal(read(`# x\n${a}---\n${b}`).digest, digest);
  assert.equal(read(b, a).digest, digest);
  for (const other of [
    [a],
    [a, b.replace('pass', 'fail')],
    [a, b.replace('"**"', '"ghcr.io/**"')],
    [a, policy('b', STATIC_PASS, '  mode: warn\n')],
    [a, b, images('noMatch: allow\n')],
    [a, b, images(`deny: [{image: "${SHA}", reason: x}]\n`)],
    [a, b, images(`conditions: [{id: c, policy: a, predicateType: custom, reason: x}]\n`)],
    [a, b, images(`conditions: [{id: c, policy: a, predicateType: custom, condition: "true", reason: x}]\n`)],
  ])
    assert.notEqual(read(...other).digest, digest);
  const conditioned = (text: string) =>
    read(a, images(`conditions: [{id: c, policy: a, predicateType: custom, condition: "${text}", reason: x}]\n`))
      .digest;
  assert.notEqual(conditioned('true'), conditioned('false'));
});

// TrustRoot documents.
const pem64 = (file: string) => readFileSync(join(vectors, 'trust', file)).toString('base64');
const trustRoot = (spec: string) =>
  `apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: own}\nspec:\n${spec}`;
const AUTHORITY = (file: string) =>
  `    - {subject: {organization: acme, commonName: acme}, uri: "https://x", certChain: "${pem64(file)}"}\n`;
const LOG = (file: string) =>
  `    - {baseURL: "https://rekor.test.invalid", hashAlgorithm: sha-256, publicKey: "${pem64(file)}"}\n`;

test('keys in a TrustRoot become a root of its name', () => {
  const { trustRoots, absentRoots } = read(
    trustRoot(
      `  sigstoreKeys:\n    certificateAuthorities:\n${AUTHORITY('fulcio-root.pem')}    tLogs:\n${LOG('rekor.pub')}    ctLogs:\n${LOG('ctfe.pub')}    timestampAuthorities:\n${AUTHORITY('tsa-chain.pem')}`,
    ),
  );
  const [root] = trustRoots;
  assert.equal(root?.name, 'own');
  assert.equal(absentRoots.size, 0);
  const { material, setAside } = root;
  assert.deepEqual(
    [
      material.certificateAuthorities.length,
      material.tlogs.length,
      material.ctlogs.length,
      material.timestampAuthorities.length,
    ],
    [1, 1, 1, 1],
  );
  assert.deepEqual(setAside, []);
});
for (const way of [
  'remote: {mirror: "https://tuf", root: e30=}',
  'repository: {mirrorFS: AAAA, root: e30=, targets: targets}',
])
  test(`a TrustRoot that is fetched is accepted and absent: ${way.split(':', 1)[0]}`, () => {
    const { trustRoots, absentRoots } = read(trustRoot(`  ${way}\n`));
    assert.deepEqual(trustRoots, []);
    assert.equal(absentRoots.get('own')?.field, `spec.${way.split(':', 1)[0]}`);
  });
const refusedRoots: [name: string, spec: string, problem: RegExp][] = [
  ['none of the ways', '  {}\n', /got neither: spec\.remote, spec\.repository, spec\.sigstoreKeys/],
  ['two ways', '  {remote: {}, repository: {}}\n', /got both/],
  [
    'no authority',
    `  sigstoreKeys:\n    tLogs:\n${LOG('rekor.pub')}`,
    /got neither: spec\.sigstoreKeys\.certificateAuthority, spec\.sigstoreKeys\.timestampAuthorities/,
  ],
  ['an unknown key', '  sigstoreKeys: {tlogs: []}\n', /did you mean tLogs\?/],
  [
    'a chain that is no PEM',
    '  sigstoreKeys: {certificateAuthorities: [{subject: {organization: a, commonName: a}, uri: "https://x", certChain: aGVsbG8=}]}\n',
    /no certificate in PEM/,
  ],
  [
    'a chain that is no base64',
    '  sigstoreKeys: {certificateAuthorities: [{subject: {organization: a, commonName: a}, uri: "https://x", certChain: "%"}]}\n',
    /expected base64/,
  ],
  [
    'an authority without subject',
    `  sigstoreKeys:\n    certificateAuthorities:\n    - {uri: "https://x", certChain: aGVsbG8=}\n`,
    /subject\.commonName/,
  ],
  [
    'a log key that is none',
    `  sigstoreKeys:\n    certificateAuthorities:\n${AUTHORITY('fulcio-root.pem')}    tLogs:\n    - {baseURL: "https://x", hashAlgorithm: sha256, publicKey: aGVsbG8=}\n`,
    /the public key cannot be read/,
  ],
];
for (const [name, spec, problem] of refusedRoots)
  test(`refuses a TrustRoot of ${name}`, () => {
    const problems = problemsOf(trustRoot(spec));
    assert.ok(
      problems.some((each) => problem.test(each)),
      problems.join('\n') || 'accepted',
    );
  });
test('refuses two roots of one name', () => {
  const text = trustRoot('  remote: {}\n');
  assert.match(problemsOf(`${text}---\n${text}`)[0] ?? '', /the trust root own stands here twice/);
});

test('time grows linearly with the documents', () => {
  const sizes = [10, 20, 40, 80];
  const texts = new Map(
    sizes.map((n) => [
      n,
      Array.from({ length: n }, (_, i) => policy(`p${i}`, byKey(KEY), '', `ghcr.io/a/b${i}@*`)).join('---\n'),
    ]),
  );
  const k = exponent((n) => void read(texts.get(n)!), sizes);
  assert.ok(k < 1.5, `time grows with the ${k.toFixed(2)}th power`);
});

test('the policy that ships is read, and notes nothing', () => {
  const folder = join(import.meta.dirname, '../../../policies');
  const shipped = readdirSync(folder).filter((file) => file.startsWith('images'));
  assert.deepEqual(shipped, ['images.example.yaml']);
  const { policies, lints, noMatch } = read(readFileSync(join(folder, shipped[0]!), 'utf8'));
  assert.ok(policies.length >= 2);
  assert.equal(noMatch, 'unsigned');
  assert.deepEqual(lints, []);
});
