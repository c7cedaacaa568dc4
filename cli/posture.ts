/** `bootproof host posture`, `bootproof images hosts`: how things stood, on the command line (docs/posture.md). */
import { EXIT, shownText, UsageError, type Exit, type Io } from '#src/terminal.ts';
import { differencesOf } from '#server/posturewords.ts';
import { limitOf, tellList, timeText, type Action, type Shown } from './client.ts';
import type { Connection } from './connection.ts';
import { writeJson } from './output.ts';
import { printTable, word, type Cell } from './table.ts';

// As the API answers (server/api/posture.ts).
type Entry = { readonly kind: string; readonly log: string; readonly index: number };
type Stated<Value> = {
  readonly value: Value | null;
  readonly unknown: { readonly code: string; readonly text: string } | null;
  readonly entries: readonly Entry[];
};
type Posture = {
  readonly at: string;
  readonly known: string;
  readonly id: string;
  readonly host: Stated<{ readonly name: string; readonly group: string | null; readonly state: string }>;
  readonly verdict: Stated<string>;
  /** Absent in what older servers tell. */
  readonly answers?: Readonly<Record<'integrity' | 'provenance' | 'freshness', Stated<string>>>;
  readonly reasons: readonly string[];
  readonly report: Stated<{
    readonly seq: number;
    readonly madeAt: string | null;
    readonly receivedAt: string;
    readonly cameLater: boolean;
  }>;
  readonly image: Stated<{ readonly digest: string | null; readonly reference: string | null }>;
  readonly policy: Stated<{ readonly version: number; readonly name: string }>;
  readonly judgedBy: { readonly version: number } | null;
  readonly findings: Stated<
    readonly {
      readonly group: string;
      readonly what: string;
      readonly severity: string | null;
      readonly since: string;
      readonly disposition: string | null;
      readonly waiver: string | null;
      readonly entries: readonly Entry[];
    }[]
  >;
  readonly waivers: readonly { readonly id: string; readonly title: string; readonly until: string }[] | null;
  readonly log: { readonly waiting: string | null };
};

const UNITS = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 } as const;

/** A moment in the past, as the API takes it: `90m`, `12h`, `7d` ago, a day, which is its beginning, or RFC 3339. @throws {UsageError} */
export function pastOption(option: string, text: string, now: number): string {
  const span = /^([1-9][0-9]{0,4})([mhdw])$/.exec(text);
  if (span !== null) return new Date(now - Number(span[1]) * UNITS[span[2] as keyof typeof UNITS]).toISOString();
  if (/^\d{4}-\d{2}-\d{2}(T.*(?:Z|[+-]\d{2}:\d{2}))?$/.test(text) && !Number.isNaN(Date.parse(text))) return text;
  throw new UsageError(
    `${option} ${text}: expected 90m, 12h, 7d (ago), 2026-09-30 (its beginning in UTC), or 2026-09-30T18:00:00Z`,
  );
}

export type PostureOptions = { readonly at?: string; readonly known?: string };

/** `idOf`: the host that an operand names. */
export const showPosture =
  (idOf: (connection: Connection, target: string) => Promise<string>): Action<PostureOptions> =>
  async (connection, options, [target = ''], io) => {
    const now = Date.now();
    const at = pastOption('--at', options.at ?? '', now);
    const known = options.known === undefined ? undefined : pastOption('--known', options.known, now);
    const id = await idOf(connection, target);
    const ask = (until: string | undefined) =>
      connection.ask<Posture>(
        'GET',
        `/api/v1/hosts/${id}/posture?${new URLSearchParams({ at, ...(until === undefined ? {} : { known: until }) }).toString()}`,
      );
    const [then, later] = await Promise.all([ask(at), ask(known)]);
    if (options.json === true)
      await writeJson({ asKnownThen: then, asKnown: later, differences: differencesOf(then, later) }, io);
    else await tell(then, later, known !== undefined, io);
    return exitOf(later);
  };

function exitOf({ verdict, findings }: Posture): Exit {
  if (verdict.value === 'compliant') return EXIT.ok;
  if (verdict.value === 'drifted' || verdict.value === 'unsigned') return EXIT.different;
  // Silent, or not judged: what is known to differ counts all the same.
  const seen = (findings.value ?? []).some(
    ({ severity, disposition }) => severity !== 'info' && disposition === 'none',
  );
  return verdict.value !== null && verdict.value !== 'new' && verdict.value !== 'silent' && seen
    ? EXIT.different
    : EXIT.unknown;
}

const restText = (entries: readonly Entry[]): string =>
  entries.length === 0 ? '-' : entries.map(({ kind, index }) => `${kind} ${index}`).join(', ');

function statedText<Value>({ value, unknown }: Stated<Value>, text: (value: Value) => string): string {
  return value === null ? `unknown (${unknown?.code ?? ''})` : text(value);
}

