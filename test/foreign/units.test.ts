/** The units as systemd judges them: the exposure that docs/agent.md tells is what systemd-analyze says of each. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';

const root = join(import.meta.dirname, '../..');
const docs = readFileSync(join(root, 'docs/agent.md'), 'utf8');
/** The version of systemd whose figures the document tells. */
const VERSION = /`systemd-analyze security` \((\d+)\)/.exec(docs)![1]!;

test('the document tells the exposure of each service as systemd-analyze does', (t: TestContext) => {
  const version = spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' });
  if (version.error) return t.skip('systemd-analyze is not here (package systemd)');
  const here = /^systemd (\d+)/.exec(version.stdout)![1]!;
  if (here !== VERSION) return t.skip(`systemd is ${here}, and the document tells of ${VERSION}`);
  const told = [...docs.matchAll(/^\| `(bootproof-\w+\.service)` \|.*\| (\d+\.\d) \|$/gm)];
  assert.equal(told.length, 3);
  for (const [, unit, exposure] of told) {
    const file = join(root, 'agent/units', unit!);
    const run = spawnSync('systemd-analyze', ['security', '--offline=true', '--no-pager', file], { encoding: 'utf8' });
    assert.match(run.stdout, new RegExp(`exposure level for ${unit}: ${exposure!.replace('.', '\\.')} `), run.stderr);
  }
});
