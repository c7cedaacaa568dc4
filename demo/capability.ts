/** Sets `security.capability` through node:ffi, as setcap(8) does; Node has no call of its own for it. */
import { dlopen } from 'node:ffi';

const { functions: libc } = dlopen(null, {
  lsetxattr: { arguments: ['buffer', 'string', 'buffer', 'uint64', 'int32'], return: 'int32' },
  __errno_location: { arguments: [], return: 'pointer' },
});

/** @throws an error with `code` EPERM where this user may not, ENOTSUP where the file system keeps no xattrs. */
export function setCapability(path: string, value: Uint8Array): void {
  const name = Buffer.from(`${path}\0`);
  if (libc.lsetxattr(name, 'security.capability', value, BigInt(value.length), 0) === 0) return;
  throw Object.assign(new Error(`setxattr ${path} was refused`), { code: 'EPERM' });
}
