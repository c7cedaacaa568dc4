/** The Node of each machine, from the npm package that package-lock.json names: the one that is installed, or one that npm fetches. */
import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { machineOf, type Machine } from './elf.ts';

const root = join(import.meta.dirname, '..');
/** Packages that were fetched, with their version in the name. */
const CACHE = join(root, 'node_modules/.cache/bootproof-node');

/**
 * Node for a machine. npm installs the one of its own machine alone; another is fetched once, and must be what the lock file says.
 * @throws where npm cannot fetch it, or the bytes are others.
 */
export function nodeOf(machine: Machine): Buffer {
  const { version, integrity } = locked(`node-linux-${machine}`);
  const installed = join(root, 'node_modules', `node-linux-${machine}`);
  const packed = existsSync(join(installed, 'bin/node'))
    ? undefined
    : fetched(`node-linux-${machine}`, version, integrity);
  const program =
    packed === undefined
      ? readFileSync(join(installed, 'bin/node'))
      : execFileSync('tar', ['-xzOf', packed, 'package/bin/node'], { maxBuffer: 2 ** 30 });
  if (machineOf(program) !== machine) throw new Error(`node-linux-${machine} holds a Node for ${machineOf(program)}`);
  return program;
}

type Locked = { readonly version: string; readonly integrity: string };

function locked(name: string): Locked {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, Partial<Locked>>>;
  };
  const { version, integrity } = lock.packages[`node_modules/${name}`] ?? {};
  if (version === undefined || integrity === undefined) throw new Error(`package-lock.json does not name ${name}`);
  return { version, integrity };
}

/** The path of a package's archive. */
function fetched(name: string, version: string, integrity: string): string {
  const file = join(CACHE, `${name}-${version}.tgz`);
  if (!existsSync(file)) {
    mkdirSync(CACHE, { recursive: true });
    const folder = mkdtempSync(join(CACHE, 'fetch-'));
    try {
      execFileSync('npm', ['pack', '--silent', `${name}@${version}`], {
        cwd: folder,
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      renameSync(join(folder, readdirSync(folder)[0]!), file);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  const found = `sha512-${hash('sha512', readFileSync(file), 'base64')}`;
  if (found !== integrity)
    throw new Error(`${file} is not the package that package-lock.json names (${found}): remove it and try again`);
  return file;
}
