/**
 * `/metrics` in Prometheus' text format (docs/operating.md 8). Labels never hold hosts or anything else of which there may be many; what
 * is read from the store is read at most once in some seconds, however many ask.
 */
import type { Context, MiddlewareHandler } from 'hono';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { BootproofError } from '#src/error.ts';
import { VERSION } from '#src/version.ts';
import { PATHS } from '#src/wire/paths.ts';
import { isProblemCode } from '#src/wire/problem.ts';
import { isFleetWide, ROLES, type Principal } from '#server/access/principal.ts';
import { bearerOf } from '#server/access/token.ts';
import type { Deps } from './deps.ts';
import type { OwnCertificate } from './certificate.ts';
import type { Health } from './health.ts';
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
  readonly store: Pick<Store, 'read' | 'jobs' | 'notices' | 'log' | 'sizes'>;
  readonly evidence: Pick<EvidenceLog, 'published' | 'refusal'>;
  readonly anchors: Pick<Anchors, 'standing'>;
  readonly access: { bearer(token: string): Promise<Principal | undefined> };
  readonly health: Pick<Health, 'readiness'>;
  readonly certificate: Pick<OwnCertificate, 'pair' | 'refusal'> | null;
  /** What waits in this process, as it is at this moment. */
  readonly depth: () => Depth;
};

export type Depth = {
  /** Reports that came whole and are not answered yet, and bytes that are held for them and for those that are coming. */
  readonly reports: number;
  readonly bytes: number;
  /** Of them: those that wait for a thread that judges, and those that wait for the next commit. */
  readonly judging: number;
  readonly committing: number;
};

/** What became of a report, by the status of its answer. */
const OUTCOMES = ['accepted', 'refused', 'busy', 'failed'] as const;
const outcomeOf = (status: number): (typeof OUTCOMES)[number] =>
  status < 300 ? 'accepted' : status === 503 || status === 429 ? 'busy' : status < 500 ? 'refused' : 'failed';

