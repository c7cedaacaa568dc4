/** `bootproof channels …`: who is told what, what arrived and what did not. */
import type { Command } from 'commander';
import type { z } from 'zod';
import { nearest } from '#src/document/spelling.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { EXIT, printableText, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import type { ChannelJson, DeliveryJson } from '#server/api/notices.ts';
import { CHANNEL_KINDS } from '#server/notices/channel.ts';
import { DELIVERY_STATES, NOTICE_EVENTS, TRANSITIONS } from '#server/store/noticerecords.ts';
import { client, limitOf, limitOption, tellList, timeText, wordsOption, type Action, type Shown } from './client.ts';
import { readOperand, type Connection } from './connection.ts';
import { list } from './image.ts';
import { writeJson } from './output.ts';
import { printFacts } from './table.ts';

type Channel = z.infer<typeof ChannelJson>;
type Delivery = z.infer<typeof DeliveryJson>;

/** `bootproof channels`. */
export function channels(args: readonly string[], io: Io): Promise<Exit> {
  return client('channels', 'Who is told what: webhooks, Slack, OCSF, syslog.', args, io, (command, add) => {
    add(command, listChannels);
    const on = (name: string, about: string) => command.command(`${name} <channel>`).description(about);
    add(on('show', 'one channel, whole'), show);
    add<CreateOptions>(
      createOptions(command.command('create <name>').description('make one; its key is told this once')),
      create,
    );
    add<RoutingOptions>(routingOptions(on('route', 'change what it hears of; what is not named stays')), route);
    add(on('test', 'send a test now, and say what came of it'), test);
    add(on('enable', 'switch it on; it is not told of what happened meanwhile'), turn('active'));
    add(on('disable', 'switch it off'), turn('disabled'));
    add(on('new-key', 'a new signing key; the old one signs beside it for a day'), newKey);
    add(on('remove', 'for good, with everything that it had yet to tell'), remove);
    limitOption(
      add<DeliveryOptions>(command.command('deliveries [channel]').description('messages, newest first'), deliveries),
    ).option('--state <word>', DELIVERY_STATES.join(', '));
    add(command.command('resend <message>').description('send one again, under its id'), resend);
  });
}

const CHANNELS: Shown<Channel> = {
  name: 'channels',
  empty: 'no channel: nobody is told of anything',
  head: ['NAME', 'KIND', 'STATE', 'FROM', 'HEARS OF', 'WHERE'],
  row: ({ name, kind, state, routing, target, disabledWhy }) => [
    name,
    kind,
    disabledWhy === null ? state : `${state}: ${disabledWhy}`,
    routing.minSeverity,
    eventsText(routing.events),
    target,
  ],
};

const eventsText = (events: readonly string[]): string =>
  TRANSITIONS.every((event) => events.includes(event))
    ? ['every change', ...events.filter((event) => !(TRANSITIONS as readonly string[]).includes(event))].join(' ')
    : events.join(' ');

const listChannels: Action<unknown> = async (connection, options, _operands, io) => {
  const { items } = await connection.ask<{ items: Channel[] }>('GET', '/api/v1/channels');
  await tellList({ items, more: false }, CHANNELS, options, io);
  return EXIT.ok;
};

/** A channel by its name or id. @throws {UsageError} */
async function named(connection: Connection, word: string): Promise<Channel> {
  const { items } = await connection.ask<{ items: Channel[] }>('GET', '/api/v1/channels');
  const found = items.find(({ id }) => id === word) ?? items.find(({ name }) => name === word);
  if (found !== undefined) return found;
  const names = items.map(({ name }) => name);
  const meant = nearest(word, names);
  throw new UsageError(
    `there is no channel ${printableText(word)}${meant === undefined ? '' : `, did you mean ${printableText(meant)}?`}; 'bootproof channels' lists them`,
  );
}

const path = ({ id }: Pick<Channel, 'id'>, more = ''): string => `/api/v1/channels/${encodeURIComponent(id)}${more}`;

const show: Action<unknown> = async (connection, options, [word = ''], io) => {
  const channel = await named(connection, word);
  if (options.json === true) await writeJson(channel, io);
  else await tell(channel, io);
  return EXIT.ok;
};

function tell(channel: Channel, io: Io): Promise<void> {
  const { routing, disabledWhy, disabledAt } = channel;
  return printFacts(
    [
      ['name', channel.name],
      ['id', channel.id],
      ['kind', `${channel.kind}${channel.signed ? ', signed' : ''}`],
      ['where', channel.target],
      [
        'state',
        disabledWhy === null ? channel.state : `${channel.state} since ${timeText(disabledAt)}: ${disabledWhy}`,
      ],
      ['hears of', eventsText(routing.events)],
      ['findings', `${routing.minSeverity} and above`],
      ['host groups', routing.hostGroups === null ? 'all' : routing.hostGroups.join(', ')],
      ['labels', routing.hostLabels.map(({ key, value }) => `${key}=${value}`).join(' ') || 'any'],
      ['grace', `${routing.graceSeconds} s after a host is enrolled`],
      ['only if', routing.condition ?? undefined],
      [
        '',
        channel.conditionError === null
          ? undefined
          : `it could not say yes or no at ${timeText(channel.conditionError.at)}: ${channel.conditionError.text}`,
      ],
      ['daily digest', routing.digestAt === null ? undefined : `at ${routing.digestAt} UTC`],
      [
        'quiet hours',
        routing.quiet === null || routing.quiet === undefined
          ? undefined
          : `${routing.quiet.from} to ${routing.quiet.to} UTC, but for what is critical`,
      ],
      ['made', `${timeText(channel.createdAt)} by ${channel.createdBy}`],
    ],
    io,
  );
}

