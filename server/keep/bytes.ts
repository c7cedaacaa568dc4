/** Bytes that lie under their own digest, or under that which a header names; and those who name them (docs/durability.md 3.3). */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import { Readable } from 'node:stream';
import { createZstdDecompress } from 'node:zlib';
import { BootproofError } from '#src/error.ts';
import { MANIFEST_TEXT_BYTES_MAX } from '#src/limits.ts';
import { parseEnvelope } from '#src/signing/dsse.ts';
import { VERITY_TYPE, VerityHeader } from '#src/wire/manifests.ts';
import { fileOf } from '#server/evidence/attempts.ts';
import { verityHeaderKey, verityTextKey } from '#server/ingest/known.ts';
import type { Soundness } from '#server/store/sound/reads.ts';
import type { FaultKind, FaultList } from './fault.ts';

const BLOB: FaultKind = {
  code: 'BLOB_BYTES',
  table: 'blob',
  means: 'a manifest, signature or policy is not what it was: whoever is judged by it may be judged wrongly',
  todo: 'delete the row: manifests are built and signatures fetched again; or restore a backup that is sound',
};
const MISSING: FaultKind = {
  code: 'BLOB_MISSING',
  table: 'manifest',
  means: 'bytes that it names are gone: hosts on this image cannot be judged, or its signatures not be shown again',
  todo: 'restore a backup that is sound; or have the image built again (bootproof images rebuild)',
};
const TEXT: FaultKind = {
  code: 'TEXT_BYTES',
  table: 'etc_text',
  means: 'a text of /etc is not the one that the image has: differences are shown against something else',
  todo: 'delete the row: it is read again when the image is',
};
const EXPORT: FaultKind = {
  code: 'EXPORT_BYTES',
  table: 'evidence_export',
  means: 'the file of this evidence bundle is not the one that was made',
  todo: 'delete the export and make it again: the log has not changed',
};

/** SHA-256 of what bytes are once they are unpacked, in hex; a text that says why not. */
async function digestOf(bytes: Uint8Array, encoding: string): Promise<{ readonly hex: string } | string> {
  const hash = createHash('sha256');
  if (encoding === 'identity') return { hex: hash.update(bytes).digest('hex') };
  if (encoding !== 'zstd') return `it is packed as ${encoding}, which nothing here writes`;
  try {
    // A piece at a time: what unpacks to gigabytes must not fill the memory.
    for await (const piece of Readable.from([bytes]).pipe(createZstdDecompress())) hash.update(piece as Buffer);
    return { hex: hash.digest('hex') };
  } catch (error) {
    return `it cannot be unpacked: ${error instanceof Error ? error.message : String(error)}`;
  }
}

export async function checkBytes(
  sound: Soundness,
  faults: FaultList,
): Promise<{ readonly blobs: number; readonly texts: number }> {
  const seen = { blobs: 0, texts: 0 };
  const bundles = new Bundles(await sound.exports(), faults);
  const verities = new Verities(faults);
  for await (const { key, encoding, bytes } of sound.blobs()) {
    seen.blobs++;
    if (bundles.takes(key, bytes) || verities.takesHeader(key, bytes)) continue;
    const found = await digestOf(bytes, encoding);
    if (typeof found === 'string') faults.add(BLOB, key, found);
    else if (!verities.takesText(key, `sha256:${found.hex}`) && key !== `sha256:${found.hex}`)
      faults.add(BLOB, key, `its bytes are sha256:${found.hex}`);
  }
  bundles.end();
  verities.end();
  for await (const page of sound.named()) {
    const standing = await sound.standing([...new Set(page.map(({ key }) => key))]);
    for (const { by, table, key } of page)
      if (!standing.has(key)) faults.add({ ...MISSING, table }, by, `no blob ${key}`);
  }
  for await (const { sha256, bytes } of sound.texts()) {
    seen.texts++;
    const found = await digestOf(bytes, 'zstd');
    if (typeof found === 'string') faults.add(TEXT, sha256, found);
    else if (sha256 !== found.hex) faults.add(TEXT, sha256, `its bytes are ${found.hex}`);
  }
  return seen;
}

