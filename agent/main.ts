/** `bootproof agent …`, and the agent's own entry: argv → subcommand, each imported only when it is called. */
import { setFlagsFromString } from 'node:v8';
import { noCommand } from '#src/document/spelling.ts';
import { VERSION } from '#src/version.ts';
import { DiskError } from './disk.ts';
import { EXIT, processIo, runCommand, type Exit, type Io } from '#src/terminal.ts';

/** A subcommand: the words after its name, and its exit code. It prints its own results; refusals it throws. */
export type AgentCommand = (args: readonly string[], io: Io) => Promise<Exit>;

const COMMANDS: Readonly<Record<string, { readonly about: string; load(): Promise<AgentCommand> }>> = {
  scan: {
    about: 'read all of /usr and /etc, and say what is not as the image says',
    load: async () => (await import('./scancommand.ts')).scanCommand,
  },
  enroll: {
    about: "make this host's key, and have the server take it",
    load: async () => (await import('./enrolcommand.ts')).enrollCommand,
  },
  run: {
    about: 'look at the host once, or every so often, and report to the server',
    load: async () => (await import('./runcommand.ts')).runCommand,
  },
  report: {
    about: 'the same without a network: the report goes to a file',
    load: async () => (await import('./runcommand.ts')).reportCommand,
  },
  import: {
    about: 'take in what the server wrote to files: the answer to an enrolment, manifests',
    load: async () => (await import('./importcommand.ts')).importCommand,
  },
  checkpoint: {
    about: "what this host keeps of the server's evidence log, signed",
    load: async () => (await import('./checkpointcommand.ts')).checkpointCommand,
  },
  status: {
    about: 'who this host is to its server, and what waits',
    load: async () => (await import('./statuscommand.ts')).statusCommand,
  },
  doctor: {
    about: 'what works on this host, what does not, and what to do about it',
    load: async () => (await import('./doctorcommand.ts')).doctorCommand,
  },
};

const HELP = `bootproof agent: the part of Bootproof that runs on each host

${Object.entries(COMMANDS)
  .map(([name, { about }]) => `  bootproof agent ${name.padEnd(10)} ${about}`)
  .join('\n')}

Each takes --help; --version tells the version.
`;

/** Runs a subcommand. `own` are those that the whole command does in its own way. @throws what the subcommand throws. */
export async function main(
  args: readonly string[],
  io: Io,
  own: Readonly<Record<string, AgentCommand>> = {},
): Promise<Exit> {
  // The young generation may grow to 48 MB and stays so: on a host that is memory without a gain in time.
  setFlagsFromString('--semi-space-growth-factor=1');
  const [name, ...rest] = args;
  if (name === '--version' || name === '-V') {
    await io.stdout.write(`bootproof agent ${VERSION}\n`);
    return EXIT.ok;
  }
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    await (name === undefined ? io.stderr : io.stdout).write(HELP);
    return name === undefined ? EXIT.usage : EXIT.ok;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw noCommand('bootproof agent', name, Object.keys(COMMANDS));
  const act = Object.hasOwn(own, name) ? own[name]! : await command.load();
  try {
    return await act(rest, io);
  } catch (error) {
    throw refusedByDisk(error) ?? error;
  }
}

/** A full, failing or read-only disk is nobody's mistake in the program. */
function refusedByDisk(error: unknown): DiskError | undefined {
  if (!(error instanceof Error) || !('syscall' in error)) return undefined;
  const { code = '', path, syscall } = error as NodeJS.ErrnoException;
  // Node makes folders from the top: that one above is missing all the same is its word for a disk that fails.
  const why = syscall === 'mkdir' && code === 'ENOENT' ? DISK_SAYS.get('EIO') : DISK_SAYS.get(code);
  if (why === undefined) return undefined;
  return new DiskError('STATE_UNWRITABLE', `${path ?? 'the folder of the agent'}: ${why} (${code}); see --state DIR`, {
    cause: error,
  });
}

const DISK_SAYS: ReadonlyMap<string, string> = new Map([
  ['ENOSPC', 'the disk is full'],
  ['EDQUOT', 'the quota is used up'],
  ['EROFS', 'the file system is read-only'],
  ['EIO', 'the disk fails'],
  ['EACCES', 'this user may not go there, or not write there'],
  ['EPERM', 'this is not allowed to this user'],
  ['ENOTDIR', 'what stands there is no folder'],
]);

/** The agent as a program of its own: `bootproof agent …` as well as `…`. */
export async function start(): Promise<void> {
  // A program whose last wait is never answered ends as well, and has told nothing then.
  process.exitCode = EXIT.fault;
  const words = process.argv.slice(2);
  const io = processIo(process.stdout, process.stderr, process.env);
  process.exitCode = await runCommand(words[0] === 'agent' ? words.slice(1) : words, io, main);
}

if (import.meta.main) void start();
