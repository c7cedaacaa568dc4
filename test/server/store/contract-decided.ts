/** The contract of server/store/decided.ts as tests: filter lines mean the same on both engines, and an older store is brought up. */
import assert from 'node:assert/strict';
import { globMatcher } from '#src/finding/exempt.ts';
import { parseFilter } from '#src/finding/filter.ts';
import { UNDECIDED, type Waiver } from '#src/finding/waiver.ts';
import type { GroupCursor, FindingCursor } from '#server/store/store.ts';
import { opened, openedEngine, type Suite } from './contract.ts';
import { absent, admit, ADMIN, backTo, commit, DAY, groupId, MINUTE, present, report, T0, walk } from './make.ts';

const SUBJECTS = [
  '/usr/bin/sudo',
  '/usr/bin/a\\040b',
  '/usr/lib/x.so.1',
  '/usr/lib/deep/er/x.so',
  '/usr/lib',
  '/usr/liberty',
  '/etc/passwd',
  '/etc/\\303\\244',
  '/etc/a\\052b',
  'quiet',
  'mitigations=off',
];
const GLOBS = [
  '/usr/**',
  '/usr/lib/**',
  '/usr/lib/*',
  '/usr/**/x.so',
  '/usr/{bin,lib}/*',
  '/etc/?',
  '/etc/??',
  '/etc/[!a-p]*',
  '/etc/a\\*b',
  '/usr/bin/a b',
  '/**',
  'q*',
  'mitigations=*',
  '*',
];

const WAIVER: Omit<Waiver, 'id' | 'revision'> = {
  kind: 'accepted_risk',
  title: 't',
  justification: 'j',
  compensating: null,
  ticket: null,
  selector: { rules: ['r'], content: 'any' },
  ceiling: 'high',
  startsAt: null,
  expiresAt: T0 + DAY,
  decision: 'requested',
  requestedBy: 'alice',
  requestedAt: T0,
  ...UNDECIDED,
  scope: null,
};

