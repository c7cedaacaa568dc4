/**
 * One bit of every byte of what makes a signature, in each form: bundles v0.1 to v0.3 by key and by certificate, cosign's layers, the
 * manifests that carry them, the image and its index. None verifies, except where nobody signed the byte and nothing is concluded from it: each
 * such place is named below with its reason, and then exactly the same is proven, or less.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf, parseDigest } from '#src/digest.ts';
import { findSignatures } from '#src/source/signatures.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { bundleFile } from '#src/trust/bundle.ts';
import type { Failed } from '#src/trust/material.ts';
import type { KeylessAuthority, Requirement } from '#src/trust/requirement.ts';
import { fileTarget } from '#src/trust/target.ts';
import { readTrustRoot } from '#src/trust/trustroot.ts';
import { verifySignature, type Circumstances, type Verified } from '#src/trust/verify.ts';
import { deep } from '#test/depth.ts';
import { blobsOf, caseOf, circumstances, layoutOf, requirementOf } from './cases.ts';
import { jsonPlaces, type JsonPlace } from './jsonplace.ts';
import { memoryLayout } from './places.ts';

type Judge = (bytes: Uint8Array) => Verified | Failed | undefined | Promise<Verified | Failed | undefined>;
/** A place whose bytes may change, and why that proves nothing new. */
type Free = readonly [part: JsonPlace['part'], path: RegExp, why: string];

/** Another bit at each place. */
const flipped = (bytes: Uint8Array, at: number): Uint8Array =>
  bytes.map((byte, index) => (index === at ? byte ^ (1 << (at % 8)) : byte));

/** Nothing is claimed that was not before; what can be taken away (a promise, a stamp) only makes less of it. */
function provesNoMore(after: Verified, before: Verified): void {
  const rest = ({ place: _p, entries: _e, times: _t, ...more }: Verified) => more;
  assert.deepEqual(rest(after), rest(before));
  assert.ok(after.times.every(({ at, by }) => before.times.some((time) => time.at === at && time.by === by)));
  assert.ok(after.entries.every(({ logId }) => before.entries.some((entry) => entry.logId === logId)));
  assert.ok(after.entries.length <= before.entries.length);
}

/** Judging a certificate takes thirty times as long as a key: then of each value its ends, and one of so many bytes between. */
const BETWEEN = deep(37, 149);
/** Not in depth: by a key, too, one of so many between the ends. */
const BETWEEN_BY_KEY = deep(1, 7);
/** How many bytes at each end of a name or value are tried. */
const EDGE = deep(3, 1);

/**
 * Flips the bytes of a JSON text one by one. Every byte, or with `sample` the first and last three of each name and value and every
 * 37th between: a short field is tried whole, and no field is passed over. All of that in depth (test/depth.ts); else fewer, still none passed over.
 */
async function flipAll(bytes: Uint8Array, judge: Judge, free: readonly Free[], sample: boolean): Promise<number> {
  const before = await judge(bytes);
  assert.ok(before?.kind === 'verified', JSON.stringify(before));
  const places = jsonPlaces(bytes);
  assert.equal(places.length, bytes.length);
  let tried = 0;
  for (let at = 0; at < bytes.length; at++) {
    const place = places[at]!;
    const atEdge = [at - EDGE, at + EDGE].some((other) => places[other] !== place);
    if (!atEdge && at % (sample ? BETWEEN : BETWEEN_BY_KEY) !== 0) continue;
    tried++;
    const outcome = await judge(flipped(bytes, at));
    if (outcome?.kind !== 'verified') continue;
    const allowed = free.some(([part, path]) => part === place.part && path.test(place.path));
    assert.ok(allowed, `byte ${at}, ${place.part} of ${place.path}, may be changed`);
    provesNoMore(outcome, before);
  }
  return tried;
}

const IN_BUNDLES: readonly Free[] = [
  ['value', /publicKey\.hint$/, 'a hint: every key of the policy is tried whatever it says'],
  ['name', /publicKey\.hint$/, 'the same, under a name that nobody knows'],
  [
    'name',
    /\.inclusionPromise$/,
    'a promise under a name that nobody knows is none: its time is gone, and less is proven',
  ],
  ['name', /\.inclusionProof$/, 'v0.1: the promise proves it alone'],
  [
    'name',
    /tlogEntries\.0\.logIndex$/,
    'Rekor v2: the index in the whole log, which only a promise would sign; the proof has its own',
  ],
  ['value', /\.checkpoint\.envelope$/, 'the line end after the last signature of the note'],
  [
    'value',
    /\.signedTimestamp$/,
    'CMS around what is signed: tags and numbers of containers, the list of digest algorithms. Time, imprint and signer are covered',
  ],
];

