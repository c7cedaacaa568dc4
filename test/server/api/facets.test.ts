/** Words that narrow the list of findings (docs/findings.md 6): each facet's number is the length of the list behind it. */
import assert from 'node:assert/strict';
import { acknowledge } from '#server/decisions/findings.ts';
import { file } from '#test/server/fleet.ts';
import { ALICE, deciding, groupAt, hostAs, odd, onBoth, shows } from '../decisions/people.ts';

/** The word of a facet in the filter line. */
const WORD: Readonly<Record<string, string>> = { severity: 'sev' };

onBoth(
  'facets equal the lists behind them, in each tab and under a filter; controls follow the policy',
  async (server) => {
    const [a, b] = [await hostAs(server, 'web-1'), await hostAs(server, 'db-1')];
    await server.api(`/api/v1/hosts/${a.id}`, { method: 'PATCH', body: { group: 'web' } });
    await shows(a, odd(), odd('x', '/usr/lib/odd'), file('/etc/sudoers.d/me', 'me'));
    await shows(b, odd('y'), file('/etc/sudoers.d/me', 'me'));
    await acknowledge(
      { groupId: (await groupAt(server, '/usr/lib/odd')).id },
      { until: null, note: null },
      ALICE,
      deciding(server),
    );

    const total = async (q: string, tab?: string): Promise<unknown> => {
      const { status, body } = await server.api(
        `/api/v1/groups?limit=1&q=${encodeURIComponent(q)}${tab === undefined ? '' : `&tab=${tab}`}`,
      );
      assert.equal(status, 200, `${q}: ${JSON.stringify(body)}`);
      return body.total;
    };
    const seen = new Set<string>();
    for (const [q, tab] of [[''], ['tree:usr'], ['', 'acknowledged'], ['group:web', 'open'], ['-sudoers']] as const) {
      const of = 'severity,rule,control,tree,change,age,is,group,image';
      const asked = `/api/v1/groups/facets?of=${of}&q=${encodeURIComponent(q)}${tab === undefined ? '' : `&tab=${tab}`}`;
      const { tabs, ...facets } = (await server.api(asked)).body;
      for (const [one, n] of Object.entries(tabs)) assert.deepEqual(n, await total(q, one), `${q} ${one}`);
      for (const [name, values] of Object.entries<Record<string, { count: number }>>(facets))
        for (const [value, n] of Object.entries(values)) {
          const word = `${WORD[name] ?? name}:${value}`;
          if (n.count > 0) seen.add(name);
          assert.deepEqual(n, await total(`${q} ${word}`.trim(), tab), `${q} ${tab ?? ''} ${word}`);
        }
    }
    assert.deepEqual([...seen].sort(), ['age', 'change', 'control', 'group', 'image', 'rule', 'severity', 'tree']);

    // A control is what the policy that judges says of its rules: in either spelling, or the whole framework.
    const groups = async (q: string) =>
      (await server.api(`/api/v1/groups?q=${encodeURIComponent(q)}`)).body.items.map(({ rule }: any) => rule).sort();
    const all = await groups('');
    assert.ok(all.length >= 4);
    assert.deepEqual(await groups('control:nist-800-53:SI-7'), await groups('control:nist-800-53/SI-7'));
    assert.deepEqual(await groups('control:nist-800-53'), all);
    assert.deepEqual(await groups('control:nist-800-53:SI-77'), []);
    assert.deepEqual(await groups('-control:nist-800-53'), []);
    assert.deepEqual((await server.api('/api/v1/groups?q=control:NIST%20800')).status, 400);

    // Under another policy, at once.
    await server.server.store.policies.setControls([{ control: 'mine:A-1', rule: all[0]! }]);
    assert.deepEqual(
      await groups('control:mine'),
      all.filter((rule: string) => rule === all[0]),
    );
    assert.deepEqual(await groups('control:nist-800-53'), []);
  },
);
