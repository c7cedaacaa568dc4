/**
 * The outbox: what channels will tell, written in the transaction that makes it true, and only where a channel wants to hear of it.
 * Which channels there are is read in that transaction, too: a channel that is there before a change commits hears of it.
 */
import { NOTICE_HOST_ROWS_MAX, NOTICE_WAIT_MS } from '#src/limits.ts';
import { covers, intersection } from '#src/finding/scope.ts';
import type { Waiver } from '#src/finding/waiver.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { Instant } from '#src/clock.ts';
import { asks, type ConditionFacts } from '#server/noticecondition.ts';
import type { Row, Tx } from './engine.ts';
import { sortableId } from './ids.ts';
import type { NoticeEvent, Reminder, Routing, ToldHost } from './noticerecords.ts';
import type * as r from './records.ts';
import type { OutboxRow } from './tables.ts';

/** What happened. A finding's group must stand in its row by now, a host in its. */
export type Happening =
  | {
      readonly kind: 'finding';
      readonly transition: 'new' | 'regressed' | 'returned' | 'resolved';
      readonly hostId: string;
      readonly groupId: string;
      readonly severity: number;
      readonly episode: number;
      readonly at: Instant;
      /** Why it returned or ended. */
      readonly why: string | null;
      /** It opens and ends so often that it is held back until then. */
      readonly heldUntil: Instant | null;
    }
  | {
      readonly kind: 'verdict';
      readonly hostId: string;
      readonly from: string;
      readonly to: string;
      readonly at: Instant;
    }
  | {
      readonly kind: 'image';
      readonly image: string;
      readonly transition: string;
      readonly severity: r.Severity;
      readonly at: Instant;
      readonly facts: unknown;
    }
  /** It still is so (server/notices/remind.ts). */
  | { readonly kind: 'reminder'; readonly at: Instant; readonly about: Reminder };

/** The job that tells what a channel has waiting. */
export const TELL_JOB = 'notice.tell';
export const tellJob = (channel: string, runAt: Instant): r.NewJob => ({
  kind: TELL_JOB,
  dedupeKey: `${TELL_JOB}:${channel}`,
  runAt,
  payload: { channel },
});

type Draft = Omit<OutboxRow, 'hosts' | 'facts' | 'delivery_id'> & { facts: unknown; hosts: ToldHost[] };
type HostFacts = Row<'host', 'id' | 'name' | 'host_group' | 'labels' | 'created_at'>;

const byId = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/** Writes what channels want to hear of, and answers the jobs that tell it: the caller enqueues them with its own. */
export async function writeOutbox(tx: Tx, happenings: readonly Happening[]): Promise<readonly r.NewJob[]> {
  if (happenings.length === 0) return [];
  const channels = await tx.db.selectFrom('channel').select(['id', 'settings']).where('state', '=', 'active').execute();
  if (channels.length === 0) return [];
  const wanted = channels.map(({ id, settings }) => ({
    id,
    routing: (JSON.parse(settings) as { readonly routing: Routing }).routing,
  }));
  const hosts = await hostsOf(tx, happenings);
  const isAsked = wanted.some(({ routing: { condition } }) => condition !== undefined && condition !== null);
  const groups = isAsked ? await groupsOf(tx, happenings) : new Map<string, GroupRow>();
  const rows = new Map<string, Draft>();
  for (const { id, routing } of wanted)
    for (const happening of happenings) {
      if (!wants(routing, happening, hosts)) continue;
      const condition = routing.condition ?? null;
      const { told, error } =
        condition === null
          ? { told: true, error: null }
          : asks(condition, conditionFacts(happening, eventOf(happening), hosts, groups));
      if (told) put(rows, id, routing, happening, hosts, error);
    }
  const all = [...rows.values()].flatMap(portions);
  await tx.bulk.insert(
    'outbox',
    ['id', 'at', 'channel_id', 'topic', 'transition', 'sev', 'ready_at', 'facts', 'hosts', 'delivery_id'],
    all.map((row) => ({
      ...row,
      facts: JSON.stringify(row.facts ?? null),
      hosts: JSON.stringify(row.hosts),
      delivery_id: null,
    })),
  );
  const first = new Map<string, Instant>();
  for (const { channel_id, ready_at } of all)
    first.set(channel_id, Math.min(ready_at, first.get(channel_id) ?? Infinity));
  return [...first].map(([channel, at]) => tellJob(channel, at + NOTICE_WAIT_MS));
}

