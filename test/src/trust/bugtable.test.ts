/**
 * The table of what verifiers of signatures got wrong, as far as it is published: each row has a test that names it, or a reason why it cannot
 * be here. Those of bugs.test.ts are one signature each; below stand those that need a registry, or time.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf } from '#src/digest.ts';
import { findSignatures } from '#src/source/signatures.ts';
import type { DenyEntry } from '#src/trust/deny.ts';
import { imageTarget } from '#src/trust/target.ts';
import { verifySignature } from '#src/trust/verify.ts';
import { blobsOf, caseOf, circumstances, codesOf, judge, requirementOf, verifiedOf } from './cases.ts';
import { AT, hashedRekord, IMAGE, logged, newKey, pemOf, root, signatureLayer, simple } from './instance.ts';
import { closeHttp, registryOf, registryWithApi } from './places.ts';

test.after(() => closeHttp());

/** Advisory → what went wrong there. */
const TABLE: Readonly<Record<string, string>> = {
  'CVE-2022-23649': 'cosign: the log entry of another signature was taken',
  'CVE-2022-35929': 'cosign: an attestation of another type was taken',
  'CVE-2022-35930': 'policy-controller: the same at admission',
  'CVE-2022-36056': 'cosign: entries not bound, identities ignored, broken entries as good as none',
  'CVE-2022-47633': 'Kyverno: what a tag named was asked for twice, and was another image the second time',
  'CVE-2023-33957': 'notation: signatures without end',
  'CVE-2023-33958': 'notation: layers and blobs without end',
  'CVE-2023-46737': 'cosign: attestations without end',
  'CVE-2024-29902': 'cosign: attachments of any size',
  'CVE-2024-29903': 'cosign: signatures and layers without end',
  'GHSA-cq38-jh5f-37mq': 'sigstore-go: subjects and digests without end',
  'CVE-2023-33959': 'notation: another artifact than the one resolved was verified',
  'CVE-2024-23332': 'notation: an old image with a good signature',
  'CVE-2024-3727': 'containers/image: digests of a registry went into paths and requests',
  'CVE-2024-53267': 'sigstore-java: the envelope’s signature was not checked',
  'CVE-2025-25204': 'gh: no attestation of the type at all was a success',
  'CVE-2026-22703': 'cosign: the log entry of another key was taken',
  'CVE-2026-24122': 'cosign: an authority that had expired when it was signed',
  'CVE-2026-39395': 'cosign: a payload that is no statement was taken',
  'CVE-2026-39984': 'timestamp-authority: another certificate than the signer’s was checked',
  'cosign #5016': 'a subject that is null',
  'sigstore-js #1702': 'one log entry counted twice',
  'sigstore-js #1656': 'names compared as unanchored patterns',
  'sigstore-rust #160, #166': 'times used before they were checked, and an authority outside its validity',
  'GHSA 2026-06': 'sigstore-js oci: credentials of another host whose name holds the wanted one',
};
/** Not here, with the reason. */
const NOT_HERE: Readonly<Record<string, string>> = {
  'CVE-2024-56138':
    'notation-go did not ask whether a timestamp authority was revoked; sigstore has no list to ask (docs/trust.md 5.4)',
};
/** Whose test stands outside this room, by its name. */
const ELSEWHERE: Readonly<Record<string, string>> = { 'GHSA 2026-06': 'not for a longer host' };

test('every row of the table has a test that names it', () => {
  const folders = ['trust', 'source'].map((room) => join(import.meta.dirname, '..', room));
  const own = join(import.meta.dirname, 'bugtable.test.ts');
  const texts = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.test.ts'))
      .map((name) => join(folder, name))
      .map((file) => {
        const text = readFileSync(file, 'utf8');
        // The table itself is no test.
        return file === own ? text.slice(text.indexOf('// Tests')) : text;
      }),
  );
  for (const id of Object.keys(TABLE))
    assert.ok(
      texts.some((text) => text.includes(ELSEWHERE[id] ?? id)),
      `${id} has no test`,
    );
  for (const [id, reason] of Object.entries(NOT_HERE)) assert.ok(!(id in TABLE) && reason.length > 20);
});

// Tests

