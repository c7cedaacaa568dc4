/** Schema version 11: lists that stay fast. */
import type { Dialect } from './0001.ts';

export function schema0011(_: Dialect): readonly string[] {
  return [];
}
