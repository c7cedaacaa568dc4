/** Lists of referrers (distribution-spec 1.1, "Listing Referrers"), as registries answer and as a fallback tag holds them. */
import { z } from 'zod';
import { isDigest } from '#src/digest.ts';
import { parseJson } from '#src/image/ocimanifest.ts';
import { REFERRERS_MAX } from '#src/limits.ts';
import { SourceError, type ListedReferrer } from './source.ts';

const Entry = z.looseObject({
  digest: z.string().max(300),
  size: z.int().min(0),
  artifactType: z.string().max(256).nullish(),
});
const List = z.looseObject({ schemaVersion: z.literal(2), manifests: z.array(z.unknown()).nullish() });

/** Digests of other algorithms are legal and of no use here; what is no digest at all goes into no path and no URL (CVE-2024-3727). */
const OTHER_DIGEST = /^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{1,256}$/;

/** @throws {SourceError} SOURCE_ANSWER; @throws {OciManifestError} where it is no JSON */
export function parseReferrers(
  bytes: Uint8Array,
  what: string,
): { readonly listed: readonly ListedReferrer[]; readonly complete: boolean } {
  const list = List.safeParse(parseJson(bytes, 'MANIFEST_SYNTAX', what));
  if (!list.success) throw new SourceError('SOURCE_ANSWER', `${what} is no index`);
  const all = list.data.manifests ?? [];
  const listed: ListedReferrer[] = [];
  for (const json of all.slice(0, REFERRERS_MAX)) {
    const entry = Entry.safeParse(json);
    if (!entry.success) throw new SourceError('SOURCE_ANSWER', `${what} has an entry that is no descriptor`);
    const { digest, size, artifactType } = entry.data;
    if (isDigest(digest)) listed.push({ digest, size, artifactType: artifactType ?? undefined });
    else if (digest.startsWith('sha256:') || !OTHER_DIGEST.test(digest))
      throw new SourceError('SOURCE_ANSWER', `${what} has an entry whose digest is none`);
  }
  return { listed, complete: all.length <= REFERRERS_MAX };
}

/** The query of the next page, from `Link: <URL>; rel="next"`; only the query is taken, so the next question goes nowhere else. */
export function nextPage(link: string | undefined): string | undefined {
  if (link === undefined || link.length > 16_384) return undefined;
  const url = /<([^<>]+)>\s*;\s*rel="?next"?/i.exec(link)?.[1];
  return url === undefined ? undefined : URL.parse(url, 'https://registry.invalid')?.search || undefined;
}
