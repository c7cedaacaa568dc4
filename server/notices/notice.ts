/** What is told, before any channel's shape (docs/notices.md 3): one sentence, what it is about, the first hosts, and where to look. */
import type { Instant } from '#src/clock.ts';
import { formatInstant } from '#src/clock.ts';
import { describe } from '#src/finding/describe.ts';
import { NOTICE_HOSTS_SHOWN } from '#src/limits.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import type { JudgementKind } from '#src/policy/judgement.ts';
import type { GroupNow, ToldHost } from '#server/store/noticerecords.ts';
import type { Severity } from '#server/store/records.ts';

/** New ones may come. */
export type NoticeType =
  | 'finding.new'
  | 'finding.spread'
  | 'finding.regressed'
  | 'finding.returned'
  | 'finding.resolved'
  | 'host.verdict'
  | 'image.trust'
  | 'finding.overdue'
  | 'waiver.expiring'
  | 'waiver.waiting'
  | 'fleet.digest'
  | 'fleet.mass_change'
  | 'fleet.summary'
  | 'log.alarm'
  | 'channel.test';

export type NoticeGroup = {
  readonly id: string;
  readonly rule: string;
  readonly kind: string;
  readonly subject: string;
  /** For people. */
  readonly what: string;
  readonly severity: (typeof SEVERITIES)[number];
  readonly firstSeen: string;
  /** Hosts that have it at that moment, as far as the channel hears of them. */
  readonly hosts: GroupNow['hosts'];
  readonly link: string;
};

export type NoticeDigest = {
  readonly day: string;
  /** Hosts by verdict, and groups of findings by severity, as the channel hears of them. */
  readonly hosts: Readonly<Record<string, number>>;
  readonly open: Readonly<Record<string, number>>;
  /** Groups within 24 hours. */
  readonly since: Readonly<Record<'new' | 'regressed' | 'resolved', number>>;
  /** Of a channel that hears of every host. */
  readonly waivers: Readonly<Record<'toDecide' | 'expiring' | 'active', number>> | null;
};

export type Notice = {
  readonly type: NoticeType;
  readonly timestamp: string;
  /** `CHANNEL/TOPIC/TRANSITION/EPISODE/N`: two messages with the same one tell the same. */
  readonly dedupe: string;
  readonly severity: (typeof SEVERITIES)[number];
  /** One sentence. */
  readonly text: string;
  readonly link: string;
  readonly group: NoticeGroup | null;
  /** Why it returned or ended, where there is one reason. */
  readonly why: string | null;
  readonly verdict: { readonly to: string } | null;
  readonly image: { readonly digest: string; readonly state: string; readonly change: string } | null;
  /** Who asked for it and who approved it, for the receiver to reach them. */
  readonly waiver: {
    readonly id: string;
    readonly title: string;
    readonly expiresAt: string;
    readonly requestedBy: string;
    readonly decidedBy: string | null;
  } | null;
  /** Of a day's digest. */
  readonly digest: NoticeDigest | null;
  /** The channel's condition could not say yes or no, so it was told. */
  readonly conditionError: string | null;
  /** Hosts by what happened to them since the last message of this topic. */
  readonly changed: Readonly<Record<'opened' | 'resolved', number>>;
  /** At most NOTICE_HOSTS_SHOWN, and how many more there are. */
  readonly hosts: readonly { readonly id: string; readonly name: string; readonly group: string | null }[];
  readonly more: number;
  /** Of a message about many: those that weigh most, and how many more there are. */
  readonly groups: readonly NoticeGroup[];
  readonly moreGroups: number;
};

export type About = Partial<Omit<Notice, 'timestamp' | 'severity' | 'hosts' | 'more'>> &
  Pick<Notice, 'type' | 'text' | 'link' | 'dedupe'>;

export function notice(at: Instant, severity: Severity, hosts: readonly ToldHost[], about: About): Notice {
  return {
    timestamp: formatInstant(at),
    severity: SEVERITIES[severity],
    group: null,
    why: null,
    verdict: null,
    image: null,
    waiver: null,
    digest: null,
    conditionError: null,
    changed: { opened: 0, resolved: 0 },
    groups: [],
    moreGroups: 0,
    ...about,
    hosts: hosts.slice(0, NOTICE_HOSTS_SHOWN).map(({ id, name, group }) => ({ id, name, group })),
    more: Math.max(0, hosts.length - NOTICE_HOSTS_SHOWN),
  };
}

/** A group as messages tell it; `base` is where people reach the server. */
export function noticeGroup(group: GroupNow, base: string): NoticeGroup {
  const { id, rule, kind, subject, signature, severity, firstSeen, hosts } = group;
  return {
    id,
    rule,
    kind,
    subject,
    what: describe({ kind: kind as JudgementKind, subject, signature: String(signature) }),
    severity: SEVERITIES[severity],
    firstSeen: formatInstant(firstSeen),
    hosts,
    link: `${base}/findings/${encodeURIComponent(id)}`,
  };
}

export const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`;

/** `on web-1`, `on 3 hosts`. */
export function onHosts(hosts: readonly Pick<ToldHost, 'name'>[]): string {
  return hosts.length === 1 ? `on ${hosts[0]!.name}` : `on ${count(hosts.length, 'host')}`;
}
