/**
 * Findings of a group commit: from what machines saw to rows of finding, episode, group and all counters. What stands is
 * read first, so that a repeated sighting writes nothing and every counter moves by what really changed.
 */
import assert from 'node:assert/strict';
import { FLAPPING_MS, FLAPPING_TURNS } from '#src/limits.ts';
import type { Row, Tx } from './engine.ts';
import { ackFor, acksOf } from './groupacks.ts';
import type { Happening } from './outbox.ts';
import type * as r from './records.ts';
import type { LoggedFinding } from './logpayload.ts';
import type { Disposed, HostWrite } from './store.ts';
import type { EpisodeRow, FindingGroupRow, FindingRow, GroupChangeRow, GroupCountRow } from './tables.ts';

export const DISPOSITIONS = ['none', 'acknowledged', 'waived'] as const;
/** By `finding_group.status`. */
export const GROUP_STATUSES = ['open', 'acknowledged', 'waived', 'resolved'] as const;

/** Until when its newest openings and endings say that it flaps; null where they do not. */
export function flappingUntil(turns: readonly number[]): number | null {
  const first = turns[0];
  if (turns.length < FLAPPING_TURNS || first === undefined) return null;
  return turns.at(-1)! - first <= FLAPPING_MS ? first + FLAPPING_MS : null;
}

export function turnsOf(text: string | null): number[] {
  return text === null ? [] : (JSON.parse(text) as number[]);
}

type Counters = Row<'host', 'open0' | 'open1' | 'open2' | 'open3' | 'open4' | 'acknowledged' | 'waived_findings'>;
type JudgedHost = Counters & Row<'host', 'host_group'>;
type Changed = {
  readonly opened: string[];
  readonly reopened: string[];
  readonly resolved: string[];
  readonly disposed: Disposed[];
};

const FINDING = [
  'host_id',
  'group_id',
  'is_open',
  'disposition',
  'sev',
  'first_seen',
  'opened_at',
  'resolved_at',
  'episode',
  'waiver_id',
  'until',
  'ack',
  'returned',
  'turns',
] as const;
/** A finding whole: what is moved aside, and comes back when a machine shows it again. */
export const ARCHIVED = [...FINDING, 'detail'] as const;
const FINDING_SET = [
  'is_open',
  'disposition',
  'sev',
  'opened_at',
  'resolved_at',
  'episode',
  'waiver_id',
  'until',
  'ack',
  'returned',
  'turns',
  'detail',
] as const;
export const COUNTS = ['open', 'acknowledged', 'waived', 'ever', 'reopened'] as const;
/** The name of a disposition's counter. */
const COUNTER = ['open', 'acknowledged', 'waived'] as const;

type Draft = { row: FindingRow; changed: boolean };
type GroupDraft = {
  facts: r.GroupFacts | null;
  sev: number | null;
  openedAt: number | null;
  firstSeen: number | null;
  flappingUntil: number;
  count: GroupCountRow;
};

const keyOf = (hostId: string, groupId: string) => `${hostId} ${groupId}`;
const byId = (a: { readonly id: string }, b: { readonly id: string }) => (a.id < b.id ? -1 : 1);
const byKey = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]) => (a < b ? -1 : 1);

function count(counters: Counters, row: Pick<FindingRow, 'disposition' | 'sev'>, by: 1 | -1): void {
  const name =
    row.disposition === 1
      ? 'acknowledged'
      : row.disposition === 2
        ? 'waived_findings'
        : (`open${row.sev as r.Severity}` as const);
  counters[name] += by;
  assert(counters[name] >= 0, `a host's counter ${name} fell below zero`);
}

export class FindingDraft {
  readonly #findings = new Map<string, Draft>();
  readonly #groups = new Map<string, GroupDraft>();
  readonly #episodes = new Map<string, EpisodeRow>();
  readonly #moves = new Map<string, GroupChangeRow>();
  readonly #happened: (Extract<Happening, { kind: 'finding' }> & { readonly row: FindingRow })[] = [];
  readonly #logged: LoggedFinding[] = [];
  /** Keys of those that were moved aside; one that changes comes back. */
  readonly #archived = new Set<string>();
  #acks: ReadonlyMap<string, readonly r.GroupAck[]> = new Map();
  readonly #closed = new Map<
    string,
    Row<'episode', 'host_id' | 'group_id' | 'n' | 'closed_at' | 'closed_seq' | 'reason'>
  >();

