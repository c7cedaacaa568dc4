/** A scan's regard for the rest of the host: when it rests, for how long, and what it says of it. */
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { GENTLE } from '#agent/config.ts';
import { openC } from '#agent/clibrary.ts';
import { isOnBattery, linuxLoad, Neighbour, stalledOf, type Gentle, type Resource } from '#agent/pressure.ts';
import { scan } from '#agent/scan.ts';
import { emptyRoot, temporary } from './roots.ts';

/** A host whose time passes only in pauses; `wait` tells which share of a second something waits, and for what. */
function host(
  wait: (second: number, ours: boolean) => Partial<Record<Resource, number>>,
  battery = (_second: number) => false,
) {
  let [now, paused] = [0, 0];
  const stalled = { cpu: 0, io: 0, memory: 0 };
  const pass = (ms: number, ours: boolean) => {
    for (const [resource, share] of Object.entries(wait(now / 1000, ours)) as [Resource, number][])
      stalled[resource] += share * ms * 1000;
    now += ms;
  };
  const pause = async (ms: number) => {
    paused += ms;
    pass(ms, false);
  };
  const deps = {
    load: { stalled: () => ({ ...stalled }), onBattery: () => battery(now / 1000) },
    now: () => now,
    pause,
  };
  /** So many seconds of scanning, which stops when it should. */
  const work = async (neighbour: Neighbour, seconds: number) => {
    for (let done = 0; done < seconds; done++) {
      pass(1000, true);
      if (neighbour.isPressed) await neighbour.rest();
    }
  };
  return { deps, work, rested: () => paused / 1000 };
}

const gentle: Gentle = { limits: { cpu: 90, io: 60, memory: 20 }, waitMs: 100_000, batteryMs: null };

test('where nobody waits a scan does not rest, nor where the limit is not reached', async () => {
  const { deps, work, rested } = host(() => ({ io: 0.6, cpu: 0.9, memory: 0.2 }));
  const neighbour = new Neighbour(gentle, deps);
  await work(neighbour, 60);
  assert.deepEqual([rested(), neighbour.notes], [0, []]);
});

test('it rests while others wait, and goes on when they do no longer', async () => {
  const { deps, work, rested } = host((second) => ({ io: second < 30 ? 0.8 : 0.1 }));
  const neighbour = new Neighbour(gentle, deps);
  await work(neighbour, 60);
  assert.equal(rested(), 29);
  assert.deepEqual(neighbour.notes, [
    'scan slow: others waited for io in 80 % of the time, more than 60 %; it rested for 29 s',
  ]);
});

test('what only its own reading waits for is looked at now and then, and is no reason to rest', async () => {
  const { deps, work, rested } = host((_second, ours) => ({ io: ours ? 1 : 0.01 }));
  const neighbour = new Neighbour(gentle, deps);
  await work(neighbour, 150);
  assert.ok(rested() >= 8 && rested() <= 11, `${rested()} s of 150`);
  assert.deepEqual(neighbour.notes, []);
});

test('it rests for no longer than it may, and says that it went on', async () => {
  const { deps, work, rested } = host(() => ({ memory: 0.5 }));
  const neighbour = new Neighbour(gentle, deps);
  await work(neighbour, 300);
  assert.equal(rested(), 100);
  assert.match(
    neighbour.notes.join(),
    /^scan slow: others waited for memory in 50 % .*, more than 20 %; it rested for 100 s, the most it may, and then went on$/,
  );
});

test('a resource without a limit, or of which the kernel does not tell, is not waited for', async () => {
  const { deps, work, rested } = host(() => ({ io: 1, cpu: 1 }));
  await work(new Neighbour({ ...gentle, limits: { cpu: null, io: null, memory: 1 } }, deps), 20);
  await work(new Neighbour(gentle, { ...deps, load: { stalled: () => ({}), onBattery: () => false } }), 20);
  assert.equal(rested(), 0);
});

