/** What people deny, whoever signed it: an image, a key, an identity, a certificate, a log entry (docs/image-policy.md 8). */
import { DENY_ENTRIES_MAX } from '#src/limits.ts';
import { digestOf } from '#src/digest.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { BootproofError } from '#src/error.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import type { Act } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { denyEntries, type Basis, type DenyDocument } from '#server/trust/basis.ts';
import { trustAllJob } from '#server/trust/known.ts';

export class DenyError extends BootproofError<'DENY_INVALID'> {}

export type DenyDeps = { readonly store: Pick<Store, 'denials'>; readonly basis: Basis };

/** Of the thing that is denied, not of reason and time: `d_` and 32 hex digits. */
export function denialId(entry: DenyDocument): string {
  const what = Object.fromEntries(Object.entries(entry).filter(([key]) => key !== 'from' && key !== 'reason'));
  return `d_${digestOf(canonicalJson(what), nodeSha256).slice('sha256:'.length, 'sha256:'.length + 32)}`;
}

/** Denies a thing, or changes reason and time; every image is judged again at once. Answers its id. @throws {DenyError} */
export async function deny(entry: DenyDocument, by: Act, { store, basis }: DenyDeps): Promise<string> {
  const id = denialId(entry);
  try {
    denyEntries([entry]);
  } catch (error) {
    if (!(error instanceof DocumentError)) throw error;
    throw new DenyError('DENY_INVALID', error.problems.map(({ message }) => message).join('; '), { cause: error });
  }
  if (basis.denied.length >= DENY_ENTRIES_MAX)
    throw new DenyError('DENY_INVALID', `the list has ${basis.denied.length} entries already; more are not held`);
  await store.denials.put(id, entry, by, [trustAllJob(by.at)]);
  await basis.reload();
  return id;
}

/** False where it was not denied. */
export async function undeny(id: string, by: Act, { store, basis }: DenyDeps): Promise<boolean> {
  const done = await store.denials.remove(id, by, [trustAllJob(by.at)]);
  await basis.reload();
  return done;
}
