/**
 * Tickets: statements that the server makes to itself and hands out, so that it keeps no state for them (docs/report.md 5).
 * `<kind>.<subject>.<time>.<mac>`. Challenges, enrolment nonces and the bearers that fetch manifests are tickets.
 */
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import type { Instant } from '#src/clock.ts';
import { toBase64Url } from './token.ts';

/** HMAC-SHA-256 over ASCII text. Handed in where many are made, so that Node can use its own. */
export type Hmac = (key: Uint8Array, text: string) => Uint8Array;

const encoder = new TextEncoder();

/** The portable `Hmac`. */
export const hmacSha256: Hmac = (key, text) => hmac(sha256, key, encoder.encode(text));

/** The server's secrets for tickets, 32 bytes each: the first makes, all are tried (a key that was replaced still explains what it made). */
export type TicketKeys = { readonly keys: readonly [Uint8Array, ...Uint8Array[]]; readonly hmac: Hmac };

export const TICKET_KINDS = { challenge: 'c1', nonce: 'n1', bearer: 'm1' } as const;
export type TicketKind = keyof typeof TICKET_KINDS;

export type Ticket = { readonly kind: TicketKind; readonly subject: string; readonly time: Instant };

/** Longest ticket that is read: kind, 28 of subject, 16 of time, 43 of MAC, dots. */
export const TICKET_LENGTH_MAX = 128;

const TEXT = /^(c1|n1|m1)\.([a-z0-9_]{1,40})\.(0|[1-9][0-9]{0,15})\.([A-Za-z0-9_-]{43})$/;

export function printTicket({ kind, subject, time }: Ticket, { keys, hmac }: TicketKeys): string {
  const body = `${TICKET_KINDS[kind]}.${subject}.${time}`;
  return `${body}.${mac(keys[0], body, hmac)}`;
}

function mac(key: Uint8Array, body: string, hmac: Hmac): string {
  return toBase64Url(hmac(key, `bootproof ticket/1\n${body}`));
}

/**
 * What a text of the given kind says, and whether a key of ours explains its MAC; undefined if it has not the form. `ours: false` is what
 * a forger sends, but also what the server sent before it lost its key.
 */
export function parseTicket(
  kind: TicketKind,
  text: string,
  { keys, hmac }: TicketKeys,
): (Ticket & { ours: boolean }) | undefined {
  const match = text.length > TICKET_LENGTH_MAX ? null : TEXT.exec(text);
  if (match === null || match[1] !== TICKET_KINDS[kind]) return undefined;
  const body = text.slice(0, text.lastIndexOf('.'));
  const ours = keys.some((key) => equal(mac(key, body, hmac), match[4]!));
  return { kind, subject: match[2]!, time: Number(match[3]), ours };
}

/** Compares without telling by its time where two MACs part. */
function equal(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}
