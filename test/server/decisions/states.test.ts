/**
 * The table of states (docs/findings.md 1), row by row through the real store and intake: what the machine sees is one axis, what people
 * decide another. Nobody resolves a finding, and nothing opens one but a report.
 */
import assert from 'node:assert/strict';
import { acknowledge, comment, unacknowledge } from '#server/decisions/findings.ts';
import { DecisionError } from '#server/decisions/may.ts';
import { decideWaiver, requestWaiver } from '#server/decisions/waivers.ts';
import { rejectsCode } from '#test/throws.ts';
import { BASE, file, HOUR, MINUTE, T0, type TestHost, type TestServer } from '../fleet.ts';
import { ALICE, BOB, DAY, deciding, groupAt, hostAs, NEXT, ODD, odd, onBoth, person, shows } from './people.ts';

type Told = {
  status: string;
  disposition: string;
  reopened: number;
  regressed: boolean;
  flapping: boolean;
  firstSeen: string;
  returned: { how: string } | null;
};

/** The finding at a path on a host, resolved ones too. */
async function finding(server: TestServer, host: TestHost, path = ODD): Promise<Told | undefined> {
  for (const which of ['present', 'resolved']) {
    const { body } = await server.api(`/api/v1/hosts/${host.id}/findings?which=${which}`);
    const found = body.items.find(({ subject }: { subject: string }) => subject === path);
    if (found !== undefined) return found;
  }
  return undefined;
}
const statusOf = async (server: TestServer, host: TestHost) => (await finding(server, host))?.status;
const episodes = async (server: TestServer, host: TestHost) =>
  server.server.store.findings.episodes(host.id, (await groupAt(server)).id);

async function waive(server: TestServer, expiresAt = T0 + 14 * DAY): Promise<void> {
  const deps = deciding(server);
  const waiver = await requestWaiver(
    {
      kind: 'accepted_risk',
      title: 'odd',
      justification: 'known',
      compensating: null,
      ticket: null,
      selector: { subject: { exact: ODD }, content: 'pinned' },
      ceiling: null,
      startsAt: null,
      expiresAt,
    },
    ALICE,
    deps,
  );
  await decideWaiver(waiver.id, 1, { kind: 'approve', note: null }, BOB, deps);
}
const ack = async (server: TestServer, until: number | null = null) =>
  acknowledge({ groupId: (await groupAt(server)).id }, { until, note: 'seen' }, ALICE, deciding(server));

onBoth('never seen → open: a new episode, counted', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  const seen = (await finding(server, host))!;
  assert.deepEqual([seen.status, seen.disposition, seen.reopened, seen.regressed], ['open', 'none', 0, false]);
  assert.equal((await episodes(server, host)).length, 1);
  assert.equal((await groupAt(server)).hosts.open, 1);
});

onBoth('seen again: open, acknowledged and waived stay what they are, and no row is written', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  for (const [decide, status] of [
    [async () => {}, 'open'],
    [() => ack(server), 'acknowledged'],
    [() => waive(server), 'waived'],
  ] as const) {
    await decide();
    await shows(host, odd());
    await host.sendSame();
    assert.equal(await statusOf(server, host), status);
  }
  assert.equal((await episodes(server, host)).length, 1);
});

for (const [name, decide] of [
  ['open', async () => {}],
  ['acknowledged', async (server: TestServer) => void (await ack(server))],
  ['waived', (server: TestServer) => waive(server)],
] as const)
  onBoth(`a complete report lacks it: ${name} → resolved, and the reason is kept`, async (server) => {
    const host = await hostAs(server, 'web-1');
    await shows(host, odd());
    await decide(server);
    await shows(host);
    const seen = (await finding(server, host))!;
    assert.deepEqual([seen.status, seen.disposition], ['resolved', 'none']);
    assert.deepEqual(
      (await episodes(server, host)).map(({ reason }) => reason),
      ['reverted'],
    );
    const group = await groupAt(server);
    assert.deepEqual([group.status, group.hosts.open + group.hosts.acknowledged + group.hosts.waived], ['resolved', 0]);
    assert.equal((await server.server.store.read.verdicts(server.time.now))[0]?.verdict, 'compliant');
  });

