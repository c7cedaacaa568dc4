/** Schema version 12: evidence exports. */
export function schema0012(): readonly string[] {
  return [];
}
