/** One entry of a layer, as the archive has it. What an importer makes of it is said in ostree.ts, composefs.ts and oci.ts. */
import type { ByteString } from '#src/bytes.ts';

/** What an entry is; `global` is a PAX global header, which some importers take for an entry. */
export type TarType = 'file' | 'dir' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo' | 'global';

/** One entry of a layer. Compact: an image has some 100,000, and all rules are served from the same ones. */
export type TarEntry = {
  readonly layer: number;
  readonly type: TarType;
  /** The type byte, where it matters that a file is none of `0` and NUL. */
  readonly typeflag: number;
  /** As it stands in the archive, prefixes and trailing slash included. */
  readonly name: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Apparent size of a file, else 0. */
  readonly size: number;
  /** Of a file's content, hex; else ''. */
  readonly sha256: string;
  /** Target of a symlink or hard link, else ''. */
  readonly link: ByteString;
  /** `security.capability`, base64. */
  readonly capability: string | undefined;
  /** `major:minor` of a device. */
  readonly device: string | undefined;
  readonly flags: number;
  /** Of a PAX sparse file: the name of its header, by which ostree-ext places it before libarchive renames it. */
  readonly headerName: ByteString | undefined;
  /** The content of a small `prepare-root.conf`, or of an ostree object that looks like one. */
  readonly text: string | undefined;
};

/** Bits of `TarEntry.flags`. */
export const FLAG = {
  /** The header's own modification time is after 1970. */
  modified: 1,
  /** A PAX value with a newline byte. */
  paxNewline: 2,
  /** A PAX modification time that is negative or no number. */
  oddTime: 4,
  /** Extended attributes besides `security.capability`. */
  otherXattrs: 8,
  /** An extended attribute without a value. */
  emptyXattr: 16,
  /** Old GNU sparse (`S`). */
  sparseGnu: 32,
  /** PAX sparse, any version. */
  sparsePax: 64,
  /** An attribute `user.*`. */
  userXattr: 128,
  /** An attribute outside the namespaces that file systems know. */
  foreignXattr: 256,
  /** An attribute whose name or value the kernel takes on no file. */
  badXattr: 512,
  /** A PAX record that Go's archive/tar, and so umoci, takes for damaged. */
  oddForGo: 1024,
  /** A time or device number in the header that is none: umoci and composefs-rs take it for damaged. */
  oddNumber: 2048,
  /** A PAX key that is not UTF-8. */
  paxKey: 4096,
} as const;

/** Prefix of ostree objects in encapsulated layers (facts: ostree-ext REPO_PREFIX). */
export const OBJECTS = 'sysroot/ostree/repo/objects/';
