/**
 * Rows as they lie in the database, the same on both engines: text, integers (times in ms, flags 0 or 1), bytes. JSON is
 * text that only the store's codecs write. Only this room knows them.
 */

export type Tables = {
  setting: SettingRow;
  audit: AuditRow;
  token: TokenRow;
  host: HostRow;
  pulse: PulseRow;
  host_label: HostLabelRow;
  verdict_change: VerdictChangeRow;
  refusal: RefusalRow;
  report: ReportRow;
  finding_group: FindingGroupRow;
  group_count: GroupCountRow;
  finding: FindingRow;
  /** Resolved ones that ended long ago. */
  finding_archive: FindingRow;
  episode: EpisodeRow;
  image: ImageRow;
  image_alias: ImageAliasRow;
  manifest: ManifestRow;
  image_trust: ImageTrustRow;
  denied: DeniedRow;
  source: SourceRow;
  blob: BlobRow;
  job: JobRow;
  group_change: GroupChangeRow;
  group_ack: GroupAckRow;
  waiver: WaiverRow;
  waiver_counter: WaiverCounterRow;
  saved_view: SavedViewRow;
  bulk: BulkRow;
  bulk_item: BulkItemRow;
  policy_version: PolicyVersionRow;
  rule_control: RuleControlRow;
  host_lineage: HostLineageRow;
  host_stay: HostStayRow;
  image_made: ImageMadeRow;
  image_tag: ImageTagRow;
  etc_text: EtcTextRow;
  image_text: ImageTextRow;
  image_origin: ImageOriginRow;
  image_content: ImageContentRow;
  account: AccountRow;
  role_binding: RoleBindingRow;
  session: SessionRow;
  api_token: ApiTokenRow;
  channel: ChannelRow;
  outbox: OutboxRow;
  delivery: DeliveryRow;
  reminded: RemindedRow;
  log_pending: LogPendingRow;
  log_entry: LogEntryRow;
  log_payload: LogPayloadRow;
  log_tile: LogTileRow;
  log_head: LogHeadRow;
  log_past: LogPastRow;
  log_checkpoint: LogCheckpointRow;
  log_cosignature: LogCosignatureRow;
  log_witness: LogWitnessRow;
  log_timestamp: LogTimestampRow;
  evidence_export: EvidenceExportRow;
  retained: RetainedRow;
  retained_to: RetainedToRow;
  hold: HoldRow;
  hold_counter: HoldCounterRow;
  inventory: InventoryRow;
  inventory_source: InventorySourceRow;
};
export type TableName = keyof Tables;

export type SettingRow = { key: string; value: Uint8Array };

export type AuditRow = {
  id: string;
  at: number;
  actor: string;
  action: string;
  object: string;
  note: string | null;
  before: string;
  after: string;
};

export type TokenRow = {
  id: string;
  hash: string;
  labels: string;
  host_group: string | null;
  max_uses: number | null;
  uses: number;
  created_at: number;
  created_by: string;
  expires_at: number;
  revoked_at: number | null;
};

/** What changes with full reports, judgements and decisions. What every report changes is `pulse`. */
export type HostRow = {
  id: string;
  name: string;
  /** Lower case, for search and order. */
  name_fold: string;
  machine_id: string;
  public_key: string;
  state: string;
  host_group: string | null;
  labels: string;
  token_id: string | null;
  created_at: number;
  facts: string | null;
  image_booted: string | null;
  image_staged: string | null;
  image_rollback: string | null;
  rule: string | null;
  verdict: string;
  rank: number;
  since: number;
  integrity: string;
  provenance: string;
  allowed: number;
  waived: number;
  reasons: string;
  drift: string | null;
  open0: number;
  open1: number;
  open2: number;
  open3: number;
  open4: number;
  acknowledged: number;
  waived_findings: number;
  /** All null, or none: while something is waived. */
  valid_until: number | null;
  bare_verdict: string | null;
  bare_rank: number | null;
  bare_integrity: string | null;
};

/**
 * One row a host, rewritten by every report: chain, freshness, and the newest `same` as received. Its only index beside
 * the key leads with what the silence job asks. Its row is also the lock for everything that is written about the host.
 */
