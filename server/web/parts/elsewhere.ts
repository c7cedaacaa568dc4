/** Whether a file that a host shows is a file of another image: then it was not made up, and the host is rather between two images. */
import type { DriftJson } from '#src/drift/drift.ts';
import type { WebServices } from '../services.ts';

/** Newest images whose manifests are looked through; a text is some megabytes, and mostly at hand. */
const IMAGES_MAX = 12;

export type Elsewhere = {
  readonly found: readonly { readonly digest: string; readonly name: string; readonly path: string }[];
  readonly looked: number;
  /** There are more images than were looked at. */
  readonly more: boolean;
};

/** Undefined where the change is about no file's content. */
export async function knownElsewhere(
  change: DriftJson | undefined,
  { store, images }: Pick<WebServices, 'store' | 'images'>,
): Promise<Elsewhere | undefined> {
  const sha256 = change?.actual?.sha256;
  if (change === undefined || sha256 === undefined || sha256 === change.expected?.sha256) return undefined;
  const page = await store.read.images({ states: ['ready'] }, { cursor: null, limit: IMAGES_MAX });
  const found: { digest: string; name: string; path: string }[] = [];
  for (const { digest, repositories, version } of page.items) {
    const known = await images.resolve(digest);
    const manifest = known.kind === 'ready' ? known.image.manifests[0] : undefined;
    if (manifest === undefined) continue;
    for (const tree of ['usr', 'etc'] as const) {
      const path = pathWith(sha256, (await manifest.texts(tree)).main);
      if (path === undefined) continue;
      const place = repositories[0]?.replace(/^[a-z-]+:\/\/[^/]+\//, '') ?? 'an image';
      found.push({ digest, name: version === null ? place : `${place} ${version}`, path });
      break;
    }
  }
  return { found, looked: page.items.length, more: page.next !== null };
}

/** The first path of a main text that has this content, as the text spells it (docs/manifest.md, rule 2). */
function pathWith(sha256: string, text: string): string | undefined {
  const at = text.indexOf(` sha256digest=${sha256}`);
  if (at < 0) return undefined;
  const begin = text.lastIndexOf('\n', at) + 2;
  return text.slice(begin, text.indexOf(' ', begin));
}
