/** How time grows with input, for parsers of hostile texts: the exponent is fitted, seconds are never judged. */

const ROUNDS = 15;
/** Before these the first runs, which compile, may still count. */
const ROUNDS_LEAST = 4;

/**
 * Fits y = c·n^k over sizes and gives k. Each size counts with the best of many runs, one of every size in turn: a machine that is
 * busy for a while slows all sizes alike, and some run of each fits between two turns of the scheduler if it is short.
 * @param clear a k below it is no matter of noise any more: what grows faster does so in every round, and no further ones are run
 */
export function exponent(run: (n: number) => void, sizes: readonly number[], clear = 1.25): number {
  const best = new Map(sizes.map((n) => [n, Infinity]));
  for (let round = 1; ; round++) {
    for (const n of sizes) {
      const start = performance.now();
      run(n);
      best.set(n, Math.min(best.get(n)!, performance.now() - start));
    }
    const k = fit(best);
    if (round === ROUNDS || (round >= ROUNDS_LEAST && k < clear)) return k;
  }
}

function fit(times: ReadonlyMap<number, number>): number {
  const points = [...times].map(([n, time]) => [Math.log(n), Math.log(time)] as const);
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const mx = mean(points.map(([x]) => x));
  const my = mean(points.map(([, y]) => y));
  return (
    points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0) / points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0)
  );
}