async function tell(then: Posture, later: Posture, named: boolean, io: Io): Promise<void> {
  const host = (later.host.value ?? then.host.value)?.name;
  const until = named ? `at ${timeText(later.known)}` : 'now';
  await io.stdout.write(
    `${shownText(host ?? then.id)} at ${timeText(then.at)}: as known then, and as known ${until}\n\n`,
  );
  const row = (
    name: string,
    of: (one: Posture) => Cell,
    entries: (one: Posture) => readonly Entry[],
  ): readonly Cell[] => [name, of(then), of(later), restText(entries(later))];
  await printTable(
    ['', 'AS KNOWN THEN', named ? 'AS KNOWN LATER' : 'AS KNOWN NOW', 'LOG ENTRIES'],
    [
      row(
        'verdict',
        ({ verdict }) => (verdict.value === null ? statedText(verdict, String) : word(verdict.value)),
        ({ verdict }) => verdict.entries,
      ),
      ...(['integrity', 'provenance', 'freshness'] as const).flatMap((name) =>
        later.answers === undefined
          ? []
          : [
              row(
                name,
                ({ answers }) => {
                  const one = answers?.[name];
                  return one?.value == null ? (one === undefined ? '-' : statedText(one, String)) : word(one.value);
                },
                ({ answers }) => answers?.[name].entries ?? [],
              ),
            ],
      ),
      row(
        'report',
        ({ report }) =>
          statedText(
            report,
            ({ seq, receivedAt, cameLater }) => `${seq}, came ${timeText(receivedAt)}${cameLater ? ' (later)' : ''}`,
          ),
        ({ report }) => report.entries,
      ),
      row(
        'image',
        ({ image }) => statedText(image, ({ digest }) => digest?.slice(0, 19) ?? 'not told'),
        ({ image }) => image.entries,
      ),
      row(
        'policy',
        ({ policy, judgedBy }) =>
          statedText(
            policy,
            ({ version }) => `version ${version}${judgedBy === null ? '' : `, judged by ${judgedBy.version}`}`,
          ),
        ({ policy }) => policy.entries,
      ),
      row(
        'findings',
        ({ findings }) => statedText(findings, (all) => String(all.length)),
        () => [],
      ),
      row(
        'waivers',
        ({ waivers }) => (waivers === null ? 'not yours to read' : waivers.map(({ id }) => id).join(', ') || 'none'),
        () => [],
      ),
      row(
        'state',
        ({ host: { value } }) => value?.state ?? 'unknown',
        ({ host: { entries } }) => entries,
      ),
    ],
    io,
  );
  const { findings, reasons, log } = later;
  if (findings.value !== null && findings.value.length > 0) {
    await io.stdout.write('\n');
    await printTable(
      ['SEVERITY', 'DECIDED', 'SINCE', 'LOG ENTRIES', `WHAT, AS KNOWN ${named ? 'LATER' : 'NOW'}`],
      findings.value.map(({ severity, disposition, waiver, since, entries, what }) => [
        severity === null ? 'not logged' : word(severity),
        waiver ?? disposition ?? 'not known',
        timeText(since),
        restText(entries),
        what,
      ]),
      io,
    );
  }
  const whats = new Set((findings.value ?? []).map(({ what }) => what));
  const differences = differencesOf(then, later);
  await io.stdout.write(
    `\n${differences.length === 0 ? 'Both answers say the same.' : differences.map(shownText).join('\n')}\n`,
  );
  for (const reason of reasons) if (!whats.has(reason)) await io.stderr.write(`note: ${shownText(reason)}\n`);
  if (log.waiting !== null)
    await io.stderr.write(
      `note: what was logged since ${timeText(log.waiting)} waits for its place, and is not counted\n`,
    );
}

type HostOn = {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly stays: readonly { readonly from: string; readonly to: string | null; readonly entry: Entry | null }[];
  readonly heardAt: string | null;
};
export type PeriodOptions = { readonly limit?: string; readonly from?: string; readonly to?: string };

/** `bootproof images hosts DIGEST`. */
export const imageHosts: Action<PeriodOptions> = async (connection, options, [digest = ''], io) => {
  const now = Date.now();
  const bound = (option: string, text: string | undefined) =>
    text === undefined ? undefined : pastOption(option, text, now);
  const listed = await connection.list<HostOn>(
    `/api/v1/images/${encodeURIComponent(digest)}/hosts`,
    { from: bound('--from', options.from), to: bound('--to', options.to) },
    limitOf(options),
  );
  await tellList(listed, HOSTS, options, io);
  return EXIT.ok;
};

const HOSTS: Shown<HostOn> = {
  name: 'hosts',
  empty: 'no host ran it then',
  head: ['HOST', 'FROM', 'TO', 'LAST HEARD', 'LOG ENTRY', 'ID'],
  row: ({ id, name, state, stays, heardAt }) => {
    const [first, last] = [stays[0], stays.at(-1)];
    return [
      state === 'active' ? name : `${name} (${state})`,
      timeText(first?.from ?? null),
      last?.to == null ? 'runs it' : timeText(last.to),
      timeText(heardAt),
      first?.entry == null ? '-' : String(first.entry.index),
      id,
    ];
  },
};
