/**
 * A report's way into the store: bytes → checks 1 to 5 → its place in the chain → judgement → group commit → answer. Nothing is
 * acknowledged that is not committed; a write that met another one is decided again on what stands then (docs/report.md 3). What takes
 * long is done by the examiner; a `same`, which is small and cheap, never waits for it.
 */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { parseInstant, type Instant } from '#src/clock.ts';
import { HOST_AT_ONCE_MAX, INTAKE_ATTEMPTS_MAX, SAME_BYTES_MAX } from '#src/limits.ts';
import { freshnessOf } from '#src/policy/document.ts';
import { accept, checkReport, openReport, type Accepted, type Arrival, type HostState } from '#src/report/accept.ts';
import { refuse, type Refused } from '#src/report/refusal.ts';
import type { FullReport, SameReport } from '#src/report/report.ts';
import type { Deps } from '#server/deps.ts';
import { hostFactsOf } from '#server/hostfacts.ts';
import { toldOf } from '#server/standing.ts';
import { trustJob, type KnownTrust } from '#server/trust/known.ts';
import type { Chain, Host, NewJob, ReportKind } from '#server/store/records.ts';
import type { HostWrite } from '#server/store/store.ts';
import type { Answers, Want } from './answers.ts';
import type { Batch } from './batch.ts';
import { advanced, asOf, doubtsAfter, doubtsOf, imagesOf, seenIn, wantOf } from './effects.ts';
import { recordOf, type Brief, type Examination, type Examiner, type Opened } from './examiner.ts';
import type { HostReads } from './hostreads.ts';
import { isSkewed, type JudgingPolicies } from './judge.ts';
import type { KnownImages } from './known.ts';
import type { NotedImages } from './noted.ts';
import { lastExamination, rejudgeJob } from './rejudge.ts';
import type { Shares } from './quota.ts';
import type { Refusals } from './refusals.ts';
import { ReportError, returns } from './reporterror.ts';

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

export type PipelineDeps = Deps & {
  readonly batch: Batch;
  readonly hosts: HostReads;
  readonly examiner: Examiner;
  readonly images: KnownImages;
  readonly noted: NotedImages;
  readonly trust: KnownTrust;
  readonly answers: Answers;
  readonly refusals: Refusals;
  /** Of reports, and of their bytes: what is full is kept for good. */
  readonly shares: Shares;
  readonly bytes: Shares;
  readonly policies: JudgingPolicies;
};

export class Pipeline {
  readonly #deps: PipelineDeps;
  /** Reports under way, by host. */
  readonly #atOnce = new Map<string, number>();

  constructor(deps: PipelineDeps) {
    this.#deps = deps;
  }

  /**
   * Takes an envelope as it came, after `Content-Encoding` was undone. `carried`: by file, not over the wire.
   * @returns the answer as JSON text, once the report is durable.
   * @throws {ReportError} with the check that refused it; {StoreError} where the store cannot say.
   */
  async take(bytes: Uint8Array, carried = false): Promise<string> {
    const { clock, shares, bytes: volume, examiner } = this.#deps;
    const arrival = { receivedAt: clock(), carried };
    const opened =
      (bytes.length <= SAME_BYTES_MAX ? await this.#openSame(bytes, arrival) : undefined) ??
      (await examiner.open(bytes, arrival));
    if (opened.kind === 'limited') throw limited(opened.seconds);
    if (opened.kind === 'refused') {
      const { hostId, refused } = opened;
      // What its key signed is its own, also where it is malformed: it costs of its share what other reports do.
      if (refused.check > 4) {
        shares.take(hostId, arrival.receivedAt);
        volume.take(hostId, arrival.receivedAt, bytes.length);
      }
      throw this.#refused(hostId, refused, arrival.receivedAt);
    }
    const taken: Taken = { bytes, brief: opened.brief, held: opened.held };
    try {
      const { host: id } = opened.brief.checked.report;
      // Only now it is known whose reports these are: before the signature a stranger could use up another host's share.
      const wait = shares.take(id, arrival.receivedAt) || volume.take(id, arrival.receivedAt, bytes.length);
      if (wait > 0) throw limited(wait);
      const outcome = await this.#inTurn(id, () => this.#place(taken, id));
      if (outcome.kind === 'answered') {
        returns.took();
        return outcome.text;
      }
      throw this.#refused(id, outcome, arrival.receivedAt);
    } finally {
      taken.held?.close();
    }
  }

  /** One host that sends all that it has beside each other must not take the places of others. */
  async #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const atOnce = (this.#atOnce.get(id) ?? 0) + 1;
    if (atOnce > HOST_AT_ONCE_MAX) throw limited(1);
    this.#atOnce.set(id, atOnce);
    try {
      return await work();
    } finally {
      const left = this.#atOnce.get(id)! - 1;
      if (left === 0) this.#atOnce.delete(id);
      else this.#atOnce.set(id, left);
    }
  }

