/** `bootproof findings show|ack|unack|assign|comment|undo`: triage from a terminal, for one group, one host, or all that a filter matches. */
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import type { z } from 'zod';
import { returnedText } from '#src/finding/returned.ts';
import { EXIT, printableText, shownText, UsageError, type Io } from '#src/terminal.ts';
import type { GroupDetail } from '#server/api/findings.ts';
import type * as schemas from '#server/api/schemas.ts';
import { timeText, type Action, type Add } from './client.ts';
import type { Connection } from './connection.ts';
import { isTold, tellDifference, type Difference } from './difference.ts';
import { writeJson } from './output.ts';
import { originFacts, type FindingOrigin } from './origin.ts';
import { printFacts, printTable, word } from './table.ts';

type Group = z.infer<typeof GroupDetail>;
type Finding = z.infer<typeof schemas.Finding>;
type Outcome = {
  readonly changed: number;
  readonly skipped: readonly { readonly reason: string; readonly count: number }[];
};
type Preview = Outcome & {
  readonly token: string;
  readonly matched: number;
  readonly changes: number;
  readonly hosts: number;
};
type Bulk = { readonly id: string; readonly state: string; readonly changed: number; readonly skipped: number };
type Timeline = {
  readonly items: readonly {
    readonly kind: string;
    readonly at: string;
    readonly hosts?: number;
    readonly actor?: string;
    readonly action?: string;
    readonly note?: string | null;
    readonly after?: unknown;
  }[];
};

const UNITS = { h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 } as const;

/** `7d`, `12h`, `2w`, a day or a moment, as the API takes it. @throws {UsageError} */
export function momentOption(option: string, text: string): string {
  const span = /^([1-9][0-9]{0,3})([hdw])$/.exec(text);
  if (span !== null) return new Date(Date.now() + Number(span[1]) * UNITS[span[2] as 'h' | 'd' | 'w']).toISOString();
  if (/^\d{4}-\d{2}-\d{2}(T.*)?$/.test(text) && !Number.isNaN(Date.parse(text))) return text;
  throw new UsageError(`${option} ${text}: expected 12h, 7d, 2w, 2026-12-31, or RFC 3339`);
}

type Who = { readonly filter?: string; readonly host?: string; readonly all?: boolean; readonly yes?: boolean };
type AckOptions = Who & { readonly until?: string; readonly note?: string };

/** What `findings` can do beside listing. */
export function decisions(command: Command, add: Add): void {
  add(command.command('show <group>').description('one group: what, where, who said what'), show);
  const about = (name: string, description: string) =>
    command
      .command(`${name} [group]`)
      .description(description)
      .option('--host <id>', 'on this host only')
      .option('--filter <line>', 'all findings that match, instead of one group: sev:high path:/usr/lib/**')
      .option('--all', 'an empty filter is meant: every finding')
      .option('--yes', 'do it without the preview alone being shown')
      .option('--note <text>', 'why, for the trail');
  add<AckOptions>(
    about('ack', 'acknowledge: out of the queue for a while, weighing as before; a group on later hosts, too'),
    ack,
  ).option('--until <when>', 'at most 30 days: 7d (the default), 12h, 2026-12-31');
  add<AckOptions>(about('unack', 'take an acknowledgement back'), unack);
  add<{ readonly note?: string }>(
    command
      .command('assign <group> <who>')
      .description('say who looks after it: an id, me, or - for nobody')
      .option('--note <text>', 'why, for the trail'),
    assign,
  );
  add(command.command('comment <group> <text>').description('a remark in the story of a group, for good'), comment);
  add(command.command('undo <act>').description('take an act on many back, within 15 minutes'), undo);
}

const path = (group: string): string => `/api/v1/groups/${encodeURIComponent(group)}`;

/** A group's id from its beginning, as lists on a narrow terminal show it. @throws {UsageError} where that is none's, or several have it */
async function groupFrom(connection: Connection, text: string): Promise<string> {
  const start = text.replace(/…$/, '');
  if (!/^fg_[0-9a-f]{4,39}$/.test(start)) return text;
  const { items } = await connection.list<{ id: string; what: string }>('/api/v1/groups', { status: 'all' }, Infinity);
  const [only, ...others] = items.filter(({ id }) => id.startsWith(start));
  if (only === undefined) throw new UsageError(`no finding's id begins with ${start}`);
  if (others.length > 0)
    throw new UsageError(
      `${start} may be ${[only, ...others.slice(0, 7)].map(({ id, what }) => `${id} (${printableText(what)})`).join(', ')}`,
    );
  return only.id;
}

