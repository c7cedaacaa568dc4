/** Spool and chain of the agent, with the power cut at every act and with everything else that may go wrong on a disk. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatInstant } from '#src/clock.ts';
import { sameInstead } from '#src/report/seal.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { problem } from '#src/wire/problem.ts';
import { NEW_CHAIN, refused } from '#agent/chain.ts';
import { Outbox, type Posted } from '#agent/outbox.ts';
import { Spool } from '#agent/spool.ts';
import { deep } from '#test/depth.ts';
import { FOLDER, full, HOST, MINUTE, ModelServer, reportAt, seeded, sha256, signer, T0 } from './fixture.ts';
import { diskWith, PowerCut, type MemoryDisk } from './memorydisk.ts';

const CHAIN = `${FOLDER}/chain.json`;
const fresh = () => diskWith({ [CHAIN]: JSON.stringify(NEW_CHAIN) });
const bytes = (text: string) => new TextEncoder().encode(text);

type World = { disk: MemoryDisk; now: number; said: string[]; chance: () => number; slept: number[] };
const world = (disk = fresh(), seed = 1): World => ({ disk, now: T0, said: [], chance: seeded(seed), slept: [] });

function open(w: World, limits?: { files: number; bytes: number }): Promise<Outbox> {
  return Outbox.open(
    {
      disk: w.disk,
      clock: () => w.now,
      random: w.chance,
      sleep: (ms) => Promise.resolve(void w.slept.push(ms)),
      verify: verifyInPool,
      say: (sentence) => Promise.resolve(void w.said.push(sentence)),
    },
    { folder: FOLDER, host: HOST, signer, ...(limits === undefined ? {} : { limits }) },
  );
}

/** One report of the host in state `content`, sealed as a cycle seals it. */
async function seal(outbox: Outbox, content: number, now: number): Promise<void> {
  await outbox.makeRoom(3000);
  const { seq, lastFull, answer, dropped } = outbox.chain;
  const place = { host: HOST, seq: seq + 1, previous: lastFull, challenge: answer?.challenge ?? null, dropped };
  const whole = reportAt(place, content, now);
  const same = answer?.want === 'full' ? undefined : sameInstead(whole, outbox.accepted, sha256);
  await outbox.put(same ?? whole);
}

// ── the spool alone ──────────────────────────────────────────────────────────────────────────────────────────────────

test('reports are listed by number, whatever order the folder has', () => {
  const spool = new Spool(fresh(), '/s');
  for (const seq of [10, 2, 9]) spool.add(seq, seq === 9 ? 'full' : 'same', bytes('x'.repeat(seq)));
  assert.deepEqual(spool.list(), [
    { seq: 2, kind: 'same', bytes: 2 },
    { seq: 9, kind: 'full', bytes: 9 },
    { seq: 10, kind: 'same', bytes: 10 },
  ]);
});

test('a number that is taken is not taken again, and what stood there stays', () => {
  const spool = new Spool(fresh(), '/s');
  spool.add(1, 'full', bytes('first'));
  assert.throws(() => spool.add(1, 'full', bytes('second')), { code: 'EEXIST' });
  assert.equal(new TextDecoder().decode(spool.read(spool.list()[0]!, 10)), 'first');
});

test('names that are no reports are passed over', () => {
  const disk = diskWith({
    '/s/.new-report': 'x',
    '/s/1.full': 'x',
    '/s/0000000000000001.old': 'x',
    '/s/refused/0000000000000001.full': 'x',
  });
  assert.deepEqual(new Spool(disk, '/s').list(), []);
});

test('where room is needed the oldest `same` go first, then the oldest `full`', () => {
  const spool = new Spool(fresh(), '/s', { files: 5, bytes: 50 });
  for (const seq of [1, 2, 3, 4, 5]) spool.add(seq, seq % 2 === 1 ? 'full' : 'same', bytes('1234567890'));
  const gone = (size: number) => spool.surplus(size).map(({ seq }) => seq);
  assert.deepEqual(gone(0), [2], 'one file too many');
  assert.deepEqual(gone(10), [2]);
  assert.deepEqual(gone(20), [2, 4]);
  assert.deepEqual(gone(21), [2, 4, 1]);
  assert.deepEqual(gone(1000), [2, 4, 1, 3, 5]);
});

