/**
 * The store's contract: what is durable when, what may happen at once, what is retried. Two engines stand behind it,
 * SQLite and PostgreSQL; one suite holds both to this page (test/server/store/contract.ts).
 *
 * Durable. When the promise of a write resolves, the write survives kill -9 and loss of power. SQLite: WAL with synchronous=FULL, so each
 * commit is an fsync. PostgreSQL: synchronous_commit as the server has it, and never less than `on`: `off` is overruled for our connections, and a
 * commit whose wait for its synchronous standby somebody ended is reported as not known. Each method is one transaction: all of it or nothing,
 * with its line in the trail, its entry for the evidence log, and the jobs that it asks for. (`jobs.take` and `images.note` are writes, too;
 * `upkeep.recount` repairs each counter in a transaction of its own; `log.sequence` gives places to what was logged in transactions before.)
 *
 * Not known. A promise that rejects with STORE_UNAVAILABLE says nothing of the outcome: nothing, or all of it, was persisted. A STORE_CLOSED, a
 * STORE_TEXT, and whatever is no StoreError persisted nothing. What machines write is safe to repeat: it is a compare-and-set (intake, swap, put of what
 * carries a revision), keyed (enqueue, put of a blob, allow, create), or sets what is already so; a repeated compare-and-set that had been persisted
 * answers that something else stands. After a rejected intake read the host again: a moved revision and the report found under its
 * number mean that it was persisted. What is not keyed is there twice when it is repeated: counts of refusals, a line of `audit.append`, and
 * what gets its number or id here (a waiver, a hold, an export): there a person who got no answer looks at the list first.
 *
 * At once. Any number of calls in a process, any number of processes on one PostgreSQL. On SQLite one server process writes; a second one (a
 * command beside it) does no harm (BEGIN IMMEDIATE, busy timeout) but waits. Writes to one host are ordered by its revision: of two that read
 * the same, the second is a conflict and writes nothing. Rows are locked in the order host (its pulse), waivers' stamp (shared), group, job, each by
 * key, so writers never wait in a circle; on PostgreSQL at READ COMMITTED, so what a write decides on is read under its locks.
 *
 * Retried. Inside, only what the database itself asks to be repeated (40001, 40P01, SQLITE_BUSY, and 23505 where two made the same thing at
 * once), with growing pauses, a bounded number of times; then it is STORE_UNAVAILABLE. The work of a transaction may therefore run more than once,
 * and does nothing outside it. A lost connection is reported, not repeated: whoever asked knows whether to ask again. Hosts do, with the
 * same bytes, and are answered as the first time.
 *
 * Reads see everything that was acknowledged before they began. Lists are read apart from everything else (SQLite: in threads of their
 * own, PostgreSQL: over connections of their own), so that intake keeps its pace; one that takes longer than LIST_MS is refused with
 * STORE_SLOW. Lists take parsed filters, keyset cursors as plain typed keys, and bounded counts; none of them walks all findings.
 *
 * Times are handed in: the store has no clock. `now` decides what is silent, late or expired at read time.
 */
