/** `bootproof hosts|host|findings`: the fleet on the command line, as tables or JSON. */
import { writeFile } from 'node:fs/promises';
import type { z } from 'zod';
import { fromUtf8 } from '#src/bytes.ts';
import { vis } from '#src/manifest/vis.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { VERDICTS } from '#src/finding/verdict.ts';
import { EXIT, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import type * as schemas from '#server/api/schemas.ts';
import { client, limitOf, limitOption, tellList, timeText, wordsOption, type Action, type Shown } from './client.ts';
import { readOperand, ServerError, type Connection } from './connection.ts';
import { decisions } from './decide.ts';
import { tellDifference, type Difference } from './difference.ts';
import { printLineage, type HostLineage } from './origin.ts';
import { writeJson } from './output.ts';
import { showPosture } from './posture.ts';
import { printFacts, word } from './table.ts';

type Host = z.infer<typeof schemas.Host>;
type HostDetail = z.infer<typeof schemas.HostDetail>;
type Finding = z.infer<typeof schemas.Finding>;
type Group = z.infer<typeof schemas.Group>;

const HOSTS_HELP = `
Exit codes: 0 all that was listed is compliant, 1 something has drifted or is unsigned, 2 none of that, but something
cannot be told (unverifiable, silent, new).
`;

type Answers = Pick<Host, 'verdict' | 'integrity' | 'provenance'>;

/** As hosts end a command (PROTOCOL 7): what was seen counts, also behind a verdict such as `silent` or `unverifiable`. */
function exitOf(hosts: readonly Answers[]): Exit {
  const unsettled = hosts.filter(({ verdict }) => verdict !== 'compliant');
  if (unsettled.length === 0) return EXIT.ok;
  const isSeen = ({ verdict, integrity, provenance }: Answers): boolean =>
    ['drifted', 'unsigned'].includes(verdict) ||
    ['drifted', 'masked'].includes(integrity.state) ||
    ['unsigned', 'rejected'].includes(provenance.state);
  return unsettled.some(isSeen) ? EXIT.different : EXIT.unknown;
}

/** `bootproof hosts`. */
export function hosts(args: readonly string[], io: Io): Promise<Exit> {
  return client('hosts', 'The fleet, and what people decide about hosts.', args, io, (command, add) => {
    limitOption(add<HostsOptions>(command, listHosts))
      .option('--verdict <words>', 'only these, separated by commas')
      .option('--name <text>', 'only names that begin so')
      .option('--group <name>', 'only this host group')
      .option('--label <key=value>', 'only with this label')
      .option('--image <digest>', 'only hosts that booted this image')
      .option('--staged <digest>', 'only hosts on which this image waits for a restart')
      .option('--rollback <digest>', 'only hosts that could go back to this image')
      .option('--state <words>', 'active, pending, retired (default: active and pending)')
      .option('--sort <order>', 'attention or name', 'attention')
      .addHelpText('after', HOSTS_HELP);
    add(
      command.command('approve <id-or-file>').description('approve a pending host, or one by its offline request'),
      approve,
    )
      .option('--out <file>', 'where the signed answer to an offline request goes, for the host')
      .option('--replace', 'by request: retire the host that another key speaks for on the same machine');
    add(
      command.command('retire <id-or-name>').description('retire a host: its findings close, its reports are refused'),
      decide('retire'),
    );
    add(
      command.command('accept-fork <id-or-name>').description('what was held against its identity is explained'),
      decide('accept-fork'),
    );
    add(
      command.command('rename <id-or-name> <name>').description('what people call it'),
      (connection, options, words, out) => change(connection, options, words[0]!, { name: words[1]! }, out),
    );
    add(
      command.command('group <id-or-name> [group]').description('put it into a group; without one: into none'),
      (connection, options, words, out) => change(connection, options, words[0]!, { group: words[1] ?? null }, out),
    );
    add(
      command
        .command('label <id-or-name> <labels...>')
        .description('KEY=VALUE sets a label, KEY- takes it away; others stay'),
      (connection, options, words, out) =>
        change(connection, options, words[0]!, { labels: labelsOf(words.slice(1)) }, out),
    );
  });
}

type HostsOptions = {
  readonly limit?: string;
  readonly verdict?: string;
  readonly name?: string;
  readonly group?: string;
  readonly label?: string;
  readonly image?: string;
  readonly staged?: string;
  readonly rollback?: string;
  readonly state?: string;
  readonly sort?: string;
};

const listHosts: Action<HostsOptions> = async (connection, options, _operands, io) => {
  const { verdict, name, group, label, image, staged, rollback, state, sort } = options;
  wordsOption('--verdict', verdict, VERDICTS);
  wordsOption('--state', state, ['active', 'pending', 'retired']);
  wordsOption('--sort', sort, ['attention', 'name'], false);
  if (label !== undefined && label.indexOf('=') < 1) throw new UsageError(`--label ${label}: expected key=value`);
  const listed = await connection.list<Host>(
    '/api/v1/hosts',
    { verdict, name, group, label, image, staged, rollback, state, sort },
    limitOf(options),
  );
  await tellList(listed, HOSTS, options, io);
  return exitOf(listed.items);
};

const nameOf = ({ name, state }: Host): string => (state === 'active' ? name : `${name} (${state})`);

const HOSTS: Shown<Host> = {
  name: 'hosts',
  empty: 'no host',
  head: ['HOST', 'VERDICT', 'IMAGE?', 'OURS?', 'HEARD?', 'REPORT', 'ID', 'WHY'],
  row: (host) => [
    nameOf(host),
    word(host.verdict),
    word(host.integrity.state),
    word(host.provenance.state),
    word(host.freshness.state),
    timeText(host.last?.receivedAt ?? null),
    host.id,
    host.reasons[0]?.text ?? host.sentence,
  ],
};

const approve: Action<{ readonly out?: string; readonly replace?: boolean }> = async (
  connection,
  options,
  [target = ''],
  io,
) => {
  if (HOST_ID.test(target)) return decide('approve')(connection, options, [target], io);
  const request = (await readOperand(target, 256 * 1024)).toString('utf8');
  const answer = await connection.send(
    'POST',
    `/api/v1/hosts${options.replace === true ? '?replace=true' : ''}`,
    request,
  );
  const { host, enrolment } = JSON.parse(answer) as { host: Host; enrolment: unknown };
  const carried = `${JSON.stringify({ enrolment })}\n`;
  if (options.out !== undefined) await writeFile(options.out, carried, { mode: 0o600 });
  if (options.json === true) await writeJson({ host, enrolment }, io);
  else await io.stdout.write(`${shownText(host.name)} is ${host.id}\n${options.out === undefined ? carried : ''}`);
  return EXIT.ok;
};

const decide =
  (verb: string): Action<unknown> =>
  async (connection, options, [target = ''], io) => {
    const id = await hostChanged(connection, target);
    const answer = await connection.ask<{ done: boolean }>('POST', `/api/v1/hosts/${id}/${verb}`);
    if (options.json === true) await writeJson(answer, io);
    else await io.stdout.write(answer.done ? 'done\n' : 'it was so already\n');
    return EXIT.ok;
  };

async function change(
  connection: Connection,
  options: { readonly json?: boolean },
  target: string,
  body: object,
  io: Io,
): Promise<Exit> {
  const id = await hostChanged(connection, target);
  const found = await connection.ask<Host>('PATCH', `/api/v1/hosts/${id}`, body);
  const { name, group, labels, verdict } = found;
  if (options.json === true) await writeJson({ host: found }, io);
  else
    await printFacts(
      [
        ['host', name],
        ['id', id],
        ['group', group ?? 'none'],
        [
          'labels',
          Object.entries(labels)
            .map(([key, value]) => `${key}=${value}`)
            .join(' ') || 'none',
        ],
        ['verdict', word(verdict)],
      ],
      io,
    );
  return EXIT.ok;
}

const HOST_ID = /^h_[a-z2-7]{26}$/;

/** @throws {UsageError} */
function labelsOf(words: readonly string[]): Record<string, string | null> {
  return Object.fromEntries(
    words.map((text) => {
      const [, key = '', value] = /^([^=]+?)(?:-|=(.*))$/s.exec(text) ?? [];
      if (key === '')
        throw new UsageError(`label ${JSON.stringify(text)}: expected KEY=VALUE, or KEY- to take it away`);
      return [key, value ?? null];
    }),
  );
}

/** `bootproof host ID|NAME`. */
export function host(args: readonly string[], io: Io): Promise<Exit> {
  return client('host', 'One host: its answers, and why.', args, io, (command, add) => {
    limitOption(add(command.argument('<id-or-name>'), showHost))
      .option('--diff <path>', 'how it changed this text file of /etc (exit 1), or why that is not shown (exit 2)')
      .addHelpText('after', HOSTS_HELP.replace('all that was listed is', 'it is'));
    add(
      command
        .command('posture <id-or-name>')
        .description('how it stood at a moment, as known then and as known now (docs/posture.md)')
        .requiredOption('--at <when>', '2026-09-30T18:00:00Z, 2026-09-30 (its beginning in UTC), 12h, 7d (ago)')
        .option('--known <when>', 'instead of now: up to when what the server learned counts'),
      showPosture((connection, target) => hostChanged(connection, target, 'active,pending,retired')),
    );
  });
}

const showHost: Action<{ readonly limit?: string; readonly diff?: string }> = async (
  connection,
  options,
  [target = ''],
  io,
) => {
  const id = HOST_ID.test(target) ? target : await hostNamed(connection, target);
  if (options.diff !== undefined) {
    const query = new URLSearchParams({ path: vis(fromUtf8(options.diff)) });
    const difference = await connection.ask<Difference>('GET', `/api/v1/hosts/${id}/difference?${query.toString()}`);
    if (options.json !== true) return tellDifference(difference, io);
    await writeJson({ difference }, io);
    return difference.hidden === null ? EXIT.different : EXIT.unknown;
  }
  const [found, findings, lineage] = await Promise.all([
    connection.ask<HostDetail>('GET', `/api/v1/hosts/${id}`),
    connection.list<Finding>(`/api/v1/hosts/${id}/findings`, {}, limitOf(options)),
    connection.ask<HostLineage>('GET', `/api/v1/hosts/${id}/lineage`),
  ]);
  if (options.json === true) {
    await writeJson({ host: found, findings: findings.items, more: findings.more, lineage: lineage.items }, io);
    return exitOf([found]);
  }
  const { drift, chain, last } = found;
  await printFacts(
    [
      ['host', nameOf(found)],
      ['id', found.id],
      ['verdict', word(found.verdict)],
      ['', found.sentence],
      [
        'under policy',
        found.policy === null
          ? undefined
          : found.policy.version === null
            ? found.policy.digest
            : `version ${found.policy.version}`,
      ],
      ['is it the image?', word(found.integrity.state)],
      ['is the image ours?', word(found.provenance.state)],
      ['did we hear?', word(found.freshness.state)],
      [
        'drift',
        drift === null ? 'not known' : `${drift.added} added, ${drift.removed} removed, ${drift.modified} modified`,
      ],
      ['booted', found.images.booted ?? 'not told'],
      ['rule', found.rule ?? undefined],
      [
        'report',
        last === null ? 'none yet' : `${last.seq} (${last.kind}, ${last.class}) at ${timeText(last.receivedAt)}`,
      ],
      ['missing', chain.gaps.length === 0 ? undefined : chain.gaps.map(({ from, to }) => `${from}-${to}`).join(', ')],
      ['forked', chain.forkedAt === null ? undefined : `since ${timeText(chain.forkedAt)}`],
      ['cloned', chain.clonedAt === null ? undefined : `since ${timeText(chain.clonedAt)}`],
      ...found.refused.map(({ code, count, detail }) => ['refused', `${code} ${count} times: ${detail}`] as const),
    ],
    io,
  );
  if (findings.items.length > 0) {
    await io.stdout.write('\n');
    await tellList(findings, FINDINGS, options, io);
  }
  await printLineage(lineage, io);
  return exitOf([found]);
};

/** The one host that a decision is about: its id or its whole name; the beginning of one is enough only to look. */
export async function hostChanged(connection: Connection, target: string, state?: string): Promise<string> {
  return HOST_ID.test(target) ? target : hostNamed(connection, target, true, state);
}

async function hostNamed(connection: Connection, name: string, isWhole = false, state?: string): Promise<string> {
  // The name itself comes before all that only begin with it.
  const { items: found } = await connection.list<Host>('/api/v1/hosts', { name, sort: 'name', state }, 200);
  const exact = found.filter((host) => host.name === name);
  const [only, ...others] = exact.length === 0 && !isWhole ? found : exact;
  if (only === undefined) throw new ServerError('HOST_UNKNOWN', `no host is called ${JSON.stringify(name)}`);
  if (others.length > 0)
    throw new UsageError(
      `${JSON.stringify(name)} may be ${[only, ...others]
        .map((host) => `${host.name} (${host.id})`)
        .slice(0, 8)
        .join(', ')}`,
    );
  return only.id;
}

const FINDINGS: Shown<Finding> = {
  name: 'findings',
  empty: 'nothing is open',
  head: ['SEVERITY', 'STATUS', 'SINCE', 'RULE', 'WHAT'],
  row: ({ severity, status, openedAt, rule, what }) => [word(severity), status, timeText(openedAt), rule, what],
};

/** `bootproof findings`. */
export function findings(args: readonly string[], io: Io): Promise<Exit> {
  return client(
    'findings',
    'What is open in the fleet, the same change on many hosts as one line.',
    args,
    io,
    (command, add) => {
      limitOption(add<GroupOptions>(command, listGroups))
        .option('--severity <words>', 'only these, separated by commas')
        .option('--rule <id>', 'only findings of this rule')
        .option('--path <prefix>', 'only subjects that begin so')
        .option('--filter <line>', 'such as: sev:>=high path:/usr/lib/** -group:lab is:regressed (docs/findings.md 6)')
        .option('--tab <word>', TABS.join(', '))
        .option('--all', 'also those that are resolved everywhere');
      decisions(command, add);
    },
  );
}

type GroupOptions = {
  readonly limit?: string;
  readonly severity?: string;
  readonly rule?: string;
  readonly path?: string;
  readonly filter?: string;
  readonly tab?: string;
  readonly all?: boolean;
};
const TABS = ['open', 'acknowledged', 'waived', 'resolved'];

const listGroups: Action<GroupOptions> = async (connection, options, _operands, io) => {
  const { severity, rule, path: subject, filter: q, tab, all } = options;
  wordsOption('--tab', tab, TABS, false);
  wordsOption('--severity', severity, SEVERITIES);
  const status = all === true ? 'all' : undefined;
  const query = { severity, rule, subject, status, q, tab };
  const listed = await connection.list<Group>('/api/v1/groups', query, limitOf(options));
  const isNarrowed = [severity, rule, subject, q, tab].some((one) => one !== undefined);
  const empty = all === true || (tab !== undefined && tab !== 'open') ? 'nothing matches' : 'nothing open matches';
  await tellList(listed, isNarrowed ? { ...GROUPS, empty } : GROUPS, options, io);
  return listed.items.some(({ open }) => open) ? EXIT.different : EXIT.ok;
};

const GROUPS: Shown<Group> = {
  name: 'groups',
  empty: 'nothing is open',
  head: ['SEVERITY', 'HOSTS', 'STATUS', 'FIRST SEEN', 'RULE', 'ID', 'WHAT'],
  row: ({ id, severity, status, hosts: { open, acknowledged, waived }, firstSeen, rule, what }) => [
    word(severity),
    String(open + acknowledged + waived),
    status,
    timeText(firstSeen),
    rule,
    id,
    what,
  ],
};
