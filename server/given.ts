/**
 * What was given as settings, from three places: the command line over variables over a file. What is not known is refused in each of them:
 * a misspelt setting that is silently ignored looks like one that works.
 */
import { parseArgs } from 'node:util';
import { nearest, wrongOption } from '#src/document/spelling.ts';
import { UsageError } from '#src/terminal.ts';
import { FLAGS, OPTIONS, type OptionName } from './flags.ts';

export type Env = Readonly<Record<string, string | undefined>>;
export type FlagName = keyof typeof FLAGS;

/** Values of one setting in a file, each with where it stands, as `server.yaml:3:9`. */
export type InFile = readonly { readonly text: string; readonly at: string }[];
export type SettingsFile = {
  readonly values: ReadonlyMap<string, InFile>;
  /** What is wrong with the file itself. */
  readonly faults: readonly string[];
};
export const NO_FILE: SettingsFile = { values: new Map(), faults: [] };

/** Settings that cannot be used: each fault a line. */
export class SettingsError extends UsageError {
  readonly lines: readonly string[];

  constructor(faults: readonly string[]) {
    super(faults.join('\n'));
    this.lines = faults;
  }
}

// Variables of the database, and of the commands of clients and agents, which may stand in the same shell.
const OTHER_VARIABLES = new Set(['DATABASE_URL', 'SERVER', 'TOKEN', 'ENROLL_TOKEN', 'NODE']);
/** What turns a flag on or off in a variable or a file. */
const ON_OFF: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['1', true],
  ['yes', true],
  ['false', false],
  ['0', false],
  ['no', false],
  ['', false],
]);

export class Given {
  readonly #flags: Flags;
  readonly #env: Env;
  readonly #file: SettingsFile;
  readonly faults: string[] = [];

  constructor(args: readonly string[], env: Env, file: SettingsFile = NO_FILE) {
    this.#env = env;
    this.#file = file;
    this.#flags = this.#attempt(() => flagsIn(args)) ?? {};
    this.faults.push(...unknownVariables(env), ...file.faults);
  }

  /** Every value of a setting, from the first place that has it. */
  all(name: OptionName): readonly string[] {
    const flag = this.#flags[name];
    if (flag !== undefined) return [flag].flat().map(String);
    const variable = this.#env[`BOOTPROOF_${OPTIONS[name].env}`];
    if (variable !== undefined && variable !== '')
      return 'multiple' in OPTIONS[name] ? variable.split(/[,\s]+/).filter((word) => word !== '') : [variable];
    return (this.#file.values.get(name) ?? []).map(({ text }) => text);
  }

  one(name: OptionName): string | undefined {
    return this.all(name)[0];
  }

  isOn(name: FlagName): boolean {
    if (this.#flags[name] === true) return true;
    const flag = FLAGS[name];
    if (!('env' in flag)) return false;
    const variable = this.#env[`BOOTPROOF_${flag.env}`];
    const text = variable ?? this.#file.values.get(name)?.[0]?.text ?? '';
    const on = ON_OFF.get(text.toLowerCase());
    if (on === undefined) this.faults.push(`${this.nameOf(name)} ${text}: expected true or false`);
    return on ?? false;
  }

  /** How a setting is called where it was given: `--listen`, `BOOTPROOF_LISTEN` or `server.yaml:3:9: listen`. */
  nameOf(name: OptionName | FlagName, message = ''): string {
    if (this.#flags[name] !== undefined) return `--${name}`;
    const about = { ...OPTIONS, ...FLAGS }[name];
    const variable = 'env' in about ? `BOOTPROOF_${about.env}` : '';
    if ((this.#env[variable] ?? '') !== '') return variable;
    const items = this.#file.values.get(name) ?? [];
    const item = items.find(({ text }) => message.includes(text)) ?? items[0];
    return item === undefined ? `--${name}` : `${item.at}: ${name}`;
  }

  /** A refusal that begins with the option as the command line has it, told of the place where it was given. */
  placed(message: string): string {
    const name = /^--([a-z-]+)/.exec(message)?.[1];
    if (name === undefined || !(name in OPTIONS || name in FLAGS)) return message;
    return this.nameOf(name as OptionName | FlagName, message) + message.slice(name.length + 2);
  }

  /** What `read` gives. Where it refuses, there is a fault more, and what is given stands for nothing: faults are thrown before it is used. */
  read<T>(read: () => T): T {
    return this.#attempt(read) as T;
  }

  #attempt<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      this.faults.push(this.placed(error.message));
      return undefined;
    }
  }
}

/** The file that is named, before anything else is read. */
export function configFile(args: readonly string[], env: Env): string | undefined {
  const given = new Given(args, env);
  return given.one('config');
}

type Flags = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

function flagsIn(args: readonly string[]): Flags {
  const options: Record<string, { type: 'string' | 'boolean'; multiple?: boolean }> = {};
  for (const [name, option] of Object.entries(OPTIONS))
    options[name] = { type: 'string', multiple: 'multiple' in option };
  for (const name of Object.keys(FLAGS)) options[name] = { type: 'boolean' };
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    const { message } = wrongOption(error, Object.keys(options));
    throw new UsageError(`${message.split('. ')[0]!}; 'bootproof server --help' lists the options`);
  }
}

function unknownVariables(env: Env): string[] {
  const known = Object.values({ ...OPTIONS, ...FLAGS }).flatMap((about) => ('env' in about ? [about.env] : []));
  return Object.keys(env).flatMap((name) => {
    const own = name.startsWith('BOOTPROOF_') ? name.slice('BOOTPROOF_'.length) : undefined;
    if (own === undefined || known.some((each) => each === own) || OTHER_VARIABLES.has(own) || own.startsWith('AGENT_'))
      return [];
    const meant = nearest(own, known);
    const near = meant === undefined ? '' : `, did you mean BOOTPROOF_${meant}?`;
    return [`no setting ${name}${near === '' ? ';' : near} 'bootproof server --help' lists them`];
  });
}
