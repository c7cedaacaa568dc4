import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromUtf8 } from '#src/bytes.ts';
import { throwsCode } from '#test/throws.ts';
import { DeploymentError } from '#src/deployment/error.ts';
import { parseImageSource, parseOrigin } from '#src/deployment/origin.ts';
import { vector } from './vectors.ts';

const [ostree, composefs] = vector('origin-samples.txt').split('# composefs backend');

test('reads the origin of a bootc host with a hotfix and layered packages', () => {
  const origin = parseOrigin(ostree!);
  assert.deepEqual(origin.image, {
    reference: 'registry.example.test/os/edge:prod',
    transport: 'registry',
    signature: null,
  });
  // The sample's `unlocked` stands in [origin], as ostree writes it.
  assert.equal(origin.unlocked, 'hotfix');
  assert.equal(origin.rpmOstree, true);
  assert.deepEqual(origin.layered, ['package htop', 'package vim', 'removed nano']);
});

test('reads the origin of a composefs deployment', () => {
  const origin = parseOrigin(`#${composefs!.replace('sha256:...', `sha256:${'ca'.repeat(32)}`)}`);
  assert.equal(origin.manifestDigest, `sha256:${'ca'.repeat(32)}`);
  assert.equal(origin.image?.reference, 'registry.example.test/os/edge:prod');
  assert.equal(origin.bootType, 'uki');
  assert.equal(origin.rpmOstree, false);
});

test('reads the origin of a plain ostree commit', () => {
  const origin = parseOrigin('[origin]\nrefspec=bp/vm\n');
  assert.equal(origin.refspec, 'bp/vm');
  assert.equal(origin.image, null);
});

test('follows the rules of key files: white space, comments, later keys, groups in two parts, escapes', () => {
  const origin = parseOrigin(
    fromUtf8(
      '# c\n\n[origin]\n  unlocked = x\nunlocked=hot\\sfix\n[packages]\nrequested=a;\n[origin]\nrefspec=é\n[libostree-transient]\npinned=true\n',
    ),
  );
  assert.equal(origin.unlocked, 'hot fix');
  assert.equal(origin.refspec, 'é');
  assert.equal(origin.pinned, true);
  assert.deepEqual(origin.layered, ['package a']);
});

test('an empty file is an origin that tells nothing', () => {
  const origin = parseOrigin('');
  assert.deepEqual([origin.image, origin.refspec, origin.manifestDigest, origin.layered], [null, null, null, []]);
});

const sources = [
  ['ostree-unverified-registry:quay.io/x/y:z', 'quay.io/x/y:z', 'registry', null],
  ['ostree-unverified-image:docker://quay.io/x/y@sha256:00', 'quay.io/x/y@sha256:00', 'registry', null],
  ['ostree-unverified-image:registry:quay.io/x/y', 'quay.io/x/y', 'registry', null],
  ['ostree-unverified-image:containers-storage:localhost/x', 'localhost/x', 'containers-storage', null],
  ['ostree-unverified-image:oci:/var/mnt/os:latest', '/var/mnt/os:latest', 'oci', null],
  ['ostree-image-signed:docker://quay.io/x/y', 'quay.io/x/y', 'registry', 'containerPolicy'],
  ['ostree-image-signed:registry:quay.io/x/y', 'quay.io/x/y', 'registry', 'containerPolicy'],
  ['ostree-remote-image:fedora:docker://quay.io/x/y', 'quay.io/x/y', 'registry', 'ostreeRemote:fedora'],
  ['ostree-remote-registry:fedora:quay.io/x/y:1', 'quay.io/x/y:1', 'registry', 'ostreeRemote:fedora'],
] as const;
for (const [text, reference, transport, signature] of sources)
  test(`reads the image source ${text}`, () =>
    assert.deepEqual(parseImageSource(text), { reference, transport, signature }));

const unknown = [
  '',
  'quay.io/x/y',
  'ostree-unverified-registry:',
  'ostree-image-signed:',
  'ostree-image-signed:docker://',
  'ostree-remote-registry::quay.io/x',
  'ostree-remote-registry:fedora',
  'sigstore:docker://quay.io/x/y',
];
for (const text of unknown)
  test(`does not guess the image source ${JSON.stringify(text)}`, () => assert.equal(parseImageSource(text), null));

const refused = [
  ['a key before any group', 'refspec=x\n', 'ORIGIN_SYNTAX'],
  ['a line that is neither', '[origin]\nrefspec\n', 'ORIGIN_SYNTAX'],
  ['a key without a name', '[origin]\n=x\n', 'ORIGIN_SYNTAX'],
  ['bytes that are not UTF-8', '[origin]\nrefspec=\xff\n', 'ORIGIN_SYNTAX'],
  ['more than a MiB', '#'.repeat(2 ** 20 + 1), 'HOST_TEXT_TOO_LARGE'],
] as const;
for (const [name, text, code] of refused)
  test(`refuses ${name}`, () => throwsCode(() => parseOrigin(text), DeploymentError, code));