import { BootproofError } from '#src/error.ts';
import type { Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import type { FilterLine } from '#src/finding/filter.ts';
import type { Scope } from '#src/finding/scope.ts';
import type { AccessStore } from './accessrecords.ts';
import type { LogAnchors } from './anchorrecords.ts';
import type { Bulks, Views, Waivers } from './decided.ts';
import type { Inventories } from './inventoryrecords.ts';
import type { EvidenceStore } from './evidencerecords.ts';
import type { LogRows } from './logrecords.ts';
import type { Notices } from './noticerecords.ts';
import type { ImageOrigins } from './originrecords.ts';
import type { Postures } from './posturerecords.ts';
import type * as p from './policyrecords.ts';
import type * as r from './records.ts';
import type { Holds, Retention } from './retentionrecords.ts';
import type { StoreSizes } from './sizes.ts';
import type { ImageTexts } from './textrecords.ts';
import type * as t from './trustrecords.ts';

export class StoreError extends BootproofError<
  /** The URL names no store that we know. */
  | 'STORE_URL'
  /** The folder or file cannot be made, read or written. */
  | 'STORE_FOLDER'
  /** Its schema is newer than this build: use the newer build. */
  | 'STORE_NEWER'
  /** Its schema is older than this build reads, and nothing may be written here: migrate it, or use the older build. */
  | 'STORE_OLDER'
  /** The database is not ours: other tables stand in it, or the file is no database. */
  | 'STORE_FOREIGN'
  /** Busy, gone, or out of space: outcome not known, repeat later. */
  | 'STORE_UNAVAILABLE'
  /** A list took longer than LIST_MS and was given up: narrow it, or ask later. */
  | 'STORE_SLOW'
  /** Text with a NUL, which PostgreSQL cannot hold: callers' schemas let something through. */
  | 'STORE_TEXT'
  | 'STORE_CLOSED'
> {}

export interface Store {
  readonly engine: 'sqlite' | 'postgres';
  readonly settings: Settings;
  readonly tokens: Tokens;
  readonly hosts: Hosts;
  readonly reports: Reports;
  readonly findings: Findings;
  readonly waivers: Waivers;
  readonly bulks: Bulks;
  readonly views: Views;
  readonly images: Images;
  readonly sources: Sources;
  readonly trust: Trust;
  readonly denials: Denials;
  readonly policies: p.PolicyVersions;
  readonly lineages: p.Lineages;
  readonly imageAges: p.ImageAges;
  readonly imageTags: p.ImageTags;
  readonly imageOrigins: ImageOrigins;
  readonly imageTexts: ImageTexts;
  readonly blobs: Blobs;
  readonly jobs: Jobs;
  readonly audit: Audit;
  readonly access: AccessStore;
  readonly notices: Notices;
  readonly log: LogRows;
  readonly anchors: LogAnchors;
  readonly postures: Postures;
  readonly evidence: EvidenceStore;
  readonly retention: Retention;
  readonly holds: Holds;
  readonly inventories: Inventories;
  readonly read: Reads;
  readonly upkeep: Upkeep;
  /**
   * Group commit: all items in one transaction, in their order, each on its own precondition. An item that conflicts
   * writes nothing and does not hinder the others. Answers stand in the items' order.
   */
  intake(items: readonly HostWrite[]): Promise<readonly IntakeResult[]>;
  /** One trivial read; rejects where the store cannot serve. */
  ping(): Promise<void>;
  /** The schema that the database has now, as the newest build that was here made it; rejects where the store cannot serve. */
  schema(): Promise<number>;
  /** How much room it takes, and how much is left. */
  sizes(): Promise<StoreSizes>;
  /** Waits for what is under way, then lets go. Later calls reject with STORE_CLOSED. */
  close(): Promise<void>;
}

/**
 * What one accepted report (or one new judgement, without a report) changes on one host. Only what is given is written:
 * a `same` report gives chain, last, freshness and report, and touches the host's row and the row of its newest `same`.
 */
export type HostWrite = {
  readonly hostId: string;
  /** `Host.revision` as it was read; another one now means `conflict`. */
  readonly expectRevision: number;
  /** The server's clock, taken once for this write. */
  readonly at: Instant;
  /**
   * Kept as received. `full`, `history` and `fork` for as long as retention says; of `same` the newest, and of every past
   * UTC day its last. (host, seq) is unique save for forks, of which FORK_COPIES_MAX a number are kept.
   */
  readonly report?: Omit<r.StoredReport, 'hostId'>;
  readonly chain?: r.Chain;
  readonly last?: r.LastReport;
  readonly facts?: r.ReportFacts;
  readonly freshness?: r.Freshness;
  /** A changed `verdict` is also written to the host's history. */
  readonly standing?: r.Standing;
  readonly images?: r.Host['images'];
  readonly rule?: string | null;
  /** What the host booted, and under what its own files were made; written where it changed. */
  readonly lineage?: p.Lineage;
  /** Observed changes; the store finds what is new, reopened or resolved, and keeps episodes and all counters. */
  readonly findings?: readonly r.FindingChange[];
  /** What people decided about present findings, after the changes above. */
  readonly disposals?: readonly r.Disposal[];
  /** `Waivers.stamp` under which the disposals were found; another one now means `conflict`: a revoked waiver must not slip in. */
  readonly waiverStamp?: string;
  /** Enqueued in the same transaction: a report is never committed without the work that it asks for. */
  readonly jobs?: readonly r.NewJob[];
  /** What a person or job did through this write (accept a fork, …). */
  readonly audit?: { readonly by: r.Act; readonly action: string };
};

export type IntakeResult =
  | {
      readonly kind: 'committed';
      /** The host's revision now. */
      readonly revision: number;
      /** Group ids by what really happened to them. */
      readonly opened: readonly string[];
      readonly reopened: readonly string[];
      readonly resolved: readonly string[];
    }
  /** The revision moved (or another process took the same sequence number): read again, judge again. */
  | { readonly kind: 'conflict' }
  | { readonly kind: 'unknown-host' };

/** Keys, secrets and other single values: the server's Ed25519 key, HMAC secret, admin token hash. Values are bytes. */
export interface Settings {
  get(key: string): Promise<Uint8Array | undefined>;
  /** Creates once: answers the value that stands, whoever wrote it first. */
  create(key: string, value: Uint8Array): Promise<Uint8Array>;
  /** Compare-and-set; `expected` null means "not there". False where something else stands. */
  swap(key: string, expected: Uint8Array | null, value: Uint8Array): Promise<boolean>;
}

export interface Tokens {
  create(token: r.NewToken, by: r.Act): Promise<void>;
  get(id: string): Promise<r.Token | undefined>;
  /** False where there is none or it was revoked before. Hosts that it enrolled stay. */
  revoke(id: string, by: r.Act): Promise<boolean>;
  /**
   * Consumes a use and creates the host in one transaction. The caller has compared the secret and checked possession.
   * The same key again is the same host and consumes nothing, even when the token is used up or expired meanwhile (the
   * first answer may have been lost). The same machine-id with another key creates a host in state `pending`.
   */
  enrol(tokenId: string, enrolment: r.Enrolment, at: Instant): Promise<r.EnrolOutcome>;
}

export interface Hosts {
  get(id: string): Promise<r.Host | undefined>;
  /** For a batch of intake: those that exist. */
  getMany(ids: readonly string[]): Promise<ReadonlyMap<string, r.Host>>;
  byKey(publicKey: string): Promise<r.Host | undefined>;
  /** Enrolment without a token (offline, approved by a person): as `Tokens.enrol`, but never refused for a token. */
  admit(enrolment: r.Enrolment & Pick<r.Host, 'group' | 'labels'>, by: r.Act): Promise<r.EnrolOutcome>;
  /**
   * pending → active; every other host of that machine-id is retired. False where it is not pending; `beyond`, and nothing is changed,
   * where one that would be retired lies outside of the host groups of `scope`.
   */
  approve(id: string, by: r.Act, scope: Scope): Promise<boolean | 'beyond'>;
  /** → retired: its open findings are resolved (`host_retired`), it no longer counts. False where it was already, or is not there. */
  retire(id: string, by: r.Act): Promise<boolean>;
  setGroup(id: string, group: string | null, by: r.Act): Promise<boolean>;
  setLabels(id: string, labels: r.Labels, by: r.Act): Promise<boolean>;
  rename(id: string, name: string, by: r.Act): Promise<boolean>;
  /**
   * All of it in one transaction, each kind with its own line of the trail; of `labels` null takes one away, and what is not named stays.
   * Answers whether the host is one for other rules now; undefined where there is none.
   */
  change(id: string, change: r.HostChange, by: r.Act): Promise<{ readonly isSorted: boolean } | undefined>;
  /** Counts refused reports by host and code, many at once; keeps the last detail of each. */
  refuse(refusals: readonly r.Refusal[]): Promise<void>;
}

export interface Reports {
  /**
   * The first report accepted under this number, while it is kept: every full, the newest `same`, one `same` a day. For
   * a repeat of another recent `same` see `Chain.recent`.
   */
  head(hostId: string, seq: number): Promise<r.ReportHead | undefined>;
  /** With its envelope. */
  get(hostId: string, seq: number): Promise<r.StoredReport | undefined>;
  byDigest(hostId: string, digest: Digest): Promise<r.StoredReport | undefined>;
  /** The other envelopes kept under this number. */
  forks(hostId: string, seq: number): Promise<readonly r.StoredReport[]>;
}

export interface Findings {
  /** All that are present on a host, acknowledged and waived ones too: what a new report is compared with. */
  present(hostId: string): Promise<readonly r.FindingWithGroup[]>;
  /** The same of several hosts; those without any are left out. */
  presentOf(hostIds: readonly string[]): Promise<ReadonlyMap<string, readonly r.FindingWithGroup[]>>;
  get(hostId: string, groupId: string): Promise<r.FindingWithGroup | undefined>;
  episodes(hostId: string, groupId: string): Promise<readonly r.Episode[]>;
  group(id: string): Promise<r.FindingGroup | undefined>;
  /**
   * Acknowledgements given and taken back: they change no verdict. One transaction for at most BULK_CHUNK findings, with `note` as
   * its one audit entry. Answers what became of each, in their order, with how it was before.
   */
  dispose(
    wanted: readonly { readonly hostId: string; readonly disposal: r.Disposal }[],
    by: r.Act,
    note: Pick<r.AuditEntry, 'action' | 'object' | 'before' | 'after'> | null,
  ): Promise<readonly Disposed[]>;
  /**
   * Lets hosts that show the group for the first time come under an acknowledgement as long as it is open somewhere; another one of the
   * same scope is replaced. False, and nothing is written, where it is open nowhere. Findings that stand are for `dispose`.
   */
  acknowledgeGroup(groupId: string, ack: Omit<r.GroupAck, 'apart'>, by: r.Act, entry: Entry): Promise<boolean>;
  /** Within `scope` no host comes under one any more. False where none stood. */
  unacknowledgeGroup(groupId: string, scope: readonly string[] | null, by: r.Act, entry: Entry): Promise<boolean>;
  /** Those of groups that stand at `now`. */
  acknowledgements(groupIds: readonly string[], now: Instant): Promise<ReadonlyMap<string, readonly r.GroupAck[]>>;
  /** Hosts and groups with findings whose disposition ended before `now`, by time: at most `limit`. */
  lapsed(now: Instant, limit: number): Promise<readonly { readonly hostId: string; readonly groupId: string }[]>;
  /** The earliest end of any disposition; null where there is none. */
  nextLapse(): Promise<Instant | null>;
  /** Names of waivers that cover it on hosts of the scope, or did: at most 50. */
  waiversOf(groupId: string, scope: readonly string[] | null): Promise<readonly string[]>;
  /** False where the group's revision moved, or there is no such group. */
  assign(groupId: string, expectRevision: number, assignee: string | null, by: r.Act): Promise<boolean>;
  /** Hosts with present findings of these groups, by id; for what a decision changes. */
  hostsOf(
    groupIds: readonly string[],
    page: PageRequest<{ readonly id: string }>,
  ): Promise<r.Page<string, { readonly id: string }>>;
  /** Ids of groups that begin so, at most `limit`. */
  beginning(start: string, limit: number): Promise<readonly string[]>;
  /** Every group with a present finding, by id. */
  presentGroups(page: PageRequest<{ readonly id: string }>): Promise<r.Page<r.FindingGroup, { readonly id: string }>>;
  /** When hosts of a group opened, came back and ended, newest minute first, at most `limit`. */
  changes(groupId: string, limit: number, scope?: readonly string[] | null): Promise<readonly r.GroupChange[]>;
}
type Entry = Pick<r.AuditEntry, 'action' | 'object' | 'before' | 'after'>;
export type Disposed = {
  readonly result: 'changed' | 'resolved' | 'another_episode' | 'waived' | 'so_already' | 'not_acknowledged';
  readonly before: { readonly disposition: r.Disposition; readonly ack: r.Ack | null } | null;
};

export interface Images {
  /** Digests of images that have a name which begins so (hex digits of a digest, without `sha256:`), at most `limit`. */
  beginning(hex: string, limit: number): Promise<readonly string[]>;
  /** By manifest digest or alias, and how it was found. */
  find(reported: string): Promise<{ readonly image: r.Image; readonly via: 'digest' | r.AliasKind } | undefined>;
  /**
   * Notes digests as hosts report them: unknown ones become images in state `pending` with a job `build`, in one
   * transaction. Known ones only gain the claim. Answers the digests that are new.
   */
  note(
    seen: readonly { readonly reported: string; readonly claim: string | null }[],
    at: Instant,
  ): Promise<readonly string[]>;
  /** pending|failed → building, attempts + 1. */
  building(digest: string, at: Instant): Promise<boolean>;
  /** → failed (with when to try next) or back to pending. Idempotent. */
  failed(
    digest: string,
    failure: { readonly reasons: readonly r.Reason[]; readonly nextTry: Instant | null },
  ): Promise<void>;
  /** Forgets an image that was never built and that no host has in a slot, with the work that waits for it. False where it stays. */
  drop(digest: string): Promise<boolean>;
  /**
   * → ready, with manifests and aliases, in one transaction. `asked` is the digest under which it was looked for: where it
   * was an alias, its row gives way to the image's own. Manifests of a rule that stand already stay (immutable); texts
   * must have been put into `blobs` before.
   */
  ready(result: ImageBuilt): Promise<void>;
  /** All rules' manifests of an image, in the order of their names. */
  manifests(image: string): Promise<readonly r.Manifest[]>;
  manifest(image: string, rule: string): Promise<r.Manifest | undefined>;
}
export type ImageBuilt = {
  readonly asked: string;
  readonly digest: Digest;
  readonly config: Digest;
  readonly aliases: readonly { readonly alias: string; readonly kind: r.AliasKind }[];
  readonly repository: string | null;
  readonly version: string | null;
  readonly warnings: unknown;
  readonly manifests: readonly r.Manifest[];
  readonly at: Instant;
};

/** Repositories that the server may fetch from (PROTOCOL 2.6). */
export interface Sources {
  list(): Promise<readonly r.Source[]>;
  /** New, or with new options. Every image that failed for want of a source becomes due again in the same transaction. */
  allow(pattern: string, options: unknown, by: r.Act): Promise<void>;
  forbid(pattern: string, by: r.Act): Promise<boolean>;
}

/** Who signed an image, as last found out. One record an image; the bytes that prove it are put into `blobs` before. */
export interface Trust {
  get(image: string): Promise<t.ImageTrust | undefined>;
  /** Those that are there, by image. */
  getMany(images: readonly string[]): Promise<ReadonlyMap<string, t.ImageTrust>>;
  /**
   * Compare-and-set on `revision` as it was read (0: none was there); writes what happened into the trail in the same
   * transaction. Answers the revision now, undefined where another write came between.
   */
  put(
    next: t.ImageTrust,
    by: r.Act,
    events: readonly Pick<r.AuditEntry, 'action' | 'object' | 'before' | 'after'>[],
  ): Promise<number | undefined>;
  /** Another text after every write of anybody to results, notes and denials: what processes remember is then old. One read of a row. */
  version(): Promise<string>;
  /** What results are reached under, a JSON value by name: the image policy that counts, and each trust root. */
  note(name: string): Promise<unknown>;
  /** With what happened, and the work that it asks for, in one transaction. */
  setNote(
    name: string,
    value: unknown,
    by: r.Act,
    then: {
      readonly event: Pick<r.AuditEntry, 'action' | 'object' | 'before' | 'after'> | null;
      readonly jobs: readonly r.NewJob[];
    },
  ): Promise<void>;
}

/** What people deny, whoever signed it. Each change enqueues in its own transaction the work that it asks for. */
export interface Denials {
  /** In the order of their ids. */
  list(): Promise<readonly t.Denial[]>;
  put(id: string, entry: unknown, by: r.Act, jobs: readonly r.NewJob[]): Promise<void>;
  /** False where it was not on the list. */
  remove(id: string, by: r.Act, jobs: readonly r.NewJob[]): Promise<boolean>;
}

/** Immutable bytes by key. */
export interface Blobs {
  /** Durable when it returns; a key that stands already keeps its bytes. */
  put(blob: r.Blob): Promise<void>;
  get(key: string): Promise<r.Blob | undefined>;
  has(key: string): Promise<boolean>;
}

/** Work that some process does later, at least once. Leases, not locks: a dead worker's jobs return by themselves. */
export interface Jobs {
  enqueue(jobs: readonly r.NewJob[]): Promise<void>;
  /** Takes due jobs of these kinds, oldest first, each for `lease` ms. Two takers never get the same job within its lease. */
  take(kinds: readonly string[], now: Instant, lease: number, limit: number): Promise<readonly r.Job[]>;
  /** False where the lease was lost: someone else has it, do not go on. */
  extend(job: Pick<r.Job, 'id' | 'lease'>, until: Instant): Promise<boolean>;
  /** Done. Asked for again while it ran: it waits anew, from the time then asked for. False where the lease was lost. */
  finish(job: Pick<r.Job, 'id' | 'lease'>): Promise<boolean>;
  /** Back into the queue at `retryAt`; null gives up and drops it. False where the lease was lost. */
  fail(job: Pick<r.Job, 'id' | 'lease'>, retryAt: Instant | null, error: string): Promise<boolean>;
  /** Jobs by kind: those that wait (or whose lease ran out), those that run, and the oldest run time. */
  lag(now: Instant): Promise<
    readonly {
      readonly kind: string;
      readonly waiting: number;
      readonly running: number;
      readonly oldest: Instant;
    }[]
  >;
}

/** What is done by the night, in steps that hold nobody up for long. */
export interface Upkeep {
  /**
   * Holds the counters of groups, or of hosts, against the rows that they count: `limit` of them after a key, in its order. A wrong one is
   * set right and written into the trail with both numbers; `next` is null at the end.
   */
  recount(
    what: 'groups' | 'hosts',
    after: string | null,
    limit: number,
    by: r.Act,
  ): Promise<{ readonly checked: number; readonly repaired: readonly string[]; readonly next: string | null }>;
  /**
   * Moves resolved findings that ended before a time aside, oldest first, at most `limit`; answers how many. They are told with their host
   * and by themselves as before, count in `ever`, and come back when a machine shows them again; filters on hosts find them no more.
   */
  archive(endedBefore: Instant, limit: number): Promise<number>;
}

/** The trail of what people and jobs did; every deciding method writes it itself, this is for acts that change no row. */
export interface Audit {
  append(by: r.Act, entry: Pick<r.AuditEntry, 'action' | 'object' | 'before' | 'after'>): Promise<void>;
  /** Newest first; from `since` on, and before `until`. */
  list(
    filter: { readonly object?: string; readonly actor?: string; readonly since?: Instant; readonly until?: Instant },
    page: PageRequest<AuditCursor>,
  ): Promise<r.Page<r.AuditEntry, AuditCursor>>;
}
export type AuditCursor = { readonly id: string };

// ── reads for lists ──────────────────────────────────────────────────────────────────────────────────────────────────

export type PageRequest<Cursor> = {
  readonly cursor: Cursor | null;
  /** 1 to PAGE_ITEMS_MAX. */ readonly limit: number;
};

export type HostFilter = {
  readonly now: Instant;
  /** Any of them. `silent` is told by the clock; `new` goes before it, every other verdict means "and not silent". */
  readonly verdicts?: readonly string[];
  readonly freshness?: 'current' | 'late' | 'silent';
  readonly integrity?: string;
  readonly provenance?: string;
  /** Retired hosts appear only where asked for. */
  readonly states?: readonly r.HostState[];
  readonly group?: string;
  /** Host groups that the asker sees, with all below them; null or absent for all. */
  readonly scope?: readonly string[] | null;
  readonly label?: { readonly key: string; readonly value: string };
  /** Booted image, as hosts spell it: give the digest with all its aliases. */
  readonly booted?: readonly string[];
  /** Likewise of the image that waits for a restart, and of the one to go back to. */
  readonly staged?: readonly string[];
  readonly rollback?: readonly string[];
  /** Beginning of the name; case does not matter. */
  readonly namePrefix?: string;
};
/** The least rank of a host that is silent now: between those of `new` and of every verdict that says more (server/standing.ts). */
export const SILENT_RANK = 16;

/** `attention`: rank, highest first, a silent host's at least `SILENT_RANK`. `name`: folded name. Ties by id. */
export type HostCursor =
  | { readonly sort: 'name'; readonly name: string; readonly id: string }
  | { readonly sort: 'attention'; readonly rank: number; readonly id: string };

export type GroupFilter = {
  /** Default: groups that are present on some host. `all`: also those resolved everywhere. */
  readonly status?: 'open' | 'all';
  /** Groups of this tab only: instead of `status`. */
  readonly tab?: r.FindingStatus;
  readonly severities?: readonly r.Severity[];
  readonly rule?: string;
  readonly kind?: string;
  readonly subjectPrefix?: string;
  /** A parsed filter line (src/finding/filter.ts); severities in it go before `severities`. */
  readonly line?: FilterLine;
  /** Host groups that the asker sees; null or absent for all. */
  readonly scope?: readonly string[] | null;
  /** For what the clock decides (flapping, stale); needed where `line` asks for it. */
  readonly now?: Instant;
};
/** `severity`: severity, then newest; `recent`: newest first. Ties by id. */
export type GroupCursor =
  | { readonly sort: 'severity'; readonly severity: number; readonly at: Instant; readonly id: string }
  | { readonly sort: 'recent'; readonly at: Instant; readonly id: string };

export type FindingFilter = {
  readonly severities?: readonly r.Severity[];
  readonly statuses?: readonly Exclude<r.FindingStatus, 'resolved'>[];
  readonly line?: FilterLine;
  readonly scope?: readonly string[] | null;
  readonly now?: Instant;
};
/** Severity, then newest opened, then host and group. */
export type FindingCursor = {
  readonly severity: number;
  readonly at: Instant;
  readonly hostId: string;
  readonly groupId: string;
};

export interface Reads {
  hosts(
    filter: HostFilter,
    sort: HostCursor['sort'],
    page: PageRequest<HostCursor>,
  ): Promise<r.Page<r.Host, HostCursor>>;
  countHosts(filter: HostFilter, cap: number): Promise<r.Count>;
  /** Hosts in state active and pending by verdict at `now`, in no order; of `scope` where it is given. */
  verdicts(
    now: Instant,
    scope?: readonly string[] | null,
  ): Promise<readonly { readonly verdict: string; readonly count: number }[]>;
  groups(
    filter: GroupFilter,
    sort: GroupCursor['sort'],
    page: PageRequest<GroupCursor>,
  ): Promise<r.Page<r.FindingGroup, GroupCursor>>;
  countGroups(filter: GroupFilter, cap: number): Promise<r.Count>;
  /** Groups of that list by rule; not exact where it is longer than `cap`. */
  rules(
    filter: GroupFilter,
    cap: number,
  ): Promise<{
    readonly rules: readonly { readonly rule: string; readonly groups: number }[];
    readonly exact: boolean;
  }>;
  /** Present findings of the fleet. */
  findings(filter: FindingFilter, page: PageRequest<FindingCursor>): Promise<r.Page<r.FindingInList, FindingCursor>>;
  countFindings(filter: FindingFilter, cap: number): Promise<r.Count>;
  /**
   * Where a group is present, by host id; of `scope` where it is given. `status`: only those, for `resolved` where it ended. `line`: of a
   * filter line what is about hosts and what was decided there.
   */
  groupHosts(
    groupId: string,
    page: PageRequest<{ readonly hostId: string }>,
    scope?: readonly string[] | null,
    filter?: { readonly status?: r.FindingStatus | undefined; readonly line?: FilterLine; readonly now?: Instant },
  ): Promise<r.Page<r.FindingWithHost, { readonly hostId: string }>>;
  /** A host's findings: present ones by severity, or resolved ones by group id. */
  hostFindings(
    hostId: string,
    which: 'present' | 'resolved',
    page: PageRequest<{ readonly severity: number; readonly groupId: string }>,
  ): Promise<r.Page<r.FindingWithGroup, { readonly severity: number; readonly groupId: string }>>;
  /** Kept reports of a host, newest number first, without envelopes. */
  reports(
    hostId: string,
    page: PageRequest<{ readonly seq: number }>,
  ): Promise<r.Page<r.ReportHead, { readonly seq: number }>>;
  /** Changes of a host's verdict, newest first, at most `limit`. */
  history(hostId: string, limit: number): Promise<readonly r.VerdictChange[]>;
  /** By code; of the reports whose host is not known with `hostId` ''. */
  refusals(hostId: string): Promise<readonly r.Refusals[]>;
  tokens(page: PageRequest<{ readonly id: string }>): Promise<r.Page<r.Token, { readonly id: string }>>;
  images(
    /** `scope`: hosts of these groups are counted, and images that none of them names are left out. */
    filter: { readonly states?: readonly r.ImageState[]; readonly scope?: readonly string[] | null },
    page: PageRequest<{ readonly at: Instant; readonly digest: string }>,
  ): Promise<r.Page<r.ImageInList, { readonly at: Instant; readonly digest: string }>>;
  /** Whether a host of these groups names it in a slot, or ran it once, by any of its names. */
  isImageWithin(digest: string, scope: readonly string[]): Promise<boolean>;
  /** An image's other names. */
  aliases(digest: string): Promise<readonly { readonly alias: string; readonly kind: r.AliasKind }[]>;
  /** Ids of active hosts with one of these digests in a slot, by id: what a finished manifest has to judge anew. */
  hostsOnImage(
    reported: readonly string[],
    slot: r.ImageSlot,
    page: PageRequest<{ readonly id: string }>,
  ): Promise<r.Page<string, { readonly id: string }>>;
  /** Active hosts past `silentAfter` whose silence is not noted yet, longest silent first. */
  unnotedSilence(now: Instant, limit: number): Promise<readonly string[]>;
  /** Names of host groups with the number of active hosts. */
  hostGroups(scope?: readonly string[] | null): Promise<readonly { readonly name: string; readonly hosts: number }[]>;
}
