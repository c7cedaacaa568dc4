/** `bootproof log` against a server and against a database alone: each row that is changed, in turn, is named. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import Database from 'better-sqlite3';
import { main } from '#cli/log.ts';
import { keepWitnessKey } from '#server/log/checkanchors.ts';
import { retain } from '#server/jobs/retention.ts';
import { KEEP_ALL } from '#server/retention.ts';
import { openStore } from '#server/store/open.ts';
import { checkLog } from '#test/src/log/checklog.ts';
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { cosignNote, parseVkey, printSignatureLine } from '#src/signing/note.ts';
import { isFull } from '#test/depth.ts';
import { TestWitness } from '#test/server/log/witness.ts';
import { AUTHORITY, stampOf } from '#test/src/signing/tsa.ts';
import { UsageError } from '#src/terminal.ts';
import { BASE, enrol, file, folder, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { ran } from '#test/ran.ts';
import { rejectsCode } from '#test/throws.ts';

const OS = image('41');
const EVIL = [...BASE, file('/usr/bin/evil', 'evil', 0o4755)];

const act = (server: TestServer, n: number) =>
  server.server.store.audit.append(
    { actor: 'user:alice', at: server.time.now },
    { action: 'test.act', object: `n:${n}`, before: null, after: n },
  );

/** A log with every kind of entry, of more than one tile, after a restart. */
async function fill(server: TestServer): Promise<void> {
  const host = await enrol(server, OS);
  await host.sendFull();
  await server.settle();
  await server.server.evidence.turn();
  await server.server.evidence.restart('log.example/second', { actor: 'user:alice', at: server.time.now });
  host.compareWith(OS);
  host.entries = EVIL;
  await host.sendFull();
  await server.server.evidence.turn();
  host.entries = BASE;
  await host.sendFull();
  for (let n = 0; n < 280; n++) await act(server, n);
  await server.server.evidence.turn();
  await anchor(server);
}

/** A witness cosigned the newest checkpoint, and an authority stamped it. */
async function anchor(server: TestServer): Promise<void> {
  const { store, evidence } = server.server;
  const { origin, size, note } = evidence.published!.checkpoint;
  const { text } = readCheckpoint(note).note;
  const { signer, name, vkey: witness, seconds } = new TestWitness();
  await keepWitnessKey(store, parseVkey(witness));
  const line = printSignatureLine(await cosignNote(text, name, signer, seconds));
  await store.anchors.cosigned(origin, { size, witness: name, line, at: 1000 * seconds });
  const token = stampOf(createHash('sha256').update(text).digest(), AUTHORITY.tsa, { time: 1_800_000_000_000 });
  await store.anchors.stamped(origin, { size, authority: 'corp', token, at: 1_800_000_000_000 });
}

let whole: string;
let vkey: string;
const made = mkdtempSync(join(tmpdir(), 'bootproof-log-'));
after(() => rmSync(made, { recursive: true, force: true }));
before(async () => {
  whole = join(made, 'whole');
  mkdirSync(whole);
  const closing: (() => unknown)[] = [];
  const t = { after: (end: () => unknown) => closing.push(end) } as unknown as Parameters<typeof serverFor>[0];
  const server = await serverFor(t, { images: [OS], storeUrl: `sqlite:${join(whole, 'bootproof.db')}` });
  await fill(server);
  vkey = (await (await server.server.app.request('/log/key')).text()).trimEnd();
  for (const end of closing) await end();
});

/** The database with something done to it. */
function altered(name: string, alter: (db: Database.Database) => void): string {
  const at = join(made, name.replaceAll(/[^a-z0-9]+/gi, '-'));
  mkdirSync(at, { recursive: true });
  for (const one of ['bootproof.db', 'log.checkpoint']) copyFileSync(join(whole, one), join(at, one));
  const db = new Database(join(at, 'bootproof.db'));
  alter(db);
  db.close();
  return at;
}

const verified = async (at: string, ...more: string[]) => {
  const { exit, out } = await ran(main, ['verify', '--data', at, '--json', ...more]);
  return {
    exit,
    told: JSON.parse(out) as {
      ok: boolean;
      faults: { place: string; detail: string }[];
      size: number;
      checkpoints: number;
    },
  };
};

