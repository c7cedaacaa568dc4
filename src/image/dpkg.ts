/**
 * dpkg's database as it lies in a file system (dpkg, doc and lib/dpkg/dbdir: `status` is deb822(5), one paragraph a package; `info/NAME.list` or
 * `info/NAME:ARCH.list` has a path a line). It knows no digests but MD5, so whether a file is still the package's own is not told.
 */
import type { ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { PACKAGE_FILES_MAX, PACKAGE_WORD_MAX, PACKAGES_MAX } from '#src/limits.ts';
import type { Package, PackageFiles } from './packages.ts';

export class DpkgError extends BootproofError<'DPKG_DATABASE'> {}

const FIELD = /^(Package|Version|Architecture|Status):[ \t]*(.*)$/;

/**
 * Packages that are there, by the names that their lists may have. What was removed and left its configuration behind owns nothing of the image.
 * @throws {DpkgError} for more packages than an image has.
 */
export function parseDpkgStatus(text: ByteString): ReadonlyMap<string, Package> {
  const found = new Map<string, Package>();
  let fields = new Map<string, string>();
  const close = (): void => {
    const [name, version, arch, status] = ['Package', 'Version', 'Architecture', 'Status'].map((key) =>
      fields.get(key)?.slice(0, PACKAGE_WORD_MAX),
    );
    fields = new Map();
    if (name === undefined || version === undefined || arch === undefined) return;
    if (status !== undefined && /\b(?:not-installed|config-files)$/.test(status)) return;
    if (found.size >= 2 * PACKAGES_MAX) throw new DpkgError('DPKG_DATABASE', `more than ${PACKAGES_MAX} packages`);
    const made = { name, version, arch };
    // `Multi-Arch: same` has its architecture in the list's name; of two such packages the plain name means neither.
    found.set(`${name}:${arch}`, made);
    found.set(name, made);
  };
  for (const line of linesOf(text)) {
    if (line.trim() === '') close();
    else {
      const [, key, value] = FIELD.exec(line) ?? [];
      if (key !== undefined && !fields.has(key)) fields.set(key, value!);
    }
  }
  close();
  return found;
}

/** The files of one package: `text` is its list. */
export function dpkgFiles(of: Package, text: ByteString): PackageFiles {
  const dirs: ByteString[] = [];
  const known = new Map<ByteString, number>();
  const dirOf: number[] = [];
  const names: ByteString[] = [];
  for (const line of linesOf(text)) {
    const at = line.lastIndexOf('/');
    const name = line.slice(at + 1);
    if (!line.startsWith('/') || name === '' || name === '.') continue;
    if (names.length >= PACKAGE_FILES_MAX) break;
    const dir = line.slice(0, at + 1);
    let index = known.get(dir);
    if (index === undefined) {
      index = dirs.push(dir) - 1;
      known.set(dir, index);
    }
    dirOf.push(index);
    names.push(name);
  }
  return { ...of, dirs, dirOf, names, isOwned: () => true, marks: undefined };
}

function* linesOf(text: ByteString): Generator<ByteString> {
  for (let start = 0; start < text.length;) {
    const end = text.indexOf('\n', start);
    yield text.slice(start, end < 0 ? text.length : end);
    start = end < 0 ? text.length : end + 1;
  }
}
