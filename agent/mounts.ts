/** What is mounted over /usr and /etc of a root, as the host sees it and as the agent does. */
import { compareBytes, fromBytes, type ByteString } from '#src/bytes.ts';
import { parseMountinfo } from '#src/deployment/mountinfo.ts';
import { viewMounts, type MountView } from '#src/deployment/overlay.ts';
import { MOUNTINFO_BYTES_MAX } from '#src/limits.ts';
import { Look } from './look.ts';

/** The mounts that lie over /usr and /etc of the root (its real path), and at which of them the image is hidden. */
export async function lookAtMounts(
  look: Look,
  root: ByteString,
): Promise<{ readonly view: MountView | null; readonly masks: readonly ByteString[] }> {
  const read = async (path: ByteString): Promise<MountView | null> => {
    const mounts = await new Look('/', look.words).parsed(path, MOUNTINFO_BYTES_MAX, (bytes) =>
      parseMountinfo(fromBytes(bytes)),
    );
    return mounts && viewMounts(mounts, root);
  };
  const own = await read('/proc/self/mountinfo');
  // What cannot be told is a hole, not a clean tree.
  if (own === null) return { view: null, masks: ['/etc', '/usr'] };
  if (root !== '/') return { view: own, masks: masked(own) };
  // The host's own namespace is that of PID 1: a service with a sandbox of its own sees other mounts than the host.
  const host = await read('/proc/1/mountinfo');
  if (host === null) {
    look.words.push('the mounts are those of the agent (/proc/self/mountinfo): those of PID 1 cannot be read');
    return { view: own, masks: masked(own) };
  }
  if (JSON.stringify(host.root) !== JSON.stringify(own.root)) {
    look.words.push('PID 1 has another / than the agent: the mounts are those of the agent (/proc/self/mountinfo)');
    return { view: own, masks: masked(own) };
  }
  // What hides the image from either is a hole: the scan reads through the agent's mounts, the host through its own.
  const known = new Set(host.over.map((over) => JSON.stringify(over)));
  const more = own.over.filter((over) => !known.has(JSON.stringify(over)));
  const over = [
    ...host.over,
    ...more.map((one) => ({ ...one, detail: `${one.detail}; only in the mount namespace of the agent` })),
  ];
  const view = { ...host, over: over.sort((a, b) => compareBytes(a.path, b.path)) };
  return { view, masks: masked(view) };
}

/** The topmost of the paths that are hidden: what lies below one of them is hidden with it. */
function masked(view: MountView): ByteString[] {
  const paths = new Set(view.over.filter(({ masks }) => masks).map(({ path }) => path));
  const isBelowAnother = (path: ByteString): boolean => {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1))
      if (paths.has(path.slice(0, end))) return true;
    return false;
  };
  return [...paths].filter((path) => !isBelowAnother(path));
}
