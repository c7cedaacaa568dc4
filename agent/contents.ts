/**
 * Content of /etc text files that differ from the image, as far as the configuration inside the image names them (PROTOCOL 3.10, docs/report.md
 * 1.12). A file is read again after the scan, through one descriptor; its bytes leave only if they hash to what the scan saw.
 */
import { hash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import type { ByteString } from '#src/bytes.ts';
import { CONTENT_BYTES_MAX, CONTENTS_BYTES_MAX, CONTENTS_MAX } from '#src/limits.ts';
import { textOf, type Omission } from '#src/drift/contents.ts';
import type { Drift } from '#src/drift/drift.ts';
import { isNamed, isSecret } from '#src/drift/redact.ts';

/** A named file that differs: its text, or why it stays here. */
export type Content = { readonly path: ByteString } & ({ readonly text: string } | { readonly omitted: Omission });

export type ContentsOf = {
  /** Without a slash at its end; `/` is ''. */
  readonly root: ByteString;
  /** Globs of the configuration inside the image. */
  readonly globs: readonly string[];
  /** The site's own secret globs. */
  readonly secretPaths: readonly string[];
  /** SHA-256 (hex) of every secret that the scan saw: a copy under another name is one, too. */
  readonly secretContents: ReadonlySet<string>;
};

/** In the order of the drift; at most `CONTENTS_MAX`, of which the texts take `CONTENTS_BYTES_MAX` as JSON. */
export function contentsOf(drift: readonly Drift[], about: ContentsOf): Content[] {
  const out: Content[] = [];
  let left = CONTENTS_BYTES_MAX;
  for (const line of drift) {
    if (line.change === 'removed' || line.actual.type !== 'file') continue;
    const { path, actual } = line;
    const { size, sha256 } = actual;
    // Without a digest nothing could vouch for a text; with the image's own, there is nothing to show.
    if (size === undefined || sha256 === undefined) continue;
    if (line.change === 'modified' && line.expected.sha256 === sha256) continue;
    // Of a secret it is told elsewhere that it differs, and nothing else is.
    if (isSecret(path, about.secretPaths) || !isNamed(path, about.globs)) continue;
    if (out.length === CONTENTS_MAX) break;
    let content = contentOf({ path, size, sha256 }, about);
    if ('text' in content) {
      const bytes = Buffer.byteLength(JSON.stringify(content.text));
      if (bytes > left) content = { omitted: 'limit' };
      else left -= bytes;
    }
    out.push({ path, ...content });
  }
  return out;
}

function contentOf(
  { path, size, sha256 }: { readonly path: ByteString; readonly size: number; readonly sha256: string },
  { root, secretContents }: ContentsOf,
): { readonly text: string } | { readonly omitted: Omission } {
  if (size > 0 && secretContents.has(sha256)) return { omitted: 'secret' };
  if (size > CONTENT_BYTES_MAX) return { omitted: 'too-large' };
  const read = readOnce(`${root}${path}`, size);
  if (typeof read === 'string') return { omitted: read };
  // What stands there now is not what was judged: the next report will tell.
  if (hash('sha256', read, 'hex') !== sha256) return { omitted: 'unsteady' };
  return textOf(read);
}

/** The file's bytes, from one descriptor. */
function readOnce(access: ByteString, size: number): Buffer | 'linked' | 'unsteady' {
  let fd: number;
  try {
    fd = openSync(Buffer.from(access, 'latin1'), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    return 'unsteady';
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size !== size) return 'unsteady';
    // Another name of it may lie anywhere, also where secrets do.
    if (stat.nlink > 1) return 'linked';
    const bytes = Buffer.alloc(size + 1);
    let length = 0;
    for (let n = -1; n !== 0 && length < bytes.length; length += n)
      n = readSync(fd, bytes, length, bytes.length - length, null);
    return length === size ? bytes.subarray(0, size) : 'unsteady';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    return 'unsteady'; // an I/O error: what it says is not known
  } finally {
    closeSync(fd);
  }
}
