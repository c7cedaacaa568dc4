import assert from 'node:assert/strict';
import { test } from 'node:test';
import { throwsCode } from '#test/throws.ts';
import { DeploymentError } from '#src/deployment/error.ts';
import { baseDigestOf, layeredOf, parseRpmOstreeStatus } from '#src/deployment/rpmostree.ts';
import { vector } from './vectors.ts';

const DIGEST = 'sha256:ca0df2c95aa144c1d0ff2ff3c8f967fdc1de9ef0c4120b3726416701b519d619';
const status = (...deployments: object[]) => parseRpmOstreeStatus(JSON.stringify({ deployments })).deployments;

test('a layered host tells its base image and what lies on top', () => {
  const [deployment] = parseRpmOstreeStatus(vector('20-rpm-ostree-layered-container.json')).deployments;
  assert.equal(baseDigestOf(deployment!), DIGEST);
  assert.deepEqual(layeredOf(deployment!), ['package htop', 'removed nano']);
});

test('the base image is also in the metadata of the base commit', () => {
  const [deployment] = status({ 'base-commit-meta': { 'ostree.manifest-digest': DIGEST } });
  assert.equal(baseDigestOf(deployment!), DIGEST);
  assert.equal(baseDigestOf(status({})[0]!), null);
});

test('every way to change an image has its phrase, once', () => {
  const nevra = (name: string) => [`${name}-1-2.fc43.x86_64`, name, 0, '1', '2.fc43', 'x86_64'];
  const [deployment] = status({
    packages: ['tmux'],
    'requested-packages': ['tmux', 'strace'],
    'requested-local-packages': ['vendor-agent-1-1.x86_64'],
    'requested-local-fileoverride-packages': ['vendor-fix-1-1.x86_64'],
    'requested-base-removals': ['nano'],
    'base-removals': [nevra('nano'), nevra('vim')],
    'base-local-replacements': [[nevra('kernel'), nevra('kernel')]],
    'base-remote-replacements': { updates: [[nevra('podman'), nevra('podman')]] },
    'requested-modules': ['nodejs:18'],
    'initramfs-etc': ['/etc/crypttab'],
    'regenerate-initramfs': true,
    'live-replaced': '63'.repeat(32),
    'live-inprogress': '',
  });
  assert.deepEqual(layeredOf(deployment!), [
    'package tmux',
    'package strace',
    'local package vendor-agent-1-1.x86_64',
    'local package vendor-fix-1-1.x86_64',
    'removed nano',
    'removed vim',
    'replaced kernel',
    'replaced podman',
    'module nodejs:18',
    'initramfs with /etc/crypttab',
    'initramfs made on the host',
    'packages applied to the running system',
  ]);
});

test('replacements in a form that is not known are still said to be there', () => {
  const [deployment] = status({ 'base-remote-replacements': { updates: 'podman' } });
  assert.deepEqual(layeredOf(deployment!), ['replaced packages from a repository']);
});

const refused = [
  ["rpm-ostree's text for people", 'State: idle\nDeployments:\n', 'RPMOSTREE_STATUS_SYNTAX'],
  ['no deployments', '{}', 'RPMOSTREE_STATUS_SYNTAX'],
  ['a list', '[]', 'RPMOSTREE_STATUS_SYNTAX'],
  ['a replacement of nothing', '{"deployments":[{"base-local-replacements":[[]]}]}', 'RPMOSTREE_STATUS_SYNTAX'],
  ['a checksum that is no text', '{"deployments":[{"checksum":7}]}', 'RPMOSTREE_STATUS_SYNTAX'],
  [
    'a thousand and one deployments',
    JSON.stringify({ deployments: Array.from({ length: 1001 }, () => ({})) }),
    'RPMOSTREE_STATUS_SYNTAX',
  ],
  ['more than 16 MiB', ' '.repeat(2 ** 24 + 1), 'HOST_TEXT_TOO_LARGE'],
] as const;
for (const [name, text, code] of refused)
  test(`refuses ${name}`, () => throwsCode(() => parseRpmOstreeStatus(text), DeploymentError, code));
