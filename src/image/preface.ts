/**
 * What an archive has before an entry and means it: a PAX header (`x`), a GNU long name (`L`), a GNU long link target (`K`). Where
 * the programs that import images read them differently, they are refused rather than interpreted.
 */
import type { ByteString } from '#src/bytes.ts';
import type { ImageLimits } from '#src/limits.ts';
import { parsePax, type Pax } from './pax.ts';
import { TarError, type Header } from './tarheader.ts';

export type Extension = 'pax' | 'name' | 'link';

const NOTHING: Buffer = Buffer.alloc(0);

export class Preface {
  readonly #limits: ImageLimits;
  #pax: Pax | undefined;
  #name: ByteString | undefined;
  #link: ByteString | undefined;
  #kind: Extension = 'pax';
  #payload: Buffer = NOTHING;
  #held = 0;

  constructor(limits: ImageLimits) {
    this.#limits = limits;
  }

  /** Whether an entry must follow. */
  get pending(): boolean {
    return this.#pax !== undefined || this.#name !== undefined || this.#link !== undefined;
  }

  get pax(): Pax | undefined {
    return this.#pax;
  }

  /** Begins with an extended header; unless it is empty its content is read next. @throws {TarError} */
  start(kind: Extension, { format, size }: Header): void {
    if (format === 'v7')
      throw new TarError('TAR_TYPE', 'an extended header in an archive of the old format, which has none');
    const before = { pax: this.#pax, name: this.#name, link: this.#link }[kind];
    // Go takes the records of both PAX headers, tar-rs those of the last.
    if (before !== undefined) throw new TarError('TAR_AMBIGUOUS', 'two extended headers of one kind for one entry');
    this.#kind = kind;
    this.#payload = Buffer.allocUnsafe(size);
    this.#held = 0;
    if (size > 0) return;
    if (kind !== 'pax') throw new TarError('TAR_PAX', 'an extended header without content');
    this.#take();
  }

  /** Takes content from `at` on; `size` is how long it was, once it is whole. @throws {TarError} */
  read(chunk: Buffer, at: number): { readonly end: number; readonly size: number | undefined } {
    const take = Math.min(this.#payload.length - this.#held, chunk.length - at);
    chunk.copy(this.#payload, this.#held, at, at + take);
    this.#held += take;
    const size = this.#payload.length;
    if (this.#held < size) return { end: at + take, size: undefined };
    this.#take();
    return { end: at + take, size };
  }

  #take(): void {
    const payload = this.#payload;
    this.#payload = NOTHING;
    if (this.#kind === 'pax') {
      this.#pax = parsePax(payload, this.#limits.sparsePieces);
      return;
    }
    // GNU tar ends the name with one NUL.
    const text = payload.toString('latin1', 0, payload.at(-1) === 0 ? payload.length - 1 : payload.length);
    if (this.#kind === 'name') this.#name = text;
    else this.#link = text;
  }

  /** The name of the entry with this header. @throws {TarError} TAR_AMBIGUOUS */
  name(header: Header): ByteString {
    return choose('name', this.#name, this.#pax?.path, header.name);
  }

  /** Its link target. @throws {TarError} TAR_AMBIGUOUS */
  link(header: Header): ByteString {
    return choose('link target', this.#link, this.#pax?.linkpath, header.link);
  }

  /** The entry has begun: what comes next belongs to another. */
  clear(): void {
    this.#pax = this.#name = this.#link = undefined;
  }
}

// tar-rs and Go prefer the GNU name, tar-core the PAX one.
function choose(
  what: string,
  gnu: ByteString | undefined,
  pax: ByteString | undefined,
  header: ByteString,
): ByteString {
  if (gnu !== undefined && pax !== undefined && gnu !== pax)
    throw new TarError('TAR_AMBIGUOUS', `the GNU and the PAX ${what} differ`);
  return gnu ?? pax ?? header;
}
