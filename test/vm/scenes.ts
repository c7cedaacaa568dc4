/** What is done to a running machine, and what the server must say of it then (issue of the agent, "A booted machine as test"). */
import type { Mode } from './mode.ts';
import type { Drifted, Finding, HostAnswer, Stats } from './service.ts';
import { REPOSITORY } from './image.ts';

export type Seen = {
  readonly host: HostAnswer;
  readonly findings: readonly Finding[];
  readonly drifted: Drifted;
  readonly stats?: Stats | undefined;
};
type About = { readonly mode: Mode; readonly digest: string; readonly fresh: Seen };
/** Answers what was seen, and why it is wrong or null. */
export type Check = {
  readonly what: string;
  readonly look: (seen: Seen, about: About) => readonly [string, string | null];
};
export type Scene = {
  readonly what: string;
  /** Run as root in the machine; status 0: it was done. */
  readonly script: string;
  /** Then it is shut down and booted, and reports by itself; else the agent's unit is started once. */
  readonly reboot?: true;
  readonly expect: readonly Check[];
};

const open = (seen: Seen): Finding[] => seen.findings.filter(({ status }) => status === 'open');
const words = (findings: readonly Finding[]): string =>
  findings.length === 0
    ? 'no finding'
    : findings.map(({ rule, what, severity }) => `${what} (${rule}, ${severity})`).join('; ');
const is = (
  what: string,
  told: (seen: Seen, about: About) => unknown,
  want: (seen: Seen, about: About) => unknown,
): Check => ({
  what,
  look: (seen, about) => {
    const [got, wanted] = [told(seen, about), want(seen, about)].map(
      (value) => JSON.stringify(value) ?? 'undefined',
    ) as [string, string];
    return [got, got === wanted ? null : `expected ${wanted}`];
  },
});

/** A finding under this rule about this subject. */
const found = (rule: string, subject: string): Check => ({
  what: subject,
  look: (seen) => {
    const about = open(seen).filter((finding) => finding.subject === subject);
    return [
      words(about),
      about.some((finding) => finding.rule === rule)
        ? null
        : `expected one under ${rule}; there is: ${words(open(seen))}`,
    ];
  },
});
const nothingAbout = (subject: string): Check => ({
  what: `${subject}, which policy allows`,
  look: (seen) => {
    const about = open(seen).filter((finding) => finding.subject === subject);
    return [words(about), about.length === 0 ? null : 'expected none'];
  },
});
const integrity = (...states: readonly string[]): Check => ({
  what: 'integrity',
  look: ({ host }) => [
    host.integrity.state,
    states.includes(host.integrity.state) ? null : `expected ${states.join(' or ')}`,
  ],
});
/** Everything is as it was after the first boot. */
const AS_FRESH: readonly Check[] = [
  {
    what: 'findings',
    look: (seen, { fresh }) => {
      const before = new Set(open(fresh).map(({ rule, subject }) => `${rule} ${subject}`));
      const left = open(seen).filter(({ rule, subject }) => !before.has(`${rule} ${subject}`));
      return [
        left.length === 0 ? 'as after the first boot' : words(left),
        left.length === 0 ? null : 'expected none but those of the first boot',
      ];
    },
  },
  is(
    'integrity',
    ({ host }) => host.integrity.state,
    (_, { fresh }) => fresh.host.integrity.state,
  ),
];

/** After the first boot, with nobody's doing. */
export const FRESH: readonly Check[] = [
  {
    what: 'at most one unexplained finding',
    look: (seen) => [words(open(seen)), open(seen).length <= 1 ? null : `${open(seen).length} findings`],
  },
  integrity('intact'),
  is(
    'compared with the manifest of the image that was deployed',
    ({ drifted }) => drifted.comparedWith,
    (_, { digest }) => ({ image: digest, rule: 'ostree/1' }),
  ),
  is(
    'backend, and who told of the deployment',
    ({ drifted: { deployment } }) => [deployment.backend, deployment.via],
    () => ['ostree', 'origin'],
  ),
  is(
    'image digest, from the commit',
    ({ drifted: { deployment } }) => deployment.booted?.image?.digest,
    (_, { digest }) => digest,
  ),
  {
    what: 'image reference, from the origin file',
    look: ({ drifted: { deployment } }, { mode }) => {
      const told = deployment.booted?.image?.reference ?? 'none';
      return [told, told.endsWith(`/${REPOSITORY}:${mode}`) ? null : `expected …/${REPOSITORY}:${mode}`];
    },
  },
  is(
    'fs-verity demanded by the mount of /',
    ({ drifted: { deployment } }) => deployment.verity,
    (_, { mode }) => mode === 'verity',
  ),
  is(
    'transient root',
    ({ drifted: { deployment } }) => deployment.transientRoot,
    () => false,
  ),
  is(
    'mounts over /usr and /etc',
    ({ drifted: { deployment } }) => deployment.overlays,
    () => [],
  ),
  is(
    'what the host says contradicts nothing',
    ({ drifted: { deployment } }) =>
      deployment.contradictions.filter((text) => !text.startsWith('neither bootc nor rpm-ostree')),
    () => [],
  ),
  is(
    'holes',
    ({ drifted: { trees } }) => [...trees.usr.holes, ...trees.etc.holes],
    () => [],
  ),
];

