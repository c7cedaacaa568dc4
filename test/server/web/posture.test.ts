/** Pages of how things stood: a host at a moment, who ran an image when, waivers of a period. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomBytes } from 'node:crypto';
import { Hono } from 'hono';
import type { Principal } from '#server/access/principal.ts';
import { decideWaiver, requestWaiver } from '#server/decisions/waivers.ts';
import { serverKeys } from '#server/keys.ts';
import { PolicyError } from '#server/policies.ts';
import { imageHostsPage } from '#server/web/imagehosts.ts';
import { momentFrom, quartersTo } from '#server/web/parts/moment.ts';
import { posturePage } from '#server/web/posture.ts';
import type { Env, WebServices } from '#server/web/services.ts';
import { waiversInPeriod } from '#server/web/waiversperiod.ts';
import { BASE, enrol, HOUR, serverFor, T0, type TestHost, type TestServer } from '#test/server/fleet.ts';
import { ALICE, BOB, deciding, NEXT, odd, ODD, OS, person, shows } from '../decisions/people.ts';
import { read } from './page.ts';
import { visitor } from './visitor.ts';

async function joined(server: TestServer, name: string): Promise<TestHost> {
  const host = await enrol(server, OS, { name });
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  await host.sendFull();
  return host;
}

async function at(server: TestServer, hours: number): Promise<void> {
  server.time.now = T0 + hours * HOUR;
  await server.settle();
}

const moment = (hours: number): string => new Date(T0 + hours * HOUR).toISOString().slice(0, 19);

/** Drift that came late, drift under a waiver that was revoked, and a host that went on to the next image. */
async function lived(server: TestServer) {
  const [late, drifted, moved] = [
    await joined(server, 'edge-1'),
    await joined(server, 'web-1'),
    await joined(server, 'db-1'),
  ];
  await at(server, 1);
  await shows(drifted, odd());
  const deps = deciding(server);
  const { id, revision } = await requestWaiver(
    {
      kind: 'accepted_risk',
      title: 'Odd, and fine',
      justification: 'because',
      compensating: null,
      ticket: null,
      selector: { subject: { exact: ODD }, content: 'pinned' },
      ceiling: null,
      startsAt: null,
      expiresAt: T0 + 48 * HOUR,
    },
    ALICE,
    deps,
  );
  await at(server, 2);
  const { waiver } = await decideWaiver(id, revision, { kind: 'approve', note: null }, BOB, deps);
  await at(server, 4);
  await decideWaiver(id, waiver.revision, { kind: 'revoke', reason: 'no more' }, BOB, deps);
  // Made at ten, and sent when the host is on the network again.
  server.time.now = T0 + 10 * HOUR;
  late.entries = [...BASE, odd('y')].sort((a, b) => (a.path < b.path ? -1 : 1));
  const report = late.fullReport();
  await at(server, 12);
  moved.booted = NEXT.digest;
  moved.entries = [...NEXT.rules.values()][0]!;
  moved.manifest = null;
  await moved.sendFull();
  await at(server, 13);
  assert.equal((await late.send(report)).status, 200);
  await server.api(`/api/v1/hosts/${late.id}`, { method: 'PATCH', body: { group: 'edge' } });
  await at(server, 14);
  do await server.server.evidence.turn();
  while ((await server.server.store.log.pending()).count > 0);
  return { late, drifted, moved };
}