export type PulseRow = {
  host_id: string;
  revision: number;
  /** Copies of the host row's, so that counting by verdict reads one narrow index. */
  state: string;
  verdict: string;
  head_seq: number;
  full_seq: number | null;
  full_digest: string | null;
  same_count: number;
  /** Packed, see chain.ts. */
  recent: Uint8Array;
  /** JSON of boots, gaps and flags. */
  doubts: string;
  last_seq: number | null;
  last_kind: string | null;
  last_class: string | null;
  last_started: number | null;
  last_received: number | null;
  live_at: number | null;
  report_interval: number;
  late_after: number;
  silent_after: number;
  silence_noted: number;
  same_seq: number | null;
  same_digest: string | null;
  same_class: string | null;
  same_started: number | null;
  same_received: number | null;
  same_answer: string | null;
  same_envelope: Uint8Array | null;
};

export type HostLabelRow = { host_id: string; key: string; value: string };

export type VerdictChangeRow = {
  host_id: string;
  revision: number;
  at: number;
  from_verdict: string;
  to_verdict: string;
  seq: number | null;
};

export type RefusalRow = {
  host_id: string;
  code: string;
  count: number;
  first_at: number;
  last_at: number;
  detail: string;
};

export type ReportRow = {
  host_id: string;
  seq: number;
  /** 0 for the first envelope under the number, 1… for forks. */
  copy: number;
  kind: string;
  digest: string;
  class: string;
  started_at: number;
  received_at: number;
  answer: string;
  envelope: Uint8Array;
};

export type FindingGroupRow = {
  id: string;
  rule: string;
  kind: string;
  subject: string;
  signature: string;
  sev: number;
  is_open: number;
  first_seen: number;
  last_new_at: number;
  /** Of `GROUP_STATUSES`. */
  status: number;
  assignee: string | null;
  revision: number;
  flapping_until: number;
};

/** Hot and narrow, apart from what lists sort by. */
export type GroupCountRow = {
  group_id: string;
  open: number;
  acknowledged: number;
  waived: number;
  ever: number;
  reopened: number;
};

export type GroupChangeRow = { group_id: string; at: number; kind: string; hosts: number };

export type GroupAckRow = {
  group_id: string;
  /** The empty string for every host, else a JSON list of host groups. */
  scope: string;
  /** JSON: host groups within it that it does not hold for any more. */
  apart: string;
  by_actor: string;
  at: number;
  until: number;
  note: string | null;
};

export type FindingRow = {
  host_id: string;
  group_id: string;
  /** 1 while the machine sees it, whatever people decided. */
  is_open: number;
  disposition: number;
  sev: number;
  first_seen: number;
  opened_at: number;
  resolved_at: number | null;
  /** Number of the newest episode, from 1. */
  episode: number;
  waiver_id: string | null;
  detail: string;
  until: number | null;
  ack: string | null;
  returned: string | null;
  /** JSON: times of its newest openings and endings, at most FLAPPING_TURNS. */
  turns: string | null;
};

export type EpisodeRow = {
  host_id: string;
  group_id: string;
  n: number;
  opened_at: number;
  opened_seq: number | null;
  closed_at: number | null;
  closed_seq: number | null;
  reason: string | null;
};

export type ImageRow = {
  digest: string;
  state: string;
  reasons: string;
  attempts: number;
  next_try: number | null;
  first_seen: number;
  built_at: number | null;
  config: string | null;
  repositories: string;
  claims: string;
  version: string | null;
  warnings: string;
};

export type ImageAliasRow = { alias: string; digest: string; kind: string };

export type ManifestRow = { image: string; rule: string; header: Uint8Array; trees: string; built_at: number };

export type ImageTrustRow = {
  image: string;
  revision: number;
  policy: string;
  roots: string;
  deny: string;
  state: string;
  since: number;
  verified_at: number;
  looked_at: number | null;
  unreachable_since: number | null;
  vanished_at: number | null;
  told: string;
  kept: string;
  indexes: string;
  last_good: string | null;
};

export type DeniedRow = { id: string; entry: string; created_at: number; created_by: string };

export type SourceRow = { pattern: string; options: string; created_at: number; created_by: string };

