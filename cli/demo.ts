/** `bootproof demo`: the demo fleet once, from nothing, without staying up: a check that the whole path works on this machine. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Fleet, type FleetOptions } from '#demo/fleet.ts';
import { untilStopped } from '#server/serve.ts';
import { asExpected, fleetJson, fleetTable } from '#demo/show.ts';
import { wrongOption } from '#src/document/spelling.ts';
import { EXIT, jsonText, type Exit, type Io } from '#src/terminal.ts';

const HELP = `bootproof demo: brings up the demo fleet in a temporary folder, judges it, and takes it away again

  --json    one JSON document on standard output

Exit 0 only if each host got the verdict that it must get. 'npm start' brings up the same fleet and keeps it.
`;

export async function main(args: readonly string[], io: Io): Promise<Exit> {
  const options = { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } as const;
  const { json, help } = readFlags(args, options);
  if (help === true) {
    await io.stdout.write(HELP);
    return EXIT.ok;
  }
  const { uid, gid } = userInfo();
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-demo-'));
  const stop = new AbortController();
  void untilStopped().then(() => stop.abort());
  try {
    const options: FleetOptions = {
      folder,
      fresh: false,
      port: { port: 0, movable: false },
      user: { uid, gid },
      env: io.env,
      signal: stop.signal,
      say: (line) => io.stderr.write(`${line}\n`),
    };
    const stopped = 'stopped before every host was judged\n';
    const fleet = await Fleet.up(options).catch((error: unknown) => {
      if (error !== stop.signal.reason) throw error;
    });
    if (fleet === undefined) {
      await io.stderr.write(stopped);
      return EXIT.unknown;
    }
    try {
      const hosts = await fleet.settle();
      if (stop.signal.aborted) {
        await io.stderr.write(stopped);
        return EXIT.unknown;
      }
      await io.stdout.write(json === true ? `${jsonText(fleetJson(hosts))}\n` : fleetTable(hosts));
      return asExpected(hosts) ? EXIT.ok : EXIT.different;
    } finally {
      await fleet.close();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readFlags<const Options extends { [name: string]: { type: 'boolean'; short?: string } }>(
  args: readonly string[],
  options: Options,
) {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw wrongOption(error, Object.keys(options));
  }
}
