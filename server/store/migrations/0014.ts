/** Schema version 14: retention and legal hold. */
export function schema0014(): readonly string[] {
  return [];
}
