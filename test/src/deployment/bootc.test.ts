import assert from 'node:assert/strict';
import { test } from 'node:test';
import { throwsCode } from '#test/throws.ts';
import { parseBootcStatus, signatureOf } from '#src/deployment/bootc.ts';
import { DeploymentError } from '#src/deployment/error.ts';
import { vector } from './vectors.ts';

const DIGEST = 'sha256:ca0df2c95aa144c1d0ff2ff3c8f967fdc1de9ef0c4120b3726416701b519d619';
const CHECKSUM = '4ba10998a6ebceb06ecf1a94bb2970c91ff19a671978836aaa62b4bbe8206354';

// file, digest, transport, signature, ostree checksum: of the booted deployment
const read = [
  ['01-ostree-bootc-1.1-minimal', DIGEST, 'registry', null, CHECKSUM],
  ['02-ostree-full-staged-rollback-pinned', DIGEST, 'registry', 'containerPolicy', CHECKSUM],
  ['03-ostree-usr-overlay-rw-transient', DIGEST, 'registry', null, CHECKSUM],
  ['04-ostree-hotfix-persistent', DIGEST, 'registry', null, CHECKSUM],
  ['06-ostree-pinned-pullspec-index-digest', DIGEST, 'registry', null, CHECKSUM],
  ['07-ostree-remote-signature', DIGEST, 'registry', 'ostreeRemote:vendor', CHECKSUM],
  ['08-composefs-uki-sealed', DIGEST, 'registry', null, undefined],
  ['09-composefs-bls-unsealed', DIGEST, 'registry', null, undefined],
  ['10-composefs-legacy-imagedigest-bare-hex', DIGEST.slice(7), 'registry', null, undefined],
  [
    '12-local-containers-storage-transport',
    'sha256:4166739cc2fa31412fdbf220f12a489b17b5747f30ae767ae2fa3db382ce500a',
    'containers-storage',
    null,
    CHECKSUM,
  ],
  ['30-v1alpha1-no-signature', DIGEST, 'registry', 'insecure', CHECKSUM],
] as const;
for (const [name, digest, transport, signature, checksum] of read)
  test(`reads ${name}`, () => {
    const { booted } = parseBootcStatus(vector(`${name}.json`));
    assert.ok(booted?.image);
    assert.equal(booted.image.imageDigest, digest);
    assert.equal(booted.image.image?.transport, transport);
    assert.equal(signatureOf(booted.image), signature);
    assert.equal(booted.ostree?.checksum, checksum);
  });

test('a layered host has an incompatible deployment and no image', () => {
  const { booted } = parseBootcStatus(vector('05-ostree-rpmostree-layered-incompatible.json'));
  assert.equal(booted?.incompatible, true);
  assert.equal(booted?.image, null);
  assert.equal(booted?.ostree?.checksum, CHECKSUM);
});

test('a host that bootc does not run has nothing', () => {
  const status = parseBootcStatus(vector('11-not-bootc-null.json'));
  assert.deepEqual([status.booted, status.staged, status.rollback], [null, null, null]);
});

test('the sealed composefs host tells its verity digest and that none may be missing', () => {
  const { booted } = parseBootcStatus(vector('08-composefs-uki-sealed.json'));
  assert.equal(booted?.composefs?.verity?.length, 128);
  assert.equal(booted?.composefs?.missingVerityAllowed, false);
});

test('fields that no bootc has yet are kept, and all known ones may be absent', () => {
  const status = parseBootcStatus('{"apiVersion":"org.containers.bootc/v1","kind":"BootcHost","status":{"next":[1]}}');
  assert.deepEqual(status, { next: [1] });
});

test('a signature of a kind that is not known is told as unknown, not as none', () => {
  assert.equal(signatureOf({ image: { signature: { sigstore: 'x' } } }), 'unknown');
});

const host = (rest: object) => JSON.stringify({ apiVersion: 'org.containers.bootc/v1', kind: 'BootcHost', ...rest });
const refused = [
  ['the YAML that bootc writes by default', vector('31-default-output.yaml'), 'BOOTC_STATUS_YAML'],
  ['YAML with a document marker', '---\napiVersion: org.containers.bootc/v1\n', 'BOOTC_STATUS_YAML'],
  ["bootc's text for people", '● Booted image: quay.io/x\n', 'BOOTC_STATUS_SYNTAX'],
  ['nothing', '', 'BOOTC_STATUS_SYNTAX'],
  ['a cut document', vector('01-ostree-bootc-1.1-minimal.json').slice(0, 500), 'BOOTC_STATUS_SYNTAX'],
  ['bytes that are not UTF-8', '"\xff"', 'BOOTC_STATUS_SYNTAX'],
  ['null', 'null', 'BOOTC_STATUS_SYNTAX'],
  ['another kind', host({ kind: 'Pod', status: {} }), 'BOOTC_STATUS_SYNTAX'],
  ['another version', host({ apiVersion: 'org.containers.bootc/v2', status: {} }), 'BOOTC_STATUS_VERSION'],
  ['no status', host({}), 'BOOTC_STATUS_SYNTAX'],
  ['a digest that is no text', host({ status: { booted: { image: { imageDigest: 1 } } } }), 'BOOTC_STATUS_SYNTAX'],
  [
    'an endless digest',
    host({ status: { booted: { image: { imageDigest: 'a'.repeat(5000) } } } }),
    'BOOTC_STATUS_SYNTAX',
  ],
  ['more than 16 MiB', ' '.repeat(2 ** 24 + 1), 'HOST_TEXT_TOO_LARGE'],
] as const;
for (const [name, text, code] of refused)
  test(`refuses ${name}`, () => throwsCode(() => parseBootcStatus(text), DeploymentError, code));
