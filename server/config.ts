/** The server's settings as it uses them: what was given (given.ts), each read into its type, over what holds by default. */
import { resolve } from 'node:path';
import { imageBounds, type ImageBounds } from '#src/source/bounds.ts';
import { ORIGIN } from '#src/signing/note.ts';
import { STOP_WITHIN_MS } from '#src/limits.ts';
import type { OptionName } from './flags.ts';
import { Given, SettingsError, type Env, type SettingsFile } from './given.ts';
import { LOG_LEVELS, type LogLevel } from './logging.ts';
import { KEEP_AT_LEAST_DAYS, type RetentionSettings } from './retention.ts';
import { UsageError } from '#src/terminal.ts';

export type Settings = {
  readonly data: string;
  /** PostgreSQL where given, else SQLite in `data`. */
  readonly databaseUrl: string | undefined;
  /** A file with it, in place of the variable. */
  readonly databaseUrlFile: string | undefined;
  readonly listen: {
    readonly host: string;
    readonly port: number;
    /** Chosen by default, so the next free one will do. */ readonly movable: boolean;
  };
  /** Files of its certificate and key; null: no TLS here. */
  readonly tls: { readonly cert: string; readonly key: string } | null;
  readonly baseUrl: string | undefined;
  readonly sources: readonly string[];
  readonly policyFile: string | undefined;
  readonly imagePolicies: readonly string[];
  readonly trustRoots: readonly string[];
  readonly tuf: readonly string[];
  readonly tufRoots: readonly string[];
  readonly tufEveryMs: number;
  readonly reverifyMs: number;
  readonly noticeTargets: readonly string[];
  readonly metrics: 'off' | 'token' | 'open';
  readonly logLevel: LogLevel;
  readonly retention: RetentionSettings;
  readonly jobsIntervalMs: number;
  readonly stopDelayMs: number;
  readonly stopWithinMs: number;
  readonly logOrigin: string | undefined;
  readonly logCheckpoint: string | undefined;
  readonly witnesses: readonly string[];
  readonly witnessEveryMs: number;
  readonly timestampAuthorities: readonly string[];
  readonly timestampCas: readonly string[];
  readonly timestampEveryMs: number;
  /** What an image may make the server do. */
  readonly imageBounds: ImageBounds;
  readonly authFile: string | undefined;
  readonly caFile: string | undefined;
  readonly plainHttp: readonly string[];
  readonly mirrors: readonly string[];
  readonly signatureRepositories: readonly string[];
  readonly oidc: {
    readonly issuer: string;
    readonly clientId: string;
    readonly clientSecretFile: string | undefined;
    readonly scopes: string;
    readonly groupsClaim: string;
  } | null;
  readonly oidcRoles: readonly string[];
  readonly trustedProxies: readonly string[];
  /** Whether a start brings the database up to this build. */
  readonly migrates: boolean;
  readonly newAdminToken: boolean;
  readonly help: boolean;
};

export const DEFAULT_PORT = 8340;

/** @throws {SettingsError} with every fault: what is not known, and what cannot be read. */
export function readSettings(args: readonly string[], env: Env, file?: SettingsFile): Settings {
  return settingsFrom(new Given(args, env, file), env);
}

/** @throws {SettingsError} with every fault. */
export function settingsFrom(given: Given, env: Env): Settings {
  const all = (name: OptionName) => given.all(name);
  const one = (name: OptionName) => given.one(name);
  const read: Read = (work) => given.read(work);
  const time = (name: OptionName, otherwise: string) => read(() => parseDuration(name, one(name) ?? otherwise));
  const settings: Settings = {
    data: resolve(one('data') ?? 'bootproof-data'),
    databaseUrl: env['BOOTPROOF_DATABASE_URL'] ?? env['DATABASE_URL'],
    databaseUrlFile: one('database-url-file'),
    listen: read(() => listenOf(one('listen'))),
    tls: read(() => tlsOf(one)),
    baseUrl: read(() => parseBaseUrl(one('base-url'))),
    sources: all('source'),
    policyFile: one('policy'),
    imagePolicies: all('image-policy'),
    trustRoots: all('trust-root'),
    tuf: all('tuf'),
    tufRoots: all('tuf-root'),
    tufEveryMs: time('tuf-every', '24h'),
    reverifyMs: time('reverify', '24h'),
    noticeTargets: all('notice-target'),
    metrics: read(() => parseMetrics(one('metrics') ?? 'token')),
    logLevel: read(() => parseLogLevel(one('log-level') ?? 'info')),
    retention: retentionOf(one, read),
    jobsIntervalMs: time('jobs-interval', '1s'),
    stopDelayMs: time('stop-delay', '0s'),
    stopWithinMs: time('stop-within', `${STOP_WITHIN_MS}ms`),
    logOrigin: read(() => parseOrigin(one('log-origin'))),
    logCheckpoint: one('log-checkpoint'),
    witnesses: all('witness'),
    witnessEveryMs: time('witness-every', '1m'),
    timestampAuthorities: all('timestamp-authority'),
    timestampCas: all('timestamp-ca'),
    timestampEveryMs: time('timestamp-every', '24h'),
    imageBounds: read(() => imageBounds(all('image-limit'), '--image-limit')),
    authFile: one('authfile'),
    caFile: one('ca-file'),
    plainHttp: all('plain-http'),
    mirrors: all('mirror'),
    signatureRepositories: all('signature-repository'),
    oidc: read(() => oidcOf(one)),
    oidcRoles: all('oidc-role'),
    trustedProxies: all('trusted-proxy'),
    migrates: !given.isOn('no-migrate'),
    newAdminToken: given.isOn('new-admin-token'),
    help: given.isOn('help'),
  };
  if (given.faults.length > 0) throw new SettingsError(given.faults);
  return Object.freeze(settings);
}

