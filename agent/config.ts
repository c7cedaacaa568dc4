/**
 * The agent's settings: what the image says in /usr/lib/bootproof/agent.json, and what /etc/bootproof/agent.json, environment
 * and command line may override: address, authorities, interval, and nothing else (PROTOCOL 4).
 */
import { hash } from 'node:crypto';
import { z } from 'zod';
import type { Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { CONFIG_FILE_BYTES_MAX, CONTENT_GLOBS_MAX } from '#src/limits.ts';
import { isEtcGlob, parseSecretPath, SECRET_PATHS_ID, SecretPathError } from '#src/drift/redact.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { VERSION } from '#src/version.ts';
import type { Disk } from './disk.ts';
import type { Gentle } from './pressure.ts';

export class ConfigError extends BootproofError<'SETTINGS_SYNTAX' | 'SETTING_UNKNOWN' | 'SETTING_TIME'> {}

/** This agent's version, in reports and in the `User-Agent`. */
export const AGENT_VERSION = VERSION;

export const IMAGE_CONFIG = '/usr/lib/bootproof/agent.json';
export const ETC_CONFIG = '/etc/bootproof/agent.json';
export const STATE_FOLDER = '/var/lib/bootproof';

/** What may be set outside the image. */
const Overridable = {
  /** Address of the server. */
  url: z.string().max(2000).optional(),
  /** File with the authorities (PEM) that alone are trusted. */
  ca: z.string().startsWith('/').max(4095).optional(),
  /** Time between reports: `15m`. */
  interval: z.string().max(20).optional(),
};
const EtcSettings = z.strictObject(Overridable);
const Percent = z.int().min(1).max(99).nullable();
const ImageSettings = z.strictObject({
  ...Overridable,
  /** The site's own secrets below /etc, as globs: they can be added only here. */
  secretPaths: z.array(z.string()).max(100).optional(),
  /** Globs of /etc text files whose content may leave the host where it differs from the image's (PROTOCOL 3.10). */
  contents: z.array(z.string()).max(CONTENT_GLOBS_MAX).optional(),
  /** Time within which every file is read again, though nothing seems to have changed: `1d`; `always` reads every file every time. */
  reread: z.string().max(20).optional(),
  /** How much others on the host may wait before a scan rests, in percent of the time; null: not looked at. `wait`: for how long at most. */
  gentle: z
    .strictObject({
      cpu: Percent.optional(),
      io: Percent.optional(),
      memory: Percent.optional(),
      wait: z.string().max(20).optional(),
      /** On battery a scan waits for so long at most; without it it does not wait. */
      battery: z.string().max(20).optional(),
    })
    .optional(),
});
type Settings = z.infer<typeof ImageSettings>;

/** What the command line may say, beside what /etc may. */
export type Flags = {
  readonly url?: string | undefined;
  readonly ca?: string | undefined;
  readonly interval?: string | undefined;
  /** Where the agent keeps key, state and spool. */
  readonly state?: string | undefined;
  /** The root that is scanned; its own settings files are read. */
  readonly root?: string | undefined;
};

export type AgentConfig = {
  readonly url: string | null;
  readonly ca: string | null;
  readonly intervalMs: number;
  readonly secretPaths: readonly string[];
  readonly contents: readonly string[];
  /** Null: always read. */
  readonly rereadMs: number | null;
  readonly gentle: Gentle;
  readonly root: string;
  readonly stateFolder: string;
  /** Digest of the effective settings: what this report was made with. */
  readonly digest: Digest;
};

const VARIABLES = {
  BOOTPROOF_AGENT_URL: 'url',
  BOOTPROOF_AGENT_CA: 'ca',
  BOOTPROOF_AGENT_INTERVAL: 'interval',
  BOOTPROOF_AGENT_STATE: 'state',
  BOOTPROOF_AGENT_ROOT: 'root',
} as const satisfies Record<string, keyof Flags>;

const INTERVAL = '15m';
const REREAD = '1d';
const INTERVAL_MS_MIN = 1000;
const INTERVAL_MS_MAX = 7 * 24 * 3600 * 1000;

/**
 * The effective settings: command line before environment, before /etc, before the image.
 * @throws {ConfigError} naming file or variable and setting; a file that is absent sets nothing.
 */
export function readConfig(disk: Disk, env: Readonly<Record<string, string | undefined>>, flags: Flags): AgentConfig {
  const given = { ...fromEnvironment(env), ...defined(flags) };
  const root = (given.root ?? '/').replace(/(?<=.)\/+$/, '');
  const below = (file: string) => (root === '/' ? file : root + file);
  const image = readSettings(disk, below(IMAGE_CONFIG), ImageSettings);
  const etc = readSettings(disk, below(ETC_CONFIG), EtcSettings);
  const effective = { ...image, ...etc, ...given };
  const intervalMs = parseDuration(effective.interval ?? INTERVAL);
  const secretPaths = (image.secretPaths ?? []).map((text) => secretPath(text, below(IMAGE_CONFIG)));
  const settings = {
    url: effective.url ?? null,
    ca: effective.ca ?? null,
    intervalMs,
    secretPaths,
    secretPathsId: SECRET_PATHS_ID,
    contents: (image.contents ?? []).map((text) => contentGlob(text, below(IMAGE_CONFIG))),
    rereadMs: effective.reread === 'always' ? null : parseDuration(effective.reread ?? REREAD),
    gentle: gentleOf(image),
    root,
  };
  return {
    ...settings,
    stateFolder: given.state ?? STATE_FOLDER,
    digest: `sha256:${hash('sha256', canonicalJson(settings), 'hex')}` as Digest,
  };
}

/**
 * What `agent scan --gentle` does, and `agent run` where the image says nothing else. Cores are left to the scheduler: the unit is nice and weighs
 * little, and a host that computes all day would be waited for in vain with each scan.
 */
export const GENTLE: Gentle = { limits: { cpu: null, io: 60, memory: 20 }, waitMs: 300_000, batteryMs: null };

function gentleOf({ gentle = {} }: Settings): Gentle {
  const { cpu, io, memory, wait, battery } = gentle;
  const or = (value: number | null | undefined, otherwise: number | null) => (value === undefined ? otherwise : value);
  const { limits, waitMs } = GENTLE;
  return {
    limits: { cpu: or(cpu, limits.cpu), io: or(io, limits.io), memory: or(memory, limits.memory) },
    waitMs: wait === undefined ? waitMs : parseDuration(wait),
    batteryMs: battery === undefined ? null : parseDuration(battery),
  };
}

function fromEnvironment(env: Readonly<Record<string, string | undefined>>): Flags {
  const out: { -readonly [Key in keyof Flags]: Flags[Key] } = {};
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('BOOTPROOF_AGENT_') || value === undefined) continue;
    if (!Object.hasOwn(VARIABLES, name))
      throw new ConfigError('SETTING_UNKNOWN', `${name} is no setting; there are ${Object.keys(VARIABLES).join(', ')}`);
    out[VARIABLES[name as keyof typeof VARIABLES]] = value;
  }
  return out;
}

