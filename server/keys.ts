/** The server's own keys: made at first start, kept in the store, the same for every process on it. */
import { createHmac } from 'node:crypto';
import { fingerprintOf, type Signer } from '#src/signing/ed25519.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import type { Hmac } from '#src/wire/ticket.ts';
import type { Store } from '#server/store/store.ts';
import type { Keys } from './deps.ts';

const hmac: Hmac = (key, text) => createHmac('sha256', key).update(text).digest();

/** The log's own key: what the server's key signs is not what the log's key signs (docs/log.md 3). */
export async function logSigner(
  { settings }: Pick<Store, 'settings'>,
  random: (bytes: number) => Uint8Array,
): Promise<Signer> {
  return nodeSigner(pkcs8OfSeed(await settings.create('log-key-seed', random(32))));
}

/** Reads the keys, or makes those that are not there yet; of two processes at once the first one's stand. */
export async function serverKeys(store: Pick<Store, 'settings'>, random: (bytes: number) => Uint8Array): Promise<Keys> {
  const { settings } = store;
  const seed = await settings.create('server-key-seed', random(32));
  const ticketKey = await settings.create('ticket-key', random(32));
  const sessionSecret = await settings.create('session-secret', random(32));
  const signer = nodeSigner(pkcs8OfSeed(seed));
  const { publicKey } = signer;
  return {
    signer,
    publicKey,
    fingerprint: fingerprintOf(publicKey),
    tickets: { keys: [ticketKey], hmac },
    sessionSecret,
  };
}
