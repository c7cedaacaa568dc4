/** Looking at the whole fleet lets others have their turn: what judges hosts one after another must not hold the event loop. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { eachHost } from '#server/dryrun.ts';
import { openStore } from '#server/store/open.ts';
import { admit, T0 } from './store/make.ts';

test('between hosts of a dry run the event loop turns', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-dryrun-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const store = await openStore(`sqlite:${join(folder, 'store.db')}`);
  t.after(() => store.close());
  for (let n = 1; n <= 32; n++) await admit(store, n);
  let turns = 0;
  let isDone = false;
  const count = (): void => {
    turns++;
    if (!isDone) setImmediate(count);
  };
  setImmediate(count);
  const seen: string[] = [];
  const next = await eachHost({ cursor: null, until: T0 + 60_000 }, { store, clock: () => T0 }, (host) =>
    Promise.resolve(void seen.push(host.name)),
  );
  isDone = true;
  assert.deepEqual([next, seen.length], [null, 32]);
  // Some hosts are looked at beside each other, so not one turn each.
  assert.ok(turns >= 4, `${turns} turns for 32 hosts`);
});