  /** Reads what stands under every (host, group) that the items name. */
  async load(tx: Tx, items: readonly HostWrite[]): Promise<void> {
    const keys = new Map<string, { host_id: string; group_id: string }>();
    for (const { hostId, findings, disposals } of items) {
      for (const { groupId } of disposals ?? [])
        keys.set(keyOf(hostId, groupId), { host_id: hostId, group_id: groupId });
      for (const change of findings ?? []) {
        const groupId = change.kind === 'present' ? change.group.id : change.groupId;
        keys.set(keyOf(hostId, groupId), { host_id: hostId, group_id: groupId });
      }
    }
    const rows = await tx.bulk.select('finding', [...FINDING, 'detail'], ['host_id', 'group_id'], [...keys.values()]);
    for (const row of rows) {
      keys.delete(keyOf(row.host_id, row.group_id));
      this.#findings.set(keyOf(row.host_id, row.group_id), { row, changed: false });
    }
    const aside = await tx.bulk.select('finding_archive', ARCHIVED, ['host_id', 'group_id'], [...keys.values()]);
    for (const row of aside) {
      this.#archived.add(keyOf(row.host_id, row.group_id));
      this.#findings.set(keyOf(row.host_id, row.group_id), { row, changed: false });
    }
  }

  /** Acknowledgements of groups that are new on a host. Read under the lock of the waivers' stamp, which giving one moves. */
  async loadAcks(tx: Tx, items: readonly HostWrite[]): Promise<void> {
    const fresh: string[] = [];
    let first = Infinity;
    for (const { hostId, findings, at } of items)
      for (const change of findings ?? []) {
        if (change.kind !== 'present' || this.#findings.has(keyOf(hostId, change.group.id))) continue;
        fresh.push(change.group.id);
        first = Math.min(first, at);
      }
    if (fresh.length > 0) this.#acks = await acksOf((...args) => tx.bulk.select(...args), fresh, first);
  }

  apply(item: HostWrite, seq: number | null, counters: JudgedHost): Changed {
    const changed: Changed = { opened: [], reopened: [], resolved: [], disposed: [] };
    for (const change of item.findings ?? []) {
      if (change.kind === 'present') this.#present(item, change, seq, counters, changed);
      else this.#absent(item, change, seq, counters, changed);
    }
    for (const disposal of item.disposals ?? []) changed.disposed.push(this.#dispose(item, disposal, counters));
    return changed;
  }

  /** What people decided, brought onto the row; counters move by what really changed. */
  #dispose(item: HostWrite, { groupId, episode, from, ofAck, to }: r.Disposal, counters: Counters): Disposed {
    const known = this.#findings.get(keyOf(item.hostId, groupId));
    if (known?.row.is_open !== 1) return { result: 'resolved', before: null };
    const { row } = known;
    const before = { disposition: DISPOSITIONS[row.disposition]!, ack: ackOf(row.ack) };
    if (episode !== undefined && episode !== row.episode) return { result: 'another_episode', before };
    if (from !== undefined && !from.includes(before.disposition))
      return { result: before.disposition === 'waived' ? 'waived' : 'not_acknowledged', before };
    // Somebody gave another one since: that one is theirs.
    if (ofAck !== undefined && before.ack?.at !== ofAck) return { result: 'so_already', before };
    const next = disposedRow(row, to);
    if (DISPOSED.every((column) => row[column] === next[column])) return { result: 'so_already', before };
    const { count: delta } = this.#group(groupId);
    delta[COUNTER[row.disposition as 0 | 1 | 2]]--;
    count(counters, row, -1);
    Object.assign(row, next);
    known.changed = true;
    count(counters, row, 1);
    const why = to.kind === 'none' ? (to.why?.how ?? null) : to.kind === 'waived' ? to.waiverId : null;
    this.#logged.push(loggedOf(row, to.kind === 'none' ? 'returned' : to.kind, why));
    if (to.kind === 'none' && to.why !== null) this.#happen(item, row, 'returned', to.why.how);
    delta[COUNTER[row.disposition as 0 | 1 | 2]]++;
    return { result: 'changed', before };
  }

  /** Notes that a finding opened or ended. */
  #turn(item: HostWrite, row: FindingRow, kind: r.GroupChange['kind']): void {
    const turns = [...turnsOf(row.turns), item.at].slice(-FLAPPING_TURNS);
    row.turns = JSON.stringify(turns);
    const draft = this.#group(row.group_id);
    draft.flappingUntil = Math.max(draft.flappingUntil, flappingUntil(turns) ?? 0);
    const at = minute(item.at);
    const key = `${row.group_id} ${at} ${kind}`;
    const move = this.#moves.get(key) ?? { group_id: row.group_id, at, kind, hosts: 0 };
    this.#moves.set(key, { ...move, hosts: move.hosts + 1 });
  }

