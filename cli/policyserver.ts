/** `bootproof policy diff|apply|versions|show`: policies held against each other, and those of a server. */
import type { z } from 'zod';
import { comparePolicies, type PolicyDifference } from '#src/policy/compare.ts';
import type { PolicyDocumentText } from '#src/policy/documents.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { EXIT, printableText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import type * as schemas from '#server/api/policyschemas.ts';
import { readPolicyFiles, shippedPolicy } from '#server/policyfiles.ts';
import { client, limitOf, limitOption, timeText } from './client.ts';
import { program, runProgram } from './commander.ts';
import { Connection } from './connection.ts';
import { writeJson } from './output.ts';
import { printFacts, printTable, word } from './table.ts';

type Diff = z.infer<typeof schemas.PolicyDiff>;
type List = z.infer<typeof schemas.PolicyList>;
type Detail = z.infer<typeof schemas.PolicyVersionDetail>;

/** The subcommands that need a server, or may. */
export async function policyServer(args: readonly string[], io: Io): Promise<Exit> {
  if (args[0] === 'diff') return diff(args.slice(1), io);
  return client(
    'policy',
    'Policies of a server; `bootproof policy --help` has those for files.',
    args,
    io,
    (command, add) => {
      add<{ note?: string; expect?: string; dryRun?: boolean }>(
        command
          .command('apply <place>')
          .description('make a file or folder the policy; every host is judged anew at once'),
        async (connection, { json, note, expect, dryRun }, [place = ''], out) => {
          const { documents } = await documentsAt(place);
          if (dryRun === true) {
            const found = await fleetDiff(connection, { documents });
            await (json === true ? writeJson(found, out) : tellFleet(found, out));
            return exitOf(found);
          }
          const body = {
            documents,
            ...(note === undefined ? {} : { note }),
            ...(expect === undefined ? {} : { expect: versionOf(expect) }),
          };
          const applied = await connection.ask<{ version: number; unchanged: boolean }>(
            'POST',
            '/api/v1/policies',
            body,
          );
          if (json === true) await writeJson(applied, out);
          else
            await out.stdout.write(
              applied.unchanged
                ? `version ${applied.version} says the same and counts already\n`
                : `version ${applied.version} counts now; every host is judged anew\n`,
            );
          return EXIT.ok;
        },
      )
        .option('--note <sentence>', 'why, for those who look later')
        .option('--expect <version>', 'only if this version still counts')
        .option('--dry-run', 'only tell what would change');
      limitOption(
        add<{ limit?: string }>(
          command.command('versions').description('who applied which policy, when'),
          async (connection, options, _operands, out) => {
            const found = await connection.ask<List>(
              'GET',
              `/api/v1/policies?limit=${Math.min(200, limitOf({ limit: options.limit ?? '100' }))}`,
            );
            if (options.json === true) {
              await writeJson(found, out);
              return EXIT.ok;
            }
            await printTable(
              ['', 'VERSION', 'NAME', 'WHEN', 'BY', 'FROM', 'DIGEST', 'NOTE'],
              found.items.map(({ version, active, name, at, by, origin, place, commit, digest, note }) => [
                active ? { text: 'counts', style: 'green' as const } : '',
                String(version),
                name,
                timeText(at),
                by,
                place === null ? origin : commit === null ? place : `${place} at ${commit.slice(0, 12)}`,
                digest.slice(7, 19),
                note ?? '',
              ]),
              out,
            );
            await tellManaged(found, out);
            if (found.rejudging) await out.stderr.write('hosts are being judged anew\n');
            return found.managed?.problem ? EXIT.different : EXIT.ok;
          },
        ),
      );
      add<{ text?: boolean }>(
        command.command('show <version>').description('one version: its rules, or its text'),
        async (connection, { json, text }, [n = ''], out) => {
          const detail = await connection.ask<Detail>('GET', `/api/v1/policies/${versionOf(n)}`);
          if (json === true) await writeJson(detail, out);
          else if (text === true)
            await out.stdout.write(detail.documents.map((document) => document.text).join('---\n'));
          else {
            await printFacts(
              [
                ['version', `${detail.version}${detail.active ? ', which counts' : ''}`],
                ['name', detail.name],
                ['applied', `${timeText(detail.at)} by ${detail.by}`],
                ['note', detail.note ?? undefined],
                ['from', detail.place ?? undefined],
                ['commit', detail.commit ?? undefined],
                ['digest', detail.digest],
              ],
              out,
            );
            await printTable(
              ['RULE', 'ON', 'EFFECT', 'SEVERITY', 'PATHS'],
              detail.rules.map(({ id, on, effect, severity, paths }) => [
                id,
                on,
                effect,
                severity === null ? '-' : word(severity),
                paths.join(' '),
              ]),
              out,
            );
          }
          return EXIT.ok;
        },
      ).option('--text', 'the documents as they were written');
    },
  );
}

