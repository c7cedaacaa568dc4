/**
 * The server's settings: flags over BOOTPROOF_* variables over defaults. A variable of ours that is not known is an error,
 * because a misspelt setting that is silently ignored looks like one that works.
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { BOUND_NAMES, imageBounds, type ImageBounds } from '#src/source/bounds.ts';
import { ORIGIN } from '#src/signing/note.ts';
import { STOP_WITHIN_MS } from '#src/limits.ts';
import { LOG_LEVELS, type LogLevel } from './logging.ts';
import { KEEP_AT_LEAST_DAYS, type RetentionSettings } from './retention.ts';
import { UsageError } from '#src/terminal.ts';

type Option = {
  /** Name of the environment variable, without BOOTPROOF_. */
  readonly env: string;
  readonly value: string;
  readonly help: string;
  readonly multiple?: true;
};

const OPTIONS = {
  data: { env: 'DATA', value: 'DIR', help: 'where the database and manifests lie (default ./bootproof-data)' },
  listen: {
    env: 'LISTEN',
    value: 'HOST:PORT',
    help: 'where to listen (default 127.0.0.1:8340, or the next free port)',
  },
  'base-url': {
    env: 'BASE_URL',
    value: 'URL',
    help: 'how hosts and people reach this server (default: where it listens)',
  },
  source: {
    env: 'SOURCES',
    value: 'REF',
    help: 'a repository that images may be fetched from; repeat it, or separate with commas in the variable',
    multiple: true,
  },
  policy: {
    env: 'POLICY',
    value: 'FILE|DIR',
    help: 'the host policy, followed as it changes; then it cannot be changed over the API',
  },
  'image-policy': {
    env: 'IMAGE_POLICY',
    value: 'FILE|DIR',
    help: 'what images must be signed by: ClusterImagePolicy documents (docs/image-policy.md); repeat it',
    multiple: true,
  },
  'trust-root': {
    env: 'TRUST_ROOT',
    value: 'NAME=FILE',
    help: 'a trusted_root.json under the name by which image policies call it; repeat it',
    multiple: true,
  },
  tuf: {
    env: 'TUF',
    value: 'NAME=URL',
    help: 'a trust root that is kept up with a TUF repository, asked over the network; none otherwise; repeat it',
    multiple: true,
  },
  'tuf-root': {
    env: 'TUF_ROOT',
    value: 'NAME=FILE',
    help: 'the first root.json of that repository (built in for https://tuf-repo-cdn.sigstore.dev); repeat it',
    multiple: true,
  },
  'tuf-every': { env: 'TUF_EVERY', value: 'TIME', help: 'how often those repositories are asked (default 24h)' },
  reverify: { env: 'REVERIFY', value: 'TIME', help: 'how often signatures are looked for again (default 24h)' },
  'notice-target': {
    env: 'NOTICE_TARGETS',
    value: 'HOST[:PORT]',
    help: 'a receiver of notices that may lie on loopback or a private network, or speak no TLS; repeat it',
    multiple: true,
  },
  metrics: {
    env: 'METRICS',
    value: 'off|token|open',
    help: 'who may read /metrics: nobody, whoever shows a token (default), or everybody who reaches the port',
  },
  'log-level': {
    env: 'LOG_LEVEL',
    value: 'LEVEL',
    help: `what is said on standard error: ${LOG_LEVELS.join(', ')} (each request), with all that stands before it (default info)`,
  },
  'log-origin': {
    env: 'LOG_ORIGIN',
    value: 'NAME',
    help: 'the evidence log’s name for its life, when it is begun (default: the base URL without scheme, and /log)',
  },
  'log-checkpoint': {
    env: 'LOG_CHECKPOINT',
    value: 'FILE',
    help: 'where its last checkpoint is kept apart from the database (default: log.checkpoint in the data folder)',
  },
  witness: {
    env: 'WITNESSES',
    value: 'VKEY=URL',
    help: 'a C2SP witness that cosigns the log’s checkpoints: its key, and where it takes them; repeat it',
    multiple: true,
  },
  'witness-every': {
    env: 'WITNESS_EVERY',
    value: 'TIME',
    help: 'how often each is asked, where there is something new (default 1m)',
  },
  'timestamp-authority': {
    env: 'TIMESTAMP_AUTHORITIES',
    value: 'NAME=URL',
    help: 'an RFC 3161 authority that stamps the log’s checkpoints; repeat it',
    multiple: true,
  },
  'timestamp-ca': {
    env: 'TIMESTAMP_CA',
    value: 'NAME=FILE',
    help: 'the certificates, in PEM, by which that authority’s stamps are trusted; repeat it',
    multiple: true,
  },
  'timestamp-every': { env: 'TIMESTAMP_EVERY', value: 'TIME', help: 'how often each is asked (default 24h)' },
  'keep-reports': {
    env: 'KEEP_REPORTS',
    value: 'DAYS',
    help: 'how long envelopes of reports stay, such as 400d (docs/retention.md); what is in force leans on stays (default: all)',
  },
  'keep-judgements': { env: 'KEEP_JUDGEMENTS', value: 'DAYS', help: 'the same for judgements' },
  'keep-acts': { env: 'KEEP_ACTS', value: 'DAYS', help: 'the same for acts on which nothing leans, such as sign-ins' },
  'keep-bytes': {
    env: 'KEEP_BYTES',
    value: 'SIZE',
    help: 'how much of reports and judgements stays, such as 200G: the oldest go first (default: all)',
  },
  'keep-at-least': {
    env: 'KEEP_AT_LEAST',
    value: 'DAYS',
    help: `what is younger never goes for want of room (default ${KEEP_AT_LEAST_DAYS}d)`,
  },
  'jobs-interval': { env: 'JOBS_INTERVAL', value: 'TIME', help: 'how often waiting work is looked for (default 1s)' },
  'stop-delay': {
    env: 'STOP_DELAY',
    value: 'TIME',
    help: 'how long it answers as before once /readyz says 503, when it is told to stop (default 0s; behind a balancer 5s)',
  },
  'stop-within': {
    env: 'STOP_WITHIN',
    value: 'TIME',
    help: `how long requests under way may take then (default ${STOP_WITHIN_MS / 1000}s)`,
  },
  'image-limit': {
    env: 'IMAGE_LIMITS',
    value: 'NAME=NUMBER',
    help: `how large an image may be whose manifest is built (K, M, G for powers of 1024); repeat it; one of ${BOUND_NAMES.join(' ')}`,
    multiple: true,
  },
  authfile: { env: 'AUTHFILE', value: 'FILE', help: 'registry credentials, as containers auth.json' },
  'ca-file': { env: 'CA_FILE', value: 'FILE', help: 'more certificate authorities for registries, in PEM' },
  mirror: {
    env: 'MIRRORS',
    value: 'FROM=TO',
    help: 'ask for images and signatures of FROM (a registry, path or repository) in TO; repeat it',
    multiple: true,
  },
  'signature-repository': {
    env: 'SIGNATURE_REPOSITORIES',
    value: '[FROM=]REPO',
    help: 'where signatures of images (under FROM) lie besides, as with COSIGN_REPOSITORY; repeat it',
    multiple: true,
  },
  'oidc-issuer': {
    env: 'OIDC_ISSUER',
    value: 'URL',
    help: 'the OpenID provider by which people sign in (docs/access.md); none otherwise, then the admin token alone lets in',
  },
  'oidc-client-id': { env: 'OIDC_CLIENT_ID', value: 'ID', help: 'this server’s name at that provider' },
  'oidc-client-secret-file': {
    env: 'OIDC_CLIENT_SECRET_FILE',
    value: 'FILE',
    help: 'a file with its secret there; without one it is a public client',
  },
  'oidc-scopes': {
    env: 'OIDC_SCOPES',
    value: 'WORDS',
    help: 'what the provider is asked for (default "openid profile email")',
  },
  'oidc-groups-claim': {
    env: 'OIDC_GROUPS_CLAIM',
    value: 'NAME',
    help: 'where the provider tells a person’s groups, dots for parts (default groups)',
  },
  'oidc-role': {
    env: 'OIDC_ROLES',
    value: 'CLAIM=ROLE[@GROUP]',
    help: 'a role, in a host group perhaps, for everybody whom the provider counts to CLAIM; repeat it',
    multiple: true,
  },
  'trusted-proxy': {
    env: 'TRUSTED_PROXIES',
    value: 'ADDRESS',
    help: 'a proxy, or network of proxies, whose X-Forwarded-For tells where requests come from; repeat it',
    multiple: true,
  },
  'plain-http': {
    env: 'PLAIN_HTTP',
    value: 'HOST:PORT',
    help: 'a registry that may be reached without TLS, also on loopback or link-local; repeat it',
    multiple: true,
  },
} as const satisfies Readonly<Record<string, Option>>;

