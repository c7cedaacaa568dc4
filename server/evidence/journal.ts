/**
 * Which members stand in a bundle's file, one a line, each with a digest of its bytes there: what is not as it was noted (power was lost in between) is
 * written again (docs/evidence.md 7.5).
 */
import { createHash } from 'node:crypto';
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { z } from 'zod';
import type { WrittenMember } from '#src/evidence/writer.ts';
import { endOf } from '#src/evidence/zipwriter.ts';

const Hex = z.string().regex(/^[0-9a-f]{64}$/);
const Count = z.int().min(0);
const Line = z.strictObject({
  entry: z.strictObject({
    name: z.string(),
    bytes: Count,
    packed: Count,
    crc: Count,
    offset: Count,
    method: Count,
    flags: Count,
  }),
  sha256: Hex,
  pieces: Count,
  /** Of the member's bytes in the file, its head and tail among them. */
  stands: Hex,
});
type Line = Readonly<z.infer<typeof Line>>;

/** The first line. */
const Head = z.strictObject({ snapshot: Hex });

/** What an earlier attempt wrote; its file lies in one of these places. */
export type Earlier = { readonly journal: string; readonly files: readonly string[] };

const PIECE_BYTES = 2 ** 20;

export class Journal {
  readonly #file: FileHandle;
  readonly #members: WrittenMember[] = [];
  #hash = createHash('sha256');

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** A new one, for a file that is made from this snapshot. */
  static async open(path: string, snapshot: string): Promise<Journal> {
    const file = await open(path, 'w', 0o600);
    await file.writeFile(`${JSON.stringify({ snapshot } satisfies z.infer<typeof Head>)}\n`);
    return new Journal(file);
  }

  /** As they stand in the file. */
  get members(): readonly WrittenMember[] {
    return this.#members;
  }

  /** Bytes that go into the file. */
  see(piece: Uint8Array): void {
    this.#hash.update(piece);
  }

  /** Every byte of a member is in the file. */
  async add({ entry, sha256, pieces }: WrittenMember): Promise<void> {
    this.#members.push({ entry, sha256, pieces });
    const stands = this.#hash.digest('hex');
    this.#hash = createHash('sha256');
    await this.#file.writeFile(`${JSON.stringify({ entry, sha256, pieces, stands } satisfies Line)}\n`);
  }

  /** Takes over what is good of the longest of these that was made from the same snapshot; `put` puts its bytes into the new file. */
  async takeOver(
    snapshot: string,
    earlier: readonly Earlier[],
    put: (piece: Uint8Array) => Promise<void>,
  ): Promise<void> {
    let best: { readonly files: readonly string[]; readonly lines: readonly string[] } | undefined;
    for (const { journal, files } of earlier) {
      const [head = '', ...lines] = (await readFile(journal, 'utf8').catch(gone))?.split('\n').slice(0, -1) ?? [];
      if (parsed(Head, head)?.snapshot !== snapshot || lines.length <= (best?.lines.length ?? 0)) continue;
      best = { files, lines };
    }
    if (best === undefined) return;
    let file: FileHandle | undefined;
    for (const path of best.files) file ??= (await open(path, 'r').catch(gone)) ?? undefined;
    if (file === undefined) return;
    await using from = file;
    let at = 0;
    for (const line of best.lines) {
      const said = parsed(Line, line);
      if (said?.entry.offset !== at) return;
      const end = endOf(said.entry);
      // Looked at before it is taken: what stands in the new file is good.
      const hash = createHash('sha256');
      for await (const piece of piecesOf(from, at, end)) hash.update(piece);
      if (hash.digest('hex') !== said.stands) return;
      for await (const piece of piecesOf(from, at, end)) {
        this.see(piece);
        await put(piece);
      }
      await this.add(said);
      at = end;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

function parsed<Schema extends z.ZodType>(schema: Schema, text: string): z.infer<Schema> | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function* piecesOf(file: FileHandle, from: number, to: number): AsyncGenerator<Uint8Array> {
  const room = Buffer.alloc(Math.min(PIECE_BYTES, to - from));
  for (let at = from; at < to;) {
    const { bytesRead } = await file.read(room, 0, Math.min(room.length, to - at), at);
    if (bytesRead === 0) return;
    yield room.subarray(0, bytesRead);
    at += bytesRead;
  }
}

function gone(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
