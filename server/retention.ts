/** How long what lies beside the log stays, as the configuration says it, and in words (docs/retention.md). */
import type { PurgedKind, PurgeRule, Retained } from './store/retentionrecords.ts';

/** Days; null: for good. */
export type RetentionSettings = {
  readonly reports: number | null;
  readonly judgements: number | null;
  readonly acts: number | null;
  /** Of reports and judgements together: beyond that the oldest go first. Null: without a bound. */
  readonly bytes: number | null;
  /** Nothing younger goes for want of room: who floods the server must not push out what others reported. */
  readonly atLeast: number;
};

export const KEEP_AT_LEAST_DAYS = 30;
/** Nothing is ever purged. */
export const KEEP_ALL: RetentionSettings = {
  reports: null,
  judgements: null,
  acts: null,
  bytes: null,
  atLeast: KEEP_AT_LEAST_DAYS,
};

/** Days by kind of entries. */
export const daysOf = (settings: RetentionSettings): Readonly<Record<PurgedKind, number | null>> => ({
  report: settings.reports,
  judgement: settings.judgements,
  act: settings.acts,
});

export const KIND_WORDS: Readonly<Record<PurgedKind, string>> = {
  report: 'envelopes of reports',
  judgement: 'judgements',
  act: 'acts',
};

/** `1.5 GiB`. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let n = bytes;
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1).replace(/\.0$/, '')} ${units[unit]!}`;
}

export function ruleText(rule: PurgeRule): string {
  return rule.kind === 'age'
    ? `older than ${rule.days} days`
    : `more than ${bytesText(rule.bytes)}, nothing younger than ${rule.days} days`;
}

export type Volume = {
  readonly of: PurgedKind;
  readonly payloads: number;
  readonly bytes: number;
  /** Days since 1970 of the oldest; null where there is none. */
  readonly oldest: number | null;
};

/** Sums by kind. */
export function volumesOf(retained: readonly Retained[]): readonly Volume[] {
  return (['report', 'judgement', 'act'] as const).map((of) => {
    const days = retained.filter((each) => each.of === of);
    return {
      of,
      payloads: days.reduce((sum, { payloads }) => sum + payloads, 0),
      bytes: days.reduce((sum, { bytes }) => sum + bytes, 0),
      oldest: days[0]?.day ?? null,
    };
  });
}
