/** Schema version 9: where a file of an image comes from. */
import type { Dialect } from './0001.ts';

export function schema0009(_: Dialect): readonly string[] {
  return [];
}
