/** Intake over HTTP, on the real store: the table of PROTOCOL 3.5, the numbered checks, and what hosts see of them. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { test, type TestContext } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { formatInstant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { CHAIN_RECENT_MAX } from '#src/limits.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import { makeChallenge } from '#src/wire/challenge.ts';
import { serverKeys } from '#server/keys.ts';
import { StoreError } from '#server/store/store.ts';
import {
  BASE,
  enrol,
  file,
  HOUR,
  image,
  MINUTE,
  serverFor,
  T0,
  type TestHost,
  type TestServer,
} from '#test/server/fleet.ts';

const OS = image('41');
const zeros = (digit: string): Digest => `sha256:${digit.repeat(64)}` as Digest;

/** A server that has the manifest, and a host that compares with it and has reported once. */
async function settled(t: TestContext): Promise<{ server: TestServer; host: TestHost }> {
  const server = await serverFor(t, { images: [OS] });
  const host = await enrol(server, OS);
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  const { status } = await host.sendFull();
  assert.equal(status, 200);
  return { server, host };
}

test('a host is new, unverifiable until its manifest is there, then judged', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await enrol(server, OS, { name: 'web-1' });
  assert.equal((await host.told()).verdict, 'new');
  const first = await host.sendFull();
  assert.equal(first.status, 200);
  assert.deepEqual([first.body.effect, first.body.want, first.body.seq], ['advance', 'full', 1]);
  const before = await host.told();
  assert.equal(before.verdict, 'unverifiable');
  assert.equal(before.integrity.code, 'MANIFEST_PENDING');
  await server.settle();
  // Its digests alone say that nothing differs.
  assert.equal((await host.told()).verdict, 'compliant');
  host.compareWith(OS);
  const second = await host.sendFull();
  assert.equal(second.body.want, 'same');
  const told = await host.told();
  assert.equal(told.verdict, 'compliant');
  assert.equal(told.integrity.state, 'intact');
  assert.equal(told.rule, 'ostree/1');
  assert.deepEqual(told.drift, { added: 0, removed: 0, modified: 0 });
  assert.equal(told.freshness.state, 'current');
});

test('what differs becomes findings under the policy, and goes when it is undone', async (t) => {
  const { server, host } = await settled(t);
  host.entries = [
    ...BASE.filter(({ path }) => path !== '/usr/bin/login'),
    file('/usr/bin/login', 'changed', 0o755),
    file('/usr/bin/root-me', 'x', 0o4755),
  ];
  await host.sendFull();
  const drifted = await host.told();
  assert.equal(drifted.verdict, 'drifted');
  assert.deepEqual(drifted.drift, { added: 1, removed: 0, modified: 1 });
  assert.deepEqual((await host.findings()).map(({ kind, subject, status }) => `${kind} ${subject} ${status}`).sort(), [
    'drift /usr/bin/login open',
    'drift /usr/bin/root-me open',
  ]);
  const groups = (await server.api('/api/v1/groups')).body;
  assert.equal(groups.total.count, 2);
  assert.equal(groups.items[0].severity, 'critical');
  server.time.now += 15 * MINUTE;
  host.entries = BASE;
  await host.sendFull();
  assert.equal((await host.told()).verdict, 'compliant');
  assert.deepEqual(await host.findings(), []);
  assert.equal((await server.api('/api/v1/groups')).body.total.count, 0);
  const history = (await host.told()).history.map(({ to }: { to: string }) => to);
  assert.deepEqual(history.slice(0, 2), ['compliant', 'drifted']);
});

test('a report that waited for its manifest with drift is judged when the host has compared', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const host = await enrol(server, OS);
  host.entries = [...BASE, file('/usr/bin/extra', 'x', 0o755)];
  await host.sendFull();
  await server.settle();
  const waiting = await host.told();
  assert.equal(waiting.verdict, 'unverifiable');
  assert.equal(waiting.integrity.code, 'COMPARISON_PENDING');
  // A `same` now is told that only a full report helps.
  assert.equal((await host.sendSame()).body.want, 'full');
  host.compareWith(OS);
  await host.sendFull();
  assert.equal((await host.told()).verdict, 'drifted');
});

