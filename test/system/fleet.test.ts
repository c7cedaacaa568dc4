/** Reports from end to end, from one seed: real agents, real servers, and everything between them that goes wrong; longer in depth (test/depth.ts). */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test, type TestContext } from 'node:test';
import { formatInstant } from '#src/clock.ts';
import { digestOf } from '#src/digest.ts';
import { CHAIN_BOOTS_MAX } from '#src/limits.ts';
import type { SameReport } from '#src/report/report.ts';
import { stateDigest } from '#src/report/seal.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { SPOOL_LIMITS } from '#agent/spool.ts';
import { deep } from '#test/depth.ts';
import { BASE, file, HOUR, image, MINUTE } from '#test/server/fleet.ts';
import { startPostgres } from '#test/postgres.ts';
import { ROWS } from './ledger.ts';
import { PLANTS, type Machine } from './machine.ts';
import { CALM, STORMY, World } from './world.ts';

/** SEED=random draws one (in depth: a short storm may miss a row); a number repeats that run. */
const given = process.env['SEED'];
const SEED = given === 'random' ? randomInt(2 ** 31) : Number(given ?? 20261124);

const TAMPERS = [[], [], [], [PLANTS[0]!], [PLANTS[1]!, PLANTS[4]!], [PLANTS[2]!], [PLANTS[3]!, PLANTS[4]!], PLANTS];
const ONE = image('one');
const TWO = image('two', [...BASE, file('/usr/lib/new', 'new in two')]);

test('a fleet in a storm', { timeout: 300_000 }, async (t) => {
  t.diagnostic(`SEED=${SEED}`);
  const world = new World(t, SEED);
  world.images.push(ONE);
  world.tampers = TAMPERS;
  await world.start();
  for (let i = 0; i < 9; i++) await world.enrol(`host-${i}`, ONE);
  const [old, recent, cloned, carried, away, odd, ...plain] = world.machines as [
    Machine,
    Machine,
    Machine,
    Machine,
    Machine,
    Machine,
    ...Machine[],
  ];

  await storm(world, deep(10, 4) * HOUR);
  const backup = old.disk.copy();

  // A new image that nobody has pushed yet, and a second server process on the same store.
  await world.start();
  for (const machine of plain.slice(0, 3)) {
    machine.image = TWO;
    machine.reboot();
  }
  carried.byFile = true;
  await overflow(world, away);
  await storm(world, deep(10, 4) * HOUR);
  world.images.push(TWO);
  const evening = recent.disk.copy();
  await storm(world, deep(8, 3) * HOUR);

  // Restored from backups, one old and one of this evening; a clone takes turns with its origin.
  for (let i = 0; i < 20; i++) {
    world.now += MINUTE;
    await old.run();
  }
  old.disk = backup;
  recent.disk = evening;
  const twin = cloned.twin('clone');
  world.machines.push(twin);
  twin.wakeAt = world.now + 20 * MINUTE;
  // What was carried by hand comes before the host's own next post, and once more after it.
  await carry(world, carried);
  for (let i = 0; i < 2; i++) {
    world.now += HOUR / 2;
    await carried.run();
  }
  await world.check();
  carried.byFile = false;
  away.offline = false;
  await storm(world, deep(8, 3) * HOUR);
  await carry(world, carried);
  world.machines.splice(world.machines.indexOf(twin), 1);
  await twoAtOnce(world, twin, cloned);
  await takeTurns(world, twin, cloned);
  await strays(world);
  await miscounts(world, odd);
  await rots(world, odd);
  await storm(world, deep(6, 2) * HOUR);

  await calmDown(world);
  for (const row of ROWS) assert.ok((world.ledger.met.get(row) ?? 0) > 0, `this run never met: ${row} (seed ${SEED})`);
  for (const machine of [...plain, away]) {
    const model = world.ledger.host(machine.host);
    for (const { from, to } of model.gaps())
      for (let seq = from; seq <= to; seq++) assert.ok(model.stated.has(seq), `${machine.name}: ${seq} is missing`);
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(world.faults)));
  t.diagnostic(JSON.stringify(Object.fromEntries(world.ledger.met)));
});