/** Names the object behind a path of /usr, and makes the repository writable: what a root does who knows where the bytes lie. */
const OBJECTS = `set -e
mount -o remount,rw /sysroot
commit=$(basename /ostree/deploy/vm/deploy/*.0 .0)
object() { local sum; sum=$(ostree ls -C "$commit" "$1" | awk '{print $5}'); echo "/sysroot/ostree/repo/objects/\${sum:0:2}/\${sum:2}.file"; }
licences=/usr/share/common-licenses
`;
const GPL1 = '/usr/share/common-licenses/GPL-1';
const GPL2 = '/usr/share/common-licenses/GPL-2';
const GPL3 = '/usr/share/common-licenses/GPL-3';
const LGPL2 = '/usr/share/common-licenses/LGPL-2';

/**
 * A new inode under the old name, whose bytes differ; the old one is kept beside it. What the kernel has in memory of a file goes on being served, so
 * it is made to forget.
 */
const REPLACE = `replaced=$(object $licences/GPL-2)
ln "$replaced" "$replaced.kept"
sed '1s/.*/REPLACED/' "$replaced" >"$replaced.new"
chmod --reference="$replaced" "$replaced.new"
mv "$replaced.new" "$replaced"
echo 3 >/proc/sys/vm/drop_caches
`;
const UNREPLACE = `replaced=$(object $licences/GPL-2)
mv "$replaced.kept" "$replaced"
echo 3 >/proc/sys/vm/drop_caches
head -n 1 $licences/GPL-2 | grep -v REPLACED >/dev/null
`;
const ETC_AND_BIND = `echo vm-renamed >/etc/hostname
printf 'export EVIL=1\\n' >/etc/profile.d/vm-evil.sh
printf '#!/bin/sh\\n' >/var/vm-evil
chmod 755 /var/vm-evil
mount --bind /var/vm-evil /usr/bin/tac
`;
const UNDO_ETC_AND_BIND = `umount /usr/bin/tac
rm /etc/profile.d/vm-evil.sh
echo vm >/etc/hostname
`;
const ETC_AND_BIND_SEEN: readonly Check[] = [
  nothingAbout('/etc/hostname'),
  is(
    'differences that are the machine’s own',
    ({ host }) => host.integrity.local,
    (_, { fresh }) => fresh.host.integrity.local + 1,
  ),
  found('etc-shell-start', '/etc/profile.d/vm-evil.sh'),
  found('mount-over-image', '/usr/bin/tac'),
  integrity('drifted', 'masked'),
];

const OVERLAYS: readonly Scene[] = [
  {
    what: '`ostree admin unlock`, and a program put into /usr',
    script: 'ostree admin unlock && cp /usr/bin/true /usr/bin/vm-planted',
    expect: [found('usr-unlocked', '/usr'), integrity('masked', 'drifted')],
  },
  {
    what: 'that overlay taken away; a system extension merged',
    script: `set -e
umount -l /usr
rm -f /run/ostree/deployment-state/*/unlocked-development
into=/var/lib/extensions/vm-extra/usr
mkdir -p $into/bin $into/lib/extension-release.d
echo ID=_any >$into/lib/extension-release.d/extension-release.vm-extra
cp /usr/bin/true $into/bin/vm-extra
systemd-sysext merge`,
    expect: [
      found('extension-merged', '/usr'),
      {
        what: 'the overlay is gone',
        look: (seen) => {
          const left = open(seen).filter(({ rule }) => rule === 'usr-unlocked');
          return [words(left), left.length === 0 ? null : 'expected none under usr-unlocked'];
        },
      },
      integrity('masked', 'drifted'),
    ],
  },
  {
    what: 'the extension taken away',
    script: 'systemd-sysext unmerge && rm -rf /var/lib/extensions/vm-extra',
    expect: AS_FRESH,
  },
];

