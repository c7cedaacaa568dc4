/**
 * A fleet, its servers and the network between them, all from one seed. Servers are the real ones, in this process; a store under them stops
 * at any call, as if the process had been killed there. The network loses, repeats, holds back and reorders.
 */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Policy } from '#src/policy/document.ts';
import { parsePolicy } from '#src/policy/document.ts';
import { openReport } from '#src/report/accept.ts';
import type { Report } from '#src/report/report.ts';
import type { Problem } from '#src/wire/problem.ts';
import { PATHS } from '#src/wire/paths.ts';
import { PostError, type Request, type Response } from '#agent/post.ts';
import { readPolicy } from '#server/prepare.ts';
import { startServer, type RunningServer } from '#server/start.ts';
import { viewOf } from '#server/standing.ts';
import { fsck } from '#server/keep/fsck.ts';
import { openEngine } from '#server/store/open.ts';
import { StoreError } from '#server/store/store.ts';
import { seeded } from '#test/agent/fixture.ts';
import { isFull } from '#test/depth.ts';
import { PowerCut } from '#test/agent/memorydisk.ts';
import { builderOf, folder, HOUR, MINUTE, SOURCE, T0, type TestImage } from '#test/server/fleet.ts';
import { checkCounters } from '#test/server/store/contract-intake.ts';
import { Ledger, type Delivery } from './ledger.ts';
import { AgentKilled, bytesFrom, INTERVAL, Machine, type Around, type Truth } from './machine.ts';
import { HostLedger } from './ledger.ts';

export const SILENT_AFTER = 12 * HOUR;

/** How likely each fault is: of a post, or of a run of an agent. */
export type Odds = Readonly<
  Record<
    | 'loseRequest'
    | 'loseAnswer'
    | 'duplicate'
    | 'holdBack'
    | 'killServer'
    | 'killAgent'
    | 'powerCut'
    | 'reboot'
    | 'clockJump'
    | 'off'
    | 'tamper'
    | 'blind',
    number
  >
>;
export const CALM: Odds = {
  loseRequest: 0,
  loseAnswer: 0,
  duplicate: 0,
  holdBack: 0,
  killServer: 0,
  killAgent: 0,
  powerCut: 0,
  reboot: 0,
  clockJump: 0,
  off: 0,
  tamper: 0,
  blind: 0,
};
export const STORMY: Odds = {
  loseRequest: 0.04,
  loseAnswer: 0.06,
  duplicate: 0.06,
  holdBack: 0.03,
  killServer: 0.02,
  killAgent: 0.02,
  powerCut: 0.04,
  reboot: 0.02,
  clockJump: 0.02,
  off: 0.01,
  tamper: 0.08,
  blind: 0.08,
};

/** Calls that a server makes while it has nothing to do. */
const IDLE = new Set(['take', 'lag', 'unnotedSilence']);

/** One server process. */
class Node {
  running: RunningServer | undefined;
  isDead = false;
  /** Calls to the store until it is killed. */
  callsLeft = Infinity;
  /** Whether the last call is still carried out. */
  isLastDone = false;

  /** Puts the killing under every method of the store that this process uses. */
  arm(target: object, counts = true): void {
    for (const [name, value] of Object.entries(target)) {
      if (name === 'close' || name === 'engine') continue;
      // The log is looked after by the clock; that it goes on after any call is tested elsewhere (contract-logcrash.ts).
      if (typeof value === 'object') this.arm(value as object, name !== 'log');
      else {
        const method = value as (...args: unknown[]) => Promise<unknown>;
        Object.assign(target, { [name]: this.#mortal(counts && !IDLE.has(name), method) });
      }
    }
  }

  #mortal(counts: boolean, method: (...args: unknown[]) => Promise<unknown>) {
    return async (...args: unknown[]): Promise<unknown> => {
      // What is asked every few milliseconds counts for nothing: a seed must lead to the same call again.
      const isLast = counts && --this.callsLeft === 0;
      if (this.isDead || (isLast && !this.isLastDone)) throw this.#die();
      if (isLast) this.isDead = true;
      const answer = await method(...args);
      if (this.isDead) throw this.#die();
      return answer;
    };
  }

  #die(): StoreError {
    this.isDead = true;
    return new StoreError('STORE_UNAVAILABLE', 'this process was killed');
  }
}

