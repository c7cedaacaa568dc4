/** Real processes that are killed in the middle of their work: what was acknowledged stands, and what was sealed is delivered; more often in depth (test/depth.ts). */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '#src/digest.ts';
import { openReport } from '#src/report/accept.ts';
import { verifyInPool } from '#src/signing/node.ts';
import { NEW_CHAIN } from '#agent/chain.ts';
import { nodeDisk, save } from '#agent/disk.ts';
import { Outbox } from '#agent/outbox.ts';
import { postReport, Server } from '#agent/post.ts';
import { fsck } from '#server/keep/fsck.ts';
import { openEngine, storeOn } from '#server/store/open.ts';
import { HOST, ModelServer, seeded, signer } from '#test/agent/fixture.ts';
import { json, serve } from '#test/agent/httpserver.ts';
import { deep } from '#test/depth.ts';
import { enrol, folder, type TestHost, type TestServer } from '#test/server/fleet.ts';
import { checkCounters } from '#test/server/store/contract-intake.ts';

const root = resolve(import.meta.dirname, '../..');
const { NODE_COMPILE_CACHE: cache } = process.env;
const CODE = cache === undefined ? {} : { NODE_COMPILE_CACHE: cache };
/** When processes die; what they are doing then is up to the machine. */
const random = seeded(Number(process.env['SEED'] ?? 20261124));

type Child = { readonly process: ChildProcess; said(pattern: RegExp): Promise<string> };

