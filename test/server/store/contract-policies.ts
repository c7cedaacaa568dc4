/** The contract of server/store/store.ts as tests: versions of the policy, the lineage of hosts, ages of images, and a store of the builds before. */
import assert from 'node:assert/strict';
import type { Lineage, NewPolicyVersion, PolicyVersion } from '#server/store/policyrecords.ts';
import { opened, openedEngine, type Suite } from './contract.ts';
import { ADMIN, admit, backTo, commit, digest, hostId, report, T0, walk } from './make.ts';

const version = (name: string): NewPolicyVersion => ({
  digest: digest(name),
  name,
  documents: [{ file: `${name}.yaml`, text: `# Ünïcode\nname: ${name}\n` }],
  origin: 'api',
  place: null,
  commit: null,
  note: 'why',
});
const JOB = { kind: 'policy', dedupeKey: 'policy', runAt: T0, payload: {} };

const LINEAGE: Lineage = {
  images: [
    { image: digest('a'), firstAt: T0 },
    { image: digest('b'), firstAt: T0 + 1 },
  ],
  copies: [['/etc/a\\040b', 'secret', 0]],
};

export function policies(suite: Suite): void {
  suite('policies are numbered from 1, each with its work and its entry in the trail', async (url, t) => {
    const store = await opened(t, url);
    assert.equal(await store.policies.head(), null);
    assert.equal(await store.policies.append(version('one'), null, ADMIN, [JOB]), 1);
    assert.equal(await store.policies.append(version('two'), 1, { ...ADMIN, at: T0 + 1 }, [JOB]), 2);
    assert.equal(await store.policies.head(), 2);
    const two = await store.policies.get(2);
    assert.deepEqual(two, { ...version('two'), n: 2, createdAt: T0 + 1, createdBy: ADMIN.actor });
    assert.equal(await store.policies.get(3), undefined);
    assert.deepEqual(
      (await store.policies.byDigest(digest('one'), 5)).map(({ n }) => n),
      [1],
    );
    assert.deepEqual(
      (await walk<PolicyVersion, { readonly n: number }>((cursor) => store.policies.list({ cursor, limit: 1 }))).map(
        ({ n }) => n,
      ),
      [2, 1],
    );
    assert.equal((await store.jobs.lag(T0)).find(({ kind }) => kind === 'policy')?.waiting, 1);
    const trail = await store.audit.list({ object: 'policy:2' }, { cursor: null, limit: 5 });
    assert.deepEqual(
      trail.items.map(({ action, before, after }) => [
        action,
        (before as { name: string }).name,
        (after as { name: string }).name,
      ]),
      [['policy.apply', 'one', 'two']],
    );
  });

  suite('of many that replace the same policy one does, and the others learn of it', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    await a.policies.append(version('first'), null, ADMIN, []);
    const tries = Array.from({ length: 8 }, (_, index) =>
      [a, b][index % 2]!.policies.append(version(`p${index}`), 1, ADMIN, []),
    );
    const done = (await Promise.all(tries)).filter((n) => n !== undefined);
    assert.deepEqual(done, [2]);
    assert.equal(await a.policies.append(version('late'), null, ADMIN, []), undefined);
    assert.equal(await b.policies.head(), 2);
  });

  suite('the lineage of a host is written with its report, or not at all', async (url, t) => {
    const store = await opened(t, url);
    const { id } = await admit(store, 1);
    assert.equal(await store.lineages.get(id), undefined);
    await commit(store, id, (host) => ({ ...report(host, 'full', T0, '1'), lineage: LINEAGE }));
    assert.deepEqual(await store.lineages.get(id), LINEAGE);
    const host = (await store.hosts.get(id))!;
    const late = {
      ...report(host, 'full', T0, '2'),
      expectRevision: host.revision - 1,
      lineage: { images: [], copies: [] },
    };
    assert.deepEqual(
      (await store.intake([late])).map(({ kind }) => kind),
      ['conflict'],
    );
    assert.deepEqual(await store.lineages.get(id), LINEAGE);
    await commit(store, id, (now) => ({ ...report(now, 'full', T0, '3'), lineage: { ...LINEAGE, copies: [] } }));
    assert.deepEqual((await store.lineages.get(id))!.copies, []);
  });

  suite('when an image was made is told where it is found', async (url, t) => {
    const store = await opened(t, url);
    await store.images.note([{ reported: digest('i'), claim: null }], T0);
    assert.equal((await store.images.find(digest('i')))!.image.madeAt, null);
    await store.imageAges.note(digest('i'), T0 - 1);
    assert.equal((await store.images.find(digest('i')))!.image.madeAt, T0 - 1);
    await store.imageAges.note(digest('i'), null);
    assert.equal((await store.images.find(digest('i')))!.image.madeAt, null);
  });

  suite('a tag is looked up once it is wanted, and knows when it moved; only so many are', async (url, t) => {
    const { imageTags } = await opened(t, url);
    assert.equal(await imageTags.looked('r:1', ['a'], T0), false, 'nobody wants it');
    assert.equal(await imageTags.want('r:1', T0, 2), true);
    assert.equal(await imageTags.want('r:2', T0, 2), true);
    assert.equal(await imageTags.want('r:3', T0, 2), false);
    assert.deepEqual(await imageTags.get('r:1'), {
      reference: 'r:1',
      digests: [],
      movedAt: T0,
      checkedAt: null,
      failure: null,
    });
    assert.deepEqual(
      [
        await imageTags.looked('r:1', ['a'], T0 + 1),
        await imageTags.looked('r:1', ['a'], T0 + 2),
        await imageTags.looked('r:1', ['b'], T0 + 3),
      ],
      [true, false, true],
    );
    await imageTags.failed('r:1', 'SOURCE_NETWORK: down');
    assert.deepEqual(await imageTags.get('r:1'), {
      reference: 'r:1',
      digests: ['b'],
      movedAt: T0 + 3,
      checkedAt: T0 + 3,
      failure: 'SOURCE_NETWORK: down',
    });
    await imageTags.forget('r:1');
    assert.equal(await imageTags.get('r:1'), undefined);
  });

  for (const schema of [1, 2, 3])
    suite(`a store of schema ${schema} takes policies and lineages`, async (url, t) => {
      const { engine, store } = await openedEngine(t, url);
      await admit(store, 1);
      await backTo(engine, schema);
      const again = await opened(t, url);
      assert.equal((await again.hosts.get(hostId(1)))?.name, 'host-1');
      assert.equal(await again.policies.append(version('one'), null, ADMIN, []), 1);
      await commit(again, hostId(1), (host) => ({ ...report(host, 'full', T0, '1'), lineage: LINEAGE }));
      assert.deepEqual(await again.lineages.get(hostId(1)), LINEAGE);
    });

  suite('a store of schema 11 knows afterwards which host ran an image when', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    const stays = [
      { image: digest('a'), from: T0, seq: null, to: T0 + 5, reference: null },
      { image: digest('b'), from: T0 + 9, seq: 3, to: null, reference: 'r:1' },
    ];
    for (const [n, lineage] of [LINEAGE, { ...LINEAGE, stays }].entries()) {
      await admit(store, n + 1);
      await commit(store, hostId(n + 1), (host) => ({ ...report(host, 'full', T0, '1'), lineage }));
    }
    await backTo(engine, 11);
    const again = await opened(t, url);
    const ran = async (image: string, from: number, to: number) => {
      const page = await again.postures.hostsOn([image], { from, to, scope: null }, { cursor: null, limit: 9 });
      return page.items.map(({ id, stays: found }) => [id, ...found]);
    };
    assert.deepEqual(await ran(digest('a'), T0, T0 + 9), [[hostId(2), { from: T0, seq: null, to: T0 + 5 }]]);
    assert.deepEqual(await ran(digest('a'), T0 + 6, T0 + 9), []);
    assert.deepEqual(await ran(digest('b'), T0 + 6, T0 + 10), [[hostId(2), { from: T0 + 9, seq: 3, to: null }]]);
  });
}
