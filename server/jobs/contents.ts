/** Images that were built before their contents were kept are looked through once, from the texts that are there; nothing is fetched. */
import { ContentGatherer } from '#src/manifest/contents.ts';
import { TREES } from '#src/manifest/entry.ts';
import type { Deps } from '#server/deps.ts';
import { decodeBlob } from '#server/ingest/known.ts';
import type { Chore } from './runner.ts';

/** In one turn, with the event loop free between two: a text of some megabytes takes a tenth of a second. */
const IMAGES_AT_ONCE = 20;

export function contentsChore({ store, clock }: Pick<Deps, 'store' | 'clock'>, everyMs: number): Chore {
  return {
    name: 'contents',
    everyMs,
    run: async () => {
      for (const image of await store.imageOrigins.unseen(IMAGES_AT_ONCE)) {
        const gatherer = new ContentGatherer();
        const keys = (await store.images.manifests(image)).flatMap(({ trees }) =>
          TREES.map((tree) => trees[tree].mainBlob),
        );
        for (const key of new Set(keys)) {
          const blob = await store.blobs.get(key);
          if (blob !== undefined) gatherer.add((await decodeBlob(blob)).toString('latin1'));
        }
        await store.imageOrigins.put(image, { origins: null, ...gatherer.marks() }, clock());
      }
    },
  };
}
