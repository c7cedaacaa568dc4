/**
 * Exports as jobs: log the act, take the checkpoint behind it, make the file in a thread (docs/evidence.md 7). A server that dies in the middle leaves a
 * lease that ends: the next one goes on where it broke off, about the same state of the log.
 */
import { z } from 'zod';
import { toBase64 } from '#src/bytes.ts';
import { ANCHOR_TIMEOUT_MS, EXPORT_ATTEMPTS_MAX, EXPORT_PAGE } from '#src/limits.ts';
import { VERSION } from '#src/version.ts';
import type { Deps } from '#server/deps.ts';
import { makeFolders } from '#server/folder.ts';
import { backoff, type Chore, type Work } from '#server/jobs/runner.ts';
import type { Anchors } from '#server/log/anchors.ts';
import type { EvidenceLog, Published } from '#server/log/evidencelog.ts';
import type { EvidenceExport, ExportCut } from '#server/store/evidencerecords.ts';
import { auditRef } from '#server/store/logpayload.ts';
import type { NewJob } from '#server/store/records.ts';
import type { BundleFiles } from './files.ts';
import type { Make } from './inworker.ts';
import { hostsThen } from './naming.ts';
import { EvidenceError, selectionOf } from './selection.ts';

export const EXPORT_JOB = 'evidence-export';
/** A server that died is noticed after so long. */
const LEASE_MS = 30_000;
/** How often the number of finished lines is written. */
const NOTE_MS = 500;
/** Sequencing takes a second or so; what waits longer has another reason. */
const PLACE_TRIES = 40;
const PLACE_MS = 250;

export const exportJob = (id: string, runAt: number): NewJob => ({
  kind: EXPORT_JOB,
  dedupeKey: `${EXPORT_JOB}:${id}`,
  runAt,
  payload: { id },
});

export type ExportDeps = Pick<Deps, 'store' | 'clock' | 'log'> & {
  readonly evidence: EvidenceLog;
  readonly anchors: Pick<Anchors, 'anchor' | 'cosigned'>;
  readonly storeUrl: string;
  readonly folder: string;
  readonly files: BundleFiles;
  readonly baseUrl: () => string;
  readonly make: Make;
};

const Payload = z.strictObject({ id: z.string() });

export function exportWork(deps: ExportDeps): Work {
  const { store, clock, log } = deps;
  const { exports } = store.evidence;
  return {
    kind: EXPORT_JOB,
    leaseMs: LEASE_MS,
    run: async (job, signal) => {
      const { id } = Payload.parse(job.payload);
      const begun = await exports.begin(id);
      if (begun === undefined) return { kind: 'done' };
      const failed = async (code: string, text: string, again: boolean): Promise<void> => {
        log(again ? 'warn' : 'error', 'evidence export failed', { export: id, code, why: text, again });
        // Our own fault may lie in what the attempt wrote: the next one begins anew.
        if (await exports.failed(begun, { code, text: text.slice(0, 2000) }, clock(), again))
          await deps.files.remove(id);
      };
      try {
        if (begun.attempts > 1) log('info', 'evidence export begun again', { export: id, attempt: begun.attempts });
        makeFolders(deps.folder);
        const cut = begun.cut ?? (await cutOf(begun, deps));
        if (cut === undefined) return { kind: 'done' };
        await made({ ...begun, cut }, deps, signal, failed);
        return { kind: 'done' };
      } catch (error) {
        if (signal.aborted) throw error;
        if (error instanceof EvidenceError) {
          await failed(error.code, error.message, false);
          return { kind: 'done' };
        }
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        const isOver = begun.attempts >= EXPORT_ATTEMPTS_MAX;
        await failed('FAULT', isOver ? `it failed ${begun.attempts} times: ${text}` : text, !isOver);
        return isOver ? { kind: 'done' } : { kind: 'again', inMs: backoff(begun.attempts), why: text };
      }
    },
  };
}

