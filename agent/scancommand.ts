/** `agent scan`: a root held against a manifest, here and now; nothing is sent. */
import { isUtf8 } from 'node:buffer';
import { closeSync, constants, openSync, realpathSync } from 'node:fs';
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';
import { fromBytes } from '#src/bytes.ts';
import { wrongOption } from '#src/document/spelling.ts';
import { argument, EXIT, jsonText, printable, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { openVerity, type VerityLines } from './backing.ts';
import { DigestCache } from './digestcache.ts';
import { GENTLE, parseDuration } from './config.ts';
import { Look } from './look.ts';
import { openManifest, type Expected } from './manifestfile.ts';
import { lookAtMounts } from './mounts.ts';
import { ProgressLine, writeParts } from './output.ts';
import { isComplete, isDifferent, painter, scanJson, scanText, sizeText } from './present.ts';
import { Neighbour } from './pressure.ts';
import { scan, ScanError, type Scan } from './scan.ts';

/** What the whole command adds: a manifest made from an image. The agent alone cannot read images. */
export type ImageOption = {
  readonly options: ParseArgsOptionsConfig;
  readonly help: string;
  /** The manifest that the options name; undefined if they name none. */
  load(values: Readonly<Record<string, unknown>>): Promise<Expected | undefined>;
};

const OPTIONS = {
  root: { type: 'string', default: '/' },
  manifest: { type: 'string' },
  'manifest-extra': { type: 'string' },
  'manifest-verity': { type: 'string' },
  server: { type: 'string' },
  state: { type: 'string' },
  digest: { type: 'string' },
  workers: { type: 'string' },
  throttle: { type: 'string' },
  cache: { type: 'string' },
  reread: { type: 'string' },
  gentle: { type: 'boolean' },
  all: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies ParseArgsOptionsConfig;

const help = (
  image: string,
) => `bootproof agent scan: reads all of /usr and /etc, and says what is not as the image says

  --root DIR             the root to scan: / by default, or the folder of a deployment
  --manifest FILE        hold it against this main text, as 'bootproof manifest build --format mtree' writes it
  --manifest-extra FILE  with this second text (--extra FILE there); without it capabilities and device numbers
                         are not compared
  --manifest-verity FILE with these digests (--verity FILE there) the kernel's fs-verity measurement stands in for reading,
                         where / is mounted with verity=require; one file in 64 is read all the same
  --server URL           hold it against what this host's server says of the booted image; the host must be enrolled.
                         --state DIR (default /var/lib/bootproof), --digest sha256:… where the root cannot tell
${image}  --all                  list every path that came or went with its folder, too
  --json                 one JSON document on standard output
  --workers N            threads that read and hash (default: 2, or 1 on a single core)
  --throttle MB/S        read at most so many megabytes a second, where a disk is busy with better things
  --cache FILE           do not read again what was read with this FILE since the last boot and has not changed since, by its
                         times; each file is read again within --reread TIME (1d). Who can write FILE says what is believed
  --gentle               rest while others on this machine wait (5 minutes at most), and give back the page cache that reading took

Without a manifest only the digests of both trees are told. Secrets (docs/manifest.md, rule 3) are compared here; of
them neither size nor digest is shown.

Exit codes: 0 as the image says, 1 a difference was seen, 2 none was seen but something could not be told (a path that
could not be read, no manifest), 64 wrong use, 70 our own fault.
`;

/** @throws {UsageError}; {BootproofError} for a root, image or manifest that is refused. */
export async function scanCommand(args: readonly string[], io: Io, image?: ImageOption): Promise<Exit> {
  const values = parse(args, image);
  if (values['help'] === true) {
    await io.stdout.write(help(image?.help ?? ''));
    return EXIT.ok;
  }
  return run(values, io, image);
}

type Values = Readonly<Record<string, unknown>>;

function parse(args: readonly string[], image: ImageOption | undefined): Values {
  const options = { ...OPTIONS, ...image?.options };
  try {
    return parseArgs({ args: [...args], options, strict: true }).values;
  } catch (error) {
    throw wrongOption(error, Object.keys(options));
  }
}

async function run(values: Values, io: Io, image: ImageOption | undefined): Promise<Exit> {
  const text = (name: keyof typeof OPTIONS) => values[name] as string | undefined;
  const workers = workersOf(text('workers'));
  const bytesPerSecond = parseThrottle(text('throttle'));
  const verityFile = text('manifest-verity');
  const verity = verityFile === undefined ? undefined : argument(() => openVerity(verityFile));
  const cache = cacheOf(text('cache'), text('reread'));
  const root = realRoot(text('root')!);
  const expected = await expectedOf(values, root.toString(), io, image);
  return scanRoot(
    root,
    expected,
    {
      workers,
      bytesPerSecond,
      cache,
      verity,
      gentle: values['gentle'] === true,
      json: values['json'] === true,
      all: values['all'] === true,
    },
    io,
  );
}

export type ScanOptions = {
  readonly workers?: number | undefined;
  /** Bytes that are read in a second at most. */
  readonly bytesPerSecond?: number | undefined;
  readonly cache?: DigestCache | undefined;
  readonly verity?: VerityLines | undefined;
  readonly gentle?: boolean | undefined;
  readonly json?: boolean | undefined;
  /** Whether every path is listed that came or went with its folder. */
  readonly all?: boolean | undefined;
};

/**
 * Scans a root, its real path, and tells what is not as expected; mounts over it are holes.
 * @throws {ScanError}
 */
export async function scanRoot(
  root: Buffer,
  expected: Expected | undefined,
  { workers, bytesPerSecond, cache, verity, gentle = false, json = false, all = false }: ScanOptions,
  io: Io,
): Promise<Exit> {
  const look = new Look('/');
  const { masks } = await lookAtMounts(look, fromBytes(root));
  const line = new ProgressLine(io);
  const open: number[] = [];
  let found: Scan;
  try {
    found = await scan({
      root: scannable(root, open),
      ...(expected === undefined ? {} : { expected }),
      ...(workers === undefined ? {} : { workers }),
      ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
      ...(cache === undefined ? {} : { cache }),
      ...(verity === undefined ? {} : { verity }),
      ...(gentle ? { neighbour: new Neighbour(GENTLE) } : {}),
      mounts: masks,
      onProgress: ({ path, files, bytes }) => line.show(() => `${files} files, ${sizeText(bytes)}  ${printable(path)}`),
    });
  } finally {
    for (const fd of open) closeSync(fd);
    await line.clear();
  }
  const lacksExtra = expected !== undefined && expected.trees.usr.extra === null;
  const notes = [
    ...look.words,
    ...found.notes,
    ...(lacksExtra ? ['no --manifest-extra: capabilities and device numbers were not compared'] : []),
  ];
  const told = { ...found, notes };
  for (const note of notes) await io.stderr.write(`note: ${printableText(note)}\n`);
  if (json) await io.stdout.write(`${jsonText(scanJson(told, expected))}\n`);
  else await writeParts(scanText(told, expected, all, painter(io.stdout, io.env)), io.stdout);
  if (isDifferent(found)) return EXIT.different;
  return isComplete(found, expected) ? EXIT.ok : EXIT.unknown;
}

function workersOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9][0-9]?$/.test(text)) throw new UsageError('--workers is a number from 1 to 99');
  return Number(text);
}

