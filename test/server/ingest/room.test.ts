/** What a server does at its limit: who is told what, that memory does not grow with a fleet, and that one host takes nobody's place. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { test } from 'node:test';
import { Answers } from '#server/ingest/answers.ts';
import { Enrolments } from '#server/ingest/enrol.ts';
import { Load } from '#server/ingest/quota.ts';
import { Returns, ReportError } from '#server/ingest/reporterror.ts';
import { boundConnections } from '#server/listen.ts';
import type { Store } from '#server/store/store.ts';
import {
  ENROL_PENDING_MAX,
  HOST_AT_ONCE_MAX,
  INTAKE_BYTES_MAX,
  RETRY_LAST_SECONDS,
  RETRY_LEAST_SECONDS,
  SAME_BYTES_MAX,
  STRAIN_FROM,
  STRAIN_FULL,
} from '#src/limits.ts';
import { nodeSigner, pkcs8OfSeed } from '#src/signing/node.ts';
import { sealEnrolRequest } from '#src/wire/enrol.ts';
import { hmacSha256 } from '#src/wire/ticket.ts';
import { tokenFrom } from '#src/wire/token.ts';
import { enrol, image, MINUTE, serverFor, T0 } from '#test/server/fleet.ts';
import { rejectsCode } from '#test/throws.ts';

const HOSTS = 6000;
const INTERVAL = 15 * MINUTE;

/** When hosts are told to come again that all report at one moment. */
function nextOf(strain: number): number[] {
  const answers = new Answers(
    {} as never,
    () => INTERVAL,
    () => strain,
  );
  return Array.from({ length: HOSTS }, (_, n) => {
    const host = { id: `h_${n}`, group: null, labels: {} } as never;
    return answers.next(host, T0, false) - T0;
  });
}

/** Variance over mean of how many come in each slot of a period: 1 where each is drawn. */
function dispersion(times: readonly number[], period: number): number {
  const slots = Array.from({ length: 60 }, () => 0);
  for (const at of times) slots[Math.floor(((at % period) / period) * 60)]!++;
  const mean = times.length / slots.length;
  return slots.reduce((sum, n) => sum + (n - mean) ** 2, 0) / (slots.length - 1) / mean;
}

for (const [name, strain, stretch] of [
  ['is asked to come in its interval', 0, 1],
  ['is asked to come more seldom by a server at its limit', 1, 1.4],
  ['is asked to come a little more seldom by one that comes near', 0.1, 1.1],
] as const)
  test(`a fleet that reports at one moment ${name}, evenly`, () => {
    const times = nextOf(strain);
    const [least, most] = [Math.min(...times), Math.max(...times)];
    assert.ok(least >= INTERVAL / 2 && most < INTERVAL * (0.5 + stretch) + 1, `${least} to ${most}`);
    assert.ok(most < 2 * INTERVAL, 'a report that comes when it was asked for is live');
    // With 60 slots a fair draw passes 1.6 less than once in a thousand.
    const found = dispersion(times, INTERVAL * stretch);
    assert.ok(found < 1.6, `variance over mean ${found}`);
    const mean = times.reduce((sum, at) => sum + at, 0) / times.length;
    assert.ok(Math.abs(mean / INTERVAL - (0.5 + stretch / 2)) < 0.03, `on average after ${mean / INTERVAL} intervals`);
  });

test('the strain begins where a server is more than busy', () => {
  const load = new Load();
  const hold = (count: number) => {
    for (let n = 0; n < count; n++) load.open(false)!.begin();
    return load.strain;
  };
  assert.deepEqual([hold(STRAIN_FROM), hold(STRAIN_FULL - STRAIN_FROM), hold(100)], [0, 1, 1]);
});

test('a body that said it is small and is not once it was decoded finds no more room than a large one', () => {
  const load = new Load();
  load.open(true)!.add(INTAKE_BYTES_MAX);
  assert.ok(load.open(false)!.add(SAME_BYTES_MAX));
  assert.ok(!load.open(false)!.add(SAME_BYTES_MAX + 1));
});

test('who finds no place is told a time of its own; no more come in a second than are taken, and later half of that', () => {
  let now = 0;
  const returns = new Returns(() => now);
  for (let second = 0; second < 10; second++) {
    for (let n = 0; n < 400; n++) returns.took();
    now += 1000;
  }
  const told = Array.from({ length: 40_000 }, () => returns.seconds());
  const at = Map.groupBy(told, (seconds) => seconds);
  assert.ok(Math.min(...told) >= RETRY_LEAST_SECONDS && Math.max(...told) <= RETRY_LAST_SECONDS);
  // Those that come first are spread over a minute whatever the pace.
  const crowd = Math.max(...[...at].filter(([seconds]) => seconds > 61).map(([, all]) => all.length));
  assert.ok(crowd <= 202, `${crowd} in a second, and 400 are taken`);
  const early = Math.max(...[...at].filter(([seconds]) => seconds <= 61).map(([, all]) => all.length));
  assert.ok(early <= 420, `${early} in a second, and 400 are taken`);
});

test('a few that find no place are spread over a minute, also where nothing is known of the pace', () => {
  const returns = new Returns(() => 0);
  const told = Array.from({ length: 112 }, () => returns.seconds());
  assert.deepEqual(
    [...new Set(told)].sort((a, b) => a - b),
    Array.from({ length: 56 }, (_, n) => 5 + n),
  );
});

test('more than all places: nobody waits longer than the longest time', () => {
  const returns = new Returns(() => 0);
  for (let n = 0; n < 100_000; n++) assert.ok(returns.seconds() <= RETRY_LAST_SECONDS);
});

