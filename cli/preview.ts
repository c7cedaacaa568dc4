/** `bootproof image preview OLD NEW`: what a newer image would meet on the hosts of an older one. */
import type { z } from 'zod';
import { EXIT, shownText, type Exit, type Io } from '#src/terminal.ts';
import type * as schemas from '#server/api/policyschemas.ts';
import { client } from './client.ts';
import type { Connection } from './connection.ts';
import { writeJson } from './output.ts';
import { printTable } from './table.ts';

type Preview = z.infer<typeof schemas.ImagePreview>;

/** 0 nothing would be hidden, 1 something would, 2 nothing was seen but hosts could not be looked at. */
export function preview(args: readonly string[], io: Io): Promise<Exit> {
  return client(
    'image preview',
    'What a newer image would meet on the hosts of an older one; nothing is written.',
    args,
    io,
    (command, add) => {
      add(
        command
          .argument('<old>', 'the image that hosts run, by digest')
          .argument('<new>', 'the image that they would run; the server must have its manifest'),
        async (connection, { json }, [before = '', after = ''], out) => {
          const found = await whole(connection, before, after);
          if (json === true) await writeJson(found, out);
          else await tell(found, out);
          return found.hosts.shadowed > 0 ? EXIT.different : found.hosts.unjudged > 0 ? EXIT.unknown : EXIT.ok;
        },
      );
    },
  );
}

async function whole(connection: Connection, before: string, after: string): Promise<Preview> {
  let sum: Preview | undefined;
  let cursor: string | null = null;
  do {
    const query = new URLSearchParams({ to: after, ...(cursor === null ? {} : { cursor }) });
    const part: Preview = await connection.ask<Preview>(
      'GET',
      `/api/v1/images/${encodeURIComponent(before)}/preview?${query.toString()}`,
    );
    sum = sum === undefined ? part : added(sum, part);
    cursor = part.next;
  } while (cursor !== null);
  return sum;
}

const nameOf = ({ path, path_b64 }: Preview['paths'][number]): string => path ?? `base64:${path_b64}`;

function added(a: Preview, b: Preview): Preview {
  const paths = new Map(a.paths.map((path) => [nameOf(path), path]));
  for (const path of b.paths) {
    const known = paths.get(nameOf(path));
    paths.set(
      nameOf(path),
      known === undefined
        ? path
        : {
            ...known,
            shadowed: known.shadowed + path.shadowed,
            same: known.same + path.same,
            untold: known.untold + path.untold,
            examples: known.examples.length > 0 ? known.examples : path.examples,
          },
    );
  }
  return {
    ...b,
    hosts: {
      looked: a.hosts.looked + b.hosts.looked,
      shadowed: a.hosts.shadowed + b.hosts.shadowed,
      unjudged: a.hosts.unjudged + b.hosts.unjudged,
    },
    paths: [...paths.values()].sort((x, y) => y.shadowed - x.shadowed || y.untold - x.untold || y.same - x.same),
  };
}

async function tell({ changed, hosts, paths }: Preview, io: Io): Promise<void> {
  const met = paths.filter(({ shadowed, same, untold }) => shadowed + same + untold > 0);
  await io.stdout.write(
    `the newer image changes ${changed} paths of /etc; on ${hosts.shadowed} of ${hosts.looked} hosts a file of their own hides some of it\n`,
  );
  if (hosts.unjudged > 0) await io.stdout.write(`${hosts.unjudged} hosts have no report that could be looked at\n`);
  if (met.length === 0) return;
  await printTable(
    ['PATH', 'CHANGE', 'HIDDEN ON', 'THE SAME ON', 'A SECRET ON', 'FOR EXAMPLE'],
    met.map((path) => [
      shownText(nameOf(path)),
      path.change,
      String(path.shadowed),
      String(path.same),
      String(path.untold),
      path.examples.map(({ name, meets }) => `${name} (${meets})`).join(', '),
    ]),
    io,
  );
}