type Read = <T>(work: () => T) => T;

function tlsOf(one: (name: OptionName) => string | undefined): Settings['tls'] {
  const [cert, key] = [one('tls-cert'), one('tls-key')];
  if (cert === undefined && key === undefined) return null;
  if (key === undefined) throw new UsageError('--tls-cert without --tls-key: name the file with its private key');
  if (cert === undefined) throw new UsageError('--tls-key without --tls-cert: name the file with its certificate');
  return { cert: resolve(cert), key: resolve(key) };
}

/** All of it, or nothing. */
function oidcOf(one: (name: OptionName) => string | undefined): Settings['oidc'] {
  const issuer = one('oidc-issuer');
  const clientId = one('oidc-client-id');
  if (issuer === undefined) {
    const alone = (['oidc-client-id', 'oidc-client-secret-file', 'oidc-role'] as const).find(
      (name) => one(name) !== undefined,
    );
    if (alone !== undefined) throw new UsageError(`--${alone} without --oidc-issuer: whose it is must be named`);
    return null;
  }
  if (clientId === undefined)
    throw new UsageError(
      '--oidc-issuer without --oidc-client-id: register this server there, and name it by the id it got',
    );
  return {
    issuer,
    clientId,
    clientSecretFile: one('oidc-client-secret-file'),
    scopes: one('oidc-scopes') ?? 'openid profile email',
    groupsClaim: one('oidc-groups-claim') ?? 'groups',
  };
}

function retentionOf(one: (name: OptionName) => string | undefined, read: Read): RetentionSettings {
  const bytes = one('keep-bytes');
  const days = (name: OptionName) => read(() => parseDays(name, one(name)));
  return {
    reports: days('keep-reports'),
    judgements: days('keep-judgements'),
    acts: days('keep-acts'),
    bytes: read(() => (bytes === undefined ? null : parseSize('keep-bytes', bytes))),
    atLeast: days('keep-at-least') ?? KEEP_AT_LEAST_DAYS,
  };
}

/** Whole days: a slip such as `400s` must not purge a fleet's past. */
function parseDays(name: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const match = /^([1-9][0-9]{0,4})d$/.exec(text);
  if (match === null) throw new UsageError(`--${name} ${text}: expected days, such as 400d`);
  return Number(match[1]);
}

function parseSize(name: string, text: string): number {
  const match = /^([1-9][0-9]{0,5})([MGT])$/.exec(text);
  if (match === null)
    throw new UsageError(`--${name} ${text}: expected a size such as 500M, 200G or 2T (powers of 1024)`);
  return Number(match[1]) * 2 ** { M: 20, G: 30, T: 40 }[match[2] as 'M' | 'G' | 'T'];
}

function listenOf(text: string | undefined): Settings['listen'] {
  if (text === undefined) return { host: '127.0.0.1', port: DEFAULT_PORT, movable: true };
  const match = /^(?:(\[[0-9a-f:.]+\]|[^\s:/[\]]+):)?([0-9]{1,5})$/i.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535)
    throw new UsageError(`--listen ${text}: expected HOST:PORT, such as 0.0.0.0:8340 or [::1]:8340`);
  return { host: (match[1] ?? '127.0.0.1').replace(/^\[|\]$/g, ''), port, movable: false };
}

/** A name that a note can carry (C2SP signed-note). */
export function parseOrigin(text: string | undefined, option = '--log-origin'): string | undefined {
  if (text === undefined || ORIGIN.test(text)) return text;
  throw new UsageError(`${option}: expected a name without spaces and plus, such as bootproof.example/log`);
}

function parseMetrics(text: string): Settings['metrics'] {
  if (text === 'off' || text === 'token' || text === 'open') return text;
  throw new UsageError(`--metrics ${text}: expected off, token or open`);
}

function parseLogLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((each) => each === text);
  if (level === undefined) throw new UsageError(`--log-level ${text}: expected one of ${LOG_LEVELS.join(', ')}`);
  return level;
}

function parseBaseUrl(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (
    url === undefined ||
    !/^https?:$/.test(url.protocol) ||
    url.username !== '' ||
    url.search !== '' ||
    url.hash !== ''
  )
    throw new UsageError('--base-url: expected http(s)://host[:port][/path] without credentials, query or fragment');
  return url.href.replace(/\/$/, '');
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of `90s`, `15m`, `1h`, `2d`. */
function parseDuration(name: string, text: string): number {
  const match = /^(0|[1-9][0-9]{0,8})(ms|s|m|h|d)$/.exec(text);
  const least = name === 'stop-delay' ? 0 : 1;
  if (match === null || Number(match[1]) < least)
    throw new UsageError(`--${name} ${text}: expected a time such as 90s, 15m or 1h`);
  return Number(match[1]) * UNITS[match[2]!]!;
}
