/**
 * The server's own certificate (docs/operating.md 3): read from two files, and again whenever they change, without a connection being
 * dropped. A new pair that does not fit is refused, loudly, and the one before goes on.
 */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { printableText, UsageError } from '#src/terminal.ts';
import type { Log } from './deps.ts';

export type CertificateFiles = { readonly cert: string; readonly key: string };
/** A certificate with those that vouch for it, and its key, as TLS takes them. */
export type Pair = {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** For whom it is, as it says itself. */
  readonly names: string;
  /** When it is over, ms. */
  readonly until: number;
};

/** How often the files are looked at: two calls of stat. */
const LOOK_MS = 2_000;
const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Reads a pair and holds it against itself and the clock. @throws {UsageError} saying which file, and what to do */
export async function readPair(files: CertificateFiles, now: number): Promise<Pair> {
  const cert = await bytesOf('--tls-cert', files.cert);
  const key = await bytesOf('--tls-key', files.key);
  const name = `--tls-cert ${printableText(files.cert)}`;
  const chain = (cert.toString('latin1').match(PEM) ?? []).map((pem, at) =>
    parsed(pem, `${name}: certificate ${at + 1}`),
  );
  const [own] = chain;
  if (own === undefined) throw new UsageError(`${name} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)`);
  if (!own.checkPrivateKey(keyIn(key, files.key)))
    throw new UsageError(
      `--tls-key ${printableText(files.key)} is not the key of the first certificate in ${printableText(files.cert)}: the server’s own stands first, those that vouch for it behind it`,
    );
  const [from, until] = [Date.parse(own.validFrom), Date.parse(own.validTo)];
  if (until <= now)
    throw new UsageError(`${name} was over at ${new Date(until).toISOString()}: put a new one in its place`);
  if (from > now)
    throw new UsageError(`${name} is good from ${new Date(from).toISOString()} only: is this machine’s clock right?`);
  try {
    createSecureContext({ cert, key });
  } catch (cause) {
    throw new UsageError(`${name}: OpenSSL does not take it: ${(cause as Error).message}`);
  }
  return { cert, key, names: own.subjectAltName ?? own.subject, until };
}

function parsed(pem: string, name: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw new UsageError(`${name} cannot be read: is the file whole?`);
  }
}

function keyIn(pem: Buffer, file: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    const why = pem.includes('ENCRYPTED')
      ? 'is encrypted; nobody is here to type its password'
      : 'holds no private key in PEM';
    throw new UsageError(`--tls-key ${printableText(file)} ${why}`);
  }
}

async function bytesOf(option: string, file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new UsageError(`${option} ${printableText(file)} cannot be read: ${(cause as NodeJS.ErrnoException).code}`);
  }
}

export type CertificateDeps = {
  readonly log: Log;
  /** The real time: certificates are held against it whatever clock the server was given. */
  readonly now: () => number;
};

/** The pair that is in use, and how the files are followed. */
export class OwnCertificate {
  readonly #files: CertificateFiles;
  readonly #deps: CertificateDeps;
  #pair: Pair;
  #seen: string;
  /** Why what lies in the files now is not used; undefined while it is. */
  #refusal: string | undefined;
  #isTold = false;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();

  private constructor(files: CertificateFiles, deps: CertificateDeps, pair: Pair, seen: string) {
    this.#files = files;
    this.#deps = deps;
    this.#pair = pair;
    this.#seen = seen;
  }

  /** @throws {UsageError} for a pair that does not fit: nothing is served without one. */
  static async open(files: CertificateFiles, deps: CertificateDeps): Promise<OwnCertificate> {
    const seen = await marksOf(files);
    return new OwnCertificate(files, deps, await readPair(files, deps.now()), seen);
  }

  get pair(): Pair {
    return this.#pair;
  }

  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** Gives each new pair to `use`. */
  follow(use: (pair: Pair) => void): void {
    this.#timer = setInterval(() => void this.look(use), LOOK_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Looks at once. `told`: somebody waits for what is said of it. */
  look(use: (pair: Pair) => void, told = false): Promise<void> {
    this.#looking = this.#looking.then(() => this.#look(use, told));
    return this.#looking;
  }

  async #look(use: (pair: Pair) => void, told: boolean): Promise<void> {
    const seen = await marksOf(this.#files);
    if (seen === this.#seen && this.#refusal === undefined) return;
    const isNew = seen !== this.#seen;
    this.#seen = seen;
    if (isNew) this.#isTold = false;
    try {
      const pair = await readPair(this.#files, this.#deps.now());
      use(pair);
      this.#pair = pair;
      this.#refusal = undefined;
      this.#deps.log('info', 'certificate renewed', { names: pair.names, until: new Date(pair.until).toISOString() });
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      this.#refusal = error.message;
      // Two files are not replaced in one step: what is still so the next time is told, once.
      if (this.#isTold || (isNew && !told)) return;
      this.#isTold = true;
      const goesOn = new Date(this.#pair.until).toISOString();
      this.#deps.log('error', 'certificate refused', { why: error.message, goesOn: `the one before, until ${goesOn}` });
    }
  }
}

/** Whether files are those of before: links are followed, as orchestrators replace what a link leads to. */
async function marksOf({ cert, key }: CertificateFiles): Promise<string> {
  const marks = await Promise.all(
    [cert, key].map(async (file) => {
      try {
        const { ino, size, mtimeMs, ctimeMs } = await stat(file);
        return [ino, size, mtimeMs, ctimeMs].join(':');
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? '';
      }
    }),
  );
  return marks.join(' ');
}
