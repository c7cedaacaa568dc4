/** A small sigstore of our own for tests: authority, log and timestamp authority that sign what they are told, also what none would. */
import { createHash, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { toBase64 } from '#src/bytes.ts';
import { digestOf, type Digest } from '#src/digest.ts';
import { readAttestationLayer, readSignatureLayer } from '#src/trust/cosign.ts';
import { orFailed, type SignedEntity } from '#src/trust/material.ts';
import { readTrustRoot, type TrustRoot } from '#src/trust/trustroot.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { pae } from '#src/signing/dsse.ts';

type Bytes = Uint8Array;
const text = (value: string): Bytes => new TextEncoder().encode(value);
const sha256 = (...parts: Bytes[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** DER (X.690). */
export function tlv(tag: number, ...content: readonly Bytes[]): Bytes {
  const body = Buffer.concat(content);
  const { length } = body;
  const head = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.of(tag, ...head), body]);
}
const seq = (...content: Bytes[]) => tlv(0x30, ...content);
const set = (...content: Bytes[]) => tlv(0x31, ...content);
const int = (value: number) => tlv(0x02, Buffer.of(value));
const octets = (content: Bytes) => tlv(0x04, content);
const bool = tlv(0x01, Buffer.of(0xff));
const inner = (number: number, ...content: Bytes[]) => tlv(0xa0 + number, ...content);
export function oid(dotted: string): Bytes {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const digits = [part & 127];
    for (let left = Math.floor(part / 128); left > 0; left = Math.floor(left / 128)) digits.unshift((left & 127) | 128);
    bytes.push(...digits);
  }
  return tlv(0x06, Buffer.from(bytes));
}
const stamp = (at: number) => new Date(at).toISOString().replace(/[-:T]/g, '').slice(0, 14);
const time = (at: number) => tlv(0x18, text(`${stamp(at)}Z`));
const name = (common: string) => seq(set(seq(oid('2.5.4.3'), tlv(0x0c, text(common)))));

const ECDSA_SHA256 = seq(oid('1.2.840.10045.4.3.2'));
const SHA256 = seq(oid('2.16.840.1.101.3.4.2.1'));

export type Pair = { readonly publicKey: KeyObject; readonly privateKey: KeyObject };
export const newKey = (): Pair => generateKeyPairSync('ec', { namedCurve: 'P-256' });
export const spki = ({ publicKey }: Pair): Bytes => publicKey.export({ format: 'der', type: 'spki' });
export const pemOf = ({ publicKey }: Pair): string => publicKey.export({ format: 'pem', type: 'spki' });

const extension = (id: string, value: Bytes, critical = false) =>
  seq(oid(id), ...(critical ? [bool] : []), octets(value));
export const EXT = {
  ca: extension('2.5.29.19', seq(bool), true),
  usage: (...usages: string[]) => extension('2.5.29.37', seq(...usages.map(oid)), true),
  uri: (uri: string | Bytes) => extension('2.5.29.17', seq(tlv(0x86, typeof uri === 'string' ? text(uri) : uri)), true),
  otherName: (value: string) =>
    extension('2.5.29.17', seq(inner(0, oid('1.3.6.1.4.1.57264.1.7'), inner(0, tlv(0x0c, text(value))))), true),
  issuer1: (issuer: string) => extension('1.3.6.1.4.1.57264.1.1', text(issuer)),
  issuer2: (issuer: string) => extension('1.3.6.1.4.1.57264.1.8', tlv(0x0c, text(issuer))),
};
export const CODE = '1.3.6.1.5.5.7.3.3';
export const STAMPS = '1.3.6.1.5.5.7.3.8';

export type CertificateOptions = {
  readonly subject: string;
  readonly issuer: string;
  readonly key: Pair;
  readonly by: Pair;
  readonly from: number;
  readonly to: number;
  readonly serial?: number;
  readonly extensions: readonly Bytes[];
};
export function certificate(of: CertificateOptions): Bytes {
  const tbs = seq(
    inner(0, int(2)),
    int(of.serial ?? 7),
    ECDSA_SHA256,
    name(of.issuer),
    seq(time(of.from), time(of.to)),
    name(of.subject),
    spki(of.key),
    inner(3, seq(...of.extensions)),
  );
  return seq(tbs, ECDSA_SHA256, tlv(0x03, Buffer.of(0), sign('sha256', tbs, of.by.privateKey)));
}
export const certificatePem = (der: Bytes): string =>
  `-----BEGIN CERTIFICATE-----\n${toBase64(der).replace(/(.{64})/g, '$1\n')}\n-----END CERTIFICATE-----\n`;

