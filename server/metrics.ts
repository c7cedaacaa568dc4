/**
 * `/metrics` in Prometheus' text format (docs/notices.md 8). Labels never hold hosts or anything else of which there may be many; what
 * is read from the store is read at most once in some seconds, however many ask.
 */
import type { Context, MiddlewareHandler } from 'hono';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { VERSION } from '#src/version.ts';
import { isFleetWide, ROLES, type Principal } from '#server/access/principal.ts';
import { bearerOf } from '#server/access/token.ts';
import type { Deps } from './deps.ts';
import type { Anchors } from './log/anchors.ts';
import type { EvidenceLog } from './log/evidencelog.ts';
import { DELIVERY_STATES } from './store/noticerecords.ts';
import type { Store } from './store/store.ts';
import { VERDICTS } from '#src/finding/verdict.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';

/** Who may read it: nobody, whoever shows a token of somebody who sees every host, or everybody who reaches the port. */
export const METRICS_FOR = ['off', 'token', 'open'] as const;
export type MetricsFor = (typeof METRICS_FOR)[number];

export type MetricsDeps = Pick<Deps, 'clock' | 'log'> & {
  readonly store: Pick<Store, 'read' | 'jobs' | 'notices' | 'log'>;
  readonly evidence: Pick<EvidenceLog, 'published' | 'refusal'>;
  readonly anchors: Pick<Anchors, 'standing'>;
  readonly access: { bearer(token: string): Promise<Principal | undefined> };
};

