/** Full reports are looked at in threads: the same answers as on the event loop, which meanwhile goes on; a bounded row; what happens when one ends. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test, type TestContext } from 'node:test';
import { JUDGE_AT_ONCE, JUDGE_WAITING_MAX } from '#src/limits.ts';
import type { Lookups } from '#server/ingest/examiner.ts';
import { JudgePool, type JudgePoolDeps } from '#server/ingest/judgepool.ts';
import { ReportError } from '#server/ingest/reporterror.ts';
import { policySource } from '#server/prepare.ts';
import { StoreError } from '#server/store/store.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import { BASE, enrol, file, image, MINUTE, serverFor, type TestHost, type TestServer } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';
import { deep } from '#test/depth.ts';

const OS = image('41');

/** A server that judges in threads and has the manifest, and a host that compares with it. */
async function threaded(t: TestContext): Promise<{ server: TestServer; host: TestHost }> {
  const server = await serverFor(t, { images: [OS], policy: await policySource(undefined) });
  const host = await enrol(server, OS);
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  return { server, host };
}

/** Many files more than the image has: some megabytes of report. */
const many = (count: number) =>
  Array.from({ length: count }, (_, n) => file(`/etc/many-${String(n).padStart(6, '0')}`, String(n)));

test('what is judged in a thread is what the host shows: drift, its end, a fork, policy of the server', async (t) => {
  const { server, host } = await threaded(t);
  host.entries = [...BASE, file('/usr/bin/root-me', 'x', 0o4755)];
  assert.equal((await host.sendFull()).status, 200);
  const told = await host.told();
  assert.deepEqual([told.verdict, told.drift], ['drifted', { added: 1, removed: 0, modified: 0 }]);
  assert.deepEqual(
    (await host.findings()).map(({ subject }) => subject),
    ['/usr/bin/root-me'],
  );
  // The last full report is judged anew in a thread, too.
  await host.sendSame();
  host.seq--;
  host.count--;
  server.time.now += MINUTE;
  assert.equal((await host.send(host.sameReport())).status, 409);
  assert.ok((await host.findings()).some(({ kind }) => kind === 'report'));
  assert.equal((await server.api(`/api/v1/hosts/${host.id}/accept-fork`, { method: 'POST' })).status, 200);
  host.entries = BASE;
  await host.sendFull();
  assert.deepEqual([(await host.told()).verdict, await host.findings()], ['compliant', []]);
});

test('what a thread refuses is refused by the same checks, and counted on the host', async (t) => {
  const { server, host } = await threaded(t);
  const honest = host.fullReport();
  const other = Object.create(host, { signer: { value: nodeSigner(pkcs8OfSeed(randomBytes(32))) } }) as TestHost;
  for (const [code, status, check, text] of [
    ['SIGNATURE_INVALID', 401, 4, (await other.seal(honest)).text],
    ['SCHEMA_INVALID', 422, 5, (await host.seal({ ...honest, extra: 1 } as never)).text],
    [
      'TREE_CONTRADICTS',
      422,
      7,
      (await host.seal({ ...honest, trees: { ...honest.trees, etc: honest.trees.usr } })).text,
    ],
    ['HOST_UNKNOWN', 404, 3, (await host.seal({ ...honest, host: `h_${'a'.repeat(26)}` })).text],
    ['ENVELOPE_SYNTAX', 400, 2, `{"payload":"${'A'.repeat(20_000)}"`],
  ] as const) {
    const posted = await host.post(text);
    assert.deepEqual([posted.body.code, posted.status, posted.body.check], [code, status, check]);
  }
  assert.equal((await host.send(honest)).status, 200);
  await server.server.close();
});

