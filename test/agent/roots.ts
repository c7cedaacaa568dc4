/** Real roots in temporary folders, and the plainest way to say what stands in them: the scan is held against it. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { ByteString } from '#src/bytes.ts';
import { comparisonText } from '#src/drift/redact.ts';
import { comparePaths, treeOf, TREES, type Entry, type EntryType } from '#src/manifest/entry.ts';
import { extraText, mainText, MTREE_HEAD } from '#src/manifest/mtree.ts';
import { textDigests } from '#src/manifest/treedigest.ts';

export const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');
export const isRoot = process.geteuid?.() === 0;

/** A folder that is gone after the test, whatever stands in it. */
export function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-'));
  // Others may look in: some tests scan as another user.
  chmodSync(folder, 0o755);
  // rm reaches paths that are too long for fs.
  t.after(() => execFileSync('rm', ['-rf', folder]));
  return folder;
}

/** A root with an empty /usr and /etc. */
export function emptyRoot(t: TestContext): string {
  const root = join(temporary(t), 'root');
  for (const tree of TREES) mkdirSync(join(root, tree), { recursive: true });
  return root;
}

const bytes = (path: ByteString): Buffer => Buffer.from(path, 'latin1');

/** What stands in both trees, in canonical order; `capabilities` says which paths have one. */
export function entriesOf(root: string, capabilities: ReadonlyMap<ByteString, string> = new Map()): Entry[] {
  const entries: Entry[] = [];
  const walk = (path: ByteString): void => {
    const stat = lstatSync(bytes(root + path));
    const capability = capabilities.get(path);
    const common = {
      path,
      mode: stat.mode & 0o7777,
      uid: stat.uid,
      gid: stat.gid,
      ...(capability === undefined ? {} : { capability }),
    };
    const type: EntryType = stat.isDirectory()
      ? 'dir'
      : stat.isFile()
        ? 'file'
        : stat.isSymbolicLink()
          ? 'symlink'
          : stat.isFIFO()
            ? 'fifo'
            : stat.isSocket()
              ? 'socket'
              : 'char';
    if (type === 'symlink')
      entries.push({ ...common, type, mode: 0, link: readlinkSync(bytes(root + path), 'latin1' as BufferEncoding) });
    else if (type === 'file') {
      const content = readFileSync(bytes(root + path));
      entries.push({ ...common, type, size: content.length, sha256: sha256(content) });
    } else entries.push({ ...common, type });
    if (type === 'dir')
      for (const name of readdirSync(bytes(root + path), 'latin1' as BufferEncoding)) walk(`${path}/${name}`);
  };
  for (const tree of TREES) walk(`/${tree}`);
  return entries.sort((a, b) => comparePaths(a.path, b.path));
}

/** The manifest that entries make, with the digests that a faithful root must show. */
export function manifestOf(entries: readonly Entry[]) {
  const of = (tree: 'usr' | 'etc') => {
    const own = entries.filter(({ path }) => treeOf(path) === tree);
    const texts = { main: mainText(own), extra: extraText(own) };
    return { texts, digests: textDigests(texts, sha256, comparisonText) };
  };
  const [usr, etc] = [of('usr'), of('etc')];
  return {
    trees: { usr: usr.texts, etc: etc.texts },
    digests: { usr: usr.digests, etc: etc.digests },
    file: MTREE_HEAD + etc.texts.main + usr.texts.main,
    extraFile: etc.texts.extra + usr.texts.extra,
  };
}

/** Whether a program is there. */
export function has(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false; // that is how `command -v` answers
  }
}
