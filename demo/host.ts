/** The demo's hosts on disk: a deployed root as ostree lays it out, then changed by hand, as an intruder or an administrator would. */
import { hash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setCapability } from './capability.ts';
import { CAP_NET_RAW, type Privileges } from './pack.ts';
import type { TarItem } from './tar.ts';

/** Writes a tree as an ostree deployment shows it: `etc` lies below `usr/etc` and is copied to `/etc`. */
export function deployRoot(tree: ReadonlyMap<string, TarItem>, root: string): void {
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root, { recursive: true, mode: 0o755 });
  const items = [...tree.values()]
    .filter(({ path }) => /^(?:usr|etc)(?:\/|$)/.test(path))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  const usr = items.filter(({ path }) => path.startsWith('usr'));
  const etc = items.filter(({ path }) => path.startsWith('etc'));
  for (const item of usr) place(item, join(root, item.path));
  for (const item of etc) place(item, join(root, 'usr', item.path));
  for (const item of etc) place(item, join(root, item.path));
  // Folders last: writing into them must not need the mode that they end with.
  for (const item of [...usr, ...etc].filter(({ type }) => type === 'dir').reverse()) {
    const places = item.path.startsWith('etc') ? [item.path, `usr/${item.path}`] : [item.path];
    for (const path of places) own(item, join(root, path));
  }
}

function place(item: TarItem, path: string): void {
  if (item.type === 'dir') {
    mkdirSync(path, { mode: 0o755 });
    return;
  }
  if (item.type === 'symlink') symlinkSync(item.link ?? '', path);
  else writeFileSync(path, item.content ?? '');
  own(item, path);
}

function own(item: TarItem, path: string): void {
  const stat = lstatSync(path);
  // Without privileges all items belong to this user already, and chown would be refused.
  if (stat.uid !== item.uid || stat.gid !== item.gid) lchownSync(path, item.uid, item.gid);
  if (item.type !== 'symlink') chmodSync(path, item.mode);
  if (item.capability !== undefined) setCapability(path, item.capability);
}

/**
 * The demo's images hold the same files and differ in their version, so that only who signed them tells them apart. `signed`: by the key
 * that the policy names; `foreign`: by another one. `keyless`: by the identity that it names; `branch`: by another one. `copied`: its
 * signature is one that was made for the signed image. `nowhere`: no registry has it.
 */
export const DEMO_IMAGES = {
  signed: '1',
  unsigned: '0',
  foreign: '2',
  copied: '3',
  keyless: '4',
  branch: '5',
} as const;
export type DemoImage = keyof typeof DEMO_IMAGES | 'nowhere';

/** One of the demo's hosts: what was done to it, and what it must be judged. */
export type DemoHost = {
  readonly name: string;
  readonly about: string;
  /** Changes the deployed root; what needs rights that this user lacks is left out and named. */
  readonly tamper: (root: string, who: Privileges) => string[];
  /** Which image it boots; the signed one unless said. */
  readonly boots?: Exclude<DemoImage, 'signed'>;
  /** Reports until it was judged, then never again. */
  readonly stops?: true;
  readonly verdict: 'compliant' | 'drifted' | 'unsigned' | 'unverifiable' | 'silent';
};

/** What any booted host has of its own. */
function firstBoot(root: string, name: string): void {
  writeFileSync(join(root, 'etc/hostname'), `${name}\n`, { mode: 0o644 });
  writeFileSync(join(root, 'etc/machine-id'), `${hash('sha256', name, 'hex').slice(0, 32)}\n`, { mode: 0o444 });
}

