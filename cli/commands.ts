/** `bootproof …`: argv → subcommand, each imported only when it is called. */
import { noCommand } from '#src/document/spelling.ts';
import { EXIT, type Exit, type Io } from '#src/terminal.ts';
import { VERSION } from '#src/version.ts';

/** A subcommand: the words after its name, and its exit code. It prints its own results; refusals it throws. */
export type Command = (args: readonly string[], io: Io) => Promise<Exit>;

const COMMANDS: Readonly<Record<string, { readonly about: string; load(): Promise<{ main: Command }> }>> = {
  agent: {
    about: 'what runs on each host: scan it',
    load: () => import('./agent.ts'),
  },
  start: { about: 'bring up a server here with a demo fleet (npm start)', load: () => import('./start.ts') },
  demo: { about: 'judge the demo fleet once, as a check of the whole path', load: () => import('./demo.ts') },
  manifest: {
    about: 'build, show, digest, lint, diff or check the file manifest of an image',
    load: () => import('./manifest.ts'),
  },
  image: {
    about: 'verify who signed an image, check image policies',
    load: async () => ({ main: (await import('./verify.ts')).image }),
  },
  server: {
    about: 'take reports, judge hosts, show what was found',
    load: () => import('./server.ts'),
  },
  hosts: {
    about: 'list the fleet, and decide about hosts',
    load: async () => ({ main: (await import('./fleet.ts')).hosts }),
  },
  host: {
    about: 'show one host: its answers, and why',
    load: async () => ({ main: (await import('./fleet.ts')).host }),
  },
  findings: {
    about: 'list what is open in the fleet, and say what you do about it',
    load: async () => ({ main: (await import('./fleet.ts')).findings }),
  },
  waivers: {
    about: 'exceptions that end: ask, approve, revoke',
    load: async () => ({ main: (await import('./waivers.ts')).waivers }),
  },
  images: {
    about: 'list images and the state of their manifests',
    load: async () => ({ main: (await import('./supply.ts')).images }),
  },
  trust: {
    about: 'show by what images are judged: policies, trust roots and their age',
    load: async () => ({ main: (await import('./trust.ts')).trust }),
  },
  policy: {
    about: 'test, check and explain host policies; try, apply and list those of a server',
    load: () => import('./policy.ts'),
  },
  controls: {
    about: 'what the result of each control of a framework is computed from',
    load: () => import('./controls.ts'),
  },
  apply: {
    about: 'make a server what files say: sources, policy, channels, tokens, waivers',
    load: () => import('./apply.ts'),
  },
  deny: {
    about: 'say what no longer counts, whoever signed it',
    load: async () => ({ main: (await import('./trust.ts')).deny }),
  },
  evidence: {
    about: 'export an evidence bundle from a server; check one, offline',
    load: () => import('./evidence.ts'),
  },
  log: {
    about: 'the evidence log: how it stands, verify it, write it as files',
    load: () => import('./log.ts'),
  },
  hold: {
    about: 'legal holds: what is kept whatever the settings say',
    load: async () => ({ main: (await import('./hold.ts')).hold }),
  },
  retention: {
    about: 'how long what was reported stays, and what was purged',
    load: async () => ({ main: (await import('./retention.ts')).retention }),
  },
  inventory: {
    about: 'lists of hosts that others keep, and what they and the fleet do not agree on',
    load: async () => ({ main: (await import('./inventory.ts')).inventory }),
  },
  channels: {
    about: 'who is told what, and what did not arrive',
    load: async () => ({ main: (await import('./notices.ts')).channels }),
  },
  tokens: {
    about: 'make, list and revoke enrolment tokens',
    load: async () => ({ main: (await import('./supply.ts')).tokens }),
  },
  access: {
    about: 'who may do what: accounts, roles, API tokens, sessions',
    load: async () => ({ main: (await import('./access.ts')).access }),
  },
  sources: {
    about: 'say where images may be fetched from',
    load: async () => ({ main: (await import('./supply.ts')).sources }),
  },
  load: {
    about: 'a simulated fleet against a server: what it stands, in numbers',
    load: () => import('./load.ts'),
  },
  import: {
    about: 'take in reports that came by file',
    load: async () => ({ main: (await import('./supply.ts')).carried }),
  },
};

const HELP = `bootproof: is each bootable-container host still the image that its builders signed?

${Object.entries(COMMANDS)
  .map(([name, { about }]) => `  bootproof ${name.padEnd(10)} ${about}`)
  .join('\n')}

Each takes --help; --version tells the version. Exit codes: 0 as expected, 1 a difference or refusal was seen, 2 something could not be told,
64 wrong use, 70 our own fault.
`;

/** The whole command. @throws what its subcommands throw. */
export async function bootproof(argv: readonly string[], io: Io): Promise<Exit> {
  const [name, ...args] = argv;
  if (name === undefined || name === '--help' || name === '-h' || (name === 'help' && args.length === 0)) {
    await (name === undefined ? io.stderr : io.stdout).write(HELP);
    return name === undefined ? EXIT.usage : EXIT.ok;
  }
  if (name === '--version' || name === '-V') {
    await io.stdout.write(`bootproof ${VERSION}\n`);
    return EXIT.ok;
  }
  if (name === 'help') return bootproof([...args, '--help'], io);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw noCommand('bootproof', name, Object.keys(COMMANDS));
  return (await command.load()).main(args, io);
}
