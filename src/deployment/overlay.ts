/**
 * Mounts at or below /usr and /etc, named: which of them belong to how such a host boots, and which lie over the image
 * (ostree, ostree-sysroot.c and otcore-prepare-root.c; bootc, crates/initramfs/src/lib.rs; systemd, sysext.c).
 */
import { compareBytes, type ByteString } from '#src/bytes.ts';
import { printable } from '#src/terminal.ts';
import { isWithin, lowerDirs, optionValues, visibleMounts, type Mount } from './mountinfo.ts';
import type { Overlay } from './state.ts';

/** A deployment as a path names it: `…/ostree/deploy/STATEROOT/deploy/CHECKSUM.SERIAL` or `…/state/deploy/VERITY`. */
export type DeploymentPath = {
  readonly backend: 'ostree' | 'composefs';
  readonly checksum: string;
  readonly serial: number | null;
  readonly stateroot: string | null;
  /** What stands before `/ostree` or `/state`: the path of the physical root, empty for `/`. */
  readonly sysroot: ByteString;
};

/** What serves `/` of the root that is looked at. */
export type RootMount = {
  readonly backend: 'ostree' | 'composefs' | 'unknown';
  /** ostree without composefs: the deployment that is shown. Composefs backend: the verity digest of its source. Else null. */
  readonly checksum: string | null;
  readonly serial: number | null;
  readonly stateroot: string | null;
  /** `verity=require`; null where a transient root lies over the mount that would tell. */
  readonly verity: boolean | null;
  readonly transient: boolean | null;
};

export type MountOver = {
  /** Inside the root: `/usr/bin/sudo`. */
  readonly path: ByteString;
  readonly kind: Overlay['kind'];
  readonly detail: string;
  readonly writable: boolean;
  /** Hides what the image put there. */
  readonly masks: boolean;
};

export type MountView = {
  readonly root: RootMount;
  /** The deployment whose /etc is shown, where it is a mount of its own. */
  readonly etc: DeploymentPath | null;
  /** Sorted by path. Expected mounts (the read-only /usr of hosts without composefs, the deployment's /etc) are not among them. */
  readonly over: readonly MountOver[];
};

/** Reads a deployment off the path of its folder; undefined for any other path. */
export function parseDeploymentPath(path: ByteString): DeploymentPath | undefined {
  const parts = path.split('/');
  const [name, deploy, third, fourth, fifth] = [parts.at(-1)!, parts.at(-2), parts.at(-3), parts.at(-4), parts.at(-5)];
  const ostree = /^([0-9a-f]{64})\.(\d{1,9})$/.exec(name);
  if (ostree && deploy === 'deploy' && fourth === 'deploy' && fifth === 'ostree')
    return {
      backend: 'ostree',
      checksum: ostree[1]!,
      serial: Number(ostree[2]),
      stateroot: third!,
      sysroot: parts.slice(0, -5).join('/'),
    };
  if (/^(?:[0-9a-f]{64}|[0-9a-f]{128})$/.test(name) && deploy === 'deploy' && third === 'state')
    return {
      backend: 'composefs',
      checksum: name,
      serial: null,
      stateroot: null,
      sysroot: parts.slice(0, -3).join('/'),
    };
  return undefined;
}

