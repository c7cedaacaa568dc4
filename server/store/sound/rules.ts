/**
 * What must hold between rows, as SQL that both engines take: each rule finds the rows that break it, inside the database, so that only those
 * come out. Rows that were moved, purged or written by an older build break none of them (docs/durability.md 3).
 */

export type Rule = {
  readonly code: string;
  /** The table that a faulty row is told under. */
  readonly table: string;
  /** SQL of what names the row. */
  readonly key: string;
  /** SQL: from where, and what is wrong. */
  readonly from: string;
  readonly where: string;
  /** SQL of a text that says what was found; nothing where the meaning says all. */
  readonly found?: string;
  readonly means: string;
  readonly todo: string;
};

const RESTORE = 'restore a backup that is sound, or take it as lost: the evidence log says what it was';
const BY_HAND =
  'somebody changed the database by hand, or its disk lost writes: look at the disk, and restore a backup that is sound';
const RECOUNT =
  'the nightly recount sets it right (it runs at 3:30 UTC in every server); if it comes back, report it as a fault of ours';

const without = (table: string, on: string): string => `not exists (select 1 from ${table} where ${on})`;
const count = (where: string, of = 'finding'): string => `(select count(*) from ${of} where ${where})`;

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

const ofHost = (more: string): string => count(`finding.host_id = host.id and finding.is_open = 1 and ${more}`);
const ofGroup = (more: string): string => count(`finding.group_id = group_count.group_id and ${more}`);
const isPresent = (disposition: number): string =>
  ofGroup(`finding.is_open = 1 and finding.disposition = ${disposition}`);

const COUNTERS: readonly Rule[] = [
  {
    code: 'HOST_COUNT',
    table: 'host',
    key: 'host.id',
    from: 'host',
    where: [
      ...[0, 1, 2, 3, 4].map((sev) => `open${sev} <> ${ofHost(`finding.disposition = 0 and finding.sev = ${sev}`)}`),
      `acknowledged <> ${ofHost('finding.disposition = 1')}`,
      `waived_findings <> ${ofHost('finding.disposition = 2')}`,
    ].join(' or '),
    means: 'lists and the first page show other numbers than the findings of this host are',
    todo: RECOUNT,
  },
  {
    code: 'GROUP_COUNT',
    table: 'group_count',
    key: 'group_count.group_id',
    from: 'group_count',
    where: [
      `open <> ${isPresent(0)}`,
      `acknowledged <> ${isPresent(1)}`,
      `waived <> ${isPresent(2)}`,
      `ever <> ${ofGroup('finding.is_open = 1')} + ${ofGroup('finding.is_open = 0')} + ${count(
        'finding_archive.group_id = group_count.group_id',
        'finding_archive',
      )}`,
      `reopened <> ${ofGroup('finding.is_open = 1 and finding.episode > 1')}`,
    ].join(' or '),
    means: 'the list of findings shows other numbers of hosts than there are',
    todo: RECOUNT,
  },
  {
    code: 'GROUP_STATUS',
    table: 'finding_group',
    key: 'g.id',
    from: 'finding_group as g join group_count as c on c.group_id = g.id',
    where: `g.status <> (case when c.open > 0 then 0 when c.acknowledged > 0 then 1 when c.waived > 0 then 2 else 3 end)
      or g.is_open <> (case when c.open > 0 or c.acknowledged > 0 or c.waived > 0 then 1 else 0 end)`,
    means: 'the group stands under another tab than its hosts say, or in none',
    todo: RECOUNT,
  },
  {
    code: 'BULK_COUNT',
    table: 'bulk',
    key: 'bulk.id',
    from: 'bulk',
    where: `matched <> ${count('bulk_item.bulk_id = bulk.id', 'bulk_item')}`,
    means: 'an act on many covers another number of findings than was shown',
    todo: BY_HAND,
  },
  {
    code: 'RETAINED_COUNT',
    table: 'retained',
    key: `coalesce(r.kind, c.kind) || ' ' || coalesce(r.day, c.day)`,
    from: `(select e.kind as kind, e.at / 86400000 as day, count(*) as held from log_entry as e
        join log_payload as p on p.id = e.id join retained_to as t on t.log = e.log
        where e.idx < t.next and p.purged_at is null and e.kind in ('report', 'judgement', 'act')
        group by e.kind, e.at / 86400000) as c
      full outer join retained as r on r.kind = c.kind and r.day = c.day`,
    where: 'coalesce(r.payloads, 0) <> coalesce(c.held, 0)',
    found: `'counted ' || coalesce(r.payloads, 0) || ', held ' || coalesce(c.held, 0)`,
    means: 'what retention says is held is not what is held: --keep-bytes would purge too much or too little',
    todo: BY_HAND,
  },
];