test('a log that nobody changed is as it was signed, whole, by its files, and before its restart', async () => {
  const { exit, told } = await verified(whole, '--key', vkey);
  assert.deepEqual([exit, told.faults], [0, []]);
  assert.ok(told.size > 280 && told.checkpoints >= 3);
  assert.equal((await verified(whole, '--log', '1')).exit, 0);
  const other = vkey.replace(/\+[0-9a-f]{8}\+/, '+00000000+');
  await rejectsCode(() => verified(whole, '--key', other), UsageError, 'USAGE');
  const files = join(made, 'files');
  const { err } = await ran(main, ['dump', files, '--data', whole]);
  assert.match(err, /log\.example\/second: [0-9]+ entries in 7 files/);
  const head = readCheckpoint(readFileSync(join(files, 'checkpoint')));
  const read = (path: string) => {
    try {
      return readFileSync(join(files, path));
    } catch {
      return undefined;
    }
  };
  assert.deepEqual(await checkLog(head, read), []);
  assert.equal(readFileSync(join(files, 'key'), 'utf8'), `${vkey}\n`);
  await rejectsCode(() => ran(main, ['dump', files, '--data', whole]), UsageError, 'USAGE');
  const status = await ran(main, ['status', '--data', whole, '--json']);
  assert.equal((JSON.parse(status.out) as { size: number }).size, told.size);
});

const IN = `log = 2 and idx`;
const flip = `cast(substr(entry, 1, 40) || replace(substr(entry, 41), '1', '2') as blob)`;
const ofKind = (kind: string, more = '1=1') =>
  `(select min(idx) from log_entry where log = 2 and kind = '${kind}' and ${more})`;
const idOf = (kind: string) => `(select id from log_entry where log = 2 and idx = ${ofKind(kind)})`;

