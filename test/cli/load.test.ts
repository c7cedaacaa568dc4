/** `bootproof load` against a real server over HTTP: what it posts is taken, what it counts is so, and a fleet that comes all at once is absorbed. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { main } from '#cli/load.ts';
import { Due } from '#load/due.ts';
import { spreadOf, Times } from '#load/figures.ts';
import { LoadError } from '#load/post.ts';
import { Seeded } from '#load/plan.ts';
import type { Figures } from '#load/run.ts';
import { fsck } from '#server/keep/fsck.ts';
import { readLedger } from '#server/keep/ledger.ts';
import { StoreError } from '#server/store/store.ts';
import { UsageError } from '#src/terminal.ts';
import { deep, isFull } from '#test/depth.ts';
import { ran } from '#test/ran.ts';
import { folder, image, serverFor, type TestServer } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';

const [OLD, NEW] = [image('41'), image('42')];

async function prepared(t: TestContext) {
  const place = folder(t);
  const storeUrl = `sqlite:${join(place, 'server.db')}`;
  const server = await serverFor(t, { images: [OLD, NEW], clock: Date.now, storeUrl });
  const { token } = (await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: null } })).body;
  const load = async (...args: string[]): Promise<Figures & { readonly exit: number }> => {
    const { exit, out } = await ran(main, ['--server', server.server.url, '--json', ...args], {
      env: { BOOTPROOF_ENROLL_TOKEN: token },
    });
    return { ...(JSON.parse(out) as Figures), exit };
  };
  return { server, load, place, storeUrl, token };
}

async function hostsOf({ server }: TestServer): Promise<ReadonlyMap<string, number>> {
  const page = await server.store.read.verdicts(Date.now());
  return new Map(page.map(({ verdict, count }) => [verdict, count]));
}

test('a small fleet: rolled out, drifting, posting twice; what is acknowledged is there, and it goes on where it stood', async (t) => {
  const { server, load, place, storeUrl } = await prepared(t);
  const [ledger, state] = [join(place, 'ledger'), join(place, 'state')];
  const args = ['--hosts', '6', '--connections', '4', '--for', '10m', '--ledger', ledger, '--state', state];
  const all = [...args, '--image', OLD.digest, '--image', NEW.digest, '--skew', '0.5'];
  const first = await load(...all, '--spool', '2', '--drift', '0', '--rollout-after', '1d', '--duplicates', '1');
  assert.deepEqual([first.exit, first.refusals, first.enrolled.hosts], [0, [], 6]);
  assert.deepEqual(
    { ...first.reports },
    { posted: 24, accepted: 12, full: 6, same: 6, replayed: 12, open: 0 },
    'a full one of each host, then that it is the same; each twice',
  );
  assert.ok(first.images.every(({ compared }) => compared));
  assert.deepEqual(await hostsOf(server), new Map([['compliant', 6]]));

  const rolled = ['--rollout-after', '0s', '--waves', '1', '--wave-every', '0s', '--duplicates', '0'];
  const second = await load(...all, ...rolled, '--spool', '2', '--drift', '0');
  assert.deepEqual([second.exit, second.refusals, second.enrolled.hosts], [0, [], 0]);
  assert.deepEqual([second.reports.full, second.reports.same], [6, 6], 'another image');
  assert.equal((await server.api(`/api/v1/hosts?image=${NEW.digest}`)).body.items.length, 6);

  const third = await load(...all, ...rolled, '--spool', '1', '--drift', '1', '--drift-lines', '3');
  assert.deepEqual([third.exit, third.reports.full, third.reports.same], [0, 6, 0], 'each begins to differ');
  assert.deepEqual(await hostsOf(server), new Map([['drifted', 6]]));
  const lines = readFileSync(ledger, 'utf8').trim().split('\n');
  assert.equal(lines.length, 30);
  const found = await fsck({ url: storeUrl, ledger: readLedger(ledger) });
  assert.deepEqual([found.sound, found.ledger?.acknowledged], [true, 30]);

  await rejectsCode(() => load(...args, '--seed', 'other'), LoadError, 'LOAD_STATE');
  await rejectsCode(() => load(...all, '--hosts', '5'), LoadError, 'LOAD_STATE');
  assert.ok(existsSync(state) && !existsSync(`${state}.running`), 'what there was stands');
  writeFileSync(`${state}.running`, '');
  await rejectsCode(() => load(...all), LoadError, 'LOAD_STATE');
});

test('a fleet that comes all at once with full spools is absorbed: sent away as long as there is no room, and nothing is lost', async (t) => {
  const { server, load, storeUrl, place } = await prepared(t);
  const { store } = server.server;
  const intake = store.intake.bind(store);
  // In depth, a database that is gone for the first commits: all that they held is sent away, for some seconds.
  let down = deep(3, 0);
  store.intake = (items) =>
    down-- > 0 ? Promise.reject(new StoreError('STORE_UNAVAILABLE', 'this test says so')) : intake(items);
  const ledger = join(place, 'ledger');
  const [hosts, spool] = [deep(800, 4), deep(12, 3)];
  const size = ['--hosts', `${hosts}`, '--spool', `${spool}`, '--connections', `${hosts}`];
  const figures = await load(...size, '--for', '10m', '--duplicates', '0', '--drift', '0', '--ledger', ledger);
  const { herd, reports, refusals, retries } = figures;
  assert.deepEqual([herd?.emptied, reports.accepted, reports.open], [hosts, hosts * spool, 0]);
  // Everything that was not taken was told when to come again, and was taken then.
  const refused = refusals.reduce((sum, { count }) => sum + count, 0);
  assert.ok(refused > 0 === isFull && refused === retries.told, JSON.stringify(refusals));
  assert.equal(reports.posted, reports.accepted + refused);
  const found = await fsck({ url: storeUrl, ledger: readLedger(ledger) });
  assert.deepEqual([found.sound, found.ledger?.acknowledged], [true, hosts * spool]);
});

test('times are told within 2 %, however many', () => {
  const times = new Times();
  for (let ms = 1; ms <= 10_000; ms++) times.add(ms);
  const { count, p50, p90, p99, max } = times.told();
  assert.deepEqual([count, max], [10_000, 10_000]);
  for (const [told, is] of [
    [p50, 5000],
    [p90, 9000],
    [p99, 9900],
  ] as const)
    assert.ok(Math.abs(told / is - 1) < 0.025, `${told} for ${is}`);
  assert.equal(new Times().told().p99, 0);
});

test('who is due first comes first', () => {
  const seeded = new Seeded('due');
  const due = new Due(200);
  const at = Array.from({ length: 200 }, (_, host) => Math.floor(50 * seeded.chance(host, 1)));
  for (const [host, time] of at.entries()) due.push(host, time);
  const out: number[] = [];
  while (due.size > 0) {
    const first = due.first();
    out.push(at[due.pop()]!);
    assert.equal(out.at(-1), first);
  }
  assert.deepEqual(
    out,
    at.toSorted((a, b) => a - b),
  );
  assert.equal(due.first(), undefined);
});

test('what is drawn is even, belongs to its host and purpose, and is the same each time', () => {
  const [seeded, again, other] = [new Seeded('a'), new Seeded('a'), new Seeded('b')];
  const drawn = Array.from({ length: 6000 }, (_, host) => seeded.chance(host, 1, 3));
  assert.deepEqual(
    drawn.slice(0, 50),
    Array.from({ length: 50 }, (_, host) => again.chance(host, 1, 3)),
  );
  const spread = spreadOf(
    drawn.map((share) => 1 + share * 1000),
    1000,
  );
  assert.ok(spread !== undefined && spread.dispersion < 1.6, JSON.stringify(spread));
  assert.ok(
    drawn[7] !== seeded.chance(7, 2, 3) && drawn[7] !== seeded.chance(7, 1, 4) && drawn[7] !== other.chance(7, 1, 3),
  );
  assert.notDeepEqual(seeded.keyOf(1), other.keyOf(1));
});

test('a fleet that bunches is told from one that does not', () => {
  const bunched = spreadOf(
    Array.from({ length: 6000 }, (_, n) => 1 + 1000 * n + (n % 2)),
    1000,
  );
  assert.deepEqual([bunched?.most, bunched?.least], [6000, 0]);
  assert.equal(spreadOf([1, 2, 3], 1000), undefined);
});

for (const [what, args] of [
  ['no server', ['--hosts', '1']],
  ['plain http to elsewhere', ['--server', 'http://192.0.2.1']],
  ['an address with a query', ['--server', 'https://bootproof.example/?a']],
  ['a share above 1', ['--server', 'https://bootproof.example', '--drift', '1.5']],
  ['a time without its unit', ['--server', 'https://bootproof.example', '--for', '10']],
  ['no hosts', ['--server', 'https://bootproof.example', '--hosts', '0']],
  ['an image by its tag', ['--server', 'https://bootproof.example', '--image', 'registry.example/os:1']],
] as const)
  test(`${what} is wrong use`, async () => {
    const run = () =>
      ran(main, args, { env: { BOOTPROOF_ENROLL_TOKEN: `bp1.${'a'.repeat(16)}.${'A'.repeat(43)}.${'0'.repeat(64)}` } });
    await assert.rejects(run, UsageError);
  });

test('without a token it is said how to get one', async () => {
  await assert.rejects(ran(main, ['--server', 'https://bootproof.example']), /bootproof tokens create --uses any/);
});

test('a server that is not there, and one that takes nobody with this token', async (t) => {
  if (!isFull) return t.skip('asks for half a minute whether a server came back: TEST_DEPTH=full');
  const token = `bp1.${'a'.repeat(16)}.${'A'.repeat(43)}.${'0'.repeat(64)}`;
  const server = await serverFor(t);
  const to = (url: string) => ran(main, ['--server', url, '--hosts', '1'], { env: { BOOTPROOF_ENROLL_TOKEN: token } });
  await rejectsCode(() => to(server.server.url), LoadError, 'LOAD_TOKEN');
  await rejectsCode(() => to('http://127.0.0.1:9'), LoadError, 'LOAD_SERVER');
});
