/**
 * A strict streaming reader for layers: POSIX ustar and PAX, GNU long names and sparse files, v7 (image-spec, layer.md). Bytes are
 * pushed in, entries come out once their content was hashed. Names are bytes. It interprets nothing: what an importer makes of an
 * entry is said in ostree.ts, composefs.ts and oci.ts. Work is linear in the input; memory holds entries, never contents.
 */
import { createHash, hash, type Hash } from 'node:crypto';
import type { ByteString } from '#src/bytes.ts';
import { PATH_BYTES_MAX, PREPARE_ROOT_BYTES_MAX, type ImageLimits } from '#src/limits.ts';
import { printable } from '#src/terminal.ts';
import type { Keep, Sink } from './keep.ts';
import type { Pax, PaxSparse } from './pax.ts';
import { Preface, type Extension } from './preface.ts';
import { checkMap, gnuExtension, gnuPieces, MapReader, SparseHash, type SparseMap } from './sparse.ts';
import { FLAG, OBJECTS, type TarEntry, type TarType } from './tarentry.ts';
import { BLOCK, isZero, parseDevice, parseHeader, TarError, type Header } from './tarheader.ts';

const EMPTY_SHA256 = hash('sha256', '');

type Draft = { -readonly [K in keyof TarEntry]: TarEntry[K] };

export class TarReader {
  readonly entries: TarEntry[] = [];
  readonly #layer: number;
  readonly #limits: ImageLimits;
  readonly #keep: Keep | undefined;
  #state: 'header' | 'extension' | 'sparse' | 'map' | 'body' | 'padding' | 'end' = 'header';
  /** A header that came in parts. */
  readonly #block = Buffer.alloc(BLOCK);
  #held = 0;
  #zeroBlocks = 0;

  readonly #preface: Preface;

  #entry: Draft | undefined;
  #current: ByteString = '';
  #map: SparseMap = [];
  #mapReader: MapReader | undefined;
  /** Bytes of the current body, or of padding, that are still to come. */
  #left = 0;
  #padding = 0;
  #hash: Hash | undefined;
  #sparse: SparseHash | undefined;
  #conf: Buffer[] | undefined;
  #sink: Sink | undefined;

  #heldBytes = 0;
  #holeBytes = 0;

  constructor(layer: number, limits: ImageLimits, keep?: Keep) {
    this.#layer = layer;
    this.#limits = limits;
    this.#keep = keep;
    this.#preface = new Preface(limits);
  }

