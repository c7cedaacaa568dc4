/**
 * Trust roots that are kept up with a TUF repository, where the operator allows it (docs/provenance.md 7). TUF itself is sigstore's client;
 * here is what is kept between two refreshes, in the store: the last good root, the metadata that forbid going back, and what failed.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { Instant } from '#src/clock.ts';
import { isDigest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { TUF_METADATA_BYTES_MAX, TUF_METADATA_FILES_MAX } from '#src/limits.ts';
import { printableText } from '#src/terminal.ts';
import { readTrustRoot, type TrustRoot } from '#src/trust/trustroot.ts';
import type { Act, NewJob } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { blobKey } from './look.ts';

/** A root that is to be kept up, as the operator named it. */
export type RootRefresh = {
  readonly name: string;
  /** Base URL of the TUF repository; metadata lie in it, targets in `targets/`. */
  readonly mirror: string;
  /** The first root.json, by the operator's hand; null: the one that sigstore's client carries for the public instance. */
  readonly initial: Uint8Array | null;
};

/** Asks a root's repository; its payload is `{root}`. */
export const ROOT_JOB = 'trust-root';

export function rootJob(name: string, runAt: Instant): NewJob {
  return { kind: ROOT_JOB, dedupeKey: `${ROOT_JOB}:${name}`, runAt, payload: { root: name } };
}

/** The one repository whose first root.json comes with sigstore's client. */
export const PUBLIC_MIRROR = 'https://tuf-repo-cdn.sigstore.dev';

/** TUF_REFRESH: the repository does not answer, or what it answers is not signed, is over, or goes back. TUF_ROOT: its trusted_root.json is none. */
export class RefreshError extends BootproofError<'TUF_REFRESH' | 'TUF_ROOT'> {}

const Failure = z.strictObject({ since: z.number(), at: z.number(), code: z.string(), reason: z.string() });
const Key = z.string().refine(isDigest);
/** What is remembered of a root's refreshes. Bytes lie among the blobs. */
const RefreshNote = z.strictObject({
  mirror: z.string(),
  /** Digest of the first root.json; another one begins anew. */
  initial: z.string(),
  root: z.strictObject({ blob: Key, refreshedAt: z.number(), expires: z.number().nullable() }).nullable(),
  metadata: z.array(z.strictObject({ file: z.string(), blob: Key })),
  triedAt: z.number(),
  failure: Failure.nullable(),
});
export type RefreshNote = z.infer<typeof RefreshNote>;

const noteOf = (name: string): string => `refresh/${name}`;

export async function readRefreshNote(name: string, { trust }: Pick<Store, 'trust'>): Promise<RefreshNote | undefined> {
  const note = await trust.note(noteOf(name));
  return note === undefined ? undefined : RefreshNote.parse(note);
}

export type Refreshed = { readonly note: RefreshNote; readonly changed: boolean; readonly error: RefreshError | null };

/**
 * Asks the repository once and keeps what came of it. A failure keeps the last root, and stands beside it since when. Nothing is used that
 * our own reader of trust roots refuses.
 */
export async function refreshRoot(
  refresh: RootRefresh,
  store: Pick<Store, 'trust' | 'blobs'>,
  {
    by,
    jobs,
  }: { readonly by: Act; readonly jobs: (changed: boolean) => Parameters<Store['trust']['setNote']>[3]['jobs'] },
): Promise<Refreshed> {
  const { name, mirror, initial } = refresh;
  const now = by.at;
  const first = initial === null ? 'built in' : blobKey(initial);
  const kept = await readRefreshNote(name, store);
  // Another first root.json is another repository: what the old one forbade is no matter of this one.
  const before = kept?.initial === first ? kept : undefined;
  const object = `trust-root:${name}`;
  const blank: RefreshNote = { mirror, initial: first, root: null, metadata: [], triedAt: now, failure: null };
  try {
    const files = await ask(refresh, before?.metadata ?? [], store);
    validRoot(name, files.root);
    for (const bytes of [files.root, ...files.metadata.values()])
      await store.blobs.put({ key: blobKey(bytes), encoding: 'identity', bytes });
    const blob = blobKey(files.root);
    const changed = before?.root?.blob !== blob;
    const note: RefreshNote = {
      ...blank,
      root: { blob, refreshedAt: now, expires: expiryOf(files.metadata) },
      metadata: [...files.metadata].map(([file, bytes]) => ({ file, blob: blobKey(bytes) })),
    };
    const event = changed
      ? { action: 'trust-root.change', object, before: before?.root?.blob ?? null, after: { sha256: blob, mirror } }
      : null;
    await store.trust.setNote(noteOf(name), note, by, { event, jobs: jobs(changed) });
    return { note, changed, error: null };
  } catch (error) {
    if (!(error instanceof RefreshError)) throw error;
    const { code, message } = error;
    const failure = { since: before?.failure?.since ?? now, at: now, code, reason: message };
    const note: RefreshNote = { ...(before ?? blank), mirror, triedAt: now, failure };
    const event =
      before?.failure === null || before === undefined
        ? { action: 'trust-root.refresh-failed', object, before: null, after: { code, reason: message, mirror } }
        : null;
    await store.trust.setNote(noteOf(name), note, by, { event, jobs: jobs(false) });
    return { note, changed: false, error };
  }
}

