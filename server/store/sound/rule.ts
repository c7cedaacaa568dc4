/** A rule between rows, and words that rules share. */

export type Rule = {
  readonly code: string;
  /** The table that a faulty row is told under. */
  readonly table: string;
  /** SQL of what names the row. */
  readonly key: string;
  /** SQL: from where, and what is wrong. */
  readonly from: string;
  readonly where: string;
  /** SQL of a text that says what was found; nothing where the meaning says all. */
  readonly found?: string;
  readonly means: string;
  readonly todo: string;
};

export const RESTORE = 'restore a backup that is sound, or take it as lost: the evidence log says what it was';
export const BY_HAND =
  'somebody changed the database by hand, or its disk lost writes: look at the disk, and restore a backup that is sound';
export const RECOUNT =
  'the nightly recount sets it right (it runs at 3:30 UTC in every server); if it comes back, report it as a fault of ours';

export const without = (table: string, on: string): string => `not exists (select 1 from ${table} where ${on})`;
export const count = (where: string, of = 'finding'): string => `(select count(*) from ${of} where ${where})`;
