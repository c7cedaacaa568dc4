/**
 * What breaks under a server that takes reports: the database vanishes and comes back, its machine is lost and a synchronous standby takes over,
 * its disk fills up, it is restored to a moment. Afterwards every acknowledged report is there once, and the store is whole.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { fsck } from '../../server/keep/fsck.ts';
import type { Acknowledged } from '../../server/keep/ledger.ts';
import { openStore } from '../../server/store/open.ts';
import { folder, image, serverFor, type TestServer } from '../server/fleet.ts';
import { Load } from '../system/load.ts';
import { Address, Cluster, clusterFolder, noCluster, own } from './cluster.ts';

const OS = image('41');
const HOSTS = 8;

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

async function checkWhole(
  url: string,
  ledger: readonly Acknowledged[],
  more: { checkpointFile?: string } = {},
): Promise<void> {
  const done = await fsck({ url, ledger, ...more });
  assert.deepEqual(done.faults, []);
  assert.ok(ledger.length > 0 && done.ledger?.acknowledged === ledger.length);
  assert.equal(done.looked.hosts, HOSTS);
}

/** Lets the log get its last entries before its server ends. */
async function closed(server: TestServer): Promise<void> {
  await server.settle();
  await server.server.evidence.turn();
  await server.server.close();
}

test('a database that is killed under load and comes back has lost nothing', { skip: noCluster }, async (t) => {
  const cluster = Cluster.made(t, clusterFolder(t));
  await query(cluster.url(), 'create database bootproof');
  const url = cluster.url('bootproof');
  const server = await serverFor(t, { images: [OS], storeUrl: url });
  const load = await Load.on(server, OS, HOSTS);
  for (let round = 0; round < 4; round++) {
    await load.more(60);
    await sleep(7 * round);
    cluster.kill();
    await load.refusal();
    cluster.start();
  }
  await load.more(60);
  const ledger = await load.end();
  t.diagnostic(`${ledger.length} acknowledged, refused ${JSON.stringify([...load.refused])}`);
  await closed(server);
  await checkWhole(url, ledger);
});

test('a synchronous standby that takes over has everything that was acknowledged', { skip: noCluster }, async (t) => {
  const primary = Cluster.made(t, clusterFolder(t), [
    'wal_level=replica',
    'max_wal_senders=4',
    'synchronous_commit=on',
  ]);
  const folderOf = clusterFolder(t);
  primary.baseBackup(folderOf);
  const standby = Cluster.from(t, folderOf, 'standby.signal', [
    `primary_conninfo = 'host=${primary.folder} user=bootproof application_name=standby'`,
    `unix_socket_directories = '${folderOf}'`,
  ]);
  await query(primary.url(), 'create database bootproof');
  await query(primary.url(), `alter system set synchronous_standby_names = 'standby'`);
  await query(primary.url(), 'select pg_reload_conf()');
  const isSync = async () =>
    (await query(primary.url(), `select 1 as one from pg_stat_replication where sync_state = 'sync'`)).length > 0;
  while (!(await isSync())) await sleep(50);
  const address = await Address.of(t, primary.socket);
  const server = await serverFor(t, { images: [OS], storeUrl: primary.url('bootproof', address.folder) });
  const load = await Load.on(server, OS, HOSTS);
  await load.more(150);
  // Its machine is gone for good, in the middle of whatever it did.
  primary.kill();
  await load.refusal();
  standby.promote();
  address.leadTo(standby.socket);
  await load.more(150);
  const ledger = await load.end();
  await closed(server);
  await checkWhole(standby.url('bootproof'), ledger);
});

test('a commit that is told before its standby has it counts for nothing', { skip: noCluster }, async (t) => {
  const cluster = Cluster.made(t, clusterFolder(t), ['wal_level=replica']);
  const store = await openStore(cluster.url());
  t.after(() => store.close());
  // A standby that never comes.
  await query(cluster.url(), `alter system set synchronous_standby_names = 'standby'`);
  await query(cluster.url(), 'select pg_reload_conf()');
  await sleep(300);
  const told = assert.rejects(store.settings.create('key', new Uint8Array(1)), { code: 'STORE_UNAVAILABLE' });
  const waiting = `from pg_stat_activity where wait_event = 'SyncRep'`;
  while ((await query(cluster.url(), `select 1 as one ${waiting}`)).length === 0) await sleep(50);
  await query(cluster.url(), `select pg_cancel_backend(pid) ${waiting}`);
  await told;
  assert.equal(
    (await store.settings.get('key'))?.length,
    1,
    'its outcome was not known; the next call has a new connection',
  );
});

