/** What the server says to an accepted report (docs/report.md 4). The agent takes from it these members and nothing else. */
import { z } from 'zod';
import { parseInstant } from '#src/clock.ts';
import { EnvelopeJson } from '#src/signing/dsse.ts';
import { TICKET_LENGTH_MAX } from './ticket.ts';

/** RFC 3339 in UTC with milliseconds. */
export const Time = z
  .string()
  .refine((text) => parseInstant(text) !== undefined, 'expected RFC 3339 in UTC with milliseconds');

export const EFFECTS = ['advance', 'history', 'replay'] as const;

/** Unknown members are dropped, not refused: agents and servers are upgraded in either order. */
export const Answer = z.object({
  /** Number of the report that was taken. */
  seq: z.int().min(1),
  /** `advance`: the newest we have. `history`: kept, too old to judge. `replay`: we had it already. */
  effect: z.enum(EFFECTS),
  /** When to report again. */
  next: Time,
  /** What to send then: `full` where the server has no full report that a `same` could refer to. */
  want: z.enum(['same', 'full']),
  /** Null with `replay` where the first answer is no longer kept: whoever repeats bytes has not shown that it is the host (docs/report.md 4.5). */
  challenge: z.string().max(TICKET_LENGTH_MAX).nullable(),
  /** The newest checkpoint of the evidence log; null until there is one. */
  checkpoint: z.string().max(8192).nullable(),
  /** From the size that the report echoed to that of `checkpoint` (docs/report.md 9.3); absent before there was a log. */
  consistency: z
    .object({ from: z.int().min(0), proof: z.array(z.string().max(44)).max(63) })
    .nullable()
    .optional(),
  /** The log's key, signed by the server's; only where the report shows that the host does not know it yet. */
  logKey: EnvelopeJson.nullable().optional(),
  /** Fetches manifests until the next answer; null where `challenge` is. */
  manifestBearer: z.string().max(TICKET_LENGTH_MAX).nullable(),
  /** Report versions that the server takes, highest first. */
  accepts: z.array(z.int().min(1)).min(1).max(8),
});
export type Answer = z.infer<typeof Answer>;
