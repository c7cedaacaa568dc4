/**
 * A sigstore of the demo's own, made with sigstore's mock of its services: certificate authority with CT log (Fulcio), transparency log (Rekor v1)
 * and timestamp authority. It lives for one start: what it signed lies in the registry, and whom to believe in a trusted_root.json.
 *
 * What the mock is and is not: it vouches for whatever a token claims, without looking at the token's own signature; all its certificates have one
 * serial number; each log entry is proven in a tree of its own, of one leaf; its log of version 2 writes bodies that Rekor would not, so
 * version 1 is what is used. Signatures, SCTs, promises, proofs and stamps are real and verified as any others.
 */
import { generateKeyPairSync, hash, X509Certificate } from 'node:crypto';
import { toBase64 } from '#src/bytes.ts';

/** Who somebody says that they are, as an identity provider would put it. */
export type Who = { readonly issuer: string; readonly subject: string };

/** An entry as Rekor v1 answers it. */
export type LogEntry = {
  /** Base64 of canonical JSON. */
  readonly body: string;
  readonly integratedTime: number;
  /** Hex. */
  readonly logID: string;
  readonly logIndex: number;
  readonly verification: {
    readonly signedEntryTimestamp: string;
    readonly inclusionProof: {
      readonly checkpoint: string;
      readonly hashes: readonly string[];
      readonly logIndex: number;
      /** Hex. */
      readonly rootHash: string;
      readonly treeSize: number;
    };
  };
};

export type Sigstore = {
  /** A certificate for ten minutes, in DER, and the authority's own. */
  certify(who: Who, publicPem: string): Promise<{ readonly leaf: Uint8Array; readonly root: Uint8Array }>;
  /** Logs an entry, given as Rekor keeps it. */
  log(entry: object): Promise<LogEntry>;
  /** An RFC 3161 response over `bytes`, in DER. */
  stamp(bytes: Uint8Array): Promise<Uint8Array>;
  /** For everybody who is to believe it. */
  readonly trustedRoot: string;
};

const LOG = 'https://rekor.demo.test';

/** Starts the services, with keys that end with them. */
export async function startSigstore(): Promise<Sigstore> {
  // Not the package's main module: it rewires this process's HTTP client, which nothing here needs. Loaded only where something is signed.
  const [fulcio, rekor, timestamp] = await Promise.all([
    import('@sigstore/mock/dist/fulcio/index.js'),
    import('@sigstore/mock/dist/rekor/index.js'),
    import('@sigstore/mock/dist/timestamp/index.js'),
  ]);
  const pair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const ctLog = await fulcio.initializeCTLog(pair());
  const authority = await fulcio.initializeCA(pair(), ctLog);
  const log = await rekor.initializeTLog(LOG, pair());
  const stamper = await timestamp.initializeTSA(pair());
  const services = {
    authority: fulcio.fulcioHandler(authority),
    log: rekor.rekorHandler(log),
    stamper: timestamp.tsaHandler(stamper),
  };

  return {
    async certify({ issuer, subject }, publicPem) {
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
      const answer = await ask(services.authority, {
        credentials: { oidcIdentityToken: `${part({ alg: 'none' })}.${part({ iss: issuer, sub: subject })}.` },
        publicKeyRequest: { publicKey: { algorithm: 'ECDSA', content: publicPem }, proofOfPossession: '' },
      });
      const { signedCertificateEmbeddedSct } = JSON.parse(answer.toString()) as {
        signedCertificateEmbeddedSct: { chain: { certificates: [string, string] } };
      };
      const [leaf, root] = signedCertificateEmbeddedSct.chain.certificates;
      return { leaf: derOf(leaf), root: derOf(root) };
    },
    async log(entry) {
      const answer = await ask(services.log, entry);
      return Object.values(JSON.parse(answer.toString()) as Record<string, LogEntry>)[0]!;
    },
    async stamp(bytes) {
      return ask(services.stamper, {
        artifactHash: hash('sha256', bytes, 'base64'),
        hashAlgorithm: 'sha256',
        certificates: true,
      });
    },
    trustedRoot: trustedRoot({
      authority: bytesOf(authority.rootCertificate),
      ctLog: bytesOf(ctLog.publicKey),
      log: bytesOf(log.publicKey),
      stamper: [bytesOf(stamper.intCertificate), bytesOf(stamper.rootCertificate)],
    }),
  };
}

type Handler = {
  readonly path: string;
  readonly fn: (request: string) => Promise<{ statusCode: number; response: string | ArrayBufferView }>;
};

/** What a client would post to the service, and its answer. */
async function ask({ path, fn }: Handler, request: object): Promise<Buffer> {
  const { statusCode, response } = await fn(JSON.stringify(request));
  const body = Buffer.from(typeof response === 'string' ? Buffer.from(response) : bytesOf(response));
  if (statusCode !== 201) throw new Error(`sigstore: ${path} answered ${statusCode}: ${body.toString()}`);
  return body;
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

const derOf = (pem: string): Uint8Array => new X509Certificate(pem).raw;

type Parts = {
  readonly authority: Uint8Array;
  readonly ctLog: Uint8Array;
  readonly log: Uint8Array;
  readonly stamper: readonly Uint8Array[];
};

/** A trusted_root.json (protobuf-specs, sigstore_trustroot.proto). */
function trustedRoot({ authority, ctLog, log, stamper }: Parts): string {
  // In whole seconds, as logs promise their times: a log that was valid from the middle of the second on could promise nothing in it.
  const validFor = { start: new Date(new X509Certificate(authority).validFrom).toISOString() };
  const rawBytes = (der: Uint8Array) => ({ rawBytes: toBase64(der) });
  const logOf = (baseUrl: string, key: Uint8Array) => ({
    baseUrl,
    hashAlgorithm: 'SHA2_256',
    publicKey: { ...rawBytes(key), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor },
    logId: { keyId: hash('sha256', key, 'base64') },
  });
  const authorityOf = (commonName: string, uri: string, chain: readonly Uint8Array[]) => ({
    subject: { organization: 'sigstore.mock', commonName },
    uri,
    certChain: { certificates: chain.map(rawBytes) },
    validFor,
  });
  return `${JSON.stringify(
    {
      mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
      tlogs: [logOf(LOG, log)],
      certificateAuthorities: [authorityOf('sigstore', 'https://fulcio.demo.test', [authority])],
      ctlogs: [logOf('https://ctfe.demo.test', ctLog)],
      timestampAuthorities: [authorityOf('tsa', 'https://tsa.demo.test', stamper)],
    },
    undefined,
    2,
  )}\n`;
}