export type BlobRow = { key: string; encoding: string; bytes: Uint8Array };

export type JobRow = {
  id: string;
  kind: string;
  dedupe_key: string;
  /** When it may next be taken: its run time while it waits, the end of its lease while it runs. */
  due_at: number;
  run_at: number;
  attempts: number;
  /** Null while it waits. */
  lease: string | null;
  /** Asked for again while it ran: when. */
  again_at: number | null;
  payload: string;
  error: string | null;
};

export type WaiverRow = {
  n: number;
  revision: number;
  kind: string;
  title: string;
  justification: string;
  compensating: string | null;
  ticket: string | null;
  selector: string;
  ceiling: number;
  starts_at: number | null;
  expires_at: number;
  state: string;
  requested_by: string;
  requested_at: number;
  decided_by: string | null;
  decided_at: number | null;
  decision_note: string | null;
  alone: number;
  ended_by: string | null;
  ended_at: number | null;
  end_reason: string | null;
  extension: string | null;
  scope: string | null;
  expiry_noted: number;
};

export type WaiverCounterRow = { id: number; next: number; stamp: number };

export type SavedViewRow = {
  id: string;
  owner: string | null;
  name: string;
  list: string;
  query: string;
  created_at: number;
  created_by: string;
};

export type BulkRow = {
  id: string;
  actor: string;
  action: string;
  terms: string;
  filter: string;
  as_of: number;
  matched: number;
  state: string;
  expires_at: number;
  apply_key: string | null;
  applied_at: number | null;
  done_at: number | null;
  changed: number;
  skipped: number;
  undo_until: number | null;
  undoes: string | null;
};

export type BulkItemRow = {
  bulk_id: string;
  host_id: string;
  group_id: string;
  episode: number;
  result: string | null;
  before: string | null;
};

export type PolicyVersionRow = {
  n: number;
  digest: string;
  name: string;
  documents: string;
  origin: string;
  place: string | null;
  commit_id: string | null;
  note: string | null;
  created_at: number;
  created_by: string;
};

export type RuleControlRow = { control: string; rule: string };

export type HostLineageRow = { host_id: string; lineage: string };

/** A stay of a lineage; `seq` 0 where the first report of it is not known, `to_at` null while it runs. */
export type HostStayRow = { host_id: string; from_at: number; seq: number; image: string; to_at: number | null };

export type ImageMadeRow = { digest: string; made_at: number | null };

export type ImageTagRow = {
  reference: string;
  digests: string;
  moved_at: number;
  checked_at: number | null;
  due_at: number;
  failure: string | null;
};

export type EtcTextRow = { sha256: string; bytes: Uint8Array };

export type ImageTextRow = { image: string; kept: number; omitted: string; at: number };

export type ImageOriginRow = {
  image: string;
  origins: Uint8Array | null;
  contents: number | null;
  failure: string | null;
  at: number;
};

export type ImageContentRow = { shard: number; image: string; marks: Uint8Array };

export type AccountRow = {
  id: string;
  kind: string;
  name: string;
  issuer: string | null;
  subject: string | null;
  email: string | null;
  /** JSON: a list of texts. */
  claims: string;
  created_at: number;
  created_by: string;
  signed_in_at: number | null;
  disabled_at: number | null;
};

export type RoleBindingRow = {
  id: string;
  holder_kind: string;
  holder: string;
  role: string;
  /** The empty string for every host. */
  host_group: string;
  created_at: number;
  created_by: string;
};

export type SessionRow = {
  hash: string;
  account_id: string;
  mark: string | null;
  created_at: number;
  seen_at: number;
  idle_until: number;
  ends_at: number;
  address: string;
};

export type ApiTokenRow = {
  id: string;
  hash: string;
  name: string;
  owner: string;
  grants: string;
  created_at: number;
  created_by: string;
  expires_at: number;
  revoked_at: number | null;
  used_at: number | null;
};

export type ChannelRow = {
  id: string;
  name: string;
  kind: string;
  settings: string;
  secret: string;
  state: string;
  revision: number;
  created_at: number;
  created_by: string;
  disabled_at: number | null;
  disabled_why: string | null;
  condition_error: string | null;
  condition_error_at: number | null;
};

