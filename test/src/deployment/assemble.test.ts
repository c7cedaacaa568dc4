import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toBytes } from '#src/bytes.ts';
import { deploymentState, type Found, type Told } from '#src/deployment/assemble.ts';
import { parseBootcStatus } from '#src/deployment/bootc.ts';
import { parseCommit } from '#src/deployment/commit.ts';
import { parseKargs } from '#src/deployment/kargs.ts';
import { parseMountinfo } from '#src/deployment/mountinfo.ts';
import { parseOrigin } from '#src/deployment/origin.ts';
import { viewMounts } from '#src/deployment/overlay.ts';
import { parseRpmOstreeStatus } from '#src/deployment/rpmostree.ts';
import { DeploymentState } from '#src/deployment/state.ts';
import { sections, UNTOLD, vector } from './vectors.ts';

const DIGEST = 'sha256:ca0df2c95aa144c1d0ff2ff3c8f967fdc1de9ef0c4120b3726416701b519d619';
const CHECKSUM = '4ba10998a6ebceb06ecf1a94bb2970c91ff19a671978836aaa62b4bbe8206354';
/** Whatever is told, the state must fit into a report. */
function state(told: Partial<Told>): DeploymentState {
  return DeploymentState.parse(deploymentState({ ...UNTOLD, ...told }));
}
const bootc = (name: string) => parseBootcStatus(vector(`${name}.json`));
const mounts = (text: string) => viewMounts(parseMountinfo(text), '/');
const samples = sections('mountinfo-samples.txt');
const OSTREE = samples.get('ostree+composefs, normal')!.replaceAll('11'.repeat(32), CHECKSUM);
const disk = (rest: Partial<Found>): Found => ({
  role: 'booted',
  backend: 'ostree',
  checksum: CHECKSUM,
  stateroot: 'default',
  origin: null,
  commit: null,
  layered: false,
  ...rest,
});
const commitOf = (manifestDigest: string | null) => ({ parent: null, manifestDigest, version: '10', layered: false });

test('nothing told is unknown, and no contradiction', () => {
  assert.deepEqual(state({}), {
    backend: 'unknown',
    via: 'none',
    booted: null,
    staged: null,
    rollback: null,
    overlays: [],
    kargs: [],
    kernel: null,
    verity: null,
    transientRoot: null,
    contradictions: [],
  });
});

test('bootc alone: booted, staged and rollback, with their images', () => {
  const told = state({ bootc: bootc('02-ostree-full-staged-rollback-pinned'), mounts: mounts(OSTREE) });
  assert.equal(told.backend, 'ostree');
  assert.equal(told.via, 'bootc');
  assert.deepEqual(told.booted, {
    image: {
      reference: 'registry.example.test/os/edge:prod',
      transport: 'registry',
      digest: DIGEST,
      version: '10.20260601.0',
      signature: 'containerPolicy',
    },
    checksum: CHECKSUM,
    stateroot: 'default',
    pinned: false,
    layered: [],
  });
  assert.equal(told.staged?.image?.digest, 'sha256:29c1b289e7522195b362e44f54e05470b69ad20540ab60a18a05e5bf6951f13d');
  assert.equal(told.rollback?.image?.version, '10.20260525.0');
  assert.equal(told.verity, false);
  assert.deepEqual(told.contradictions, []);
});

test('a composefs host: backend, verity digest for checksum', () => {
  const told = state({ bootc: bootc('09-composefs-bls-unsealed') });
  assert.equal(told.backend, 'composefs');
  assert.equal(told.booted?.checksum?.length, 128);
  assert.equal(told.staged?.checksum?.length, 128);
});

test('a digest in bare hex gets its prefix, and a word', () => {
  const told = state({ bootc: bootc('10-composefs-legacy-imagedigest-bare-hex') });
  assert.equal(told.booted?.image?.digest, DIGEST);
  assert.match(told.contradictions.join(), /without "sha256:"/);
});

