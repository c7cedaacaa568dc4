/**
 * What a start reads besides the database: policy, certificates, keys, lists. Each part by itself, so that a start stops at the first that is
 * refused, and a check tells of all of them.
 */
import { accessSync, constants } from 'node:fs';
import { access as accessible, readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { DocumentError } from '#src/document/yaml.ts';
import { BootproofError } from '#src/error.ts';
import type { Policy } from '#src/policy/document.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { SourceError } from '#src/source/source.ts';
import { printableText, UsageError, type Io } from '#src/terminal.ts';
import { trustedProxies } from '#server/access/address.ts';
import { parseConfigured } from '#server/access/bindings.ts';
import { checkIssuer } from '#server/access/oidc.ts';
import { sourcePattern } from '#server/decisions/sources.ts';
import { readPair } from './certificate.ts';
import type { Settings } from './config.ts';
import type { OptionName } from './flags.ts';
import { makeFolders } from './folder.ts';
import { SettingsError } from './given.ts';
import type { AnchorsSettings } from './log/anchors.ts';
import { readAnchors } from './log/authority.ts';
import { parseMirrors, parseSignatureRepositories } from './mirrors.ts';
import { parseTargets } from './notices/target.ts';
import type { StartOptions } from './options.ts';
import type { PolicySource } from './policies.ts';
import { gitCommit, readPolicyFiles, shippedPolicy } from './policyfiles.ts';
import { readNamedFiles } from './sources.ts';
import { readRootRefreshes, readTrustFiles, trustSetup, type TrustSetup } from './trust/setup.ts';

type Part<T> = (settings: Settings, io: Pick<Io, 'env'>) => T | Promise<T>;

const isPlain = (settings: Settings) => (registry: string) => settings.plainHttp.includes(registry);

const PARTS = {
  policy: ({ policyFile }: Settings) => policySource(policyFile),
  trust: readTrust,
  rootRefreshes: ({ tuf, tufRoots }: Settings) => readRootRefreshes({ repositories: tuf, initial: tufRoots }),
  mirrors: (settings: Settings) => parseMirrors(settings.mirrors, isPlain(settings)),
  signatureRepositories: (settings: Settings) =>
    parseSignatureRepositories(settings.signatureRepositories, isPlain(settings)),
  registry: checkRegistryFiles,
  access: accessOf,
  anchors: anchorsOf,
  noticeTargets: ({ noticeTargets }: Settings) => parseTargets(noticeTargets),
} as const satisfies Readonly<Record<string, Part<unknown>>>;

export type Prepared = { readonly [Name in keyof typeof PARTS]: Awaited<ReturnType<(typeof PARTS)[Name]>> };

/** @throws {BootproofError} of the first part that is refused */
export async function prepare(settings: Settings, io: Pick<Io, 'env'>): Promise<Prepared> {
  const prepared: Record<string, unknown> = {};
  for (const [name, part] of Object.entries(PARTS)) prepared[name] = await part(settings, io);
  return prepared as Prepared;
}

/** Which setting a part is about, where what it says does not name one. */
const ABOUT: { readonly [Name in keyof typeof PARTS]: OptionName } = {
  policy: 'policy',
  trust: 'image-policy',
  rootRefreshes: 'tuf',
  mirrors: 'mirror',
  signatureRepositories: 'signature-repository',
  registry: 'authfile',
  access: 'oidc-issuer',
  anchors: 'witness',
  noticeTargets: 'notice-target',
};

/** What a start finds out only when it is under way, or later; and each item of a list by itself. Nothing is made on disk. */
const CHECKS: readonly (readonly [OptionName, Part<unknown>])[] = [
  ['policy', ({ policyFile }) => readPolicy(policyFile)],
  ['tls-cert', ({ tls }) => tls && readPair(tls, Date.now())],
  ['source', ({ sources }) => each(sources, sourcePattern)],
  ['mirror', (settings) => each(settings.mirrors, (one) => parseMirrors([one], isPlain(settings)))],
  [
    'signature-repository',
    (settings) => each(settings.signatureRepositories, (one) => parseSignatureRepositories([one], isPlain(settings))),
  ],
  ['notice-target', ({ noticeTargets }) => each(noticeTargets, (one) => parseTargets([one]))],
  ['oidc-role', ({ oidcRoles }) => each(oidcRoles, parseConfigured)],
  ['trusted-proxy', (settings) => each(settings.trustedProxies, (one) => trustedProxies([one]))],
  ['data', ({ data, databaseUrl }) => (databaseUrl === undefined ? checkFolder(data) : undefined)],
  [
    'log-checkpoint',
    ({ logCheckpoint }) => (logCheckpoint === undefined ? undefined : checkBeside(logCheckpoint, '--log-checkpoint')),
  ],
];

/** Everything that is wrong with these settings, a fault a line; none: a server starts with them, if its database is there. */
export async function faultsIn(settings: Settings, io: Pick<Io, 'env'>): Promise<string[]> {
  const faults = new Set<string>();
  const parts = Object.entries(PARTS).map(([name, part]) => [ABOUT[name as keyof typeof PARTS], part] as const);
  for (const [option, part] of [...parts, ...CHECKS]) {
    try {
      await part(settings, io);
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      const lines = 'lines' in error ? (error.lines as readonly string[]) : [error.message];
      const isPlaced = error instanceof DocumentError;
      for (const line of lines) faults.add(isPlaced || line.startsWith('--') ? line : `--${option}: ${line}`);
    }
  }
  return [...faults];
}

/** The policy in a file or folder, or the one that ships. `extends: default` means the one that ships. @throws {UsageError | DocumentError} */
export async function readPolicy(place: string | undefined): Promise<Policy> {
  const { policy } = await shippedPolicy();
  return place === undefined ? policy : policyOfDocuments(await readPolicyFiles(place), policy).policy;
}

/** Where a server's policy comes from: a file or folder that is followed as it changes, or versions that people apply. */
export async function policySource(place: string | undefined): Promise<PolicySource> {
  const shipped = await shippedPolicy();
  if (place === undefined) return { kind: 'store', shipped };
  return {
    kind: 'files',
    place,
    shipped,
    read: async () => ({ documents: await readPolicyFiles(place), commit: await gitCommit(place) }),
  };
}

/** The image policy that the settings name; null without one. @throws {UsageError | BootproofError} */
async function readTrust({ imagePolicies, trustRoots, tuf }: Settings): Promise<TrustSetup | null> {
  if (imagePolicies.length > 0) return trustSetup(await readTrustFiles({ policies: imagePolicies, roots: trustRoots }));
  if (trustRoots.length > 0 || tuf.length > 0)
    throw new UsageError(
      `--${trustRoots.length > 0 ? 'trust-root' : 'tuf'} without --image-policy: a root vouches for nothing unless a policy names it`,
    );
  return null;
}

/** What is named for registries is read once before anything is fetched, so that a slip is told now. @throws {UsageError} */
async function checkRegistryFiles({ authFile, caFile }: Settings, { env }: Pick<Io, 'env'>): Promise<void> {
  try {
    await readNamedFiles({ env, authFile, caFiles: caFile === undefined ? [] : [caFile] });
  } catch (cause) {
    if (!(cause instanceof SourceError)) throw cause;
    throw new UsageError(
      `${printableText(cause.message)}; correct --authfile (or REGISTRY_AUTH_FILE) or --ca-file, or leave it out`,
    );
  }
}

/** Witnesses and timestamp authorities. @throws {UsageError} */
async function anchorsOf(settings: Settings): Promise<AnchorsSettings> {
  const { witnesses, timestampAuthorities: authorities, timestampCas, caFile } = settings;
  const certificates: { name: string; pem: string }[] = [];
  for (const text of timestampCas) {
    const [, name, file] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    if (name === undefined || file === undefined)
      throw new UsageError(`--timestamp-ca ${printableText(text)}: expected NAME=FILE`);
    certificates.push({ name, pem: await textIn(file, `--timestamp-ca ${name}`) });
  }
  return {
    ...readAnchors({ witnesses, authorities, certificates }),
    witnessEveryMs: settings.witnessEveryMs,
    stampEveryMs: settings.timestampEveryMs,
    ca: caFile === undefined ? [] : [await textIn(caFile, '--ca-file')],
  };
}

async function textIn(file: string, option: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new UsageError(
      `${printableText(option)}: ${printableText(file)} cannot be read: ${(cause as NodeJS.ErrnoException).code}`,
    );
  }
}

