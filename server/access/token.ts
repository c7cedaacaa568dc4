/**
 * Secrets that people show to the server: the admin token (printed once, kept as a hash), and texts that the server seals for itself,
 * which any of its processes opens: an HMAC under the server's secret.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { Instant } from '#src/clock.ts';

const PREFIX = 'bp_admin_';
const SHAPE = /^bp_admin_[A-Za-z0-9_-]{43}$/;

/** A new admin token from 32 random bytes, and the hash that is kept of it. */
export function newAdminToken(random: (bytes: number) => Uint8Array): { token: string; hash: string } {
  const token = PREFIX + Buffer.from(random(32)).toString('base64url');
  return { token, hash: hashToken(token) };
}

/** SHA-256 in hex. No salt and no stretching: what is hashed is random, not chosen by a person. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/** Whether `token` is the one whose hash is kept; takes the same time whichever byte differs. */
export function isAdminToken(token: string, hash: string): boolean {
  return SHAPE.test(token) && sameBytes(hashToken(token), hash);
}

function sameBytes(a: string, b: string): boolean {
  const x = Buffer.from(a);
  const y = Buffer.from(b);
  return x.length === y.length && timingSafeEqual(x, y);
}

/** The credential of an `Authorization: Bearer …` header (RFC 6750 section 2.1), or undefined. */
export function bearerOf(header: string | undefined): string | undefined {
  return /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(header ?? '')?.[1];
}

/** A secret under which texts of one purpose are sealed: purposes never accept each other's. */
export class Seal {
  readonly #key: Uint8Array;

  constructor(secret: Uint8Array, purpose: string) {
    this.#key = createHmac('sha256', secret).update(`bootproof ${purpose}`).digest();
  }

  /** `subject` until `expires`, as text: `<expires>.<subject>.<mac>`; the subject has no dot. */
  issue(subject: string, expires: Instant): string {
    const text = `${expires}.${subject}`;
    return `${text}.${this.#mac(text)}`;
  }

  /** The subject of a sealed text that is genuine and not expired at `now`, or undefined. */
  open(sealed: string, now: Instant): string | undefined {
    const match = /^(([1-9][0-9]{0,15})\.([A-Za-z0-9_-]{1,4000}))\.([A-Za-z0-9_-]{43})$/.exec(sealed);
    if (match === null || !sameBytes(this.#mac(match[1]!), match[4]!)) return undefined;
    return Number(match[2]) > now ? match[3] : undefined;
  }

  #mac(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('base64url');
  }
}

/** The subject of a session: a part of the token's hash, so that a new token ends every session. */
export function sessionSubject(adminHash: string): string {
  return adminHash.slice(0, 32);
}
