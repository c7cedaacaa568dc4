/** Schema version 13: witnesses and timestamps. */
export function schema0013(): readonly string[] {
  return [];
}
