/** `bootproof retention show`: how long what was reported stays, what is held, and what was purged (docs/retention.md). */
import type { z } from 'zod';
import { EXIT, type Exit, type Io } from '#src/terminal.ts';
import type { PurgeJson, RetentionJson } from '#server/api/retention.ts';
import { bytesText } from '#server/retention.ts';
import { client, limitOf, limitOption, timeText, type Action, type ListOptions } from './client.ts';
import { onText } from './hold.ts';
import { writeJson } from './output.ts';
import { printFacts, printTable } from './table.ts';

type Retention = z.infer<typeof RetentionJson>;
type Purge = z.infer<typeof PurgeJson>;

/** `bootproof retention`. */
export function retention(args: readonly string[], io: Io): Promise<Exit> {
  return client('retention', 'How long what was reported stays.', args, io, (command, add) => {
    limitOption(
      add<ListOptions>(command.command('show').description('the settings, what is held, and what was purged'), show),
    );
  });
}

const show: Action<ListOptions> = async (connection, options, _operands, io) => {
  const [told, purges] = await Promise.all([
    connection.ask<Retention>('GET', '/api/v1/retention'),
    connection.list<Purge>('/api/v1/retention/purges', {}, limitOf(options)),
  ]);
  if (options.json === true) {
    await writeJson({ ...told, purges: purges.items, more: purges.more }, io);
    return EXIT.ok;
  }
  const { settings, since, held, holds } = told;
  const days = { report: settings.reports, judgement: settings.judgements, act: settings.acts };
  await printFacts(
    [
      ...held.map(({ of, payloads, bytes, oldest }) => {
        const kept = days[of] === null ? 'for good' : `${days[of]} days`;
        const what = payloads === 0 ? 'none counted yet' : `${payloads} held, ${bytesText(bytes)}, oldest of ${oldest}`;
        return [NAMES[of], `${kept}; ${what}`] as const;
      }),
      [
        'all of them',
        settings.bytes === null
          ? 'no bound'
          : `${bytesText(settings.bytes)} of reports and judgements; nothing younger than ${settings.atLeast} days goes for that`,
      ],
      ['settings', since === null ? undefined : `these since ${timeText(since)}; nothing goes under them for a day`],
      [
        'legal holds',
        holds.length === 0 ? 'none stands' : holds.map((one) => `${one.id} on ${onText(one)}`).join('; '),
      ],
    ],
    io,
  );
  if (purges.items.length === 0) await io.stderr.write('nothing was ever purged\n');
  else {
    await io.stdout.write('\n');
    await printTable(
      ['PURGED', 'ENTRY', 'WHAT', 'FROM BEFORE', 'RULE'],
      purges.items.map(({ at, index, of, payloads, before, rule }) => [
        timeText(at),
        String(index),
        `${payloads} ${payloads === 1 ? of : NAMES[of]}`,
        timeText(before),
        rule,
      ]),
      io,
    );
  }
  if (purges.more)
    await io.stderr.write(`these are the newest ${purges.items.length}; --limit shows more, --json all\n`);
  return EXIT.ok;
};

const NAMES = { report: 'reports', judgement: 'judgements', act: 'acts' } as const;