test('while a report of megabytes is judged, the fleet is heard', async (t) => {
  const { server, host } = await threaded(t);
  const quiet = await enrol(server, OS, { name: 'host-2' });
  quiet.compareWith(OS);
  await quiet.sendFull();
  host.entries = [...BASE, ...many(deep(15_000, 6_000))];
  const { text } = await host.seal(host.fullReport());
  assert.ok(text.length > deep(3e6, 1.2e6));
  const big = { judged: false };
  const posting = host.post(text).finally(() => (big.judged = true));
  let heard = 0;
  while (!big.judged && heard < 300) {
    assert.equal((await quiet.sendSame()).status, 200);
    heard++;
  }
  assert.equal((await posting).status, 200);
  assert.ok(heard > deep(10, 4), `${heard} reports were taken meanwhile`);
});

// ── the pool by itself ───────────────────────────────────────────────────────────────────────────────────────────────

const nothing: Lookups = {
  admit: async () => ({ record: undefined, wait: 0 }),
  tag: () => Promise.resolve(null),
  provenances: { of: () => Promise.reject(new Error('not asked')) },
};

function pool(t: TestContext, lookups: Partial<Lookups>, more: Partial<JudgePoolDeps> = {}): JudgePool {
  const made = new JudgePool(
    {
      lookups: { ...nothing, ...lookups },
      store: {
        images: { find: async () => undefined, manifests: async () => [] },
        blobs: { get: async () => undefined },
      },
      policy: () => Promise.reject(new Error('not asked')),
      ticketKeys: [new Uint8Array(32)],
      log: () => {},
      ...more,
    },
    { threads: 1, textBytes: 1e6 },
  );
  t.after(() => made.close());
  return made;
}

async function someReport(t: TestContext): Promise<Uint8Array> {
  const server = await serverFor(t);
  const host = await enrol(server, null);
  return new TextEncoder().encode((await host.seal(host.fullReport())).text);
}
const arrival = { receivedAt: 0, carried: false };

test('a full row refuses, with a time to come back; who is patient waits; all are served in the end', async (t) => {
  const bytes = await someReport(t);
  const held = Promise.withResolvers<void>();
  const judges = pool(t, { admit: () => held.promise.then(() => ({ record: undefined, wait: 0 })) });
  const under = Array.from({ length: JUDGE_AT_ONCE + JUDGE_WAITING_MAX }, () => judges.open(bytes, arrival));
  const told = new Set<number>();
  for (let n = 0; n < 20; n++)
    await assert.rejects(judges.open(bytes, arrival), (error) => {
      assert.ok(error instanceof ReportError);
      assert.equal(error.code, 'OVERLOADED');
      told.add(error.retryAfter!);
      return error.retryAfter! > 0;
    });
  assert.equal(told.size, 20, 'they do not come back as one');
  const patient = judges.reopen(bytes, true);
  held.resolve();
  for (const opened of await Promise.all(under))
    assert.equal(opened.kind === 'refused' && opened.refused.code, 'HOST_UNKNOWN');
  (await patient)?.close();
});

test('a host over its share is told so before its report is checked', async (t) => {
  const judges = pool(t, { admit: async () => ({ record: undefined, wait: 7 }) });
  assert.deepEqual(await judges.open(await someReport(t), arrival), { kind: 'limited', seconds: 7 });
});

test('a store that cannot answer is what its asker is told', async (t) => {
  const judges = pool(t, { admit: () => Promise.reject(new StoreError('STORE_UNAVAILABLE', 'gone')) });
  const bytes = await someReport(t);
  await rejectsCode(() => judges.open(bytes, arrival), StoreError, 'STORE_UNAVAILABLE');
});

test('a thread that ends fails what it held, says so, and another one takes its place', async (t) => {
  const bytes = await someReport(t);
  const events: string[] = [];
  const judges = pool(t, {}, { ticketKeys: [], log: (_level, event) => events.push(event) });
  for (let n = 1; n <= 2; n++) {
    await assert.rejects(judges.open(bytes, arrival), /ticket key/);
    assert.equal(events.length, n);
  }
});