const FLAGS = {
  'new-admin-token': 'make and print another admin token; the old one and all sessions end',
  help: 'print this',
} as const;

// Variables of the database and of the client commands, which may stand in the same shell.
const OTHER_VARIABLES = new Set(['DATABASE_URL', 'SERVER', 'TOKEN', 'NODE']);

export type Settings = {
  readonly data: string;
  /** PostgreSQL where given, else SQLite in `data`. */
  readonly databaseUrl: string | undefined;
  readonly listen: {
    readonly host: string;
    readonly port: number;
    /** Chosen by default, so the next free one will do. */ readonly movable: boolean;
  };
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
  readonly newAdminToken: boolean;
  readonly help: boolean;
};

export const DEFAULT_PORT = 8340;

export const SERVER_HELP = `bootproof server: takes reports, judges hosts, shows what it found

${Object.entries(OPTIONS)
  .map(([name, option]) => `  --${`${name} ${option.value}`.padEnd(22)} ${option.help}`)
  .join('\n')}
${Object.entries(FLAGS)
  .map(([name, help]) => `  --${name.padEnd(22)} ${help}`)
  .join('\n')}

Each option with a value may also be given as BOOTPROOF_NAME, for example BOOTPROOF_BASE_URL.
DATABASE_URL or BOOTPROOF_DATABASE_URL names a PostgreSQL database; without one, SQLite in the data folder is used.
`;

