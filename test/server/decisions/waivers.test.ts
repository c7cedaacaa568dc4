/** Waivers from the request to their end, through the real store, intake and API, on both engines (docs/findings.md 3). */
import assert from 'node:assert/strict';
import { WaiverError, type Selector, type WaiverTerms } from '#src/finding/waiver.ts';
import { previewWaiver } from '#server/decisions/waiverpreview.ts';
import { readWaiver } from '#server/decisions/waiverreads.ts';
import { changeWaiver, decideWaiver, requestWaiver } from '#server/decisions/waivers.ts';
import { termsOf, type WaiverDraft } from '#server/decisions/waiverterms.ts';
import { DecisionError } from '#server/decisions/may.ts';
import { waiverFacts } from '#server/evidence/decisions.ts';
import { viewOf } from '#server/standing.ts';
import { rejectsCode } from '#test/throws.ts';
import { visitor } from '#test/server/web/visitor.ts';
import { file, HOUR, SOURCE, T0, type TestHost, type TestServer } from '../fleet.ts';
import {
  ALICE,
  BOB,
  DAY,
  deciding,
  fleet,
  groupAt,
  hostAs,
  NEXT,
  ODD,
  odd,
  onBoth,
  OS,
  person,
  shows,
} from './people.ts';

const draft = (more: Partial<WaiverDraft> = {}): WaiverDraft => ({
  kind: 'accepted_risk',
  title: 'odd stays',
  justification: 'The vendor mends it next week.',
  compensating: null,
  ticket: null,
  selector: { subject: { exact: ODD }, content: 'pinned' },
  ceiling: null,
  startsAt: null,
  expiresAt: T0 + 14 * DAY,
  ...more,
});

async function approved(server: TestServer, more: Partial<WaiverDraft> = {}) {
  const deps = deciding(server);
  const waiver = await requestWaiver(draft(more), ALICE, deps);
  return { deps, ...(await decideWaiver(waiver.id, 1, { kind: 'approve', note: 'agreed' }, BOB, deps)) };
}

/** Hosts by verdict, those that some have. */
const verdicts = async (server: TestServer) =>
  Object.fromEntries(Object.entries((await server.api('/api/v1/verdicts')).body).filter(([, count]) => count !== 0));
const statuses = async (server: TestServer, q = '') =>
  (await server.api(`/api/v1/findings?limit=200&q=${encodeURIComponent(q)}`)).body.items.map(
    ({ host, status }: { host: { name: string }; status: string }) => `${host.name} ${status}`,
  );

