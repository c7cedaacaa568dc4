/** The thread that makes a bundle: a store, a heap and a processor's time of its own, so that intake goes on beside it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { BootproofError } from '#src/error.ts';
import { serverKeys } from '#server/keys.ts';
import { openStoreAlone } from '#server/store/open.ts';
import { makeBundle } from './bundle.ts';
import type { MakeRequest, Said } from './inworker.ts';

assert.ok(parentPort !== null, 'this file runs as a worker thread');
const port = parentPort;
// eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
const say = (said: Said): void => port.postMessage(said);
class Stopped extends Error {}
/** Whatever is said to this thread is that it shall end; looked for between two pages of what is gathered or written. */
const goOn = (): void => {
  if (receiveMessageOnPort(port) !== undefined) throw new Stopped();
};
const { storeUrl, order } = workerData as MakeRequest;
const store = await openStoreAlone(storeUrl);
// Closing the store waits for threads that keep nothing alive.
const alive = setInterval(() => {}, 60_000);
try {
  goOn();
  const { signer } = await serverKeys(store, randomBytes);
  const made = await makeBundle(order, {
    store,
    signer,
    tell: (progress, hosts) => {
      goOn();
      say({ kind: 'progress', progress, hosts });
    },
  });
  say({ kind: 'made', made });
} catch (error) {
  if (error instanceof BootproofError) say({ kind: 'refused', code: error.code, text: error.message });
  else if (!(error instanceof Stopped)) throw error;
} finally {
  await store.close();
  clearInterval(alive);
}
