/**
 * What must hold between rows, as SQL that both engines take: each rule finds the rows that break it, inside the database, so that only those
 * come out. Rows that were moved, purged or written by an older build break none of them (docs/durability.md 3).
 */
import { COUNTER_ROWS, COUNTERS, FINDINGS } from './countrules.ts';
import { BY_HAND, RESTORE, without, type Rule } from './rule.ts';

/** Rows that name a row of another table. */
const REFERENCES: readonly (readonly [table: string, key: string, to: string, on: string, when?: string])[] = [
  ['host', 'host.id', 'token', 'token.id = host.token_id', 'host.token_id is not null'],
  ['host_label', `host_label.host_id || ' ' || host_label.key`, 'host', 'host.id = host_label.host_id'],
  ['verdict_change', `verdict_change.host_id || ' ' || revision`, 'host', 'host.id = verdict_change.host_id'],
  ['refusal', `refusal.host_id || ' ' || code`, 'host', 'host.id = refusal.host_id', `refusal.host_id <> ''`],
  ['report', `report.host_id || ' ' || seq || ' ' || copy`, 'host', 'host.id = report.host_id'],
  ['host_lineage', 'host_lineage.host_id', 'host', 'host.id = host_lineage.host_id'],
  ['host_stay', `host_stay.host_id || ' ' || from_at || ' ' || seq`, 'host', 'host.id = host_stay.host_id'],
  ['finding', `finding.host_id || ' ' || group_id`, 'host', 'host.id = finding.host_id'],
  ['finding', `finding.host_id || ' ' || group_id`, 'finding_group', 'finding_group.id = finding.group_id'],
  [
    'finding_archive',
    `finding_archive.host_id || ' ' || group_id`,
    'finding_group',
    'finding_group.id = finding_archive.group_id',
  ],
  ['group_change', `group_id || ' ' || at || ' ' || kind`, 'finding_group', 'finding_group.id = group_change.group_id'],
  ['group_count', 'group_count.group_id', 'finding_group', 'finding_group.id = group_count.group_id'],
  ['finding_group', 'finding_group.id', 'group_count', 'group_count.group_id = finding_group.id'],
  ['image_alias', 'image_alias.alias', 'image', 'image.digest = image_alias.digest'],
  ['manifest', `manifest.image || ' ' || rule`, 'image', 'image.digest = manifest.image'],
  ['image', 'image.digest', 'manifest', 'manifest.image = image.digest', `image.state = 'ready'`],
  [
    'session',
    'session.account_id',
    'account',
    'account.id = session.account_id',
    `session.mark is null and session.account_id <> 'admin'`,
  ],
  ['role_binding', 'role_binding.id', 'account', 'account.id = role_binding.holder', `holder_kind = 'account'`],
  ['outbox', 'outbox.id', 'channel', 'channel.id = outbox.channel_id'],
  ['delivery', 'delivery.id', 'channel', 'channel.id = delivery.channel_id'],
  ['bulk_item', `bulk_item.bulk_id || ' ' || host_id || ' ' || group_id`, 'bulk', 'bulk.id = bulk_item.bulk_id'],
  ['evidence_export', 'evidence_export.id', 'audit', 'audit.id = evidence_export.act', 'act is not null'],
  ['inventory', `source || ' ' || version`, 'audit', 'audit.id = inventory.act'],
  ['log_payload', 'log_payload.id', 'log_entry', 'log_entry.id = log_payload.id'],
  [
    'log_cosignature',
    `log_cosignature.origin || ' ' || log_cosignature.size || ' ' || witness`,
    'log_checkpoint',
    'log_checkpoint.origin = log_cosignature.origin and log_checkpoint.size = log_cosignature.size',
  ],
  [
    'log_timestamp',
    `log_timestamp.origin || ' ' || log_timestamp.size || ' ' || authority`,
    'log_checkpoint',
    'log_checkpoint.origin = log_timestamp.origin and log_checkpoint.size = log_timestamp.size',
  ],
];

