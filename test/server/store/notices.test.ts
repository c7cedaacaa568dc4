/** The outbox on both engines: written with the change that it tells, only where a channel wants it, told once, and whole after a kill. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CompiledQuery, type Kysely, type KyselyPlugin } from 'kysely';
import { NOTICE_WAIT_MS } from '#src/limits.ts';
import type { NewDelivery, Routing } from '#server/store/noticerecords.ts';
import type { Engine } from '#server/store/engine.ts';
import { storeOn } from '#server/store/open.ts';
import type { Tables } from '#server/store/tables.ts';
import type { Act, FindingChange } from '#server/store/records.ts';
import type { HostWrite, Store } from '#server/store/store.ts';
import { migratedSqlite } from '#test/sqlite.ts';
import { opened, openedEngine, postgresSuite, suiteOn, type Suite } from './contract.ts';
import {
  absent,
  ADMIN,
  admit,
  backTo,
  channel,
  commit,
  DAY,
  digest,
  groupId,
  hostId,
  present,
  report,
  T0,
} from './make.ts';

const make = async (store: Store, name: string, routing: Partial<Routing> = {}): Promise<void> =>
  store.notices.create(channel(name, routing), ADMIN, [], []);

const later = T0 + DAY;
/** What a channel has waiting, as short lines. */
async function waiting(store: Store, name: string): Promise<string[]> {
  const rows = await store.notices.pending(`c_${name}`, later, 1000);
  return rows.map(({ topic, transition, hosts }) => {
    const what = topic.replace(groupId(1), '1').replace(groupId(2), '2');
    return `${what} ${transition} ${hosts.map((host) => host.name).join(',')}`.trim();
  });
}

const sees = (store: Store, n: number, at: number, ...findings: FindingChange[]) =>
  commit(store, hostId(n), (host) => ({ ...report(host, 'full', at), findings }));

const standing = (host: { standing: object }, verdict: string): HostWrite['standing'] =>
  ({ ...host.standing, verdict, rank: 1, since: T0 }) as HostWrite['standing'];

const delivery = (id: string, more: Partial<NewDelivery> = {}): NewDelivery => ({
  id,
  channelId: 'c_all',
  topic: `finding:${groupId(1)}`,
  transition: 'new',
  episode: 1,
  n: 1,
  severity: 3,
  createdAt: T0,
  notice: { text: id },
  hosts: 1,
  ended: false,
  ...more,
});