test(
  'PostgreSQL is restored to a moment, and the log does not go on from it unasked',
  { skip: noCluster },
  async (t) => {
    const archive = clusterFolder(t);
    const cluster = Cluster.made(t, clusterFolder(t), [
      'wal_level=replica',
      'archive_mode=on',
      `archive_command=test ! -f ${archive}/%f && cp %p ${archive}/%f`,
    ]);
    await query(cluster.url(), 'create database bootproof');
    const checkpointFile = join(folder(t), 'log.checkpoint');
    const server = await serverFor(t, {
      images: [OS],
      storeUrl: cluster.url('bootproof'),
      evidence: { checkpointFile },
    });
    const load = await Load.on(server, OS, HOSTS);
    await load.more(60);
    const to = clusterFolder(t);
    cluster.baseBackup(to);
    await load.more(60);
    const before = [...load.acknowledged];
    // What is acknowledged by now is before it; what comes is behind it.
    await query(cluster.url(), `select pg_create_restore_point('before')`);
    await load.more(60);
    const ledger = await load.end();
    await server.settle();
    await server.server.evidence.turn();
    await query(cluster.url(), 'select pg_switch_wal()');
    const waits = async () =>
      (
        await query(
          cluster.url(),
          `select 1 as one from pg_stat_archiver where last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1)`,
        )
      ).length === 0;
    for (let left = 100; left > 0 && (await waits()); left--) await sleep(50);
    await server.server.close();
    cluster.kill();
    rmSync(cluster.data, { recursive: true, force: true });

    const restored = Cluster.from(t, to, 'recovery.signal', [
      `restore_command = 'cp ${archive}/%f %p'`,
      `recovery_target_name = 'before'`,
      `recovery_target_action = 'promote'`,
      `archive_mode = off`,
      `unix_socket_directories = '${to}'`,
    ]);
    const isOpen = async () =>
      (await query(restored.url(), 'select pg_is_in_recovery() as recovering'))[0]?.['recovering'] === false;
    while (!(await isOpen())) await sleep(50);
    const url = restored.url('bootproof');
    await checkWhole(url, before);
    const behind = await fsck({ url, ledger, checkpointFile });
    assert.deepEqual(
      behind.faults.map(({ code }) => code).filter((code) => code !== 'ACKNOWLEDGED_OTHER'),
      ['LOG_REWOUND', 'ACKNOWLEDGED_LOST'],
      'what came later is not in it, and that is told',
    );
    const again = await serverFor(t, {
      images: [OS],
      storeUrl: url,
      admin: server.admin,
      evidence: { checkpointFile },
    });
    assert.equal(again.server.evidence.refusal?.code, 'LOG_REWOUND');
    const restart = await again.api('/api/v1/log/restart', { method: 'POST', body: { origin: 'site.example/after' } });
    assert.equal(restart.status, 200, JSON.stringify(restart.body));
    assert.equal(again.server.evidence.refusal, undefined);
    await again.server.evidence.turn();
    await checkWhole(url, before, { checkpointFile });
  },
);

/** A disk of so many megabytes; undefined where that needs another user. */
function smallDisk(t: TestContext, megabytes: number): string | undefined {
  const at = mkdtempSync('/tmp/bp-disk-');
  const done = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0755`, 'bootproof-test', at]);
  t.after(() => {
    spawnSync('umount', ['-l', at]);
    rmSync(at, { recursive: true, force: true });
  });
  if (done.status !== 0) return undefined;
  return at;
}

/** Leaves so many kilobytes of a disk. */
function fill(disk: string, leave: number): string {
  const { stdout } = spawnSync('df', ['--output=avail', '-k', disk], { encoding: 'utf8' });
  const free = Number(stdout.split('\n')[1]);
  const ballast = join(disk, 'ballast');
  writeFileSync(ballast, Buffer.alloc(Math.max(0, free - leave) * 1024));
  return ballast;
}

test('a disk that is full under SQLite refuses, and goes on when there is room', async (t) => {
  const disk = smallDisk(t, 64);
  if (disk === undefined) return t.skip('mounting a small disk needs root');
  const url = `sqlite:${join(disk, 'bootproof.db')}`;
  const server = await serverFor(t, { images: [OS], storeUrl: url });
  const load = await Load.on(server, OS, HOSTS);
  await load.more(60);
  for (let round = 0; round < 3; round++) {
    const ballast = fill(disk, 200 * round);
    await load.refusal();
    await sleep(100);
    rmSync(ballast);
    await load.more(60);
  }
  const ledger = await load.end();
  t.diagnostic(`${ledger.length} acknowledged, refused ${JSON.stringify([...load.refused])}`);
  await closed(server);
  await checkWhole(url, ledger, { checkpointFile: join(disk, 'log.checkpoint') });
});

test('a disk that is full under PostgreSQL refuses, and goes on when there is room', { skip: noCluster }, async (t) => {
  const disk = smallDisk(t, 256);
  if (disk === undefined) return t.skip('mounting a small disk needs root');
  own(disk);
  const cluster = Cluster.made(t, disk, ['wal_recycle=off', 'max_wal_size=64MB']);
  await query(cluster.url(), 'create database bootproof');
  const url = cluster.url('bootproof');
  const server = await serverFor(t, { images: [OS], storeUrl: url });
  const load = await Load.on(server, OS, HOSTS);
  await load.more(60);
  for (let round = 0; round < 2; round++) {
    const ballast = fill(disk, 400 * round);
    // What fills the log: it ends the whole of PostgreSQL where there is no room for it.
    await query(
      url,
      `create table ballast as select repeat(md5(n::text), 30) as t from generate_series(1, 400000) as n`,
    ).catch(() => undefined);
    await Promise.race([load.refusal(), sleep(5000)]);
    rmSync(ballast);
    await query(url, 'select 1').catch(() => {
      cluster.kill();
      cluster.start();
    });
    await query(url, 'drop table if exists ballast').catch(() => undefined);
    await load.more(60);
  }
  const ledger = await load.end();
  t.diagnostic(`${ledger.length} acknowledged, refused ${JSON.stringify([...load.refused])}`);
  await closed(server);
  await checkWhole(url, ledger);
});
