/** Rules about findings and about everything that is counted. */
import { BY_HAND, count, RECOUNT, RESTORE, without, type Rule } from './rule.ts';

const ofHost = (more: string): string => count(`finding.host_id = host.id and finding.is_open = 1 and ${more}`);
const ofGroup = (more: string): string => count(`finding.group_id = group_count.group_id and ${more}`);
const isPresent = (disposition: number): string =>
  ofGroup(`finding.is_open = 1 and finding.disposition = ${disposition}`);

/** Counters, and rows that say the next number. */
export const COUNTERS: readonly Rule[] = [
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

export const COUNTER_ROWS: readonly Rule[] = [
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

/** What findings say of themselves, and of episodes, waivers and acknowledgements. */
export const FINDINGS: readonly Rule[] = [
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