/** How old what is read from the store may be, ms: counting hosts of a large fleet walks an index of 100,000 rows. */
const FRESH_MS = 15_000;
/** Reports are answered in milliseconds, or wait for a batch, a judge or a busy disk. */
const BUCKETS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export class Metrics {
  readonly #deps: MetricsDeps;
  readonly #for: MetricsFor;
  readonly #registry = new Registry();
  readonly #reports: Counter<'status'>;
  readonly #seconds: Histogram;
  readonly #sent: Counter<'outcome'>;
  readonly #hosts: Gauge<'verdict'>;
  readonly #groups: Gauge<'severity'>;
  readonly #waiting: Gauge<'kind'>;
  readonly #running: Gauge<'kind'>;
  readonly #lag: Gauge<'kind'>;
  readonly #deliveries: Gauge<'state'>;
  readonly #logAge: Gauge;
  readonly #logSize: Gauge;
  readonly #logPending: Gauge;
  readonly #logLag: Gauge;
  readonly #logSigning: Gauge;
  readonly #logLevel: Gauge;
  readonly #anchorSize: Gauge<'anchor'>;
  readonly #anchorAge: Gauge<'anchor'>;
  readonly #anchorUp: Gauge<'anchor'>;
  readonly #alarm: Gauge;
  readonly #up: Gauge;
  #isFirst = true;
  #read: { at: number; done: Promise<void> } | undefined;

  constructor(deps: MetricsDeps, who: MetricsFor) {
    this.#deps = deps;
    this.#for = who;
    const registers = [this.#registry];
    const gauge = <Label extends string>(name: string, help: string, ...labelNames: Label[]): Gauge<Label> =>
      new Gauge({ name: `bootproof_${name}`, help, labelNames, registers });
    this.#reports = new Counter({
      name: 'bootproof_reports_total',
      help: 'Reports that were answered, by the status of the answer: 200 accepted, 503 no room, others refused.',
      labelNames: ['status'],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'bootproof_report_seconds',
      help: 'Time until a report was answered; what is accepted is durable by then.',
      buckets: BUCKETS,
      registers,
    });
    this.#sent = new Counter({
      name: 'bootproof_notice_attempts_total',
      help: 'Attempts at receivers of notices: delivered, failed (tried again), dead (given up).',
      labelNames: ['outcome'],
      registers,
    });
    for (const outcome of ['delivered', 'failed', 'dead']) this.#sent.inc({ outcome }, 0);
    this.#hosts = gauge('hosts', 'Hosts by verdict as of now.', 'verdict');
    this.#groups = gauge('finding_groups_open', 'Groups of findings that some host has, by severity.', 'severity');
    this.#waiting = gauge('jobs_waiting', 'Jobs that wait, those included that are not due yet, by kind.', 'kind');
    this.#running = gauge('jobs_running', 'Jobs that run, by kind.', 'kind');
    this.#lag = gauge('jobs_lag_seconds', 'How long the oldest due job has been due, by kind.', 'kind');
    this.#deliveries = gauge('notices', 'Notices by state; delivered ones as long as they are kept.', 'state');
    this.#up = gauge('store_up', 'Whether the store could be read for this.');
    this.#logAge = gauge('log_checkpoint_age_seconds', 'Age of the newest published checkpoint of the evidence log.');
    this.#logSize = gauge('log_entries', 'Entries in the newest published checkpoint.');
    this.#logPending = gauge('log_pending', 'Entries that have no place in the log yet.');
    this.#logLag = gauge('log_pending_seconds', 'How long the oldest of them has waited.');
    this.#logSigning = gauge('log_signing', 'Whether the log is signed; 0: somebody must act (bootproof log status).');
    this.#logLevel = gauge('log_level', 'Guarantee level of the evidence log (docs/log.md 1): 0, 1 or 2.');
    this.#anchorSize = gauge('log_anchor_entries', 'Entries that a witness or authority signed last.', 'anchor');
    this.#anchorAge = gauge('log_anchor_age_seconds', 'How long ago that was.', 'anchor');
    this.#anchorUp = gauge('log_anchor_up', 'Whether it did what it was asked for the last time.', 'anchor');
    this.#alarm = gauge(
      'log_alarm',
      'Whether a witness knows another log of this name; 1: somebody must look at once.',
    );
    gauge('build_info', 'The version that runs.', 'version').set({ version: VERSION }, 1);
  }

  /** Counts reports: stands before their route, and does nothing but look at the clock and the status. */
  readonly reports: MiddlewareHandler = async (c, next) => {
    const begun = performance.now();
    await next();
    this.#reports.inc({ status: String(c.res.status) });
    this.#seconds.observe((performance.now() - begun) / 1000);
  };

  readonly sent = (outcome: 'delivered' | 'failed' | 'dead'): void => {
    this.#sent.inc({ outcome });
  };

  readonly answer = async (c: Context): Promise<Response> => {
    if (this.#for === 'off')
      return c.text('metrics are off: start the server with --metrics token or --metrics open\n', 404);
    if (this.#for === 'token' && !(await this.#mayRead(c)))
      return c.text('a token of somebody who sees every host is asked for: Authorization: Bearer bp_…\n', 401, {
        'WWW-Authenticate': 'Bearer realm="bootproof"',
        'Cache-Control': 'no-store',
      });
    return c.text(await this.text(), 200, { 'Content-Type': this.#registry.contentType, 'Cache-Control': 'no-store' });
  };

  async #mayRead(c: Context): Promise<boolean> {
    const bearer = bearerOf(c.req.header('authorization'));
    const who = bearer === undefined ? undefined : await this.#deps.access.bearer(bearer);
    return who !== undefined && isFleetWide(who, ...ROLES);
  }

  async text(): Promise<string> {
    // At the first question: what watches the event loop costs a little, and a server that nobody asks need not pay.
    if (this.#isFirst) collectDefaultMetrics({ register: this.#registry, prefix: 'bootproof_' });
    this.#isFirst = false;
    const now = performance.now();
    if (this.#read === undefined || this.#read.at + FRESH_MS <= now)
      this.#read = {
        at: now,
        done: this.#renew().then(
          () => this.#up.set(1),
          (error: unknown) => this.#down(error),
        ),
      };
    await this.#read.done;
    return this.#registry.metrics();
  }

  /** What the process knows by itself is told all the same: it is what tells why. */
  #down(error: unknown): void {
    this.#deps.log('warn', 'metrics without the store', { error: String(error) });
    this.#up.set(0);
    this.#read = undefined;
  }

  async #renew(): Promise<void> {
    const { store, clock } = this.#deps;
    const now = clock();
    const [verdicts, groups, jobs, deliveries, pending] = await Promise.all([
      store.read.verdicts(now),
      store.notices.openGroups(),
      store.jobs.lag(now),
      store.notices.count(),
      store.log.pending(),
    ]);
    const { published, refusal } = this.#deps.evidence;
    this.#logSigning.set(refusal === undefined ? 1 : 0);
    if (published !== undefined) {
      this.#logAge.set(Math.max(0, now - published.checkpoint.at) / 1000);
      this.#logSize.set(published.checkpoint.size);
    }
    const { level, anchors, alarms } = await this.#deps.anchors.standing(published?.checkpoint.origin);
    this.#logLevel.set(level);
    this.#alarm.set(alarms.length > 0 ? 1 : 0);
    for (const one of [this.#anchorSize, this.#anchorAge, this.#anchorUp]) one.reset();
    for (const { name: anchor, size, at, trouble } of anchors) {
      this.#anchorSize.set({ anchor }, size);
      if (at !== null) this.#anchorAge.set({ anchor }, Math.max(0, now - at) / 1000);
      this.#anchorUp.set({ anchor }, trouble === null ? 1 : 0);
    }
    this.#logPending.set(pending.count);
    this.#logLag.set(pending.oldest === null ? 0 : Math.max(0, now - pending.oldest) / 1000);
    for (const verdict of VERDICTS) this.#hosts.set({ verdict }, 0);
    for (const { verdict, count } of verdicts) this.#hosts.set({ verdict }, count);
    for (const [severity, name] of SEVERITIES.entries()) this.#groups.set({ severity: name }, groups[severity]!);
    for (const one of [this.#waiting, this.#running, this.#lag]) one.reset();
    for (const { kind, waiting, running, oldest } of jobs) {
      this.#waiting.set({ kind }, waiting);
      this.#running.set({ kind }, running);
      this.#lag.set({ kind }, waiting === 0 ? 0 : Math.max(0, now - oldest) / 1000);
    }
    for (const state of DELIVERY_STATES) this.#deliveries.set({ state }, deliveries[state]);
  }
}
