/**
 * How many reports a second a server takes: signed by as many keys as there are hosts, each with its own sequence, over HTTP with
 * keep-alive, each answered after its commit. Load and server share the machine; reports are signed beforehand.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestOf, type Digest } from '#src/digest.ts';
import { driftJson } from '#src/drift/drift.ts';
import { comparisonText, SECRET_PATHS_ID } from '#src/drift/redact.ts';
import { comparePaths, treeOf, type Entry, type TreeName } from '#src/manifest/entry.ts';
import { digestTree } from '#src/manifest/treedigest.ts';
import type { FullReport, SameReport } from '#src/report/report.ts';
import { stateDigest } from '#src/report/seal.ts';
import { nodeSha256 } from '#src/source/verified.ts';
import { enrol, image, TestHost, type TestServer } from '#test/server/fleet.ts';
import { addedIn, treeOfPaths } from './intaketree.ts';

const CONNECTIONS = 128;

/** CPU seconds that a process has used, all its threads. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

type Load = {
  readonly hosts: TestHost[];
  readonly server: TestServer;
  readonly pid: number;
  readonly stop: () => Promise<void>;
};

async function start(storeUrl: string, count: number): Promise<Load> {
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, 'intakeserver.ts'), storeUrl],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  while (!out.includes('\n')) await once(child.stdout, 'data');
  const { port, admin } = JSON.parse(out) as { port: number; admin: string };
  const url = `http://127.0.0.1:${port}`;
  const request = (path: string, init?: RequestInit) => fetch(url + path, init);
  const server = {
    server: { app: { request } },
    admin,
    time: {
      get now() {
        return Date.now();
      },
    },
    async api(path: string, { method = 'GET', body }: { method?: string; body?: unknown } = {}) {
      const response = await request(path, {
        method,
        headers: { authorization: `Bearer ${admin}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.status, body: await response.json(), headers: response.headers };
    },
  } as unknown as TestServer;
  const { token } = (await server.api('/api/v1/tokens', { method: 'POST', body: { maxUses: null } })).body;
  const os = image('bench', []);
  const hosts: TestHost[] = [];
  for (let n = 0; n < count; n += 50)
    hosts.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(50, count - n) }, (_, m) => enrol(server, os, { token, name: `host-${n + m}` })),
      )),
    );
  return {
    hosts,
    server,
    pid: child.pid!,
    stop: async () => {
      child.kill('SIGTERM');
      await once(child, 'close');
    },
  };
}

/** What every host shows with the given additions: worked out once, not once a host. */
function treesWith(base: readonly Entry[], added: readonly Entry[]): Pick<FullReport, 'trees' | 'drift'> {
  const trees = {} as Record<TreeName, FullReport['trees']['usr']>;
  for (const tree of ['usr', 'etc'] as const) {
    const entries = [...base, ...added]
      .filter(({ path }) => treeOf(path) === tree)
      .sort((a, b) => comparePaths(a.path, b.path));
    const { texts } = digestTree(entries, nodeSha256, (main) => main);
    trees[tree] = {
      main: digestOf(comparisonText(texts.main), nodeSha256),
      extra: digestOf(texts.extra, nodeSha256),
      entries: entries.length,
      holes: [],
      holesCapped: false,
    };
  }
  const sorted = [...added].sort((a, b) => comparePaths(a.path, b.path));
  return { trees, drift: sorted.map(({ path, ...actual }) => driftJson({ path, change: 'added', actual })) };
}

function fullOf(
  host: TestHost,
  shown: Pick<FullReport, 'trees' | 'drift'>,
  previous: Digest | null,
  compared: boolean,
): FullReport {
  const os = image('bench', []);
  return {
    ...host.common(),
    kind: 'full',
    previous,
    agent: { version: '0.1.0', executable: null, config: digestOf('config', nodeSha256) },
    deployment: host.deployment(),
    manifest: compared ? { image: os.digest, rule: 'ostree/1' } : null,
    secretPaths: { id: SECRET_PATHS_ID, added: [] },
    truncated: null,
    secrets: [],
    accounts: null,
    contents: null,
    stats: { files: 1, bytes: 1, seconds: 0.1, peakRssBytes: 1, cached: null },
    attestation: null,
    ...shown,
  };
}

function sameOf(host: TestHost, full: FullReport, digest: Digest, count: number): SameReport {
  const digests = ({ main, extra }: FullReport['trees']['usr']) => ({ main, extra });
  return {
    ...host.common(),
    kind: 'same',
    full: digest,
    count,
    trees: { usr: digests(full.trees.usr), etc: digests(full.trees.etc) },
    state: stateDigest(full.deployment, nodeSha256),
  };
}

