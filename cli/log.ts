/** `bootproof log`: how the evidence log stands, its verification, its files, its restart (docs/log.md). Against a server, or a database alone. */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { toBase64 } from '#src/bytes.ts';
import { formatInstant } from '#src/clock.ts';
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { LEVEL_MEANS } from '#src/log/level.ts';
import { NoteError, parseVkey, printVkey } from '#src/signing/note.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { EXIT, OutputError, printableText, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { parseOrigin } from '#server/config.ts';
import { logSigner } from '#server/keys.ts';
import { restartLog } from '#server/log/evidencelog.ts';
import { keyOf } from '#server/log/storereader.ts';
import { verifyLog, type LogVerified } from '#server/log/verify.ts';
import { program, runProgram } from './commander.ts';
import { Connection, connectionOptions, type ConnectionOptions } from './connection.ts';
import { filesOf, offlineStore, serverSource, storeSource, type LogSource, type Offline } from './logsource.ts';
import { writeJson } from './output.ts';
import { printFacts } from './table.ts';

type Options = ConnectionOptions &
  Offline & { readonly json?: boolean; readonly key?: string; readonly log?: string; readonly newOrigin?: string };

const isOffline = ({ data, database }: Options): boolean => data !== undefined || database !== undefined;

export async function main(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = connectionOptions(
    program('bootproof log', 'The evidence log: every report, change and decision, append-only (docs/log.md).'),
  )
    .option('--data <dir>', 'no server: the database in its data folder')
    .option('--database <url>', 'no server: a database, sqlite:PATH or postgres://…')
    .option(
      '--log-checkpoint <file>',
      'with a database: where the last checkpoint is kept (default: log.checkpoint in --data)',
    )
    .option('--json', 'one JSON document on standard output');
  const add = (own: Command, act: (options: Options, operands: readonly string[]) => Promise<Exit>): void => {
    own.action(async (...given: unknown[]) => {
      const options = (given.at(-1) as Command).optsWithGlobals<Options>();
      exit = await act(
        options,
        given.slice(0, -2).filter((operand) => typeof operand === 'string'),
      );
    });
  };
  add(command.command('status').description('how it stands: signed or not, how much waits'), (options) =>
    status(options, io),
  );
  add(
    command
      .command('verify')
      .description('compute it anew from every entry, and name whatever was changed, removed or put elsewhere')
      .option('--key <vkey>', 'the log’s key, as you know it another way: what /log/key told when the log began')
      .option('--log <number>', 'with a database: an older log, before a restart'),
    (options) => verify(options, io),
  );
  add(
    command
      .command('dump')
      .description('write it as files, as C2SP tlog-tiles has them, for tools that are not ours')
      .argument('<dir>', 'an empty or new folder')
      .option('--log <number>', 'with a database: an older log, before a restart'),
    (options, [dir]) => dump(dir!, options, io),
  );
  add(
    command
      .command('restart')
      .description('end it, and begin a new one whose first entry names where it was: after a backup was restored')
      .requiredOption('--new-origin <name>', 'name of the new log, never one that was used'),
    (options) => restart(options, io),
  );
  return runProgram(command, args, io, () => exit);
}

/** Opens what the options name, and lets go of it afterwards. */
async function withSource<T>(options: Options, io: Io, work: (source: LogSource) => Promise<T>): Promise<T> {
  if (!isOffline(options)) {
    if (options.log !== undefined) throw new UsageError('--log is for databases: a server tells its log that stands');
    return work(await serverSource(await Connection.open(options, io)));
  }
  if (options.log !== undefined && !/^[1-9][0-9]{0,5}$/.test(options.log))
    throw new UsageError(`--log ${options.log}: expected a number`);
  const { store } = await offlineStore(options);
  try {
    return await work(await storeSource(store, options.log === undefined ? undefined : Number(options.log)));
  } finally {
    await store.close();
  }
}

