/** Channels from the outside: made over the API, told what happens to real hosts, tried out, resent; and what /metrics says. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { NOTICE_WAIT_MS } from '#src/limits.ts';
import { parseTargets } from '#server/notices/target.ts';
import type { StartOptions } from '#server/options.ts';
import { BASE, enrol, file, folder, HOUR, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { receiver } from './receiver.ts';

const OS = image('41');

async function start(
  t: TestContext,
  options: Partial<StartOptions> & { readonly admin?: string } = {},
): Promise<TestServer> {
  return serverFor(t, { images: [OS], noticeTargets: parseTargets(['127.0.0.1']), ...options });
}

const webhook = (url: string, more: object = {}) => ({
  name: 'ops',
  target: { kind: 'webhook', url },
  open: 'nothing',
  routing: { graceSeconds: 0 },
  ...more,
});

/** A host that was its image, and has a program more now. */
async function drift(server: TestServer): Promise<void> {
  const { token } = (await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: null } })).body;
  const host = await enrol(server, OS, { token, name: 'web-1' });
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  host.entries = [...BASE, file('/usr/bin/extra', 'x', 0o755)];
  await host.sendFull();
}

/** Waits, in real time, for what the queue sends by itself. */
async function until(happened: () => boolean): Promise<void> {
  while (!happened()) await new Promise((resolve) => setTimeout(resolve, 10));
}

test('a host drifts, and the receiver is told once, signed with the key that was told once', async (t) => {
  const [to, server] = [await receiver(t), await start(t)];
  const made = await server.api('/api/v1/channels', { method: 'POST', body: webhook(to.url) });
  assert.equal(made.status, 201);
  const { channel, key } = made.body;
  assert.equal(channel.target, `http://127.0.0.1:${to.port}/…`);
  await drift(server);
  server.time.now += NOTICE_WAIT_MS;
  await server.settle();
  await until(() => to.received.length >= 2);
  const bodies = to.received.map(({ body, headers }) => {
    const checked = new Map(Object.entries(headers as Record<string, string>));
    // The test's clock is not the receiver's.
    assert.equal(checked.get('webhook-timestamp'), String(Math.floor(server.time.now / 1000)));
    const signed = new Webhook(key).sign(checked.get('webhook-id')!, new Date(server.time.now), body);
    assert.equal(checked.get('webhook-signature'), signed);
    return JSON.parse(body) as { type: string; data: { text: string; link: string; hosts: { name: string }[] } };
  });
  const finding = bodies.find(({ type }) => type === 'finding.new')!;
  assert.match(finding.data.text, /^\/usr\/bin\/extra: .*: new on web-1$/);
  assert.match(finding.data.link, /\/findings\/fg_/);
  assert.ok(bodies.some(({ type, data }) => type === 'host.verdict' && data.text === 'web-1 is drifted now'));
  server.time.now += HOUR;
  await server.settle();
  assert.equal(to.received.length, bodies.length);
  const { items } = (await server.api('/api/v1/deliveries?state=delivered')).body;
  assert.equal(items.length, bodies.length);
  // Nothing that is secret is told again, or was written into the trail.
  for (const route of ['/api/v1/channels', `/api/v1/channels/${channel.id}`, '/api/v1/deliveries'])
    assert.doesNotMatch(JSON.stringify((await server.api(route)).body), /s3cret|whsec_/);
  const trail = await server.server.store.audit.list({ object: `channel:${channel.id}` }, { cursor: null, limit: 10 });
  assert.equal(trail.items.length, 1);
  assert.doesNotMatch(JSON.stringify(trail.items), /s3cret|whsec_/);
});

