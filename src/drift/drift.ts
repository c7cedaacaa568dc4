/** One path that differs between manifest and scan. */
import { z } from 'zod';
import type { ByteString } from '#src/bytes.ts';
import type { Facts } from '#src/manifest/entry.ts';
import { FactsJson, factsFromJson, factsJson, nameFromJson, nameJson } from '#src/manifest/json.ts';
import { PATH_BYTES_MAX } from '#src/limits.ts';

/** What can differ, in the order in which it is listed. */
export const ATTRIBUTES = ['type', 'mode', 'uid', 'gid', 'size', 'sha256', 'link', 'capability', 'device'] as const;
export type Attribute = (typeof ATTRIBUTES)[number];

export type Drift =
  | { readonly path: ByteString; readonly change: 'added'; readonly actual: Facts }
  | { readonly path: ByteString; readonly change: 'removed'; readonly expected: Facts }
  | { readonly path: ByteString; readonly change: 'modified'; readonly expected: Facts; readonly actual: Facts };

/** Lines by kind. */
export type Totals = Readonly<Record<Drift['change'], number>>;

export function totalsOf(drift: Iterable<Drift>): Totals {
  const totals = { added: 0, removed: 0, modified: 0 };
  for (const { change } of drift) totals[change]++;
  return totals;
}

/** Whether these are a file's facts without its content, which could not be read (docs/report.md 1.10): a size and no digest. */
export function isUnread({ size, sha256 }: Facts): boolean {
  return size !== undefined && sha256 === undefined;
}

/** Which attributes of a modified path are known to differ; empty for added and removed. */
export function attributesOf(drift: Drift): Attribute[] {
  if (drift.change !== 'modified') return [];
  const { expected, actual } = drift;
  const unread = isUnread(actual);
  return ATTRIBUTES.filter((name) => expected[name] !== actual[name] && !(unread && name === 'sha256'));
}

/** Drift as it stands in reports and in `agent scan --json`. */
export const DriftJson = z.strictObject({
  path: z.string().max(PATH_BYTES_MAX).optional(),
  path_b64: z
    .string()
    .max(2 * PATH_BYTES_MAX)
    .optional(),
  change: z.enum(['added', 'removed', 'modified']),
  attributes: z.array(z.enum(ATTRIBUTES)).max(ATTRIBUTES.length),
  expected: FactsJson.optional(),
  actual: FactsJson.optional(),
});
export type DriftJson = z.infer<typeof DriftJson>;

export function driftJson(drift: Drift): DriftJson {
  return {
    ...nameJson('path', drift.path),
    change: drift.change,
    attributes: attributesOf(drift),
    ...('expected' in drift ? { expected: factsJson(drift.expected) } : {}),
    ...('actual' in drift ? { actual: factsJson(drift.actual) } : {}),
  };
}

/** Drift of a document that passed `DriftJson`; undefined where it contradicts itself. */
export function driftFromJson(json: DriftJson): Drift | undefined {
  const path = nameFromJson(json.path, json.path_b64);
  const expected = json.expected === undefined ? undefined : factsFromJson(json.expected);
  const actual = json.actual === undefined ? undefined : factsFromJson(json.actual);
  // What must be there is always known whole.
  if (path === undefined || (expected !== undefined && isUnread(expected))) return undefined;
  if ((json.expected !== undefined) !== (expected !== undefined)) return undefined;
  if ((json.actual !== undefined) !== (actual !== undefined)) return undefined;
  const drift = assemble(path, json.change, expected, actual);
  if (drift === undefined) return undefined;
  const attributes = attributesOf(drift);
  if (drift.change === 'modified' && attributes.length === 0) return undefined;
  return attributes.join() === json.attributes.join() ? drift : undefined;
}

function assemble(path: ByteString, change: Drift['change'], expected?: Facts, actual?: Facts): Drift | undefined {
  if (change === 'added') return actual && !expected ? { path, change, actual } : undefined;
  if (change === 'removed') return expected && !actual ? { path, change, expected } : undefined;
  return expected && actual ? { path, change, expected, actual } : undefined;
}

/** Why a path could not be judged (PROTOCOL 3.9). */
export const HOLE_KINDS = ['unreadable', 'unstable', 'mount'] as const;
export type HoleKind = (typeof HOLE_KINDS)[number];
/** A path that the scan could not judge, with everything below it. */
export type Hole = { readonly path: ByteString; readonly kind: HoleKind; readonly detail: string };

/**
 * What is known all the same of a path that could not be read (docs/report.md 1.10): its facts as `lstat` tells them, for a file without the
 * digest. `capability`: whether that was read too.
 */
export type Glimpse = { readonly facts: Facts; readonly capability: boolean };

/** A secret, compared on the host: no size, no digest leaves it (PROTOCOL 1.4). */
export const SECRET_STATES = ['same', 'differs', 'added', 'removed'] as const;
export type Secret = { readonly path: ByteString; readonly state: (typeof SECRET_STATES)[number] };