/** What the mounts of a namespace say of the root folder `root` (absolute, without symlinks). */
export function viewMounts(mounts: readonly Mount[], root: ByteString): MountView {
  const visible = visibleMounts(mounts);
  const under = visible.filter((mount) => isWithin(root, mount.point)).reduce(longest, undefined);
  // Where the root is a plain folder: its path in the file system, which may be that of a deployment.
  const base = under && join(under.root, below(root, under.point));
  const rootMount = describeRoot(under, base);
  const at = (path: ByteString) => visible.find((mount) => mount.point === join(root, path));
  const inside = visible
    .filter((mount) => mount.point !== root && isWithin(mount.point, root))
    .map((mount) => ({ mount, path: below(mount.point, root) }))
    .filter(({ path }) => isWithin(path, '/usr') || isWithin(path, '/etc'))
    .sort((a, b) => compareBytes(a.path, b.path));
  const place: Place = { under, base, rootMount, sysroot: at('/sysroot') };
  let etc: DeploymentPath | null = null;
  const over: MountOver[] = [];
  for (const { mount, path } of inside) {
    const own = path === '/etc' ? ownEtc(mount, place) : undefined;
    if (own) etc = own;
    else if (!(path === '/usr' && isSame(mount, path, place) && isDeployment(base) && !mount.writable))
      over.push({ path, writable: mount.writable, ...classify(mount, path, place) });
  }
  return { root: rootMount, etc, over };
}

type Place = {
  readonly under: Mount | undefined;
  readonly base: ByteString | undefined;
  readonly rootMount: RootMount;
  readonly sysroot: Mount | undefined;
};

const longest = (best: Mount | undefined, mount: Mount): Mount =>
  best !== undefined && best.point.length > mount.point.length ? best : mount;

/** `path` as seen from `folder`, which it lies in: `/` or `/a/b`. */
function below(path: ByteString, folder: ByteString): ByteString {
  return folder === '/' ? path : path.slice(folder.length) || '/';
}

function join(folder: ByteString, path: ByteString): ByteString {
  if (path === '/') return folder;
  return folder === '/' ? path : folder + path;
}

const isDeployment = (base: ByteString | undefined) =>
  base !== undefined && parseDeploymentPath(base)?.backend === 'ostree';

function describeRoot(under: Mount | undefined, base: ByteString | undefined): RootMount {
  const nothing = { checksum: null, serial: null, stateroot: null };
  if (under === undefined) return { backend: 'unknown', ...nothing, verity: null, transient: null };
  if (under.fstype === 'overlay' && base === '/') {
    const verity = optionValues(under, 'verity').includes('require');
    const transient = optionValues(under, 'upperdir').length > 0;
    // ostree names the mount `composefs`; bootc adds the digest of the EROFS, after a colon or, with a transient root, an equals sign.
    if (under.source === 'composefs') return { backend: 'ostree', ...nothing, verity, transient };
    const told = /^(transient:)?composefs[:=](?:[a-z0-9-]{1,32}:)?([0-9a-f]{128}|[0-9a-f]{64})$/.exec(under.source);
    if (told)
      return told[1] === undefined
        ? { backend: 'composefs', ...nothing, checksum: told[2]!, verity, transient }
        : { backend: 'composefs', ...nothing, checksum: told[2]!, verity: null, transient: true };
  }
  const deployment = parseDeploymentPath(base!);
  if (deployment?.backend !== 'ostree') return { backend: 'unknown', ...nothing, verity: null, transient: null };
  const { checksum, serial, stateroot } = deployment;
  return { backend: 'ostree', checksum, serial, stateroot, verity: false, transient: false };
}

/** It shows the very files that would be there without it: the same folder of the same file system, mounted again. */
function isSame(mount: Mount, path: ByteString, { under, base }: Place): boolean {
  return under !== undefined && mount.device === under.device && mount.root === join(base!, path);
}

/** The deployment's own /etc, bound over the image's: expected on every composefs root, and harmless on others. */
function ownEtc(mount: Mount, place: Place): DeploymentPath | undefined {
  if (!mount.root.endsWith('/etc')) return undefined;
  const deployment = parseDeploymentPath(mount.root.slice(0, -'/etc'.length));
  if (deployment === undefined) return undefined;
  if (isSame(mount, '/etc', place)) return deployment;
  const { rootMount, sysroot } = place;
  if (deployment.backend !== rootMount.backend) return undefined;
  // A folder of that name may lie anywhere, /var too: it must be right below the physical root.
  const where = sysroot === undefined ? '/' : sysroot.root;
  if (sysroot !== undefined && sysroot.device !== mount.device) return undefined;
  if (deployment.sysroot !== (where === '/' ? '' : where)) return undefined;
  if (rootMount.checksum !== null && rootMount.checksum !== deployment.checksum) return undefined;
  return deployment;
}

