/**
 * What refers to a manifest inside an OCI layout: entries of index.json whose subject it is (oras, regctl), blobs that no index names (cosign
 * save), and what cosign marks with an annotation of its own (cosign pkg/oci/layout/index.go).
 */
import { z } from 'zod';
import { isDigest, type Digest } from '#src/digest.ts';
import { parseJson } from '#src/image/ocimanifest.ts';
import { LAYOUT_BLOBS_SCANNED_MAX, REFERRERS_MAX, SIGNATURE_MANIFEST_BYTES_MAX } from '#src/limits.ts';
import type { Directory } from './layout.ts';
import type { ListedReferrer, Referrers } from './source.ts';
import { readBounded } from './verified.ts';

const KIND = 'kind';
const ATTACHED = new Set(['dev.cosignproject.cosign/sigs', 'dev.cosignproject.cosign/atts']);

const Index = z.looseObject({
  manifests: z.array(z.looseObject({ digest: z.string(), annotations: z.record(z.string(), z.string()).nullish() })),
});
const Manifest = z.looseObject({
  artifactType: z.string().max(256).nullish(),
  subject: z.looseObject({ digest: z.string() }),
});

export async function layoutReferrers(
  directory: Directory,
  index: Uint8Array,
  digest: Digest,
  name: string,
): Promise<Referrers> {
  const { manifests } = Index.parse(parseJson(index, 'MANIFEST_SYNTAX', `${name}: index.json`));
  const attached: ListedReferrer[] = [];
  const candidates = new Set<Digest>();
  for (const { digest: named, annotations } of manifests) {
    if (!isDigest(named)) continue;
    const size = (await directory.stat(fileOf(named)))?.size;
    if (size !== undefined && ATTACHED.has(annotations?.[KIND] ?? ''))
      attached.push({ digest: named, size, artifactType: undefined });
    else candidates.add(named);
  }
  let complete = true;
  if (directory.list !== undefined)
    for await (const hex of directory.list('blobs/sha256')) {
      if (candidates.size === LAYOUT_BLOBS_SCANNED_MAX) {
        complete = false;
        break;
      }
      const blob = `sha256:${hex}`;
      if (isDigest(blob)) candidates.add(blob);
    }
  const listed: ListedReferrer[] = [];
  for (const candidate of candidates) {
    const found = await refersTo(directory, candidate, digest, name);
    if (found === undefined) continue;
    if (listed.length === REFERRERS_MAX) return { supported: true, listed, attached, complete: false };
    listed.push(found);
  }
  return { supported: true, listed, attached, complete };
}

const fileOf = (digest: Digest): string => `blobs/sha256/${digest.slice('sha256:'.length)}`;

async function refersTo(
  directory: Directory,
  candidate: Digest,
  digest: Digest,
  name: string,
): Promise<ListedReferrer | undefined> {
  const file = fileOf(candidate);
  const size = (await directory.stat(file))?.size;
  // Layers and packages are larger than any manifest of signatures, and are not opened.
  if (size === undefined || size > SIGNATURE_MANIFEST_BYTES_MAX) return undefined;
  const bytes = await readBounded(directory.read(file), SIGNATURE_MANIFEST_BYTES_MAX, `${name}: ${file}`);
  if (bytes[0] !== 0x7b) return undefined; // no `{`, no manifest
  let manifest: z.infer<typeof Manifest>;
  try {
    manifest = Manifest.parse(parseJson(bytes, 'MANIFEST_SYNTAX', file));
  } catch {
    return undefined; // a blob of another kind: most are
  }
  if (manifest.subject.digest !== digest) return undefined;
  return { digest: candidate, size, artifactType: manifest.artifactType ?? undefined };
}