/** What is done to the rows, and what verification says of it. */
const ALTERED: readonly (readonly [name: string, sql: string, place: RegExp, detail: RegExp])[] = [
  ...(['report', 'judgement', 'act', 'restart'] as const).map(
    (kind) =>
      [
        `an entry of kind ${kind} changed`,
        `update log_entry set entry = ${flip} where ${IN} = ${ofKind(kind)}`,
        /^entry [0-9]+$/,
        /was changed/,
      ] as const,
  ),
  [
    'an entry and its leaf changed',
    `update log_entry set entry = cast(replace(entry, 'test.act', 'test.fact') as blob), leaf = zeroblob(32) where ${IN} = 200`,
    /^entry 200$/,
    /was changed/,
  ],
  ['an entry removed', `delete from log_entry where ${IN} = 100`, /^entry 100$/, /removed/],
  [
    'the last entry removed',
    `delete from log_entry where log = 2 and idx = (select max(idx) from log_entry where log = 2)`,
    /^entry 2[0-9][0-9]$/,
    /removed/,
  ],
  [
    'two entries exchanged',
    `update log_entry set idx = case idx when 50 then -60 when 60 then -50 else idx end where log = 2; update log_entry set idx = -idx where idx < 0`,
    /^entry 50$/,
    /it is entry 60 of the tree/,
  ],
  [
    'an entry added',
    `insert into log_entry select log, idx + 1, 'l_x', at, kind, host_id, entry, leaf from log_entry where log = 2 order by idx desc limit 1`,
    /^entry [0-9]+$/,
    /was added/,
  ],
  ['a leaf changed', `update log_entry set leaf = zeroblob(32) where ${IN} = 7`, /^entry 7$/, /leaf is not the hash/],
  ['a time changed', `update log_entry set at = at + 1 where ${IN} = 7`, /^entry 7$/, /column at/],
  ['a kind changed', `update log_entry set kind = 'report' where ${IN} = 200`, /^entry 200$/, /column kind/],
  [
    'a host changed',
    `update log_entry set host_id = null where ${IN} = ${ofKind('report')}`,
    /^entry [0-9]+$/,
    /column host/,
  ],
  [
    'a tile changed',
    `update log_tile set hashes = cast(zeroblob(32) || substr(hashes, 33) as blob) where log = 2 and level = 0 and n = 1`,
    /^entry 256$/,
    /the tile, was changed/,
  ],
  [
    'a tile removed',
    `delete from log_tile where log = 2 and level = 0 and n = 0`,
    /^tile\/0\/000$/,
    /not there any more/,
  ],
  [
    'a tile above changed',
    `update log_tile set hashes = zeroblob(32) where log = 2 and level = 1`,
    /^tile\/1\/000\.p\/1$/,
    /was changed/,
  ],
  ['the head changed', `update log_head set root = zeroblob(32)`, /^head$/, /another root/],
  ['the end cut off', `update log_head set size = size - 1`, /^checkpoint [0-9]+$/, /more was signed than there is/],
  [
    'the root of a checkpoint changed',
    `update log_checkpoint set root = zeroblob(32) where origin = 'log.example/second' and size = (select max(size) from log_checkpoint where origin = 'log.example/second')`,
    /^checkpoint [0-9]+$/,
    /not the same/,
  ],
  [
    'a checkpoint changed',
    `update log_checkpoint set note = substr(note, 1, length(note) - 10) || iif(substr(note, -10, 1) = 'A', 'B', 'A') || substr(note, -9) where origin = 'log.example/second' and size = (select max(size) from log_checkpoint where origin = 'log.example/second')`,
    /^checkpoint [0-9]+$/,
    /not signed by the log|another tree/,
  ],
  [
    'a checkpoint of another log in its place',
    `update log_checkpoint set note = (select note from log_checkpoint where origin <> 'log.example/second' limit 1) where origin = 'log.example/second' and size = (select min(size) from log_checkpoint where origin = 'log.example/second')`,
    /^checkpoint [0-9]+$/,
    /not signed by the log/,
  ],
  [
    'a salt changed',
    `update log_payload set salt = zeroblob(32) where id = ${idOf('act')}`,
    /^entry [0-9]+$/,
    /is not what was logged/,
  ],
  ['a salt gone', `update log_payload set salt = null where id = ${idOf('act')}`, /^entry [0-9]+$/, /no purge says so/],
  [
    'a payload row removed',
    `delete from log_payload where id = ${idOf('act')}`,
    /^entry [0-9]+$/,
    /log_payload was removed/,
  ],
  [
    'a payload changed',
    `update log_payload set body = cast(replace(body, 'evil', 'good') || ' ' as blob) where id = ${idOf('judgement')}`,
    /^entry [0-9]+$/,
    /is not what was logged/,
  ],
  [
    'a purge that left the salt',
    `update log_payload set purged_at = 1 where id = ${idOf('report')}`,
    /^entry [0-9]+$/,
    /its salt is still there/,
  ],
  [
    'a line of the trail changed',
    `update audit set actor = 'user:mallory' where object = 'n:77'`,
    /^entry [0-9]+$/,
    /audit:.* is not what was logged/,
  ],
  ['a line of the trail removed', `delete from audit where object = 'n:77'`, /^entry [0-9]+$/, /audit:.* is gone/],
  [
    'an envelope changed',
    `update report set envelope = cast(replace(envelope, 'A', 'B') as blob) where seq = 2`,
    /^entry [0-9]+$/,
    /report:.* is not what was logged/,
  ],
  ['an envelope removed', `delete from report where seq = 2`, /^entry [0-9]+$/, /report:.* is gone/],
  [
    'a verdict changed',
    `update verdict_change set to_verdict = 'compliant' where to_verdict = 'drifted'`,
    /^entry [0-9]+$/,
    /change of verdict/,
  ],
  [
    'a verdict removed',
    `delete from verdict_change where to_verdict = 'drifted'`,
    /^entry [0-9]+$/,
    /history was removed/,
  ],
  [
    'an episode changed',
    `update episode set opened_at = opened_at - 1 where opened_seq = 2`,
    /^entry [0-9]+$/,
    /episode 1 of finding .* was changed/,
  ],
  [
    'the end of an episode changed',
    `update episode set reason = 'x' where closed_seq = 3`,
    /^entry [0-9]+$/,
    /episode 1 of finding .* was changed/,
  ],
  [
    'an episode removed',
    `delete from episode where opened_seq = 2`,
    /^entry [0-9]+$/,
    /episode 1 of finding .* was removed/,
  ],
];