/** What the story says of a decision, in words. */
const DONE: ReadonlyMap<string, string> = new Map([
  ['group.comment', 'said'],
  ['group.acknowledge', 'acknowledged it'],
  ['finding.acknowledge', 'acknowledged it on a host'],
  ['group.unacknowledge', 'took the acknowledgement back'],
  ['finding.unacknowledge', 'took the acknowledgement back on a host'],
  ['group.assign', 'said who looks after it'],
  ['waiver.request', 'asked for waiver'],
  ['waiver.approve', 'approved waiver'],
  ['waiver.reject', 'rejected waiver'],
  ['waiver.withdraw', 'withdrew waiver'],
  ['waiver.revoke', 'revoked waiver'],
  ['waiver.change', 'changed the words of waiver'],
  ['waiver.extend', 'asked to extend waiver'],
  ['waiver.expire', 'saw the end of waiver'],
]);
const SEEN: ReadonlyMap<string, string> = new Map([
  ['opened', 'seen'],
  ['reopened', 'back'],
  ['resolved', 'gone'],
]);

function waiverIn(after: unknown): string {
  const { waiver } = (after ?? {}) as { readonly waiver?: unknown };
  return typeof waiver === 'string' ? ` ${waiver}` : '';
}

const show: Action<unknown> = async (connection, options, [said = ''], io) => {
  const id = await groupFrom(connection, said);
  const group = await connection.ask<Group>('GET', path(id));
  const [hosts, timeline, origin, difference] = await Promise.all([
    connection.list<Finding>(`${path(id)}/hosts`, {}, 100),
    connection.ask<Timeline>('GET', `${path(id)}/timeline`),
    connection.ask<FindingOrigin>('GET', `${path(id)}/origin`),
    connection.ask<Difference>('GET', `${path(id)}/difference`),
  ]);
  if (options.json === true)
    await writeJson({ group, origin, difference, hosts: hosts.items, more: hosts.more, timeline: timeline.items }, io);
  else {
    const { open, acknowledged, waived } = group.hosts;
    await printFacts(
      [
        ['what', group.what],
        ['severity', word(group.severity)],
        ['status', group.status],
        ['rule', group.rule],
        ['hosts', `${open} open, ${acknowledged} acknowledged, ${waived} waived`],
        ['since', timeText(group.firstSeen)],
        ['assigned to', group.assignee ?? 'nobody'],
        ...group.later.map(({ by, until, scope }): [string, string] => [
          'later hosts',
          `acknowledged by ${by} until ${timeText(until)}${scope === null ? '' : `, of ${scope.join(', ')}`}`,
        ]),
        ['', group.regressed ? 'it is back after it was resolved' : undefined],
        ['', group.flapping ? 'it opens and ends again and again' : undefined],
        ...originFacts(origin),
      ],
      io,
    );
    await io.stdout.write('\n');
    if (isTold(difference)) {
      await tellDifference(difference, io);
      await io.stdout.write('\n');
    }
    await printTable(
      ['HOST', 'STATUS', 'SINCE', 'UNTIL', 'WAIVER', 'ID'],
      hosts.items.map(({ host, status, openedAt, until, waiver, returned }) => [
        host.name,
        returned === null || status !== 'open' ? status : `${status}: ${returnedText(returned)}`,
        timeText(openedAt),
        timeText(until),
        status === 'waived' ? (waiver ?? '') : '',
        host.id,
      ]),
      io,
    );
    await io.stdout.write('\n');
    await printTable(
      ['WHEN', 'WHO', 'WHAT', 'NOTE'],
      timeline.items.map(({ at, actor, kind, action, hosts: on, note, after }) => [
        timeText(at),
        actor ?? '',
        action === undefined
          ? `${SEEN.get(kind) ?? kind} on ${on} host${on === 1 ? '' : 's'}`
          : `${DONE.get(action) ?? action}${waiverIn(after)}`,
        note ?? '',
      ]),
      io,
    );
  }
  return group.open ? EXIT.different : EXIT.ok;
};

const ack: Action<AckOptions> = (connection, options, [group], io) => {
  const until = options.until === undefined ? null : momentOption('--until', options.until);
  const terms = { until, note: options.note ?? null };
  return decide(connection, { ...options, group }, { verb: 'acknowledge', terms }, io);
};
const unack: Action<AckOptions> = (connection, options, [group], io) =>
  decide(connection, { ...options, group }, { verb: 'unacknowledge', terms: { note: options.note ?? null } }, io);

