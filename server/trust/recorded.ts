/**
 * What was found for an image, as a file: signatures with their bytes, where was looked, and what did not answer (docs/image-policy.md 11). A
 * policy held against it needs no network; the signatures themselves are verified anew each time.
 */
import { z } from 'zod';
import { fromBase64, toBase64 } from '#src/bytes.ts';
import { formatInstant, type Instant } from '#src/clock.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { RECORDED_CASE_BYTES_MAX } from '#src/limits.ts';
import { readKept, type Looked } from '#src/source/signatures.ts';
import { hostPolicy } from '#src/trust/hostpolicy.ts';
import { isMaterial, type SignedEntity, type TrustCode } from '#src/trust/material.ts';
import { assess, type Assessed, type Circumstances } from './assess.ts';
import type { LookPlace, LookResult } from './look.ts';
import { elsewhere } from './places.ts';
import type { TrustSetup } from './setup.ts';

export const CASE_FORMAT = 'bootproof.image-case/1';

/** CASE_SYNTAX: not such a file. CASE_LIMIT: larger than all that is read of one image. */
export class RecordedCaseError extends BootproofError<'CASE_SYNTAX' | 'CASE_LIMIT'> {}

export type RecordedCase = {
  readonly image: Digest;
  readonly recordedAt: Instant;
  /** Names under which it was known, `host/path`. */
  readonly references: readonly string[];
  /** Where was looked; another policy may name other places. */
  readonly places: readonly Pick<LookPlace, 'pattern' | 'tagPrefix'>[];
  readonly found: LookResult;
};

const Bytes = z.string().transform((text, context) => {
  try {
    return fromBase64(text);
  } catch {
    context.addIssue('expected base64');
    return z.NEVER;
  }
});
const DigestText = z.string().refine(isDigest, 'expected sha256:<64 lower-case hex digits>');
const Absent = z.null().transform(() => undefined);
const Text = z.string().max(4096);

const Case = z.strictObject({
  format: z.literal(CASE_FORMAT),
  image: DigestText,
  recordedAt: z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
  references: z.array(Text),
  places: z.array(z.strictObject({ pattern: Text, tagPrefix: Text.or(Absent) })),
  complete: z.boolean(),
  isIndex: z.boolean(),
  own: z.array(Text),
  manifest: Bytes.or(Absent),
  indexes: z.array(Bytes),
  looked: z.array(
    z.strictObject({
      where: Text,
      of: DigestText,
      outcome: z.enum(['found', 'nothing', 'not-supported', 'too-many', 'malformed', 'unreadable']),
      count: z.int().min(0),
      code: Text.or(Absent),
      reason: Text.or(Absent),
    }),
  ),
  signatures: z.array(
    z.strictObject({
      format: z.enum(['cosign-signature', 'cosign-attestation', 'cosign-oci11', 'bundle']),
      place: z.strictObject({
        source: Text,
        by: z.enum(['tag', 'referrer', 'referrers-tag', 'layout', 'file']),
        tag: Text.or(Absent),
        of: DigestText.or(Absent),
        manifest: DigestText.or(Absent),
        layer: z.int().min(0),
      }),
      manifest: Bytes.or(Absent),
      blob: Bytes,
      /** What could not be had or read when it was recorded, and why. */
      failed: z.strictObject({ code: Text, reason: Text }).nullable(),
    }),
  ),
});

