import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DocumentError } from '#src/document/yaml.ts';
import { isAnchored } from '#src/trust/cipvalidate.ts';
import type { PolicyAuthority } from '#src/trust/cipauthority.ts';
import { PUBLIC_GOOD } from '#src/trust/clusterimagepolicy.ts';
import { parseImagePolicy, type ImagePolicy } from '#src/trust/imagepolicy.ts';
import { pem } from './cases.ts';

const conformance = join(import.meta.dirname, '../../vectors/conformance/clusterimagepolicy');
const textOf = (folder: string, file: string) => readFileSync(join(conformance, folder, file), 'utf8');
const read = (text: string, file = 'p.yaml'): ImagePolicy => parseImagePolicy([{ file, text }]);

function problemsOf(text: string): string[] {
  try {
    read(text);
  } catch (error) {
    assert.ok(error instanceof DocumentError, String(error));
    return error.problems.map(({ line, column, message }) => `${line}:${column} ${message}`);
  }
  return [];
}

for (const file of readdirSync(join(conformance, 'valid')))
  test(`accepts policy-controller's valid ${file}`, () => {
    const { policies } = read(textOf('valid', file));
    assert.equal(policies.length, 1);
    assert.ok(policies[0]!.authorities.length > 0);
  });

const E2E = readdirSync(join(conformance, 'e2e'));
for (const file of E2E.filter((name) => name.startsWith('cip-')))
  test(`accepts policy-controller's ${file}`, () => assert.equal(read(textOf('e2e', file)).policies.length, 1));
test('what is no image policy is said to be none', () => {
  assert.deepEqual(
    E2E.filter((name) => !name.startsWith('cip-')),
    ['test-deployment.yaml'],
  );
  assert.match(problemsOf(textOf('e2e', 'test-deployment.yaml'))[0]!, /^15:1 a Deployment is no image policy/);
});