type Sent = {
  readonly node: Node;
  readonly delivery: Delivery;
  readonly response: globalThis.Response;
  readonly text: string;
  readonly died: boolean;
};
const rankOf = ({ response, died }: Sent): number => (died ? 2 : response.status === 200 ? 0 : 1);

type Held = { readonly bytes: Uint8Array; readonly carried: boolean; notBefore: number };

export class World implements Around {
  readonly t: TestContext;
  readonly seed: number;
  readonly random: () => number;
  readonly storeUrl: string;
  now = T0;
  odds: Odds = CALM;
  readonly truths: Truth[] = [];
  readonly machines: Machine[] = [];
  readonly nodes: Node[] = [];
  readonly ledger: Ledger;
  /** Digests of images whose manifest the server has. */
  readonly ready = new Set<string>();
  readonly images: TestImage[] = [];
  /** Builds of a digest wait for these. */
  readonly buildAfter = new Map<string, Promise<void>>();
  readonly faults = new Map<string, number>();
  readonly held: Held[] = [];
  #policy: Policy | undefined;
  #adminToken = '';
  /** Apart from the rest: servers draw when they come to it. */
  readonly #serverRandom: () => number;

  constructor(t: TestContext, seed: number, storeUrl?: string) {
    this.t = t;
    this.seed = seed;
    this.random = seeded(seed);
    this.#serverRandom = seeded(seed + 1);
    this.storeUrl = storeUrl ?? `sqlite:${join(folder(t), 'store.db')}`;
    this.ledger = new Ledger(this.truths, (image) => this.ready.has(image));
    t.after(async () => {
      for (const { running } of this.nodes) await running?.close();
    });
  }

  chance(odds: number): boolean {
    return this.random() < odds;
  }
  below(count: number): number {
    return Math.floor(this.random() * count);
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
  count(fault: string): void {
    this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1);
  }

