/** A deployment's lineage: which images a host ran, one time after the other, under which tag, who signed each, and what came between. */
import type { Instant } from '#src/clock.ts';
import type { Provenance } from '#src/finding/verdict.ts';
import type { Host, Image } from '#server/store/records.ts';
import type { Stay } from '#server/store/policyrecords.ts';
import type { Store } from '#server/store/store.ts';
import type { KnownTrust } from '#server/trust/known.ts';

export type LineageStep = {
  /** As the server knows it; what the host gave where it knows no more. */
  readonly image: string;
  readonly known: Image | undefined;
  readonly from: Instant;
  /** Number of the first report of it. */
  readonly seq: number | null;
  /** When it was last heard running this; null where an older build did not note that. */
  readonly last: Instant | null;
  readonly running: boolean;
  /** What the host said that it follows. */
  readonly reference: string | null;
  readonly provenance: Provenance;
  /** What it ran before, if that was another image: what came between is the update. */
  readonly before: string | null;
};

/** Newest first; at most LINEAGE_STAYS_MAX. */
export async function lineageSteps(
  host: Host,
  { store, trust }: { readonly store: Pick<Store, 'images' | 'lineages'>; readonly trust: KnownTrust },
): Promise<readonly LineageStep[]> {
  const lineage = await store.lineages.get(host.id);
  const stays = lineage?.stays ?? (lineage?.images ?? []).map(stayOf);
  const images = [...new Set(stays.map(({ image }) => image))];
  const known = new Map(
    await Promise.all(
      images.map(async (image) => {
        const [found, signed] = await Promise.all([store.images.find(image), trust.of(image)]);
        return [image, { found: found?.image, provenance: signed.facts.provenance }] as const;
      }),
    ),
  );
  return stays
    .map(({ image, from, seq, to, reference }, at): LineageStep => {
      const { found, provenance } = known.get(image)!;
      const running = at === stays.length - 1 && lineage?.stays !== undefined;
      const before = stays[at - 1]?.image ?? null;
      return {
        image: found?.digest ?? image,
        known: found,
        from,
        seq,
        last: running ? (host.last?.receivedAt ?? null) : to,
        running,
        reference,
        provenance,
        before: before === null ? null : (known.get(before)?.found?.digest ?? before),
      };
    })
    .reverse();
}

/** Of what an older build wrote: first boots alone. */
function stayOf({ image, firstAt }: { readonly image: string; readonly firstAt: Instant }): Stay {
  return { image, from: firstAt, seq: null, to: null, reference: null };
}
