/**
 * The header of an installed RPM package, as the database keeps it (rpm, docs/manual/format_header.md, and lib/header.c: hdrblobInit): two
 * numbers, an index of tags, and a store of values, all big-endian. Read for the package's name and its files alone.
 */
import { fromBytes, type ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { PACKAGE_FILES_MAX, PACKAGE_WORD_MAX, RPM_HEADER_BYTES_MAX, RPM_HEADER_TAGS_MAX } from '#src/limits.ts';
import { markOf, type PackageFiles } from './packages.ts';

export class RpmHeaderError extends BootproofError<'RPM_HEADER'> {}

const wrong = (message: string): RpmHeaderError => new RpmHeaderError('RPM_HEADER', message);

// include/rpm/rpmtag.h
const NAME = 1000;
const VERSION = 1001;
const RELEASE = 1002;
const EPOCH = 1003;
const ARCH = 1022;
const FILE_STATES = 1029;
const FILE_DIGESTS = 1035;
const DIR_INDEXES = 1116;
const BASE_NAMES = 1117;
const DIR_NAMES = 1118;
const FILE_DIGEST_ALGORITHM = 5011;
const INT32 = 4;
const STRING = 6;
const STRING_ARRAY = 8;
const I18N = 9;
/** include/rpm/rpmcrypto.h: RPM_HASH_SHA256 */
const SHA256 = 8;
/** lib/rpmfi.h: RPMFILE_STATE_NORMAL; others were replaced by another package's, or never installed. */
const INSTALLED = 0;

type Place = { readonly type: number; readonly offset: number; readonly count: number };

/**
 * A package with its files; undefined for a header without a name or without files (keys stand in the database as packages, too).
 * @throws {RpmHeaderError} where the bytes are none, or name more than one package has.
 */
export function parseRpmHeader(bytes: Uint8Array): PackageFiles | undefined {
  const header = new Header(bytes);
  const name = header.text(NAME);
  const names = header.strings(BASE_NAMES);
  if (name === undefined || names.length === 0) return undefined;
  const dirs = header.strings(DIR_NAMES);
  const dirOf = header.numbers(DIR_INDEXES);
  if (dirOf.length !== names.length || dirOf.some((index) => index >= dirs.length))
    throw wrong(`${name}: ${names.length} file names and ${dirOf.length} folders of ${dirs.length}`);
  const states = header.bytes(FILE_STATES);
  const algorithm = header.numbers(FILE_DIGEST_ALGORITHM)[0];
  const digests = algorithm === SHA256 ? header.strings(FILE_DIGESTS) : [];
  const epoch = header.numbers(EPOCH)[0] ?? 0;
  const release = header.text(RELEASE);
  const version = `${epoch === 0 ? '' : `${epoch}:`}${header.text(VERSION) ?? '?'}${release === undefined ? '' : `-${release}`}`;
  return {
    name,
    version,
    arch: header.text(ARCH) ?? 'noarch',
    dirs,
    dirOf,
    names,
    isOwned: (file) => states.length !== names.length || states[file] === INSTALLED,
    marks: digests.length === names.length ? Float64Array.from(digests, markOf) : undefined,
  };
}

class Header {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Where the store begins. */
  readonly #store: number;
  readonly #places = new Map<number, Place>();

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes.length > RPM_HEADER_BYTES_MAX)
      throw wrong(`a header of ${bytes.length} bytes; at most ${RPM_HEADER_BYTES_MAX}`);
    if (bytes.length < 8) throw wrong('a header of less than 8 bytes');
    const tags = this.#view.getUint32(0);
    const length = this.#view.getUint32(4);
    this.#store = 8 + 16 * tags;
    if (tags > RPM_HEADER_TAGS_MAX || this.#store + length > bytes.length)
      throw wrong(`${tags} tags and ${length} bytes of values in a header of ${bytes.length} bytes`);
    for (let i = 0; i < tags; i++) {
      const at = 8 + 16 * i;
      const tag = this.#view.getUint32(at);
      // The region's own entry, whose offset counts from elsewhere, is none of ours; a tag that stands twice counts once.
      if (tag < NAME || this.#places.has(tag)) continue;
      this.#places.set(tag, {
        type: this.#view.getUint32(at + 4),
        offset: this.#view.getUint32(at + 8),
        count: this.#view.getUint32(at + 12),
      });
    }
  }

  text(tag: number): string | undefined {
    const place = this.#places.get(tag);
    if (place === undefined) return undefined;
    if (place.type !== STRING && place.type !== I18N) throw wrong(`tag ${tag} is of type ${place.type}, not a string`);
    return this.#string(this.#store + place.offset, tag).slice(0, PACKAGE_WORD_MAX);
  }

  strings(tag: number): ByteString[] {
    const place = this.#places.get(tag);
    if (place === undefined) return [];
    if (place.type !== STRING_ARRAY) throw wrong(`tag ${tag} is of type ${place.type}, not a list of strings`);
    this.#checkCount(tag, place, 1);
    const out: ByteString[] = [];
    let at = this.#store + place.offset;
    for (let i = 0; i < place.count; i++) {
      const text = this.#string(at, tag);
      out.push(text);
      at += text.length + 1;
    }
    return out;
  }

  numbers(tag: number): Uint32Array {
    const place = this.#places.get(tag);
    if (place === undefined) return new Uint32Array();
    if (place.type !== INT32) throw wrong(`tag ${tag} is of type ${place.type}, not numbers`);
    this.#checkCount(tag, place, 4);
    const out = new Uint32Array(place.count);
    for (let i = 0; i < place.count; i++) out[i] = this.#view.getUint32(this.#store + place.offset + 4 * i);
    return out;
  }

  bytes(tag: number): Uint8Array {
    const place = this.#places.get(tag);
    if (place === undefined) return new Uint8Array();
    this.#checkCount(tag, place, 1);
    const from = this.#store + place.offset;
    return this.#bytes.subarray(from, from + place.count);
  }

  #checkCount(tag: number, { offset, count }: Place, each: number): void {
    if (count > PACKAGE_FILES_MAX || this.#store + offset + each * count > this.#bytes.length)
      throw wrong(`tag ${tag} has ${count} values, which the header does not hold`);
  }

  #string(at: number, tag: number): ByteString {
    const end = at < this.#bytes.length ? this.#bytes.indexOf(0, at) : -1;
    if (end < 0) throw wrong(`tag ${tag}: a string without an end`);
    return fromBytes(this.#bytes.subarray(at, end));
  }
}
