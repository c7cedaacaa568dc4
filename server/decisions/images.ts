/** Which images somebody sees, and that one is read again when a person asks. */
import type { Principal } from '#server/access/principal.ts';
import { rebuildJob } from '#server/jobs/manifests.ts';
import type { Act } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

/** By any of its names, as long as a host of theirs names it now or ran it once: else there is none (docs/access.md 2.1). */
export async function imageFor(
  { groups }: Pick<Principal, 'groups'>,
  reported: string,
  { images, read }: Pick<Store, 'images' | 'read'>,
): ReturnType<Store['images']['find']> {
  const found = await images.find(reported);
  if (found === undefined || groups === null) return found;
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
