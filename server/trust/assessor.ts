/** Assessing runs in a thread with a heap of its own: signatures are made by strangers, and intake goes on beside it. */
import { Worker } from 'node:worker_threads';
import type { Instant } from '#src/clock.ts';
import { ASSESS_HEAP_MB } from '#src/limits.ts';
import { threadEnv } from '#server/thread.ts';
import type { Assessed, Subject } from './assess.ts';
import type { DenyDocument } from './basis.ts';
import type { RegistryTerms } from './look.ts';
import type { TrustFiles } from './setup.ts';

export type AssessRequest = {
  readonly files: TrustFiles;
  readonly denied: readonly DenyDocument[];
  readonly now: Instant;
  readonly terms: RegistryTerms;
  readonly subjects: readonly Subject[];
};

/** Assesses subjects, in their order. Rejects for our own faults only. */
export type Assessor = (request: AssessRequest, signal: AbortSignal) => Promise<readonly Assessed[]>;

export const assessInWorker: Assessor = (request, signal) =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./assessworker.ts', import.meta.url), {
      workerData: request,
      resourceLimits: { maxOldGenerationSizeMb: ASSESS_HEAP_MB },
      // The thread asks no variable by itself: what it needs is in the request.
      env: threadEnv(),
    });
    const stop = (): void => void worker.terminate();
    signal.addEventListener('abort', stop, { once: true });
    let result: readonly Assessed[] | undefined;
    worker.once('message', (message: readonly Assessed[]) => {
      result = message;
    });
    worker.once('error', (error: NodeJS.ErrnoException) => {
      const [subject, ...others] = request.subjects;
      // One image's signatures are too much: asking again with the same memory gives the same.
      if (error.code === 'ERR_WORKER_OUT_OF_MEMORY' && subject !== undefined && others.length === 0)
        result = [tooMuch(subject)];
      else reject(error);
    });
    worker.once('exit', (code) => {
      signal.removeEventListener('abort', stop);
      if (result !== undefined) resolve(result);
      else
        reject(new Error(signal.aborted ? 'assessing was stopped' : `the thread ended with ${code} and said nothing`));
    });
  });

function tooMuch({ image, kept, indexes }: Subject): Assessed {
  const why = `verifying its signatures took more than ${ASSESS_HEAP_MB} MB of memory`;
  const nothing = { by: null, policy: null, policies: [], warnings: [], checked: [], looked: [], hostPolicy: null };
  return {
    image,
    state: 'unverifiable',
    told: { ...nothing, code: 'TOO_MANY', why },
    complete: false,
    byKept: false,
    present: undefined,
    keep: kept,
    indexes,
  };
}
