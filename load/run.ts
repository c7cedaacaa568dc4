/** A run: the hosts enrol, then each posts its reports when it is due, as far as the connections go; what came of it, in numbers. */
import { hash } from 'node:crypto';
import type { Clock } from '#src/clock.ts';
import { Answer } from '#src/wire/answer.ts';
import { PATHS } from '#src/wire/paths.ts';
import type { Token } from '#src/wire/token.ts';
import { Due } from './due.ts';
import { enrolHost, learnImage } from './enrol.ts';
import { Reasons, spreadOf, Times, type Spread, type TimesTold } from './figures.ts';
import { Fleet, type Composed, type HostState } from './fleet.ts';
import { Images } from './images.ts';
import { DRAW, Seeded, type Plan } from './plan.ts';
import { LoadError, problemIn, reasonIn, type Got, type Poster } from './post.ts';

export type LoadDeps = {
  readonly servers: Poster;
  readonly token: Token;
  readonly clock: Clock;
  /** Of each report that was acknowledged. */
  readonly acknowledged: (hostId: string, report: Composed) => void;
  /** A line for whoever watches. */
  readonly tell: (text: string) => void;
  readonly signal: AbortSignal;
  /** Where an earlier run of this seed stopped. */
  readonly states?: AsyncIterable<HostState>;
};

export type Figures = {
  readonly hosts: number;
  readonly enrolled: {
    readonly hosts: number;
    readonly seconds: number;
    readonly pending: number;
    readonly requestMs: TimesTold;
  };
  readonly images: readonly { readonly digest: string; readonly compared: boolean; readonly why: string }[];
  readonly seconds: number;
  /** `replayed` were posted twice and answered twice; `open` were posted and are not answered. */
  readonly reports: {
    readonly posted: number;
    readonly accepted: number;
    readonly full: number;
    readonly same: number;
    readonly replayed: number;
    readonly open: number;
  };
  readonly acceptedPerSecond: number;
  /** From sending a report to its whole answer, whatever that was. */
  readonly answerMs: TimesTold;
  /** How long reports that were due waited for a connection here: of this program, not of the server. */
  readonly behindMs: TimesTold;
  readonly refusals: readonly { readonly reason: string; readonly count: number }[];
  /** Reports that are sent again: when the answers said, and where they said nothing. */
  readonly retries: {
    readonly asked: number;
    readonly told: number;
    readonly toldSeconds: TimesTold;
    readonly most: number;
  };
  /** When the hosts were told to come again, within their interval. */
  readonly spread: Spread | null;
  /** From the end of the outage until a host's spool was empty; null without one. */
  readonly herd: { readonly spool: number; readonly emptied: number; readonly hostMs: TimesTold } | null;
  readonly memoryMb: number;
};

/** Enrolments at once: more only wait for each other's commit. */
const ENROL_AT_ONCE = 64;
/** How long the server may take to make the manifest of an image that it can have. */
const IMAGE_PATIENCE_MS = 600_000;
const BACKOFF_LEAST_MS = 1000;
const BACKOFF_MOST_MS = 60_000;
/** Without `intervalSeconds` of an enrolment of this run: what servers ask for where nobody says otherwise. */
const INTERVAL_MS = 900_000;

export class Run {
  readonly #plan: Plan;
  readonly #deps: LoadDeps;
  readonly #seeded: Seeded;
  readonly #due: Due;
  readonly #tries: Uint8Array;
  readonly #answer = new Times();
  readonly #behind = new Times();
  readonly #enrol = new Times();
  readonly #retryAfter = new Times();
  readonly #emptied = new Times();
  readonly #refusals = new Reasons();
  #counts = { posted: 0, full: 0, same: 0, replayed: 0, retries: 0, told: 0, mostTries: 0, pending: 0 };
  #intervalMs = INTERVAL_MS;
  #fleet!: Fleet;
  #isBegun = false;
  #begunAt = 0;

  constructor(plan: Plan, deps: LoadDeps) {
    this.#plan = plan;
    this.#deps = deps;
    this.#seeded = new Seeded(plan.seed);
    this.#due = new Due(plan.hosts);
    this.#tries = new Uint8Array(plan.hosts);
  }

  /** Whether hosts enrolled or posted: their states are then other than before. */
  get isBegun(): boolean {
    return this.#isBegun;
  }