/** Everything of the period is in the log before the act, and the bundle is about the log up to it. */
async function cutOf(wanted: EvidenceExport, deps: ExportDeps): Promise<ExportCut | undefined> {
  const { store, clock, evidence } = deps;
  const selection = selectionOf(wanted.filter, wanted.scope);
  let after = '';
  for (;;) {
    const page = await store.evidence.hosts(after, EXPORT_PAGE);
    const named = await hostsThen(page, wanted.to, store);
    const ids = named.filter(({ host, naming }) => selection.has(host, naming)).map(({ host }) => host.id);
    if (ids.length > 0) await store.evidence.keepSames(ids, wanted.to);
    if (page.length < EXPORT_PAGE) break;
    after = page.at(-1)!.id;
  }
  const logged = await store.evidence.exports.log(wanted.id, { actor: wanted.createdBy, at: clock() });
  if (logged === undefined) return undefined;
  for (let tries = 0; tries < PLACE_TRIES; tries++) {
    await evidence.turn();
    if (evidence.refusal !== undefined)
      throw new EvidenceError(
        'EVIDENCE_STATE',
        `the evidence log is not signed, so nothing can be exported: ${evidence.refusal.message}`,
      );
    const receipt = (await store.log.receipts(auditRef(logged.act))).findLast(({ index }) => index !== null);
    if (receipt?.index != null && receipt.log === evidence.published?.log) {
      const published = await checkpointFor(wanted, { log: receipt.log, size: receipt.index + 1 }, deps);
      const { origin, size, root } = published.checkpoint;
      await deps.anchors.anchor(published, AbortSignal.timeout(3 * ANCHOR_TIMEOUT_MS));
      const note = await deps.anchors.cosigned(published);
      const cut = { log: receipt.log, origin, size, root: toBase64(root), note, at: logged.at };
      return store.evidence.exports.cut(wanted.id, cut);
    }
    await new Promise((resolve) => setTimeout(resolve, PLACE_MS));
  }
  throw new Error('the act of exporting has no place in the log yet');
}

/**
 * The checkpoint that a bundle is about. Of a part it ends with the act: what follows may be about others. Of the whole fleet it is the one that was
 * published behind it, which witnesses sign, unless an entry of an earlier day stands last.
 */
async function checkpointFor(
  { filter, scope, to }: EvidenceExport,
  { log, size }: { readonly log: number; readonly size: number },
  { store, evidence }: ExportDeps,
): Promise<Published> {
  const { published } = evidence;
  if (published !== undefined && selectionOf(filter, scope).whole && published.checkpoint.size >= size) {
    const [last] = await store.log.entries(log, published.checkpoint.size - 1, 1);
    if (last !== undefined && last.at >= to) return published;
  }
  return { log, checkpoint: await evidence.checkpointOf(size) };
}

async function made(
  wanted: EvidenceExport & { readonly cut: ExportCut },
  deps: ExportDeps,
  signal: AbortSignal,
  failed: (code: string, text: string, again: boolean) => Promise<void>,
): Promise<void> {
  const { store, clock, log, evidence, folder, files } = deps;
  const { exports } = store.evidence;
  const { id, cut } = wanted;
  const gone = new AbortController();
  const base = deps.baseUrl();
  const order = {
    wanted,
    logKey: evidence.vkey(cut.origin),
    server: { version: VERSION, name: URL.canParse(base) ? new URL(base).host : base },
    folder,
    bytesMax: deps.files.bytesMax,
  };
  let noted = 0;
  let noting: Promise<void> | undefined;
  const outcome = await deps
    .make(
      { storeUrl: deps.storeUrl, order },
      ({ progress, hosts }) => {
        const now = performance.now();
        if (noting !== undefined || now - noted < NOTE_MS) return;
        noted = now;
        noting = exports
          .progress(id, progress, hosts)
          .then(
            (isThere) => isThere || gone.abort(),
            (error: unknown) => log('warn', 'progress of an export not noted', { export: id, error: String(error) }),
          )
          .then(() => {
            noting = undefined;
          });
      },
      AbortSignal.any([signal, gone.signal]),
    )
    .catch((error: unknown) => {
      // Somebody deleted it: nothing is owed to anybody.
      if (gone.signal.aborted && !signal.aborted) return undefined;
      throw error;
    });
  await noting;
  if (outcome === undefined) return files.remove(id);
  if (outcome.kind === 'refused') return failed(outcome.code, outcome.text, false);
  const { sha256, bytes, hosts, takenOver } = outcome.made;
  await exports.progress(id, [{ stage: 'results', done: hosts, total: hosts }], hosts);
  await files.keep(wanted, signal);
  if (await exports.done(wanted, { sha256, bytes }, clock())) {
    log('info', 'evidence exported', { export: id, bytes, hosts, takenOver });
    await files.keepOnly(wanted);
  }
  // Deleted meanwhile; or another process took this one for dead, and was faster.
  else if ((await exports.get(id)) === undefined) await files.remove(id);
}

/** Removes what is over, and files that belong to nothing. */
export function exportChore(
  { store, clock, files }: Pick<ExportDeps, 'store' | 'clock' | 'files'>,
  everyMs: number,
): Chore {
  return {
    name: 'evidence exports',
    everyMs,
    run: async () => {
      for (const id of await store.evidence.exports.expired(clock(), EXPORT_PAGE)) {
        await store.evidence.exports.remove(id, { actor: 'job:evidence', at: clock(), note: 'its time was over' });
        await files.remove(id);
      }
      const ids = await files.ids();
      const known = await store.evidence.exports.known(ids);
      for (const id of ids) if (!known.has(id)) await files.remove(id);
    },
  };
}
