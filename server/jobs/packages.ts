/** Which package owns what, out of the database that an image carries. One that cannot be read is a note, and the image is built without. */
import { hash } from 'node:crypto';
import { renameSync } from 'node:fs';
import { DpkgError, dpkgFiles, parseDpkgStatus } from '#src/image/dpkg.ts';
import { databaseIn, Owners, type FoundDatabase } from '#src/image/owners.ts';
import type { PackageFiles } from '#src/image/packages.ts';
import { parseRpmHeader, RpmHeaderError } from '#src/image/rpmheader.ts';
import type { RuledOrigins } from '#src/image/origins.ts';
import type { Dir } from '#src/image/tree.ts';
import { PACKAGE_FILES_MAX } from '#src/limits.ts';
import { readRpmDatabase } from '#server/store/rpmdb.ts';
import type { KeptFiles } from './kept.ts';

export type Note = { readonly code: string; readonly text: string };

type Read = Exclude<FoundDatabase, { kind: 'unread' }>;

export class PackageReader {
  readonly #kept: KeptFiles;
  /** By content: rules show the same database. Null: it cannot be read. */
  readonly #known = new Map<string, Owners | null>();
  readonly #notes = new Map<string, Note>();
  /** Of the tree that was asked about last. */
  found: RuledOrigins['database'];

  constructor(kept: KeptFiles) {
    this.#kept = kept;
  }

  /** What could not be told, each once. */
  get notes(): readonly Note[] {
    return [...this.#notes.values()];
  }

  /** As `deploy` asks it. */
  owners(root: Dir): Owners | undefined {
    this.found = undefined;
    const database = databaseIn(root);
    if (database === undefined) {
      this.#note('PACKAGES_NONE', 'the image carries no package database of rpm or dpkg');
      return undefined;
    }
    if (database.kind === 'unread') {
      this.#note('PACKAGES_UNREAD', `${database.path}: ${database.why}`);
      return undefined;
    }
    const key = keyOf(database);
    let owners = this.#known.get(key);
    if (owners === undefined) {
      owners = this.#read(database) ?? null;
      this.#known.set(key, owners);
    }
    if (owners === null) return undefined;
    this.found = { kind: database.kind, path: database.path, owners };
    return owners;
  }

  #read(database: Read): Owners | undefined {
    const packages: PackageFiles[] = [];
    const why = database.kind === 'rpm' ? this.#readRpm(database, packages) : this.#readDpkg(database, packages);
    if (why === undefined) return new Owners(packages, { directories: database.kind === 'rpm' });
    this.#note('PACKAGES_UNREAD', `${database.path}: ${why}`);
    return undefined;
  }

  #readRpm({ db, wal }: Extract<Read, { kind: 'rpm' }>, out: PackageFiles[]): string | undefined {
    const file = this.#kept.file(db.sha256);
    if (file === undefined) return this.#missing();
    // SQLite looks for the log under the name of the database.
    const log = wal === undefined ? undefined : this.#kept.file(wal.sha256);
    if (log !== undefined && log !== `${file}-wal`) renameSync(log, `${file}-wal`);
    let files = 0;
    let wrong: string | undefined;
    const read = readRpmDatabase(file, (header) => {
      if (files > PACKAGE_FILES_MAX) return;
      try {
        const made = parseRpmHeader(header);
        files += made?.names.length ?? 0;
        if (made !== undefined && files <= PACKAGE_FILES_MAX) out.push(made);
      } catch (error) {
        if (!(error instanceof RpmHeaderError)) throw error;
        wrong ??= error.message;
      }
    });
    if (read.kind === 'unread') return read.why;
    if (files > PACKAGE_FILES_MAX) return `its packages have more than ${PACKAGE_FILES_MAX} files`;
    // The others are as good as before.
    if (wrong !== undefined) this.#note('PACKAGE_UNREAD', `a package is left out: ${wrong}`);
    return undefined;
  }

  #readDpkg({ status, lists }: Extract<Read, { kind: 'dpkg' }>, out: PackageFiles[]): string | undefined {
    const text = this.#kept.text(status.sha256);
    if (text === undefined) return this.#missing();
    let packages: ReturnType<typeof parseDpkgStatus>;
    try {
      packages = parseDpkgStatus(text);
    } catch (error) {
      if (error instanceof DpkgError) return error.message;
      throw error;
    }
    let files = 0;
    let lost = 0;
    for (const [name, list] of lists) {
      const of = packages.get(name);
      // An empty list is a package without files.
      if (of === undefined || list.size === 0) continue;
      const paths = this.#kept.text(list.sha256);
      if (paths === undefined) lost++;
      else {
        const made = dpkgFiles(of, paths);
        files += made.names.length;
        if (files > PACKAGE_FILES_MAX) return `its packages have more than ${PACKAGE_FILES_MAX} files`;
        out.push(made);
      }
    }
    if (lost > 0) this.#note('PACKAGE_UNREAD', `${lost} packages are left out: ${this.#missing()}`);
    return undefined;
  }

  #missing(): string {
    return this.#kept.trouble ?? 'it is larger than what is kept of an image, or a sparse file';
  }

  #note(code: string, text: string): void {
    this.#notes.set(`${code} ${text}`, { code, text: text.slice(0, 1000) });
  }
}

function keyOf(database: Read): string {
  if (database.kind === 'rpm') return `${database.db.sha256} ${database.wal?.sha256 ?? ''}`;
  const lists = [...database.lists].map(([name, { sha256 }]) => `${name} ${sha256}`).sort();
  return hash('sha256', [database.status.sha256, ...lists].join('\n'));
}