/** @throws {UsageError} for an unknown flag or BOOTPROOF_* variable, or a value that cannot be read. */
export function readSettings(args: readonly string[], env: Readonly<Record<string, string | undefined>>): Settings {
  const flags = readFlags(args);
  refuseUnknownVariables(env);
  const all = (name: keyof typeof OPTIONS): readonly string[] => {
    const given = flags[name];
    if (given !== undefined) return Array.isArray(given) ? given.map(String) : [String(given)];
    const variable = env[`BOOTPROOF_${OPTIONS[name].env}`];
    if (variable === undefined || variable === '') return [];
    return 'multiple' in OPTIONS[name] ? variable.split(/[,\s]+/).filter((word) => word !== '') : [variable];
  };
  const one = (name: keyof typeof OPTIONS): string | undefined => all(name)[0];
  const listen = one('listen');
  const base = one('base-url');
  return Object.freeze({
    data: resolve(one('data') ?? 'bootproof-data'),
    databaseUrl: env['BOOTPROOF_DATABASE_URL'] ?? env['DATABASE_URL'],
    listen: listen === undefined ? { host: '127.0.0.1', port: DEFAULT_PORT, movable: true } : parseListen(listen),
    baseUrl: base === undefined ? undefined : parseBaseUrl(base),
    sources: all('source'),
    policyFile: one('policy'),
    imagePolicies: all('image-policy'),
    trustRoots: all('trust-root'),
    tuf: all('tuf'),
    tufRoots: all('tuf-root'),
    tufEveryMs: parseDuration('tuf-every', one('tuf-every') ?? '24h'),
    reverifyMs: parseDuration('reverify', one('reverify') ?? '24h'),
    noticeTargets: all('notice-target'),
    metrics: parseMetrics(one('metrics') ?? 'token'),
    logLevel: parseLogLevel(one('log-level') ?? 'info'),
    retention: retentionOf(one),
    jobsIntervalMs: parseDuration('jobs-interval', one('jobs-interval') ?? '1s'),
    stopDelayMs: parseDuration('stop-delay', one('stop-delay') ?? '0s'),
    stopWithinMs: parseDuration('stop-within', one('stop-within') ?? `${STOP_WITHIN_MS}ms`),
    logOrigin: parseOrigin(one('log-origin')),
    logCheckpoint: one('log-checkpoint'),
    witnesses: all('witness'),
    witnessEveryMs: parseDuration('witness-every', one('witness-every') ?? '1m'),
    timestampAuthorities: all('timestamp-authority'),
    timestampCas: all('timestamp-ca'),
    timestampEveryMs: parseDuration('timestamp-every', one('timestamp-every') ?? '24h'),
    imageBounds: imageBounds(all('image-limit'), '--image-limit'),
    authFile: one('authfile'),
    caFile: one('ca-file'),
    plainHttp: all('plain-http'),
    mirrors: all('mirror'),
    signatureRepositories: all('signature-repository'),
    oidc: oidcOf(one),
    oidcRoles: all('oidc-role'),
    trustedProxies: all('trusted-proxy'),
    newAdminToken: flags['new-admin-token'] === true,
    help: flags['help'] === true,
  });
}

/** All of it, or nothing. */
function oidcOf(one: (name: keyof typeof OPTIONS) => string | undefined): Settings['oidc'] {
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

function retentionOf(one: (name: keyof typeof OPTIONS) => string | undefined): RetentionSettings {
  const bytes = one('keep-bytes');
  return {
    reports: parseDays('keep-reports', one('keep-reports')),
    judgements: parseDays('keep-judgements', one('keep-judgements')),
    acts: parseDays('keep-acts', one('keep-acts')),
    bytes: bytes === undefined ? null : parseSize('keep-bytes', bytes),
    atLeast: parseDays('keep-at-least', one('keep-at-least')) ?? KEEP_AT_LEAST_DAYS,
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

function readFlags(args: readonly string[]): Record<string, string | boolean | (string | boolean)[] | undefined> {
  const options: Record<string, { type: 'string' | 'boolean'; multiple?: boolean }> = {};
  for (const [name, option] of Object.entries(OPTIONS))
    options[name] = { type: 'string', multiple: 'multiple' in option };
  for (const name of Object.keys(FLAGS)) options[name] = { type: 'boolean' };
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('. ')[0]!}; 'bootproof server --help' lists the options`);
  }
}

function refuseUnknownVariables(env: Readonly<Record<string, string | undefined>>): void {
  const known = new Set<string>(Object.values(OPTIONS).map((option) => option.env));
  for (const name of Object.keys(env)) {
    const own = name.startsWith('BOOTPROOF_') ? name.slice('BOOTPROOF_'.length) : undefined;
    if (own !== undefined && !known.has(own) && !OTHER_VARIABLES.has(own))
      throw new UsageError(`no setting ${name}; 'bootproof server --help' lists them`);
  }
}

function parseListen(text: string): Settings['listen'] {
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

function parseBaseUrl(text: string): string {
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
