/** Schema version 10: decisions and notices grown up. */
import type { Dialect } from './0001.ts';

export function schema0010(_: Dialect): readonly string[] {
  return [];
}
