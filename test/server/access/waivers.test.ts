/** What each person reads of waivers (docs/findings.md 3.13), over every face at once: the API, the pages, the command, the trail. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { waivers } from '#cli/waivers.ts';
import type { Grant } from '#server/access/principal.ts';
import { decideWaiver, requestWaiver } from '#server/decisions/waivers.ts';
import { ran } from '#test/ran.ts';
import { serverFor, T0, type TestServer } from '#test/server/fleet.ts';
import { ALICE, BOB, DAY, deciding, groupAt, hostAs, ODD, odd, OS, shows } from '../decisions/people.ts';
import { personAs } from './signedin.ts';

/** By name: who a waiver is for, and the words that only its readers may see. */
const WAIVERS = ['db', 'web', 'all', 'both', 'tier', 'hosts'] as const;
type Name = (typeof WAIVERS)[number];
const words = (name: Name): string => `spoken of ${name} alone`;

type World = TestServer & {
  readonly ids: Readonly<Record<Name, string>>;
  readonly hosts: Readonly<Record<'web' | 'db', string>>;
};

async function world(t: TestContext): Promise<World> {
  const server = await serverFor(t, { images: [OS] });
  const [web, db] = [await hostAs(server, 'web-1'), await hostAs(server, 'db-1')];
  await server.api(`/api/v1/hosts/${web.id}`, { method: 'PATCH', body: { group: 'web/front' } });
  await server.api(`/api/v1/hosts/${db.id}`, { method: 'PATCH', body: { group: 'db', labels: { tier: 'data' } } });
  await shows(web, odd());
  await shows(db, odd());
  const reach: Record<Name, object | undefined> = {
    db: { groups: ['db'] },
    web: { groups: ['web/front'] },
    all: undefined,
    both: { groups: ['db', 'web/front'] },
    tier: { labels: [{ key: 'tier', value: 'data' }] },
    hosts: { ids: [db.id, web.id] },
  };
  const ids = {} as Record<Name, string>;
  for (const name of WAIVERS) {
    const hosts = reach[name];
    const made = await requestWaiver(
      {
        kind: 'accepted_risk',
        title: words(name),
        justification: words(name),
        compensating: null,
        ticket: null,
        selector: { subject: { exact: ODD }, content: 'pinned', ...(hosts === undefined ? {} : { hosts }) },
        ceiling: null,
        startsAt: null,
        expiresAt: T0 + 14 * DAY,
      },
      ALICE,
      deciding(server),
    );
    ids[name] = made.id;
  }
  // One of them is in force, on a host of each.
  await decideWaiver(ids.both, 1, { kind: 'approve', note: words('both') }, BOB, deciding(server));
  return { ...server, ids, hosts: { web: web.id, db: db.id } };
}

const ROWS: readonly (readonly [who: string, grants: readonly Grant[], reads: readonly Name[], whole: boolean])[] = [
  ['auditor', [{ role: 'auditor', groups: null }], WAIVERS, true],
  ['operator', [{ role: 'operator', groups: null }], WAIVERS, true],
  ['policy-editor', [{ role: 'policy_editor', groups: null }], WAIVERS, true],
  ['viewer', [{ role: 'viewer', groups: null }], [], false],
  ['web-operator', [{ role: 'operator', groups: ['web'] }], ['web', 'all', 'both', 'hosts'], false],
  ['web-reviewer', [{ role: 'reviewer', groups: ['web/front'] }], ['web', 'all', 'both', 'hosts'], false],
  ['web-auditor', [{ role: 'auditor', groups: ['web'] }], ['web', 'all', 'both', 'hosts'], false],
  ['db-operator', [{ role: 'operator', groups: ['db'] }], ['db', 'all', 'both', 'tier', 'hosts'], false],
  // What they see as a viewer does not widen what they read of waivers.
  [
    'web-operator-who-views',
    [
      { role: 'viewer', groups: null },
      { role: 'operator', groups: ['web'] },
    ],
    ['web', 'all', 'both', 'hosts'],
    false,
  ],
  ['lab-operator', [{ role: 'operator', groups: ['lab'] }], ['all'], false],
  [
    'both-operator',
    [
      { role: 'operator', groups: ['web'] },
      { role: 'reviewer', groups: ['db'] },
    ],
    WAIVERS,
    false,
  ],
];

