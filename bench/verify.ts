/**
 * The verify bench: signatures a second on one core, ours against sigstore's own verifier and against the bare ECDSA check of OpenSSL; whole judgements
 * of an image, and the answer that a report gets once one is known.
 */
import { execFileSync } from 'node:child_process';
import { createPublicKey, verify } from 'node:crypto';
import { bundleFromJSON } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { KnownTrust } from '#server/trust/known.ts';
import { pae } from '#src/signing/dsse.ts';
import { findSignatures } from '#src/source/signatures.ts';
import { bundleFile } from '#src/trust/bundle.ts';
import { judgeImage } from '#src/trust/judge.ts';
import { verifySignature } from '#src/trust/verify.ts';
import { caseOf, circumstances, layoutOf, NOW, pem, requirementOf, ROOTS, vectors } from '#test/src/trust/cases.ts';
import { byKey, KEY, keyless, policy, read } from '#test/src/trust/policies.ts';
import { median } from './measure.ts';

const ROUNDS = 5;
const SLICE_MS = 300;

type Rival = { readonly name: string; readonly run: () => unknown };

/** How often a second of CPU time, counted over a slice: `openssl speed` counts so too, and others on the machine take none of it. */
async function rate(run: () => unknown): Promise<number> {
  const start = process.cpuUsage();
  let count = 0;
  let spent = 0;
  do {
    for (let i = 0; i < 16; i++) await run();
    count += 16;
    const { user, system } = process.cpuUsage(start);
    spent = (user + system) / 1000;
  } while (spent < SLICE_MS);
  return (count * 1000) / spent;
}

/** Rows of a table: the first is ours, the others what it is held against, all in turn. */
async function rows(rivals: readonly Rival[]): Promise<string> {
  const rates = new Map<Rival, number[]>(rivals.map((rival) => [rival, []]));
  for (let round = -1; round < ROUNDS; round++)
    for (const rival of rivals) {
      const found = await rate(rival.run);
      if (round >= 0) rates.get(rival)!.push(found);
    }
  const mine = rates.get(rivals[0]!)!;
  return rivals
    .map((rival) => {
      const found = rates.get(rival)!;
      const ratios = found.map((other, i) => other / mine[i]!);
      const spread = (values: readonly number[], digits: number) =>
        `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`;
      return `| ${rival.name} | ${spread(found, 0)} | ${rival === rivals[0] ? '' : spread(ratios, 2)} |\n`;
    })
    .join('');
}

async function bundleOf(name: string) {
  const vector = caseOf(name);
  const { found } = await findSignatures({ image: vector.digest, repositories: [layoutOf(vector)] });
  const bytes = found[0]!.raw.blob;
  return { vector, found, bytes, json: JSON.parse(Buffer.from(bytes).toString()) as Record<string, any> };
}

