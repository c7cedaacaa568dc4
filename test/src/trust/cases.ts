/** The cases of test/vectors/sigstore, judged as a caller judges an image: find, then hold each find against the requirement. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { folder } from '#server/sources.ts';
import { type Digest } from '#src/digest.ts';
import { layoutSource } from '#src/source/layout.ts';
import { findSignatures, type FoundSignatures, type SignatureRepository } from '#src/source/signatures.ts';
import type { Failed } from '#src/trust/material.ts';
import type { HashAlgorithm, Requirement } from '#src/trust/requirement.ts';
import { imageTarget, type ImageTarget } from '#src/trust/target.ts';
import { readTrustRoot, type TrustRoots } from '#src/trust/trustroot.ts';
import { verifySignature, type Circumstances, type Verified } from '#src/trust/verify.ts';

export const vectors = join(import.meta.dirname, '../../vectors/sigstore');

/** When the vectors were made, and a little later. */
export const NOW = Date.parse('2026-11-25T00:00:00Z');

export type Check = {
  readonly what: 'signature' | 'attestation';
  readonly predicateType?: string;
  readonly key?: string;
  readonly hashAlgorithm?: HashAlgorithm;
  readonly identity?: { readonly issuer: string; readonly subject: string };
  readonly requireTlog?: boolean;
  readonly requireTimestamp?: boolean;
};
export type Case = {
  readonly name: string;
  readonly layout: string;
  readonly reference?: string;
  readonly digest: Digest;
  readonly check: Check;
  readonly expect: 'verify' | 'reject' | 'verify-or-unsupported';
  readonly proof?: Readonly<Record<string, unknown>>;
};

export const cases = (JSON.parse(readFileSync(join(vectors, 'cases.json'), 'utf8')) as { cases: Case[] }).cases;
export const caseOf = (name: string): Case => cases.find((found) => found.name === name)!;

const trusted = readFileSync(join(vectors, 'trust/trusted_root.json'));
export const ROOTS: TrustRoots = new Map([['test', readTrustRoot('test', trusted)]]);

export const pem = (path: string): string => readFileSync(join(vectors, path), 'utf8');

export function requirementOf(check: Check): Requirement {
  const what: Requirement['what'] =
    check.what === 'signature'
      ? { kind: 'signature' }
      : { kind: 'attestation', predicateType: check.predicateType ?? '' };
  if (check.key !== undefined)
    return {
      what,
      authority: {
        kind: 'key',
        keys: [pem(check.key)],
        hashAlgorithm: check.hashAlgorithm ?? 'sha256',
        tlog: check.requireTlog === true ? 'test' : undefined,
        tsa: check.requireTimestamp === true ? 'test' : undefined,
      },
    };
  const { issuer = '', subject = '' } = check.identity ?? {};
  return {
    what,
    authority: {
      kind: 'keyless',
      identities: [{ issuer: { exact: issuer }, subject: { exact: subject } }],
      trustRoot: 'test',
      tlog: true,
      tsa: check.requireTimestamp === true,
      sct: true,
    },
  };
}

export const layoutOf = ({ layout }: Pick<Case, 'layout'>): SignatureRepository => ({
  source: layoutSource(folder(join(vectors, layout)), `oci:${layout}`),
  own: true,
});

export type Judged = { readonly found: FoundSignatures; readonly outcomes: readonly (Verified | Failed)[] };

export function circumstances(image: ImageTarget, more: Partial<Circumstances> = {}): Circumstances {
  return { target: imageTarget(image), roots: ROOTS, deny: [], now: NOW, ...more };
}

export async function judge(
  { digest, check, reference }: Case,
  repository: SignatureRepository,
  more: Partial<Circumstances> = {},
): Promise<Judged> {
  const found = await findSignatures({ image: digest, repositories: [repository] });
  const around = circumstances({ digest, references: reference === undefined ? [] : [reference] }, more);
  const requirement = requirementOf(check);
  return { found, outcomes: found.found.map((entity) => verifySignature(entity, requirement, around)) };
}

export const verifiedOf = ({ outcomes }: Judged): Verified[] =>
  outcomes.filter((outcome) => outcome.kind === 'verified');
export const codesOf = ({ outcomes }: Judged): string[] =>
  outcomes.flatMap((outcome) => (outcome.kind === 'failed' ? [outcome.code] : []));

/** Every blob of a layout by its digest, and what index.json tells. */
export function blobsOf({ layout }: Pick<Case, 'layout'>): {
  readonly blobs: Map<string, Uint8Array>;
  readonly tags: Record<string, string>;
} {
  const where = join(vectors, layout);
  const blobs = new Map(
    readdirSync(join(where, 'blobs/sha256')).map((hex) => [
      `sha256:${hex}`,
      new Uint8Array(readFileSync(join(where, 'blobs/sha256', hex))),
    ]),
  );
  const { manifests } = JSON.parse(readFileSync(join(where, 'index.json'), 'utf8')) as {
    manifests: { digest: string; annotations?: Record<string, string> }[];
  };
  const named = manifests.flatMap(({ digest, annotations }) => {
    const tag = annotations?.['org.opencontainers.image.ref.name'];
    return tag === undefined ? [] : [[tag, digest] as const];
  });
  return { blobs, tags: Object.fromEntries(named) };
}
