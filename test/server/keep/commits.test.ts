/**
 * A server that is killed at every step of a commit. What kill -9 leaves is the files as they are then: of each commit of a life the write-ahead log is
 * cut at every kind of place, and holed as a loss of power may leave it. Each time the store opens, is whole, has everything that was acknowledged
 * by then, and of the commit all or nothing; and whoever was not answered posts again and is there once.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { fsck } from '#server/keep/fsck.ts';
import type { Acknowledged } from '#server/keep/ledger.ts';
import { openStore } from '#server/store/open.ts';
import { deep, isFull } from '#test/depth.ts';
import {
  BASE,
  enrol,
  file,
  folder,
  HOUR,
  image,
  serverFor,
  type TestHost,
  type TestServer,
} from '#test/server/fleet.ts';
import { storeFaults } from '#test/system/storefaults.ts';

const OS = image('41');
/** A frame of the write-ahead log: 24 bytes and a page; 32 bytes before the first. */
const [LOG_HEAD, FRAME] = [32, 24 + 4096];

/** One commit: the write-ahead log before and after it, and what had been acknowledged when it began. */
type Commit = {
  readonly before: Buffer;
  readonly after: Buffer;
  readonly acknowledged: number;
};

const read = (path: string): Buffer => {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0); // not made yet
  }
};

/** Keeps the files around each commit of the writer of a store. */
function watch(t: TestContext, path: string, acknowledged: readonly Acknowledged[]): Commit[] {
  const commits: Commit[] = [];
  const probe = new Database(':memory:');
  const prototype = Object.getPrototypeOf(probe.prepare('select 1')) as { run: (...args: unknown[]) => unknown };
  probe.close();
  const { run } = prototype;
  t.after(() => void (prototype.run = run));
  prototype.run = function (this: { readonly source: string; readonly database: { readonly name: string } }, ...args) {
    if (this.source !== 'commit' || this.database.name !== path) return run.apply(this, args);
    const before = read(`${path}-wal`);
    const answer = run.apply(this, args);
    const after = read(`${path}-wal`);
    // Where the log was folded in, or begun anew, there is nothing to cut.
    if (after.length > before.length && before.length > 0)
      commits.push({ before, after, acknowledged: acknowledged.length });
    return answer;
  };
  return commits;
}

type Cut = readonly [where: string, log: (commit: Commit) => Buffer];
const CUTS: readonly Cut[] = [
  ['before the first byte', ({ before }) => before],
  ['in the head of its first frame', ({ before, after }) => after.subarray(0, before.length + 7)],
  ['in its first page', ({ before, after }) => after.subarray(0, before.length + 2000)],
  [
    'between two frames',
    ({ before, after }) =>
      after.subarray(0, before.length + FRAME * Math.floor((after.length - before.length) / FRAME / 2)),
  ],
  ['a byte before its end', ({ after }) => after.subarray(0, -1)],
  [
    'with a page that never came to the disk',
    ({ before, after }) => Buffer.from(after).fill(0, before.length + 24, before.length + FRAME),
  ],
  ['with its last frame only', ({ before, after }) => Buffer.from(after).fill(0, before.length, after.length - FRAME)],
  ['after its fsync, before the answer', ({ after }) => after],
];

async function life(t: TestContext, url: string, acknowledged: Acknowledged[]) {
  const server = await serverFor(t, { images: [OS], storeUrl: url });
  const hosts: TestHost[] = [];
  for (let n = 0; n < 3; n++) hosts.push(await enrol(server, OS, { name: `host-${n}` }));
  const post = async (host: TestHost, kind: 'full' | 'same') => {
    const sent = await (kind === 'full' ? host.sendFull() : host.sendSame());
    assert.equal(sent.status, 200);
    acknowledged.push({ host: host.id, seq: host.seq, digest: sent.digest, kind });
    return sent.text;
  };
  await Promise.all(hosts.map((host) => post(host, 'full')));
  await server.settle();
  await Promise.all(hosts.map((host) => post(host, 'same')));
  hosts[0]!.entries = [...BASE, file('/usr/lib/own', 'x')];
  hosts[1]!.entries = hosts[0]!.entries;
  const last = await Promise.all(hosts.map((host, n) => post(host, n < 2 ? 'full' : 'same')));
  await server.server.evidence.turn();
  return { server, hosts, last };
}

test('a commit that is cut anywhere is there whole, or not at all', { timeout: 400_000 }, async (t) => {
  const path = join(folder(t), 'store.db');
  const acknowledged: Acknowledged[] = [];
  const commits = watch(t, path, acknowledged);
  const { server, hosts, last } = await life(t, `sqlite:${path}`, acknowledged);
  // Nothing was folded in so far. By another process: closing the file here would let go of SQLite's own locks on it.
  const base = `${path}.base`;
  assert.equal(spawnSync('cp', [path, base]).status, 0);
  await server.server.close();
  assert.ok(commits.length > 10, `${commits.length} commits`);
  // In depth all of them, each cut everywhere; else each cut once, somewhere.
  const tried = deep(
    commits.flatMap((commit) => CUTS.map((cut) => [commit, cut] as const)),
    CUTS.filter((_, n) => n % 2 === 1).map((cut, n) => [commits[commits.length - 1 - n]!, cut] as const),
  );
  for (const [n, [commit, [where, log]]] of tried.entries()) {
    const at = join(folder(t), 'cut');
    mkdirSync(at);
    const copy = join(at, 'bootproof.db');
    assert.equal((commit.before.length - LOG_HEAD) % FRAME, 0, 'frames are as long as this test thinks');
    copyFileSync(base, copy);
    writeFileSync(`${copy}-wal`, log(commit));
    // As the next start does it: what is in the log and whole comes back.
    await (await openStore(`sqlite:${copy}`)).close();
    const done = await fsck({ url: `sqlite:${copy}`, ledger: acknowledged.slice(0, commit.acknowledged) });
    assert.deepEqual(done.faults, [], `commit ${commits.indexOf(commit)}, cut ${where}`);
    // Once all of them are enrolled.
    if (n % deep(16, 4) === deep(7, 3) && commit.acknowledged >= hosts.length)
      await repeated(t, copy, { server, hosts, last });
    rmSync(at, { recursive: true });
  }
});

/** Everybody who may not have been answered posts once more, to a server that starts on what is left. */
async function repeated(
  t: TestContext,
  copy: string,
  {
    server,
    hosts,
    last,
  }: { readonly server: TestServer; readonly hosts: readonly TestHost[]; readonly last: readonly string[] },
): Promise<void> {
  const again = await serverFor(t, {
    images: [OS],
    storeUrl: `sqlite:${copy}`,
    admin: server.admin,
    now: server.time.now,
  });
  const taken: Acknowledged[] = [];
  for (const [n, text] of [...last, ...last].entries()) {
    const host = hosts[n % hosts.length]!;
    const response = await again.server.app.request('/api/v1/reports', { method: 'POST', body: text });
    assert.equal(response.status, 200, await response.text());
    const stored = await again.server.store.reports.head(host.id, host.seq);
    taken.push({ host: host.id, seq: host.seq, digest: stored!.digest });
  }
  // Work that the dead server had begun comes back when its lease is over.
  again.time.now += HOUR;
  await again.settle();
  await again.server.evidence.turn();
  await again.server.close();
  const done = await fsck({ url: `sqlite:${copy}`, ledger: taken });
  assert.deepEqual([done.faults, done.ledger?.kept], [[], taken.length]);
}

if (isFull)
  test(
    'each call to the store fails once, before and after it was carried out, and nothing is lost or there twice',
    { timeout: 600_000 },
    storeFaults,
  );
