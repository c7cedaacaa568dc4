/** What pages are given. */
import type { Access } from '#server/access/admin.ts';
import type { Deps } from '#server/deps.ts';
import type { KnownImages } from '#server/ingest/known.ts';
import type { Basis } from '#server/trust/basis.ts';
import type { KnownTrust } from '#server/trust/known.ts';

export type WebServices = Deps & {
  readonly access: Access;
  readonly basis: Basis;
  readonly images: KnownImages;
  readonly trust: KnownTrust;
  readonly baseUrl: () => string;
  readonly wake: () => void;
};
