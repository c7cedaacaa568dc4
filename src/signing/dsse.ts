/**
 * DSSE envelopes (secure-systems-lab/dsse v1.0.2) in the one spelling that Bootproof takes (docs/report.md 2.3): canonical JSON,
 * empty keyid, exactly one signature. Foreign envelopes, with other spellings, are read in `src/trust`.
 */
import { z } from 'zod';
import { fromBase64, toBase64 } from '#src/bytes.ts';
import { digestOf, type Digest, type Sha256 } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { type PublicKey, type Signer, type Verify } from './ed25519.ts';

export class DsseError extends BootproofError<'ENVELOPE_SYNTAX' | 'ENVELOPE_TOO_LARGE' | 'PAYLOAD_TYPE'> {}

export type Envelope = {
  readonly payloadType: string;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
};

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

// What printEnvelope writes, and nothing else. One class under each star: linear.
const TEXT =
  /^\{"payload":"([A-Za-z0-9+/]*={0,2})","payloadType":"([A-Za-z0-9/.+-]{1,128})","signatures":\[\{"keyid":"","sig":"([A-Za-z0-9+/]{86}==)"\}\]\}$/;

/** What stands around the payload: type, signature and the JSON itself stay far below. */
const AROUND_BYTES = 512;

/** Bytes of the largest envelope whose payload has at most `payloadBytesMax`. */
export function envelopeBytesMax(payloadBytesMax: number): number {
  return Math.ceil(payloadBytesMax / 3) * 4 + AROUND_BYTES;
}

/** The bytes that are signed: pre-authentication encoding, docs/report.md 2.4. */
export function pae(payloadType: string, payload: Uint8Array): Uint8Array {
  const type = encoder.encode(payloadType);
  const head = encoder.encode(`DSSEv1 ${type.length} ${payloadType} ${payload.length} `);
  const out = new Uint8Array(head.length + payload.length);
  out.set(head);
  out.set(payload, head.length);
  return out;
}

export function printEnvelope({ payloadType, payload, signature }: Envelope): string {
  return `{"payload":"${toBase64(payload)}","payloadType":"${payloadType}","signatures":[{"keyid":"","sig":"${toBase64(signature)}"}]}`;
}

/**
 * Reads an envelope of the given type. Says nothing of its signature.
 * @throws {DsseError} ENVELOPE_TOO_LARGE, ENVELOPE_SYNTAX for every spelling that `printEnvelope` would not have written, PAYLOAD_TYPE.
 */
export function parseEnvelope(source: string | Uint8Array, payloadType: string, payloadBytesMax: number): Envelope {
  if (source.length > envelopeBytesMax(payloadBytesMax))
    throw new DsseError(
      'ENVELOPE_TOO_LARGE',
      `an envelope of ${source.length} bytes; ${payloadBytesMax} of payload are taken`,
    );
  const match = TEXT.exec(typeof source === 'string' ? source : decodeText(source));
  if (match === null)
    throw new DsseError(
      'ENVELOPE_SYNTAX',
      'not a DSSE envelope in the one spelling that is taken (docs/report.md 2.3)',
    );
  const [, payloadText = '', type = '', signatureText = ''] = match;
  if (type !== payloadType) throw new DsseError('PAYLOAD_TYPE', `expected ${payloadType}, got ${type}`);
  const payload = decodeBase64(payloadText);
  if (payload.length > payloadBytesMax)
    throw new DsseError('ENVELOPE_TOO_LARGE', `a payload of ${payload.length} bytes; ${payloadBytesMax} are taken`);
  return { payloadType: type, payload, signature: decodeBase64(signatureText) };
}

function decodeText(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new DsseError('ENVELOPE_SYNTAX', 'an envelope is ASCII', { cause });
  }
}

function decodeBase64(text: string): Uint8Array {
  try {
    return fromBase64(text);
  } catch (cause) {
    throw new DsseError('ENVELOPE_SYNTAX', 'base64 in an envelope has one spelling', { cause });
  }
}

/** SHA-256 of an envelope's bytes as received (docs/report.md 2.6). */
export function envelopeDigest(envelope: string | Uint8Array, hash?: Sha256): Digest {
  return digestOf(envelope, hash);
}

export async function signEnvelope(
  payloadType: string,
  payload: string | Uint8Array,
  signer: Signer,
): Promise<Envelope> {
  const bytes = typeof payload === 'string' ? encoder.encode(payload) : payload;
  const signature = await signer.sign(pae(payloadType, bytes));
  return { payloadType, payload: bytes, signature };
}

export function verifyEnvelope(envelope: Envelope, key: PublicKey, verify: Verify): Promise<boolean> {
  return verify(key, pae(envelope.payloadType, envelope.payload), envelope.signature);
}

/** An envelope as part of a larger JSON document. */
export const EnvelopeJson = z.strictObject({
  payload: z.string(),
  payloadType: z.string().max(128),
  signatures: z.tuple([z.strictObject({ keyid: z.literal(''), sig: z.string().length(88) })]),
});
export type EnvelopeJson = z.infer<typeof EnvelopeJson>;

export function envelopeJson({ payloadType, payload, signature }: Envelope): EnvelopeJson {
  return { payload: toBase64(payload), payloadType, signatures: [{ keyid: '', sig: toBase64(signature) }] };
}

/** @throws {DsseError} as `parseEnvelope`. */
export function envelopeFromJson(json: EnvelopeJson, payloadType: string, payloadBytesMax: number): Envelope {
  const { payload, payloadType: type, signatures } = json;
  return parseEnvelope(
    `{"payload":"${payload}","payloadType":"${type}","signatures":[{"keyid":"","sig":"${signatures[0].sig}"}]}`,
    payloadType,
    payloadBytesMax,
  );
}
