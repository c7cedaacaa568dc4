/** `bootproof images|tokens|sources|import`: what a server needs to judge hosts, on the command line. */
import type { z } from 'zod';
import { BootproofError } from '#src/error.ts';
import { EXIT, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import type * as schemas from '#server/api/schemas.ts';
import { client, limitOf, limitOption, tellList, timeText, wordsOption, type Action, type Shown } from './client.ts';
import { exportManifests } from './carry.ts';
import { readOperand } from './connection.ts';
import { list } from './image.ts';
import { pathOrigin, rebuild } from './origin.ts';
import { writeJson } from './output.ts';
import { imageHosts, type PeriodOptions } from './posture.ts';
import { imageFrom } from './shortid.ts';
import { printFacts } from './table.ts';
import { showTrust } from './trust.ts';

type Image = z.infer<typeof schemas.Image>;
type ImageDetail = z.infer<typeof schemas.ImageDetail>;
type Token = z.infer<typeof schemas.Token>;
type Source = z.infer<typeof schemas.Source>;

/** `bootproof images [DIGEST]`. */
export function images(args: readonly string[], io: Io): Promise<Exit> {
  return client('images', 'Images that hosts named, and whether their manifest is there.', args, io, (command, add) => {
    limitOption(add<{ limit?: string; state?: string }>(command.argument('[digest]'), whole(showImages))).option(
      '--state <words>',
      'pending, building, ready, failed',
    );
    add<{ out?: string }>(
      command.command('export <digest>').description('write its manifests to a file, for hosts without a network'),
      whole(exportManifests),
    ).option('--out <file>', 'the file that `bootproof agent import` takes there');
    add(
      command
        .command('rebuild <digest>')
        .description('read its layers again, for where its files come from; its manifests stay'),
      whole(rebuild),
    );
    add<{ rule?: string }>(
      command.command('origin <digest> <path>').description('which layer and package of it brought a path'),
      whole(pathOrigin),
    ).option('--rule <name>', 'under which rule (default: the newest)');
    limitOption(
      add<PeriodOptions>(
        command
          .command('hosts <digest>')
          .description('which hosts ran it in a period, also those that are retired since'),
        whole(imageHosts),
      ),
    )
      .option('--from <when>', '2026-09-30 (its beginning in UTC), RFC 3339, 7d (ago)')
      .option('--to <when>', 'likewise; default: now');
    add(command.command('trust <digest>').description('who signed it, and why that counts or not'), whole(showTrust));
  });
}

/** An action on an image, by the beginning of its digest too. */
const whole =
  <Options>(action: Action<Options>): Action<Options> =>
  async (connection, options, [digest, ...more], io) =>
    action(connection, options, digest === undefined ? [] : [await imageFrom(connection, digest), ...more], io);

const showImages: Action<{ readonly limit?: string; readonly state?: string }> = async (
  connection,
  options,
  [digest],
  io,
) => {
  if (digest !== undefined) {
    const image = await connection.ask<ImageDetail>('GET', `/api/v1/images/${encodeURIComponent(digest)}`);
    if (options.json === true) await writeJson(image, io);
    else
      await printFacts(
        [
          ['image', image.digest],
          ['state', image.state],
          ...image.reasons.map(({ code, text }) => ['', `${code}: ${text}`] as const),
          ['version', image.version ?? undefined],
          ['found in', image.repositories.join(', ') || 'nowhere yet'],
          ['hosts say', image.claims.join(', ') || 'nothing'],
          ...image.aliases.map(({ alias, kind }) => [kind, alias] as const),
          ...image.manifests.map(
            ({ rule, trees }) => [rule, `/usr ${trees['usr']?.main.full}, /etc ${trees['etc']?.main.full}`] as const,
          ),
        ],
        io,
      );
    return image.state === 'ready' ? EXIT.ok : EXIT.unknown;
  }
  wordsOption('--state', options.state, ['pending', 'building', 'ready', 'failed']);
  const listed = await connection.list<Image>('/api/v1/images', { state: options.state }, limitOf(options));
  await tellList(listed, IMAGES, options, io);
  return EXIT.ok;
};

const IMAGES: Shown<Image> = {
  name: 'images',
  empty: 'no host has named an image',
  head: ['IMAGE', 'STATE', 'BOOTED', 'STAGED', 'ROLLBACK', 'WHERE FROM, OR WHY NOT'],
  row: ({ digest, state, hosts, reasons, repositories, claims }) => [
    digest,
    state,
    String(hosts?.booted ?? 0),
    String(hosts?.staged ?? 0),
    String(hosts?.rollback ?? 0),
    reasons[0] === undefined ? (repositories[0] ?? claims[0] ?? '-') : `${reasons[0].code}: ${reasons[0].text}`,
  ],
};

/** `bootproof tokens`. */
export function tokens(args: readonly string[], io: Io): Promise<Exit> {
  return client('tokens', 'Enrolment tokens.', args, io, (command, add) => {
    limitOption(add<{ limit?: string }>(command, listTokens));
    add<TokenOptions>(command.command('create').description('make a token; its text is shown this once'), createToken)
      .option('--group <name>', 'host group of what enrols with it')
      .option('--label <key=value>', 'label of what enrols with it (repeatable)', list)
      .option('--uses <number>', 'how many hosts may enrol with it, or `any`', '1')
      .option('--life <time>', 'such as 90m, 24h, 30d', '24h');
    add(
      command.command('revoke <id>').description('no host enrols with it any more; those that did stay'),
      revokeToken,
    );
  });
}

const listTokens: Action<{ readonly limit?: string }> = async (connection, options, _operands, io) => {
  await tellList(await connection.list<Token>('/api/v1/tokens', {}, limitOf(options)), TOKENS, options, io);
  return EXIT.ok;
};

const TOKENS: Shown<Token> = {
  name: 'tokens',
  empty: 'no token',
  head: ['TOKEN', 'USABLE', 'USED', 'EXPIRES', 'GROUP', 'LABELS'],
  row: ({ id, usable, uses, maxUses, expiresAt, group, labels }) => [
    id,
    usable ? 'yes' : 'no',
    `${uses}/${maxUses ?? 'any'}`,
    timeText(expiresAt),
    group ?? '-',
    Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(' ') || '-',
  ],
};

type TokenOptions = {
  readonly group?: string;
  readonly label?: readonly string[];
  readonly uses: string;
  readonly life: string;
};

const LIFE_UNITS: Readonly<Record<string, number>> = { m: 60, h: 3600, d: 86_400 };
const LIFE_SECONDS_MAX = 366 * 86_400;

const createToken: Action<TokenOptions> = async (connection, options, _operands, io) => {
  const life = /^([1-9][0-9]{0,5})([mhd])$/.exec(options.life);
  if (life === null) throw new UsageError(`--life ${options.life}: expected a time such as 90m, 24h or 30d`);
  const lifeSeconds = Number(life[1]) * LIFE_UNITS[life[2]!]!;
  if (lifeSeconds > LIFE_SECONDS_MAX) throw new UsageError(`--life ${options.life}: at most 366d`);
  if (options.uses !== 'any' && !/^[1-9][0-9]{0,6}$/.test(options.uses))
    throw new UsageError(`--uses ${options.uses}: expected a number, or any`);
  const labels = Object.fromEntries(
    (options.label ?? []).map((label) => {
      const at = label.indexOf('=');
      if (at < 1) throw new UsageError(`--label ${label}: expected key=value`);
      return [label.slice(0, at), label.slice(at + 1)];
    }),
  );
  const made = await connection.ask<{ id: string; token: string; enrol: string }>('POST', '/api/v1/tokens', {
    labels,
    group: options.group ?? null,
    maxUses: options.uses === 'any' ? null : Number(options.uses),
    lifeSeconds,
  });
  if (options.json === true) await writeJson(made, io);
  else {
    await io.stdout.write(`${made.token}\n`);
    await io.stderr.write(`on the host:  ${made.enrol}\n`);
  }
  return EXIT.ok;
};

const revokeToken: Action<unknown> = async (connection, options, [id = ''], io) => {
  const answer = await connection.ask<{ done: boolean }>('DELETE', `/api/v1/tokens/${encodeURIComponent(id)}`);
  if (options.json === true) await writeJson(answer, io);
  else await io.stdout.write(answer.done ? 'revoked\n' : 'it was revoked before\n');
  return EXIT.ok;
};

const SOURCES: Shown<Source> = {
  name: 'sources',
  empty: 'no source is allowed: no image can be fetched',
  head: ['SOURCE', 'ALLOWED', 'BY'],
  row: ({ pattern, createdAt, createdBy }) => [pattern, timeText(createdAt), createdBy],
};

/** `bootproof sources`. */
export function sources(args: readonly string[], io: Io): Promise<Exit> {
  return client('sources', 'Repositories that the server may fetch images from.', args, io, (command, add) => {
    add(command, async (connection, options, _operands, out) => {
      const { items } = await connection.ask<{ items: Source[] }>('GET', '/api/v1/sources');
      await tellList({ items, more: false }, SOURCES, options, out);
      return EXIT.ok;
    });
    add<{ readonly plainHttp?: boolean }>(
      command
        .command('allow <reference>')
        .description('docker://HOST/REPOSITORY, oci:DIR or oci-archive:FILE on the server'),
      async (connection, options, [reference], out) => {
        const plainHttp = options.plainHttp === true;
        const answer = await connection.ask<{ pattern: string; warning?: string }>('POST', '/api/v1/sources', {
          reference,
          plainHttp,
        });
        if (answer.warning !== undefined) await out.stderr.write(`warning: ${shownText(answer.warning)}\n`);
        if (options.json === true) await writeJson(answer, out);
        else await out.stdout.write(`allowed: ${shownText(answer.pattern)}\n`);
        return EXIT.ok;
      },
    ).option('--plain-http', 'it speaks no TLS; it may lie on loopback or link-local');
    add(
      command.command('forbid <reference>').description('no longer; manifests that were built stay'),
      async (connection, options, [reference = ''], out) => {
        const answer = await connection.ask<{ done: boolean }>(
          'DELETE',
          `/api/v1/sources?reference=${encodeURIComponent(reference)}`,
        );
        if (options.json === true) await writeJson(answer, out);
        else await out.stdout.write(answer.done ? 'forbidden\n' : 'it was not allowed\n');
        return EXIT.ok;
      },
    );
  });
}

/** The largest file of carried reports: a spool of full reports. */
const IMPORT_BYTES_MAX = 256 * 2 ** 20;

/** `bootproof import FILE`: reports of a host without network, one envelope a line (docs/report.md 8.1). */
export function carried(args: readonly string[], io: Io): Promise<Exit> {
  return client(
    'import',
    'Takes in the reports that a host without network wrote to a file.',
    args,
    io,
    (command, add) => {
      add(command.argument('<file>'), async (connection, options, [file = ''], out) => {
        const lines = (await readOperand(file, IMPORT_BYTES_MAX))
          .toString('latin1')
          .split('\n')
          .filter((line) => line !== '');
        const taken: unknown[] = [];
        const refused: { line: number; code: string; message: string }[] = [];
        for (const [index, line] of lines.entries()) {
          try {
            taken.push(JSON.parse(await connection.send('POST', '/api/v1/reports/carried', line)));
          } catch (error) {
            // One report that is refused does not hold up those behind it; a server that is gone does.
            if (!(error instanceof BootproofError) || error.code === 'SERVER_UNREACHABLE') throw error;
            refused.push({ line: index + 1, code: error.code, message: error.message });
          }
        }
        if (options.json === true) await writeJson({ taken, refused }, out);
        else await out.stdout.write(`${taken.length} taken, ${refused.length} refused\n`);
        for (const { line, code, message } of refused)
          await out.stderr.write(`line ${line}: ${shownText(message)} [${code}]\n`);
        return refused.length > 0 ? EXIT.different : EXIT.ok;
      });
    },
  );
}
