/** The contract of server/store/store.ts as tests: lists, counts, cursors. */
import assert from 'node:assert/strict';
import type { Host, Severity } from '#server/store/records.ts';
import {
  SILENT_RANK,
  type FindingCursor,
  type GroupCursor,
  type HostCursor,
  type HostFilter,
  type Store,
} from '#server/store/store.ts';
import { opened, type Suite } from './contract.ts';
import {
  absent,
  ADMIN,
  commit,
  digest,
  enrolment,
  groupId,
  hostId,
  MINUTE,
  present,
  report,
  T0,
  walk,
} from './make.ts';

const VERDICTS = ['new', 'unverifiable', 'unsigned', 'drifted', 'compliant'] as const;
const standing = (host: Host, n: number): Host['standing'] => ({
  ...host.standing,
  verdict: VERDICTS[n % VERDICTS.length]!,
  rank: (n % VERDICTS.length) * 10,
  integrity: n % 2 ? 'drifted' : 'intact',
});

/** Forty hosts: names that fold and leave the BMP, five verdicts, two images, a third of them silent, every ninth retired. */
async function fleet(store: Store): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < 40; n++) {
    const name = ['Web', 'web', '\u{1f427}web', '\uffedweb', 'db'][n % 5]! + (n >> 3);
    const { hostId: id } = enrolment(n);
    await store.hosts.admit(
      { ...enrolment(n, { name }), group: n % 2 ? 'lab' : 'edge', labels: { rack: String(n % 4) } },
      ADMIN,
    );
    await commit(store, id, (host) => {
      const write = report(host, 'full', n % 3 ? T0 : T0 - 100 * MINUTE);
      return {
        ...write,
        standing: standing(host, n),
        images: { booted: n % 4 ? digest('a') : 'bare-a', staged: null, rollback: digest('b') },
      };
    });
    if (n % 9 === 8) await store.hosts.retire(id, ADMIN);
    ids.push(id);
  }
  return ids;
}

const idsOf = (items: readonly { readonly id: string }[]) => items.map(({ id }) => id);
const utf8 = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));
const verdictOf = (host: Host, now: number) =>
  host.standing.verdict === 'new' || host.freshness.silentAfter > now ? host.standing.verdict : 'silent';

