/** Extended attributes that the kernel does not set: importers that write files fail on them (xattr(7), linux/capability.h). */
import { fromBase64 } from '#src/bytes.ts';
import { BackendError, entryAt } from './refusal.ts';
import { FLAG, type TarEntry } from './tarentry.ts';

/**
 * Whether an importer could write the attributes of an entry. `strict`: it fails on namespaces that the file system does not know.
 * @throws {BackendError} CAPABILITY_INVALID, XATTR_INVALID.
 */
export function checkXattrs(entry: TarEntry, strict: boolean): void {
  const { capability, flags, type } = entry;
  if (capability !== undefined && !isCapability(capability))
    throw new BackendError('CAPABILITY_INVALID', `${entryAt(entry)}: the kernel takes no such security.capability`);
  const invalid = (why: string): BackendError => new BackendError('XATTR_INVALID', `${entryAt(entry)}: ${why}`);
  if ((flags & FLAG.badXattr) !== 0) throw invalid('an extended attribute whose name or value no file system takes');
  if ((flags & FLAG.userXattr) !== 0 && type !== 'file' && type !== 'dir')
    throw invalid(`an extended attribute user.*, which the kernel does not take on a ${type}`);
  if (strict && (flags & FLAG.foreignXattr) !== 0)
    throw invalid('an extended attribute outside user, trusted, security and system, which no file system takes');
}

/** Whether the kernel takes this value of `security.capability`: revision 2 in 20 bytes, 3 in 24; base64. */
function isCapability(base64: string): boolean {
  const bytes = fromBase64(base64);
  return (bytes.length === 20 && bytes[3] === 2) || (bytes.length === 24 && bytes[3] === 3);
}