type AccessSettings = NonNullable<StartOptions['access']>;

/** How people come in. @throws {UsageError} */
async function accessOf({ oidc, oidcRoles, trustedProxies: proxies }: Settings): Promise<AccessSettings> {
  if (oidc !== null) named('oidc-issuer', () => checkIssuer(oidc.issuer));
  return {
    oidc: oidc && { ...oidc, clientSecret: await secretIn(oidc.clientSecretFile) },
    configured: named('oidc-role', () => oidcRoles.map(parseConfigured)),
    proxies: named('trusted-proxy', () => trustedProxies(proxies)),
  };
}

/** What `read` gives; its refusal says which setting it is about. @throws {UsageError} */
function named<T>(option: OptionName, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof BootproofError) || cause instanceof UsageError) throw cause;
    throw new UsageError(printableText(`--${option}: ${cause.message}`));
  }
}

async function secretIn(file: string | undefined): Promise<string | null> {
  if (file === undefined) return null;
  let text: string;
  try {
    text = (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw new UsageError(
      `--oidc-client-secret-file ${printableText(file)} cannot be read: ${(cause as NodeJS.ErrnoException).code}`,
    );
  }
  if (!/^[!-~]{1,1000}$/.test(text))
    throw new UsageError(`--oidc-client-secret-file ${printableText(file)}: expected one line with the secret alone`);
  return text;
}

/** Of several items that are refused, all: each is told. */
function each(items: readonly string[], read: (item: string) => unknown): void {
  const faults: string[] = [];
  for (const item of items) {
    try {
      read(item);
    } catch (error) {
      if (!(error instanceof BootproofError)) throw error;
      faults.push(error.message);
    }
  }
  if (faults.length > 0) throw new SettingsError(faults);
}

/** Makes the data folder, where this user may. @throws {UsageError} */
export function makeFolder(data: string): void {
  try {
    makeFolders(data);
    accessSync(data, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw noFolder(data, cause as NodeJS.ErrnoException);
  }
}

function noFolder(data: string, { code }: NodeJS.ErrnoException): UsageError {
  const why = code === 'EEXIST' || code === 'ENOTDIR' ? 'a file stands where a folder must be' : code;
  return new UsageError(
    `--data ${printableText(data)} cannot be made a folder that this user writes to: ${why}; name another`,
  );
}

/** Whether `makeFolder` would do: the nearest folder above that is there can be written to. */
async function checkFolder(data: string): Promise<void> {
  for (let at = data; ; at = dirname(at)) {
    try {
      if (!(await stat(at)).isDirectory()) throw Object.assign(new Error(), { code: 'ENOTDIR' });
      await accessible(at, constants.W_OK | constants.X_OK);
      return;
    } catch (cause) {
      const error = cause as NodeJS.ErrnoException;
      if (error.code !== 'ENOENT' || dirname(at) === at) throw noFolder(data, error);
    }
  }
}

/** A file that is written anew beside itself. */
async function checkBeside(file: string, option: string): Promise<void> {
  try {
    await accessible(dirname(resolve(file)), constants.W_OK | constants.X_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new UsageError(`${option} ${printableText(file)}: its folder cannot be written to: ${code}`);
  }
}
