/** The vectors of docs/report.md, and reports made from them by change of a few members. */
import { readFileSync } from 'node:fs';
import { toHex } from '#src/bytes.ts';
import type { Digest } from '#src/digest.ts';
import type { FullReport, SameReport } from '#src/report/report.ts';
import type { ManifestHeader, TreeTexts } from '#src/manifest/header.ts';
import type { EnvelopeJson } from '#src/signing/dsse.ts';
import type { PublicKey } from '#src/signing/ed25519.ts';
import { nodeSigner } from '#src/signing/node.ts';
import { hmacSha256, type TicketKeys } from '#src/wire/ticket.ts';
import type { Enrolment, EnrolRequest } from '#src/wire/enrol.ts';

function read(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`../../vectors/report/${name}`, import.meta.url), 'utf8'));
}

type Key = { seed: string; pkcs8: string; publicKey: PublicKey; spki: string; fingerprint: string };
export const keys = read('keys.json') as Record<'host' | 'server' | 'token', Key>;
export const canonical = read('canonical.json') as { name: string; input: string; canonical: string }[];
export const full = read('full.json') as { document: FullReport; envelope: string; digest: Digest; state: Digest };
export const same = read('same.json') as { document: SameReport; envelope: string; digest: Digest };
export const manifest = read('manifest.json') as { header: ManifestHeader; trees: Record<'usr' | 'etc', TreeTexts> };
export const tickets = read('tickets.json') as {
  keyHex: string;
  otherKeyHex: string;
  tickets: { kind: 'challenge' | 'nonce' | 'bearer'; subject: string; time: number; text: string }[];
  byOtherKey: string;
};
export const enrol = read('enrol.json') as {
  token: string;
  tokenId: string;
  now: number;
  request: EnrolRequest;
  body: { request: EnvelopeJson; tokenSignature: string };
  enrolment: Enrolment;
  answer: { enrolment: EnvelopeJson };
};

export const hostSigner = nodeSigner(keys.host.pkcs8);
export const serverSigner = nodeSigner(keys.server.pkcs8);
export const tokenSigner = nodeSigner(keys.token.pkcs8);
export const ticketKeys: TicketKeys = { keys: [Uint8Array.fromHex(tickets.keyHex)], hmac: hmacSha256 };
export const otherTicketKeys: TicketKeys = { keys: [Uint8Array.fromHex(tickets.otherKeyHex)], hmac: hmacSha256 };

/** When the challenge of the vectors was issued. */
export const T0 = enrol.now;
export const MINUTE = 60_000;
export const INTERVAL = 15 * MINUTE;

/** Some digest, told from others by a number. */
export function someDigest(n: number): Digest {
  return `sha256:${toHex(new Uint8Array(32).fill(n))}` as Digest;
}
