/** What passes between the store and its callers. Ids are strings, times `Instant`s (ms), digests as OCI writes them. */
import type { ReturnedHow } from '#src/finding/returned.ts';
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';

/** Who did something, and when; it becomes one audit entry in the transaction of the act itself. */
export type Act = {
  /** `admin`, `host:h_…`, `job:manifest`, later a user's name. */
  readonly actor: string;
  readonly at: Instant;
  readonly note?: string;
};

export type AuditEntry = {
  readonly id: string;
  readonly at: Instant;
  readonly actor: string;
  /** `token.create`, `host.retire`, `source.allow` … */
  readonly action: string;
  /** Kind and id of what it was done to: `token:…`, `host:h_…`. */
  readonly object: string;
  readonly note: string | null;
  /** The object before and after, as JSON values; null where there was none. Never holds secrets. */
  readonly before: unknown;
  readonly after: unknown;
};

export type Labels = Readonly<Record<string, string>>;
/** What people call a host, and how they sort it. Of `labels` null takes one away, and what is not named stays. */
export type HostChange = {
  readonly name?: string | undefined;
  readonly group?: string | null | undefined;
  readonly labels?: Readonly<Record<string, string | null>> | undefined;
};

// ── enrolment ────────────────────────────────────────────────────────────────────────────────────────────────────────

export type Token = {
  /** The public part of `bp1.<id>.<secret>.<fingerprint>`. */
  readonly id: string;
  /** SHA-256 of the secret part, lower-case hex. */
  readonly hash: string;
  readonly labels: Labels;
  /** Name of the host group that enrolled hosts join; null for none. */
  readonly group: string | null;
  readonly maxUses: number | null;
  readonly uses: number;
  readonly createdAt: Instant;
  readonly createdBy: string;
  readonly expiresAt: Instant;
  readonly revokedAt: Instant | null;
};
export type NewToken = Pick<Token, 'id' | 'hash' | 'labels' | 'group' | 'maxUses' | 'expiresAt'>;

export type Enrolment = {
  /** The id that a new host gets (`h_` and 26 characters); unused where the key is known already. */
  readonly hostId: string;
  /** Ed25519 public key, lower-case hex of its 32 bytes. Possession was proved before. */
  readonly publicKey: string;
  readonly machineId: string;
  readonly name: string;
  /** Expected time between reports, ms. */
  readonly interval: number;
  readonly lateAfter: Instant;
  readonly silentAfter: Instant;
};
export type EnrolOutcome =
  | { readonly kind: 'enrolled'; readonly host: Host }
  /** The key is known: the host as it stands (active or pending). No use of the token was consumed. */
  | { readonly kind: 'same'; readonly host: Host }
  /** Another key holds this machine-id: a new host in state `pending`, beside the old one. A use was consumed. */
  | { readonly kind: 'pending'; readonly host: Host; readonly heldBy: string }
  | {
      readonly kind: 'refused';
      readonly reason: 'token-unknown' | 'token-revoked' | 'token-expired' | 'token-used-up' | 'host-retired';
    };

// ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────────────────

export type HostState = 'active' | 'pending' | 'retired';

/** Where a host's chain of reports stands: what PROTOCOL 3.5 is judged against. Written whole with each intake. */
export type Chain = {
  /** Highest accepted sequence number; 0 before the first. */
  readonly headSeq: number;
  /** The last accepted full report; null before the first. */
  readonly full: { readonly seq: number; readonly digest: Digest } | null;
  /** `same` reports counted since that full. */
  readonly sameCount: number;
  /** Boot ids in the order first seen, newest last; bounded by CHAIN_BOOTS_MAX. */
  readonly boots: readonly string[];
  /** Sequence numbers below the head that never came; bounded by CHAIN_GAPS_MAX, the oldest are forgotten. */
  readonly gaps: readonly { readonly from: number; readonly to: number }[];
  /** Newest accepted reports, newest last, bounded by CHAIN_RECENT_MAX: tells a repeat from a fork after the envelope of a `same` is gone. */
  readonly recent: readonly { readonly seq: number; readonly digest: Digest }[];
  /** Standing doubts about identity, with when they arose. */
  readonly flags: { readonly forked?: Instant; readonly cloned?: Instant; readonly gap?: Instant };
};

