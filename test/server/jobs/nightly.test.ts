/** The night's job: it sets right what is wrong, says so loudly, and asks for the next night. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { sql } from 'kysely';
import { nightlyJob, nightlyWork } from '#server/jobs/nightly.ts';
import { RESOLVED_KEPT_MS } from '#src/limits.ts';
import { openEngine, storeOn } from '#server/store/open.ts';
import { absent, admit, commit, DAY, hostId, present, report, T0 } from '../store/make.ts';

test('by night counters are held against rows, what ended long ago moves aside, and the next night is asked for', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-nightly-'));
  const engine = await openEngine(`sqlite:${join(folder, 'store.db')}`);
  t.after(async () => {
    await engine.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const store = storeOn(engine);
  await admit(store, 1);
  await commit(store, hostId(1), (host) => ({ ...report(host, 'full'), findings: [present(1), present(2)] }));
  await commit(store, hostId(1), (host) => ({ ...report(host, 'full'), findings: [absent(1)] }));
  await engine.write(({ db }) => sql`update host set open3 = 5`.execute(db));
  const logged: string[] = [];
  const now = T0 + RESOLVED_KEPT_MS + 1;
  const work = nightlyWork({ store, clock: () => now, log: (level, what) => void logged.push(`${level} ${what}`) });
  const [job] = await (async () => {
    await store.jobs.enqueue([nightlyJob(now)]);
    assert.deepEqual(await store.jobs.take([work.kind], now, 1000, 1), [], 'not before the night');
    return store.jobs.take([work.kind], now + DAY, 1000, 1);
  })();
  assert.deepEqual(await work.run(job!, new AbortController().signal), { kind: 'done' });
  assert.deepEqual(logged, ['error counters were wrong and are set right', 'info nightly']);
  assert.equal((await store.hosts.get(hostId(1)))?.counters.open[3], 1);
  const rows = await engine.reading((db) => db.selectFrom('finding').select('is_open').execute());
  assert.deepEqual(rows, [{ is_open: 1 }]);
  await store.jobs.finish(job!);
  const [lag] = await store.jobs.lag(now);
  assert.equal(lag?.waiting, 1);
  assert.equal(lag.oldest % DAY, 3 * 3_600_000);
  assert.ok(lag.oldest > now);
});