/** @throws {RefreshError} TUF_ROOT */
function validRoot(name: string, bytes: Uint8Array): TrustRoot {
  try {
    return readTrustRoot(name, bytes);
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    throw new RefreshError('TUF_ROOT', `what the repository has as trusted_root.json is none: ${error.message}`, {
      cause: error,
    });
  }
}

type Answered = { readonly root: Uint8Array; readonly metadata: ReadonlyMap<string, Uint8Array> };

/** Each request may take so long; the client tries twice more. */
const REQUEST_MS = 10_000;

/** @throws {RefreshError} TUF_REFRESH */
async function ask(
  { mirror, initial }: RootRefresh,
  kept: RefreshNote['metadata'],
  { blobs }: Pick<Store, 'blobs'>,
): Promise<Answered> {
  const at = await mkdtemp(join(tmpdir(), 'bootproof-tuf-'));
  try {
    // The client keeps a repository under its host and path; what it remembers of it is laid there before it looks.
    const { host, pathname } = new URL(mirror);
    const cache = join(at, encodeURIComponent(host + pathname.replace(/\/$/, '')));
    await mkdir(join(cache, 'targets'), { recursive: true });
    for (const { file, blob } of kept) {
      const found = await blobs.get(blob);
      if (found !== undefined) await writeFile(join(cache, file), found.bytes);
    }
    const rootPath = join(at, 'initial.json');
    if (initial !== null) await writeFile(rootPath, initial);
    // Loaded where it is needed: most servers never ask.
    const { initTUF } = await import('@sigstore/tuf');
    let text: string;
    try {
      const client = await initTUF({
        cachePath: at,
        mirrorURL: mirror,
        ...(initial === null ? {} : { rootPath }),
        timeout: REQUEST_MS,
        retry: { retries: 2, minTimeout: 200 },
      });
      text = await client.getTarget('trusted_root.json');
    } catch (error) {
      throw new RefreshError('TUF_REFRESH', `${mirror}: ${reasonOf(error)}`, { cause: error });
    }
    return { root: Buffer.from(text, 'utf8'), metadata: await metadataIn(cache) };
  } finally {
    await rm(at, { recursive: true, force: true });
  }
}

/** What the client says and why, without its stack; it comes from a stranger's answer. */
function reasonOf(error: unknown): string {
  const said: string[] = [];
  for (let each = error; each instanceof Error && said.length < 4; each = each.cause)
    if (each.message !== '') said.push(each.message);
  return printableText(said.join(': ')).slice(0, 500);
}

/** @throws {RefreshError} TUF_REFRESH for more than is kept */
async function metadataIn(cache: string): Promise<Map<string, Uint8Array>> {
  const names = (await readdir(cache)).filter((name) => name.endsWith('.json')).sort();
  const found = new Map<string, Uint8Array>();
  let left = TUF_METADATA_BYTES_MAX;
  for (const name of names) {
    left -= (await stat(join(cache, name))).size;
    if (left < 0 || found.size === TUF_METADATA_FILES_MAX)
      throw new RefreshError(
        'TUF_REFRESH',
        `its metadata are more than ${TUF_METADATA_FILES_MAX} files or ${TUF_METADATA_BYTES_MAX} bytes`,
      );
    found.set(name, await readFile(join(cache, name)));
  }
  return found;
}

const Signed = z.looseObject({ signed: z.looseObject({ expires: z.iso.datetime({ offset: true }) }) });

/** Until when the repository vouches that this is its newest; it was verified, and is only read here. */
function expiryOf(metadata: ReadonlyMap<string, Uint8Array>): Instant | null {
  const times = [...metadata.values()].flatMap((bytes) => {
    const { data } = Signed.safeParse(JSON.parse(Buffer.from(bytes).toString('utf8')));
    return data === undefined ? [] : [Date.parse(data.signed.expires)];
  });
  return times.length === 0 ? null : Math.min(...times);
}

const RootJson = z.looseObject({
  signed: z.looseObject({ _type: z.literal('root') }),
  signatures: z.array(z.unknown()),
});

/** Whether bytes are a TUF root.json at all; that they are the right one is the operator's word. */
export function isTufRoot(bytes: Uint8Array): boolean {
  try {
    return RootJson.safeParse(JSON.parse(Buffer.from(bytes).toString('utf8'))).success;
  } catch {
    return false; // no JSON is the answer
  }
}
