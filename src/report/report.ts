/** The report document, version 1 (docs/report.md). What a host signs; strict, because we define it. */
import { z } from 'zod';
import { DigestJson } from '#src/manifest/json.ts';
import { parseInstant } from '#src/clock.ts';
import {
  CONTENT_BYTES_MAX,
  CONTENTS_MAX,
  DRIFT_LINES_MAX,
  DROPPED_RANGES_MAX,
  HOLES_MAX,
  PATH_BYTES_MAX,
  REPORT_LIST_MAX,
} from '#src/limits.ts';
import { OMISSIONS } from '#src/drift/contents.ts';
import { DriftJson, HOLE_KINDS, SECRET_STATES } from '#src/drift/drift.ts';
import { DeploymentState } from '#src/deployment/state.ts';
import { HostId } from '#src/wire/hostid.ts';
import { TICKET_LENGTH_MAX } from '#src/wire/ticket.ts';

/** Versions that this build writes and takes, highest first (PROTOCOL 3.1: N and N−1). */
export const REPORT_VERSIONS = [1] as const;
export const REPORT_PAYLOAD_TYPE = 'application/vnd.bootproof.report+json';

const Time = z
  .string()
  .refine((text) => parseInstant(text) !== undefined, 'expected RFC 3339 in UTC with milliseconds');
const Count = z.int().min(0);
const Name = {
  path: z.string().max(PATH_BYTES_MAX).optional(),
  path_b64: z
    .string()
    .max(2 * PATH_BYTES_MAX)
    .optional(),
};

const SEQ_MAX = 2 ** 48 - 1;

const Common = {
  version: z.literal(1),
  host: HostId,
  /** Rises by one with each report that the agent seals; what databases hold beside it needs the rest of 2^53. */
  seq: Count.min(1).max(SEQ_MAX),
  bootId: z.string().regex(/^[0-9a-f-]{36}$/),
  startedAt: Time,
  finishedAt: Time,
  /** The newest challenge that the agent held before the scan began, echoed; null where none was ever received. */
  challenge: z.string().max(TICKET_LENGTH_MAX).nullable(),
  /** The newest log checkpoint that the agent kept; null until the evidence log exists. */
  checkpoint: z.string().max(8192).nullable(),
  /** Sequence numbers that the bounded spool dropped before they were sent. */
  dropped: z
    .array(
      z
        .strictObject({ from: Count.min(1).max(SEQ_MAX), to: Count.min(1).max(SEQ_MAX) })
        .refine(({ from, to }) => from <= to, 'a range ends where it begins, or after'),
    )
    .max(DROPPED_RANGES_MAX),
};

const Digests = { main: DigestJson.nullable(), extra: DigestJson.nullable() };

export const TreeReport = z.strictObject({
  /** Of the comparison text; null where the tree has holes. */
  ...Digests,
  entries: Count,
  holes: z.array(z.strictObject({ ...Name, kind: z.enum(HOLE_KINDS), detail: z.string().max(400) })).max(HOLES_MAX),
  /** The hole list was cut: nothing below this tree may be resolved. */
  holesCapped: z.boolean(),
});

/** What policy needs of passwd and shadow, computed on the host (PROTOCOL 3.10): whether a password lets it in, a hash or none asked for at all, and never the hash. */
const Account = z.strictObject({
  name: z.string().max(256),
  uid: Count,
  gid: Count,
  shell: z.string().max(PATH_BYTES_MAX),
  hasPassword: z.boolean(),
});
export type Account = Readonly<z.infer<typeof Account>>;
/** Accounts that are not the image's; removed ones as the image has them, the others as they are now. */
export type Accounts = Readonly<Record<'added' | 'removed' | 'changed', readonly Account[]>>;

export const FullReport = z.strictObject({
  ...Common,
  kind: z.literal('full'),
  /** Digest of the envelope of the last full report; null for the first. */
  previous: DigestJson.nullable(),
  agent: z.strictObject({
    version: z.string().max(64),
    executable: DigestJson.nullable(),
    /** Digest of the effective configuration. */
    config: DigestJson,
  }),
  deployment: DeploymentState,
  /** What the trees were compared with; null where the server had no manifest yet. */
  manifest: z.strictObject({ image: DigestJson, rule: z.string().max(64) }).nullable(),
  /** The constant list of secret paths by its id, and what the site's configuration inside the image added to it. */
  secretPaths: z.strictObject({ id: z.string().max(64), added: z.array(z.string().max(PATH_BYTES_MAX)).max(100) }),
  trees: z.strictObject({ usr: TreeReport, etc: TreeReport }),
  drift: z.array(DriftJson).max(DRIFT_LINES_MAX),
  /** Totals by kind where the drift list was cut (PROTOCOL 3.8). */
  truncated: z.strictObject({ added: Count, removed: Count, modified: Count }).nullable(),
  secrets: z.array(z.strictObject({ ...Name, state: z.enum(SECRET_STATES) })).max(REPORT_LIST_MAX),
  accounts: z
    .strictObject({
      added: z.array(Account).max(REPORT_LIST_MAX),
      removed: z.array(Account).max(REPORT_LIST_MAX),
      changed: z.array(Account).max(REPORT_LIST_MAX),
    })
    .nullable(),
  /** Of the files listed as drift those that the configuration inside the image names (docs/report.md 1.12); null where it names none. */
  contents: z
    .array(
      z.union([
        z.strictObject({ ...Name, text: z.string().max(CONTENT_BYTES_MAX) }),
        z.strictObject({ ...Name, omitted: z.enum(OMISSIONS) }),
      ]),
    )
    .max(CONTENTS_MAX)
    .nullable(),
  stats: z.strictObject({
    files: Count,
    bytes: Count,
    seconds: z.number().min(0),
    peakRssBytes: Count,
    /** Entries whose digest came from a cache; null where there is no cache. */
    cached: Count.nullable(),
    /** Files that the kernel measured (fs-verity); absent where none was. */
    measured: Count.optional(),
  }),
  attestation: z.null(),
});
export type FullReport = z.infer<typeof FullReport>;

export const SameReport = z.strictObject({
  ...Common,
  kind: z.literal('same'),
  /** Digest of the envelope of the full report that still holds. */
  full: DigestJson,
  /** How often it has been said since that full: 1, 2, 3 … */
  count: Count.min(1),
  trees: z.strictObject({ usr: z.strictObject(Digests), etc: z.strictObject(Digests) }),
  /** Digest of the canonical deployment state. */
  state: DigestJson,
});
export type SameReport = z.infer<typeof SameReport>;

export const Report = z.discriminatedUnion('kind', [FullReport, SameReport]);
export type Report = z.infer<typeof Report>;
