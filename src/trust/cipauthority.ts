/**
 * One authority of a ClusterImagePolicy: who may have signed, in which form, and what must be attested besides (docs/image-policy.md 2, 4). What
 * policy-controller's webhook refuses is refused here; what needs a cluster, a key service or another language is `Unsupported`, never passed.
 */
import type { AuthorityRef, PolicyRef } from './cipschema.ts';
import {
  fieldOf,
  identityOfRef,
  keyRefProblems,
  keysOf,
  ociRepository,
  sentence,
  type Checked,
} from './cipvalidate.ts';
import type { Condition } from './conditions.ts';
import type { Authority, TrustRootName } from './requirement.ts';

/** A part of a policy that needs what is not here: a cluster, a key service, the engine of another language. */
export type Unsupported = {
  /** `spec.authorities[0].key.kms`. */
  readonly field: string;
  readonly why: string;
};

/** A statement of this type that must be verified, and hold what is asked of it. */
export type DemandedAttestation = {
  readonly name: string;
  /** In full; short names are resolved. */
  readonly predicateType: string;
  readonly field: string;
  /** Its policy is in a language that is not evaluated here. */
  readonly unsupported: Unsupported | undefined;
  /** Our own, in CEL; undefined: the type alone is asked for. */
  readonly condition: Condition | undefined;
  /** Why the condition is asked for; shown where it does not hold. */
  readonly reason: string | undefined;
};

export type PolicyAuthority = {
  readonly name: string;
  readonly field: string;
  readonly signer:
    | { readonly kind: 'static'; readonly action: 'pass' | 'fail'; readonly message: string }
    | { readonly kind: 'signer'; readonly authority: Authority }
    | { readonly kind: 'unsupported'; readonly unsupported: Unsupported };
  /** All of them; an authority that has some asks for no plain signature. */
  readonly attestations: readonly DemandedAttestation[];
  /** What our own documents ask of it besides: all of them, and they take nothing away. */
  readonly also: readonly DemandedAttestation[];
  /** In which form a signature must come; undefined: in any. */
  readonly format: 'legacy' | 'bundle' | undefined;
  /** Where else signatures are looked for; `repository` is `host/path`. */
  readonly source: { readonly repository: string | undefined; readonly tagPrefix: string | undefined } | undefined;
};

/** Deprecated short names of predicate types, as cosign resolves them; everything else is itself. */
export const PREDICATE_TYPES: ReadonlyMap<string, string> = new Map([
  ['custom', 'https://cosign.sigstore.dev/attestation/v1'],
  ['slsaprovenance', 'https://slsa.dev/provenance/v0.2'],
  ['slsaprovenance02', 'https://slsa.dev/provenance/v0.2'],
  ['slsaprovenance1', 'https://slsa.dev/provenance/v1'],
  ['spdx', 'https://spdx.dev/Document'],
  ['spdxjson', 'https://spdx.dev/Document'],
  ['cyclonedx', 'https://cyclonedx.org/bom'],
  ['link', 'https://in-toto.io/Link/v1'],
  ['vuln', 'https://cosign.sigstore.dev/attestation/vuln/v1'],
  ['openvex', 'https://openvex.dev/ns'],
]);

/** Go takes an empty text for an absent one. */
export const given = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

const ONE_OF = ['key', 'keyless', 'static'] as const;

/** Reads one. Refusals are added to the document's, in which case what is returned is not to be used. */
export function authorityAt(
  authority: AuthorityRef,
  index: number,
  checked: Checked & { readonly defaultRoot: TrustRootName },
): PolicyAuthority | undefined {
  const { refuse, note } = checked;
  const at = ['spec', 'authorities', index];
  const kinds = ONE_OF.filter((kind) => authority[kind] !== undefined);
  if (kinds.length !== 1) {
    const say = kinds.length === 0 ? sentence.neither : sentence.both;
    refuse(at, say(ONE_OF.map((kind) => [...at, kind])));
    return undefined;
  }
  const demanded = (authority.attestations ?? []).map((attestation, i) =>
    attestationAt(attestation, [...at, 'attestations', i], checked),
  );
  const format = given(authority.signatureFormat);
  if (format !== undefined && format !== 'legacy' && format !== 'bundle')
    refuse([...at, 'signatureFormat'], sentence.invalid(format, [...at, 'signatureFormat'], 'legacy or bundle'));
  if ((authority.source ?? []).length > 1)
    refuse([...at, 'source'], sentence.invalid('source', [...at, 'source'], 'only single source is supported'));
  const source = authority.source?.[0];
  const oci = given(source?.oci);
  const repository = oci === undefined ? undefined : ociRepository(oci);
  if (oci !== undefined && repository === undefined) {
    const path = [...at, 'source', 0, 'oci'];
    if (/^[a-zA-Z0-9.-]+(?::[0-9]+)?$/.test(oci)) note(path, 'NOT_HERE', `${oci} names no repository to look in`);
    else refuse(path, sentence.invalid(oci, path, 'expected host/path'));
  }
  for (const [i, { name }] of (source?.signaturePullSecrets ?? []).entries())
    if (given(name) === undefined)
      refuse([...at, 'source'], sentence.missing([[...at, 'source', 0, 'signaturePullSecrets', i, 'name']]));
  if (source?.signaturePullSecrets !== undefined)
    note(
      [...at, 'source', 0, 'signaturePullSecrets'],
      'NOT_HERE',
      'secrets of a cluster are not here: registries are read with the credentials of this server',
    );
  return {
    name: given(authority.name) ?? `authority-${index}`,
    field: `spec.authorities[${index}]`,
    signer: signerAt(authority, at, checked),
    attestations: demanded.filter((attestation) => attestation !== undefined),
    also: [],
    format: format as PolicyAuthority['format'],
    source: source === undefined ? undefined : { repository, tagPrefix: given(source.tagPrefix) },
  };
}