  #happen(
    item: HostWrite,
    row: FindingRow,
    transition: Extract<Happening, { kind: 'finding' }>['transition'],
    why: string | null,
  ): void {
    const { host_id: hostId, group_id: groupId, sev: severity, episode } = row;
    const heldUntil = flappingUntil(turnsOf(row.turns));
    const at = item.at;
    this.#happened.push({ kind: 'finding', transition, hostId, groupId, severity, episode, at, why, heldUntil, row });
  }

  /** What happened, for the outbox. What a waiver covered from the first, or when it ended, is no news to anybody. */
  happened(): readonly Happening[] {
    return this.#happened.filter(({ transition, row }) => transition === 'resolved' || row.disposition !== 2);
  }

  /** What became of findings since this was asked last: for the log, so with what nobody needs to be told. */
  takeLogged(): readonly LoggedFinding[] {
    return this.#logged.splice(0);
  }

  #present(
    item: HostWrite,
    change: Extract<r.FindingChange, { kind: 'present' }>,
    seq: number | null,
    counters: JudgedHost,
    changed: Changed,
  ): void {
    const { group, severity } = change;
    const key = keyOf(item.hostId, group.id);
    const known = this.#findings.get(key);
    if (known?.row.is_open === 1) {
      if (known.row.sev === severity) return;
      count(counters, known.row, -1);
      known.row.sev = severity;
      known.changed = true;
      count(counters, known.row, 1);
      this.#group(group.id).sev = severity;
      return;
    }
    // An acknowledgement was of the episode that ended, so what comes back comes under none; what a host never showed comes under
    // that of its group. A waiver that still holds is applied by whoever judges it.
    const ack = known === undefined ? ackFor(this.#acks.get(group.id), counters.host_group) : null;
    const isAcknowledged = ack !== null && item.at < ack.until;
    const row: FindingRow = {
      host_id: item.hostId,
      group_id: group.id,
      is_open: 1,
      disposition: isAcknowledged ? 1 : 0,
      sev: severity,
      first_seen: known?.row.first_seen ?? item.at,
      opened_at: item.at,
      resolved_at: null,
      episode: (known?.row.episode ?? 0) + 1,
      waiver_id: known?.row.waiver_id ?? null,
      until: isAcknowledged ? ack.until : null,
      ack: isAcknowledged ? JSON.stringify(ack) : null,
      returned: null,
      turns: known?.row.turns ?? null,
      detail: JSON.stringify(change.detail ?? null),
    };
    this.#turn(item, row, known === undefined ? 'opened' : 'reopened');
    this.#happen(item, row, known === undefined ? 'new' : 'regressed', null);
    this.#logged.push(loggedOf(row, known === undefined ? 'new' : 'regressed', null));
    // It has an answer from its first moment: that of its group.
    if (isAcknowledged) this.#logged.push(loggedOf(row, 'acknowledged', null));
    this.#findings.set(key, { row, changed: true });
    this.#episodes.set(`${key} ${row.episode}`, {
      host_id: item.hostId,
      group_id: group.id,
      n: row.episode,
      opened_at: item.at,
      opened_seq: seq,
      closed_at: null,
      closed_seq: null,
      reason: null,
    });
    (known === undefined ? changed.opened : changed.reopened).push(group.id);
    count(counters, row, 1);
    const draft = this.#group(group.id);
    draft.facts = group;
    draft.sev = severity;
    draft.firstSeen ??= item.at;
    draft.openedAt = Math.max(draft.openedAt ?? 0, item.at);
    draft.count[COUNTER[row.disposition as 0 | 1]]++;
    if (known === undefined) draft.count.ever++;
    else draft.count.reopened++;
  }

  #absent(
    item: HostWrite,
    change: Extract<r.FindingChange, { kind: 'absent' }>,
    seq: number | null,
    counters: Counters,
    changed: Changed,
  ): void {
    const key = keyOf(item.hostId, change.groupId);
    const known = this.#findings.get(key);
    if (known?.row.is_open !== 1) return;
    const { row } = known;
    count(counters, row, -1);
    const { count: delta } = this.#group(change.groupId);
    delta[COUNTER[row.disposition as 0 | 1 | 2]]--;
    if (row.episode > 1) delta.reopened--;
    const wasWaived = row.disposition === 2;
    // The waiver's name stays: which exception it had when it ended is history worth having.
    Object.assign(row, { is_open: 0, disposition: 0, resolved_at: item.at, until: null, ack: null, returned: null });
    this.#turn(item, row, 'resolved');
    if (!wasWaived) this.#happen(item, row, 'resolved', change.reason);
    this.#logged.push(loggedOf(row, 'resolved', change.reason));
    known.changed = true;
    changed.resolved.push(change.groupId);
    const end = { closed_at: item.at, closed_seq: seq, reason: change.reason };
    const episode = this.#episodes.get(`${key} ${row.episode}`);
    if (episode !== undefined) Object.assign(episode, end);
    else
      this.#closed.set(`${key} ${row.episode}`, {
        host_id: item.hostId,
        group_id: change.groupId,
        n: row.episode,
        ...end,
      });
  }

  #group(id: string): GroupDraft {
    let draft = this.#groups.get(id);
    if (draft === undefined) {
      const none = { group_id: id, open: 0, acknowledged: 0, waived: 0, ever: 0, reopened: 0 };
      draft = { facts: null, sev: null, openedAt: null, firstSeen: null, flappingUntil: 0, count: none };
      this.#groups.set(id, draft);
    }
    return draft;
  }

  async write(tx: Tx): Promise<void> {
    const { bulk } = tx;
    const findings = [...this.#findings].filter(([, { changed }]) => changed).sort(byKey);
    await bulk.insert(
      'finding',
      [...FINDING, 'detail'],
      findings.map(([, { row }]) => row),
      { key: ['host_id', 'group_id'], set: FINDING_SET },
    );
    for (const [key, { row }] of findings)
      if (this.#archived.has(key))
        await tx.db
          .deleteFrom('finding_archive')
          .where('host_id', '=', row.host_id)
          .where('group_id', '=', row.group_id)
          .execute();
    await bulk.insert(
      'episode',
      ['host_id', 'group_id', 'n', 'opened_at', 'opened_seq', 'closed_at', 'closed_seq', 'reason'],
      [...this.#episodes].sort(byKey).map(([, row]) => row),
    );
    await bulk.update(
      'episode',
      ['host_id', 'group_id', 'n'],
      ['closed_at', 'closed_seq', 'reason'],
      [...this.#closed].sort(byKey).map(([, row]) => row),
    );
    await this.#writeGroups(tx);
    await bulk.insert(
      'group_change',
      ['group_id', 'at', 'kind', 'hosts'],
      [...this.#moves].sort(byKey).map(([, row]) => row),
      { key: ['group_id', 'at', 'kind'], add: ['hosts'] },
    );
  }

  /**
   * The row of group_count is the group's lock: whoever holds it knows the exact total and may open or close the group.
   * Taken last, so that a group on many hosts is held only for the end of the transaction.
   */
  async #writeGroups({ bulk, db }: Tx): Promise<void> {
    const drafts = [...this.#groups].map(([id, draft]) => ({ id, ...draft })).sort(byId);
    await bulk.insert('finding_group', [...GROUP], drafts.flatMap(newGroup), { key: ['id'], nothing: true });
    const totals = await bulk.addReturning(
      'group_count',
      ['group_id', ...COUNTS],
      drafts.map(({ count }) => count),
      { key: ['group_id'], add: COUNTS },
    );
    const statuses = new Map(totals.map((t) => [t.group_id, statusOf(t)]));
    const standing = await bulk.select(
      'finding_group',
      ['id', ...GROUP_SET],
      ['id'],
      drafts.map(({ id }) => ({ id })),
    );
    const next = standing.flatMap((row) => {
      const { sev, openedAt, flappingUntil } = this.#groups.get(row.id)!;
      const status = statuses.get(row.id)!;
      const changed = {
        id: row.id,
        sev: sev ?? row.sev,
        is_open: status === RESOLVED ? 0 : 1,
        status,
        flapping_until: Math.max(row.flapping_until, flappingUntil),
        // To the minute: a group that opens on many hosts is not rewritten, and moved in its index, by each batch.
        last_new_at: openedAt === null ? row.last_new_at : Math.max(row.last_new_at, minute(openedAt)),
      };
      return GROUP_SET.every((column) => changed[column] === row[column]) ? [] : [changed];
    });
    await bulk.update('finding_group', ['id'], GROUP_SET, next.sort(byId));
    // Over on its last host: an acknowledgement was of what is over.
    const over = next.filter(({ is_open }) => is_open === 0).map(({ id }) => id);
    for (let from = 0; from < over.length; from += 500)
      await db
        .deleteFrom('group_ack')
        .where('group_id', 'in', over.slice(from, from + 500))
        .execute();
  }
}

function loggedOf(row: FindingRow, transition: LoggedFinding['transition'], why: string | null): LoggedFinding {
  return { group: row.group_id, episode: row.episode, transition, severity: row.sev, why };
}

const GROUP = [
  'id',
  'rule',
  'kind',
  'subject',
  'signature',
  'sev',
  'is_open',
  'status',
  'first_seen',
  'last_new_at',
  'assignee',
  'revision',
  'flapping_until',
] as const;
const GROUP_SET = ['sev', 'is_open', 'status', 'last_new_at', 'flapping_until'] as const;

export const RESOLVED = GROUP_STATUSES.indexOf('resolved');
/** The first of open, acknowledged, waived that some host is in. */
export function statusOf(totals: Pick<GroupCountRow, 'open' | 'acknowledged' | 'waived'>): number {
  const first = COUNTER.findIndex((name) => totals[name] > 0);
  return first < 0 ? RESOLVED : first;
}

const DISPOSED = ['disposition', 'waiver_id', 'until', 'ack', 'returned'] as const;

function disposedRow(row: FindingRow, to: r.Disposal['to']): Pick<FindingRow, (typeof DISPOSED)[number]> {
  switch (to.kind) {
    case 'none': {
      // Where nothing was decided, the reason of an earlier return stands.
      const returned = row.disposition === 0 && to.why === null ? row.returned : to.why && JSON.stringify(to.why);
      return { disposition: 0, waiver_id: row.waiver_id, until: null, ack: null, returned };
    }
    case 'acknowledged': {
      const { until } = to.ack;
      return { disposition: 1, waiver_id: row.waiver_id, until, ack: JSON.stringify(to.ack), returned: null };
    }
    case 'waived':
      return { disposition: 2, waiver_id: to.waiverId, until: to.until, ack: null, returned: null };
  }
}

export function ackOf(text: string | null): r.Ack | null {
  return text === null ? null : (JSON.parse(text) as r.Ack);
}

const minute = (at: number) => at - (at % 60_000);

function newGroup({ facts, sev, firstSeen, openedAt }: GroupDraft): FindingGroupRow[] {
  if (facts === null) return [];
  return [
    {
      id: facts.id,
      rule: facts.rule,
      kind: facts.kind,
      subject: facts.subject,
      signature: JSON.stringify(facts.signature ?? null),
      sev: sev!,
      // It opens in this very write; where it closes again in the same group commit, the totals below set it back.
      is_open: 1,
      status: 0,
      first_seen: firstSeen!,
      last_new_at: minute(openedAt!),
      assignee: null,
      revision: 0,
      flapping_until: 0,
    },
  ];
}
