/** Schema version 7: the evidence log. */
import type { Dialect } from './0001.ts';

export function schema0007(_: Dialect): readonly string[] {
  return [];
}
