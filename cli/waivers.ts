/** `bootproof waivers …`: exceptions that end, asked for by one person and approved by another. */
import type { Command } from 'commander';
import type { z } from 'zod';
import { WAIVER_KINDS, WAIVER_STATES } from '#src/finding/waiver.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { EXIT, UsageError, type Exit, type Io } from '#src/terminal.ts';
import type { WaiverJson } from '#server/api/waivers.ts';
import { client, limitOf, limitOption, tellList, timeText, wordsOption, type Action, type Shown } from './client.ts';
import { momentOption } from './decide.ts';
import { writeJson } from './output.ts';
import { pastOption } from './posture.ts';
import { printFacts } from './table.ts';

type Waiver = z.infer<typeof WaiverJson> & { readonly covers?: { readonly findings: number; readonly hosts: number } };
type Preview = {
  readonly text: string;
  readonly warnings: readonly { readonly text: string }[];
  readonly ceiling: string;
};
type Acted = { readonly waiver: Waiver; readonly hosts: number; readonly pending: boolean };

/** `bootproof waivers`. */
export function waivers(args: readonly string[], io: Io): Promise<Exit> {
  return client('waivers', 'Exceptions: who asked, who approved, until when.', args, io, (command, add) => {
    limitOption(add<ListOptions>(command, list))
      .option('--state <words>', `of ${WAIVER_STATES.join(', ')} (default: requested, approved, active)`)
      .option('--expiring', 'only active ones that end within 14 days')
      .option('--decide', 'only what waits for a decision: requests, and extensions')
      .option('--active-from <when>', 'those in effect at some time from then on: 2026-07-01, RFC 3339, 90d (ago)')
      .option('--active-to <when>', '… and before then: 2026-10-01; default: now')
      .option('--known <when>', 'of a period: as it was known then, not as it is known now');
    add(command.command('show <id>').description('one waiver, whole'), show);
    add<RequestOptions>(
      requestOptions(command.command('request').description('ask for one; another person approves')),
      request,
    );
    const act = (name: string, about: string) => command.command(`${name} <id>`).description(about);
    add<NoteOptions>(
      act('approve', 'approve it, or its extension: in effect at once').option('--note <text>', 'why'),
      decide('approve', 'note'),
    );
    add<NoteOptions>(
      act('reject', 'reject it, or its extension').requiredOption('--note <text>', 'why not'),
      decide('reject', 'note'),
    );
    add<NoteOptions>(
      act('withdraw', 'take back what you asked for').option('--reason <text>', 'why'),
      decide('withdraw', 'reason'),
    );
    add<NoteOptions>(
      act('revoke', 'end it now: what it covered is open again').requiredOption('--reason <text>', 'why'),
      decide('revoke', 'reason'),
    );
    add<NoteOptions>(
      act('extend', 'ask for a later end; another person approves')
        .requiredOption('--until <when>', '14d, 2w, 2026-12-31')
        .requiredOption('--note <text>', 'why'),
      decide('extend', 'note'),
    );
  });
}

type ListOptions = {
  readonly limit?: string;
  readonly state?: string;
  readonly expiring?: boolean;
  readonly decide?: boolean;
  readonly activeFrom?: string;
  readonly activeTo?: string;
  readonly known?: string;
};

const list: Action<ListOptions> = async (connection, options, _operands, io) => {
  wordsOption('--state', options.state, WAIVER_STATES);
  const listed = await connection.list<Waiver>('/api/v1/waivers', listQuery(options), limitOf(options));
  await tellList(listed, WAIVERS, options, io);
  return EXIT.ok;
};

function listQuery({
  state,
  expiring,
  decide: waiting,
  activeFrom,
  activeTo,
  known,
}: ListOptions): Record<string, string | undefined> {
  if (activeFrom === undefined && activeTo === undefined && known === undefined) {
    if (waiting === true) return { decide: 'true', state };
    return expiring === true ? { expiring: 'true' } : { state: state ?? 'requested,approved,active' };
  }
  if (state !== undefined || expiring === true || waiting === true)
    throw new UsageError(
      '--state, --expiring and --decide ask for what is so now; --active-from, --active-to and --known for a period',
    );
  const now = Date.now();
  const moment = (option: string, text: string | undefined) =>
    text === undefined ? undefined : pastOption(option, text, now);
  return {
    'active-from': moment('--active-from', activeFrom),
    'active-to': moment('--active-to', activeTo),
    known: moment('--known', known),
  };
}