test('what was written before a server ended is told once by the next one, under one id', async (t) => {
  const to = await receiver(t);
  const storeUrl = `sqlite:${join(folder(t), 'store.db')}`;
  const first = await start(t, { storeUrl });
  await first.api('/api/v1/channels', {
    method: 'POST',
    body: webhook(to.url, { routing: { events: ['finding.new'], graceSeconds: 0 } }),
  });
  await drift(first);
  await first.server.close();
  assert.equal(to.received.length, 0);
  // It is written as a message, and the receiver is down.
  to.answer = { status: 503 };
  const second = await start(t, { storeUrl, admin: first.admin });
  second.time.now = first.time.now + NOTICE_WAIT_MS;
  await until(() => to.received.length === 1);
  await second.server.close();
  to.answer = { status: 200 };
  const third = await start(t, { storeUrl, admin: first.admin });
  third.time.now = second.time.now + HOUR;
  await until(() => to.received.length === 2);
  await third.settle();
  third.time.now += HOUR;
  await third.settle();
  assert.equal(to.received.length, 2);
  assert.equal(new Set(to.received.map(({ headers }) => headers['webhook-id'])).size, 1);
  assert.equal((await third.api('/api/v1/deliveries?state=delivered')).body.items.length, 1);
});

test('a test says what the receiver says; a key is changed while the old one still signs', async (t) => {
  const [to, server] = [await receiver(t), await start(t)];
  const { channel, key } = (await server.api('/api/v1/channels', { method: 'POST', body: webhook(to.url) })).body;
  const path = `/api/v1/channels/${channel.id}`;
  const tried = await server.api(`${path}/test`, { method: 'POST' });
  assert.deepEqual([tried.body.delivered, tried.body.status], [true, 204]);
  to.answer = { status: 418, body: 'teapot' };
  const failed = await server.api(`${path}/test`, { method: 'POST' });
  assert.deepEqual([failed.body.delivered, failed.body.error], [false, 'HTTP 418: teapot']);
  const dead = await server.api('/api/v1/deliveries?state=dead');
  assert.equal(dead.body.items.length, 1);
  to.answer = { status: 200 };
  const renewed = (await server.api(`${path}/new-key`, { method: 'POST' })).body;
  assert.notEqual(renewed.key, key);
  const again = await server.api(`/api/v1/deliveries/${dead.body.items[0].id}/resend`, { method: 'POST' });
  assert.equal(again.body.state, 'waiting');
  await until(() => to.received.length === 3);
  const { headers } = to.received[2]!;
  assert.equal(headers['webhook-id'], dead.body.items[0].id);
  assert.equal(String(headers['webhook-signature']).split(' ').length, 2);
});

