/**
 * A scan that did not come to its end (docs/report.md 1.14): told to stop, it is reported as one that saw nothing, and why; killed, it leaves a mark by
 * which the next run knows. What nobody looked at is a hole: never *intact*, and nothing that was found before counts as mended.
 */
import { z } from 'zod';
import { formatInstant, type Instant } from '#src/clock.ts';
import { STATE_FILE_BYTES_MAX } from '#src/limits.ts';
import { TREES } from '#src/manifest/entry.ts';
import { DigestJson } from '#src/manifest/json.ts';
import { Time } from '#src/wire/answer.ts';
import type { Disk } from './disk.ts';
import type { Scan, TreeScan } from './scan.ts';

/** The reason with which a scan is stopped so that it is told all the same; the message says who stopped it. */
export class ScanStopped extends Error {}

const MARK_FILE = 'scanning.json';

const Mark = z.strictObject({
  version: z.literal(1),
  startedAt: Time,
  bootId: z.string().nullable(),
  /** What it compared with. */
  manifest: z.strictObject({ image: DigestJson, rule: z.string() }).nullable(),
});
/** Of a scan that is under way. */
export type Mark = Readonly<z.infer<typeof Mark>>;

/** The mark of a scan that never ended, which is taken away; undefined where all did, or where it does not read. */
export function takeMark(disk: Disk, folder: string): Mark | undefined {
  const bytes = disk.read(`${folder}/${MARK_FILE}`, STATE_FILE_BYTES_MAX);
  if (bytes === undefined) return undefined;
  disk.unlink(`${folder}/${MARK_FILE}`);
  try {
    return Mark.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return undefined; // power went while it was written: the scan had not begun
  }
}

/** Does `scan` under a mark, which goes whatever becomes of it, save that the process is killed. Nobody needs it after a reboot. */
export async function marked<T>(
  { disk, folder }: { readonly disk: Disk; readonly folder: string },
  mark: Omit<Mark, 'version' | 'startedAt'> & { readonly startedAt: Instant },
  scan: () => Promise<T>,
): Promise<T> {
  const file = `${folder}/${MARK_FILE}`;
  const text = JSON.stringify({ version: 1, ...mark, startedAt: formatInstant(mark.startedAt) } satisfies Mark);
  disk.unlink(file);
  disk.create(file, new TextEncoder().encode(text), 0o600);
  try {
    return await scan();
  } finally {
    disk.unlink(file);
  }
}

/** What is known after a scan that failed: nothing of either tree, and why. */
export function brokenScan(why: string): Scan {
  const tree = (name: string): TreeScan => ({
    main: null,
    extra: null,
    entries: 0,
    holes: [{ path: `/${name}`, kind: 'unreadable', detail: `scan failed: ${why}` }],
    holesCapped: false,
  });
  const [usr, etc] = TREES.map(tree) as [TreeScan, TreeScan];
  return {
    trees: { usr, etc },
    drift: [],
    truncated: null,
    secrets: [],
    accounts: null,
    contents: [],
    notes: [],
    stats: { files: 0, bytes: 0, seconds: 0, peakRssBytes: 0, cached: null, measured: 0, read: 0 },
  };
}