function start(t: TestContext, ...args: string[]): Child {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], {
    cwd: root,
    // Nothing of this environment, save where compiled code is kept: sixteen processes start here.
    env: CODE,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (text += bytes.toString()));
  return {
    process: child,
    async said(pattern) {
      for (;;) {
        const match = pattern.exec(text);
        if (match !== null) return match[1] ?? match[0];
        if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${text}`);
        await sleep(5);
      }
    },
  };
}

async function kill({ process }: Child): Promise<void> {
  const gone = once(process, 'close');
  process.kill('SIGKILL');
  await gone;
}

// ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────────

type Acknowledged = { readonly host: string; readonly seq: number; readonly kind: string; readonly digest: Digest };

/** A server in a process of its own, as `TestHost` and `enrol` speak with one. */
function remote(at: { url: string; admin: string }): TestServer {
  const request = (path: string, init?: RequestInit) =>
    fetch(at.url + path, { ...init, signal: AbortSignal.timeout(20_000) });
  const shim = {
    server: { app: { request } },
    time: {
      get now() {
        return Date.now();
      },
    },
    async api(path: string, { method = 'GET', body }: { method?: string; body?: unknown } = {}) {
      const headers = { authorization: `Bearer ${at.admin}`, 'content-type': 'application/json' };
      const response = await request(path, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.status, body: await response.json(), headers: response.headers };
    },
  };
  return shim as unknown as TestServer;
}

test(
  'a server killed at any moment of its intake has lost nothing that it acknowledged',
  { timeout: 240_000 },
  async (t) => {
    const data = folder(t);
    const at = { url: '', admin: '' };
    const boot = async () => {
      const child = start(t, 'server/main.ts', '--data', data, '--listen', '127.0.0.1:0', '--jobs-interval', '100ms');
      at.admin ||= await child.said(/admin token .*: (\S+)/);
      at.url = await child.said(/bootproof server at (\S+)/);
      return child;
    };
    let server = await boot();
    const hosts: TestHost[] = [];
    for (let n = 0; n < 12; n++) hosts.push(await enrol(remote(at), null, { name: `host-${n}` }));
    const acknowledged: Acknowledged[] = [];
    let isOver = false;
    const working = Promise.all(hosts.map((host) => report(host, acknowledged, () => isOver)));
    for (let round = 0; round < deep(5, 1); round++) {
      const before = acknowledged.length;
      while (acknowledged.length < before + 40) await sleep(5);
      await sleep(random() * 40);
      await kill(server);
      server = await boot();
    }
    isOver = true;
    await working;
    // As its own interface tells it: every full report and the newest `same` under its own number.
    for (const { id, seq } of hosts) {
      const shown = remote(at);
      const { chain } = (await shown.api(`/api/v1/hosts/${id}`)).body;
      assert.deepEqual([chain.head, chain.gaps, chain.forkedAt, chain.gapAt], [seq, [], null, null]);
      const kept = new Map<number, string>();
      for (let next: string | null = ''; next !== null;) {
        const page = (await shown.api(`/api/v1/hosts/${id}/reports?limit=200${next === '' ? '' : `&cursor=${next}`}`))
          .body as {
          items: { seq: number; digest: string }[];
          next: string | null;
        };
        for (const { seq, digest } of page.items) kept.set(seq, digest);
        next = page.next;
      }
      for (const one of acknowledged)
        if (one.host === id && (one.kind === 'full' || kept.has(one.seq))) assert.equal(kept.get(one.seq), one.digest);
      assert.ok(kept.has(chain.full.seq));
    }
    const gone = once(server.process, 'close');
    server.process.kill('SIGTERM');
    assert.equal((await gone)[0], 0, 'an orderly end');

    assert.ok(acknowledged.length >= deep(200, 40));
    const engine = await openEngine(`sqlite:${join(data, 'bootproof.db')}`);
    t.after(() => engine.close());
    const store = storeOn(engine);
    for (const { id, seq } of hosts) {
      const host = (await store.hosts.get(id))!;
      assert.deepEqual([host.chain.headSeq, host.chain.gaps, host.chain.flags], [seq, [], {}], 'the chain is whole');
      const mine = acknowledged.filter((one) => one.host === id);
      assert.deepEqual(
        mine.map((one) => one.seq),
        Array.from({ length: seq }, (_, i) => i + 1),
      );
      const newest = mine.findLast(({ kind }) => kind === 'same');
      for (const one of mine) {
        if (one.kind === 'same' && one !== newest) continue;
        assert.equal((await store.reports.get(id, one.seq))?.digest, one.digest, `report ${one.seq} of ${id}`);
      }
    }
    await checkCounters(engine);
    const url = `sqlite:${join(data, 'bootproof.db')}`;
    const whole = await fsck({
      url,
      checkpointFile: join(data, 'log.checkpoint'),
      ledger: acknowledged.map(({ kind, ...one }) => ({ ...one, kind: kind === 'full' ? 'full' : 'same' })),
    });
    assert.deepEqual([whole.faults, whole.ledger?.acknowledged], [[], acknowledged.length]);
  },
);

/** Reports one after the other, each posted until it is answered; every fifth is full, with another state of the host. */
async function report(host: TestHost, acknowledged: Acknowledged[], isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    host.state = { kargs: Math.floor(host.seq / 5) % 2 === 0 ? ['root=UUID=1'] : ['root=UUID=1', 'selinux=0'] };
    const document = host.full === null || host.seq % 5 === 0 ? host.fullReport() : host.sameReport();
    const sealed = await host.seal(document);
    for (;;) {
      const posted = await host.post(sealed.text).catch(() => undefined);
      if (posted?.status === 200) break;
      // Of a server that is dying, starting or has too much to do nothing else may be heard.
      assert.ok(posted === undefined || [429, 500, 503].includes(posted.status), JSON.stringify(posted?.body));
      await sleep(20);
    }
    if (document.kind === 'full') {
      host.full = { digest: sealed.digest, report: document };
      host.count = 0;
    }
    acknowledged.push({ host: host.id, seq: document.seq, kind: document.kind, digest: sealed.digest });
  }
}

// ── the agent ────────────────────────────────────────────────────────────────────────────────────────────────────────────

test(
  'an agent killed at any moment keeps its spool whole: no number is used twice, and none is missing',
  { timeout: 240_000 },
  async (t) => {
    const home = folder(t);
    save(nodeDisk, home, 'chain.json', Buffer.from(JSON.stringify(NEW_CHAIN)));
    const model = new ModelServer();
    await using http = await serve(async (seen, response) => {
      model.now = Date.now();
      if (random() < 0.1) return void response.destroy();
      const posted = await model.post(seen.body);
      assert.ok(posted.kind === 'accepted', JSON.stringify(posted));
      if (random() < 0.2) return void response.destroy();
      return json(posted.answer);
    });
    for (let round = 0; round < deep(10, 3); round++) {
      const agent = start(t, 'test/system/agentloop.ts', home, http.url);
      const before = model.posts;
      await agent.said(/ready/);
      while (model.posts < before + 8) await sleep(2);
      await sleep(random() * 40);
      await kill(agent);
      // The files as they lie there, before anything is mended.
      for (const name of nodeDisk.list(`${home}/spool`).filter((name) => /^[0-9]/.test(name))) {
        const opened = openReport(nodeDisk.read(`${home}/spool/${name}`, 2 ** 20)!);
        assert.ok(opened.kind === 'opened' && opened.host === HOST, `${name} is whole`);
      }
    }
    const deps = {
      disk: nodeDisk,
      clock: Date.now,
      random,
      sleep: () => Promise.resolve(),
      verify: verifyInPool,
      say: () => Promise.resolve(),
    };
    const outbox = await Outbox.open(deps, { folder: home, host: HOST, signer });
    const server = new Server({ url: http.url });
    while (outbox.waiting > 0) await outbox.flush((envelope) => postReport(server, envelope, Date.now));
    server.close();
    const { seq } = outbox.chain;
    assert.ok(seq > deep(20, 10), `${seq} reports`);
    assert.deepEqual(
      [...model.taken.keys()].sort((a, b) => a - b),
      Array.from({ length: seq }, (_, i) => i + 1),
    );
    for (const outcome of model.outcomes)
      assert.ok(outcome.kind === 'accepted' && !outcome.flags.includes('chain-gap'), JSON.stringify(outcome));
    assert.deepEqual(
      ['refused', 'corrupt'].map((why) => nodeDisk.list(`${home}/spool/${why}`)),
      [[], []],
    );
  },
);
