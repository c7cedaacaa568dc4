/**
 * What a server stands of a fleet of 100,000 hosts: simulated ones (load/), with keys and chains of their own, against one process on SQLite and one
 * and three on PostgreSQL. They are registered straight in the store, as enrolling them over HTTP is not what is asked here; everything they report
 * goes over HTTP, and is held against the store by `server fsck` in the end. Load and servers share the machine.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Ledger } from '#load/files.ts';
import type { HostState } from '#load/fleet.ts';
import { Seeded, type Plan } from '#load/plan.ts';
import { Servers } from '#load/post.ts';
import { Run, type Figures } from '#load/run.ts';
import { serverKeys } from '#server/keys.ts';
import { fsck } from '#server/keep/fsck.ts';
import { readLedger } from '#server/keep/ledger.ts';
import { openStore } from '#server/store/open.ts';
import { publicKeyOfSeed } from '#src/signing/node.ts';
import { makeChallenge } from '#src/wire/challenge.ts';
import { hostIdFrom } from '#src/wire/hostid.ts';
import { parseToken, type Token } from '#src/wire/token.ts';
import { image } from '#test/server/fleet.ts';

/** Five times what 100,000 hosts send at one report in 15 minutes. */
const STEADY_PER_SECOND = 556;
const STEADY_MS = 120_000;
const MOST_MS = 20_000;
const SPOOL = 2;
const INTERVAL = 900_000;

type Process = {
  readonly url: string;
  readonly admin: string | undefined;
  readonly pid: number;
  /** From its start until it says that it is ready, ms. */
  readonly readyMs: number;
  readonly stop: () => Promise<void>;
};

async function start(storeUrl: string): Promise<Process> {
  const begun = performance.now();
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, 'intakeserver.ts'), storeUrl],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  while (!out.includes('\n')) await once(child.stdout, 'data');
  const { port, admin } = JSON.parse(out) as { port: number; admin?: string };
  const url = `http://127.0.0.1:${port}`;
  while ((await fetch(`${url}/readyz`)).status !== 200) await sleep(5);
  return {
    url,
    admin,
    pid: child.pid!,
    readyMs: performance.now() - begun,
    stop: async () => {
      child.kill('SIGTERM');
      await once(child, 'close');
    },
  };
}

/** The most memory that a process had so far, MB. */
function peakOf(pid: number): number {
  const [, kb = '0'] = /VmHWM:\s+([0-9]+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kb) / 1024;
}

/** Registers the hosts of a seed, as their enrolment would. */
async function register(storeUrl: string, plan: Plan, token: Token): Promise<HostState[]> {
  const store = await openStore(storeUrl);
  try {
    const keys = await serverKeys(store, randomBytes);
    const seeded = new Seeded(plan.seed);
    const states: HostState[] = [];
    let next = 0;
    const lane = async (): Promise<void> => {
      while (next < plan.hosts) {
        const host = next++;
        const now = Date.now();
        const id = hostIdFrom(randomBytes(16));
        await store.tokens.enrol(
          token.id,
          {
            hostId: id,
            publicKey: publicKeyOfSeed(seeded.keyOf(host)),
            machineId: seeded.machineOf(host),
            name: seeded.nameOf(host),
            interval: INTERVAL,
            lateAfter: now + 3 * INTERVAL,
            silentAfter: now + 96 * INTERVAL,
          },
          now,
        );
        const challenge = makeChallenge(id, now, keys.tickets);
        states.push({ ...NEW, host, id, challenge });
      }
    };
    await Promise.all(Array.from({ length: 16 }, lane));
    return states;
  } finally {
    await store.close();
  }
}

/** A host that has reported nothing. */
const NEW = {
  seq: 0,
  full: null,
  key: 0,
  count: 0,
  image: 0,
  difference: 0,
  boots: 0,
  checkpoint: null,
  next: 0,
  openedAt: 0,
  isFull: 0,
  wantsFull: 0,
} as const;

async function* each(states: Iterable<HostState>): AsyncGenerator<HostState> {
  yield* states;
}

export type LoadFigures = {
  readonly name: string;
  readonly firstPerSecond: number;
  readonly steady: Figures;
  readonly mostPerSecond: number;
  readonly herd: Figures;
  readonly readyMs: number;
  readonly peakMb: number;
  readonly acknowledged: number;
  readonly sound: boolean;
};