onBoth('another image booted: resolved as host_updated', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, file('/usr/bin/odd', 'x', 0o755));
  // It was told of before the reboot, so its manifest is there.
  await server.server.store.images.note([{ reported: NEXT.digest, claim: null }], T0);
  await server.settle();
  host.booted = NEXT.digest;
  host.entries = [...NEXT.rules.values()][0]!;
  host.compareWith(NEXT);
  await host.sendFull();
  assert.equal(await statusOf(server, host), 'resolved');
  assert.equal((await episodes(server, host))[0]?.reason, 'host_updated');
});

onBoth('an incomplete scan resolves nothing', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  host.entries = BASE;
  const { trees } = host.fullReport();
  const hole = { kind: 'unreadable' as const, path: '/usr/bin', detail: 'EIO' };
  const { status } = await host.sendFull({
    trees: { etc: trees.etc, usr: { ...trees.usr, main: null, extra: null, holes: [hole] } },
  });
  assert.equal(status, 200);
  assert.equal(await statusOf(server, host), 'open');
  assert.equal((await host.told()).verdict, 'drifted');
});

onBoth('resolved → open: the same row, a new episode, regressed; the acknowledgement stays gone', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  await ack(server);
  const { firstSeen } = (await finding(server, host))!;
  await shows(host);
  server.time.now += HOUR / 2;
  await shows(host, odd());
  const seen = (await finding(server, host))!;
  assert.deepEqual([seen.status, seen.reopened, seen.regressed, seen.firstSeen], ['open', 1, true, firstSeen]);
  assert.deepEqual(
    (await episodes(server, host)).map(({ n, closedAt }) => [n, closedAt === null]),
    [
      [1, false],
      [2, true],
    ],
  );
});

onBoth('a silent host: stale, counted as open, and its waiver makes nothing compliant', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  await waive(server);
  assert.equal((await host.told()).verdict, 'compliant');
  server.time.now += 3 * DAY;
  assert.equal(await statusOf(server, host), 'stale');
  assert.equal((await host.told()).verdict, 'silent');
  const stale = await server.api(`/api/v1/findings?q=${encodeURIComponent(`is:stale path:${ODD}`)}`);
  assert.equal(stale.body.total.count, 1);
  assert.deepEqual(
    (await server.server.store.read.verdicts(server.time.now)).map(({ verdict }) => verdict),
    ['silent'],
  );
});

onBoth('acknowledged: still drifted, out of the open tab, and back by itself at its day', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  const until = T0 + 20 * MINUTE;
  assert.deepEqual(await ack(server, until), { changed: 1, skipped: [] });
  const told = await host.told();
  assert.deepEqual([told.verdict, told.findings.acknowledged, told.findings.open.high], ['drifted', 1, 0]);
  assert.equal((await groupAt(server)).status, 'acknowledged');
  const tab = async (name: string) => (await server.api(`/api/v1/groups?tab=${name}`)).body.total.count;
  assert.deepEqual([await tab('open'), await tab('acknowledged')], [0, 1]);
  server.time.now = until;
  const seen = (await finding(server, host))!;
  assert.deepEqual([seen.status, seen.returned?.how], ['open', 'acknowledgement_over']);
  assert.deepEqual([await tab('open'), await tab('acknowledged')], [1, 0]);
  await server.settle();
  assert.equal((await host.told()).findings.open.high, 1);
});

onBoth('taken back by hand: open, with who did it; what is waived or open is left alone', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  const { id } = await groupAt(server);
  const deps = deciding(server);
  assert.deepEqual(await unacknowledge({ groupId: id }, null, BOB, deps), {
    changed: 0,
    skipped: [{ reason: 'not_acknowledged', count: 1 }],
  });
  await ack(server);
  await unacknowledge({ groupId: id, hostId: host.id }, 'not yet', BOB, deps);
  assert.deepEqual((await finding(server, host))?.returned?.how, 'acknowledgement_withdrawn');
  await waive(server);
  assert.deepEqual((await ack(server)).skipped, [{ reason: 'waived', count: 1 }]);
});

