/** `agent doctor`: what works on this host, what does not, and what to do about it. */
import { EXIT, jsonText, printableText, type Exit, type Io } from '#src/terminal.ts';
import { BootproofError } from '#src/error.ts';
import { readConfig, type AgentConfig } from './config.ts';
import { nodeDisk } from './disk.ts';
import {
  deploymentCheck,
  identityCheck,
  libraryCheck,
  logCheck,
  programCheck,
  reportsCheck,
  rightsCheck,
  serverCheck,
  settingsCheck,
  stateCheck,
  unitsCheck,
  type Check,
} from './doctor.ts';
import { observe, runProgram } from './observe.ts';
import { painter } from './present.ts';
import { realRoot } from './scancommand.ts';
import { EXIT_HELP, flagsOf, help, options, parseBackend, serverFor, SETTINGS, SETTINGS_HELP } from './settings.ts';

const HELP = `bootproof agent doctor: what works on this host, what does not, and what to do about it

  --no-network      do not ask the server anything
  --json            one JSON document on standard output
  --backend NAME, --image DIGEST    where the root itself cannot tell
${SETTINGS_HELP}
Nothing is changed and nothing is reported. Run it as root, which may see what the service sees.
Exit codes: 0 all is well, 1 something is wrong, 2 something could not be looked at; ${EXIT_HELP}
`;

export async function doctorCommand(args: readonly string[], io: Io): Promise<Exit> {
  const values = options(args, {
    ...SETTINGS,
    json: { type: 'boolean' },
    backend: { type: 'string' },
    image: { type: 'string' },
    'no-network': { type: 'boolean' },
  });
  if (values.help === true) return help(io, HELP);
  const about = { backend: parseBackend(values.backend), image: values.image };
  const checks = await examine(flagsOf(values), io, about, values['no-network'] !== true);
  const wrong = checks.filter(({ state }) => state === 'wrong').length;
  const unknown = checks.filter(({ state }) => state === 'unknown').length;
  if (values.json === true) await io.stdout.write(`${jsonText({ checks })}\n`);
  else await io.stdout.write(textOf(checks, wrong, unknown, io));
  return wrong > 0 ? EXIT.different : unknown > 0 ? EXIT.unknown : EXIT.ok;
}

type About = { readonly backend: ReturnType<typeof parseBackend>; readonly image: string | undefined };

async function examine(flags: ReturnType<typeof flagsOf>, io: Io, about: About, network: boolean): Promise<Check[]> {
  const checks: Check[] = [];
  const add = (name: string, said: Omit<Check, 'name'>) => checks.push({ name, ...said });
  add('program', programCheck());
  add('rights', rightsCheck());
  add('library', await libraryCheck());
  let config: AgentConfig;
  try {
    config = readConfig(nodeDisk, io.env, flags);
  } catch (error) {
    // Without settings it is not known where anything else lies.
    if (!(error instanceof BootproofError)) throw error;
    add('settings', { state: 'wrong', says: error.message, todo: 'correct it: the agent does not start with it' });
    return checks;
  }
  const live = config.root === '/';
  realRoot(config.root);
  const { said, identity } = identityCheck(config.stateFolder);
  add('settings', settingsCheck(config, identity));
  add('state', stateCheck(config.stateFolder));
  add('enrolment', said);
  add('image', deploymentCheck(await observe({ root: config.root, ...about })));
  if (live) add('units', await unitsCheck(runProgram));
  if (identity !== undefined) {
    add('reports', reportsCheck(config.stateFolder, config.intervalMs, Date.now()));
    add('log', logCheck(config.stateFolder));
  }
  const url = config.url ?? identity?.url ?? null;
  if (network && url !== null && checks.find(({ name }) => name === 'settings')?.state === 'ok')
    add('server', await ask(config, url, io));
  return checks;
}

async function ask(config: AgentConfig, url: string, io: Io): Promise<Omit<Check, 'name'>> {
  try {
    const server = serverFor(config, url, io);
    try {
      return await serverCheck(server, Date.now);
    } finally {
      server.close();
    }
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    return { state: 'wrong', says: error.message, todo: 'correct the setting "ca", or remove it' };
  }
}

const MARK = { ok: 'ok', wrong: 'WRONG', unknown: '?' } as const;
const STYLE = { ok: 'green', wrong: 'red', unknown: 'yellow' } as const;

function textOf(checks: readonly Check[], wrong: number, unknown: number, io: Io): string {
  const paint = painter(io.stdout, io.env);
  const lines = checks.flatMap(({ name, state, says, todo }) => [
    `${paint(STYLE[state], MARK[state].padEnd(6))}${name.padEnd(10)} ${printableText(says)}`,
    ...(todo === null ? [] : [`${' '.repeat(16)} → ${printableText(todo)}`]),
  ]);
  const things = (count: number, what: string) => `${count} ${count === 1 ? 'thing' : 'things'} ${what}`;
  const sum = [
    ...(wrong > 0 ? [things(wrong, wrong === 1 ? 'is wrong' : 'are wrong')] : []),
    ...(unknown > 0 ? [things(unknown, 'could not be told')] : []),
  ];
  return `${[...lines, sum.length === 0 ? 'All is well.' : `${sum.join(', ')}.`].join('\n')}\n`;
}
