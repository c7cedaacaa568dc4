/**
 * The headers in an RPM database in SQLite (rpm, lib/backend/sqlite.c: table Packages, one blob a package). The file came out of an image and may
 * be anything: it is opened to be read only, its schema is not trusted, and rows and bytes are counted.
 */
import Database from 'better-sqlite3';
import { PACKAGE_DB_BYTES_MAX, PACKAGES_MAX, RPM_HEADER_BYTES_MAX } from '#src/limits.ts';

/** Calls `take` with each header; answers how many it took, or in words why nothing can be read: a value, because the image is as good without. */
export function readRpmDatabase(
  file: string,
  take: (header: Uint8Array) => void,
): { readonly kind: 'read'; readonly packages: number } | { readonly kind: 'unread'; readonly why: string } {
  let db: Database.Database | undefined;
  try {
    db = new Database(file, { readonly: true, fileMustExist: true });
    db.pragma('trusted_schema = off');
    db.pragma('cell_size_check = on');
    const packages = db
      .prepare<[], { type: string; rootpage: number }>(
        `select type, rootpage from sqlite_schema where name = 'Packages' collate nocase`,
      )
      .get();
    // A view or virtual table computes its rows, for ever if it likes.
    if (packages?.type !== 'table' || packages.rootpage < 1)
      return { kind: 'unread', why: 'it has no table of packages' };
    const columns = db.pragma('table_xinfo(Packages)') as readonly { name: string; hidden: number }[];
    if (columns.some(({ hidden }) => hidden !== 0) || !columns.some(({ name }) => name === 'blob'))
      return { kind: 'unread', why: 'its table of packages is not what rpm makes' };
    const rows = db
      .prepare<[number, number], { blob: unknown }>(
        'select case when length(blob) <= ? then blob end as blob from Packages limit ?',
      )
      .iterate(RPM_HEADER_BYTES_MAX, PACKAGES_MAX + 1);
    let count = 0;
    let bytes = 0;
    for (const { blob } of rows) {
      if (++count > PACKAGES_MAX) return { kind: 'unread', why: `it has more than ${PACKAGES_MAX} packages` };
      if (!(blob instanceof Uint8Array)) return { kind: 'unread', why: 'a row of its packages is no header' };
      bytes += blob.length;
      // Pages that are shared by rows make more of a file than it holds.
      if (bytes > PACKAGE_DB_BYTES_MAX) return { kind: 'unread', why: 'its headers are more than the file can hold' };
      take(blob);
    }
    return { kind: 'read', packages: count };
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    return { kind: 'unread', why: `SQLite says: ${error.message.slice(0, 200)}` };
  } finally {
    db?.close();
  }
}
