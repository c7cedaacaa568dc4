/**
 * What an evidence bundle says was so in its period (docs/evidence.md 3): the schema of each line of its members. Results of controls, OSCAL, CSV
 * and the report are functions of these and nothing else, so that whoever has the bundle can compute them again.
 */
import { z } from 'zod';
import { parseInstant } from '#src/clock.ts';
import { DigestJson } from '#src/manifest/json.ts';
import { VERDICTS } from '#src/finding/verdict.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { HostId } from '#src/wire/hostid.ts';

export const Time = z
  .string()
  .refine((text) => parseInstant(text) !== undefined, 'expected RFC 3339 in UTC with milliseconds');
const Count = z.int().min(0);
const Text = z.string().max(8192);
const Word = z.string().regex(/^[a-z][a-z0-9-]{0,39}$/);
const Index = Count;
const key = /^[0-9a-f]{64}$/;

/** A stretch of time; `to` is the first moment after it. */
const Span = { from: Time, to: Time };

/** A host that was in scope for part of the period, or, of those that were not, the id alone. */
export const HostFact = z.discriminatedUnion('inScope', [
  z.strictObject({ host: HostId, inScope: z.literal(false) }),
  z.strictObject({
    host: HostId,
    inScope: z.literal(true),
    name: Text,
    group: Text.nullable(),
    labels: z.array(z.strictObject({ key: Text, value: Text })).max(1000),
    /** The host's public key, as its enrolment has it. */
    key: z.string().regex(key),
    /** Index of the entry of its enrolment; null where it was enrolled before there was a log. */
    enrolment: Index.nullable(),
    enrolledAt: Time,
    retiredAt: Time.nullable(),
    /** The time between reports that policy asked for, at the end of the period. */
    intervalSeconds: Count.min(1),
    checkIns: z.strictObject({
      /** Whole intervals (`intervalSeconds`) in the part of the period in which the host was enrolled, up to the export. */
      expected: Count,
      received: Count,
      /** The longest time without one, seconds; from the period's begin or enrolment to its end or retirement. */
      longestSeconds: Count,
    }),
    /** Times without a check-in that were longer than policy allows, oldest first; `why` as people said it, null where nobody did. */
    gaps: z.array(z.strictObject({ ...Span, why: Text.nullable() })).max(10_000),
    /** How it stood at the end of the period. */
    standing: z.strictObject({
      verdict: z.enum(VERDICTS),
      integrity: Word,
      provenance: Word,
      freshness: Word,
      /** Differences that policy allows, null where it was judged again since: only the last judgement is kept whole. And findings that are waived. */
      allowed: Count.nullable(),
      waived: Count,
    }),
    /** What it booted in the period, oldest first; the first may have begun before. `rule` and `enforced` as far as known. */
    deployments: z
      .array(
        z.strictObject({
          image: Text,
          rule: Text.nullable(),
          /** Whether the host itself refuses unsigned images, as it says. */
          enforced: z.boolean().nullable(),
          from: Time,
          to: Time.nullable(),
        }),
      )
      .max(10_000),
    staged: Text.nullable(),
    rollback: Text.nullable(),
  }),
]);
export type HostFact = Readonly<z.infer<typeof HostFact>>;
export type HostInScope = Extract<HostFact, { readonly inScope: true }>;

/** An image that a host in scope booted. */
export const ImageFact = z.strictObject({
  image: Text,
  /** Under which names it is known. */
  names: z.array(Text).max(1000),
  builtAt: Time.nullable(),
  trust: z.strictObject({
    state: z.enum(['trusted', 'unsigned', 'rejected', 'unverifiable', 'not-assessed']),
    /** By whom and under which policies, or why not. */
    by: Text.nullable(),
    policy: Text.nullable(),
    why: Text.nullable(),
    since: Time.nullable(),
    verifiedAt: Time.nullable(),
  }),
  /** Members of the bundle: `signatures/…`, `trust-roots/…`. */
  signatures: z.array(z.string().max(200)).max(1000),
  /** The signed headers of its file manifests: digests of their envelopes. */
  manifests: z.array(DigestJson).max(64),
});
export type ImageFact = Readonly<z.infer<typeof ImageFact>>;

export const TRANSITIONS = ['new', 'regressed', 'returned', 'resolved', 'acknowledged', 'waived'] as const;

/** A finding of a host in scope that was open at some time of the period. */
export const FindingFact = z.strictObject({
  host: HostId,
  /** Its identity on all hosts, `fg_…`. */
  group: z.string().max(64),
  rule: Text,
  kind: Word,
  subject: Text,
  severity: z.enum(SEVERITIES),
  /** `framework:control`, as the policy rule names them. */
  controls: z.array(z.string().max(100)).max(100),
  firstSeen: Time,
  /** Open at the end of the period, and what people had decided then. */
  open: z.boolean(),
  disposition: z.enum(['none', 'acknowledged', 'waived']),
  waiver: z.string().max(40).nullable(),
  /** When a person first acknowledged or waived it, or it resolved: what a limit for answers is held against. */
  answeredAt: Time.nullable(),
  /** Oldest first; `index`: of the judgement in the log, null where that is older than the log. */
  history: z
    .array(
      z.strictObject({
        index: Index.nullable(),
        at: Time,
        transition: z.enum(TRANSITIONS),
        episode: Count,
        severity: Count,
        why: Text.nullable(),
      }),
    )
    .max(100_000),
});
export type FindingFact = Readonly<z.infer<typeof FindingFact>>;

