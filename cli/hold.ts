/** `bootproof hold …`: legal holds, from a terminal (docs/retention.md 4). */
import type { z } from 'zod';
import { EXIT, UsageError, type Exit, type Io } from '#src/terminal.ts';
import type { HoldJson } from '#server/api/holds.ts';
import {
  client,
  limitOf,
  limitOption,
  tellList,
  timeText,
  type Action,
  type ListOptions,
  type Shown,
} from './client.ts';
import { hostChanged } from './fleet.ts';
import { list as repeated } from './image.ts';
import { writeJson } from './output.ts';
import { pastOption } from './posture.ts';

type Hold = z.infer<typeof HoldJson>;

/** `bootproof hold`. */
export function hold(args: readonly string[], io: Io): Promise<Exit> {
  return client('hold', 'Legal holds: what is kept whatever the settings say.', args, io, (command, add) => {
    limitOption(add<ListOptions>(command.command('list').description('all holds, newest first'), list));
    add<SetOptions>(
      command
        .command('set')
        .description('keep everything, or what is about hosts and groups, until it is released')
        .option('--all', 'everything')
        .option('--host <host>', 'a host, by its name or id; repeat it', repeated, [])
        .option('--group <name>', 'a host group with all below it; repeat it', repeated, [])
        .option(
          '--from <when>',
          'what was logged from then on: 2026-07-01, RFC 3339, 90d (ago); default: the beginning',
        )
        .option('--to <when>', 'what was logged before then; default: also what is still to come')
        .requiredOption('--reason <text>', 'why, for the log'),
      set,
    );
    add<{ readonly reason: string }>(
      command
        .command('release <id>')
        .description('release one: what is past its retention goes with the next night')
        .requiredOption('--reason <text>', 'why, for the log'),
      release,
    );
  });
}

const HOLDS: Shown<Hold> = {
  name: 'holds',
  empty: 'no hold was ever set',
  head: ['ID', 'STATE', 'ON', 'FROM', 'BEFORE', 'SET', 'BY', 'REASON'],
  row: (one) => [
    one.id,
    one.released === null ? 'stands' : `released ${timeText(one.released.at)} by ${one.released.by}`,
    onText(one),
    timeText(one.from),
    timeText(one.to),
    timeText(one.setAt),
    one.setBy,
    one.reason,
  ],
};

export const onText = ({ all, hosts, groups }: Pick<Hold, 'all' | 'hosts' | 'groups'>): string =>
  all ? 'everything' : [...groups, ...hosts].join(' ');

const list: Action<ListOptions> = async (connection, options, _operands, io) => {
  const listed = await connection.list<Hold>('/api/v1/holds', {}, limitOf(options));
  await tellList(listed, HOLDS, options, io);
  return EXIT.ok;
};

type SetOptions = {
  readonly all?: boolean;
  readonly host: readonly string[];
  readonly group: readonly string[];
  readonly from?: string;
  readonly to?: string;
  readonly reason: string;
};

const set: Action<SetOptions> = async (connection, options, _operands, io) => {
  const { all = false, host, group, from, to, reason } = options;
  if (all === host.length + group.length > 0)
    throw new UsageError('a hold is on --all, or on what --host and --group name');
  const now = Date.now();
  const moment = (option: string, text: string | undefined) =>
    text === undefined ? null : new Date(pastOption(option, text, now)).toISOString();
  const period = { from: moment('--from', from), to: moment('--to', to) };
  const hosts: string[] = [];
  for (const one of host) hosts.push(await hostChanged(connection, one));
  const on = all ? { on: 'all' } : { on: 'part', hosts, groups: group };
  const made = await connection.ask<Hold>('POST', '/api/v1/holds', { on, ...period, reason });
  if (options.json === true) await writeJson(made, io);
  else await io.stdout.write(`${made.id} stands on ${onText(made)}: nothing that it is on is purged\n`);
  return EXIT.ok;
};

const release: Action<{ readonly reason: string }> = async (connection, options, [id = ''], io) => {
  const path = `/api/v1/holds/${encodeURIComponent(id)}/release`;
  const done = await connection.ask<Hold>('POST', path, { reason: options.reason });
  if (options.json === true) await writeJson(done, io);
  else await io.stdout.write(`${done.id} is released: what is past its retention goes with the next night\n`);
  return EXIT.ok;
};
