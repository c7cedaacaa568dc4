/** Making a bundle in a thread, as its maker asks for it. */
import { Worker } from 'node:worker_threads';
import { EXPORT_HEAP_MB } from '#src/limits.ts';
import type { StageProgress } from '#server/store/evidencerecords.ts';
import { threadEnv } from '#server/thread.ts';
import type { BundleOrder, MadeBundle } from './bundle.ts';

export type MakeRequest = { readonly storeUrl: string; readonly order: BundleOrder };

export type Said =
  | { readonly kind: 'progress'; readonly progress: readonly StageProgress[]; readonly hosts: number | null }
  | { readonly kind: 'made'; readonly made: MadeBundle }
  | { readonly kind: 'refused'; readonly code: string; readonly text: string };

export type Made = Extract<Said, { readonly kind: 'made' | 'refused' }>;

/** Rejects for our own faults, and where it was stopped. */
export type Make = (
  request: MakeRequest,
  tell: (said: Extract<Said, { kind: 'progress' }>) => void,
  signal: AbortSignal,
) => Promise<Made>;

export const makeInWorker: Make = (request, tell, signal) =>
  new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(new Error('the export was stopped'));
      return;
    }
    const worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: request,
      resourceLimits: { maxOldGenerationSizeMb: EXPORT_HEAP_MB },
      env: threadEnv(),
    });
    // Asked, never `terminate()`: a thread that is stopped while it loads SQLite's addon holds the process for ever.
    // eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
    const stop = (): void => worker.postMessage('stop');
    signal.addEventListener('abort', stop, { once: true });
    let outcome: Made | undefined;
    worker.on('message', (said: Said) => {
      if (said.kind === 'progress') tell(said);
      else outcome = said;
    });
    worker.once('error', reject);
    worker.once('exit', (code) => {
      signal.removeEventListener('abort', stop);
      if (outcome !== undefined) resolve(outcome);
      else reject(new Error(signal.aborted ? 'the export was stopped' : `the export's thread ended with ${code}`));
    });
  });
