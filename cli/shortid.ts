/** Images by the beginning of their digest, as pages and narrow terminals show it. */
import { printableText, UsageError } from '#src/terminal.ts';
import type { Connection } from './connection.ts';

/** An image's whole digest; whatever is no beginning of one is left as it is. @throws {UsageError} where it is none's, or several have it */
export async function imageFrom(connection: Connection, text: string): Promise<string> {
  const [, hex] = /^(?:sha256:)?([0-9a-f]{6,63})…?$/.exec(text) ?? [];
  if (hex === undefined) return text;
  const { items } = await connection.list<{ digest: string }>('/api/v1/images', {}, Infinity);
  const [only, ...others] = items.map(({ digest }) => digest).filter((digest) => digest.startsWith(`sha256:${hex}`));
  if (only === undefined) throw new UsageError(`no image's digest begins with ${printableText(hex)}`);
  if (others.length > 0) throw new UsageError(`${hex} may be ${[only, ...others.slice(0, 7)].join(', ')}`);
  return only;
}
