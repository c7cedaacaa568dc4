/**
 * What lies in the place of the log's last checkpoint after a backup was restored and nobody knows what was published since: a note for people,
 * which is no checkpoint, so that nothing is signed until a new log is begun (docs/durability.md 5.3).
 */
import { formatInstant, type Instant } from '#src/clock.ts';

const BEGINS = 'bootproof restored this database from a backup\n';

export function restoredNote(about: {
  readonly origin: string;
  readonly size: number;
  readonly backup: string;
  readonly at: Instant;
}): string {
  const { origin, size, backup, at } = about;
  return `${BEGINS}at ${formatInstant(at)} from ${JSON.stringify(backup)}; its log ${origin} has ${size} entries.\nWhat was published after the backup is not known here. Put the log.checkpoint of before in the place of this file, or begin a new log:\nbootproof log restart --new-origin NAME\n`;
}

export const isRestoredNote = (text: string): boolean => text.startsWith(BEGINS);
