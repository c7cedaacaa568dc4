/** Reading that is held back: what is counted, and that nothing else changes. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { pauseFor } from '#agent/hashworker.ts';
import { scan } from '#agent/scan.ts';
import { parseThrottle } from '#agent/scancommand.ts';
import { UsageError } from '#src/terminal.ts';
import { temporary } from './roots.ts';

const MS = 1_000_000n;
/** A hundred bytes a second: each costs 10 ms. */
const NS = 10_000_000;

test('what is read costs its time, small debts are let pass, and none is forgiven', () => {
  const pace = new BigInt64Array(new SharedArrayBuffer(8));
  const now = 1000n * MS;
  assert.equal(pauseFor(pace, 1, NS, now), 0n, '10 ms are not worth a pause');
  assert.equal(pauseFor(pace, 1, NS, now), 20n * MS, 'two of them are');
  assert.equal(pauseFor(pace, 5, NS, now), 70n * MS, 'another thread, which is to wait for both');
  assert.equal(pauseFor(pace, 1, NS, now + 70n * MS), 0n, 'paid');
  assert.equal(pauseFor(pace, 1, NS, now + 70n * MS), 20n * MS);
});

test('time that went by unused is no credit', () => {
  const pace = new BigInt64Array(new SharedArrayBuffer(8));
  assert.equal(pauseFor(pace, 100, NS, 0n), 1000n * MS);
  assert.equal(pauseFor(pace, 100, NS, 3_600_000n * MS), 1000n * MS);
});

test('over any number of reads by many threads, what was read is what may be read in that time', () => {
  const pace = new BigInt64Array(new SharedArrayBuffer(8));
  const threads = [0n, 0n, 0n];
  let bytes = 0;
  for (let i = 0; i < 300; i++) {
    // The thread that is ready first reads next.
    const index = threads.indexOf(threads.reduce((a, b) => (b < a ? b : a)));
    const length = 1 + ((i * 7) % 13);
    bytes += length;
    threads[index]! += pauseFor(pace, length, NS, threads[index]!);
  }
  const end = threads.reduce((a, b) => (b > a ? b : a));
  const fair = BigInt(bytes * NS);
  assert.ok(end >= fair - 20n * MS && end <= fair, `${end} for ${fair}`);
});

test('a scan that is held back sees the same', async (t) => {
  const root = temporary(t);
  for (const folder of ['usr', 'etc']) mkdirSync(`${root}/${folder}`);
  for (let i = 0; i < 20; i++) writeFileSync(`${root}/usr/${i}`, Buffer.alloc(i * 10_000, i));
  writeFileSync(`${root}/etc/x`, 'x');
  const free = await scan({ root });
  const held = await scan({ root, bytesPerSecond: 20e6 });
  assert.deepEqual(held.trees, free.trees);
  assert.ok(held.stats.bytes > 1_000_000);
});

test('a throttle is a whole number of megabytes a second', () => {
  assert.equal(parseThrottle(undefined), undefined);
  assert.equal(parseThrottle('1'), 1e6);
  assert.equal(parseThrottle('99999'), 99_999e6);
  for (const text of ['0', '-1', '1.5', '1MB', '', '100000', '01'])
    assert.throws(() => parseThrottle(text), UsageError);
});
