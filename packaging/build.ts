/**
 * `npm run build:agent [-- --arch x64|arm64|all] [--packages] [--out DIR]`: the agent as one executable, and as rpm and deb of it
 * (docs/agent.md). Says what it wrote with its SHA-256.
 */
import { hash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Machine } from './elf.ts';
import { nodeOf } from './nodes.ts';
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
  const { program } = nodeOf(machine);
  const agent = singleExecutable(machine, program);
  const file = join(out, `bootproof-agent-linux-${machine}`);
  writeFileSync(file, agent, { mode: 0o755 });
  console.log(`${hash('sha256', agent, 'hex')}  ${file}`);
}
