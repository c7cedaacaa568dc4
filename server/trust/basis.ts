/**
 * What counts now: the image policy and trust roots that were configured, roots that were refreshed since, and what people denied. All
 * processes on one store share it: who starts with another configuration writes it there, and the others take it over (docs/provenance.md 2).
 */
import { z } from 'zod';
import { fromBase64, toBase64 } from '#src/bytes.ts';
import { digestOf, isDigest, type Digest } from '#src/digest.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import type { DenyEntry } from '#src/trust/deny.ts';
import { parseImagePolicy } from '#src/trust/imagepolicy.ts';
import { IMAGES_FORMAT } from '#src/trust/imagesdocument.ts';
import type { Act } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import type { TrustBasis } from '#server/store/trustrecords.ts';
import { blobKey } from './look.ts';
import { readRefreshNote, type RootRefresh } from './roots.ts';
import { trustSetup, type TrustFiles, type TrustSetup } from './setup.ts';

/** Entries as the API takes and the store keeps them: what may stand under `deny` in an image policy, in JSON. */
export type DenyDocument = Readonly<Record<string, unknown>>;

/** @throws {DocumentError} for an entry that is none */
export function denyEntries(documents: readonly DenyDocument[]): readonly DenyEntry[] {
  if (documents.length === 0) return [];
  const text = JSON.stringify({ format: IMAGES_FORMAT, deny: documents });
  return parseImagePolicy([{ file: 'deny', text }]).deny;
}

const denyDigest = (documents: readonly DenyDocument[]): Digest => digestOf(canonicalJson(documents), nodeSha256);

type BasisStore = Pick<Store, 'denials' | 'trust' | 'blobs'>;

/** What a process was started with. */
export type Configuration = { readonly files: TrustFiles; readonly refreshes: readonly RootRefresh[] };

/** Its note in the store. */
export const CONFIGURATION = 'configuration';
/** Names the configuration's text among the blobs; null: no image policy. */
export const ConfigurationNote = z.strictObject({ blob: z.string().refine(isDigest).nullable() });
const Base64 = z.string().transform((text) => fromBase64(text));
const ConfigurationText = z.strictObject({
  policies: z.array(z.strictObject({ file: z.string(), text: z.string() })),
  roots: z.array(z.strictObject({ name: z.string(), bytes: Base64 })),
  refreshes: z.array(z.strictObject({ name: z.string(), mirror: z.string(), initial: Base64.nullable() })),
});

export class Basis {
  readonly #store: BasisStore;
  #configuration: Configuration | null;
  /** Of the configuration that was taken over. */
  #blob: Digest | null;
  #setup: TrustSetup | null;
  #denied: readonly DenyDocument[] = [];
  #current: TrustBasis | null = null;
  #version = '';

  private constructor(setup: TrustSetup | null, refreshes: readonly RootRefresh[], store: BasisStore) {
    this.#store = store;
    this.#setup = setup;
    this.#configuration = setup === null ? null : { files: setup.files, refreshes };
    this.#blob = this.#configuration === null ? null : blobKey(bytesOf(this.#configuration));
  }

  /** Makes what this process was started with what counts, for every process on the store. */
  static async open(
    setup: TrustSetup | null,
    refreshes: readonly RootRefresh[],
    store: BasisStore,
    by: Act,
  ): Promise<Basis> {
    const basis = new Basis(setup, refreshes, store);
    await basis.#claim(by);
    await basis.reload();
    return basis;
  }

  /** Null without an image policy. */
  get setup(): TrustSetup | null {
    return this.#setup;
  }

  /** Roots that are kept up with a TUF repository. */
  get refreshes(): readonly RootRefresh[] {
    return this.#configuration?.refreshes ?? [];
  }

  /** Null without an image policy: then nothing is assessed. */
  get current(): TrustBasis | null {
    return this.#current;
  }

  /** Another text after each change that was taken in, of results as well. */
  get version(): string {
    return this.#version;
  }

  get denied(): readonly DenyDocument[] {
    return this.#denied;
  }

