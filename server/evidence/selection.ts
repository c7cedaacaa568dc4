/** Which hosts a bundle is of: a filter line about hosts alone (docs/evidence.md 7.2), within what the asker may take away. */
import { BootproofError } from '#src/error.ts';
import { covers, type Scope } from '#src/finding/scope.ts';
import { FilterError, parseFilter, printFilter, type FilterLine, type FilterTerm } from '#src/finding/filter.ts';
import type { Host } from '#server/store/records.ts';

export class EvidenceError extends BootproofError<
  /** There is no such export, or it is not the asker's to see. */
  | 'EVIDENCE_UNKNOWN'
  /** It does not begin before it ends, or is not over. */
  | 'EVIDENCE_PERIOD'
  /** A filter of hosts that cannot be read, or that says something about findings. */
  | 'EVIDENCE_HOSTS'
  | 'EVIDENCE_FRAMEWORK'
  /** As many as may be are kept. */
  | 'EVIDENCE_FULL'
  /** Its file is not made yet, or was removed by hand. */
  | 'EVIDENCE_STATE'
  /** The file would be larger than it may be, or the disk is full. */
  | 'EVIDENCE_DISK'
  /** A part of its file that there is not. */
  | 'RANGE_INVALID'
> {}

const ABOUT_HOSTS: readonly FilterTerm['field'][] = ['host', 'group', 'label'];

/** The line in its one spelling; null where it names every host. @throws {EvidenceError} EVIDENCE_HOSTS */
export function hostsLine(text: string | null): string | null {
  const trimmed = text?.trim() ?? '';
  if (trimmed === '' || trimmed === 'all') return null;
  return printFilter(parsed(trimmed));
}

function parsed(text: string): FilterLine {
  let line: FilterLine;
  try {
    line = parseFilter(text);
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    throw new EvidenceError('EVIDENCE_HOSTS', `hosts: ${error.message}`, { cause: error });
  }
  const other = line.find(({ field }) => !ABOUT_HOSTS.includes(field));
  if (other !== undefined)
    throw new EvidenceError(
      'EVIDENCE_HOSTS',
      `hosts: ${JSON.stringify(printFilter([other]))} is not about hosts; write group:NAME, label:KEY=VALUE or host:NAME, or leave it out for every host`,
    );
  return line;
}

export type Selection = {
  /** Nothing is left out: neither by a filter nor by what the asker may see. */
  readonly whole: boolean;
  /** In words, as the bundle says it. */
  readonly text: string;
  /** `then`: as it was called when the period ended. What the asker may see goes by what it is called now. */
  has(now: Pick<Host, 'id' | 'group'>, then: Pick<Host, 'name' | 'group' | 'labels'>): boolean;
};

export function selectionOf(filter: string | null, scope: Scope): Selection {
  const line = filter === null ? [] : parsed(filter);
  const bounds = scope === null ? [] : [printFilter([{ field: 'group', negated: false, values: [...scope] }])];
  return {
    whole: filter === null && scope === null,
    text: [...(filter === null ? [] : [filter]), ...bounds].join(' '),
    has: ({ id, group }, { name, group: then, labels }) =>
      covers(scope, group) && line.every((term) => isMet(term, { id, name, group: then, labels }) !== term.negated),
  };
}

function isMet(term: FilterTerm, { id, name, group, labels }: Pick<Host, 'id' | 'name' | 'group' | 'labels'>): boolean {
  switch (term.field) {
    case 'host':
      return term.values.some((value) => value === id || value.toLowerCase() === name.toLowerCase());
    case 'group':
      return covers(term.values, group);
    case 'label':
      return term.values.some(({ key, value }) => Object.hasOwn(labels, key) && labels[key] === value);
    default:
      return false; // `parsed` let none through
  }
}