test('each person reads of waivers what reaches hosts of theirs, on every face alike', async (t) => {
  const server = await world(t);
  const { id: group } = await groupAt(server);
  for (const [who, grants, reads, whole] of ROWS)
    await t.test(who, async () => {
      const { visitor, token } = await personAs(server, who, grants);
      const url = server.server.url;
      const ask = async (path: string) => {
        const answer = await fetch(`${url}${path}`, { headers: { authorization: `Bearer ${token}` } });
        return { status: answer.status, text: await answer.text() };
      };
      const shown = async (path: string) => (await visitor.ask(`${url}${path}`)).text();
      const command = async (main: Parameters<typeof ran>[0], ...args: string[]) => {
        try {
          const { out, err } = await ran(main, args, { env: { BOOTPROOF_SERVER: url, BOOTPROOF_TOKEN: token } });
          return out + err;
        } catch (error) {
          return String(error);
        }
      };
      const told = (text: string): Name[] => WAIVERS.filter((name) => text.includes(words(name)));
      const readsAny = reads.length > 0;

      // Lists and what is in them: in pages of one, too, so that a page is never short of what is behind it.
      const listed = await ask('/api/v1/waivers');
      assert.deepEqual(
        [listed.status, told(listed.text)],
        [readsAny || grants[0]!.role !== 'viewer' ? 200 : 403, reads],
      );
      const walked: string[] = [];
      let next: string | null = readsAny ? '' : null;
      while (next !== null) {
        const page = JSON.parse((await ask(`/api/v1/waivers?limit=1${next}`)).text);
        walked.push(...page.items.map(({ id }: { id: string }) => id));
        next = page.next === null ? null : `&cursor=${encodeURIComponent(page.next)}`;
      }
      assert.deepEqual(walked.toSorted(), reads.map((name) => server.ids[name]).toSorted());
      const counts = await ask('/api/v1/waivers/counts');
      if (counts.status === 200) {
        const { states } = JSON.parse(counts.text);
        const numbers = [states.requested + states.active, states.active];
        assert.deepEqual(numbers, [reads.length, reads.includes('both') ? 1 : 0]);
      }
      const html = await shown('/waivers?tab=all');
      assert.deepEqual(
        WAIVERS.filter((name) => html.includes(`/waivers/${server.ids[name]}"`)),
        reads,
        'page',
      );
      assert.deepEqual(told(await command(waivers)), reads, 'command');
      const soon = reads.includes('both') ? ['both'] : [];
      assert.deepEqual(told((await ask('/api/v1/waivers/hygiene')).text), soon, 'ends within 14 days');
      // A person without hosts is shown how to enrol one.
      if (who !== 'lab-operator') assert.match(await shown('/'), readsAny ? /To decide/ : /^(?!.*To decide)/s);
      const decidable = reads.filter((name) => name !== 'both').length;
      const badge = /href="\/waivers"[^>]*>Waivers(?: <span class="count">(\d+)<)?/.exec(await shown('/keys'));
      // Who may open no list of waivers is offered none.
      assert.equal(badge !== null, listed.status === 200, 'in the navigation');
      assert.equal(Number(badge?.[1] ?? 0), decidable, 'number in the navigation');

      for (const name of WAIVERS) {
        const id = server.ids[name];
        const is = reads.includes(name);
        const faces = {
          api: (await ask(`/api/v1/waivers/${id}`)).text,
          story: (await ask(`/api/v1/waivers/${id}/history`)).text,
          page: await shown(`/waivers/${id}`),
          command: await command(waivers, 'show', id),
        };
        for (const [face, text] of Object.entries(faces)) {
          assert.deepEqual(told(text), is ? [name] : [], `${name} on ${face}`);
          if (!is || whole || who === 'both-operator' || who.endsWith('-views')) continue;
          // No host and no group that is not theirs, neither as it stands nor in its story.
          const foreign = who.startsWith('db')
            ? [server.hosts.web, 'web/front']
            : [server.hosts.db, '"db"', 'group db'];
          for (const word of foreign) assert.ok(!text.includes(word), `${name} on ${face} names ${word}`);
        }
        if (is) assert.equal(JSON.parse(faces.api).beyond, !whole && beyond(who).includes(name), `${name} beyond`);
      }
      // The group of findings says which requests wait for a decision about it.
      const asked = await shown(`/findings/${group}`);
      const waiting = reads.filter((name) => name !== 'both' && asked.includes(`/waivers/${server.ids[name]}"`));
      if (who === 'auditor' || who === 'web-operator')
        assert.deepEqual(
          waiting,
          reads.filter((name) => name !== 'both'),
        );
      // That a finding is waived, and by which number, belongs to the finding.
      for (const name of WAIVERS)
        if (name !== 'both' && !reads.includes(name))
          assert.ok(!asked.includes(`/waivers/${server.ids[name]}"`), `${name} in the group`);
      // The trail of everything is for auditors and admins of the whole fleet.
      const trail = [(await ask('/api/v1/audit')).text, await shown('/activity')];
      for (const text of trail) assert.deepEqual(told(text), who === 'auditor' ? WAIVERS : []);
    });
});

