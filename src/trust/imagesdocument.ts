/**
 * Our own part of image policy, `format: bootproof.images/1` (docs/image-policy.md 5 to 8): images that no policy is about, the root that
 * is meant where none is named, conditions on attestations, and what is denied.
 */
import { z } from 'zod';
import { parseDigest, isDigest, type Digest } from '#src/digest.ts';
import { ConditionError } from '#src/document/expression.ts';
import { problemOf, record, word } from '#src/document/shape.ts';
import type { Place, Problem } from '#src/document/yaml.ts';
import { CONDITION_CHARS_MAX, DENY_ENTRIES_MAX, IDENTITY_CHARS_MAX, IMAGE_POLICY_LIST_MAX } from '#src/limits.ts';
import { patternAt, type Checked } from './cipvalidate.ts';
import type { DocumentAt } from './clusterimagepolicy.ts';
import { PREDICATE_TYPES } from './cipauthority.ts';
import { parseCondition, type Condition } from './conditions.ts';
import type { DenyEntry, Denied } from './deny.ts';
import type { Pattern } from './requirement.ts';

export const IMAGES_FORMAT = 'bootproof.images/1';

/** `unsigned`: like an image without a signature. `allow`: trusted, by nobody. `not-assessed`: nothing is said of it. */
export const NO_MATCH = ['unsigned', 'allow', 'not-assessed'] as const;
export type NoMatch = (typeof NO_MATCH)[number];

/** One condition, and for whom it is. */
export type PolicyCondition = {
  readonly id: string;
  /** Name of the ClusterImagePolicy. */
  readonly policy: string;
  /** Of its authority; undefined: all of them. */
  readonly authority: string | undefined;
  /** Undefined only beside `insteadOf`. */
  readonly predicateType: string | undefined;
  /** The attestation whose policy in another language this one stands for. */
  readonly insteadOf: string | undefined;
  readonly check: Condition | undefined;
  readonly reason: string;
  readonly field: string;
  readonly place: Place;
};

export type ImagesDocument = {
  readonly noMatch: NoMatch | undefined;
  readonly defaultTrustRoot: string | undefined;
  readonly conditions: readonly PolicyCondition[];
  readonly deny: readonly DenyEntry[];
  readonly place: Place & { readonly file: string };
};

const Sentence = z.string('expected a sentence').trim().min(1, 'expected a sentence').max(1000);
const Name = z.string('expected a name').min(1, 'expected a name').max(253);
const Moment = z.iso
  .datetime({ offset: true, error: 'expected a time with its zone, as in 2026-11-01T00:00:00Z' })
  .transform((text) => Date.parse(text));
const Fingerprint = z
  .string('expected sha256:<64 hex digits>')
  .refine(isDigest, 'expected sha256:<64 lower-case hex digits>')
  .transform((text): Digest => parseDigest(text));
const Name2048 = z.string('expected text').min(1, 'expected text').max(IDENTITY_CHARS_MAX);

const ConditionDocument = record({
  id: z
    .string('expected a name')
    .regex(/^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/, 'expected lower-case words joined by -, as in built-by-ci')
    .max(64),
  policy: Name,
  authority: Name.optional(),
  predicateType: Name2048.optional(),
  insteadOf: Name.optional(),
  condition: z
    .string('expected an expression')
    .max(CONDITION_CHARS_MAX * 2)
    .optional(),
  reason: Sentence,
});

const WAYS = ['image', 'key', 'identity', 'certificate', 'logEntry'] as const;
const DenyDocument = record({
  image: Fingerprint.optional(),
  key: Fingerprint.optional(),
  identity: record({
    issuer: Name2048.optional(),
    issuerRegExp: Name2048.optional(),
    subject: Name2048.optional(),
    subjectRegExp: Name2048.optional(),
  }).optional(),
  certificate: z
    .string('a serial must be quoted: without quotes YAML may read a number')
    .regex(/^[0-9a-fA-F]+(?::[0-9a-fA-F]{2})*$/, 'expected the serial in hex')
    .max(128)
    .optional(),
  logEntry: record({
    log: z.string('expected the id of the log').regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hex digits'),
    index: z
      .union([z.int().min(0), z.string().regex(/^(?:0|[1-9][0-9]{0,18})$/)], 'expected the index of the entry')
      .transform(String),
  }).optional(),
  from: Moment.optional(),
  reason: Sentence,
});

const ImagesDocumentShape = record({
  format: z.literal(IMAGES_FORMAT, `expected ${IMAGES_FORMAT}`),
  noMatch: word(NO_MATCH).optional(),
  defaultTrustRoot: Name.optional(),
  conditions: z.array(ConditionDocument, 'expected a list').max(IMAGE_POLICY_LIST_MAX).optional(),
  deny: z.array(DenyDocument, 'expected a list').max(DENY_ENTRIES_MAX).optional(),
});