/** What `signerAt` returns where it refused: the document is dropped with its problems. */
const REFUSED: PolicyAuthority['signer'] = { kind: 'unsupported', unsupported: { field: '', why: 'refused' } };

function signerAt(
  authority: AuthorityRef,
  at: readonly PropertyKey[],
  checked: Checked & { readonly defaultRoot: TrustRootName },
): PolicyAuthority['signer'] {
  const { refuse, note, defaultRoot } = checked;
  const { key, keyless, static: fixed, ctlog, rfc3161timestamp } = authority;
  const unsupported = (path: readonly PropertyKey[], why: string): PolicyAuthority['signer'] => {
    note(path, 'UNSUPPORTED', `${why}: never passed, images are unverifiable where only this could pass them`);
    return { kind: 'unsupported', unsupported: { field: fieldOf(path), why } };
  };
  if (fixed !== undefined) {
    const action = given(fixed.action);
    if (action === undefined) refuse([...at, 'static'], sentence.missing([[...at, 'static', 'action']]));
    else if (action !== 'pass' && action !== 'fail')
      refuse([...at, 'static', 'action'], sentence.invalid(action, [...at, 'static', 'action'], 'pass or fail'));
    for (const other of ['attestations', 'source', 'ctlog', 'rfc3161timestamp'] as const) {
      const beside = authority[other];
      if (beside !== undefined && !(Array.isArray(beside) && beside.length === 0))
        refuse(
          [...at, other],
          sentence.both([
            [...at, other],
            [...at, 'static'],
          ]),
        );
    }
    return { kind: 'static', action: action === 'pass' ? 'pass' : 'fail', message: fixed.message ?? '' };
  }
  // Written is meant: policy-controller drops an empty ctlog, and every ctlog beside rfc3161timestamp, without a word.
  const wantsLog = ctlog !== undefined;
  const wantsStamp = rfc3161timestamp !== undefined;
  if (key !== undefined) {
    const keys = keysOf(key, [...at, 'key'], checked);
    if (keys === undefined) return REFUSED;
    if (keys.kind === 'elsewhere') return unsupported(keys.path, keys.why);
    return {
      kind: 'signer',
      authority: {
        kind: 'key',
        keys: keys.pem,
        hashAlgorithm: keys.hashAlgorithm,
        tlog: wantsLog ? (given(ctlog.trustRootRef) ?? defaultRoot) : undefined,
        tsa: wantsStamp ? (given(rfc3161timestamp.trustRootRef) ?? defaultRoot) : undefined,
      },
    };
  }
  const { identities = [], url, trustRootRef, insecureIgnoreSCT, 'ca-cert': caCert } = keyless!;
  const where = [...at, 'keyless'];
  if (caCert !== undefined && given(url) !== undefined)
    refuse(
      where,
      sentence.both([
        [...where, 'ca-cert'],
        [...where, 'url'],
      ]),
    );
  if (caCert !== undefined) keyRefProblems(caCert, [...where, 'ca-cert'], checked);
  if (identities.length === 0) refuse(where, sentence.missing([[...where, 'identities']]));
  const who = identities.map((identity, i) => identityOfRef(identity, [...where, 'identities', i], checked));
  if (caCert !== undefined)
    return unsupported(
      [...where, 'ca-cert'],
      'policy-controller accepts a ca-cert and never verifies with it; import the authority as a trust root and name it in trustRootRef',
    );
  const root = given(trustRootRef) ?? defaultRoot;
  const tlogRoot = wantsLog ? (given(ctlog.trustRootRef) ?? defaultRoot) : root;
  const tsaRoot = wantsStamp ? (given(rfc3161timestamp.trustRootRef) ?? root) : root;
  if (tlogRoot !== root && ctlog?.trustRootRef === undefined)
    note(
      [...at, 'ctlog'],
      'NOT_HERE',
      `without trustRootRef, logs of the root ${tlogRoot} count, not those of ${root}; name it here as well if they are meant`,
    );
  if (root === defaultRoot && url !== undefined && !/^https?:\/\/fulcio\.sigstore\.dev\/?$/.test(url))
    note(
      [...where, 'url'],
      'NOT_HERE',
      `nobody asks ${url.slice(0, 100)}: without trustRootRef, certificates of the root ${defaultRoot} count and no others`,
    );
  const isPrivate = given(trustRootRef) !== undefined;
  const tlog = wantsLog || (!wantsStamp && (!isPrivate || authority.signatureFormat === 'bundle'));
  if (!tlog && !wantsStamp)
    note(
      where,
      'STRICTER_HERE',
      'with trustRootRef and neither ctlog nor rfc3161timestamp, policy-controller holds certificates against its own clock; here a timestamp must prove when it was signed',
    );
  return {
    kind: 'signer',
    authority: {
      kind: 'keyless',
      identities: who.filter((identity) => identity !== undefined),
      trustRoot: root,
      ...(tlogRoot === root ? {} : { tlogRoot }),
      ...(tsaRoot === root ? {} : { tsaRoot }),
      tlog,
      tsa: wantsStamp || !tlog,
      sct: insecureIgnoreSCT !== true,
    },
  };
}

