/**
 * What an image says of its own layers: the configuration's `history` (image-spec, config.md) and the annotations in which chunking builders
 * name what they put into a layer. Only ever told to people: what has another form says nothing, and refuses no image.
 */
import { LAYER_COMPONENTS_MAX, LAYER_WORDS_MAX } from '#src/limits.ts';

/** How a layer was made, as its builder wrote it down; null where it did not. */
export type LayerHistory = { readonly createdBy: string | null; readonly comment: string | null };

/** The entries of `history` that made a layer; empty where they are not one a layer, because then nobody knows which is which. */
export function historyOf(history: unknown, layers: number): readonly LayerHistory[] {
  if (!Array.isArray(history)) return [];
  const made = history.filter((entry) => (entry as { empty_layer?: unknown } | null)?.empty_layer !== true);
  if (made.length !== layers) return [];
  return made.map((entry: { created_by?: unknown; comment?: unknown } | null) => ({
    createdBy: wordsOf(entry?.created_by),
    comment: wordsOf(entry?.comment),
  }));
}

function wordsOf(text: unknown): string | null {
  if (typeof text !== 'string') return null;
  const trimmed = text.trim();
  return trimmed === '' ? null : trimmed.slice(0, LAYER_WORDS_MAX);
}

/**
 * The components of a layer: ostree-ext and rpm-ostree write them with commas (`ostree.components`, its lib.rs CONTENT_ANNOTATION), chunkah
 * with spaces (`org.chunkah.component`: `rpm/kernel rpm/curl`).
 */
export function componentsOf(annotations: unknown): readonly string[] {
  if (typeof annotations !== 'object' || annotations === null) return [];
  const { 'ostree.components': ostree, 'org.chunkah.component': chunkah } = annotations as Record<string, unknown>;
  const words = typeof ostree === 'string' ? ostree.split(',') : typeof chunkah === 'string' ? chunkah.split(' ') : [];
  return words
    .map((word) => word.trim().slice(0, 200))
    .filter((word) => word !== '')
    .slice(0, LAYER_COMPONENTS_MAX);
}
