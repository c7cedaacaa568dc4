/** What the single executable is made of, without making one: that takes a minute, and test/foreign/agentbuild.test.ts does it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { VERSION } from '#src/version.ts';
import { agentScripts } from '#packaging/single.ts';

const folder = mkdtempSync(join(tmpdir(), 'bootproof-scripts-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const { main, worker } = agentScripts();
const script = join(folder, 'agent.cjs');
writeFileSync(script, main);

const run = (...args: string[]) =>
  spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', script, ...args], {
    encoding: 'utf8',
    env: {},
  });

test("the agent's script stands alone: it runs from a folder without anything, with `agent` before its words or without", () => {
  for (const words of [['--version'], ['agent', '--version']]) {
    const { stdout, stderr, status } = run(...words);
    assert.equal(stderr, '');
    assert.equal(stdout, `bootproof agent ${VERSION}\n`);
    assert.equal(status, 0);
  }
});

test('every subcommand is in the script', () => {
  const { stdout } = run('help');
  const names = [...stdout.matchAll(/^ {2}bootproof agent (\w+)/gm)].map((found) => found[1]!);
  assert.ok(names.length >= 7);
  for (const name of names)
    assert.match(
      main,
      new RegExp(`"agent/\\w+\\.ts"\\:\\(function[^]*async function ${name === 'enroll' ? 'enroll' : name}Command\\(`),
    );
});

test('a refusal has its exit code there too', () => {
  const { status, stderr } = run('agent', 'no-such-word');
  assert.equal(status, 64);
  assert.match(stderr, /no-such-word/);
});

test('nothing of the server, and no path of this machine, is in it', () => {
  assert.doesNotMatch(main, /^"(?:server|cli|demo|node_modules\/(?!zod\/|@noble\/hashes\/))/m);
  for (const text of [main, worker]) assert.ok(!text.includes(join(import.meta.dirname, '../..')));
});

test('the workers have their source as a module that imports nothing but node:', () => {
  const imported = [...worker.matchAll(/^import [^;]*from '([^']+)'/gm)].map((found) => found[1]!);
  assert.ok(imported.length >= 4);
  for (const name of imported) assert.match(name, /^node:/);
});
