/**
 * What an export keeps of images (docs/evidence.md 7.4): facts, who signed them with what shows it, manifests, and timestamps of the log. As it is now: neither a
 * rebuild nor a new look at signatures must come between two members of a bundle.
 */
import { toBase64 } from '#src/bytes.ts';
import { stampMembers } from '#server/log/anchors.ts';
import type { Store } from '#server/store/store.ts';
import type { PolicyFound } from './decisions.ts';
import { headersOf, ImageCourt } from './images.ts';
import type { Lists } from './snapshot.ts';
import { SpoolList, type SpoolMark } from './spool.ts';

export type ImagesAbout = {
  readonly store: Store;
  /** Where the lists go. */
  readonly folder: string;
  /** Those that hosts in scope ran. */
  readonly images: readonly string[];
  readonly policies: readonly PolicyFound[];
  /** Sizes of the log whose timestamps the bundle holds. */
  readonly stamps: { readonly origin: string; readonly from: number; readonly size: number };
};

const encoder = new TextEncoder();

export async function gatherImages(
  about: ImagesAbout,
): Promise<Readonly<Record<'images' | 'files' | 'headers', SpoolMark>>> {
  const { store, folder, images, policies, stamps } = about;
  const court = await ImageCourt.open(
    store,
    policies.filter(({ fact }) => fact.kind === 'image'),
  );
  await using facts = await SpoolList.in<Lists['images']>(folder, 'images');
  await using files = await SpoolList.in<Lists['files']>(folder, 'files');
  await using headers = await SpoolList.in<Lists['headers']>(folder, 'headers');
  const file = (name: string, bytes: Uint8Array) => files.add({ name, base64: toBase64(bytes) });
  const text = (name: string, content: string) => file(name, encoder.encode(content));
  for (const { members } of policies) for (const { name, text: content } of members) await text(name, content);
  if (court.denials !== undefined) await text('policies/denied.yaml', court.denials);
  for (const image of images) {
    const { fact, members } = await court.fact(image);
    await facts.add(fact);
    for (const { name, bytes } of members) await file(name, bytes);
  }
  for (const { name, bytes } of court.roots) await file(`trust-roots/${name}.json`, bytes);
  for (const { name, content } of await stampMembers(store.anchors, stamps.origin, stamps)) await file(name, content);
  for await (const header of headersOf(images, store)) await headers.add(header);
  return { images: await facts.close(), files: await files.close(), headers: await headers.close() };
}
