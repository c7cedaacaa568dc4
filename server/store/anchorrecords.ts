/** The store's contract, continued (store.ts): what others said of the log's checkpoints, and how it went to ask them (docs/log.md 8). */
import type { Instant } from '#src/clock.ts';

/** Why an anchor did not do what it was asked for. */
export type AnchorTrouble = {
  /** `WITNESS_…`, `TIMESTAMP_…` (server/log/witness.ts, timestamps.ts). */
  readonly code: string;
  /** What was wrong, and what to do. */
  readonly text: string;
  /** It shows, or claims, another log than ours: nothing that goes away by waiting. */
  readonly alarm: boolean;
  readonly since: Instant;
  /** Attempts in a row. */
  readonly times: number;
};

/** A witness by its name, or an authority as `anchorOf` calls it, and how it stands with one log. */
export type AnchorState = {
  readonly anchor: string;
  readonly origin: string;
  /** The last size that it signed; 0 for none. */
  readonly size: number;
  /** When it signed that; null for never. */
  readonly at: Instant | null;
  readonly triedAt: Instant | null;
  readonly trouble: AnchorTrouble | null;
};

export type Cosignature = {
  readonly size: number;
  readonly witness: string;
  /** The signature line, without its newline. */
  readonly line: string;
  readonly at: Instant;
};

export type Stamp = {
  readonly size: number;
  readonly authority: string;
  /** The whole answer of the authority, DER (RFC 3161 2.4.2). */
  readonly token: Uint8Array;
  /** The time that it states. */
  readonly at: Instant;
};

/** What an authority is called among anchors: no witness has a space in its name. */
export const anchorOf = (authority: string): string => `rfc3161 ${authority}`;

/** Under which hosts stand that keep checkpoints. */
export const HOSTS_ANCHOR = 'kept by hosts';

export interface LogAnchors {
  states(origin: string): Promise<readonly AnchorState[]>;
  /** Notes that it is asked now. False where somebody asked after `unlessSince`: of two processes one asks. */
  claim(anchor: string, origin: string, at: Instant, unlessSince: Instant): Promise<boolean>;
  /** Keeps what it signed, and that all is well with it. */
  cosigned(origin: string, cosignature: Cosignature): Promise<void>;
  stamped(origin: string, stamp: Stamp): Promise<void>;
  /** A size that it is known to keep, without a signature. */
  noted(anchor: string, origin: string, size: number, at: Instant): Promise<void>;
  /** What went wrong; counts attempts in a row with the same code. */
  failed(
    anchor: string,
    origin: string,
    trouble: Pick<AnchorTrouble, 'code' | 'text' | 'alarm'>,
    at: Instant,
  ): Promise<void>;
  /** Of one checkpoint, by the witness's name. */
  cosignatures(origin: string, size: number): Promise<readonly Cosignature[]>;
  /** Of checkpoints from a size on, below another (null: all that follow), by size and witness. */
  cosignaturesIn(origin: string, from: number, below: number | null): Promise<readonly Cosignature[]>;
  /** The largest size that somebody cosigned. */
  newestCosigned(origin: string): Promise<number | undefined>;
  /** Of checkpoints from a size on, below another where it is given, by size and authority. */
  stamps(origin: string, from: number, below?: number | null): Promise<readonly Stamp[]>;
}
