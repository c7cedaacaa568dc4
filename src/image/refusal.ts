/** Why a backend cannot deploy an image that is readable as such, and what a host loses or changes silently. */
import type { ByteString } from '#src/bytes.ts';
import { BootproofError } from '#src/error.ts';
import { WARNINGS_OF_A_KIND_MAX } from '#src/limits.ts';
import type { ManifestWarning } from '#src/manifest/header.ts';
import { nameJson } from '#src/manifest/json.ts';
import { printable } from '#src/terminal.ts';

/** Codes: docs/errors.md, "Image refusals". */
export type RefusalCode =
  | 'NOT_UTF8'
  | 'DOTDOT'
  | 'ROOT_ENTRY'
  | 'DEVICE_IN_TREE'
  | 'FIFO_IN_TREE'
  | 'TYPE_UNSUPPORTED'
  | 'SPARSE_UNSUPPORTED'
  | 'GLOBAL_HEADER'
  | 'PAX_NEWLINE'
  | 'PAX_TIME'
  | 'PAX_UNREADABLE'
  | 'HEADER_NUMBER'
  | 'CAPABILITY_INVALID'
  | 'XATTR_INVALID'
  | 'PARENT_MISSING'
  | 'PARENT_NOT_DIRECTORY'
  | 'TYPE_CONFLICT'
  | 'SYMLINK_LOOP'
  | 'HARDLINK_TARGET_MISSING'
  | 'HARDLINK_TARGET_DIRECTORY'
  | 'HARDLINK_TARGET_OUTSIDE'
  | 'WHITEOUT_NAME'
  | 'OVERLAY_WHITEOUT_CONFLICT'
  | 'MEMBER_CUT'
  | 'END_BLOCK_MISSING'
  | 'MEDIA_TYPE_UNSUPPORTED'
  | 'DOCKER_MEDIA_TYPES'
  | 'DIFFID_MISMATCH'
  | 'BASE_LABEL_MISSING'
  | 'BASE_LABEL_UNKNOWN'
  | 'BASE_COMMIT_MISSING'
  | 'BASE_OBJECT_MISSING'
  | 'PREPARE_ROOT_SYNTAX'
  | 'USR_MISSING'
  | 'USR_NOT_DIRECTORY'
  | 'ETC_TWICE'
  | 'ETC_NOT_DIRECTORY'
  | 'TREE_LIMIT';
export class BackendError extends BootproofError<RefusalCode> {}

/** Codes: docs/errors.md, "Manifest warnings". */
export type WarningCode =
  | 'DIFFID_MISMATCH'
  | 'GZIP_MEMBERS_LOST'
  | 'ZSTD_FRAMES_LOST'
  | 'PARENT_STAMPED'
  | 'PARENT_MADE'
  | 'PARENT_REPLACED'
  | 'DIRECTORY_KEPT'
  | 'OPAQUE_RESET'
  | 'MARKER_ORDER'
  | 'MARKER_KEPT'
  | 'MARKER_EMPTY'
  | 'OVERLAY_WHITEOUT'
  | 'TOPLEVEL_DROPPED'
  | 'SYSROOT_LINK_DROPPED'
  | 'SYMLINK_REWRITTEN'
  | 'SYMLINK_MODE'
  | 'SYMLINK_FOLLOWED'
  | 'SPARSE_MISREAD'
  | 'SPARSE_UNPORTABLE'
  | 'XATTR_LOST'
  | 'XATTR_EMPTY'
  | 'DEBRIS_REMOVED'
  | 'KERNEL_MISSING'
  | 'BOOT_DIRECTORY_MISSING';

/** What is told of an image under one rule. Of one code and layer only the first are told one by one. */
export class Warnings {
  readonly #list: ManifestWarning[] = [];
  readonly #counts = new Map<string, number>();

  add(code: WarningCode, layer: number | null, message: string, path?: ByteString): void {
    const key = `${code} ${layer}`;
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, count);
    if (count > WARNINGS_OF_A_KIND_MAX) return;
    this.#list.push({
      code,
      layer,
      ...(path === undefined ? {} : nameJson('path', path)),
      message: message.slice(0, 2000),
    });
  }

  /** By layer, then as they arose, what belongs to none at the end. */
  list(): ManifestWarning[] {
    for (const [key, count] of this.#counts) {
      const more = count - WARNINGS_OF_A_KIND_MAX;
      if (more <= 0) continue;
      const [code, layer] = key.split(' ') as [string, string];
      this.#list.push({
        code,
        layer: layer === 'null' ? null : Number(layer),
        message: `and ${more} more of this kind`,
      });
    }
    return this.#list.sort((a, b) => (a.layer ?? Number.MAX_SAFE_INTEGER) - (b.layer ?? Number.MAX_SAFE_INTEGER));
  }
}

/** What is at fault: an entry of the archive, or a path of the tree and the layer that it comes from. */
export type Blamed = { readonly layer: number; readonly name: ByteString };

/** `layer 2: usr/x`, as every message about an entry begins. */
export function entryAt(entry: Blamed): string {
  return `layer ${entry.layer}: ${shortName(entry.name)}`;
}

const SHOWN_BYTES_MAX = 300;

/** A name for a message: the beginning of a long one, not cut inside a character. */
export function shortName(name: ByteString): string {
  if (name.length <= SHOWN_BYTES_MAX) return printable(name);
  let end = SHOWN_BYTES_MAX;
  while (end > SHOWN_BYTES_MAX - 4 && (name.charCodeAt(end) & 0xc0) === 0x80) end--;
  return `${printable(name.slice(0, end))}…`;
}