async function decide(
  connection: Connection,
  options: Who & { readonly group: string | undefined; readonly json?: boolean },
  { verb, terms }: { readonly verb: string; readonly terms: object },
  io: Io,
) {
  const { group: said, filter, host, all } = options;
  const group = said === undefined ? undefined : await groupFrom(connection, said);
  if ((group === undefined) === (filter === undefined && all !== true))
    throw new UsageError('name one group, or --filter with what all of them have in common');
  if (group === undefined) return onMany(connection, options, { action: verb, ...terms }, io);
  const where =
    host === undefined
      ? path(group)
      : `/api/v1/hosts/${encodeURIComponent(host)}/findings/${encodeURIComponent(group)}`;
  const outcome = await connection.ask<Outcome>('POST', `${where}/${verb}`, terms);
  if (options.json === true) await writeJson(outcome, io);
  else await io.stdout.write(`${outcomeText(outcome.changed, outcome.skipped)}\n`);
  return EXIT.ok;
}

/** First what it would do; the act itself only where `--yes` says that this was seen. */
async function onMany(connection: Connection, options: Who & { readonly json?: boolean }, action: object, io: Io) {
  const { filter = '', host, all = false, yes = false } = options;
  const q = host === undefined ? filter : `${filter} host:${host}`.trim();
  const preview = await connection.ask<Preview>('POST', '/api/v1/bulk/preview', { ...action, filter: { q }, all });
  if (!yes) {
    if (options.json === true) await writeJson({ preview }, io);
    else
      await io.stdout.write(
        `would change ${preview.changes} of ${preview.matched} findings${skippedText(preview.skipped)}\nnothing was done: --yes does it\n`,
      );
    return EXIT.ok;
  }
  const headers = { 'idempotency-key': randomUUID() };
  const done = await connection.ask<Bulk>('POST', `/api/v1/bulk/${preview.token}/apply`, undefined, headers);
  if (options.json === true) await writeJson({ preview, done }, io);
  else
    await io.stdout.write(
      `${done.changed} changed, ${done.skipped} left as they were${done.state === 'applying' ? '; the server goes on with the rest' : ''}\nbootproof findings undo ${done.id} takes it back, for 15 minutes\n`,
    );
  return EXIT.ok;
}

const undo: Action<unknown> = async (connection, options, [id = ''], io) => {
  const done = await connection.ask<Bulk>('POST', `/api/v1/bulk/${encodeURIComponent(id)}/undo`);
  if (options.json === true) await writeJson(done, io);
  else await io.stdout.write(`${done.changed} as before, ${done.skipped} left: somebody decided about them since\n`);
  return EXIT.ok;
};

const assign: Action<{ readonly note?: string }> = async (connection, options, [said = '', who = ''], io) => {
  const id = await groupFrom(connection, said);
  const { revision } = await connection.ask<Group>('GET', path(id));
  // As the pages' own button does: whoever asks.
  const me = who === 'me' ? (await connection.ask<{ id: string }>('GET', '/api/v1/access/me')).id : who;
  const body = { assignee: who === '-' ? null : me, note: options.note ?? null };
  const group = await connection.ask<Group>('POST', `${path(id)}/assign`, body, { 'if-match': `"${revision}"` });
  if (options.json === true) await writeJson(group, io);
  else
    await io.stdout.write(
      `${group.assignee === null ? 'nobody looks after it' : `${shownText(group.assignee)} looks after it`}\n`,
    );
  return EXIT.ok;
};

const comment: Action<unknown> = async (connection, options, [said = '', text = ''], io) => {
  const id = await groupFrom(connection, said);
  const done = await connection.ask('POST', `${path(id)}/comments`, { text });
  if (options.json === true) await writeJson(done, io);
  else await io.stdout.write('kept\n');
  return EXIT.ok;
};

const SKIPPED: ReadonlyMap<string, string> = new Map([
  ['resolved', 'resolved meanwhile'],
  ['another_episode', 'ended and came back meanwhile'],
  ['waived', 'waived'],
  ['so_already', 'so already'],
  ['not_acknowledged', 'not acknowledged'],
]);

function skippedText(skipped: Outcome['skipped']): string {
  return skipped.map(({ reason, count }) => `; ${count} ${SKIPPED.get(reason) ?? reason}`).join('');
}
const outcomeText = (changed: number, skipped: Outcome['skipped']): string =>
  `${changed} finding${changed === 1 ? '' : 's'} changed${skippedText(skipped)}`;