// Worded by kubectl and the CRD there, not by the webhook: only that they are refused counts.
const OTHER_WORDS = new Set([
  'empty-keyref-and-keylessref.yaml',
  'missing-identity.yaml',
  'v1beta1-missing-identity.yaml',
]);
for (const file of readdirSync(join(conformance, 'invalid')))
  test(`refuses policy-controller's invalid ${file} for its reason`, () => {
    const text = textOf('invalid', file);
    const problems = problemsOf(text).join('\n');
    const reasons = [...text.matchAll(/^# ERROR: ?(?:validation failed: )?(.*)$/gm)].map(([, reason]) => reason!);
    assert.ok(reasons.length > 0 && problems !== '');
    if (!OTHER_WORDS.has(file))
      for (const reason of reasons) assert.ok(problems.includes(reason), `${reason}\n${problems}`);
  });
test('refuses policies without authorities, as the controller does unless told otherwise', () => {
  for (const file of readdirSync(join(conformance, 'empty-authorities')))
    assert.deepEqual(problemsOf(textOf('empty-authorities', file)), ['20:3 missing field(s): spec.authorities']);
});

const HEAD =
  'apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: a}\nspec:\n  images: [{glob: "**"}]\n';
const one = (authority: string) => `${HEAD}  authorities:\n    - ${authority}\n`;
const KEY = JSON.stringify(pem('keys/p256.pub'));
const WHO = 'identities: [{issuer: a, subject: b}]';

const refused: [name: string, text: string, problems: RegExp[]][] = [
  ['a misspelt key', one('keyles: {}'), [/^7:7 unknown key "keyles", did you mean keyless\?$/]],
  ['a misspelt key deep inside', one(`key: {dta: ${KEY}}`), [/^7:13 unknown key "dta", did you mean data\?$/]],
  [
    'a key of another case',
    one('keyless: {identities: [{Issuer: a, subject: b}]}'),
    [/^7:31 unknown key "Issuer", did you mean issuer\?$/],
  ],
  [
    'a misspelt field of the policy',
    `${HEAD}  authorites: []\n`,
    [/^6:3 unknown key "authorites", did you mean authorities\?$/],
  ],
  ['no name', one('static: {action: pass}').replace('{name: a}', '{}'), [/^3:11 name is missing/]],
  ['no metadata', one('static: {action: pass}').replace('metadata: {name: a}\n', ''), [/^1:1 metadata is missing/]],
  ['text where a list is meant', `${HEAD}  authorities: all\n`, [/^6:16 expected a list$/]],
  ['a number where text is meant', one('static: {action: 1}'), [/^7:24 expected text$/]],
  [
    'text where yes or no is meant',
    one(`keyless: {insecureIgnoreSCT: yes, ${WHO}}`),
    [/^7:36 expected true or false$/],
  ],
  [
    'another version',
    one('static: {action: pass}').replace('v1beta1', 'v2'),
    [/^1:1 apiVersion: a ClusterImagePolicy is of policy\.sigstore\.dev\/v1alpha1 or/],
  ],
  ['another group', one('static: {action: pass}').replace('policy.sigstore.dev', 'example.org'), [/^1:1 apiVersion/]],
  [
    'no images',
    one('static: {action: pass}').replace('[{glob: "**"}]', '[]'),
    [/^5:3 missing field\(s\): spec\.images$/],
  ],
  [
    'an empty glob',
    one('static: {action: pass}').replace('"**"', '""'),
    [/^5:19 missing field\(s\): spec\.images\[0\]\.glob$/],
  ],
  [
    'an unknown action',
    one('static: {action: maybe}'),
    [/invalid value: maybe: spec\.authorities\[0\]\.static\.action/],
  ],
  ['no action', one('static: {}'), [/missing field\(s\): spec\.authorities\[0\]\.static\.action/]],
  [
    'what makes no sense beside static',
    one('{static: {action: pass}, ctlog: {url: "https://x"}}'),
    [/got both: spec\.authorities\[0\]\.ctlog, spec\.authorities\[0\]\.static/],
  ],
  [
    'two sources',
    one(`{key: {data: ${KEY}}, source: [{oci: ghcr.io/a/b}, {oci: ghcr.io/a/c}]}`),
    [/invalid value: source: spec\.authorities\[0\]\.source \(only single source is supported\)/],
  ],
  [
    'a source with a tag',
    one(`{key: {data: ${KEY}}, source: [{oci: "ghcr.io/a/b:v1"}]}`),
    [/invalid value: ghcr\.io\/a\/b:v1/],
  ],
  [
    'a source without a registry',
    one(`{key: {data: ${KEY}}, source: [{oci: acme/signatures}]}`),
    [/invalid value: acme\/signatures/],
  ],
  [
    'a pull secret without name',
    one(`{key: {data: ${KEY}}, source: [{signaturePullSecrets: [{}]}]}`),
    [/missing field\(s\): .*signaturePullSecrets\[0\]\.name/],
  ],
  [
    'an attestation without name and type',
    one(`{key: {data: ${KEY}}, attestations: [{}]}`),
    [/attestations\[0\]\.name/, /attestations\[0\]\.predicateType/],
  ],
  [
    'an attestation policy in another language',
    one(`{key: {data: ${KEY}}, attestations: [{name: a, predicateType: custom, policy: {type: cel, data: x}}]}`),
    [/invalid value: cel: spec\.authorities\[0\]\.attestations\[0\]\.policy\.type/],
  ],
  [
    'an attestation policy that looks at the configuration',
    one(
      `{key: {data: ${KEY}}, attestations: [{name: a, predicateType: custom, policy: {type: cue, data: x, fetchConfigFile: true}}]}`,
    ),
    [/must not set the field\(s\): .*fetchConfigFile/],
  ],
  [
    'a policy of no text',
    `${one('static: {action: pass}')}  policy: {type: cue}\n`,
    [/missing field\(s\): spec\.policy\.configMapRef, spec\.policy\.data, spec\.policy\.remote/],
  ],
  [
    'a policy of two texts',
    `${one('static: {action: pass}')}  policy: {type: cue, data: x, configMapRef: {name: a, key: b}}\n`,
    [/got both/],
  ],
  [
    'a remote policy over http',
    `${one('static: {action: pass}')}  policy: {type: cue, remote: {url: "http://x/y"}}\n`,
    [/url \(host and https scheme/, /sha256sum/],
  ],
  [
    'a map reference without key',
    `${one('static: {action: pass}')}  policy: {type: cue, configMapRef: {name: a}}\n`,
    [/missing field\(s\): spec\.policy\.configMapRef\.key/],
  ],
  [
    'an unknown signature format',
    one(`{key: {data: ${KEY}}, signatureFormat: bundel}`),
    [/invalid value: bundel: spec\.authorities\[0\]\.signatureFormat/],
  ],
  [
    'a private key, without telling it',
    one('key: {data: "-----BEGIN PRIVATE KEY-----\\nc2VjcmV0\\n-----END PRIVATE KEY-----"}'),
    [/^7:19 invalid value: a private key: spec\.authorities\[0\]\.key\.data \(expected PUBLIC KEY/],
  ],
  [
    'a broken public key',
    one('key: {data: "-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----"}'),
    [/the public key cannot be read/],
  ],
  [
    'an unknown key service',
    one('key: {kms: "ssh://x"}'),
    [/invalid value: ssh:\/\/x: spec\.authorities\[0\]\.key\.kms/],
  ],
  [
    'a key of nowhere in Amazon',
    one('key: {kms: "awskms://arn:aws:kms:us-east-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}'),
    [/key\.kms/],
  ],
  [
    'two sides of an identity twice',
    one('keyless: {identities: [{issuer: a, issuerRegExp: b, subject: c, subjectRegExp: d}]}'),
    [/issuer, .*issuerRegExp/, /subject, .*subjectRegExp/],
  ],
  [
    'a backreference, which RE2 has not',
    one('keyless: {identities: [{issuer: a, subjectRegExp: "(a)\\\\1"}]}'),
    [/invalid value: \(a\)\\1: /],
  ],
  [
    'a selector of nothing',
    `${one('static: {action: pass}')}  match: [{selector: {matchLabels: {a: b}}}]\n`,
    [/spec\.match\[0\]\.selector/],
  ],
  ['an unknown mode', `${one('static: {action: pass}')}  mode: Warn\n`, [/invalid value: Warn: spec\.mode/]],
  [
    'the same policy twice',
    `${one('static: {action: pass}')}---\n${one('static: {action: pass}')}`,
    [/^9:1 the policy a stands in p\.yaml:1 as well$/],
  ],
  [
    'a problem in the second document',
    `${one('static: {action: pass}')}---\n${one('statik: {}').replace('{name: a}', '{name: b}')}`,
    [/^15:7 unknown key "statik", did you mean static\?$/],
  ],
  [
    'a problem in an item of a list',
    'apiVersion: v1\nkind: List\nitems:\n  - apiVersion: policy.sigstore.dev/v1beta1\n    kind: ClusterImagePolicy\n    metadata: {name: a}\n    spec: {imags: []}\n',
    [/^7:12 unknown key "imags", did you mean images\?$/],
  ],
  ['nothing but text', 'hello', [/^1:1 this is no image policy/]],
  ['a key that stands twice', one('static: {action: pass, action: fail}'), [/stands here twice/]],
];
for (const [name, text, expected] of refused)
  test(`refuses ${name}`, () => {
    const problems = problemsOf(text);
    for (const pattern of expected)
      assert.ok(
        problems.some((problem) => pattern.test(problem)),
        problems.join('\n') || 'accepted',
      );
    for (const problem of problems) assert.doesNotMatch(problem, /c2VjcmV0/);
  });

test('what kubectl adds says nothing', () => {
  const exported = {
    apiVersion: 'v1',
    kind: 'List',
    metadata: { resourceVersion: '' },
    items: [
      {
        apiVersion: 'policy.sigstore.dev/v1beta1',
        kind: 'ClusterImagePolicy',
        metadata: {
          name: 'a',
          uid: 'u',
          generation: 3,
          creationTimestamp: null,
          annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}' },
          managedFields: [{ manager: 'kubectl' }],
        },
        spec: {
          mode: '',
          images: [{ glob: '**' }],
          authorities: [{ name: '', static: { action: 'pass' }, key: null }],
        },
        status: { conditions: [] },
      },
    ],
  };
  const [policy] = read(JSON.stringify(exported, null, '\t')).policies;
  assert.deepEqual([policy?.name, policy?.mode, policy?.authorities[0]?.name], ['a', 'enforce', 'authority-0']);
});

test('an empty text is an absent one, as in Go', () => {
  const [policy] = read(
    one('keyless: {url: "", trustRootRef: "", identities: [{issuer: a, issuerRegExp: "", subject: b}]}'),
  ).policies;
  assert.equal(policy?.authorities[0]?.signer.kind, 'signer');
});

// What the fields demand of a signature (facts of policy-controller's checkOptsFromAuthority, and where we are stricter).
const signerOf = (authority: string): PolicyAuthority['signer'] =>
  read(one(authority)).policies[0]!.authorities[0]!.signer;
type Demands = {
  trustRoot?: string;
  tlogRoot?: string;
  tsaRoot?: string;
  tlog: unknown;
  tsa: unknown;
  sct?: boolean;
};
const demands: [name: string, authority: string, demands: Demands][] = [
  ['a key', `key: {data: ${KEY}}`, { tlog: undefined, tsa: undefined }],
  [
    'a key, with a log by its address',
    `{key: {data: ${KEY}}, ctlog: {url: "https://rekor"}}`,
    { tlog: PUBLIC_GOOD, tsa: undefined },
  ],
  [
    'a key, with a log of a root',
    `{key: {data: ${KEY}}, ctlog: {url: "https://rekor", trustRootRef: own}}`,
    { tlog: 'own', tsa: undefined },
  ],
  [
    'a key, with an empty log, which the controller overlooks',
    `{key: {data: ${KEY}}, ctlog: {}}`,
    { tlog: PUBLIC_GOOD, tsa: undefined },
  ],
  [
    'a key, with a stamp',
    `{key: {data: ${KEY}}, rfc3161timestamp: {trustRootRef: own}}`,
    { tlog: undefined, tsa: 'own' },
  ],
  [
    'a key, with both',
    `{key: {data: ${KEY}}, ctlog: {trustRootRef: own}, rfc3161timestamp: {trustRootRef: other}}`,
    { tlog: 'own', tsa: 'other' },
  ],
  ['an identity', `keyless: {${WHO}}`, { trustRoot: PUBLIC_GOOD, tlog: true, tsa: false, sct: true }],
  [
    'an identity without SCT',
    `keyless: {insecureIgnoreSCT: true, ${WHO}}`,
    { trustRoot: PUBLIC_GOOD, tlog: true, tsa: false, sct: false },
  ],
  [
    'an identity, with a log',
    `{keyless: {${WHO}}, ctlog: {url: "https://rekor"}}`,
    { trustRoot: PUBLIC_GOOD, tlog: true, tsa: false, sct: true },
  ],
  [
    'an identity of a private root',
    `keyless: {trustRootRef: own, ${WHO}}`,
    { trustRoot: 'own', tlog: false, tsa: true, sct: true },
  ],
  [
    'an identity of a private root, with its log',
    `{keyless: {trustRootRef: own, ${WHO}}, ctlog: {trustRootRef: own}}`,
    { trustRoot: 'own', tlog: true, tsa: false, sct: true },
  ],
  [
    'an identity of a private root, in bundles',
    `{keyless: {trustRootRef: own, ${WHO}}, signatureFormat: bundle}`,
    { trustRoot: 'own', tlog: true, tsa: false, sct: true },
  ],
  [
    'an identity of a private root, with its stamp',
    `{keyless: {trustRootRef: own, ${WHO}}, rfc3161timestamp: {trustRootRef: own}}`,
    { trustRoot: 'own', tlog: false, tsa: true, sct: true },
  ],
  [
    'an identity, with a stamp',
    `{keyless: {${WHO}}, rfc3161timestamp: {trustRootRef: ${PUBLIC_GOOD}}}`,
    { trustRoot: PUBLIC_GOOD, tlog: false, tsa: true, sct: true },
  ],
  [
    'an identity of a private root, with a log by its address',
    `{keyless: {trustRootRef: own, ${WHO}}, ctlog: {url: "https://rekor"}}`,
    { trustRoot: 'own', tlogRoot: PUBLIC_GOOD, tlog: true, tsa: false, sct: true },
  ],
  [
    'an identity, with the stamp of a private root',
    `{keyless: {${WHO}}, rfc3161timestamp: {trustRootRef: own}}`,
    { trustRoot: PUBLIC_GOOD, tsaRoot: 'own', tlog: false, tsa: true, sct: true },
  ],
  [
    'an identity, with both',
    `{keyless: {trustRootRef: own, ${WHO}}, ctlog: {trustRootRef: own}, rfc3161timestamp: {trustRootRef: own}}`,
    { trustRoot: 'own', tlog: true, tsa: true, sct: true },
  ],
];
for (const [name, authority, expected] of demands)
  test(`${name} demands what it says`, () => {
    const signer = signerOf(authority);
    assert.ok(signer.kind === 'signer', JSON.stringify(signer));
    const { tlog, tsa } = signer.authority;
    const roots =
      signer.authority.kind === 'key'
        ? {}
        : Object.fromEntries(Object.entries(signer.authority).filter(([key]) => key.endsWith('Root')));
    const more = signer.authority.kind === 'keyless' ? { ...roots, sct: signer.authority.sct } : {};
    assert.deepEqual({ ...more, tlog, tsa }, expected);
  });

const unsupported: [name: string, authority: string, field: string][] = [
  ['a key in a key service', 'key: {kms: "gcpkms://projects/x"}', 'spec.authorities[0].key.kms'],
  ['a key in a secret', 'key: {secretRef: {name: a}}', 'spec.authorities[0].key.secretRef'],
  [
    'an authority by its certificate',
    `keyless: {ca-cert: {secretRef: {name: a}}, ${WHO}}`,
    'spec.authorities[0].keyless.ca-cert',
  ],
  [
    'a key of a kind that is not verified',
    `key: {data: ${JSON.stringify('-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAhSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n-----END PUBLIC KEY-----\n')}}`,
    'spec.authorities[0].key.data',
  ],
];
for (const [name, authority, field] of unsupported)
  test(`${name} is accepted, and never passed: ${field}`, () => {
    const signer = signerOf(authority);
    assert.ok(signer.kind === 'unsupported');
    assert.equal(signer.unsupported.field, field);
    const lints = read(one(authority)).lints.filter(({ code }) => code === 'UNSUPPORTED');
    assert.deepEqual(
      lints.map((lint) => [lint.policy, lint.field, lint.line]),
      [['a', field, 7]],
    );
  });

const lints: [name: string, text: string, code: string, field: string][] = [
  [
    'a glob that matches no digest',
    one('static: {action: pass}').replace('"**"', 'ghcr.io/acme/os'),
    'NEVER_MATCHES',
    'spec.images[0].glob',
  ],
  [
    'a glob with an open end',
    one('static: {action: pass}').replace('"**"', 'ghcr.io/acme/os*'),
    'OPEN_END',
    'spec.images[0].glob',
  ],
  [
    'an unanchored expression',
    one('keyless: {identities: [{issuer: a, subjectRegExp: "https://ci/.*"}]}'),
    'UNANCHORED',
    'spec.authorities[0].keyless.identities[0].subjectRegExp',
  ],
  [
    'a short predicate type',
    one(`{key: {data: ${KEY}}, attestations: [{name: a, predicateType: vuln}]}`),
    'DEPRECATED',
    'spec.authorities[0].attestations[0].predicateType',
  ],
  [
    'a predicate type that is no URI',
    one(`{key: {data: ${KEY}}, attestations: [{name: a, predicateType: mine}]}`),
    'DEPRECATED',
    'spec.authorities[0].attestations[0].predicateType',
  ],
  [
    'several keys',
    one(`key: {data: ${JSON.stringify(pem('keys/p256.pub') + pem('keys/other.pub'))}}`),
    'NOT_HERE',
    'spec.authorities[0].key.data',
  ],
  [
    'an address nobody asks',
    one(`keyless: {url: "https://fulcio.acme", ${WHO}}`),
    'NOT_HERE',
    'spec.authorities[0].keyless.url',
  ],
  [
    'a private root without log or stamp',
    one(`keyless: {trustRootRef: own, ${WHO}}`),
    'STRICTER_HERE',
    'spec.authorities[0].keyless',
  ],
  [
    'a log by its address beside a private root',
    one(`{keyless: {trustRootRef: own, ${WHO}}, ctlog: {url: "https://rekor"}}`),
    'NOT_HERE',
    'spec.authorities[0].ctlog',
  ],
  [
    'resources of a cluster',
    `${one('static: {action: pass}')}  match: [{resource: pods, version: v1}]\n`,
    'STRICTER_HERE',
    'spec.match',
  ],
  [
    'pull secrets',
    one(`{key: {data: ${KEY}}, source: [{signaturePullSecrets: [{name: a}]}]}`),
    'NOT_HERE',
    'spec.authorities[0].source[0].signaturePullSecrets',
  ],
  [
    'a source without repository',
    one(`{key: {data: ${KEY}}, source: [{oci: "ghcr.io"}]}`),
    'NOT_HERE',
    'spec.authorities[0].source[0].oci',
  ],
];
for (const [name, text, code, field] of lints)
  test(`notes ${name}`, () => {
    const found = read(text).lints.map((lint) => [lint.code, lint.field]);
    assert.deepEqual(found, [[code, field]]);
  });
test('says nothing of a policy that is well', () => {
  const text = one(`{key: {data: ${KEY}}, ctlog: {trustRootRef: own}}`).replace('"**"', '"ghcr.io/acme/os@*"');
  assert.deepEqual(read(text).lints, []);
});

test('sources tell where else signatures lie', () => {
  const [policy] = read(
    one(`{key: {data: ${KEY}}, source: [{oci: "registry.local:5000/acme/sigs", tagPrefix: p-}]}`),
  ).policies;
  assert.deepEqual(policy?.authorities[0]?.source, { repository: 'registry.local:5000/acme/sigs', tagPrefix: 'p-' });
});

const anchored: [regExp: string, is: boolean][] = [
  ['^a$', true],
  ['^https://github\\.com/acme/.*$', true],
  ['\\Aa\\z', true],
  ['(?i)^a$', true],
  ['^(a|b)$', true],
  ['^[|]$', true],
  ['^[]|]$', true],
  ['^[^]|]$', true],
  ['^a\\$$', true],
  ['^\\[a$', true],
  ['a', false],
  ['.*a.*', false],
  ['^a', false],
  ['a$', false],
  ['^a|b$', false],
  ['^a\\$', false],
  ['^a[$]', false],
  ['^(a$', false],
  ['(^a$)', false],
  ['', false],
];
for (const [regExp, is] of anchored)
  test(`${JSON.stringify(regExp)} is ${is ? '' : 'not '}anchored`, () => assert.equal(isAnchored(regExp), is));
