/** Image policies in short, and images of test/vectors/sigstore under them. */
import { findSignatures } from '#src/source/signatures.ts';
import { parseImagePolicy, type ImagePolicy } from '#src/trust/imagepolicy.ts';
import { judgeImage, type ImageEvidence, type ImageTerms } from '#src/trust/judge.ts';
import type { ImageJudgement } from '#src/trust/judgement.ts';
import { caseOf, layoutOf, NOW, pem, ROOTS, type Case } from './cases.ts';

export const KEY = indent(pem('keys/p256.pub'), 12);
export const OTHER = indent(pem('keys/other.pub'), 12);
export const P384 = indent(pem('keys/p384.pub'), 12);
export function indent(text: string, by: number): string {
  return text.trim().replaceAll(/^/gm, ' '.repeat(by));
}

export const IMAGE = 'ghcr.io/acme/os';
export const SLSA1 = 'https://slsa.dev/provenance/v1';

/** A policy about `glob` with these authorities, in YAML of six spaces. */
export const policy = (name: string, authorities: string, more = '', glob = '**') =>
  `apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: ${name}\nspec:\n  images:\n    - glob: "${glob}"\n${more}  authorities:\n${authorities}`;
export const byKey = (key: string, more = '') => `    - key:\n          data: |\n${key}\n${more}`;
export const attested = (types: readonly string[], more = '') =>
  `      attestations:\n${types.map((type, i) => `        - name: a${i}\n          predicateType: ${type}\n${more}`).join('')}`;
export const keyless = (subject: string, issuer: string, more = '') =>
  `    - keyless:\n        trustRootRef: test\n        identities:\n          - {issuer: "${issuer}", subject: "${subject}"}\n${more}`;
export const STATIC_PASS = '    - static: {action: pass}\n';
export const STATIC_FAIL = '    - static: {action: fail, message: not here}\n';
export const KMS = '    - key: {kms: "hashivault://release"}\n';
export const CUE = '          policy: {type: cue, data: "predicate: builder: id: string"}\n';

export const read = (...documents: string[]): ImagePolicy =>
  parseImagePolicy([{ file: 'p.yaml', text: documents.join('---\n') }]);

export async function evidenceOf(found: Case, more: Partial<ImageEvidence> = {}): Promise<ImageEvidence> {
  const { found: entities } = await findSignatures({ image: found.digest, repositories: [layoutOf(found)] });
  const references = found.reference === undefined ? [] : [found.reference];
  return { image: { digest: found.digest, references }, entities, unread: [], ...more };
}
export const terms = (policy: ImagePolicy, more: Partial<ImageTerms> = {}): ImageTerms => ({
  policy,
  roots: ROOTS,
  deny: [],
  now: NOW,
  ...more,
});
export async function judge(
  name: string,
  policy: ImagePolicy,
  more: Partial<ImageTerms> = {},
): Promise<ImageJudgement> {
  return judgeImage(await evidenceOf(caseOf(name)), terms(policy, more));
}

export const IDENTITY = caseOf('v-bundle-keyless').check.identity!;
export const SIGNED = 'v-bundle-key-p256';
export const ATTESTED = 'v-bundle-attest-slsa1';

export type Row = readonly [
  name: string,
  image: string,
  documents: readonly string[],
  state: ImageJudgement['state'],
  code: ImageJudgement['code'],
  reason?: RegExp,
];