/** One store, and so many processes on it. */
export async function benchLoad(
  name: string,
  storeUrl: string,
  about: { readonly processes: number; readonly hosts: number; readonly folder: string; readonly steadyMs?: number },
): Promise<LoadFigures> {
  const { processes, hosts, folder, steadyMs = STEADY_MS } = about;
  const tell = (text: string): void => void process.stderr.write(`${name}: ${text}\n`);
  const plan: Plan = {
    hosts,
    seed: 'bench',
    startMs: 0,
    everyMs: null,
    forMs: 30 * 60_000,
    drift: 0,
    driftLines: 20,
    duplicates: 0,
    skew: 0,
    skewMs: 0,
    images: [image('bench', []).digest],
    rolloutAfterMs: 0,
    waves: 1,
    waveEveryMs: 0,
    spool: 0,
    connections: 128,
  };
  let running: Process[] = [await start(storeUrl)];
  const { admin } = running[0]!;
  const made = await fetch(`${running[0]!.url}/api/v1/tokens`, {
    method: 'POST',
    headers: { authorization: `Bearer ${admin}`, 'content-type': 'application/json' },
    body: JSON.stringify({ maxUses: null, lifeSeconds: 86_400 }),
  });
  const token = parseToken(((await made.json()) as { token: string }).token);
  let states: Iterable<HostState> = await register(storeUrl, plan, token);
  tell(`${hosts} hosts registered`);
  const path = join(folder, `${name.replaceAll(/\W/g, '-')}.ledger`);
  const ledger = new Ledger(path);
  let peakMb = 0;
  const run = async (what: string, more: Partial<Plan>): Promise<Figures> => {
    const own = { ...plan, ...more };
    const urls = running.map(({ url }) => new URL(url));
    const servers = new Servers(urls, { connections: own.connections });
    try {
      const one = new Run(own, {
        servers,
        token,
        clock: Date.now,
        acknowledged: (hostId, report) => ledger.add(hostId, report),
        tell: (text) => tell(`${what}: ${text}`),
        signal: new AbortController().signal,
        states: each(states),
      });
      const figures = await one.go();
      states = one.states();
      peakMb = Math.max(peakMb, ...running.map(({ pid }) => peakOf(pid)));
      tell(`${what}: ${JSON.stringify(figures)}`);
      return figures;
    } finally {
      await servers.close();
    }
  };
  try {
    // A spool of one: each host's first report, as fast as they are taken.
    const first = await run('first reports', { spool: 1 });
    await running[0]!.stop();
    running = [];
    for (let n = 0; n < processes; n++) running.push(await start(storeUrl));
    const { readyMs } = running[0]!;
    // What the making of the fleet took is not what serving it takes.
    peakMb = 0;
    const everyMs = (1000 * hosts) / STEADY_PER_SECOND;
    const steady = await run('steady', {
      everyMs,
      startMs: everyMs,
      forMs: steadyMs,
      drift: 0.001,
      duplicates: 0.001,
    });
    const most = await run('most', { everyMs: 1, forMs: Math.min(MOST_MS, steadyMs) });
    const herd = await run('herd', { spool: SPOOL, connections: Math.min(hosts, 4000) });
    ledger.close();
    const { sound, ledger: held, faults } = await fsck({ url: storeUrl, ledger: readLedger(path) });
    if (!sound) tell(JSON.stringify(faults));
    return {
      name,
      firstPerSecond: first.acceptedPerSecond,
      steady,
      mostPerSecond: most.acceptedPerSecond,
      herd,
      readyMs,
      peakMb,
      acknowledged: held!.acknowledged,
      sound,
    };
  } finally {
    await Promise.all(running.map(({ stop }) => stop()));
  }
}

/** The section of RESULTS.md. */
export function loadSection(hosts: number, all: readonly LoadFigures[]): string {
  const row = (what: string, aim: string, of: (figures: LoadFigures) => string) =>
    `| ${what} | ${aim} | ${all.map(of).join(' | ')} |\n`;
  const round = (n: number): string => n.toFixed(0);
  const refused = ({ refusals }: Figures): string =>
    refusals.length === 0 ? 'none' : refusals.map(({ reason, count }) => `${count} ${reason}`).join(', ');
  return `## A fleet

${hosts.toLocaleString('en')} simulated hosts, each with its key and its chain, over HTTP with keep-alive; the load comes from the same machine and takes its share of it, and with several processes so do they and the database.

| | aim | ${all.map(({ name }) => name).join(' | ')} |
|---|---|${all.map(() => '---|').join('')}
${row(`${STEADY_PER_SECOND} reports a second (5 × 100,000 hosts at 15 minutes): taken a second`, '', ({ steady }) => round(steady.acceptedPerSecond))}${row('… answered within, half / 99 % / longest, ms', '99 %: 250', ({ steady: { answerMs } }) => `${answerMs.p50} / ${answerMs.p99} / ${answerMs.max}`)}${row('… refused', 'none', ({ steady }) => refused(steady))}${row('as many `same` as go, a second', 'SQLite 3,000; PostgreSQL 1,500 a process', ({ mostPerSecond }) => round(mostPerSecond))}${row('first reports (`full`, nothing differs), a second, one process', '', ({ firstPerSecond }) => round(firstPerSecond))}${row(`all at once with ${SPOOL} reports each, ${Math.min(hosts, 4000)} connections: all taken after, s`, '', ({ herd }) => round(herd.seconds))}${row('… half / 99 % of hosts through after, s', '', ({ herd: { herd } }) => `${round(herd!.hostMs.p50 / 1000)} / ${round(herd!.hostMs.p99 / 1000)}`)}${row('… sent away with a time, and taken then', '', ({ herd }) => refused(herd))}${row('… not taken in the end', '0', ({ herd }) => String(hosts - herd.herd!.emptied))}${row('told to come again: variance over mean of 60 slots (1: chance)', '1', ({ steady }) => String(steady.spread?.dispersion))}${row('memory of a server process, most, MB', '400', ({ peakMb }) => round(peakMb))}${row('start until ready, s', '3', ({ readyMs }) => (readyMs / 1000).toFixed(1))}${row('acknowledged reports of this table, by `server fsck --ledger`', 'all there', ({ acknowledged, sound }) => `${acknowledged.toLocaleString('en')}: ${sound ? 'all there' : 'NOT SOUND'}`)}`;
}