export type ChallengeClass = 'live' | 'late' | 'carried' | 'none';

/** What the last accepted full report said, as far as later reports and pages need it. */
export type ReportFacts = {
  readonly trees: {
    readonly usr: { readonly main: Digest | null; readonly extra: Digest | null };
    readonly etc: { readonly main: Digest | null; readonly extra: Digest | null };
  };
  /** Digest of the canonical deployment state. */
  readonly state: Digest;
  readonly backend: string;
  /** No holes, nothing truncated. */
  readonly complete: boolean;
  readonly agentVersion: string;
  readonly config: Digest;
  /** Rule the host itself compared with; null where it had no manifest. */
  readonly comparedWith: string | null;
};

/** Times of the newest accepted report, whichever kind. */
export type LastReport = {
  readonly seq: number;
  readonly kind: 'full' | 'same';
  readonly class: ChallengeClass;
  /** By the host's clock. */
  readonly startedAt: Instant;
  /** By the server's clock. */
  readonly receivedAt: Instant;
};

/** Freshness is judged by the server's clock at read time; these are its inputs. */
export type Freshness = {
  /** Receipt of the newest `live` report; null before the first. */
  readonly liveAt: Instant | null;
  readonly interval: number;
  readonly lateAfter: Instant;
  readonly silentAfter: Instant;
  /** The silence job has written its finding; a live report sets it back. */
  readonly silenceNoted: boolean;
};

/**
 * The answers as of the last judgement, without the clock. The verdict shown is computed at read time from this and
 * `Freshness`; `rank` serves lists (higher needs attention sooner).
 */
export type Standing = {
  /** Verdict by PROTOCOL 5 if the host were fresh: `new`, `unverifiable`, `unsigned`, `drifted`, `compliant`. */
  readonly verdict: string;
  readonly rank: number;
  readonly since: Instant;
  /** `intact`, `drifted`, `masked`, `unverifiable`. */
  readonly integrity: string;
  /** `trusted`, `unsigned`, `rejected`, `unverifiable`, `not-assessed`. */
  readonly provenance: string;
  /** Differences that policy allows. */
  readonly allowed: number;
  readonly waived: number;
  /** What explains it, ready for API and pages: `[{code, text, …}]`. A JSON value. */
  readonly reasons: unknown;
  /** Totals of drift by change; null where it is not known. */
  readonly drift: { readonly added: number; readonly removed: number; readonly modified: number } | null;
  /**
   * Where something is waived: the end of the first waiver, and the answers without any. From then on, and until the host is judged
   * again, those are told (`server/standing.ts`; lists and counts do the same). Null or absent where nothing is waived.
   */
  readonly lapse?: Lapse | null;
};
export type Lapse = {
  readonly validUntil: Instant;
  readonly verdict: string;
  readonly rank: number;
  readonly integrity: string;
};

/** Place among the severities of policy (`SEVERITIES`), lowest first; lists sort by the number. */
export type Severity = 0 | 1 | 2 | 3 | 4;

/** Numbers of findings on a host; kept by the store in the transaction that changes findings. */
export type Counters = {
  /** Present and neither acknowledged nor waived, by severity. */
  readonly open: readonly [number, number, number, number, number];
  readonly acknowledged: number;
  readonly waived: number;
};

export const IMAGE_SLOTS = ['booted', 'staged', 'rollback'] as const;
export type ImageSlot = (typeof IMAGE_SLOTS)[number];

