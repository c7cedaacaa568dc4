/** Imports of lists of hosts that others keep (docs/inventory.md): read, held against the fleet, kept as a version, logged as an act. */
import { hash } from 'node:crypto';
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { digestOf } from '#src/digest.ts';
import {
  INVENTORY_DIFFERENCES_BYTES_MAX,
  INVENTORY_HOSTS_PAGE,
  INVENTORY_LABELS_MAX,
  INVENTORY_LISTS_KEPT,
  INVENTORY_SOURCES_MAX,
} from '#src/limits.ts';
import type { Principal } from '#server/access/principal.ts';
import { InventoryError, readList, reconcile } from '#server/inventory.ts';
import type { Inventory, Listed } from '#server/store/inventoryrecords.ts';
import type { Store } from '#server/store/store.ts';
import { actOf, mustBeEverywhere } from './may.ts';

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** What a list is called: in addresses, in the trail, in bundles. */
export const SourceName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'expected up to 64 of a-z 0-9 . _ -, first a letter or digit');

const Column = z
  .string()
  .min(1)
  .max(200)
  .refine((text) => text.isWellFormed() && !text.includes('\0'), 'expected whole characters');
/** Which columns of the file say what; without any, the one that is called `name` or `hostname` is the name. */
export const MappingBody = z.strictObject({
  id: Column.nullable().default(null),
  name: Column.nullable().default(null),
  labels: z
    .array(z.strictObject({ key: z.string().min(1).max(63), column: Column }))
    .max(INVENTORY_LABELS_MAX)
    .default([]),
  shortNames: z.boolean().default(false),
});

export type ImportWanted = {
  readonly source: string;
  readonly csv: string;
  readonly mapping: z.infer<typeof MappingBody>;
};

/** @throws {InventoryError | DecisionError} */
export async function importInventory(
  { source, csv, mapping: wanted }: ImportWanted,
  who: Principal,
  { store, clock }: { readonly store: Pick<Store, 'inventories'>; readonly clock: () => Instant },
): Promise<Inventory> {
  mustBeEverywhere(who, 'import an inventory', 'operator', 'admin');
  const known = await store.inventories.newest();
  if (known.length >= INVENTORY_SOURCES_MAX && !known.some((one) => one.source === source))
    throw new InventoryError(
      'INVENTORY_FULL',
      `${known.length} sources are known; import under the name of one of them (bootproof inventory list)`,
    );
  const { rows, mapping, repeated, blank } = await readList(csv, wanted);
  const hosts: Listed[] = [];
  for (let after = ''; ;) {
    const page = await store.inventories.hosts(after, INVENTORY_HOSTS_PAGE);
    hosts.push(...page);
    if (page.length < INVENTORY_HOSTS_PAGE) break;
    after = page.at(-1)!.id;
  }
  const { matched, ...differences } = reconcile(rows, hosts, mapping);
  const { onlyTheirs, onlyOurs } = differences;
  const size = Buffer.byteLength(JSON.stringify(differences));
  if (size > INVENTORY_DIFFERENCES_BYTES_MAX)
    throw new InventoryError(
      'INVENTORY_TOO_LARGE',
      `${onlyTheirs.length} rows of the list are not enrolled, and ${onlyOurs.length} hosts not in it: is it the right column, and the right list?`,
    );
  const digest = digestOf(csv, sha256);
  const bytes = Buffer.byteLength(csv);
  const counts = { theirs: rows.length, ours: hosts.length, onlyTheirs: onlyTheirs.length, onlyOurs: onlyOurs.length };
  return store.inventories.add(
    { source, digest, bytes, mapping, matched, repeated, blank, ...counts },
    { differences, list: rows, lists: INVENTORY_LISTS_KEPT },
    actOf(who, clock()),
  );
}
