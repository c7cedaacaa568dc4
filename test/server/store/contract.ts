/** The contract of server/store/store.ts as tests: every engine runs all of them. This file: people's ways and machines' identity. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { openEngine, openStore, storeOn } from '#server/store/open.ts';
import { StoreError, type AuditCursor, type Store } from '#server/store/store.ts';
import { processPostgres, type Postgres } from '#test/postgres.ts';
import { rejectsCode } from '#test/throws.ts';
import {
  ADMIN,
  admit,
  commit,
  DAY,
  digest,
  enrolment,
  hostId,
  MINUTE,
  present,
  report,
  sha,
  T0,
  walk,
} from './make.ts';

/** An engine under test: `fresh` makes an empty place and answers its URL. */
export type Place = { readonly name: string; fresh(t: TestContext): Promise<string> };
export type Suite = (title: string, body: (url: string, t: TestContext) => Promise<void>) => void;

/** Tests by this function run once for the engine, each in its own empty place. */
export function suiteOn(place: Place, skip: () => string | undefined | Promise<string | undefined>): Suite {
  return (title, body) => {
    test(`${place.name}: ${title}`, async (t) => {
      const reason = await skip();
      if (reason !== undefined) return t.skip(reason);
      await body(await place.fresh(t), t);
    });
  };
}

/** On PostgreSQL, each in a database with our tables and no rows. */
export function postgresSuite(): Suite {
  const started = processPostgres();
  const skip = async () => {
    const postgres = await started();
    return 'skip' in postgres ? postgres.skip : undefined;
  };
  return suiteOn({ name: 'postgres', fresh: async () => ((await started()) as Postgres).migrated() }, skip);
}

export async function opened(t: TestContext, url: string): Promise<Store> {
  const store = await openStore(url);
  t.after(() => store.close());
  return store;
}

/** With the engine beside it, for tests that look at rows. */
export async function openedEngine(t: TestContext, url: string) {
  const engine = await openEngine(url);
  t.after(() => engine.close());
  return { engine, store: storeOn(engine) };
}

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined) => value && new TextDecoder().decode(value);

const token = (id: string, more: object = {}) => ({
  id,
  hash: sha(id),
  labels: { site: 'a' },
  group: 'lab',
  maxUses: null as number | null,
  expiresAt: T0 + DAY,
  ...more,
});