test('on battery a scan waits for its end, for as long as it may', async () => {
  const wanted = { ...gentle, batteryMs: 600_000 };
  const short = host(
    () => ({}),
    (second) => second < 100,
  );
  const neighbour = new Neighbour(wanted, short.deps);
  await neighbour.begin();
  assert.equal(short.rested(), 105);
  assert.deepEqual(neighbour.notes, ['scan postponed: on battery for 90 s']);
  const long = host(
    () => ({}),
    () => true,
  );
  const other = new Neighbour(wanted, long.deps);
  await other.begin();
  assert.equal(long.rested(), 600);
  assert.deepEqual(other.notes, ['scan postponed: on battery; it waited for 600 s, the most it may, and then went on']);
  await new Neighbour(gentle, long.deps).begin();
  assert.equal(long.rested(), 600, 'and without the setting not at all');
});

test('who stops the scan does not wait for its rest', async () => {
  const { deps } = host(
    () => ({ io: 1 }),
    () => true,
  );
  const signal = AbortSignal.abort(new Error('stopped'));
  await assert.rejects(new Neighbour(gentle, deps).rest(signal), /stopped/);
  await assert.rejects(new Neighbour({ ...gentle, batteryMs: 1000 }, deps).begin(signal), /stopped/);
});

const psi =
  'some avg10=27.86 avg60=39.89 avg300=27.25 total=29751662250\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n';
for (const [what, text, total] of [
  ['both lines', psi, 29_751_662_250],
  ['of cpu before Linux 5.13 one', psi.split('\n')[0]!, 29_751_662_250],
  ['nothing', '', undefined],
  ['another text', 'some of it total=x', undefined],
] as const)
  test(`pressure is read: ${what}`, () => assert.equal(stalledOf(text), total));

/** As Linux shows power supplies. */
function supplies(t: TestContext, list: Readonly<Record<string, Readonly<Record<string, string>>>>): string {
  const folder = temporary(t);
  for (const [name, files] of Object.entries(list)) {
    mkdirSync(join(folder, name));
    for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, name, file), `${text}\n`);
  }
  return folder;
}
const battery = (status: string) => ({ type: 'Battery', status });
for (const [what, list, expected] of [
  ['no supplies', {}, false],
  ['a battery that is emptied', { BAT0: battery('Discharging') }, true],
  [
    'the same beside a charger that is not plugged in',
    { AC: { type: 'Mains', online: '0' }, BAT0: battery('Discharging') },
    true,
  ],
  ['beside one that is, if too weak', { AC: { type: 'USB', online: '1' }, BAT0: battery('Discharging') }, false],
  ['a full one', { BAT0: battery('Full'), AC: { type: 'Mains', online: '1' } }, false],
  ['two, of which one is emptied', { BAT0: battery('Not charging'), BAT1: battery('Discharging') }, true],
  ['that of a mouse', { mouse: { ...battery('Discharging'), scope: 'Device' } }, false],
] as const)
  test(`on battery: ${what}`, (t) => assert.equal(isOnBattery(supplies(t, list)), expected));

test('this kernel is asked without an error, whatever it tells', () => {
  for (const total of Object.values(linuxLoad.stalled())) assert.ok(total >= 0);
  assert.equal(typeof linuxLoad.onBattery(), 'boolean');
  assert.equal(isOnBattery('/nowhere/at/all'), false);
});

test('pages that a scan alone brought into the cache are given back, those that were there stay', async (t) => {
  const [c, other] = [await openC(), await openC({ cachestat: false })];
  const root = emptyRoot(t);
  const [cold, warm] = [join(root, 'usr/cold'), join(root, 'usr/warm')];
  const fds = [cold, warm].map((file) => {
    writeFileSync(file, Buffer.alloc(300_000, 'x'), { flush: true });
    return openSync(file, 'r');
  });
  try {
    const resident = () => fds.map((fd) => c.isResident(fd, 300_000));
    for (const fd of fds) c.forget(fd, 0, 0);
    if (resident().includes(true)) return t.skip('files lie in memory here, which gives nothing back');
    readFileSync(warm);
    await scan({ root, workers: 1, neighbour: new Neighbour(GENTLE) });
    assert.deepEqual(resident(), [false, true]);
    for (const [i, fd] of fds.entries()) assert.equal(other.isResident(fd, 300_000), i === 1, 'as the ends of it tell');
    await scan({ root, workers: 1 });
    assert.deepEqual(resident(), [true, true]);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
});
