/** The contract of server/store/store.ts as tests: intake, what reports become, and what two servers do at once. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Engine } from '#server/store/engine.ts';
import type { FindingChange, Host, Severity } from '#server/store/records.ts';
import type { HostWrite, IntakeResult } from '#server/store/store.ts';
import { openStore } from '#server/store/open.ts';
import { FORK_COPIES_MAX } from '#src/limits.ts';
import { opened, openedEngine, type Suite } from './contract.ts';
import { faulty } from './faulty.ts';
import { absent, ADMIN, admit, commit, DAY, digest, enrolment, groupId, hostId, present, report, T0 } from './make.ts';

const kinds = (results: readonly IntakeResult[]) => results.map(({ kind }) => kind);

/** Every counter equals the rows that it counts, every open finding has one open episode, no group is open in vain. */
export async function checkCounters(engine: Engine): Promise<void> {
  await engine.reading(async (db) => {
    const findings = await db.selectFrom('finding').selectAll().execute();
    const groups = await db
      .selectFrom('finding_group')
      .innerJoin('group_count', 'group_count.group_id', 'finding_group.id')
      .selectAll()
      .execute();
    const open = findings.filter(({ is_open }) => is_open === 1);
    for (const group of groups) {
      const mine = open.filter(({ group_id }) => group_id === group.id);
      const of = (disposition: number) => mine.filter((row) => row.disposition === disposition).length;
      assert.deepEqual([group.open, group.acknowledged, group.waived], [of(0), of(1), of(2)], `counts of ${group.id}`);
      assert.equal(group.ever, findings.filter(({ group_id }) => group_id === group.id).length);
      assert.equal(group.is_open, mine.length > 0 ? 1 : 0, `${group.id} is open`);
    }
    assert.equal(groups.length, new Set(findings.map(({ group_id }) => group_id)).size);
    for (const host of await db.selectFrom('host').selectAll().execute()) {
      const mine = open.filter(({ host_id, disposition }) => host_id === host.id && disposition === 0);
      const by = [0, 1, 2, 3, 4].map((sev) => mine.filter((row) => row.sev === sev).length);
      assert.deepEqual([host.open0, host.open1, host.open2, host.open3, host.open4], by, `counters of ${host.id}`);
    }
    const episodes = await db.selectFrom('episode').selectAll().execute();
    for (const finding of findings) {
      const mine = episodes.filter((e) => e.host_id === finding.host_id && e.group_id === finding.group_id);
      assert.equal(mine.length, finding.episode);
      assert.equal(mine.filter(({ closed_at }) => closed_at === null).length, finding.is_open);
    }
  });
}