test('CVE-2022-47633: what a tag names is asked for once; everything after goes by digest, and is held to it', async () => {
  const good = blobsOf(caseOf('v-legacy3-key-p256'));
  const other = blobsOf(caseOf('n-wrong-key'));
  const vector = caseOf('v-legacy3-key-p256');
  const tag = `${vector.digest.replace(':', '-')}.sig`;
  await using registry = await registryWithApi({
    blobs: new Map([...other.blobs, ...good.blobs]),
    tags: good.tags,
  });
  let asked = 0;
  registry.hooks.unshift(({ path }) => {
    // From the second time on the tag names something else.
    if (path.endsWith(`/manifests/${tag}`) && ++asked === 2) registry.tags.set(tag, [...other.blobs.keys()][0]!);
    return false;
  });
  const judged = await judge(vector, registryOf(registry));
  assert.equal(verifiedOf(judged).length, 1);
  assert.equal(asked, 1);
  for (const { path } of registry.asked)
    assert.ok(
      /\/(?:manifests\/sha256-[0-9a-f]{64}(?:\.(?:sig|att))?|(?:manifests|blobs|referrers)\/sha256:[0-9a-f]{64})$/.test(
        path,
      ),
      path,
    );

  // Another manifest under the digest that was asked for.
  const bundle = caseOf('v-bundle-key-p256');
  await using liar = await registryWithApi(blobsOf(bundle));
  liar.hooks.unshift(({ path }, answer) => {
    if (!/\/manifests\/sha256:/.test(path)) return false;
    answer.writeHead(200, { 'content-type': 'application/vnd.oci.image.manifest.v1+json' });
    answer.end('{"schemaVersion":2,"layers":[]}');
    return true;
  });
  assert.deepEqual(codesOf(await judge(bundle, registryOf(liar))), ['MALFORMED']);
});

test('CVE-2023-33957, CVE-2023-33958, CVE-2023-46737, CVE-2024-29902, CVE-2024-29903: what has no end has a bound', async () => {
  // With counts of requests and bytes: endless.test.ts. Here, that a good signature among many is still found and counts.
  const key = newKey();
  const blobs = new Map<string, Uint8Array>();
  const put = (text: string) => {
    const bytes = new TextEncoder().encode(text);
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    return { digest, size: bytes.length };
  };
  const mediaType = 'application/vnd.dev.cosign.simplesigning.v1+json';
  const note = (signature: string) => ({ 'dev.cosignproject.cosign/signature': signature });
  const signed = signatureLayer(key, simple());
  assert.ok(!('kind' in signed.content));
  const signature = Buffer.from(signed.content.signature).toString('base64');
  const chaff = Array.from({ length: 1000 }, (_, i) => ({
    mediaType,
    ...put(`${simple()}${' '.repeat(i + 1)}`),
    annotations: note('AAAA'),
  }));
  const layers = [...chaff, { mediaType, ...put(simple()), annotations: note(signature) }];
  const manifest = put(JSON.stringify({ schemaVersion: 2, config: {}, layers }));
  const tags = { [`${IMAGE.replace(':', '-')}.sig`]: manifest.digest };
  await using registry = await registryWithApi({ blobs, tags });
  const { found } = await findSignatures({ image: IMAGE, repositories: [registryOf(registry)] });
  const requirement = {
    what: { kind: 'signature' },
    authority: { kind: 'key', keys: [pemOf(key)], hashAlgorithm: 'sha256', tlog: undefined, tsa: undefined },
  } as const;
  const outcomes = found.map((entity) => verifySignature(entity, requirement, circumstances({ digest: IMAGE })).kind);
  assert.deepEqual(
    outcomes.filter((kind) => kind === 'verified'),
    ['verified'],
  );
});

test('CVE-2024-23332: an old signature counts as long as nobody denies it: whether a host may go back is the host policy’s to say', () => {
  const key = newKey();
  const payload = new TextEncoder().encode(simple());
  const signed = signatureLayer(key, payload, (signature) => ({
    'dev.sigstore.cosign/bundle': logged(hashedRekord(payload, signature, pemOf(key))),
  }));
  const outcome = (deny: readonly DenyEntry[]) =>
    verifySignature(
      signed,
      {
        what: { kind: 'signature' },
        authority: { kind: 'key', keys: [pemOf(key)], hashAlgorithm: 'sha256', tlog: 'test', tsa: undefined },
      },
      {
        target: imageTarget({ digest: IMAGE }),
        roots: new Map([['test', root()]]),
        deny,
        now: AT + 10 * 365 * 86_400_000,
      },
    );
  const old = outcome([]);
  assert.ok(old.kind === 'verified');
  // That it is old is told with it.
  assert.deepEqual(
    old.times.map(({ at }) => at),
    [AT],
  );
  const denied = outcome([{ what: 'image', digest: IMAGE, from: undefined, reason: 'withdrawn' }]);
  assert.ok(denied.kind === 'failed');
  assert.equal(denied.code, 'DENIED');
});

test('CVE-2025-25204: an image without any signature has no outcome at all that could be taken for a good one', async () => {
  const vector = caseOf('n-unsigned');
  const none = blobsOf(vector);
  await using registry = await registryWithApi(none);
  const { found, outcomes } = await judge(vector, registryOf(registry));
  assert.deepEqual(outcomes, []);
  assert.equal(found.complete, true);
  assert.equal(requirementOf(vector.check).what.kind, 'signature');
});
