/** What counts now: the image policy as it was configured, and what people denied since. Read anew where it matters. */
import { digestOf, type Digest } from '#src/digest.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import type { DenyEntry } from '#src/trust/deny.ts';
import { parseImagePolicy } from '#src/trust/imagepolicy.ts';
import { IMAGES_FORMAT } from '#src/trust/imagesdocument.ts';
import type { Store } from '#server/store/store.ts';
import type { TrustBasis } from '#server/store/trustrecords.ts';
import type { TrustSetup } from './setup.ts';

/** Entries as the API takes and the store keeps them: what may stand under `deny` in an image policy, in JSON. */
export type DenyDocument = Readonly<Record<string, unknown>>;

/** @throws {DocumentError} for an entry that is none */
export function denyEntries(documents: readonly DenyDocument[]): readonly DenyEntry[] {
  if (documents.length === 0) return [];
  const text = JSON.stringify({ format: IMAGES_FORMAT, deny: documents });
  return parseImagePolicy([{ file: 'deny', text }]).deny;
}

const denyDigest = (documents: readonly DenyDocument[]): Digest => digestOf(canonicalJson(documents), nodeSha256);

export class Basis {
  readonly setup: TrustSetup | null;
  readonly #store: Pick<Store, 'denials'>;
  #denied: readonly DenyDocument[] = [];
  #current: TrustBasis | null = null;

  private constructor(setup: TrustSetup | null, store: Pick<Store, 'denials'>) {
    this.setup = setup;
    this.#store = store;
  }

  static async open(setup: TrustSetup | null, store: Pick<Store, 'denials'>): Promise<Basis> {
    const basis = new Basis(setup, store);
    await basis.reload();
    return basis;
  }

  /** Null without an image policy: then nothing is assessed. */
  get current(): TrustBasis | null {
    return this.#current;
  }

  get denied(): readonly DenyDocument[] {
    return this.#denied;
  }

  /** Another process may have taken in what people denied. */
  async reload(): Promise<TrustBasis | null> {
    this.#denied = (await this.#store.denials.list()).map(({ entry }) => entry as DenyDocument);
    const deny = denyDigest(this.#denied);
    this.#current = this.setup === null ? null : { ...this.setup.digests, deny };
    return this.#current;
  }
}
