/**
 * A policy that somebody tries or compares, held against evidence. One that asks in CEL what the shipped one does not may be dear, by accident
 * or not: its own thread judges then, so that pages, agents and all else go on beside it.
 */
import { Worker } from 'node:worker_threads';
import { TRIAL_HEAP_MB } from '#src/limits.ts';
import type { Policy } from '#src/policy/document.ts';
import type { PolicyDocumentText } from '#src/policy/documents.ts';
import { evaluate, type Evaluation, type Evidence } from '#src/policy/evaluate.ts';
import { threadEnv } from './thread.ts';
import type { FromTrial, ToTrial, TrialData } from './trialwire.ts';

export type Judged = {
  readonly policy: Policy;
  /** What it was read of; undefined: what is trusted to judge here. */
  readonly documents?: readonly PolicyDocumentText[] | undefined;
};

export type Judge = {
  readonly evaluate: (evidence: Evidence) => Promise<Evaluation>;
  readonly close: () => Promise<void>;
};

/** Whoever asks for it closes it. */
export function judgeOf({ policy, documents }: Judged, shipped: Policy | undefined): Judge {
  if (documents === undefined || !asksMore(policy, shipped))
    return { evaluate: (evidence) => Promise.resolve(evaluate(evidence, policy)), close: () => Promise.resolve() };
  return inThread(documents);
}

function conditionsOf(policy: Policy | undefined): Set<string> {
  const rules = policy === undefined ? [] : [...policy.files, ...policy.accounts, ...policy.state];
  return new Set(rules.flatMap(({ when }) => ('cel' in when && when.cel !== undefined ? [when.cel.source] : [])));
}

/** Whether it has a condition in CEL that the shipped one has not. */
function asksMore(policy: Policy, shipped: Policy | undefined): boolean {
  const known = conditionsOf(shipped);
  return [...conditionsOf(policy)].some((source) => !known.has(source));
}

function inThread(documents: readonly PolicyDocumentText[]): Judge {
  const worker = new Worker(new URL('./trialworker.ts', import.meta.url), {
    workerData: { documents } satisfies TrialData,
    resourceLimits: { maxOldGenerationSizeMb: TRIAL_HEAP_MB },
    env: threadEnv(),
  });
  const calls = new Map<
    number,
    { readonly resolve: (value: Evaluation) => void; readonly reject: (error: unknown) => void }
  >();
  let last = 0;
  let gone: unknown;
  const end = (error: unknown): void => {
    gone ??= error;
    for (const { reject } of calls.values()) reject(gone);
    calls.clear();
  };
  worker.on('message', (message: FromTrial) => {
    const call = calls.get(message.n);
    calls.delete(message.n);
    if ('value' in message) call?.resolve(message.value);
    else call?.reject(new Error(`in the thread of a trial: ${message.why}`));
  });
  worker.on('error', end);
  worker.on('exit', () => end(new Error('the thread of a trial ended')));
  return {
    evaluate: ({ variant, ...evidence }) =>
      new Promise((resolve, reject) => {
        if (gone !== undefined) return reject(gone);
        const n = ++last;
        calls.set(n, { resolve, reject });
        const message: ToTrial = { n, evidence, variants: variant === undefined ? null : evidence.drift.map(variant) };
        // eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
        worker.postMessage(message);
      }),
    close: async () => void (await worker.terminate()),
  };
}
