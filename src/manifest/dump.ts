/**
 * composefs-dump(5) out of a manifest: for tools that read that format. A manifest knows less than a composefs image and says nothing in
 * its place: times are 0, files of one inode stand as files of their own, and DIGEST, which would be fs-verity, is `-`; the SHA-256 of
 * a file's content stands in the pseudo attribute `user.bootproof.sha256`.
 */
import { fromBase64, fromBytes, type ByteString } from '#src/bytes.ts';
import type { Entry, EntryType } from './entry.ts';

const FORMAT_BITS: Record<EntryType, number> = {
  fifo: 0o010000,
  char: 0o020000,
  dir: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
};

const ESCAPES = new Map([
  ['\\', '\\\\'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
]);

function escapeByte(char: string): string {
  return ESCAPES.get(char) ?? `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

function field(bytes: ByteString): string {
  return bytes === '-' ? '\\x2d' : bytes.replace(/[^!-~]|\\/g, escapeByte);
}

const attribute = (name: string, value: ByteString): string => ` ${name}=${value.replace(/[^!-~]|[\\=]/g, escapeByte)}`;

/** Lines of the dump, parents first. `/` itself, which a manifest does not hold, takes mode and owner of /usr, as composefs-rs does. */
export function* dumpLines(entries: readonly Entry[]): Generator<string, void, undefined> {
  const folders = new Map<ByteString, number>();
  let root: Entry = { path: '/', type: 'dir', mode: 0o755, uid: 0, gid: 0 };
  for (const entry of entries) {
    if (entry.path === '/usr') root = { ...entry, path: '/' };
    if (entry.type !== 'dir') continue;
    const parent = entry.path.slice(0, entry.path.lastIndexOf('/')) || '/';
    folders.set(parent, (folders.get(parent) ?? 0) + 1);
  }
  yield line(root, folders);
  for (const entry of entries) yield line(entry, folders);
}

/** `PATH SIZE MODE NLINK UID GID RDEV MTIME PAYLOAD CONTENT DIGEST [KEY=VALUE …]` */
function line(entry: Entry, folders: ReadonlyMap<ByteString, number>): string {
  const { path, type, link } = entry;
  const mode = FORMAT_BITS[type] | (type === 'symlink' ? 0o777 : entry.mode);
  const links = type === 'dir' ? 2 + (folders.get(path) ?? 0) : 1;
  const size = link === undefined ? (entry.size ?? 0) : link.length;
  const payload = link === undefined ? '-' : field(link);
  let out = `${field(path)} ${size} ${mode.toString(8)} ${links} ${entry.uid} ${entry.gid} ${device(entry.device)} 0.0 ${payload} - -`;
  if (entry.capability !== undefined) out += attribute('security.capability', fromBytes(fromBase64(entry.capability)));
  if (entry.sha256 !== undefined) out += attribute('user.bootproof.sha256', entry.sha256);
  return `${out}\n`;
}

/** `major:minor` as glibc's makedev packs it. */
function device(text: string | undefined): string {
  if (text === undefined) return '0';
  const [major, minor] = text.split(':').map(BigInt) as [bigint, bigint];
  return String(
    ((major & 0xfffff000n) << 32n) | ((major & 0xfffn) << 8n) | ((minor & 0xffffff00n) << 12n) | (minor & 0xffn),
  );
}