export async function benchVerify(): Promise<string> {
  const trusted = JSON.parse(readFileSync(join(vectors, 'trust/trusted_root.json'), 'utf8')) as unknown;
  const material = (key?: string) =>
    toTrustMaterial(
      TrustedRoot.fromJSON(trusted),
      key === undefined ? undefined : () => ({ publicKey: createPublicKey(key), validFor: () => true }),
    );

  const ours = async (name: string): Promise<Rival & Awaited<ReturnType<typeof bundleOf>>> => {
    const found = await bundleOf(name);
    const requirement = requirementOf(found.vector.check);
    const around = circumstances({ digest: found.vector.digest });
    const run = () => {
      const outcome = verifySignature(bundleFile(found.bytes, name), requirement, around);
      if (outcome.kind !== 'verified') throw new Error(`${name}: ${outcome.code}`);
    };
    return { ...found, name: 'ours: bundle read, bound and verified', run };
  };

  const keyed = await ours('v-bundle-key-p256');
  const { payloadType, payload, signatures } = keyed.json['dsseEnvelope'];
  const signed = pae(payloadType, Buffer.from(payload, 'base64'));
  const signature = Buffer.from(signatures[0].sig, 'base64');
  const key = createPublicKey(pem('keys/p256.pub'));
  const keyedLibrary = new Verifier(material(pem('keys/p256.pub')), { tlogThreshold: 0, timestampThreshold: 0 });
  const byKeyTable = await rows([
    keyed,
    {
      name: '@sigstore/verify alone',
      run: () => keyedLibrary.verify(toSignedEntity(bundleFromJSON(JSON.parse(Buffer.from(keyed.bytes).toString())))),
    },
    {
      name: 'crypto.verify of OpenSSL, the signature alone',
      run: () => {
        if (!verify('sha256', signed, key, signature)) throw new Error('the signature is not good');
      },
    },
  ]);

  const certified = await ours('v-bundle-keyless-tsa');
  const library = new Verifier(material(), { tlogThreshold: 1, ctlogThreshold: 1, timestampThreshold: 1 });
  const keylessTable = await rows([
    certified,
    {
      name: '@sigstore/verify alone',
      run: () => library.verify(toSignedEntity(bundleFromJSON(JSON.parse(Buffer.from(certified.bytes).toString())))),
    },
  ]);

  const { issuer = '', subject = '' } = certified.vector.check.identity ?? {};
  const both = read(
    policy('release', `${byKey(KEY)}${keyless(subject, issuer, '      ctlog: {trustRootRef: test}\n')}`),
  );
  const evidence = {
    image: { digest: certified.vector.digest, references: [] },
    entities: certified.found,
    unread: [],
  };
  const judged = () => judgeImage(evidence, { policy: both, roots: ROOTS, deny: [], now: NOW });
  const state = judged().state;
  const known = new KnownTrust(
    {
      clock: () => NOW,
      store: {
        images: { find: async () => undefined },
        trust: { get: async () => TRUST },
      } as unknown as ConstructorParameters<typeof KnownTrust>[0]['store'],
    },
    { current: BASIS, version: '1', renew: async () => false },
  );
  const cacheTable = await rows([
    { name: 'without: a keyless image judged under a policy of two authorities', run: judged },
    {
      name: 'with: what is known of the image, as each report asks for it',
      run: async () => {
        const { facts } = await known.of(certified.vector.digest);
        if (facts.provenance.state !== 'trusted') throw new Error(facts.provenance.state);
      },
    },
  ]);
  if (state !== 'trusted') throw new Error(`the image of the bench is ${state}`);

  return `## Verify

Signatures verified a second of CPU time, one thread, ${ROUNDS} rounds in turn; the trust root is read once. Ours reads the bundle strictly, binds it to the image, and checks log entry, key and usages
beside what the library checks. ${opensslSpeed()}

| a key, ECDSA P-256, no log | a second of CPU | this / ours |
|---|---|---|
${byKeyTable}
| keyless: chain, SCT, log promise and proof, timestamp | a second of CPU | this / ours |
|---|---|---|
${keylessTable}
| an image | a second of CPU | this / ours |
|---|---|---|
${cacheTable}`;
}

const BASIS = { policy: 'sha256:p', roots: 'sha256:r', deny: 'sha256:d' } as never;
/** As the store keeps a good result. */
const TRUST = {
  image: caseOf('v-bundle-keyless-tsa').digest,
  state: 'trusted',
  basis: BASIS,
  told: { by: 'somebody', policy: 'release', hostPolicy: { readable: true, reason: '' } },
  vanishedAt: null,
} as never;

/** OpenSSL's own bench of the same curve, where the program is here. */
function opensslSpeed(): string {
  try {
    const out = execFileSync('openssl', ['speed', '-seconds', '1', 'ecdsap256'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const last = out.toString().trim().split(/\s+/).at(-1);
    const version = execFileSync('openssl', ['version']).toString().split(' ').slice(0, 2).join(' ');
    return `\`openssl speed ecdsap256\` (${version}) on the same machine: ${Number(last).toFixed(0)} verifications a second.`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return 'No openssl program here to compare with.';
  }
}