/** @throws {UsageError} */
function versionOf(text: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new UsageError(`${text}: expected the number of a version`);
  return Number(text);
}

/** Documents of a file, a folder or `default`, read and found to be a policy here. @throws {UsageError | DocumentError} */
async function documentsAt(place: string) {
  const shipped = await shippedPolicy();
  const documents = place === shipped.policy.name ? [shipped.document] : await readPolicyFiles(place);
  const taken = policyOfDocuments(documents, shipped.policy);
  return { policy: taken.policy, documents: taken.documents };
}

async function tellManaged({ managed }: List, io: Io): Promise<void> {
  if (managed === null) return;
  await io.stderr.write(`${printableText(`the policy is changed in ${managed.place}, not here`)}\n`);
  for (const line of managed.problem?.lines ?? [])
    await io.stderr.write(`${printableText(`what lies there now does not count: ${line}`)}\n`);
}

// ── diff ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

type DiffOptions = { readonly server?: string | true; readonly tokenFile?: string; readonly json?: boolean };

async function diff(args: readonly string[], io: Io): Promise<Exit> {
  let exit: Exit = EXIT.ok;
  const command = program(
    'bootproof policy diff',
    'What another policy changes: rule by rule, and with --server for the last report of every host.',
  )
    .argument('<old>', 'file, folder, `default`, or the number of a version on --server or BOOTPROOF_SERVER')
    .argument('<new>', 'the same')
    .option('--server [url]', 'hold the last reports of its hosts against both; nothing is written there')
    .option('--token-file <file>', 'a file with your token, or the admin token; else BOOTPROOF_TOKEN')
    .option('--json', 'one JSON document on standard output')
    .action(async (before: string, after: string, options: DiffOptions) => {
      // Versions lie on a server: where one is named by the variable, that is the one that is meant.
      const isMeant = [before, after].some(isVersion) && io.env['BOOTPROOF_SERVER'] !== undefined;
      const connection = options.server === undefined && !isMeant ? undefined : await connect(options, io);
      const sides = { before: await side(before, connection), after: await side(after, connection) };
      const rules = comparePolicies(sides.before.policy, sides.after.policy);
      const fleet = connection === undefined ? undefined : await fleetDiff(connection, sides.after, sides.before);
      if (options.json === true) await writeJson({ ...rules, ...(fleet === undefined ? {} : { fleet }) }, io);
      else {
        await tellRules(rules, io);
        if (fleet !== undefined) await tellFleet(fleet, io);
      }
      const isSame = sides.before.policy.digest === sides.after.policy.digest;
      exit = fleet === undefined ? (isSame ? EXIT.ok : EXIT.different) : exitOf(fleet);
    });
  return runProgram(command, args, io, () => exit);
}

function connect({ server, tokenFile }: DiffOptions, io: Io): Promise<Connection> {
  return Connection.open(
    { ...(typeof server === 'string' ? { server } : {}), ...(tokenFile === undefined ? {} : { tokenFile }) },
    io,
  );
}

const isVersion = (place: string): boolean => /^[1-9][0-9]{0,8}$/.test(place);

async function side(place: string, connection: Connection | undefined) {
  if (!isVersion(place)) return documentsAt(place);
  if (connection === undefined)
    throw new UsageError(`version ${place} lies on a server: name it with --server or BOOTPROOF_SERVER`);
  const { documents } = await connection.ask<Detail>('GET', `/api/v1/policies/${place}`);
  return { documents, policy: policyOfDocuments(documents, (await shippedPolicy()).policy).policy };
}