const letter = (column: string, from: number): string =>
  `set ${column} = substr(${column}, 1, length(${column}) - ${from}) || iif(substr(${column}, -${from}, 1) = 'A', 'B', 'A') || substr(${column}, 1 - ${from})`;
const COSIGNED = /^cosignature of witness\.example\/w1 at -?[0-9]+$/;
const STAMPED = /^timestamp of corp(?:porate)? at -?[0-9]+$/;

/** What others signed. */
const ANCHORED: typeof ALTERED = [
  ['a cosignature changed', `update log_cosignature ${letter('line', 9)}`, COSIGNED, /was changed/],
  ['a cosignature by another key', `update log_cosignature ${letter('line', 100)}`, COSIGNED, /was changed/],
  ['a cosignature of another size', `update log_cosignature set size = size - 1`, COSIGNED, /was changed/],
  ['a cosignature below every size', `update log_cosignature set size = -1`, COSIGNED, /was changed/],
  ['a cosignature beyond the end', `update log_cosignature set size = size + 1000`, COSIGNED, /was changed/],
  ['the time of a cosignature', `update log_cosignature set at = at - 1`, COSIGNED, /another time/],
  [
    'a cosignature under another name',
    `update log_cosignature set witness = 'w.example'`,
    /^cosignature of w\.example/,
    /its row was changed/,
  ],
  [
    'a timestamp changed',
    `update log_timestamp set token = cast(substr(token, 1, length(token) - 1) ||
      case when substr(token, -1) = x'00' then x'01' else x'00' end as blob)`,
    STAMPED,
    /was changed/,
  ],
  ['a timestamp of another size', `update log_timestamp set size = size - 1`, STAMPED, /was changed/],
  [
    'the name of the log',
    `update log_head set origin = 'log.example/x'`,
    /^log log\.example\/second$/,
    /no log has it/,
  ],
  ['the time of a timestamp', `update log_timestamp set at = at + 1000`, STAMPED, /another time/],
];

for (const [name, sql, place, detail] of [...ALTERED, ...ANCHORED])
  test(`verify names ${name}`, async () => {
    let changes = 0;
    const at = altered(name, (db) => {
      db.exec(sql);
      changes = Number(db.prepare('select total_changes()').pluck().get());
    });
    assert.ok(changes > 0, 'the test changes something');
    const { exit, told } = await verified(at);
    assert.equal(exit, 1);
    assert.ok(
      told.faults.some((fault) => place.test(fault.place) && detail.test(fault.detail)),
      JSON.stringify(told.faults.slice(0, 5), null, 1),
    );
    // Named, and not buried: what is right is not called wrong.
    assert.ok(told.faults.length <= 8, JSON.stringify(told.faults, null, 1));
    rmSync(at, { recursive: true });
  });

test('a cosignature whose witness’s key is not kept is counted, and said not to be checked', async () => {
  const at = altered('no key', (db) => db.exec(`delete from setting where key like 'log-witness %'`));
  const { exit, out, err } = await ran(main, ['verify', '--data', at]);
  assert.equal(exit, 0);
  assert.match(out, /1 cosignatures, 1 timestamps/);
  assert.match(err, /witness\.example\/w1 were not checked/);
});

/** Columns that tell of nothing that happened: how things stand now, what the server itself calls an authority. */
const FREE = new Set(['log_head.began_at', 'log_head.compact', 'log_checkpoint.at', 'log_timestamp.authority']);

