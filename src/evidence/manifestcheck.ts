/** Manifests of a bundle (docs/evidence.md 4, check `manifests`): headers by the server's key, and every text that they name, by its digest. */
import { z } from 'zod';
import { toHex } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { HEADERS_BYTES_MAX } from '#src/limits.ts';
import { MANIFEST_HEADER_TYPE, ManifestHeader } from '#src/manifest/header.ts';
import { parseEnvelope, verifyEnvelope } from '#src/signing/dsse.ts';
import type { PublicKey, Verify } from '#src/signing/ed25519.ts';
import { textOf, valueOf } from './lines.ts';
import type { BundleReader } from './reader.ts';
import type { RunningHash } from './writer.ts';

export class ManifestCheckError extends BootproofError<
  /** A header that the server did not sign, or two of one image and rule. */
  | 'HEADER_SIGNATURE'
  /** A text that a header names is missing, or is another one. */
  | 'MANIFEST_TEXT'
> {}

const Line = z.strictObject({ envelope: z.string() });

/** Headers by `image rule`. @throws {BootproofError} with the first that is wrong */
export async function checkManifests(
  reader: BundleReader,
  key: PublicKey,
  { verify, sha256 }: { readonly verify: Verify; readonly sha256: () => RunningHash },
): Promise<ReadonlyMap<string, ManifestHeader>> {
  const out = new Map<string, ManifestHeader>();
  for await (const { envelope } of reader.list('manifests/headers', Line)) {
    const signed = parseEnvelope(envelope, MANIFEST_HEADER_TYPE, HEADERS_BYTES_MAX);
    const header = valueOf(textOf(signed.payload, 'manifests/headers'), 'manifests/headers', ManifestHeader);
    const place = `${header.image} ${header.rule}`;
    if (!(await verifyEnvelope(signed, key, verify)))
      throw new ManifestCheckError('HEADER_SIGNATURE', `the header of ${place} is not signed by the server's key`);
    if (out.has(place)) throw new ManifestCheckError('HEADER_SIGNATURE', `there are two headers of ${place}`);
    out.set(place, header);
  }
  const wanted = new Set<string>();
  for (const { trees } of out.values())
    for (const tree of ['usr', 'etc'] as const) wanted.add(trees[tree].main.full).add(trees[tree].extra);
  for (const digest of wanted) {
    const name = `manifests/texts/${digest.slice('sha256:'.length)}`;
    if (!reader.names.has(name)) throw new ManifestCheckError('MANIFEST_TEXT', `${name} is missing: a header names it`);
    const hash = sha256();
    for await (const piece of reader.open(name)) hash.update(piece);
    if (`sha256:${toHex(hash.digest())}` !== digest)
      throw new ManifestCheckError('MANIFEST_TEXT', `${name} has another digest than its name says`);
  }
  return out;
}
