/**
 * Every call that a server makes to its store fails once, before it was carried out and after: whoever asked asks again, and in the end everything
 * that was acknowledged is there once, and the store is whole.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fsck } from '#server/keep/fsck.ts';
import type { Acknowledged } from '#server/keep/ledger.ts';
import { StoreError } from '#server/store/store.ts';
import {
  BASE,
  enrol,
  file,
  folder,
  HOUR,
  MINUTE,
  image,
  serverFor,
  type TestHost,
  type TestServer,
} from '#test/server/fleet.ts';

type Fault = { readonly method: string; readonly isDone: boolean };

/** Puts a fault under the next call of one method; `hit` counts those that were met. */
class Faults {
  readonly calls = new Map<string, number>();
  readonly hit: string[] = [];
  next: Fault | undefined;

  arm(target: object, prefix = ''): void {
    for (const [name, value] of Object.entries(target)) {
      const method = prefix + name;
      if (name === 'close' || name === 'engine') continue;
      if (typeof value === 'object' && value !== null) this.arm(value as object, `${method}.`);
      else if (typeof value === 'function')
        Object.assign(target, { [name]: this.#faulty(method, value as (...args: unknown[]) => Promise<unknown>) });
    }
  }

  #faulty(method: string, real: (...args: unknown[]) => Promise<unknown>) {
    return async (...args: unknown[]): Promise<unknown> => {
      this.calls.set(method, (this.calls.get(method) ?? 0) + 1);
      const fault = this.next?.method === method ? this.next : undefined;
      if (fault === undefined) return real(...args);
      this.next = undefined;
      this.hit.push(`${method} ${fault.isDone ? 'after' : 'before'}`);
      if (fault.isDone) await real(...args);
      throw new StoreError('STORE_UNAVAILABLE', `${method} failed because this test says so`);
    };
  }
}

/** A site, and a piece of its life: reports, an image that is new, decisions, what jobs do. Everything is asked again until it is done. */
class Life {
  readonly server: TestServer;
  readonly images: readonly ReturnType<typeof image>[];
  readonly acknowledged: Acknowledged[] = [];
  #hosts: TestHost[] = [];
  #turn = 0;

  constructor(server: TestServer, images: readonly ReturnType<typeof image>[]) {
    this.server = server;
    this.images = images;
  }

  async again<T>(act: () => Promise<T>, isDone: (answer: T) => boolean): Promise<T> {
    for (let left = 50; ; left--) {
      const answer = await act();
      if (isDone(answer)) return answer;
      const { status, body } = answer as { status: number; body: unknown };
      assert.ok([429, 503].includes(status) && left > 0, `${status}: ${JSON.stringify(body)}`);
      await sleep(1);
    }
  }

  api(path: string, init?: { method?: string; body?: unknown }) {
    return this.again(
      () => this.server.api(path, init),
      ({ status }) => status < 429,
    );
  }

  async report(host: TestHost, kind: 'full' | 'same'): Promise<void> {
    const document = kind === 'full' ? host.fullReport() : host.sameReport();
    const sealed = await host.seal(document);
    const { body } = await this.again(
      () => host.post(sealed.text),
      ({ status }) => status === 200,
    );
    if (document.kind === 'full') [host.full, host.count] = [{ digest: sealed.digest, report: document }, 0];
    host.challenge = body.challenge ?? host.challenge;
    this.acknowledged.push({ host: host.id, seq: document.seq, digest: sealed.digest, kind });
  }

  async enrolled(name: string, of: ReturnType<typeof image>): Promise<TestHost> {
    for (let left = 50; ; left--)
      try {
        return await enrol(this.server, of, { name });
      } catch (error) {
        const { problem } = error as { problem?: { status: number } };
        // A token is made by the API, and that may have been refused as well.
        if (left === 0 || (problem !== undefined && problem.status !== 503)) throw error;
        await sleep(1);
      }
  }

  async piece(): Promise<void> {
    const n = this.#turn++;
    const of = this.images[n % this.images.length]!;
    const host =
      n % 4 === 0 || this.#hosts.length === 0
        ? await this.enrolled(`host-${n}`, of)
        : this.#hosts[n % this.#hosts.length]!;
    if (!this.#hosts.includes(host)) this.#hosts.push(host);
    [host.booted, host.manifest] = [of.digest, null];
    host.entries = n % 2 === 0 ? BASE : [...BASE, file(`/usr/lib/own-${n % 3}`, `${n}`)];
    await this.report(host, 'full');
    await this.report(host, 'same');
    await this.settle();
    host.compareWith(of);
    await this.report(host, 'full');
    const { body } = await this.api('/api/v1/groups?status=all');
    const [group] = body.items;
    if (group !== undefined)
      await this.api(`/api/v1/groups/${group.id}/comments`, { method: 'POST', body: { text: `${n}` } });
    await this.report(this.#hosts[0]!, 'same');
    // Another host's clock is not asked: a host that was silent for a day is back.
    if (n % 5 === 0) this.server.time.now += 26 * HOUR;
    await this.server.server.evidence.turn().catch((error: unknown) => assert.ok(error instanceof StoreError));
  }

  async settle(): Promise<void> {
    // Work whose end could not be written comes back when its lease is over.
    const passing = setInterval(() => void (this.server.time.now += 5 * MINUTE), 100);
    try {
      for (let left = 50; ; left--)
        try {
          return await this.server.settle();
        } catch (error) {
          if (!(error instanceof StoreError) || left === 0) throw error;
        }
    } finally {
      clearInterval(passing);
    }
  }
}

async function site(t: TestContext) {
  const images = Array.from({ length: 1000 }, (_, n) => image(`os-${n}`));
  const home = folder(t);
  const url = `sqlite:${join(home, 'store.db')}`;
  const server = await serverFor(t, { images, storeUrl: url });
  const faults = new Faults();
  faults.arm(server.server.store);
  return { life: new Life(server, images), faults, url, checkpointFile: join(home, 'log.checkpoint') };
}

/** In depth only: a server and a life of it for each of some eighty methods. */
export async function storeFaults(t: TestContext): Promise<void> {
  const { life, faults, url, checkpointFile } = await site(t);
  for (let n = 0; n < 6; n++) await life.piece();
  const methods = [...faults.calls.keys()].sort();
  for (const method of [
    'intake',
    'hosts.get',
    'tokens.enrol',
    'images.note',
    'images.ready',
    'jobs.take',
    'jobs.finish',
    'log.sequence',
  ])
    assert.ok(methods.includes(method), `${method} is called`);
  for (const method of methods)
    for (const isDone of [false, true]) {
      faults.next = { method, isDone };
      for (let left = 4; faults.next !== undefined && left > 0; left--) await life.piece();
    }
  faults.next = undefined;
  await life.piece();
  await life.settle();
  t.diagnostic(`${faults.hit.length} faults in ${life.acknowledged.length} reports`);
  for (const hit of ['intake before', 'intake after', 'tokens.enrol after', 'images.note after', 'jobs.finish after'])
    assert.ok(faults.hit.includes(hit), `${hit} was met`);
  const done = await fsck({ url, checkpointFile, ledger: life.acknowledged });
  assert.deepEqual([done.faults, done.ledger?.acknowledged], [[], life.acknowledged.length]);
}
