/** A host, its agent's parts and a server in memory that judges as the real one must: with the checks of docs/report.md. */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { formatInstant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { accept, checkReport, openReport, type HostState, type Outcome } from '#src/report/accept.ts';
import { checkConsistency, readContents, type Consistency, type KnownManifest } from '#src/report/contradict.ts';
import type { Refused } from '#src/report/refusal.ts';
import type { FullReport, Report } from '#src/report/report.ts';
import { stateDigest } from '#src/report/seal.ts';
import { EMPTY_CHAIN } from '#src/report/sequence.ts';
import { verifyInPool } from '#src/signing/node.ts';
import type { Answer } from '#src/wire/answer.ts';
import { makeChallenge } from '#src/wire/challenge.ts';
import { makeBearer } from '#src/wire/manifests.ts';
import { problem } from '#src/wire/problem.ts';
import type { Posted } from '#agent/outbox.ts';
import { full, hostSigner, INTERVAL, keys, T0, ticketKeys } from '../src/report/vectors.ts';

export { full, hostSigner, INTERVAL, keys, MINUTE, T0, ticketKeys } from '../src/report/vectors.ts';

export const HOST = full.document.host;
export const FOLDER = '/var/lib/bootproof';

/** Numbers from 0 up to 1 that follow from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Place = Pick<FullReport, 'host' | 'seq' | 'previous' | 'challenge' | 'dropped'>;

/** A full report without a manifest; `content` tells one state of the host from another. */
export function reportAt(place: Place, content: number, now: number): FullReport {
  return {
    ...full.document,
    ...place,
    startedAt: formatInstant(now),
    finishedAt: formatInstant(now + 1000),
    manifest: null,
    drift: [],
    secrets: [],
    deployment: { ...full.document.deployment, kargs: [`state=${content}`] },
  };
}

/** What a server that never forgets makes of posted envelopes. */
export class ModelServer {
  now = T0;
  state: HostState = { chain: EMPTY_CHAIN, full: null, kept: null, last: null };
  /** Every envelope that was taken, by its number. */
  readonly taken = new Map<number, Digest>();
  /** Numbers that a report which was taken named as dropped. */
  readonly stated = new Set<number>();
  readonly outcomes: Outcome[] = [];
  posts = 0;
  /** What it has built. */
  manifests: KnownManifest[] = [];
  /** Every report that was taken as new, in the order of arrival. */
  readonly reports: Report[] = [];

  async post(envelope: Uint8Array): Promise<Posted> {
    this.posts++;
    const opened = openReport(envelope);
    assert.ok(opened.kind === 'opened', JSON.stringify(opened));
    const record = { publicKey: keys.host.publicKey, state: 'active', intervalMs: INTERVAL } as const;
    const arrival = { receivedAt: this.now, carried: false };
    const checked = await checkReport(opened, record, arrival, { verify: verifyInPool, ticketKeys });
    assert.ok(checked.kind === 'checked', JSON.stringify(checked));
    const { report } = checked;
    const kept = this.taken.get(report.seq) ?? null;
    const outcome = accept(checked, await this.#consistency(report), { ...this.state, kept });
    this.outcomes.push(outcome);
    if (outcome.kind === 'refused')
      return {
        kind: 'refused',
        problem: problem(outcome.code, outcome.message, {
          check: outcome.check,
          ...(outcome.head === undefined ? {} : { head: outcome.head }),
        }),
      };
    if (outcome.effect !== 'replay') {
      this.taken.set(report.seq, checked.digest);
      this.reports.push(report);
      for (const { from, to } of report.dropped) for (let seq = from; seq <= to; seq++) this.stated.add(seq);
    }
    if (outcome.effect === 'advance')
      this.state = {
        chain: outcome.chain,
        full: report.kind === 'full' ? { trees: report.trees, state: stateDigest(report.deployment) } : this.state.full,
        kept: null,
        last: { startedAt: Date.parse(report.startedAt), receivedAt: this.now },
      };
    else this.state = { ...this.state, chain: outcome.chain };
    return { kind: 'accepted', answer: this.answer(report.seq, outcome.effect, outcome.want) };
  }

  /** Check 7 of a full report, against `manifests`. */
  async #consistency(report: Report): Promise<Consistency | Refused | null> {
    if (report.kind === 'same') return null;
    const contents = readContents(report);
    if (contents.kind === 'refused') return contents;
    const manifest = this.manifests.find(
      ({ header }) => header.rule === report.manifest?.rule && header.image === report.manifest.image,
    );
    return checkConsistency(report, contents, { manifest, booted: undefined }, sha256);
  }

  answer(seq: number, effect: Answer['effect'], want: Answer['want'] = 'same'): Answer {
    return {
      seq,
      effect,
      want,
      next: formatInstant(this.now + INTERVAL),
      challenge: makeChallenge(HOST, this.now, ticketKeys),
      checkpoint: null,
      manifestBearer: makeBearer(HOST, this.now, ticketKeys),
      accepts: [1],
    };
  }
}

export const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');
export const signer = hostSigner;