type Named = Pick<MountOver, 'kind' | 'detail' | 'masks'>;

function classify(mount: Mount, path: ByteString, place: Place): Named {
  const from = `${mount.device} ${printable(mount.root)} (${printable(mount.fstype)}, source ${printable(mount.source)})`;
  if (isSame(mount, path, place))
    return { kind: 'bind', detail: `the same folder mounted again, from ${from}`, masks: false };
  if (mount.root !== '/') return { kind: 'bind', detail: `from ${from}`, masks: true };
  if (mount.fstype === 'overlay') return classifyOverlay(mount, path, place);
  return { kind: 'other', detail: from, masks: true };
}

/** Whoever mounts an overlay chooses its source, so the layers must fit the name. */
function classifyOverlay(mount: Mount, path: ByteString, { rootMount }: Place): Named {
  const { source } = mount;
  const [upper] = optionValues(mount, 'upperdir');
  const lower = lowerDirs(mount);
  if (path === '/usr' && source === 'sysext') {
    const names = extensions(lower, '/run/systemd/sysext/extensions/', '/usr');
    if (names.length > 0) return { kind: 'sysext', detail: `system extensions ${names.join(', ')}`, masks: true };
  }
  if (path === '/etc' && source === 'confext') {
    const names = extensions(lower, '/run/systemd/confext/extensions/', '/etc');
    if (names.length > 0)
      return { kind: 'confext', detail: `configuration extensions ${names.join(', ')}`, masks: true };
  }
  if (upper !== undefined && path === '/usr') {
    if (upper === '.usr-ovl-upper')
      return { kind: 'hotfix', detail: 'ostree admin unlock --hotfix: outlasts reboots', masks: true };
    const unlocked = source === 'overlay' && lower.join() === 'usr' && /^\/proc\/self\/fd\/\d+\/upper$/.test(upper);
    if (unlocked || (rootMount.backend === 'composefs' && source === 'transient'))
      return {
        kind: 'usr-overlay',
        detail: `${unlocked ? 'ostree admin unlock' : 'bootc usr-overlay'}: gone after a reboot${mount.writable ? '' : ', read-only mount'}`,
        masks: true,
      };
  }
  if (upper !== undefined && path === '/etc') {
    // What one sees there is the /etc in force, and it is scanned: nothing is hidden.
    if (upper.startsWith('/run/ostree/transient-etc.') || (rootMount.backend === 'composefs' && source === 'transient'))
      return { kind: 'transient-etc', detail: '/etc begins anew from the image at each boot', masks: false };
    if (rootMount.backend === 'composefs' && source === 'overlay')
      return { kind: 'state-overlay', detail: '/etc is an overlay over that of the image', masks: false };
  }
  if (upper?.includes('/ostree/state-overlays/'))
    return { kind: 'state-overlay', detail: `changes are kept in ${printable(upper)}`, masks: true };
  const layers = [
    ...lower.map((dir) => `lower ${printable(dir)}`),
    ...(upper === undefined ? [] : [`upper ${printable(upper)}`]),
  ];
  return { kind: 'other', detail: `overlay, source ${printable(source)}: ${layers.join(', ')}`, masks: true };
}

/** Names of merged extensions, topmost first: the folder before `tail` below `head`. */
function extensions(lower: readonly ByteString[], head: string, tail: string): string[] {
  return lower.flatMap((dir) => {
    const name = dir.startsWith(head) && dir.endsWith(tail) ? dir.slice(head.length, dir.length - tail.length) : '';
    return name === '' ? [] : [printable(name)];
  });
}
