/** Parts of a ClusterImagePolicy that have rules of their own: keys, identities, repositories; and the webhook's sentences. */
import { createPublicKey } from 'node:crypto';
import type { Place } from '#src/document/yaml.ts';
import { ImageReferenceError, parseReference } from '#src/image/reference.ts';
import { AUTHORITY_KEYS_MAX } from '#src/limits.ts';
import type { IdentityRef, KeyRef } from './cipschema.ts';
import { compileRegExp } from './identity.ts';
import { KeyError, readKey } from './keys.ts';
import { HASH_ALGORITHMS, type HashAlgorithm, type Identity, type Pattern } from './requirement.ts';

export type Path = readonly PropertyKey[];

/** What its author should know of a policy that is accepted. */
export type Lint = Place & {
  readonly file: string;
  /** Its name. */
  readonly policy: string;
  readonly field: string;
  readonly code: LintCode;
  readonly message: string;
};
export type LintCode =
  /** The glob can match no digest. */
  | 'NEVER_MATCHES'
  /** The glob's end lets other names in. */
  | 'OPEN_END'
  /** The regular expression may match in the middle of a name. */
  | 'UNANCHORED'
  /** Cannot be evaluated, so never passes. */
  | 'UNSUPPORTED'
  | 'DEPRECATED'
  /** Means something in a cluster that it cannot mean here. */
  | 'NOT_HERE'
  /** More is demanded than policy-controller would. */
  | 'STRICTER_HERE';

/** Where a document's refusals and notes go, by the path of the field. */
export type Checked = {
  readonly refuse: (path: Path, message: string) => void;
  readonly note: (path: Path, code: LintCode, message: string) => void;
};

/** `spec.authorities[0].key`, as the webhook writes it. */
export function fieldOf(path: Path): string {
  return path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index === 0 ? '' : '.'}${String(step)}`))
    .join('');
}

const fields = (paths: readonly Path[]): string => paths.map(fieldOf).sort().join(', ');

/** knative.dev/pkg/apis, field_error.go. */
export const sentence = {
  missing: (paths: readonly Path[]) => `missing field(s): ${fields(paths)}`,
  neither: (paths: readonly Path[]) => `expected exactly one, got neither: ${fields(paths)}`,
  both: (paths: readonly Path[]) => `expected exactly one, got both: ${fields(paths)}`,
  /** With what may stand there, or why it may not. */
  invalid: (value: string, path: Path, why: string) =>
    `invalid value: ${value.length > 100 ? `${value.slice(0, 100)}…` : value}: ${fieldOf(path)} (${why})`,
} as const;

const given = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

/** Keys that are at hand, or where they are instead; undefined where the reference was refused. */
export type Keys =
  | { readonly kind: 'keys'; readonly pem: readonly string[]; readonly hashAlgorithm: HashAlgorithm }
  | { readonly kind: 'elsewhere'; readonly path: Path; readonly why: string };

/** Refuses what the webhook refuses of a key reference; whether it can be used is another matter. */
export function keyRefProblems(key: KeyRef, path: Path, { refuse }: Checked): boolean {
  const { secretRef } = key;
  const [data, kms, hash] = [given(key.data), given(key.kms), given(key.hashAlgorithm)];
  let refused = false;
  const no = (at: Path, message: string) => {
    refused = true;
    refuse(at, message);
  };
  // The webhook's own spelling of secretRef.
  const ways = ['data', 'kms', 'secretref'].map((way) => [...path, way]);
  const count = [data, kms, secretRef].filter((way) => way !== undefined).length;
  if (count === 0) no(path, sentence.neither(ways));
  if (count > 1) no(path, sentence.both(ways));
  if (hash !== undefined && hashOf(hash) === undefined)
    no([...path, 'hashAlgorithm'], sentence.invalid(hash, [...path, 'hashAlgorithm'], HASH_ALGORITHMS.join(', ')));
  if (data !== undefined) {
    const fault = pemFault(data);
    // Never what stands there if it may be a secret.
    const shown = /PRIVATE/.test(data) ? 'a private key' : (data.split('\n', 1)[0] ?? '');
    if (fault !== undefined) no([...path, 'data'], sentence.invalid(shown, [...path, 'data'], fault));
  }
  if (kms !== undefined) {
    const fault = kmsFault(kms);
    if (fault !== undefined) no([...path, 'kms'], sentence.invalid(kms, [...path, 'kms'], fault));
  }
  return refused;
}

export function keysOf(key: KeyRef, path: Path, checked: Checked): Keys | undefined {
  if (keyRefProblems(key, path, checked)) return undefined;
  if (given(key.kms) !== undefined)
    return { kind: 'elsewhere', path: [...path, 'kms'], why: 'keys in a key service are not fetched here' };
  if (key.secretRef !== undefined)
    return { kind: 'elsewhere', path: [...path, 'secretRef'], why: 'secrets of a cluster are not here' };
  const pem = pemBlocks(key.data!);
  for (const block of pem)
    try {
      readKey(block);
    } catch (error) {
      if (!(error instanceof KeyError)) throw error;
      return { kind: 'elsewhere', path: [...path, 'data'], why: error.message };
    }
  if (pem.length > 1)
    checked.note(
      [...path, 'data'],
      'NOT_HERE',
      'policy-controller reads the first key and drops the others; here any of them may have signed, and each must have made an attestation',
    );
  return { kind: 'keys', pem, hashAlgorithm: hashOf(given(key.hashAlgorithm) ?? 'sha256')! };
}

const hashOf = (text: string): HashAlgorithm | undefined =>
  HASH_ALGORITHMS.find((name) => name === text.trim().toLowerCase());

const pemBlocks = (text: string): string[] => text.match(/-----BEGIN ([A-Z0-9 ]+)-----[^]*?-----END \1-----/g) ?? [];

/** cryptoutils.UnmarshalPEMToPublicKey, over every block. */
function pemFault(text: string): string | undefined {
  const blocks = pemBlocks(text);
  if (blocks.length === 0) return 'expected a public key in PEM';
  if (blocks.length > AUTHORITY_KEYS_MAX) return `more than ${AUTHORITY_KEYS_MAX} keys`;
  for (const block of blocks) {
    if (!/^-----BEGIN (?:RSA )?PUBLIC KEY-----/.test(block)) return 'expected PUBLIC KEY or RSA PUBLIC KEY';
    try {
      createPublicKey(block);
    } catch {
      return 'the public key cannot be read'; // the engine's own words may quote the key
    }
  }
  return undefined;
}

const UUID = '(?:mrk-?)?[A-Fa-f0-9]{8}-?[A-Fa-f0-9]{4}-?[A-Fa-f0-9]{4}-?[A-Fa-f0-9]{4}-?[A-Fa-f0-9]{12}';
const AWS = new RegExp(
  `^awskms://(?:[^/:]*:[0-9]+|\\[[^/\\]]*\\]:[0-9]+)?/arn:(?:aws|aws-us-gov|aws-cn):kms:[a-z0-9-]+:\\d{12}:(?:key/${UUID}|alias/.*)$`,
);

