/**
 * Images that hosts in scope ran (docs/evidence.md 1.4): who signed each, with the bytes that show it, and its file manifests. Each is judged again
 * from what goes into the bundle, so that whoever verifies it comes to the same.
 */
import { promisify } from 'node:util';
import { gunzip, zstdDecompress } from 'node:zlib';
import type { Instant } from '#src/clock.ts';
import { formatInstant } from '#src/clock.ts';
import { digestOf, isDigest, type Digest } from '#src/digest.ts';
import type { ImageFact } from '#src/evidence/facts.ts';
import { readKept } from '#src/source/signatures.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { TREES } from '#src/manifest/entry.ts';
import { IMAGES_FORMAT } from '#src/trust/imagesdocument.ts';
import type { Blob, Image } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import type { ImageTrust } from '#server/store/trustrecords.ts';
import {
  CONFIGURATION,
  ConfigurationNote,
  configurationIn,
  denyEntries,
  rootsNow,
  type DenyDocument,
} from '#server/trust/basis.ts';
import { placesOf } from '#server/trust/places.ts';
import { toldOf } from '#server/trust/provenance.ts';
import { assessRecorded, readCase, recordCase } from '#server/trust/recorded.ts';
import { trustSetup, type RootFile, type TrustSetup } from '#server/trust/setup.ts';
import type { PolicyFound } from './decisions.ts';
import type { HeaderKept } from './snapshot.ts';

export type Member = { readonly name: string; readonly bytes: Uint8Array };

/** By what images are judged: as it lies in the bundle. */
export class ImageCourt {
  readonly #policies: readonly PolicyFound[];
  readonly roots: readonly RootFile[];
  readonly #denied: readonly DenyDocument[];
  readonly #setups = new Map<number, TrustSetup>();
  readonly #store: Store;

  private constructor(
    store: Store,
    policies: readonly PolicyFound[],
    roots: readonly RootFile[],
    denied: readonly DenyDocument[],
  ) {
    this.#store = store;
    this.#policies = policies;
    this.roots = roots;
    this.#denied = denied;
  }

  static async open(store: Store, policies: readonly PolicyFound[]): Promise<ImageCourt> {
    const note = ConfigurationNote.safeParse(await store.trust.note(CONFIGURATION)).data;
    const configuration = note?.blob == null ? undefined : await configurationIn(note.blob, store);
    const roots = configuration === undefined ? [] : await rootsNow(configuration, store);
    const denied = (await store.denials.list()).map(({ entry }) => entry as DenyDocument);
    return new ImageCourt(store, policies, roots, denied);
  }

