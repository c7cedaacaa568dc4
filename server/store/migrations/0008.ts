/** Schema version 8: contents of /etc text files. */
import type { Dialect } from './0001.ts';

export function schema0008(_: Dialect): readonly string[] {
  return [];
}