/** @throws {UsageError} where the file is there and is no cache of ours: it would be lost. */
function cacheOf(file: string | undefined, reread: string | undefined): DigestCache | undefined {
  if (file === undefined && reread !== undefined) throw new UsageError('--reread needs --cache FILE');
  if (file === undefined) return undefined;
  const rereadMs = argument(() => parseDuration(reread ?? '1d'));
  const cache = new DigestCache({ file, rereadMs });
  if (cache.isForeign)
    throw new UsageError(`--cache: ${cache.notes.join('; ')}. It would be lost: name another file, or remove it`);
  return cache;
}

/** For `--help`. */
export const THROTTLE_HELP =
  '  --throttle MB/S   read at most so many megabytes a second, where a disk is busy with better things';

/** Bytes a second, from a number of megabytes (10⁶). @throws {UsageError} */
export function parseThrottle(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9][0-9]{0,4}$/.test(text))
    throw new UsageError('--throttle is a number of megabytes a second, from 1 to 99999');
  return Number(text) * 1e6;
}

/** A name for a root that text can hold: where its real path is not UTF-8, that of its open folder. */
function scannable(root: Buffer, open: number[]): string {
  if (isUtf8(root)) return root.toString();
  open.push(openSync(root, constants.O_RDONLY | constants.O_DIRECTORY));
  return `/proc/self/fd/${open[0]}`;
}

/** As the kernel names it: mounts are told by real paths. @throws {ScanError} ROOT_UNREADABLE */
export function realRoot(given: string): Buffer {
  try {
    return realpathSync.native(given, 'buffer');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    // Node hands on arguments as text: a byte that is none is lost before we see it.
    if (given.includes('\ufffd'))
      throw new ScanError(
        'ROOT_UNREADABLE',
        `${given} cannot be entered: its name is not UTF-8, and arguments can only be that; go there and say --root . or name a link to it`,
        { cause },
      );
    throw new ScanError('ROOT_UNREADABLE', `${given} cannot be entered: ${code}`, { cause });
  }
}

async function expectedOf(
  values: Values,
  root: string,
  io: Io,
  image: ImageOption | undefined,
): Promise<Expected | undefined> {
  const text = (name: keyof typeof OPTIONS) => values[name] as string | undefined;
  const [main, extra, url] = [text('manifest'), text('manifest-extra'), text('server')];
  if (main === undefined && extra !== undefined) throw new UsageError('--manifest-extra needs --manifest');
  if (url === undefined && (text('state') ?? text('digest')) !== undefined)
    throw new UsageError('--state and --digest need --server');
  const built = await image?.load(values);
  if ([main, built, url].filter((given) => given !== undefined).length > 1)
    throw new UsageError('--manifest, --image and --server do not go together');
  if (main !== undefined) return openManifest(main, extra);
  if (url === undefined) return built;
  // What talks to a server is a good part of the agent; a scan without one does not need it.
  const { expectedByServer } = await import('./expected.ts');
  return expectedByServer({ url, state: text('state'), root, image: text('digest') }, io);
}