/** Those that reach farther than this person. */
function beyond(who: string): readonly Name[] {
  if (who === 'both-operator') return ['all', 'tier'];
  return ['all', 'both', 'hosts', 'tier'];
}

test('what is covered is counted on hosts of theirs, and what is not theirs is not theirs to decide', async (t) => {
  const server = await world(t);
  const { token } = await personAs(server, 'w', [{ role: 'reviewer', groups: ['web'] }]);
  const ask = async (path: string, method = 'GET', body?: object, headers: Record<string, string> = {}) => {
    const answer = await fetch(`${server.server.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: answer.status, body: (await answer.json()) as any };
  };
  const both = await ask(`/api/v1/waivers/${server.ids.both}`);
  assert.deepEqual(
    [both.body.covers, both.body.selector.hosts],
    [{ findings: 1, hosts: 1 }, { groups: ['web/front'] }],
  );
  const whole = await server.api(`/api/v1/waivers/${server.ids.both}`);
  assert.deepEqual([whole.body.covers, whole.body.beyond], [{ findings: 2, hosts: 2 }, false]);
  for (const verb of ['approve', 'reject', 'revoke']) {
    const body = verb === 'approve' ? {} : verb === 'reject' ? { note: 'no' } : { reason: 'no' };
    const { status } = await ask(`/api/v1/waivers/${server.ids.db}/${verb}`, 'POST', body, { 'if-match': '"1"' });
    assert.equal(status, 404, verb);
  }
  assert.equal(
    (await ask(`/api/v1/waivers/${server.ids.db}`, 'PATCH', { title: 'x' }, { 'if-match': '"1"' })).status,
    404,
  );
  // A change that no host of theirs shows is not there for the form either.
  const lab = await personAs(server, 'l', [{ role: 'operator', groups: ['lab'] }]);
  const { id: hidden } = await groupAt(server);
  const form = { csrf: lab.csrf, kind: 'mitigated', expires: '2026-12-01', reason: 'It is there for a reason.' };
  for (const at of ['waiver', 'waiver/preview'])
    assert.equal((await lab.visitor.ask(`${server.server.url}/findings/${hidden}/${at}`, form)).status, 404, at);
  // Approved as far as they reach, and told so without the other half.
  const { status, body } = await ask(`/api/v1/waivers/${server.ids.hosts}/approve`, 'POST', {}, { 'if-match': '"1"' });
  assert.deepEqual([status, body.waiver.selector.hosts.ids, body.waiver.scope], [200, [server.hosts.web], ['web']]);
});
