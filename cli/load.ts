/** `bootproof load`: a simulated fleet against a server, and what came of it (docs/load.md). */
import { readFile } from 'node:fs/promises';
import { hash } from 'node:crypto';
import { isDigest } from '#src/digest.ts';
import { LOAD_CONNECTIONS_MAX, LOAD_HOSTS_MAX } from '#src/limits.ts';
import { argument, EXIT, printableText, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { parseToken, type Token } from '#src/wire/token.ts';
import { DIFFERENCES } from '#load/images.ts';
import { Ledger, StateFile } from '#load/files.ts';
import type { Plan } from '#load/plan.ts';
import { Servers } from '#load/post.ts';
import { Run, type Figures } from '#load/run.ts';
import type { TimesTold } from '#load/figures.ts';
import { program, runProgram } from './commander.ts';
import { writeJson } from './output.ts';
import { printTable } from './table.ts';

type Options = {
  readonly server: readonly string[];
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly hosts: string;
  readonly seed: string;
  readonly start: string;
  readonly every: string;
  readonly for: string;
  readonly drift: string;
  readonly driftLines: string;
  readonly duplicates: string;
  readonly skew: string;
  readonly skewBy: string;
  readonly image: readonly string[];
  readonly rolloutAfter: string;
  readonly waves: string;
  readonly waveEvery: string;
  readonly spool: string;
  readonly connections: string;
  readonly ledger?: string;
  readonly state?: string;
  readonly json?: boolean;
};

const list = (value: string, before: readonly string[]): readonly string[] => [...before, value];

export async function main(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = program(
    'bootproof load',
    'Simulated hosts against a server: real keys, signatures and chains. They stay in its list of hosts: use a server that is there for it.',
  )
    .option('--server <url>', 'where it is; repeatable: several processes of one server, in turn', list, [])
    .option('--token-file <file>', 'a file with an enrolment token of many uses; else BOOTPROOF_ENROLL_TOKEN')
    .option('--ca <file>', 'authorities in PEM that are trusted, and no others')
    .option('--hosts <number>', 'how many hosts', '100')
    .option('--seed <text>', 'what everything is drawn from: the same seed is the same hosts', 'bootproof')
    .option('--start <time>', 'hosts begin spread over so long', '10s')
    .option('--every <time>', 'how often each reports, or `answered`: when the answers say', 'answered')
    .option('--for <time>', 'no report is begun after so long', '1m')
    .option('--drift <share>', 'of reports, with which a host begins to differ from its image or is mended', '0.01')
    .option('--drift-lines <number>', 'lines of a host that differs', '20')
    .option('--duplicates <share>', 'of reports, which are posted twice as if the answer was lost', '0.01')
    .option('--skew <share>', 'of hosts, whose clock is off', '0')
    .option('--skew-by <time>', 'by how much', '1h')
    .option('--image <digest>', 'an image that the server can have; repeatable, in the order of the rollout', list, [])
    .option('--rollout-after <time>', 'when the first wave boots the next image', '30s')
    .option('--waves <number>', 'in how many waves', '5')
    .option('--wave-every <time>', 'how far they are apart', '10s')
    .option('--spool <number>', 'an outage: all come at once, each with so many reports, until all are taken', '0')
    .option('--connections <number>', 'connections in all, kept open', '128')
    .option('--ledger <file>', 'write down each acknowledged report, for `bootproof server fsck --ledger`')
    .option('--state <file>', 'where the hosts stand: gone on with if it is there, written at the end')
    .option('--json', 'one JSON document on standard output')
    .addHelpText('after', EXITS)
    .action(async (options: Options) => {
      exit = await load(options, io);
    });
  return runProgram(command, args, io, () => exit);
}

const EXITS = `
Exit codes: 0 every report was taken; 1 some were refused for good; 2 some are not answered yet, or not posted; 64 wrong use.
`;

async function load(options: Options, io: Io): Promise<Exit> {
  const plan = planOf(options);
  const token = await tokenOf(options, io);
  const urls = urlsOf(options);
  const ca = options.ca === undefined ? {} : { ca: await textOf(options.ca) };
  const fleet = hash('sha256', JSON.stringify([plan.seed, plan.images, token.serverFingerprint, DIFFERENCES]), 'hex');
  const state = options.state === undefined ? undefined : new StateFile(options.state, fleet);
  const ledger = options.ledger === undefined ? undefined : new Ledger(options.ledger);
  const servers = new Servers(urls, { connections: plan.connections, ...ca });
  const stopped = new AbortController();
  const stop = (): void => stopped.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    state?.begin();
    const run = new Run(plan, {
      servers,
      token,
      clock: Date.now,
      acknowledged: (hostId, report) => ledger?.add(hostId, report),
      tell: (text) => void io.stderr.write(`${printableText(text)}\n`),
      signal: stopped.signal,
      ...(state === undefined ? {} : { states: state.read() }),
    });
    let figures: Figures;
    try {
      figures = await run.go();
    } finally {
      if (run.isBegun) state?.end(run.states());
      else state?.giveUp();
    }
    if (options.json === true) await writeJson(figures, io);
    else await tellFigures(figures, io);
    return exitOf(figures);
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
    ledger?.close();
    await servers.close();
  }
}

/** What is only told to come back is no refusal for good. */
function exitOf({ hosts, refusals, retries, reports, herd }: Figures): Exit {
  const all = refusals.reduce((sum, { count }) => sum + count, 0);
  if (all > retries.asked) return EXIT.different;
  return reports.open > 0 || (herd !== null && herd.emptied < hosts) ? EXIT.unknown : EXIT.ok;
}