export function lists(suite: Suite): void {
  suite('every list of hosts is exactly what its filter says, page by page, and counted alike', async (url, t) => {
    const store = await opened(t, url);
    const ids = await fleet(store);
    const now = T0 + MINUTE;
    const all = [...(await store.hosts.getMany(ids)).values()];
    type Case = [HostFilter, (host: Host) => boolean];
    const listed = ({ state }: Host) => state !== 'retired';
    const cases: Case[] = [
      [{ now }, listed],
      [{ now, states: ['retired'] }, ({ state }) => state === 'retired'],
      [{ now, states: ['active', 'retired', 'pending'] }, () => true],
      [{ now, verdicts: ['silent'] }, (h) => listed(h) && verdictOf(h, now) === 'silent'],
      [
        { now, verdicts: ['drifted', 'silent', 'new', 'drifted'] },
        (h) => listed(h) && ['drifted', 'silent', 'new'].includes(verdictOf(h, now)),
      ],
      [{ now, verdicts: [] }, () => false],
      [{ now, freshness: 'silent' }, (h) => listed(h) && h.freshness.silentAfter <= now],
      [{ now, freshness: 'current' }, (h) => listed(h) && h.freshness.lateAfter > now],
      [
        { now: T0 + 45 * MINUTE, freshness: 'late' },
        (h) => listed(h) && h.freshness.lateAfter <= T0 + 45 * MINUTE && h.freshness.silentAfter > T0 + 45 * MINUTE,
      ],
      [{ now, integrity: 'drifted', group: 'lab' }, (h) => listed(h) && h.standing.integrity === 'drifted'],
      [{ now, provenance: 'not-assessed' }, listed],
      [{ now, label: { key: 'rack', value: '3' } }, (h) => listed(h) && h.labels['rack'] === '3'],
      [{ now, namePrefix: 'WEB' }, (h) => listed(h) && h.name.toLowerCase().startsWith('web')],
      [{ now, booted: [digest('a')] }, (h) => listed(h) && h.images.booted === digest('a')],
      [
        { now, booted: ['bare-a', digest('a')], verdicts: ['compliant', 'unsigned'] },
        (h) => {
          return listed(h) && ['compliant', 'unsigned'].includes(verdictOf(h, now));
        },
      ],
    ];
    for (const [filter, fits] of cases) {
      const wanted = all.filter(fits);
      const byName = wanted.toSorted((a, b) => utf8(a.name.toLowerCase(), b.name.toLowerCase()) || utf8(a.id, b.id));
      const rank = (h: Host) =>
        verdictOf(h, now) === 'silent' ? Math.max(SILENT_RANK, h.standing.rank) : h.standing.rank;
      const byRank = wanted.toSorted((a, b) => rank(b) - rank(a) || utf8(b.id, a.id));
      const said = JSON.stringify(filter);
      for (const [sort, order] of [
        ['name', byName],
        ['attention', byRank],
      ] as const) {
        const got = await walk((cursor: HostCursor | null) => store.read.hosts(filter, sort, { cursor, limit: 3 }));
        assert.deepEqual(idsOf(got), idsOf(order), `${sort} ${said}`);
      }
      assert.deepEqual(await store.read.countHosts(filter, 100), { count: wanted.length, exact: true }, said);
    }
    assert.deepEqual(await store.read.countHosts({ now }, 5), { count: 5, exact: false });
    const counted = await store.read.verdicts(now);
    for (const { verdict, count } of counted)
      assert.equal((await store.read.countHosts({ now, verdicts: [verdict] }, 100)).count, count, verdict);
    assert.equal(
      counted.reduce((sum, { count }) => sum + count, 0),
      all.filter(listed).length,
    );

    const onImage = await walk((cursor: { id: string } | null) =>
      store.read.hostsOnImage([digest('a'), 'bare-a'], 'booted', { cursor, limit: 4 }),
    );
    assert.deepEqual(onImage, idsOf(all.filter(listed)).toSorted(utf8));
    await store.images.note([{ reported: digest('a'), claim: null }], T0);
    const [image] = (await store.read.images({ states: ['pending'] }, { cursor: null, limit: 5 })).items;
    const booted = await store.read.countHosts({ now, booted: [digest('a')] }, 100);
    assert.deepEqual(image?.hosts, { booted: booted.count, staged: 0, rollback: 0 });
  });

  suite('lists of groups and findings are whole, ordered, and counted alike', async (url, t) => {
    const store = await opened(t, url);
    const ids: string[] = [];
    for (let n = 0; n < 6; n++) {
      await store.hosts.admit({ ...enrolment(n), group: null, labels: {} }, ADMIN);
      ids.push(hostId(n));
    }
    const severityOf = (g: number) => (g % 5) as Severity;
    for (const [n, id] of ids.entries())
      await commit(store, id, (host) => ({
        ...report(host, 'full', T0 + n * MINUTE),
        findings: Array.from({ length: 11 }, (_, g) => g)
          .filter((g) => g % 6 >= n)
          .map((g) => present(g, severityOf(g), { subject: g % 2 ? `/etc/${g}` : `/usr/${g}` })),
      }));
    await commit(store, ids[0]!, (host) => ({ ...report(host, 'full', T0), findings: [absent(0), absent(6)] }));

    const groups = (filter: object, sort: GroupCursor['sort']) =>
      walk((cursor: GroupCursor | null) => store.read.groups(filter, sort, { cursor, limit: 2 }));
    const every = await groups({ status: 'all' }, 'severity');
    assert.equal(every.length, 11);
    const bySeverity = every.toSorted(
      (a, b) => b.severity - a.severity || b.lastNewAt - a.lastNewAt || utf8(b.id, a.id),
    );
    assert.deepEqual(idsOf(every), idsOf(bySeverity));
    const open = bySeverity.filter(({ hosts }) => hosts.open > 0);
    assert.equal(open.length, 9);
    const recent = open.toSorted((a, b) => b.lastNewAt - a.lastNewAt || utf8(b.id, a.id));
    assert.deepEqual(idsOf(await groups({}, 'severity')), idsOf(open));
    assert.deepEqual(idsOf(await groups({}, 'recent')), idsOf(recent));
    const high = ({ severity }: { severity: number }) => severity >= 3;
    assert.deepEqual(idsOf(await groups({ severities: [3, 4, 4] }, 'severity')), idsOf(open.filter(high)));
    assert.deepEqual(idsOf(await groups({ severities: [4, 3] }, 'recent')), idsOf(recent.filter(high)));
    const etc = open.filter(({ subject }) => subject.startsWith('/etc/'));
    assert.deepEqual(idsOf(await groups({ subjectPrefix: '/etc/' }, 'severity')), idsOf(etc));
    assert.deepEqual(await groups({ rule: 'other' }, 'severity'), []);
    assert.deepEqual(await store.read.countGroups({ kind: 'drift', severities: [3, 4] }, 99), {
      count: open.filter(high).length,
      exact: true,
    });

    const findings = await walk((cursor: FindingCursor | null) => store.read.findings({}, { cursor, limit: 4 }));
    const ordered = findings.toSorted(
      (a, b) =>
        b.severity - a.severity || b.openedAt - a.openedAt || utf8(b.hostId, a.hostId) || utf8(b.groupId, a.groupId),
    );
    assert.deepEqual(findings, ordered);
    assert.equal(
      findings.length,
      open.reduce((sum, { hosts }) => sum + hosts.open, 0),
    );
    assert.deepEqual(await store.read.countFindings({}, 99), { count: findings.length, exact: true });
    const filter = { severities: [0, 4, 2] as Severity[], statuses: ['open' as const] };
    const some = await walk((cursor: FindingCursor | null) => store.read.findings(filter, { cursor, limit: 3 }));
    assert.deepEqual(
      some,
      findings.filter(({ severity }) => filter.severities.includes(severity)),
    );
    assert.equal((await store.read.countFindings({ statuses: ['waived'] }, 9)).count, 0);
    assert.deepEqual(await store.read.countFindings({}, 3), { count: 3, exact: false });

    for (const { id, hosts } of open) {
      const where = await walk((cursor: { hostId: string } | null) => store.read.groupHosts(id, { cursor, limit: 2 }));
      assert.equal(where.length, hosts.open);
      assert.deepEqual(
        where.map((f) => f.hostId),
        where.map((f) => f.hostId).toSorted(utf8),
      );
      assert.equal(where[0]?.hostName, `host-${ids.indexOf(where[0]!.hostId)}`);
    }
    for (const id of ids) {
      type Key = { severity: number; groupId: string };
      const mine = await walk((cursor: Key | null) => store.read.hostFindings(id, 'present', { cursor, limit: 2 }));
      assert.deepEqual(
        new Set(mine.map((f) => f.groupId)),
        new Set((await store.findings.present(id)).map((f) => f.groupId)),
      );
      assert.deepEqual(
        mine.map((f) => f.severity),
        mine.map((f) => f.severity).toSorted((a, b) => b - a),
      );
    }
    type Key = { severity: number; groupId: string };
    const gone = await walk((cursor: Key | null) => store.read.hostFindings(ids[0]!, 'resolved', { cursor, limit: 1 }));
    assert.deepEqual(new Set(gone.map((f) => f.groupId)), new Set([groupId(0), groupId(6)]));
  });
}