async function hostsOf({ bulk }: Tx, happenings: readonly Happening[]): Promise<ReadonlyMap<string, HostFacts>> {
  const ids = new Set(happenings.flatMap((one) => ('hostId' in one ? [one.hostId] : [])));
  const keys = [...ids].sort(byId).map((id) => ({ id }));
  const rows = await bulk.select('host', ['id', 'name', 'host_group', 'labels', 'created_at'], ['id'], keys);
  return new Map(rows.map((row) => [row.id, row]));
}

type GroupRow = Row<'finding_group', 'id' | 'rule' | 'kind' | 'subject' | 'signature'>;

async function groupsOf({ bulk }: Tx, happenings: readonly Happening[]): Promise<ReadonlyMap<string, GroupRow>> {
  const ids = new Set(
    happenings.flatMap((one) =>
      one.kind === 'finding'
        ? [one.groupId]
        : one.kind === 'reminder' && one.about.kind === 'overdue'
          ? [one.about.groupId]
          : [],
    ),
  );
  const keys = [...ids].sort(byId).map((id) => ({ id }));
  const rows = await bulk.select('finding_group', ['id', 'rule', 'kind', 'subject', 'signature'], ['id'], keys);
  return new Map(rows.map((row) => [row.id, row]));
}

const NOTHING: Omit<ConditionFacts, 'event' | 'severity'> = {
  why: '',
  rule: '',
  kind: '',
  subject: '',
  signature: '',
  verdict: '',
  was: '',
  image: '',
  trust: '',
  waiver: '',
  host: { name: '', group: '', labels: {} },
};

function conditionFacts(
  happening: Happening,
  event: NoticeEvent,
  hosts: ReadonlyMap<string, HostFacts>,
  groups: ReadonlyMap<string, GroupRow>,
): ConditionFacts {
  const row = 'hostId' in happening ? hosts.get(happening.hostId) : undefined;
  const host =
    row === undefined
      ? NOTHING.host
      : { name: row.name, group: row.host_group ?? '', labels: JSON.parse(row.labels) as r.Labels };
  const group = (id: string) => {
    const { rule = '', kind = '', subject = '', signature = '""' } = groups.get(id) ?? {};
    return { rule, kind, subject, signature: String(JSON.parse(signature)) };
  };
  const told = (severity: number, more: Partial<ConditionFacts>): ConditionFacts => ({
    ...NOTHING,
    host,
    event,
    severity: SEVERITIES[severity]!,
    ...more,
  });
  switch (happening.kind) {
    case 'finding':
      return told(happening.severity, { ...group(happening.groupId), why: happening.why ?? '' });
    case 'verdict':
      return told(verdictSeverity(happening.to), { verdict: happening.to, was: happening.from });
    case 'image': {
      const { state } = happening.facts as { readonly state?: string };
      return told(happening.severity, { image: happening.image, trust: state ?? '' });
    }
    case 'reminder': {
      const { about: reminder } = happening;
      return reminder.kind === 'overdue'
        ? told(reminder.severity, group(reminder.groupId))
        : told(reminder.severity, { waiver: reminder.waiver.id });
    }
  }
}

function eventOf(happening: Happening): NoticeEvent {
  if (happening.kind === 'reminder')
    return happening.about.kind === 'overdue' ? 'finding.overdue' : `waiver.${happening.about.kind}`;
  if (happening.kind === 'finding') return `finding.${happening.transition}`;
  return happening.kind === 'verdict' ? 'host.verdict' : 'image.trust';
}

/** Whether a host lies in what a channel hears of. */
export function hears(
  { groups, labels }: Routing['hosts'],
  host: { readonly group: string | null; readonly labels: r.Labels },
): boolean {
  const own = new Map(Object.entries(host.labels));
  return covers(groups, host.group) && labels.every(({ key, value }) => own.get(key) === value);
}

