/**
 * From entries to a tree's texts and digests (docs/manifest.md, rules 3 and 4): what `sha256sum` says of the text below that
 * tree, in full and with its secrets hidden.
 */
import { digestOf, type Digest, type Sha256 } from '#src/digest.ts';
import type { Entry } from './entry.ts';
import type { TreeTexts } from './header.ts';
import { extraLine, mainLine } from './mtree.ts';

/** As it stands in a manifest's header. */
export type TreeDigests = {
  readonly main: { readonly full: Digest; readonly comparison: Digest };
  readonly extra: Digest;
  readonly entries: number;
};

/**
 * Both texts of one tree and their digests. `entries` in `comparePaths` order; `comparison` makes the comparison text of
 * a main text (`comparisonText` of drift/redact.ts).
 */
export function digestTree(
  entries: Iterable<Entry>,
  sha256: Sha256,
  comparison: (main: string) => string,
): { readonly texts: TreeTexts; readonly digests: TreeDigests } {
  let main = '';
  let extra = '';
  let count = 0;
  for (const entry of entries) {
    main += mainLine(entry);
    extra += extraLine(entry);
    count++;
  }
  const texts = { main, extra };
  return { texts, digests: { ...textDigests(texts, sha256, comparison), entries: count } };
}

/** The digests of texts that are there already. */
export function textDigests(
  texts: TreeTexts,
  sha256: Sha256,
  comparison: (main: string) => string,
): Omit<TreeDigests, 'entries'> {
  const full = digestOf(texts.main, sha256);
  const compared = comparison(texts.main);
  return {
    // /usr has no secrets: its two texts are one, and hashed once.
    main: { full, comparison: compared === texts.main ? full : digestOf(compared, sha256) },
    extra: digestOf(texts.extra, sha256),
  };
}