test('every column of every row of the log, altered in turn, is named', async (t) => {
  if (!isFull) return t.skip('in depth: TEST_DEPTH=full');
  const at = altered('columns', () => {});
  const db = new Database(join(at, 'bootproof.db'));
  const tables = [
    'log_entry',
    'log_payload',
    'log_tile',
    'log_head',
    'log_checkpoint',
    'log_cosignature',
    'log_timestamp',
  ];
  const missed: string[] = [];
  for (const table of tables) {
    const columns = db.prepare(`select name, type from pragma_table_info('${table}')`).all() as { name: string }[];
    const rows = db.prepare(`select rowid from ${table} order by rowid`).pluck().all() as number[];
    const step = Math.max(1, Math.floor(rows.length / 40));
    for (const { name } of columns)
      for (const row of rows.filter((_, i) => i % step === 0)) {
        if (FREE.has(`${table}.${name}`)) continue;
        // What lies in the row is not looked for by its reference.
        if (name === 'ref' && db.prepare(`select body from ${table} where rowid = ?`).pluck().get(row) !== null)
          continue;
        const before = db.prepare(`select ${name} from ${table} where rowid = ?`).pluck().get(row);
        if (before === null) continue;
        const put = db.prepare(`update ${table} set ${name} = ? where rowid = ?`);
        try {
          put.run(bent(before), row);
        } catch {
          continue; // A constraint of the database does not let it.
        }
        const exits = [];
        for (const which of [[], ['--log', '1']])
          exits.push((await verified(at, ...which).catch(() => ({ exit: 1 }))).exit);
        if (exits.every((exit) => exit === 0)) missed.push(`${table}.${name} of row ${row}`);
        put.run(before, row);
      }
  }
  db.close();
  assert.deepEqual(missed, []);
});

function bent(value: unknown): unknown {
  if (typeof value === 'number') return value + 1;
  if (typeof value === 'string') return `${value.slice(0, -1)}${value.endsWith('a') ? 'b' : 'a'}`;
  const bytes = Buffer.from(value as Buffer);
  bytes[bytes.length >> 1]! ^= 1;
  return bytes;
}

test('what was purged is counted, and no fault; what was emptied by hand is', async () => {
  const at = altered('purged', () => {});
  const store = await openStore(`sqlite:${join(at, 'bootproof.db')}`);
  const clock = () => Date.now() + 400 * 86_400_000;
  const keep = { ...KEEP_ALL, reports: 30, judgements: 30 };
  await store.retention.note(keep, KEEP_ALL, { actor: 'configuration', at: clock() - 86_400_000 });
  const gone = await retain({ store, clock, log: () => {}, retention: keep });
  assert.ok(gone.report > 0, JSON.stringify(gone));
  while ((await store.log.sequence(2, 1000))!.added > 0);
  await store.close();
  const { exit, out } = await ran(main, ['verify', '--data', at]);
  assert.equal(exit, 0);
  assert.match(out, new RegExp(`payloads held, [1-9] purged; root`));
  const byHand = altered('emptied', (db) =>
    db.exec(`update log_payload set purged_at = 5, salt = null, body = null where id = ${idOf('judgement')}`),
  );
  const { told } = await verified(byHand);
  assert.deepEqual(
    told.faults.map(({ detail }) => detail.replace(/ \(.*/, '')),
    ['says that it was purged, and no entry of the log tells of that'],
  );
});

test('an empty log has a checkpoint and files, and the same commands ask a server', async (t) => {
  const server = await serverFor(t);
  const env = { BOOTPROOF_SERVER: server.server.url, BOOTPROOF_TOKEN: server.admin };
  const first = await ran(main, ['verify', '--json'], { env });
  assert.equal(first.exit, 0);
  await act(server, 1);
  await server.server.evidence.turn();
  const { exit, out, err } = await ran(main, ['verify'], { env });
  assert.equal(exit, 0);
  assert.match(out, /as it was signed: 1 entries, 2 checkpoints, 1 payloads held/);
  assert.match(err, /--key 'bootproof-[0-9a-f]{16}\/log\+/);
  const files = join(folder(t), 'files');
  assert.equal((await ran(main, ['dump', files], { env })).exit, 0);
  assert.equal(readCheckpoint(readFileSync(join(files, 'checkpoint'))).size, 1);
  assert.match((await ran(main, ['status'], { env })).out, /^state +signing$/m);
  await server.server.store.log.pending();
  const { err: said } = await ran(main, ['restart', '--new-origin', 'log.example/third'], { env });
  assert.match(said, /log\.example\/third begins; its first entry names bootproof-[0-9a-f]{16}\/log with 1 entries/);
  assert.equal((await ran(main, ['verify', '--json'], { env })).exit, 0);
});