test('a channel is changed on what was read, switched off and on, and removed', async (t) => {
  const [to, server] = [await receiver(t), await start(t)];
  const { channel } = (await server.api('/api/v1/channels', { method: 'POST', body: webhook(to.url) })).body;
  const path = `/api/v1/channels/${channel.id}`;
  const patch = async (etag: string, body: object) => {
    const response = await server.server.app.request(path, {
      method: 'PATCH',
      headers: { authorization: `Bearer ${server.admin}`, 'content-type': 'application/json', 'if-match': etag },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  assert.equal((await patch('"1"', { state: 'disabled' })).body['state'], 'disabled');
  const stale = await patch('"1"', { state: 'active' });
  assert.deepEqual([stale.status, stale.body['code']], [412, 'STALE_DECISION']);
  assert.equal((await patch('"2"', { state: 'active', routing: { minSeverity: 'high' } })).body['disabledWhy'], null);
  assert.equal((await server.api(path, { method: 'DELETE' })).status, 200);
  assert.equal((await server.api(path)).body.code, 'CHANNEL_UNKNOWN');
});

const refused: readonly (readonly [string, object, number, string])[] = [
  ['an address inside', webhook('https://10.0.0.1/'), 422, 'CHANNEL_INVALID'],
  ['the metadata address', webhook('https://169.254.169.254/latest'), 422, 'CHANNEL_INVALID'],
  ['no TLS', webhook('http://hooks.example/'), 422, 'CHANNEL_INVALID'],
  ['a user in the URL', webhook('https://u:p@hooks.example/'), 400, 'BODY_INVALID'],
  ['another scheme', webhook('file:///etc/passwd'), 400, 'BODY_INVALID'],
  [
    'a key that is none',
    { ...webhook(''), target: { kind: 'webhook', url: 'https://h.example/', key: 'secret' } },
    400,
    'BODY_INVALID',
  ],
  [
    'a kind that is none',
    { ...webhook(''), target: { kind: 'pager', url: 'https://h.example/' } },
    400,
    'BODY_INVALID',
  ],
  [
    'an event that is none',
    webhook('https://h.example/', { routing: { events: ['finding.seen'] } }),
    400,
    'BODY_INVALID',
  ],
  ['a syslog host with a port', { ...webhook(''), target: { kind: 'syslog', host: 'siem:514' } }, 400, 'BODY_INVALID'],
];
test('channels that cannot be are refused, and their URL is not repeated', async (t) => {
  const server = await start(t);
  for (const [name, body, status, code] of refused) {
    const answer = await server.api('/api/v1/channels', { method: 'POST', body });
    assert.deepEqual([answer.status, answer.body.code], [status, code], name);
    assert.doesNotMatch(JSON.stringify(answer.body), /latest|u:p/, name);
  }
  const body = webhook('https://hooks.example/x');
  assert.equal((await server.api('/api/v1/channels', { method: 'POST', body })).status, 201);
  assert.equal((await server.api('/api/v1/channels', { method: 'POST', body })).body.code, 'CHANNEL_CONFLICT');
});

test('a channel that begins is told what is open in one message, where that is wanted and anything is', async (t) => {
  const [to, server] = [await receiver(t), await start(t)];
  const { target } = webhook(to.url);
  const make = (name: string, open?: string) =>
    server.api('/api/v1/channels', { method: 'POST', body: { name, target, ...(open === undefined ? {} : { open }) } });
  await make('before');
  await drift(server);
  await make('silent', 'nothing');
  await make('told');
  await until(() => to.received.length > 0);
  await server.settle();
  assert.deepEqual(
    to.received.map(({ body }) => (JSON.parse(body) as { type: string }).type),
    ['fleet.summary'],
  );
  assert.match(
    to.received[0]!.body,
    /1 group of findings is open as this channel begins: 1 (?:high|medium|low|critical)/,
  );
});

test('metrics are for whoever shows a token, or as the operator says', async (t) => {
  const server = await start(t);
  const ask = (on: TestServer, headers: Record<string, string> = {}) => on.server.app.request('/metrics', { headers });
  assert.equal((await ask(server)).status, 401);
  assert.equal((await ask(server, { authorization: 'Bearer bp_admin_x' })).status, 401);
  const { token } = (await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: null } })).body;
  const host = await enrol(server, OS, { token, name: 'web-1' });
  await host.sendFull();
  await server.settle();
  const answer = await ask(server, { authorization: `Bearer ${server.admin}` });
  assert.equal(answer.status, 200);
  const text = await answer.text();
  for (const line of [
    /^bootproof_reports_total\{status="200"\} 1$/m,
    /^bootproof_report_seconds_count 1$/m,
    /^bootproof_hosts\{verdict="drifted"\} 0$/m,
    /^bootproof_finding_groups_open\{severity="critical"\} 0$/m,
    /^bootproof_notices\{state="dead"\} 0$/m,
    /^bootproof_notice_attempts_total\{outcome="delivered"\} 0$/m,
    /^bootproof_store_up 1$/m,
  ])
    assert.match(text, line);
  assert.doesNotMatch(text, /web-1|h_[0-9a-f]/);
  const [open, off] = [await start(t, { metrics: 'open' }), await start(t, { metrics: 'off' })];
  assert.equal((await ask(open)).status, 200);
  assert.equal((await ask(off, { authorization: `Bearer ${off.admin}` })).status, 404);
});
