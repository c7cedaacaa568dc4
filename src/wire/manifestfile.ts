/**
 * Manifests in a file, for hosts without a network (docs/report.md 8.5): the server's signed headers of one image, and the texts that they name.
 * Nothing in it is believed for standing there: headers are signed, texts are known by their digests.
 */
import { z } from 'zod';
import { isDigest, type Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { HEADERS_BYTES_MAX, MANIFEST_TEXT_BYTES_MAX } from '#src/limits.ts';
import { TREES, type TreeName } from '#src/manifest/entry.ts';
import type { ManifestHeader } from '#src/manifest/header.ts';
import { EnvelopeJson } from '#src/signing/dsse.ts';
import { MANIFEST_HEADERS_MAX } from './manifests.ts';
import type { TextPart } from './paths.ts';

export class ManifestFileError extends BootproofError<'MANIFEST_FILE_SYNTAX'> {}

const FORMAT = 'bootproof-manifests/1';
const Head = z.strictObject({
  format: z.literal(FORMAT),
  headers: z.array(EnvelopeJson).min(1).max(MANIFEST_HEADERS_MAX),
});

/** One text that headers name, and where the server has it. */
export type NamedText = {
  readonly digest: Digest;
  readonly rule: string;
  readonly tree: TreeName;
  readonly part: TextPart;
};

/** Every text that these headers name, each once: rules share most of them. */
export function textsOf(headers: readonly ManifestHeader[]): NamedText[] {
  const out = new Map<Digest, NamedText>();
  for (const { rule, trees } of headers)
    for (const tree of TREES)
      for (const part of ['main', 'extra'] as const) {
        const digest = part === 'main' ? trees[tree].main.full : trees[tree].extra;
        if (!out.has(digest)) out.set(digest, { digest, rule, tree, part });
      }
  return [...out.values()];
}

/** What the file begins with. */
export function manifestFileHead(headers: readonly EnvelopeJson[]): string {
  return `${JSON.stringify({ format: FORMAT, headers })}\n`;
}

/** What stands before a text of so many bytes. */
export function manifestFileText(digest: Digest, bytes: number): string {
  return `${digest} ${bytes}\n`;
}

/** Takes a text's pieces as they come; they are valid until the next one. */
export type TextSink = { write(piece: Uint8Array): void; end(): void };

/** Who reads such a file. */
export type ManifestFileReader = {
  headers(headers: readonly EnvelopeJson[]): Promise<void>;
  text(digest: Digest): TextSink;
};

/**
 * Reads a file, in pieces and unpacked.
 * @throws {ManifestFileError} where it has not this form, or ends too early; whatever `reader` throws.
 */
export async function readManifestFile(pieces: AsyncIterable<Uint8Array>, reader: ManifestFileReader): Promise<void> {
  let line: Uint8Array[] = [];
  let held = 0;
  let isHead = true;
  let text: { readonly sink: TextSink; left: number } | undefined;
  let texts = 0;
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length;) {
      if (text !== undefined) {
        const part = piece.subarray(at, at + text.left);
        text.sink.write(part);
        at += part.length;
        text.left -= part.length;
        if (text.left > 0) continue;
        text.sink.end();
        text = undefined;
        continue;
      }
      const end = piece.indexOf(0x0a, at);
      const part = piece.subarray(at, end < 0 ? piece.length : end);
      held += part.length;
      if (held > (isHead ? HEADERS_BYTES_MAX : LINE_BYTES_MAX)) throw no('a line of it is too long');
      line.push(Uint8Array.from(part));
      at += part.length + (end < 0 ? 0 : 1);
      if (end < 0) continue;
      const whole = join(line, held);
      line = [];
      held = 0;
      if (isHead) {
        await reader.headers(parseHead(whole));
        isHead = false;
        continue;
      }
      if (++texts > 4 * MANIFEST_HEADERS_MAX) throw no('it holds more texts than headers can name');
      const [digest, bytes] = parseLine(whole);
      const sink = reader.text(digest);
      if (bytes === 0) sink.end();
      else text = { sink, left: bytes };
    }
  }
  if (isHead || held > 0 || text !== undefined) throw no('it ends too early');
}

/** A digest, a space, the number of bytes. */
const LINE_BYTES_MAX = 100;
const no = (why: string) => new ManifestFileError('MANIFEST_FILE_SYNTAX', `this is no file of manifests: ${why}`);

function join(parts: readonly Uint8Array[], length: number): string {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return new TextDecoder().decode(bytes);
}

function parseHead(line: string): readonly EnvelopeJson[] {
  try {
    return Head.parse(JSON.parse(line)).headers;
  } catch {
    throw no('it does not begin with signed headers');
  }
}

function parseLine(line: string): [Digest, number] {
  const [digest = '', length = '', ...more] = line.split(' ');
  const bytes = Number(length);
  if (more.length > 0 || !isDigest(digest) || !/^(?:0|[1-9][0-9]*)$/.test(length) || bytes > MANIFEST_TEXT_BYTES_MAX)
    throw no('a text in it does not say which it is');
  return [digest, bytes];
}