function wants(routing: Routing, happening: Happening, hosts: ReadonlyMap<string, HostFacts>): boolean {
  if (!routing.events.includes(eventOf(happening))) return false;
  if (happening.kind === 'image') return routing.hosts.groups === null && routing.hosts.labels.length === 0;
  if (happening.kind === 'finding' && happening.severity < routing.minSeverity) return false;
  if (happening.kind === 'reminder') {
    const { about: reminder } = happening;
    if (reminder.severity < routing.minSeverity) return false;
    // On which hosts a group still is, is looked at when it is told.
    return reminder.kind === 'overdue' || mayReach(reminder.waiver, routing.hosts.groups);
  }
  const host = hosts.get(happening.hostId);
  if (host === undefined) return false;
  return hears(routing.hosts, { group: host.host_group, labels: JSON.parse(host.labels) as r.Labels });
}

/** Whether a waiver may reach hosts of these groups, as far as it says so itself. */
function mayReach({ scope, selector: { hosts } }: Waiver, groups: readonly string[] | null): boolean {
  const both = intersection(scope, groups);
  if (both === null) return true;
  return both.length > 0 && (hosts?.groups === undefined || hosts.groups.some((group) => covers(both, group)));
}

function put(
  rows: Map<string, Draft>,
  channel: string,
  { graceMs }: Routing,
  happening: Happening,
  hosts: ReadonlyMap<string, HostFacts>,
  conditionError: string | null,
): void {
  const { at } = happening;
  const host = 'hostId' in happening ? hosts.get(happening.hostId)! : undefined;
  const held = happening.kind === 'finding' ? (happening.heldUntil ?? 0) : 0;
  const readyAt = Math.max(at, held, host === undefined ? 0 : host.created_at + graceMs);
  const { topic, transition, severity, facts: plain } = about(happening);
  const facts = conditionError === null ? plain : { ...(plain as object), conditionError };
  const key = JSON.stringify([channel, topic, transition, readyAt, facts]);
  let row = rows.get(key);
  if (row === undefined) {
    row = {
      id: `o_${sortableId(at)}`,
      at,
      channel_id: channel,
      topic,
      transition,
      sev: severity,
      ready_at: readyAt,
      facts,
      hosts: [],
    };
    rows.set(key, row);
  }
  row.sev = Math.max(row.sev, severity);
  row.at = Math.max(row.at, at);
  if (host !== undefined)
    row.hosts.push({
      id: host.id,
      name: host.name,
      group: host.host_group,
      episode: happening.kind === 'finding' ? happening.episode : 0,
    });
}

function about(happening: Happening) {
  switch (happening.kind) {
    case 'finding': {
      const { groupId, transition, severity, why } = happening;
      return { topic: `finding:${groupId}`, transition, severity, facts: { why } };
    }
    case 'verdict': {
      const { from, to } = happening;
      return { topic: `verdict:${to}`, transition: to, severity: verdictSeverity(to), facts: { from } };
    }
    case 'image': {
      const { image, transition, severity, facts } = happening;
      return { topic: `image:${image}`, transition, severity, facts };
    }
    case 'reminder': {
      const { about: reminder } = happening;
      const { kind: transition, severity } = reminder;
      if (transition === 'overdue')
        return { topic: `overdue:${reminder.groupId}`, transition, severity, facts: { since: reminder.since } };
      const { id, title, expiresAt, requestedBy, decidedBy, extension } = reminder.waiver;
      const until = extension?.expiresAt ?? expiresAt;
      const facts = { id, title, expiresAt, until, requestedBy: extension?.requestedBy ?? requestedBy, decidedBy };
      return { topic: `waiver:${id}`, transition, severity, facts };
    }
  }
}

/** A verdict's weight where a receiver wants one. */
function verdictSeverity(verdict: string): r.Severity {
  if (verdict === 'drifted' || verdict === 'unsigned') return 3;
  return verdict === 'silent' || verdict === 'unverifiable' ? 2 : 0;
}

/** Many hosts in rows that stay small. */
function portions(row: Draft): Draft[] {
  const rows: Draft[] = [];
  for (let from = 0; from === 0 || from < row.hosts.length; from += NOTICE_HOST_ROWS_MAX)
    rows.push({
      ...row,
      id: from === 0 ? row.id : `o_${sortableId(row.at)}`,
      hosts: row.hosts.slice(from, from + NOTICE_HOST_ROWS_MAX),
    });
  return rows;
}