export function intakes(suite: Suite): void {
  suite('a report is there when its promise resolves: chain, freshness, envelope, answer', async (url, t) => {
    const [store, other] = [await opened(t, url), await opened(t, url)];
    const host = await admit(store, 1);
    const gaps = [{ from: 3, to: 4 }];
    const write = report(host, 'full');
    const chain = { ...write.chain!, gaps, boots: ['b1', 'b2'], flags: { cloned: T0 } };
    const facts = {
      trees: {
        usr: { main: digest('u'), extra: digest('x') },
        etc: { main: null, extra: digest('x') },
      },
      state: digest('s'),
      backend: 'ostree',
      complete: false,
      agentVersion: '1',
      config: digest('c'),
      comparedWith: 'ostree/1',
    };
    const standing = {
      verdict: 'drifted',
      rank: 40,
      since: T0,
      integrity: 'drifted',
      provenance: 'not-assessed',
      allowed: 2,
      waived: 0,
      reasons: [{ code: 'DRIFT', text: 'one path' }],
      drift: { added: 1, removed: 0, modified: 2 },
      lapse: null,
    };
    const images = { booted: digest('i'), staged: null, rollback: 'abc' };
    const [result] = await store.intake([{ ...write, chain, facts, standing, images, rule: 'ostree/1' }]);
    assert(result?.kind === 'committed');
    const after = (await other.hosts.get(host.id))!;
    assert.deepEqual(after, {
      ...host,
      revision: result.revision,
      chain,
      last: write.last,
      freshness: write.freshness,
      facts,
      standing,
      images,
      rule: 'ostree/1',
    });
    assert.deepEqual(await other.hosts.getMany([host.id, 'none', host.id]), new Map([[host.id, after]]));
    assert.deepEqual(await other.hosts.byKey(host.publicKey), after);
    const stored = (await other.reports.get(host.id, 1))!;
    assert.deepEqual({ ...stored, envelope: Buffer.from(stored.envelope) }, { ...write.report, hostId: host.id });
    assert.equal((await other.reports.byDigest(host.id, write.report!.digest))?.seq, 1);
    assert.equal((await other.reports.head(host.id, 1))?.answer, write.report!.answer);
    assert.equal(await other.reports.head(host.id, 2), undefined);
    assert.deepEqual(await other.read.history(host.id, 9), [{ at: T0, from: 'new', to: 'drifted', seq: 1 }]);
    assert.deepEqual(await other.read.verdicts(T0), [{ verdict: 'drifted', count: 1 }]);
  });

  suite('of `same` reports the newest is kept, and of each past day its last', async (url, t) => {
    const store = await opened(t, url);
    const { id } = await admit(store, 1);
    await commit(store, id, (host) => report(host, 'full', T0));
    for (const at of [T0 + 1, T0 + 2, T0 + DAY, T0 + DAY + 1, T0 + 3 * DAY])
      await commit(store, id, (host) => report(host, 'same', at));
    const kept = (await store.read.reports(id, { cursor: null, limit: 9 })).items;
    assert.deepEqual(
      kept.map(({ seq, kind }) => [seq, kind]),
      [
        [6, 'same'],
        [5, 'same'],
        [3, 'same'],
        [1, 'full'],
      ],
    );
    assert.equal((await store.reports.head(id, 3))?.receivedAt, T0 + 2);
    assert.equal(await store.reports.head(id, 2), undefined);
    const page = await store.read.reports(id, { cursor: { seq: 5 }, limit: 1 });
    assert.deepEqual([page.items[0]?.seq, page.next], [3, { seq: 3 }]);
    const { chain } = (await store.hosts.get(id))!;
    assert.deepEqual(
      chain.recent.map(({ seq }) => seq),
      [1, 2, 3, 4, 5, 6],
    );
  });

  suite('an item that conflicts or whose host is not known writes nothing and hinders no other', async (url, t) => {
    const store = await opened(t, url);
    const [a, b] = [await admit(store, 1), await admit(store, 2)];
    const job = { kind: 'k', dedupeKey: 'x', runAt: T0, payload: 1 };
    const results = await store.intake([
      report(a, 'full'),
      { ...report(b, 'full'), expectRevision: 99, findings: [present(1)], jobs: [job] },
      { ...report(b, 'full'), hostId: hostId('none'), findings: [present(1)] },
      report(b, 'full', T0, 'other'),
    ]);
    assert.deepEqual(kinds(results), ['committed', 'conflict', 'unknown-host', 'committed']);
    assert.equal((await store.reports.get(b.id, 1))?.digest, report(b, 'full', T0, 'other').report!.digest);
    assert.equal(await store.findings.group(groupId(1)), undefined);
    assert.deepEqual(await store.jobs.take(['k'], T0, 1, 1), []);
    // A number that the chain has passed is a conflict too, whatever the revision says.
    const now = (await store.hosts.get(a.id))!;
    const late = report({ ...now, chain: { ...now.chain, headSeq: 0 } }, 'full');
    assert.deepEqual(kinds(await store.intake([late])), ['conflict']);
    assert.deepEqual(await store.intake([]), []);
  });

  suite('several reports of one host in one group are carried out in order', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    const host = await admit(store, 1);
    const first = report(host, 'full');
    const next = (n: number): Host => ({
      ...host,
      revision: host.revision + n,
      chain: { ...host.chain, headSeq: n },
    });
    const results = await store.intake([
      { ...first, findings: [present(1), present(2)] },
      { ...report(next(1), 'same', T0 + 1), findings: [absent(1)] },
      { ...report(next(2), 'same', T0 + DAY), findings: [present(1, 4), absent(2)] },
      report(next(2), 'same'),
    ]);
    assert.deepEqual(kinds(results), ['committed', 'committed', 'committed', 'conflict']);
    const after = (await store.hosts.get(host.id))!;
    assert.equal(after.revision, host.revision + 3);
    assert.deepEqual(after.counters.open, [0, 0, 0, 0, 1]);
    assert.deepEqual(
      (await store.read.reports(host.id, { cursor: null, limit: 9 })).items.map(({ seq }) => seq),
      [3, 2, 1],
    );
    assert.equal((await store.findings.episodes(host.id, groupId(1))).length, 2);
    await checkCounters(engine);
  });

  suite(
    'a finding opens, stays without a write, resolves and comes back as the same row with a new episode',
    async (url, t) => {
      const { engine, store } = await openedEngine(t, url);
      const { id } = await admit(store, 1);
      const say = (at: number, findings: FindingChange[]) =>
        commit(store, id, (host) => ({ ...report(host, 'full', at), findings }));
      const opening = await say(T0, [present(1), present(2)]);
      assert.deepEqual(opening.opened.toSorted(), [groupId(1), groupId(2)].toSorted());
      const before = await store.findings.get(id, groupId(1));
      const still = await say(T0 + 1, [present(1), present(2)]);
      assert.deepEqual([still.opened, still.reopened, still.resolved], [[], [], []]);
      assert.deepEqual(await store.findings.get(id, groupId(1)), before);
      assert.deepEqual(before?.status, 'open');
      assert.deepEqual(before?.detail, { expected: { sha256: 'a' }, actual: { sha256: '1' } });

      assert.deepEqual((await say(T0 + 2, [absent(1), absent(3)])).resolved, [groupId(1)]);
      assert.deepEqual((await say(T0 + 3, [absent(1)])).resolved, []);
      const resolved = await store.findings.get(id, groupId(1));
      assert.deepEqual([resolved?.status, resolved?.resolvedAt, resolved?.present], ['resolved', T0 + 2, false]);
      const back = await say(T0 + 4, [present(1, 4)]);
      assert.deepEqual(back.reopened, [groupId(1)]);
      const again = (await store.findings.get(id, groupId(1)))!;
      assert.deepEqual(
        [again.firstSeen, again.openedAt, again.resolvedAt, again.reopened, again.severity],
        [T0, T0 + 4, null, 1, 4],
      );
      assert.deepEqual(await store.findings.episodes(id, groupId(1)), [
        { n: 1, openedAt: T0, openedSeq: 1, closedAt: T0 + 2, closedSeq: 3, reason: 'reverted' },
        { n: 2, openedAt: T0 + 4, openedSeq: 5, closedAt: null, closedSeq: null, reason: null },
      ]);
      assert.equal((await store.findings.present(id)).length, 2);
      await checkCounters(engine);
    },
  );

  suite('a severity that policy changed moves the counters and the group, and opens nothing', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    const { id } = await admit(store, 1);
    await commit(store, id, (host) => ({ ...report(host, 'full'), findings: [present(1, 2)] }));
    const judged = await commit(store, id, (host) => ({
      hostId: id,
      expectRevision: host.revision,
      at: T0 + 1,
      findings: [present(1, 4)],
      audit: { by: { actor: 'job:rejudge', at: T0 + 1 }, action: 'host.judge' },
    }));
    assert.deepEqual([judged.opened, judged.reopened], [[], []]);
    assert.deepEqual((await store.hosts.get(id))?.counters.open, [0, 0, 0, 0, 1]);
    assert.equal((await store.findings.group(groupId(1)))?.severity, 4);
    assert.equal((await store.findings.episodes(id, groupId(1))).length, 1);
    const trail = await store.audit.list({ actor: 'job:rejudge' }, { cursor: null, limit: 5 });
    assert.equal(trail.items[0]?.object, `host:${id}`);
    await checkCounters(engine);
  });

  suite('a group is open while any host has it, and tells since when and on how many', async (url, t) => {
    const store = await opened(t, url);
    const ids: string[] = [];
    for (let n = 0; n < 3; n++) ids.push((await admit(store, n)).id);
    for (const [n, id] of ids.entries())
      await commit(store, id, (host) => ({ ...report(host, 'full', T0 + n * DAY), findings: [present('g')] }));
    const group = (await store.findings.group(groupId('g')))!;
    assert.deepEqual(
      [group.isOpen, group.firstSeen, group.lastNewAt, group.hosts],
      [true, T0, T0 + 2 * DAY, { open: 3, acknowledged: 0, waived: 0, ever: 3, reopened: 0 }],
    );
    for (const id of ids) await commit(store, id, (host) => ({ ...report(host, 'full'), findings: [absent('g')] }));
    const closed = (await store.findings.group(groupId('g')))!;
    assert.deepEqual([closed.isOpen, closed.hosts.open, closed.hosts.ever], [false, 0, 3]);
    assert.equal((await store.read.groups({}, 'severity', { cursor: null, limit: 5 })).items.length, 0);
    assert.equal((await store.read.groups({ status: 'all' }, 'severity', { cursor: null, limit: 5 })).items.length, 1);
  });

  suite('other bytes under a known number are kept beside the first, up to a bound', async (url, t) => {
    const store = await opened(t, url);
    const { id } = await admit(store, 1);
    await commit(store, id, (host) => report(host, 'full'));
    await commit(store, id, (host) => report(host, 'same'));
    const fork = (host: Host, tag: string): HostWrite => {
      const twin = report({ ...host, chain: { ...host.chain, headSeq: 1 } }, 'same', T0, tag).report!;
      return { hostId: id, expectRevision: host.revision, at: T0, report: { ...twin, kind: 'fork' } };
    };
    // The same one again, because its refusal was lost on the way: kept once, and nobody's place is taken.
    for (let n = 0; n < 2; n++) await commit(store, id, (host) => fork(host, 'twin 0'));
    assert.equal((await store.reports.forks(id, 2)).length, 1);
    const host = (await store.hosts.get(id))!;
    const both = [fork(host, 'twin 1'), { ...fork(host, 'twin 1'), expectRevision: host.revision + 1 }];
    assert.deepEqual(kinds(await store.intake(both)), ['committed', 'committed']);
    assert.equal((await store.reports.forks(id, 2)).length, 2);
    for (let n = 0; n < FORK_COPIES_MAX + 2; n++) await commit(store, id, (host) => fork(host, `twin ${n}`));
    assert.equal((await store.reports.forks(id, 2)).length, FORK_COPIES_MAX);
    // The first one was the newest `same`: it stays as proof although another one comes on the same day.
    await commit(store, id, (host) => report(host, 'same'));
    assert.equal((await store.reports.get(id, 2))?.kind, 'same');
    assert.equal((await store.reports.get(id, 3))?.kind, 'same');

    await commit(store, id, (host) => report({ ...host, chain: { ...host.chain, headSeq: 4 } }, 'full'));
    const history = (host: Host): HostWrite => ({
      hostId: id,
      expectRevision: host.revision,
      at: T0,
      report: { ...report({ ...host, chain: { ...host.chain, headSeq: 3 } }, 'full').report!, kind: 'history' },
    });
    await commit(store, id, history);
    assert.deepEqual(kinds(await store.intake([history((await store.hosts.get(id))!)])), ['conflict']);
    assert.equal((await store.reports.get(id, 4))?.kind, 'history');
  });

  suite('silence is told by the clock, noted once, and ended by a live report', async (url, t) => {
    const store = await opened(t, url);
    const { id } = await admit(store, 1);
    await commit(store, id, (host) => ({
      ...report(host, 'full', T0),
      standing: { ...host.standing, verdict: 'compliant', rank: 10 },
    }));
    const late = T0 + 60 * 60_000;
    assert.deepEqual(await store.read.verdicts(late - 1), [{ verdict: 'compliant', count: 1 }]);
    assert.deepEqual(await store.read.verdicts(late), [{ verdict: 'silent', count: 1 }]);
    assert.deepEqual(await store.read.unnotedSilence(late - 1, 9), []);
    assert.deepEqual(await store.read.unnotedSilence(late, 9), [id]);
    await commit(store, id, (host) => ({
      hostId: id,
      expectRevision: host.revision,
      at: late,
      freshness: { ...host.freshness, silenceNoted: true },
      findings: [present('silent')],
    }));
    assert.deepEqual(await store.read.unnotedSilence(late, 9), []);
    await commit(store, id, (host) => ({ ...report(host, 'same', late + 1), findings: [absent('silent')] }));
    assert.deepEqual(await store.read.verdicts(late + 1), [{ verdict: 'compliant', count: 1 }]);
    assert.equal((await store.hosts.get(id))?.freshness.silenceNoted, false);
  });

  suite('two servers with the same number at once: one wins, the other conflicts', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    const ids: string[] = [];
    for (let n = 0; n < 8; n++) ids.push((await admit(a, n)).id);
    for (let round = 0; round < 10; round++) {
      const hosts = [...(await a.hosts.getMany(ids)).values()];
      const group = (tag: string) => hosts.map((host) => report(host, round % 3 ? 'same' : 'full', T0 + round, tag));
      // In opposite orders: a lock order that followed the items would deadlock here.
      const [left, right] = await Promise.all([a.intake(group('a')), b.intake(group('b').toReversed())]);
      const won = left.map(({ kind }, i) => [kind, right.toReversed()[i]!.kind].toSorted());
      assert.deepEqual(
        won,
        ids.map(() => ['committed', 'conflict']),
      );
    }
    for (const host of (await b.hosts.getMany(ids)).values()) assert.equal(host.chain.headSeq, 10);
  });

  suite('two servers open and resolve the same groups at once, and every counter stays right', async (url, t) => {
    const { engine, store: a } = await openedEngine(t, url);
    const b = await opened(t, url);
    const ids: string[] = [];
    for (let n = 0; n < 12; n++) ids.push((await admit(a, n)).id);
    const groups = Array.from({ length: 6 }, (_, n) => n);
    const serve = async (store: typeof a, mine: string[], from: number) => {
      for (let round = 0; round < 8; round++) {
        const hosts = [...(await store.hosts.getMany(mine)).values()];
        const items = hosts.map((host, h) => ({
          ...report(host, 'full', T0 + round),
          findings: groups.map((g) =>
            (g + h + round + from) % 3 === 0 ? absent(g) : present(g, ((g + round) % 5) as Severity),
          ),
        }));
        assert.deepEqual(new Set(kinds(await store.intake(items))), new Set(['committed']));
      }
    };
    await Promise.all([serve(a, ids.slice(0, 6), 0), serve(b, ids.slice(6).toReversed(), 1)]);
    await checkCounters(engine);
  });

  suite('whatever hosts say in whatever order, counters equal rows', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    const ids: string[] = [];
    for (let n = 0; n < 3; n++) ids.push((await admit(store, n)).id);
    const change = fc.record({ group: fc.nat(4), there: fc.boolean(), severity: fc.nat(4) });
    const item = fc.record({ host: fc.nat(2), changes: fc.uniqueArray(change, { selector: ({ group }) => group }) });
    await fc.assert(
      fc.asyncProperty(fc.array(item, { minLength: 1, maxLength: 6 }), async (items) => {
        const hosts = await store.hosts.getMany(ids);
        const writes = items.map(({ host, changes }, n): HostWrite => {
          const at = hosts.get(ids[host]!)!;
          (hosts as Map<string, Host>).set(at.id, {
            ...at,
            revision: at.revision + 1,
            chain: { ...at.chain, headSeq: at.chain.headSeq + 1 },
          });
          const findings = changes.map(({ group, there, severity }) =>
            there ? present(group, severity as Severity) : absent(group),
          );
          return { ...report(at, 'full', T0 + n), findings };
        });
        assert.deepEqual(new Set(kinds(await store.intake(writes))), new Set(['committed']));
        await checkCounters(engine);
      }),
      { numRuns: 25 },
    );
  });

  suite('after a call that failed, persisted or not, reading again and repeating ends up the same', async (url, t) => {
    for (const fault of ['unpersisted', 'persisted'] as const) {
      const real = await openStore(url);
      t.after(() => real.close());
      const store = faulty(real, ({ method, nth }) =>
        ['intake', 'jobs.enqueue', 'hosts.admit', 'settings.create'].includes(method) && nth === 1 ? fault : undefined,
      );
      const insist = async <T>(act: () => Promise<T>): Promise<T> => act().catch(act);
      const n = `faulty ${fault}`;
      const outcome = await insist(() => store.hosts.admit({ ...enrolment(n), group: null, labels: {} }, ADMIN));
      assert.equal(outcome.kind, fault === 'persisted' ? 'same' : 'enrolled');
      const host = (await store.hosts.get(hostId(n)))!;
      const write = { ...report(host, 'full'), findings: [present(n)] };
      const [result] = await insist(() => store.intake([write]));
      assert.equal(result?.kind, fault === 'persisted' ? 'conflict' : 'committed');
      const kept = await store.reports.head(host.id, 1);
      assert.equal(kept?.digest, write.report!.digest, 'found under its number, so it was persisted');
      assert.deepEqual((await store.hosts.get(host.id))?.counters.open, [0, 0, 0, 1, 0]);
      const job = { kind: n, dedupeKey: n, runAt: T0, payload: 1 };
      await insist(() => store.jobs.enqueue([job]));
      assert.equal((await store.jobs.take([n], T0, 1, 9)).length, 1);
      const value = new TextEncoder().encode('v');
      assert.deepEqual(Buffer.from(await insist(() => store.settings.create(n, value))), Buffer.from(value));
    }
  });
}