/** When everything is signed. */
export const AT = Date.parse('2026-06-01T12:00:00Z');
const DAY = 86_400_000;
const YEAR = 365 * DAY;
export const ISSUER = 'https://issuer.test';
export const SUBJECT = 'https://github.test/acme/os/build.yml@refs/heads/main';

const ca = newKey();
const middle = newKey();
const log = newKey();
const tsa = newKey();
const logId = sha256(spki(log));

const validFor = { start: new Date(AT - YEAR).toISOString() };
const rawBytes = (der: Bytes) => ({ rawBytes: toBase64(der) });

export type RootOptions = {
  /** Of the intermediate, days before and after AT. */
  readonly middle?: readonly [number, number];
  readonly tsaExtensions?: readonly Bytes[];
  readonly tsaValidFor?: { readonly start: string; readonly end?: string };
  readonly middleUsages?: readonly string[];
};
export function root(options: RootOptions = {}): TrustRoot {
  const span = { from: AT - YEAR, to: AT + YEAR };
  const top = certificate({ subject: 'root', issuer: 'root', key: ca, by: ca, ...span, extensions: [EXT.ca] });
  const [before, after] = options.middle ?? [300, 300];
  const issuing = certificate({
    subject: 'issuing',
    issuer: 'root',
    key: middle,
    by: ca,
    from: AT - before * DAY,
    to: AT + after * DAY,
    extensions: [EXT.ca, EXT.usage(...(options.middleUsages ?? [CODE]))],
  });
  const stamping = certificate({
    subject: 'tsa',
    issuer: 'root',
    key: tsa,
    by: ca,
    ...span,
    serial: 9,
    extensions: options.tsaExtensions ?? [EXT.usage(STAMPS)],
  });
  const publicKey = { ...rawBytes(spki(log)), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor };
  return readTrustRoot(
    'test',
    text(
      JSON.stringify({
        mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
        tlogs: [
          { baseUrl: 'https://log.test', hashAlgorithm: 'SHA2_256', publicKey, logId: { keyId: toBase64(logId) } },
        ],
        certificateAuthorities: [
          { uri: 'https://ca.test', certChain: { certificates: [issuing, top].map(rawBytes) }, validFor },
        ],
        ctlogs: [],
        timestampAuthorities: [
          {
            uri: 'https://tsa.test',
            certChain: { certificates: [stamping, top].map(rawBytes) },
            validFor: options.tsaValidFor ?? validFor,
          },
        ],
      }),
    ),
  );
}

export type LeafOptions = {
  readonly extensions?: readonly Bytes[];
  readonly by?: Pair;
  readonly issuer?: string;
  readonly from?: number;
};
export function leaf(
  key: Pair,
  { extensions, by = middle, issuer = 'issuing', from = AT - 60_000 }: LeafOptions = {},
): Bytes {
  return certificate({
    subject: '',
    issuer,
    key,
    by,
    from,
    to: from + 600_000,
    extensions: extensions ?? [EXT.usage(CODE), EXT.uri(SUBJECT), EXT.issuer2(ISSUER)],
  });
}

/** A signed entry timestamp, in cosign's annotation. */
export function logged(body: object, at = AT, logIndex = 42): string {
  const encoded = toBase64(text(canonicalJson(body)));
  const payload = { body: encoded, integratedTime: at / 1000, logID: logId.toString('hex'), logIndex };
  const promise = sign('sha256', text(canonicalJson(payload)), log.privateKey);
  return JSON.stringify({ SignedEntryTimestamp: toBase64(promise), Payload: payload });
}
export const hashedRekord = (blob: Bytes, signature: Bytes, pem: string): object => ({
  apiVersion: '0.0.1',
  kind: 'hashedrekord',
  spec: {
    data: { hash: { algorithm: 'sha256', value: sha256(blob).toString('hex') } },
    signature: { content: toBase64(signature), publicKey: { content: toBase64(text(pem)) } },
  },
});

