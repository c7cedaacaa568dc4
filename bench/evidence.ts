/**
 * The evidence bench: a bundle of a fleet over a quarter, exported and verified, each in a process of its own whose memory is told. Two fleets, so that it is
 * seen whether memory grows with them.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { principalOf } from '#server/access/principal.ts';
import { fileOf } from '#server/evidence/attempts.ts';
import type { Make, MakeRequest } from '#server/evidence/inworker.ts';
import { EXPORT_HEAP_MB } from '#src/limits.ts';
import { serverKeys } from '#server/keys.ts';
import { fill } from './evidencefleet.ts';
import { run, type Run } from './measure.ts';

/** Hosts and days; EVIDENCE names others, `1000x90,3000x30`: the large one takes half an hour on two quiet cores. */
const FLEETS = (process.env['EVIDENCE'] ?? '1000x90,10000x90')
  .split(',')
  .map((text) => text.split('x').map(Number) as [hosts: number, days: number]);

export async function benchEvidence(folder: string): Promise<string> {
  const rows: string[] = [];
  for (const [hosts, days] of FLEETS) rows.push(await fleet(join(folder, `${hosts}-${days}`), hosts, days));
  return `## Evidence

A bundle of a fleet: each host with a key of its own, the one \`same\` that is kept of each day, a full report at each new image (one a month) and where something differed (one host in fifty, for some days). Export and verification (\`bootproof evidence verify --key\`) once, each in a process of its own, SQLite, every framework, a sample of 25.

| hosts × days | log entries | export s | CPU s | peak MiB | bundle MB | bytes a host | verify s | CPU s | peak MiB |
|---|---|---|---|---|---|---|---|---|---|
${rows.join('\n')}
`;
}

async function fleet(folder: string, hosts: number, days: number): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const closing: (() => unknown)[] = [];
  // What a server's thread would be asked for is written down instead.
  const asked = Promise.withResolvers<MakeRequest>();
  const make: Make = (request, _tell, signal) => {
    asked.resolve(request);
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error('stopped')));
    });
  };
  const end = (close: () => unknown) => closing.unshift(close);
  const { server, from, to, seconds } = await fill(folder, { hosts, days, make, end });
  process.stderr.write(`${hosts} hosts: filled in ${seconds.toFixed(0)} s\n`);
  const admin = principalOf({ id: 'admin', name: 'admin' }, [{ role: 'admin', groups: null }]);
  const wanted = {
    from,
    to,
    hosts: null,
    frameworks: undefined,
    sampling: { seed: 'bench', size: 25 },
    parameters: {},
  };
  await server.server.exports.create(wanted, admin);
  const { order, storeUrl } = await asked.promise;
  const { fingerprint } = await serverKeys(server.server.store, randomBytes);
  for (const close of closing) await close();
  const file = join(folder, 'order.json');
  writeFileSync(file, JSON.stringify({ storeUrl, order }));
  const node = `${process.execPath} --disable-warning=ExperimentalWarning`;
  const own = (name: string) => join(import.meta.dirname, name);
  const made = await run(`exec ${node} --max-old-space-size=${EXPORT_HEAP_MB} ${own('evidencemaker.ts')} ${file}`);
  const bundle = fileOf(order.folder, order.wanted);
  const verified = await run(
    `exec ${node} ${own('../cli/main.ts')} evidence verify ${bundle} --key ${fingerprint} >&2`,
  );
  const { size } = statSync(bundle);
  const of = ({ wall, cpu, peakMiB }: Run) => `${wall.toFixed(0)} | ${cpu.toFixed(0)} | ${peakMiB.toFixed(0)}`;
  return `| ${hosts} × ${days} | ${order.wanted.cut.size} | ${of(made)} | ${(size / 1e6).toFixed(1)} | ${Math.round(size / hosts)} | ${of(verified)} |`;
}
