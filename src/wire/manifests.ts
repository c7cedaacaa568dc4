/** How a host gets the file manifest of its image (docs/report.md 7): a short bearer, signed headers, then texts by digest. */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { MANIFEST_TEXT_BYTES_MAX } from '#src/limits.ts';
import { DigestJson } from '#src/manifest/json.ts';
import { EnvelopeJson } from '#src/signing/dsse.ts';
import { parseTicket, printTicket, type TicketKeys } from './ticket.ts';

/** Life of a bearer: it is renewed in each answer, so it must only outlast the longest wait between two reports (docs/report.md 4.3). */
export const BEARER_LIFE_MS = 25 * 3600 * 1000;

export function makeBearer(host: string, now: Instant, keys: TicketKeys): string {
  return printTicket({ kind: 'bearer', subject: host, time: now + BEARER_LIFE_MS }, keys);
}

/** The host that a bearer was given to, or undefined if it is none of ours or over. */
export function readBearer(text: string, now: Instant, keys: TicketKeys): string | undefined {
  const ticket = parseTicket('bearer', text, keys);
  return ticket !== undefined && ticket.ours && now < ticket.time ? ticket.subject : undefined;
}

/** Rules of one backend: a handful (docs/manifest.md 4.1), with room for those to come. */
export const MANIFEST_HEADERS_MAX = 16;

export const VERITY_TYPE = 'application/vnd.bootproof.verity+json';

/** Which text of fs-verity digests is an image's (docs/manifest.md, rule 8); signed by the server's key. */
export const VerityHeader = z.strictObject({
  format: z.literal('bootproof.verity/1'),
  /** Digest of the image manifest. */
  image: DigestJson,
  /** Of the text. */
  text: DigestJson,
  bytes: z.int().min(0).max(MANIFEST_TEXT_BYTES_MAX),
});
export type VerityHeader = z.infer<typeof VerityHeader>;

/** Answer to `GET /api/v1/manifests/{digest}`, status 200. Unknown members are ignored. */
export const ManifestsAnswer = z.object({
  /** Signed headers (type `…manifest-header+json`), one a rule of the backend, newest rule first. */
  headers: z.array(EnvelopeJson).min(1).max(MANIFEST_HEADERS_MAX),
  /** A signed `VerityHeader`; absent where the server has no such text, and from servers before it. */
  verity: EnvelopeJson.optional(),
});
export type ManifestsAnswer = z.infer<typeof ManifestsAnswer>;

/** The same, status 202: being built, or waiting for its source. */
export const ManifestsPending = z.object({
  /** Seconds after which asking again makes sense. */
  retryAfter: z.int().min(0),
});
export type ManifestsPending = z.infer<typeof ManifestsPending>;