async function storm(world: World, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 4 * HOUR) {
    world.odds = STORMY;
    await world.pass(Math.min(4 * HOUR, ms - passed));
    world.odds = CALM;
    await world.check();
  }
}

/** A machine that reports every minute has its last post held back, and then no network until its spool has run over. */
async function overflow(world: World, machine: Machine): Promise<void> {
  world.odds = CALM;
  await world.pass(2 * HOUR);
  machine.interval = MINUTE;
  await world.release(true);
  world.odds = { ...CALM, holdBack: 1 };
  await machine.run();
  // Until long after its successors.
  for (const held of world.held) held.notBefore = Infinity;
  world.odds = CALM;
  const [oldest] = machine.spool();
  machine.offline = true;
  // A smaller disk than hosts have: each run reads the whole spool, and nothing here depends on how much fits.
  const files = 60;
  machine.spoolLimits = { ...SPOOL_LIMITS, files };
  for (let i = 0; i < files + 30; i++) {
    world.now += 2 * MINUTE;
    await machine.run();
  }
  assert.equal(machine.spool().length, files);
  assert.ok(!machine.spool().includes(oldest!), 'the report that the network holds was dropped here');
  machine.wakeAt = world.now + HOUR;
}

/** A person brings the file of a machine without a network. */
async function carry(world: World, { disk }: Machine): Promise<void> {
  const lines = new TextDecoder().decode(disk.files().get('/mnt/reports.jsonl')).split('\n').slice(0, -1);
  assert.ok(lines.length > 0);
  for (const line of lines) await world.deliver(world.nodes[0]!, new TextEncoder().encode(line), true);
}

/** Two machines with one key and one number, at two servers at the same moment; then one of them twice. */
async function twoAtOnce(world: World, twin: Machine, origin: Machine): Promise<void> {
  const id = origin.host;
  for (const isSame of [false, true]) {
    const { full, head } = world.ledger.host(id);
    const { report } = full!;
    const next = (machine: Machine) =>
      machine.seal({ ...report, seq: head + 1, previous: full!.digest, bootId: machine.bootId, dropped: [] });
    const posts = isSame ? Array(2).fill(await next(origin)) : [await next(twin), await next(origin)];
    const answers = await world.race(posts);
    const statuses = answers.map((answer) => answer?.status ?? 0).sort((a, b) => a - b);
    assert.deepEqual(statuses, isSame ? [200, 200] : [200, 409]);
    if (isSame) assert.deepEqual(answers[0]!.body, answers[1]!.body);
    world.ledger.meet(`two servers, one number, ${isSame ? 'same' : 'other'} bytes`);
    await world.check();
  }
}

/** Two machines with one key, one after the other: their boot ids tell. */
async function takeTurns(world: World, twin: Machine, origin: Machine): Promise<void> {
  for (const machine of [origin, twin, origin]) {
    const { full, head } = world.ledger.host(origin.host);
    const next = { ...full!.report, seq: head + 1, previous: full!.digest, bootId: machine.bootId, dropped: [] };
    await world.deliver(world.nodes[0]!, await machine.seal(next), false);
  }
  await world.check();
}

/** Under a number that the server has forgotten, a report from a boot that no report of this host had. */
async function strays(world: World): Promise<void> {
  for (const machine of world.machines) {
    const model = world.ledger.host(machine.host);
    const forgotten = [...model.taken].find(([seq, known]) => !model.isRemembered(known, seq));
    if (forgotten === undefined || model.boots.length >= CHAIN_BOOTS_MAX) continue;
    const document = { ...model.full!.report, seq: forgotten[0], bootId: '0'.repeat(36), dropped: [] };
    await world.deliver(world.nodes[0]!, await machine.seal(document), false);
    return world.check();
  }
}

