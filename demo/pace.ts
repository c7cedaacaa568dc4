/** How fast the demo's clocks run: what counts as late and silent fits a machine that needs longer for a round of all agents. */

/** What demo/policy.yaml has room for: between two reports of a host lie its quiet time and at most two rounds. */
const ROUND_MS = 12_000;
/** Slower than this nobody waits for. */
const PACE_MAX = 32;

/** By how much every time of the demo is longer, where a round of all agents takes so long: 1, 2, 4 … 32. */
export function paceOf(roundMs: number): number {
  let pace = 1;
  while (pace < PACE_MAX && roundMs > ROUND_MS * pace) pace *= 2;
  return pace;
}

/** demo/policy.yaml with its three times at that pace. */
export function pacedPolicy(text: string, pace: number): string {
  return text.replace(
    /^( +(?:reportEvery|lateAfter|silentAfter): )([0-9]+)s$/gm,
    (_, key: string, seconds: string) => `${key}${Number(seconds) * pace}s`,
  );
}
