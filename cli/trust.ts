/** `bootproof images trust`, `trust`, `deny`: what a server knows of who signed an image, by what it judges that, and what is denied there. */
import { EXIT, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { client, timeText, type Action } from './client.ts';
import { writeJson } from './output.ts';
import { printFacts, printTable } from './table.ts';

type Outcome = { readonly state: string; readonly code: string | null; readonly reason: string | null };
type Proof = {
  readonly by: string;
  readonly algorithm: string;
  readonly signs: string;
  readonly entries: readonly { readonly log: string; readonly logIndex: string }[];
  readonly times: readonly { readonly at: string; readonly by: string }[];
  readonly roots: readonly { readonly name: string; readonly sha256: string }[];
  readonly where: string;
};
type Trust = {
  readonly image: string;
  readonly provenance: {
    readonly state: string;
    readonly by?: string;
    readonly policy?: string;
    readonly why?: string;
    readonly since?: string;
  };
  readonly verifiedAt: string | null;
  readonly lookedAt: string | null;
  readonly unreachableSince: string | null;
  readonly vanishedAt: string | null;
  readonly basis: { readonly policy: string; readonly roots: string; readonly deny: string } | null;
  readonly lastGood: { readonly state: string; readonly at: string } | null;
  readonly policies: readonly (Outcome & {
    readonly name: string;
    readonly mode: string;
    readonly authorities: readonly (Outcome & { readonly name: string; readonly proofs: readonly Proof[] })[];
  })[];
  readonly checked: readonly {
    readonly where: string;
    readonly outcome: string;
    readonly code: string | null;
    readonly reason: string | null;
  }[];
  readonly looked: readonly { readonly where: string; readonly outcome: string; readonly reason: string | null }[];
  readonly hostPolicy: { readonly readable: boolean; readonly reason: string } | null;
  readonly events: readonly { readonly at: string; readonly event: string; readonly text: string }[];
};

/** `bootproof images trust DIGEST`: 0 trusted, 1 unsigned or rejected, 2 it could not be told. */
export const showTrust: Action<unknown> = async (connection, options, [digest = ''], io) => {
  const trust = await connection.ask<Trust>('GET', `/api/v1/images/${encodeURIComponent(digest)}/trust`);
  const { provenance } = trust;
  if (options.json === true) await writeJson(trust, io);
  else await printFacts(factsOf(trust), io);
  switch (provenance.state) {
    case 'trusted':
      return EXIT.ok;
    case 'unsigned':
    case 'rejected':
      return EXIT.different;
    default:
      return EXIT.unknown;
  }
};

function factsOf(trust: Trust): [string, string | undefined][] {
  const { provenance, policies, checked, looked, hostPolicy, lastGood, basis } = trust;
  const because = ({ state, code, reason }: Outcome) => (code === null ? state : `${state}: ${reason} [${code}]`);
  return [
    ['image', trust.image],
    ['provenance', provenance.state],
    ['by', provenance.by],
    ['policy', provenance.policy],
    ['why', provenance.why],
    ['since', provenance.since],
    ...policies.flatMap(({ name, authorities }) =>
      authorities.flatMap((authority): [string, string][] => [
        [`${name}, ${authority.name}`, because(authority)],
        ...authority.proofs.map((proof): [string, string] => ['', proofText(proof)]),
      ]),
    ),
    ...checked.map(({ where, outcome, code, reason }): [string, string] => [
      'found',
      `${where}: ${because({ state: outcome, code, reason })}`,
    ]),
    ...looked
      .filter(({ outcome }) => outcome !== 'found')
      .map(({ where, outcome, reason }): [string, string] => [
        'looked',
        `${where}: ${outcome}${reason === null ? '' : `: ${reason}`}`,
      ]),
    ['hosts', hostPolicy?.reason],
    ['proof gone', trust.vanishedAt ?? undefined],
    ['last known', lastGood === null ? undefined : `${lastGood.state}, ${timeText(lastGood.at)}`],
    ['judged', trust.verifiedAt === null ? undefined : timeText(trust.verifiedAt)],
    ['all answered', trust.verifiedAt === null ? undefined : timeText(trust.lookedAt)],
    ['silent since', trust.unreachableSince === null ? undefined : timeText(trust.unreachableSince)],
    ['under', basis === null ? undefined : `policy ${basis.policy}, roots ${basis.roots}, deny ${basis.deny}`],
    ...trust.events.map(({ at, event, text }): [string, string] => ['event', `${timeText(at)} ${event}: ${text}`]),
  ];
}

function proofText({ by, algorithm, signs, times, entries, roots, where }: Proof): string {
  return [
    `${by} (${algorithm}) signed ${signs}`,
    ...times.map((time) => `at ${time.at} by ${time.by}`),
    ...entries.map(({ log, logIndex }) => `entry ${logIndex} of ${log}`),
    ...roots.map(({ name, sha256 }) => `trust root ${name} ${sha256}`),
    where,
  ].join('; ');
}

type Root = {
  readonly name: string;
  readonly sha256: string | null;
  readonly from: 'file' | 'document' | 'tuf' | null;
  readonly since: string | null;
  readonly refresh: {
    readonly mirror: string;
    readonly refreshedAt: string | null;
    readonly expires: string | null;
    readonly failure: { readonly since: string; readonly code: string; readonly reason: string } | null;
  } | null;
  readonly endsNext: { readonly what: string; readonly at: string } | null;
  readonly neededBy: readonly string[];
};
type Judged = {
  readonly basis: { readonly policy: string; readonly roots: string; readonly deny: string } | null;
  readonly noMatch: string | null;
  readonly policies: readonly { readonly name: string; readonly mode: string; readonly globs: readonly string[] }[];
  readonly notes: readonly {
    readonly file: string;
    readonly line: number;
    readonly code: string;
    readonly message: string;
  }[];
  readonly roots: readonly Root[];
  readonly denied: number;
};

/** `bootproof trust`: 1 where a root is missing or could not be kept up. */
export function trust(args: readonly string[], io: Io): Promise<Exit> {
  return client('trust', 'By what a server judges who signed images.', args, io, (command, add) => {
    add(command, async (connection, options, _operands, out) => {
      const judged = await connection.ask<Judged>('GET', '/api/v1/trust');
      if (options.json === true) await writeJson(judged, out);
      else if (judged.basis === null)
        await out.stderr.write(
          'no image policy is configured on this server, so nobody is asked who signed an image\n',
        );
      else {
        await printFacts(
          [
            ...judged.policies.map(({ name, mode, globs }): [string, string] => [
              mode === 'warn' ? `${name} (warns)` : name,
              globs.join(', '),
            ]),
            ['any other image', judged.noMatch ?? undefined],
            ...judged.notes.map(({ file, line, code, message }): [string, string] => [
              'note',
              `${file}:${line}: ${message} [${code}]`,
            ]),
            ['denied', judged.denied === 0 ? 'nothing' : String(judged.denied)],
            ['under', `policy ${judged.basis.policy}, roots ${judged.basis.roots}, deny ${judged.basis.deny}`],
          ],
          out,
        );
        if (judged.roots.length > 0) await printRoots(judged.roots, out);
      }
      return exitOf(judged.roots);
    });
    add(
      command
        .command('roots')
        .description('each trust root: where from, since when, last refresh, what of it ends next'),
      async (connection, options, _operands, out) => {
        const { roots } = await connection.ask<Judged>('GET', '/api/v1/trust');
        if (options.json === true) await writeJson({ roots }, out);
        else if (roots.length === 0)
          await out.stderr.write('no trust root is here, and no image policy asks for one\n');
        else await printRoots(roots, out);
        return exitOf(roots);
      },
    );
    add(
      command.command('refresh <root>').description('ask the TUF repository of a trust root now'),
      async (connection, options, [name = ''], out) => {
        const answer = await connection.ask<object>('POST', `/api/v1/trust/roots/${encodeURIComponent(name)}/refresh`);
        if (options.json === true) await writeJson(answer, out);
        else await out.stdout.write("asked; 'bootproof trust roots' tells what came of it\n");
        return EXIT.ok;
      },
    );
  });
}

const exitOf = (roots: readonly Root[]): Exit =>
  roots.some(({ sha256, refresh }) => sha256 === null || (refresh?.failure ?? null) !== null)
    ? EXIT.different
    : EXIT.ok;

async function printRoots(roots: readonly Root[], out: Io): Promise<void> {
  await printTable(
    ['ROOT', 'FROM', 'SINCE', 'REFRESHED', 'ENDS NEXT', 'SHA-256', 'NEEDED BY'],
    roots.map(({ name, sha256, from, since, refresh, endsNext, neededBy }) => [
      name,
      from === null ? { text: 'missing', style: 'red' } : from,
      timeText(since),
      refresh === null ? 'never' : timeText(refresh.refreshedAt),
      timeText(endsNext?.at ?? null),
      sha256?.slice('sha256:'.length, 'sha256:'.length + 12) ?? '-',
      neededBy.join(', ') || '-',
    ]),
    out,
  );
  for (const { name, sha256, refresh, endsNext } of roots) {
    const failure = refresh?.failure;
    if (failure != null)
      await out.stdout.write(
        `${shownText(`${name}: not refreshed since ${timeText(failure.since)}${sha256 === null ? '' : ', the last one stays'}: ${failure.reason} [${failure.code}]`)}\n`,
      );
    if (endsNext !== null)
      await out.stdout.write(`${shownText(`${name}: ${endsNext.what} ends ${timeText(endsNext.at)}`)}\n`);
  }
}

type Denied = { readonly id: string; readonly entry: Readonly<Record<string, unknown>>; readonly createdAt: string };
type DenyOptions = {
  readonly image?: string;
  readonly key?: string;
  readonly certificate?: string;
  readonly issuer?: string;
  readonly subject?: string;
  readonly log?: string;
  readonly index?: string;
  readonly from?: string;
  readonly reason: string;
};

/** `bootproof deny`. */
export function deny(args: readonly string[], io: Io): Promise<Exit> {
  return client('deny', 'What no longer counts, whoever signed it.', args, io, (command, add) => {
    add(command, async (connection, options, _operands, out) => {
      const { items } = await connection.ask<{ items: Denied[] }>('GET', '/api/v1/deny');
      if (options.json === true) await writeJson({ denied: items }, out);
      else if (items.length === 0) await out.stderr.write('nothing is denied here, beside what image policies deny\n');
      else
        await printTable(
          ['ID', 'WHAT', 'FROM', 'REASON'],
          items.map(({ id, entry: { from, reason, ...what } }) => [
            id,
            JSON.stringify(what),
            typeof from === 'string' ? from : 'always',
            String(reason),
          ]),
          out,
        );
      return EXIT.ok;
    });
    add<DenyOptions>(
      command.command('add').description('deny something; every image is judged again at once'),
      async (connection, options, _operands, out) => {
        const answer = await connection.ask<{ id: string }>('PUT', '/api/v1/deny', entryOf(options));
        if (options.json === true) await writeJson(answer, out);
        else await out.stdout.write(`${answer.id}\n`);
        return EXIT.ok;
      },
    )
      .requiredOption('--reason <sentence>', 'shown with every refusal')
      .option('--image <digest>', 'an image, or an index with all that it lists')
      .option('--key <fingerprint>', 'a key, by the SHA-256 of its SubjectPublicKeyInfo')
      .option('--certificate <serial>', 'a signing certificate, by its serial in hex')
      .option('--subject <text>', 'an identity: who; with --issuer, or whoever vouches')
      .option('--issuer <url>', 'an identity: who vouches')
      .option('--log <id>', 'an entry of the log with this id in hex; with --index')
      .option('--index <number>', 'its index')
      .option('--from <time>', 'what was provably signed before stays, as 2026-11-01T00:00:00Z');
    add(
      command.command('remove <id>').description('no longer denied; every image is judged again at once'),
      async (connection, options, [id = ''], out) => {
        const answer = await connection.ask<{ done: boolean }>('DELETE', `/api/v1/deny/${encodeURIComponent(id)}`);
        if (options.json === true) await writeJson(answer, out);
        else await out.stdout.write(answer.done ? 'removed\n' : 'it was not denied\n');
        return EXIT.ok;
      },
    );
  });
}

function entryOf({ image, key, certificate, issuer, subject, log, index, from, reason }: DenyOptions): object {
  const hasIdentity = issuer !== undefined || subject !== undefined;
  const hasEntry = log !== undefined || index !== undefined;
  if (
    [image, key, certificate].filter((what) => what !== undefined).length + Number(hasIdentity) + Number(hasEntry) !==
    1
  )
    throw new UsageError(
      'deny add: exactly one of --image, --key, --certificate, --subject and --issuer, --log and --index',
    );
  if (hasEntry && (log === undefined || index === undefined))
    throw new UsageError('deny add: an entry has its log and its index: --log and --index');
  return {
    ...(image === undefined ? {} : { image }),
    ...(key === undefined ? {} : { key }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(hasIdentity
      ? { identity: { ...(issuer === undefined ? {} : { issuer }), ...(subject === undefined ? {} : { subject }) } }
      : {}),
    ...(hasEntry ? { logEntry: { log, index } } : {}),
    ...(from === undefined ? {} : { from }),
    reason,
  };
}