test(
  'one host that sends all at once has some of it taken in turn, and the report of another among them',
  { timeout: 60_000 },
  async (t) => {
    const os = image('41');
    const server = await serverFor(t, { images: [os] });
    const [greedy, other] = [await enrol(server, os, { name: 'greedy' }), await enrol(server, os, { name: 'other' })];
    for (const host of [greedy, other]) await host.sendFull();
    const { store } = server.server;
    const intake = store.intake.bind(store);
    const { promise: closed, resolve: open } = Promise.withResolvers<void>();
    store.intake = async (items) => {
      await closed;
      return intake(items);
    };
    const sealed = [];
    for (let n = 0; n < 2 * HOST_AT_ONCE_MAX; n++) sealed.push(await greedy.seal(greedy.sameReport()));
    // Signatures are verified beside each other: which of them come first is nobody's to say, only how many find a place.
    const away: string[] = [];
    const { promise: full, resolve: isFull } = Promise.withResolvers<void>();
    const posting = sealed.map(async ({ text }) => {
      const { status, body, headers } = await greedy.post(text);
      if (status === 200) return;
      assert.deepEqual([status, body.code, headers.get('retry-after')], [429, 'RATE_LIMITED', '1']);
      if (away.push(text) === HOST_AT_ONCE_MAX) isFull();
    });
    const own = other.sendSame();
    await full;
    open();
    assert.equal((await own).status, 200);
    await Promise.all(posting);
    assert.equal(away.length, HOST_AT_ONCE_MAX);
    // What was sent away is taken afterwards: nothing is lost.
    for (const text of away) assert.equal((await greedy.post(text)).status, 200);
    assert.equal((await store.hosts.get(greedy.id))!.chain.headSeq, greedy.seq);
  },
);

const TICKETS = { keys: [new Uint8Array(32)], hmac: hmacSha256 } as const;

function enrolments(verify: () => Promise<boolean>, share?: { burst: number; perSecond: number }) {
  const token = tokenFrom(new Uint8Array(42).fill(7), 'a'.repeat(64));
  const key = nodeSigner(pkcs8OfSeed(token.seed));
  const store = {
    tokens: {
      get: () => Promise.resolve({ id: token.id, hash: key.publicKey }),
      enrol: () => Promise.resolve({ kind: 'refused', reason: 'token-expired' }),
    },
  } as unknown as Store;
  const policies = { current: { freshness: { reportEvery: 1, lateAfter: 2, silentAfter: 3 } } };
  const deps = {
    store,
    clock: () => T0,
    keys: { tickets: TICKETS },
    verify,
    policies,
    random: () => new Uint8Array(16),
  };
  const made = new Enrolments(deps as never, share);
  const body = () =>
    sealEnrolRequest(
      {
        version: 1,
        tokenId: token.id,
        nonce: made.nonce(token.id).nonce,
        host: null,
        publicKey: key.publicKey,
        machine: null,
        hostname: 'h',
        agentVersion: '0.1.0',
        writes: [1],
      },
      key,
      key,
    );
  return { made, body };
}

test('so many enrol at once, and the next is told when to come', async () => {
  const { promise: verified, resolve: end } = Promise.withResolvers<boolean>();
  const { made, body } = enrolments(() => verified);
  const one = await body();
  const waiting = Array.from({ length: ENROL_PENDING_MAX }, () => made.enrol(one));
  await rejectsCode(() => made.enrol(one), ReportError, 'OVERLOADED');
  end(false);
  assert.ok((await Promise.allSettled(waiting)).every(({ status }) => status === 'rejected'));
  await assert.rejects(made.enrol(one), { code: 'ENROL_PROOF' });
});

test('a token enrols so many at once and then so many a second; who only names it uses nothing of that', async () => {
  let valid = false;
  const { made, body } = enrolments(() => Promise.resolve(valid), { burst: 2, perSecond: 0.1 });
  const one = await body();
  for (let n = 0; n < 5; n++) await assert.rejects(made.enrol(one), { code: 'ENROL_PROOF' });
  valid = true;
  for (let n = 0; n < 2; n++) await assert.rejects(made.enrol(one), { code: 'ENROL_TOKEN' });
  await assert.rejects(made.enrol(one), { code: 'RATE_LIMITED', retryAfter: 10 });
});

test('connections are bounded: many end with their answers, and too many are closed unheard', async (t) => {
  const server = createServer((_request, response) => response.end('x'));
  const events: string[] = [];
  boundConnections(server, (_level, event) => events.push(event), 1, 2);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const sockets: Socket[] = [];
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  const ask = async (): Promise<string> => {
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    let got = '';
    const ended = new Promise<void>((resolve) => {
      socket.on('data', (bytes) => {
        got += bytes.toString('latin1');
        if (got.includes('\r\n\r\n')) resolve();
      });
      socket.on('error', () => {}).on('close', () => resolve());
    });
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await ended;
    return /^connection: (.*)\r$/im.exec(got)?.[1] ?? 'unheard';
  };
  assert.equal(await ask(), 'keep-alive');
  const taken = once(server, 'connection');
  const held = connect(port, '127.0.0.1');
  sockets.push(held);
  const [own] = (await taken) as [Socket];
  assert.equal(await ask(), 'unheard');
  assert.deepEqual(events, ['connections closed unheard']);
  const gone = once(own, 'close');
  held.destroy();
  await gone;
  assert.equal(await ask(), 'close');
});
