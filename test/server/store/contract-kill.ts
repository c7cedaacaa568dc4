/** The contract of server/store/store.ts as tests: processes that are killed, and several at once. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkCounters } from './contract-intake.ts';
import { openedEngine, type Suite } from './contract.ts';

type Writer = { readonly child: ChildProcess; readonly lines: () => string[]; started(): Promise<void> };

function writer(t: TestContext, url: string, tag: string): Writer {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'writer.ts'), url, tag, '5'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let out = '';
  let err = '';
  child.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => (err += bytes.toString()));
  const lines = () => out.split('\n').slice(0, -1);
  return {
    child,
    lines,
    async started() {
      while (lines().length < 30) {
        if (child.exitCode !== null) throw new Error(`the writer ended: ${err}`);
        await sleep(10);
      }
    },
  };
}

async function kill({ child }: Writer): Promise<void> {
  const gone = once(child, 'close');
  child.kill('SIGKILL');
  await gone;
}

/** Every acknowledged report stands: the newest of its host is at or beyond it, and every full one is kept whole. */
async function checkKept(t: TestContext, url: string, lines: readonly string[]): Promise<void> {
  const { engine, store } = await openedEngine(t, url);
  const said = lines.filter((line) => line !== 'ready').map((line) => line.split(' ') as [string, string]);
  assert(said.length > 0);
  for (const [id, seq] of said) {
    const host = await store.hosts.get(id);
    assert(host !== undefined && host.chain.headSeq >= Number(seq), `${id}: ${seq} was acknowledged`);
    const kept = await store.reports.get(id, Number(seq));
    // Odd numbers were full reports; of `same` ones the chain remembers the newest.
    if (Number(seq) % 2 === 1) assert.equal(Buffer.from(kept!.envelope).toString(), `${id} ${seq} full `);
  }
  await checkCounters(engine);
}

export function kills(suite: Suite): void {
  suite('a writer killed at any moment loses nothing that it had acknowledged', async (url, t) => {
    for (let round = 0; round < 4; round++) {
      const one = writer(t, url, `round ${round}`);
      await one.started();
      // Somewhere inside a transaction, each time elsewhere.
      await sleep(7 * round);
      await kill(one);
      await checkKept(t, url, one.lines());
    }
  });

  suite('two processes write the same store, and neither disturbs the other', async (url, t) => {
    const first = writer(t, url, 'first');
    await first.started();
    const second = writer(t, url, 'second');
    await second.started();
    const before = first.lines().length;
    while (first.lines().length < before + 20) await sleep(10);
    assert.deepEqual([first.child.exitCode, second.child.exitCode], [null, null]);
    await Promise.all([kill(first), kill(second)]);
    await checkKept(t, url, [...first.lines(), ...second.lines()]);
  });
}
