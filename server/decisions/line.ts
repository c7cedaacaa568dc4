/** A filter line as people write it, with images by each of their names: what lists, counts and acts on many are all asked with. */
import { parseFilter, type FilterLine } from '#src/finding/filter.ts';
import type { Store } from '#server/store/store.ts';

/** @throws {FilterError} that names the word which is not understood. */
export async function readLine(q: string, store: Pick<Store, 'images' | 'read'>): Promise<FilterLine> {
  return Promise.all(
    parseFilter(q).map(async (term) => {
      if (term.field !== 'image') return term;
      const names = await Promise.all(
        term.values.map(async (value) => {
          const found = await store.images.find(value);
          if (found === undefined) return [value];
          const aliases = await store.read.aliases(found.image.digest);
          return [found.image.digest, ...aliases.map(({ alias }) => alias)];
        }),
      );
      return { ...term, values: names.flat() };
    }),
  );
}
