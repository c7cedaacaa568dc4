/**
 * What is heavy about a report, apart from what orders it: decoding, checks 1 to 5 and 7, holding it against policy. That part reads
 * through `Lookups` and writes nothing, so that it may run in a thread of its own (judgepool.ts), or on the spot.
 */
import { hash } from 'node:crypto';
import type { Policy } from '#src/policy/document.ts';
import { checkReport, openReport, type Arrival, type Checked, type HostRecord } from '#src/report/accept.ts';
import type { Consistency } from '#src/report/contradict.ts';
import type { Refused } from '#src/report/refusal.ts';
import type { FullReport, Report } from '#src/report/report.ts';
import { parsePublicKey, type Verify } from '#src/signing/ed25519.ts';
import type { TicketKeys } from '#src/wire/ticket.ts';
import type { Host, ReportFacts } from '#server/store/records.ts';
import { factsOf } from './effects.ts';
import {
  evaluateReport,
  examine,
  judge,
  type Circumstances,
  type Evaluated,
  type Examined,
  type JudgeDeps,
  type Judged,
  type Occasion,
  type Provenances,
} from './judge.ts';
import type { KnownImages } from './known.ts';
import { KnownDefaults, type TagFacts } from './lineage.ts';

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** What placing a report in its chain and committing it needs; the report without the lists that only judging reads. */
export type Brief = {
  readonly checked: Checked;
  /** Check 7; null for a `same`. */
  readonly consistency: Consistency | Refused | null;
  /** The booted image's manifest: there, being made, or not to be had. */
  readonly manifest: 'ready' | 'pending' | 'none';
  /** Null for a `same`. */
  readonly facts: ReportFacts | null;
};

/** What looking at bytes gave. */
export type Opened<Held> =
  | { readonly kind: 'examined'; readonly brief: Brief; readonly held: Held }
  /** `hostId` is empty where the host is not known. */
  | { readonly kind: 'refused'; readonly hostId: string; readonly refused: Refused }
  | { readonly kind: 'limited'; readonly seconds: number };

/** The policy that counts, and its number in the store; null where it belongs to none. */
export type NumberedPolicy = { readonly policy: Policy; readonly n: number | null };

/** A full report that is held until it is evaluated, or given up: one of the two must happen, and then it is gone. */
export type Held = {
  evaluate(occasion: Circumstances, policy: NumberedPolicy): Promise<Evaluated>;
  close(): void;
};

/** Looks at reports. */
export interface Looker {
  /** A report as it came. @throws {ReportError} OVERLOADED where too many wait. */
  open(bytes: Uint8Array, arrival: Arrival): Promise<Opened<Held>>;
  /**
   * A full report that was taken before; undefined where it no longer holds. `patient`: waits however many wait.
   * @throws {ReportError} OVERLOADED, of who is not patient.
   */
  reopen(envelope: Uint8Array, patient: boolean): Promise<Held | undefined>;
  close(): Promise<void>;
}

/** As `Held`, for who judges. */
export type Examination = {
  judge(occasion: Occasion): Promise<Judged>;
  close(): void;
};

/** Looks at reports and judges them: what is heavy where `looker` does it, what the store decides here. */
export class Examiner {
  readonly #looker: Looker;
  readonly #deps: JudgeDeps;

  constructor(looker: Looker, deps: JudgeDeps) {
    this.#looker = looker;
    this.#deps = deps;
  }

