/** Evidence exports (docs/evidence.md 7): what was asked for, how far it is, the file that came of it; and what a bundle is made from. */
import type { Instant } from '#src/clock.ts';
import type { Host, NewJob, Page, Act } from './records.ts';
import type { PageRequest } from './store.ts';

export const EXPORT_STATES = ['queued', 'running', 'done', 'failed'] as const;
export type ExportState = (typeof EXPORT_STATES)[number];

/**
 * What an export goes through, in this order. `cut`: the act is logged, and the checkpoint behind it taken. `gather`: every host is read once,
 * and its facts are kept beside the file. The others write the members of the bundle.
 */
export const EXPORT_STAGES = ['cut', 'gather', 'entries', 'records', 'facts', 'manifests', 'results'] as const;
export type ExportStage = (typeof EXPORT_STAGES)[number];

export type StageProgress = {
  readonly stage: ExportStage;
  readonly done: number;
  /** Null where it is not known. */
  readonly total: number | null;
};

/** The state of the log that a bundle is about. It stays the same however often the export is begun again. */
export type ExportCut = {
  /** Number of the log (`LogHead.log`). */
  readonly log: number;
  readonly origin: string;
  readonly size: number;
  /** The root at that size, base64. */
  readonly root: string;
  /** The signed checkpoint. */
  readonly note: string;
  /** `exportedAt` of the bundle: when its act was logged. */
  readonly at: Instant;
};

export type ExportSampling = { readonly seed: string; readonly size: number };

export type EvidenceExport = {
  /** `ev_` and 26 characters, rising with time. */
  readonly id: string;
  readonly createdAt: Instant;
  /** Id of the asker. */
  readonly createdBy: string;
  readonly from: Instant;
  readonly to: Instant;
  /** A filter line about hosts; null for every host that the asker may take away. */
  readonly filter: string | null;
  /** Host groups, with all below them, that the asker may take away; null for every host. */
  readonly scope: readonly string[] | null;
  readonly frameworks: readonly string[];
  readonly sampling: ExportSampling | null;
  readonly parameters: { readonly completenessMin: number; readonly answerHours: number };
  readonly state: ExportState;
  /** One of every stage that was begun, in their order. */
  readonly progress: readonly StageProgress[];
  readonly cut: ExportCut | null;
  /** How often it was begun: more than once where a server stopped or died in the middle. */
  readonly attempts: number;
  /** In scope; null until that is known. */
  readonly hosts: number | null;
  /** Why it failed, or why the last attempt did. */
  readonly error: { readonly code: string; readonly text: string } | null;
  /** Of the finished file: SHA-256 in hex, and its length. */
  readonly file: { readonly sha256: string; readonly bytes: number } | null;
  readonly finishedAt: Instant | null;
  /** From then on it is removed by itself. */
  readonly expiresAt: Instant;
};

export type NewExport = Pick<
  EvidenceExport,
  'from' | 'to' | 'filter' | 'scope' | 'frameworks' | 'sampling' | 'parameters' | 'expiresAt'
>;

export interface EvidenceExports {
  /** Undefined where `max` are kept already. */
  create(wanted: NewExport, by: Act, max: number, job: (id: string) => NewJob): Promise<EvidenceExport | undefined>;
  get(id: string): Promise<EvidenceExport | undefined>;
  /** Newest first; of those whose scope lies in `scope` where it is given. */
  list(
    scope: readonly string[] | null,
    page: PageRequest<{ readonly id: string }>,
  ): Promise<Page<EvidenceExport, { readonly id: string }>>;
  /** → running, one attempt more; undefined where it is not there any more, or over. */
  begin(id: string): Promise<EvidenceExport | undefined>;
  /** Logs the act `evidence.export` on `evidence:<id>`, once; answers its line of the trail. Undefined where the export is gone. */
  log(id: string, by: Act): Promise<{ readonly act: string; readonly at: Instant } | undefined>;
  /** Keeps the cut of the first that comes; answers the one that stands, undefined where the export is gone. */
  cut(id: string, cut: ExportCut): Promise<ExportCut | undefined>;
  /** How far it is; `hosts` once that is known. False where it is not running any more: removed, for one. */
  progress(id: string, progress: readonly StageProgress[], hosts: number | null): Promise<boolean>;
  /** → done. False where it is not there any more, or was begun again since. */
  done(
    attempt: Pick<EvidenceExport, 'id' | 'attempts'>,
    file: NonNullable<EvidenceExport['file']>,
    at: Instant,
  ): Promise<boolean>;
  /** → failed for good, or, with `again`, still running with what went wrong last. False where it was begun again since. */
  failed(
    attempt: Pick<EvidenceExport, 'id' | 'attempts'>,
    error: NonNullable<EvidenceExport['error']>,
    at: Instant,
    again: boolean,
  ): Promise<boolean>;
  /** Removes the row, with an act `evidence.delete` in the trail. False where there is none. The file is the caller's. */
  remove(id: string, by: Act): Promise<boolean>;
  /** Ids of those that are over at `now`, oldest first. */
  expired(now: Instant, limit: number): Promise<readonly string[]>;
  /** Of these ids, those that are there: what else lies in the folder is nobody's. */
  known(ids: readonly string[]): Promise<ReadonlySet<string>>;
  /** The earliest cut of exports that are under way, else null: what was there then must not be purged before they end. */
  oldestCut(): Promise<Instant | null>;
}

