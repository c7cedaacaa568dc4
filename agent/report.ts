/** What was observed and scanned, as the document that the host signs (docs/report.md 1). Pure. */
import { formatInstant, type Instant } from '#src/clock.ts';
import type { Digest } from '#src/digest.ts';
import { driftJson, type Hole } from '#src/drift/drift.ts';
import { SECRET_PATHS_ID } from '#src/drift/redact.ts';
import { nameJson } from '#src/manifest/json.ts';
import type { FullReport } from '#src/report/report.ts';
import type { Observed } from './observe.ts';
import type { Scan, TreeScan } from './scan.ts';

/** The report's place: what the chain and the server's last answer give. */
export type Place = Pick<FullReport, 'host' | 'seq' | 'previous' | 'challenge' | 'checkpoint' | 'dropped'>;

export type Made = {
  readonly observed: Observed;
  readonly scan: Scan;
  readonly startedAt: Instant;
  readonly finishedAt: Instant;
  readonly agent: FullReport['agent'];
  /** What the scan compared with; null where there was no manifest. */
  readonly manifest: { readonly image: Digest; readonly rule: string } | null;
  /** The site's own secret globs. */
  readonly secretPaths: readonly string[];
  /** Globs of files whose content may leave; without one nothing does. */
  readonly contents: readonly string[];
};

/** Where the kernel does not tell its boot id. */
const NO_BOOT_ID = '00000000-0000-0000-0000-000000000000';
const DETAIL_MAX = 400;

export function fullReport(place: Place, made: Made): FullReport {
  const { observed, scan } = made;
  return {
    version: 1,
    kind: 'full',
    ...place,
    bootId: observed.bootId ?? NO_BOOT_ID,
    startedAt: formatInstant(made.startedAt),
    finishedAt: formatInstant(made.finishedAt),
    agent: made.agent,
    deployment: observed.state,
    manifest: made.manifest,
    secretPaths: { id: SECRET_PATHS_ID, added: [...made.secretPaths] },
    trees: { usr: treeReport(scan.trees.usr), etc: treeReport(scan.trees.etc) },
    drift: scan.drift.map(driftJson),
    truncated: scan.truncated,
    secrets:
      made.manifest === null ? [] : scan.secrets.map(({ path, state }) => ({ ...nameJson('path', path), state })),
    accounts: scan.accounts && {
      added: [...scan.accounts.added],
      removed: [...scan.accounts.removed],
      changed: [...scan.accounts.changed],
    },
    contents:
      made.contents.length === 0
        ? null
        : scan.contents.map(({ path, ...content }) => ({ ...nameJson('path', path), ...content })),
    stats: reportedStats(scan.stats),
    attestation: null,
  };
}

/** How many were read follows from the others. Servers that tell no digests to measure by do not know the field, either. */
function reportedStats(stats: Scan['stats']): FullReport['stats'] {
  const { files, bytes, seconds, peakRssBytes, cached, measured } = stats;
  return { files, bytes, seconds, peakRssBytes, cached, ...(measured === 0 ? {} : { measured }) };
}

function treeReport({ main, extra, entries, holes, holesCapped }: TreeScan): FullReport['trees']['usr'] {
  return { main, extra, entries, holes: holes.map(holeReport), holesCapped };
}

function holeReport({ path, kind, detail }: Hole): FullReport['trees']['usr']['holes'][number] {
  return { ...nameJson('path', path), kind, detail: detail.slice(0, DETAIL_MAX).toWellFormed() };
}
