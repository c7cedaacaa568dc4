/** Every bound with its reason. What we write stays far below; what we accept ends here. */

/** Linux PATH_MAX is 4096 with the NUL; a tar name beyond it cannot exist on any host. */
export const PATH_BYTES_MAX = 4095;

/** Depth of folders in an image; a path of 4,095 bytes cannot have more components. */
export const PATH_DEPTH_MAX = 2048;

/** Report payload, decoded (PROTOCOL 3.8). */
export const REPORT_BYTES_MAX = 8 * 1024 * 1024;

/** Drift lines in one report (PROTOCOL 3.8); beyond it the report says `truncated`. */
export const DRIFT_LINES_MAX = 20_000;

/** Holes named in one report; beyond it the list is capped and resolves nothing (PROTOCOL 3.9). */
export const HOLES_MAX = 2_000;

/** Entries of secrets, mounts and the like in one report: far above any real host. */
export const REPORT_LIST_MAX = 2_000;

/** Request bodies inflated at once: as many as the thread pool has threads by default; each may hold a whole report. */
export const INFLATE_CONCURRENCY_MAX = 4;

/** zstd window of request bodies, as a power of two: 8 MiB is the most that a report can use. */
export const ZSTD_WINDOW_LOG_MAX = 23;

/** Bounds on what an image may make us do. Handed in, so that a site can lower or raise them. */
export type ImageLimits = {
  /** Decompressed bytes of one layer. */
  readonly layerBytes: number;
  /** Decompressed over compressed bytes of one layer, looked at once 16 MiB have come out. */
  readonly layerRatio: number;
  /** Entries of one layer. */
  readonly layerEntries: number;
  /** Bytes of one PAX header or GNU long name. */
  readonly paxBytes: number;
  /** Bytes of names, link targets and capabilities held of one layer. */
  readonly heldBytes: number;
  /** Apparent size of one file; sparse holes count. */
  readonly fileBytes: number;
  /** Pieces of data in one sparse file. */
  readonly sparsePieces: number;
  /** Paths in the merged tree, those included that no entry names. */
  readonly treeNodes: number;
  /** Bytes of all paths of the merged tree. */
  readonly treePathBytes: number;
};

export const IMAGE_LIMITS: ImageLimits = {
  // Ten times the largest bootc image that we know of, in one layer.
  layerBytes: 64 * 2 ** 30,
  // Deflate cannot exceed 1,032; zstd can make gigabytes of kilobytes. Real layers stay below 10, zero-filled ones below 200.
  layerRatio: 1000,
  // A bootc image has 40,000 to 100,000 paths in all.
  layerEntries: 1_000_000,
  // Above any real set of xattrs; the kernel's own limit is 64 KiB a value.
  paxBytes: 2 ** 20,
  // A million entries of 256 bytes.
  heldBytes: 256 * 2 ** 20,
  // Holes cost hashing time and no bytes: at 1 GB/s this is a minute.
  fileBytes: 64 * 2 ** 30,
  // GNU tar writes one for each run of data; 4 MiB of map.
  sparsePieces: 65_536,
  treeNodes: 2_000_000,
  // Names of 4,095 bytes that share nothing make 2,000 parents each: bytes of paths, not of names, are what a tree costs.
  treePathBytes: 512 * 2 ** 20,
};