onBoth('flapping: four openings and endings within a day are said, until a day has passed', async (server) => {
  const host = await hostAs(server, 'web-1');
  for (let n = 0; n < 2; n++) {
    await shows(host, odd());
    server.time.now += 10 * MINUTE;
    await shows(host);
    server.time.now += 10 * MINUTE;
  }
  await shows(host, odd());
  assert.equal((await finding(server, host))?.flapping, true);
  assert.equal((await groupAt(server)).flapping, true);
  assert.equal((await server.api('/api/v1/groups?q=is:flapping')).body.total.count, 1);
  server.time.now += DAY;
  await shows(host, odd());
  assert.equal((await finding(server, host))?.flapping, false);
  assert.equal((await server.api('/api/v1/groups?q=is:flapping')).body.total.count, 0);
});

onBoth('retired: resolved as host_retired, with the evidence kept', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  await waive(server);
  await server.api(`/api/v1/hosts/${host.id}/retire`, { method: 'POST' });
  assert.equal((await episodes(server, host))[0]?.reason, 'host_retired');
  assert.equal((await groupAt(server)).status, 'resolved');
});

onBoth('nobody opens what is resolved, and nobody resolves what is open', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  const { id } = await groupAt(server);
  await shows(host);
  const deps = deciding(server);
  const about = { groupId: id, hostId: host.id };
  const results = [
    await acknowledge(about, { until: null, note: null }, ALICE, deps),
    await unacknowledge(about, null, ALICE, deps),
  ];
  for (const { changed, skipped } of results) assert.deepEqual([changed, skipped[0]?.reason], [0, 'resolved']);
  await waive(server).catch((error: unknown) =>
    assert.ok(error instanceof DecisionError && error.code === 'WAIVER_EMPTY'),
  );
  assert.equal(await statusOf(server, host), 'resolved');
  // Every word that a person can say, over the API: none of them is "resolve".
  const { body } = await server.api('/api/v1/openapi.json');
  assert.deepEqual(
    Object.keys(body.paths).filter((path) => /resolve|reopen/.test(path)),
    [],
  );
});

onBoth('who may: a viewer decides nothing, an operator only where they work', async (server) => {
  const [a, b] = [await hostAs(server, 'web-1'), await hostAs(server, 'web-2')];
  for (const host of [a, b]) await shows(host, odd());
  await server.server.store.hosts.setGroup(a.id, 'lab', { actor: 'admin', at: T0 });
  const { id } = await groupAt(server);
  const deps = deciding(server);
  const terms = { until: null, note: null };
  const viewer = person('vera', { roles: ['viewer'] });
  await rejectsCode(() => acknowledge({ groupId: id }, terms, viewer, deps), DecisionError, 'FORBIDDEN');
  await rejectsCode(() => comment(id, 'hm', viewer, deps), DecisionError, 'FORBIDDEN');
  const operator = person('oscar', { roles: ['operator'], groups: ['lab'] });
  await rejectsCode(
    () => acknowledge({ groupId: id, hostId: b.id }, terms, operator, deps),
    DecisionError,
    'FINDING_UNKNOWN',
  );
  assert.deepEqual(await acknowledge({ groupId: id }, terms, operator, deps), { changed: 1, skipped: [] });
  assert.deepEqual([await statusOf(server, a), await statusOf(server, b)], ['acknowledged', 'open']);
  await rejectsCode(
    () => acknowledge({ groupId: id }, { until: T0 + 31 * DAY, note: null }, ALICE, deps),
    DecisionError,
    'UNTIL_INVALID',
  );
});

onBoth('assigning is on what was read, and the story of a group tells both axes', async (server) => {
  const host = await hostAs(server, 'web-1');
  await shows(host, odd());
  const { id } = await groupAt(server);
  const assign = (revision: string, assignee: string) =>
    server.server.app.request(`/api/v1/groups/${id}/assign`, {
      method: 'POST',
      body: JSON.stringify({ assignee }),
      headers: {
        authorization: `Bearer ${server.admin}`,
        'content-type': 'application/json',
        'if-match': revision,
      },
    });
  for (const who of ['a\u202eb', 'a\u001b[31m', 'a\nb']) assert.equal((await assign('"0"', who)).status, 400);
  assert.equal((await assign('"0"', 'alice')).status, 200);
  const late = await assign('"0"', 'bob');
  assert.deepEqual([late.status, ((await late.json()) as { current: unknown }).current], [412, { revision: 1 }]);
  server.time.now += MINUTE;
  await comment(id, 'asked the vendor', BOB, deciding(server));
  server.time.now += HOUR / 2;
  await shows(host);
  const { items } = (await server.api(`/api/v1/groups/${id}/timeline`)).body;
  assert.deepEqual(
    items.map(({ kind, action, actor, hosts }: Record<string, unknown>) => [kind, action ?? hosts, actor]),
    [
      ['resolved', 1, undefined],
      ['decision', 'group.comment', 'bob'],
      ['decision', 'group.assign', 'admin'],
      ['opened', 1, undefined],
    ],
  );
  assert.equal(items[1].note, 'asked the vendor');
});