test('of what is set aside the newest twenty stay', () => {
  const disk = fresh();
  const spool = new Spool(disk, '/s');
  for (let seq = 1; seq <= 25; seq++) {
    spool.add(seq, 'full', bytes('x'));
    spool.setAside({ seq, kind: 'full', bytes: 1 }, 'refused');
  }
  assert.deepEqual(spool.list(), []);
  const kept = disk.list('/s/refused').sort();
  assert.equal(kept.length, 20);
  assert.equal(kept[0], '0000000000000006.full');
});

// ── from report to answer ────────────────────────────────────────────────────────────────────────────────────────────

test('a full report, then `same` while nothing changes, then a full one again', async () => {
  const w = world();
  const server = new ModelServer();
  const outbox = await open(w);
  for (const content of [1, 1, 1, 2, 2]) {
    await seal(outbox, content, w.now);
    assert.deepEqual(await outbox.flush((e) => server.post(e)), { accepted: 1, refused: [], waiting: 0, why: null });
    w.now = server.now += 15 * MINUTE;
  }
  assert.deepEqual(
    server.outcomes.map((outcome) => outcome.kind === 'accepted' && [outcome.effect, outcome.flags, outcome.fresh]),
    [
      ['advance', [], false], // it had no challenge yet
      ['advance', [], true],
      ['advance', [], true],
      ['advance', [], true],
      ['advance', [], true],
    ],
  );
  assert.equal(server.state.chain.full?.seq, 4);
  assert.equal(server.state.chain.sameCount, 1);
});

test('without an answer every report is full, and all go out in order when the server is back', async () => {
  const w = world();
  const server = new ModelServer();
  const outbox = await open(w);
  const down = (): Promise<Posted> => Promise.resolve({ kind: 'retry', why: 'down', afterMs: null });
  for (let i = 0; i < 3; i++) {
    await seal(outbox, 1, (w.now += MINUTE));
    assert.equal((await outbox.flush(down)).why, 'down');
  }
  assert.equal(outbox.waiting, 3);
  await outbox.flush((e) => server.post(e));
  assert.deepEqual([...server.taken.keys()], [1, 2, 3]);
  assert.equal(server.outcomes.map((o) => (o.kind === 'accepted' ? o.flags.join() : 'refused')).join(''), '');
});

test('a lost answer: the same bytes go again, and the answer counts as the first', async () => {
  const w = world();
  const server = new ModelServer();
  const outbox = await open(w);
  await seal(outbox, 1, w.now);
  let lose = true;
  const result = await outbox.flush(async (envelope) => {
    const posted = await server.post(envelope);
    if (lose) {
      lose = false;
      return { kind: 'retry', why: 'connection reset', afterMs: null };
    }
    return posted;
  });
  assert.deepEqual(result, { accepted: 1, refused: [], waiting: 0, why: null });
  assert.deepEqual(
    server.outcomes.map((o) => o.kind === 'accepted' && o.effect),
    ['advance', 'replay'],
  );
  await seal(outbox, 1, w.now + MINUTE);
  await outbox.flush((e) => server.post(e));
  assert.equal(server.state.chain.sameCount, 1, 'the replayed answer lets `same` lean on the full report');
});

test('a full report that only went into the history is nothing that a `same` may lean on', async () => {
  const w = world();
  const server = new ModelServer();
  const outbox = await open(w);
  await seal(outbox, 1, w.now);
  await outbox.flush(() => Promise.resolve({ kind: 'accepted', answer: server.answer(1, 'history') }));
  assert.equal(outbox.accepted, null);
});

