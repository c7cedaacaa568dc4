/** The digest of the agent's own program, held against coreutils. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { programDigest } from '#agent/program.ts';

const root = join(import.meta.dirname, '../..');

/** The command of docs/report.md 1.11, word for word. */
const bySha256sum = (folder: string) =>
  `sha256:${execFileSync(
    'sh',
    ['-c', "find agent src -type f -name '*.[jt]s' | LC_ALL=C sort | xargs sha256sum | sha256sum"],
    {
      cwd: folder,
      encoding: 'utf8',
    },
  ).slice(0, 64)}`;

test("the program's digest is what sha256sum makes of its files, units left out, and one changed byte or one more file changes it", (t) => {
  const copy = mkdtempSync(join(tmpdir(), 'bootproof-program-'));
  t.after(() => rmSync(copy, { recursive: true, force: true }));
  for (const folder of ['agent', 'src']) cpSync(join(root, folder), join(copy, folder), { recursive: true });
  const first = programDigest(copy);
  assert.equal(first, bySha256sum(copy));
  writeFileSync(join(copy, 'agent/units/bootproof-agent.timer'), '# another\n');
  assert.equal(programDigest(copy), first);
  writeFileSync(join(copy, 'src/version.ts'), '// another\n');
  const changed = programDigest(copy);
  assert.notEqual(changed, first);
  writeFileSync(join(copy, 'agent/one-more.ts'), '');
  assert.notEqual(programDigest(copy), changed);
  assert.equal(programDigest(copy), bySha256sum(copy));
});
