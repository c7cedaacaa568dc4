/**
 * The single executable: all of the agent as one script, within a Node that lost its symbols. The same bytes from the same checkout: the Node is
 * the one that package-lock.json names, and nothing of the time, the machine or the folder goes in.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { WORKER_ASSET, workerSource } from '#agent/pool.ts';
import { linkModules } from '#server/verifier/link.ts';
import { embedded, stripped, type Machine } from './elf.ts';

const root = join(import.meta.dirname, '..');

/** Flags of the Node within; nothing that a caller says in NODE_OPTIONS goes to it. A large young generation costs 40 MB and gains no time. */
const FLAGS = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=1'];

/** What the executable holds: the agent's script, and the source of its worker threads. */
export function agentScripts(): { readonly main: string; readonly worker: string } {
  return {
    main: linkModules('packaging/entry.ts', { forNode: true }),
    worker: workerSource(pathToFileURL(join(root, 'agent/'))),
  };
}

/**
 * The executable of one machine, from its Node. The compiled form of the script goes along for x64 where it is built on x64 (20 ms less at each
 * start): V8 takes such a form only on the machine that it was made on.
 */
export function singleExecutable(machine: Machine, node: Buffer): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-single-'));
  try {
    const { main, worker } = agentScripts();
    writeFileSync(join(folder, 'agent.js'), main);
    writeFileSync(join(folder, WORKER_ASSET), worker);
    const config = {
      main: 'agent.js',
      output: 'blob',
      disableExperimentalSEAWarning: true,
      useCodeCache: machine === 'x64' && process.arch === 'x64',
      execArgv: FLAGS,
      execArgvExtension: 'none',
      assets: { [WORKER_ASSET]: WORKER_ASSET },
    };
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    // The blob names its files as they are named here, so they are named from within the folder. Without `--predictable`
    // the compiled form has the process's own seed in it.
    execFileSync(process.execPath, ['--predictable', '--experimental-sea-config', 'config.json'], {
      cwd: folder,
      env: {},
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return embedded(stripped(node), readFileSync(join(folder, 'blob')));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
