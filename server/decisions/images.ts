/** Which images somebody sees, and that one is read again when a person asks. */
import type { Principal } from '#server/access/principal.ts';
import { rebuildJob } from '#server/jobs/manifests.ts';
import type { Act } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

/** What pages show of a digest, and more: eight hex digits at least, or it could be anything. */
const SHORT = /^(?:sha256:)?([0-9a-f]{8,63})$/;
export const shortDigest = (text: string): string | undefined => SHORT.exec(text)?.[1];
/** Images that one beginning of a digest is looked up for. */
const BEGINNING_MAX = 50;

/** Images of theirs whose digest, or another name, begins so; none for what is no beginning of one. */
export async function imagesBeginning(
  { groups }: Pick<Principal, 'groups'>,
  text: string,
  { images, read }: Pick<Store, 'images' | 'read'>,
): Promise<readonly string[]> {
  const hex = shortDigest(text);
  const found = hex === undefined ? [] : await images.beginning(hex, BEGINNING_MAX);
  if (groups === null) return found;
  const theirs = await Promise.all(found.map((digest) => read.isImageWithin(digest, groups)));
  return found.filter((_, at) => theirs[at]);
}

/** By any of its names, or the beginning of one that no other image of theirs has, as long as a host of theirs names it now or ran it once: else there is none (docs/access.md 2.1). */
export async function imageFor(
  who: Pick<Principal, 'groups'>,
  reported: string,
  { images, read }: Pick<Store, 'images' | 'read'>,
): ReturnType<Store['images']['find']> {
  const { groups } = who;
  const found = await images.find(reported);
  if (found === undefined) {
    const [one, ...others] = await imagesBeginning(who, reported, { images, read });
    return one === undefined || others.length > 0 ? undefined : images.find(one);
  }
  if (groups === null) return found;
  return (await read.isImageWithin(found.image.digest, groups)) ? found : undefined;
}

/** Its manifests stay as they are. Answers the image's own digest and its state; undefined where no host has named it. */
export async function readAgain(
  reported: string,
  by: Act,
  { store }: { readonly store: Pick<Store, 'images' | 'jobs' | 'audit'> },
): Promise<{ readonly digest: string; readonly state: string } | undefined> {
  const found = await store.images.find(reported);
  if (found === undefined) return undefined;
  const { digest, state } = found.image;
  await store.audit.append(by, { action: 'image.rebuild', object: `image:${digest}`, before: null, after: null });
  await store.jobs.enqueue([rebuildJob(digest, by.at)]);
  return { digest, state };
}
