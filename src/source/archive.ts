/**
 * An oci-archive: a tar that holds an OCI layout, as `skopeo copy … oci-archive:` and `docker save` write it. Its headers are walked once;
 * the files are then read where they lie, in any order.
 */
import { fromBytes } from '#src/bytes.ts';
import { parsePax } from '#src/image/pax.ts';
import { BLOCK, field, isZero, parseHeader, type Header } from '#src/image/tarheader.ts';
import { ARCHIVE_ENTRIES_MAX } from '#src/limits.ts';
import type { Directory } from './layout.ts';
import { SourceError } from './source.ts';

/** A file that can be read at any place. */
export interface RandomAccess {
  /** Bytes. */
  readonly size: number;
  /** `length` bytes from `at`, fewer only at the end. The result belongs to who asked. */
  read(at: number, length: number): Promise<Uint8Array>;
}

const CHUNK = 256 * 1024;
// Names in a layout have 77 bytes; writers add times and owners.
const EXTENSION_BYTES_MAX = 256 * 1024;
const MAGIC = [
  ['gzip', '\x1f\x8b'],
  ['zstd', '\x28\xb5\x2f\xfd'],
  ['xz', '\xfd7zXZ'],
  ['bzip2', 'BZh'],
] as const;

type Place = { readonly at: number; readonly size: number };

/** The layout inside the tar; `name` is for messages. @throws {SourceError} ARCHIVE_SYNTAX, ARCHIVE_COMPRESSED */
export async function archiveDirectory(file: RandomAccess, name: string): Promise<Directory> {
  const places = await indexArchive(file, name);
  return {
    stat: async (member) => {
      const place = places.get(member);
      return place && { size: place.size };
    },
    async *list(folder) {
      for (const member of places.keys()) if (member.startsWith(`${folder}/`)) yield member.slice(folder.length + 1);
    },
    async *read(member) {
      const place = places.get(member);
      if (place === undefined) throw new SourceError('SOURCE_NOT_FOUND', `${name}: no ${member} in the archive`);
      const end = place.at + place.size;
      for (let at = place.at; at < end;) {
        const chunk = await file.read(at, Math.min(CHUNK, end - at));
        if (chunk.length === 0) throw new SourceError('ARCHIVE_SYNTAX', `${name}: became shorter while it was read`);
        at += chunk.length;
        yield chunk;
      }
    },
  };
}

async function indexArchive(file: RandomAccess, name: string): Promise<Map<string, Place>> {
  const start = fromBytes(await file.read(0, 8));
  const packed = MAGIC.find(([, magic]) => start.startsWith(magic));
  if (packed !== undefined)
    throw new SourceError(
      'ARCHIVE_COMPRESSED',
      `${name} is packed with ${packed[0]}; its parts are read where they lie, so unpack it first`,
    );
  const places = new Map<string, Place>();
  let next: Next = {};
  for (let at = 0, entries = 0; at < file.size; entries++) {
    const fault = (what: string, cause?: unknown) =>
      new SourceError('ARCHIVE_SYNTAX', `${name}: at byte ${at}: ${what}`, { cause });
    const block = await readBuffer(file, at, BLOCK);
    if (block.length < BLOCK) throw fault('the archive ends inside a header');
    if (isZero(block, 0)) break;
    if (entries === ARCHIVE_ENTRIES_MAX) throw fault(`more than ${ARCHIVE_ENTRIES_MAX} members`);
    let header: Header;
    try {
      header = parseHeader(block, 0);
    } catch (cause) {
      throw fault(`no tar header (is this an oci-archive?)`, cause);
    }
    const type = String.fromCharCode(header.typeflag);
    const isExtension = /[xgLK]/.test(type);
    // Links, devices and folders have no body whatever they say.
    const size = /[1-6]/.test(type) ? 0 : isExtension ? header.size : (next.size ?? header.size);
    const body = at + BLOCK;
    if (body + size > file.size) throw fault('the archive is cut off');
    if (isExtension) {
      if (size > EXTENSION_BYTES_MAX) throw fault('an extended header that is too long');
      try {
        next = { ...next, ...extension(type, await readBuffer(file, body, size)) };
      } catch (cause) {
        throw fault('a malformed extended header', cause);
      }
    } else {
      const member = (next.name ?? header.name).replace(/^(?:\.?\/)+/, '');
      // Old writers say NUL, some '7', for what is a regular file.
      if (/[0\0]|7/.test(type)) {
        // Blobs are checked by digest, so two of one name are one. Two indexes are two images.
        if (member === 'index.json' && places.has(member)) throw fault('a second index.json');
        places.set(member, { at: body, size });
      }
      next = {};
    }
    at = body + Math.ceil(size / BLOCK) * BLOCK;
  }
  return places;
}

/** What a PAX or GNU header says of the entry after it. */
type Next = { readonly name?: string; readonly size?: number };

function extension(type: string, body: Buffer): Next {
  if (type === 'L') return { name: field(body, 0, body.length) };
  if (type !== 'x') return {}; // link targets, and what a global header says, place nothing here
  const { path, size } = parsePax(body, 0);
  return { ...(path === undefined ? {} : { name: path }), ...(size === undefined ? {} : { size }) };
}

async function readBuffer(file: RandomAccess, at: number, length: number): Promise<Buffer> {
  const bytes = await file.read(at, length);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