function attestationAt(
  { name, predicateType, policy }: NonNullable<AuthorityRef['attestations']>[number],
  path: readonly PropertyKey[],
  checked: Checked,
): DemandedAttestation | undefined {
  const { refuse, note } = checked;
  const missing = Object.entries({ name, predicateType }).filter(([, text]) => given(text) === undefined);
  for (const [key] of missing) refuse(path, sentence.missing([[...path, key]]));
  const unsupported = policyAt(policy, [...path, 'policy'], false, checked);
  if (missing.length > 0) return undefined;
  const full = PREDICATE_TYPES.get(predicateType!) ?? predicateType!;
  if (full !== predicateType)
    note([...path, 'predicateType'], 'DEPRECATED', `${predicateType} is deprecated; write ${full}`);
  else if (!/^(?:[a-z][a-z0-9+.-]*:|\/)/i.test(full))
    note([...path, 'predicateType'], 'DEPRECATED', 'a predicate type is a URI; this is compared as it stands');
  return {
    name: name!,
    predicateType: full,
    field: fieldOf(path),
    unsupported,
    condition: undefined,
    reason: undefined,
  };
}

/** A policy in another language: what it asks cannot be answered here. */
export function policyAt(
  policy: PolicyRef | undefined,
  path: readonly PropertyKey[],
  isSpec: boolean,
  { refuse, note }: Checked,
): Unsupported | undefined {
  if (policy === undefined) return undefined;
  const { type, data, remote, configMapRef } = policy;
  if (type !== 'cue' && type !== 'rego')
    refuse([...path, 'type'], sentence.invalid(type ?? '', [...path, 'type'], 'only [cue,rego] are supported'));
  const texts = [
    ['data', given(data) !== undefined],
    ['configMapRef', configMapRef !== undefined],
    ['remote', remote !== undefined],
  ] as const;
  const [text, ...others] = texts.filter(([, is]) => is).map(([key]) => key);
  if (text === undefined) refuse(path, sentence.missing(texts.map(([key]) => [...path, key])));
  if (others.length > 0) refuse(path, sentence.both(texts.map(([key]) => [...path, key])));
  if (remote !== undefined) {
    const url = given(remote.url) ?? '';
    if (!/^https:\/\/[^/]/.test(url))
      refuse(
        [...path, 'remote'],
        sentence.invalid(url, [...path, 'remote', 'url'], 'host and https scheme are expected'),
      );
    if (given(remote.sha256sum) === undefined)
      refuse([...path, 'remote'], sentence.missing([[...path, 'remote', 'sha256sum']]));
  }
  for (const key of configMapRef === undefined ? [] : (['name', 'key'] as const))
    if (given(configMapRef![key]) === undefined)
      refuse([...path, 'configMapRef'], sentence.missing([[...path, 'configMapRef', key]]));
  for (const key of ['fetchConfigFile', 'includeSpec', 'includeObjectMeta', 'includeTypeMeta'] as const)
    if (!isSpec && policy[key] !== undefined)
      refuse([...path, key], `must not set the field(s): ${fieldOf([...path, key])}`);
  const field = fieldOf([...path, text ?? 'data']);
  const why = `a policy in ${type ?? 'no language'} is not evaluated here`;
  note(
    path,
    'UNSUPPORTED',
    `${why} (${field}): what depends on it is unverifiable; docs/image-policy.md 6 has conditions in CEL`,
  );
  return { field, why };
}
