/** What people decide about sources: where images may be fetched from (PROTOCOL 2.6). */
import { z } from 'zod';
import { BootproofError } from '#src/error.ts';
import { formatReference, ImageReferenceError, parseReference, type Reference } from '#src/image/reference.ts';
import type { Store } from '#server/store/store.ts';
import type { Act } from '#server/store/records.ts';

export class SourceListError extends BootproofError<'SOURCE_SYNTAX'> {}

/** How a source may be spoken to, as the store keeps it. */
export const SourceTerms = z.strictObject({
  /** Without TLS, and also on loopback or link-local: a registry that a person named so. */
  plainHttp: z.boolean().default(false),
});
export type SourceTerms = z.infer<typeof SourceTerms>;

/**
 * The one spelling of a source: a repository, a layout or an archive, without tag and digest.
 * @throws {SourceListError}
 */
export function sourcePattern(text: string): string {
  return formatReference(repositoryOf(text));
}

/** The reference of a source as it is kept. @throws {SourceListError} */
export function repositoryOf(text: string): Reference {
  try {
    const { tag: _, digest: __, ...reference } = parseReference(text);
    return reference;
  } catch (error) {
    if (!(error instanceof ImageReferenceError)) throw error;
    throw new SourceListError('SOURCE_SYNTAX', error.message, { cause: error });
  }
}

/** Allows a source; images that wait for one are looked for at once. Answers its spelling. @throws {SourceListError} */
export async function allowSource(
  text: string,
  terms: SourceTerms,
  by: Act,
  { store }: { readonly store: Pick<Store, 'sources'> },
): Promise<string> {
  const pattern = sourcePattern(text);
  await store.sources.allow(pattern, terms, by);
  return pattern;
}

/** What a host claims as its image's place, as the source that a person could allow; undefined where it is none. */
export function claimedSource(claim: string): string | undefined {
  // Hosts write what bootc prints: a bare name, or with the transport in containers/image's spelling.
  const named = /^[a-z-]+:/.test(claim) && !/^[^/]+:[0-9]+\//.test(claim) ? claim : `docker://${claim}`;
  const spelled = named.replace(/^registry:(?:\/\/)?/, 'docker://');
  if (!spelled.startsWith('docker://')) return undefined;
  try {
    return sourcePattern(spelled);
  } catch (error) {
    if (error instanceof SourceListError) return undefined;
    throw error;
  }
}
