/** Sending: signatures that the reference implementation accepts, attempts and their end, targets that are refused, syslog on the wire. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { Webhook } from 'standardwebhooks';
import { NOTICE_RETRIES_MS, SYSLOG_DATAGRAM_BYTES } from '#src/limits.ts';
import { UsageError } from '#src/terminal.ts';
import { kept, targetFrom, TargetBody } from '#server/notices/channel.ts';
import { notice, type Notice } from '#server/notices/notice.ts';
import { nextAttempt, sendDue, type SendDeps } from '#server/notices/send.ts';
import { ocsfEvent, slackBody } from '#server/notices/shapes.ts';
import { newSigningKey, signatureHeaders } from '#server/notices/signature.ts';
import { octetCounted, syslogMessage } from '#server/notices/syslog.ts';
import { isPublic, parseTargets, TargetError, Targets } from '#server/notices/target.ts';
import { openStore } from '#server/store/open.ts';
import type { NewDelivery } from '#server/store/noticerecords.ts';
import type { Store } from '#server/store/store.ts';
import { ADMIN, channel, T0 } from '#test/server/store/make.ts';
import { throwsCode } from '#test/throws.ts';
import { receiver } from './receiver.ts';

const key = newSigningKey((n) => Buffer.alloc(n, 7));
const HOSTS = Array.from({ length: 150 }, (_, n) => ({
  id: `h_${n}`,
  name: `host-${n}`,
  group: 'prod/web',
  episode: 1,
}));

const told = (more: Partial<Notice> = {}): Notice => ({
  ...notice(T0, 4, HOSTS, {
    type: 'finding.new',
    text: '/usr/bin/sudo: content differs: new on 150 hosts',
    link: 'https://bootproof.example/findings/fg_1',
    dedupe: 'c_1/finding:fg_1/new/1/1',
    group: {
      id: 'fg_1',
      rule: 'usr-modified',
      kind: 'drift',
      subject: '/usr/bin/sudo',
      what: '/usr/bin/sudo: content differs',
      severity: 'critical',
      firstSeen: '2026-01-05T12:00:00.000Z',
      hosts: { open: 150, acknowledged: 0, waived: 0 },
      link: 'https://bootproof.example/findings/fg_1',
    },
  }),
  ...more,
});

test('signatures are those of Standard Webhooks, with one for each key while keys change', () => {
  fc.assert(
    fc.property(fc.string(), fc.uint8Array({ minLength: 24, maxLength: 64 }), (body, secret) => {
      const own = `whsec_${Buffer.from(secret).toString('base64')}`;
      const now = Date.now();
      const headers = signatureHeaders('msg_1', now, body, [own, key]);
      for (const one of [own, key]) {
        assert.equal(
          new Webhook(one).sign('msg_1', new Date(now), body),
          headers['webhook-signature']!.split(' ')[one === own ? 0 : 1],
        );
        new Webhook(one).verify(body, { ...headers }, { jsonParse: false });
      }
    }),
    { numRuns: 100 },
  );
  assert.throws(() => new Webhook(key).verify('{"a":2}', signatureHeaders('msg_1', Date.now(), '{"a":1}', [key])));
});

type Bench = { readonly store: Store; readonly deps: SendDeps; readonly time: { now: number } };

async function bench(t: TestContext, target: object, named: readonly string[]): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-send-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const store = await openStore(`sqlite:${join(folder, 'store.db')}`);
  t.after(() => store.close());
  const time = { now: Date.now() };
  const made = { ...channel('ops'), id: 'c_1', ...kept(targetFrom(TargetBody.parse(target), () => key)) };
  await store.notices.create(made, ADMIN, [], []);
  const deps: SendDeps = {
    store,
    clock: () => time.now,
    log: () => {},
    random: (n) => new Uint8Array(n),
    targets: new Targets(parseTargets(named)),
    baseUrl: () => 'https://bootproof.example',
  };
  return { store, deps, time };
}

const delivery = (id: string, at: number, more: Partial<NewDelivery> = {}): NewDelivery => ({
  id,
  channelId: 'c_1',
  topic: 'finding:fg_1',
  transition: id,
  episode: 1,
  n: 1,
  severity: 4,
  createdAt: at,
  notice: told(),
  hosts: 150,
  ended: false,
  ...more,
});

const { signal } = new AbortController();

test('a webhook gets the message signed, once, and any 2xx will do', async (t) => {
  const to = await receiver(t);
  const { store, deps, time } = await bench(t, { kind: 'webhook', url: to.url }, [`127.0.0.1:${to.port}`]);
  await store.notices.add(delivery('msg_a', time.now), null, []);
  assert.equal(await sendDue('c_1', deps, signal), null);
  assert.equal(await sendDue('c_1', deps, signal), null);
  const [got, ...none] = to.received;
  assert.deepEqual(none, []);
  assert.equal(got!.path, '/hook?token=s3cret');
  const headers = got!.headers as Record<string, string>;
  assert.equal(headers['webhook-id'], 'msg_a');
  const body = new Webhook(key).verify(got!.body, headers) as { type: string; data: Notice };
  assert.deepEqual([body.type, body.data.hosts.length, body.data.more], ['finding.new', 100, 50]);
  assert.equal((await store.notices.get('msg_a'))!.state, 'delivered');
});

test('what fails is tried again later and later, then it is dead, and is sent again where somebody says so', async (t) => {
  const to = await receiver(t);
  to.answer = { status: 500, body: 'not now' };
  const { store, deps, time } = await bench(t, { kind: 'webhook', url: to.url }, ['127.0.0.1']);
  await store.notices.add(delivery('msg_a', time.now), null, []);
  const waits: number[] = [];
  for (let next = await sendDue('c_1', deps, signal); next !== null; next = await sendDue('c_1', deps, signal)) {
    waits.push(next - time.now);
    time.now = next;
  }
  assert.deepEqual(waits, [...NOTICE_RETRIES_MS]);
  const dead = (await store.notices.get('msg_a'))!;
  assert.deepEqual([dead.state, dead.attempts, dead.status, dead.error], ['dead', 10, 500, 'HTTP 500: not now']);
  assert.deepEqual(new Set(to.received.map(({ headers }) => headers['webhook-id'])), new Set(['msg_a']));
  to.answer = { status: 200 };
  await store.notices.resend('msg_a', { actor: 'admin', at: time.now }, []);
  await sendDue('c_1', deps, signal);
  assert.equal((await store.notices.get('msg_a'))!.state, 'delivered');
});

test('a receiver that is down is not asked for every message that waits', async (t) => {
  const to = await receiver(t);
  to.answer = { status: 503 };
  const { store, deps, time } = await bench(t, { kind: 'webhook', url: to.url }, ['127.0.0.1']);
  for (const id of ['msg_a', 'msg_b', 'msg_c']) await store.notices.add(delivery(id, time.now), null, []);
  assert.equal(await sendDue('c_1', deps, signal), time.now + 5000);
  assert.equal(to.received.length, 1);
  // What a receiver refuses for itself does not hold up the next.
  to.answer = { status: 400 };
  await sendDue('c_1', deps, signal);
  assert.equal(to.received.length, 3);
});

test('410 Gone switches the channel off; a redirect is an error and is not followed', async (t) => {
  const [to, other] = [await receiver(t), await receiver(t)];
  to.answer = { status: 302, headers: { location: other.url } };
  const { store, deps, time } = await bench(t, { kind: 'webhook', url: to.url }, ['127.0.0.1']);
  await store.notices.add(delivery('msg_a', time.now), null, []);
  const next = await sendDue('c_1', deps, signal);
  assert.equal((await store.notices.get('msg_a'))!.error, 'HTTP 302');
  assert.deepEqual(other.received, []);
  to.answer = { status: 410 };
  time.now = next!;
  await sendDue('c_1', deps, signal);
  assert.equal((await store.notices.channel('c_1'))!.state, 'disabled');
  assert.equal((await store.notices.get('msg_a'))!.state, 'dead');
  await store.notices.add(delivery('msg_b', time.now), null, []);
  assert.equal(await sendDue('c_1', deps, signal), null);
  assert.equal(to.received.length, 2, 'nothing is sent to a channel that is off');
});

test('what was being sent as the server stopped is sent again under its id', async (t) => {
  const to = await receiver(t);
  const { store, deps, time } = await bench(t, { kind: 'webhook', url: to.url }, ['127.0.0.1']);
  await store.notices.add(delivery('msg_a', time.now), null, []);
  const stop = new AbortController();
  stop.abort();
  await sendDue('c_1', deps, stop.signal);
  assert.deepEqual((await store.notices.get('msg_a'))!.attempts, 0);
  await sendDue('c_1', deps, signal);
  assert.equal((await store.notices.get('msg_a'))!.state, 'delivered');
});

const closed = [
  '127.0.0.1', '127.255.0.1', '0.0.0.0', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254',
  '100.64.0.1', '100.100.100.200', '168.63.129.16', '198.18.0.1', '224.0.0.1', '255.255.255.255', '::1', '::', 'fe80::1',
  'fe80::1%eth0', 'fc00::1', 'fd12::1', 'fd00:ec2::254', 'ff02::1', '::ffff:127.0.0.1', '::ffff:10.0.0.1',
  '::ffff:c0a8:101', '::7f00:1', '64:ff9b::a00:1', '2002:a00:1::', '[::1]', 'name', '',
]; // prettier-ignore
const open = ['1.1.1.1', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '[2606:4700::1111]', '::ffff:1.1.1.1'];
test('only public addresses are open', () => {
  for (const address of closed) assert.equal(isPublic(address), false, address);
  for (const address of open) assert.equal(isPublic(address), true, address);
});

test('a target inside is refused, spelled out or behind a name, unless the operator named it', async (t) => {
  const to = await receiver(t);
  for (const [url, said] of [
    [to.url, /127\.0\.0\.1 port \d+ lies on a loopback.*--notice-target/],
    [`https://localhost:${to.port}/`, /localhost port/],
    [`https://[::ffff:7f00:1]:${to.port}/`, /lies on a loopback/],
    // 0x7f.1 is 127.0.0.1 to whoever parses URLs.
    [`https://0x7f.1:${to.port}/`, /127\.0\.0\.1 port/],
  ] as const) {
    const { store, deps, time } = await bench(t, { kind: 'webhook', url }, [`127.0.0.1:${to.port + 1}`]);
    await store.notices.add(delivery('msg_a', time.now), null, []);
    await sendDue('c_1', deps, signal);
    const { state, error } = (await store.notices.get('msg_a'))!;
    assert.equal(state, 'waiting');
    assert.match(error!, said, url);
  }
  // A name that stands for a closed address is found out where it is resolved, each time.
  const answers = [
    [{ address: '10.1.2.3', family: 4 }],
    [
      { address: '1.1.1.1', family: 4 },
      { address: '::1', family: 6 },
    ],
  ];
  const targets = new Targets([], ((_host: string, _options: object, done: (...given: unknown[]) => void) =>
    done(null, answers.shift())) as never);
  const ask = () =>
    new Promise((resolve) => {
      targets.lookup(443)('hook.example', { all: true }, (error, found) => resolve(error ?? found));
    });
  assert.ok((await ask()) instanceof TargetError);
  assert.deepEqual(await ask(), [{ address: '1.1.1.1', family: 4 }]);
  assert.deepEqual(to.received, []);
});

test('nothing is told in the clear but to whom the operator named', async (t) => {
  const { store, deps, time } = await bench(t, { kind: 'webhook', url: 'http://1.1.1.1/' }, []);
  await store.notices.add(delivery('msg_a', time.now), null, []);
  await sendDue('c_1', deps, signal);
  assert.match((await store.notices.get('msg_a'))!.error!, /in the clear; use https/);
});

for (const text of ['', 'a b', 'host:0', 'host:70000', 'https://host', '10.0.0.0/8', ':443'])
  test(`refuses ${JSON.stringify(text)} as a target that is allowed`, () => {
    assert.throws(() => parseTargets([text]), UsageError);
  });
test('a named target counts on its port, or on all', () => {
  const targets = new Targets(parseTargets(['SIEM.corp.example:6514', '[fd00::1]', '10.0.0.1']));
  targets.check('siem.corp.example.', 6514);
  targets.check('[fd00::1]', 1);
  targets.check('10.0.0.1', 80);
  throwsCode(() => targets.check('10.0.0.2', 80), TargetError, 'NOTICE_TARGET');
  assert.equal(targets.isNamed('siem.corp.example', 443), false);
});

test('attempts stand between five seconds and a day apart, with chance', () => {
  assert.equal(nextAttempt(1, 0, 0, null), 5000);
  assert.equal(nextAttempt(1, 0, 1, null), 6000);
  assert.equal(nextAttempt(9, 0, 1, null), 86_400_000);
  assert.equal(nextAttempt(1, 0, 0, 120), 120_000, 'a receiver that asks for more time gets it');
  assert.equal(nextAttempt(1, 0, 0, 1e9), 86_400_000);
  assert.equal(nextAttempt(10, 0, 0, null), null);
});

test('what a host wrote is no markup, mention or link in a chat', () => {
  const body = JSON.parse(slackBody(told({ text: '<!channel> *x* <https://evil.example|ok> &\u202e' }))) as {
    text: string;
    blocks: { text?: { text: string } }[];
  };
  assert.doesNotMatch(body.text, /<|\u202e/);
  assert.match(body.text, /&lt;!channel&gt;/);
  assert.match(body.blocks[1]!.text!.text, /host-0, host-1, host-2, host-3, host-4 and 145 more/);
});

test('a message of a storm keeps its link, and cuts no line and no entity', () => {
  const { group } = told();
  const groups = Array.from({ length: 10 }, (_, n) => ({ ...group!, what: `/usr/lib/${'_&'.repeat(100)}${n}` }));
  const body = JSON.parse(slackBody(told({ groups, text: '&'.repeat(4000) }))) as { blocks: any[] };
  const [title, list] = body.blocks.map(({ text }) => text?.text as string);
  assert.ok(title!.length <= 3000 && list!.length <= 3000);
  assert.match(list!, /\n<[^|]+\|Open in Bootproof>$/);
  for (const text of [title!, list!]) assert.doesNotMatch(text, /&(?!amp;)/);
  for (const line of list!.split('\n').slice(0, 3)) assert.match(line, /^• critical: <[^|]+\|[^>]+…> \(\d+ open\)$/);
});

test('OCSF events carry what their class requires', () => {
  const required = [
    'activity_id',
    'category_uid',
    'class_uid',
    'finding_info',
    'metadata',
    'severity_id',
    'time',
    'type_uid',
  ];
  const cases: readonly [Notice, number, number, object][] = [
    [told(), 2004, 1, { severity_id: 5, is_alert: true, status_id: 1 }],
    [told({ type: 'finding.spread' }), 2004, 2, {}],
    [told({ type: 'finding.resolved' }), 2004, 3, { is_alert: false, status_id: 4 }],
    [
      told({ type: 'host.verdict', group: null, verdict: { to: 'drifted' }, severity: 'high' }),
      2003,
      1,
      { severity_id: 4 },
    ],
    [
      told({ type: 'host.verdict', group: null, verdict: { to: 'compliant' }, severity: 'info' }),
      2003,
      3,
      { severity_id: 1 },
    ],
    [
      told({
        type: 'image.trust',
        group: null,
        image: { digest: 'sha256:1', state: 'rejected', change: 'trust.change' },
      }),
      2003,
      1,
      {},
    ],
    [told({ type: 'fleet.mass_change', group: null }), 2004, 1, {}],
  ];
  for (const [of, classUid, activity, more] of cases) {
    const event = ocsfEvent(of, 'msg_1') as Record<string, any>;
    for (const name of required) assert.ok(event[name] !== undefined, `${of.type}: ${name}`);
    assert.equal(event['class_uid'], classUid);
    assert.equal(event['category_uid'], 2);
    assert.equal(event['type_uid'], classUid * 100 + activity);
    assert.equal(event['time'], T0);
    assert.equal(typeof event['finding_info'].uid, 'string');
    assert.ok(event['metadata'].version !== undefined && event['metadata'].product.name === 'Bootproof');
    if (classUid === 2003) {
      assert.ok(Array.isArray(event['compliance'].standards));
      assert.ok([1, 2, 3].includes(event['compliance'].status_id));
    }
    for (const [name, value] of Object.entries(more)) assert.equal(event[name], value, name);
  }
  const file = (ocsfEvent(told(), 'x') as Record<string, any>)['evidences'][0].file;
  assert.deepEqual(file, { name: 'sudo', path: '/usr/bin/sudo', type_id: 0 });
});

/** RFC 5424 section 6, as far as we write it. */
const SYSLOG =
  /^<([0-9]{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) bootproof - ([!-~]{1,32}) - (.*)$/s;
const target = { facility: 13, body: 'ocsf', transport: 'tcp' } as const;
const ids = { id: 'msg_1', hostName: 'bootproof.example' };

test('a syslog message is as RFC 5424 says, and its JSON is ASCII', () => {
  const message = syslogMessage(told({ text: 'Ünïcode\n\u0000' }), target, ids);
  const [, priority, , host, msgId, content] = SYSLOG.exec(message.toString('latin1'))!;
  assert.deepEqual([priority, host, msgId], [String(13 * 8 + 2), 'bootproof.example', 'finding.new']);
  assert.match(content!, /^[ -~]+$/);
  assert.equal(JSON.parse(content!).message, 'Ünïcode\n\u0000');
  assert.equal(octetCounted(message).toString('latin1'), `${message.length} ${message.toString('latin1')}`);
  const text = syslogMessage(told({ text: 'Ü' }), { ...target, body: 'text' }, ids).toString('latin1');
  assert.match(text, / - \u00ef\u00bb\u00bfcritical: /, 'UTF-8 begins with its mark');
});

test('a datagram is whole JSON however much there would be to say', () => {
  for (const text of ['short', 'ü'.repeat(3000)]) {
    const message = syslogMessage(told({ text }), { ...target, transport: 'udp' }, ids);
    assert.ok(message.length <= SYSLOG_DATAGRAM_BYTES);
    const [, , , , , content] = SYSLOG.exec(message.toString('latin1'))!;
    if (text === 'short') assert.ok((JSON.parse(content!) as { resources: unknown[] }).resources.length < 100);
  }
});

test('syslog over TCP counts octets, and a collector that ends early has not got it', async (t) => {
  const got: string[] = [];
  let hangUp = false;
  const server = createServer((socket) => {
    if (hangUp) return socket.resetAndDestroy();
    let text = '';
    socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')));
    socket.on('end', () => got.push(text));
    return undefined;
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const { store, deps, time } = await bench(
    t,
    { kind: 'syslog', host: '127.0.0.1', port, transport: 'tcp', body: 'text' },
    [`127.0.0.1:${port}`],
  );
  await store.notices.add(delivery('msg_a', time.now), null, []);
  await sendDue('c_1', deps, signal);
  assert.equal((await store.notices.get('msg_a'))!.state, 'delivered');
  const [, length, message] = /^([0-9]+) (.*)$/s.exec(got[0]!)!;
  assert.equal(message!.length, Number(length));
  assert.match(message!, SYSLOG);
  hangUp = true;
  await store.notices.add(delivery('msg_b', time.now), null, []);
  await sendDue('c_1', deps, signal);
  assert.equal((await store.notices.get('msg_b'))!.state, 'waiting');
});

test('syslog over UDP', async (t) => {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => socket.close());
  const { port } = socket.address();
  const { store, deps, time } = await bench(t, { kind: 'syslog', host: '127.0.0.1', port, transport: 'udp' }, [
    '127.0.0.1',
  ]);
  await store.notices.add(delivery('msg_a', time.now), null, []);
  const came = once(socket, 'message') as Promise<[Buffer]>;
  await sendDue('c_1', deps, signal);
  assert.match((await came)[0].toString('latin1'), SYSLOG);
});

test('syslog over TLS, to a collector whose certificate somebody vouches for', async (t) => {
  const made = await certificate(t);
  if (made === undefined) return t.skip('there is no openssl to make a certificate with');
  const got: string[] = [];
  const server = createTlsServer({ key: made.key, cert: made.cert }, (socket) => {
    let text = '';
    socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')));
    socket.on('end', () => got.push(text));
  });
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const to = { kind: 'syslog', host: 'localhost', port, transport: 'tls' };
  const trusting = await bench(t, { ...to, ca: made.cert }, ['localhost']);
  await trusting.store.notices.add(delivery('msg_a', trusting.time.now), null, []);
  await sendDue('c_1', trusting.deps, signal);
  assert.equal((await trusting.store.notices.get('msg_a'))!.state, 'delivered');
  assert.match(/^[0-9]+ (.*)$/s.exec(got[0]!)![1]!, SYSLOG);
  const wary = await bench(t, to, ['localhost']);
  await wary.store.notices.add(delivery('msg_a', wary.time.now), null, []);
  await sendDue('c_1', wary.deps, signal);
  assert.match((await wary.store.notices.get('msg_a'))!.error!, /self.signed certificate/);
  assert.equal(got.length, 1);
});

async function certificate(t: TestContext): Promise<{ key: string; cert: string } | undefined> {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-tls-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const words = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout ${key} -out ${cert}`;
  const child = spawnSync('openssl', words.split(' '));
  if (child.status !== 0) return undefined;
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
}