test('`want: full` is obeyed, though nothing changed', async () => {
  const w = world();
  const server = new ModelServer();
  const outbox = await open(w);
  for (const want of ['full', 'same', 'same'] as const) {
    await seal(outbox, 1, w.now);
    await outbox.flush(async (e) => {
      const posted = await server.post(e);
      return posted.kind === 'accepted' ? { ...posted, answer: { ...posted.answer, want } } : posted;
    });
  }
  assert.deepEqual(server.state.chain.full?.seq, 2);
  assert.equal(server.state.chain.sameCount, 1);
});

test('pauses grow, with jitter, and end in the next run', async () => {
  const w = world();
  const outbox = await open(w);
  await seal(outbox, 1, w.now);
  await outbox.flush(() => Promise.resolve({ kind: 'retry', why: 'down', afterMs: null }));
  assert.equal(w.slept.length, 3);
  w.slept.forEach((ms, i) => assert.ok(ms >= 500 * 2 ** i && ms <= 1500 * 2 ** i, String(ms)));
});

test('a short Retry-After is waited for, a long one is remembered over runs', async () => {
  const w = world();
  const outbox = await open(w);
  await seal(outbox, 1, w.now);
  const busy = (afterMs: number) => () => Promise.resolve({ kind: 'retry', why: 'busy', afterMs } as Posted);
  await outbox.flush(busy(5000));
  assert.deepEqual(w.slept, [5000, 5000, 5000]);
  const w2 = { ...world(), slept: [] as number[] };
  const long = await open(w2);
  await seal(long, 1, w2.now);
  await long.flush(busy(10 * MINUTE));
  assert.deepEqual(w2.slept, []);
  const again = await open(w2);
  const unasked = await again.flush(() => assert.fail('the server asked for quiet'));
  assert.deepEqual([unasked.accepted, unasked.waiting], [0, 1]);
  w2.now += 10 * MINUTE;
  const server = new ModelServer();
  assert.equal((await again.flush((e) => server.post(e))).accepted, 1);
});

test('no server keeps a host quiet for longer than an hour, nor does a clock that was set back', async () => {
  const w = world();
  const outbox = await open(w);
  await seal(outbox, 1, w.now);
  await outbox.flush(() => Promise.resolve({ kind: 'retry', why: 'busy', afterMs: 1e12 }));
  assert.equal(outbox.chain.notBefore, formatInstant(w.now + 60 * MINUTE));
  w.now -= 24 * 60 * MINUTE;
  const server = new ModelServer();
  assert.equal((await outbox.flush((e) => server.post(e))).accepted, 1);
});

test('what is refused is set aside and said, and the next one goes', async () => {
  const w = world();
  const server = new ModelServer();
  const outbox = await open(w);
  await seal(outbox, 1, w.now);
  await seal(outbox, 1, w.now);
  const no = { type: '/p', title: 't', status: 422, detail: 'no', code: 'TREE_CONTRADICTS', check: 7 };
  const result = await outbox.flush((e) =>
    server.posts++ === 0 ? Promise.resolve({ kind: 'refused', problem: no }) : server.post(e),
  );
  assert.deepEqual([result.accepted, result.refused, result.waiting], [1, [no], 0]);
  assert.equal(w.disk.list(`${FOLDER}/spool/refused`).length, 1);
  assert.match(w.said.join(), /refused report 1: no \[TREE_CONTRADICTS\]/);
});

test('an agent whose state was restored is refused once, and goes on from what the server has', async () => {
  const w = world();
  const server = new ModelServer();
  const outbox = await open(w);
  await seal(outbox, 1, w.now);
  const backup = w.disk.copy();
  await outbox.flush((e) => server.post(e));
  for (let i = 2; i < 10; i++) {
    await seal(outbox, i, w.now);
    await outbox.flush((e) => server.post(e));
  }
  w.disk = backup;
  const restored = await open(w);
  await restored.flush((e) => server.post(e)); // a repeat of the first
  await seal(restored, 20, w.now);
  const refused = await restored.flush((e) => server.post(e));
  assert.deepEqual(
    [refused.refused.map(({ code, head }) => `${code} ${head}`), restored.chain.seq],
    [['SEQUENCE_FORKED 9'], 9],
  );
  await seal(restored, 21, w.now);
  assert.equal((await restored.flush((e) => server.post(e))).accepted, 1);
  assert.equal(server.state.chain.headSeq, 10);
});

