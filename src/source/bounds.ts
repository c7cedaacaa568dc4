/** The bounds on an image that a person may change, as `NAME=NUMBER`: of a command by `--limit`, of a server by `--image-limit`. */
import { IMAGE_BYTES_MAX, IMAGE_LIMITS, type ImageLimits } from '#src/limits.ts';
import { UsageError } from '#src/terminal.ts';

export type ImageBounds = {
  readonly limits: ImageLimits;
  /** Compressed bytes of all layers together. */
  readonly imageBytes: number;
};

export const IMAGE_BOUNDS: ImageBounds = { limits: IMAGE_LIMITS, imageBytes: IMAGE_BYTES_MAX };

/** Names of all bounds. */
export const BOUND_NAMES: readonly string[] = [...Object.keys(IMAGE_LIMITS), 'imageBytes'];

/** What changes make of the bounds; K, M and G are powers of 1024. `option` is how the asker calls them. @throws {UsageError} */
export function imageBounds(changes: readonly string[], option: string): ImageBounds {
  const bounds: Record<string, number> = { ...IMAGE_LIMITS, imageBytes: IMAGE_BYTES_MAX };
  for (const change of changes) {
    const [, name = '', digits = '', unit = ''] = /^([A-Za-z]+)=([0-9]{1,15})([KMG]?)$/.exec(change) ?? [];
    const value = Number(digits) * 1024 ** ' KMG'.indexOf(unit || ' ');
    if (!Object.hasOwn(bounds, name) || !Number.isSafeInteger(value) || value < 1)
      throw new UsageError(
        `${option} ${JSON.stringify(change)}: expected NAME=NUMBER with one of ${BOUND_NAMES.join(', ')}`,
      );
    bounds[name] = value;
  }
  const { imageBytes = IMAGE_BYTES_MAX, ...limits } = bounds;
  return { limits: limits as unknown as ImageLimits, imageBytes };
}
