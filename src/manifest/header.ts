/**
 * The header that binds the canonical texts to an image (docs/manifest.md, rule 5), and the file manifest as a whole. The
 * server signs headers with its own key; the texts are proved by the digests in them.
 */
import { z } from 'zod';
import { PATH_BYTES_MAX } from '#src/limits.ts';
import type { TreeName } from './entry.ts';
import { DigestJson } from './json.ts';

export const MANIFEST_FORMAT = 'bootproof.manifest/1';
export const MANIFEST_HEADER_TYPE = 'application/vnd.bootproof.manifest-header+json';

const Count = z.int().min(0);

/** Something that a host would lose or change silently, or that an image builder should know. Codes: docs/errors.md. */
export const ManifestWarning = z.strictObject({
  code: z.string().regex(/^[A-Z][A-Z0-9_]+$/),
  /** Index of the layer, from 0; null where no single layer is meant. */
  layer: Count.nullable(),
  path: z.string().max(PATH_BYTES_MAX).optional(),
  path_b64: z
    .string()
    .max(2 * PATH_BYTES_MAX)
    .optional(),
  message: z.string().max(2000),
});
export type ManifestWarning = z.infer<typeof ManifestWarning>;

const HeaderTree = z.strictObject({
  /** Of the tree's part of the main text: in full, and with secrets hidden (docs/manifest.md, rule 4). */
  main: z.strictObject({ full: DigestJson, comparison: DigestJson }),
  /** Of the tree's part of the extra text. */
  extra: DigestJson,
  entries: Count,
});

export const ManifestHeader = z.strictObject({
  format: z.literal(MANIFEST_FORMAT),
  /** Digest of the per-platform image manifest. */
  image: DigestJson,
  /** The index through which it was found, if any. */
  index: DigestJson.nullable(),
  config: DigestJson,
  platform: z.string().max(200),
  layers: z.array(
    z.strictObject({ digest: DigestJson, diffId: DigestJson, mediaType: z.string().max(300), size: Count }),
  ),
  rule: z.string().max(64),
  secretPaths: z.string().max(64),
  trees: z.strictObject({ usr: HeaderTree, etc: HeaderTree }),
  warnings: z.array(ManifestWarning),
  /** Program and version that built it. */
  builder: z.string().max(100),
});
export type ManifestHeader = z.infer<typeof ManifestHeader>;

/** Both texts of a tree, its own part only, without what stands before it in the whole main text. */
export type TreeTexts = { readonly main: string; readonly extra: string };

/** What each path of an image's trees must be on a host, under one rule. */
export type FileManifest = { readonly header: ManifestHeader; readonly trees: Readonly<Record<TreeName, TreeTexts>> };