test('of a number that the server forgot the agent goes to the one that it knows; and no server can use the numbers up', () => {
  const now = Date.parse('2026-11-24T10:00:00Z');
  const chain = { ...NEW_CHAIN, seq: 5 };
  const no = (code: 'SEQUENCE_FORKED' | 'SEQUENCE_FORGOTTEN', head: number) => problem(code, 'no', { check: 6, head });
  assert.equal(refused(chain, 5, no('SEQUENCE_FORGOTTEN', 900), now).seq, 899);
  assert.equal(refused(chain, 5, no('SEQUENCE_FORKED', 900), now).seq, 900);
  assert.equal(refused(chain, 5, no('SEQUENCE_FORKED', 3), now).seq, 5);
  assert.equal(refused(chain, 5, no('SEQUENCE_FORKED', 2 ** 48 - 1), now).seq, now / 60_000);
  assert.equal(refused(chain, 5, problem('TREE_CONTRADICTS', 'no', { check: 7, head: 900 }), now).seq, 5);
});

test('a host that waits for approval keeps its reports', async () => {
  const w = world();
  const outbox = await open(w);
  for (const content of [1, 2]) await seal(outbox, content, w.now);
  const problem = { type: '/p', title: 't', status: 403, detail: 'waits', code: 'HOST_PENDING', check: 3 };
  const result = await outbox.flush(() => Promise.resolve({ kind: 'waits', problem }));
  assert.deepEqual([result.accepted, result.waiting, result.why], [0, 2, 'waits [HOST_PENDING]']);
  assert.deepEqual(w.slept, []);
});

test('a full spool drops, says so in the next report, and goes on saying it until that was taken', async () => {
  const w = world();
  const server = new ModelServer();
  const outbox = await open(w, { files: 3, bytes: 1e9 });
  for (let i = 0; i < 6; i++) await seal(outbox, i, (w.now += MINUTE));
  assert.equal(outbox.waiting, 3);
  assert.deepEqual(outbox.chain.dropped, [{ from: 1, to: 3 }]);
  await outbox.flush((e) => server.post(e));
  assert.deepEqual([...server.taken.keys()], [4, 5, 6]);
  assert.deepEqual(
    [...server.stated].toSorted((a, b) => a - b),
    [1, 2, 3],
  );
  assert.deepEqual(outbox.chain.dropped, []);
  const [first] = server.outcomes;
  assert.ok(first?.kind === 'accepted');
  assert.deepEqual(first.gap?.missing, { from: 1, to: 3 });
});

const damages: [string, (good: Uint8Array) => Uint8Array][] = [
  ['is empty', () => new Uint8Array()],
  ['is cut', (good) => good.slice(0, good.length / 2)],
  ['has a flipped bit', (good) => good.map((byte, i) => (i === 40 ? byte ^ 1 : byte))],
  ['is no text', () => Uint8Array.from([0xff, 0xfe])],
  ['is another report of ours', () => bytes(full.envelope)],
];
for (const [name, damage] of damages)
  test(`a report in the spool that ${name} is set aside, said, and called missing by the next`, async () => {
    const w = world();
    const server = new ModelServer();
    const before = await open(w);
    for (const content of [1, 2, 3]) await seal(before, content, w.now);
    const path = `${FOLDER}/spool/0000000000000002.full`;
    const good = w.disk.files().get(path)!;
    w.disk.unlink(path);
    w.disk.create(path, damage(good), 0o600);
    const outbox = await open(w);
    await outbox.flush((e) => server.post(e));
    assert.deepEqual([...server.taken.keys()], [1, 3]);
    assert.equal(w.disk.list(`${FOLDER}/spool/corrupt`).length, 1);
    assert.match(w.said.join(), /report 2 in the spool is damaged/);
    await seal(outbox, 4, w.now);
    await outbox.flush((e) => server.post(e));
    assert.ok(server.stated.has(2));
  });