// ── PROTOCOL 3.5, row by row ─────────────────────────────────────────────────────────────────────────────────────────

test('same bytes, known seq: the first answer again, and no effect', async (t) => {
  const { server, host } = await settled(t);
  const sent = await host.sendSame();
  const revision = (await server.server.store.hosts.get(host.id))!.revision;
  server.time.now += MINUTE;
  const again = await host.post(sent.text);
  assert.equal(again.status, 200);
  assert.deepEqual(again.body, sent.body);
  assert.equal((await server.server.store.hosts.get(host.id))!.revision, revision);
});

test('same bytes again after their answer is no longer kept: no effect, and nothing to go on with', async (t) => {
  const { server, host } = await settled(t);
  const sent = await host.sendSame();
  await host.sendSame();
  const revision = (await server.server.store.hosts.get(host.id))!.revision;
  const again = await host.post(sent.text);
  assert.deepEqual([again.status, again.body.effect, again.body.seq], [200, 'replay', sent.body.seq]);
  assert.deepEqual([again.body.challenge, again.body.manifestBearer], [null, null]);
  assert.equal((await server.server.store.hosts.get(host.id))!.revision, revision);
});

test('a number whose bytes are forgotten: neither these nor others are acknowledged; what cannot be old is a fork', async (t) => {
  const { server, host } = await settled(t);
  const first = host.sameReport();
  const sent = await host.send(first);
  const other = await host.seal({ ...first, finishedAt: formatInstant(T0 + 1) });
  for (let n = 0; n < CHAIN_RECENT_MAX; n++) {
    server.time.now += MINUTE;
    await host.sendSame();
  }
  const before = (await server.server.store.hosts.get(host.id))!;
  for (const text of [sent.text, other.text]) {
    const again = await host.post(text);
    assert.deepEqual([again.status, again.body.code, again.body.check], [409, 'SEQUENCE_FORGOTTEN', 6]);
    assert.ok(!('challenge' in again.body) && !('manifestBearer' in again.body));
  }
  const after = (await server.server.store.hosts.get(host.id))!;
  assert.deepEqual([after.revision, after.chain], [before.revision, before.chain]);
  assert.deepEqual(await host.findings(), []);
  // It echoes a challenge that was given out after the newest report came: it was made now, under a number of then.
  const { tickets } = await serverKeys(server.server.store, () => new Uint8Array(32));
  const challenge = makeChallenge(host.id, server.time.now + 1, tickets);
  const forked = await host.post((await host.seal({ ...first, challenge })).text);
  assert.deepEqual([forked.status, forked.body.code], [409, 'SEQUENCE_FORKED']);
  assert.ok((await host.findings()).some(({ kind }) => kind === 'report'));
});

test('same seq, other bytes: 409, both kept, a finding, until a person accepts it', async (t) => {
  const { server, host } = await settled(t);
  await host.sendSame();
  host.seq--;
  host.count--;
  server.time.now += MINUTE;
  const forked = await host.send(host.sameReport());
  assert.equal(forked.status, 409);
  assert.deepEqual([forked.body.code, forked.body.check], ['SEQUENCE_FORKED', 6]);
  const forks = await server.server.store.reports.forks(host.id, host.seq);
  assert.equal(forks.length, 1);
  assert.equal(forks[0]!.digest, forked.digest);
  assert.ok((await host.findings()).some(({ kind }) => kind === 'report'));
  const told = await host.told();
  assert.notEqual(told.chain.forkedAt, null);
  assert.deepEqual(
    told.refused.map(({ code, count }: { code: string; count: number }) => [code, count]),
    [],
  );
  // It stays while nobody has looked at it.
  await host.sendSame();
  await host.sendFull();
  assert.ok((await host.findings()).some(({ kind }) => kind === 'report'));
  assert.equal((await server.api(`/api/v1/hosts/${host.id}/accept-fork`, { method: 'POST' })).status, 200);
  assert.deepEqual(await host.findings(), []);
  assert.equal((await host.told()).chain.forkedAt, null);
  const again = await server.api(`/api/v1/hosts/${host.id}/accept-fork`, { method: 'POST' });
  assert.deepEqual([again.status, again.body.code], [409, 'NOT_FORKED']);
});

