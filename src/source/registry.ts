/**
 * A registry (OCI distribution-spec 1.1, pull) over a fetch that is handed in. Credentials go to the registry itself and to the
 * token server that it names, never along a redirect; what it says of digests and sizes is not believed (PROTOCOL 2.6).
 */
import type { Digest } from '#src/digest.ts';
import { MANIFEST_TYPES, OCI_INDEX } from '#src/image/ocimanifest.ts';
import type { RegistryReference } from '#src/image/reference.ts';
import { MANIFEST_BYTES_MAX, REDIRECTS_MAX, REFERRER_PAGES_MAX, REFERRERS_MAX } from '#src/limits.ts';
import { addressClass, reaches, type Reach } from './address.ts';
import type { FoundCredentials } from './credentials.ts';
import { answerFault, followed, type Answer, type Fetch, type Request } from './http.ts';
import { basicAuthorization, chooseChallenge, tokenRequest, tokenFrom } from './registryauth.ts';
import { nextPage, parseReferrers } from './referrers.ts';
import {
  SourceError,
  type Descriptor,
  type FoundManifest,
  type ListedReferrer,
  type Referrers,
  type SignatureSource,
} from './source.ts';
import { readBounded, tooLong } from './verified.ts';

export type RegistryOptions = {
  readonly fetch: Fetch;
  /** For this repository; asked for only when the registry wants to know who we are. */
  readonly credentials?: () => Promise<FoundCredentials>;
  /** Plain http for a registry that is not on loopback. */
  readonly insecureHttp?: boolean;
  /** Where the registry itself may lie: `any` where a person named it, else by default as its own spelling says. */
  readonly reach?: Reach;
  /** Where redirects and the token server may lie; by default loopback only for a registry on loopback. */
  readonly redirectReach?: Reach;
  readonly signal?: AbortSignal | undefined;
};

/** The source that a `docker://` reference names. No connection is made before the first question. */
export function registrySource(
  { registry, repository }: Pick<RegistryReference, 'registry' | 'repository'>,
  options: RegistryOptions,
): SignatureSource {
  const name = `docker://${registry}/${repository}`;
  const client = new Client(name, registry, repository, options);
  return {
    name,
    kind: 'registry',
    async manifest(tagOrDigest = 'latest'): Promise<FoundManifest> {
      const what = `${name}: manifest ${tagOrDigest}`;
      const answer = await client.get(`manifests/${tagOrDigest}`, { accept: MANIFEST_TYPES.join(', ') }, what);
      if (Number(answer.header('content-length') ?? 0) > MANIFEST_BYTES_MAX) {
        answer.cancel();
        throw new SourceError('SOURCE_ANSWER', `${what} is longer than ${MANIFEST_BYTES_MAX} bytes`);
      }
      const bytes = await client.reading(what, () => readBounded(answer.body, MANIFEST_BYTES_MAX, what));
      const mediaType = answer.header('content-type')?.split(';')[0]?.trim().toLowerCase();
      // Docker-Content-Digest is only what the registry says: a manifest under a digest is checked by who asked, one under a tag is hashed.
      return { bytes, mediaType, claimed: undefined };
    },
    blob: (descriptor) => client.blob(descriptor, `${name}: blob ${descriptor.digest}`),
    referrers: (digest) => readReferrers(client, digest, `${name}: referrers of ${digest}`),
  };
}

/** What registries without the API answer: 404 by the specification, the others by habit. */
const NO_REFERRERS = [400, 404, 405, 406, 501];

/** No artifactType is asked for: what registries tell of it is often not the manifest's own. */
async function readReferrers(client: Client, digest: Digest, what: string): Promise<Referrers> {
  const listed = new Map<Digest, ListedReferrer>();
  const seen = new Set<string>();
  let complete = true;
  for (let query: string | undefined = ''; query !== undefined;) {
    // A registry that sends back to a page it had, or on and on, is left.
    if (seen.has(query) || seen.size === REFERRER_PAGES_MAX || listed.size > REFERRERS_MAX) {
      complete = false;
      break;
    }
    const answer = await client.get(`referrers/${digest}${query}`, { accept: OCI_INDEX }, what, NO_REFERRERS);
    const type = answer.header('content-type')?.split(';')[0]?.trim().toLowerCase();
    if (answer.status !== 200 || type !== OCI_INDEX) {
      answer.cancel();
      // Only the first page tells what is supported; a later one that fails is a list cut off.
      if (seen.size === 0) return { supported: false, listed: [], attached: [], complete: true };
      complete = false;
      break;
    }
    seen.add(query);
    const bytes = await client.reading(what, () => readBounded(answer.body, MANIFEST_BYTES_MAX, what));
    const page = parseReferrers(bytes, what);
    for (const entry of page.listed) listed.set(entry.digest, entry);
    complete &&= page.complete;
    query = nextPage(answer.header('link'));
  }
  return { supported: true, listed: [...listed.values()], attached: [], complete };
}