/** The fs-verity digests of images: a signed header says which text is an image's, and both lie under the image's name. Headers come first. */
class Verities {
  readonly #faults: FaultList;
  /** By the key of the text, what its header says of it. */
  readonly #texts = new Map<string, string>();

  constructor(faults: FaultList) {
    this.#faults = faults;
  }

  takesHeader(key: string, bytes: Uint8Array): boolean {
    if (!key.startsWith(verityHeaderKey(''))) return false;
    const image = key.slice(verityHeaderKey('').length);
    const header = headerIn(bytes);
    if (header?.image === image) this.#texts.set(verityTextKey(image), header.text);
    else this.#faults.add(BLOB, key, header === undefined ? 'it is no such header' : `it is about ${header.image}`);
    return true;
  }

  takesText(key: string, digest: string): boolean {
    if (!key.startsWith(verityTextKey(''))) return false;
    // Written before its header: where there is none yet, nobody is given the text.
    const expected = this.#texts.get(key) ?? digest;
    this.#texts.delete(key);
    if (digest !== expected) this.#faults.add(BLOB, key, `its bytes are ${digest}, and its header says ${expected}`);
    return true;
  }

  end(): void {
    for (const key of this.#texts.keys()) this.#faults.add({ ...MISSING, table: 'blob' }, key, `no blob ${key}`);
  }
}

function headerIn(bytes: Uint8Array): VerityHeader | undefined {
  try {
    const { payload } = parseEnvelope(bytes, VERITY_TYPE, MANIFEST_TEXT_BYTES_MAX);
    return VerityHeader.safeParse(JSON.parse(new TextDecoder().decode(payload))).data;
  } catch (error) {
    if (error instanceof BootproofError || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Bundles that lie in the database: pieces under `evidence/ID/ATTEMPT/N`, in the order of their keys (server/store/evidence.ts). */
class Bundles {
  readonly #done: ReadonlyMap<string, string>;
  readonly #faults: FaultList;
  #at: { readonly of: string; readonly hash: Hash; next: number; isBroken: boolean } | undefined;

  constructor(
    exports: readonly { readonly id: string; readonly attempts: number; readonly sha256: string }[],
    faults: FaultList,
  ) {
    this.#done = new Map(exports.map(({ id, attempts, sha256 }) => [`${id}/${attempts}`, sha256]));
    this.#faults = faults;
  }

  /** Whether it is a piece of a bundle; of one that is being made nothing is known yet. */
  takes(key: string, bytes: Uint8Array): boolean {
    const [, of, n] = /^evidence\/(ev_[0-9a-z]+\/[0-9]+)\/([0-9]{8})$/.exec(key) ?? [];
    if (of === undefined) return false;
    if (this.#at?.of !== of) {
      this.end();
      this.#at = { of, hash: createHash('sha256'), next: Number(n) === 0 ? 0 : 1, isBroken: false };
    }
    const at = this.#at;
    if (Number(n) !== at.next++) at.isBroken = true;
    at.hash.update(bytes);
    return true;
  }

  end(): void {
    const at = this.#at;
    this.#at = undefined;
    const expected = at && this.#done.get(at.of);
    if (at === undefined || expected === undefined) return;
    if (at.isBroken) this.#faults.add(EXPORT, at.of, 'pieces of it are missing');
    else if (at.hash.digest('hex') !== expected) this.#faults.add(EXPORT, at.of, 'its pieces are not what was made');
  }
}

/** Bundles whose files lie here. One that lies nowhere is no fault: another process made it, or somebody took it away. */
export async function checkExports(sound: Soundness, folder: string, faults: FaultList): Promise<number> {
  let seen = 0;
  for (const { id, attempts, sha256, bytes } of await sound.exports()) {
    const path = fileOf(folder, { id, attempts });
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size === undefined) continue;
    seen++;
    const hash = createHash('sha256');
    for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
    if (size !== bytes || hash.digest('hex') !== sha256) faults.add(EXPORT, id, path);
  }
  return seen;
}
