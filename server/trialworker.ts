/** A thread that holds evidence against a policy that somebody tries: what its conditions ask is not known yet, and may be dear. */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { evaluate } from '#src/policy/evaluate.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import type { FromTrial, ToTrial, TrialData } from './trialwire.ts';

assert.ok(parentPort !== null, 'this file runs as a worker thread');
const port = parentPort;
const { documents } = workerData as TrialData;
const { policy } = policyOfDocuments(documents, (await shippedPolicy()).policy);

function answer({ n, evidence, variants }: ToTrial): FromTrial {
  try {
    const told = variants === null ? null : new Map(evidence.drift.map((line, at) => [line, variants[at]]));
    const value = evaluate(told === null ? evidence : { ...evidence, variant: (line) => told.get(line) }, policy);
    return { n, value };
  } catch (error) {
    return { n, why: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

// eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
port.on('message', (message: ToTrial) => port.postMessage(answer(message)));
