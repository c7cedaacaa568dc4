/** What one image changes of another: the trees of both, compared as a host's are with its image. The same as `bootproof manifest diff`. */
import { compareTexts } from '#src/drift/compare.ts';
import { totalsOf, type Drift, type Secret, type Totals } from '#src/drift/drift.ts';
import { TREES, type TreeName } from '#src/manifest/entry.ts';
import type { KnownImages, ReadyImage } from '#server/ingest/known.ts';

export type ImageChanges =
  | {
      readonly kind: 'changes';
      readonly before: ReadyImage;
      readonly after: ReadyImage;
      readonly rule: string;
      readonly drift: readonly Drift[];
      readonly secrets: readonly Secret[];
      readonly totals: Readonly<Record<TreeName, Totals>>;
    }
  /** Why they cannot be compared, in words. */
  | { readonly kind: 'untold'; readonly why: string };

/** What a host of `before` would see change on an update to `after`. */
export async function changesBetween(before: string, after: string, images: KnownImages): Promise<ImageChanges> {
  const [was, is] = [await images.resolve(before), await images.resolve(after)];
  if (was.kind !== 'ready')
    return { kind: 'untold', why: `The older one has no manifest yet: ${was.state.detail ?? was.state.code}` };
  if (is.kind !== 'ready')
    return { kind: 'untold', why: `The newer one has no manifest yet: ${is.state.detail ?? is.state.code}` };
  const pair = was.image.manifests.flatMap((older) => {
    const newer = is.image.manifests.find(({ header }) => header.rule === older.header.rule);
    return newer === undefined ? [] : [{ older, newer }];
  })[0];
  if (pair === undefined) return { kind: 'untold', why: 'No host takes both: they were built for different backends' };
  const drift: Drift[] = [];
  const secrets: Secret[] = [];
  const totals = { usr: totalsOf([]), etc: totalsOf([]) };
  for (const tree of TREES) {
    const found = compareTexts(await pair.older.texts(tree), await pair.newer.texts(tree));
    totals[tree] = totalsOf(found.drift);
    drift.push(...found.drift);
    secrets.push(...found.secrets.filter(({ state }) => state !== 'same'));
  }
  return { kind: 'changes', before: was.image, after: is.image, rule: pair.older.header.rule, drift, secrets, totals };
}
