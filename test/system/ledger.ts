/**
 * What a server that never forgets must know of each host: a plain model of PROTOCOL 3.5, made of sets and maps over every report that
 * was ever taken. It shares no code with the server's own check; whatever the server answers is held against it at once.
 */
import assert from 'node:assert/strict';
import { formatInstant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { CHAIN_BOOTS_MAX, CHAIN_RECENT_MAX, FORK_COPIES_MAX } from '#src/limits.ts';
import type { Report } from '#src/report/report.ts';
import type { Answer } from '#src/wire/answer.ts';
import type { Problem } from '#src/wire/problem.ts';
import { INTERVAL, type Truth } from './machine.ts';

/** The rows of the table, and what else must have happened for a run to count. */
export const ROWS = [
  'advance',
  'gap, stated',
  'gap, not stated',
  'previous unknown',
  'count does not follow',
  'replay, first answer',
  'replay, answer not kept',
  'forgotten',
  'forked',
  'forked, digest not kept',
  'history',
  'history by file',
  'cloned',
  'new boot id alone',
  'same on another full',
  'two servers, one number, same bytes',
  'two servers, one number, other bytes',
  'live',
  'late',
  'carried',
  'clock-skew',
] as const;
export type Row = (typeof ROWS)[number];

export type Delivery = {
  readonly report: Report;
  readonly digest: Digest;
  readonly carried: boolean;
  /** Server's clock. */
  readonly at: number;
};

type Taken = {
  readonly digest: Digest;
  readonly kind: 'full' | 'same';
  readonly effect: 'advance' | 'history';
  readonly at: number;
  readonly order: number;
  /** The first answer; unknown while nobody heard it. */
  answer: string | undefined;
  readonly startedAt: string;
  acknowledged: boolean;
  /** Another report came under its number while it was kept: both are the proof, so it stays. */
  pinned: boolean;
};

/** The model of one host, by the id that the server knows. */
export class HostLedger {
  readonly id: string;
  readonly enrolledAt: number;
  readonly taken = new Map<number, Taken>();
  head = 0;
  full: { readonly digest: Digest; readonly report: Extract<Report, { kind: 'full' }> } | null = null;
  sameCount = 0;
  boots: string[] = [];
  liveAt: number | null = null;
  lastAt = 0;
  readonly forks = new Map<number, Set<Digest>>();
  readonly flags = { forked: false, cloned: false, gap: false };
  /** Numbers that some taken report named as dropped. */
  readonly stated = new Set<number>();
  /** Drift findings that must stand: paths. */
  open = new Set<string>();
  advances = 0;

  constructor(id: string, enrolledAt: number) {
    this.id = id;
    this.enrolledAt = enrolledAt;
  }

  /** What the table says must be answered. */
  expected({ report, digest }: Delivery): 'advance' | 'history' | 'replay' | 'forked' | 'forgotten' {
    if (report.seq > this.head) return 'advance';
    const known = this.taken.get(report.seq);
    if (known === undefined) return 'history';
    if (this.isRemembered(known, report.seq)) return known.digest === digest ? 'replay' : 'forked';
    // The digest is not kept any more: no clock of the host decides.
    const issued = issuedAt(report);
    if (issued !== null && issued > this.lastAt) return 'forked';
    return this.boots.length < CHAIN_BOOTS_MAX && !this.boots.includes(report.bootId) ? 'forked' : 'forgotten';
  }

  /** Whether the server still has the digest: fulls and history always, of `same` the newest of each day, and the last few of all. */
  isRemembered(known: Taken, seq: number): boolean {
    return this.advances - known.order < CHAIN_RECENT_MAX || this.isKept(seq);
  }

  /** Whether its envelope must stand in the store (PROTOCOL 3.3). */
  isKept(seq: number): boolean {
    const known = this.taken.get(seq)!;
    if (known.kind === 'full' || known.effect === 'history' || known.pinned) return true;
    const sames = [...this.taken.values()].filter(({ kind, effect }) => kind === 'same' && effect === 'advance');
    const later = sames.filter(({ order }) => order > known.order);
    return !later.some(({ at }) => day(at) === day(known.at));
  }

  /** Taken reports whose envelope must stand in the store, with its digest. */
  kept(): [number, Taken][] {
    return [...this.taken].filter(([seq]) => this.isKept(seq));
  }

  /** Numbers below the head that never came, as ranges. */
  gaps(): { from: number; to: number }[] {
    const out: { from: number; to: number }[] = [];
    for (let seq = 1; seq <= this.head; seq++) {
      if (this.taken.has(seq)) continue;
      const last = out.at(-1);
      if (last?.to === seq - 1) last.to = seq;
      else out.push({ from: seq, to: seq });
    }
    return out;
  }
}

const day = (at: number): number => Math.floor(at / 86_400_000);

/** When the challenge was issued: its third part (docs/report.md 5.1). */
function issuedAt({ challenge }: Report): number | null {
  return challenge === null ? null : Number(challenge.split('.')[2]);
}

export class Ledger {
  readonly hosts = new Map<string, HostLedger>();
  readonly met = new Map<Row, number>();
  readonly #truths: readonly Truth[];
  /** Whether the server has the manifest of an image by now. */
  readonly #isReady: (image: string) => boolean;

  constructor(truths: readonly Truth[], isReady: (image: string) => boolean) {
    this.#truths = truths;
    this.#isReady = isReady;
  }

  meet(row: Row): void {
    this.met.set(row, (this.met.get(row) ?? 0) + 1);
  }

  host(id: string): HostLedger {
    const host = this.hosts.get(id);
    assert.ok(host !== undefined, `the server answered for a host that nobody enrolled: ${id}`);
    return host;
  }

  /** The server answered 200. */
  accepted(delivery: Delivery, text: string): void {
    const host = this.host(delivery.report.host);
    const { seq } = delivery.report;
    const answer = JSON.parse(text) as Answer;
    assert.equal(answer.seq, seq);
    const expected = host.expected(delivery);
    const where = `${host.id} ${seq} (${delivery.report.kind}) at ${formatInstant(delivery.at)}, head ${host.head}`;
    if (expected === 'replay') {
      const known = host.taken.get(seq)!;
      if (answer.effect === 'replay') {
        assert.ok(known.kind === 'same', `${where}: the first answer of a full report is kept`);
        assert.deepEqual([answer.challenge, answer.manifestBearer], [null, null], `${where}: tickets for a repeat`);
        this.meet('replay, answer not kept');
      } else {
        if (known.answer !== undefined) assert.equal(text, known.answer, `${where}: a repeat gets the first answer`);
        known.answer = text;
        this.meet('replay, first answer');
      }
      known.acknowledged = true;
      return;
    }
    assert.equal(answer.effect, expected, where);
    const want = this.persisted(delivery);
    const known = host.taken.get(seq)!;
    known.answer = text;
    known.acknowledged = true;
    if (want === 'full') assert.equal(answer.want, 'full', where);
  }

  /** It stands in the store, whether or not anybody was told. @returns what must be wanted next, as far as the chain decides it. */
  persisted(delivery: Delivery): 'full' | undefined {
    const { report, digest, at, carried } = delivery;
    const host = this.host(report.host);
    const expected = host.expected(delivery);
    assert.ok(expected === 'advance' || expected === 'history', `${host.id} ${report.seq}: ${expected} was persisted`);
    for (const { from, to } of report.dropped) for (let seq = from; seq <= to; seq++) host.stated.add(seq);
    const entry = {
      digest,
      kind: report.kind,
      at,
      answer: undefined,
      startedAt: report.startedAt,
      acknowledged: false,
      pinned: false,
    };
    if (expected === 'history') {
      host.taken.set(report.seq, { ...entry, effect: 'history', order: -1 });
      if (!host.boots.includes(report.bootId) && host.boots.length < CHAIN_BOOTS_MAX) host.boots.unshift(report.bootId);
      this.meet(carried ? 'history by file' : 'history');
      return undefined;
    }
    const want = this.#advance(host, delivery);
    host.taken.set(report.seq, { ...entry, effect: 'advance', order: ++host.advances });
    host.head = report.seq;
    host.lastAt = at;
    this.judge(host);
    return want;
  }

  /** The server refused it as another report under a number that it knows. */
  forked(delivery: Delivery): void {
    const { report, digest } = delivery;
    const host = this.host(report.host);
    const expected = host.expected(delivery);
    assert.equal(expected, 'forked', `${host.id} ${report.seq}`);
    const known = host.taken.get(report.seq)!;
    this.meet(host.isRemembered(known, report.seq) ? 'forked' : 'forked, digest not kept');
    const digests = host.forks.get(report.seq) ?? new Set();
    // Whatever the clocks of host and network do, no repeat is called a fork (report.md 3.1.2).
    assert.notEqual(known.digest, digest, `${host.id} ${report.seq}: an honest host is called forked`);
    if (digests.size < FORK_COPIES_MAX) digests.add(digest);
    host.forks.set(report.seq, digests);
    known.pinned ||= host.isKept(report.seq);
    host.flags.forked = true;
  }

  refused(problem: Problem, delivery: Delivery): void {
    if (problem.code === 'SEQUENCE_FORKED') return this.forked(delivery);
    const { host, seq } = delivery.report;
    // Neither these bytes nor others: what is forgotten is vouched for to nobody, and changes nothing.
    if (problem.code === 'SEQUENCE_FORGOTTEN') {
      assert.equal(this.host(host).expected(delivery), 'forgotten', `${host} ${seq}`);
      return this.meet('forgotten');
    }
    // What a host or its way is at fault for; an honest report meets nothing else.
    assert.equal(problem.code, 'RATE_LIMITED', `${host} ${seq}: ${problem.detail}`);
  }

  #advance(host: HostLedger, { report, digest, at, carried }: Delivery): 'full' | undefined {
    const isMissing = report.seq > host.head + 1;
    const isKnownFull = report.kind === 'full' || report.full === host.full?.digest;
    const breaks =
      report.kind === 'full'
        ? report.previous !== (host.full?.digest ?? null)
        : isKnownFull && !isMissing && report.count !== host.sameCount + 1;
    const stated =
      isMissing &&
      Array.from({ length: report.seq - host.head - 1 }, (_, i) => host.head + 1 + i).every((seq) =>
        report.dropped.some(({ from, to }) => from <= seq && seq <= to),
      );
    this.meet('advance');
    if (isMissing) this.meet(stated ? 'gap, stated' : 'gap, not stated');
    if (!isMissing && breaks) this.meet(report.kind === 'full' ? 'previous unknown' : 'count does not follow');
    if ((isMissing || breaks) && !stated) host.flags.gap = true;
    else if (report.kind === 'full' && !isMissing && !breaks) host.flags.gap = false;
    if (report.bootId !== host.boots.at(-1)) {
      const isBack = host.boots.includes(report.bootId);
      if (isBack) host.flags.cloned = true;
      this.meet(isBack ? 'cloned' : 'new boot id alone');
    }
    host.boots = [...host.boots.filter((id) => id !== report.bootId), report.bootId].slice(-CHAIN_BOOTS_MAX);
    if (!isKnownFull) this.meet('same on another full');
    const issued = issuedAt(report);
    const isLive = !carried && issued !== null && at - issued <= 2 * INTERVAL;
    this.meet(carried ? 'carried' : isLive ? 'live' : 'late');
    const [least, most] = [
      Date.parse(report.finishedAt) - at,
      issued === null ? Infinity : Date.parse(report.finishedAt) - issued,
    ];
    if (least > 300_000 || most < -300_000) this.meet('clock-skew');
    if (isLive && isKnownFull) host.liveAt = at;
    if (report.kind === 'full') host.full = { digest, report };
    host.sameCount = report.kind === 'full' ? 0 : isKnownFull ? report.count : host.sameCount;
    return isMissing || breaks || !isKnownFull ? 'full' : undefined;
  }

  truthOf({ full }: HostLedger): Truth | null {
    return full === null ? null : this.#truths[full.report.stats.files]!;
  }

  /** What must be found on a host after its last full report, with the manifests that are there by now. */
  judge(host: HostLedger): void {
    const truth = this.truthOf(host);
    if (truth === null || !this.#isReady(truth.image)) return;
    if (host.full!.report.manifest === null) {
      // It had nothing to compare with: its digests can only say that all is as it was built.
      if (truth.changed.length === 0 && truth.sight === 'whole') host.open = new Set();
      return;
    }
    const seen = new Set(truth.visible.filter(({ forbidden }) => forbidden).map(({ path }) => path));
    const isUnseen = (path: string) =>
      truth.hole !== null && (path === truth.hole || path.startsWith(`${truth.hole}/`));
    const cut = truth.sight === 'truncated' || truth.sight === 'implausible';
    const stays = [...host.open].filter((path) => cut || isUnseen(path));
    host.open = new Set([...seen, ...stays]);
  }

  verdict(host: HostLedger, now: number, silentAfter: number): string {
    const truth = this.truthOf(host);
    if (truth === null) return 'new';
    if (now >= (host.liveAt ?? host.enrolledAt) + silentAfter) return 'silent';
    if (!this.#isReady(truth.image)) return 'unverifiable';
    // Two machines under one identity: nothing that it says can be relied on.
    if (host.flags.forked || host.flags.cloned) return 'unverifiable';
    if (host.full!.report.manifest === null && (truth.changed.length > 0 || truth.sight !== 'whole'))
      return 'unverifiable';
    if (host.open.size > 0 || truth.sight === 'truncated') return 'drifted';
    return truth.sight === 'whole' ? 'compliant' : 'unverifiable';
  }
}
