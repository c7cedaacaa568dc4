/**
 * Fills a server's store for bench/evidence.ts: hosts with keys of their own report for a number of days, as agents do. Full reports (an image a month, and what
 * some hosts showed for a while) go through the server; the one `same` of each day that servers keep is sealed by the host and put into the store by the
 * call that intake makes, since the others of its day leave nothing but a number.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '#src/digest.ts';
import { policySource } from '#server/prepare.ts';
import type { Make } from '#server/evidence/inworker.ts';
import type { Host } from '#server/store/records.ts';
import type { HostWrite } from '#server/store/store.ts';
import { BASE, enrol, file, HOUR, image, serverFor, T0, type TestHost, type TestServer } from '#test/server/fleet.ts';

/** Reports of a host in a day: one each quarter of an hour. */
const PER_DAY = 96;
const DAY = 24 * HOUR;
const AT_ONCE = 250;
const IMAGES = ['40', '41', '42', '43'].map((version) => image(version));
/** Of so many hosts one shows something for some days, once in the time. */
const ODD_EVERY = 50;
const ODD = file('/usr/bin/odd', 'odd', 0o755);

/** Silence is not what is measured here: hosts are heard once a day. */
const POLICY = `format: bootproof.policy/1
name: bench
extends: default
freshness:
  reportEvery: 15m
  lateAfter: 30h
  silentAfter: 36h
`;

export type Filled = {
  readonly server: TestServer;
  readonly from: number;
  readonly to: number;
  readonly seconds: number;
};

export async function fill(
  folder: string,
  about: {
    readonly hosts: number;
    readonly days: number;
    readonly make: Make;
    readonly end: (close: () => unknown) => void;
  },
): Promise<Filled> {
  const { hosts: count, days, make, end } = about;
  const began = performance.now();
  const policyFile = join(folder, 'policy.yaml');
  writeFileSync(policyFile, POLICY);
  const context = { after: end } as unknown as Parameters<typeof serverFor>[0];
  const server = await serverFor(context, {
    images: IMAGES,
    policy: await policySource(policyFile),
    storeUrl: `sqlite:${join(folder, 'store.db')}`,
    jobsEveryMs: 100,
    exports: { make },
  });
  const hosts: TestHost[] = [];
  await inTurn(
    Array.from({ length: count }, (_, n) => n),
    async (n) => {
      hosts[n] = await enrol(server, IMAGES[0]!, { name: `host-${n}` });
      await full(hosts[n]);
    },
  );
  await server.settle();
  for (let day = 0; day < days; day++) {
    server.time.now = T0 + day * DAY + HOUR;
    const month = Math.floor(day / 30);
    const changed = new Set<TestHost>();
    for (const [n, host] of hosts.entries()) {
      // A third of the fleet a day, on the first days of each month.
      const updates = day % 30 < 3 && n % 3 === day % 30;
      const odd = n % ODD_EVERY === 7 && (day === 10 + (n % 20) || day === 14 + (n % 20));
      if (!updates && !odd) continue;
      const booted = IMAGES[month]!;
      host.booted = booted.digest;
      host.compareWith(booted);
      host.entries = odd && day === 10 + (n % 20) ? [...BASE, ODD] : booted.rules.get('ostree/1')!;
      changed.add(host);
    }
    await inTurn([...changed], full);
    const rest = hosts.filter((host) => !changed.has(host));
    for (let at = 0; at < rest.length; at += 2 * AT_ONCE) await sames(rest.slice(at, at + 2 * AT_ONCE), server);
    await server.settle();
    await server.server.evidence.turn();
    process.stderr.write(`\rday ${day + 1} of ${days}, ${((performance.now() - began) / 1000).toFixed(0)} s `);
  }
  server.time.now = T0 + days * DAY + HOUR;
  await server.settle();
  process.stderr.write('\n');
  return { server, from: T0 - 12 * HOUR, to: T0 - 12 * HOUR + days * DAY, seconds: (performance.now() - began) / 1000 };
}

async function inTurn<T>(items: readonly T[], act: (item: T) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < items.length; at += AT_ONCE) await Promise.all(items.slice(at, at + AT_ONCE).map(act));
}

async function full(host: TestHost): Promise<void> {
  const { status, body } = await host.sendFull();
  if (status !== 200) throw new Error(`a report was not taken: ${status} ${JSON.stringify(body)}`);
}

/** The last `same` of the day of each, with the numbers that those before it had. */
async function sames(hosts: readonly TestHost[], { server, time }: TestServer): Promise<void> {
  const { store } = server;
  let left = await Promise.all(hosts.map(sealed));
  // A job may have judged one of them meanwhile, as on any server.
  for (let tries = 0; left.length > 0; tries++) {
    if (tries > 20) throw new Error('reports are not taken');
    const rows = await store.hosts.getMany(left.map(({ id }) => id));
    const results = await store.intake(left.map((one) => writeOf(one, rows.get(one.id)!, time.now)));
    left = left.filter((_, i) => results[i]!.kind !== 'committed');
  }
}

type Sealed = {
  readonly id: string;
  readonly seq: number;
  readonly count: number;
  readonly text: string;
  readonly digest: Digest;
};

async function sealed(host: TestHost): Promise<Sealed> {
  host.seq += PER_DAY - 1;
  host.count += PER_DAY - 1;
  const report = host.sameReport();
  const { seq, count } = report;
  return { id: host.id, seq, count, ...(await host.seal(report)) };
}

const writeOf = (
  { id, seq, count, text, digest }: Sealed,
  { revision, chain, freshness }: Host,
  at: number,
): HostWrite => ({
  hostId: id,
  expectRevision: revision,
  at,
  report: {
    seq,
    kind: 'same',
    digest,
    class: 'live',
    startedAt: at,
    receivedAt: at,
    answer: '{}',
    envelope: Buffer.from(text),
  },
  chain: { ...chain, headSeq: seq, sameCount: count, recent: [...chain.recent, { seq, digest }].slice(-16) },
  last: { seq, kind: 'same', class: 'live', startedAt: at, receivedAt: at },
  freshness: { ...freshness, liveAt: at, lateAfter: at + 30 * HOUR, silentAfter: at + 36 * HOUR },
});
