/** A person asks for an image to be read again, for where its files come from. */
import { rebuildJob } from '#server/jobs/manifests.ts';
import type { Act } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';

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