// ── what a bundle is made from ───────────────────────────────────────────────────────────────────────────────────────

/** As far as a bundle goes: entries of earlier logs, and of this one below `size`. */
export type LogCut = { readonly log: number; readonly size: number };
export type Range = { readonly from: Instant; readonly to: Instant };
export type EntryKey = { readonly at: Instant; readonly log: number; readonly index: number };

/** An entry about a host. */
export type HostEntry = EntryKey & {
  readonly entry: Uint8Array;
  /** Of a judgement, where it was asked for: its payload; null where it was purged. */
  readonly body: Uint8Array | null;
};

/** An entry with all that lies beside it, as it is now. */
export type RecordEntry = {
  readonly index: number;
  readonly entry: Uint8Array;
  readonly salt: Uint8Array | null;
  readonly payload: Uint8Array | null;
};

/** A report that moved the chain not on: an older number, or another envelope under a known one. */
export type OddReport = { readonly seq: number; readonly copy: number; readonly envelope: Uint8Array };

/**
 * Finished files in the store, where processes share a database and no disk. A piece is a row; `attempt` is the one that made the file
 * (`EvidenceExport.attempts`).
 */
export interface BundlePieces {
  put(of: Pick<EvidenceExport, 'id' | 'attempts'>, n: number, bytes: Uint8Array): Promise<void>;
  get(of: Pick<EvidenceExport, 'id' | 'attempts'>, n: number): Promise<Uint8Array | undefined>;
  /** Removes pieces of an export, some at a time, but for those of one attempt; answers how many went: none is left with 0. */
  remove(id: string, but: number | null, limit: number): Promise<number>;
  /** Ids of exports that have any. */
  ids(): Promise<readonly string[]>;
}

export interface EvidenceReads {
  /** Hosts by id, whatever their state, behind `after`. */
  hosts(after: string, limit: number): Promise<readonly Host[]>;
  countHosts(): Promise<number>;
  /** Of these hosts those that were renamed, regrouped or relabelled at that time or later (docs/evidence.md 7.2). */
  renamedSince(ids: readonly string[], at: Instant): Promise<ReadonlySet<string>>;
  /** Entries of a host and kind, by time, behind `after`; `to` is not included. */
  entries(
    hostId: string,
    kind: 'report' | 'judgement' | 'act',
    cut: LogCut,
    range: Range,
    page: { readonly after: EntryKey | null; readonly limit: number },
  ): Promise<readonly HostEntry[]>;
  /** Entries of its reports before a time, newest first, behind `after`. */
  reportsBefore(
    hostId: string,
    cut: LogCut,
    before: Instant,
    page: { readonly after: EntryKey | null; readonly limit: number },
  ): Promise<readonly HostEntry[]>;
  /** Entries of a log by index, of these kinds, from `from` on and below `to`; where nothing fits, empty. */
  entriesOf(
    log: number,
    kinds: readonly string[],
    range: { readonly from: number; readonly to: number },
    limit: number,
  ): Promise<
    readonly (EntryKey & { readonly kind: string; readonly hostId: string | null; readonly entry: Uint8Array })[]
  >;
  /** The bytes of entries from `from` on, in their order. */
  entryBytes(log: number, from: number, limit: number): Promise<readonly Uint8Array[]>;
  /** These entries with what lies beside them, by rising index. */
  records(log: number, indexes: readonly number[]): Promise<readonly RecordEntry[]>;
  /** What the host ran one after the other; those that reach into the range. */
  stays(
    hostId: string,
    range: Range,
  ): Promise<readonly { readonly image: string; readonly from: Instant; readonly to: Instant | null }[]>;
  /** Reports of kind `history` and `fork` that came within the range, at most `limit`. */
  oddReports(hostId: string, range: Range, limit: number): Promise<readonly OddReport[]>;
  /** The newest checkpoint of at most this size, and when it was signed. */
  checkpointAtMost(origin: string, size: number): Promise<{ readonly size: number; readonly at: Instant } | undefined>;
}

export type EvidenceStore = EvidenceReads & {
  readonly exports: EvidenceExports;
  readonly pieces: BundlePieces;
  /**
   * Keeps and logs the newest `same` report of each of these hosts, where it was received before `before` and is not kept yet: the last of a
   * day is otherwise kept when the next day's first comes. Answers how many.
   */
  keepSames(hostIds: readonly string[], before: Instant): Promise<number>;
};
