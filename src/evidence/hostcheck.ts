/**
 * Hosts and their reports (docs/evidence.md 4, checks `population`, `reports`, `completeness`): each report by its host's key, chained as docs/report.md
 * says, none left out, and no more check-ins claimed than a host ever numbered. One small state for each host.
 */
import { parseInstant, type Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { EXPORT_PERIOD_MS, REPORT_BYTES_MAX } from '#src/limits.ts';
import type { LogEntry } from '#src/log/entry.ts';
import type { ManifestHeader } from '#src/manifest/header.ts';
import { FullReport, Report, REPORT_PAYLOAD_TYPE, type SameReport } from '#src/report/report.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { DsseError, envelopeDigest, parseEnvelope, verifyEnvelope } from '#src/signing/dsse.ts';
import { KeyError, parsePublicKey, type PublicKey, type Verify } from '#src/signing/ed25519.ts';
import type { Sha256 } from '#src/digest.ts';
import type { HostFact, HostInScope, ImageFact } from './facts.ts';
import type { Faults } from './steps.ts';
import type { Walked } from './walk.ts';

const DAY_MS = 86_400_000;
/** Full reports of a host that a later `same` may lean on: what is sequenced late leans on one before the last. */
const FULLS_KEPT = 4;
/** Signatures that are being checked at once. */
const AT_ONCE = 64;

/** Digests of what it said, so that a fleet of these stays small. */
type Full = { readonly digest: Digest; readonly trees: string; readonly state: string };
type HostState = {
  readonly fact: Pick<
    HostInScope,
    'key' | 'enrolment' | 'enrolledAt' | 'retiredAt' | 'intervalSeconds' | 'checkIns' | 'gaps'
  >;
  readonly images: ReadonlySet<string>;
  fulls: Full[];
  /** Highest number before the period, and in it. */
  before: number | null;
  highest: number;
  /** Days of the period, from its first, on which something was logged: a bit for each. */
  readonly days: Uint8Array;
  reports: number;
  enrolled: boolean;
};

export type HostFaults = { readonly population: Faults; readonly reports: Faults; readonly completeness: Faults };

export class HostCheck {
  readonly #hosts = new Map<string, HostState | null>();
  /** Images by their other names: hosts may name one by its configuration. */
  readonly #names = new Map<string, string>();
  #began: Instant | undefined;
  /** The log begins within the period, after a host was enrolled. */
  isLate = false;
  readonly #period: { readonly from: Instant; readonly to: Instant };
  readonly #whole: boolean;
  readonly #manifests: ReadonlyMap<string, ManifestHeader>;
  readonly #verify: Verify;
  readonly #hash: Sha256 | undefined;
  readonly #echo: (where: string, text: string) => void;
  readonly #faults: HostFaults;
  #running = new Set<Promise<void>>();
  counts = { inScope: 0, reports: 0, full: 0, purged: 0, unlinked: 0, breaks: 0, keysUnlogged: 0, uncompared: 0 };

  constructor(
    about: {
      readonly period: { readonly from: Instant; readonly to: Instant };
      /** The bundle is of every host. */
      readonly whole: boolean;
      /** By `image rule`; their signatures were checked. */
      readonly manifests: ReadonlyMap<string, ManifestHeader>;
    },
    faults: HostFaults,
    deps: {
      readonly verify: Verify;
      readonly hash: Sha256 | undefined;
      /** Hears what each report says of the log. */
      readonly echo: (where: string, text: string) => void;
    },
  ) {
    this.#period = about.period;
    this.#whole = about.whole;
    this.#manifests = about.manifests;
    this.#faults = faults;
    this.#verify = deps.verify;
    this.#hash = deps.hash;
    this.#echo = deps.echo;
  }

  /** The population, before the log is walked. */
  host(fact: HostFact): void {
    const { population } = this.#faults;
    if (this.#hosts.has(fact.host)) population.add(`${fact.host} stands in the population twice`);
    if (!fact.inScope) {
      if (this.#whole) population.add(`${fact.host} is left out of a bundle of every host`);
      this.#hosts.set(fact.host, null);
      return;
    }
    this.counts.inScope++;
    const { from, to } = this.#period;
    const { key, enrolment, enrolledAt, retiredAt, intervalSeconds, checkIns, gaps } = fact;
    this.#hosts.set(fact.host, {
      fact: { key, enrolment, enrolledAt, retiredAt, intervalSeconds, checkIns, gaps },
      images: new Set(fact.deployments.map(({ image }) => image)),
      fulls: [],
      before: null,
      highest: 0,
      days: new Uint8Array(Math.ceil(Math.min(Math.max(0, to - from), EXPORT_PERIOD_MS) / (8 * DAY_MS))),
      reports: 0,
      enrolled: fact.enrolment === null,
    });
  }

  image({ image, names }: ImageFact): void {
    for (const name of names) this.#names.set(name, image);
  }

  /** The log's first entry, where the bundle holds it. */
  began(at: Instant): void {
    this.#began = at;
  }

  /** Of a host in scope; undefined for others, and where the population names none that can be one. */
  keyOf(host: string): PublicKey | undefined {
    const state = this.#hosts.get(host);
    try {
      return state ? parsePublicKey(state.fact.key) : undefined;
    } catch (error) {
      if (!(error instanceof KeyError)) throw error;
      return undefined;
    }
  }

  inScope(host: string | null): boolean {
    return host !== null && (this.#hosts.get(host) ?? null) !== null;
  }

  /** Every entry of the walk: who has one within the period belongs to the population. */
  seen(entry: LogEntry, at: Instant): void {
    if (entry.host === null || at >= this.#period.to) return;
    const state = this.#hosts.get(entry.host);
    if (at < this.#period.from) return;
    // A host of another's part has entries in the log all the same; in a bundle of every host there is none.
    if (state === undefined && this.#whole)
      this.#faults.population.add(
        `${entry.host} has entries in the period and does not stand in the population: it was dropped`,
      );
    if (state && entry.kind === 'report') {
      const day = Math.floor((at - this.#period.from) / DAY_MS);
      state.days[day >> 3]! |= 1 << (day & 7);
    }
  }

  /** The act of a host's enrolment. */
  enrolled(host: string, index: number, after: string): void {
    const state = this.#hosts.get(host);
    if (!state) return;
    let said: unknown;
    try {
      said = (JSON.parse(after) as { publicKey?: unknown } | null)?.publicKey;
    } catch {
      said = undefined; // told below: it names no key
    }
    if (state.fact.enrolment !== index || said !== state.fact.key)
      this.#faults.population.add(
        `${host} was enrolled by entry ${index} with another key or place than the population says`,
      );
    state.enrolled = true;
  }

  /** That it was enrolled then is logged; with which key is gone. */
  enrolmentPurged(host: string, index: number): void {
    const state = this.#hosts.get(host);
    if (state?.fact.enrolment !== index) return;
    state.enrolled = true;
    this.counts.keysUnlogged++;
  }

  /** A report whose payload fits its entry, or one that was purged. */
  async report({ index, entry, payload }: Walked, at: Instant): Promise<void> {
    if (entry.kind !== 'report') return;
    const state = this.#hosts.get(entry.host);
    if (!state) {
      this.#faults.reports.add(`entry ${index}: a report of ${entry.host}, which is not in scope`);
      return;
    }
    this.counts.reports++;
    state.reports++;
    const { seq } = entry.facts;
    if (at < this.#period.from) state.before = Math.max(state.before ?? 0, seq);
    else if (at < this.#period.to) state.highest = Math.max(state.highest, seq);
    if (payload === undefined) {
      this.counts.purged++;
      return;
    }
    await this.#envelope(index, entry, payload, state);
  }

  async #envelope(
    index: number,
    entry: Extract<LogEntry, { kind: 'report' }>,
    text: string,
    state: HostState,
  ): Promise<void> {
    const { reports } = this.#faults;
    const where = `entry ${index}, report ${entry.facts.seq} of ${entry.host}`;
    let report: Report;
    try {
      const envelope = parseEnvelope(text, REPORT_PAYLOAD_TYPE, REPORT_BYTES_MAX);
      const key = parsePublicKey(state.fact.key);
      await this.#run(async () => {
        if (!(await verifyEnvelope(envelope, key, this.#verify))) reports.add(`${where}: not signed by the host's key`);
      });
      const payload = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(envelope.payload);
      const parsed = Report.safeParse(JSON.parse(payload));
      if (!parsed.success || canonicalJson(parsed.data) !== payload) {
        reports.add(`${where}: not a report of a version that is known, in its one spelling`);
        return;
      }
      report = parsed.data;
    } catch (error) {
      if (
        !(
          error instanceof DsseError ||
          error instanceof KeyError ||
          error instanceof SyntaxError ||
          error instanceof TypeError
        )
      )
        throw error;
      reports.add(`${where}: ${error.message}`);
      return;
    }
    const { facts } = entry;
    if (
      report.host !== entry.host ||
      report.seq !== facts.seq ||
      report.kind !== facts.report ||
      (report.kind === 'same' ? report.count : null) !== facts.count
    )
      reports.add(`${where}: the log says something else of it than it says itself`);
    if (report.checkpoint !== null) this.#echo(where, report.checkpoint);
    if (report.kind === 'full') this.#full(where, report, envelopeDigest(text, this.#hash), facts.copy, state);
    else this.#same(where, report, state);
  }

  #full(where: string, report: FullReport, digest: Digest, copy: number, state: HostState): void {
    this.counts.full++;
    const last = state.fulls.at(-1);
    if (last !== undefined && report.previous !== last.digest) this.counts.breaks++;
    const booted = report.deployment.booted?.image?.digest ?? null;
    if (booted !== null && !state.images.has(booted) && !state.images.has(this.#names.get(booted) ?? ''))
      this.#faults.reports.add(`${where}: it booted ${booted}, which is not among the host's deployments`);
    this.#manifest(where, report);
    if (copy > 0) return;
    const digests = ({ main, extra }: FullReport['trees']['usr']) => ({ main, extra });
    state.fulls = [
      ...state.fulls,
      {
        digest,
        trees: this.#sha(canonicalJson({ usr: digests(report.trees.usr), etc: digests(report.trees.etc) })),
        state: `sha256:${this.#sha(canonicalJson(report.deployment))}`,
      },
    ].slice(-FULLS_KEPT);
  }

  #same(where: string, report: SameReport, state: HostState): void {
    const full = state.fulls.find(({ digest }) => digest === report.full);
    if (full === undefined) {
      // Its full report is older than the bundle, or was purged: what the host said then is not here.
      this.counts.unlinked++;
      return;
    }
    if (full.trees !== this.#sha(canonicalJson(report.trees)) || full.state !== report.state)
      this.#faults.reports.add(
        `${where}: it says that nothing changed, but its digests are not those of its full report`,
      );
  }

  /** Where a host says that nothing differs, its digests are the manifest's own (docs/report.md 3.4). */
  #manifest(where: string, { manifest, drift, secrets, secretPaths, trees }: FullReport): void {
    if (manifest === null) return;
    const header = this.#manifests.get(`${manifest.image} ${manifest.rule}`);
    if (header === undefined) {
      this.#faults.reports.add(
        `${where}: compared with the manifest of ${manifest.image} (${manifest.rule}), which is not in the bundle`,
      );
      return;
    }
    if (
      drift.length > 0 ||
      secrets.length > 0 ||
      secretPaths.added.length > 0 ||
      secretPaths.id !== header.secretPaths
    ) {
      this.counts.uncompared++;
      return;
    }
    for (const tree of ['usr', 'etc'] as const) {
      const { main, extra } = trees[tree];
      const expected = header.trees[tree];
      if (
        (main !== null && main !== expected.main.comparison) ||
        (main !== null && extra !== null && extra !== expected.extra)
      )
        this.#faults.reports.add(
          `${where}: it lists no difference in /${tree}, but its digest is not that of the manifest`,
        );
    }
  }

  #sha(text: string): string {
    return envelopeDigest(new TextEncoder().encode(text), this.#hash).slice('sha256:'.length);
  }

  async #run(work: () => Promise<void>): Promise<void> {
    const one = work().finally(() => this.#running.delete(one));
    this.#running.add(one);
    if (this.#running.size >= AT_ONCE) await Promise.race(this.#running);
  }

  /** After the walk. */
  async finish(exportedAt: Instant): Promise<void> {
    await Promise.all(this.#running);
    for (const [host, state] of this.#hosts) if (state !== null) this.#finishHost(host, state, exportedAt);
  }

  #finishHost(host: string, state: HostState, exportedAt: Instant): void {
    const { fact, before, highest } = state;
    const { population, completeness } = this.#faults;
    if (!state.enrolled) population.add(`${host}: the entry of its enrolment is not in the bundle`);
    if (fact.enrolment === null) this.counts.keysUnlogged++;
    const { expected, received } = fact.checkIns;
    const enrolled = parseInstant(fact.enrolledAt)!;
    const from = Math.max(this.#period.from, enrolled);
    const to = Math.min(
      this.#period.to,
      exportedAt,
      fact.retiredAt === null ? Infinity : parseInstant(fact.retiredAt)!,
    );
    const base = before ?? (enrolled >= this.#period.from ? 0 : null);
    if (base !== null && received > Math.max(0, highest - base))
      completeness.add(`${host}: ${received} check-ins are claimed; its reports are numbered ${base} to ${highest}`);
    if (received > 0 && state.days.every((bits) => bits === 0))
      completeness.add(`${host}: ${received} check-ins are claimed, and none was logged`);
    const due = Math.floor(Math.max(0, to - from) / (1000 * fact.intervalSeconds));
    if (expected !== due)
      completeness.add(`${host}: ${expected} check-ins were expected, by its interval it is ${due}`);
    const day = this.#silentDay(state, from, to);
    if (day !== undefined)
      completeness.add(
        `${host}: nothing was logged on ${new Date(this.#period.from + day * DAY_MS).toISOString().slice(0, 10)}, and no gap is listed then`,
      );
  }

  /** The first whole day on which the host said nothing and no gap says so, where it should have spoken more than once a day. */
  #silentDay({ fact, days }: HostState, enrolled: Instant, to: Instant): number | undefined {
    if (1000 * fact.intervalSeconds > DAY_MS / 2) return undefined;
    // A host that is older than the log may have been heard before there was one.
    const from = fact.enrolment === null ? Math.max(enrolled, this.#began ?? (this.#whole ? 0 : Infinity)) : enrolled;
    if (from > enrolled) this.isLate = true;
    const gaps = fact.gaps.map((gap) => ({ from: parseInstant(gap.from)!, to: parseInstant(gap.to)! }));
    for (let day = 0; this.#period.from + (day + 1) * DAY_MS <= to; day++) {
      const begin = this.#period.from + day * DAY_MS;
      if (begin < from || (days[day >> 3]! & (1 << (day & 7))) !== 0) continue;
      if (!gaps.some((gap) => gap.from < begin + DAY_MS && gap.to > begin)) return day;
    }
    return undefined;
  }
}
