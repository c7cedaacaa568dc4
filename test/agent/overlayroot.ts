/** A root that is an overlay, as a composefs host's is. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { temporary } from './roots.ts';

/**
 * A mounted overlay with one file in /usr, unmounted after the test; undefined where that cannot be done. As through composefs, metadata are those of
 * the upper layer and data those of the file beneath.
 */
export function mountedOverlay(t: TestContext): { readonly root: string; readonly beneath: string } | undefined {
  let mounted = '';
  // Before what removes the folder.
  t.after(() => mounted !== '' && execFileSync('umount', [mounted]));
  const folder = temporary(t);
  for (const name of ['lower/usr', 'lower/etc', 'upper', 'work', 'root'])
    mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, 'lower/usr/file'), 'content');
  const options = `lowerdir=${folder}/lower,upperdir=${folder}/upper,workdir=${folder}/work,metacopy=on,redirect_dir=on`;
  try {
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, `${folder}/root`], { stdio: 'ignore' });
  } catch {
    return undefined; // no such file system, or no right to mount: the test says that it was skipped
  }
  mounted = join(folder, 'root');
  chmodSync(`${mounted}/usr/file`, 0o600);
  return { root: mounted, beneath: join(folder, 'lower/usr/file') };
}
