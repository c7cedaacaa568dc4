/** ostree's commit object (libostree, OSTREE_COMMIT_GVARIANT_FORMAT): what bootc's import wrote into it about the image. */
import { toHex } from '#src/bytes.ts';
import { DeploymentError } from './error.ts';
import { readVariant, type Variant } from './gvariant.ts';

export type Commit = {
  /** For a commit of rpm-ostree's own layering this is the image's commit. */
  readonly parent: string | null;
  /** `ostree.manifest-digest`: which image manifest this commit was imported from, as ostree-ext wrote it. */
  readonly manifestDigest: string | null;
  readonly version: string | null;
  /** Made on the host by rpm-ostree, from the image and local packages. */
  readonly layered: boolean;
};

/**
 * Reads the bytes of `repo/objects/XX/YYYY.commit`. That their SHA-256 is the commit's name is the caller's to check.
 * @throws {DeploymentError} GVARIANT_SYNTAX, HOST_TEXT_TOO_LARGE
 */
export function parseCommit(bytes: Uint8Array): Commit {
  const [metadata, parent] = readVariant('(a{sv}aya(say)sstayay)', bytes) as readonly Variant[];
  if (!(metadata instanceof Map) || !(parent instanceof Uint8Array))
    throw new DeploymentError('GVARIANT_SYNTAX', 'not an ostree commit');
  const text = (key: string): string | null => {
    const value: unknown = metadata.get(key);
    return typeof value === 'string' ? value : null;
  };
  return {
    parent: parent.length === 32 ? toHex(parent) : null,
    manifestDigest: text('ostree.manifest-digest'),
    version: text('version'),
    layered: metadata.get('rpmostree.clientlayer') === true,
  };
}
