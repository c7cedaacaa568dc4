/** The store's contract, continued (store.ts): what goes out: channels, what they have yet to tell, and deliveries (docs/notices.md). */
import type { Instant } from '#src/clock.ts';
import type { Waiver } from '#src/finding/waiver.ts';
import type * as r from './records.ts';
import type { PageRequest } from './store.ts';

/** What a channel may want to hear of. New ones may come: readers pass over what they do not know. */
export const NOTICE_EVENTS = [
  'finding.new',
  'finding.regressed',
  'finding.returned',
  'finding.resolved',
  'host.verdict',
  'image.trust',
  // That something still is so: told where it is asked for by name.
  'finding.overdue',
  'waiver.expiring',
  'waiver.waiting',
] as const;
export const REMINDERS = [
  'finding.overdue',
  'waiver.expiring',
  'waiver.waiting',
] as const satisfies readonly NoticeEvent[];
/** What a channel hears of unless it says otherwise. */
export const TRANSITIONS = NOTICE_EVENTS.filter((event) => !REMINDERS.some((one) => one === event));
export type NoticeEvent = (typeof NOTICE_EVENTS)[number];

/** What a channel hears of; read in the transaction of every state change. */
export type Routing = {
  readonly events: readonly NoticeEvent[];
  /** Findings below it are not told. Verdicts and images have no severity: their events are wanted or not. */
  readonly minSeverity: r.Severity;
  /** All that are given must hold; `groups` with all below them. What is about no host (images) is told where none is given. */
  readonly hosts: {
    readonly groups: readonly string[] | null;
    readonly labels: readonly { readonly key: string; readonly value: string }[];
  };
  /** How long after its enrolment what a host shows is held back, ms; what is over by then is never told. */
  readonly graceMs: number;
  /** CEL (server/noticecondition.ts), asked of every transition. Absent or null: all are told. */
  readonly condition?: string | null;
  /** When the day's digest is told, `HH:MM` in UTC. Absent or null: none is. */
  readonly digestAt?: string | null;
  /** Hours of each day, `HH:MM` in UTC, in which only what is critical is told; the rest waits for their end. Absent or null: none. */
  readonly quiet?: { readonly from: string; readonly to: string } | null;
};

export type ChannelState = 'active' | 'disabled';
export type Channel = {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly routing: Routing;
  /** What else may be shown again, a JSON value that server/notices parses. */
  readonly options: unknown;
  /** Address and keys, a JSON value that server/notices parses: never shown, never in the trail. */
  readonly secret: unknown;
  readonly state: ChannelState;
  readonly revision: number;
  readonly createdAt: Instant;
  readonly createdBy: string;
  readonly disabledAt: Instant | null;
  readonly disabledWhy: string | null;
  /** Where its condition could not say yes or no the last time that was so: it was told all the same. */
  readonly conditionError: { readonly at: Instant; readonly text: string } | null;
};

/** A host as it was when something happened to it. */
export type ToldHost = {
  readonly id: string;
  readonly name: string;
  readonly group: string | null;
  /** Of the finding; 0 where it is about a verdict. */
  readonly episode: number;
};

/** What happened, in one transaction, to one topic (`finding:ID`, `verdict:WORD`, `image:DIGEST`), as far as the channel hears of it. */
export type Pending = {
  readonly id: string;
  readonly at: Instant;
  readonly topic: string;
  /** `new`, `regressed`, `returned`, `resolved`; the new verdict; what happened to the image. */
  readonly transition: string;
  readonly severity: r.Severity;
  readonly readyAt: Instant;
  /** A JSON value, by topic. */
  readonly facts: unknown;
  readonly hosts: readonly ToldHost[];
};

export type DeliveryState = 'waiting' | 'delivered' | 'dead';
export const DELIVERY_STATES = ['waiting', 'delivered', 'dead'] as const;

export type Delivery = {
  /** Also what the receiver is told as the message's id: the same at every attempt. */
  readonly id: string;
  readonly channelId: string;
  readonly topic: string;
  readonly transition: string;
  /** How often the topic began for this channel, and the how-manieth message of the transition this is within it. */
  readonly episode: number;
  readonly n: number;
  readonly severity: r.Severity;
  readonly createdAt: Instant;
  /** What is told, before any channel's shape: a JSON value. */
  readonly notice: unknown;
  readonly hosts: number;
  /** The topic was over when this was written. */
  readonly ended: boolean;
  readonly state: DeliveryState;
  readonly attempts: number;
  readonly nextAt: Instant | null;
  readonly doneAt: Instant | null;
  /** Of the last answer; null where none came. */
  readonly status: number | null;
  readonly error: string | null;
};
export type NewDelivery = Omit<Delivery, 'state' | 'attempts' | 'nextAt' | 'doneAt' | 'status' | 'error'>;
export type LastTold = Pick<Delivery, 'topic' | 'transition' | 'episode' | 'n' | 'createdAt' | 'ended'>;

/** What came of one attempt. */
export type Attempted = Pick<Delivery, 'state' | 'nextAt' | 'status' | 'error'>;

export type GroupNow = r.GroupFacts & {
  readonly severity: r.Severity;
  readonly firstSeen: Instant;
  /** On the hosts that the channel hears of. */
  readonly hosts: Readonly<Record<'open' | 'acknowledged' | 'waived', number>>;
};

/** What of a host's finding or verdict is so now. */
export type HostNow = {
  readonly verdict: string;
  readonly finding: 'present' | 'waived' | 'absent';
  readonly episode: number;
};