export type Host = {
  readonly id: string;
  readonly name: string;
  readonly machineId: string;
  /** Ed25519, lower-case hex. */
  readonly publicKey: string;
  readonly state: HostState;
  readonly group: string | null;
  readonly labels: Labels;
  readonly tokenId: string | null;
  readonly createdAt: Instant;
  /** Rises with every write to chain, findings, standing or state: the precondition of an intake. */
  readonly revision: number;
  readonly chain: Chain;
  readonly last: LastReport | null;
  readonly facts: ReportFacts | null;
  /** What the host says it runs, as it spells it (a digest, bare hex, or a config digest). */
  readonly images: Readonly<Record<ImageSlot, string | null>>;
  /** Rule whose /usr digests matched, or the newest of the backend; null before the first judgement. */
  readonly rule: string | null;
  readonly freshness: Freshness;
  readonly standing: Standing;
  readonly counters: Counters;
};

export type VerdictChange = {
  readonly at: Instant;
  readonly from: string;
  readonly to: string;
  /** The report that brought it; null where a job or a person did. */
  readonly seq: number | null;
};

/** Refused reports of a host, by code. `hostId` is the empty string where the host is not known. */
export type Refusals = {
  readonly hostId: string;
  readonly code: string;
  readonly count: number;
  readonly firstAt: Instant;
  readonly lastAt: Instant;
  /** What the last one said, at most REFUSAL_DETAIL_MAX characters. */
  readonly detail: string;
};
export type Refusal = {
  readonly hostId: string;
  readonly code: string;
  readonly at: Instant;
  readonly detail: string;
};

// ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `history`: an older number that had never come. `fork`: other bytes under a known number; kept beside the first. */
export type ReportKind = 'full' | 'same' | 'history' | 'fork';

export type ReportHead = {
  readonly hostId: string;
  readonly seq: number;
  readonly kind: ReportKind;
  /** Of the envelope as received. */
  readonly digest: Digest;
  readonly class: ChallengeClass;
  readonly startedAt: Instant;
  readonly receivedAt: Instant;
  /** The first answer that was given, as JSON text: a repeated post gets it again. */
  readonly answer: string;
};
export type StoredReport = ReportHead & { readonly envelope: Uint8Array };

// ── findings ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The same finding on many hosts; its id is derived from rule, kind, subject and change signature. */
export type GroupFacts = {
  readonly id: string;
  readonly rule: string;
  /** `drift`, `host-state`, `identity`, `image` … */
  readonly kind: string;
  /** A path (ByteString), an image digest, `host` … */
  readonly subject: string;
  /** What makes two changes the same: a JSON value. */
  readonly signature: unknown;
};

export type CloseReason = 'reverted' | 'host_updated' | 'policy_changed' | 'host_retired' | 'superseded';

export type FindingChange =
  /**
   * The machine sees it. Not known, or resolved before: opened (or reopened) with a new episode. Open already: severity
   * is brought up to date, nothing else is written. At most one change per group in an intake.
   */
  | {
      readonly kind: 'present';
      readonly group: GroupFacts;
      readonly severity: Severity;
      /** What a person needs to see on this host: expected, actual. A JSON value; written when an episode opens. */
      readonly detail: unknown;
    }
  /** An accepted, complete report lacks it. Not open: nothing happens. */
  | { readonly kind: 'absent'; readonly groupId: string; readonly reason: CloseReason };

/** Who looked at it and until when it leaves the queue; the finding weighs as before. */
export type Ack = {
  readonly by: string;
  readonly at: Instant;
  readonly until: Instant;
  readonly note: string | null;
};

/** Of a group: hosts within `scope`, save those of `apart`, come under it when they show the same for the first time. */
export type GroupAck = Ack & { readonly scope: readonly string[] | null; readonly apart: readonly string[] };

/** Why a finding is open again that people had decided about. */
export type Returned = {
  /** `waiver_changed`: it does not match any more, as its severity, its host or the host's image is another one. */
  readonly how: ReturnedHow;
  /** The waiver, or who had acknowledged. */
  readonly what: string;
  readonly at: Instant;
};