test('a report in the spool whose block cannot be read keeps back none of those after it', async () => {
  const w = world();
  const server = new ModelServer();
  const before = await open(w);
  for (const content of [1, 2]) await seal(before, content, w.now);
  const { disk } = w;
  const read = disk.read.bind(disk);
  disk.read = (path, limit) => {
    if (path.endsWith('/spool/0000000000000001.full'))
      throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO', syscall: 'read' });
    return read(path, limit);
  };
  const outbox = await open(w);
  await outbox.flush((e) => server.post(e));
  assert.deepEqual([...server.taken.keys()], [2]);
  assert.match(w.said.join(), /report 1 in the spool is damaged/);
  assert.deepEqual(outbox.chain.dropped, [{ from: 1, to: 1 }]);
});

for (const [name, content] of [
  ['absent', null],
  ['damaged', '{"version":1'],
  ['of another form', '{}'],
  ['empty', ''],
] as const)
  test(`if the record of the chain is ${name}, no number is used twice`, async () => {
    const server = new ModelServer();
    const w = world();
    const before = await open(w);
    for (let i = 0; i < 3; i++) {
      await seal(before, 1, w.now);
      await before.flush((e) => server.post(e));
    }
    w.disk.unlink(CHAIN);
    if (content !== null) w.disk.create(CHAIN, bytes(content), 0o600);
    const outbox = await open(w);
    assert.match(w.said.join(), /lost or damaged/);
    await seal(outbox, 1, w.now);
    await outbox.flush((e) => server.post(e));
    const last = server.outcomes.at(-1)!;
    assert.ok(last.kind === 'accepted');
    assert.deepEqual([last.effect, last.flags], ['advance', ['chain-gap']]);
  });

test('a disk that fails once: the report is not posted before it is durable, and the next run goes on', async () => {
  for (let failAt = 1; failAt < 40; failAt++) {
    const w = world();
    const server = new ModelServer();
    const outbox = await open(w);
    w.disk.failAt = w.disk.acts + failAt;
    let failed = false;
    try {
      await seal(outbox, 1, w.now);
      await outbox.flush((e) => server.post(e));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EIO');
      failed = true;
    }
    if (failed && server.posts > 0) assert.ok(server.taken.has(1));
    w.disk.failAt = Infinity;
    const again = await open(w);
    await seal(again, 1, w.now);
    await again.flush((e) => server.post(e));
    assert.ok(
      server.outcomes.every((o) => o.kind === 'accepted' && o.flags.length === 0),
      `fault at act ${failAt}`,
    );
  }
});

test('handing reports over by file keeps none back, and forgets them only once they are written', async () => {
  const w = world();
  const outbox = await open(w);
  for (const content of [1, 2]) await seal(outbox, content, w.now);
  await assert.rejects(outbox.hand(() => assert.fail('disk full')));
  assert.equal(outbox.waiting, 2);
  const written: Uint8Array[] = [];
  assert.equal(await outbox.hand((envelopes) => void written.push(...envelopes)), 2);
  assert.equal(outbox.waiting, 0);
  const server = new ModelServer();
  for (const envelope of written) await server.post(envelope);
  assert.deepEqual([...server.taken.keys()], [1, 2]);
});