const HOTFIX: Scene = {
  what: '`ostree admin unlock --hotfix`, a program put into /usr, `selinux=0` in the boot loader entry; then a reboot',
  script: `set -e
ostree admin unlock --hotfix
cp /usr/bin/true /usr/bin/vm-planted
mount -o remount,rw /boot
entry=$(ls /boot/loader/entries/*.conf | sort -V | tail -n 1)
sed -i '/^options /s/$/ selinux=0/' "$entry"`,
  reboot: true,
  expect: [found('usr-unlocked', '/usr'), found('kernel-integrity-off', 'selinux=0'), integrity('masked', 'drifted')],
};

export const SCENES: Readonly<Record<Mode, readonly Scene[]>> = {
  yes: [
    {
      what: 'objects of the repository written into, appended to and replaced; files of /etc; a file bound over a program',
      script: `${OBJECTS}mkdir -p /var/vm-kept
cp -a "$(object $licences/GPL-1)" /var/vm-kept/GPL-1
cp -a "$(object $licences/LGPL-2)" /var/vm-kept/LGPL-2
printf HACK | dd of="$(object $licences/GPL-1)" conv=notrunc status=none
echo MORE >>"$(object $licences/LGPL-2)"
${REPLACE}head -n 1 $licences/GPL-2 | grep REPLACED >/dev/null
${ETC_AND_BIND}`,
      expect: [found('usr-other', GPL1), found('usr-other', LGPL2), found('usr-other', GPL2), ...ETC_AND_BIND_SEEN],
    },
    {
      what: 'all of that undone',
      script: `${OBJECTS}cat /var/vm-kept/GPL-1 >"$(object $licences/GPL-1)"
cat /var/vm-kept/LGPL-2 >"$(object $licences/LGPL-2)"
${UNREPLACE}${UNDO_ETC_AND_BIND}`,
      expect: AS_FRESH,
    },
    ...OVERLAYS,
    HOTFIX,
    {
      what: 'back to the deployment without it, and a reboot',
      script: 'ostree admin set-default 1',
      reboot: true,
      expect: AS_FRESH,
    },
  ],
  verity: [
    {
      what: 'the same against fs-verity: writing into an object is refused by the kernel; one is replaced; files of /etc; a file bound over a program',
      script: `${OBJECTS}if printf HACK | dd of="$(object $licences/GPL-1)" conv=notrunc status=none; then echo 'an object with fs-verity was written'; exit 1; fi
${REPLACE}if cat $licences/GPL-2 >/dev/null; then echo 'an object without its fs-verity was served'; exit 1; fi
${ETC_AND_BIND}`,
      expect: [
        {
          what: `${GPL1}, which could not be written`,
          look: (seen) => {
            const about = open(seen).filter(({ subject }) => subject === GPL1);
            return [words(about), about.length === 0 ? null : 'expected none'];
          },
        },
        // The kernel gives no byte of it (EIO).
        found('path-unread', GPL2),
        ...ETC_AND_BIND_SEEN,
      ],
    },
    {
      what: 'all of that undone',
      script: `${OBJECTS}${UNREPLACE}${UNDO_ETC_AND_BIND}`,
      expect: AS_FRESH,
    },
    ...OVERLAYS,
    HOTFIX,
    {
      what: 'back to the deployment without it, a block of an object given another content on the disk itself, and a reboot',
      script: `${OBJECTS}rotten=$(object $licences/GPL-3)
block=$(filefrag -v "$rotten" | awk '$1 == "0:" {print $4 + 0}')
dd if=/dev/vda of=/var/vm-block bs=4096 skip="$block" count=1 status=none
echo "$block" >/var/vm-block-number
ostree admin set-default 1
sync
printf RAWHACK | dd of=/dev/vda bs=4096 seek="$block" conv=notrunc,fsync status=none`,
      reboot: true,
      expect: [found('path-unread', GPL3), integrity('unverifiable')],
    },
    {
      what: 'that block as it was',
      script: `set -e
dd if=/var/vm-block of=/dev/vda bs=4096 seek="$(cat /var/vm-block-number)" conv=notrunc,fsync status=none
echo 3 >/proc/sys/vm/drop_caches`,
      expect: AS_FRESH,
    },
  ],
};
