/** The contract of server/store/store.ts as tests: who signed an image, what is denied, and a store of the build before. */
import assert from 'node:assert/strict';
import type { ImageTrust } from '#server/store/trustrecords.ts';
import { opened, openedEngine, type Suite } from './contract.ts';
import { ADMIN, admit, backTo, digest, hostId, T0 } from './make.ts';

const BASIS = { policy: digest('policy'), roots: digest('roots'), deny: digest('deny') };
const place = {
  source: 'docker://r/x',
  by: 'tag',
  tag: 'sha256-1.sig',
  of: digest('i'),
  manifest: undefined,
  layer: 0,
};

function trust(more: Partial<ImageTrust> = {}): ImageTrust {
  return {
    image: digest('image'),
    revision: 0,
    basis: BASIS,
    state: 'trusted',
    since: T0,
    verifiedAt: T0,
    lookedAt: T0,
    unreachableSince: null,
    vanishedAt: null,
    told: { by: 'Ünïcode', list: [1, 2] },
    kept: [],
    indexes: [digest('index')],
    lastGood: null,
    ...more,
  };
}

export function trusts(suite: Suite): void {
  suite('what is known of an image is written on what was read, by one of two, with its events', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    const image = digest('image');
    assert.equal(await a.trust.get(image), undefined);
    const event = { action: 'trust.change', object: `image:${image}`, before: null, after: { state: 'trusted' } };
    const first = await Promise.all([a.trust.put(trust(), ADMIN, [event]), b.trust.put(trust(), ADMIN, [event])]);
    assert.deepEqual(new Set(first), new Set([1, undefined]));
    const lastGood = { state: 'trusted', at: T0, basis: BASIS, told: { a: 1 } } as const;
    const kept = [
      { format: 'bundle' as const, place: JSON.parse(JSON.stringify(place)), manifest: digest('m'), blob: digest('b') },
    ];
    const next = trust({
      revision: 1,
      state: 'unverifiable',
      lookedAt: null,
      unreachableSince: T0 + 1,
      kept,
      lastGood,
    });
    assert.equal(await a.trust.put({ ...next, revision: 7 }, ADMIN, [event]), undefined, 'nobody read revision 7');
    assert.equal(await a.trust.put(next, ADMIN, []), 2);
    assert.equal(await b.trust.put(next, ADMIN, [event]), undefined, 'read before the other wrote');
    assert.deepEqual(await b.trust.get(image), { ...next, revision: 2 });
    const trail = await a.audit.list({ object: `image:${image}` }, { cursor: null, limit: 10 });
    assert.deepEqual(
      trail.items.map(({ action, after }) => [action, after]),
      [['trust.change', { state: 'trusted' }]],
    );
  });

  suite('many images are read at once, those that are there', async (url, t) => {
    const store = await opened(t, url);
    for (const name of ['a', 'b']) await store.trust.put(trust({ image: digest(name) }), ADMIN, []);
    const found = await store.trust.getMany([digest('a'), digest('b'), digest('c')]);
    assert.deepEqual([...found.keys()].sort(), [digest('a'), digest('b')].sort());
    assert.equal(found.get(digest('a'))!.revision, 1);
    assert.equal((await store.trust.getMany([])).size, 0);
  });

  suite('what is denied stands once, in the trail, and with the work that it asks for', async (url, t) => {
    const store = await opened(t, url);
    const job = { kind: 'trust-all', dedupeKey: 'trust-all', runAt: T0, payload: {} };
    const later = (ms: number) => ({ ...ADMIN, at: T0 + ms });
    await store.denials.put('d1', { what: 'key', reason: 'lost' }, ADMIN, [job]);
    await store.denials.put('d1', { what: 'key', reason: 'stolen' }, later(1), [job]);
    await store.denials.put('d0', { what: 'image' }, ADMIN, []);
    assert.deepEqual(
      (await store.denials.list()).map(({ id, entry, createdBy }) => [id, entry, createdBy]),
      [
        ['d0', { what: 'image' }, ADMIN.actor],
        ['d1', { what: 'key', reason: 'stolen' }, ADMIN.actor],
      ],
    );
    assert.equal((await store.jobs.lag(T0)).find(({ kind }) => kind === 'trust-all')?.waiting, 1);
    assert.equal(await store.denials.remove('d1', later(2), [job]), true);
    assert.equal(await store.denials.remove('d1', later(3), [job]), false);
    const trail = await store.audit.list({ object: 'deny:d1' }, { cursor: null, limit: 10 });
    assert.deepEqual(
      trail.items.map(({ action, before, after }) => [action, before, after]),
      [
        ['deny.remove', { what: 'key', reason: 'stolen' }, null],
        ['deny.put', { what: 'key', reason: 'lost' }, { what: 'key', reason: 'stolen' }],
        ['deny.put', null, { what: 'key', reason: 'lost' }],
      ],
    );
  });

  suite('every write to results, notes and denials is news to all, and nothing else is', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    assert.equal(await a.trust.version(), '');
    const seen = new Set(['']);
    const isNews = async (act: () => Promise<unknown>, news = true) => {
      await act();
      const version = await b.trust.version();
      assert.equal(!seen.has(version), news);
      seen.add(version);
    };
    const then = { event: null, jobs: [] };
    await isNews(() => a.trust.put(trust(), ADMIN, []));
    await isNews(() => a.trust.put(trust({ revision: 7 }), ADMIN, []), false);
    await isNews(() => a.trust.setNote('root/a', { sha256: 'x' }, ADMIN, then));
    await isNews(() => a.denials.put('d1', { reason: 'lost' }, ADMIN, []));
    await isNews(() => a.denials.remove('d1', ADMIN, []));
    await isNews(() => a.denials.remove('d1', ADMIN, []), false);
    await isNews(() => a.settings.create('other', new Uint8Array(1)), false);
    // All who write meet at one row: none of them is lost.
    const names = Array.from({ length: 8 }, (_, index) => `root/${index}`);
    await Promise.all(names.map((name, index) => [a, b][index % 2]!.trust.setNote(name, index, ADMIN, then)));
    assert.deepEqual(await Promise.all(names.map((name) => b.trust.note(name))), [...names.keys()]);
  });

  suite('a note stands with what happened and the work that it asks for, or not at all', async (url, t) => {
    const store = await opened(t, url);
    const job = { kind: 'trust-all', dedupeKey: 'trust-all', runAt: T0, payload: {} };
    assert.equal(await store.trust.note('root/a'), undefined);
    const event = { action: 'trust-root.use', object: 'trust-root:a', before: null, after: { sha256: 'Ü' } };
    await store.trust.setNote('root/a', { sha256: 'Ü' }, ADMIN, { event, jobs: [job] });
    assert.deepEqual(await store.trust.note('root/a'), { sha256: 'Ü' });
    assert.equal((await store.jobs.lag(T0)).find(({ kind }) => kind === 'trust-all')?.waiting, 1);
    const trail = await store.audit.list({ object: 'trust-root:a' }, { cursor: null, limit: 10 });
    assert.deepEqual(
      trail.items.map(({ action, after }) => [action, after]),
      [['trust-root.use', { sha256: 'Ü' }]],
    );
  });

  suite('a store of schema 1 is brought up, with what it holds', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    await admit(store, 1);
    await backTo(engine, 1);
    const again = await opened(t, url);
    assert.equal((await again.hosts.get(hostId(1)))?.name, 'host-1');
    assert.equal(await again.trust.put(trust(), ADMIN, []), 1);
  });
}