const suite = join(import.meta.dirname, '../../vectors/conformance');
const roots = new Map([
  ['public-good', readTrustRoot('public-good', readFileSync(join(suite, 'trusted_root.public-good.json')))],
]);
const BY_BEACON: KeylessAuthority = {
  kind: 'keyless',
  identities: [
    {
      issuer: { exact: 'https://token.actions.githubusercontent.com' },
      subject: {
        exact:
          'https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main',
      },
    },
  ],
  trustRoot: 'public-good',
  tlog: true,
  tsa: false,
  sct: true,
};

type Bundle = {
  readonly bytes: Uint8Array;
  readonly requirement: Requirement;
  readonly around: Circumstances;
};
async function ofCase(name: string): Promise<Bundle> {
  const vector = caseOf(name);
  const { found } = await findSignatures({ image: vector.digest, repositories: [layoutOf(vector)] });
  return {
    bytes: found[0]!.raw.blob,
    requirement: requirementOf(vector.check),
    around: circumstances({ digest: vector.digest }),
  };
}
function ofSuite(name: string): Bundle {
  return {
    bytes: new Uint8Array(readFileSync(join(suite, 'sigstore/bundle-verify', name, 'bundle.sigstore.json'))),
    requirement: { what: { kind: 'signature' }, authority: BY_BEACON },
    around: circumstances(
      { digest: digestOf('') },
      { target: fileTarget(readFileSync(join(suite, 'sigstore/a.txt'))), roots },
    ),
  };
}

const BUNDLES: readonly (readonly [string, () => Bundle | Promise<Bundle>])[] = [
  ['v0.1, public log, by certificate', () => ofSuite('happy-path-v0.1')],
  ['v0.2, public log, by certificate', () => ofSuite('happy-path-v0.2')],
  ['v0.3, public log, by certificate', () => ofSuite('happy-path-v0.3')],
  ['v0.3, statement, by certificate, with timestamp', () => ofCase('v-bundle-keyless-tsa')],
  ['v0.3, statement, by certificate, Rekor v2', () => ofCase('v-bundle-keyless-rekor2')],
  ['v0.3, statement, by key', () => ofCase('v-bundle-key-p256')],
  ['v0.3, statement, by key, logged', () => ofCase('v-bundle-key-rekor')],
  ['v0.3, statement, by key, RSA', () => ofCase('v-bundle-key-rsa2048')],
  ['v0.3, statement, by key, Ed25519', () => ofCase('v-bundle-ed25519-pure')],
];

for (const [name, load] of BUNDLES)
  test(`bundle ${name}: no byte of it can change what is proven`, async () => {
    const { bytes, requirement, around } = await load();
    const judge: Judge = (changed) => verifySignature(bundleFile(changed, name), requirement, around);
    const tried = await flipAll(bytes, judge, IN_BUNDLES, requirement.authority.kind === 'keyless');
    assert.ok(tried > deep(400, 100), String(tried));
  });

/** In the manifest that carries signatures nothing is signed: what counts of it is the digest and the annotations of its layers. */
const IN_CARRIERS: readonly Free[] = [
  ['name', /^mediaType$/, 'the manifest is read as what it was fetched for'],
  ['name', /^config/, 'the configuration is not read'],
  ['value', /^config\./, 'the configuration is not read'],
  ['name', /^annotations/, 'hints of the referrer: the statement says what it is'],
  ['value', /^annotations\./, 'the same'],
  ['name', /^(?:subject\.(?:mediaType|size)|artifactType)$/, 'of the subject the digest counts; the type is a hint'],
  ['value', /^(?:subject\.(?:mediaType|size)|artifactType)$/, 'the same'],
  ['value', /^layers\.0\.mediaType$/, 'the version after the type of a bundle: the bundle itself says it'],
  ['name', /^layers\.0\.annotations\.predicateType$/, 'a hint: the statement says it'],
  ['value', /^layers\.0\.annotations\.predicateType$/, 'the same'],
  ['name', /^layers\.0\.annotations\.dev\.sigstore\.cosign\/chain$/, 'issuers come from the trust root'],
  ['value', /^layers\.0\.annotations\.dev\.sigstore\.cosign\/chain$/, 'the same'],
  ['value', /cosign\/certificate$/, 'white space around the PEM block'],
];
const CARRIES = /simplesigning|dsse\.envelope|sigstore\.bundle/;

