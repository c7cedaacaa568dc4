/** The machine's side of src/source: HTTP by undici, folders and archives on disk, trusted certificates, proxies, credentials. */
import { X509Certificate } from 'node:crypto';
import { lookup as resolveName, type LookupAddress, type LookupOptions } from 'node:dns';
import { access, constants, open, opendir, readFile, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import type { Dispatcher } from 'undici';
import type { Reference } from '#src/image/reference.ts';
import { AUTH_FILE_BYTES_MAX } from '#src/limits.ts';
import { addressClass, reaches, type Reach } from '#src/source/address.ts';
import { archiveDirectory, type RandomAccess } from '#src/source/archive.ts';
import { parseCredentials, type CredentialFile, type FoundCredentials } from '#src/source/credentials.ts';
import type { Answer, Fetch } from '#src/source/http.ts';
import { layoutSource, type Directory } from '#src/source/layout.ts';
import { registrySource } from '#src/source/registry.ts';
import { SourceError, type SignatureSource } from '#src/source/source.ts';
import { mirrorOf, type Mirror } from './mirrors.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export type SourceOptions = {
  /** Where proxies, credentials and the user's folders are named. */
  readonly env: Environment;
  /** PEM files of certificate authorities that are trusted besides the machine's own. */
  readonly caFiles?: readonly string[];
  /** The one file to take registry credentials from, instead of the usual places. */
  readonly authFile?: string | undefined;
  readonly insecureHttp?: boolean;
  /** Where a registry itself may lie, whatever its name: `any` where a person named it on the command line. */
  readonly reach?: Reach;
  /** Registries and repositories that are asked for elsewhere; what is said keeps the name that was meant. */
  readonly mirrors?: readonly Mirror[];
  readonly signal?: AbortSignal | undefined;
};

/** A source with what it holds open. */
export type OpenSource = { readonly source: SignatureSource; readonly close: () => Promise<void> };

const CONNECT_TIMEOUT_MS = 15_000;
// A registry may take its time to answer, and a store to go on, but a minute of silence is a dead connection.
const SILENCE_TIMEOUT_MS = 60_000;
const CHUNK = 256 * 1024;
// The bundles of Debian and kin, Fedora and kin, SUSE, Alpine: what the machine trusts, not what Node was built with.
const SYSTEM_BUNDLES = [
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/**
 * Opens what a reference names; of a registry nothing is asked yet.
 * @throws {SourceError}
 */
export async function openSource(reference: Reference, options: SourceOptions): Promise<OpenSource> {
  if (reference.transport === 'docker') {
    const mirror = mirrorOf(reference, options.mirrors ?? []);
    // Who runs this named the mirror, and vouches for where it lies.
    if (mirror !== undefined) {
      const there = { ...options, mirrors: [], insecureHttp: mirror.plainHttp, reach: 'any' as const };
      const { source, close } = await openSource(mirror.reference, there);
      return { source: { ...source, name: `docker://${reference.registry}/${reference.repository}` }, close };
    }
    const http = httpFetch(options);
    const source = registrySource(reference, {
      fetch: http.fetch,
      credentials: () => findCredentials(reference.registry, reference.repository, options),
      insecureHttp: options.insecureHttp ?? false,
      ...(options.reach === undefined ? {} : { reach: options.reach }),
      signal: options.signal,
    });
    return { source, close: () => http.close() };
  }
  const name = `${reference.transport}:${reference.path}`;
  if (reference.transport === 'oci')
    return { source: layoutSource(folder(reference.path), name), close: async () => {} };
  const archive = await openArchive(reference.path, name);
  try {
    return { source: layoutSource(await archiveDirectory(archive, name), name), close: () => archive.close() };
  } catch (error) {
    await archive.close();
    throw error;
  }
}

/** The `Fetch` of this machine. Connections are kept until `close`. */
export function httpFetch({ env, caFiles = [] }: Pick<SourceOptions, 'env' | 'caFiles'>): {
  fetch: Fetch;
  close(): Promise<void>;
} {
  const dispatchers = new Map<string, Promise<Dispatcher>>();
  const dispatcher = (protocol: string, reach: Reach): Promise<Dispatcher> => {
    const key = `${protocol} ${reach}`;
    let found = dispatchers.get(key);
    if (found === undefined) dispatchers.set(key, (found = makeDispatcher(protocol, reach, env, caFiles)));
    return found;
  };
  return {
    async fetch({ url, headers, form, reach, signal }): Promise<Answer> {
      const { origin, protocol, hostname, pathname, search, host } = new URL(url);
      const address = addressClass(hostname);
      if (!reaches(reach, address))
        throw new SourceError('SOURCE_ADDRESS', `${host} is a ${address} address; that is refused`);
      const {
        statusCode,
        headers: fields,
        body,
      } = await (
        await dispatcher(protocol, reach)
      ).request({
        origin,
        path: pathname + search,
        method: form === undefined ? 'GET' : 'POST',
        // Bytes as they lie there: a coding undone on the way would have another digest.
        headers: { 'accept-encoding': 'identity', 'user-agent': 'bootproof', ...headers },
        ...(form === undefined ? {} : { body: form }),
        ...(signal === undefined ? {} : { signal }),
      });
      // Whoever reads the body gets its errors there; an answer that is dropped has nobody to tell them to.
      body.on('error', () => {});
      return {
        status: statusCode,
        header(name) {
          const field = fields[name];
          return Array.isArray(field) ? field.join(', ') : field;
        },
        body,
        cancel() {
          // A short rest is read, which keeps the connection.
          body.dump({ limit: 16_384 }).catch(() => {});
        },
      };
    },
    async close() {
      for (const made of dispatchers.values()) await (await made).destroy();
      dispatchers.clear();
    },
  };
}

async function makeDispatcher(
  protocol: string,
  reach: Reach,
  env: Environment,
  caFiles: readonly string[],
): Promise<Dispatcher> {
  const tls = protocol === 'https:' ? { secureContext: await trust(caFiles) } : {};
  const connect = { ...tls, timeout: CONNECT_TIMEOUT_MS, lookup: guardedLookup(reach), allowH2: false };
  const timeouts = { headersTimeout: SILENCE_TIMEOUT_MS, bodyTimeout: SILENCE_TIMEOUT_MS };
  const of = (name: string) => env[name.toLowerCase()] || env[name] || undefined;
  const proxy = protocol === 'https:' ? of('HTTPS_PROXY') : of('HTTP_PROXY');
  // Loaded where it is needed: a layout on disk needs no HTTP, and it takes 13 MB.
  const { Agent, EnvHttpProxyAgent } = await import('undici');
  if (proxy === undefined) return new Agent({ connect, ...timeouts });
  // Behind a proxy it is the proxy that resolves names; only addresses spelled out are still looked at here.
  const noProxy = ['localhost', '127.0.0.1', '::1', of('NO_PROXY') ?? ''].join(',');
  const through = { httpProxy: proxy, httpsProxy: proxy, noProxy, requestTls: tls, proxyTls: tls };
  return new EnvHttpProxyAgent({ connect, ...timeouts, ...through });
}

type LookupDone = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/** DNS that leaves out addresses which must not be spoken with, so that no name can stand for them. */
export function guardedLookup(reach: Reach, resolve: typeof resolveName = resolveName) {
  return (hostname: string, options: LookupOptions, done: LookupDone): void => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return done(error, []);
      const allowed = addresses.filter(({ address }) => reaches(reach, addressClass(address)));
      const [first] = allowed;
      if (first === undefined) {
        const classes = [...new Set(addresses.map(({ address }) => addressClass(address)))].join(' and ');
        return done(
          new SourceError('SOURCE_ADDRESS', `${hostname} has only ${classes} addresses; that is refused`),
          [],
        );
      }
      return options.all ? done(null, allowed) : done(null, first.address, first.family);
    });
  };
}