/** A `same` that an honest agent would not count so, and one that leans on a full report that is not the last. */
async function miscounts(world: World, machine: Machine): Promise<void> {
  const { full, head, sameCount, boots } = world.ledger.host(machine.host);
  const { report, digest } = full!;
  const { version, host, challenge, checkpoint, trees, deployment } = report;
  const digests = ({ main, extra }: typeof trees.usr) => ({ main, extra });
  const at = formatInstant(world.now);
  const same: SameReport = {
    version,
    host,
    challenge,
    checkpoint,
    kind: 'same',
    seq: head + 1,
    bootId: boots.at(-1)!,
    startedAt: at,
    finishedAt: at,
    dropped: [],
    full: digest,
    count: sameCount + 3,
    trees: { usr: digests(trees.usr), etc: digests(trees.etc) },
    state: stateDigest(deployment),
  };
  const other = digestOf('another full report', nodeSha256);
  for (const document of [same, { ...same, seq: head + 2, full: other, count: 1 }])
    await world.deliver(world.nodes[0]!, await machine.seal(document), false);
  await world.check();
}

/** A report rots on the disk before it was posted: its number is missing, and the next report says so. */
async function rots(world: World, machine: Machine): Promise<void> {
  while (machine.sealed < world.ledger.host(machine.host).head) await machine.run();
  machine.offline = true;
  world.now += HOUR;
  await machine.run();
  const rotten = machine.spool().at(-1)!;
  machine.disk.unlink(rotten);
  machine.disk.create(rotten, new TextEncoder().encode('rot'), 0o600);
  machine.offline = false;
  world.now += HOUR;
  await machine.run();
  await world.check();
}

/** All faults end, people mend what is theirs to mend, and the fleet must come to rest. */
async function calmDown(world: World): Promise<void> {
  world.odds = CALM;
  await world.release(true);
  await world.check();
  for (const machine of world.machines) {
    machine.offset = 0;
    machine.changed = [];
    machine.sight = 'whole';
    machine.offline = false;
    machine.wakeAt = world.now + world.below(HOUR);
  }
  await world.pass(6 * HOUR);
  // Whoever was restored from a backup goes on from what the server names as its newest (report.md 4.6).
  for (const machine of world.machines)
    for (let tries = 0; machine.sealed < world.ledger.host(machine.host).head; tries++) {
      assert.ok(tries < 5, `${machine.name} never comes past ${world.ledger.host(machine.host).head}`);
      world.now += MINUTE;
      await machine.run();
    }
  for (const [id, model] of world.ledger.hosts) {
    if (!model.flags.forked && !model.flags.cloned) continue;
    await world.admin(`/api/v1/hosts/${id}/accept-fork`, {});
    Object.assign(model.flags, { forked: false, cloned: false });
  }
  await world.pass(6 * HOUR);
  await world.check();
  for (const machine of world.machines) {
    const told = await world.admin(`/api/v1/hosts/${machine.host}`);
    assert.equal(told.verdict, 'compliant', `${machine.name}: ${told.sentence}`);
    assert.deepEqual(
      (await world.store.findings.present(machine.host)).map(({ group }) => group),
      [],
      machine.name,
    );
    assert.deepEqual(machine.spool(), [], machine.name);
    assert.equal(told.last.kind, 'same', `${machine.name}: nothing changes, and it says so`);
  }
}

/** In eight parts, or in four of as many; what differs by half or twice from its share is 3.6 deviations away in both. */
const BOOTING = deep(400, 160);
const PARTS = deep(8, 4);
/** No more enrol or report at one moment than a server takes in; its clock stands still between them. */
const AT_ONCE = 80;

async function together<T>(all: readonly T[], act: (one: T) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < all.length; i += AT_ONCE) await Promise.all(all.slice(i, i + AT_ONCE).map(act));
}

