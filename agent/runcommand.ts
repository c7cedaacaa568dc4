/** `agent run` and `agent report`: look at the host, report to the server or into a file, and say what was seen. */
import { setTimeout as sleep } from 'node:timers/promises';
import { formatInstant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { EXIT, jsonText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { ScanStopped } from './brokenscan.ts';
import { readConfig, type AgentConfig } from './config.ts';
import { DigestCache } from './digestcache.ts';
import { nodeDisk } from './disk.ts';
import { lockFolder } from './lock.ts';
import { observe } from './observe.ts';
import { cycle, type Cycle, type RunDeps } from './run.ts';
import { waysText } from './present.ts';
import { Neighbour } from './pressure.ts';
import { scan } from './scan.ts';
import { parseThrottle, THROTTLE_HELP } from './scancommand.ts';
import {
  checkOut,
  EXIT_HELP,
  flagsOf,
  giveToOwner,
  help,
  identityIn,
  options,
  outboxDeps,
  parseBackend,
  parseImage,
  say,
  serverFor,
  SETTINGS,
  SETTINGS_HELP,
} from './settings.ts';

const EXITS = `
Exit codes: 0 as the image says; 1 a difference was seen, or the server refused a report; 2 neither, but something could
not be told: a path that could not be read, no manifest, or a report that did not arrive; ${EXIT_HELP}
`;

const RUN_HELP = `bootproof agent run: looks at the host once, compares it with its image, reports to the server

  --every TIME      go on, at this interval or when the server asks (15m)
  --interval TIME   expected time between reports, if a timer starts the agent (default 15m)
  --json            one JSON document on standard output; with --every one a line
${THROTTLE_HELP}
  --backend NAME, --image DIGEST    where the root itself cannot tell
${SETTINGS_HELP}
A host without a network uses 'bootproof agent report --out FILE' instead.
${EXITS}`;

const REPORT_HELP = `bootproof agent report: looks at the host once, compares it with its image, writes the report to a file

  --out FILE        all reports that wait are added to it; take it to the server: \`bootproof import FILE\`
  --json            one JSON document on standard output
${THROTTLE_HELP}
  --backend NAME, --image DIGEST    where the root itself cannot tell
${SETTINGS_HELP}
What it is compared with comes by file too: \`bootproof images export DIGEST --out F\` there, \`bootproof agent import F\`
here (docs/agent.md).
${EXITS}`;

const ABOUT = {
  ...SETTINGS,
  json: { type: 'boolean' },
  backend: { type: 'string' },
  image: { type: 'string' },
  throttle: { type: 'string' },
} as const;

/** One cycle, its reports to the server, or with `--every` one after the other. Exit codes as the help says. */
export async function runCommand(args: readonly string[], io: Io): Promise<Exit> {
  const values = options(args, { ...ABOUT, every: { type: 'string' }, interval: { type: 'string' } });
  if (values.help === true) return help(io, RUN_HELP);
  return look(values, io);
}

/** One cycle, its reports into a file (PROTOCOL 4). Exit codes as the help says. */
export async function reportCommand(args: readonly string[], io: Io): Promise<Exit> {
  const values = options(args, { ...ABOUT, out: { type: 'string' } });
  if (values.help === true) return help(io, REPORT_HELP);
  if (values.out === undefined)
    throw new UsageError("--out FILE is needed; 'bootproof agent run' reports to the server");
  checkOut(values.out);
  return look(values, io);
}

type Values = {
  readonly json?: boolean;
  readonly backend?: string;
  readonly image?: string;
  readonly throttle?: string;
  readonly every?: string;
  readonly interval?: string;
  readonly out?: string;
} & Parameters<typeof flagsOf>[0];

async function look(values: Values, io: Io): Promise<Exit> {
  const backend = parseBackend(values.backend);
  const image = values.image === undefined ? undefined : parseImage('--image', values.image);
  const bytesPerSecond = parseThrottle(values.throttle);
  const config = readConfig(nodeDisk, io.env, { ...flagsOf(values), interval: values.every ?? values.interval });
  const { identity, signer } = identityIn(config);
  using _lock = lockFolder(config.stateFolder);
  const stop = new AbortController();
  const url = config.url ?? identity.url;
  if (url === null && values.out === undefined)
    throw new UsageError("no server is set: --server URL; without a network 'bootproof agent report --out FILE'");
  const server = url === null || values.out !== undefined ? null : serverFor(config, url, io, stop.signal);
  const scans = new Scans();
  const deps: RunDeps = {
    ...outboxDeps(io, stop.signal),
    observe,
    scan: (options) => scans.during(options),
    server,
    signal: AbortSignal.any([stop.signal, scans.signal]),
  };
  const about = { config, identity, signer, out: values.out, backend, image, bytesPerSecond };
  const begin = async () => {
    const neighbour = new Neighbour(config.gentle);
    await neighbour.begin(stop.signal);
    return { neighbour, ...(config.rereadMs === null ? {} : { cache: cacheIn(config.stateFolder, config.rereadMs) }) };
  };
  const once = async (): Promise<Cycle> => {
    const first = await cycle(deps, { ...about, ...(await begin()) });
    await tell(io, first, values.json === true);
    if (scans.signal.aborted) stop.abort(new Stopped());
    if (!first.again || stop.signal.aborted) return first;
    await say(io, 'the server has not heard this host for a while: reporting once more, with a challenge of today');
    const second = await cycle(deps, { ...about, ...(await begin()) });
    await tell(io, second, values.json === true);
    return second;
  };
  const end = () => stop.abort(new Stopped());
  // By a unit that ran for too long, or by a shutdown: that no scan came to its end is told as well, if that does not take long.
  const terminate = () => {
    if (!scans.stop()) end();
    else setTimeout(end, LAST_WORDS_MS).unref();
  };
  process.once('SIGTERM', terminate).once('SIGINT', end);
  try {
    if (values.every === undefined) return (await once()).exit;
    for (;;) await sleep(Math.max(0, (await next(once, io, config)) - Date.now()), undefined, { signal: stop.signal });
  } catch (error) {
    // Asked to stop: what was sealed waits for the next run. A single look that was broken off has told nothing.
    if (stop.signal.aborted) return values.every === undefined ? EXIT.unknown : EXIT.ok;
    throw error;
  } finally {
    process.off('SIGTERM', terminate).off('SIGINT', end);
    server?.close();
    giveToOwner(config.stateFolder);
  }
}

/** What the runs before this one read, as this one begins. */
const cacheIn = (folder: string, rereadMs: number) => new DigestCache({ file: `${folder}/digests`, rereadMs });

class Stopped extends Error {}

/** What a report may take after SIGTERM; systemd kills after 90 s. */
const LAST_WORDS_MS = 20_000;

/** Whether a scan is under way, and its end before its time. */
class Scans {
  readonly #stop = new AbortController();
  #startedAt: number | null = null;

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  async during(options: Parameters<typeof scan>[0]): ReturnType<typeof scan> {
    this.#startedAt = performance.now();
    try {
      return await scan(options);
    } finally {
      this.#startedAt = null;
    }
  }

  /** False where none is under way. */
  stop(): boolean {
    if (this.#startedAt === null) return false;
    const seconds = Math.round((performance.now() - this.#startedAt) / 1000);
    this.#stop.abort(
      new ScanStopped(
        `it was told to stop after ${seconds} s (SIGTERM: the time limit of its unit, a shutdown, or a person)`,
      ),
    );
    return true;
  }
}

/** In a loop nothing that one cycle could not do ends the next ones. */
async function next(once: () => Promise<Cycle>, io: Io, config: AgentConfig): Promise<number> {
  try {
    return (await once()).next;
  } catch (error) {
    if (error instanceof Stopped || !(error instanceof BootproofError || isErrno(error))) throw error;
    await say(io, `this cycle failed: ${error.message}`);
    return Date.now() + config.intervalMs * (0.9 + 0.2 * Math.random());
  }
}

const isErrno = (error: unknown): error is NodeJS.ErrnoException => error instanceof Error && 'errno' in error;

async function tell(io: Io, done: Cycle, json: boolean): Promise<void> {
  const { report, scan, delivery, comparedWith } = done;
  const count = (change: string) => scan.drift.filter((drift) => drift.change === change).length;
  const drift = scan.truncated ?? { added: count('added'), removed: count('removed'), modified: count('modified') };
  const holes = scan.trees.usr.holes.length + scan.trees.etc.holes.length;
  if (json) {
    const document = {
      seq: report.seq,
      kind: report.kind,
      comparedWith,
      drift,
      holes,
      delivered: delivery !== null && delivery.waiting === 0,
      waiting: delivery?.waiting ?? 0,
      complete: done.complete,
      next: formatInstant(done.next),
    };
    await io.stdout.write(`${jsonText(document)}\n`);
  }
  for (const note of scan.notes) await say(io, note);
  // Counts of what was never compared would read as "all well".
  const changes =
    'none' in comparedWith
      ? `compared with nothing: ${comparedWith.none}`
      : `${drift.added} added, ${drift.removed} removed, ${drift.modified} modified`;
  const seen = `${changes}${holes === 0 ? '' : `, ${holes} could not be looked at`}`;
  const way =
    delivery === null
      ? 'kept'
      : delivery.why === null && delivery.refused.length === 0
        ? 'delivered'
        : delivery.why === null
          ? 'refused'
          : `waits: ${delivery.why}`;
  await say(io, `report ${report.seq} (${report.kind}): ${seen}${waysText(scan)}; ${way}`);
}
