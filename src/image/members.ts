/** Layers of several gzip members or zstd frames, of which some importers read the first one only (merge errata 9). */
import type { Layer } from './layer.ts';
import { BackendError, type Warnings } from './refusal.ts';
import type { TarEntry } from './tarentry.ts';

/**
 * The entries that an importer reads which stops after the first gzip member or zstd frame.
 * @throws {BackendError} MEMBER_CUT where the cut is inside an entry.
 */
export function readable(
  layer: Layer,
  first: readonly Layer['compression'][],
  warnings: Warnings,
): readonly TarEntry[] {
  if (layer.first === undefined || !first.includes(layer.compression)) return layer.entries;
  const { entries, between } = layer.first;
  const what = layer.compression === 'gzip' ? 'gzip member' : 'zstd frame';
  if (!between)
    throw new BackendError(
      'MEMBER_CUT',
      `layer ${layer.index}: only its first ${what} is read, and that ends inside entry ${entries}`,
    );
  const lost = layer.entries.length - entries;
  if (lost > 0)
    warnings.add(
      layer.compression === 'gzip' ? 'GZIP_MEMBERS_LOST' : 'ZSTD_FRAMES_LOST',
      layer.index,
      `only the first ${what} is read: ${lost} of ${layer.entries.length} entries are missing on the host`,
    );
  return layer.entries.slice(0, entries);
}