test('a digest of another kind stays as it was told', () => {
  const status = bootc('01-ostree-bootc-1.1-minimal');
  status.booted!.image!.imageDigest = 'sha512:abc';
  assert.equal(state({ bootc: status }).booted?.image?.digest, 'sha512:abc');
});

test('a layered host: the base image and its packages come from rpm-ostree', () => {
  const told = state({
    bootc: bootc('05-ostree-rpmostree-layered-incompatible'),
    rpmOstree: parseRpmOstreeStatus(
      vector('20-rpm-ostree-layered-container.json').replaceAll(
        '9c0abe51c6e6655d81de2d044d4fb194931f058c0426c67c7285d8f5657ed64a',
        CHECKSUM,
      ),
    ),
  });
  assert.equal(told.via, 'rpm-ostree');
  assert.equal(told.booted?.image?.digest, DIGEST);
  assert.equal(told.booted?.image?.reference, 'registry.example.test/os/edge:prod');
  assert.deepEqual(told.booted?.layered, ['package htop', 'removed nano']);
  assert.deepEqual(told.contradictions, []);
});

test('without rpm-ostree the base image comes from the parent of the layered commit', () => {
  const told = state({
    bootc: bootc('05-ostree-rpmostree-layered-incompatible'),
    found: [disk({ layered: true, commit: commitOf(DIGEST) })],
  });
  assert.equal(told.via, 'origin');
  assert.equal(told.booted?.image?.digest, DIGEST);
  assert.deepEqual(told.booted?.layered, ['changed by rpm-ostree']);
});

test('rpm-ostree alone: pending before, rollback after the booted one of the same stateroot', () => {
  const one = (checksum: string, rest: object) => ({
    checksum: checksum.repeat(32),
    osname: 'fedora',
    'container-image-reference-digest': `sha256:${checksum.repeat(32)}`,
    ...rest,
  });
  const told = state({
    rpmOstree: parseRpmOstreeStatus(
      JSON.stringify({
        deployments: [
          one('aa', { booted: false }),
          one('bb', { booted: true, pinned: true, unlocked: 'none' }),
          one('cc', { booted: false, osname: 'other' }),
          one('dd', { booted: false }),
        ],
      }),
    ),
  });
  assert.deepEqual(
    [told.staged, told.booted, told.rollback].map((entry) => entry?.image?.digest?.slice(7, 9)),
    ['aa', 'bb', 'dd'],
  );
  assert.equal(told.booted?.pinned, true);
  assert.equal(told.backend, 'ostree');
});

test('the disk alone: origin file, commit, and the one other deployment for rollback', () => {
  const origin = parseOrigin(
    '[origin]\ncontainer-image-reference=ostree-image-signed:docker://quay.io/x/y:z\n[libostree-transient]\npinned=true\n',
  );
  const told = state({
    found: [
      disk({ role: 'other', checksum: 'aa'.repeat(32), commit: commitOf(`sha256:${'aa'.repeat(32)}`) }),
      disk({ origin, commit: commitOf(DIGEST) }),
      disk({ role: 'staged', checksum: 'bb'.repeat(32) }),
    ],
  });
  assert.equal(told.via, 'origin');
  assert.deepEqual(told.booted, {
    image: {
      reference: 'quay.io/x/y:z',
      transport: 'registry',
      digest: DIGEST,
      version: '10',
      signature: 'containerPolicy',
    },
    checksum: CHECKSUM,
    stateroot: 'default',
    pinned: true,
    layered: [],
  });
  assert.equal(told.staged?.image, null);
  assert.equal(told.rollback?.image?.digest, `sha256:${'aa'.repeat(32)}`);
});

test('a composefs deployment on disk has its digest in the origin file', () => {
  const origin = parseOrigin(`[origin]\ncontainer-image-reference=nonsense\n[image]\nmanifest_digest=${DIGEST}\n`);
  const told = state({ found: [disk({ backend: 'composefs', stateroot: null, origin })] });
  assert.equal(told.backend, 'composefs');
  assert.equal(told.booted?.image?.digest, DIGEST);
  assert.equal(told.booted?.image?.reference, 'nonsense');
});