/** pkg/apis/policy/common/validation.go: of Amazon's, only the ARN of a key or an alias, with a host:port before it or none. */
function kmsFault(kms: string): string | undefined {
  if (!/^(?:awskms|azurekms|hashivault|gcpkms):\/\//.test(kms))
    return 'should be prefixed by any of the supported providers: awskms://, azurekms://, hashivault://, gcpkms://';
  if (kms.startsWith('awskms://') && !AWS.test(kms))
    return 'expected awskms://[HOST:PORT]/ARN, the ARN of a key or an alias';
  return undefined;
}

export function identityOfRef(identity: IdentityRef, path: Path, checked: Checked): Identity | undefined {
  const issuer = sideOf(identity, 'issuer', path, checked);
  const subject = sideOf(identity, 'subject', path, checked);
  return issuer === undefined || subject === undefined ? undefined : { issuer, subject };
}

function sideOf(
  identity: IdentityRef,
  side: 'issuer' | 'subject',
  path: Path,
  { refuse, note }: Checked,
): Pattern | undefined {
  const exact = given(identity[side]);
  const regExp = given(identity[`${side}RegExp`]);
  const both = [
    [...path, side],
    [...path, `${side}RegExp`],
  ];
  if (exact !== undefined && regExp !== undefined) refuse(path, sentence.both(both));
  if (exact === undefined && regExp === undefined) refuse(path, sentence.missing(both));
  if (regExp === undefined) return exact === undefined ? undefined : { exact };
  const at = [...path, `${side}RegExp`];
  return patternAt(regExp, at, { refuse, note });
}

/** A regular expression as Go has it; noted where it may match in the middle of a name. */
export function patternAt(regExp: string, at: Path, { refuse, note }: Checked): Pattern | undefined {
  try {
    compileRegExp(regExp);
  } catch (error) {
    // The engine's errors are of several classes, and name the part that is wrong.
    refuse(at, sentence.invalid(regExp, at, error instanceof Error ? error.message.slice(0, 200) : 'no RE2 syntax'));
    return undefined;
  }
  if (!isAnchored(regExp))
    note(
      at,
      'UNANCHORED',
      `${JSON.stringify(regExp.slice(0, 100))} may match anywhere in a name: whoever can choose what stands before or after it fits as well; write ^…$`,
    );
  return { regExp };
}

/** Whether every match of a regular expression is a whole text: `^` before and `$` after, binding all alternatives. */
export function isAnchored(regExp: string): boolean {
  const body = /^(?:\(\?[a-zA-Z]+\))?(?:\^|\\A)([^]*)$/.exec(regExp)?.[1];
  if (body === undefined) return false;
  let depth = 0;
  let inClass = false;
  let last = '';
  for (let at = 0; at < body.length; at++) {
    last = body[at]!;
    if (last === '\\') last += body[++at] ?? '';
    else if (inClass) inClass = last !== ']';
    else if (last === '[') {
      inClass = true;
      // A bracket that stands first in a class is itself.
      at += /^\^?\]/.exec(body.slice(at + 1, at + 3))?.[0].length ?? 0;
    } else if (last === '(') depth++;
    else if (last === ')') depth--;
    else if (last === '|' && depth === 0) return false;
  }
  return (last === '$' || last === '\\z') && depth === 0 && !inClass;
}

/** `host/path` of a repository in which signatures lie; undefined where it is none. */
export function ociRepository(text: string): string | undefined {
  try {
    const parsed = parseReference(`docker://${text}`);
    if (parsed.transport !== 'docker' || parsed.tag !== undefined || parsed.digest !== undefined) return undefined;
    return `${parsed.registry}/${parsed.repository}`;
  } catch (error) {
    if (!(error instanceof ImageReferenceError)) throw error;
    return undefined;
  }
}