  /** As `Looker.open`. */
  async open(bytes: Uint8Array, arrival: Arrival): Promise<Opened<Examination>> {
    const opened = await this.#looker.open(bytes, arrival);
    return opened.kind === 'examined' ? { ...opened, held: this.#examination(opened.held) } : opened;
  }

  /** As `Looker.reopen`. */
  async reopen(envelope: Uint8Array, patient: boolean): Promise<Examination | undefined> {
    const held = await this.#looker.reopen(envelope, patient);
    return held && this.#examination(held);
  }

  close(): Promise<void> {
    return this.#looker.close();
  }

  #examination(held: Held): Examination {
    return {
      judge: async (occasion) => {
        // Both of one moment: another policy may come while this one is held against the report.
        const { current, version } = this.#deps.policies;
        const { host, doubts, skewMs, silence, at } = occasion;
        const lineage = (await this.#deps.store.lineages.get(host.id)) ?? null;
        const heardAt = host.last?.receivedAt ?? null;
        const about = {
          host: { labels: host.labels, group: host.group },
          doubts,
          skewMs,
          silence,
          at,
          lineage,
          heardAt,
        };
        const evaluated = await held.evaluate(about, { policy: current, n: version?.n ?? null });
        return judge(evaluated, occasion, { ...this.#deps, policies: { current, version } });
      },
      close: () => held.close(),
    };
  }
}

/** What is asked of the store and of trust while a report is looked at. Everything that passes is plain data. */
export type Lookups = {
  /** The host's record, and the seconds that it must wait because it sent more than its share. */
  admit(id: string): Promise<{ readonly record: HostRecord | undefined; readonly wait: number }>;
  readonly provenances: Provenances;
  /** Where a tag leads that a host claims to follow; null where that is not known. */
  tag(claim: string): Promise<TagFacts | null>;
};

export type LookerDeps = {
  readonly lookups: Lookups;
  readonly images: KnownImages;
  readonly verify: Verify;
  readonly ticketKeys: TicketKeys;
};

/** Looks at reports where it is called. */
export class LocalLooker implements Looker {
  readonly #deps: LookerDeps;
  readonly #defaults: KnownDefaults;

  constructor(deps: LookerDeps) {
    this.#deps = deps;
    this.#defaults = new KnownDefaults(deps.images);
  }

  async open(bytes: Uint8Array, arrival: Arrival): Promise<Opened<Held>> {
    const { lookups, images, verify, ticketKeys } = this.#deps;
    const opened = openReport(bytes, sha256);
    if (opened.kind === 'refused') return { kind: 'refused', hostId: '', refused: opened };
    const { record, wait } = await lookups.admit(opened.host);
    if (wait > 0) return { kind: 'limited', seconds: wait };
    const checked = await checkReport(opened, record, arrival, { verify, ticketKeys });
    if (checked.kind === 'refused')
      return { kind: 'refused', hostId: record === undefined ? '' : opened.host, refused: checked };
    const { report } = checked;
    const brief = { checked: { ...checked, report: withoutLists(report) }, manifest: 'none' } as const;
    if (report.kind === 'same')
      return { kind: 'examined', brief: { ...brief, consistency: null, facts: null }, held: this.#held(undefined) };
    const examined = await examine(report, images);
    const facts = factsOf(report);
    if (examined.kind === 'refused')
      return { kind: 'examined', brief: { ...brief, consistency: examined, facts }, held: this.#held(undefined) };
    return {
      kind: 'examined',
      brief: { ...brief, consistency: examined.consistency, manifest: manifestOf(examined), facts },
      held: this.#held(examined),
    };
  }

  async reopen(envelope: Uint8Array): Promise<Held | undefined> {
    const opened = openReport(envelope, sha256);
    if (opened.kind === 'refused') return undefined;
    // It was checked when it was taken, and versions are kept readable: schema and signature need no second look.
    const examined = await examine(opened.value as FullReport, this.#deps.images);
    return examined.kind === 'refused' ? undefined : this.#held(examined);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #held(examined: Examined | undefined): Held {
    const { images, lookups } = this.#deps;
    return {
      evaluate: (occasion, { policy }) => {
        if (examined === undefined) throw new Error('a report that holds no consistent full one was to be judged');
        return evaluateReport(examined, occasion, policy, {
          images,
          defaults: this.#defaults,
          trust: lookups.provenances,
          tag: (claim) => lookups.tag(claim),
        });
      },
      close: () => {},
    };
  }
}

/** What checks 3 to 5 need of a host. */
export function recordOf({ publicKey, state, freshness }: Host): HostRecord {
  return { publicKey: parsePublicKey(publicKey), state, intervalMs: freshness.interval };
}

function withoutLists(report: Report): Report {
  if (report.kind === 'same') return report;
  const { usr, etc } = report.trees;
  return {
    ...report,
    trees: { usr: { ...usr, holes: [] }, etc: { ...etc, holes: [] } },
    drift: [],
    secrets: [],
    accounts: null,
    contents: null,
  };
}

function manifestOf({ known }: Examined): Brief['manifest'] {
  if (known.kind === 'ready') return 'ready';
  return known.state.state === 'pending' ? 'pending' : 'none';
}
