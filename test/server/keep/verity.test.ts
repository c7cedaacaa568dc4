/** The fs-verity digests of an image lie under its name, not under a digest of their own: their header says what they must be. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { canonicalJson } from '#src/signing/canonical.ts';
import { digestOf } from '#src/digest.ts';
import { printEnvelope, signEnvelope } from '#src/signing/dsse.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { VERITY_TYPE, type VerityHeader } from '#src/wire/manifests.ts';
import { verityHeaderKey, verityTextKey } from '#server/ingest/known.ts';
import { fsck } from '#server/keep/fsck.ts';
import { openStore } from '#server/store/open.ts';
import { folder } from '#test/server/fleet.ts';
import { migratedSqlite } from '#test/sqlite.ts';

const signer = nodeSigner(pkcs8OfSeed(randomBytes(32)));
const text = 'sha256 of some file\n';

async function header(image: string, of = text): Promise<Uint8Array> {
  const said = { image: digestOf(image, nodeSha256), text: digestOf(of, nodeSha256), bytes: of.length };
  const json = canonicalJson({ format: 'bootproof.verity/1', ...said } satisfies VerityHeader);
  return new TextEncoder().encode(printEnvelope(await signEnvelope(VERITY_TYPE, json, signer)));
}

test('an image’s fs-verity digests are held against what its header says', async (t) => {
  const url = await migratedSqlite(join(folder(t), 'store.db'));
  const store = await openStore(url);
  t.after(() => store.close());
  const put = async (image: string, bytes: Uint8Array | null, kept: string | null) => {
    const digest = digestOf(image, nodeSha256);
    if (kept !== null)
      await store.blobs.put({ key: verityTextKey(digest), encoding: 'zstd', bytes: zstdCompressSync(kept) });
    if (bytes !== null) await store.blobs.put({ key: verityHeaderKey(digest), encoding: 'identity', bytes });
  };
  const told = async () =>
    (await fsck({ url })).faults.flatMap(({ code, first }) =>
      code.startsWith('BLOB_') ? first.map(({ key }) => `${code} ${key}`) : [],
    );
  await put('whole', await header('whole'), text);
  await put('header to come', null, text);
  assert.deepEqual(await told(), []);
  await put('other text', await header('other text'), 'another');
  await put('no text', await header('no text'), null);
  await put('header of another', await header('whole'), text);
  await put('no header', new Uint8Array(3), text);
  const of = (image: string) => digestOf(image, nodeSha256);
  assert.deepEqual(
    (await told()).sort(),
    [
      `BLOB_BYTES ${verityTextKey(of('other text'))}`,
      `BLOB_MISSING ${verityTextKey(of('no text'))}`,
      `BLOB_BYTES ${verityHeaderKey(of('header of another'))}`,
      `BLOB_BYTES ${verityHeaderKey(of('no header'))}`,
    ].sort(),
  );
});