const WAIVERS: Shown<Waiver> = {
  name: 'waivers',
  empty: 'no waiver',
  head: ['ID', 'STATE', 'UNTIL', 'ASKED BY', 'DECIDED BY', 'TITLE'],
  row: ({ id, state, expiresAt, requestedBy, decidedBy, alone, extension, title }) => [
    id,
    extension === null ? state : `${state}, extension asked for`,
    timeText(expiresAt),
    requestedBy,
    decidedBy === null ? '' : `${decidedBy}${alone ? ' (alone)' : ''}`,
    title,
  ],
};

const path = (id: string): string => `/api/v1/waivers/${encodeURIComponent(id)}`;

const show: Action<unknown> = async (connection, options, [id = ''], io) => {
  const waiver = await connection.ask<Waiver>('GET', path(id));
  if (options.json === true) await writeJson(waiver, io);
  else await tell(waiver, io);
  return EXIT.ok;
};

function tell(waiver: Waiver, io: Io): Promise<void> {
  const { extension, covers } = waiver;
  return printFacts(
    [
      ['id', waiver.id],
      ['title', waiver.title],
      ['state', waiver.state],
      ['until', timeText(waiver.expiresAt)],
      ['from', waiver.startsAt === null ? 'its approval on' : timeText(waiver.startsAt)],
      ['kind', waiver.kind],
      ['why', waiver.justification],
      ['meanwhile', waiver.compensating ?? undefined],
      ['ticket', waiver.ticket ?? undefined],
      ['covers', covers === undefined ? undefined : `${covers.findings} findings on ${covers.hosts} hosts`],
      ['up to', waiver.ceiling],
      ['where', JSON.stringify(waiver.selector)],
      ['host groups', waiver.scope === null ? undefined : waiver.scope.join(', ')],
      ['asked by', `${waiver.requestedBy}, ${timeText(waiver.requestedAt)}`],
      [
        'decided by',
        waiver.decidedBy === null
          ? undefined
          : `${waiver.decidedBy}, ${timeText(waiver.decidedAt)}${waiver.alone ? ' (one person asked and decided)' : ''}`,
      ],
      ['', waiver.decisionNote ?? undefined],
      ['ended by', waiver.endedBy === null ? undefined : `${waiver.endedBy}, ${timeText(waiver.endedAt)}`],
      ['', waiver.endReason ?? undefined],
      [
        'extension',
        extension === null
          ? undefined
          : `until ${timeText(extension.expiresAt)}, asked by ${extension.requestedBy}: ${extension.note}`,
      ],
    ],
    io,
  );
}

type RequestOptions = {
  readonly group?: string;
  readonly path?: string;
  readonly rule?: string;
  readonly anyContent?: boolean;
  readonly hostGroup?: string;
  readonly host?: string;
  readonly label?: string;
  readonly repository?: string;
  readonly image?: string;
  readonly until: string;
  readonly from?: string;
  readonly kind: string;
  readonly title: string;
  readonly why: string;
  readonly meanwhile?: string;
  readonly ticket?: string;
  readonly upTo?: string;
  readonly preview?: boolean;
};

function requestOptions(command: Command): Command {
  return command
    .option('--group <id>', 'exactly what this group of findings is')
    .option('--path <glob>', 'subjects that a glob of policies names; a plain path is itself')
    .option('--rule <ids>', 'findings of these rules, separated by commas')
    .option('--any-content', 'also content that nobody has seen yet; for reviewers')
    .option('--host <ids>', 'on these hosts only')
    .option('--host-group <names>', 'on hosts of these groups only')
    .option('--label <key=value>', 'on hosts with this label only')
    .option('--repository <name>', 'on hosts that booted an image of it only')
    .option('--image <digest>', 'on hosts that booted it only')
    .requiredOption('--until <when>', '14d, 2w, 2026-12-31; critical 30, high 90, else 365 days')
    .option('--from <when>', 'later than its approval')
    .option('--kind <word>', WAIVER_KINDS.join(', '), 'accepted_risk')
    .requiredOption('--title <text>', 'in one line')
    .requiredOption('--why <text>', 'what makes it right')
    .option('--meanwhile <text>', 'what makes up for it')
    .option('--ticket <url>', 'where it is worked on')
    .option('--up-to <severity>', 'the highest severity that it covers (default: of what matches)')
    .option('--preview', 'say what it would do, and ask for nothing');
}

