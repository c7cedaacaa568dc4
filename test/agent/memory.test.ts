/** What a scan takes of a host's memory: at most 120 MiB for 130,000 paths, with the manifest that they are held against. */
import assert from 'node:assert/strict';
import { linkSync, mkdirSync, openSync, closeSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mainLine, MTREE_HEAD } from '#src/manifest/mtree.ts';
import { deep } from '#test/depth.ts';
import { launchAgent } from './console.ts';
import { emptyRoot, sha256, temporary } from './roots.ts';

/** In depth; else a fifth, under the same limit (test/depth.ts). */
const FOLDERS = deep(1_300, 260);
const FILES = 99;
const LIMIT = 120 * 2 ** 20;

test(`a scan of ${FOLDERS * 100} paths stays below 120 MiB`, async (t) => {
  process.umask(0o022);
  const root = emptyRoot(t);
  const folder = temporary(t);
  const owner = { uid: process.geteuid!(), gid: process.getegid!() };
  const [main, extra] = [join(folder, 'main'), join(folder, 'extra')];
  writeFileSync(extra, '');
  const out = openSync(main, 'w');
  const dir = (path: string) => mainLine({ path, type: 'dir', mode: 0o755, ...owner });
  writeSync(out, `${MTREE_HEAD}${dir('/etc')}${dir('/usr')}`);
  // Names of few files: a scan reads each name, and making them is quick.
  const content = 'x'.repeat(2_000);
  const file = { type: 'file', mode: 0o644, ...owner, size: content.length, sha256: sha256(content) } as const;
  for (let i = 0; i < FOLDERS; i++) {
    const path = `/usr/a-folder-with-a-usual-name-${String(i).padStart(4, '0')}`;
    const first = `${root}${path}/00-some-file-of-an-image.so.1.2.3`;
    let lines = dir(path);
    mkdirSync(root + path);
    for (let k = 0; k < FILES; k++) {
      const name = `${path}/${String(k).padStart(2, '0')}-some-file-of-an-image.so.1.2.3`;
      if (k === 0) writeFileSync(first, content);
      else linkSync(first, root + name);
      lines += mainLine({ path: name, ...file });
    }
    writeSync(out, lines);
  }
  closeSync(out);
  // As installed: types stripped and code compiled once, at an earlier start.
  const env = { ...process.env, NODE_COMPILE_CACHE: join(folder, 'cache') };
  const args = ['scan', '--manifest', main, '--manifest-extra', extra, '--json', '--root'];
  assert.equal((await launchAgent([...args, emptyRoot(t)], { env })).exit, 1);
  const ran = await launchAgent([...args, root], { env });
  const told = JSON.parse(ran.out) as { stats: { files: number; peakRssBytes: number }; complete: boolean };
  assert.deepEqual([ran.exit, told.complete, told.stats.files], [0, true, FOLDERS * FILES]);
  t.diagnostic(`peak ${(told.stats.peakRssBytes / 2 ** 20).toFixed(1)} MiB`);
  assert.ok(told.stats.peakRssBytes < LIMIT, `${told.stats.peakRssBytes} bytes`);
});