async function tellFigures(figures: Figures, io: Io): Promise<void> {
  const { enrolled, reports, retries, spread, herd, images } = figures;
  const times = (name: string, { count, p50, p90, p99, max }: TimesTold, unit = 'ms') =>
    count === 0 ? [] : [[name, String(count), ...[p50, p90, p99, max].map((ms) => `${ms} ${unit}`)]];
  await printTable(
    ['', 'COUNT', 'HALF WITHIN', '90 % WITHIN', '99 % WITHIN', 'LONGEST'],
    [
      ...times('requests of enrolment', enrolled.requestMs),
      ...times('posted until answered', figures.answerMs),
      ...times('due until posted, here', figures.behindMs),
      ...times('told to wait', retries.toldSeconds, 's'),
      ...(herd === null ? [] : times('back until its spool was empty', herd.hostMs)),
    ],
    io,
  );
  const line = (text: string) => io.stdout.write(`${text}\n`);
  await line(
    `\n${figures.hosts} hosts, ${figures.seconds.toFixed(1)} s: ${reports.accepted} reports taken (${reports.full} full, ${reports.same} same), ${figures.acceptedPerSecond} a second; ${reports.replayed} posted twice and known; ${reports.open} not answered`,
  );
  if (enrolled.pending > 0) await line(`${enrolled.pending} hosts wait for approval, and report nothing`);
  if (herd !== null)
    await line(`outage: ${herd.emptied} of ${figures.hosts} hosts came through with all ${herd.spool} reports`);
  for (const { reason, count } of figures.refusals) await line(`refused ${count} times: ${shownText(reason)}`);
  if (retries.asked > 0)
    await line(
      `sent again: ${retries.asked} times, ${retries.told} of them when the answer said; one report at most ${retries.most} times`,
    );
  if (spread !== null)
    await line(
      `told to come again: ${spread.hosts} hosts in slots of ${spread.slotSeconds} s: ${spread.mean} each, ${spread.least} to ${spread.most}; variance over mean ${spread.dispersion} (1: as chance would)`,
    );
  for (const { digest, compared, why } of images)
    if (!compared) await line(`${digest}: not compared: ${shownText(why)}`);
  await line(`memory of this program: ${figures.memoryMb} MB`);
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function timeOf(option: string, text: string): number {
  const found = /^(0|[1-9][0-9]{0,8})(ms|s|m|h|d)$/.exec(text);
  if (found === null) throw new UsageError(`${option} ${text}: expected a time such as 500ms, 30s, 15m, 24h or 30d`);
  return Number(found[1]) * UNITS[found[2]!]!;
}

function shareOf(option: string, text: string): number {
  if (!/^(?:0(?:\.[0-9]{1,9})?|1(?:\.0{1,9})?)$/.test(text))
    throw new UsageError(`${option} ${text}: expected a share from 0 to 1, such as 0.02`);
  return Number(text);
}

function numberOf(option: string, text: string, least: number, most: number): number {
  const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most))
    throw new UsageError(`${option} ${text}: expected a number from ${least} to ${most}`);
  return value;
}

function planOf(options: Options): Plan {
  const wrong = options.image.find((digest) => !isDigest(digest));
  if (wrong !== undefined) throw new UsageError(`--image ${wrong}: expected a digest, sha256:… with 64 hex digits`);
  return {
    hosts: numberOf('--hosts', options.hosts, 1, LOAD_HOSTS_MAX),
    seed: options.seed,
    startMs: timeOf('--start', options.start),
    everyMs: options.every === 'answered' ? null : Math.max(1, timeOf('--every', options.every)),
    forMs: timeOf('--for', options.for),
    drift: shareOf('--drift', options.drift),
    driftLines: numberOf('--drift-lines', options.driftLines, 1, 10_000),
    duplicates: shareOf('--duplicates', options.duplicates),
    skew: shareOf('--skew', options.skew),
    skewMs: timeOf('--skew-by', options.skewBy),
    images: options.image,
    rolloutAfterMs: timeOf('--rollout-after', options.rolloutAfter),
    waves: numberOf('--waves', options.waves, 1, 1000),
    waveEveryMs: timeOf('--wave-every', options.waveEvery),
    spool: numberOf('--spool', options.spool, 0, 100_000),
    connections: numberOf('--connections', options.connections, 1, LOAD_CONNECTIONS_MAX),
  };
}

async function tokenOf({ tokenFile }: Options, { env }: Io): Promise<Token> {
  const text = tokenFile === undefined ? env['BOOTPROOF_ENROLL_TOKEN'] : await textOf(tokenFile);
  if (text === undefined || text.trim() === '')
    throw new UsageError(
      'hosts need an enrolment token: `bootproof tokens create --uses any --label load=yes` makes one; put it into a file for --token-file, or into BOOTPROOF_ENROLL_TOKEN',
    );
  return argument(() => parseToken(text.trim()));
}

function urlsOf({ server }: Options): URL[] {
  if (server.length === 0) throw new UsageError('--server URL is needed');
  return server.map((text) => {
    const url = URL.parse(text);
    if (url === null || !/^https?:$/.test(url.protocol) || url.search + url.hash + url.username + url.password !== '')
      throw new UsageError(`--server ${text}: expected an address such as https://bootproof.example`);
    if (url.protocol === 'http:' && !/^(?:localhost|127(?:\.[0-9]+){3}|\[::1\])$/.test(url.hostname))
      throw new UsageError(`--server ${text}: plain http is for loopback; this needs https`);
    return url;
  });
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new UsageError(`${printableText(file)} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
}