const COUNTER_ROWS: readonly Rule[] = [
  {
    code: 'NEXT_NUMBER',
    table: 'waiver_counter',
    key: `'W-' || n`,
    from: 'waiver',
    where: 'n >= coalesce((select next from waiver_counter where id = 1), 0)',
    means: 'the next waiver would get a number that is taken',
    todo: BY_HAND,
  },
  {
    code: 'NEXT_NUMBER',
    table: 'hold_counter',
    key: `'H-' || n`,
    from: 'hold',
    where: 'n >= coalesce((select next from hold_counter where id = 1), 0)',
    means: 'the next legal hold would get a number that is taken',
    todo: BY_HAND,
  },
  {
    code: 'NEXT_NUMBER',
    table: 'inventory_source',
    key: 's.source',
    from: 'inventory_source as s',
    where: 's.version <> coalesce((select max(i.version) from inventory as i where i.source = s.source), 0)',
    means: 'the newest list of this source is not the one that counts',
    todo: BY_HAND,
  },
  {
    code: 'POLICY_GAP',
    table: 'policy_version',
    key: 'v.n',
    from: 'policy_version as v',
    where: `v.n > 1 and ${without('policy_version as b', 'b.n = v.n - 1')}`,
    means: 'the policy before this one is gone: nobody can tell by what hosts were judged then',
    todo: RESTORE,
  },
];

const FINDINGS: readonly Rule[] = [
  {
    code: 'FINDING_STATE',
    table: 'finding',
    key: `host_id || ' ' || group_id`,
    from: 'finding',
    where: `is_open not in (0, 1) or disposition not in (0, 1, 2) or sev < 0 or sev > 4
      or (is_open = 1 and resolved_at is not null)
      or (is_open = 0 and (resolved_at is null or disposition <> 0 or until is not null or ack is not null))
      or (disposition <> 1 and ack is not null) or (disposition = 1 and (ack is null or until is null))
      or (disposition = 2 and waiver_id is null)`,
    found: `'is_open ' || is_open || ', disposition ' || disposition || ', severity ' || sev`,
    means:
      'what the row says of the finding contradicts itself, so indexes of open and decided ones hold or miss it wrongly',
    todo: BY_HAND,
  },
  {
    code: 'FINDING_STATE',
    table: 'finding_archive',
    key: `host_id || ' ' || group_id`,
    from: 'finding_archive',
    where: 'is_open <> 0 or resolved_at is null or disposition <> 0',
    means: 'a finding that is not over was moved aside: no list shows it',
    todo: BY_HAND,
  },
  {
    code: 'FINDING_TWICE',
    table: 'finding_archive',
    key: `a.host_id || ' ' || a.group_id`,
    from: 'finding_archive as a join finding as f on f.host_id = a.host_id and f.group_id = a.group_id',
    where: '1 = 1',
    means: 'one finding stands in both tables and counts twice',
    todo: BY_HAND,
  },
  {
    code: 'EPISODES',
    table: 'finding',
    key: `f.host_id || ' ' || f.group_id`,
    from: 'finding as f',
    where: `${count('e.host_id = f.host_id and e.group_id = f.group_id', 'episode as e')} <> f.episode
      or ${count('e.host_id = f.host_id and e.group_id = f.group_id and e.closed_at is null', 'episode as e')} <> f.is_open`,
    found: `'episode ' || f.episode || ', is_open ' || f.is_open`,
    means: 'the story of this finding is not whole: an episode is missing, or one is open that is over',
    todo: RESTORE,
  },
  {
    code: 'EPISODES',
    table: 'finding_archive',
    key: `f.host_id || ' ' || f.group_id`,
    from: 'finding_archive as f',
    where: `${count('e.host_id = f.host_id and e.group_id = f.group_id', 'episode as e')} <> f.episode`,
    means: 'the story of this finding is not whole: an episode is missing',
    todo: RESTORE,
  },
  {
    code: 'REFERENCE',
    table: 'episode',
    key: `e.host_id || ' ' || e.group_id || ' ' || e.n`,
    from: 'episode as e',
    where: `${without('finding as f', 'f.host_id = e.host_id and f.group_id = e.group_id')}
      and ${without('finding_archive as a', 'a.host_id = e.host_id and a.group_id = e.group_id')}`,
    found: `'no row of finding for it'`,
    means: 'the finding that this episode is of was lost',
    todo: RESTORE,
  },
  {
    code: 'WAIVED_BY',
    table: 'finding',
    key: `host_id || ' ' || group_id`,
    from: 'finding',
    where: `waiver_id is not null and waiver_id not in (select 'W-' || n from waiver)`,
    found: `'waiver ' || waiver_id`,
    means: 'a waiver that is not there covers it, or did',
    todo: RESTORE,
  },
  {
    code: 'GROUP_ACK',
    table: 'group_ack',
    key: `a.group_id || ' ' || a.scope`,
    from: 'group_ack as a',
    where: without('finding_group as g', 'g.id = a.group_id and g.is_open = 1'),
    means:
      'an acknowledgement stands of a group that is open nowhere: a host that shows it next would come under it unseen',
    todo: "take it back: 'bootproof findings unack'",
  },
];

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
 * Jobs that nobody does: due for an hour before the database last changed, or given back again and again. `seen`: SQL of the last sign of life,
 * because a server that is stopped does no jobs and is not at fault.
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
