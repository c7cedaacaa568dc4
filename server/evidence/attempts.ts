/**
 * Files of an export's attempts. Each attempt has its own: a process that was taken for dead may be at an earlier one still. What an earlier one has
 * finished is taken over by copying it, so that nobody writes into a file that somebody else reads (docs/evidence.md 7.5).
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { EvidenceExport } from '#server/store/evidencerecords.ts';

export type Attempt = Pick<EvidenceExport, 'id' | 'attempts'>;
const named =
  (ending: string) =>
  (folder: string, { id, attempts }: Attempt): string =>
    join(folder, `${id}.${attempts}.${ending}`);

/** The finished file. */
export const fileOf = named('zip');
/** The file as far as it is written, and which members stand in it. */
export const partOf = named('part');
export const journalOf = named('journal');
/** What was read of the store: a folder. */
export const workOf = named('work');

/** Earlier attempts that left a file of this ending, newest first. */
export async function earlier(
  folder: string,
  { id, attempts }: Attempt,
  ending: 'journal' | 'work',
): Promise<readonly Attempt[]> {
  const found = new Set<number>();
  for (const name of await readdir(folder)) {
    const [, of, n, what] = /^(ev_[0-9a-z]+)\.([0-9]+)\.([a-z]+)$/.exec(name) ?? [];
    if (what !== ending) continue;
    if (of === id && Number(n) < attempts) found.add(Number(n));
  }
  return [...found].sort((a, b) => b - a).map((n) => ({ id, attempts: n }));
}

/** Everything that attempts left but for what `keep` names. */
export async function removeFiles(folder: string, id: string, keep: readonly string[] = []): Promise<void> {
  const names = await readdir(folder).catch(() => []); // none was ever made
  for (const name of names) {
    const path = join(folder, name);
    // One that is being made is still written to: it is stopped, and what it leaves goes with the next sweep.
    if (name.startsWith(`${id}.`) && !keep.includes(path))
      await rm(path, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Exports of which something lies there. */
export async function folderIds(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch(() => []); // none was ever made
  return [...new Set(names.flatMap((name) => /^(ev_[0-9a-z]{26})\./.exec(name)?.[1] ?? []))];
}
