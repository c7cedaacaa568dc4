/** What a quarter of one quiet host (a month unless in depth: test/depth.ts) leaves behind: nothing but what the contract names (docs/report.md 3.1.1, PROTOCOL 3.3). */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { HOST_BYTES_BURST, IMAGE_IDLE_MS } from '#src/limits.ts';
import { forgetChore } from '#server/jobs/forget.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import { deep, isFull } from '#test/depth.ts';
import { enrol, folder, HOUR, image, MINUTE, serverFor, type TestHost, type TestServer } from './fleet.ts';

const OS = image('41');
const DAY = 24 * HOUR;

function rowsIn(file: string): Record<string, number> {
  const db = new Database(file, { readonly: true });
  try {
    const tables = db
      .prepare<[], { name: string }>("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
      .all();
    return Object.fromEntries(
      tables.map(({ name }) => [name, db.prepare<[], { n: number }>(`select count(*) as n from "${name}"`).get()!.n]),
    );
  } finally {
    db.close();
  }
}

/** A day: some reports, a repeat, and what is refused, of the host and of strangers. */
async function day(server: TestServer, host: TestHost): Promise<void> {
  for (let n = 0; n < 6; n++) {
    server.time.now += 15 * MINUTE;
    const sent = await host.sendSame();
    assert.equal(sent.status, 200);
    assert.equal((await host.post(sent.text)).status, 200);
  }
  const stranger = Object.create(host, { signer: { value: nodeSigner(pkcs8OfSeed(randomBytes(32))) } }) as TestHost;
  assert.equal((await host.post((await stranger.seal(host.sameReport({ seq: host.seq-- }))).text)).status, 401);
  host.count--;
  assert.equal((await host.post('{}')).status, 400);
  assert.equal(
    (await host.post((await host.seal({ ...host.sameReport({ seq: host.seq-- }), host: `h_${'a'.repeat(26)}` })).text))
      .status,
    404,
  );
  host.count--;
  await server.server.app.request('/api/v1/enrol/nonce', { method: 'POST', body: '{"tokenId":"aaaaaaaaaaaaaaaa"}' });
  server.time.now += DAY - 6 * 15 * MINUTE;
}

async function grown(t: TestContext, days: number): Promise<Record<string, number>> {
  const file = join(folder(t), 'store.db');
  const server = await serverFor(t, { images: [OS], storeUrl: `sqlite:${file}` });
  const host = await enrol(server, OS);
  await host.sendFull();
  await server.settle();
  host.compareWith(OS);
  await host.sendFull();
  await host.sendSame();
  for (let n = 0; n < days / 2; n++) await day(server, host);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await server.settle();
  const before = rowsIn(file);
  for (let n = 0; n < days / 2; n++) await day(server, host);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await server.settle();
  const after = rowsIn(file);
  assert.equal((await host.told()).verdict, 'compliant');
  return Object.fromEntries(
    Object.keys(after).flatMap((table) => {
      const more = after[table]! - before[table]!;
      return more === 0 ? [] : [[table, more]];
    }),
  );
}

test('a quarter of a host that does not change: of each day one report stays, and nothing else is more', async (t) => {
  const days = deep(90, 30);
  const { log_checkpoint: signed = 0, retained: sums = 0, ...more } = await grown(t, days);
  // Its last report of each day is logged, and what was logged is signed.
  assert.deepEqual(more, { report: days / 2, log_entry: days / 2, log_payload: days / 2 });
  assert.ok(signed <= days / 2, `${signed} checkpoints`);
  // Of all hosts together, a row for each day (docs/retention.md 3.6).
  assert.ok(sums <= days / 2 + 1, `${sums} sums`);
});

test('images that a host makes up are forgotten once it names others, with the work of looking for them', async (t) => {
  const file = join(folder(t), 'store.db');
  const server = await serverFor(t, { images: [OS], storeUrl: `sqlite:${file}` });
  const host = await enrol(server, OS);
  for (let n = 0; n < 5; n++) {
    host.booted = image(`made up ${n}`).digest;
    assert.equal((await host.sendFull()).status, 200);
    await server.settle();
  }
  assert.equal(rowsIn(file)['image'], 5);
  const forget = forgetChore({ store: server.server.store, clock: () => server.time.now, log: () => {} }, 1);
  await forget.run();
  assert.equal(rowsIn(file)['image'], 5, 'who comes back within a day finds it');
  server.time.now += IMAGE_IDLE_MS + MINUTE;
  await forget.run();
  assert.deepEqual(
    (await server.api('/api/v1/images')).body.items.map(({ digest }: { digest: string }) => digest),
    [host.booted],
    'what a host has stays',
  );
  server.time.now += DAY;
  await server.settle();
  assert.equal(rowsIn(file)['job'], 3, 'one image is looked for, and what the night does waits for its turn');
  // Named again, it is looked for again.
  host.booted = image('made up 0').digest;
  assert.equal((await host.sendFull()).status, 200);
  assert.equal((await server.api(`/api/v1/images/${host.booted}`)).status, 200);
});

test('a host fills no disk: bytes of its reports are bounded over time', async (t) => {
  if (!isFull) return t.skip('it sends a hundred megabytes: TEST_DEPTH=full');
  const server = await serverFor(t);
  const host = await enrol(server, null);
  // As large as a report gets without a manifest: paths that could not be read.
  const holes = Array.from({ length: 1000 }, (_, n) => ({
    path: `/etc/${n}${`/${'x'.repeat(255)}`.repeat(14)}`,
    kind: 'unreadable' as const,
    detail: 'EIO',
  }));
  const trees = { ...host.fullReport().trees };
  trees.etc = { ...trees.etc, main: null, extra: null, holes };
  let sent = 0;
  let status = 200;
  for (; status === 200; sent++) status = (await host.sendFull({ trees })).status;
  assert.equal(status, 429);
  assert.ok(sent < 1 + HOST_BYTES_BURST / 3e6, `${sent} reports of 4 MB`);
  server.time.now += 15 * MINUTE;
  assert.equal((await host.sendFull({ trees })).status, 200);
});