const options = [
  [DIGEST, DIGEST, null],
  [`quay.io/x/y@${DIGEST}`, DIGEST, `quay.io/x/y@${DIGEST}`],
  ['oci:/srv/layout:latest', null, 'oci:/srv/layout:latest'],
  ['quay.io/x/y@sha512:00', null, 'quay.io/x/y@sha512:00'],
] as const;
for (const [image, digest, reference] of options)
  test(`the caller's image ${image} is believed`, () => {
    const told = state({ backend: 'composefs', image });
    assert.deepEqual([told.via, told.backend], ['option', 'composefs']);
    assert.equal(told.booted?.image?.digest, digest);
    assert.equal(told.booted?.image?.reference, reference);
  });

test('the caller who gives only a backend is told the rest', () => {
  const told = state({ backend: 'ostree', bootc: bootc('01-ostree-bootc-1.1-minimal') });
  assert.equal(told.via, 'bootc');
});

// Each pair of sources that can contradict each other, and a word that must be said.
const contradictions: readonly [string, Partial<Told>, RegExp][] = [
  [
    'bootc and disk: the image',
    { bootc: bootc('01-ostree-bootc-1.1-minimal'), found: [disk({ commit: commitOf(`sha256:${'ff'.repeat(32)}`) })] },
    /^bootc says that the booted image is sha256:ca0d.*, the ostree repository says sha256:ffff/,
  ],
  [
    'bootc and disk: the deployment',
    { bootc: bootc('01-ostree-bootc-1.1-minimal'), found: [disk({ checksum: 'ff'.repeat(32) })] },
    /^bootc says that deployment 4ba1.* is booted, the ostree repository says ffff/,
  ],
  [
    'option and disk: the image',
    { image: DIGEST, found: [disk({ commit: commitOf(`sha256:${'ff'.repeat(32)}`) })] },
    /^the option says that the booted image is/,
  ],
  [
    'option and mounts: the backend',
    { backend: 'composefs', mounts: mounts(OSTREE) },
    /^the option says that the backend is composefs, the mount of \/ says that it is ostree/,
  ],
  [
    'bootc and mounts: the deployment',
    { bootc: bootc('01-ostree-bootc-1.1-minimal'), mounts: mounts(samples.get('ostree+composefs, normal')!) },
    /^the booted deployment is said to be 4ba1.*, but the mount of \/etc shows 1111/,
  ],
  [
    'bootc and mounts: the composefs digest',
    { bootc: bootc('08-composefs-uki-sealed'), mounts: mounts(samples.get('composefs backend, normal')!) },
    /but the mount of \/ shows 2222/,
  ],
  [
    'bootc and mounts: an overlay that is not there',
    { bootc: bootc('03-ostree-usr-overlay-rw-transient'), mounts: mounts(OSTREE) },
    /^bootc says that \/usr is unlocked, but no mount/,
  ],
  [
    'bootc and mounts: an overlay it does not know',
    {
      bootc: bootc('05-ostree-rpmostree-layered-incompatible'),
      mounts: mounts(OSTREE + samples.get('ostree admin unlock --hotfix, same boot')!),
    },
    /^bootc does not know of the unlocked \/usr/,
  ],
  [
    'rpm-ostree and mounts: an overlay it does not know',
    {
      rpmOstree: parseRpmOstreeStatus(`{"deployments":[{"booted":true,"unlocked":"none","checksum":"${CHECKSUM}"}]}`),
      mounts: mounts(OSTREE + samples.get('ostree admin unlock --hotfix, same boot')!),
    },
    /^rpm-ostree does not know/,
  ],
  [
    'origin and mounts: a hotfix that is not there',
    { found: [disk({ origin: parseOrigin('[origin]\nunlocked=hotfix\n') })], mounts: mounts(OSTREE) },
    /^the origin file says that \/usr has a hotfix/,
  ],
  [
    '/run/ostree-booted and mounts: verity',
    { ostreeBooted: { composefs: true, verity: true, transientRoot: false, backing: null }, mounts: mounts(OSTREE) },
    /^\/run\/ostree-booted says that \/ has verity=require/,
  ],
  [
    '/run/ostree-booted and mounts: a transient root',
    { ostreeBooted: { composefs: true, verity: false, transientRoot: true, backing: null }, mounts: mounts(OSTREE) },
    /a transient upper layer, its mount says otherwise/,
  ],
  [
    'bootc and mounts: a sealed host without verity',
    {
      bootc: bootc('08-composefs-uki-sealed'),
      mounts: mounts(samples.get('composefs backend, normal')!.replace(',verity=require', '')),
    },
    /^bootc says that \/ has verity=require/,
  ],
  [
    '/run/ostree-booted on a composefs host',
    {
      ostreeBooted: { composefs: true, verity: null, transientRoot: null, backing: null },
      mounts: mounts(samples.get('composefs backend, normal')!),
    },
    /the backend is composefs, \/run\/ostree-booted says that it is ostree/,
  ],
  [
    'kernel argument and mounts',
    { kargs: parseKargs(`composefs=?${'33'.repeat(64)}`), mounts: mounts(samples.get('composefs backend, normal')!) },
    /as after a soft reboot/,
  ],
  ['what could not be read', { unread: ['/usr/bin/bootc status: failed with 1'] }, /failed with 1/],
];
for (const [name, told, word] of contradictions)
  test(`names a contradiction: ${name}`, () => {
    const { contradictions } = state(told);
    assert.ok(
      contradictions.some((line) => word.test(line)),
      contradictions.join('\n') || 'none',
    );
  });