  /** What was denied besides, as a document; undefined where nothing was. */
  get denials(): string | undefined {
    if (this.#denied.length === 0) return undefined;
    return `${JSON.stringify({ format: IMAGES_FORMAT, deny: this.#denied })}\n`;
  }

  #setupAt(at: Instant): TrustSetup {
    const time = formatInstant(at);
    const index = this.#policies.findLastIndex(
      ({ fact: { inForce } }) => inForce.from <= time && (inForce.to === null || time < inForce.to),
    );
    let setup = this.#setups.get(index);
    if (setup === undefined) {
      const policies = this.#policies[index]?.members ?? [];
      setup = trustSetup({ policies: policies.map(({ name, text }) => ({ file: name, text })), roots: this.roots });
      this.#setups.set(index, setup);
    }
    return setup;
  }

  /** What is known of an image, and the members that show it. */
  async fact(reported: string): Promise<{ readonly fact: ImageFact; readonly members: readonly Member[] }> {
    const store = this.#store;
    const image = (await store.images.find(reported))?.image;
    const digest = image?.digest ?? reported;
    const aliases = image === undefined ? [] : await store.read.aliases(digest);
    const names = [...(image?.repositories ?? []), ...aliases.map(({ alias }) => alias)].slice(0, 1000);
    const trust = image === undefined ? undefined : await store.trust.get(digest);
    const { trust: told, member } = await this.#judged(image, trust);
    const manifests = image === undefined ? [] : await store.images.manifests(digest);
    return {
      fact: {
        image: digest,
        names,
        builtAt: image?.madeAt == null ? null : formatInstant(image.madeAt),
        trust: told,
        signatures: member === undefined ? [] : [member.name],
        manifests: manifests.slice(0, 64).map(({ header }) => digestOf(header, nodeSha256)),
      },
      members: member === undefined ? [] : [member],
    };
  }

  async #judged(
    image: Image | undefined,
    trust: ImageTrust | undefined,
  ): Promise<{ readonly trust: ImageFact['trust']; readonly member: Member | undefined }> {
    if (image === undefined || trust === undefined || !isDigest(image.digest))
      return { trust: { ...NOT_ASSESSED }, member: undefined };
    const setup = this.#setupAt(trust.verifiedAt);
    const bytes = Buffer.from(await this.#recorded(image, image.digest, trust, setup));
    const recorded = readCase(bytes, image.digest);
    const { state, told } = await assessRecorded(recorded, {
      setup,
      deny: denyEntries(this.#denied),
      now: trust.verifiedAt,
    });
    const short = (text: string | null) => text?.slice(0, 8192) ?? null;
    return {
      trust: {
        state,
        by: short(told.by),
        policy: short(told.policy),
        why: short(told.why),
        since: state === trust.state ? formatInstant(trust.since) : null,
        verifiedAt: formatInstant(trust.verifiedAt),
      },
      member: { name: `signatures/${image.digest.slice('sha256:'.length)}.json`, bytes },
    };
  }

  async #recorded(image: Image, digest: Digest, trust: ImageTrust, setup: TrustSetup): Promise<string> {
    const store = this.#store;
    const { places, references } = placesOf(image, digest, await store.sources.list(), setup);
    const told = toldOf(trust);
    const found = [];
    for (const { format, place, manifest, blob } of trust.kept) {
      const bytes = await this.#blob(blob);
      const carrier = manifest === null ? undefined : await this.#blob(manifest);
      if (bytes !== undefined && (manifest === null || carrier !== undefined))
        found.push(readKept({ format, place, raw: { manifest: carrier, blob: bytes } }));
    }
    const indexes = [];
    for (const key of trust.indexes) {
      const bytes = await this.#blob(key);
      if (bytes !== undefined) indexes.push(bytes);
    }
    return recordCase({
      image: digest,
      recordedAt: trust.lookedAt ?? trust.verifiedAt,
      references,
      places,
      found: {
        found,
        looked: told.looked,
        complete: trust.lookedAt !== null && trust.unreachableSince === null,
        isIndex: false,
        own: places.filter(({ own }) => own).map(({ pattern }) => pattern),
        manifest: undefined,
        indexes,
        hostReadable: { readable: false, code: 'NO_SIGNATURE', reason: '' },
      },
    });
  }

  async #blob(key: string): Promise<Uint8Array | undefined> {
    return (await this.#store.blobs.get(key))?.bytes;
  }
}

const NOT_ASSESSED = {
  state: 'not-assessed',
  by: null,
  policy: null,
  why: null,
  since: null,
  verifiedAt: null,
} as const;
/** Signed headers of the manifests of these images, as they are served, and where the texts lie that each names. */
export async function* headersOf(images: Iterable<string>, store: Store): AsyncGenerator<HeaderKept> {
  for (const image of images)
    for (const { header, trees } of await store.images.manifests(image))
      yield {
        envelope: Buffer.from(header).toString('utf8'),
        texts: TREES.flatMap((tree) => [
          { digest: trees[tree].main.full, key: trees[tree].mainBlob },
          { digest: trees[tree].extra, key: trees[tree].extraBlob },
        ]),
      };
}

const unzstd = promisify(zstdDecompress);
const ungzip = promisify(gunzip);

/** The texts that those headers name, each once and as a member, but for those that are there: one at a time in memory. */
export async function* textsOf(
  headers: AsyncIterable<HeaderKept>,
  there: ReadonlySet<string>,
  store: Store,
): AsyncGenerator<Member> {
  const seen = new Set<string>();
  for await (const { texts } of headers)
    for (const { digest, key } of texts) {
      const name = `manifests/texts/${digest.slice('sha256:'.length)}`;
      if (seen.has(digest) || there.has(name)) continue;
      seen.add(digest);
      const blob = await store.blobs.get(key);
      if (blob === undefined) throw new Error(`the text ${digest} of a manifest is not kept`);
      yield { name, bytes: await decoded(blob) };
    }
}

async function decoded({ encoding, bytes }: Blob): Promise<Uint8Array> {
  return encoding === 'zstd' ? unzstd(bytes) : encoding === 'gzip' ? ungzip(bytes) : bytes;
}
