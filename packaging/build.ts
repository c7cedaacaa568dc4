/**
 * `npm run build:agent [-- --arch x64|arm64|all] [--packages] [--out DIR]`: the agent as one executable, and as rpm and deb of it
 * (docs/agent.md). Says what it wrote with its SHA-256.
 */
import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Machine } from './elf.ts';
import { nodeOf } from './nodes.ts';
import { buildPackages } from './packages.ts';
import { singleExecutable } from './single.ts';

const { values } = parseArgs({
  options: {
    arch: { type: 'string', default: process.arch },
    packages: { type: 'boolean', default: false },
    out: { type: 'string', default: join(import.meta.dirname, '../dist') },
  },
});
const machines: readonly Machine[] =
  values.arch === 'all' ? ['x64', 'arm64'] : values.arch === 'x64' || values.arch === 'arm64' ? [values.arch] : [];
if (machines.length === 0) throw new Error(`--arch is x64, arm64 or all, not ${values.arch}`);
const out = resolve(values.out);
mkdirSync(out, { recursive: true });
for (const machine of machines) {
  const agent = singleExecutable(machine, nodeOf(machine));
  const file = join(out, `bootproof-agent-linux-${machine}`);
  writeFileSync(file, agent, { mode: 0o755 });
  told(file);
  if (!values.packages) continue;
  const { rpm, deb } = buildPackages(machine, file, out, epoch());
  for (const made of [rpm, deb]) if (made !== null) told(made);
  if (rpm === null) console.error('no rpm was made: rpmbuild is not here (package rpm-build, on Debian rpm)');
  if (deb === null) console.error('no deb was made: dpkg-deb is not here (package dpkg)');
}

function told(file: string): void {
  console.log(`${hash('sha256', readFileSync(file), 'hex')}  ${file}`);
}

/** The time in the packages: what the caller says, as everywhere, or that of the commit. */
function epoch(): number {
  const given = process.env['SOURCE_DATE_EPOCH'];
  if (given !== undefined) {
    if (/^[0-9]{1,11}$/.test(given)) return Number(given);
    throw new Error(`SOURCE_DATE_EPOCH is a time in seconds, not ${given}`);
  }
  const git = ['log', '-1', '--format=%ct'];
  return Number(execFileSync('git', git, { cwd: import.meta.dirname, encoding: 'utf8' }));
}