  /** A small report on the spot, if it is a `same`. */
  async #openSame(bytes: Uint8Array, arrival: Arrival): Promise<Opened<null> | undefined> {
    const { hosts, shares, verify, keys } = this.#deps;
    const opened = openReport(bytes, sha256);
    if (opened.kind === 'refused') return { kind: 'refused', hostId: '', refused: opened };
    if (!('kind' in opened.value) || opened.value.kind !== 'same') return undefined;
    const host = await hosts.get(opened.host);
    const wait = host === undefined ? 0 : shares.wait(host.id, arrival.receivedAt);
    if (wait > 0) return { kind: 'limited', seconds: wait };
    const checked = await checkReport(opened, host && recordOf(host), arrival, { verify, ticketKeys: keys.tickets });
    if (checked.kind === 'refused') return { kind: 'refused', hostId: host?.id ?? '', refused: checked };
    return { kind: 'examined', brief: { checked, consistency: null, manifest: 'none', facts: null }, held: null };
  }

  #refused(hostId: string, { code, message, check, head }: Refused, at: Instant): ReportError {
    this.#deps.refusals.count({ hostId, code, at, detail: message });
    return new ReportError(code, message, { check, head });
  }

  /** Checks 6 and 7, and the commit: again on the host as it then stands, where another write came between. */
  async #place(taken: Taken, hostId: string): Promise<Answered | Refused> {
    for (let attempt = 0; attempt < INTAKE_ATTEMPTS_MAX; attempt++) {
      const host = await this.#deps.hosts.get(hostId);
      if (host === undefined) return refuse(3, 'HOST_UNKNOWN', `no host ${hostId} is enrolled here`);
      if (host.state !== 'active') return refuse(3, 'HOST_RETIRED', `host ${hostId} was retired`);
      const outcome = await this.#attempt(taken, host);
      if (outcome.kind !== 'conflict') return outcome;
    }
    throw new ReportError('OVERLOADED', 'this host is written to by too many at once; send it again', {
      retryAfter: 5,
    });
  }

  async #attempt(taken: Taken, host: Host): Promise<Answered | Refused | Conflict> {
    const { checked, consistency } = taken.brief;
    const { report } = checked;
    const known =
      report.seq > host.chain.headSeq ? undefined : await this.#deps.store.reports.head(host.id, report.seq);
    const { flags: doubts, ...chain } = host.chain;
    const state: HostState = {
      chain,
      kept: known?.digest ?? null,
      last: host.last,
      full: host.facts && { trees: host.facts.trees, state: host.facts.state },
    };
    const outcome = accept(checked, consistency, state);
    if (outcome.kind === 'refused') {
      if (outcome.flag === undefined) return outcome;
      const kept = await this.#fork(taken, host);
      return kept.kind === 'conflict' ? kept : outcome;
    }
    if (outcome.effect === 'replay') {
      if (known?.digest === checked.digest) return { kind: 'answered', text: known.answer };
      const want = await this.#want(host, 'same');
      const log = await this.#deps.answers.log(report.checkpoint);
      return {
        kind: 'answered',
        text: this.#deps.answers.text(host, { seq: report.seq, effect: 'replay', want }, log),
      };
    }
    const flags = doubtsAfter(doubts, outcome, checked);
    if (outcome.effect === 'history') {
      const want = await this.#want(host, outcome.want);
      const log = await this.#deps.answers.log(report.checkpoint);
      const answer = this.#deps.answers.text(host, { seq: report.seq, effect: 'history', want }, log);
      return this.#commit(taken, host, 'history', answer, { chain: { ...outcome.chain, flags } });
    }
    return report.kind === 'same'
      ? this.#same(taken, report, host, outcome, flags)
      : this.#full(taken, report, host, outcome, flags);
  }

  /** The common and cheap way: one host's row and the row of its newest `same`. */
  async #same(
    taken: Taken,
    report: SameReport,
    host: Host,
    outcome: Accepted,
    flags: Chain['flags'],
  ): Promise<Answered | Conflict> {
    const { policies, trust, answers } = this.#deps;
    const at = asOf(outcome, host);
    const write = advanced(taken.brief.checked, outcome, flags, this.#termsOf(host));
    const heard = host.freshness.silenceNoted && outcome.fresh;
    const doubted = (['forked', 'cloned', 'gap'] as const).some(
      (name) => (flags[name] === undefined) !== (host.chain.flags[name] === undefined),
    );
    const told = toldOf(host);
    const stale = told?.policy !== policies.current.digest || !(await trust.isCurrent(host.images.booted, told.stamp));
    // What an image is too old for, the clock alone decides.
    const next = told?.facts?.age?.next ?? null;
    const aged = next !== null && at >= next;
    const news = heard || doubted || aged || isSkewed(outcome.skewMs) !== isSkewed(told?.skewMs ?? null);
    const judged = news || stale ? await this.#rejudge(host, outcome, { flags, at, news }) : {};
    const want = await this.#want(host, outcome.want === 'full' || flags.gap !== undefined ? 'full' : 'same');
    const answer = answers.text(
      host,
      { seq: report.seq, effect: 'advance', want },
      await answers.log(report.checkpoint),
    );
    return this.#commit(taken, host, 'same', answer, { ...write, ...judged, at });
  }

  /** What the last full report says under what is doubted now. `news`: something that this very report says asks for it. */
  async #rejudge(
    host: Host,
    outcome: Accepted,
    { flags, at, news }: { readonly flags: Chain['flags']; readonly at: Instant; readonly news: boolean },
  ): Promise<Partial<HostWrite>> {
    let last: Examination | undefined;
    try {
      last = await lastExamination(host, this.#deps, false);
    } catch (error) {
      // Who was only judged by something older waits for the job that judges all of those anew.
      if (!news && error instanceof ReportError) return {};
      throw error;
    }
    if (last === undefined) return {};
    return last.judge({
      host,
      doubts: doubtsOf(flags, outcome.gap),
      skewMs: outcome.skewMs,
      silence: outcome.fresh ? 'over' : 'untold',
      at,
      cause: { kind: 'report', imageChanged: false },
    });
  }

  async #full(
    taken: Taken,
    report: FullReport,
    host: Host,
    outcome: Accepted,
    flags: Chain['flags'],
  ): Promise<Answered | Conflict> {
    const { noted, answers, examiner } = this.#deps;
    const { checked, manifest, facts } = taken.brief;
    const at = asOf(outcome, host);
    await noted.note(host.id, seenIn(report), checked.arrival.receivedAt);
    const images = imagesOf(report);
    const write = advanced(checked, outcome, flags, this.#termsOf(host));
    // Decided again on another state of the host: it is looked at once more, which costs less than holding what is hardly ever needed.
    const held = taken.held ?? (await examiner.reopen(taken.bytes, true));
    taken.held = null;
    assert.ok(held !== undefined, 'a report that was consistent is so again');
    const judged = await held.judge({
      host,
      doubts: doubtsOf(flags, outcome.gap),
      skewMs: outcome.skewMs,
      silence: outcome.fresh ? 'over' : 'untold',
      at,
      cause: { kind: 'report', imageChanged: host.images.booted !== images.booted },
    });
    const want: Want =
      outcome.gap !== null ? 'full' : wantOf(report.manifest !== null, manifest === 'ready', manifest === 'pending');
    const log = await answers.log(report.checkpoint);
    const answer = answers.text(host, { seq: report.seq, effect: 'advance', want }, log);
    // Judged without its manifest, which may be ready by the time this is committed: looked at once more after that.
    const jobs = manifest === 'pending' ? [rejudgeJob(images.booted!, at)] : [];
    jobs.push(...(await this.#trustJobs(seenIn(report), at)));
    return this.#commit(taken, host, 'full', answer, { ...write, ...judged, images, facts: facts!, jobs, at });
  }

  #termsOf(host: Host): ReturnType<typeof freshnessOf> {
    return freshnessOf(this.#deps.policies.current, hostFactsOf(host));
  }

  /** What nobody has looked at under what is demanded now. */
  async #trustJobs(seen: ReturnType<typeof seenIn>, at: Instant): Promise<NewJob[]> {
    const looked = await Promise.all(seen.map(({ reported }) => this.#deps.trust.of(reported)));
    return looked.flatMap(({ due, image }) => (due && image !== null ? [trustJob(image, at)] : []));
  }

  /** Keeps the other envelope, and says once that two speak with one key. */
  async #fork(taken: Taken, host: Host): Promise<Answered | Conflict> {
    const at = taken.brief.checked.arrival.receivedAt;
    const flags = { ...host.chain.flags, forked: host.chain.flags.forked ?? at };
    const last = host.chain.flags.forked === undefined ? await lastExamination(host, this.#deps, false) : undefined;
    const judged = await last?.judge({
      host,
      doubts: doubtsOf(flags),
      skewMs: toldOf(host)?.skewMs ?? null,
      silence: 'untold',
      at,
      cause: { kind: 'report', imageChanged: false },
    });
    return this.#commit(taken, host, 'fork', '', { chain: { ...host.chain, flags }, ...judged, at });
  }

  async #commit(
    { brief: { checked }, bytes }: Taken,
    host: Host,
    kind: ReportKind,
    answer: string,
    write: Partial<HostWrite>,
  ): Promise<Answered | Conflict> {
    const { report, digest, arrival } = checked;
    const result = await this.#deps.batch.commit({
      hostId: host.id,
      expectRevision: host.revision,
      at: arrival.receivedAt,
      report: {
        seq: report.seq,
        kind,
        digest,
        class: checked.class,
        startedAt: parseInstant(report.startedAt)!,
        receivedAt: arrival.receivedAt,
        answer,
        envelope: bytes,
      },
      ...write,
    });
    return result.kind === 'committed' ? { kind: 'answered', text: answer } : { kind: 'conflict' };
  }

  /** `full` where only that helps: nothing to lean on, or a manifest that the last full report could not be compared with. */
  async #want(host: Host, least: Want): Promise<Want> {
    if (least === 'full' || host.facts === null) return 'full';
    if (host.facts.comparedWith !== null) return 'same';
    const known = await this.#deps.images.resolve(host.images.booted);
    return wantOf(false, known.kind === 'ready', known.kind === 'not-ready' && known.state.state === 'pending');
  }
}

type Answered = { readonly kind: 'answered'; readonly text: string };
/** Another write to this host came between: everything is decided again. */
type Conflict = { readonly kind: 'conflict' };

type Taken = {
  readonly bytes: Uint8Array;
  readonly brief: Brief;
  /** Null of a `same` that was opened on the spot, and once it was judged. */
  held: Examination | null;
};

function limited(seconds: number): ReportError {
  return new ReportError('RATE_LIMITED', `more reports of this host than a host makes; come back in ${seconds} s`, {
    retryAfter: seconds,
  });
}