  /** Whether the stream could end here: between two entries, or after the end blocks. */
  get atBoundary(): boolean {
    // Behind the two blocks of the end nobody reads, so what fills up a record need not be whole blocks.
    if (this.#state === 'end') return this.#held === 0 || this.#zeroBlocks > 1;
    return this.#state === 'header' && this.#held === 0 && !this.#preface.pending;
  }

  /** Whether exactly one of the two zero blocks at the end was there: composefs-rs wants both or none. */
  get halfEnd(): boolean {
    return this.#zeroBlocks === 1;
  }

  /** What is being read, for messages: the entry's number, from 0, and its name where that is known. */
  get where(): string {
    return `entry ${this.entries.length}${this.#current === '' ? '' : ` (${printable(this.#current.slice(0, 200))})`}`;
  }

  /** @throws {TarError} */
  write(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#state) {
        case 'header':
        case 'sparse':
        case 'end':
          at = this.#blocks(chunk, at);
          break;
        case 'extension':
          at = this.#readExtension(chunk, at);
          break;
        case 'map':
          at = this.#readMap(chunk, at);
          break;
        case 'body':
          at = this.#readBody(chunk, at);
          break;
        case 'padding': {
          const take = Math.min(this.#left, chunk.length - at);
          at += take;
          this.#left -= take;
          if (this.#left === 0) this.#state = 'header';
        }
      }
    }
  }

  /** @throws {TarError} TAR_TRUNCATED where the stream ends inside an entry. */
  end(): void {
    if (!this.atBoundary) throw new TarError('TAR_TRUNCATED', 'the archive ends in the middle of an entry');
    if (this.#block.subarray(0, this.#held).some((byte) => byte !== 0)) throw trailing();
  }

  #blocks(chunk: Buffer, at: number): number {
    if (this.#held === 0 && chunk.length - at >= BLOCK) {
      this.#block512(chunk, at);
      return at + BLOCK;
    }
    const take = Math.min(BLOCK - this.#held, chunk.length - at);
    chunk.copy(this.#block, this.#held, at, at + take);
    this.#held += take;
    if (this.#held === BLOCK) {
      this.#held = 0;
      this.#block512(this.#block, 0);
    }
    return at + take;
  }

  #block512(block: Buffer, at: number): void {
    if (this.#state === 'sparse') return this.#gnuExtension(block, at);
    if (isZero(block, at)) {
      if (this.#preface.pending)
        throw new TarError('TAR_TRUNCATED', 'an extended header without an entry ends the archive');
      this.#zeroBlocks++;
      this.#state = 'end';
      return;
    }
    // tar-rs stops at the first zero block, Go and tar-core at the second: what stands between or behind is seen by some only.
    if (this.#state === 'end') throw trailing();
    this.#header(parseHeader(block, at), block, at);
  }

  #header(header: Header, block: Buffer, at: number): void {
    const extension = EXTENSIONS.get(header.typeflag);
    if (extension !== undefined) return this.#startExtension(extension, header);
    const { pax } = this.#preface;
    const name = this.#preface.name(header);
    this.#current = name;
    const type = TYPES.get(header.typeflag) ?? 'file';
    const size = pax?.size ?? header.size;
    if (REFUSED_TYPES.has(header.typeflag) || (header.typeflag === 0x53 && header.format !== 'gnu'))
      throw new TarError(
        'TAR_TYPE',
        `the type ${printable(String.fromCharCode(header.typeflag))} is read in no one way`,
      );
    if (this.entries.length >= this.#limits.layerEntries)
      throw new TarError('LIMIT_ENTRIES', `more than ${this.#limits.layerEntries} entries`);
    const entry: Draft = {
      layer: this.#layer,
      type,
      typeflag: header.typeflag,
      name,
      mode: header.mode,
      uid: pax?.uid ?? header.uid,
      gid: pax?.gid ?? header.gid,
      size: type === 'file' ? size : 0,
      sha256: '',
      link: type === 'symlink' || type === 'hardlink' ? this.#linkOf(header) : '',
      capability: pax?.capability,
      device: type === 'char' || type === 'block' ? parseDevice(block, at) : undefined,
      flags: (header.mtime ? FLAG.modified : 0) | (header.oddNumber ? FLAG.oddNumber : 0) | (pax ? paxFlags(pax) : 0),
      headerName: undefined,
      text: undefined,
    };
    this.#entry = entry;
    this.#preface.clear();
    // Go reads no body here, tar-rs does, tar-core refuses: the bytes would be entries to one and content to another.
    if (type !== 'file' && size !== 0) throw new TarError('TAR_SIZE', `a ${type} with a size of ${size}`);
    this.#left = size;
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
    this.#sparse = this.#hash = this.#conf = this.#sink = undefined;
    if (header.typeflag === 0x53) return this.#startGnuSparse(entry, block, at);
    if (pax?.sparse) return this.#startPaxSparse(entry, pax.sparse);
    this.#checkName(entry);
    this.#startBody(entry);
  }

  #startBody(entry: Draft): void {
    this.#state = 'body';
    if (this.#left === 0) return this.#endBody(entry);
    if (
      entry.size <= PREPARE_ROOT_BYTES_MAX &&
      entry.type === 'file' &&
      (entry.name.startsWith(OBJECTS) || entry.name.endsWith('/prepare-root.conf'))
    )
      this.#conf = [];
    if (entry.type === 'file' && this.#keep !== undefined && this.#sparse === undefined)
      this.#sink = this.#keep.open(this.#layer, entry.name, entry.size);
  }

  #readBody(chunk: Buffer, at: number): number {
    const entry = this.#entry!;
    const take = Math.min(this.#left, chunk.length - at);
    const data = chunk.subarray(at, at + take);
    this.#left -= take;
    this.#conf?.push(Buffer.from(data));
    this.#sink?.write(data);
    if (this.#sparse) this.#sparse.update(data);
    else if (this.#left === 0 && this.#hash === undefined) entry.sha256 = hash('sha256', data);
    else (this.#hash ??= createHash('sha256')).update(data);
    if (this.#left === 0) this.#endBody(entry);
    return at + take;
  }

  #endBody(entry: Draft): void {
    if (entry.type === 'file' && entry.sha256 === '')
      entry.sha256 = this.#sparse?.digest() ?? this.#hash?.digest('hex') ?? EMPTY_SHA256;
    if (this.#conf !== undefined) {
      const text = Buffer.concat(this.#conf).toString('latin1');
      if (text.includes('[composefs]') || text.includes('[root]') || entry.name.endsWith('.conf')) {
        this.#hold(text.length);
        entry.text = text;
      }
    }
    this.#sink?.end(entry.sha256);
    this.entries.push(entry);
    this.#entry = undefined;
    this.#current = '';
    this.#left = this.#padding;
    this.#state = this.#left === 0 ? 'header' : 'padding';
  }

  #startExtension(extension: Extension | 'global', header: Header): void {
    if (header.size > this.#limits.paxBytes)
      throw new TarError('LIMIT_PAX', `an extended header of ${header.size} bytes; at most ${this.#limits.paxBytes}`);
    if (extension === 'global') {
      // What stands in it applies to no entry with any importer, but ostree-ext and umoci take the header itself for an entry.
      if (this.#preface.pending)
        throw new TarError('TAR_AMBIGUOUS', 'a global header between an extended header and its entry');
      if (this.entries.length >= this.#limits.layerEntries)
        throw new TarError('LIMIT_ENTRIES', `more than ${this.#limits.layerEntries} entries`);
      this.entries.push(globalEntry(this.#layer, header));
      this.#left = Math.ceil(header.size / BLOCK) * BLOCK;
      this.#state = this.#left === 0 ? 'header' : 'padding';
      return;
    }
    this.#preface.start(extension, header);
    this.#state = header.size === 0 ? 'header' : 'extension';
  }

  #readExtension(chunk: Buffer, at: number): number {
    const { end, size } = this.#preface.read(chunk, at);
    if (size !== undefined) {
      this.#left = (BLOCK - (size % BLOCK)) % BLOCK;
      this.#state = this.#left === 0 ? 'header' : 'padding';
    }
    return end;
  }

  #linkOf(header: Header): ByteString {
    const link = this.#preface.link(header);
    if (link === '') throw new TarError('TAR_LINK', 'a link without a target');
    if (link.length > PATH_BYTES_MAX) throw new TarError('TAR_LINK', `a link target of ${link.length} bytes`);
    if (link.includes('\0')) throw new TarError('TAR_LINK', 'a link target with a NUL byte');
    this.#hold(link.length);
    return link;
  }

  #checkName(entry: Draft): void {
    const { name } = entry;
    if (name === '') throw new TarError('TAR_NAME', 'an entry without a name');
    if (name.includes('\0')) throw new TarError('TAR_NAME', 'a name with a NUL byte');
    if (name.length > PATH_BYTES_MAX)
      throw new TarError('TAR_NAME', `a name of ${name.length} bytes; at most ${PATH_BYTES_MAX} exist on Linux`);
    if (name.length > 255 && name.split('/').some((part) => part.length > 255))
      throw new TarError('TAR_NAME', 'a file name of more than 255 bytes, which no file system takes');
    this.#hold(name.length + (entry.capability?.length ?? 0));
  }

  #hold(bytes: number): void {
    this.#heldBytes += bytes;
    if (this.#heldBytes > this.#limits.heldBytes)
      throw new TarError('LIMIT_NAMES', `names and link targets of more than ${this.#limits.heldBytes} bytes in all`);
  }

  #startGnuSparse(entry: Draft, block: Buffer, at: number): void {
    const { map, realSize, more } = gnuPieces(block, at);
    entry.flags |= FLAG.sparseGnu;
    entry.size = realSize;
    this.#map = map;
    this.#checkName(entry);
    if (more) this.#state = 'sparse';
    else this.#startSparseBody(entry);
  }

  #gnuExtension(block: Buffer, at: number): void {
    const { map, more } = gnuExtension(block, at);
    this.#map.push(...map);
    if (this.#map.length > 2 * this.#limits.sparsePieces || (map.length === 0 && more))
      throw new TarError(
        'LIMIT_SPARSE',
        `more than ${this.#limits.sparsePieces} pieces of data, or empty ones without end`,
      );
    if (!more) this.#startSparseBody(this.#entry!);
  }

  #startPaxSparse(entry: Draft, sparse: PaxSparse): void {
    if (entry.type !== 'file') throw new TarError('TAR_SPARSE', `a sparse ${entry.type}`);
    const major = sparse.major ?? 0;
    const v1 = major === 1 && sparse.minor === 0;
    if ((!v1 && major !== 0) || sparse.realSize === undefined || (v1 && sparse.map) || (!v1 && !sparse.map))
      throw new TarError(
        'TAR_SPARSE',
        `sparse format ${major}.${sparse.minor ?? 0} is unknown or lacks its size or map`,
      );
    entry.flags |= FLAG.sparsePax;
    entry.headerName = entry.name;
    if (sparse.name !== undefined) entry.name = sparse.name;
    entry.size = sparse.realSize;
    this.#checkName(entry);
    this.#hold(entry.headerName.length);
    if (v1) {
      this.#mapReader = new MapReader(this.#limits.sparsePieces);
      this.#state = 'map';
      if (this.#left === 0) throw new TarError('TAR_SPARSE', 'a sparse file without its map');
    } else {
      this.#map = sparse.map!;
      this.#startSparseBody(entry);
    }
  }

  #readMap(chunk: Buffer, at: number): number {
    const reader = this.#mapReader!;
    const stop = reader.read(chunk, at, Math.min(chunk.length, at + this.#left));
    this.#left -= stop - at;
    if (reader.done) {
      this.#map = reader.map;
      this.#mapReader = undefined;
      this.#startSparseBody(this.#entry!);
    } else if (this.#left === 0) throw new TarError('TAR_SPARSE', 'the sparse map is longer than the entry');
    return stop;
  }

  #startSparseBody(entry: Draft): void {
    checkMap(this.#map, entry.size, this.#left, this.#limits.layerHoleBytes - this.#holeBytes);
    this.#holeBytes += entry.size - this.#left;
    this.#sparse = new SparseHash(this.#map, entry.size, createHash('sha256'));
    this.#map = [];
    this.#startBody(entry);
    this.#conf = undefined;
  }
}

const trailing = (): TarError => new TarError('TAR_TRAILING', 'bytes that are not zero follow the end of the archive');

function paxFlags(pax: Pax): number {
  return (
    (pax.newline ? FLAG.paxNewline : 0) |
    (pax.oddTime ? FLAG.oddTime : 0) |
    (pax.oddForGo ? FLAG.oddForGo : 0) |
    (pax.oddKey ? FLAG.paxKey : 0) |
    (pax.otherXattrs ? FLAG.otherXattrs : 0) |
    (pax.emptyXattr ? FLAG.emptyXattr : 0) |
    (pax.userXattr ? FLAG.userXattr : 0) |
    (pax.foreignXattr ? FLAG.foreignXattr : 0) |
    (pax.badXattr ? FLAG.badXattr : 0)
  );
}

function globalEntry(layer: number, header: Header): TarEntry {
  const none = { capability: undefined, device: undefined, headerName: undefined, text: undefined };
  const { name, mode, uid, gid, typeflag } = header;
  return { layer, type: 'global', typeflag, name, mode, uid, gid, size: 0, sha256: '', link: '', ...none, flags: 0 };
}

const code = (char: string): number => char.charCodeAt(0);
const EXTENSIONS = new Map<number, Extension | 'global'>([
  [code('x'), 'pax'],
  [code('L'), 'name'],
  [code('K'), 'link'],
  [code('g'), 'global'],
]);
/** Everything else is a file to libarchive, and refused by others; `S` is a file with a map. */
const TYPES = new Map<number, TarType>([
  [code('1'), 'hardlink'],
  [code('2'), 'symlink'],
  [code('3'), 'char'],
  [code('4'), 'block'],
  [code('5'), 'dir'],
  [code('6'), 'fifo'],
]);
// Directory dumps, multi-volume pieces, old long names, volume labels, Solaris headers and ACLs: libarchive gives each a meaning of
// its own, the others take them for files or refuse them.
const REFUSED_TYPES = new Set(['D', 'M', 'N', 'V', 'X', 'A'].map(code));