/** A waiver or an acknowledgement that was decided, or in force, in the period. */
export const DecisionFact = z.strictObject({
  /** `W-17`; of an acknowledgement the group's id and scope. */
  id: z.string().max(400),
  kind: z.enum(['waiver', 'acknowledgement']),
  state: Word,
  title: Text,
  justification: Text,
  ticket: Text.nullable(),
  /** What it covers, in words; a waiver's selector as JSON. */
  covers: Text,
  requestedBy: Text,
  requestedAt: Time,
  decidedBy: Text.nullable(),
  decidedAt: Time.nullable(),
  /** One person asked and decided. */
  alone: z.boolean(),
  startsAt: Time.nullable(),
  endsAt: Time.nullable(),
  /** Every act about it, oldest first; `index`: of the act in the log. */
  history: z
    .array(
      z.strictObject({
        index: Index.nullable(),
        at: Time,
        actor: Text,
        action: z.string().max(200),
        note: Text.nullable(),
      }),
    )
    .max(10_000),
});
export type DecisionFact = Readonly<z.infer<typeof DecisionFact>>;

/** A policy version that was in force in the period: which member holds each of its documents. */
export const PolicyFact = z.strictObject({
  kind: z.enum(['host', 'image', 'controls']),
  version: Count,
  /** Of what it means (docs/policy.md 8). */
  digest: DigestJson,
  name: Text,
  documents: z.array(z.strictObject({ file: Text, member: z.string().max(200), digest: DigestJson })).max(100),
  inForce: z.strictObject({ from: Time, to: Time.nullable() }),
  by: Text,
  note: Text.nullable(),
  /** Of its act in the log. */
  index: Index.nullable(),
});
export type PolicyFact = Readonly<z.infer<typeof PolicyFact>>;

/** Hosts that somebody else's list has and we have not, and the other way round. */
export const ReconciliationFact = z.strictObject({
  source: Text,
  at: Time,
  /** Index of its act in the log. */
  index: Index.nullable(),
  theirs: Count,
  ours: Count,
  onlyTheirs: z.array(Text).max(1_000_000),
  onlyOurs: z.array(z.strictObject({ host: HostId, name: Text })).max(1_000_000),
});
export type ReconciliationFact = Readonly<z.infer<typeof ReconciliationFact>>;

export const LEVELS = [0, 1, 2] as const;

/** What the whole bundle is about: part of the signed statement. */
export const BundleHead = z.strictObject({
  server: z.strictObject({ version: z.string().max(64), name: Text }),
  exportedAt: Time,
  exportedBy: Text,
  period: z.strictObject(Span),
  /** `all`: every host; else what was asked for, in words and as the filter line. */
  selection: z.discriminatedUnion('hosts', [
    z.strictObject({ hosts: z.literal('all') }),
    z.strictObject({ hosts: z.literal('part'), filter: Text }),
  ]),
  /** The frameworks whose controls are in it. */
  frameworks: z.array(z.string().max(40)).max(20),
  /** What results were computed with. */
  parameters: z.strictObject({
    /** A host that reported less than this share of what was expected is below the completeness limit, 0 to 1. */
    completenessMin: z.number().min(0).max(1),
    /** Hours within which a finding is answered: acknowledged, waived or resolved. */
    answerHours: z.number().min(0),
  }),
  log: z.strictObject({
    origin: z.string().max(256),
    /** The log's verifier key, `name+id+base64`. */
    key: z.string().max(600),
    size: Count,
    root: z.string().max(44),
    /** First entry that the bundle holds; all from there to the checkpoint's size. Equal to the size: it holds single ones, each with its proof. */
    from: Count,
    /** Guarantee level of the server's own doing (docs/log.md 1); checkpoints that hosts kept raise it to 1 when they are handed in. */
    level: z.literal(LEVELS),
  }),
  /** Messages about findings that left, and those that never arrived, within the period; null in a bundle of a part: they are of the fleet. */
  notices: z.strictObject({ delivered: Count, failed: Count }).nullable(),
  sampling: z
    .strictObject({ method: z.literal('sha256-order/1'), seed: z.string().min(1).max(200), size: Count })
    .nullable(),
});
export type BundleHead = Readonly<z.infer<typeof BundleHead>>;

/** Everything that results are computed from. Each call reads from the beginning; lines come in the order of the members (docs/evidence.md 3). */
export type Facts = {
  readonly head: BundleHead;
  hosts(): AsyncIterable<HostFact>;
  images(): AsyncIterable<ImageFact>;
  findings(): AsyncIterable<FindingFact>;
  decisions(): AsyncIterable<DecisionFact>;
  policies(): AsyncIterable<PolicyFact>;
  reconciliations(): AsyncIterable<ReconciliationFact>;
  /** What the log itself came to: whether it holds from the first entry of the bundle to the checkpoint, as the reader found it. */
  readonly logHolds: boolean;
};

async function* each<T>(lines: readonly T[]): AsyncIterable<T> {
  yield* lines;
}

/** Facts that lie in memory. */
export function factsOf(parts: {
  readonly head: BundleHead;
  readonly hosts?: readonly HostFact[];
  readonly images?: readonly ImageFact[];
  readonly findings?: readonly FindingFact[];
  readonly decisions?: readonly DecisionFact[];
  readonly policies?: readonly PolicyFact[];
  readonly reconciliations?: readonly ReconciliationFact[];
  readonly logHolds?: boolean;
}): Facts {
  const { head, hosts = [], images = [], findings = [], decisions = [], policies = [], reconciliations = [] } = parts;
  return {
    head,
    hosts: () => each(hosts),
    images: () => each(images),
    findings: () => each(findings),
    decisions: () => each(decisions),
    policies: () => each(policies),
    reconciliations: () => each(reconciliations),
    logHolds: parts.logHolds ?? true,
  };
}