async function verify(options: Options, io: Io): Promise<Exit> {
  return withSource(options, io, async ({ reader, key }) => {
    const given = options.key === undefined ? undefined : keyFrom(options.key);
    const isTTY = io.stderr.isTTY && options.json !== true;
    let last = 0;
    const done = await verifyLog(reader, given ?? key, verifyInPool, (entries) => {
      if (!isTTY || entries - last < 20_000) return;
      last = entries;
      void io.stderr.write(`${entries} of ${reader.size} entries\r`);
    });
    const ok = done.faults.length === 0;
    if (options.json === true) await writeJson({ ok, key: given === undefined ? 'told' : 'given', ...done }, io);
    else await tell(done, given === undefined, printVkey(key), io);
    return ok ? EXIT.ok : EXIT.different;
  });
}

function keyFrom(text: string) {
  try {
    return parseVkey(text);
  } catch (error) {
    if (error instanceof NoteError) throw new UsageError(`--key: ${error.message}`);
    throw error;
  }
}

async function tell(done: LogVerified, isTold: boolean, vkey: string, io: Io): Promise<void> {
  for (const { place, detail } of done.faults) await io.stdout.write(`${printableText(place)}: ${shownText(detail)}\n`);
  if (done.more > 0) await io.stdout.write(`and ${done.more} more\n`);
  const { size, checkpoints, payloads, anchors } = done;
  const signed =
    anchors.cosignatures + anchors.stamps === 0
      ? ''
      : `, ${anchors.cosignatures} cosignatures, ${anchors.stamps} timestamps`;
  const seen = `${size} entries, ${checkpoints} checkpoints${signed}, ${payloads.held} payloads held${payloads.purged === 0 ? '' : `, ${payloads.purged} purged`}`;
  if (done.faults.length === 0) await io.stdout.write(`${done.origin}: as it was signed: ${seen}; root ${done.root}\n`);
  else await io.stdout.write(`${done.origin}: CHANGED: ${done.faults.length + done.more} faults in ${seen}\n`);
  if (anchors.unknown.length > 0)
    await io.stderr.write(
      `cosignatures by ${anchors.unknown.map(printableText).join(', ')} were not checked: no key of theirs is kept here; a server that asks them keeps it\n`,
    );
  await io.stderr.write(
    isTold
      ? `whoever can change the database can also sign it anew: this holds only for who knows the log's key and an earlier checkpoint another way; --key '${vkey}' pins the key\n`
      : "the key is the one that you gave; that nobody signed it anew, an earlier checkpoint shows: 'bootproof agent checkpoint' on a host\n",
  );
}

async function dump(dir: string, options: Options, io: Io): Promise<Exit> {
  await mkdir(dir, { recursive: true });
  if ((await readdir(dir)).length > 0) throw new UsageError(`${printableText(dir)} is not empty: name a new folder`);
  return withSource(options, io, async (source) => {
    if (source.checkpoint === '')
      throw new UsageError('nothing was signed yet: a running server signs within a second');
    let files = 0;
    for await (const [path, bytes] of filesOf(source)) {
      await put(join(dir, path), bytes);
      files++;
    }
    const { origin, size } = readCheckpoint(source.checkpoint);
    if (options.json === true) await writeJson({ origin, size, files }, io);
    else await io.stderr.write(`${origin}: ${size} entries in ${files} files in ${printableText(dir)}\n`);
    return EXIT.ok;
  });
}

async function put(file: string, bytes: Uint8Array): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true });
    await using handle = await open(file, 'wx');
    await handle.writeFile(bytes);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new OutputError('OUTPUT_FAILED', `${file} cannot be written: ${code}`, { cause });
  }
}

type State = {
  readonly state: 'signing' | 'refused';
  readonly why: string | null;
  readonly origin: string | null;
  readonly vkey: string | null;
  readonly size: number;
  readonly root: string | null;
  readonly checkpoint: { readonly size: number; readonly at: string } | null;
  readonly pending: { readonly count: number; readonly oldest: string | null };
  readonly previous: { readonly origin: string; readonly size: number } | null;
  /** Of a server: who else signed, stamped or keeps checkpoints. */
  readonly level?: number;
  readonly raise?: readonly string[];
  readonly anchors?: readonly {
    readonly kind: string;
    readonly name: string;
    readonly size: number;
    readonly at: string | null;
    readonly trouble: { readonly text: string; readonly alarm: boolean } | null;
  }[];
};