/** What people decided about a present finding, as it is from now on. Not present, or of another episode: nothing happens. */
export type Disposal = {
  readonly groupId: string;
  /** Of which the decision was made; absent: whichever is present. */
  readonly episode?: number;
  /** What it must be now for this to happen; absent: anything. */
  readonly from?: readonly Disposition[];
  /** When the acknowledgement was given that this takes back; absent: whichever stands. */
  readonly ofAck?: Instant;
  readonly to:
    | { readonly kind: 'none'; readonly why: Returned | null }
    | { readonly kind: 'acknowledged'; readonly ack: Ack }
    /** Until the waiver ends: it is then over by itself, whatever ran or not. */
    | { readonly kind: 'waived'; readonly waiverId: string; readonly until: Instant };
};

export type FindingStatus = 'open' | 'acknowledged' | 'waived' | 'resolved';
export type Disposition = 'none' | 'acknowledged' | 'waived';

/** Identity is (host, group). `unknown` (a silent host) is not stored: it follows from the host's freshness at read time. */
export type Finding = {
  readonly hostId: string;
  readonly groupId: string;
  readonly present: boolean;
  readonly disposition: Disposition;
  readonly status: FindingStatus;
  readonly severity: Severity;
  readonly firstSeen: Instant;
  readonly openedAt: Instant;
  readonly resolvedAt: Instant | null;
  /** How often it came back. */
  readonly reopened: number;
  /** The waiver that covers it, or the last one that did. */
  readonly waiverId: string | null;
  /** When its disposition ends by itself; null for none. */
  readonly until: Instant | null;
  readonly ack: Ack | null;
  readonly returned: Returned | null;
  /** It opened and ended so often that it says little, until this time; null where it does not flap. */
  readonly flappingUntil: Instant | null;
  readonly detail: unknown;
};
export type FindingWithGroup = Finding & { readonly group: GroupFacts };
export type FindingWithHost = Finding & { readonly hostName: string; readonly silentAfter: Instant };
export type FindingInList = FindingWithGroup & { readonly hostName: string; readonly silentAfter: Instant };

export type Episode = {
  readonly n: number;
  readonly openedAt: Instant;
  readonly openedSeq: number | null;
  readonly closedAt: Instant | null;
  readonly closedSeq: number | null;
  readonly reason: CloseReason | null;
};

export type FindingGroup = GroupFacts & {
  readonly severity: Severity;
  readonly isOpen: boolean;
  readonly firstSeen: Instant;
  /** When it last opened on some host, to the minute. */
  readonly lastNewAt: Instant;
  /** The first of open, acknowledged, waived that it is on some host; else resolved. The tabs of lists. */
  readonly status: FindingStatus;
  readonly assignee: string | null;
  /** Of what people decide about the group as such: the precondition of assigning it. */
  readonly revision: number;
  /** On some host it opens and ends again and again, until this time; 0 where it never did. */
  readonly flappingUntil: Instant;
  readonly hosts: {
    readonly open: number;
    readonly acknowledged: number;
    readonly waived: number;
    readonly ever: number;
    /** Present ones that were resolved before. */
    readonly reopened: number;
  };
};

/** How many hosts a group opened, came back and ended on within a minute. */
export type GroupChange = {
  readonly groupId: string;
  readonly at: Instant;
  readonly kind: 'opened' | 'reopened' | 'resolved';
  readonly hosts: number;
};

/** A list that somebody wants again: `query` is the page's own, and is parsed by whoever shows it. */
export type SavedView = {
  readonly id: string;
  /** Null: shared. */
  readonly owner: string | null;
  readonly name: string;
  readonly list: string;
  readonly query: string;
  readonly createdAt: Instant;
  readonly createdBy: string;
};

