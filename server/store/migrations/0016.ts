/** Schema version 16: a fleet of servers. */
export function schema0016(): readonly string[] {
  return [];
}