for (const name of [
  'v-legacy3-key-p256',
  'v-legacy2-key-rekor',
  'v-legacy2-key-rsa2048',
  'v-legacy2-attest-rekor',
  'v-legacy3-keyless',
  'v-bundle-key-p256',
  'v-bundle-keyless',
]) {
  const vector = caseOf(name);
  const requirement = requirementOf(vector.check);
  const around = circumstances({ digest: vector.digest });
  const isKeyless = requirement.authority.kind === 'keyless';
  const { blobs, tags } = blobsOf(vector);
  const [digest, carrier] = [...blobs].find(([of, bytes]) => {
    const text = bytes[0] === 0x7b ? Buffer.from(bytes).toString() : '';
    return of !== vector.digest && text.includes('"layers"') && CARRIES.test(text);
  })!;
  /** The best of what is found when one blob has other bytes: under its own new digest everywhere, as whoever writes the registry can do it. */
  const judgeWith = async (changes: ReadonlyMap<string, Uint8Array>) => {
    const renamed = new Map([...changes].map(([of, bytes]) => [of, digestOf(bytes, nodeSha256) as string]));
    const held = new Map([...blobs].map(([of, bytes]) => [renamed.get(of) ?? of, changes.get(of) ?? bytes]));
    const named = Object.fromEntries(Object.entries(tags).map(([tag, of]) => [tag, renamed.get(of) ?? of]));
    const repository = memoryLayout({ blobs: held, tags: named });
    const { found } = await findSignatures({ image: vector.digest, repositories: [repository] });
    const outcomes = found.map((entity) => verifySignature(entity, requirement, around));
    return outcomes.find(({ kind }) => kind === 'verified') ?? outcomes[0];
  };

  test(`${name}: no byte of the manifest that carries it can change what is proven`, async () => {
    await flipAll(carrier, (changed) => judgeWith(new Map([[digest, changed]])), IN_CARRIERS, isKeyless);
  });

  if (!name.startsWith('v-bundle'))
    test(`${name}: no byte of its layer can change what is proven, even with manifest and tag fitted to it`, async () => {
      const manifest = JSON.parse(Buffer.from(carrier).toString()) as { layers: { digest: string; size: number }[] };
      const [layer] = manifest.layers;
      const blob = blobs.get(layer!.digest)!;
      const judge: Judge = (changed) => {
        const fitted = structuredClone(manifest);
        fitted.layers[0]!.digest = digestOf(changed, nodeSha256);
        return judgeWith(
          new Map([
            [layer!.digest, changed],
            [digest, Buffer.from(JSON.stringify(fitted))],
          ]),
        );
      };
      await flipAll(blob, judge, [['name', /^signatures\.0\.keyid$/, 'a hint that is empty']], isKeyless);
    });
}

test('an image of which any byte is another is another image: no signature is for it', async () => {
  const vector = caseOf('v-legacy3-key-p256');
  const { found } = await findSignatures({ image: vector.digest, repositories: [layoutOf(vector)] });
  const { blobs } = blobsOf(vector);
  const manifest = blobs.get(vector.digest)!;
  for (let at = 0; at < manifest.length; at += deep(1, 3)) {
    const changed = flipped(manifest, at);
    // The host tells the digest of what it has, or tells the old one: then these bytes are not the image's.
    const digest = digestOf(changed, nodeSha256);
    for (const entity of found) {
      const outcome = verifySignature(
        entity,
        requirementOf(vector.check),
        circumstances({ digest, manifest: changed, references: [vector.reference!] }),
      );
      assert.equal(outcome.kind === 'failed' ? outcome.code : outcome.kind, 'WRONG_DIGEST', String(at));
    }
  }
});

test('an index of which any byte is another lists nothing for a signature: its digest is not the signed one', async () => {
  const vector = caseOf('v-index-legacy');
  const { blobs } = blobsOf(vector);
  const index = blobs.get(vector.digest)!;
  const { manifests } = JSON.parse(Buffer.from(index).toString()) as { manifests: { digest: string }[] };
  const member = parseDigest(manifests[0]!.digest);
  const { found } = await findSignatures({
    image: member,
    indexes: [vector.digest],
    repositories: [layoutOf(vector)],
  });
  const outcome = (bytes: Uint8Array) => {
    const around = circumstances({ digest: member, indexes: [bytes] });
    const outcomes = found.map((entity) => verifySignature(entity, requirementOf(vector.check), around));
    return outcomes.map((each) => (each.kind === 'failed' ? each.code : each.kind));
  };
  assert.ok(outcome(index).includes('verified'));
  for (let at = 0; at < index.length; at += deep(1, 3))
    assert.deepEqual(new Set(outcome(flipped(index, at))), new Set(['WRONG_DIGEST']), String(at));
});
