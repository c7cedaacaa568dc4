/** Writes tar layers: ustar with PAX records where a name is long or an xattr is there (pax, POSIX.1-2017). Deterministic. */
import type { ByteString } from '#src/bytes.ts';

/** What a layer says of one path; names are relative, without a leading slash. */
export type TarItem = {
  readonly path: ByteString;
  readonly type: 'dir' | 'file' | 'symlink' | 'hardlink';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly content?: Uint8Array;
  /** Symlink or hardlink target. */
  readonly link?: ByteString;
  /** Raw value of `security.capability`. */
  readonly capability?: Uint8Array;
};

const FLAGS = { file: '0', hardlink: '1', symlink: '2', dir: '5' } as const;
const BLOCK = 512;

/** A whole tar, as chunks. */
export function* tarChunks(items: Iterable<TarItem>): Generator<Uint8Array> {
  for (const item of items) {
    const pax = paxRecords(item);
    const content = item.content ?? new Uint8Array();
    if (pax.length > 0) yield* entry(header({ ...item, path: 'PaxHeaders/x', type: 'file' }, pax.length, 'x'), pax);
    yield* entry(header(item, content.length, FLAGS[item.type]), content);
  }
  yield new Uint8Array(2 * BLOCK);
}

function* entry(head: Uint8Array, content: Uint8Array): Generator<Uint8Array> {
  yield head;
  if (content.length === 0) return;
  yield content;
  const rest = content.length % BLOCK;
  if (rest > 0) yield new Uint8Array(BLOCK - rest);
}

function header(item: TarItem, size: number, flag: string): Uint8Array {
  const block = Buffer.alloc(BLOCK);
  const name = item.type === 'dir' ? `${item.path}/` : item.path;
  block.write(name.slice(0, 100), 0, 'latin1');
  block.write(octal(item.mode, 7), 100);
  block.write(octal(item.uid, 7), 108);
  block.write(octal(item.gid, 7), 116);
  block.write(octal(size, 11), 124);
  block.write(octal(0, 11), 136);
  block.write('        ', 148);
  block.write(flag, 156);
  block.write((item.link ?? '').slice(0, 100), 157, 'latin1');
  block.write('ustar\x0000', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 6)}\0 `, 148);
  return block;
}

const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0');

function paxRecords(item: TarItem): Uint8Array {
  const records: Buffer[] = [];
  if (item.path.length >= 100) records.push(record('path', Buffer.from(item.path, 'latin1')));
  if (item.link !== undefined && item.link.length > 100)
    records.push(record('linkpath', Buffer.from(item.link, 'latin1')));
  if (item.capability !== undefined) records.push(record('SCHILY.xattr.security.capability', item.capability));
  return Buffer.concat(records);
}

/** `<length> <key>=<value>\n`, the length counting itself. */
function record(key: string, value: Uint8Array): Buffer {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length !== String(rest).length) length++;
  return Buffer.concat([Buffer.from(`${length} ${key}=`), value, Buffer.from('\n')]);
}