class Client {
  readonly #name: string;
  readonly #registry: string;
  readonly #repository: string;
  readonly #options: RegistryOptions;
  readonly #reach: Reach;
  readonly #redirectReach: Reach;
  #origin: Promise<string> | undefined;
  #authorization: string | undefined;
  /** Where credentials were looked for in vain. */
  #hint: string | undefined;

  constructor(name: string, registry: string, repository: string, options: RegistryOptions) {
    this.#name = name;
    // Docker Hub's API lives under another name than its images.
    this.#registry = registry === 'docker.io' ? 'registry-1.docker.io' : registry;
    this.#repository = repository;
    this.#options = options;
    const own = addressClass(new URL(`https://${this.#registry}`).hostname);
    const byName: Reach = own === 'loopback' ? 'loopback' : 'public';
    this.#reach = options.reach ?? byName;
    this.#redirectReach = options.redirectReach ?? byName;
    if (!reaches(this.#reach, own))
      throw new SourceError(
        'SOURCE_ADDRESS',
        `${name} lies at a ${own} address, which must be allowed in the configuration first`,
      );
  }

  /** A 200 or 206 answer of the registry, or of where it redirected to; or one of `also`, where they are answers too. */
  async get(
    path: string,
    headers: Readonly<Record<string, string>>,
    what: string,
    also: readonly number[] = [],
  ): Promise<Answer> {
    const origin = await (this.#origin ??= this.#chooseOrigin());
    const url = `${origin}/v2/${this.#repository}/${path}`;
    let used = this.#authorization;
    let answer = await this.#ask(url, headers, used, what);
    if (answer.status === 401) {
      answer.cancel();
      // Another layer's request may have got a newer token meanwhile.
      used = this.#authorization === used ? await this.#authenticate(answer, what) : this.#authorization;
      this.#authorization = used;
      answer = await this.#ask(url, headers, used, what);
    }
    for (let hops = 0, from = url; answer.status >= 300 && answer.status < 400; hops++) {
      answer.cancel();
      if (hops === REDIRECTS_MAX)
        throw new SourceError('SOURCE_REDIRECT', `${what}: more than ${REDIRECTS_MAX} redirects`);
      const plain = this.#options.insecureHttp === true;
      from = followed(from, answer, { reach: this.#redirectReach, plain, what });
      answer = await this.#send({ url: from, headers, reach: this.#redirectReach }, what);
      if (answer.status === 401) {
        answer.cancel();
        throw new SourceError(
          'SOURCE_UNAUTHORIZED',
          `${what}: redirected to ${new URL(from).host}, which wants credentials; none are sent along a redirect`,
        );
      }
    }
    if (answer.status === 200 || answer.status === 206 || also.includes(answer.status)) return answer;
    throw await answerFault(answer, what, this.#hint);
  }

  #ask(url: string, headers: Readonly<Record<string, string>>, authorization: string | undefined, what: string) {
    return this.#send(
      { url, headers: { ...headers, ...(authorization === undefined ? {} : { authorization }) }, reach: this.#reach },
      what,
    );
  }

  /** One question, asked again once where the network failed: connections that were kept open die unseen. */
  async #send(request: Request, what: string): Promise<Answer> {
    const { signal } = this.#options;
    const full = { ...request, ...(signal === undefined ? {} : { signal }) };
    try {
      return await this.#options.fetch(full);
    } catch (error) {
      if (error instanceof SourceError || signal?.aborted) throw this.fault(error, what);
      return await this.reading(what, () => this.#options.fetch(full));
    }
  }

  /** Runs what may meet a network error, and says whose it was. */
  async reading<T>(what: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      throw this.fault(error, what);
    }
  }

  fault(error: unknown, what: string): SourceError {
    if (error instanceof SourceError) return error;
    if (this.#options.signal?.aborted) return new SourceError('SOURCE_ABORTED', `${what}: given up`, { cause: error });
    return new SourceError('SOURCE_NETWORK', `${what}: ${networkCode(error)}`, { cause: error });
  }

  /**
   * `https://host`, or `http://host` where that is allowed and the port does not speak TLS. On loopback both are usual, so TLS is
   * tried first; a certificate that is not trusted is an error there too.
   */
  async #chooseOrigin(): Promise<string> {
    const https = `https://${this.#registry}`;
    const loopback = addressClass(new URL(https).hostname) === 'loopback';
    if (!loopback && this.#options.insecureHttp !== true) return https;
    const { signal } = this.#options;
    try {
      const probe = { url: `${https}/v2/`, headers: {}, reach: this.#reach };
      (await this.#options.fetch({ ...probe, ...(signal === undefined ? {} : { signal }) })).cancel();
      return https;
    } catch (error) {
      if (/^(?:EPROTO|ECONNRESET|UND_ERR_SOCKET|ERR_SSL_)/.test(networkCode(error))) return `http://${this.#registry}`;
      this.#origin = undefined; // a registry that was not up yet may be asked again
      throw this.fault(error, this.#name);
    }
  }

  async #authenticate(answer: Answer, what: string): Promise<string> {
    const { credentials, hint } = (await this.#options.credentials?.()) ?? { credentials: undefined, hint: undefined };
    this.#hint = credentials === undefined ? hint : undefined;
    const challenge = chooseChallenge(answer.header('www-authenticate') ?? '', what);
    if (challenge.scheme === 'basic') return basicAuthorization(credentials, what, this.#hint);
    const plain = this.#options.insecureHttp === true;
    const request = tokenRequest(challenge, this.#repository, credentials, {
      reach: this.#redirectReach,
      plain,
      what,
    });
    const token = await this.#send(request, `${what}: token server`);
    return `Bearer ${await this.reading(what, () => tokenFrom(token, `${what}: token server`, this.#hint))}`;
  }

  async #openBlob({ digest, size }: Pick<Descriptor, 'digest' | 'size'>, from: number, what: string): Promise<Answer> {
    const answer = await this.get(`blobs/${digest}`, from === 0 ? {} : { range: `bytes=${from}-${size - 1}` }, what);
    const told = answer.header('content-length');
    // A lie about the size is found before the bytes are read; who resumes is told the rest, or everything.
    const rest = answer.status === 206 ? size - from : size;
    if (told !== undefined && Number(told) !== rest) {
      answer.cancel();
      throw new SourceError('BLOB_SIZE', `${what}: the registry sends ${told} bytes, the descriptor says ${rest}`);
    }
    if (answer.status === 206 && !(answer.header('content-range') ?? '').startsWith(`bytes ${from}-`)) {
      answer.cancel();
      throw new SourceError('SOURCE_ANSWER', `${what}: asked to go on at byte ${from}, got another part`);
    }
    return answer;
  }

  /** The body, resumed once where the connection breaks. Who reads checks the digest, whatever was glued together. */
  async *blob(
    descriptor: Pick<Descriptor, 'digest' | 'size'>,
    what: string,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    let answer = await this.#openBlob(descriptor, 0, what);
    let at = 0;
    let skip = 0;
    for (let resumed = false; ; resumed = true) {
      try {
        for await (const chunk of answer.body) {
          const part = chunk.subarray(Math.min(skip, chunk.length));
          skip -= chunk.length - part.length;
          at += part.length;
          if (at > descriptor.size) throw tooLong(descriptor, what);
          if (part.length > 0) yield part;
        }
        return;
      } catch (error) {
        if (resumed || error instanceof SourceError || this.#options.signal?.aborted || at === descriptor.size)
          throw this.fault(error, what);
      } finally {
        answer.cancel();
      }
      answer = await this.#openBlob(descriptor, at, what);
      skip = answer.status === 206 ? 0 : at;
    }
  }
}

/** The innermost code that Node or OpenSSL gave: `ECONNREFUSED`, `CERT_HAS_EXPIRED` … */
function networkCode(error: unknown): string {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const { code } = at as { code?: unknown };
    if (typeof code === 'string' && code !== 'ERR_ASSERTION') return code;
    if (at instanceof AggregateError && at.errors.length > 0) return networkCode(at.errors[0]);
  }
  return error instanceof Error ? error.message.slice(0, 200) : 'the connection failed';
}
