/** `npm run bench [scan|intake|manifest|lists|load|bytes|verify|evidence …]`: runs the benches and writes their tables into bench/RESULTS.md. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';

const ROUNDS = Number(process.env['ROUNDS'] ?? 5);
const BENCHES: Record<string, (folder: string) => Promise<string>> = {
  scan: async (folder) => (await import('./scan.ts')).benchScan(folder, process.env['BENCH_ROOT'] ?? '/', ROUNDS),
  cold: async (folder) => (await import('./scan.ts')).benchCold(folder, process.env['BENCH_ROOT'] ?? '/'),
  intake: async (folder) => intake(folder),
  manifest: async (folder) => (await import('./manifest.ts')).benchManifest(folder, ROUNDS),
  lists: async (folder) => lists(folder),
  load: async (folder) => load(folder),
  bytes: async (folder) => bytes(folder),
  verify: async () => (await import('./verify.ts')).benchVerify(),
  evidence: async (folder) => (await import('./evidence.ts')).benchEvidence(folder),
};

/** Every list on a large fleet, on both engines. */
async function lists(folder: string): Promise<string> {
  const { benchLists } = await import('./lists.ts');
  const { startPostgres } = await import('#test/postgres.ts');
  const places = new Map([['SQLite', `sqlite:${join(folder, 'lists.db')}`]]);
  const postgres = await startPostgres({ fsync: true });
  if (!('skip' in postgres)) places.set('PostgreSQL', await postgres.database());
  try {
    return `## Lists\n\n${await benchLists(places)}`;
  } finally {
    if (!('skip' in postgres)) await postgres.stop();
  }
}

/** A fleet against one process on SQLite, one and three on PostgreSQL. HOSTS: fewer than 100,000 of them. */
async function load(folder: string): Promise<string> {
  const { benchLoad, loadSection } = await import('./load.ts');
  const { startPostgres } = await import('#test/postgres.ts');
  const hosts = Number(process.env['HOSTS'] ?? 100_000);
  const all = [await benchLoad('SQLite', `sqlite:${join(folder, 'load.db')}`, { processes: 1, hosts, folder })];
  const postgres = await startPostgres({ fsync: true });
  if (!('skip' in postgres)) {
    try {
      for (const processes of [1, 3]) {
        const name = `PostgreSQL, ${processes} process${processes === 1 ? '' : 'es'}`;
        all.push(await benchLoad(name, await postgres.database(), { processes, hosts, folder }));
      }
    } finally {
      await postgres.stop();
    }
  }
  return loadSection(hosts, all);
}

/** What a host costs in the store. */
async function bytes(folder: string): Promise<string> {
  const { perDay, perChange } = await (await import('./bytes.ts')).benchBytes(join(folder, 'bytes.db'));
  const kb = (n: number): string => (n / 1000).toFixed(1);
  return `## Size\n\nOn SQLite, 20 hosts through 30 days of a clock that is moved, pages in use: ${kb(perDay)} KB a host and day on which nothing changes, ${((365 * perDay) / 1e6).toFixed(1)} MB a year; 20 files added and taken away again: ${kb(perChange)} KB.\n`;
}

/** Reports a second, each answered after its commit; the load comes from the same machine and takes its share of it. */
async function intake(folder: string): Promise<string> {
  const { benchIntake } = await import('./intake.ts');
  const { startPostgres } = await import('#test/postgres.ts');
  const engines: [string, string][] = [['SQLite', `sqlite:${join(folder, 'intake.db')}`]];
  const postgres = await startPostgres({ fsync: true });
  if (!('skip' in postgres)) engines.push(['PostgreSQL', await postgres.database()]);
  try {
    let rows = '';
    for (const [name, url] of engines) {
      const { same, fullEtc, fullUsr } = await benchIntake(url);
      rows += `| ${name} | ${same.toFixed(0)} | ${fullEtc.toFixed(0)} | ${fullUsr.toFixed(0)} |\n`;
    }
    return `## Intake\n\nSigned reports a second over HTTP with keep-alive, 128 connections, a key and a chain for each host, each answered after its commit; one server process, load on the same cores.\n\n| | \`same\` | \`full\`, 100 lines of drift in /etc | \`full\`, 100 lines in /usr (60,000 paths) |\n|---|---|---|---|\n${rows}`;
  } finally {
    if (!('skip' in postgres)) await postgres.stop();
  }
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0) throw new Error(`no bench ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}`);

const sections = new Map<string, string>();
const file = join(import.meta.dirname, 'RESULTS.md');
for (const name of wanted.length > 0 ? wanted : Object.keys(BENCHES)) {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-bench-'));
  try {
    process.stderr.write(`${name} …\n`);
    sections.set(name, `<!-- ${name} -->\n${await BENCHES[name]!(folder)}\n${machine()}\n<!-- /${name} -->\n`);
    process.stdout.write(sections.get(name)!);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
writeFileSync(file, merged(sections));

/** Where and when; a load above the number of cores says that others worked too. */
function machine(): string {
  const [load = 0] = loadavg();
  const memory = (totalmem() / 2 ** 30).toFixed(0);
  return `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${memory} GiB, Linux ${release()}, Node ${process.versions.node}, ${new Date().toISOString().slice(0, 10)}; load at the end ${load.toFixed(1)}.\n`;
}

/** The file with the new sections in their places; what was not run stays. */
function merged(fresh: ReadonlyMap<string, string>): string {
  const head =
    '# What was measured\n\nEach table from one run of `npm run bench`: rivals in turn, medians, in brackets the least and the most. Trust ratios, not seconds.\n\n';
  let before = '';
  try {
    before = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return (
    head +
    Object.keys(BENCHES)
      .map(
        (name) =>
          fresh.get(name) ?? new RegExp(`<!-- ${name} -->[\\s\\S]*?<!-- /${name} -->\\n`).exec(before)?.[0] ?? '',
      )
      .filter((text) => text !== '')
      .join('\n')
  );
}