function defined(flags: Flags): Flags {
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
}

function readSettings(disk: Disk, file: string, schema: typeof ImageSettings | typeof EtcSettings): Settings {
  const bytes = disk.read(file, CONFIG_FILE_BYTES_MAX);
  if (bytes === undefined) return {};
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ConfigError('SETTINGS_SYNTAX', `${file} is not JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const unknown = parsed.error.issues.flatMap((issue) => (issue.code === 'unrecognized_keys' ? issue.keys : []));
  const imageOnly = unknown.filter((key) => schema === EtcSettings && Object.hasOwn(ImageSettings.shape, key));
  if (imageOnly.length > 0)
    throw new ConfigError(
      'SETTING_UNKNOWN',
      `${file}: ${imageOnly.join(', ')} can be set only inside the image, in ${IMAGE_CONFIG}`,
    );
  if (unknown.length > 0)
    throw new ConfigError(
      'SETTING_UNKNOWN',
      `${file}: ${unknown.join(', ')}: no such setting; there are ${Object.keys(schema.shape).join(', ')}`,
    );
  throw new ConfigError('SETTINGS_SYNTAX', `${file}: ${z.prettifyError(parsed.error)}`, { cause: parsed.error });
}

function secretPath(text: string, file: string): string {
  try {
    return parseSecretPath(text);
  } catch (cause) {
    if (!(cause instanceof SecretPathError)) throw cause;
    throw new ConfigError('SETTINGS_SYNTAX', `${file}: secretPaths: ${cause.message}`, { cause });
  }
}

function contentGlob(text: string, file: string): string {
  if (isEtcGlob(text)) return text;
  throw new ConfigError(
    'SETTINGS_SYNTAX',
    `${file}: contents: expected a glob below /etc, such as /etc/ssh/sshd_config or /etc/sysctl.d/*.conf, without [ ] { } and \\; got ${JSON.stringify(text.slice(0, 200))}`,
  );
}

/** `90s`, `15m`, `6h`, `1d` in milliseconds. @throws {ConfigError} for others, and outside one second to a week. */
export function parseDuration(text: string): number {
  const match = /^([1-9][0-9]{0,6})(s|m|h|d)$/.exec(text);
  const unit = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[match?.[2] ?? ''] ?? 0;
  const ms = Number(match?.[1]) * unit;
  if (!(ms >= INTERVAL_MS_MIN && ms <= INTERVAL_MS_MAX))
    throw new ConfigError(
      'SETTING_TIME',
      `expected a time such as 15m, from 1s to 7d; got ${JSON.stringify(text.slice(0, 40))}`,
    );
  return ms;
}
