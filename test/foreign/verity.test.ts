/** fs-verity digests held to fsverity-utils (Debian's fsverity), over files of many sizes and of whatever bytes. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { verityDigest } from '../../src/image/verity.ts';

// Three levels of a tree take 64 MiB: those stand in test/vectors/verity.
const SIZES = [0, 1, 100, 4095, 4096, 4097, 128 * 4096 - 1, 128 * 4096, 128 * 4096 + 1, 129 * 4096, 5_000_001];

test('every digest is the one that fsverity prints', (t) => {
  if (spawnSync('fsverity', ['--version']).status !== 0)
    return t.skip('fsverity is not installed (apt-get install fsverity)');
  const folder = mkdtempSync(join(tmpdir(), 'bootproof-'));
  t.after(() => rmSync(folder, { recursive: true }));
  let state = 1;
  for (const size of SIZES) {
    const bytes = Buffer.alloc(size);
    // Numerical Recipes' generator: the same bytes in each run.
    for (let at = 0; at + 4 <= size; at += 4)
      bytes.writeInt32LE((state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0), at);
    const file = join(folder, 'file');
    writeFileSync(file, bytes);
    const args = ['digest', '--hash-alg=sha256', '--block-size=4096', '--compact', file];
    assert.equal(verityDigest(bytes), execFileSync('fsverity', args, { encoding: 'utf8' }).trim(), `${size} bytes`);
  }
});