export type TokenOptions = {
  readonly at?: string;
  readonly key?: Pair;
  readonly serial?: number;
  readonly certificates?: readonly Bytes[];
  readonly status?: number;
  /** Told as the signature's; it is made with ECDSA and SHA-256. */
  readonly algorithm?: string;
};
/** An RFC 3161 response over `stamped`. */
export function token(stamped: Bytes, options: TokenOptions = {}): Bytes {
  const { at = `${stamp(AT)}Z`, key = tsa, serial = 9, certificates = [], status = 0, algorithm } = options;
  const info = seq(
    int(1),
    oid('1.3.6.1.4.1.57264.2'),
    seq(SHA256, octets(sha256(stamped))),
    int(1),
    tlv(0x18, text(at)),
  );
  const attributes = [
    seq(oid('1.2.840.113549.1.9.3'), set(oid('1.2.840.113549.1.9.16.1.4'))),
    seq(oid('1.2.840.113549.1.9.4'), set(octets(sha256(info)))),
  ];
  const signer = seq(
    int(1),
    seq(name('root'), int(serial)),
    SHA256,
    inner(0, ...attributes),
    algorithm === undefined ? ECDSA_SHA256 : seq(oid(algorithm)),
    octets(sign('sha256', set(...attributes), key.privateKey)),
  );
  const bag = certificates.length === 0 ? [] : [inner(0, ...certificates)];
  const content = seq(oid('1.2.840.113549.1.9.16.1.4'), inner(0, octets(info)));
  const signedData = seq(int(3), set(SHA256), content, ...bag, set(signer));
  return seq(seq(int(status)), seq(oid('1.2.840.113549.1.7.2'), inner(0, signedData)));
}
export const stamped = (der: Bytes): string => JSON.stringify({ SignedRFC3161Timestamp: toBase64(der) });

export const IMAGE = digestOf('an image');
export const simple = (digest: string = IMAGE): string =>
  `{"critical":{"identity":{"docker-reference":"quay.test/acme/os"},"image":{"docker-manifest-digest":"${digest}"},"type":"cosign container image signature"},"optional":null}`;

const place = { source: 'test', by: 'tag', tag: undefined, of: IMAGE, manifest: undefined, layer: 0 } as const;

/** A `.sig` layer; `more` may depend on the signature. */
export function signatureLayer(
  key: Pair,
  blob: Bytes | string,
  more: (signature: Bytes) => Record<string, string> = () => ({}),
): SignedEntity {
  const bytes = typeof blob === 'string' ? text(blob) : blob;
  const signature = sign('sha256', bytes, key.privateKey);
  const annotations = new Map(
    Object.entries({ 'dev.cosignproject.cosign/signature': toBase64(signature), ...more(signature) }),
  );
  return {
    format: 'cosign-signature',
    place,
    raw: { manifest: undefined, blob: bytes },
    content: orFailed('the layer', () => readSignatureLayer(bytes, annotations)),
  };
}

/** An `.att` layer around a payload of any kind. */
export function attestationLayer(
  key: Pair,
  payload: string,
  payloadType = 'application/vnd.in-toto+json',
  more: (signature: Bytes, envelope: Bytes) => Record<string, string> = () => ({}),
): SignedEntity {
  const signature = sign('sha256', pae(payloadType, text(payload)), key.privateKey);
  const blob = text(
    JSON.stringify({
      payloadType,
      payload: toBase64(text(payload)),
      signatures: [{ keyid: '', sig: toBase64(signature) }],
    }),
  );
  const annotations = new Map(Object.entries({ 'dev.cosignproject.cosign/signature': '', ...more(signature, blob) }));
  return {
    format: 'cosign-attestation',
    place,
    raw: { manifest: undefined, blob },
    content: orFailed('the layer', () => readAttestationLayer(blob, annotations)),
  };
}
export const statement = (predicateType: string, subject: unknown, type = 'https://in-toto.io/Statement/v1'): string =>
  JSON.stringify({ _type: type, subject, predicateType, predicate: {} });
export const subjectOf = (digest: Digest = IMAGE): unknown => [{ digest: { sha256: digest.slice(7) } }];