test('of two deployments only what speaks of the same one is brought together', () => {
  const told = state({
    bootc: bootc('05-ostree-rpmostree-layered-incompatible'),
    found: [disk({ checksum: 'ff'.repeat(32), commit: commitOf(`sha256:${'ff'.repeat(32)}`) })],
  });
  assert.equal(told.booted?.image, null);
});

test('a system extension is no unlocked /usr: bootc on ostree does not know it', () => {
  const text = OSTREE + samples.get('systemd-sysext')!;
  assert.deepEqual(
    state({ bootc: bootc('02-ostree-full-staged-rollback-pinned'), mounts: mounts(text) }).contradictions,
    [],
  );
});

test('the state is bounded, and says what it left out', () => {
  const lines = Array.from(
    { length: 600 },
    (_, i) => `${100 + i} 30 0:9 / /usr/${i} rw - tmpfs ${'s'.repeat(5000)} rw\n`,
  );
  const told = state({
    mounts: mounts(OSTREE + lines.join('')),
    kargs: parseKargs('x=y '.repeat(600)),
    kernel: 'k'.repeat(5000),
    unread: ['w'.repeat(5000)],
  });
  assert.equal(told.overlays.length, 500);
  assert.equal(told.kargs.length, 500);
  assert.match(told.contradictions.slice(1).join('\n'), /600 mounts lie over[^]*600 kernel arguments/);
});

test('a path that is not UTF-8 is told with its bytes spelled out', () => {
  const line = '50 30 0:9 / /usr/\xff rw - tmpfs t rw\n';
  assert.equal(state({ mounts: mounts(OSTREE + line) }).overlays[0]?.path, '/usr/\\xff');
});

test('the commit of the vectors, in full', () => {
  const commit = parseCommit(
    toBytes(vector('commits/2eb3113010c26a892bb3e3a8ab0bcf7d0e6a8c1b0bc452634aa8bb8e52107645.commit')),
  );
  assert.equal(state({ found: [disk({ commit })] }).booted?.image?.version, '10.1');
});
