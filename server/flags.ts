/** Every setting of the server: its name on the command line and in a file, its variable, and what it is for. */
import { BOUND_NAMES } from '#src/source/bounds.ts';
import { STOP_WITHIN_MS } from '#src/limits.ts';
import { LOG_LEVELS } from './logging.ts';
import { KEEP_AT_LEAST_DAYS } from './retention.ts';

export type Option = {
  /** Name of the environment variable, without BOOTPROOF_. */
  readonly env: string;
  readonly value: string;
  readonly help: string;
  readonly multiple?: true;
};

export const OPTIONS = {
  config: {
    env: 'CONFIG',
    value: 'FILE',
    help: 'a file with settings in YAML, each under the name that it has here (docs/operating.md 2)',
  },
  data: { env: 'DATA', value: 'DIR', help: 'where the database and manifests lie (default ./bootproof-data)' },
  listen: {
    env: 'LISTEN',
    value: 'HOST:PORT',
    help: 'where to listen (default 127.0.0.1:8340, or the next free port)',
  },
  'tls-cert': {
    env: 'TLS_CERT',
    value: 'FILE',
    help: 'the server’s certificate in PEM, and behind it those that vouch for it; then it speaks TLS and nothing else',
  },
  'tls-key': { env: 'TLS_KEY', value: 'FILE', help: 'its private key in PEM; both are read again when they change' },
  'database-url-file': {
    env: 'DATABASE_URL_FILE',
    value: 'FILE',
    help: 'a file with the postgres:// URL alone, in place of the variable DATABASE_URL',
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

export type OptionName = keyof typeof OPTIONS;

/** What is on or off. Those with a variable may stand in a file too; the others are acts of one start. */
export const FLAGS = {
  'no-migrate': {
    env: 'NO_MIGRATE',
    help: 'leave the database as it is, and wait until bootproof server migrate has brought it up to this build',
  },
  'new-admin-token': { help: 'make and print another admin token; the old one and all sessions end' },
  help: { help: 'print this' },
} as const satisfies Readonly<Record<string, { readonly env?: string; readonly help: string }>>;

export const SERVER_HELP = `bootproof server: takes reports, judges hosts, shows what it found

${Object.entries(OPTIONS)
  .map(([name, option]) => `  --${`${name} ${option.value}`.padEnd(22)} ${option.help}`)
  .join('\n')}
${Object.entries(FLAGS)
  .map(([name, { help }]) => `  --${name.padEnd(22)} ${help}`)
  .join('\n')}

What is written here wins over the variable BOOTPROOF_NAME (for example BOOTPROOF_BASE_URL), that over the file of --config, and that over
the default. DATABASE_URL or BOOTPROOF_DATABASE_URL names a PostgreSQL database; without one, SQLite in the data folder is used.
`;
