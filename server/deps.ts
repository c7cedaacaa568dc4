/** What the long-lived parts of the server are given: the outside world, so that tests can move it. */
import type { Clock } from '#src/clock.ts';
import type { PublicKey, Signer, Verify } from '#src/signing/ed25519.ts';
import type { TicketKeys } from '#src/wire/ticket.ts';
import type { Store } from '#server/store/store.ts';

/** One event for operators; `fields` never hold secrets. */
export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  event: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

export type World = {
  readonly clock: Clock;
  /** Cryptographic randomness. */
  readonly random: (bytes: number) => Uint8Array;
  readonly log: Log;
};

/** The server's own keys, made at first start and kept in the store. */
export type Keys = {
  readonly signer: Signer;
  readonly publicKey: PublicKey;
  /** SHA-256 of the public key's SubjectPublicKeyInfo (docs/report.md 2.7): what enrolment tokens pin. */
  readonly fingerprint: string;
  readonly tickets: TicketKeys;
  /** Seals the sessions of browsers. */
  readonly sessionSecret: Uint8Array;
};

export type Deps = World & {
  readonly store: Store;
  readonly keys: Keys;
  readonly verify: Verify;
};
