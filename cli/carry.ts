/** `bootproof images export`: the manifests of an image in a file, for hosts without a network (docs/report.md 8.5). */
import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { MANIFEST_TEXT_BYTES_MAX } from '#src/limits.ts';
import { MANIFEST_HEADER_TYPE, ManifestHeader } from '#src/manifest/header.ts';
import { envelopeFromJson } from '#src/signing/dsse.ts';
import { EXIT, UsageError } from '#src/terminal.ts';
import { manifestFileHead, manifestFileText, textsOf } from '#src/wire/manifestfile.ts';
import { ManifestsAnswer } from '#src/wire/manifests.ts';
import { manifestTextPath } from '#src/wire/paths.ts';
import type { Action } from './client.ts';
import { ServerError, type Connection } from './connection.ts';
import { writeJson } from './output.ts';

/** Writes the headers of every rule of an image, and their texts, to the file that `bootproof agent import` takes. */
export const exportManifests: Action<{ readonly out?: string }> = async (connection, options, [digest = ''], io) => {
  const file = options.out;
  if (file === undefined) throw new UsageError('--out FILE is needed');
  const answer = ManifestsAnswer.safeParse(
    JSON.parse(await connection.send('GET', `/api/v1/manifests/${encodeURIComponent(digest)}`)),
  ).data;
  if (answer === undefined)
    throw new ServerError('MANIFEST_PENDING', 'the manifest of this image is still being built; ask again in a moment');
  const headers = answer.headers.map((envelope) => {
    const { payload } = envelopeFromJson(envelope, MANIFEST_HEADER_TYPE, MANIFEST_TEXT_BYTES_MAX);
    return ManifestHeader.parse(JSON.parse(new TextDecoder().decode(payload)));
  });
  const parts = Readable.from(carriedParts(connection, manifestFileHead(answer.headers), headers));
  try {
    await pipeline(parts, createGzip(), createWriteStream(file, { mode: 0o600 }));
  } catch (error) {
    await rm(file, { force: true });
    if (!(error instanceof Error) || !('errno' in error)) throw error;
    throw new UsageError(`${file} cannot be written: ${(error as NodeJS.ErrnoException).code}`);
  }
  const { image } = headers[0]!;
  const rules = headers.map(({ rule }) => rule);
  if (options.json === true) await writeJson({ image, rules, file }, io);
  else await io.stdout.write(`${image} under ${rules.join(', ')}: on the host, bootproof agent import ${file}\n`);
  return EXIT.ok;
};

async function* carriedParts(
  connection: Connection,
  head: string,
  headers: readonly ManifestHeader[],
): AsyncGenerator<Buffer> {
  yield Buffer.from(head);
  for (const { digest, rule, tree, part } of textsOf(headers)) {
    const text = Buffer.from(
      await connection.send('GET', manifestTextPath(headers[0]!.image, rule, tree, part)),
      'latin1',
    );
    yield Buffer.from(manifestFileText(digest, text.length));
    yield text;
  }
}