export function decided(suite: Suite): void {
  suite('a glob in a filter names what it names in a policy', async (url, t) => {
    const store = await opened(t, url);
    const { id } = await admit(store, 1);
    await commit(store, id, (host) => ({
      ...report(host, 'full'),
      findings: SUBJECTS.map((subject) => present(subject, 3, { subject })),
    }));
    for (const glob of GLOBS) {
      const filter = { line: parseFilter(`path:"${glob.replaceAll('\\', '\\\\')}"`) };
      const page = await store.read.groups(filter, 'severity', { cursor: null, limit: 50 });
      assert.deepEqual(
        page.items.map(({ subject }) => subject).sort(),
        SUBJECTS.filter(globMatcher(glob)).sort(),
        glob,
      );
    }
  });

  suite('walking all cursors of a filtered list gives each once, and its count is their number', async (url, t) => {
    const store = await opened(t, url);
    const ids: string[] = [];
    for (let n = 0; n < 6; n++) {
      const { id } = await admit(store, n);
      ids.push(id);
      if (n % 2 === 0) await store.hosts.setGroup(id, n === 0 ? 'lab/west' : 'lab', ADMIN);
      if (n % 3 === 0) await store.hosts.setLabels(id, { site: 'a' }, ADMIN);
      await commit(store, id, (host) => ({
        ...report(host, 'full', T0 + n * MINUTE),
        findings: Array.from({ length: 5 }, (_, k) => present((n + k) % 7, ((n + k) % 5) as 0 | 1 | 2 | 3 | 4)),
      }));
    }
    const ack = { by: 'alice', at: T0, until: T0 + DAY, note: null };
    const disposal = { groupId: groupId(3), to: { kind: 'acknowledged', ack } } as const;
    await store.findings.dispose(
      ids.slice(0, 2).map((hostId) => ({ hostId, disposal })),
      ADMIN,
      null,
    );
    const now = T0 + 10 * MINUTE;
    const all = await Promise.all(ids.map((id) => store.findings.present(id)));
    const total = all.flat().length;
    for (const text of [
      '',
      'group:lab',
      '-group:lab',
      'label:site=a',
      'status:open',
      'status:acknowledged',
      'status:open,acknowledged',
      '-status:open',
      'sev:>=medium',
      '-sev:high group:lab',
      `host:${ids[0]!}`,
      'is:stale',
      'is:regressed',
      'text:file-3',
      'group:nowhere',
    ]) {
      const filter = { line: parseFilter(text), now };
      const findings = await walk((cursor: FindingCursor | null) => store.read.findings(filter, { cursor, limit: 3 }));
      const keys = new Set(findings.map((one) => `${one.hostId} ${one.groupId}`));
      assert.equal(keys.size, findings.length, text);
      assert.deepEqual(await store.read.countFindings(filter, 1000), { count: findings.length, exact: true }, text);
      for (const sort of ['severity', 'recent'] as const) {
        const groups = await walk((cursor: GroupCursor | null) =>
          store.read.groups(filter, sort, { cursor, limit: 2 }),
        );
        assert.equal(new Set(groups.map(({ id }) => id)).size, groups.length, `${text} by ${sort}`);
        assert.deepEqual(await store.read.countGroups(filter, 1000), { count: groups.length, exact: true }, text);
        if (!/status|sev/.test(text)) {
          // A list of groups is the list of findings, grouped; its numbers are of what matches.
          assert.deepEqual(new Set(groups.map(({ id }) => id)), new Set(findings.map((one) => one.groupId)), text);
          const sum = groups.reduce((n, { hosts }) => n + hosts.open + hosts.acknowledged + hosts.waived, 0);
          assert.equal(sum, findings.length, text);
        }
      }
      // A group below is within it, one that only begins alike is not.
      const below = await store.read.countFindings({ ...filter, scope: ['la'] }, 1000);
      assert.equal(below.count, 0, text);
      const scoped = await store.read.countFindings({ ...filter, scope: ['lab'] }, 1000);
      const asked = await store.read.countFindings({ line: parseFilter(`${text} group:lab,lab/west`), now }, 1000);
      assert.deepEqual(scoped, asked, `${text}: who sees the lab sees what a filter by it gives an admin`);
    }
    const parts = ['group:lab', '-group:lab'].map((text) =>
      store.read.countFindings({ line: parseFilter(text), now }, 1000),
    );
    assert.equal(
      (await Promise.all(parts)).reduce((sum, { count }) => sum + count, 0),
      total,
    );
  });

  suite('a waiver changes on the revision that was read, and what has an effect moves the stamp', async (url, t) => {
    const store = await opened(t, url);
    const first = await store.waivers.create(WAIVER, ADMIN);
    assert.deepEqual([first.id, first.revision], ['W-1', 1]);
    assert.deepEqual(await store.waivers.create(WAIVER, ADMIN), first, 'asked for again, it is the one that stands');
    assert.equal((await store.waivers.create({ ...WAIVER, title: 'another' }, ADMIN)).id, 'W-2');
    const stamp = await store.waivers.stamp();
    const next: Waiver = { ...first, decision: 'approved', decidedBy: 'bob', decidedAt: T0, startsAt: T0, revision: 2 };
    const done = await Promise.all([1, 2, 3].map(() => store.waivers.put(next, ADMIN, 'waiver.approve', [])));
    assert.equal(done.filter(Boolean).length, 1);
    assert.deepEqual(await store.waivers.get('W-1'), next);
    const effective = await store.waivers.effective(T0);
    assert.notEqual(effective.stamp, stamp);
    assert.deepEqual(
      effective.waivers.map(({ id }) => id),
      ['W-1'],
    );
    assert.deepEqual((await store.waivers.effective(T0 + DAY)).waivers, []);
    const counts = await store.waivers.count(T0, T0 + 2 * DAY);
    assert.deepEqual([counts.requested, counts.active, counts.expired, counts.expiring], [1, 1, 0, 1]);
    assert.equal((await store.waivers.count(T0 + DAY, T0 + 2 * DAY)).expired, 2);
    for (const id of ['W-9', 'W-', 'w-1', 'W-1x', "W-1' or 1=1"])
      assert.equal(await store.waivers.get(id), undefined, id);
  });

  suite('a store of schema 2 is brought up: tabs of groups and returns are told from what it holds', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    const { id } = await admit(store, 1);
    const seen = (
      tag: string,
      findings: Parameters<typeof commit>[2] extends never ? never : ReturnType<typeof present>[],
    ) => commit(store, id, (host) => ({ ...report(host, 'full', T0, tag), findings }));
    await seen('1', [present('a'), present('b')]);
    await seen('2', [absent('a'), absent('b')]);
    await seen('3', [present('a')]);
    await backTo(engine, 2);
    const again = await opened(t, url);
    const [a, b] = await Promise.all([again.findings.group(groupId('a')), again.findings.group(groupId('b'))]);
    assert.deepEqual([a?.status, a?.hosts.reopened, b?.status, b?.hosts.reopened], ['open', 1, 'resolved', 0]);
    assert.equal((await again.read.countGroups({ tab: 'open' }, 10)).count, 1);
    assert.equal((await again.waivers.create(WAIVER, ADMIN)).id, 'W-1');
    await commit(again, id, (host) => ({ ...report(host, 'full', T0, '4'), findings: [absent('a')] }));
    assert.equal((await again.findings.group(groupId('a')))?.hosts.reopened, 0);
  });
}