test('hundreds of hosts boot at once into an image whose manifest is not built: none drifts, all are asked anew, evenly, and then judged', async (t) => {
  const world = new World(t, SEED);
  world.images.push(ONE, TWO);
  let open!: () => void;
  const gate = new Promise<void>((resolve) => (open = resolve));
  world.buildAfter.set(TWO.digest, gate);
  await world.start();
  await together(
    Array.from({ length: BOOTING }, (_, i) => `host-${i}`),
    (name) => world.enrol(name, TWO),
  );
  for (const [i, machine] of world.machines.entries()) if (i % 10 === 0) machine.changed = [PLANTS[0]!];
  await together(world.machines, (machine) => machine.run());
  assert.deepEqual(await verdicts(world), { unverifiable: BOOTING });
  for (const machine of world.machines) {
    const told = await world.admin(`/api/v1/hosts/${machine.host}`);
    assert.deepEqual([told.integrity.code, machine.answer.want], ['MANIFEST_PENDING', 'full']);
  }
  spreadOver(world, HOUR / 2, HOUR / 4);
  // The lease of the build is renewed for as long as it takes; nobody is judged before.
  await together(world.machines, (machine) => ((machine.wakeAt = Infinity), machine.run()));
  assert.deepEqual(await verdicts(world), { unverifiable: BOOTING });
  open();
  await world.built(TWO.digest);
  // Those whose digests say that nothing differs need no new report.
  assert.deepEqual(await verdicts(world), { compliant: BOOTING - BOOTING / 10, unverifiable: BOOTING / 10 });
  world.now += HOUR;
  await together(world.machines, (machine) => machine.run());
  assert.deepEqual(await verdicts(world), { compliant: BOOTING - BOOTING / 10, drifted: BOOTING / 10 });
  for (const machine of world.machines) assert.equal(machine.answer.want, 'same');
  spreadOver(world, HOUR / 2, HOUR);
  await world.check();
});

async function verdicts(world: World): Promise<Record<string, number>> {
  const counted = await world.store.read.verdicts(world.now);
  return Object.fromEntries(counted.filter(({ count }) => count > 0).map(({ verdict, count }) => [verdict, count]));
}

/** Next times lie within `width` after `least`, and no part of it has twice or half of its share. */
function spreadOver(world: World, least: number, width: number): void {
  const parts = Array<number>(PARTS).fill(0);
  for (const machine of world.machines) {
    const wait = Date.parse(machine.answer.next) - world.now - least;
    assert.ok(wait >= 0 && wait <= width, `${machine.name} is to come ${wait} ms after the least`);
    parts[Math.min(PARTS - 1, Math.floor((PARTS * wait) / width))]!++;
  }
  const share = BOOTING / PARTS;
  for (const count of parts) assert.ok(count >= share / 2 && count <= 2 * share, `uneven: ${parts.join(' ')}`);
}

test(
  'two server processes on one PostgreSQL take the same numbers at once',
  { timeout: 300_000 },
  async (t: TestContext) => {
    const postgres = await startPostgres();
    if ('skip' in postgres) return t.skip(postgres.skip);
    t.after(() => postgres.stop());
    const world = new World(t, SEED, await postgres.database());
    world.images.push(ONE);
    world.tampers = TAMPERS;
    await world.start();
    await world.start();
    for (let i = 0; i < 4; i++) await world.enrol(`host-${i}`, ONE);
    world.odds = { ...STORMY, duplicate: 0.5, killServer: 0.05 };
    await world.pass(deep(8, 2) * HOUR);
    world.odds = CALM;
    await world.release(true);
    await world.pass(2 * HOUR);
    const [origin] = world.machines as [Machine];
    const twin = origin.twin('clone');
    for (let i = 0; i < 5; i++) {
      await twoAtOnce(world, twin, origin);
      world.now += MINUTE;
    }
    await calmDown(world);
  },
);