/** An act on many, from its preview on. */
export type BulkState = 'previewed' | 'applying' | 'done' | 'undone';
export type Bulk = {
  /** Also the token: whoever knows it and is the actor applies it. */
  readonly id: string;
  readonly actor: string;
  readonly action: string;
  /** JSON values that the caller parses. */
  readonly terms: unknown;
  readonly filter: unknown;
  readonly asOf: Instant;
  readonly matched: number;
  readonly state: BulkState;
  /** Not applied by then: it is gone. */
  readonly expiresAt: Instant;
  readonly applyKey: string | null;
  readonly appliedAt: Instant | null;
  readonly doneAt: Instant | null;
  readonly changed: number;
  readonly skipped: number;
  readonly undoUntil: Instant | null;
  /** The act that this one takes back. */
  readonly undoes: string | null;
};
export type BulkItem = {
  /** The empty string where it is about the whole group. */
  readonly hostId: string;
  readonly groupId: string;
  readonly episode: number;
  /** Null: not yet. `changed`, or why not: `resolved`, `another_episode`, `waived`, `so_already` … */
  readonly result: string | null;
  /** What it was before, for taking it back. */
  readonly before: unknown;
};

// ── images and manifests ─────────────────────────────────────────────────────────────────────────────────────────────

export type ImageState = 'pending' | 'building' | 'ready' | 'failed';
export type Reason = { readonly code: string; readonly text: string };
export type AliasKind = 'config' | 'index' | 'bare-hex';

export type Image = {
  /** Manifest digest; until the image was found, whatever a host reported. */
  readonly digest: string;
  readonly state: ImageState;
  /** Why it failed or waits; empty when ready. */
  readonly reasons: readonly Reason[];
  readonly attempts: number;
  readonly nextTry: Instant | null;
  readonly firstSeen: Instant;
  readonly builtAt: Instant | null;
  readonly config: Digest | null;
  /** Repositories in which it was found, by allowed sources only. */
  readonly repositories: readonly string[];
  /** References as hosts claim them: never a location to connect to by itself. At most IMAGE_CLAIMS_MAX. */
  readonly claims: readonly string[];
  readonly version: string | null;
  /** When it says that it was made; null where it does not say, and absent in lists. */
  readonly madeAt?: Instant | null;
  /** Warnings of the build, a JSON value. */
  readonly warnings: unknown;
};
export type ImageInList = Image & { readonly hosts: Readonly<Record<ImageSlot, number>> };

export type ManifestTrees = {
  readonly usr: ManifestTreeRecord;
  readonly etc: ManifestTreeRecord;
};
export type ManifestTreeRecord = {
  readonly main: { readonly full: Digest; readonly comparison: Digest };
  readonly extra: Digest;
  readonly entries: number;
  /** Keys in `store.blobs` of the tree's texts. */
  readonly mainBlob: string;
  readonly extraBlob: string;
};
export type Manifest = {
  /** Digest of the image manifest. */
  readonly image: string;
  readonly rule: string;
  /** The signed header exactly as it is served. */
  readonly header: Uint8Array;
  readonly trees: ManifestTrees;
  readonly builtAt: Instant;
};

export type Source = {
  /** Repository pattern, `registry.example/team/*`. */
  readonly pattern: string;
  /** How it may be spoken to (plain http, CA …): a JSON value that the caller parses. */
  readonly options: unknown;
  readonly createdAt: Instant;
  readonly createdBy: string;
};

export type Blob = {
  /** SHA-256 of the decoded bytes, or another name that its content decides. */
  readonly key: string;
  readonly encoding: 'identity' | 'zstd' | 'gzip';
  readonly bytes: Uint8Array;
};

// ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

export type NewJob = {
  readonly kind: string;
  /** At most one job of a key waits at a time; asking again while it waits only brings its time forward. */
  readonly dedupeKey: string;
  readonly runAt: Instant;
  readonly payload: unknown;
};
export type Job = NewJob & {
  readonly id: string;
  /** Takes so far, this one included. */
  readonly attempts: number;
  readonly leaseUntil: Instant;
  /** Proves that the lease is ours; changes with each take. */
  readonly lease: string;
  /** What the take before it reported on failing. */
  readonly lastError: string | null;
};

// ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `next` is null on the last page. A cursor belongs to the list and sort that made it. */
export type Page<Item, Cursor> = { readonly items: readonly Item[]; readonly next: Cursor | null };
/** Exact up to the cap that was asked for; above it `exact` is false and `count` is the cap. */
export type Count = { readonly count: number; readonly exact: boolean };
