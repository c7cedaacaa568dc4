/** How time grows with input, for parsers of hostile texts: the exponent is fitted to this thread's CPU time, seconds are never judged. */
import { dlopen } from 'node:ffi';

const ROUNDS = 15;
/** Before these the first runs, which compile, may still count. */
const ROUNDS_LEAST = 4;

const { functions: c } = dlopen('libc.so.6', { clock_gettime: { arguments: ['int32', 'buffer'], return: 'int32' } });
const CLOCK_THREAD_CPUTIME_ID = 3;
const spec = Buffer.alloc(16);

/** What this thread has computed, in milliseconds: exact, where `process.threadCpuUsage` counts turns of the scheduler. */
function now(): number {
  if (c.clock_gettime(CLOCK_THREAD_CPUTIME_ID, spec) !== 0) throw new Error('the kernel does not tell CPU time');
  return Number(spec.readBigInt64LE(0)) * 1e3 + Number(spec.readBigInt64LE(8)) / 1e6;
}

/**
 * Fits y = c·n^k over sizes and gives k. Each size counts with the best of many runs, one of every size in turn: a machine that is
 * busy for a while (others wait for their turn, but caches are shared) slows all sizes alike.
 * @param clear a k below it is no matter of noise any more: what grows faster does so in every round, and no further ones are run
 */
export function exponent(run: (n: number) => void, sizes: readonly number[], clear = 1.25): number {
  const best = new Map(sizes.map((n) => [n, Infinity]));
  for (let round = 1; ; round++) {
    for (const n of sizes) {
      const start = now();
      run(n);
      best.set(n, Math.min(best.get(n)!, now() - start));
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
