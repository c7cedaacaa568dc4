/** The contract of server/store/store.ts as tests: where files of images come from, and which images have a content. */
import assert from 'node:assert/strict';
import { sql, type CompiledQuery } from 'kysely';
import { CONTENT_SHARDS } from '#src/manifest/contents.ts';
import { storeOn } from '#server/store/open.ts';
import { openedEngine, type Suite } from './contract.ts';
import { admit, backTo, commit, digest, groupId, hostId, present, report, T0 } from './make.ts';
import { planOf, recording } from './offered.ts';

const shardsWith = (at: number, ...marks: number[]): Uint8Array[] =>
  Array.from({ length: CONTENT_SHARDS }, (_, shard) => Uint8Array.from(shard === at ? marks : []));

export function origins(suite: Suite): void {
  suite('what is kept of an image is replaced as a whole, and looked for by shard', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    const { imageOrigins } = store;
    const [a, b] = [digest('a'), digest('b')];
    assert.equal(await imageOrigins.get(a), undefined);
    assert.deepEqual(await imageOrigins.shard(7, 10), []);
    await imageOrigins.put(a, { origins: Uint8Array.of(1, 2), shards: shardsWith(7, 1, 2, 3), contents: 1 }, T0);
    await imageOrigins.put(b, { origins: null, shards: shardsWith(7, 9), contents: 1 }, T0);
    const kept = async (image: string) => {
      const row = await imageOrigins.get(image);
      return row && { ...row, origins: row.origins === null ? null : [...row.origins] };
    };
    const shard = async (of: number, limit = 10) =>
      (await imageOrigins.shard(of, limit)).map(({ image, marks }) => [image, [...marks]]);
    assert.deepEqual(await kept(a), { origins: [1, 2], contents: 1, failure: null });
    const both = (
      [
        [a, [1, 2, 3]],
        [b, [9]],
      ] as const
    ).toSorted(([one], [other]) => (one < other ? -1 : 1));
    assert.deepEqual(await shard(7), both);
    assert.deepEqual(await shard(7, 1), both.slice(0, 1));
    assert.deepEqual(
      (await shard(8)).map(([, marks]) => marks),
      [[], []],
    );
    // Looked through anew without being read again: where its paths come from stands.
    await imageOrigins.put(a, { origins: null, shards: shardsWith(7, 4), contents: 2 }, T0 + 1);
    assert.deepEqual(await kept(a), { origins: [1, 2], contents: 2, failure: null });
    await imageOrigins.failed(a, 'SOURCE_NOT_FOUND: gone', T0 + 2);
    assert.deepEqual(await kept(a), { origins: [1, 2], contents: 2, failure: 'SOURCE_NOT_FOUND: gone' });
    await imageOrigins.put(a, { origins: Uint8Array.of(3), shards: shardsWith(7), contents: 0 }, T0 + 3);
    assert.deepEqual(await kept(a), { origins: [3], contents: 0, failure: null });
    await imageOrigins.failed(digest('c'), 'IMAGE_SOURCE_NOT_ALLOWED: nowhere', T0);
    assert.deepEqual(await kept(digest('c')), {
      origins: null,
      contents: null,
      failure: 'IMAGE_SOURCE_NOT_ALLOWED: nowhere',
    });

    // Ready ones alone, and those with a failure alone as well.
    await store.images.note(
      ['c', 'd', 'e'].map((name) => ({ reported: digest(name), claim: null })),
      T0,
    );
    assert.deepEqual(await imageOrigins.unseen(10), []);
    await engine.write(async ({ db }) => {
      await sql`update image set state = 'ready' where digest <> ${digest('e')}`.execute(db);
    });
    assert.deepEqual(await imageOrigins.unseen(10), [digest('c'), digest('d')].sort());
    assert.equal((await imageOrigins.unseen(1)).length, 1);
  });

  suite('groups of one content are found by an index, also in a store of the builds before', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    await admit(store, 1);
    const content = 'ab'.repeat(32);
    const of = (n: number, signature: string) => {
      const change = present(n, 3);
      assert.ok(change.kind === 'present');
      return { ...change, group: { ...change.group, signature } };
    };
    await commit(store, hostId(1), (host) => ({
      ...report(host, 'full'),
      findings: [
        of(1, `added;type=file;mode=0755;uid=0;gid=0;sha256=${content}`),
        of(2, `modified;sha256=${content};capability=none`),
        of(3, `modified;sha256=${'cd'.repeat(32)}`),
        of(4, 'silent'),
      ],
    }));
    await backTo(engine, 8);
    const later = await openedEngine(t, url);
    for (const held of [store, later.store]) {
      assert.deepEqual(await held.imageOrigins.groups(content, 10), [groupId(1), groupId(2)].sort());
      assert.equal((await held.imageOrigins.groups(content, 1)).length, 1);
      assert.deepEqual(await held.imageOrigins.groups('ef'.repeat(32), 10), []);
    }
    const asked: CompiledQuery[] = [];
    const heard = storeOn(recording(later.engine, asked)).imageOrigins;
    await heard.groups(content, 10);
    await heard.shard(7, 10);
    // So few rows are read whole at best: made dear, a plan shows whether an index serves.
    const settings = engine.kind === 'sqlite' ? [] : ['enable_seqscan = off', 'enable_bitmapscan = off'];
    for (const query of asked)
      for (const step of await planOf(later.engine, query, settings))
        assert.equal(step.kind, 'search', JSON.stringify(step));
    assert.equal(asked.length, 2);
  });
}