/** How old what is read from the store may be, ms: counting hosts of a large fleet walks an index of 100,000 rows. */
const FRESH_MS = 15_000;
/** Reports are answered in milliseconds, or wait for a batch, a judge or a busy disk. */
const SIZES = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
const BUCKETS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export class Metrics {
  readonly #deps: MetricsDeps;
  readonly #for: MetricsFor;
  readonly #registry = new Registry();
  readonly #reports: Counter<'status'>;
  readonly #outcomes: Counter<'outcome'>;
  readonly #refusals: Counter<'code'>;
  readonly #seconds: Histogram;
  readonly #requests: Histogram<'kind' | 'status'>;
  readonly #batch: Histogram;
  readonly #commit: Histogram;
  readonly #depth: Gauge<'at'>;
  readonly #held: Gauge;
  readonly #storeBytes: Gauge<'part'>;
  readonly #tableBytes: Gauge<'table'>;
  readonly #ready: Gauge;
  readonly #degraded: Gauge;
  readonly #certificateUntil: Gauge;
  readonly #certificateRefused: Gauge;
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
    this.#outcomes = new Counter({
      name: 'bootproof_intake_total',
      help: 'Reports by what became of them: accepted (durable), refused, busy (429 or 503: sent again later), failed (our own fault).',
      labelNames: ['outcome'],
      registers,
    });
    for (const outcome of OUTCOMES) this.#outcomes.inc({ outcome }, 0);
    this.#refusals = new Counter({
      name: 'bootproof_intake_refusals_total',
      help: 'Reports that were not accepted, by code (docs/errors.md).',
      labelNames: ['code'],
      registers,
    });
    const histogram = <Label extends string>(name: string, help: string, buckets: number[], ...labelNames: Label[]) =>
      new Histogram({ name: `bootproof_${name}`, help, buckets, labelNames, registers });
    this.#requests = histogram(
      'request_seconds',
      'Time until a request was answered, reports apart: of agents, the api, pages, health and metrics; by class of status.',
      BUCKETS,
      'kind',
      'status',
    );
    this.#batch = histogram('intake_batch_reports', 'Reports and judgements that shared a commit.', SIZES);
    this.#commit = histogram('intake_commit_seconds', 'Time of such a commit.', BUCKETS);
    this.#depth = gauge(
      'intake_waiting',
      'Reports in this process: open, waiting to be judged, waiting for a commit.',
      'at',
    );
    this.#held = gauge('intake_held_bytes', 'Bytes of reports that this process holds.');
    this.#storeBytes = gauge('store_bytes', 'The database: whole, its log, unused inside, free on its disk.', 'part');
    this.#tableBytes = gauge('store_table_bytes', 'The largest tables with their indexes (PostgreSQL).', 'table');
    this.#ready = gauge('ready', 'Whether /readyz says ok.');
    this.#degraded = gauge('degraded', 'Things that /readyz names though it says ok.');
    this.#certificateUntil = gauge('tls_certificate_expiry_seconds', 'When the own certificate is over, since 1970.');
    this.#certificateRefused = gauge(
      'tls_certificate_refused',
      'Whether the files hold a newer one that does not fit; 1: the one before goes on.',
    );
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
    const { status } = c.res;
    this.#reports.inc({ status: String(status) });
    this.#outcomes.inc({ outcome: outcomeOf(status) });
    if (status >= 400) this.#refusals.inc({ code: codeOf(c.error) });
    this.#seconds.observe((performance.now() - begun) / 1000);
  };

  /** Counts every other request. */
  readonly answered = (path: string, status: number, ms: number): void => {
    if (path !== PATHS.reports)
      this.#requests.observe({ kind: kindOf(path), status: `${Math.floor(status / 100)}xx` }, ms / 1000);
  };

  /** Hears of each commit of intake. */
  readonly committed = (size: number, seconds: number): void => {
    this.#batch.observe(size);
    this.#commit.observe(seconds);
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
    const { reports, bytes, judging, committing } = this.#deps.depth();
    for (const [at, count] of Object.entries({ open: reports, judging, committing })) this.#depth.set({ at }, count);
    this.#held.set(bytes);
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
    const { store, clock, health, certificate } = this.#deps;
    const { failing, degraded } = await health.readiness();
    this.#ready.set(failing.length === 0 ? 1 : 0);
    this.#degraded.set(degraded.length);
    if (certificate !== null) this.#certificateUntil.set(certificate.pair.until / 1000);
    this.#certificateRefused.set(certificate?.refusal === undefined ? 0 : 1);
    const now = clock();
    const [verdicts, groups, jobs, deliveries, pending, sizes] = await Promise.all([
      store.read.verdicts(now),
      store.notices.openGroups(),
      store.jobs.lag(now),
      store.notices.count(),
      store.log.pending(),
      store.sizes(),
    ]);
    for (const [part, size] of Object.entries({
      database: sizes.bytes,
      wal: sizes.walBytes,
      unused: sizes.unusedBytes,
      free: sizes.freeBytes,
    }))
      if (size !== null) this.#storeBytes.set({ part }, size);
    this.#tableBytes.reset();
    for (const { name: table, bytes } of sizes.tables) this.#tableBytes.set({ table }, bytes);
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

/** Codes are few: those of problem documents. Anything else is our own fault. */
function codeOf(error: Error | undefined): string {
  const code = error instanceof BootproofError ? error.code : 'FAULT';
  return isProblemCode(code) ? code : code.startsWith('STORE_') ? 'OVERLOADED' : 'FAULT';
}

const AGENTS = /^\/api\/v1\/(?:enrol|manifests)(?:\/|$)/;

/** Of paths there are many, of these few. */
function kindOf(path: string): string {
  if (AGENTS.test(path)) return 'agent';
  if (path.startsWith('/api/')) return 'api';
  if (path === '/livez' || path === '/readyz' || path === '/metrics') return 'health';
  return 'page';
}