/** The file's text. */
export function recordCase({ image, recordedAt, references, places, found }: RecordedCase): string {
  const base64 = (bytes: Uint8Array | undefined) => (bytes === undefined ? null : toBase64(bytes));
  const orNull = <T>(value: T | undefined): T | null => value ?? null;
  const text: z.input<typeof Case> = {
    format: CASE_FORMAT,
    image,
    recordedAt: formatInstant(recordedAt),
    references: [...references],
    places: places.map(({ pattern, tagPrefix }) => ({ pattern, tagPrefix: orNull(tagPrefix) })),
    complete: found.complete,
    isIndex: found.isIndex,
    own: [...found.own],
    manifest: base64(found.manifest),
    indexes: found.indexes.map(toBase64),
    looked: found.looked.map(({ where, of, outcome, count, code, reason }) => ({
      where,
      of,
      outcome,
      count,
      code: orNull(code),
      reason: orNull(reason),
    })),
    signatures: found.found.map(({ format, place, raw, content }) => ({
      format,
      place: {
        source: place.source,
        by: place.by,
        tag: orNull(place.tag),
        of: orNull(place.of),
        manifest: orNull(place.manifest),
        layer: place.layer,
      },
      manifest: base64(raw.manifest),
      blob: toBase64(raw.blob),
      failed: isMaterial(content) ? null : { code: content.code, reason: content.message },
    })),
  };
  return `${JSON.stringify(text, undefined, 2)}\n`;
}

/** @throws {RecordedCaseError} */
export function readCase(bytes: Uint8Array, file: string): RecordedCase {
  const refuse = (message: string) => new RecordedCaseError('CASE_SYNTAX', `${file} is no recorded case: ${message}`);
  if (bytes.length > RECORDED_CASE_BYTES_MAX)
    throw new RecordedCaseError(
      'CASE_LIMIT',
      `${file} has ${bytes.length} bytes; at most ${RECORDED_CASE_BYTES_MAX} are read`,
    );
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw refuse('it is not JSON');
  }
  const parsed = Case.safeParse(json);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    throw refuse(`${path.join('.') || 'the whole'}: ${message}; 'bootproof image verify --record FILE' makes one`);
  }
  const { image, recordedAt, references, places, signatures, complete, isIndex, own, manifest, indexes, looked } =
    parsed.data;
  const found = signatures.map(({ format, place, manifest: carrier, blob, failed }): SignedEntity => {
    const entity = { format, place, raw: { manifest: carrier, blob } };
    // A record can only take away: what it calls unreadable is, and the rest is read and verified from its bytes.
    return failed === null
      ? readKept(entity)
      : { ...entity, content: { kind: 'failed', code: failed.code as TrustCode, message: failed.reason } };
  });
  return {
    image,
    recordedAt,
    references,
    places,
    found: {
      found,
      looked,
      complete,
      isIndex,
      own,
      manifest,
      indexes,
      hostReadable: hostPolicy(
        found,
        { digest: image, isIndex },
        ({ source, by }) => own.includes(source) && (by === 'tag' || by === 'layout'),
      ),
    },
  };
}

/** What was recorded. Where the policy names places that nobody looked in then, what is missing may be there. */
export function foundIn(recorded: RecordedCase, references: readonly string[], setup: TrustSetup): LookResult {
  const { image, found, places } = recorded;
  const asked = elsewhere(references, image, setup).filter(
    ({ repository, tagPrefix }) =>
      !places.some(
        (place) =>
          place.tagPrefix === tagPrefix && (repository === undefined || place.pattern === `docker://${repository}`),
      ),
  );
  const missing = asked.map(({ repository, tagPrefix }): Looked => ({
    where: repository === undefined ? `tags ${tagPrefix}…` : `docker://${repository}`,
    of: image,
    outcome: 'unreadable',
    count: 0,
    code: 'NOT_RECORDED',
    reason: 'the policy names this place, and the case was recorded without looking there',
  }));
  return { ...found, looked: [...missing, ...found.looked], complete: found.complete && missing.length === 0 };
}

/** The image judged by what was recorded of it, without a network; `references`: under other names than those of the record. */
export function assessRecorded(
  recorded: RecordedCase,
  about: Omit<Circumstances, 'terms'>,
  references = recorded.references,
): Promise<Assessed> {
  const subject = {
    image: recorded.image,
    references,
    places: null,
    closed: [],
    pulledAs: [],
    kept: [],
    indexes: [],
    before: { looked: [], hostPolicy: null, complete: false },
  };
  return assess(
    subject,
    { ...about, terms: { env: {}, caFiles: [], authFile: undefined } },
    new AbortController().signal,
    () => Promise.resolve(foundIn(recorded, references, about.setup)),
  );
}
