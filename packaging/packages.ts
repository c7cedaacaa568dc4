/** rpm and deb of the agent: the same files in both, below /usr alone, and the same bytes from the same checkout. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VERSION } from '#src/version.ts';
import type { Machine } from './elf.ts';

const root = join(import.meta.dirname, '..');
const NAME = 'bootproof-agent';
const SUMMARY = 'Compares this host with the image that it booted';
const ABOUT = `Reads /usr and /etc of a bootable-container host (bootc, OSTree, composefs), compares
them with the image that the host booted, and reports to a Bootproof server.`;
/** What the executable is linked to (docs/agent.md); glibc 2.28 is the oldest that its Node starts on. */
const RPM_NEEDS = ['glibc >= 2.28', 'libatomic', 'libgcc', 'libstdc++', 'systemd'];
const DEB_NEEDS = ['libc6 (>= 2.28)', 'libatomic1', 'libgcc-s1', 'libstdc++6', 'systemd'];
const UNITS = 'bootproof-agent.timer bootproof-agent.service';

/** Where there is no systemd that runs, as in the build of an image, both write what the image is to have. */
const INSTALLED = `systemd-sysusers /usr/lib/sysusers.d/bootproof.conf
systemctl --no-reload preset ${UNITS} >/dev/null 2>&1 || :
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemd-tmpfiles --create /usr/lib/tmpfiles.d/bootproof.conf
fi`;
const REMOVED = `systemctl --no-reload disable ${UNITS} >/dev/null 2>&1 || :
if [ -d /run/systemd/system ]; then systemctl stop bootproof-agent.timer || :; fi`;

const MACHINES = { x64: { rpm: 'x86_64', deb: 'amd64' }, arm64: { rpm: 'aarch64', deb: 'arm64' } } as const;

export type Packages = { readonly rpm: string | null; readonly deb: string | null };

/**
 * Writes both packages of one executable into `out`; null for one whose tool (rpmbuild, dpkg-deb) is not here. Every time in them is `epoch`,
 * in seconds.
 */
export function buildPackages(machine: Machine, executable: string, out: string, epoch: number): Packages {
  const work = mkdtempSync(join(tmpdir(), 'bootproof-packages-'));
  try {
    const tree = join(work, 'tree');
    execFileSync('sh', [join(root, 'agent/units/install.sh'), tree, executable]);
    for (const path of ['.', ...readdirSync(tree, { recursive: true, encoding: 'utf8' })])
      lutimesSync(join(tree, path), epoch, epoch);
    const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C.UTF-8', SOURCE_DATE_EPOCH: String(epoch) };
    const make = { machine, tree, work, out, env };
    const rpm = has('rpmbuild') ? buildRpm(make) : null;
    // Its own files go into the same tree.
    const deb = has('dpkg-deb') ? buildDeb(make) : null;
    return { rpm, deb };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

type Make = {
  readonly machine: Machine;
  /** What is installed. */
  readonly tree: string;
  readonly work: string;
  readonly out: string;
  readonly env: Readonly<Record<string, string>>;
};

function has(tool: string): boolean {
  try {
    execFileSync(tool, ['--version'], { stdio: 'ignore' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

function buildRpm({ machine, tree, work, out, env }: Make): string {
  const files = readdirSync(tree, { recursive: true, encoding: 'utf8' })
    .sort()
    .flatMap((path) => {
      const { isFolder, isLink, mode } = facts(join(tree, path));
      // Of folders only its own: those of systemd and of the distribution belong to these.
      if (isFolder) return /bootproof(?:-agent)?$/.test(path) ? [`%dir %attr(0755,root,root) "/${path}"`] : [];
      return [`%attr(${isLink ? '-' : mode},root,root) "/${path}"`];
    });
  const spec = join(work, `${NAME}.spec`);
  // The executable is stripped and has no build of its own: what rpm's scripts do to programs would change it.
  writeFileSync(
    spec,
    `%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _buildhost bootproof
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%global _binary_payload w10.zstdio
Name: ${NAME}
Version: ${VERSION}
Release: 1
Summary: ${SUMMARY}
License: Apache-2.0 AND MIT
AutoReqProv: no
Requires(post): systemd
Requires(preun): systemd
${RPM_NEEDS.map((need) => `Requires: ${need}`).join('\n')}
%description
${ABOUT}
%install
cp -a ${tree}/. %{buildroot}/
%post
${INSTALLED}
%preun
if [ "$1" = 0 ]; then
${REMOVED}
fi
%files
${files.join('\n')}
`,
  );
  const { rpm } = MACHINES[machine];
  const define = (name: string, value: string) => ['--define', `${name} ${value}`];
  execFileSync('rpmbuild', ['-bb', '--quiet', `--target=${rpm}-linux`, ...define('_topdir', join(work, 'rpm')), spec], {
    env: { ...env, HOME: work },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const name = `${NAME}-${VERSION}-1.${rpm}.rpm`;
  return moved(join(work, 'rpm/RPMS', rpm, name), join(out, name));
}

function buildDeb({ machine, tree, work, out, env }: Make): string {
  const control = join(tree, 'DEBIAN');
  const { deb } = MACHINES[machine];
  const size = readdirSync(tree, { recursive: true, encoding: 'utf8' })
    .map((path) => facts(join(tree, path)).size)
    .reduce((a, b) => a + b, 0);
  mkdirSync(control);
  writeFileSync(
    join(control, 'control'),
    `Package: ${NAME}
Version: ${VERSION}-1
Architecture: ${deb}
Maintainer: Bootproof <bootproof@localhost>
Installed-Size: ${Math.ceil(size / 1024)}
Depends: ${DEB_NEEDS.join(', ')}
Section: admin
Priority: optional
Description: ${SUMMARY}
${ABOUT.replaceAll(/^/gm, ' ')}
`,
  );
  writeFileSync(join(control, 'postinst'), `#!/bin/sh\nset -e\nif [ "$1" = configure ]; then\n${INSTALLED}\nfi\n`);
  writeFileSync(join(control, 'prerm'), `#!/bin/sh\nset -e\nif [ "$1" = remove ]; then\n${REMOVED}\nfi\n`);
  // Whatever the caller's umask is.
  chmodSync(join(control, 'control'), 0o644);
  for (const script of ['postinst', 'prerm']) chmodSync(join(control, script), 0o755);
  chmodSync(control, 0o755);
  const name = `${NAME}_${VERSION}-1_${deb}.deb`;
  execFileSync('dpkg-deb', ['--root-owner-group', '-Zzstd', '-z10', '--build', tree, join(work, name)], {
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return moved(join(work, name), join(out, name));
}

function facts(path: string) {
  const stat = lstatSync(path);
  const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
  return { isFolder: stat.isDirectory(), isLink: stat.isSymbolicLink(), mode, size: stat.size };
}

/** The folders may lie on different disks. */
function moved(from: string, to: string): string {
  cpSync(from, `${to}.part`);
  renameSync(`${to}.part`, to);
  return to;
}
