/**
 * A report's way into the store: bytes → checks 1 to 5 → its place in the chain → judgement → group commit → answer. Nothing is
 * acknowledged that is not committed; a write that met another one is decided again on what stands then (docs/report.md 3).
 */
import { hash } from 'node:crypto';
import { parseInstant, type Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { INTAKE_ATTEMPTS_MAX } from '#src/limits.ts';
import { freshnessOf, type Freshness as Terms } from '#src/policy/document.ts';
import {
  accept,
  checkReport,
  openReport,
  type Accepted,
  type Checked,
  type HostState,
  type Opened,
} from '#src/report/accept.ts';
import { refuse, type CheckNumber, type Refused } from '#src/report/refusal.ts';
import { REPORT_VERSIONS, type FullReport, type SameReport } from '#src/report/report.ts';
import { stateDigest } from '#src/report/seal.ts';
import { parsePublicKey } from '#src/signing/ed25519.ts';
import type { ProblemCode } from '#src/wire/problem.ts';
import type { Deps } from '#server/deps.ts';
import type { KnownWaivers } from '#server/exempt.ts';
import { hostFactsOf } from '#server/hostfacts.ts';
import { toldOf } from '#server/standing.ts';
import { trustJob, type KnownTrust } from '#server/trust/known.ts';
import type { Chain, Freshness, Host, NewJob, ReportFacts, ReportKind } from '#server/store/records.ts';
import type { HostWrite } from '#server/store/store.ts';
import type { Answers, Want } from './answers.ts';
import type { Batch } from './batch.ts';
import { HostReads } from './hostreads.ts';
import { examine, isSkewed, judge, type Doubts, type Examined, type JudgingPolicies } from './judge.ts';
import type { KnownImages } from './known.ts';
import { lastFull, rejudgeJob } from './rejudge.ts';
import type { Shares } from './quota.ts';
import type { Refusals } from './refusals.ts';

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** A report that was not taken: what the host is told. */
export class ReportError extends BootproofError<ProblemCode> {
  readonly check: CheckNumber | undefined;
  readonly accepts: readonly number[] | undefined;
  readonly retryAfter: number | undefined;
  readonly head: number | undefined;

  constructor(
    code: ProblemCode,
    message: string,
    more: { check?: CheckNumber; retryAfter?: number; head?: number | undefined } = {},
  ) {
    super(code, message);
    this.check = more.check;
    this.accepts = code === 'VERSION_UNSUPPORTED' ? REPORT_VERSIONS : undefined;
    this.retryAfter = more.retryAfter;
    this.head = more.head;
  }
}

export type PipelineDeps = Deps & {
  readonly batch: Batch;
  readonly images: KnownImages;
  readonly trust: KnownTrust;
  readonly waivers: KnownWaivers;
  readonly answers: Answers;
  readonly refusals: Refusals;
  readonly shares: Shares;
  readonly policies: JudgingPolicies;
};

export class Pipeline {
  readonly #deps: PipelineDeps;
  readonly #hosts: HostReads;

  constructor(deps: PipelineDeps) {
    this.#deps = deps;
    this.#hosts = new HostReads(deps.store);
  }

  /**
   * Takes an envelope as it came, after `Content-Encoding` was undone. `carried`: by file, not over the wire.
   * @returns the answer as JSON text, once the report is durable.
   * @throws {ReportError} with the check that refused it; {StoreError} where the store cannot say.
   */
  async take(bytes: Uint8Array, carried = false): Promise<string> {
    const { clock, refusals, shares } = this.#deps;
    const receivedAt = clock();
    const opened = openReport(bytes, sha256);
    if (opened.kind === 'refused') throw this.#refused('', opened, receivedAt);
    const host = await this.#hosts.get(opened.host);
    const record = host && {
      publicKey: parsePublicKey(host.publicKey),
      state: host.state,
      intervalMs: host.freshness.interval,
    };
    const checked = await checkReport(
      opened,
      record,
      { receivedAt, carried },
      { verify: this.#deps.verify, ticketKeys: this.#deps.keys.tickets },
    );
    if (checked.kind === 'refused') throw this.#refused(host?.id ?? '', checked, receivedAt);
    // Only now it is known whose reports these are: before the signature a stranger could use up another host's share.
    const wait = shares.take(opened.host, receivedAt);
    if (wait > 0)
      throw new ReportError('RATE_LIMITED', `more reports of this host than a host makes; come back in ${wait} s`, {
        retryAfter: wait,
      });
    const outcome = await this.#place(opened, bytes, checked, host!);
    if (outcome.kind === 'answered') return outcome.text;
    refusals.count({ hostId: opened.host, code: outcome.code, at: receivedAt, detail: outcome.message });
    throw new ReportError(outcome.code, outcome.message, { check: outcome.check, head: outcome.head });
  }

  #refused(hostId: string, { code, message, check }: Refused, at: Instant): ReportError {
    this.#deps.refusals.count({ hostId, code, at, detail: message });
    return new ReportError(code, message, { check });
  }

  /** Checks 6 and 7, and the commit: again on the host as it then stands, where another write came between. */
  async #place(opened: Opened, bytes: Uint8Array, checked: Checked, host: Host): Promise<Answered | Refused> {
    const { report } = checked;
    const examined = report.kind === 'full' ? await examine(report, this.#deps.images) : null;
    const taken: Taken = { opened, bytes, checked, examined };
    let current = host;
    for (let attempt = 0; attempt < INTAKE_ATTEMPTS_MAX; attempt++) {
      const outcome = await this.#attempt(taken, current);
      if (outcome.kind !== 'conflict') return outcome;
      const again = await this.#deps.store.hosts.get(host.id);
      if (again === undefined) return refuse(3, 'HOST_UNKNOWN', `no host ${host.id} is enrolled here`);
      if (again.state !== 'active') return refuse(3, 'HOST_RETIRED', `host ${host.id} was retired`);
      current = again;
    }
    throw new ReportError('OVERLOADED', 'this host is written to by too many at once; send it again', {
      retryAfter: 5,
    });
  }

  async #attempt(taken: Taken, host: Host): Promise<Answered | Refused | Conflict> {
    const { checked, examined } = taken;
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
    const consistency = examined === null ? null : examined.kind === 'refused' ? examined : examined.consistency;
    const outcome = accept(checked, consistency, state);
    if (outcome.kind === 'refused') {
      if (outcome.flag === undefined) return outcome;
      const kept = await this.#fork(taken, host);
      return kept.kind === 'conflict' ? kept : outcome;
    }
    if (outcome.effect === 'replay') {
      if (known?.digest === checked.digest) return { kind: 'answered', text: known.answer };
      const text = this.#deps.answers.text(host, {
        seq: report.seq,
        effect: 'replay',
        want: await this.#want(host, 'same'),
      });
      return { kind: 'answered', text };
    }
    const flags = doubtsAfter(doubts, outcome, checked);
    if (outcome.effect === 'history') {
      const answer = this.#deps.answers.text(host, {
        seq: report.seq,
        effect: 'history',
        want: await this.#want(host, outcome.want),
      });
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
    const at = asOf(outcome, host);
    const write = this.#advance(taken, host, outcome, flags);
    const heard = host.freshness.silenceNoted && outcome.fresh;
    const doubted = (['forked', 'cloned', 'gap'] as const).some(
      (name) => (flags[name] === undefined) !== (host.chain.flags[name] === undefined),
    );
    const told = toldOf(host);
    const stale =
      told?.policy !== this.#deps.policies.current.digest ||
      !(await this.#deps.trust.isCurrent(host.images.booted, told.stamp));
    const skew = isSkewed(outcome.skewMs) !== isSkewed(told?.skewMs ?? null);
    const judged = heard || doubted || stale || skew ? await this.#rejudge(host, outcome, flags, at) : {};
    const want = await this.#want(host, outcome.want === 'full' || flags.gap !== undefined ? 'full' : 'same');
    const answer = this.#deps.answers.text(host, { seq: report.seq, effect: 'advance', want });
    return this.#commit(taken, host, 'same', answer, { ...write, ...judged, at });
  }

  /** What the last full report says under what is doubted now. */
  async #rejudge(host: Host, outcome: Accepted, flags: Chain['flags'], at: Instant): Promise<Partial<HostWrite>> {
    const examined = await lastFull(host, this.#deps);
    if (examined === undefined) return {};
    const occasion = {
      host,
      doubts: doubtsOf(flags, outcome),
      skewMs: outcome.skewMs,
      live: outcome.fresh,
      at,
      cause: { kind: 'report', imageChanged: false },
    } as const;
    return judge(examined, occasion, this.#deps);
  }

  async #full(
    taken: Taken,
    report: FullReport,
    host: Host,
    outcome: Accepted,
    flags: Chain['flags'],
  ): Promise<Answered | Conflict> {
    const examined = taken.examined as Examined;
    const { images: known, store } = this.#deps;
    const at = asOf(outcome, host);
    await known.note(host.id, seenIn(report), taken.checked.arrival.receivedAt);
    const images = imagesOf(report);
    const write = this.#advance(taken, host, outcome, flags);
    const occasion = {
      host,
      doubts: doubtsOf(flags, outcome),
      skewMs: outcome.skewMs,
      live: outcome.fresh,
      at,
      cause: { kind: 'report', imageChanged: host.images.booted !== images.booted },
    } as const;
    const judged = await judge(examined, occasion, { ...this.#deps, store, images: known });
    const compared = report.manifest !== null;
    const want: Want =
      outcome.gap !== null ? 'full' : wantOf(compared, examined.known.kind === 'ready', pendingOf(examined));
    const answer = this.#deps.answers.text(host, { seq: report.seq, effect: 'advance', want });
    // Judged without its manifest, which may be ready by the time this is committed: looked at once more after that.
    const jobs = pendingOf(examined) ? [rejudgeJob(images.booted!, at)] : [];
    jobs.push(...(await this.#trustJobs(seenIn(report), at)));
    return this.#commit(taken, host, 'full', answer, { ...write, ...judged, images, facts: factsOf(report), jobs, at });
  }

  /** What nobody has looked at under what is demanded now. */
  async #trustJobs(seen: ReturnType<typeof seenIn>, at: Instant): Promise<NewJob[]> {
    const looked = await Promise.all(seen.map(({ reported }) => this.#deps.trust.of(reported)));
    return looked.flatMap(({ due, image }) => (due && image !== null ? [trustJob(image, at)] : []));
  }

  #advance(taken: Taken, host: Host, outcome: Accepted, flags: Chain['flags']): Partial<HostWrite> {
    const { report, arrival } = taken.checked;
    return {
      chain: { ...outcome.chain, flags },
      last: {
        seq: report.seq,
        kind: report.kind,
        class: outcome.class,
        startedAt: parseInstant(report.startedAt)!,
        receivedAt: arrival.receivedAt,
      },
      ...(outcome.fresh
        ? { freshness: renewed(arrival.receivedAt, freshnessOf(this.#deps.policies.current, hostFactsOf(host))) }
        : {}),
    };
  }

  /** Keeps the other envelope, and says once that two speak with one key. */
  async #fork(taken: Taken, host: Host): Promise<Answered | Conflict> {
    const at = taken.checked.arrival.receivedAt;
    const flags = { ...host.chain.flags, forked: host.chain.flags.forked ?? at };
    const examined = host.chain.flags.forked === undefined ? await lastFull(host, this.#deps) : undefined;
    const occasion = {
      host,
      doubts: { forked: true, cloned: flags.cloned !== undefined, gap: flags.gap === undefined ? 'none' : 'unstated' },
      skewMs: toldOf(host)?.skewMs ?? null,
      live: false,
      at,
      cause: { kind: 'report', imageChanged: false },
    } as const;
    const judged = examined === undefined ? {} : await judge(examined, occasion, this.#deps);
    return this.#commit(taken, host, 'fork', '', { chain: { ...host.chain, flags }, ...judged, at });
  }

  async #commit(
    { checked, bytes }: Taken,
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
  readonly opened: Opened;
  readonly bytes: Uint8Array;
  readonly checked: Checked;
  readonly examined: Examined | Refused | null;
};

function pendingOf({ known }: Examined): boolean {
  return known.kind === 'not-ready' && known.state.state === 'pending';
}

/** A host that had no manifest is asked for a full report while one is made or ready; where none can be had, `same` will do. */
function wantOf(compared: boolean, ready: boolean, pending: boolean): Want {
  return !compared && (ready || pending) ? 'full' : 'same';
}

/** When what a report says was so: never before what is known already. */
function asOf(outcome: Accepted, host: Host): Instant {
  return Math.max(outcome.asOf, host.standing.since);
}

/**
 * Doubts of identity stay until a person accepts them or the host enrols anew; a gap is over with the next full report that
 * follows on the one before.
 */
function doubtsAfter(flags: Chain['flags'], outcome: Accepted, { report, arrival }: Checked): Chain['flags'] {
  const at = arrival.receivedAt;
  const cloned = flags.cloned ?? (outcome.flags.includes('cloned') ? at : undefined);
  const unstated = outcome.gap !== null && !outcome.gap.stated;
  const mended = report.kind === 'full' && outcome.effect === 'advance' && outcome.gap === null;
  const gap = unstated ? (flags.gap ?? at) : mended ? undefined : flags.gap;
  return {
    ...(flags.forked === undefined ? {} : { forked: flags.forked }),
    ...(cloned === undefined ? {} : { cloned }),
    ...(gap === undefined ? {} : { gap }),
  };
}

function doubtsOf(flags: Chain['flags'], { gap }: Accepted): Doubts {
  return {
    forked: flags.forked !== undefined,
    cloned: flags.cloned !== undefined,
    gap: flags.gap !== undefined ? 'unstated' : gap !== null ? 'stated' : 'none',
  };
}

function renewed(at: Instant, freshness: Terms): Freshness {
  return {
    liveAt: at,
    interval: freshness.reportEvery,
    lateAfter: at + freshness.lateAfter,
    silentAfter: at + freshness.silentAfter,
    silenceNoted: false,
  };
}

function imagesOf({ deployment }: FullReport): Host['images'] {
  const digest = (slot: 'booted' | 'staged' | 'rollback') => deployment[slot]?.image?.digest ?? null;
  return { booted: digest('booted'), staged: digest('staged'), rollback: digest('rollback') };
}

/** Every image that the report names: all are built ahead, so that the manifest waits before the reboot (PROTOCOL 2.7). */
function seenIn({ deployment }: FullReport): { reported: string; claim: string | null }[] {
  const out = new Map<string, string | null>();
  for (const slot of [deployment.booted, deployment.staged, deployment.rollback]) {
    const digest = slot?.image?.digest ?? null;
    if (digest !== null && digest !== '') out.set(digest, slot!.image!.reference);
  }
  return [...out].map(([reported, claim]) => ({ reported, claim }));
}

function factsOf(report: FullReport): ReportFacts {
  const { usr, etc } = report.trees;
  return {
    trees: { usr: { main: usr.main, extra: usr.extra }, etc: { main: etc.main, extra: etc.extra } },
    state: stateDigest(report.deployment, sha256),
    backend: report.deployment.backend,
    complete: usr.main !== null && etc.main !== null && report.truncated === null,
    agentVersion: report.agent.version,
    config: report.agent.config,
    comparedWith: report.manifest?.rule ?? null,
  };
}