  // ── servers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  async start(): Promise<void> {
    const node = new Node();
    this.nodes.push(node);
    await this.#boot(node);
  }

  async #boot(node: Node): Promise<void> {
    this.#policy ??= await simulatedPolicy();
    node.isDead = false;
    node.callsLeft = Infinity;
    node.running = await startServer({
      storeUrl: this.storeUrl,
      policy: this.#policy,
      listen: { host: '127.0.0.1', port: 0 },
      sources: [{ reference: SOURCE }],
      build: async (request, signal) => {
        await this.buildAfter.get(request.digest);
        return builderOf(this.images)(request, signal);
      },
      clock: () => this.now,
      random: bytesFrom(this.#serverRandom),
      jobsEveryMs: 10,
    });
    this.#adminToken ||= node.running.adminToken ?? '';
    node.arm(node.running.store);
  }

  /** What the kernel does with the dead, and a supervisor after it. */
  async #revive(node: Node): Promise<void> {
    node.isDead = true;
    await node.running!.close();
    await this.#boot(node);
  }

  /** Kills that were planned and did not come about. */
  #spare(): void {
    for (const node of this.nodes) node.callsLeft = Infinity;
  }

  get store() {
    return this.nodes[0]!.running!.store;
  }

  async admin(path: string, body?: unknown): Promise<any> {
    this.#spare();
    const response = await this.nodes[0]!.running!.app.request(path, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${this.#adminToken}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    assert.ok(response.ok, `${path}: ${response.status}`);
    return response.json();
  }

  /** Waits until no server has anything due. */
  async settle(): Promise<void> {
    for (let idle = 0; idle < 2;) {
      for (const node of this.nodes) if (node.isDead) await this.#revive(node);
      try {
        const lag = await this.store.jobs.lag(this.now);
        const silent = await this.store.read.unnotedSilence(this.now, 1);
        const isIdle = lag.every(({ oldest }) => oldest > this.now) && silent.length === 0;
        idle = isIdle ? idle + 1 : 0;
      } catch (error) {
        if (!this.nodes.some(({ isDead }) => isDead)) throw error;
        idle = 0;
      }
      if (idle < 2) await new Promise((resolve) => setTimeout(resolve, idle === 0 ? 4 : 0));
    }
    this.#spare();
    for (const { digest } of this.images) {
      if (this.ready.has(digest)) continue;
      const found = await this.store.images.find(digest);
      if (found?.image.state !== 'ready') continue;
      this.ready.add(digest);
      for (const host of this.ledger.hosts.values()) this.ledger.judge(host);
    }
  }

  /** Waits until the image's manifest is there and all hosts were judged by it. */
  async built(digest: string): Promise<void> {
    while ((await this.store.images.find(digest))?.image.state !== 'ready')
      await new Promise((resolve) => setTimeout(resolve, 5));
    await this.settle();
  }

  // ── the network ─────────────────────────────────────────────────────────────────────────────────────────────────────

  async carry(machine: Machine, request: Request): Promise<Response> {
    if (machine.offline) throw new PostError('NO_ANSWER', 'no route to the server');
    if (request.path !== PATHS.reports) return this.#ask(request);
    const { odds } = this;
    const bytes = request.body!;
    const lost = (fault: string) => {
      this.count(fault);
      return new PostError('NO_ANSWER', `the server does not answer: ${fault}`);
    };
    if (this.chance(odds.loseRequest)) throw lost('request lost');
    if (this.chance(odds.holdBack)) {
      this.held.push({ bytes, carried: false, notBefore: this.now + this.below(20 * HOUR) });
      throw lost('held back');
    }
    if (this.chance(odds.killAgent / 2)) {
      this.count('agent killed before the post');
      throw new AgentKilled();
    }
    const node = this.pick(this.nodes);
    if (this.chance(odds.killServer)) {
      node.callsLeft = 1 + this.below(8);
      node.isLastDone = this.chance(0.5);
    }
    const answers = this.chance(odds.duplicate)
      ? await this.race([bytes, bytes])
      : [await this.deliver(node, bytes, false)];
    if (answers.length > 1) this.count('duplicated');
    if (this.chance(odds.killAgent / 2)) {
      this.count('agent killed before the answer');
      throw new AgentKilled();
    }
    const [answer] = answers;
    if (answer === undefined) throw lost('server killed');
    if (this.chance(odds.loseAnswer)) throw lost('answer lost');
    return answer;
  }

  /** Several posts at once, each to another server where there is one. */
  async race(posts: readonly Uint8Array[]): Promise<(Response | undefined)[]> {
    const sent = await Promise.all(
      posts.map((bytes, i) => this.#send(this.nodes[i % this.nodes.length]!, bytes, false)),
    );
    const answers = new Map<Sent, Response | undefined>();
    // Which came first only the servers know: who won is told before who lost, and who died after those who live.
    for (const one of [...sent].sort((a, b) => rankOf(a) - rankOf(b))) answers.set(one, await this.#learn(one));
    return sent.map((one) => answers.get(one));
  }

  async #ask(request: Request): Promise<Response> {
    const node = this.pick(this.nodes);
    const response = await node.running!.app.request(request.path, {
      method: request.method,
      ...(request.bearer === undefined ? {} : { headers: { authorization: `Bearer ${request.bearer}` } }),
      ...(request.body === undefined ? {} : { body: new Uint8Array(request.body) }),
    });
    const body = new Uint8Array(await response.arrayBuffer());
    if (node.isDead) {
      await this.#revive(node);
      throw new PostError('NO_ANSWER', 'the server was killed');
    }
    if (response.status === 200) request.sink?.(body);
    return { status: response.status, headers: Object.fromEntries(response.headers), body };
  }

  /** Posts an envelope and holds what is answered against the model. Undefined where the server died over it. */
  async deliver(node: Node, bytes: Uint8Array, carried: boolean): Promise<Response | undefined> {
    return this.#learn(await this.#send(node, bytes, carried));
  }

  async #send(node: Node, bytes: Uint8Array, carried: boolean): Promise<Sent> {
    const opened = openReport(bytes);
    assert.ok(opened.kind === 'opened');
    const delivery: Delivery = { report: opened.value as Report, digest: opened.digest, carried, at: this.now };
    const response = await node.running!.app.request(carried ? '/api/v1/reports/carried' : PATHS.reports, {
      method: 'POST',
      headers: carried ? { authorization: `Bearer ${this.#adminToken}` } : {},
      body: new Uint8Array(bytes),
    });
    const text = await response.text();
    return { node, delivery, response, text, died: node.isDead };
  }

  async #learn({ node, delivery, response, text, died }: Sent): Promise<Response | undefined> {
    if (died) {
      this.count('server killed');
      if (node.isDead) await this.#revive(node);
      await this.#findOut(delivery);
      return undefined;
    }
    if (response.status === 200) this.ledger.accepted(delivery, text);
    else this.ledger.refused(JSON.parse(text) as Problem, delivery);
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      body: new TextEncoder().encode(text),
    };
  }

  /** A server died over a post: all of it stands, or nothing. */
  async #findOut(delivery: Delivery): Promise<void> {
    const { report, digest } = delivery;
    this.#spare();
    for (const node of this.nodes) if (node.isDead) await this.#revive(node);
    const host = this.ledger.host(report.host);
    const expected = host.expected(delivery);
    if (expected === 'advance' || expected === 'history') {
      const stored = await this.store.reports.head(report.host, report.seq);
      if (stored?.digest !== digest) return;
      this.count('persisted, never answered');
      this.ledger.persisted(delivery);
    } else if (expected !== 'replay') {
      const forks = await this.store.reports.forks(report.host, report.seq);
      if (forks.some((fork) => fork.digest === digest)) this.ledger.forked(delivery);
    }
  }

  /** What the network held back arrives, in any order. */
  async release(all: boolean): Promise<void> {
    for (let i = this.held.length - 1; i >= 0; i--) {
      const index = this.below(this.held.length);
      const { bytes, carried, notBefore } = this.held[index]!;
      if (!all && notBefore > this.now) continue;
      this.held.splice(index, 1);
      while ((await this.deliver(this.pick(this.nodes), bytes, carried)) === undefined);
    }
  }

  // ── machines ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async enrol(name: string, image: TestImage): Promise<Machine> {
    const machine = new Machine(this, name, image);
    this.#spare();
    const { token } = await this.admin('/api/v1/tokens', {});
    const id = await machine.enrol(token);
    this.ledger.hosts.set(id, new HostLedger(id, this.now));
    machine.wakeAt = this.now + this.below(INTERVAL);
    this.machines.push(machine);
    return machine;
  }

  /** Runs the agents as they wake, for so long; then time stands there. */
  async pass(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      const next = this.machines.reduce((a, b) => (b.wakeAt < a.wakeAt ? b : a));
      if (next.wakeAt > end) break;
      this.now = Math.max(this.now, next.wakeAt);
      await this.release(false);
      await this.#turn(next);
      // Also while a manifest is built or hosts are judged anew.
      if (this.chance(this.odds.killServer)) this.pick(this.nodes).callsLeft = 1 + this.below(20);
      await this.settle();
    }
    this.now = Math.max(this.now, end);
    await this.settle();
  }

  async #turn(machine: Machine): Promise<void> {
    this.#happen(machine);
    // Whatever ends a run early: a timer starts the agent again.
    machine.wakeAt = this.now + 5 * MINUTE;
    const { disk } = machine;
    if (this.chance(this.odds.powerCut)) {
      disk.cutAt = disk.acts + 1 + this.below(60);
      disk.cutAfter = this.chance(0.5);
    }
    try {
      if ((await machine.run()).again) await machine.run();
    } catch (error) {
      if (error instanceof PowerCut) {
        this.count('power cut');
        disk.reboot(this.random);
        machine.reboot();
      } else if (!(error instanceof AgentKilled)) throw error;
    }
    // It goes at another time than this run's.
    disk.cutAt = Infinity;
    if (this.chance(this.odds.off)) {
      this.count('switched off');
      machine.reboot();
      machine.wakeAt = this.now + this.below(20 * HOUR);
    }
  }

  #happen(machine: Machine): void {
    const { odds } = this;
    if (this.chance(odds.reboot)) {
      this.count('reboot');
      machine.reboot();
    }
    if (this.chance(odds.clockJump)) {
      this.count('clock jump');
      machine.offset = this.chance(0.3) ? 0 : Math.round((this.random() - 0.5) * 60 * HOUR);
    }
    if (this.chance(odds.tamper)) {
      this.count('tampered');
      const plants = this.pick(this.tampers);
      machine.changed = plants;
    }
    if (this.chance(odds.blind)) machine.sight = this.pick(['whole', 'whole', 'hole', 'truncated', 'implausible']);
  }
  tampers: readonly Machine['changed'][] = [[]];

  // ── what must hold ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** After everything that was under way has arrived. */
  async check(): Promise<void> {
    await this.settle();
    const { store } = this;
    for (const model of this.ledger.hosts.values()) {
      const host = (await store.hosts.get(model.id))!;
      const where = `${host.name} ${host.id} (seed ${this.seed})`;
      const { flags, ...chain } = host.chain;
      assert.deepEqual(
        { head: chain.headSeq, gaps: chain.gaps, full: chain.full?.digest ?? null, boots: chain.boots },
        { head: model.head, gaps: model.gaps(), full: model.full?.digest ?? null, boots: model.boots },
        `${where}: its chain`,
      );
      assert.deepEqual(
        Object.keys(flags).sort(),
        Object.keys(model.flags)
          .filter((name) => model.flags[name as 'gap'])
          .sort(),
        where,
      );
      assert.equal(host.freshness.liveAt, model.liveAt, `${where}: when it was last heard`);
      // Nothing that was acknowledged is missing, and nothing stands twice.
      const seen = new Set<string>();
      for (const [seq, taken] of model.kept()) {
        const stored = await store.reports.get(model.id, seq);
        assert.equal(stored?.digest, taken.digest, `${where}: report ${seq}`);
        assert.equal(`sha256:${hash('sha256', stored.envelope)}`, taken.digest, `${where}: the envelope of ${seq}`);
        assert.equal(stored.kind, taken.effect === 'history' ? 'history' : taken.kind, where);
        if (taken.answer !== undefined)
          assert.equal(stored.answer, taken.answer, `${where}: the first answer to ${seq}`);
        assert.ok(!seen.has(stored.digest));
        seen.add(stored.digest);
      }
      for (const [seq, digests] of model.forks) {
        const forks = await store.reports.forks(model.id, seq);
        assert.deepEqual(forks.map(({ digest }) => digest).sort(), [...digests].sort(), `${where}: forks of ${seq}`);
      }
      const present = await store.findings.present(model.id);
      const drift = present.filter(({ group }) => group.kind === 'drift').map(({ group }) => group.subject);
      assert.deepEqual(drift.sort(), [...model.open].sort(), `${where}: findings`);
      const told = present.filter(({ group }) => group.kind === 'report').map(({ group }) => String(group.signature));
      const flagged = {
        'identity-forked': model.flags.forked,
        cloned: model.flags.cloned,
        'chain-gap': model.flags.gap,
      };
      for (const [flag, holds] of Object.entries(flagged))
        if (model.full !== null && (holds || this.ledger.truthOf(model)!.sight === 'whole'))
          assert.equal(told.includes(flag), holds, `${where}: ${flag}`);
      assert.equal(
        viewOf(host, this.now).verdict,
        this.ledger.verdict(model, this.now, SILENT_AFTER),
        `${where}: verdict`,
      );
    }
    const engine = await openEngine(this.storeUrl);
    try {
      await checkCounters(engine);
      if (isFull) assert.deepEqual((await fsck({ url: this.storeUrl })).faults, [], `seed ${this.seed}`);
      await engine.reading(async (db) => {
        const rows = await db.selectFrom('report').select(['host_id', 'digest']).execute();
        const keys = rows.map(({ host_id, digest }) => `${host_id} ${digest}`);
        assert.equal(new Set(keys).size, keys.length, `a report stands twice (seed ${this.seed})`);
      });
    } finally {
      await engine.close();
    }
  }
}

async function simulatedPolicy(): Promise<Policy> {
  const shipped = await readPolicy(undefined);
  const text = `format: bootproof.policy/1
name: simulated
extends: default
freshness: { reportEvery: 1h, lateAfter: 3h, silentAfter: 12h }
`;
  return parsePolicy(text, { file: 'simulated.yaml', base: () => shipped });
}
