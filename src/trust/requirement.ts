/**
 * What one authority of an image policy demands of one signature (docs/trust.md 1). Policy documents become requirements; verify.ts
 * holds a signed entity against one of them. The words are policy-controller's, resolved: no defaults, no references to clusters.
 */

/** The name under which a trusted_root.json is known here. Roots are never merged: a policy says which one vouches. */
export type TrustRootName = string;

/** Digest algorithms that policy-controller lets a key be used with. What it says when nothing is said is sha256. */
export const HASH_ALGORITHMS = ['sha224', 'sha256', 'sha384', 'sha512'] as const;
export type HashAlgorithm = (typeof HASH_ALGORITHMS)[number];

/**
 * One side of an identity. `regExp` has Go's semantics: RE2 syntax, unanchored (identity.ts compiles it). An exact text is compared
 * byte for byte, as a whole.
 */
export type Pattern = { readonly exact: string } | { readonly regExp: string };

/** Who may have signed: both sides must fit the same certificate; the subject may be any of its subject alternative names. */
export type Identity = { readonly issuer: Pattern; readonly subject: Pattern };

/** A long-lived public key. Any of several keys suffices for a signature. */
export type KeyAuthority = {
  readonly kind: 'key';
  /** SPKI (`PUBLIC KEY`) or PKCS #1 (`RSA PUBLIC KEY`) in PEM, one key a text. */
  readonly keys: readonly string[];
  /** Of ECDSA and RSA signatures; Ed25519 has its own. A signature made with another one is refused with WRONG_HASH. */
  readonly hashAlgorithm: HashAlgorithm;
  /** The root whose transparency log must hold the signature; undefined where no entry is asked for. */
  readonly tlog: TrustRootName | undefined;
  /** The root whose timestamp authority must have stamped it; undefined where no stamp is asked for. */
  readonly tsa: TrustRootName | undefined;
};

/** A certificate that an authority of the named root issued, to one of these identities. */
export type KeylessAuthority = {
  readonly kind: 'keyless';
  /** Any one suffices. An empty list lets nobody in. */
  readonly identities: readonly Identity[];
  /** Whose certificate authorities, CT logs, transparency logs and timestamp authorities count. */
  readonly trustRoot: TrustRootName;
  /** The roots whose transparency logs and timestamp authorities count instead of `trustRoot`'s, where a policy names others. */
  readonly tlogRoot?: TrustRootName;
  readonly tsaRoot?: TrustRootName;
  /** Whether an entry in a transparency log must be there. Where one stands it is verified all the same. */
  readonly tlog: boolean;
  /** Whether an RFC 3161 timestamp must be there. Without `tlog` it is the only trusted time, so it must be there then. */
  readonly tsa: boolean;
  /** Whether a certificate must carry an SCT of a CT log of the root (policy-controller: `insecureIgnoreSCT` turns it off). */
  readonly sct: boolean;
};

export type Authority = KeyAuthority | KeylessAuthority;

/** What must be signed: the image as such, or a statement about it. The type is compared as a whole, short names resolved before. */
export type What = { readonly kind: 'signature' } | { readonly kind: 'attestation'; readonly predicateType: string };

export type Requirement = { readonly what: What; readonly authority: Authority };