export type RemindedRow = { kind: string; object: string; at: number };

export type OutboxRow = {
  id: string;
  at: number;
  channel_id: string;
  topic: string;
  transition: string;
  sev: number;
  /** Not told before: the grace of a new host, the hold of what flaps. */
  ready_at: number;
  facts: string;
  hosts: string;
  /** Null until it was told. */
  delivery_id: string | null;
};

export type DeliveryRow = {
  id: string;
  channel_id: string;
  topic: string;
  transition: string;
  episode: number;
  n: number;
  sev: number;
  created_at: number;
  notice: string;
  hosts: number;
  ended: number;
  state: string;
  attempts: number;
  next_at: number | null;
  done_at: number | null;
  status: number | null;
  error: string | null;
};

/** What has no place in the log yet. */
export type LogPendingRow = {
  id: string;
  at: number;
  kind: string;
  host_id: string | null;
  entry: Uint8Array;
  salt: Uint8Array;
  /** Where the payload lies (logpayload.ts). */
  ref: string;
  /** The payload itself, where it lies nowhere else. */
  body: Uint8Array | null;
};

export type LogEntryRow = {
  /** Counts origins, from 1. */
  log: number;
  idx: number;
  id: string;
  at: number;
  kind: string;
  host_id: string | null;
  entry: Uint8Array;
  leaf: Uint8Array;
};

export type LogPayloadRow = {
  id: string;
  ref: string;
  /** Null once it was purged, as the body. */
  salt: Uint8Array | null;
  body: Uint8Array | null;
  purged_at: number | null;
  /** The reference of the entry that tells of it. */
  purged_by: string | null;
};

export type LogTileRow = { log: number; level: number; n: number; hashes: Uint8Array };

export type LogHeadRow = {
  id: number;
  log: number;
  origin: string;
  public_key: string;
  size: number;
  root: Uint8Array;
  compact: Uint8Array;
  began_at: number;
  /** JSON of the head that this log was begun after; null for the first. */
  previous: string | null;
};

export type LogPastRow = Omit<LogHeadRow, 'id' | 'compact'> & { ended_at: number };

export type LogCheckpointRow = { origin: string; size: number; root: Uint8Array; note: string; at: number };

export type LogCosignatureRow = { origin: string; size: number; witness: string; line: string; at: number };

export type LogWitnessRow = {
  witness: string;
  origin: string;
  /** The last size that it accepted. */
  size: number;
  at: number;
  tried_at: number | null;
  error: string | null;
};

export type LogTimestampRow = { origin: string; size: number; authority: string; token: Uint8Array; at: number };

/** Payloads of one kind of entries, of one UTC day, that are held. */
export type RetainedRow = { kind: string; day: number; payloads: number; bytes: number };
export type RetainedToRow = { log: number; next: number };

export type HoldRow = {
  n: number;
  /** JSON: null for every host, else ids of hosts and host groups. */
  scope: string;
  from_at: number | null;
  to_at: number | null;
  reason: string;
  set_by: string;
  set_at: number;
  release_reason: string | null;
  released_by: string | null;
  released_at: number | null;
};
export type HoldCounterRow = { id: number; next: number };

export type InventoryRow = {
  source: string;
  version: number;
  at: number;
  by_actor: string;
  digest: string;
  bytes: number;
  /** JSON. */
  mapping: string;
  theirs: number;
  ours: number;
  /** JSON. */
  matched: string;
  repeated: number;
  blank: number;
  only_theirs: number;
  only_ours: number;
  /** JSON, zstd. */
  differences: Uint8Array;
  list: Uint8Array | null;
  /** Of the trail. */
  act: string;
};
export type InventorySourceRow = { source: string; version: number };

export type EvidenceExportRow = {
  id: string;
  created_at: number;
  created_by: string;
  period_from: number;
  period_to: number;
  filter: string | null;
  scope: string | null;
  frameworks: string;
  sampling: string | null;
  parameters: string;
  state: string;
  progress: string;
  act: string | null;
  cut: string | null;
  attempts: number;
  hosts: number | null;
  error: string | null;
  sha256: string | null;
  bytes: number | null;
  finished_at: number | null;
  expires_at: number;
};
