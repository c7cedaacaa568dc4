/**
 * `/livez` and `/readyz` (docs/operating.md 4): whether to restart this process, and whether to send requests to it. Cheap and for everybody,
 * as balancers and orchestrators carry no tokens: the store is asked once at a time, however many ask, and waited for briefly.
 */
import type { Context } from 'hono';
import { HEALTH_WAIT_MS } from '#src/limits.ts';
import { SCHEMA_VERSION } from '#server/store/migrate.ts';
import type { Store } from '#server/store/store.ts';
import type { OwnCertificate } from './certificate.ts';
import type { Deps } from './deps.ts';
import type { Anchors } from './log/anchors.ts';
import type { EvidenceLog } from './log/evidencelog.ts';

/** What renews certificates does so a month before they are over: one that is left for a week was not renewed. */
const CERTIFICATE_DAYS = 7;

export type Readiness = {
  /** Why nothing should be sent here; none: ready. */
  readonly failing: readonly string[];
  /** What is worse than it should be, and somebody should see to; requests are taken all the same. */
  readonly degraded: readonly string[];
};

export type HealthDeps = Pick<Deps, 'log'> & {
  readonly store: Pick<Store, 'schema'>;
  readonly evidence: Pick<EvidenceLog, 'published' | 'refusal'>;
  readonly anchors: Pick<Anchors, 'standing'>;
  /** The server's own, where it speaks TLS. */
  readonly certificate: Pick<OwnCertificate, 'pair' | 'refusal'> | null;
};

export class Health {
  readonly #deps: HealthDeps;
  #stopping = false;
  #asked: Promise<Readiness> | undefined;
  #wasReady = true;

  constructor(deps: HealthDeps) {
    this.#deps = deps;
  }

  /** From now on nothing should be sent here: it ends. */
  stop(): void {
    this.#stopping = true;
  }

  get isStopping(): boolean {
    return this.#stopping;
  }

  readonly live = (c: Context): Response => c.text('ok');

  /** `ok`, or why not, and below it what is degraded; as JSON where that is asked for. */
  readonly ready = async (c: Context): Promise<Response> => {
    const { failing, degraded } = await this.readiness();
    const isReady = failing.length === 0;
    c.header('Cache-Control', 'no-store');
    if (!isReady) c.header('Retry-After', '5');
    const status = isReady ? 200 : 503;
    if (/\bapplication\/json\b/.test(c.req.header('accept') ?? ''))
      return c.json({ ready: isReady, failing, degraded }, status);
    return c.text([isReady ? 'ok' : 'not ready', ...failing, ...degraded].join('\n'), status);
  };

  async readiness(): Promise<Readiness> {
    // Told without asking anybody: a balancer must hear it at once.
    if (this.#stopping) return { failing: ['this server is stopping'], degraded: [] };
    const found = await (this.#asked ??= this.#ask().finally(() => {
      this.#asked = undefined;
    }));
    this.#tell(found);
    return found;
  }

  async #ask(): Promise<Readiness> {
    const { store, evidence, anchors, certificate } = this.#deps;
    const degraded = certificate === null ? [] : certificateTold(certificate);
    try {
      const version = await inTime(store.schema());
      if (version < SCHEMA_VERSION)
        return {
          failing: [
            `the database has schema ${version}, this build needs ${SCHEMA_VERSION}: run bootproof server migrate`,
          ],
          degraded,
        };
      // A newer build upgraded it while this one runs: it goes on until its turn comes.
      if (version > SCHEMA_VERSION)
        degraded.push(
          `the database has schema ${version}, and this build knows up to ${SCHEMA_VERSION}: upgrade this server`,
        );
      // It takes reports all the same, and what they say waits to be logged: ready, and in need of somebody.
      const { refusal, published } = evidence;
      if (refusal !== undefined) degraded.push(`evidence log not signed: ${refusal.message}`);
      const { alarms } = await inTime(anchors.standing(published?.checkpoint.origin));
      for (const { trouble } of alarms) degraded.push(`evidence log: ${trouble!.text}`);
      return { failing: [], degraded };
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return { failing: [`the store cannot be reached: ${why}`], degraded };
    }
  }

  /** Once a change: whoever asks every second must not fill the journal. */
  #tell({ failing }: Readiness): void {
    const isReady = failing.length === 0;
    if (isReady === this.#wasReady) return;
    this.#wasReady = isReady;
    if (isReady) this.#deps.log('info', 'ready again');
    else this.#deps.log('warn', 'not ready', { why: failing.join('; ') });
  }
}

function certificateTold({ pair, refusal }: Pick<OwnCertificate, 'pair' | 'refusal'>): string[] {
  const days = (pair.until - Date.now()) / 86_400_000;
  return [
    ...(refusal === undefined ? [] : [`certificate: the new one is not used: ${refusal}`]),
    ...(days >= CERTIFICATE_DAYS ? [] : [`certificate: over at ${new Date(pair.until).toISOString()}: renew it`]),
  ];
}

/** A database that hangs is one that is not there: who asks has a second or some. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${HEALTH_WAIT_MS / 1000} s`)), HEALTH_WAIT_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