function outboxes(suite: Suite): void {
  suite('nothing is written where nobody wants to hear of it', async (url, t) => {
    const store = await opened(t, url);
    for (const n of [1, 2]) await admit(store, n);
    await sees(store, 1, T0, present(1));
    await make(store, 'severe', { minSeverity: 4 });
    await make(store, 'verdicts', { events: ['host.verdict'] });
    await make(store, 'elsewhere', { hosts: { groups: ['prod'], labels: [] } });
    await make(store, 'labelled', { hosts: { groups: null, labels: [{ key: 'site', value: 'b' }] } });
    const off = { ...channel('off'), state: 'disabled' as const };
    await store.notices.create(off, ADMIN, [], []);
    await sees(store, 2, T0 + 1, present(1));
    for (const name of ['severe', 'verdicts', 'elsewhere', 'labelled', 'off'])
      assert.deepEqual(await waiting(store, name), [], name);
    assert.deepEqual(await store.jobs.lag(T0), []);
  });

  suite('each transition is written once, with its hosts and the job that tells it', async (url, t) => {
    const store = await opened(t, url);
    await make(store, 'all');
    for (const n of [1, 2, 3]) await admit(store, n);
    const hosts = await store.hosts.getMany([1, 2].map(hostId));
    await store.intake(
      [...hosts.values()].map((host) => ({ ...report(host, 'full', T0 + 10), findings: [present(1)] })),
    );
    const [first] = await store.notices.pending('c_all', later, 10);
    assert.deepEqual(
      new Set(first!.hosts.map(({ name, episode }) => `${name} ${episode}`)),
      new Set(['host-1 1', 'host-2 1']),
    );
    assert.deepEqual(await store.jobs.lag(T0), [
      { kind: 'notice.tell', waiting: 1, running: 0, oldest: T0 + 10 + NOTICE_WAIT_MS },
    ]);
    // Seen again: nothing. Gone, and back: both.
    await sees(store, 1, T0 + 20, present(1), present(2));
    await sees(store, 1, T0 + 30, absent(1), present(2));
    await sees(store, 1, T0 + 40, present(1), present(2));
    assert.deepEqual((await waiting(store, 'all')).slice(1), [
      'finding:2 new host-1',
      'finding:1 resolved host-1',
      'finding:1 regressed host-1',
    ]);
  });

  suite('what a waiver covers from the first is not told; its end is', async (url, t) => {
    const store = await opened(t, url);
    await make(store, 'all');
    await admit(store, 1);
    const waived = { groupId: groupId(1), to: { kind: 'waived', waiverId: 'W-1', until: T0 + DAY } } as const;
    await commit(store, hostId(1), (host) => ({
      ...report(host, 'full', T0 + 1),
      findings: [present(1)],
      disposals: [waived],
    }));
    assert.deepEqual(await waiting(store, 'all'), []);
    const why = { how: 'waiver_expired', what: 'W-1', at: T0 + 2 } as const;
    await commit(store, hostId(1), (host) => ({
      hostId: host.id,
      expectRevision: host.revision,
      at: T0 + 2,
      disposals: [{ groupId: groupId(1), to: { kind: 'none', why } }],
    }));
    const [row] = await store.notices.pending('c_all', later, 10);
    assert.deepEqual([row!.transition, row!.facts], ['returned', { why: 'waiver_expired' }]);
  });

  suite('verdicts are told as they change, silence too, and a good first one is not', async (url, t) => {
    const store = await opened(t, url);
    await make(store, 'all');
    await admit(store, 1);
    const say = (at: number, more: (host: Parameters<typeof report>[0]) => Partial<HostWrite>) =>
      commit(store, hostId(1), (host) => ({ ...report(host, 'same', at), ...more(host) }));
    await say(T0 + 1, (host) => ({ standing: standing(host, 'compliant')! }));
    assert.deepEqual(await waiting(store, 'all'), []);
    await say(T0 + 2, (host) => ({ standing: standing(host, 'drifted')! }));
    await say(T0 + 3, (host) => ({ freshness: { ...host.freshness, silenceNoted: true } }));
    await say(T0 + 4, (host) => ({ freshness: { ...host.freshness, silenceNoted: false } }));
    await say(T0 + 5, (host) => ({ standing: standing(host, 'compliant')! }));
    assert.deepEqual(await waiting(store, 'all'), [
      'verdict:drifted drifted host-1',
      'verdict:silent silent host-1',
      'verdict:drifted drifted host-1',
      'verdict:compliant compliant host-1',
    ]);
  });

  suite('a host is heard by its group, those below it, and its labels', async (url, t) => {
    const store = await opened(t, url);
    await make(store, 'prod', { hosts: { groups: ['prod'], labels: [{ key: 'site', value: 'a' }] } });
    for (const [n, group] of [
      [1, 'prod'],
      [2, 'prod/web'],
      [3, 'production'],
    ] as const) {
      await admit(store, n);
      await store.hosts.setGroup(hostId(n), group, ADMIN);
      await store.hosts.setLabels(hostId(n), { site: n === 1 ? 'b' : 'a' }, ADMIN);
      await sees(store, n, T0 + n, present(1));
    }
    assert.deepEqual(await waiting(store, 'prod'), ['finding:1 new host-2']);
    const { routing } = (await store.notices.channel('c_prod'))!;
    assert.deepEqual((await store.notices.groupNow(groupId(1), routing.hosts))!.hosts, {
      open: 1,
      acknowledged: 0,
      waived: 0,
    });
    assert.equal((await store.notices.groupNow(groupId(1), channel('any').routing.hosts))!.hosts.open, 3);
  });

  suite('a new host and a finding that flaps are held back', async (url, t) => {
    const store = await opened(t, url);
    await make(store, 'all', { graceMs: 1000 });
    await admit(store, 1);
    await sees(store, 1, T0 + 10, present(1));
    assert.deepEqual(await store.notices.pending('c_all', T0 + 999, 10), []);
    assert.equal(await store.notices.nextReady('c_all', T0 + 999), T0 + 1000);
    assert.equal((await store.notices.pending('c_all', T0 + 1000, 10)).length, 1);
    for (const [i, change] of [absent(1), present(1), absent(1), present(1)].entries())
      await sees(store, 1, T0 + 2000 + i, change);
    const held = (await store.notices.pending('c_all', T0 + 2 * DAY, 10)).filter(({ readyAt }) => readyAt > T0 + DAY);
    assert.ok(held.length > 0);
  });

  suite('what happens to an image is told with the write that says so', async (url, t) => {
    const store = await opened(t, url);
    await make(store, 'all');
    await make(store, 'prod', { hosts: { groups: ['prod'], labels: [] } });
    const trust = {
      image: digest('image'),
      revision: 0,
      basis: { policy: digest('p'), roots: digest('r'), deny: digest('d') },
      state: 'trusted',
      since: T0,
      verifiedAt: T0,
      lookedAt: T0,
      unreachableSince: null,
      vanishedAt: null,
      told: {},
      kept: [],
      indexes: [],
      lastGood: null,
    } as const;
    const event = { action: 'trust.change', object: `image:${digest('image')}`, before: null, after: {} };
    await store.trust.put(trust, ADMIN, [event]);
    assert.deepEqual(await waiting(store, 'all'), [], 'trusted at first sight');
    await store.trust.put({ ...trust, revision: 1, state: 'rejected' }, ADMIN, [{ ...event, before: {} }]);
    assert.equal(await store.trust.put({ ...trust, revision: 1 }, ADMIN, [event]), undefined);
    assert.deepEqual(await waiting(store, 'all'), [`image:${digest('image')} trust.change`]);
    assert.deepEqual(await waiting(store, 'prod'), [], 'an image is in no host group');
  });

  suite('of two that tell the same, one does', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    await make(a, 'all');
    await admit(a, 1);
    await sees(a, 1, T0 + 1, present(1));
    const ids = (await a.notices.pending('c_all', later, 10)).map(({ id }) => id);
    const job = { kind: 'k', dedupeKey: 'k', runAt: T0, payload: {} };
    const done = await Promise.all([
      a.notices.tell('c_all', { ids }, delivery('d_1'), [job]),
      b.notices.tell('c_all', { ids }, delivery('d_2'), [job]),
    ]);
    assert.deepEqual(new Set(done), new Set([false, true]));
    assert.deepEqual(await a.notices.pending('c_all', later, 10), []);
    assert.equal((await a.notices.deliveries({}, { cursor: null, limit: 10 })).items.length, 1);
    // The key that a receiver drops repeats by stands once.
    await sees(a, 1, T0 + 2, present(2));
    const more = (await a.notices.pending('c_all', later, 10)).map(({ id }) => id);
    await assert.rejects(a.notices.tell('c_all', { ids: more }, delivery('d_3'), []));
    assert.equal((await a.notices.pending('c_all', later, 10)).length, 1, 'all of it or nothing');
    assert.equal(await a.notices.tell('c_all', { readyBy: later }, delivery('d_3', { n: 2 }), []), true);
    assert.equal((await a.notices.last('c_all', [`finding:${groupId(1)}`])).size, 1);
  });

  suite('deliveries are attempted in turn, given up, sent again, and forgotten in their time', async (url, t) => {
    const store = await opened(t, url);
    await make(store, 'all');
    await store.notices.add(delivery('d_1'), null, []);
    const by: Act = { actor: 'job:notice', at: T0 + 2 };
    const [due] = await store.notices.due('c_all', T0, 10);
    const failed = { state: 'waiting', nextAt: T0 + 5000, status: 500, error: 'HTTP 500' } as const;
    assert.equal(await store.notices.attempted(due!, failed, T0 + 1, null), true);
    assert.equal(await store.notices.attempted(due!, failed, T0 + 1, null), false, 'somebody attempted it since');
    assert.deepEqual(await store.notices.due('c_all', T0 + 4999, 10), []);
    assert.equal(await store.notices.nextDue('c_all'), T0 + 5000);
    const [again] = await store.notices.due('c_all', T0 + 5000, 10);
    assert.equal(again!.attempts, 1);
    const gone = { state: 'dead', nextAt: null, status: 410, error: 'HTTP 410' } as const;
    assert.equal(await store.notices.attempted(again!, gone, T0 + 2, { by, why: 'it answered 410 Gone' }), true);
    const off = (await store.notices.channel('c_all'))!;
    assert.deepEqual([off.state, off.disabledWhy], ['disabled', 'it answered 410 Gone']);
    assert.deepEqual(await store.notices.count(), { waiting: 0, delivered: 0, dead: 1 });
    assert.equal(await store.notices.resend('d_1', { actor: 'admin', at: T0 + 3 }, []), true);
    assert.equal(await store.notices.resend('d_1', { actor: 'admin', at: T0 + 3 }, []), false, 'it waits already');
    const [third] = await store.notices.due('c_all', T0 + 3, 10);
    await store.notices.attempted(third!, { state: 'delivered', nextAt: null, status: 204, error: null }, T0 + 4, null);
    await store.notices.sweep({ told: T0 + 1, delivered: T0 + 1, dead: 0, reminded: 0 });
    assert.deepEqual(await store.notices.count(), { waiting: 0, delivered: 0, dead: 0 });
    // How many there were stays known: of forgotten days, and of a channel that is removed. Of tests and images nothing is counted.
    const day = Math.floor(T0 / 86_400_000) * 86_400_000;
    const outcomes = (from: number, to: number) => store.notices.outcomes({ from, to });
    assert.deepEqual(await outcomes(day, day + 1), { delivered: 1, failed: 0 });
    assert.deepEqual(await outcomes(day + 1, later), { delivered: 0, failed: 0 }, 'the day began before');
    for (const [id, more, state] of [
      ['d_2', { n: 2 }, 'delivered'],
      ['d_3', { topic: `verdict:drifted`, n: 3 }, 'dead'],
      ['d_4', { topic: `image:${digest('image')}`, n: 4 }, 'delivered'],
      ['d_5', { n: 5 }, undefined],
    ] as const) {
      const made = delivery(id, more);
      await store.notices.add(made, null, []);
      if (state === undefined) continue;
      const came = { state, nextAt: null, status: null, error: null };
      assert.equal(await store.notices.attempted({ ...made, attempts: 0 }, came, T0 + 5, null), true);
    }
    const [due5] = await store.notices.due('c_all', T0, 1);
    assert.equal(due5!.id, 'd_5');
    assert.deepEqual(await outcomes(day, later), { delivered: 2, failed: 1 });
    assert.deepEqual(await outcomes(T0 + 1, later), { delivered: 0, failed: 0 });
    await store.notices.remove('c_all', ADMIN);
    assert.deepEqual(await outcomes(day, later), { delivered: 2, failed: 1 });
  });

  suite('a channel is changed on what was read, and its secret is in no trail', async (url, t) => {
    const store = await opened(t, url);
    await make(store, 'all');
    const read = (await store.notices.channel('c_all'))!;
    assert.equal(await store.notices.put({ ...read, name: 'ops', revision: 2 }, ADMIN, 'channel.change'), true);
    assert.equal(await store.notices.put({ ...read, name: 'dev', revision: 2 }, ADMIN, 'channel.change'), false);
    assert.equal(await store.notices.remove('c_all', ADMIN), true);
    assert.equal(await store.notices.remove('c_all', ADMIN), false);
    const { items } = await store.audit.list({ object: 'channel:c_all' }, { cursor: null, limit: 10 });
    assert.deepEqual(items.map(({ action }) => action).sort(), ['channel.change', 'channel.create', 'channel.remove']);
    assert.doesNotMatch(JSON.stringify(items), /s3cret/);
  });

  suite('nothing that is asked again and again walks a whole table or sorts it', async (url, t) => {
    const { engine } = await openedEngine(t, url);
    const queries: CompiledQuery[] = [];
    const recording: Engine = {
      ...engine,
      reading: (work) =>
        engine.reading((db, select) => {
          const plain = db as unknown as Kysely<Tables>;
          const recorder: KyselyPlugin = {
            transformQuery({ node, queryId }) {
              queries.push(plain.getExecutor().compileQuery(node, queryId));
              return node;
            },
            transformResult: async ({ result }) => result,
          };
          return work(plain.withPlugin(recorder) as unknown as typeof db, select);
        }),
    };
    const { notices } = storeOn(recording);
    const page = { cursor: { id: 'msg_x' }, limit: 50 };
    await notices.pending('c_all', T0, 10);
    await notices.nextReady('c_all', T0);
    await notices.lately('c_all', T0, { at: T0, id: 'x' }, 10);
    await notices.last('c_all', ['finding:x']);
    await notices.due('c_all', T0, 10);
    await notices.nextDue('c_all');
    await notices.deliveries({}, page);
    await notices.deliveries({ state: 'dead' }, page);
    await notices.deliveries({ channelId: 'c_all' }, page);
    await notices.groupNow(groupId(1), { groups: ['prod'], labels: [{ key: 'a', value: 'b' }] });
    assert.equal(queries.length, 10);
    for (const query of queries) {
      const plan = await explain(engine, query);
      assert.doesNotMatch(plan, /SCAN (?:outbox|finding|host|host_label)\b|Seq Scan/, `${query.sql}\n${plan}`);
      // Findings of one group are counted by what people decided; nothing else is sorted.
      if (!query.sql.includes('count(')) assert.doesNotMatch(plan, /TEMP B-TREE|\bSort\b/, `${query.sql}\n${plan}`);
    }
  });

  suite('a store of each older schema gains its channels', async (url, t) => {
    for (const version of [1, 2, 3, 4, 5]) {
      const { engine, store } = await openedEngine(t, url);
      await backTo(engine, version);
      await store.close();
      const upgraded = await opened(t, url);
      assert.deepEqual(await upgraded.notices.channels(), []);
      await upgraded.close();
    }
  });

  suite(
    'a store of the schemas before keeps its channels and groups, and takes what people decide now',
    async (url, t) => {
      const { engine, store } = await openedEngine(t, url);
      await admit(store, 1);
      await make(store, 'old');
      await sees(store, 1, T0, present(1));
      for (const version of [6, 9]) {
        await backTo(engine, version);
        const upgraded = await opened(t, url);
        const [old] = await upgraded.notices.channels();
        assert.deepEqual([old?.name, old?.conditionError, old?.routing.condition], ['old', null, undefined]);
        const ack = { by: 'mira', at: T0, until: later, note: null, scope: null };
        const entry = { action: 'group.acknowledge', object: `group:${groupId(1)}`, before: null, after: null };
        assert.equal(await upgraded.findings.acknowledgeGroup(groupId(1), ack, ADMIN, entry), true);
        assert.equal((await upgraded.findings.acknowledgements([groupId(1)], T0)).get(groupId(1))?.[0]?.by, 'mira');
        await upgraded.policies.setControls([{ control: 'nist-800-53:SI-7', rule: 'usr-modified' }]);
        const line = [{ field: 'control', negated: false, values: ['nist-800-53'] }] as const;
        assert.equal((await upgraded.read.countGroups({ line }, 10)).count, 1);
        await upgraded.close();
      }
    },
  );

  suite('whoever is killed at any moment leaves a change and its notice, or neither', async (url, t) => {
    const store = await opened(t, url);
    await make(store, 'all');
    for (let round = 0; round < 3; round++) {
      const child = spawn(process.execPath, [join(import.meta.dirname, 'writer.ts'), url, `round ${round}`, '4'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      t.after(() => child.kill('SIGKILL'));
      let out = '';
      child.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
      while (out.split('\n').length < 20 && child.exitCode === null) await sleep(10);
      await sleep(11 * round);
      const gone = once(child, 'close');
      child.kill('SIGKILL');
      await gone;
      for (let n = 0; n < 4; n++) await isTold(store, hostId(`round ${round} ${n}`));
    }
  });
}

/** As contract-lists.ts does it: with sorting made dear, small tables show whether an index gives the order. */
async function explain(engine: Engine, query: CompiledQuery): Promise<string> {
  const verb = engine.kind === 'sqlite' ? 'explain query plan' : 'explain';
  const { rows } = await engine.write(async ({ db }) => {
    if (engine.kind === 'postgres')
      for (const way of ['sort', 'seqscan', 'bitmapscan'])
        await db.executeQuery(CompiledQuery.raw(`set local enable_${way} = off`));
    return db.executeQuery(CompiledQuery.raw(`${verb} ${query.sql}`, [...query.parameters]));
  });
  return (rows as Record<string, unknown>[]).map((row) => String(row['detail'] ?? row['QUERY PLAN'])).join('\n');
}

/** Every opening and every end of each episode of a host has exactly one line in the outbox. */
async function isTold(store: Store, host: string): Promise<void> {
  const lines: string[] = [];
  let before: { at: number; id: string } | null = null;
  for (;;) {
    const rows = await store.notices.lately('c_all', 0, before, 500);
    for (const { topic, transition, hosts } of rows)
      for (const told of hosts) if (told.id === host) lines.push(`${topic} ${transition} ${told.episode}`);
    const end = rows.at(-1);
    if (end === undefined) break;
    before = { at: end.at, id: end.id };
  }
  const expected: string[] = [];
  for (const n of [0, 1, 2])
    for (const episode of await store.findings.episodes(host, groupId(n))) {
      expected.push(`finding:${groupId(n)} ${episode.n === 1 ? 'new' : 'regressed'} ${episode.n}`);
      if (episode.closedAt !== null) expected.push(`finding:${groupId(n)} resolved ${episode.n}`);
    }
  assert.ok(expected.length > 0);
  assert.deepEqual(lines.sort(), expected.sort());
}

outboxes(
  suiteOn(
    {
      name: 'sqlite',
      fresh: async (t) => {
        const made = mkdtempSync(join(tmpdir(), 'bootproof-notices-'));
        t.after(() => rmSync(made, { recursive: true, force: true }));
        return migratedSqlite(join(made, 'store.db'));
      },
    },
    () => undefined,
  ),
);
outboxes(postgresSuite());
