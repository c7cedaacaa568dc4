/**
 * What a signature is made over: simple signing payloads and in-toto statements, in the strict reading (docs/trust.md 2.4, 2.5).
 * containers/image refuses unknown fields of a payload, cosign does not; we do.
 */
import { isDigest } from '#src/digest.ts';
import { SIMPLE_SIGNING_BYTES_MAX, STATEMENT_BYTES_MAX, SUBJECT_DIGESTS_MAX, SUBJECTS_MAX } from '#src/limits.ts';
import { TrustError, type SimpleSigning, type Statement, type SubjectDigest } from './material.ts';
import { isObject, quote, refuseFolded, strictObject, type JsonObject } from './strictjson.ts';

/** DSSE payload type of every statement; another type is another language. */
export const INTOTO_PAYLOAD = 'application/vnd.in-toto+json';

/** What `cosign sign` states since version 3. Any other predicate is an attestation, never the signature of an image. */
export const COSIGN_SIGN = 'https://sigstore.dev/cosign/sign/v1';

const SIMPLE_TYPE = 'cosign container image signature';
const STATEMENT_TYPES = new Set(['https://in-toto.io/Statement/v0.1', 'https://in-toto.io/Statement/v1']);

/** @throws {TrustError} MALFORMED, TOO_MANY */
export function readSimpleSigning(payload: Uint8Array): SimpleSigning {
  const what = 'the simple signing payload';
  if (payload.length > SIMPLE_SIGNING_BYTES_MAX)
    throw new TrustError('TOO_MANY', `${what} has ${payload.length} bytes; at most ${SIMPLE_SIGNING_BYTES_MAX}`);
  const json = strictObject(payload, what);
  only(json, ['critical', 'optional'], what);
  const critical = part(json, 'critical', what);
  only(critical, ['identity', 'image', 'type'], `${what}: critical`);
  const identity = part(critical, 'identity', `${what}: critical`);
  only(identity, ['docker-reference'], `${what}: critical.identity`);
  const image = part(critical, 'image', `${what}: critical`);
  only(image, ['docker-manifest-digest'], `${what}: critical.image`);
  const type = text(critical, 'type', what);
  if (type !== SIMPLE_TYPE)
    throw new TrustError('MALFORMED', `${what} is of type ${quote(type)}, not ${quote(SIMPLE_TYPE)}`);
  const digest = text(image, 'docker-manifest-digest', what);
  if (!isDigest(digest)) throw new TrustError('MALFORMED', `${what} names ${quote(digest)}, which is no sha256 digest`);
  const dockerReference = text(identity, 'docker-reference', what);
  const optional = json['optional'];
  if (optional !== undefined && optional !== null && !isObject(optional))
    throw new TrustError('MALFORMED', `${what}: optional is neither an object nor null`);
  const { creator, timestamp } = optional ?? {};
  if (creator !== undefined && typeof creator !== 'string')
    throw new TrustError('MALFORMED', `${what}: optional.creator is no text`);
  if (timestamp !== undefined && !Number.isInteger(timestamp))
    throw new TrustError('MALFORMED', `${what}: optional.timestamp is no whole number`);
  return { digest, dockerReference, optional: new Map(Object.entries(optional ?? {})) };
}

/** @throws {TrustError} MALFORMED, TOO_MANY */
export function readStatement(payloadType: string, payload: Uint8Array): Statement {
  const what = 'the statement';
  if (payloadType !== INTOTO_PAYLOAD)
    throw new TrustError('MALFORMED', `an envelope of type ${quote(payloadType)}, not ${INTOTO_PAYLOAD}`);
  if (payload.length > STATEMENT_BYTES_MAX)
    throw new TrustError('TOO_MANY', `${what} has ${payload.length} bytes; at most ${STATEMENT_BYTES_MAX}`);
  const json = strictObject(payload, what);
  refuseFolded(json, ['_type', 'subject', 'predicateType', 'predicate'], what);
  const type = text(json, '_type', what);
  if (!STATEMENT_TYPES.has(type))
    throw new TrustError('MALFORMED', `${what} is of type ${quote(type)}, not in-toto Statement v0.1 or v1`);
  const predicateType = text(json, 'predicateType', what);
  if (predicateType === '') throw new TrustError('MALFORMED', `${what} has no predicateType`);
  const { subject } = json;
  // `every` over an empty list is true: an empty one says nothing of any image (CVE-2025-25204).
  if (!Array.isArray(subject) || subject.length === 0)
    throw new TrustError('MALFORMED', `${what} has no list of subjects`);
  if (subject.length > SUBJECTS_MAX)
    throw new TrustError('TOO_MANY', `${what} has ${subject.length} subjects; at most ${SUBJECTS_MAX}`);
  return { subjects: subject.map((entry) => readSubject(entry, what)), predicateType, json };
}

function readSubject(entry: unknown, what: string): readonly SubjectDigest[] {
  if (!isObject(entry)) throw new TrustError('MALFORMED', `${what} has a subject that is no object`);
  refuseFolded(entry, ['name', 'digest'], `${what}: a subject`);
  const digest = part(entry, 'digest', `${what}: a subject`);
  const all = Object.entries(digest);
  if (all.length > SUBJECT_DIGESTS_MAX)
    throw new TrustError('TOO_MANY', `${what}: a subject has ${all.length} digests; at most ${SUBJECT_DIGESTS_MAX}`);
  return all.map(([algorithm, hex]) => {
    if (typeof hex !== 'string') throw new TrustError('MALFORMED', `${what}: a subject's digest is no text`);
    return { algorithm, hex };
  });
}

function only(json: JsonObject, names: readonly string[], what: string): void {
  const other = Object.keys(json).find((name) => !names.includes(name));
  if (other !== undefined) throw new TrustError('MALFORMED', `${what} has an unknown field ${quote(other)}`);
}

function part(json: JsonObject, name: string, what: string): JsonObject {
  const value = Object.hasOwn(json, name) ? json[name] : undefined;
  if (!isObject(value)) throw new TrustError('MALFORMED', `${what}: ${name} is no object`);
  return value;
}

function text(json: JsonObject, name: string, what: string): string {
  const value = Object.hasOwn(json, name) ? json[name] : undefined;
  if (typeof value !== 'string') throw new TrustError('MALFORMED', `${what}: ${name} is no text`);
  return value;
}
