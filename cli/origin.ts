/** Where files come from, on the command line: of a finding, of a path of an image; and what a host ran before. */
import { fromUtf8 } from '#src/bytes.ts';
import { vis } from '#src/manifest/vis.ts';
import { EXIT, shownText, type Io } from '#src/terminal.ts';
import { timeText, type Action } from './client.ts';
import { writeJson } from './output.ts';
import { printFacts, printTable, word } from './table.ts';

// As the API answers (server/api/origins.ts).
type PathOrigin = {
  readonly state: string;
  readonly text: string | null;
  readonly layer: {
    readonly number: number;
    readonly of: number;
    readonly digest: string;
    readonly createdBy: string | null;
  } | null;
  readonly packages: readonly { readonly text: string }[];
  readonly altered: boolean;
};
export type FindingOrigin = {
  readonly host: { readonly id: string; readonly name: string } | null;
  readonly origin: PathOrigin | null;
  readonly elsewhere: { readonly text: string } | null;
  readonly since: {
    readonly seq: number;
    readonly at: string;
    readonly before: { readonly seq: number; readonly at: string | null } | null;
  } | null;
  readonly alike: readonly { readonly id: string; readonly what: string }[];
};
export type HostLineage = {
  readonly items: readonly {
    readonly image: string;
    readonly version: string | null;
    readonly reference: string | null;
    readonly firstSeen: string;
    readonly lastSeen: string | null;
    readonly running: boolean;
    readonly provenance: { readonly state: string; readonly by?: string };
    readonly before: string | null;
  }[];
};

type Fact = readonly [string, string | undefined];

/** As lines of `findings show`. */
export function originFacts({ host, origin, elsewhere, since, alike }: FindingOrigin): readonly Fact[] {
  const before = since?.before ?? null;
  return [
    ['brought by', origin?.text ?? undefined],
    ['whose file', elsewhere?.text ?? undefined],
    ...alike.map(({ id, what }) => ['same bytes', `${what} (${id})`] as const),
    [
      'came',
      since === null
        ? undefined
        : before === null
          ? `in report ${since.seq} of ${host?.name ?? 'the host'}, its first, ${timeText(since.at)}`
          : `between reports ${before.seq}${before.at === null ? '' : ` (${timeText(before.at)})`} and ${since.seq} (${timeText(since.at)}) of ${host?.name ?? 'the host'}`,
    ],
  ];
}

/** What a host ran, newest first, after what else there is of it. */
export async function printLineage({ items }: HostLineage, io: Io): Promise<void> {
  if (items.length === 0) return;
  await io.stdout.write('\n');
  await printTable(
    ['BOOTED', 'VERSION', 'FIRST SEEN', 'LAST SEEN', 'SIGNED', 'FOLLOWED'],
    items.map(({ image, version, firstSeen, lastSeen, running, provenance, reference }) => [
      image,
      version ?? '-',
      timeText(firstSeen),
      `${timeText(lastSeen)}${running ? ' (running)' : ''}`,
      provenance.by === undefined ? word(provenance.state) : `${provenance.state}: ${provenance.by}`,
      reference ?? '-',
    ]),
    io,
  );
}

/** `bootproof images rebuild DIGEST`. */
export const rebuild: Action<unknown> = async (connection, options, [digest = ''], io) => {
  const asked = await connection.ask<{ readonly image: string }>(
    'POST',
    `/api/v1/images/${encodeURIComponent(digest)}/rebuild`,
  );
  if (options.json === true) await writeJson(asked, io);
  else await io.stdout.write(`${shownText(asked.image)} is read again; its manifests stay as they are\n`);
  return EXIT.ok;
};

/** `bootproof images origin DIGEST PATH`. */
export const pathOrigin: Action<{ readonly rule?: string }> = async (
  connection,
  options,
  [digest = '', path = ''],
  io,
) => {
  const query = new URLSearchParams({
    path: vis(fromUtf8(path)),
    ...(options.rule === undefined ? {} : { rule: options.rule }),
  });
  const origin = await connection.ask<PathOrigin>(
    'GET',
    `/api/v1/images/${encodeURIComponent(digest)}/origin?${query.toString()}`,
  );
  if (options.json === true) await writeJson(origin, io);
  else {
    const { layer } = origin;
    await printFacts(
      [
        ['brought by', origin.text ?? 'the image has no manifest yet'],
        ['layer', layer?.digest],
        ['made by', layer?.createdBy ?? undefined],
        ...origin.packages.map(({ text }) => ['package', text] as const),
        ['', origin.altered ? 'the image has another file there than the package brought' : undefined],
      ],
      io,
    );
  }
  return origin.state === 'told' ? EXIT.ok : origin.state === 'absent' ? EXIT.different : EXIT.unknown;
};