/** Refusals are added to `problems`, in which case nothing is returned. */
export function readImagesDocument(
  { yaml, at, value, file }: DocumentAt,
  problems: Problem[],
): ImagesDocument | undefined {
  const before = problems.length;
  const parsed = ImagesDocumentShape.safeParse(value, { reportInput: true });
  if (!parsed.success) {
    problems.push(...parsed.error.issues.map((issue) => problemOf({ ...issue, path: [...at, ...issue.path] }, yaml)));
    return undefined;
  }
  const place = (path: readonly PropertyKey[]): Place => yaml.placeOf([...at, ...path]);
  const refuse = (path: readonly PropertyKey[], message: string) => problems.push({ ...place(path), message });
  const { noMatch, defaultTrustRoot, conditions = [], deny = [] } = parsed.data;
  const ids = new Set<string>();
  const read = conditions.map(({ id, policy, authority, predicateType, insteadOf, condition, reason }, index) => {
    const path = ['conditions', index];
    if (ids.has(id)) refuse([...path, 'id'], `the id ${id} is taken`);
    ids.add(id);
    if (predicateType === undefined && insteadOf === undefined)
      refuse(path, 'predicateType is missing: of which attestation, or insteadOf which one of the policy?');
    if (condition === undefined && insteadOf !== undefined)
      refuse(path, 'condition is missing: what must hold instead?');
    return {
      id,
      policy,
      authority,
      predicateType: predicateType === undefined ? undefined : (PREDICATE_TYPES.get(predicateType) ?? predicateType),
      insteadOf,
      check:
        condition === undefined
          ? undefined
          : conditionOf(condition, (message) => refuse([...path, 'condition'], message)),
      reason,
      field: `conditions[${index}]`,
      place: place(path),
    };
  });
  const denied = deny.flatMap((entry, index): DenyEntry[] => {
    const path = ['deny', index];
    const ways = WAYS.filter((way) => entry[way] !== undefined);
    if (ways.length !== 1) {
      refuse(path, `expected exactly one of ${WAYS.join(', ')}${ways.length === 0 ? '' : `; got ${ways.join(', ')}`}`);
      return [];
    }
    const what = deniedOf(entry, [...path, 'identity'], { refuse, note: () => {} });
    return what === undefined ? [] : [{ ...what, from: entry.from, reason: entry.reason }];
  });
  if (problems.length > before) return undefined;
  return { noMatch, defaultTrustRoot, conditions: read, deny: denied, place: { ...place([]), file } };
}

function conditionOf(source: string, refuse: (message: string) => void): Condition | undefined {
  try {
    return parseCondition(source);
  } catch (error) {
    if (!(error instanceof ConditionError)) throw error;
    refuse(error.message.startsWith('at ') ? `in the expression, ${error.message}` : error.message);
    return undefined;
  }
}

function deniedOf(
  entry: z.infer<typeof DenyDocument>,
  path: readonly PropertyKey[],
  checked: Checked,
): Denied | undefined {
  const { image, key, identity, certificate, logEntry } = entry;
  if (image !== undefined) return { what: 'image', digest: image };
  if (key !== undefined) return { what: 'key', fingerprint: key };
  if (certificate !== undefined) return { what: 'certificate', serial: serialOf(certificate) };
  if (logEntry !== undefined) return { what: 'log-entry', logId: logEntry.log, logIndex: logEntry.index };
  if (Object.values(identity!).every((text) => text === undefined)) {
    checked.refuse(path, 'an identity has an issuer, a subject, or both (or issuerRegExp, subjectRegExp)');
    return undefined;
  }
  const issuer = sideOf(identity!, 'issuer', path, checked);
  const subject = sideOf(identity!, 'subject', path, checked);
  return issuer === undefined || subject === undefined ? undefined : { what: 'identity', issuer, subject };
}

/** What is not said is any: more is denied, never less. */
function sideOf(
  identity: NonNullable<z.infer<typeof DenyDocument>['identity']>,
  side: 'issuer' | 'subject',
  path: readonly PropertyKey[],
  checked: Checked,
): Pattern | undefined {
  const exact = identity[side];
  const regExp = identity[`${side}RegExp`];
  if (exact !== undefined && regExp !== undefined) {
    checked.refuse(path, `${side} and ${side}RegExp: one of them`);
    return undefined;
  }
  if (exact !== undefined) return { exact };
  return patternAt(regExp ?? '', [...path, `${side}RegExp`], checked);
}

/** As certificates have it: whole bytes, none of them a leading zero. */
function serialOf(text: string): string {
  const hex = text.replaceAll(':', '').toLowerCase();
  const even = hex.length % 2 === 0 ? hex : `0${hex}`;
  return even.replace(/^(?:00)+(?=.)/, '');
}
