/**
 * What may stand in the documents of policy-controller (policy.sigstore.dev, v1alpha1 and v1beta1): shapes alone, as its CRDs have them.
 * Its structural schema prunes what it does not know; here an unknown key is an error, because a misspelt demand is no demand.
 */
import { z } from 'zod';
import { record } from '#src/document/shape.ts';
import {
  IMAGE_POLICY_AUTHORITIES_MAX,
  IMAGE_POLICY_LIST_MAX,
  IMAGE_POLICY_TEXT_MAX,
  TRUST_ROOT_BYTES_MAX,
} from '#src/limits.ts';

const Text = z.string('expected text').max(IMAGE_POLICY_TEXT_MAX, `longer than ${IMAGE_POLICY_TEXT_MAX} characters`);
const Flag = z.boolean('expected true or false');
const list = <Item extends z.ZodType>(item: Item, max = IMAGE_POLICY_LIST_MAX) =>
  z.array(item, 'expected a list').max(max, `more than ${max} entries`);
const Labels = z.record(z.string(), Text, 'expected keys with texts');

/** Kubernetes' ObjectMeta: what `kubectl get -o yaml` adds says nothing about images. */
const Metadata = record({
  name: Text.regex(
    /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/,
    'expected lower-case letters, digits, - and .',
  ).max(253),
  generateName: z.unknown().optional(),
  namespace: z.unknown().optional(),
  selfLink: z.unknown().optional(),
  uid: z.unknown().optional(),
  resourceVersion: z.unknown().optional(),
  generation: z.unknown().optional(),
  creationTimestamp: z.unknown().optional(),
  deletionTimestamp: z.unknown().optional(),
  deletionGracePeriodSeconds: z.unknown().optional(),
  labels: Labels.optional(),
  annotations: Labels.optional(),
  ownerReferences: z.unknown().optional(),
  finalizers: z.unknown().optional(),
  managedFields: z.unknown().optional(),
});

const KeyRef = record({
  data: Text.optional(),
  kms: Text.optional(),
  secretRef: record({ name: Text.optional(), namespace: Text.optional() }).optional(),
  hashAlgorithm: Text.optional(),
});
export type KeyRef = z.infer<typeof KeyRef>;

const IdentityRef = record({
  issuer: Text.optional(),
  issuerRegExp: Text.optional(),
  subject: Text.optional(),
  subjectRegExp: Text.optional(),
});
export type IdentityRef = z.infer<typeof IdentityRef>;

const Policy = record({
  type: Text.optional(),
  data: Text.optional(),
  remote: record({ url: Text.optional(), sha256sum: Text.optional() }).optional(),
  configMapRef: record({ name: Text.optional(), namespace: Text.optional(), key: Text.optional() }).optional(),
  fetchConfigFile: Flag.optional(),
  includeSpec: Flag.optional(),
  includeObjectMeta: Flag.optional(),
  includeTypeMeta: Flag.optional(),
});
export type PolicyRef = z.infer<typeof Policy>;

const AuthorityRef = record({
  name: Text.optional(),
  key: KeyRef.optional(),
  keyless: record({
    url: Text.optional(),
    identities: list(IdentityRef).optional(),
    'ca-cert': KeyRef.optional(),
    trustRootRef: Text.optional(),
    insecureIgnoreSCT: Flag.optional(),
  }).optional(),
  static: record({ action: Text.optional(), message: Text.optional() }).optional(),
  source: list(
    record({
      oci: Text.optional(),
      signaturePullSecrets: list(record({ name: Text.optional() })).optional(),
      tagPrefix: Text.optional(),
    }),
  ).optional(),
  ctlog: record({ url: Text.optional(), trustRootRef: Text.optional() }).optional(),
  attestations: list(
    record({ name: Text.optional(), predicateType: Text.optional(), policy: Policy.optional() }),
  ).optional(),
  rfc3161timestamp: record({ trustRootRef: Text.optional() }).optional(),
  signatureFormat: Text.optional(),
});
export type AuthorityRef = z.infer<typeof AuthorityRef>;

const MatchRef = record({
  group: Text.optional(),
  version: Text.optional(),
  resource: Text.optional(),
  selector: record({
    matchLabels: Labels.optional(),
    matchExpressions: list(
      record({ key: Text.optional(), operator: Text.optional(), values: list(Text).optional() }),
    ).optional(),
  }).optional(),
});
export type MatchRef = z.infer<typeof MatchRef>;

export const ClusterImagePolicyDocument = record({
  apiVersion: Text,
  kind: Text,
  metadata: Metadata,
  spec: record({
    images: list(record({ glob: Text.optional() })).optional(),
    authorities: list(AuthorityRef, IMAGE_POLICY_AUTHORITIES_MAX).optional(),
    policy: Policy.optional(),
    mode: Text.optional(),
    match: list(MatchRef).optional(),
  }),
  status: z.unknown().optional(),
});
export type ClusterImagePolicyDocument = z.infer<typeof ClusterImagePolicyDocument>;

const Blob = z
  .string('expected base64 text')
  .max(TRUST_ROOT_BYTES_MAX, `longer than ${TRUST_ROOT_BYTES_MAX} characters`);
const Log = record({ baseURL: Text.optional(), hashAlgorithm: Text.optional(), publicKey: Blob.optional() });
const CertificateAuthority = record({
  subject: record({ organization: Text.optional(), commonName: Text.optional() }).optional(),
  uri: Text.optional(),
  certChain: Blob.optional(),
});

export const TrustRootDocument = record({
  apiVersion: Text,
  kind: Text,
  metadata: Metadata,
  spec: record({
    remote: record({
      root: Blob.optional(),
      mirror: Text.optional(),
      targets: Text.optional(),
      trustedRootTarget: Text.optional(),
    }).optional(),
    repository: record({
      root: Blob.optional(),
      mirrorFS: Blob.optional(),
      targets: Text.optional(),
      trustedRootTarget: Text.optional(),
    }).optional(),
    sigstoreKeys: record({
      certificateAuthorities: list(CertificateAuthority).optional(),
      tLogs: list(Log).optional(),
      ctLogs: list(Log).optional(),
      timestampAuthorities: list(CertificateAuthority).optional(),
    }).optional(),
  }),
  status: z.unknown().optional(),
});
export type TrustRootDocument = z.infer<typeof TrustRootDocument>;

/** Go takes `null` for absent, in maps of every depth. */
export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== null)
      .map(([key, item]) => [key, withoutNulls(item)]),
  );
}
