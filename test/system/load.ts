/** Hosts that report without end, each report posted until it is taken; what was acknowledged is written down, as `server fsck --ledger` reads it. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Acknowledged } from '#server/keep/ledger.ts';
import { BASE, enrol, file, MINUTE, type TestHost, type TestImage, type TestServer } from '#test/server/fleet.ts';

export class Load {
  readonly acknowledged: Acknowledged[] = [];
  /** Answers other than 200, by status; 0: none was heard. */
  readonly refused = new Map<number, number>();
  readonly hosts: readonly TestHost[];
  readonly #time: { now: number };
  readonly #over = new AbortController();
  #working: Promise<unknown> = Promise.resolve();

  private constructor(hosts: readonly TestHost[], time: { now: number }) {
    this.hosts = hosts;
    this.#time = time;
  }

  /** Enrols so many hosts on an image and begins. */
  static async on(server: TestServer, image: TestImage, count: number): Promise<Load> {
    const hosts: TestHost[] = [];
    for (let n = 0; n < count; n++) hosts.push(await enrol(server, image, { name: `host-${n}` }));
    const load = new Load(hosts, server.time);
    load.begin();
    return load;
  }

  begin(): void {
    this.#working = Promise.all(this.hosts.map((host, n) => this.#report(host, n)));
  }

  async #report(host: TestHost, n: number): Promise<void> {
    while (!this.#over.signal.aborted) {
      // A host has a share of reports by the hour: here it uses it up in a moment.
      this.#time.now += 2 * MINUTE;
      const isFull = host.full === null || host.seq % 5 === 0;
      if (isFull)
        host.entries = (host.seq + n) % 2 === 0 ? BASE : [...BASE, file(`/usr/lib/own-${n % 3}`, String(host.seq))];
      const document = isFull ? host.fullReport() : host.sameReport();
      const sealed = await host.seal(document);
      while (!(await this.#isTaken(host, sealed.text))) await sleep(10);
      if (document.kind === 'full') [host.full, host.count] = [{ digest: sealed.digest, report: document }, 0];
      this.acknowledged.push({ host: host.id, seq: document.seq, digest: sealed.digest, kind: document.kind });
      await sleep(1);
    }
  }

  async #isTaken(host: TestHost, text: string): Promise<boolean> {
    const { status, body } = await host.post(text);
    if (status === 200) return true;
    // Of a store that fails, or is gone, nothing else may be heard.
    assert.ok([429, 503].includes(status), `${status}: ${JSON.stringify(body)}`);
    this.refused.set(status, (this.refused.get(status) ?? 0) + 1);
    return false;
  }

  /** Waits until so many more were acknowledged. */
  async more(count: number): Promise<void> {
    const wanted = this.acknowledged.length + count;
    while (this.acknowledged.length < wanted) await Promise.race([sleep(5), this.#working]);
  }

  /** Waits until one more was refused. */
  async refusal(): Promise<void> {
    const sum = () => [...this.refused.values()].reduce((a, b) => a + b, 0);
    const before = sum();
    while (sum() === before) await Promise.race([sleep(5), this.#working]);
  }

  /** Each host ends with a report that was taken. */
  async end(): Promise<readonly Acknowledged[]> {
    this.#over.abort();
    await this.#working;
    return this.acknowledged;
  }
}
