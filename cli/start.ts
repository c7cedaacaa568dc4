/** `bootproof start` (`npm start`): a server on this machine with the demo fleet, or empty; taken up again by the next start. */
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { lockFolder } from '#agent/lock.ts';
import { Fleet, type FleetOptions } from '#demo/fleet.ts';
import { usableFolder } from '#demo/folder.ts';
import { fleetTable } from '#demo/show.ts';
import { DEFAULT_PORT } from '#server/config.ts';
import { serve, untilStopped } from '#server/serve.ts';
import { wrongOption } from '#src/document/spelling.ts';
import { EXIT, shellQuoted, UsageError, type Exit, type Io } from '#src/terminal.ts';

const HELP = `bootproof start: a server on this machine with a demo fleet, kept in ./bootproof-data

  --fresh       forget the demo fleet and build it anew
  --no-demo     an empty server instead
  --data DIR    another folder

For a server of your own with more settings: bootproof server --help
`;

export async function main(args: readonly string[], io: Io): Promise<Exit> {
  const flags = readFlags(args);
  if (flags.help === true) {
    await io.stdout.write(HELP);
    return EXIT.ok;
  }
  const { uid, gid } = userInfo();
  const folder = await usableFolder(flags.data, tmpdir(), uid, io);
  using _lock = lockFolder(folder);
  if (flags.demo === false) {
    if (flags.fresh === true) throw new UsageError('--fresh rebuilds the demo fleet, --no-demo has none');
    // Awaited here: the lock is let go when this returns.
    return await serve(['--data', folder], io);
  }
  const stop = new AbortController();
  const stopped = untilStopped().then(() => stop.abort());
  const options: FleetOptions = {
    folder: join(folder, 'demo'),
    fresh: flags.fresh === true,
    port: { port: DEFAULT_PORT, movable: true },
    user: { uid, gid },
    env: io.env,
    signal: stop.signal,
    say: (line) => io.stderr.write(`${line}\n`),
  };
  const fleet = await Fleet.up(options).catch((error: unknown) => {
    if (error !== stop.signal.reason) throw error;
  });
  if (fleet === undefined) {
    await io.stderr.write('stopping\n');
    return EXIT.ok;
  }
  try {
    if (fleet.port !== DEFAULT_PORT)
      await io.stderr.write(`port ${DEFAULT_PORT} is taken, so this is on ${fleet.port}\n`);
    // People look at the page while agents still report.
    await io.stderr.write(`bootproof server at ${fleet.url}\n`);
    const hosts = await fleet.settle();
    if (!stop.signal.aborted) await io.stdout.write(`\n${fleetTable(hosts)}\n${access(fleet, join(folder, 'demo'))}`);
    await fleet.keepReporting();
    await stopped;
    await io.stderr.write('stopping\n');
    return EXIT.ok;
  } finally {
    await fleet.close();
  }
}

/** What a person needs to look at the fleet: the page, the token, and the variables by which commands find this server. */
export function access(fleet: Pick<Fleet, 'url' | 'adminToken' | 'isNewToken'>, folder: string): string {
  const token = fleet.isNewToken
    ? `${fleet.adminToken}\n               (shown this once, and kept in ${join(folder, 'admin-token')})`
    : `kept in ${join(folder, 'admin-token')}`;
  return `open           ${fleet.url}
admin token    ${token}
commands       export BOOTPROOF_SERVER=${fleet.url} BOOTPROOF_TOKEN="$(cat ${shellQuoted(join(folder, 'admin-token'))})"
               ./bootproof hosts
stop           Ctrl-C; 'npm start' takes it up again, 'npm start -- --fresh' builds it anew
`;
}

function readFlags(args: readonly string[]) {
  const options = {
    fresh: { type: 'boolean' },
    demo: { type: 'boolean' },
    data: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  } as const;
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false, allowNegative: true }).values;
  } catch (error) {
    throw wrongOption(error, Object.keys(options));
  }
}