async function status(options: Options, io: Io): Promise<Exit> {
  const told: State = isOffline(options)
    ? await offlineState(options)
    : await (await Connection.open(options, io)).ask('GET', '/api/v1/log');
  if (options.json === true) await writeJson(told, io);
  else
    await printFacts(
      [
        [
          'state',
          told.state === 'signing' ? { text: 'signing', style: 'green' } : { text: 'NOT SIGNED', style: 'red' },
        ],
        ['why', told.why ?? undefined],
        ['origin', told.origin ?? 'none yet'],
        ['key', told.vkey ?? undefined],
        ['entries', String(told.size)],
        ['root', told.root ?? undefined],
        ['checkpoint', told.checkpoint === null ? 'none' : `${told.checkpoint.size} entries, ${told.checkpoint.at}`],
        ['waiting', told.pending.oldest === null ? '0' : `${told.pending.count} since ${told.pending.oldest}`],
        ['before', told.previous === null ? undefined : `${told.previous.origin}, ${told.previous.size} entries`],
        ['level', told.level === undefined ? undefined : `${told.level}: ${LEVEL_MEANS[told.level] ?? ''}`],
        ...(told.anchors ?? []).map(anchorLine),
        ...(told.raise ?? []).map((text): Fact => ['for more', text]),
      ],
      io,
    );
  const isWell = told.state === 'signing' && told.anchors?.some(({ trouble }) => trouble?.alarm === true) !== true;
  return isWell ? EXIT.ok : EXIT.different;
}

type Fact = Parameters<typeof printFacts>[0][number];

function anchorLine({ kind, name, size, at, trouble }: NonNullable<State['anchors']>[number]): Fact {
  const done = { witness: 'cosigned', authority: 'stamped' }[kind] ?? 'keep';
  const stands = size === 0 ? 'nothing yet' : `${done} ${size} entries, ${at ?? ''}`;
  const wrong = trouble === null ? '' : `; ${trouble.alarm ? 'ALARM: ' : ''}${trouble.text}`;
  return [
    kind === 'hosts' ? 'hosts' : `${kind} ${name}`,
    trouble === null ? stands : { text: stands + wrong, style: trouble.alarm ? 'red' : 'yellow' },
  ];
}

async function offlineState(options: Options): Promise<State> {
  const { store, file } = await offlineStore(options);
  try {
    const head = await store.log.head();
    const pending = await store.log.pending();
    const newest = head && (await store.log.newestCheckpoint(head.origin));
    const note = file.read();
    const last = note === undefined ? undefined : readCheckpoint(note);
    const isBehind =
      last !== undefined &&
      (head === undefined ||
        (last.origin === head.origin ? head.size < last.size : head.previous?.origin !== last.origin));
    return {
      state: isBehind ? 'refused' : 'signing',
      why: isBehind
        ? `${file.path} says that ${last.origin} had ${last.size} entries: this database is behind it`
        : null,
      origin: head?.origin ?? null,
      vkey: head === undefined ? null : printVkey(keyOf(head)),
      size: head?.size ?? 0,
      root: head === undefined ? null : toBase64(head.root),
      checkpoint: newest === undefined ? null : { size: newest.size, at: formatInstant(newest.at) },
      pending: { count: pending.count, oldest: pending.oldest === null ? null : formatInstant(pending.oldest) },
      previous: head?.previous ?? null,
    };
  } finally {
    await store.close();
  }
}

async function restart(options: Options, io: Io): Promise<Exit> {
  const origin = parseOrigin(options.newOrigin, '--new-origin')!;
  const previous = isOffline(options)
    ? await restartOffline(origin, options)
    : (
        await (
          await Connection.open(options, io)
        ).ask<{ previous: { origin: string; size: number } }>('POST', '/api/v1/log/restart', { origin })
      ).previous;
  if (options.json === true) await writeJson({ origin, previous }, io);
  else
    await io.stderr.write(
      `${printableText(origin)} begins; its first entry names ${printableText(previous.origin)} with ${previous.size} entries. Tell whoever keeps checkpoints.\n`,
    );
  return EXIT.ok;
}

async function restartOffline(origin: string, options: Options) {
  const { store, file } = await offlineStore(options);
  try {
    const { publicKey } = await logSigner(store, randomBytes);
    return await restartLog({ store }, { origin, publicKey, file }, { actor: 'offline', at: Date.now() });
  } finally {
    await store.close();
  }
}
