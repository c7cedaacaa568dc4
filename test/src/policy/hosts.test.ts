/** Rules for some hosts, and conditions in CEL: whom they mean, and what they do where they cannot be answered. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Drift } from '#src/drift/drift.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { freshnessOf, parsePolicy } from '#src/policy/document.ts';
import { evaluate, type Evidence } from '#src/policy/evaluate.ts';
import { fileRuleFor } from '#src/policy/files.ts';
import { NO_HOST, selects, type HostFacts, type HostSelector } from '#src/policy/host.ts';
import { throwsCode } from '../../throws.ts';
import { added, DEPLOYMENT, file, IMAGE, INTACT, overlay, policyOf, removed, symlink } from './evidence.ts';

const WEB: HostFacts = {
  labels: new Map([
    ['env', 'prod'],
    ['role', 'web-1'],
  ]),
  group: 'emea/kiosk',
  image: { digest: IMAGE, repositories: ['registry.example/team/os'], version: '1' },
};

function selector(text: string): HostSelector {
  const policy = policyOf(`files:\n  - {id: a, paths: [/etc/x], effect: allowed, reason: x, hosts: ${text}}\n`);
  return policy.files[0]!.hosts!;
}

const chosen: [text: string, matches: boolean][] = [
  ['{labels: {env: prod}}', true],
  ['{labels: {env: [stage, prod]}}', true],
  ['{labels: {env: stage}}', false],
  ['{labels: {env: prod, role: "web-*"}}', true],
  ['{labels: {env: prod, role: "db-*"}}', false],
  ['{labels: {zone: "*"}}', false],
  ['{groups: "emea/*"}', true],
  ['{groups: [kiosk]}', false],
  ['{images: registry.example/team/*}', true],
  [`{images: "${IMAGE}"}`, true],
  ['{images: registry.example/other/*}', false],
  ['{labels: {env: prod}, groups: x, images: "*"}', false],
];
for (const [text, matches] of chosen)
  test(`a rule for ${text} is ${matches ? '' : 'not '}about a web host of production`, () => {
    assert.equal(selects(selector(text), WEB), matches);
    // Of a host of which nothing is known no rule for some hosts speaks.
    assert.equal(selects(selector(text), NO_HOST), false);
  });

const refused: [name: string, rule: string, message: RegExp][] = [
  ['an empty selector', 'hosts: {}', /expected labels, groups or images/],
  ['labels as a list', 'hosts: {labels: [env]}', /expected 1 to 16 labels/],
  ['no labels', 'hosts: {labels: {}}', /expected 1 to 16 labels/],
  ['a misspelt kind', 'hosts: {lables: {a: b}}', /did you mean labels\?/],
  ['a label that no host can have', 'hosts: {labels: {"a b": c}}', /no label has such a name/],
  ['a prototype for a label', 'hosts: {labels: {__proto__: {env: prod}}}', /no label has such a name/],
  ['a glob that is none', 'hosts: {groups: "["}', /a \[ without its \]/],
  ['an unfinished condition', 'when: {cel: "path =="}', /at 1:6/],
  ['a condition on nothing there is', 'when: {cel: "paths == 1"}', /did you mean path\?/],
  ['a part that facts have not', 'when: {cel: "after.owner == 0"}', /"owner" is no part of it/],
  ['a condition of elsewhere', 'when: {cel: "account.uid == 0"}', /means nothing here/],
];
for (const [name, rule, message] of refused)
  test(`refuses ${name}`, () => {
    const text = `files:\n  - {id: a, paths: [/etc/x], effect: allowed, reason: x, ${rule}}\n`;
    throwsCode(() => policyOf(text), DocumentError, 'DOCUMENT_INVALID');
    assert.throws(() => policyOf(text), message);
  });

test('every condition that documents can hold is refused with its place', () => {
  const text =
    'format: bootproof.policy/1\nname: t\nstate:\n  - {id: a, on: karg, when: {cel: "argumnt == 1"}, effect: allowed, reason: x}\n';
  assert.throws(
    () => parsePolicy(text, { file: 'p.yaml' }),
    /p\.yaml:4:\d+: at 1:1: "argumnt" means nothing here, did you mean argument\?/,
  );
});

const FILES = policyOf(`files:
  - {id: web-motd, paths: [/etc/motd], hosts: {labels: {role: "web-*"}}, except: {groups: lab}, effect: allowed, reason: x}
  - {id: small, paths: [/etc/c], when: {cel: "after.size < 100 && after.uid == 0 && after.mode == '0644'"}, effect: allowed, reason: x}
  - {id: to-run, paths: [/etc/l], when: {cel: "after.link.startsWith('/run/') && path == '/etc/l'"}, effect: forbidden, severity: low, reason: x}
  - {id: rest, paths: [/etc/**], effect: forbidden, severity: high, reason: x}
`);
const decides = (line: Drift, host = NO_HOST) =>
  fileRuleFor(FILES, { path: line.path, drift: line, secret: undefined }, { host, accountsTold: false })!.id;

test('the first rule that is about the host decides', () => {
  assert.equal(decides(added('/etc/motd'), WEB), 'web-motd');
  assert.equal(decides(added('/etc/motd'), { ...WEB, group: 'lab' }), 'rest');
  assert.equal(decides(added('/etc/motd')), 'rest');
});

test('a condition sees size, owner, mode and target as policies spell them', () => {
  assert.equal(decides(added('/etc/c', file({ size: 99 }))), 'small');
  assert.equal(decides(added('/etc/c', file({ size: 100 }))), 'rest');
  assert.equal(decides(added('/etc/c', file({ size: 9, mode: 0o600 }))), 'rest');
  assert.equal(decides(added('/etc/l', symlink('/run/x'))), 'to-run');
  assert.equal(decides(added('/etc/l', symlink('/var/x'))), 'rest');
});

test('a condition that cannot be answered lets nothing pass, and makes nothing milder', () => {
  // No size after removal: the rule that would allow is not about it.
  assert.equal(decides(removed('/etc/c')), 'rest');
  // No link: the mild rule cannot be answered, and does not take the place of the severe one.
  assert.equal(decides(added('/etc/l')), 'rest');
  const mild = policyOf(`files:
  - {id: broken, paths: [/etc/x], when: {cel: "after.link == 'x'"}, effect: forbidden, severity: high, reason: x}
  - {id: rest, paths: [/etc/**], effect: allowed, reason: x}
`);
  const line = added('/etc/x');
  assert.equal(fileRuleFor(mild, { path: line.path, drift: line, secret: undefined })!.id, 'broken');
});

test('state rules ask in CEL too, and are for some hosts', () => {
  const policy = policyOf(`state:
  - {id: kiosk-quiet, on: karg, hosts: {groups: "*/kiosk"}, when: {cel: "argument.startsWith('quiet')"}, effect: forbidden, severity: low, reason: x}
  - {id: named, on: overlay, when: {cel: "overlay.kind == 'sysext' && overlay.detail.contains('vendor-')"}, effect: allowed, reason: x}
  - {id: no-serial, on: karg, except: {labels: {env: prod}}, when: {missing: ["console=ttyS0*"]}, effect: forbidden, severity: low, reason: x}