const references: readonly Rule[] = REFERENCES.map(([table, key, to, on, when]) => ({
  code: 'REFERENCE',
  table,
  key,
  from: table,
  where: `${when === undefined ? '' : `${when} and `}${without(to, on)}`,
  found: `'no row of ${to} for it'`,
  means: `it names a row of ${to} that is not there: one of the two was lost`,
  todo: RESTORE,
}));

const DECISIONS: readonly Rule[] = [
  {
    code: 'WAIVER_STATE',
    table: 'waiver',
    key: `'W-' || n`,
    from: 'waiver',
    where: `(state = 'approved' and (decided_at is null or decided_by is null))
      or state not in ('requested', 'approved', 'rejected', 'withdrawn', 'revoked')`,
    found: `'state ' || state`,
    means: 'nobody can tell who decided this waiver, or what it is',
    todo: BY_HAND,
  },
  {
    code: 'KEY_MISSING',
    table: 'setting',
    key: 'k.key',
    from: `(select 'server-key-seed' as key union all select 'log-key-seed' union all select 'ticket-key'
      union all select 'session-secret') as k`,
    where: `exists (select 1 from host) and ${without('setting as s', 's.key = k.key and length(s.value) = 32')}`,
    means: 'the next start would make another key, and hosts trust the one that is gone',
    todo: RESTORE,
  },
];

const LOG_BEGAN =
  '(select min(began_at) from (select began_at from log_head union all select began_at from log_past) as b)';
const isLogged = (ref: string): string =>
  `(exists (select 1 from log_payload where ref = ${ref}) or exists (select 1 from log_pending where ref = ${ref}))`;
const REPORT_REF = `'report:' || report.host_id || '/' || report.seq || '/' || report.copy`;
const ORIGINS = `select origin from log_head union all select origin from log_past`;

const HOSTS: readonly Rule[] = [
  {
    code: 'PULSE',
    table: 'host',
    key: 'host.id',
    from: 'host',
    where: without('pulse', 'pulse.host_id = host.id'),
    means: 'the host has no chain: its next report cannot be taken',
    todo: RESTORE,
  },
  {
    code: 'PULSE',
    table: 'pulse',
    key: 'pulse.host_id',
    from: 'pulse',
    where: without('host', 'host.id = pulse.host_id'),
    means: 'the host that this chain is of was lost',
    todo: RESTORE,
  },
  {
    code: 'PULSE',
    table: 'pulse',
    key: 'h.id',
    from: 'host as h join pulse as p on p.host_id = h.id',
    where: 'p.state <> h.state or p.verdict <> h.verdict',
    found: `'the host is ' || h.state || ' and ' || h.verdict || ', counted as ' || p.state || ' and ' || p.verdict`,
    means: 'the first page counts this host wrongly',
    todo: BY_HAND,
  },
  {
    code: 'VERDICT',
    table: 'host',
    key: 'host.id',
    from: 'host',
    where: `host.verdict <> coalesce((select v.to_verdict from verdict_change as v where v.host_id = host.id
      order by v.revision desc limit 1), host.verdict)`,
    found: `'it is ' || host.verdict`,
    means: 'its verdict is another than the last one in its history: one of them was changed',
    todo: BY_HAND,
  },
  {
    code: 'LAPSE',
    table: 'host',
    key: 'host.id',
    from: 'host',
    where: `(valid_until is null and (bare_verdict is not null or bare_rank is not null or bare_integrity is not null))
      or (valid_until is not null and (bare_verdict is null or bare_rank is null or bare_integrity is null))`,
    means: 'nobody can tell what this host is once its waivers end',
    todo: "judge it anew: any policy that is applied does ('bootproof policy apply')",
  },
];

