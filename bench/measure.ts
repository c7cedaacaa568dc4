/** Times whole processes, as the operating system accounts them, rivals in turn; quotes medians and the ratio pair by pair. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** One finished run of a process and its children. */
export type Run = { readonly wall: number; readonly cpu: number; readonly peakMiB: number };
export type Figure = { readonly name: string; readonly runs: readonly Run[] };

const COLLECTOR = new URL('timed.ts', import.meta.url).pathname;

/** Runs a shell command once in a process of its own and returns wall and CPU seconds and the largest process's memory. */
export async function run(command: string): Promise<Run> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', COLLECTOR, command], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`exit ${status}: ${command}`);
  return JSON.parse(out) as Run;
}

/** Runs the rivals in turn, A B A B …, after one uncounted round that warms the page cache. */
export async function alternate(commands: ReadonlyMap<string, string>, rounds: number): Promise<Figure[]> {
  const runs = new Map<string, Run[]>([...commands.keys()].map((name) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const [name, command] of commands) {
      const done = await run(command);
      if (round >= 0) runs.get(name)!.push(done);
    }
  }
  return [...runs].map(([name, list]) => ({ name, runs: list }));
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** A Markdown table of the figures, with each one's ratio to `ours`. */
export function table(figures: readonly Figure[], ours: string): string {
  const mine = figures.find(({ name }) => name === ours)!;
  const spread = (values: number[], digits: number) =>
    `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`;
  const rows = figures.map(({ name, runs }) => {
    const ratio = (key: 'wall' | 'cpu') =>
      spread(
        runs.map((r, i) => mine.runs[i]![key] / r[key]),
        2,
      );
    const own = name === ours;
    return `| ${name} | ${spread(
      runs.map((r) => r.wall),
      2,
    )} | ${spread(
      runs.map((r) => r.cpu),
      2,
    )} | ${spread(
      runs.map((r) => r.peakMiB),
      0,
    )} | ${own ? '' : ratio('wall')} | ${own ? '' : ratio('cpu')} |`;
  });
  return `| | wall s | CPU s | peak MiB | ours / this, wall | ours / this, CPU |\n|---|---|---|---|---|---|\n${rows.join('\n')}\n`;
}