onBoth(
  'asked for by one, approved by another: the hosts follow in the same breath, and the waiver is told',
  async (server) => {
    const [a] = await fleet(server);
    const deps = deciding(server);
    assert.equal((await a.told()).verdict, 'drifted');
    // A form that is sent twice, at once too, is one request; another word makes another.
    const [waiver, again] = await Promise.all([
      requestWaiver(draft(), ALICE, deps),
      requestWaiver(draft(), ALICE, deps),
    ]);
    assert.deepEqual([waiver.id, waiver.ceiling, waiver.decision], ['W-1', 'high', 'requested']);
    assert.deepEqual(again, waiver);
    assert.equal((await a.told()).verdict, 'drifted', 'a request has no effect');
    await rejectsCode(
      () => decideWaiver('W-1', 1, { kind: 'approve', note: null }, ALICE, deps),
      WaiverError,
      'WAIVER_OWN',
    );
    await rejectsCode(
      () => decideWaiver('W-1', 9, { kind: 'approve', note: null }, BOB, deps),
      DecisionError,
      'STALE_DECISION',
    );
    server.time.now += 1000;
    const acted = await decideWaiver('W-1', 1, { kind: 'approve', note: 'agreed' }, BOB, deps);
    assert.deepEqual([acted.hosts, acted.pending, acted.waiver.alone], [2, false, false]);
    const told = await a.told();
    assert.match(told.sentence, /^compliant \(.*1 waived/);
    assert.deepEqual([told.findings.waived, told.findings.open.high, told.integrity.state], [1, 0, 'intact']);
    assert.deepEqual(await verdicts(server), { compliant: 3 });
    const group = await groupAt(server);
    assert.deepEqual(
      [group.status, group.hosts],
      ['waived', { open: 0, acknowledged: 0, waived: 2, ever: 2, reopened: 0 }],
    );
    const detail = (await server.api('/api/v1/waivers/W-1')).body;
    assert.deepEqual([detail.state, detail.covers], ['active', { findings: 2, hosts: 2 }]);
    const trail = (await server.api('/api/v1/waivers/W-1/history')).body.items;
    assert.deepEqual(
      trail.map(({ actor, action }: { actor: string; action: string }) => `${actor} ${action}`),
      ['bob waiver.approve', 'alice waiver.request'],
    );
    assert.deepEqual(
      [trail[0].note, trail[0].before.decision, trail[0].after.decision],
      ['agreed', 'requested', 'approved'],
    );
  },
);

onBoth('holds for findings that come later, and for no other content', async (server) => {
  const [, b, c] = await fleet(server);
  await approved(server);
  await shows(c, odd());
  assert.deepEqual((await statuses(server)).sort(), ['web-1 waived', 'web-2 waived', 'web-3 waived']);
  assert.equal((await c.told()).verdict, 'compliant');
  await shows(b, odd('another'));
  assert.equal((await b.told()).verdict, 'drifted');
  assert.deepEqual(
    (await b.findings()).map(({ status }) => status),
    ['open'],
  );
});

onBoth('past its end it has no effect, though no job has run: verdicts, lists, counts, findings', async (server) => {
  const [a] = await fleet(server);
  const { waiver } = await approved(server, { expiresAt: T0 + 10 * 60_000 });
  const { store } = server.server;
  const later = waiver.expiresAt;
  // The server's own clock stands still: nothing is brought after, only the reader is later.
  for (const [now, verdict] of [
    [later - 1, 'compliant'],
    [later, 'drifted'],
  ] as const) {
    const host = (await store.hosts.get(a.id))!;
    const view = viewOf(host, now);
    assert.deepEqual([view.verdict, view.since === later], [verdict, verdict === 'drifted']);
    const counted: Record<string, number> = Object.fromEntries(
      (await store.read.verdicts(now)).map(({ verdict, count }) => [verdict, count]),
    );
    assert.deepEqual({ ...counted }, verdict === 'compliant' ? { compliant: 3 } : { compliant: 1, drifted: 2 });
    for (const sort of ['name', 'attention'] as const)
      for (const each of ['compliant', 'drifted']) {
        const filter = { now, verdicts: [each] };
        const page = await store.read.hosts(filter, sort, { cursor: null, limit: 10 });
        assert.equal(page.items.length, counted[each] ?? 0, `${each} by ${sort}`);
        assert.deepEqual(await store.read.countHosts(filter, 10), { count: counted[each] ?? 0, exact: true });
      }
    const seen: string[] = [];
    for (let cursor = null as Parameters<typeof store.read.hosts>[2]['cursor']; ;) {
      const page = await store.read.hosts({ now }, 'attention', { cursor, limit: 1 });
      seen.push(...page.items.map(({ name }) => name));
      cursor = page.next;
      if (cursor === null) break;
    }
    assert.deepEqual([...seen].sort(), ['web-1', 'web-2', 'web-3']);
    if (verdict === 'drifted') assert.equal(seen[2], 'web-3', 'what drifted needs attention first');
  }
  // A person reads: rows and counters are brought after before the answer.
  server.time.now = later + 1;
  assert.deepEqual(await verdicts(server), { compliant: 1, drifted: 2 });
  const group = await groupAt(server);
  assert.deepEqual([group.status, group.hosts.open, group.hosts.waived], ['open', 2, 0]);
  const [finding] = (await server.api(`/api/v1/hosts/${a.id}/findings`)).body.items;
  assert.deepEqual([finding.status, finding.returned.how, finding.returned.what], ['open', 'waiver_expired', 'W-1']);
  assert.equal((await server.api('/api/v1/waivers/W-1')).body.state, 'expired');
  await server.settle();
  const told = await a.told();
  assert.deepEqual([told.verdict, told.since], ['drifted', new Date(later).toISOString()]);
  const trail = (await server.api('/api/v1/waivers/W-1/history')).body.items;
  assert.equal(trail.filter(({ action }: { action: string }) => action === 'waiver.expire').length, 1);
  // Where somebody looks it says why it is back: the story of the group, the host's findings and its history.
  const story = (await server.api(`/api/v1/groups/${group.id}/timeline`)).body.items;
  assert.deepEqual(
    story
      .flatMap(({ action, after }: any) =>
        action?.startsWith('waiver.') === true ? [`${action} ${after.waiver}`] : [],
      )
      .toSorted(),
    ['waiver.approve W-1', 'waiver.expire W-1', 'waiver.request W-1'],
  );
  const { page } = await visitor(server);
  for (const path of [`/findings/${group.id}`, `/hosts/${a.id}`, `/hosts/${a.id}/history`])
    assert.match((await page(path)).text, /waiver W-1 expired/, path);
});

onBoth(
  'revoked: what it covered is open at once; a report judged under the old list cannot bring it back',
  async (server) => {
    const [a] = await fleet(server);
    const { deps, waiver } = await approved(server);
    const { store } = server.server;
    const old = await deps.waivers.reaching((await store.hosts.get(a.id))!, null);
    await decideWaiver('W-1', waiver.revision, { kind: 'revoke', reason: 'mended' }, BOB, deps);
    assert.deepEqual(await verdicts(server), { compliant: 1, drifted: 2 });
    const [finding] = (await server.api(`/api/v1/hosts/${a.id}/findings`)).body.items;
    assert.deepEqual([finding.status, finding.returned.how], ['open', 'waiver_revoked']);
    const host = (await store.hosts.get(a.id))!;
    const groupId = finding.group;
    const late = { groupId, to: { kind: 'waived', waiverId: 'W-1', until: waiver.expiresAt } } as const;
    const [result] = await store.intake([
      { hostId: a.id, expectRevision: host.revision, at: T0, disposals: [late], waiverStamp: old.stamp },
    ]);
    assert.equal(result?.kind, 'conflict');
  },
);

onBoth(
  'resolved and back again: a waiver that still holds comes back with it, an acknowledgement does not',
  async (server) => {
    const [a, b] = await fleet(server);
    const { id } = await groupAt(server);
    await server.api(`/api/v1/hosts/${b.id}/findings/${id}/acknowledge`, { method: 'POST', body: {} });
    await approved(server, { selector: { subject: { exact: ODD }, content: 'pinned', hosts: { ids: [a.id] } } });
    assert.deepEqual((await statuses(server)).sort(), ['web-1 waived', 'web-2 acknowledged']);
    for (const host of [a, b]) await shows(host);
    assert.deepEqual(await statuses(server), []);
    for (const host of [a, b]) await shows(host, odd());
    assert.deepEqual((await statuses(server)).sort(), ['web-1 waived', 'web-2 open']);
    assert.equal((await groupAt(server)).regressed, true);
  },
);

onBoth('above its ceiling, on other hosts and before its day it covers nothing', async (server) => {
  const [a, b] = await fleet(server);
  await approved(server, { ceiling: 'medium' });
  assert.deepEqual((await statuses(server)).sort(), ['web-1 open', 'web-2 open']);
  await server.server.store.hosts.setGroup(a.id, 'lab', { actor: 'admin', at: T0 });
  await approved(server, { selector: { subject: { exact: ODD }, content: 'pinned', hosts: { groups: ['lab'] } } });
  assert.deepEqual((await statuses(server)).sort(), ['web-1 waived', 'web-2 open']);
  const { waiver } = await approved(server, { startsAt: T0 + HOUR });
  assert.deepEqual((await server.api(`/api/v1/waivers/${waiver.id}`)).body.state, 'approved');
  assert.deepEqual((await statuses(server, `host:${b.id}`)).sort(), ['web-2 open']);
  server.time.now = T0 + HOUR;
  await b.sendSame();
  await server.settle();
  assert.deepEqual(await statuses(server, 'host:web-2'), ['web-2 waived']);
});

onBoth('an approver reaches no further than their host groups', async (server) => {
  const [a] = await fleet(server);
  const deps = deciding(server);
  await server.server.store.hosts.setGroup(a.id, 'lab', { actor: 'admin', at: T0 });
  await requestWaiver(draft(), ALICE, deps);
  await decideWaiver('W-1', 1, { kind: 'approve', note: null }, person('carol', { groups: ['lab'] }), deps);
  assert.deepEqual((await statuses(server)).sort(), ['web-1 waived', 'web-2 open']);
});

onBoth('content is pinned, and a ceiling found, by what hosts of theirs show that it is for', async (server) => {
  const [a, b, c] = await fleet(server);
  const deps = deciding(server);
  const { hosts } = server.server.store;
  await hosts.setGroup(a.id, 'lab/one', { actor: 'admin', at: T0 });
  await hosts.setGroup(b.id, 'prod', { actor: 'admin', at: T0 });
  await shows(b, odd(), odd('z', '/usr/bin/theirs'));
  await shows(c, odd(), odd('z', '/usr/bin/nobodys'));
  const lab = person('lars', { roles: ['operator'], groups: ['lab'] });
  const wide: WaiverDraft['selector'] = { subject: { glob: '/usr/**' }, content: 'pinned' };
  const pinned = async (selector: WaiverDraft['selector'], who = ALICE) => {
    const { content } = (await termsOf(draft({ selector }), who, deps)).terms.selector;
    return content === 'any' ? content : content.pins.map((pin) => ('subject' in pin ? pin.subject : pin.digest));
  };
  assert.deepEqual(await pinned(wide, lab), [ODD]);
  assert.deepEqual(await pinned({ ...wide, hosts: { ids: [b.id] } }), [ODD, '/usr/bin/theirs']);
  assert.deepEqual(await pinned({ ...wide, hosts: { groups: ['lab'] } }), [ODD]);
  assert.equal((await pinned({ ...wide, image: { digest: OS.digest } })).length, 3);
  await rejectsCode(
    () => pinned({ subject: { exact: '/usr/bin/theirs' }, content: 'pinned' }, lab),
    DecisionError,
    'WAIVER_EMPTY',
  );
  // Of what covers everything he is told the content that his own hosts show.
  const { id } = await requestWaiver(draft({ selector: wide }), ALICE, deps);
  const told = await readWaiver(id, person('rita', { groups: ['lab'] }), deps);
  assert.equal(told.beyond, true);
  assert.deepEqual(told.selector.content, {
    pins: [{ subject: ODD, signature: String((await groupAt(server)).signature) }],
  });
  // Nor does the evidence of their part name it.
  const { store } = server.server;
  const about = {
    store,
    cut: { log: 0, size: 0 },
    period: { from: T0 - DAY, to: T0 + DAY },
    exportedAt: T0 + DAY,
  };
  for await (const { covers } of waiverFacts(() => 'apart', ['lab'], about))
    assert.deepEqual([covers.includes(ODD), /theirs|nobodys/.test(covers)], [true, false]);
});

onBoth(
  'what is asked for or in effect beyond their groups is not theirs to reject, prolong or reword',
  async (server) => {
    await fleet(server);
    const deps = deciding(server);
    const rita = person('rita', { groups: ['lab'] });
    const refused = (act: () => Promise<unknown>) => rejectsCode(act, DecisionError, 'FORBIDDEN');
    const { id } = await requestWaiver(draft(), ALICE, deps);
    await refused(() => decideWaiver(id, 1, { kind: 'reject', note: 'no' }, rita, deps));
    await refused(() => changeWaiver(id, 1, { title: 'mine' }, rita, deps));
    await decideWaiver(id, 1, { kind: 'approve', note: null }, BOB, deps);
    await decideWaiver(id, 2, { kind: 'extend', expiresAt: T0 + 20 * DAY, note: 'later' }, ALICE, deps);
    for (const act of [
      { kind: 'approve', note: null },
      { kind: 'reject', note: 'no' },
      { kind: 'revoke', reason: 'no' },
    ] as const)
      await refused(() => decideWaiver(id, 3, act, rita, deps));
    // Any content is for reviewers: where somebody is only an operator, it does not reach.
    const both = person('mixed', {
      roles: ['operator', 'reviewer'],
      groups: ['lab', 'prod'],
      grants: [
        { role: 'operator', groups: ['prod'] },
        { role: 'reviewer', groups: ['lab'] },
      ],
    });
    const any = await requestWaiver(draft({ selector: { subject: { exact: ODD }, content: 'any' } }), both, deps);
    assert.deepEqual([any.scope, (await requestWaiver(draft(), ALICE, deps)).scope], [['lab'], null]);
  },
);

onBoth('what nobody decided before its end waits for no one', async (server) => {
  await fleet(server);
  const deps = deciding(server);
  const { store } = server.server;
  await requestWaiver(draft({ expiresAt: T0 + HOUR }), ALICE, deps);
  const counts = async () => {
    const { requested, expired } = await store.waivers.count(server.time.now, server.time.now);
    return { requested, expired };
  };
  assert.deepEqual(await counts(), { requested: 1, expired: 0 });
  server.time.now = T0 + HOUR;
  assert.deepEqual(await counts(), { requested: 0, expired: 1 });
  assert.equal((await server.api('/api/v1/waivers/W-1')).body.state, 'expired');
  await rejectsCode(
    () => decideWaiver('W-1', 1, { kind: 'approve', note: null }, BOB, deps),
    WaiverError,
    'WAIVER_STATE',
  );
});

onBoth('an extension keeps the date that was asked for, and is decided like the waiver itself', async (server) => {
  await fleet(server);
  const { deps, waiver } = await approved(server);
  const later = T0 + 80 * DAY;
  const asked = await decideWaiver(
    'W-1',
    waiver.revision,
    { kind: 'extend', expiresAt: later, note: 'vendor is late' },
    ALICE,
    deps,
  );
  assert.deepEqual([asked.waiver.expiresAt, asked.waiver.extension?.expiresAt], [waiver.expiresAt, later]);
  // It waits like a request, and is counted and listed with them.
  await requestWaiver(draft({ title: 'another' }), ALICE, deps);
  const waiting = (await server.api('/api/v1/waivers?decide=true')).body.items.map(({ id }: { id: string }) => id);
  assert.deepEqual([waiting, (await server.api('/api/v1/waivers/counts')).body.toDecide], [['W-2', 'W-1'], 2]);
  await rejectsCode(
    () => decideWaiver('W-1', asked.waiver.revision, { kind: 'approve', note: null }, ALICE, deps),
    WaiverError,
    'WAIVER_OWN',
  );
  const done = await decideWaiver('W-1', asked.waiver.revision, { kind: 'approve', note: null }, BOB, deps);
  assert.deepEqual(
    [done.waiver.expiresAt, done.waiver.extension, done.waiver.requestedAt],
    [later, null, waiver.requestedAt],
  );
  assert.deepEqual([done.waiver.decidedBy, done.waiver.decidedAt], [BOB.id, waiver.decidedAt]);
  const until = (await server.api('/api/v1/findings')).body.items.map((finding: { until: string }) => finding.until);
  assert.deepEqual(until, [new Date(later).toISOString(), new Date(later).toISOString()]);
  await rejectsCode(
    () =>
      decideWaiver(
        'W-1',
        done.waiver.revision,
        { kind: 'extend', expiresAt: T0 + 120 * DAY, note: 'more' },
        ALICE,
        deps,
      ),
    WaiverError,
    'WAIVER_LIFE',
  );
});

onBoth('a change clears nothing that it leaves out, and what was decided on stays', async (server) => {
  await fleet(server);
  const deps = deciding(server);
  const before = await requestWaiver(draft({ ticket: 'OPS-1', compensating: 'watched' }), ALICE, deps);
  const after = await changeWaiver('W-1', 1, { title: 'odd stays a while' }, ALICE, deps);
  assert.deepEqual(after, { ...before, title: 'odd stays a while', revision: 2 });
  await decideWaiver('W-1', 2, { kind: 'approve', note: null }, BOB, deps);
  await rejectsCode(() => changeWaiver('W-1', 3, { expiresAt: T0 + DAY }, ALICE, deps), WaiverError, 'WAIVER_STATE');
  for (const words of [{ kind: 'false_positive' }, { justification: 'harmless' }, { compensating: null }] as const)
    await rejectsCode(() => changeWaiver('W-1', 3, words, ALICE, deps), WaiverError, 'WAIVER_STATE');
  const named = { title: 'odd until May', ticket: 'OPS-2', justification: before.justification };
  assert.equal((await changeWaiver('W-1', 3, named, ALICE, deps)).ticket, 'OPS-2');
  const told = await server.api('/api/v1/waivers/W-1');
  assert.equal(told.headers.get('etag'), '"4"');
});

onBoth('a preview says what would change, and warns', async (server) => {
  const hosts = await fleet(server);
  await shows(hosts[1], odd(), odd('y', '/usr/bin/other'));
  const deps = deciding(server);
  const { terms, scope } = await termsOf(draft(), ALICE, deps);
  const found = await previewWaiver(terms, scope, deps);
  assert.deepEqual([found.findings, found.hosts, found.groups, found.compliant, found.complete], [2, 2, 1, 1, true]);
  assert.equal(found.text, 'matches 2 open findings on 2 hosts, 1 group; would change 1 host to compliant');
  assert.deepEqual(
    found.warnings.map(({ code }) => code),
    ['MANY_HOSTS'],
  );
  await approved(server);
  assert.deepEqual(await verdicts(server), { compliant: 2, drifted: 1 }, 'as foretold');
});

const REFUSED: readonly [string, Partial<WaiverDraft>, string][] = [
  ['an end in the past', { expiresAt: T0 - 1 }, 'WAIVER_LIFE'],
  ['a high finding for 91 days', { expiresAt: T0 + 91 * DAY }, 'WAIVER_LIFE'],
  ['a critical one for 31 days', { ceiling: 'critical', expiresAt: T0 + 31 * DAY }, 'WAIVER_LIFE'],
  ['a beginning next year', { startsAt: T0 + 100 * DAY, expiresAt: T0 + 110 * DAY }, 'WAIVER_LIFE'],
  ['nothing to pin', { selector: { subject: { exact: '/usr/bin/none' }, content: 'pinned' } }, 'WAIVER_EMPTY'],
  ['everything', { selector: { content: 'any' } }, 'WAIVER_SELECTOR'],
  ['a glob that is none', { selector: { subject: { glob: '/usr/[' }, content: 'any' } }, 'WAIVER_SELECTOR'],
];
onBoth('refuses what no waiver may be', async (server) => {
  await fleet(server);
  const deps = deciding(server);
  for (const [name, more, code] of REFUSED)
    await assert.rejects(
      () => requestWaiver(draft(more), ALICE, deps),
      (error) => (error as { code?: string }).code === code,
      name,
    );
  const operator = person('oscar', { roles: ['operator'] });
  const any = draft({ selector: { subject: { exact: ODD }, content: 'any' } });
  await rejectsCode(() => requestWaiver(any, operator, deps), DecisionError, 'FORBIDDEN');
  await rejectsCode(
    () => requestWaiver(draft(), person('vera', { roles: ['auditor'] }), deps),
    DecisionError,
    'FORBIDDEN',
  );
  assert.deepEqual((await server.api('/api/v1/waivers')).body.items, []);
});

onBoth('over HTTP: If-Match is asked for, one person needs single-person mode, and that is shown', async (server) => {
  await hostAs(server, 'web-9').then((host) => shows(host, odd()));
  const body = {
    kind: 'mitigated',
    title: 'odd',
    justification: 'because',
    selector: { subject: { exact: ODD } },
    expiresAt: '2026-12-01',
  };
  const preview = await server.api('/api/v1/waivers/preview', { method: 'POST', body });
  assert.equal(preview.body.text, 'matches 1 open finding on 1 host, 1 group; would change 1 host to compliant');
  const made = await server.api('/api/v1/waivers', { method: 'POST', body });
  assert.deepEqual([made.status, made.body.expiresAt], [201, '2026-12-02T00:00:00.000Z']);
  const approve = (ifMatch?: string) =>
    server.server.app.request('/api/v1/waivers/W-1/approve', {
      method: 'POST',
      body: '{}',
      headers: {
        authorization: `Bearer ${server.admin}`,
        'content-type': 'application/json',
        ...(ifMatch === undefined ? {} : { 'if-match': ifMatch }),
      },
    });
  assert.equal((await approve()).status, 428);
  const stale = await approve('"7"');
  assert.deepEqual([stale.status, stale.headers.get('etag')], [412, '"1"']);
  assert.equal((await approve('"1"')).status, 403);
  await server.api('/api/v1/settings/waivers', { method: 'PUT', body: { singlePerson: true } });
  const done = await approve('"1"');
  assert.equal(done.status, 200);
  assert.equal(((await done.json()) as { waiver: { alone: boolean } }).waiver.alone, true);
  const unknown = await server.api('/api/v1/waivers', { method: 'POST', body: { ...body, forEver: true } });
  assert.deepEqual([unknown.status, unknown.body.errors[0].pointer], [400, '/forEver']);
});

onBoth(
  'a preview is what the approval then does, whatever the selector; where it does not look at all it says at least',
  async (server) => {
    const deps = deciding(server);
    const names = ['a', 'b', 'c', 'd'];
    const hosts: TestHost[] = [];
    for (const name of names) hosts.push(await hostAs(server, name));
    const [a, b, c, d] = hosts as [TestHost, TestHost, TestHost, TestHost];
    await server.api(`/api/v1/hosts/${a.id}`, { method: 'PATCH', body: { group: 'web', labels: { tier: 'front' } } });
    await server.api(`/api/v1/hosts/${b.id}`, { method: 'PATCH', body: { group: 'web/x', labels: { tier: 'back' } } });
    await server.api(`/api/v1/hosts/${c.id}`, { method: 'PATCH', body: { group: 'db', labels: { tier: 'back' } } });
    await shows(a, odd());
    await shows(b, odd(), odd('z', '/usr/lib/odd'));
    await shows(c, odd('other'), file('/etc/sudoers.d/me', 'mine'));
    await shows(d, odd());
    const any = { content: 'any' } as const;
    const subject = { glob: '/usr/**' };
    const selectors: readonly (readonly [string, Selector])[] = [
      ['one path', { subject: { exact: ODD }, ...any }],
      ['one content', { content: { pins: [{ subject: ODD, signature: String((await groupAt(server)).signature) }] } }],
      ['a glob', { subject, ...any }],
      ['host groups, each with all below it', { subject, ...any, hosts: { groups: ['web', 'db'] } }],
      ['labels', { subject, ...any, hosts: { labels: [{ key: 'tier', value: 'back' }] } }],
      [
        'a group and a label',
        { subject, ...any, hosts: { groups: ['web/x'], labels: [{ key: 'tier', value: 'back' }] } },
      ],
      ['hosts', { subject, ...any, hosts: { ids: [a.id, d.id] } }],
      ['an image', { subject, ...any, image: { digest: OS.digest } }],
      ['a repository', { subject, ...any, image: { repository: SOURCE.slice('docker://'.length) } }],
      ['a repository that nobody runs', { subject, ...any, image: { repository: 'registry.example/none' } }],
      ['another image', { subject, ...any, image: { digest: NEXT.digest } }],
    ];
    const compliant = async () =>
      (await server.server.store.read.verdicts(server.time.now)).find(({ verdict }) => verdict === 'compliant')
        ?.count ?? 0;
    for (const [at, [name, selector]] of selectors.entries())
      for (const who of at % 3 === 0 ? [BOB, person('w', { groups: ['web'] })] : [BOB]) {
        const terms: WaiverTerms = { ...draft(), selector, ceiling: 'high' };
        const told = await previewWaiver(terms, who.groups, deps);
        assert.deepEqual([told.complete, told.judged], [true, true]);
        // In portions of one group each, and with fewer hosts judged than there are.
        const apart = await previewWaiver(terms, who.groups, deps, { hosts: 1, findings: 1_000_000, groups: 1 });
        assert.deepEqual([apart.findings, apart.hosts, apart.groups], [told.findings, told.hosts, told.groups], name);
        assert.ok(apart.compliant <= told.compliant && apart.judged === told.hosts <= 1, name);
        if (told.hosts > 1) assert.match(apart.text, /would change at least \d/);
        const before = await compliant();
        const waiver = await requestWaiver(
          draft({ selector, ceiling: 'high' }),
          person('asks', { groups: who.groups }),
          deps,
        );
        await decideWaiver(waiver.id, 1, { kind: 'approve', note: null }, BOB, deps);
        const use = (await server.server.store.waivers.use([waiver.id], null)).get(waiver.id)!;
        assert.deepEqual(
          [told.findings, told.hosts, told.compliant],
          [use.findings, use.hosts, (await compliant()) - before],
          `${name}, ${who.id}`,
        );
        await decideWaiver(waiver.id, 2, { kind: 'revoke', reason: 'next' }, BOB, deps);
      }
    const few = await previewWaiver({ ...draft(), selector: { subject, ...any }, ceiling: 'high' }, null, deps, {
      hosts: 10,
      findings: 1,
      groups: 1,
    });
    assert.equal(few.complete, false);
    assert.match(few.text, /^matches at least \d+ open findings? on at least \d+ hosts?, at least 1 group/);
  },
);
