/** Each trust root as people see it: where from, since when, whether it is kept up, what of it ends next, and which policies need it. */
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { isDigest, type Digest } from '#src/digest.ts';
import type { PolicyAuthority } from '#src/trust/cipauthority.ts';
import { endsNext, type RootEnd } from '#src/trust/trustroot.ts';
import type { Act } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import type { Basis } from './basis.ts';
import { readRefreshNote } from './roots.ts';
import type { TrustSetup } from './setup.ts';

/** Since when a root has these bytes here. */
const RootNote = z.strictObject({ sha256: z.string().refine(isDigest), since: z.number() });
const noteOf = (name: string): string => `root/${name}`;

/** Notes since when each root is what it is, and tells the trail where that changed. */
export async function noteRoots(
  { setup }: Pick<Basis, 'setup'>,
  { trust }: Pick<Store, 'trust'>,
  by: Act,
): Promise<void> {
  for (const { name, sha256 } of setup?.roots.values() ?? []) {
    const before = RootNote.safeParse(await trust.note(noteOf(name))).data;
    if (before?.sha256 === sha256) continue;
    const after = { sha256, since: by.at };
    const event = { action: 'trust-root.use', object: `trust-root:${name}`, before: before ?? null, after };
    await trust.setNote(noteOf(name), after, by, { event, jobs: [] });
  }
}

export type RootTold = {
  readonly name: string;
  /** Null: it is not here, and what needs it cannot be told. */
  readonly sha256: Digest | null;
  /** `file`: given to the server; `document`: stands in the image policy; `tuf`: as it was last refreshed. */
  readonly from: 'file' | 'document' | 'tuf' | null;
  readonly since: Instant | null;
  /** Null: nobody keeps it up; it is what it was given as. */
  readonly refresh: {
    readonly mirror: string;
    readonly refreshedAt: Instant | null;
    readonly triedAt: Instant | null;
    /** Until when the repository vouched that this is its newest. */
    readonly expires: Instant | null;
    readonly failure: { readonly since: Instant; readonly code: string; readonly reason: string } | null;
  } | null;
  /** The next key, log or certificate of it whose time is over. */
  readonly endsNext: RootEnd | null;
  /** Authorities in it that are not used, because their certificates do not allow it. */
  readonly setAside: readonly string[];
  /** Names of image policies. */
  readonly neededBy: readonly string[];
};

/** By name, those that are missing too. */
export async function rootsTold(
  { setup, refreshes }: Pick<Basis, 'setup' | 'refreshes'>,
  store: Pick<Store, 'trust'>,
  now: Instant,
): Promise<RootTold[]> {
  if (setup === null) return [];
  const needed = rootsNeeded(setup);
  const documents = new Set(setup.policy.trustRoots.map(({ name }) => name));
  const files = new Set(setup.files.roots.map(({ name }) => name));
  const all = new Set([...setup.roots.keys(), ...needed.keys(), ...refreshes.map(({ name }) => name)]);
  const told: RootTold[] = [];
  for (const name of [...all].sort()) {
    const root = setup.roots.get(name);
    const since = RootNote.safeParse(await store.trust.note(noteOf(name))).data;
    const kept = refreshes.find((one) => one.name === name);
    const note = kept === undefined ? undefined : await readRefreshNote(name, store);
    told.push({
      name,
      sha256: root?.sha256 ?? null,
      from:
        root === undefined
          ? null
          : note?.root?.blob === root.sha256
            ? 'tuf'
            : files.has(name) || !documents.has(name)
              ? 'file'
              : 'document',
      since: since !== undefined && since.sha256 === root?.sha256 ? since.since : null,
      refresh:
        kept === undefined
          ? null
          : {
              mirror: kept.mirror,
              refreshedAt: note?.root?.refreshedAt ?? null,
              triedAt: note?.triedAt ?? null,
              expires: note?.root?.expires ?? null,
              failure:
                note?.failure == null
                  ? null
                  : { since: note.failure.since, code: note.failure.code, reason: note.failure.reason },
            },
      endsNext: root === undefined ? null : (endsNext(root, now) ?? null),
      setAside: root?.setAside ?? [],
      neededBy: needed.get(name) ?? [],
    });
  }
  return told;
}

/** Names of the roots that policies ask for, each with the policies that do. */
function rootsNeeded({ policy }: TrustSetup): Map<string, string[]> {
  const needed = new Map<string, string[]>();
  for (const { name, authorities } of policy.policies)
    for (const root of new Set(authorities.flatMap(rootsOf))) needed.set(root, [...(needed.get(root) ?? []), name]);
  return needed;
}

/** Names of the roots that an authority is judged by. */
export function rootsOf({ signer }: PolicyAuthority): string[] {
  if (signer.kind !== 'signer') return [];
  const { authority } = signer;
  const names =
    authority.kind === 'key'
      ? [authority.tlog, authority.tsa]
      : [
          authority.trustRoot,
          authority.tlog ? (authority.tlogRoot ?? authority.trustRoot) : undefined,
          authority.tsa ? (authority.tsaRoot ?? authority.trustRoot) : undefined,
        ];
  return [...new Set(names.flatMap((name) => name ?? []))];
}