async function trust(caFiles: readonly string[]): Promise<SecureContext> {
  const extra = await Promise.all(
    caFiles.map(async (file) => {
      const text = await readNamed(file, 'a file of certificates');
      // OpenSSL passes over what is no certificate, and the reader would look for the fault elsewhere.
      const found = text.match(/-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----/g) ?? [];
      try {
        if (found.length > 0) return found.map((pem) => new X509Certificate(pem).toString()).join('');
      } catch (cause) {
        throw new SourceError('CREDENTIALS_FILE', `${file} holds a certificate that cannot be read`, { cause });
      }
      throw new SourceError('CREDENTIALS_FILE', `${file} holds no certificate in PEM form`);
    }),
  );
  const system = await firstOf(SYSTEM_BUNDLES);
  return createSecureContext({ ca: [...(system === undefined ? getCACertificates('default') : [system]), ...extra] });
}

async function firstOf(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    const text = await readIfThere(path);
    if (text) return text;
  }
  return undefined;
}

/** Where containers/image and docker keep credentials, in the order in which they are asked (containers-auth.json(5)). */
function credentialFiles({
  env,
  authFile,
}: Pick<SourceOptions, 'env' | 'authFile'>): { path: string; named: boolean }[] {
  const named = authFile ?? (env['REGISTRY_AUTH_FILE'] || undefined);
  if (named !== undefined) return [{ path: named, named: true }];
  const home = env['HOME'] || undefined;
  const config = env['XDG_CONFIG_HOME'] || (home && join(home, '.config'));
  const docker = env['DOCKER_CONFIG'] || (home && join(home, '.docker'));
  const runtime = env['XDG_RUNTIME_DIR'];
  return [
    runtime ? join(runtime, 'containers/auth.json') : `/run/containers/${process.getuid?.() ?? 0}/auth.json`,
    ...(config ? [join(config, 'containers/auth.json')] : []),
    ...(docker ? [join(docker, 'config.json')] : []),
  ].map((path) => ({ path, named: false }));
}

