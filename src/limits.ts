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
