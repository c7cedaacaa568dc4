/** A timestamp authority for tests: certificates and answers (RFC 3161) made byte by byte, so that each part can be bent. What OpenSSL makes lies in test/vectors/timestamps. */
import { createHash, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { context, partsOf, readDer, sequenceOf, TAG, writeDer, writeInteger, writeOid } from '#src/signing/der.ts';
import { readCertificate, type Certificate } from '#src/signing/x509.ts';

const encoder = new TextEncoder();
const seq = (...parts: Uint8Array[]) => writeDer(TAG.sequence, ...parts);
const set = (...parts: Uint8Array[]) => writeDer(TAG.set, ...parts);
const octets = (bytes: Uint8Array) => writeDer(TAG.octetString, bytes);
const TRUE = writeDer(TAG.boolean, Uint8Array.of(0xff));
const SHA256 = '2.16.840.1.101.3.4.2.1';
const ECDSA = seq(writeOid('1.2.840.10045.4.3.2'));
const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();
const timeText = (at: number) => new Date(at).toISOString().replace(/[-:T]|\.\d+/g, '');
const time = (at: number) => writeDer(TAG.generalizedTime, encoder.encode(timeText(at)));
const name = (text: string) => seq(set(seq(writeOid('2.5.4.3'), writeDer(TAG.utf8, encoder.encode(text)))));

export type Issued = {
  readonly der: Uint8Array;
  readonly read: Certificate;
  readonly key: KeyObject;
  readonly name: string;
};

type Wanted = {
  readonly name: string;
  /** Null: by itself. */
  readonly issuer: Issued | null;
  readonly from?: number;
  readonly to?: number;
  /** May certify, with this many certificates between it and the last; null without a bound, undefined not at all. */
  readonly path?: number | null;
  readonly usage?: { readonly critical: boolean; readonly oids: readonly string[] };
  /** Another extension, critical. */
  readonly strange?: string;
};

const extension = (oid: string, critical: boolean, value: Uint8Array) =>
  seq(writeOid(oid), ...(critical ? [TRUE] : []), octets(value));

let issued = 0;

export function issue({ name: own, issuer, from, to, path, usage, strange }: Wanted): Issued {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const extensions = [
    ...(path === undefined
      ? []
      : [extension('2.5.29.19', true, seq(TRUE, ...(path === null ? [] : [writeInteger(Uint8Array.of(path))])))]),
    ...(usage === undefined ? [] : [extension('2.5.29.37', usage.critical, seq(...usage.oids.map(writeOid)))]),
    ...(strange === undefined ? [] : [extension(strange, true, octets(Uint8Array.of(1)))]),
  ];
  const tbs = seq(
    writeDer(context(0), writeInteger(Uint8Array.of(2))),
    writeInteger(Uint8Array.of(0x41, ++issued)),
    ECDSA,
    name(issuer?.name ?? own),
    seq(time(from ?? Date.UTC(2020)), time(to ?? Date.UTC(2040))),
    name(own),
    new Uint8Array(publicKey.export({ format: 'der', type: 'spki' })),
    ...(extensions.length === 0 ? [] : [writeDer(context(3), seq(...extensions))]),
  );
  const signature = sign('sha256', tbs, issuer?.key ?? privateKey);
  const der = seq(tbs, ECDSA, writeDer(TAG.bitString, Uint8Array.of(0), signature));
  return { der, read: readCertificate(der), key: privateKey, name: own };
}

export const STAMPING = { critical: true, oids: ['1.3.6.1.5.5.7.3.8'] } as const;

export const pemOf = ({ der }: Issued): string =>
  `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString('base64')}\n-----END CERTIFICATE-----\n`;

/** What an answer says; each may be something else than it should. */
export type Bent = {
  readonly time: number;
  readonly nonce?: Uint8Array;
  readonly status?: number;
  /** Certificates that lie in it. */
  readonly sent?: readonly Issued[];
  /** The certificate that its attributes name. */
  readonly bound?: Issued;
  /** What is hashed instead of the timestamp. */
  readonly digestOf?: Uint8Array;
  readonly contentType?: string;
  readonly tstType?: string;
  readonly signers?: number;
};

/** An answer over the hash, signed by `tsa`. */
export function stampOf(hash: Uint8Array, tsa: Issued, bent: Bent): Uint8Array {
  const { time: at, nonce, status = 0, sent = [tsa], bound = tsa, tstType = '1.2.840.113549.1.9.16.1.4' } = bent;
  if (status > 1) return seq(seq(writeInteger(Uint8Array.of(status))));
  const algorithm = seq(writeOid(SHA256), writeDer(TAG.null));
  const info = seq(
    writeInteger(Uint8Array.of(1)),
    writeOid('1.2.3.4'),
    seq(algorithm, octets(hash)),
    writeInteger(Uint8Array.of(7)),
    time(at),
    ...(nonce === undefined ? [] : [writeInteger(nonce)]),
  );
  const attribute = (oid: string, value: Uint8Array) => seq(writeOid(oid), set(value));
  const attributes = [
    attribute('1.2.840.113549.1.9.3', writeOid(bent.contentType ?? '1.2.840.113549.1.9.16.1.4')),
    attribute('1.2.840.113549.1.9.4', octets(sha256(bent.digestOf ?? info))),
    attribute('1.2.840.113549.1.9.16.2.47', seq(seq(seq(octets(sha256(bound.der)))))),
  ];
  const parts = partsOf(readDer(tsa.der));
  const [, serial, , issuer] = sequenceOf(parts[0], 'tbs');
  const signer = seq(
    writeInteger(Uint8Array.of(1)),
    seq(issuer!.whole, serial!.whole),
    algorithm,
    writeDer(context(0), ...attributes),
    ECDSA,
    octets(sign('sha256', set(...attributes), tsa.key)),
  );
  const data = seq(
    writeInteger(Uint8Array.of(3)),
    set(algorithm),
    seq(writeOid(tstType), writeDer(context(0), octets(info))),
    writeDer(context(0), ...sent.map(({ der }) => der)),
    set(...Array.from({ length: bent.signers ?? 1 }, () => signer)),
  );
  return seq(
    seq(writeInteger(Uint8Array.of(status))),
    seq(writeOid('1.2.840.113549.1.7.2'), writeDer(context(0), data)),
  );
}

/** Answers a query (RFC 3161 2.4.1). */
export function answerTo(query: Uint8Array, tsa: Issued, bent: Bent): Uint8Array {
  const [, imprint, nonce] = sequenceOf(readDer(query), 'the query');
  const hash = sequenceOf(imprint, 'the imprint')[1]!.value;
  return stampOf(hash, tsa, { nonce: nonce!.value, ...bent });
}

const root = issue({ name: 'Root', issuer: null, path: null });
export const AUTHORITY = { root, tsa: issue({ name: 'TSA', issuer: root, usage: STAMPING }) };
