/** Enrolment (docs/report.md 6): how a host proves its new key, and how it knows that the right server took it. */
import { z } from 'zod';
import { fromBase64, toBase64 } from '#src/bytes.ts';
import type { Instant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { ENROLMENT_BYTES_MAX } from '#src/limits.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import {
  EnvelopeJson,
  envelopeFromJson,
  envelopeJson,
  pae,
  signEnvelope,
  verifyEnvelope,
  type Envelope,
} from '#src/signing/dsse.ts';
import { fingerprintOf, parsePublicKey, type PublicKey, type Signer, type Verify } from '#src/signing/ed25519.ts';
import { Time } from './answer.ts';
import { HostId } from './hostid.ts';
import { parseTicket, printTicket, TICKET_LENGTH_MAX, type TicketKeys } from './ticket.ts';
import { TOKEN_ID } from './token.ts';

export class EnrolError extends BootproofError<
  'ENROL_SYNTAX' | 'ENROL_TOKEN' | 'ENROL_NONCE' | 'ENROL_PROOF' | 'ENROL_KEY' | 'ENROL_SERVER_KEY' | 'ENROL_ANSWER'
> {}

export const ENROL_REQUEST_TYPE = 'application/vnd.bootproof.enrolment-request+json';
export const ENROLMENT_TYPE = 'application/vnd.bootproof.enrolment+json';

/** Time to answer a nonce: one round trip and the making of a key, on the slowest link. */
export const NONCE_LIFE_MS = 5 * 60 * 1000;

const KeyHex = z.string().regex(/^[0-9a-f]{64}$/);
const TokenId = z.string().regex(TOKEN_ID);
const Versions = z.array(z.int().min(1)).min(1).max(8);

/** Body of `POST /api/v1/enrol/nonce`. */
export const NonceRequest = z.strictObject({ tokenId: TokenId });
export type NonceRequest = z.infer<typeof NonceRequest>;
/** Its answer. Given for tokens that do not exist as well: a stranger learns nothing. */
export const NonceAnswer = z.object({ nonce: z.string().max(TICKET_LENGTH_MAX) });
export type NonceAnswer = z.infer<typeof NonceAnswer>;

/** What the host's key signs. */
export const EnrolRequest = z.strictObject({
  version: z.literal(1),
  /** Null only in the file of `agent enroll --offline` without a token. */
  tokenId: TokenId.nullable(),
  /** Null in the file of `agent enroll --offline`. */
  nonce: z.string().max(TICKET_LENGTH_MAX).nullable(),
  /** Drawn by the host where no server can give it one; null else. */
  host: HostId.nullable(),
  publicKey: KeyHex,
  /** Names the machine without telling its id (docs/report.md 6.6); null where the host has none. */
  machine: z
    .string()
    .regex(/^[0-9a-f]{32}$/)
    .nullable(),
  hostname: z.string().max(255),
  agentVersion: z.string().max(64),
  /** Report versions that the agent writes, highest first. */
  writes: Versions,
});
export type EnrolRequest = z.infer<typeof EnrolRequest>;

/** Body of `POST /api/v1/enrol`, and the file of `agent enroll --offline`. */
export const EnrolBody = z.strictObject({
  request: EnvelopeJson,
  /** The token key's signature over the same bytes, base64; null without a token. */
  tokenSignature: z.string().length(88).nullable(),
});
export type EnrolBody = z.infer<typeof EnrolBody>;

/** What the server's key signs. Unknown members are dropped: a newer server may say more. */
export const Enrolment = z.object({
  version: z.literal(1),
  host: HostId,
  /** `pending`: a person must approve it first, as another key already speaks for this machine. */
  standing: z.enum(['active', 'pending']),
  serverKey: KeyHex,
  publicKey: KeyHex,
  nonce: z.string().max(TICKET_LENGTH_MAX).nullable(),
  issuedAt: Time,
  /** Seconds between reports that the server expects. */
  intervalSeconds: z
    .int()
    .min(1)
    .max(7 * 86_400),
  challenge: z.string().max(TICKET_LENGTH_MAX),
  manifestBearer: z.string().max(TICKET_LENGTH_MAX),
  accepts: Versions,
});
export type Enrolment = z.infer<typeof Enrolment>;

/** Answer to `POST /api/v1/enrol`. */
export const EnrolAnswer = z.object({ enrolment: EnvelopeJson });
export type EnrolAnswer = z.infer<typeof EnrolAnswer>;

export function makeNonce(tokenId: string, now: Instant, keys: TicketKeys): string {
  return printTicket({ kind: 'nonce', subject: tokenId, time: now + NONCE_LIFE_MS }, keys);
}

/** The request, signed by the host's key and, where there is a token, by the token's. */
export async function sealEnrolRequest(request: EnrolRequest, host: Signer, token: Signer | null): Promise<EnrolBody> {
  const envelope = await signEnvelope(ENROL_REQUEST_TYPE, canonicalJson(request), host);
  const tokenSignature = token && toBase64(await token.sign(pae(envelope.payloadType, envelope.payload)));
  return { request: envelopeJson(envelope), tokenSignature };
}

export type OpenedEnrolRequest = {
  readonly request: EnrolRequest;
  readonly publicKey: PublicKey;
  readonly envelope: Envelope;
};