test('a gap in seq: accepted, a finding, over with the next full report', async (t) => {
  const { server, host } = await settled(t);
  host.seq += 2;
  const sent = await host.sendSame();
  assert.equal(sent.status, 200);
  assert.equal(sent.body.want, 'full');
  assert.deepEqual((await host.told()).chain.gaps, [{ from: 3, to: 4 }]);
  assert.deepEqual(
    (await host.findings()).map(({ kind }) => kind),
    ['report'],
  );
  server.time.now += MINUTE;
  await host.sendFull();
  assert.deepEqual(await host.findings(), []);
});

test('an unknown previous above the head: accepted, a finding', async (t) => {
  const { host } = await settled(t);
  const sent = await host.sendFull({ previous: zeros('0') });
  assert.equal(sent.status, 200);
  assert.deepEqual(
    (await host.findings()).map(({ kind }) => kind),
    ['report'],
  );
});

test('an older seq that never came: kept as history, the verdict untouched', async (t) => {
  const { server, host } = await settled(t);
  host.entries = [...BASE, file('/usr/bin/extra', 'x', 0o755)];
  const late = await host.seal(host.fullReport());
  host.entries = BASE;
  server.time.now += MINUTE;
  await host.send(host.fullReport({ previous: late.digest }));
  assert.equal((await host.told()).verdict, 'compliant');
  const posted = await host.post(late.text);
  assert.deepEqual([posted.status, posted.body.effect], [200, 'history']);
  const told = await host.told();
  assert.equal(told.verdict, 'compliant');
  assert.deepEqual(told.chain.gaps, []);
  assert.equal((await server.server.store.reports.head(host.id, 3))!.kind, 'history');
});

test('boot ids interleave A, B, A: a finding, cloned', async (t) => {
  const { host } = await settled(t);
  const first = host.bootId;
  host.bootId = randomUUID();
  await host.sendSame();
  assert.deepEqual(await host.findings(), [], 'a new boot id alone is a reboot');
  host.bootId = first;
  await host.sendSame();
  assert.ok((await host.findings()).some(({ kind }) => kind === 'report'));
  assert.notEqual((await host.told()).chain.clonedAt, null);
});

test('two posts of one seq at once: one wins, the other is refused or gets its answer', async (t) => {
  const { host } = await settled(t);
  const one = await host.seal(host.sameReport());
  const answers = await Promise.all(Array.from({ length: 5 }, () => host.post(one.text)));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200, 200, 200],
  );
  assert.equal(new Set(answers.map(({ body }) => JSON.stringify(body))).size, 1, 'one answer for all');
  host.seq++;
  const common = host.sameReport({ seq: host.seq });
  const rivals = await Promise.all(
    [common, { ...common, startedAt: formatInstant(T0 - 1000) }].map(async (report) =>
      host.post((await host.seal(report)).text),
    ),
  );
  assert.deepEqual(
    rivals.map(({ status }) => status).sort((a, b) => a - b),
    [200, 409],
  );
});

// ── the checks, from outside ─────────────────────────────────────────────────────────────────────────────────────────