type RoutingOptions = {
  readonly events?: string;
  readonly minSeverity?: string;
  readonly hostGroup?: string;
  readonly label?: readonly string[];
  readonly grace?: string;
  readonly if?: string;
  readonly digestAt?: string;
  readonly quiet?: string;
};
type CreateOptions = RoutingOptions & {
  readonly kind: string;
  readonly url?: string;
  readonly urlFile?: string;
  readonly host?: string;
  readonly port?: string;
  readonly transport?: string;
  readonly body?: string;
  readonly caFile?: string;
  readonly open: string;
};

function routingOptions(command: Command): Command {
  return command
    .option('--events <words>', `of ${NOTICE_EVENTS.join(', ')} (default: every change, no reminder)`)
    .option('--min-severity <word>', `findings from ${SEVERITIES.join(', ')} on`)
    .option('--host-group <names>', 'only hosts of these groups, and those below them; `all` for every host')
    .option('--label <key=value>', 'only hosts with this label (repeatable)', list)
    .option('--grace <time>', 'how long a new host is not told of: 0, 30m, 1h (default), 2d')
    .option(
      '--if <condition>',
      'CEL, asked of each change: severity == "critical" || host.labels["tier"] == "data"; none for none',
    )
    .option('--digest-at <time>', "when the day's digest is told, HH:MM in UTC; none for none")
    .option('--quiet <hours>', 'when only what is critical is told, as 22:00-06:00 in UTC; none for none');
}

function createOptions(command: Command): Command {
  return routingOptions(
    command
      .option('--kind <word>', CHANNEL_KINDS.join(', '), 'webhook')
      .option('--url <url>', 'where messages are posted; others of this machine can read it here')
      .option('--url-file <file>', 'a file with that URL and nothing else, which is better where it holds a token')
      .option('--host <name>', 'of a syslog collector')
      .option('--port <number>', 'of it (default: 6514)')
      .option('--transport <word>', 'tls (default), tcp, udp')
      .option('--body <word>', 'what syslog carries: ocsf (default), text')
      .option('--ca-file <file>', 'certificates that vouch for the receiver, in PEM')
      .option('--open <word>', 'of what is open already, tell a summary, or nothing', 'summary'),
  );
}

const create: Action<CreateOptions> = async (connection, options, [name = ''], io) => {
  wordsOption('--kind', options.kind, CHANNEL_KINDS, false);
  wordsOption('--open', options.open, ['summary', 'nothing'], false);
  const made = await connection.ask<{ channel: Channel; key: string | null }>('POST', '/api/v1/channels', {
    name,
    target: await targetOf(options),
    routing: routingOf(options, {}),
    open: options.open,
  });
  if (options.json === true) await writeJson(made, io);
  else {
    const { channel, key } = made;
    await io.stderr.write(
      `made: ${shownText(channel.name)}, ${channel.id}; try it: bootproof channels test ${channel.id}\n`,
    );
    if (key !== null) {
      await io.stderr.write('its key, with which the receiver checks signatures (told this once):\n');
      await io.stdout.write(`${key}\n`);
    }
  }
  return EXIT.ok;
};

async function targetOf(options: CreateOptions): Promise<unknown> {
  const { kind, urlFile, caFile, host, port, transport, body } = options;
  const ca = caFile === undefined ? {} : { ca: (await readOperand(caFile, 65_536)).toString('utf8') };
  if (kind === 'syslog') {
    if (host === undefined) throw new UsageError('where is the collector? --host');
    if (port !== undefined && !/^[1-9][0-9]{0,4}$/.test(port))
      throw new UsageError(`--port ${port}: expected a number`);
    wordsOption('--transport', transport, ['tls', 'tcp', 'udp'], false);
    wordsOption('--body', body, ['ocsf', 'text'], false);
    return {
      kind,
      host,
      ...(port === undefined ? {} : { port: Number(port) }),
      ...defined({ transport, body }),
      ...ca,
    };
  }
  const url = urlFile === undefined ? options.url : (await readOperand(urlFile, 4096)).toString('utf8').trim();
  if (url === undefined) throw new UsageError('where are messages posted? --url or --url-file');
  return { kind, url, ...ca };
}

const defined = (values: Readonly<Record<string, unknown>>): object =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