/**
 * Opens a request and checks the host's own signature over it: possession of the key (docs/report.md 6.4). Says nothing of token and
 * nonce: `checkEnrolToken` does.
 * @throws {EnrolError} ENROL_SYNTAX, ENROL_KEY, ENROL_PROOF.
 */
export async function openEnrolRequest(body: EnrolBody, verify: Verify): Promise<OpenedEnrolRequest> {
  const { envelope, value: request } = open(body.request, ENROL_REQUEST_TYPE, EnrolRequest, 'ENROL_SYNTAX');
  let publicKey: PublicKey;
  try {
    publicKey = parsePublicKey(request.publicKey);
  } catch (cause) {
    throw new EnrolError('ENROL_KEY', 'the host key is not one that Bootproof takes (docs/report.md 2.4)', { cause });
  }
  if (!(await verifyEnvelope(envelope, publicKey, verify)))
    throw new EnrolError('ENROL_PROOF', 'the request is not signed by the key that it names');
  return { request, publicKey, envelope };
}

/**
 * Checks nonce and token of an opened request. `tokenKey` is the token's public key as the server keeps it.
 * @throws {EnrolError} ENROL_NONCE, ENROL_TOKEN.
 */
export async function checkEnrolToken(
  opened: OpenedEnrolRequest,
  tokenSignature: string | null,
  about: { readonly tokenKey: PublicKey; readonly now: Instant; readonly keys: TicketKeys },
  verify: Verify,
): Promise<void> {
  const { request, envelope } = opened;
  const ticket = request.nonce === null ? undefined : parseTicket('nonce', request.nonce, about.keys);
  if (ticket === undefined || !ticket.ours || ticket.subject !== request.tokenId || about.now >= ticket.time)
    throw new EnrolError(
      'ENROL_NONCE',
      'the nonce is not ours, not for this token, or over: ask for a new one and send again',
    );
  const signature = tokenSignature === null ? undefined : base64(tokenSignature);
  const message = pae(envelope.payloadType, envelope.payload);
  if (signature === undefined || !(await verify(about.tokenKey, message, signature)))
    throw new EnrolError('ENROL_TOKEN', 'the request is not signed with the token that it names');
}

/** The server's answer, signed by its key. */
export async function sealEnrolment(enrolment: Enrolment, server: Signer): Promise<EnrolAnswer> {
  return { enrolment: envelopeJson(await signEnvelope(ENROLMENT_TYPE, canonicalJson(enrolment), server)) };
}

/**
 * The agent's side: takes the answer only from the server whose key the token pins, and only to this very request. Without a token
 * (`serverFingerprint` null, by file alone) whoever carries the answer vouches for the server.
 * @throws {EnrolError} ENROL_ANSWER, ENROL_SERVER_KEY.
 */
export async function openEnrolment(
  answer: EnrolAnswer,
  asked: { readonly serverFingerprint: string | null; readonly publicKey: PublicKey; readonly nonce: string | null },
  verify: Verify,
): Promise<{ readonly enrolment: Enrolment; readonly serverKey: PublicKey }> {
  const { envelope, value: enrolment } = open(answer.enrolment, ENROLMENT_TYPE, Enrolment, 'ENROL_ANSWER');
  let serverKey: PublicKey;
  try {
    serverKey = parsePublicKey(enrolment.serverKey);
  } catch (cause) {
    throw new EnrolError('ENROL_SERVER_KEY', "the server's key is not one that Bootproof takes", { cause });
  }
  if (asked.serverFingerprint !== null && fingerprintOf(serverKey) !== asked.serverFingerprint)
    throw new EnrolError(
      'ENROL_SERVER_KEY',
      `this is not the server that gave out the token: its key is ${fingerprintOf(serverKey)}, the token says ${asked.serverFingerprint}. Check the address; someone may stand between`,
    );
  if (!(await verifyEnvelope(envelope, serverKey, verify)))
    throw new EnrolError('ENROL_SERVER_KEY', "the answer is not signed by the server's key");
  if (enrolment.publicKey !== asked.publicKey || enrolment.nonce !== asked.nonce)
    throw new EnrolError('ENROL_ANSWER', 'the answer is to another request');
  return { enrolment, serverKey };
}

function open<T>(
  json: EnvelopeJson,
  type: string,
  schema: z.ZodType<T>,
  code: 'ENROL_SYNTAX' | 'ENROL_ANSWER',
): { envelope: Envelope; value: T } {
  try {
    const envelope = envelopeFromJson(json, type, ENROLMENT_BYTES_MAX);
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(envelope.payload);
    return { envelope, value: schema.parse(JSON.parse(text)) };
  } catch (cause) {
    throw new EnrolError(code, `an enrolment document that is not as docs/report.md 6 says: ${reason(cause)}`, {
      cause,
    });
  }
}

function reason(cause: unknown): string {
  if (cause instanceof z.ZodError) return z.prettifyError(cause).slice(0, 500);
  return cause instanceof Error ? cause.message.slice(0, 500) : 'unreadable';
}

function base64(text: string): Uint8Array | undefined {
  try {
    return fromBase64(text);
  } catch {
    return undefined; // then it is no signature of anyone
  }
}