/** The whole fleet, part by part. */
export async function fleetDiff(
  connection: Connection,
  after: { readonly documents: readonly PolicyDocumentText[] },
  before?: { readonly documents: readonly PolicyDocumentText[] },
): Promise<Diff> {
  let sum: Diff | undefined;
  let cursor: string | null = null;
  do {
    const part: Diff = await connection.ask<Diff>('POST', '/api/v1/policies/diff', {
      documents: after.documents,
      ...(before === undefined ? {} : { against: { documents: before.documents } }),
      ...(cursor === null ? {} : { cursor }),
    });
    sum = sum === undefined ? part : added(sum, part);
    cursor = part.next;
  } while (cursor !== null);
  return sum;
}

function added(a: Diff, b: Diff): Diff {
  const sums = <Keys extends string>(x: Readonly<Record<Keys, number>>, y: Readonly<Record<Keys, number>>) =>
    Object.fromEntries(Object.entries<number>(x).map(([key, n]) => [key, n + y[key as Keys]])) as Record<Keys, number>;
  const rules = new Map(a.rules.map((rule) => [`${rule.rule} ${rule.kind}`, rule]));
  for (const rule of b.rules) {
    const known = rules.get(`${rule.rule} ${rule.kind}`);
    rules.set(
      `${rule.rule} ${rule.kind}`,
      known === undefined
        ? rule
        : {
            ...known,
            severity: {
              before: known.severity.before ?? rule.severity.before,
              after: known.severity.after ?? rule.severity.after,
            },
            ...sums(
              { added: known.added, removed: known.removed, rerated: known.rerated, hosts: known.hosts },
              { added: rule.added, removed: rule.removed, rerated: rule.rerated, hosts: rule.hosts },
            ),
          },
    );
  }
  const verdicts = new Map(a.verdicts.map((each) => [`${each.from} ${each.to}`, each]));
  for (const each of b.verdicts) {
    const key = `${each.from} ${each.to}`;
    verdicts.set(key, { ...each, hosts: each.hosts + (verdicts.get(key)?.hosts ?? 0) });
  }
  return {
    ...b,
    hosts: sums(a.hosts, b.hosts),
    findings: sums(a.findings, b.findings),
    rules: [...rules.values()].sort((x, y) => y.hosts - x.hosts),
    verdicts: [...verdicts.values()].sort((x, y) => y.hosts - x.hosts),
  };
}

/** 1 where something changes, 2 where nothing does but hosts could not be judged. */
const exitOf = ({ hosts }: Diff): Exit =>
  hosts.changed > 0 ? EXIT.different : hosts.unjudged > 0 ? EXIT.unknown : EXIT.ok;

async function tellRules({ rules, freshness, contents }: PolicyDifference, io: Io): Promise<void> {
  for (const { section, id, change, keys } of rules)
    await io.stdout.write(`${change.padEnd(8)} ${section} ${id}${keys.length === 0 ? '' : `: ${keys.join(', ')}`}\n`);
  if (freshness.length > 0) await io.stdout.write(`changed  freshness: ${freshness.join(', ')}\n`);
  if (contents === true) await io.stdout.write('changed  contents: deny\n');
  if (rules.length + freshness.length === 0 && contents === undefined)
    await io.stdout.write('the rules are the same\n');
}

async function tellFleet({ hosts, findings, rules, verdicts }: Diff, io: Io): Promise<void> {
  const changed = rules.filter((rule) => rule.added + rule.removed + rule.rerated > 0);
  await io.stdout.write(
    `+${findings.added} findings, −${findings.removed}${findings.rerated === 0 ? '' : `, ${findings.rerated} of another severity or weight`}; ${hosts.changed} of ${hosts.judged} hosts change\n`,
  );
  if (hosts.unjudged > 0) await io.stdout.write(`${hosts.unjudged} hosts have no report that could be judged\n`);
  for (const { from, to, hosts: n } of verdicts) await io.stdout.write(`${from} → ${to}: ${n} hosts\n`);
  if (changed.length === 0) return;
  const severityText = ({ before, after }: Diff['rules'][number]['severity']) =>
    before === null || after === null || before === after ? (after ?? before ?? '-') : `${before} → ${after}`;
  await printTable(
    ['RULE', 'SEVERITY', 'MORE', 'FEWER', 'OTHER', 'HOSTS', 'FOR EXAMPLE'],
    changed.map(({ rule, severity, added: more, removed, rerated, hosts: n, examples }) => [
      rule,
      severityText(severity),
      `+${more}`,
      `−${removed}`,
      String(rerated),
      String(n),
      examples[0] === undefined ? '' : `${examples[0].name}: ${examples[0].text}`,
    ]),
    io,
  );
}
