/** Signatures of messages: Standard Webhooks, `v1` (HMAC-SHA-256 over `id.timestamp.body`), one for each key that counts. */
import { createHmac } from 'node:crypto';
import type { Instant } from '#src/clock.ts';

/** A new signing key from 32 random bytes. */
export function newSigningKey(random: (bytes: number) => Uint8Array): string {
  return `whsec_${Buffer.from(random(32)).toString('base64')}`;
}

/** Headers of one attempt: the id is the message's, the time is the attempt's, so that a receiver can refuse what is old. */
export function signatureHeaders(
  id: string,
  at: Instant,
  body: string,
  keys: readonly string[],
): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(at / 1000));
  const signatures = keys.map((key) => {
    const secret = Buffer.from(key.slice('whsec_'.length), 'base64');
    return `v1,${createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`, 'utf8').digest('base64')}`;
  });
  return {
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    ...(signatures.length === 0 ? {} : { 'webhook-signature': signatures.join(' ') }),
  };
}
