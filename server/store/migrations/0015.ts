/** Schema version 15: outside inventories. */
export function schema0015(): readonly string[] {
  return [];
}
