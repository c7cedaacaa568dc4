/** Channels on the pages: what each hears of, a test that arrives or does not, what was given up, and who may do that. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTargets } from '#server/notices/target.ts';
import { personAs } from '#test/server/access/signedin.ts';
import { image, serverFor } from '#test/server/fleet.ts';
import { receiver } from '#test/server/notices/receiver.ts';
import { visitor } from './visitor.ts';

test('a channel is seen, tried out, switched off and on; its address is shown to nobody', async (t) => {
  const to = await receiver(t);
  const server = await serverFor(t, { images: [image('41')], noticeTargets: parseTargets(['127.0.0.1']) });
  const reader = await visitor(server);
  assert.match((await reader.page('/settings/channels')).text, /Nobody is told/);
  const made = await server.api('/api/v1/channels', {
    method: 'POST',
    body: {
      name: 'ops <b>',
      target: { kind: 'webhook', url: `${to.url}?token=s3cret` },
      open: 'nothing',
      routing: {
        minSeverity: 'high',
        hostGroups: ['prod'],
        condition: 'severity == "high"',
        digestAt: '06:30',
        quiet: { from: '22:00', to: '06:00' },
      },
    },
  });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const { id } = made.body.channel;
  assert.match((await reader.page('/settings')).text, /Channels ?1 channel/);
  const { text, html } = await reader.page('/settings/channels');
  for (const words of [
    'ops <b>',
    'every change',
    'high and above',
    'prod',
    'severity == "high"',
    'each day at 06:30 UTC',
    '22:00 to 06:00 UTC, but for what is critical',
  ])
    assert.ok(text.includes(words), words);
  assert.ok(!html.includes('s3cret'));

  assert.equal((await reader.send('/settings/channels/test', { id })).location, '/settings/channels?did=tested');
  assert.equal(to.received.length, 1);
  to.answer = { status: 500 };
  assert.equal((await reader.send('/settings/channels/test', { id })).location, '/settings/channels?did=failed');
  assert.match((await reader.page('/settings/channels?did=failed')).text, /this is a test of the channel .*500/);

  assert.equal((await reader.send('/settings/channels/disable', { id })).location, '/settings/channels?did=disabled');
  assert.match((await reader.page('/settings/channels')).text, /switched off/i);
  // What failed is tried by the queue, or was given up; while the channel is off nobody sends it again.
  const [failed] = (await server.api('/api/v1/deliveries')).body.items;
  const refused = await reader.send('/settings/channels/resend', { id: failed.id });
  assert.deepEqual([refused.status, /is switched off/.test(refused.text)], [422, true]);
  await reader.send('/settings/channels/enable', { id });
  assert.equal((await server.api(`/api/v1/channels/${id}`)).body.state, 'active');
  assert.equal((await reader.send('/settings/channels/test', { id: 'c_none' })).status, 422);

  const url = `${server.server.url}/settings/channels`;
  const auditor = await personAs(server, 'auditor', [{ role: 'auditor', groups: null }]);
  const seen = await (await auditor.visitor.ask(url)).text();
  assert.ok(seen.includes('high and above') && !seen.includes('Send a test'));
  assert.equal((await auditor.visitor.ask(`${url}/test`, { id, csrf: auditor.csrf })).status, 403);
  const viewer = await personAs(server, 'viewer', [{ role: 'viewer', groups: null }]);
  assert.ok(!(await (await viewer.visitor.ask(url)).text()).includes('high and above'));
});