const words = (text: string | undefined): string[] | undefined => text?.split(',');

const request: Action<RequestOptions> = async (connection, options, _operands, io) => {
  wordsOption('--kind', options.kind, WAIVER_KINDS, false);
  wordsOption('--up-to', options.upTo, SEVERITIES, false);
  const { group, label } = options;
  if (group === undefined && options.path === undefined && options.rule === undefined)
    throw new UsageError('what is waived? --group, --path or --rule');
  const at = label?.indexOf('=') ?? -1;
  if (label !== undefined && at < 1) throw new UsageError(`--label ${label}: expected key=value`);
  const hosts = {
    ids: words(options.host),
    groups: words(options.hostGroup),
    labels: label === undefined ? undefined : [{ key: label.slice(0, at), value: label.slice(at + 1) }],
  };
  const image = { repository: options.repository, digest: options.image };
  const named =
    group === undefined ? undefined : await connection.ask<Named>('GET', `/api/v1/groups/${encodeURIComponent(group)}`);
  const body = {
    kind: options.kind,
    title: options.title,
    justification: options.why,
    compensating: options.meanwhile ?? null,
    ticket: options.ticket ?? null,
    ceiling: options.upTo ?? null,
    startsAt: options.from === undefined ? null : momentOption('--from', options.from),
    expiresAt: momentOption('--until', options.until),
    selector: {
      rules: named === undefined ? words(options.rule) : [named.rule],
      subject: named === undefined ? subjectOf(options.path) : { exact: named.subject },
      content: contentOf(options, named),
      hosts: isEmpty(hosts) ? undefined : hosts,
      image: isEmpty(image) ? undefined : image,
    },
  };
  const preview = await connection.ask<Preview>('POST', '/api/v1/waivers/preview', body);
  for (const { text } of preview.warnings) await io.stderr.write(`note: ${text}\n`);
  if (options.preview === true) {
    if (options.json === true) await writeJson({ preview }, io);
    else await io.stdout.write(`${preview.text}\n`);
    return EXIT.ok;
  }
  const waiver = await connection.ask<Waiver>('POST', '/api/v1/waivers', body);
  if (options.json === true) await writeJson({ preview, waiver }, io);
  else
    await io.stdout.write(
      `${waiver.id} ${preview.text}, until ${timeText(waiver.expiresAt)}\nit has no effect until another person approves it: bootproof waivers approve ${waiver.id}\n`,
    );
  return EXIT.ok;
};
type Named = { readonly rule: string; readonly subject: string; readonly signature: unknown };

function contentOf({ anyContent }: RequestOptions, named: Named | undefined) {
  if (anyContent === true) return 'any';
  return named === undefined ? 'pinned' : { pins: [{ subject: named.subject, signature: String(named.signature) }] };
}

function subjectOf(text: string | undefined) {
  if (text === undefined) return undefined;
  return /[*?[{]/.test(text) ? { glob: text } : { exact: text };
}
const isEmpty = (value: object): boolean => Object.values(value).every((one) => one === undefined);

type NoteOptions = { readonly note?: string; readonly reason?: string; readonly until?: string };

const decide =
  (verb: string, says: 'note' | 'reason'): Action<NoteOptions> =>
  async (connection, options, [id = ''], io) => {
    const { revision } = await connection.ask<Waiver>('GET', path(id));
    const said = options[says];
    const body = {
      ...(said === undefined ? {} : { [says]: said }),
      ...(options.until === undefined ? {} : { expiresAt: momentOption('--until', options.until) }),
    };
    const acted = await connection.ask<Acted>('POST', `${path(id)}/${verb}`, body, { 'if-match': `"${revision}"` });
    if (options.json === true) await writeJson(acted, io);
    else {
      const { waiver, hosts, pending } = acted;
      const effect =
        hosts === 0 && !pending
          ? ''
          : `; ${hosts} host${hosts === 1 ? '' : 's'} follow${pending ? ', more are on their way' : ''}`;
      await io.stdout.write(
        `${waiver.id} is ${waiver.state}${waiver.extension === null ? '' : ', its extension waits for another person'}${effect}\n`,
      );
    }
    return EXIT.ok;
  };
