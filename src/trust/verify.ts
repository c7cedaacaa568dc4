/**
 * One signed entity against one requirement: docs/trust.md 3, in its order. sigstore's own library judges chains, SCTs, log proofs and
 * stamps; what it leaves open (facts in docs/trust.md 3.8) is closed here. Nothing is thrown, and nothing is accepted by omission.
 */
import type { TransparencyLogEntry } from '@sigstore/bundle';
import { VerificationError, Verifier as LibraryVerifier, type TrustMaterial } from '@sigstore/verify';
import { toHex } from '#src/bytes.ts';
import { formatInstant, type Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { mustBeValidAt, mustSignCode, readCertificate, type SigningCertificate } from './certificate.ts';
import { checkMaterial, libraryContent } from './content.ts';
import { deniedBy, type DenyEntry } from './deny.ts';
import { identityOf, mustMatch, type CertificateIdentity } from './identity.ts';
import { KeyError, keyOf, readKey, usualHashes, type Algorithm, type Key } from './keys.ts';
import {
  failedBy,
  isMaterial,
  TrustError,
  type Failed,
  type Format,
  type Material,
  type Place,
  type SignedEntity,
  type Statement,
  type TrustCode,
} from './material.ts';
import { mustAgree, mustBind } from './rekor.ts';
import type { HashAlgorithm, KeyAuthority, KeylessAuthority, Requirement, TrustRootName, What } from './requirement.ts';
import { COSIGN_SIGN } from './statement.ts';
import { quote } from './strictjson.ts';
import { mustCover, mustName, type Target, type TargetDigest } from './target.ts';
import { mustBePast, promisedTime, tokensOf } from './time.ts';
import type { TrustRoot, TrustRoots } from './trustroot.ts';

/** A log entry that was proven. */
export type ProvenEntry = {
  /** Hex. */
  readonly logId: string;
  readonly logIndex: string;
  /** Of the log, as its trust root names it. */
  readonly log: string;
  /** The time that the log promised; an entry with a proof alone has none. */
  readonly at: Instant | undefined;
};

export type Verified = {
  readonly kind: 'verified';
  readonly by:
    | { readonly kind: 'key'; readonly fingerprint: Digest }
    | {
        readonly kind: 'keyless';
        readonly issuer: string;
        /** The name that the policy asked for, and all that the certificate has. */
        readonly subject: string;
        readonly subjects: readonly string[];
        readonly serial: string;
        /** DER. */
        readonly certificate: Uint8Array;
        readonly fingerprint: Digest;
      };
  /** `ecdsa-p256-sha256`, `ed25519ph` … */
  readonly algorithm: string;
  readonly format: Format;
  readonly place: Place;
  /** What was signed: the target's own digest, or that of an index that lists it. `algorithm:hex`. */
  readonly signs: string;
  /** The name in a simple signing payload; bundles sign none. */
  readonly dockerReference: string | undefined;
  readonly predicateType: string | undefined;
  /** For conditions over the predicate. */
  readonly statement: Statement | undefined;
  readonly entries: readonly ProvenEntry[];
  readonly times: readonly { readonly at: Instant; readonly by: 'log' | 'timestamp-authority' }[];
  readonly roots: readonly { readonly name: TrustRootName; readonly sha256: Digest }[];
};

/** Everything but the signature and the requirement. */
export type Circumstances = {
  readonly target: Target;
  readonly roots: TrustRoots;
  readonly deny: readonly DenyEntry[];
  /** When it is judged: certificates are not held against it, only claims to come from the future and the deny list are. */
  readonly now: Instant;
};

/** Whether `entity` is what `requirement` asks for, and why not. */
export function verifySignature(
  entity: SignedEntity,
  requirement: Requirement,
  circumstances: Circumstances,
): Verified | Failed {
  try {
    if (!isMaterial(entity.content)) return entity.content;
    return verifyMaterial(entity, entity.content, requirement, circumstances);
  } catch (error) {
    return failedBy(`the ${entity.format}`, error);
  }
}

function verifyMaterial(
  { format, place }: SignedEntity,
  material: Material,
  { what, authority }: Requirement,
  { target, roots, deny, now }: Circumstances,
): Verified {
  mustBeOfKind(material, what);
  const covered = mustCover(material.signed, target);
  const scope = authority.kind === 'key' ? keyScope(authority, roots) : keylessScope(authority, roots);
  const signer =
    authority.kind === 'key' ? signerOfKeys(material, covered, authority) : signerOfCertificate(material, covered);
  const times = verifyEvidence(material, covered, scope, signer, now);
  let identity: CertificateIdentity | undefined;
  let subject = '';
  if (authority.kind === 'keyless' && signer.certificate !== undefined) {
    identity = identityOf(signer.certificate);
    subject = mustMatch(identity, authority.identities);
  }
  mustName(material.signed, target);
  const entries = (scope.logs === undefined ? [] : material.entries).map((entry) => provenEntry(entry, scope));
  const signs = `${covered.algorithm}:${covered.hex}`;
  const denied = deniedBy(
    deny,
    {
      digests: [...new Set([signs, ...target.digests.slice(0, 1).map(({ algorithm, hex }) => `${algorithm}:${hex}`)])],
      fingerprint: signer.key.fingerprint,
      identity,
      serial: signer.certificate?.serial,
      // Both indexes of an entry: whoever takes the promise out of a bundle leaves only the other one proven.
      entries: entries.flatMap(({ logId, logIndex }, index) => [
        { logId, logIndex },
        { logId, logIndex: material.entries[index]!.logIndex },
      ]),
      times: times.map(({ at }) => at),
    },
    now,
  );
  if (denied !== undefined) throw new TrustError('DENIED', denied);
  const { signed } = material;
  const statement = signed.kind === 'statement' ? signed.statement : undefined;
  return {
    kind: 'verified',
    by:
      identity === undefined || signer.certificate === undefined
        ? { kind: 'key', fingerprint: signer.key.fingerprint }
        : {
            kind: 'keyless',
            issuer: identity.issuer,
            subject,
            subjects: identity.subjects,
            serial: signer.certificate.serial,
            certificate: signer.certificate.der,
            fingerprint: signer.key.fingerprint,
          },
    algorithm: signer.algorithm.name,
    format,
    place,
    signs,
    dockerReference: signed.kind === 'simple-signing' ? signed.claims.dockerReference : undefined,
    predicateType: statement?.predicateType,
    statement,
    entries,
    times,
    roots: scope.roots.map(({ name, sha256 }) => ({ name, sha256 })),
  };
}

/** docs/trust.md 3.1. cosign takes any statement about the image as its signature; a failed test report is one. */
function mustBeOfKind({ signed }: Material, what: What): void {
  const predicate = signed.kind === 'statement' ? signed.statement.predicateType : undefined;
  if (what.kind === 'signature') {
    if (predicate !== undefined && predicate !== COSIGN_SIGN)
      throw new TrustError('WRONG_KIND', `an attestation of ${quote(predicate)} is no signature of the image`);
    return;
  }
  if (predicate === undefined)
    throw new TrustError('WRONG_KIND', `a signature of the image is no attestation of ${quote(what.predicateType)}`);
  if (predicate !== what.predicateType)
    throw new TrustError(
      'WRONG_PREDICATE',
      `an attestation of ${quote(predicate)}; asked for ${quote(what.predicateType)}`,
    );
}

/** What of which trust roots counts for an authority. `undefined` parts are not looked at. */
type Scope = {
  readonly roots: readonly TrustRoot[];
  readonly authorities: TrustMaterial['certificateAuthorities'];
  readonly ctlogs: TrustMaterial['ctlogs'];
  readonly logs: TrustMaterial['tlogs'] | undefined;
  readonly stampers: TrustMaterial['timestampAuthorities'] | undefined;
  readonly needs: { readonly log: boolean; readonly stamp: boolean; readonly sct: boolean };
};

function rootOf(roots: TrustRoots, name: TrustRootName): TrustRoot {
  const root = roots.get(name);
  if (root === undefined)
    throw new TrustError('NO_TRUST_ROOT', `no trust root ${quote(name)} is known here; import its trusted_root.json`);
  return root;
}

function keyScope({ tlog, tsa }: KeyAuthority, roots: TrustRoots): Scope {
  const logRoot = tlog === undefined ? undefined : rootOf(roots, tlog);
  const stampRoot = tsa === undefined ? undefined : rootOf(roots, tsa);
  return {
    roots: [...new Set([logRoot, stampRoot])].filter((root) => root !== undefined),
    authorities: [],
    ctlogs: [],
    logs: logRoot?.material.tlogs,
    // A log of version 2 promises no time; the same instance's stamps are then what there is.
    stampers: (stampRoot ?? logRoot)?.material.timestampAuthorities,
    needs: { log: tlog !== undefined, stamp: tsa !== undefined, sct: false },
  };
}

function keylessScope({ trustRoot, tlogRoot, tsaRoot, tlog, tsa, sct }: KeylessAuthority, roots: TrustRoots): Scope {
  const root = rootOf(roots, trustRoot);
  const logRoot = tlogRoot === undefined ? root : rootOf(roots, tlogRoot);
  const stampRoot = tsaRoot === undefined ? root : rootOf(roots, tsaRoot);
  return {
    roots: [...new Set([root, logRoot, stampRoot])],
    authorities: root.material.certificateAuthorities,
    ctlogs: root.material.ctlogs,
    logs: logRoot.material.tlogs,
    stampers: stampRoot.material.timestampAuthorities,
    needs: { log: tlog, stamp: tsa || !tlog, sct },
  };
}

type SignerOf = {
  readonly key: Key;
  readonly certificate: SigningCertificate | undefined;
  readonly hashes: readonly HashAlgorithm[];
  readonly algorithm: Algorithm;
};

/** docs/trust.md 3.4 for a key: the hint in the bundle is the signer's word, so every key of the authority is tried. */
function signerOfKeys(material: Material, { bytes }: TargetDigest, { keys, hashAlgorithm }: KeyAuthority): SignerOf {
  const hashes = [hashAlgorithm];
  const reasons: TrustError[] = [];
  for (const pem of keys) {
    const key = usableKey(pem);
    if (key instanceof TrustError) {
      reasons.push(key);
      continue;
    }
    const check = checkMaterial(material, bytes, key.object, hashes);
    switch (check.kind) {
      case 'good':
        return { key, certificate: undefined, hashes, algorithm: check.algorithm };
      case 'other-hash':
        reasons.unshift(
          new TrustError(
            'WRONG_HASH',
            `signed by the key ${key.fingerprint} with ${check.algorithm.name}; the policy allows ${hashAlgorithm} (hashAlgorithm)`,
          ),
        );
        break;
      case 'unsupported':
        reasons.push(new TrustError('UNSUPPORTED_ALGORITHM', `${check.what} is not taken`));
        break;
      case 'bad': {
        const hint = material.by.kind === 'key' ? material.by.hint : '';
        const ours = Buffer.from(key.fingerprint.slice('sha256:'.length), 'hex').toString('base64');
        reasons.push(
          hint === ours
            ? new TrustError(
                'BAD_SIGNATURE',
                `told to be by the key ${key.fingerprint}, but changed since it was signed`,
              )
            : new TrustError('WRONG_KEY', `not signed by the key ${key.fingerprint}, or changed since it was signed`),
        );
      }
    }
  }
  const order: readonly TrustCode[] = ['WRONG_HASH', 'BAD_SIGNATURE', 'UNSUPPORTED_ALGORITHM'];
  throw (
    order.map((code) => reasons.find((reason) => reason.code === code)).find((reason) => reason !== undefined) ??
    reasons[0] ??
    new TrustError('WRONG_KEY', 'the policy names no key')
  );
}

/** A key of the policy; one that cannot be read is told, and does not keep the others from counting. */
function usableKey(pem: string): Key | TrustError {
  try {
    return readKey(pem);
  } catch (error) {
    if (!(error instanceof KeyError)) throw error;
    return new TrustError('UNUSABLE_KEY', `a key of the policy: ${error.message}`, { cause: error });
  }
}

/** docs/trust.md 3.4 for a certificate. That the certificate is to be trusted comes after: identities of strangers mean nothing. */
function signerOfCertificate(material: Material, { bytes }: TargetDigest): SignerOf {
  if (material.by.kind !== 'certificate')
    throw new TrustError('NO_CERTIFICATE', 'signed with a key; the policy asks for an identity in a certificate');
  const certificate = readCertificate(material.by.der);
  const key = keyOf(certificate.node.publicKey);
  const hashes = usualHashes(key.object);
  const check = checkMaterial(material, bytes, key.object, hashes);
  if (check.kind === 'good') return { key, certificate, hashes, algorithm: check.algorithm };
  throw check.kind === 'bad'
    ? new TrustError('BAD_SIGNATURE', 'not signed by the key in its certificate, or changed since it was signed')
    : new TrustError(
        'UNSUPPORTED_ALGORITHM',
        `${check.kind === 'unsupported' ? check.what : check.algorithm.name} is not taken under a certificate`,
      );
}

/** docs/trust.md 3.3, 3.5 and 3.7: times, chain, SCT and log entries. Returns the trusted times. */
function verifyEvidence(
  material: Material,
  { bytes }: TargetDigest,
  scope: Scope,
  { key, certificate, hashes }: SignerOf,
  now: Instant,
): Verified['times'] {
  const logs = scope.logs;
  const entries = logs === undefined ? [] : [...material.entries];
  if (scope.needs.log && entries.length === 0)
    throw new TrustError('NO_LOG_ENTRY', 'no transparency log entry with it; the policy asks for one');
  for (const entry of entries)
    if (!logs!.some(({ logID }) => logID.equals(entry.logId.keyId)))
      throw new TrustError(
        'UNKNOWN_LOG',
        `logged in ${toHex(entry.logId.keyId).slice(0, 64)}, a log that the trust root does not have`,
      );
  const { tokens, foreign } =
    scope.stampers === undefined ? { tokens: [], foreign: 0 } : tokensOf(material, scope.stampers);
  if (scope.needs.stamp && tokens.length === 0)
    throw new TrustError(
      'NO_TIMESTAMP',
      foreign === 0
        ? 'no RFC 3161 timestamp with it; the policy asks for one'
        : 'stamped only by authorities that the trust root does not have',
    );
  const promised = entries.flatMap((entry) => promisedTime(entry) ?? []);
  const times: Verified['times'] = [
    ...promised.map((at) => ({ at, by: 'log' as const })),
    ...tokens.map((token) => ({ at: token.signingTime.getTime(), by: 'timestamp-authority' as const })),
  ];
  const instants = times.map(({ at }) => at);
  mustBePast(instants, now);
  if (certificate !== undefined) {
    if (times.length === 0)
      throw new TrustError(
        'NO_TIMESTAMP',
        'no trusted time of signing: neither a log that promises one nor a timestamp',
      );
    mustSignCode(certificate);
  }
  try {
    // The library throws a TypeError for certificates without times (docs/trust.md 3.8), which cannot happen from here on.
    new LibraryVerifier(
      {
        certificateAuthorities: scope.authorities,
        ctlogs: scope.ctlogs,
        tlogs: logs ?? [],
        timestampAuthorities: scope.stampers ?? [],
        publicKey: () => ({ publicKey: key.object, validFor: () => true }),
      },
      {
        tlogThreshold: scope.needs.log ? 1 : 0,
        ctlogThreshold: scope.needs.sct ? 1 : 0,
        timestampThreshold: certificate === undefined ? 0 : 1,
      },
    ).verify({
      signature: libraryContent(material, bytes, hashes),
      key:
        certificate === undefined
          ? { $case: 'public-key', hint: '' }
          : { $case: 'certificate', certificate: certificate.core },
      tlogEntries: entries,
      timestamps: [
        ...entries
          .filter((entry) => promisedTime(entry) !== undefined)
          .map((tlogEntry) => ({ $case: 'transparency-log' as const, tlogEntry })),
        ...tokens.map((timestamp) => ({ $case: 'timestamp-authority' as const, timestamp })),
      ],
    });
  } catch (error) {
    if (error instanceof VerificationError && error.code === 'CERTIFICATE_ERROR' && certificate !== undefined)
      mustBeValidAt(certificate, instants); // the more exact reason, where it is that
    throw explained(error);
  }
  if (certificate !== undefined) mustBeValidAt(certificate, instants);
  const verifier = { key, certificate: certificate?.der };
  for (const entry of entries) {
    mustAgree(entry);
    mustBind(entry, material, bytes, verifier);
    mustBeLogged(entry, logs!, instants, now);
  }
  return times;
}

/** The log's key must have been valid when it was used; the library asks so only of promises, never of proofs (docs/trust.md 3.7). */
function mustBeLogged(
  entry: TransparencyLogEntry,
  logs: TrustMaterial['tlogs'],
  times: readonly Instant[],
  now: Instant,
): void {
  // Without any trusted time there is only now: a key that was retired since may have been retired because it leaked.
  const asked = times.length === 0 ? [now] : times;
  const fits = logs.some(
    ({ logID, validFor }) =>
      logID.equals(entry.logId.keyId) &&
      asked.every((time) => time >= validFor.start.getTime() && time <= validFor.end.getTime()),
  );
  if (!fits)
    throw new TrustError(
      times.length === 0 ? 'NO_TIMESTAMP' : 'BROKEN_INCLUSION',
      `logged by a log whose key is not valid at ${asked.map(formatInstant).join(', ')}`,
    );
}

function provenEntry(entry: TransparencyLogEntry, { logs = [] }: Scope): ProvenEntry {
  return {
    logId: toHex(entry.logId.keyId),
    // A promise signs the index of the whole log, a proof that of its shard; what neither covers is the bundle's word.
    logIndex: (entry.inclusionPromise === undefined ? entry.inclusionProof?.logIndex : undefined) ?? entry.logIndex,
    log: logs.find(({ logID }) => logID.equals(entry.logId.keyId))?.baseURL ?? '',
    at: promisedTime(entry),
  };
}

/** The library's reasons in our codes; its own words are few and quote nothing. */
function explained(error: unknown): unknown {
  if (!(error instanceof VerificationError)) return error;
  return new TrustError(codeOf(error), error.message, { cause: error });
}

function codeOf({ code, message }: VerificationError): TrustCode {
  switch (code) {
    case 'TIMESTAMP_ERROR':
      return 'BROKEN_TIMESTAMP';
    case 'CERTIFICATE_ERROR':
      return message.includes('SCT') ? 'NO_SCT' : 'UNTRUSTED_CHAIN';
    case 'TLOG_BODY_ERROR':
      return message.startsWith('unsupported') ? 'UNSUPPORTED_LOG_ENTRY' : 'LOG_ENTRY_MISMATCH';
    case 'TLOG_ERROR':
    case 'TLOG_INCLUSION_PROOF_ERROR':
    case 'TLOG_INCLUSION_PROMISE_ERROR':
    case 'TLOG_MISSING_INCLUSION_ERROR':
      return 'BROKEN_INCLUSION';
    case 'SIGNATURE_ERROR':
    case 'PUBLIC_KEY_ERROR':
      return 'BAD_SIGNATURE';
    case 'NOT_IMPLEMENTED_ERROR':
      return 'UNSUPPORTED_ALGORITHM';
  }
}
