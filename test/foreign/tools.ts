/** Runs programs that are not ours; a missing one fails the test, because .ci/run installs them all. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

export const root = join(import.meta.dirname, '../..');
export const vectors = join(root, 'test/vectors/merge');

export type Ran = { readonly status: number; readonly stdout: string; readonly stderr: string };

export function run(command: string, args: readonly string[], options: { cwd?: string; input?: string } = {}): Ran {
  const ran = spawnSync(command, args, { encoding: 'latin1', maxBuffer: 1 << 30, ...options });
  if (ran.error !== undefined) throw ran.error;
  return { status: ran.status ?? -1, stdout: ran.stdout, stderr: ran.stderr };
}

/** Runs a program that must succeed. */
export function ok(command: string, args: readonly string[], options: { cwd?: string; input?: string } = {}): string {
  const ran = run(command, args, options);
  assert.equal(ran.status, 0, `${command} ${args.join(' ')}: exit ${ran.status}\n${ran.stderr}`);
  return ran.stdout;
}

export const bootproof = (...args: string[]): Ran => run(join(root, 'bootproof'), args);

/** A folder of its own, gone when the test ends. */
export function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-foreign-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