  /** Reads all anew if anybody wrote since it was last read; whether somebody did. */
  async renew(): Promise<boolean> {
    if ((await this.#store.trust.version()) === this.#version) return false;
    await this.reload();
    return true;
  }

  async reload(): Promise<TrustBasis | null> {
    const { trust, denials } = this.#store;
    // Read first: what is written while the rest is read is then news once more.
    const version = await trust.version();
    const note = ConfigurationNote.parse(await trust.note(CONFIGURATION));
    if (note.blob !== this.#blob) {
      this.#configuration = note.blob === null ? null : await this.#read(note.blob);
      this.#blob = note.blob;
    }
    const denied = (await denials.list()).map(({ entry }) => entry as DenyDocument);
    this.#setup = await this.#setupNow();
    this.#denied = denied;
    this.#current = this.#setup === null ? null : { ...this.#setup.digests, deny: denyDigest(denied) };
    this.#version = version;
    return this.#current;
  }

  /** The configuration with each root as it was last refreshed. */
  async #setupNow(): Promise<TrustSetup | null> {
    if (this.#configuration === null) return null;
    const { files } = this.#configuration;
    const now = { policies: files.policies, roots: await rootsNow(this.#configuration, this.#store) };
    // Parsing policies takes a while, and most of what is news is none here.
    return this.#setup !== null && sameFiles(this.#setup.files, now) ? this.#setup : trustSetup(now);
  }

  async #claim(by: Act): Promise<void> {
    const { trust, blobs } = this.#store;
    const before = ConfigurationNote.safeParse(await trust.note(CONFIGURATION)).data;
    if (before !== undefined && before.blob === this.#blob) return;
    if (this.#configuration !== null && this.#blob !== null)
      await blobs.put({ key: this.#blob, encoding: 'identity', bytes: bytesOf(this.#configuration) });
    const after = { blob: this.#blob };
    const event = { action: 'image-policy.configure', object: 'image-policy', before: before ?? null, after };
    // A server that never had one starts without one: no event.
    const isNews = before !== undefined || this.#blob !== null;
    await trust.setNote(CONFIGURATION, after, by, { event: isNews ? event : null, jobs: [] });
  }

  async #read(blob: Digest): Promise<Configuration> {
    const found = await configurationIn(blob, this.#store);
    if (found === undefined) throw new Error(`the image policy ${blob} is not among the blobs`);
    return found;
  }
}

/** A configuration that counts, or counted once; undefined where its text is gone. */
export async function configurationIn(
  blob: string,
  { blobs }: Pick<BasisStore, 'blobs'>,
): Promise<Configuration | undefined> {
  const found = await blobs.get(blob);
  if (found === undefined) return undefined;
  const { policies, roots, refreshes } = ConfigurationText.parse(JSON.parse(Buffer.from(found.bytes).toString()));
  return { files: { policies, roots }, refreshes };
}

/** Trust roots as they count now, each as it was last refreshed. */
export async function rootsNow({ files, refreshes }: Configuration, store: BasisStore): Promise<TrustFiles['roots']> {
  const roots = new Map(files.roots.map((root) => [root.name, root]));
  for (const { name } of refreshes) {
    const blob = (await readRefreshNote(name, store))?.root?.blob;
    const found = blob === undefined ? undefined : await store.blobs.get(blob);
    if (found !== undefined) roots.set(name, { name, bytes: found.bytes });
  }
  return [...roots.values()];
}

function bytesOf({ files: { policies, roots }, refreshes }: Configuration): Uint8Array {
  const text = {
    policies: policies.map(({ file, text: content }) => ({ file, text: content })),
    roots: roots.map(({ name, bytes }) => ({ name, bytes: toBase64(bytes) })),
    refreshes: refreshes.map(({ name, mirror, initial }) => ({
      name,
      mirror,
      initial: initial === null ? null : toBase64(initial),
    })),
  };
  return Buffer.from(JSON.stringify(text));
}

function sameFiles(a: TrustFiles, b: TrustFiles): boolean {
  return (
    a.policies.length === b.policies.length &&
    a.roots.length === b.roots.length &&
    a.policies.every(({ file, text }, at) => b.policies[at]!.file === file && b.policies[at]!.text === text) &&
    a.roots.every(
      ({ name, bytes }, at) => b.roots[at]!.name === name && Buffer.compare(b.roots[at]!.bytes, bytes) === 0,
    )
  );
}