`);
  const rules = (evidence: Partial<Evidence>) =>
    evaluate({ ...INTACT, ...evidence }, policy).judgements.map(({ rule }) => rule);
  const quiet = { ...DEPLOYMENT, kargs: ['quiet'] };
  assert.deepEqual(rules({ deployment: quiet, host: WEB }), ['kiosk-quiet']);
  assert.deepEqual(rules({ deployment: quiet }), ['no-serial']);
  const extension = (detail: string) => ({
    deployment: { ...DEPLOYMENT, overlays: [overlay('/usr', 'sysext', { detail })] },
    host: WEB,
  });
  assert.deepEqual(rules(extension('system extensions vendor-gpu')), []);
  assert.deepEqual(rules(extension('system extensions other')), ['unnamed-overlay']);
});

test('laptops may be silent for longer: terms by label and group, key by key, the first that matches', () => {
  const policy = policyOf(`freshness: {reportEvery: 10m, lateAfter: 1h, silentAfter: 1d}
freshnessFor:
  - {hosts: {groups: "emea/*"}, silentAfter: 7d}
  - {hosts: {labels: {env: prod}}, silentAfter: 2h}
`);
  const HOUR = 3_600_000;
  assert.equal(freshnessOf(policy, WEB).silentAfter, 7 * 24 * HOUR);
  assert.equal(freshnessOf(policy, WEB).lateAfter, HOUR);
  assert.equal(freshnessOf(policy, { ...WEB, group: null }).silentAfter, 2 * HOUR);
  assert.equal(freshnessOf(policy, NO_HOST).silentAfter, 24 * HOUR);
  assert.throws(
    () => policyOf('freshnessFor:\n  - {hosts: {groups: x}, silentAfter: 1m}\n'),
    /4:\d+: silentAfter must be longer/,
  );
});

test('what an older document could say has the digest that it had', () => {
  const policy = policyOf(
    'files:\n  - {id: a, paths: [/etc/x], when: {change: [added]}, effect: allowed, reason: x}\n',
  );
  assert.equal(policy.digest, 'sha256:d47f94193900d81e9db3f31df90fb26665540791ed429433aba778b37407e02a');
});