const REPORTS: readonly Rule[] = [
  {
    code: 'REPORT_MISSING',
    table: 'report',
    key: `pulse.host_id || ' ' || full_seq`,
    from: 'pulse',
    where: `full_seq is not null and ${without(
      'report as r',
      `r.host_id = pulse.host_id and r.seq = pulse.full_seq and r.copy = 0 and r.kind = 'full' and r.digest = pulse.full_digest`,
    )}`,
    means: 'an acknowledged full report is gone: the one that the host leans on',
    todo: 'ask the host for a full one: it sends one with the next image, or at once after a gap; then restore what is missing from a backup',
  },
  {
    code: 'REPORT_EMPTY',
    table: 'report',
    key: `host_id || ' ' || seq || ' ' || copy`,
    from: 'report',
    where: `length(envelope) = 0 and ${without('log_payload as p', `p.ref = ${REPORT_REF} and p.purged_at is not null`)}`,
    means: 'an acknowledged report lost its bytes, and no purge tells of it',
    todo: RESTORE,
  },
  {
    code: 'REPORT_UNPURGED',
    table: 'report',
    key: `host_id || ' ' || seq || ' ' || copy`,
    from: 'report',
    where: `length(envelope) > 0 and exists (select 1 from log_payload as p where p.ref = ${REPORT_REF} and p.purged_at is not null)`,
    means: 'the log says that this report was purged, and its bytes are here',
    todo: BY_HAND,
  },
  {
    code: 'NOT_LOGGED',
    table: 'report',
    key: `host_id || ' ' || seq || ' ' || copy`,
    from: 'report',
    where: `received_at > ${LOG_BEGAN} + 60000 and not ${isLogged(REPORT_REF)}`,
    means: 'this report is no entry of the evidence log: it was put here past the server, or its entry was removed',
    todo: BY_HAND,
  },
  {
    code: 'NOT_LOGGED',
    table: 'audit',
    key: 'id',
    from: 'audit',
    where: `at > ${LOG_BEGAN} + 60000 and not ${isLogged(`'audit:' || audit.id`)}`,
    means: 'this act is no entry of the evidence log: it was put here past the server, or its entry was removed',
    todo: BY_HAND,
  },
];

const LOG: readonly Rule[] = [
  {
    code: 'LOG_ROWS',
    table: 'log_pending',
    key: 'id',
    from: 'log_pending',
    where: 'exists (select 1 from log_entry where log_entry.id = log_pending.id)',
    means: 'it waits for a place in the log and has one',
    todo: BY_HAND,
  },
  {
    code: 'LOG_ROWS',
    table: 'log_entry',
    key: `log || ' ' || idx`,
    from: 'log_entry',
    where: 'log not in (select log from log_head union all select log from log_past)',
    means: 'it is an entry of no log that was begun here',
    todo: BY_HAND,
  },
  {
    code: 'LOG_ROWS',
    table: 'log_tile',
    key: `log || ' ' || level || ' ' || n`,
    from: 'log_tile',
    where: 'log not in (select log from log_head union all select log from log_past)',
    means: 'it is a tile of no log that was begun here',
    todo: BY_HAND,
  },
  {
    code: 'LOG_ROWS',
    table: 'log_checkpoint',
    key: `origin || ' ' || size`,
    from: 'log_checkpoint',
    where: `origin not in (${ORIGINS})`,
    means: 'it was signed for a log that was never begun here',
    todo: BY_HAND,
  },
];

/** Of each finding, host, report and decision; in the order in which they are told. */
export const RULES: readonly Rule[] = [
  ...HOSTS,
  ...REPORTS,
  ...references,
  ...FINDINGS,
  ...COUNTERS,
  ...COUNTER_ROWS,
  ...DECISIONS,
  ...LOG,
];

/**
 * Jobs that nobody does: due for an hour before the database last took something in (`seen`), because a server that is stopped does no jobs and is
 * not at fault; or given back again and again.
 */
export function stuckRule(seen: number, hourMs: number, attempts: number): Rule {
  return {
    code: 'JOB_STUCK',
    table: 'job',
    key: 'dedupe_key',
    from: 'job',
    where: `due_at < ${seen - hourMs} or attempts >= ${attempts}`,
    found: `kind || ', tried ' || attempts || ' times' || coalesce(': ' || error, '')`,
    means: 'work that was promised is not done: it fails again and again, or no process that runs does it',
    todo: "look into the server's log for 'job failed'; work that cannot be done is dropped with the image or export that it is for",
  };
}