export function people(suite: Suite): void {
  suite('a setting is created once, whoever comes first, and swapped only from what stands', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    assert.equal(await a.settings.get('key'), undefined);
    const made = await Promise.all([a.settings.create('key', bytes('one')), b.settings.create('key', bytes('two'))]);
    assert.equal(text(made[0]), text(made[1]));
    assert.equal(text(await b.settings.get('key')), text(made[0]));
    assert.equal(await a.settings.swap('key', bytes('other'), bytes('three')), false);
    assert.equal(await a.settings.swap('key', null, bytes('three')), false);
    const swaps = await Promise.all([
      a.settings.swap('key', made[0], bytes('three')),
      b.settings.swap('key', made[0], bytes('four')),
    ]);
    assert.equal(swaps.filter((won) => won).length, 1);
    assert.equal(await a.settings.swap('new', null, bytes('x')), true);
  });

  suite('a token enrols hosts with its labels and group, and counts its uses', async (url, t) => {
    const store = await opened(t, url);
    await store.tokens.create(token('t1'), ADMIN);
    const outcome = await store.tokens.enrol('t1', enrolment(1), T0);
    assert(outcome.kind === 'enrolled');
    assert.deepEqual(await store.hosts.get(hostId(1)), outcome.host);
    assert.deepEqual(outcome.host.labels, { site: 'a' });
    assert.equal(outcome.host.group, 'lab');
    assert.equal(outcome.host.standing.verdict, 'new');
    assert.equal((await store.tokens.get('t1'))?.uses, 1);
    assert.deepEqual(await store.read.hostGroups(), [{ name: 'lab', hosts: 1 }]);
  });

  suite('a token that is unknown, revoked, expired or used up enrols nobody', async (url, t) => {
    const store = await opened(t, url);
    await store.tokens.create(token('once', { maxUses: 1 }), ADMIN);
    await store.tokens.create(token('gone'), ADMIN);
    assert.equal(await store.tokens.revoke('gone', ADMIN), true);
    assert.equal(await store.tokens.revoke('gone', ADMIN), false);
    await store.tokens.enrol('once', enrolment(1), T0);
    const refused = [
      ['nobody', T0, 'token-unknown'],
      ['gone', T0, 'token-revoked'],
      ['once', T0, 'token-used-up'],
    ] as const;
    for (const [id, at, reason] of refused)
      assert.deepEqual(await store.tokens.enrol(id, enrolment(2), at), { kind: 'refused', reason });
    await store.tokens.create(token('old'), ADMIN);
    assert.deepEqual(await store.tokens.enrol('old', enrolment(2), T0 + DAY), {
      kind: 'refused',
      reason: 'token-expired',
    });
    assert.equal(await store.hosts.get(hostId(2)), undefined);
  });

  suite('the same key again is the same host, even when the token is used up or expired', async (url, t) => {
    const store = await opened(t, url);
    await store.tokens.create(token('once', { maxUses: 1 }), ADMIN);
    await store.tokens.enrol('once', enrolment(1), T0);
    const again = await store.tokens.enrol('once', enrolment(1, { hostId: hostId('other') }), T0 + 2 * DAY);
    assert(again.kind === 'same');
    assert.equal(again.host.id, hostId(1));
    assert.equal((await store.tokens.get('once'))?.uses, 1);
    await store.hosts.retire(hostId(1), ADMIN);
    const retired = await store.tokens.enrol('once', enrolment(1), T0);
    assert.deepEqual(retired, { kind: 'refused', reason: 'host-retired' });
  });

  suite('the last use of a token goes to one of two who come at once', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    await a.tokens.create(token('once', { maxUses: 1 }), ADMIN);
    const outcomes = await Promise.all([a, b, a, b].map((store, i) => store.tokens.enrol('once', enrolment(i), T0)));
    assert.deepEqual(outcomes.map(({ kind }) => kind).toSorted(), ['enrolled', 'refused', 'refused', 'refused']);
    assert.equal((await a.tokens.get('once'))?.uses, 1);
  });

  suite('the same machine with another key is pending, never a takeover, also at the same moment', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    await a.tokens.create(token('t1'), ADMIN);
    await a.tokens.create(token('t2'), ADMIN);
    const machineId = 'one-machine';
    const outcomes = await Promise.all([
      a.tokens.enrol('t1', enrolment(1, { machineId }), T0),
      b.tokens.enrol('t2', enrolment(2, { machineId }), T0),
    ]);
    assert.deepEqual(outcomes.map(({ kind }) => kind).toSorted(), ['enrolled', 'pending']);
    const pending = outcomes.find((outcome) => outcome.kind === 'pending');
    const enrolled = outcomes.find((outcome) => outcome.kind === 'enrolled');
    assert(pending?.kind === 'pending' && enrolled?.kind === 'enrolled');
    assert.equal(pending.heldBy, enrolled.host.id);
    assert.equal((await b.hosts.get(pending.host.id))?.state, 'pending');
    assert.equal((await b.hosts.get(enrolled.host.id))?.state, 'active');

    assert.equal(await a.hosts.approve(pending.host.id, ADMIN, ['x']), 'beyond');
    assert.equal(await a.hosts.approve(pending.host.id, ADMIN, null), true);
    assert.equal(await a.hosts.approve(pending.host.id, ADMIN, null), false);
    assert.equal((await b.hosts.get(pending.host.id))?.state, 'active');
    assert.equal((await b.hosts.get(enrolled.host.id))?.state, 'retired');
    const readied = await b.read.hosts({ now: T0 }, 'name', { cursor: null, limit: 10 });
    assert.deepEqual(
      readied.items.map(({ id }) => id),
      [pending.host.id],
    );
  });

  suite(
    'a retired host resolves its findings, leaves its images, and takes no write that was judged before',
    async (url, t) => {
      const store = await opened(t, url);
      const host = await admit(store, 1);
      const full = report(host, 'full');
      await commit(store, host.id, () => ({
        ...full,
        findings: [present(1), present(2, 4)],
        images: { booted: 'sha256:x', staged: null, rollback: null },
      }));
      const before = (await store.hosts.get(host.id))!;
      assert.equal(await store.hosts.retire(host.id, ADMIN), true);
      assert.equal(await store.hosts.retire(host.id, ADMIN), false);
      const after = (await store.hosts.get(host.id))!;
      assert.equal(after.state, 'retired');
      assert.deepEqual(after.counters.open, [0, 0, 0, 0, 0]);
      assert.equal(after.images.booted, null);
      assert.deepEqual(await store.findings.present(host.id), []);
      const [finding] = (await store.read.hostFindings(host.id, 'resolved', { cursor: null, limit: 5 })).items;
      const [episode] = await store.findings.episodes(host.id, finding!.groupId);
      assert.equal(episode?.reason, 'host_retired');
      assert.deepEqual(await store.intake([report(before, 'same')]), [{ kind: 'conflict' }]);
      assert.deepEqual(await store.read.verdicts(T0), []);
    },
  );

  suite('group, labels and name are changed and found again, each with one entry in the trail', async (url, t) => {
    const store = await opened(t, url);
    const host = await admit(store, 1);
    await admit(store, 2);
    assert.equal(await store.hosts.setGroup(host.id, 'edge', ADMIN), true);
    assert.equal(await store.hosts.setLabels(host.id, { rack: '7' }, ADMIN), true);
    assert.equal(await store.hosts.rename(host.id, 'Zebra', ADMIN), true);
    assert.equal(await store.hosts.rename(hostId('none'), 'x', ADMIN), false);
    const after = (await store.hosts.get(host.id))!;
    assert.deepEqual([after.group, after.labels, after.name], ['edge', { rack: '7' }, 'Zebra']);
    const filters = [{ group: 'edge' }, { label: { key: 'rack', value: '7' } }, { namePrefix: 'zEB' }];
    for (const filter of filters) {
      const { items } = await store.read.hosts({ now: T0, ...filter }, 'name', { cursor: null, limit: 9 });
      assert.deepEqual(
        items.map(({ id }) => id),
        [host.id],
      );
    }
    const trail = await walk((cursor: AuditCursor | null) =>
      store.audit.list({ object: `host:${host.id}` }, { cursor, limit: 2 }),
    );
    assert.deepEqual(trail.map(({ action }) => action).toSorted(), [
      'host.enrol',
      'host.group',
      'host.labels',
      'host.rename',
    ]);
    const renamed = trail.find(({ action }) => action === 'host.rename')!;
    assert.deepEqual(renamed.before, { name: 'host-1', group: 'edge', labels: { rack: '7' } });
    assert.deepEqual(renamed.after, { name: 'Zebra', group: 'edge', labels: { rack: '7' } });
  });

  suite('the trail names who did it and never holds a token hash', async (url, t) => {
    const store = await opened(t, url);
    await store.tokens.create(token('t1'), { actor: 'ann', at: T0, note: 'for the lab' });
    await store.tokens.create(token('t1'), { actor: 'ann', at: T0 });
    await store.tokens.revoke('t1', { actor: 'bob', at: T0 + 1 });
    const all = await walk((cursor: AuditCursor | null) => store.audit.list({}, { cursor, limit: 1 }));
    assert.deepEqual(
      all.map(({ actor, action }) => [actor, action]),
      [
        ['bob', 'token.revoke'],
        ['ann', 'token.create'],
      ],
    );
    assert.equal(all[1]!.note, 'for the lab');
    assert(!JSON.stringify(all).includes(sha('t1')));
    const bobs = await store.audit.list({ actor: 'bob' }, { cursor: null, limit: 5 });
    assert.equal(bobs.items.length, 1);
    await store.audit.append(ADMIN, { action: 'session.login', object: 'user:ann', before: null, after: null });
    assert.equal((await store.audit.list({ object: 'user:ann' }, { cursor: null, limit: 5 })).items.length, 1);
  });

  suite('refusals are counted by host and code, with the last detail', async (url, t) => {
    const store = await opened(t, url);
    const at = (n: number, hostId: string, code: string) => ({ hostId, code, at: T0 + n, detail: `no ${n}` });
    await store.hosts.refuse([at(1, 'h', 'A'), at(2, 'h', 'A'), at(3, '', 'UNKNOWN')]);
    await store.hosts.refuse([at(4, 'h', 'A'), at(5, 'h', 'B')]);
    const told = await store.read.refusals('h');
    assert.deepEqual(told, [
      { hostId: 'h', code: 'A', count: 3, firstAt: T0 + 1, lastAt: T0 + 4, detail: 'no 4' },
      { hostId: 'h', code: 'B', count: 1, firstAt: T0 + 5, lastAt: T0 + 5, detail: 'no 5' },
    ]);
    assert.equal((await store.read.refusals('')).length, 1);
  });

  suite('jobs: one waits under a key, leases expire, and what is asked for meanwhile runs again', async (url, t) => {
    const store = await opened(t, url);
    const job = (key: string, runAt: number, payload: unknown = key) => ({ kind: 'k', dedupeKey: key, runAt, payload });
    await store.jobs.enqueue([job('a', T0 + 10), job('a', T0 + 5, 'newer'), job('b', T0 + 6), job('c', T0 + 99)]);
    await store.jobs.enqueue([job('b', T0 + 50)]);
    assert.deepEqual(await store.jobs.take(['k'], T0 + 4, MINUTE, 9), []);
    assert.deepEqual(await store.jobs.take(['other'], T0 + 9, MINUTE, 9), []);
    const taken = await store.jobs.take(['k'], T0 + 9, MINUTE, 9);
    assert.deepEqual(
      taken.map(({ dedupeKey, runAt, attempts }) => [dedupeKey, runAt, attempts]),
      [
        ['a', T0 + 5, 1],
        ['b', T0 + 6, 1],
      ],
    );
    const [a, b] = [taken[0]!, taken[1]!];
    assert.deepEqual(await store.jobs.take(['k'], T0 + 10, MINUTE, 9), [], 'leased');

    await store.jobs.enqueue([job('a', T0 + 20)]);
    assert.equal(await store.jobs.finish(a), true);
    assert.equal(await store.jobs.finish(a), false);
    assert.equal(await store.jobs.finish(b), true);
    const again = await store.jobs.take(['k'], T0 + 20, MINUTE, 9);
    assert.deepEqual(
      again.map(({ dedupeKey, attempts }) => [dedupeKey, attempts]),
      [['a', 1]],
    );

    const lost = again[0]!;
    assert.equal(await store.jobs.extend(lost, T0 + 2 * MINUTE), true);
    const keys = async (at: number) => {
      const held = await store.jobs.take(['k'], at, MINUTE, 9);
      return { held, keys: held.map(({ dedupeKey }) => dedupeKey) };
    };
    assert.deepEqual((await keys(T0 + MINUTE + 21)).keys, ['c'], 'the lease of a was extended');
    const [retaken] = (await keys(T0 + 2 * MINUTE)).held;
    assert.equal(retaken?.dedupeKey, 'a');
    assert.equal(retaken?.attempts, 2);
    assert.equal(await store.jobs.finish(lost), false, 'the lease was lost');
    assert.equal(await store.jobs.extend(lost, T0 + DAY), false);
    assert.equal(await store.jobs.fail(retaken, T0 + 2 * MINUTE + 1, 'no network'), true);
    const [third] = (await keys(T0 + 2 * MINUTE + 1)).held;
    assert.deepEqual([third?.dedupeKey, third?.attempts, third?.lastError], ['a', 3, 'no network']);
    assert.equal(await store.jobs.fail(third!, null, 'gave up'), true);
    assert.deepEqual((await keys(T0 + DAY)).keys, ['c'], 'a was given up');
  });

  suite('two takers never hold the same job', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    await a.jobs.enqueue(
      Array.from({ length: 60 }, (_, i) => ({ kind: 'k', dedupeKey: `j${i}`, runAt: T0, payload: i })),
    );
    const takes = await Promise.all(
      Array.from({ length: 20 }, (_, i) => (i % 2 ? a : b).jobs.take(['k'], T0, MINUTE, 5)),
    );
    let held = takes.flat();
    // SKIP LOCKED may leave a taker with less than it asked for: what is left is there for the next.
    for (let more = held; more.length > 0; held = [...held, ...more])
      more = [...(await a.jobs.take(['k'], T0, MINUTE, 5))];
    assert.equal(new Set(held.map(({ id }) => id)).size, held.length);
    assert.equal(held.length, 60);
  });

  suite('an image is noted once, with one job; failure and success are kept; aliases lead to it', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    const config = digest('config');
    const noted = await Promise.all([
      a.images.note([{ reported: config, claim: 'quay.io/a' }], T0),
      b.images.note([{ reported: config, claim: 'quay.io/b' }], T0),
    ]);
    assert.deepEqual(noted.flat(), [config]);
    assert.deepEqual(await a.images.note([{ reported: config, claim: null }], T0), []);
    const [job] = await a.jobs.take(['build'], T0, MINUTE, 9);
    assert.deepEqual(job?.payload, { digest: config });
    assert.equal(await a.images.building(config, T0), true);
    assert.equal(await a.images.building(digest('none'), T0), false);
    const reasons = [{ code: 'IMAGE_SOURCE_NOT_ALLOWED', text: 'allow it' }];
    await a.images.failed(config, { reasons, nextTry: T0 + DAY });
    assert.deepEqual((await a.images.find(config))?.image.reasons, reasons);
    await a.jobs.finish(job);

    await a.images.note([{ reported: digest('nowhere'), claim: null }], T0);
    assert.equal(await a.images.drop(digest('nowhere')), true);
    assert.equal(await b.images.find(digest('nowhere')), undefined);
    assert.equal(await a.images.drop(digest('nowhere')), false);

    await a.sources.allow('quay.io/*', { plainHttp: false }, ADMIN);
    assert.equal((await b.images.find(config))?.image.state, 'pending');
    assert.equal((await b.jobs.take(['build'], T0, MINUTE, 9)).length, 1);
    assert.deepEqual(
      (await b.sources.list()).map(({ pattern, options }) => [pattern, options]),
      [['quay.io/*', { plainHttp: false }]],
    );

    await a.blobs.put({ key: sha('text'), encoding: 'zstd', bytes: bytes('text') });
    await a.blobs.put({ key: sha('text'), encoding: 'identity', bytes: bytes('other') });
    assert.equal(text((await b.blobs.get(sha('text')))?.bytes), 'text');
    assert.equal(await b.blobs.has(sha('none')), false);
    const own = digest('manifest');
    await a.images.note([{ reported: own, claim: 'quay.io/a' }], T0 + 1);
    const tree = {
      main: { full: digest('f'), comparison: digest('c') },
      extra: digest('e'),
      entries: 3,
      mainBlob: sha('text'),
      extraBlob: sha('text'),
    };
    const manifest = (header: string) => ({
      image: own,
      rule: 'ostree/1',
      header: bytes(header),
      trees: { usr: tree, etc: tree },
      builtAt: T0,
    });
    const built = {
      asked: config,
      digest: own,
      config,
      aliases: [
        { alias: config, kind: 'config' as const },
        { alias: own.slice(7), kind: 'bare-hex' as const },
      ],
      repository: 'quay.io/a',
      version: '41',
      warnings: [],
      at: T0 + 2,
    };
    await a.images.ready({ ...built, manifests: [manifest('first')] });
    await b.images.ready({ ...built, manifests: [manifest('second')] });
    for (const [name, via] of [
      [own, 'digest'],
      [config, 'config'],
      [own.slice(7), 'bare-hex'],
    ] as const) {
      const found = await b.images.find(name);
      assert.deepEqual([found?.image.digest, found?.image.state, found?.via], [own, 'ready', via]);
    }
    const { image } = (await b.images.find(own))!;
    assert.deepEqual(image.claims.toSorted(), ['quay.io/a', 'quay.io/b']);
    assert.deepEqual(image.repositories, ['quay.io/a']);
    assert.equal(text((await b.images.manifest(own, 'ostree/1'))?.header), 'first', 'manifests are immutable');
    assert.deepEqual((await b.images.manifests(own))[0]?.trees, { usr: tree, etc: tree });
    await a.images.failed(own, { reasons, nextTry: null });
    assert.equal((await a.images.find(own))?.image.state, 'ready', 'what was built stays');
    assert.equal(await a.images.building(own, T0), false);
    assert.equal((await a.read.images({}, { cursor: null, limit: 9 })).items.length, 1);
    assert.equal((await a.read.aliases(own)).length, 2);
    assert.equal(await a.sources.forbid('quay.io/*', ADMIN), true);
    assert.equal(await a.sources.forbid('quay.io/*', ADMIN), false);
  });

  suite('text with a NUL is refused, and nothing of that write remains', async (url, t) => {
    const store = await opened(t, url);
    await rejectsCode(() => admit(store, 1, { name: 'a\0b' }), StoreError, 'STORE_TEXT');
    assert.equal(await store.hosts.get(hostId(1)), undefined);
    await admit(store, 1);
  });

  suite('a closed store says so, and closing waits for what is under way', async (url) => {
    const store = await openStore(url);
    const writes = Array.from({ length: 10 }, (_, i) => admit(store, i));
    const closing = store.close();
    await Promise.all(writes);
    await closing;
    await store.close();
    await rejectsCode(() => store.ping(), StoreError, 'STORE_CLOSED');
    await rejectsCode(() => store.settings.create('x', bytes('y')), StoreError, 'STORE_CLOSED');
    const again = await openStore(url);
    assert.equal((await again.read.countHosts({ now: T0 }, 100)).count, 10);
    await again.close();
  });
}