test('pages tell how things stood, as known then and as known later', async (t) => {
  const server = await serverFor(t, { images: [OS, NEXT] });
  const { late, drifted, moved } = await lived(server);
  const reader = await visitor(server);
  const stood = async (host: TestHost, query: Record<string, string> = {}) =>
    reader.page(`/hosts/${host.id}/posture?${new URLSearchParams(query).toString()}`);

  await t.test('what came late is told apart from what was known', async () => {
    const { text, html } = await stood(late, { at: moment(10.5) });
    for (const part of [
      'edge-1 had drifted on 24 Nov 2026 at 22:30 UTC',
      'At the time it was told as compliant; what was learned later says otherwise.',
      'Was it the image? Drifted',
      'As known then: intact',
      'Become known since',
      'The verdict was told as compliant; as known later it is drifted.',
      'Report 3, made before that moment, came only after it',
      `${ODD}: added file (mode 0755) not known then open`,
      'Verdict compliant ≠differs from drifted',
      `bootproof host posture edge-1 --at ${moment(10.5)}Z`,
    ])
      assert.ok(text.includes(part), `${part} in ${text}`);
    assert.match(text, /Judgement \d+/);
    assert.equal(/name="at" [^>]*value="([^"]*)"/s.exec(html)?.[1], moment(10.5));
  });

  await t.test('as known before it came, it had not come', async () => {
    const { text } = await stood(late, { at: moment(10.5), known: moment(12) });
    assert.match(text, /edge-1 was the image that it booted on/);
    assert.match(text, /Known then and known later say the same/);
    assert.doesNotMatch(text, /not known then/);
    assert.match(text, /--known 2026-11-25T00:00:00Z/);
  });

  await t.test('a waiver counts as it was in force, and that it was revoked became known', async () => {
    const { text, links } = await stood(drifted, { at: moment(3) });
    assert.match(text, /web-1 was the image that it booted on 24 Nov 2026 at 15:00 UTC/);
    assert.match(text, /waived by W-1 · rule/);
    assert.match(text, /end not known then covered 1 finding of it/);
    assert.match(text, /W-1 ended at another time than was known then\./);
    assert.ok(links.includes('/waivers/W-1'));
    // From change to change of what was told of it, none of them before what it says.
    const turns = links.filter((link) => link.includes('/posture?at='));
    assert.ok(turns.length >= 3, turns.join());
    const text2 = (await reader.page(turns[0]!)).text;
    assert.match(text2, /web-1 had drifted on 24 Nov 2026 at 16:00/);
  });

  await t.test('without a moment it is a day ago; before the host there is nothing', async () => {
    server.time.now = T0 + 14 * HOUR;
    assert.match((await stood(moved)).text, /db-1 .* on 24 Nov 2026 at 12:0/);
    const { text } = await stood(moved, { at: '2026-10-01' });
    assert.match(text, /Nobody can tell how db-1 stood on 1 Oct 2026 at 00:00 UTC/);
    assert.match(text, /The host was enrolled later, at 2026-11-24 12:00:00 UTC\. Choose a later moment\./);
    assert.doesNotMatch(text, /Both answers/);
  });

  await t.test('what is no moment is said at its field, and asks nothing', async () => {
    for (const [query, wrong] of [
      ['at=yesterday', 'Day and time, such as'],
      ['at=2026-02-30', 'Day and time, such as'],
      ['at=%22%3E%3Cscript%3E', 'Day and time, such as'],
      ['at=2027-01-01', 'That lies in the future'],
      [`at=${moment(5)}&known=${moment(4)}`, 'nothing was known of it yet'],
    ] as const) {
      const response = await reader.visit(`/hosts/${moved.id}/posture?${query}`);
      assert.equal(response.status, 422, query);
      assert.ok(read(await response.text()).text.includes(wrong), query);
    }
    assert.equal((await reader.visit(`/hosts/h_${'a'.repeat(26)}/posture`)).status, 404);
  });

  await t.test(
    'an image leads to the hosts that ran it, page by page, in a period, and to how they stood on it',
    async () => {
      const path = `/images/${encodeURIComponent(OS.digest)}/hosts`;
      assert.ok((await reader.page(path.replace(/\/hosts$/, ''))).links.includes(path));
      const all = await reader.page(path);
      assert.match(all.text, /3 hosts ran .* As their reports told it/);
      const led = all.links.filter((link) => link.includes('/posture?at='));
      assert.equal(led.length, 3);
      for (const link of led) assert.match((await reader.page(link)).text, / on 2[45] Nov 2026 at /);
      const ids = [late, drifted, moved].map(({ id }) => id).sort();
      const rest = await reader.page(`${path}?after=${ids[0]!}`);
      assert.match(rest.text, /More than 2 hosts ran/);
      assert.ok(rest.links.includes(path), 'the first page is led to');
      const other = `/images/${encodeURIComponent(NEXT.digest)}/hosts`;
      assert.match((await reader.page(other)).text, /1 host ran .* runs it/);
      assert.match(
        (await reader.page(`${other}?from=2026-11-24&to=2026-11-24`)).text,
        /No host ran .* Nobody ran it then/,
      );
      assert.match((await reader.page(`${other}?from=2026-11-25&to=2026-11-25`)).text, /1 host ran .* --to 2026-11-26/);
      const wrong = await reader.visit(`${path}?from=2026-11-25&to=2026-11-24`);
      assert.equal(wrong.status, 422);
      assert.match(await wrong.text(), /The last day comes before the first/);
    },
  );

  await t.test('waivers of a quarter, as known now and as known before they were revoked', async () => {
    const { text, links } = await reader.page('/waivers?tab=period');
    assert.match(text, /1 waiver was in force in Q4 2026 .* revoked/);
    const quarter = links.find((link) => link.includes('from=2026-07-01'))!;
    assert.match((await reader.page(quarter)).text, /No waiver was in force in Q3 2026/);
    // Only the second day: it had been revoked on the first, which was not known yet then.
    const second = '/waivers?tab=period&from=2026-11-25&to=2026-11-25';
    assert.match((await reader.page(second)).text, /No waiver was in force from 25 Nov 2026 to 25 Nov 2026/);
    const known = await reader.page(`${second}&known=${moment(3)}`);
    assert.match(known.text, /1 waiver was in force from 25 Nov/);
    assert.match(known.text, /--active-from 2026-11-25 --known 2026-11-24T15:00:00Z/);
    const wrong = await reader.visit('/waivers?tab=period&from=2026-11-31&known=soon');
    assert.equal(wrong.status, 422);
    assert.match(read(await wrong.text()).text, /A day, such as .* Day and time, such as/);
  });

  await t.test('nobody sees hosts of other groups, and who reads no waivers is told of none', async () => {
    const services = {
      store: server.server.store,
      keys: await serverKeys(server.server.store, randomBytes),
      clock: () => server.time.now,
      policies: { get: () => Promise.reject(new PolicyError('POLICY_UNKNOWN', 'of another build')) },
    } as unknown as WebServices;
    const pageFor = async (
      who: Principal,
      path: string,
    ): Promise<{ readonly status: number; readonly text: string }> => {
      const web = new Hono<Env>();
      web.use(async (c, next) => {
        c.set('principal', who);
        await next();
      });
      posturePage(web, services);
      imageHostsPage(web, services);
      const response = await web.request(path);
      return { status: response.status, text: read(await response.text()).text };
    };
    const olga = person('olga', { roles: ['operator'], groups: ['edge'] });
    const query = `posture?at=${moment(3)}`;
    assert.equal((await pageFor(olga, `/hosts/${late.id}/${query}`)).status, 200);
    assert.equal((await pageFor(olga, `/hosts/${drifted.id}/${query}`)).status, 404);
    const hosts = await pageFor(olga, `/images/${encodeURIComponent(OS.digest)}/hosts`);
    assert.match(hosts.text, /1 host ran/);
    assert.doesNotMatch(hosts.text, /web-1|db-1/);
    const viewer = await pageFor(person('vera', { roles: ['viewer'] }), `/hosts/${drifted.id}/${query}`);
    assert.equal(viewer.status, 200);
    assert.doesNotMatch(viewer.text, /Odd, and fine|Waivers in force|ended at another time/);
    const none = await waiversInPeriod(new URLSearchParams(), olga, services);
    assert.match(none.title, /1 waiver was in force/, 'it reaches every host, so theirs too');
  });

  await t.test('the API tells the three answers too', async () => {
    const { status, body } = await server.api(`/api/v1/hosts/${late.id}/posture?at=${moment(10.5)}Z`);
    assert.equal(status, 200);
    const { integrity, provenance, freshness } = body.answers;
    assert.deepEqual([integrity.value, provenance.value, freshness.value], ['drifted', 'not-assessed', 'heard']);
    assert.equal(integrity.entries[0].kind, 'judgement');
  });
});

test('moments and quarters in addresses are UTC, and nothing else is taken for one', () => {
  for (const [text, expected] of [
    ['2026-09-30', '2026-09-30T00:00:00.000Z'],
    ['2026-09-30T18:00', '2026-09-30T18:00:00.000Z'],
    [' 2026-09-30 18:00:05 ', '2026-09-30T18:00:05.000Z'],
    ['2026-09-30T18:00:05.25+02:00', '2026-09-30T16:00:05.250Z'],
  ] as const)
    assert.equal(new Date(momentFrom(text)!).toISOString(), expected);
  for (const text of ['', 'now', '2026-9-30', '2026-02-30', '2026-09-30T25:00', '20260930', '2026-09-30T18:00+2'])
    assert.equal(momentFrom(text), undefined, text);
  assert.deepEqual(quartersTo(Date.UTC(2026, 1, 28), 3), [
    { word: 'Q1 2026', first: '2026-01-01', last: '2026-03-31' },
    { word: 'Q4 2025', first: '2025-10-01', last: '2025-12-31' },
    { word: 'Q3 2025', first: '2025-07-01', last: '2025-09-30' },
  ]);
});