/** @throws {SourceError} CREDENTIALS_FILE, CREDENTIALS_SYNTAX */
export async function findCredentials(
  registry: string,
  repository: string,
  options: Pick<SourceOptions, 'env' | 'authFile'>,
): Promise<FoundCredentials> {
  const looked: string[] = [];
  let helper: string | undefined;
  for (const { path, named } of credentialFiles(options)) {
    const text = named ? await readNamed(path, 'a file of registry credentials') : await readIfThere(path);
    if (text === undefined) continue;
    looked.push(path);
    const file: CredentialFile = parseCredentials(text, path);
    const credentials = file.find(registry, repository);
    if (credentials !== undefined) return { credentials, hint: path };
    helper ??= file.helper(registry);
  }
  const where =
    looked.length === 0 ? 'there is no file of credentials' : `nothing for ${registry} in ${looked.join(', ')}`;
  const program = helper === undefined ? '' : `; docker-credential-${helper} may know, but is not run`;
  return { credentials: undefined, hint: where + program };
}

/** Reads the files that are named in settings. @throws {SourceError} CREDENTIALS_FILE, CREDENTIALS_SYNTAX for what is not there or none. */
export async function readNamedFiles(options: Pick<SourceOptions, 'env' | 'authFile' | 'caFiles'>): Promise<void> {
  const [first] = credentialFiles(options);
  if (first?.named === true)
    parseCredentials(await readNamed(first.path, 'a file of registry credentials'), first.path);
  if (options.caFiles !== undefined && options.caFiles.length > 0) await trust(options.caFiles);
}

/** Why a layout or archive cannot be read now; undefined where it can be, and for a registry. */
export async function absence(reference: Reference): Promise<string | undefined> {
  if (reference.transport === 'docker') return undefined;
  const { transport, path } = reference;
  const file = transport === 'oci' ? join(path, 'oci-layout') : path;
  try {
    await access(file, constants.R_OK);
    return undefined;
  } catch (error) {
    const why = isAbsent(error) ? 'is not there' : `cannot be read: ${codeOf(error)}`;
    return `${file} ${why}; images are looked for there as soon as this server can read it`;
  }
}

/** A folder as layouts are read from it. */
export function folder(path: string): Directory {
  return {
    async stat(name) {
      try {
        const found = await stat(join(path, name));
        return found.isFile() ? { size: found.size } : undefined;
      } catch (error) {
        if (isAbsent(error)) return undefined;
        throw fileFault(error, join(path, name));
      }
    },
    async *list(name) {
      try {
        for await (const entry of await opendir(join(path, name))) if (entry.isFile()) yield entry.name;
      } catch (error) {
        if (!isAbsent(error)) throw fileFault(error, join(path, name));
      }
    },
    async *read(name) {
      await using handle = await openRegular(join(path, name));
      for (;;) {
        const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafeSlow(CHUNK), 0, CHUNK);
        if (bytesRead === 0) return;
        yield buffer.subarray(0, bytesRead);
      }
    },
  };
}

/** A file as archives are read from it. */
async function openArchive(path: string, name: string): Promise<RandomAccess & { close(): Promise<void> }> {
  const handle = await openRegular(path);
  const { size } = await handle.stat();
  return {
    size,
    async read(at, length) {
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafeSlow(length), 0, length, at);
      if (bytesRead < length && at + bytesRead < size)
        throw new SourceError('ARCHIVE_SYNTAX', `${name}: became shorter while it was read`);
      return buffer.subarray(0, bytesRead);
    },
    close: () => handle.close(),
  };
}

async function openRegular(path: string): Promise<FileHandle> {
  try {
    // stat first: opening a FIFO would wait for a writer.
    if ((await stat(path)).isFile()) return await open(path, 'r');
  } catch (error) {
    throw isAbsent(error) ? new SourceError('SOURCE_NOT_FOUND', `${path} is not there`) : fileFault(error, path);
  }
  throw new SourceError('SOURCE_NOT_FOUND', `${path} is no regular file`);
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    const found = await stat(path);
    if (!found.isFile()) return undefined;
    if (found.size > AUTH_FILE_BYTES_MAX)
      throw new SourceError(
        'CREDENTIALS_FILE',
        `${path} has ${found.size} bytes; at most ${AUTH_FILE_BYTES_MAX} are read`,
      );
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    if (error instanceof SourceError) throw error;
    throw new SourceError('CREDENTIALS_FILE', `${path} cannot be read: ${codeOf(error)}`, { cause: error });
  }
}

async function readNamed(path: string, what: string): Promise<string> {
  const text = await readIfThere(path);
  if (text === undefined) throw new SourceError('CREDENTIALS_FILE', `${what} was named that is not there: ${path}`);
  return text;
}

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;
const isAbsent = (error: unknown): boolean => codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR';

function fileFault(error: unknown, path: string): SourceError {
  return new SourceError('SOURCE_UNAVAILABLE', `${path} cannot be read: ${codeOf(error)}`, { cause: error });
}
