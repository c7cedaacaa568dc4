/** /proc/PID/mountinfo (proc_pid_mountinfo(5)): the mounts of a namespace, and which of them can be seen. */
import { compareBytes, type ByteString } from '#src/bytes.ts';
import { MOUNTINFO_BYTES_MAX } from '#src/limits.ts';
import { checkLength, DeploymentError } from './error.ts';

export type Mount = {
  readonly id: number;
  readonly parent: number;
  /** `major:minor`. */
  readonly device: string;
  /** Which directory or file of the file system is shown; a bind mount shows another than `/`. Not always a path (`net:[1]`). */
  readonly root: ByteString;
  readonly point: ByteString;
  readonly fstype: string;
  readonly source: ByteString;
  /** Of this mount and of the file system: `rw` only where both are. */
  readonly writable: boolean;
  /** Options of the file system in their order, unescaped: `lowerdir+=/a` twice is two. */
  readonly options: readonly (readonly [name: string, value: ByteString])[];
};

/**
 * All mounts, in the order of the text.
 * @throws {DeploymentError} MOUNTINFO_SYNTAX with the line, HOST_TEXT_TOO_LARGE
 */
export function parseMountinfo(bytes: ByteString): Mount[] {
  checkLength('mountinfo', bytes.length, MOUNTINFO_BYTES_MAX);
  const mounts: Mount[] = [];
  for (const [index, line] of bytes.split('\n').entries()) {
    if (line === '') continue;
    const mount = parseLine(line);
    if (mount === undefined)
      throw new DeploymentError(
        'MOUNTINFO_SYNTAX',
        `line ${index + 1} of mountinfo is not as proc_pid_mountinfo(5) says`,
      );
    mounts.push(mount);
  }
  return mounts;
}

/** `id parent major:minor root point options [tags …] - fstype source superoptions`. */
function parseLine(line: ByteString): Mount | undefined {
  // No field can hold a space (they are octal), so the first lone hyphen after the six is the separator.
  const separator = line.indexOf(' - ');
  if (separator < 0) return undefined;
  const [id, parent, device, root, point, flags] = line.slice(0, separator).split(' ');
  const [fstype, source, ...rest] = line.slice(separator + 3).split(' ');
  if (flags === undefined || source === undefined || rest.length > 1) return undefined;
  const superFlags = rest[0] ?? '';
  if (!isCount(id) || !isCount(parent) || !/^\d{1,10}:\d{1,10}$/.test(device!) || !point!.startsWith('/'))
    return undefined;
  const options = superFlags.split(',').map((option) => {
    const equals = option.indexOf('=');
    return equals < 0
      ? ([unescapeOctal(option), ''] as const)
      : ([unescapeOctal(option.slice(0, equals)), unescapeOctal(option.slice(equals + 1))] as const);
  });
  return {
    id: Number(id),
    parent: Number(parent),
    device: device!,
    root: unescapeOctal(root!),
    point: unescapeOctal(point!),
    fstype: fstype!,
    source: unescapeOctal(source),
    writable: flags.split(',').includes('rw') && superFlags.split(',').includes('rw'),
    options,
  };
}

const isCount = (text: string | undefined): boolean => text !== undefined && /^\d{1,15}$/.test(text);

/** The kernel writes space, tab, newline, backslash and, in option values, comma as `\ooo`. */
function unescapeOctal(text: ByteString): ByteString {
  return text.includes('\\')
    ? text.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
    : text;
}

/** All values of an option of the file system, in their order. */
export function optionValues(mount: Mount, name: string): ByteString[] {
  return mount.options.flatMap(([key, value]) => (key === name ? [value] : []));
}

/** The layers of an overlay, topmost first, in both spellings (`lowerdir=a:b`, `lowerdir+=a`). */
export function lowerDirs(mount: Mount): ByteString[] {
  return [...optionValues(mount, 'lowerdir').flatMap((value) => value.split(':')), ...optionValues(mount, 'lowerdir+')];
}

/** Whether `path` is `folder` or lies below it. */
export function isWithin(path: ByteString, folder: ByteString): boolean {
  return path === folder || folder === '/' || (path.startsWith(folder) && path[folder.length] === '/');
}

/**
 * The mounts that a path can lead to: not those with another mount on top, over a folder above them, or over their parent.
 * Of two at one place the later is seen. Linear in the text save for one sort.
 */
export function visibleMounts(mounts: readonly Mount[]): Mount[] {
  const byId = new Map(mounts.map((mount) => [mount.id, mount]));
  // No parent: the first root of a boot is its own, and that of a chroot's mounts lies outside and is not listed.
  const parentOf = (mount: Mount) => (mount.parent === mount.id ? undefined : byId.get(mount.parent));
  const lost = new Set<Mount>();
  const stacked = new Set<Mount>();
  for (const [parent, siblings] of Map.groupBy(mounts, parentOf)) {
    for (const mount of overmounted(siblings)) lost.add(mount);
    if (parent !== undefined && siblings.some((mount) => mount.point === parent.point)) stacked.add(parent);
  }
  const reached = new Map<Mount, boolean>();
  for (const mount of mounts) {
    const chain: Mount[] = [];
    let at: Mount | undefined = mount;
    while (at !== undefined && !reached.has(at)) {
      reached.set(at, false); // until the chain is walked back; parents that go round in a circle stay unreached
      chain.push(at);
      at = parentOf(at);
    }
    let result = at === undefined || reached.get(at)!;
    for (const link of chain.reverse()) {
      result &&= !lost.has(link);
      reached.set(link, result);
    }
  }
  return mounts.filter((mount) => reached.get(mount) && !stacked.has(mount));
}

/** Of mounts on one parent: those over which, or over a folder above which, another lies. */
function overmounted(siblings: readonly Mount[]): Mount[] {
  // With `/` as 0x00 a folder stands right before what is below it. Sorting is stable: the later mount comes last.
  const sorted = siblings
    .map((mount) => ({ mount, key: mount.point === '/' ? '' : mount.point.replaceAll('/', '\0') }))
    .sort((a, b) => compareBytes(a.key, b.key));
  const out: Mount[] = [];
  let cover: ByteString | undefined;
  for (const [index, { mount }] of sorted.entries()) {
    const again = sorted[index + 1]?.mount.point === mount.point;
    if (again || (cover !== undefined && cover !== mount.point && isWithin(mount.point, cover))) out.push(mount);
    else cover = mount.point;
  }
  return out;
}
