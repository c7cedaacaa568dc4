/** `bootproof image verify`: what real signers made, judged as the vectors say, with the exit codes that CI relies on. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { image } from '#cli/verify.ts';
import { keyPolicy } from '#demo/sign.ts';
import { UsageError } from '#src/terminal.ts';
import { rejectsCode } from '#test/throws.ts';
import { caseOf, cases, pem, vectors, type Case } from '#test/src/trust/cases.ts';
import { ran, type Ran } from '#test/ran.ts';

const run = (args: readonly string[]): Promise<Ran> => ran(image, args, { columns: 80 });

const layout = ({ layout: name, digest }: Case) => `oci:${join(vectors, name)}@${digest}`;

function argumentsOf(of: Case): string[] {
  const { check, reference } = of;
  const key = check.key === undefined ? [] : ['--key', join(vectors, check.key)];
  const identity =
    check.identity === undefined
      ? []
      : ['--certificate-identity', check.identity.subject, '--certificate-oidc-issuer', check.identity.issuer];
  return [
    'verify',
    layout(of),
    ...(reference === undefined ? [] : ['--as', reference]),
    ...key,
    ...identity,
    '--trusted-root',
    join(vectors, 'trust/trusted_root.json'),
    ...(check.requireTlog === true ? ['--require-log'] : []),
    ...(check.requireTimestamp === true ? ['--require-timestamp'] : []),
    ...(check.hashAlgorithm === undefined ? [] : ['--signature-digest', check.hashAlgorithm]),
    ...(check.what === 'attestation' ? ['--attestation', check.predicateType!] : []),
    '--json',
  ];
}

for (const each of cases)
  test(`${each.name}: ${each.expect}`, async () => {
    const { exit, out } = await run(argumentsOf(each));
    const document = JSON.parse(out);
    assert.equal(document.image, each.digest);
    assert.equal(typeof document.hostPolicyReadable, 'boolean');
    if (each.expect === 'verify') assert.deepEqual([exit, document.status], [0, 'trusted'], out);
    else if (each.expect === 'reject') {
      assert.ok(exit === 1 || exit === 2, out);
      assert.notEqual(document.status, 'trusted');
      assert.deepEqual(document.identities, []);
    } else assert.ok((exit === 0) === (document.status === 'trusted'), out);
    if (exit === 1) assert.ok(['unsigned', 'rejected'].includes(document.status));
    if (exit === 2) assert.equal(document.status, 'unverifiable');
    if (exit !== 0) assert.match(document.code, /^[A-Z_]+$/);
    for (const checked of document.checked)
      assert.deepEqual(Object.keys(checked).sort(), ['code', 'format', 'outcome', 'reason', 'where']);
  });

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'bootproof-verify-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

const SIGNED = caseOf('v-legacy2-key-p256');
const KEY = pem('keys/p256.pub');

test('an image policy says who must have signed; its name decides, its lints do not hinder', async (t) => {
  const at = folder(t);
  const named = (glob: string, key = KEY) => {
    const file = join(at, 'policy.yaml');
    writeFileSync(file, keyPolicy('acme', glob, [{ publicPem: key }]));
    return ['verify', layout(SIGNED), '--as', SIGNED.reference!, '--policy', at, '--json'];
  };
  const status = async (args: string[]) => {
    const { exit, out } = await run(args);
    const { status: said, code, identities, policy } = JSON.parse(out);
    return { exit, said, code, by: identities.length, policy };
  };
  assert.deepEqual(await status(named('localhost:5001/acme/*@*')), {
    exit: 0,
    said: 'trusted',
    code: null,
    by: 1,
    policy: 'acme',
  });
  assert.deepEqual(await status(named('localhost:5001/other/*@*')), {
    exit: 1,
    said: 'unsigned',
    code: 'NO_POLICY',
    by: 0,
    policy: null,
  });
  const other = await status(named('localhost:5001/acme/*@*', pem('keys/p384.pub')));
  assert.deepEqual([other.exit, other.said], [1, 'rejected']);
  writeFileSync(join(at, 'policy.yaml'), 'kind: Pod\n');
  await assert.rejects(run(['verify', layout(SIGNED), '--policy', at]), { code: 'DOCUMENT_INVALID' });
});

test('each authority is told with its first reason, in text and in JSON', async (t) => {
  const at = folder(t);
  const keys = [pem('keys/other.pub'), pem('keys/p384.pub')].map((publicPem) => ({ publicPem }));
  writeFileSync(join(at, 'policy.yaml'), keyPolicy('acme', '**', keys));
  const args = ['verify', layout(SIGNED), '--policy', at];
  const { exit, out } = await run(args);
  assert.equal(exit, 1);
  assert.equal(out.match(/^ {2}acme, authority \S+: failed: .+ \[WRONG_KEY\]$/gm)?.length, 2, out);
  const [told] = JSON.parse((await run([...args, '--json'])).out).policies;
  assert.deepEqual(
    told.authorities.map(({ state, code }: { state: string; code: string }) => [state, code]),
    [
      ['failed', 'WRONG_KEY'],
      ['failed', 'WRONG_KEY'],
    ],
  );
});

test('an attestation may be asked for by the short name that cosign has for its type', async () => {
  const of = caseOf('v-bundle-attest-slsa1');
  const args = ['verify', layout(of), '--key', join(vectors, of.check.key!), '--json', '--attestation'];
  assert.equal((await run([...args, 'slsaprovenance1'])).exit, 0);
  const other = await run([...args, 'slsaprovenance']);
  assert.deepEqual([other.exit, JSON.parse(other.out).status], [1, 'unsigned']);
});

test('what is denied is rejected whoever signed it', async (t) => {
  const file = join(folder(t), 'deny.yaml');
  writeFileSync(file, `format: bootproof.images/1\ndeny:\n  - image: ${SIGNED.digest}\n    reason: Recalled.\n`);
  const args = ['verify', layout(SIGNED), '--key', join(vectors, 'keys/p256.pub')];
  assert.equal((await run(args)).exit, 0);
  const denied = await run([...args, '--deny', file]);
  assert.equal(denied.exit, 1);
  assert.match(denied.out, /^rejected: denied by image: Recalled\. \[DENIED\]/);
});

test('what cannot be had or told is 2, never 1, and JSON says why', async () => {
  const key = ['--key', join(vectors, 'keys/p256.pub'), '--json'];
  const gone = await run(['verify', `oci:${join(vectors, 'nowhere')}:1`, ...key]);
  assert.deepEqual([gone.exit, JSON.parse(gone.out).code], [2, 'SOURCE_NOT_FOUND']);
  const lost = await run(['verify', `oci:${join(vectors, 'nowhere')}@${SIGNED.digest}`, ...key]);
  assert.deepEqual([lost.exit, JSON.parse(lost.out).status], [2, 'unverifiable'], 'a folder that is not there');
  assert.match(JSON.parse(lost.out).reason, /SOURCE_NOT_FOUND/);
  const other = caseOf('n-unsigned');
  const misspelt = await run(['verify', `oci:${join(vectors, other.layout)}@${SIGNED.digest}`, ...key]);
  assert.deepEqual([misspelt.exit, JSON.parse(misspelt.out).code], [2, 'NOT_READ'], 'an image that is not in it');
  const down = await run(['verify', `docker://127.0.0.1:1/team/os@${SIGNED.digest}`, ...key]);
  assert.equal(down.exit, 2);
  assert.equal(JSON.parse(down.out).status, 'unverifiable');
  const rootless = await run([
    'verify',
    layout(SIGNED),
    '--certificate-identity',
    'x',
    '--certificate-oidc-issuer',
    'https://y',
    '--json',
  ]);
  assert.deepEqual([rootless.exit, JSON.parse(rootless.out).code], [2, 'NO_TRUST_ROOT']);
});

test('what an image is to be held against and cannot be read is 2 as well, in the same document', async (t) => {
  const at = folder(t);
  const file = join(at, 'a.txt');
  writeFileSync(file, 'x: [');
  const keyless = ['--certificate-identity', 'x', '--certificate-oidc-issuer', 'y'];
  const key = ['--key', join(vectors, 'keys/p256.pub')];
  for (const [args, code] of [
    [['--key', join(at, 'nowhere')], 'KEY_FILE'],
    [['--key', file], 'KEY_SYNTAX'],
    [[...keyless, '--trusted-root', join(at, 'nowhere')], 'TRUST_ROOT_FILE'],
    [[...keyless, '--trusted-root', file], 'TRUST_ROOT_SYNTAX'],
    [['--policy', join(at, 'nowhere')], 'IMAGE_POLICY_FILE'],
    [['--policy', file], 'DOCUMENT_SYNTAX'],
    [[...key, '--deny', join(at, 'nowhere')], 'IMAGE_POLICY_FILE'],
    [[...key, '--deny', file], 'DOCUMENT_SYNTAX'],
    [[...key, '--as', 'os:1'], 'REFERENCE_SHORT_NAME'],
  ] as const) {
    const { exit, out } = await run(['verify', layout(SIGNED), ...args, '--json']);
    const { status, code: told, image: of, checked } = JSON.parse(out);
    assert.deepEqual([exit, status, told, of, checked], [2, 'unverifiable', code, SIGNED.digest, []]);
    await assert.rejects(run(['verify', layout(SIGNED), ...args]), { code });
  }
});

for (const [what, args] of [
  ['nobody named', []],
  ['an empty identity', ['--certificate-identity', '', '--certificate-oidc-issuer', 'x']],
  ['an empty predicate type', ['--key', 'x', '--attestation', '']],
  ['a mirror that is none', ['--key', join(vectors, 'keys/p256.pub'), '--mirror', 'x']],
  [
    'a repository for signatures that is none',
    ['--key', join(vectors, 'keys/p256.pub'), '--signature-repository', 'x'],
  ],
  ['two ways', ['--key', 'x', '--policy', 'y']],
  ['one side of an identity', ['--certificate-identity', 'x']],
  ['a digest algorithm that is none', ['--key', join(vectors, 'keys/p256.pub'), '--signature-digest', 'md5']],
  ['a policy and a demand beside it', ['--policy', 'x', '--require-log']],
] as const)
  test(`${what} is wrong use`, () => rejectsCode(() => run(['verify', layout(SIGNED), ...args]), UsageError, 'USAGE'));

test('policies are checked together, with what their author should know', async (t) => {
  const at = folder(t);
  const file = join(at, 'a.yaml');
  writeFileSync(file, keyPolicy('a', 'ghcr.io/acme/os', [{ publicPem: KEY }]));
  const noted = await run(['policy', 'check', file]);
  assert.equal(noted.exit, 1);
  assert.match(noted.out, /a\.yaml:\d+:\d+: .*matches no image.* \[NEVER_MATCHES\]/);
  writeFileSync(file, keyPolicy('a', 'ghcr.io/acme/os@*', [{ publicPem: KEY }]));
  assert.deepEqual([(await run(['policy', 'check', at])).exit, (await run(['policy', 'check', file])).out], [0, '']);
  writeFileSync(join(at, 'b.yaml'), keyPolicy('a', '**', [{ publicPem: KEY }]));
  await assert.rejects(run(['policy', 'check', at]), /b\.yaml:1:1: the policy a stands in .*a\.yaml:1 as well/);
});

test('from the shell: the exit code is the gate', async () => {
  const launcher = join(import.meta.dirname, '../../bootproof');
  const args = ['image', 'verify', layout(SIGNED), '--key', join(vectors, 'keys/p384.pub')];
  const { code, out } = await new Promise<{ code: unknown; out: string }>((resolve) => {
    execFile(launcher, args, (error, stdout) => resolve({ code: error?.code ?? 0, out: stdout }));
  });
  assert.equal(code, 1);
  assert.match(out, /^rejected: /);
});