function requestOf(body: string): Buffer {
  return Buffer.from(
    `POST /api/v1/reports HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
}

/** Sends each connection's requests one after the other; answers seconds, and how many were taken. */
async function fire(
  port: number,
  pid: number,
  lanes: readonly (readonly Buffer[])[],
): Promise<{ seconds: number; cpu: number; taken: number; refused: number }> {
  let taken = 0;
  let refused = 0;
  const begun = performance.now();
  const cpu = cpuOf(pid);
  await Promise.all(
    lanes.map(
      (requests) =>
        new Promise<void>((resolve, reject) => {
          let next = 0;
          let held = '';
          const socket = connect(port, '127.0.0.1', () => socket.write(requests[next++]!));
          socket.setNoDelay(true).on('error', reject);
          socket.on('data', (bytes) => {
            held += bytes.toString('latin1');
            const head = held.indexOf('\r\n\r\n');
            if (head < 0) return;
            const length = Number(/content-length: ([0-9]+)/i.exec(held)?.[1] ?? Number.NaN);
            if (held.length < head + 4 + length) return;
            if (held.startsWith('HTTP/1.1 200')) taken++;
            else if (refused++ === 0) console.error(held);
            held = '';
            if (next < requests.length) socket.write(requests[next++]!);
            else {
              socket.end();
              resolve();
            }
          });
        }),
    ),
  );
  return { seconds: (performance.now() - begun) / 1000, cpu: cpuOf(pid) - cpu, taken, refused };
}

/** Host by host, so that each host's reports stay in order on one connection. */
function lanesOf(perHost: readonly (readonly Buffer[])[]): Buffer[][] {
  const lanes = Array.from({ length: Math.min(CONNECTIONS, perHost.length) }, (): Buffer[] => []);
  const rounds = Math.max(...perHost.map((list) => list.length));
  for (let round = 0; round < rounds; round++)
    for (const [index, list] of perHost.entries())
      if (list[round] !== undefined) lanes[index % lanes.length]!.push(list[round]!);
  return lanes;
}

export type IntakeFigures = { readonly same: number; readonly fullEtc: number; readonly fullUsr: number };

/** Reports a second of each kind, over `sames` and `fulls` reports a host. */
export async function benchIntake(
  storeUrl: string,
  { hosts: count = 2000, sames = 20, fulls = 3 } = {},
): Promise<IntakeFigures> {
  const { hosts, server, pid, stop } = await start(storeUrl, count);
  try {
    const base = treeOfPaths();
    const port = Number(new URL(await portOf(server)).port);
    const clean = treesWith(base, []);
    // The first report names the image; the manifest is there before the second.
    await hosts[0]!.post((await hosts[0]!.seal(fullOf(hosts[0]!, clean, null, false))).text);
    while ((await server.api('/api/v1/images')).body.items[0]?.state !== 'ready')
      await new Promise((resolve) => setTimeout(resolve, 50));
    const first = await Promise.all(
      hosts.slice(1).map(async (host) => {
        const report = fullOf(host, clean, null, true);
        return { host, report, ...(await host.seal(report)) };
      }),
    );
    await fire(port, pid, lanesOf(first.map(({ text }) => [requestOf(text)])));

    const same = await Promise.all(
      first.map(async ({ host, report, digest }) => {
        const texts: Buffer[] = [];
        for (let n = 1; n <= sames; n++) texts.push(requestOf((await host.seal(sameOf(host, report, digest, n))).text));
        return texts;
      }),
    );
    const sameRun = await fire(port, pid, lanesOf(same));

    const fullRun = async (top: '/etc' | '/usr', of: typeof first) => {
      const rounds = Array.from({ length: fulls }, (_, round) => treesWith(base, addedIn(top, round)));
      const perHost = await Promise.all(
        of.map(async (entry) => {
          const texts: Buffer[] = [];
          let { digest } = entry;
          for (const shown of rounds) {
            const sealed = await entry.host.seal(fullOf(entry.host, shown, digest, true));
            digest = sealed.digest;
            texts.push(requestOf(sealed.text));
          }
          return texts;
        }),
      );
      return fire(port, pid, lanesOf(perHost));
    };
    const half = Math.floor(first.length / 2);
    const etcRun = await fullRun('/etc', first.slice(0, half));
    const usrRun = await fullRun('/usr', first.slice(half, half + 200));
    for (const [name, { taken, refused, seconds, cpu }] of Object.entries({ sameRun, etcRun, usrRun }))
      console.error(
        `${name}: ${taken} taken, ${refused} refused in ${seconds.toFixed(2)} s: ${(taken / seconds).toFixed(0)}/s; server CPU ${((1e6 * cpu) / taken).toFixed(0)} µs each`,
      );
    const rate = ({ taken, seconds }: { taken: number; seconds: number }) => taken / seconds;
    return { same: rate(sameRun), fullEtc: rate(etcRun), fullUsr: rate(usrRun) };
  } finally {
    await stop();
  }
}

async function portOf(server: TestServer): Promise<string> {
  const { enrol } = (await server.api('/api/v1/tokens', { method: 'POST', body: {} })).body as { enrol: string };
  return /--server (\S+)/.exec(enrol)![1]!;
}

if (import.meta.main) {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-bench-'));
  try {
    console.log(await benchIntake(process.argv[2] ?? `sqlite:${join(folder, 'bench.db')}`));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
