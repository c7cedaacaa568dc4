/** Tar archives, layers and images made byte by byte, so that tests can make wrong ones as easily as right ones. */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { fromUtf8, toBytes, type ByteString } from '#src/bytes.ts';
import type { Digest } from '#src/digest.ts';
import { readLayer, type ImageFacts, type Layer } from '#src/image/layer.ts';
import { IMAGE_LIMITS, type ImageLimits } from '#src/limits.ts';

export type Member = {
  readonly name: ByteString;
  /** The type byte; a regular file by default. */
  readonly type?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly data?: string | Uint8Array;
  readonly link?: ByteString;
  readonly prefix?: ByteString;
  readonly device?: readonly [number, number];
  /** Records of a PAX header before it. */
  readonly pax?: Readonly<Record<string, string | Uint8Array>>;
  readonly magic?: 'ustar' | 'gnu' | 'v7';
  /** Instead of the length of the data. */
  readonly size?: number;
  /** Changes the header before its checksum is made. */
  readonly patch?: (header: Buffer) => void;
  readonly checksum?: number;
};

const bytes = (data: string | Uint8Array): Uint8Array => (typeof data === 'string' ? toBytes(data) : data);
const padded = (data: Uint8Array): Buffer => Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);

/** One PAX record: the length counts itself. */
export function record(key: string, value: string | Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), bytes(value), Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

/** Header, and the blocks of the content. */
export function member(of: Member): Buffer {
  const data = bytes(of.data ?? '');
  const header = Buffer.alloc(512);
  const octal = (at: number, length: number, value: number) =>
    header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  header.write(of.name.slice(0, 100), 0, 'latin1');
  octal(100, 8, of.mode ?? (of.type === '5' ? 0o755 : of.type === '2' ? 0o777 : 0o644));
  octal(108, 8, of.uid ?? 0);
  octal(116, 8, of.gid ?? 0);
  octal(124, 12, of.size ?? data.length);
  octal(136, 12, of.mtime ?? 0);
  header.write(of.type ?? '0', 156, 'latin1');
  header.write((of.link ?? '').slice(0, 100), 157, 'latin1');
  const magic = of.magic ?? 'ustar';
  if (magic !== 'v7') header.write(magic === 'gnu' ? 'ustar  \0' : 'ustar\x0000', 257, 'latin1');
  if (of.device) {
    octal(329, 8, of.device[0]);
    octal(337, 8, of.device[1]);
  }
  if (of.prefix) header.write(of.prefix, 345, 'latin1');
  of.patch?.(header);
  header.fill(0x20, 148, 156);
  const sum = of.checksum ?? header.reduce((a, b) => a + b, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  const pax = of.pax && Buffer.concat(Object.entries(of.pax).map(([key, value]) => record(key, value)));
  return Buffer.concat([...(pax ? [member({ name: 'pax', type: 'x', data: pax })] : []), header, padded(data)]);
}

export const END = Buffer.alloc(1024);

/** A whole archive; long names and targets go into PAX records. */
export function tar(members: readonly (Member | Buffer)[], end: Buffer = END): Buffer {
  return Buffer.concat([...members.map((of) => (Buffer.isBuffer(of) ? of : member(long(of)))), end]);
}

function long(of: Member): Member {
  const pax = {
    ...(of.name.length > 100 && of.magic !== 'v7' ? { path: of.name } : {}),
    ...((of.link ?? '').length > 100 ? { linkpath: of.link! } : {}),
  };
  return Object.keys(pax).length === 0 ? of : { ...of, pax: { ...pax, ...of.pax } };
}

export const dir = (name: string, more: Partial<Member> = {}): Member => ({ name: fromUtf8(name), type: '5', ...more });
export const file = (name: string, data = '', more: Partial<Member> = {}): Member => ({
  name: fromUtf8(name),
  data,
  ...more,
});
export const symlink = (name: string, link: string, more: Partial<Member> = {}): Member => ({
  name: fromUtf8(name),
  type: '2',
  link: fromUtf8(link),
  ...more,
});
export const hardlink = (name: string, link: string, more: Partial<Member> = {}): Member => ({
  name: fromUtf8(name),
  type: '1',
  link: fromUtf8(link),
  ...more,
});

export const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');
export const digestOf = (data: Uint8Array): Digest => `sha256:${sha256(data)}` as Digest;

/** Bytes as they might come from a network: in pieces of the given size. */
export async function* pieces(data: Uint8Array, size = 65536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

export type Blob = { readonly bytes: Buffer; readonly mediaType: string; readonly diffId: Digest | undefined };
export const PLAIN = 'application/vnd.oci.image.layer.v1.tar';

export function plain(archive: Buffer): Blob {
  return { bytes: archive, mediaType: PLAIN, diffId: digestOf(archive) };
}
export function gzipped(archive: Buffer): Blob {
  return { bytes: gzipSync(archive), mediaType: `${PLAIN}+gzip`, diffId: digestOf(archive) };
}

/** A layer as `readLayer` reads it. */
export function read(
  blob: Blob | Buffer,
  { index = 0, limits = IMAGE_LIMITS, size = 65536 }: { index?: number; limits?: ImageLimits; size?: number } = {},
): Promise<Layer> {
  const { bytes: data, mediaType, diffId } = Buffer.isBuffer(blob) ? plain(blob) : blob;
  return readLayer({ index, digest: digestOf(data), mediaType, diffId }, pieces(data, size), limits);
}

/** An image of plain layers; entries of each in the order given. */
export async function image(
  layers: readonly (readonly (Member | Buffer)[])[],
  labels: Readonly<Record<string, string>> = {},
): Promise<{ layers: Layer[]; facts: ImageFacts }> {
  const read_: Layer[] = [];
  for (const [index, members] of layers.entries()) read_.push(await read(tar(members), { index }));
  return {
    layers: read_,
    facts: { labels: new Map(Object.entries(labels)), diffIds: read_.map((l) => l.diffId), dockerInLayout: false },
  };
}