onBoth(
  'acknowledging a group holds for hosts that show it later, until its day, its last host, or somebody says no',
  async (server) => {
    const deps = deciding(server);
    const web = person('web', { roles: ['operator'], groups: ['web'] });
    const [a, b] = [await hostAs(server, 'web-1'), await hostAs(server, 'web-2')];
    const [c, d, e] = [await hostAs(server, 'web-3'), await hostAs(server, 'web-4'), await hostAs(server, 'web-5')];
    await server.api(`/api/v1/hosts/${d.id}`, { method: 'PATCH', body: { group: 'web' } });
    await shows(a, odd());
    await ack(server);
    const { id } = await groupAt(server);
    const later = async () => (await server.api(`/api/v1/groups/${id}`)).body.later;
    assert.deepEqual(
      (await later()).map(({ by, note, scope }: any) => [by, note, scope]),
      [['alice', 'seen', null]],
    );

    // It comes under it with its own end, weighs as before, and is told as acknowledged by whoever did it.
    await shows(b, odd());
    assert.equal(await statusOf(server, b), 'acknowledged');
    assert.equal((await b.told()).verdict, 'drifted');
    assert.deepEqual((await groupAt(server)).hosts, { open: 0, acknowledged: 2, waived: 0, ever: 2, reopened: 0 });
    const told: any = await finding(server, b);
    assert.deepEqual([told.acknowledged.by, told.until], ['alice', new Date(T0 + 7 * DAY).toISOString()]);

    // Other content is another group; what was gone and came back is a new episode there, and open.
    await shows(c, odd('y'));
    assert.equal(await statusOf(server, c), 'open');
    await shows(b);
    await shows(b, odd());
    assert.equal(await statusOf(server, b), 'open');

    // Taken back by somebody of one host group: for that one alone.
    await unacknowledge({ groupId: id }, null, web, deps).catch(() => {});
    await shows(d, odd());
    assert.equal(await statusOf(server, d), 'acknowledged');
    await unacknowledge({ groupId: id }, null, web, deps);
    assert.equal(await statusOf(server, d), 'open');
    assert.deepEqual((await later())[0].apart, ['web']);
    assert.equal(await statusOf(server, a), 'acknowledged');

    // Gone with its last host.
    for (const host of [a, b, d]) await shows(host);
    assert.deepEqual(await later(), []);
    await shows(e, odd());
    assert.equal(await statusOf(server, e), 'open');

    const again = (until: number | null) => acknowledge({ groupId: id }, { until, note: null }, ALICE, deps);
    // Given again, it ends by itself; and whoever may give one takes it back for every host.
    server.time.now += MINUTE;
    await again(server.time.now + HOUR);
    server.time.now += HOUR;
    assert.deepEqual(await later(), []);
    await e.sendSame();
    assert.equal(await statusOf(server, e), 'open');
    server.time.now += MINUTE;
    await again(null);
    server.time.now += MINUTE;
    await unacknowledge({ groupId: id }, 'not so', BOB, deps);
    assert.deepEqual([await later(), await statusOf(server, e)], [[], 'open']);
    const { body } = await server.api(`/api/v1/groups/${id}/timeline`);
    assert.deepEqual(
      body.items.flatMap(({ action, actor }: any) => (action === undefined ? [] : [`${actor} ${action}`])).slice(0, 3),
      ['bob group.unacknowledge', 'alice group.acknowledge', 'alice group.acknowledge'],
    );
  },
);