const GRACE_UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** What options say, over how it was. @throws {UsageError} */
function routingOf(options: RoutingOptions, before: Partial<Channel['routing']>): unknown {
  wordsOption('--events', options.events, NOTICE_EVENTS);
  wordsOption('--min-severity', options.minSeverity, SEVERITIES, false);
  const grace = options.grace === undefined ? undefined : /^(?:0|([1-9][0-9]{0,5})([smhd]))$/.exec(options.grace);
  if (grace === null) throw new UsageError(`--grace ${options.grace}: expected 0, or a time such as 30m, 1h or 2d`);
  const hostLabels = options.label?.map((label) => {
    const at = label.indexOf('=');
    if (at < 1) throw new UsageError(`--label ${label}: expected key=value`);
    return { key: label.slice(0, at), value: label.slice(at + 1) };
  });
  const hostGroups = options.hostGroup === 'all' ? null : options.hostGroup?.split(',');
  return {
    ...before,
    ...defined({
      events: options.events?.split(','),
      minSeverity: options.minSeverity,
      hostGroups,
      hostLabels,
      graceSeconds:
        grace === undefined ? undefined : grace[1] === undefined ? 0 : Number(grace[1]) * GRACE_UNITS[grace[2]!]!,
      condition: options.if === 'none' ? null : options.if,
      digestAt: options.digestAt === 'none' ? null : options.digestAt,
      quiet: quietOption(options.quiet),
    }),
  };
}

function quietOption(text: string | undefined): { from: string; to: string } | null | undefined {
  if (text === undefined) return undefined;
  if (text === 'none') return null;
  const [, from, to] = /^([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2})$/.exec(text) ?? [];
  if (from === undefined || to === undefined)
    throw new UsageError(`--quiet ${text}: expected hours such as 22:00-06:00, in UTC, or none`);
  return { from, to };
}

function change(connection: Connection, channel: Channel, body: unknown): Promise<Channel> {
  return connection.ask<Channel>('PATCH', path(channel), body, { 'if-match': `"${channel.revision}"` });
}

const route: Action<RoutingOptions> = async (connection, options, [word = ''], io) => {
  const channel = await named(connection, word);
  const next = await change(connection, channel, { routing: routingOf(options, channel.routing) });
  if (options.json === true) await writeJson(next, io);
  else await tell(next, io);
  return EXIT.ok;
};

const turn =
  (state: Channel['state']): Action<unknown> =>
  async (connection, options, [word = ''], io) => {
    const next = await change(connection, await named(connection, word), { state });
    if (options.json === true) await writeJson(next, io);
    else await io.stdout.write(`${shownText(next.name)} is ${next.state}\n`);
    return EXIT.ok;
  };

const test: Action<unknown> = async (connection, options, [word = ''], io) => {
  const channel = await named(connection, word);
  const came = await connection.ask<{ delivered: boolean; status: number | null; error: string | null }>(
    'POST',
    path(channel, '/test'),
  );
  if (options.json === true) await writeJson(came, io);
  else if (came.delivered) await io.stdout.write(`delivered${came.status === null ? '' : `: HTTP ${came.status}`}\n`);
  else await io.stdout.write(`not delivered: ${shownText(came.error ?? 'no reason was given')}\n`);
  return came.delivered ? EXIT.ok : EXIT.unknown;
};

const newKey: Action<unknown> = async (connection, options, [word = ''], io) => {
  const made = await connection.ask<{ key: string; oldUntil: string }>(
    'POST',
    path(await named(connection, word), '/new-key'),
  );
  if (options.json === true) await writeJson(made, io);
  else {
    await io.stderr.write(
      `the old key signs beside it until ${timeText(made.oldUntil)}; the new one, told this once:\n`,
    );
    await io.stdout.write(`${made.key}\n`);
  }
  return EXIT.ok;
};

const remove: Action<unknown> = async (connection, options, [word = ''], io) => {
  const channel = await named(connection, word);
  const answer = await connection.ask('DELETE', path(channel));
  if (options.json === true) await writeJson(answer, io);
  else await io.stdout.write(`removed: ${shownText(channel.name)}\n`);
  return EXIT.ok;
};

type DeliveryOptions = { readonly limit?: string; readonly state?: string };

const DELIVERIES: Shown<Delivery> = {
  name: 'deliveries',
  empty: 'no message',
  head: ['MESSAGE', 'WRITTEN', 'STATE', 'TRIES', 'WHAT', 'WHY NOT'],
  row: ({ id, createdAt, state, attempts, text, error }) => [
    id,
    timeText(createdAt),
    state,
    String(attempts),
    text,
    error ?? '',
  ],
};

const deliveries: Action<DeliveryOptions> = async (connection, options, [word], io) => {
  wordsOption('--state', options.state, DELIVERY_STATES, false);
  const channel = word === undefined ? undefined : (await named(connection, word)).id;
  const query = { channel, state: options.state };
  await tellList(
    await connection.list<Delivery>('/api/v1/deliveries', query, limitOf(options)),
    DELIVERIES,
    options,
    io,
  );
  return EXIT.ok;
};

const resend: Action<unknown> = async (connection, options, [id = ''], io) => {
  const next = await connection.ask<Delivery>('POST', `/api/v1/deliveries/${encodeURIComponent(id)}/resend`);
  if (options.json === true) await writeJson(next, io);
  else await io.stdout.write(`${next.id} is sent again\n`);
  return EXIT.ok;
};