  /** Where its hosts stand, for a later run of the same seed. */
  *states(): Generator<HostState> {
    for (let host = 0; host < this.#plan.hosts; host++)
      if (this.#fleet.isEnrolled(host)) yield this.#fleet.stateOf(host);
  }

  /** @throws {LoadError} where no host can enrol, or what answers is no server of ours. */
  async go(): Promise<Figures> {
    const { clock, tell } = this.#deps;
    const begun = clock();
    const { images, told } = await this.#images();
    this.#fleet = new Fleet(this.#plan, this.#seeded, images);
    for await (const state of this.#deps.states ?? [])
      if (state.host < this.#plan.hosts) this.#fleet.restore(state);
      else
        throw new LoadError(
          'LOAD_STATE',
          `the file of states has more hosts than ${this.#plan.hosts}: name at least as many`,
        );
    this.#isBegun = true;
    const enrolled = await this.#enrolAll();
    const enrolSeconds = (clock() - begun) / 1000;
    tell(`${enrolled} hosts enrolled in ${enrolSeconds.toFixed(1)} s`);
    this.#begunAt = clock();
    this.#schedule();
    await this.#post();
    return this.#figures({ images: told, enrolled, enrolSeconds });
  }

  async #images(): Promise<{ images: Images; told: Figures['images'] }> {
    const { digests, asked } = this.#digests();
    if (!asked) {
      const why = 'none was named: hosts name images that nobody has, and are unverifiable';
      const told = digests.map((digest) => ({ digest, compared: false, why }));
      return { images: new Images(digests, [], this.#plan.driftLines), told };
    }
    const deps = { ...this.#deps, seeded: this.#seeded, times: this.#enrol };
    const signer = new Fleet({ ...this.#plan, hosts: 1 }, this.#seeded, new Images(digests, [], 0)).signerOf(0);
    const { manifestBearer } = await enrolHost(0, signer, deps);
    const learned = [];
    for (const digest of digests) {
      const { known, why } = await learnImage(digest, manifestBearer, deps, IMAGE_PATIENCE_MS);
      learned.push({ digest, known, why });
      if (known === undefined) this.#deps.tell(`${digest}: hosts compare with nothing: ${why}`);
    }
    const known = learned.map((one) => one.known);
    return {
      images: new Images(digests, known, this.#plan.driftLines),
      told: learned.map((one) => ({ digest: one.digest, compared: one.known !== undefined, why: one.why })),
    };
  }

  #digests(): { digests: readonly string[]; asked: boolean } {
    const { images, seed } = this.#plan;
    if (images.length > 0) return { digests: images, asked: true };
    return { digests: [1, 2].map((n) => `sha256:${hash('sha256', `image ${n} of ${seed}`, 'hex')}`), asked: false };
  }

  async #enrolAll(): Promise<number> {
    const { hosts, connections } = this.#plan;
    const deps = { ...this.#deps, seeded: this.#seeded, times: this.#enrol };
    let [next, enrolled] = [0, 0];
    const lane = async (): Promise<void> => {
      while (next < hosts && !this.#deps.signal.aborted) {
        const host = next++;
        if (this.#fleet.isEnrolled(host)) continue;
        const made = await enrolHost(host, this.#fleet.signerOf(host), deps);
        this.#intervalMs = 1000 * made.intervalSeconds;
        if (made.standing === 'pending') this.#counts.pending++;
        this.#fleet.enrolled(host, { id: made.host, challenge: made.challenge });
        if (++enrolled % 5000 === 0) this.#deps.tell(`${enrolled} hosts enrolled`);
      }
    };
    await Promise.all(Array.from({ length: Math.min(ENROL_AT_ONCE, connections) }, lane));
    return enrolled;
  }

  #schedule(): void {
    const { hosts, startMs, spool } = this.#plan;
    for (let host = 0; host < hosts; host++) {
      if (!this.#fleet.isEnrolled(host)) continue;
      const wait = spool > 0 ? 0 : this.#seeded.chance(host, DRAW.start) * startMs;
      this.#due.push(host, this.#begunAt + wait);
    }
  }

  /** Until the time is over, or nobody is due any more; what is on its way is waited for. */
  #post(): Promise<void> {
    const { clock, signal, tell } = this.#deps;
    const end = this.#begunAt + this.#plan.forMs;
    const watching = setInterval(
      () => tell(`${this.#counts.full + this.#counts.same} reports taken, ${this.#refusals.total} refused`),
      TELL_MS,
    );
    return new Promise<void>((resolve, reject) => {
      let active = 0;
      let timer: NodeJS.Timeout | undefined;
      const isOver = (): boolean => signal.aborted || clock() >= end;
      const pump = (): void => {
        clearTimeout(timer);
        while (active < this.#plan.connections && !isOver()) {
          const at = this.#due.first();
          if (at === undefined) break;
          const now = clock();
          if (at > now) {
            timer = setTimeout(pump, Math.min(at, end) - now);
            return;
          }
          const host = this.#due.pop();
          this.#behind.add(now - at);
          active++;
          this.#step(host, at).then((next) => {
            active--;
            if (next !== null) this.#due.push(host, next);
            pump();
          }, reject);
        }
        if (active === 0 && (isOver() || this.#due.size === 0)) resolve();
      };
      signal.addEventListener('abort', pump, { once: true });
      pump();
    }).finally(() => clearInterval(watching));
  }

  /** One post of a host that was due `at`; answers when it is due again, or null where it is done. */
  async #step(host: number, at: number): Promise<number | null> {
    const { servers, clock, acknowledged } = this.#deps;
    const composed = await this.#fleet.compose(host, clock(), this.#begunAt);
    const got = await servers.post(PATHS.reports, composed.text);
    this.#counts.posted++;
    this.#answer.add(got.ms);
    if (got.status !== 200) return this.#refused(host, at, got);
    const answer = answerIn(got);
    const id = this.#fleet.idOf(host);
    this.#tries[host] = 0;
    this.#counts[composed.kind]++;
    acknowledged(id, composed);
    this.#fleet.accepted(host, composed, answer);
    if (this.#seeded.chance(host, DRAW.duplicate, composed.seq) < this.#plan.duplicates)
      await this.#again(composed.text);
    return this.#nextOf(host, at);
  }

  /** As if the answer was lost: whoever has it already is told so, and nothing more. */
  async #again(text: string): Promise<void> {
    const got = await this.#deps.servers.post(PATHS.reports, text);
    this.#counts.posted++;
    this.#answer.add(got.ms);
    if (got.status === 200) this.#counts.replayed++;
    else this.#refusals.add(`${reasonIn(got)} (of a duplicate)`);
  }

  /** At a pace of its own a host does not wait for answers: a server that is slow gets no fewer reports. */
  #nextOf(host: number, at: number): number | null {
    const { everyMs, spool } = this.#plan;
    const now = this.#deps.clock();
    if (spool === 0) return everyMs === null ? this.#fleet.next[host]! : at + everyMs;
    if (this.#fleet.spoolOf(host) > 0) return now;
    this.#emptied.add(now - this.#begunAt);
    return null;
  }

  /** As docs/report.md 4.4 says. */
  #refused(host: number, at: number, got: Got): number | null {
    const { clock } = this.#deps;
    this.#refusals.add(reasonIn(got));
    const problem = problemIn(got);
    const isOfReport = problem?.check !== undefined && problem.check !== 3 && got.status < 500 && got.status !== 429;
    if (isOfReport) {
      this.#fleet.refused(host, problem.head);
      return this.#nextOf(host, at);
    }
    if (problem?.check === 3) return null;
    const tries = (this.#tries[host] = Math.min(255, this.#tries[host]! + 1));
    this.#counts.retries++;
    this.#counts.mostTries = Math.max(this.#counts.mostTries, tries);
    const jitter = 0.5 + this.#seeded.chance(host, DRAW.backoff, this.#counts.retries) / 2;
    if (got.retryAfterMs === null)
      return clock() + jitter * Math.min(BACKOFF_MOST_MS, BACKOFF_LEAST_MS * 2 ** Math.min(tries, 10));
    this.#counts.told++;
    this.#retryAfter.add(got.retryAfterMs / 1000);
    return clock() + got.retryAfterMs;
  }

  #figures(before: {
    readonly images: Figures['images'];
    readonly enrolled: number;
    readonly enrolSeconds: number;
  }): Figures {
    const { clock } = this.#deps;
    const { hosts, spool } = this.#plan;
    const { posted, full, same, replayed, retries, told, mostTries, pending } = this.#counts;
    const seconds = (clock() - this.#begunAt) / 1000;
    let open = 0;
    for (let host = 0; host < hosts; host++) if (this.#fleet.isOpen(host)) open++;
    const emptied = this.#emptied.told();
    return {
      hosts,
      enrolled: { hosts: before.enrolled, seconds: before.enrolSeconds, pending, requestMs: this.#enrol.told() },
      images: before.images,
      seconds,
      reports: { posted, accepted: full + same, full, same, replayed, open },
      acceptedPerSecond: Number(((full + same) / Math.max(seconds, 0.001)).toPrecision(4)),
      answerMs: this.#answer.told(),
      behindMs: this.#behind.told(),
      refusals: this.#refusals.told(),
      retries: { asked: retries, told, toldSeconds: this.#retryAfter.told(), most: mostTries },
      spread: spreadOf(this.#fleet.next, this.#intervalMs) ?? null,
      herd: spool === 0 ? null : { spool, emptied: emptied.count, hostMs: emptied },
      memoryMb: Math.round(process.memoryUsage.rss() / 2 ** 20),
    };
  }
}

const TELL_MS = 10_000;

function answerIn(got: Got): Answer {
  try {
    return Answer.parse(JSON.parse(got.body.toString('utf8')));
  } catch (cause) {
    throw new LoadError('LOAD_ANSWER', 'a report was answered 200 with something that is not an answer', { cause });
  }
}