/** `object`: of what, once: a group, a waiver and its end. */
export type Reminder = { readonly object: string } & (
  | { readonly kind: 'overdue'; readonly groupId: string; readonly severity: r.Severity; readonly since: Instant }
  | {
      readonly kind: 'expiring' | 'waiting';
      readonly waiver: Waiver;
      readonly severity: r.Severity;
    }
);

/** Notices about integrity that came in, and that were given up, with when they were made. */
export type NoticeOutcomes = { readonly delivered: number; readonly failed: number };

export interface Notices {
  /** By name. At most CHANNELS_MAX stand (the caller looks). */
  channels(): Promise<readonly Channel[]>;
  channel(id: string): Promise<Channel | undefined>;
  create(channel: Channel, by: r.Act, first: readonly NewDelivery[], jobs: readonly r.NewJob[]): Promise<void>;
  /** Compare-and-set on the revision before `next`'s. The trail has everything but the secret. */
  put(next: Channel, by: r.Act, action: string): Promise<boolean>;
  /** With everything that it had yet to tell, and its deliveries. */
  remove(id: string, by: r.Act): Promise<boolean>;

  /** What may be told at `now` and was not, longest ready first; of at least that severity. */
  pending(channelId: string, now: Instant, limit: number, atLeast?: r.Severity): Promise<readonly Pending[]>;
  /** When the next of those becomes ready that are not yet. */
  nextReady(channelId: string, now: Instant): Promise<Instant | null>;
  /** What happened since, told or not, newest first, in portions: a storm is known after a few. */
  lately(
    channelId: string,
    since: Instant,
    before: { readonly at: Instant; readonly id: string } | null,
    limit: number,
  ): Promise<readonly Pending[]>;
  last(channelId: string, topics: readonly string[]): Promise<ReadonlyMap<string, LastTold>>;
  /** A group as the channel sees it; undefined where it is gone. */
  groupNow(groupId: string, hosts: Routing['hosts']): Promise<GroupNow | undefined>;
  /** By host id; those that are gone are left out. groupId null: verdicts alone. */
  hostsNow(groupId: string | null, hostIds: readonly string[], now: Instant): Promise<ReadonlyMap<string, HostNow>>;
  /** Open groups by severity, lowest first. */
  openGroups(): Promise<readonly number[]>;

  /**
   * Tells these, or everything ready by a moment, with one delivery and its job, in one transaction. False, and nothing is written,
   * where another process told one of them meanwhile. `delivery` null: they are over without a word.
   */
  tell(
    channelId: string,
    claim: { readonly ids: readonly string[] } | { readonly readyBy: Instant },
    delivery: NewDelivery | null,
    jobs: readonly r.NewJob[],
  ): Promise<boolean>;
  /** A delivery that nothing in the outbox asked for: a test, a summary. */
  add(delivery: NewDelivery, by: r.Act | null, jobs: readonly r.NewJob[]): Promise<void>;

  due(channelId: string, now: Instant, limit: number): Promise<readonly Delivery[]>;
  nextDue(channelId: string): Promise<Instant | null>;
  /** False where it is no longer at that attempt. `disable`: the receiver said that it is gone (410). */
  attempted(
    delivery: Pick<Delivery, 'id' | 'channelId' | 'attempts'>,
    came: Attempted,
    at: Instant,
    disable: { readonly by: r.Act; readonly why: string } | null,
  ): Promise<boolean>;
  get(id: string): Promise<Delivery | undefined>;
  /** Newest first. */
  deliveries(
    filter: { readonly channelId?: string; readonly state?: DeliveryState },
    page: PageRequest<{ readonly id: string }>,
  ): Promise<r.Page<Delivery, { readonly id: string }>>;
  /** dead or delivered → waiting, from its first attempt on. False where it waits already, or is not there. */
  resend(id: string, by: r.Act, jobs: readonly r.NewJob[]): Promise<boolean>;
  /** Where a condition could not say yes or no. */
  noteCondition(channelId: string, error: { readonly at: Instant; readonly text: string }): Promise<void>;
  /**
   * Groups that are open on some host, unacknowledged for longer than their severity's limit (ms by severity; null: none), and not
   * reminded of yet. What is overdue no more is forgotten first, so that it is told when it is again.
   */
  overdue(
    now: Instant,
    limits: readonly (number | null)[],
    limit: number,
  ): Promise<readonly { readonly groupId: string; readonly severity: r.Severity; readonly since: Instant }[]>;
  /** Writes reminders into the outbox, each that was not given yet; answers how many. */
  remind(reminders: readonly Reminder[], at: Instant): Promise<number>;
  isReminded(kind: string, object: string): Promise<boolean>;
  /** A delivery that is made once for `object`, of its kind; false where it was. */
  addOnce(kind: string, object: string, delivery: NewDelivery, jobs: readonly r.NewJob[]): Promise<boolean>;
  /** How many are in each state; delivered ones as long as they are kept. */
  count(): Promise<Readonly<Record<DeliveryState, number>>>;
  /**
   * Notices of findings and verdicts that were made in a period, by what became of them; those that are forgotten since, or whose channel is
   * gone, too: of such days, the ones that begin in it.
   */
  outcomes(period: { readonly from: Instant; readonly to: Instant }): Promise<NoticeOutcomes>;
  /** Forgets what was told before, and what was delivered or given up before. */
  sweep(before: {
    readonly told: Instant;
    readonly delivered: Instant;
    readonly dead: Instant;
    readonly reminded: Instant;
  }): Promise<void>;
}
