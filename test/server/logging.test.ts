/** What the server says on standard error: its shape for journals and for people, request ids, and that no secret stands in it. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { addressOf, trustedProxies, viaProxy } from '#server/access/address.ts';
import { inRequest, logTo, withoutSecrets, type LogLevel } from '#server/logging.ts';
import { serverFor } from './fleet.ts';

function heard(isTTY: boolean, level?: LogLevel) {
  let text = '';
  const stderr = { isTTY, columns: 100, write: async (more: string | Uint8Array) => void (text += String(more)) };
  return { log: logTo({ stderr }, level), text: () => text };
}

test('for a journal each event is a line of JSON with its level, its name and its time', () => {
  const { log, text } = heard(false);
  log('warn', 'store unavailable', { error: 'gone\nfor now', count: 3 });
  log('debug', 'request', { path: '/' });
  const [line, rest] = text().split('\n');
  const { at, ...said } = JSON.parse(line!) as Record<string, unknown>;
  assert.deepEqual(said, { level: 'warn', event: 'store unavailable', error: 'gone\nfor now', count: 3 });
  assert.match(String(at), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.equal(rest, '', 'what is below the level is not said');
});

test('for a person each is a line of words, and what stands over several lines is indented below', () => {
  const { log, text } = heard(true, 'debug');
  log('error', 'job failed', { kind: 'manifest', why: 'no room \u001b[31m', error: 'Error: x\n    at y' });
  log('debug', 'request');
  const lines = text().split('\n');
  assert.match(lines[0]!, /^\d\d:\d\d:\d\d error job failed {2}kind=manifest {2}why="no room \\x1b\[31m"$/);
  assert.deepEqual(lines.slice(1, 3), ['         Error: x', '             at y']);
  assert.match(lines[3]!, / debug request$/);
});

test('what a request says carries its id, and what the clock does carries none', () => {
  const { log, text } = heard(false);
  inRequest('7f1c', () => log('info', 'a'));
  log('info', 'b');
  const ids = text()
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { request?: string }).request);
  assert.deepEqual(ids, ['7f1c', undefined]);
});

const SECRETS = [
  ['an API token', `bp_${'a1B2'.repeat(11)}zz`],
  ['the admin token', `bp_admin_${'x-_9'.repeat(10)}abc`],
  ['the secret of an enrolment token', `bp1.${'a2'.repeat(8)}.${'S'.repeat(43)}.${'f'.repeat(64)}`],
  ['a bearer', 'Authorization: Bearer eyJhbGciOi.payload.sig'],
  ['a password in a URL', 'connect postgres://bootproof:hunter2@db.example/bp failed'],
] as const;
for (const [name, secret] of SECRETS)
  test(`${name} is never told`, () => {
    const { log, text } = heard(false);
    log('error', `about ${secret}`, { error: `x ${secret} y`, deep: { in: [secret] } });
    for (const part of secret.split(/[ :@/.]/).filter((word) => /^(?:bp_\w{9}|SSSS|eyJ|payload|hunter2)/.test(word)))
      assert.ok(!text().includes(part), part);
    assert.ok(withoutSecrets(`x ${secret} y`).endsWith(' y'), 'what stands beside it does');
  });

test('fields that are secret by their name are left out', () => {
  const { log, text } = heard(false);
  log('info', 'a', { token: 'open sesame', header: { authorization: 'open sesame' } });
  assert.ok(!text().includes('sesame'));
});

test('the id stands in the answer and in a problem document; a stranger cannot choose it', async (t) => {
  const { server, events } = await serverFor(t, { access: { proxies: trustedProxies(['10.0.0.0/8']) } });
  const ask = (path: string) => fetch(`${server.url}${path}`, { headers: { 'x-request-id': 'chosen-by-a-stranger' } });
  const answer = await ask('/api/v1/hosts');
  const id = answer.headers.get('x-request-id')!;
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.equal(((await answer.json()) as { requestId: string }).requestId, id);
  assert.notEqual((await ask('/livez')).headers.get('x-request-id'), id);
  assert.match((await server.app.request('/login')).headers.get('x-request-id')!, /^[0-9a-f-]{36}$/);
  const over = { incoming: { socket: { remoteAddress: '10.1.2.3' } } };
  const given = (name: string) => server.app.request('/livez', { headers: { 'x-request-id': name } }, over);
  assert.equal((await given('proxy-0123456789')).headers.get('x-request-id'), 'proxy-0123456789');
  assert.match((await given('two words')).headers.get('x-request-id')!, /^[0-9a-f-]{36}$/, 'and that what is one');
  const said = events.find(({ event, fields }) => event === 'request' && (fields as { status: number }).status === 401);
  assert.deepEqual(
    { ...(said!.fields as object), ms: 0 },
    { method: 'GET', path: '/api/v1/hosts', status: 401, ms: 0 },
  );
});

test('only a proxy that was named is believed', () => {
  const proxies = trustedProxies(['10.0.0.0/8']);
  const from = (remoteAddress?: string) => ({
    env: { incoming: { socket: { remoteAddress } } },
    req: { header: () => '' },
  });
  assert.deepEqual(
    ['10.1.2.3', '::ffff:10.1.2.3', '192.0.2.1', undefined].map((peer) => viaProxy(from(peer), proxies)),
    [true, true, false, false],
  );
  assert.equal(addressOf('192.0.2.1', '198.51.100.7', proxies), '192.0.2.1');
  assert.equal(addressOf('10.1.2.3', '198.51.100.7', proxies), '198.51.100.7');
});

test('docs/operating.md says what each event that somebody must see means', () => {
  const root = join(import.meta.dirname, '../..');
  const page = readFileSync(join(root, 'docs/operating.md'), 'utf8');
  const said = globSync('server/**/*.ts', { cwd: root }).flatMap((file) =>
    [...readFileSync(join(root, file), 'utf8').matchAll(/\blog\(\s*'(?:warn|error)',\s*'([^']+)'/g)].map(
      ([, event]) => event!,
    ),
  );
  assert.ok(said.length > 30);
  assert.deepEqual(
    [...new Set(said)].filter((event) => !page.includes(`\`${event}\``)),
    [],
  );
});
