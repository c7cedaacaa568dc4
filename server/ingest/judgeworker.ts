/** A thread that looks at reports and holds them against policy, so that the event loop goes on; it asks the event loop for what the store knows. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import type { Policy } from '#src/policy/document.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { Lru } from '#server/lru.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import { LocalLooker, type Held } from './examiner.ts';
import type { Asked, Asks, FromThread, ThreadData, ToThread } from './judgewire.ts';
import { KnownImages } from './known.ts';

/** The event loop could not tell what was asked. */
class Untold extends Error {}

assert.ok(parentPort !== null, 'this file runs as a worker thread');
const port = parentPort;
const { ticketKeys, textBytes } = workerData as ThreadData;
const [first, ...others] = ticketKeys;
assert.ok(first !== undefined, 'a server has a ticket key');
const shipped = await shippedPolicy();

// eslint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
const say = (message: FromThread): void => port.postMessage(message);

const waiting = new Map<
  number,
  { readonly resolve: (value: never) => void; readonly reject: (error: Untold) => void }
>();
let asks = 0;
function ask<What extends keyof Asks>(what: What, of: Asks[What][0]): Promise<Asks[What][1]> {
  return new Promise((resolve, reject) => {
    const number = ++asks;
    waiting.set(number, { resolve, reject });
    say({ kind: 'ask', ask: number, asked: { what, of } as Asked });
  });
}

const looker = new LocalLooker({
  lookups: {
    admit: (id) => ask('admit', id),
    provenances: { of: async (reported) => ({ facts: await ask('provenance', reported) }) },
    tag: (claim) => ask('tag', claim),
  },
  images: new KnownImages(
    {
      images: { find: (reported) => ask('find', reported), manifests: (image) => ask('manifests', image) },
      blobs: { get: (key) => ask('blob', key) },
    },
    textBytes,
  ),
  verify: verifyInPool,
  ticketKeys: { keys: [first, ...others], hmac: (key, text) => createHmac('sha256', key).update(text).digest() },
});

/** The one that counts, and the one before while it is taken over. */
const policies = new Lru<number, Policy>(2);
async function policyOf(n: number): Promise<Policy> {
  const known = policies.get(n);
  if (known !== undefined) return known;
  const { policy } = policyOfDocuments(await ask('policy', n), shipped.policy);
  policies.set(n, policy);
  return policy;
}

const held = new Map<number, Held>();

async function answer(message: Extract<ToThread, { readonly session: number }>): Promise<void> {
  const { session } = message;
  if (message.kind === 'close') held.delete(session);
  else if (message.kind === 'open') {
    const opened = await looker.open(message.bytes, message.arrival);
    if (opened.kind === 'examined') held.set(session, opened.held);
    say({ kind: 'opened', session, value: opened.kind === 'examined' ? { ...opened, held: null } : opened });
  } else if (message.kind === 'reopen') {
    const found = await looker.reopen(message.bytes);
    if (found !== undefined) held.set(session, found);
    say({ kind: 'reopened', session, held: found !== undefined });
  } else {
    const found = held.get(session);
    assert.ok(found !== undefined, 'what is evaluated was opened');
    const policy = { policy: await policyOf(message.policy), n: message.policy };
    say({ kind: 'evaluated', session, value: await found.evaluate(message.occasion, policy) });
  }
}

port.on('message', (message: ToThread) => {
  if (message.kind === 'told' || message.kind === 'untold') {
    const asker = waiting.get(message.ask);
    waiting.delete(message.ask);
    if (message.kind === 'told') asker?.resolve(message.value as never);
    else asker?.reject(new Untold('the event loop could not tell'));
    return;
  }
  answer(message).catch((error: unknown) => {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    say({ kind: 'failed', session: message.session, lookup: error instanceof Untold, why });
  });
});