const refusals: readonly (readonly [
  string,
  string,
  number,
  number,
  (host: TestHost) => Promise<string | Uint8Array<ArrayBuffer>>,
])[] = [
  ['text that is no envelope', 'ENVELOPE_SYNTAX', 400, 2, async () => '{}'],
  ['an empty envelope', 'ENVELOPE_SYNTAX', 400, 2, async () => '[]'],
  ['an empty body', 'ENVELOPE_SYNTAX', 400, 2, async () => ''],
  [
    "another host's id",
    'HOST_UNKNOWN',
    404,
    3,
    async (host) => (await host.seal({ ...host.sameReport(), host: `h_${'a'.repeat(26)}` })).text,
  ],
  [
    "a key that is not the host's",
    'SIGNATURE_INVALID',
    401,
    4,
    async (host) => {
      const other = Object.create(host, { signer: { value: nodeSigner(pkcs8OfSeed(randomBytes(32))) } }) as TestHost;
      return (await other.seal(host.sameReport())).text;
    },
  ],
  [
    'a version of the future',
    'VERSION_UNSUPPORTED',
    422,
    5,
    async (host) => (await host.seal({ ...host.sameReport(), version: 2 as 1 })).text,
  ],
  [
    'a field that no version has',
    'SCHEMA_INVALID',
    422,
    5,
    async (host) => (await host.seal({ ...host.sameReport(), extra: 1 } as never)).text,
  ],
  [
    'a dropped range that ends before it begins',
    'SCHEMA_INVALID',
    422,
    5,
    async (host) => (await host.seal(host.sameReport({ dropped: [{ from: 9, to: 3 }] }))).text,
  ],
  [
    'a challenge of no form',
    'CHALLENGE_MALFORMED',
    422,
    5,
    async (host) => (await host.seal(host.sameReport({ challenge: 'x' }))).text,
  ],
  [
    'a same that contradicts its full',
    'SAME_CONTRADICTS',
    422,
    7,
    async (host) => (await host.seal(host.sameReport({ state: zeros('0') }))).text,
  ],
  [
    'drift that is left out',
    'TREE_CONTRADICTS',
    422,
    7,
    async (host) => {
      const honest = host.entries;
      host.entries = [...BASE, file('/usr/bin/extra', 'x', 0o755)];
      const report = host.fullReport();
      host.entries = honest;
      return (await host.seal({ ...report, drift: [] })).text;
    },
  ],
  [
    'drift that is not there',
    'TREE_CONTRADICTS',
    422,
    7,
    async (host) => {
      const { drift } = host.fullReport();
      assert.deepEqual(drift, []);
      host.seq--;
      const facts = { type: 'file', mode: '0644', uid: 0, gid: 0, size: 1, sha256: '0'.repeat(64) } as const;
      return (
        await host.seal(
          host.fullReport({ drift: [{ path: '/usr/bin/ghost', change: 'added', attributes: [], actual: facts }] }),
        )
      ).text;
    },
  ],
  [
    'a manifest of another image',
    'MANIFEST_CONTRADICTS',
    422,
    7,
    async (host) => (await host.seal(host.fullReport({ manifest: { image: zeros('1'), rule: 'ostree/1' } }))).text,
  ],
  [
    'holes beside digests',
    'HOLES_CONTRADICT',
    422,
    7,
    async (host) => {
      const report = host.fullReport();
      return (
        await host.seal({
          ...report,
          trees: {
            ...report.trees,
            usr: { ...report.trees.usr, holes: [{ path: '/usr/bin/x', kind: 'unreadable', detail: '' }] },
          },
        })
      ).text;
    },
  ],
];
for (const [name, code, status, check, make] of refusals)
  test(`${name} is refused by check ${check}, counted, and seen on the host`, async (t) => {
    const { server, host } = await settled(t);
    const posted = await host.post(await make(host));
    assert.deepEqual([posted.status, posted.body.code, posted.body.check], [status, code, check]);
    assert.match(posted.headers.get('content-type')!, /^application\/problem\+json/);
    if (code === 'VERSION_UNSUPPORTED') assert.deepEqual(posted.body.accepts, [1]);
    // Counts are written together, once a second.
    for (let tries = 0; ; tries++) {
      const hostId = check <= 3 ? '' : host.id;
      const counted = await server.server.store.read.refusals(hostId);
      if (counted.length > 0 || tries > 400) {
        assert.deepEqual(
          counted.map((refusal) => [refusal.code, refusal.count]),
          [[code, 1]],
        );
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal((await host.told()).verdict, 'compliant', 'what is refused changes nothing');
  });

test('a retired host is refused, and its findings are closed', async (t) => {
  const { server, host } = await settled(t);
  await server.api(`/api/v1/hosts/${host.id}/retire`, { method: 'POST' });
  const posted = await host.sendSame();
  assert.deepEqual([posted.status, posted.body.code, posted.body.check], [403, 'HOST_RETIRED', 3]);
});

test('bodies decode, and bombs end as reports that are too large', async (t) => {
  const { host } = await settled(t);
  const { text } = await host.seal(host.sameReport());
  assert.equal((await host.post(new Uint8Array(gzipSync(text)), { 'content-encoding': 'gzip' })).status, 200);
  assert.equal(
    (await host.post(new Uint8Array(zstdCompressSync(text)), { 'content-encoding': 'zstd' })).status,
    200,
    'the same report again',
  );
  const zeros = Buffer.alloc(64 * 1024 * 1024);
  for (const [encoding, bomb] of [
    ['gzip', gzipSync(zeros)],
    ['zstd', zstdCompressSync(zeros)],
  ] as const) {
    const posted = await host.post(new Uint8Array(bomb), { 'content-encoding': encoding });
    assert.deepEqual([posted.status, posted.body.code, posted.body.check], [413, 'REPORT_TOO_LARGE', 1]);
  }
  assert.equal((await host.post(text, { 'content-encoding': 'br' })).status, 415);
});

// ── freshness, clock, masks, holes, truncation ───────────────────────────────────────────────────────────────────────

test('only live reports renew freshness', async (t) => {
  const { server, host } = await settled(t);
  const { challenge } = host;
  server.time.now += 40 * MINUTE;
  host.challenge = challenge;
  await host.sendSame();
  const late = await host.told();
  assert.equal(late.last.class, 'late');
  assert.equal(late.freshness.lateAfter, formatInstant(T0 + 45 * MINUTE), 'a challenge of 40 minutes renews nothing');
  await host.sendSame();
  assert.equal((await host.told()).last.class, 'live');
  assert.equal((await host.told()).freshness.lateAfter, formatInstant(T0 + 85 * MINUTE));
});

test('a host that says nothing is late, then silent, by the clock alone; the finding comes by a job and goes by a report', async (t) => {
  const { server, host } = await settled(t);
  server.time.now += 50 * MINUTE;
  const late = await host.told();
  assert.deepEqual([late.verdict, late.freshness.state], ['compliant', 'late']);
  server.time.now = T0 + 25 * HOUR;
  const silent = await host.told();
  assert.deepEqual([silent.verdict, silent.freshness.state, silent.integrity.state], ['silent', 'silent', 'intact']);
  assert.equal((await server.api('/api/v1/verdicts')).body.silent, 1);
  assert.equal((await server.api('/api/v1/hosts?verdict=silent')).body.total.count, 1);
  assert.equal((await server.api('/api/v1/hosts?verdict=compliant')).body.total.count, 0);
  while ((await host.findings()).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(
    (await host.findings()).map(({ kind, status }) => [kind, status]),
    [['silence', 'stale']],
  );
  // What a person does has it judged anew, which is no news of it.
  await server.api(`/api/v1/hosts/${host.id}`, { method: 'PATCH', body: { labels: { tier: 'front' } } });
  await server.settle();
  assert.equal((await host.findings()).length, 1);
  // Its challenge is too old now: the report is taken, but only the next one is live.
  await host.sendSame();
  assert.equal((await host.told()).verdict, 'silent');
  await host.sendSame();
  assert.equal((await host.told()).verdict, 'compliant');
  assert.deepEqual(await host.findings(), []);
});

test('a clock that is off by more than five minutes is a finding and never a refusal', async (t) => {
  const { server, host } = await settled(t);
  const ahead = formatInstant(server.time.now + 6 * MINUTE);
  assert.equal((await host.sendSame({ startedAt: ahead, finishedAt: ahead })).status, 200);
  assert.deepEqual(
    (await host.findings()).map(({ kind }) => kind),
    ['report'],
  );
  await host.sendSame();
  assert.deepEqual(await host.findings(), [], 'set right again');
});

test('a mount over /usr is masked, never intact', async (t) => {
  const { host } = await settled(t);
  const report = host.fullReport({
    deployment: {
      ...host.deployment(),
      overlays: [
        { path: '/usr/bin/sudo', kind: 'bind', detail: '/tmp/sudo', writable: true, masks: true, beneath: null },
      ],
    },
  });
  report.trees.usr = {
    ...report.trees.usr,
    main: null,
    extra: null,
    holes: [{ path: '/usr/bin/sudo', kind: 'mount', detail: '/tmp/sudo' }],
  };
  assert.equal((await host.send(report)).status, 200);
  const told = await host.told();
  assert.equal(told.integrity.state, 'masked');
  assert.equal(told.verdict, 'drifted');
});

test('what lies in a hole does not resolve; what lies outside does', async (t) => {
  const { host } = await settled(t);
  host.entries = [...BASE, file('/usr/bin/a', 'a', 0o755), file('/usr/lib/b', 'b')];
  await host.sendFull();
  assert.equal((await host.findings()).length, 2);
  host.entries = BASE;
  const report = host.fullReport();
  report.trees.usr = {
    ...report.trees.usr,
    main: null,
    extra: null,
    holes: [{ path: '/usr/bin', kind: 'unreadable', detail: 'EIO' }],
  };
  assert.equal((await host.send(report)).status, 200);
  const drift = (await host.findings()).filter(({ kind }) => kind === 'drift');
  assert.deepEqual(
    drift.map(({ subject }) => subject),
    ['/usr/bin/a'],
  );
});

test('a truncated report is drifted and resolves nothing', async (t) => {
  const { host } = await settled(t);
  host.entries = [...BASE, file('/usr/bin/a', 'a', 0o755)];
  await host.sendFull();
  const { drift } = host.full!.report;
  const cut = host.fullReport({ drift: [], truncated: { added: 30_000, removed: 0, modified: 0 } });
  assert.equal((await host.send(cut)).status, 200);
  const told = await host.told();
  assert.equal(told.integrity.state, 'drifted');
  assert.deepEqual(told.drift, { added: 30_000, removed: 0, modified: 0 });
  assert.ok((await host.findings()).some(({ subject }) => subject === '/usr/bin/a'));
  assert.equal(drift.length, 1);
});

test('a scan that saw far too little is accepted, resolves nothing, and is unverifiable', async (t) => {
  const { host } = await settled(t);
  host.entries = [...BASE, file('/usr/bin/a', 'a', 0o755)];
  await host.sendFull();
  host.entries = BASE.filter(({ path }) => path === '/usr' || path.startsWith('/etc'));
  assert.equal((await host.sendFull()).status, 200);
  const findings = await host.findings();
  assert.ok(
    findings.some(({ subject }) => subject === '/usr/bin/a'),
    'not resolved',
  );
  assert.ok(findings.some(({ kind, subject }) => kind === 'report' && subject === 'host'));
});

test('secrets are told apart without size or digest, wherever they are shown', async (t) => {
  const { server, host } = await settled(t);
  host.entries = BASE.map((entry) =>
    entry.path === '/etc/shadow' ? file('/etc/shadow', 'root:$y$correcthorse', 0) : entry,
  );
  await host.sendFull();
  const shown = await Promise.all(
    ['', '/drift', '/findings'].map(async (part) => (await server.api(`/api/v1/hosts/${host.id}${part}`)).body),
  );
  assert.deepEqual(shown[1].secrets, [{ path: '/etc/shadow', state: 'differs' }]);
  assert.equal(shown[0].integrity.local, 1, 'the shipped policy expects passwords to be set on the host');
  const { sha256, size } = host.entries.find(({ path }) => path === '/etc/shadow')!;
  const everything = JSON.stringify(shown);
  assert.ok(!everything.includes(sha256!) && !everything.includes(`"size":${size}`));
});

test('a report by file is evidence of its own time and renews nothing', async (t) => {
  const { server, host } = await settled(t);
  server.time.now = T0 + 25 * HOUR;
  host.entries = [...BASE, file('/usr/bin/a', 'a', 0o755)];
  const { text } = await host.seal(host.fullReport());
  const response = await server.server.app.request('/api/v1/reports/carried', {
    method: 'POST',
    body: text,
    headers: { authorization: `Bearer ${server.admin}` },
  });
  assert.equal(response.status, 200);
  const told = await host.told();
  assert.deepEqual([told.last.class, told.verdict, told.integrity.state], ['carried', 'silent', 'drifted']);
  const stranger = await server.server.app.request('/api/v1/reports/carried', { method: 'POST', body: text });
  assert.equal(stranger.status, 401);
});

test('two hosts with one machine id: the second is pending, never a takeover', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const machine = randomBytes(16).toString('hex');
  const first = await enrol(server, OS, { machine });
  const second = await enrol(server, OS, { machine });
  assert.equal((await second.told()).state, 'pending');
  assert.equal((await second.sendFull()).body.code, 'HOST_PENDING');
  assert.equal((await first.sendFull()).status, 200);
  assert.equal((await server.api(`/api/v1/hosts/${second.id}/approve`, { method: 'POST' })).status, 200);
  assert.equal((await second.sendFull()).status, 200);
  assert.equal((await first.sendFull()).body.code, 'HOST_RETIRED');
});

test('next times of a fleet that booted at one moment are spread evenly', async (t) => {
  const server = await serverFor(t, { images: [OS] });
  const { token } = (await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: null } })).body;
  const hosts = await Promise.all(Array.from({ length: 60 }, (_, n) => enrol(server, OS, { token, name: `h${n}` })));
  await hosts[0]!.sendFull();
  await server.settle();
  const next: number[] = [];
  for (const host of hosts) {
    host.compareWith(OS);
    next.push(Date.parse((await host.sendFull()).body.next) - T0);
  }
  assert.ok(next.every((at) => at >= 7.5 * MINUTE && at <= 22.5 * MINUTE));
  const thirds = [0, 1, 2].map(
    (third) => next.filter((at) => Math.floor((at - 7.5 * MINUTE) / (5 * MINUTE)) === third).length,
  );
  assert.ok(
    thirds.every((n) => n >= 8),
    `spread: ${thirds.join(', ')}`,
  );
});

for (const fault of ['before anything was persisted', 'though all of it was persisted'] as const)
  test(`a commit that fails ${fault} is no acknowledgement, and the same report again is taken once`, async (t) => {
    const { server, host } = await settled(t);
    const { store } = server.server;
    const intake = store.intake.bind(store);
    store.intake = async (items) => {
      store.intake = intake;
      if (fault.startsWith('though')) await intake(items);
      throw new StoreError('STORE_UNAVAILABLE', 'this test says so');
    };
    const { text, digest } = await host.seal(host.fullReport());
    const lost = await host.post(text);
    assert.deepEqual([lost.status, lost.body.code], [503, 'OVERLOADED']);
    assert.ok(Number(lost.headers.get('retry-after')) > 0);
    const again = await host.post(text);
    assert.deepEqual([again.status, again.body.effect], [200, 'advance']);
    const { items } = (await server.api(`/api/v1/hosts/${host.id}/reports`)).body;
    assert.deepEqual(items.filter((item: { digest: string }) => item.digest === digest).length, 1);
    assert.deepEqual(await host.findings(), []);
  });