export const DEMO_HOSTS: readonly DemoHost[] = [
  {
    name: 'web-1',
    about: 'intact: only what every booted host has of its own',
    tamper: () => [],
    verdict: 'compliant',
  },
  {
    name: 'db-1',
    about: 'in /usr an edited program, an added setuid file, a removed library',
    tamper: (root) => {
      appendFileSync(join(root, 'usr/bin/bash'), '\n# one more line\n');
      copyFileSync(join(root, 'usr/bin/cat'), join(root, 'usr/bin/.backdoor'));
      chmodSync(join(root, 'usr/bin/.backdoor'), 0o4755);
      rmSync(join(root, 'usr/lib/libdemo.so.1'));
      return [];
    },
    verdict: 'drifted',
  },
  {
    name: 'edge-1',
    about: 'in /etc allowed changes (a locale) and forbidden ones (root login by ssh, a sudo rule)',
    tamper: (root) => {
      writeFileSync(join(root, 'etc/locale.conf'), 'LANG=C.UTF-8\n');
      // In the place of `no`: of two lines sshd takes the first.
      const config = join(root, 'etc/ssh/sshd_config');
      writeFileSync(config, readFileSync(config, 'utf8').replace('PermitRootLogin no', 'PermitRootLogin yes'));
      mkdirSync(join(root, 'etc/sudoers.d'), { mode: 0o750 });
      writeFileSync(join(root, 'etc/sudoers.d/99-all'), '%users ALL=(ALL) NOPASSWD: ALL\n', { mode: 0o440 });
      return [];
    },
    verdict: 'drifted',
  },
  {
    name: 'build-1',
    about: 'no content touched: only a mode, an owner and a capability',
    tamper: (root, who) => {
      chmodSync(join(root, 'usr/bin/tar'), 0o777);
      const left: string[] = [];
      if (who.chown) chownSync(join(root, 'usr/bin/grep'), 1000, 1000);
      else left.push('changing an owner');
      if (who.capability) setCapability(join(root, 'usr/bin/sed'), CAP_NET_RAW);
      else left.push('setting a file capability');
      return left;
    },
    verdict: 'drifted',
  },
  {
    name: 'lab-1',
    about: 'booted an image that the registry does not have',
    tamper: () => [],
    boots: 'nowhere',
    verdict: 'unverifiable',
  },
  {
    name: 'old-1',
    about: 'untouched, but booted an image that nobody signed',
    tamper: () => [],
    boots: 'unsigned',
    verdict: 'unsigned',
  },
  {
    name: 'fork-1',
    about: 'untouched, but its image is signed by a key that the image policy does not name',
    tamper: () => [],
    boots: 'foreign',
    verdict: 'unsigned',
  },
  {
    name: 'copy-1',
    about: 'untouched, but the signature beside its image was made for another image',
    tamper: () => [],
    boots: 'copied',
    verdict: 'unsigned',
  },
  {
    name: 'ci-1',
    about: 'intact, and its image is signed without a key: by the identity of a build',
    tamper: () => [],
    boots: 'keyless',
    verdict: 'compliant',
  },
  {
    name: 'branch-1',
    about: 'untouched, but its image is signed by the build of another branch',
    tamper: () => [],
    boots: 'branch',
    verdict: 'unsigned',
  },
  {
    name: 'kiosk-1',
    about: 'intact when it was last heard of: it stops reporting',
    tamper: () => [],
    stops: true,
    verdict: 'silent',
  },
];

/** Lays out a host's root and does to it what its story says; returns what had to be left out. */
export function layOut(host: DemoHost, tree: ReadonlyMap<string, TarItem>, root: string, who: Privileges): string[] {
  deployRoot(tree, root);
  firstBoot(root, host.name);
  return host.tamper(root, who);
}

/** Tries on a file of its own what this user may do; nothing else tells it truly (root in a user namespace, mounts without xattrs). */
export function tryPrivileges(folder: string, uid: number, gid: number): Privileges {
  const probe = join(folder, '.privileges');
  writeFileSync(probe, '');
  const may = (act: () => void): boolean => {
    try {
      act();
      return true;
    } catch (error) {
      if (['EPERM', 'EINVAL', 'ENOTSUP'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
      throw error;
    }
  };
  const chown = may(() => chownSync(probe, 1000, 1000)) && may(() => chownSync(probe, 0, 0));
  const capability = may(() => setCapability(probe, CAP_NET_RAW));
  rmSync(probe);
  return { uid, gid, chown, capability };
}
