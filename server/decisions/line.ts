/** A filter line as people write it, with images by each of their names: what lists, counts and acts on many are all asked with. */
import { parseFilter, type FilterLine } from '#src/finding/filter.ts';
import type { Store } from '#server/store/store.ts';
import { shortDigest } from './images.ts';

/** Images that the beginning of a digest stands for in a filter. */
const BEGINNING_MAX = 50;

/** @throws {FilterError} that names the word which is not understood. */
export async function readLine(q: string, store: Pick<Store, 'images' | 'read'>): Promise<FilterLine> {
  return Promise.all(
    parseFilter(q).map(async (term) => {
      if (term.field !== 'image') return term;
      const names = await Promise.all(
        term.values.map(async (value) => {
          const found = await store.images.find(value);
          const short = shortDigest(value);
          const digests =
            found !== undefined
              ? [found.image.digest]
              : short === undefined
                ? []
                : await store.images.beginning(short, BEGINNING_MAX);
          if (digests.length === 0) return [value];
          const named = await Promise.all(digests.map((digest) => store.read.aliases(digest)));
          return [...digests, ...named.flat().map(({ alias }) => alias)];
        }),
      );
      return { ...term, values: names.flat() };
    }),
  );
}
