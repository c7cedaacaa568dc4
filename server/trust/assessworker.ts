/** The thread that assesses images: reads the policy from its texts, asks the places, judges. */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';
import { assessHere } from './assesshere.ts';
import type { AssessRequest } from './assessor.ts';

assert.ok(parentPort !== null, 'this file runs as a worker thread');
const result = await assessHere(workerData as AssessRequest, new AbortController().signal);
// eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
parentPort.postMessage(result);