// ── power cuts ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** A host that lives through a script, with power cut at one act; answers and requests are lost by chance. */
async function live(
  seed: number,
  cutAt: number,
  cutAfter: boolean,
): Promise<{ server: ModelServer; w: World; cut: boolean }> {
  const w = world(fresh(), seed);
  const server = new ModelServer();
  const sealed = new Map<number, string>();
  const post = async (envelope: Uint8Array): Promise<Posted> => {
    const retry = { kind: 'retry', why: 'lost', afterMs: null } as const;
    if (down || w.chance() < 0.2) return retry;
    const text = new TextDecoder().decode(envelope);
    const { seq } = JSON.parse(atob((JSON.parse(text) as { payload: string }).payload)) as { seq: number };
    assert.equal(sealed.get(seq) ?? text, text, `number ${seq} was posted with two contents`);
    sealed.set(seq, text);
    const posted = await server.post(envelope);
    return w.chance() < 0.2 ? retry : posted;
  };
  w.disk.cutAt = w.disk.acts + cutAt;
  w.disk.cutAfter = cutAfter;
  let cut = false;
  let down = false;
  let outbox: Outbox | undefined;
  for (let step = 0; step < 8; step++) {
    // Long enough now and then that the spool of three overflows.
    down = w.chance() < (down ? 0.8 : 0.4);
    try {
      outbox ??= await open(w, { files: 3, bytes: 1e9 });
      await seal(outbox, Math.floor(w.chance() * 2), w.now);
      await outbox.flush(post);
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error;
      cut = true;
      w.disk.reboot(w.chance);
      outbox = undefined;
    }
    w.now = server.now += 15 * MINUTE;
  }
  // In the end power and network are whole.
  w.disk.cutAt = Infinity;
  outbox ??= await open(w, { files: 3, bytes: 1e9 });
  await seal(outbox, 0, w.now);
  await outbox.flush((e) => server.post(e));
  w.now = server.now += 15 * MINUTE;
  await seal(outbox, 0, w.now);
  const result = await outbox.flush((e) => server.post(e));
  assert.equal(result.waiting, 0);
  return { server, w, cut };
}

function checkLife({ server, w }: { server: ModelServer; w: World }): void {
  for (const outcome of server.outcomes) assert.equal(outcome.kind, 'accepted', JSON.stringify(outcome));
  // Nothing is missing that nobody says is missing.
  for (const { from, to } of server.state.chain.gaps)
    for (let seq = from; seq <= to; seq++) assert.ok(server.stated.has(seq), `number ${seq} vanished in silence`);
  assert.deepEqual(
    w.said.filter((sentence) => /lost or damaged|is damaged/.test(sentence)),
    [],
  );
}

test('an answer without tickets changes when and what, and takes away nothing that is held', async () => {
  const w = world();
  const server = new ModelServer();
  const outbox = await open(w);
  await seal(outbox, 0, w.now);
  await outbox.flush((e) => server.post(e));
  const held = outbox.chain.answer!;
  w.now += MINUTE;
  await seal(outbox, 0, w.now);
  const bare = { ...server.answer(2, 'replay', 'full'), challenge: null, manifestBearer: null };
  const { waiting } = await outbox.flush(() => Promise.resolve({ kind: 'accepted', answer: bare }));
  const { answer } = outbox.chain;
  assert.deepEqual(answer, { ...held, next: bare.next, want: 'full' });
  assert.equal(waiting, 0);
});

test('power cut at every act of a run, before and after it: no number means two things, nothing vanishes in silence', async () => {
  let cuts = 0;
  for (let cutAt = 1; ; cutAt += deep(1, 3)) {
    const lives = [await live(7, cutAt, false), await live(7, cutAt, true)];
    for (const life of lives) checkLife(life);
    cuts += lives.filter(({ cut }) => cut).length;
    if (lives.every(({ cut }) => !cut)) break;
  }
  assert.ok(cuts > deep(200, 65), `${cuts} acts were cut`);
});

test('the same for any order of losses', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.integer({ min: 1, max: 250 }), fc.boolean(), async (seed, cutAt, cutAfter) => {
      checkLife(await live(seed, cutAt, cutAfter));
    }),
    { numRuns: deep(60, 25) },
  );
});
