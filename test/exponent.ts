/** How time grows with input, for parsers of hostile texts: the exponent is fitted, seconds are never judged. */

/** Fits y = c·n^k over sizes and gives k; the best of several runs each, so that a busy machine does not matter. */
export function exponent(run: (n: number) => void, sizes: readonly number[]): number {
  const points = sizes.map((n) => {
    let best = Infinity;
    for (let i = 0; i < 7; i++) {
      const start = performance.now();
      run(n);
      best = Math.min(best, performance.now() - start);
    }
    return [Math.log(n), Math.log(best)] as const;
  });
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const mx = mean(points.map(([x]) => x));
  const my = mean(points.map(([, y]) => y));
  return (
    points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0) / points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0)
  );
}
