/** What passes between the store and whoever asks how things stood at a moment (docs/posture.md): rows of the log and of what it tells of. */
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import type { Waiver } from '#src/finding/waiver.ts';
import type { Judged } from './logpayload.ts';
import type { AuditEntry, ChallengeClass, FindingGroup, Page } from './records.ts';
import type { PageRequest } from './store.ts';

/** A place in the log. */
export type LogPlace = { readonly log: number; readonly index: number; readonly at: Instant };

/** A judgement as it was logged. */
export type JudgedEntry = LogPlace & {
  /** What the entry itself says of the verdict as told: it stays where the payload is purged. */
  readonly told: { readonly from: string; readonly to: string } | null;
  /** Null where it was purged. */
  readonly judged: Judged | null;
};

/** A report as it was logged, and how it was taken; `kept` null where it is not kept any more. */
export type ReportEntry = LogPlace & {
  readonly seq: number;
  readonly report: 'full' | 'same';
  readonly kept: { readonly kind: string; readonly class: ChallengeClass; readonly startedAt: Instant } | null;
};

/** A report that did not come live: it says when it was made. */
export type LateReport = {
  readonly seq: number;
  readonly kind: string;
  readonly startedAt: Instant;
  readonly receivedAt: Instant;
};

export type EpisodeSpan = {
  readonly groupId: string;
  readonly n: number;
  readonly openedAt: Instant;
  readonly openedSeq: number | null;
  readonly closedAt: Instant | null;
  readonly closedSeq: number | null;
  /** Why it ended. */
  readonly reason: string | null;
};

/** A policy version without its documents. */
export type PolicyThen = {
  readonly n: number;
  readonly digest: Digest;
  readonly name: string;
  readonly createdAt: Instant;
};

/** A host that ran an image, with the first and the last of its stays that reach into the period. */
export type HostOnImage = {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly group: string | null;
  readonly stays: readonly {
    readonly from: Instant;
    /** Number of the first report of it; null where that is not known. */
    readonly seq: number | null;
    /** When it was last heard before it ran another; null while it runs this one. */
    readonly to: Instant | null;
  }[];
  /** When anything was last heard of the host; null where nothing ever was. */
  readonly heardAt: Instant | null;
};

export interface Postures {
  /** Judgements of a host by the server's time, from `from` to `to`, both included, newest or oldest first. */
  judged(
    hostId: string,
    range: { readonly from: Instant; readonly to: Instant },
    order: 'newest' | 'oldest',
    limit: number,
  ): Promise<readonly JudgedEntry[]>;
  /** Those that were logged at one of these moments. */
  judgedAt(hostId: string, times: readonly Instant[]): Promise<readonly JudgedEntry[]>;
  /** Reports by when they came, likewise; forks are left out. */
  reports(
    hostId: string,
    range: { readonly from: Instant; readonly to: Instant },
    order: 'newest' | 'oldest',
    limit: number,
  ): Promise<readonly ReportEntry[]>;
  /** The first kept full report of a higher number that moved the chain on, whether or not the log has a place for it yet. */
  nextFull(hostId: string, after: number): Promise<{ readonly seq: number; readonly at: Instant } | undefined>;
  /** Reports that did not come live and say that they were begun by `madeBy`, newest first. */
  late(hostId: string, madeBy: Instant, limit: number): Promise<readonly LateReport[]>;
  /** Episodes of a host's findings that began by `openedBy` and were not over before `endedFrom`, at most `limit`. */
  episodes(
    hostId: string,
    about: { readonly openedBy: Instant; readonly endedFrom: Instant },
    limit: number,
  ): Promise<readonly EpisodeSpan[]>;
  /** What findings of these groups are about. */
  groups(
    ids: readonly string[],
  ): Promise<
    ReadonlyMap<string, Pick<FindingGroup, 'id' | 'rule' | 'kind' | 'subject'> & { readonly signature: string }>
  >;
  /** Acts about an object up to a moment, newest first. */
  acts(object: string, until: Instant, limit: number): Promise<readonly AuditEntry[]>;
  /** The first acts about an object after a moment that are one of these, oldest first. */
  nextActs(object: string, after: Instant, actions: readonly string[], limit: number): Promise<readonly AuditEntry[]>;
  /** Where what was logged under references (logpayload.ts) stands; what has no place yet is left out. */
  places(refs: readonly string[]): Promise<ReadonlyMap<string, LogPlace>>;
  /** The version that judged at a moment; undefined before the first. */
  policyAt(at: Instant): Promise<PolicyThen | undefined>;
  /**
   * Waivers that may have been in effect in a period, newest first, as they stand now: every one that was is among them, whenever it was
   * revoked or extended.
   */
  waiversIn(
    period: { readonly from: Instant; readonly to: Instant },
    page: PageRequest<{ readonly n: number }>,
  ): Promise<Page<Waiver, { readonly n: number }>>;
  /** Hosts that ran an image, by any of its names, at some time of a period, by id; within host groups, null: of every one. */
  hostsOn(
    images: readonly string[],
    about: { readonly from: Instant; readonly to: Instant; readonly scope: readonly string[] | null },
    page: PageRequest<{ readonly id: string }>,
  ): Promise<Page<HostOnImage, { readonly id: string }>>;
}
