/** From a report to what travels: canonical JSON, signed (docs/report.md 2), and when a `same` may be sent instead (1.4). */
import { digestOf, type Digest, type Sha256 } from '#src/digest.ts';
import type { DeploymentState } from '#src/deployment/state.ts';
import { driftFromJson, driftJson } from '#src/drift/drift.ts';
import { DriftList } from '#src/drift/compare.ts';
import { REPORT_BYTES_MAX } from '#src/limits.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { envelopeDigest, printEnvelope, signEnvelope } from '#src/signing/dsse.ts';
import type { Signer } from '#src/signing/ed25519.ts';
import { REPORT_PAYLOAD_TYPE, type FullReport, type Report, type SameReport } from './report.ts';

export type Sealed = {
  /** The envelope as it is posted: ASCII. */
  readonly text: string;
  readonly digest: Digest;
};

/** Signs a report with the host's key. The report must be within its schema and `REPORT_BYTES_MAX` (`fitReport`). */
export async function sealReport(report: Report, signer: Signer, hash?: Sha256): Promise<Sealed> {
  const text = printEnvelope(await signEnvelope(REPORT_PAYLOAD_TYPE, canonicalJson(report), signer));
  return { text, digest: envelopeDigest(text, hash) };
}

/** docs/report.md 1.5. */
export function stateDigest(state: DeploymentState, hash?: Sha256): Digest {
  return digestOf(utf8(canonicalJson(state)), hash);
}

/**
 * Digest of everything that a `same` says has not changed (docs/report.md 1.4). Two full reports with one content digest differ in
 * nothing but time, place in the chain and what the scan cost.
 */
export function contentDigest(report: FullReport, hash?: Sha256): Digest {
  const {
    seq: _seq,
    bootId: _bootId,
    startedAt: _startedAt,
    finishedAt: _finishedAt,
    challenge: _challenge,
    checkpoint: _checkpoint,
    dropped: _dropped,
    previous: _previous,
    stats: _stats,
    ...content
  } = report;
  return digestOf(utf8(canonicalJson(content)), hash);
}

/** A full report that was accepted, as far as a later `same` leans on it. */
export type AcceptedFull = { readonly envelope: Digest; readonly content: Digest; readonly sameCount: number };

/** The `same` that may stand for `next`, or undefined where something changed or nothing was accepted yet. */
export function sameInstead(next: FullReport, accepted: AcceptedFull | null, hash?: Sha256): SameReport | undefined {
  if (accepted === null || contentDigest(next, hash) !== accepted.content) return undefined;
  const { version, host, seq, bootId, startedAt, finishedAt, challenge, checkpoint, dropped } = next;
  const digests = ({ main, extra }: FullReport['trees']['usr']) => ({ main, extra });
  const common = { version, host, seq, bootId, startedAt, finishedAt, challenge, checkpoint, dropped };
  return {
    ...common,
    kind: 'same',
    full: accepted.envelope,
    count: accepted.sameCount + 1,
    trees: { usr: digests(next.trees.usr), etc: digests(next.trees.etc) },
    state: stateDigest(next.deployment, hash),
  };
}

/**
 * Brings a report below `REPORT_BYTES_MAX`. Its parts have bounds of their own, but names of thousands of bytes in every part together
 * may pass it; then each long list is cut to half until it fits, and says so.
 */
export function fitReport(report: FullReport): FullReport {
  let fitted = report;
  // What helps people goes before what judges.
  if (jsonBytes(fitted) > REPORT_BYTES_MAX) fitted = { ...fitted, contents: withoutTexts(fitted.contents) };
  while (jsonBytes(fitted) > REPORT_BYTES_MAX) {
    const { drift, secrets, trees } = fitted;
    const held = drift.length + secrets.length + trees.usr.holes.length + trees.etc.holes.length;
    fitted = {
      ...fitted,
      ...halveDrift(fitted),
      trees: { usr: halveHoles(trees.usr), etc: halveHoles(trees.etc) },
      secrets: secrets.slice(0, Math.floor(secrets.length / 2)),
      accounts: null,
    };
    fitted = { ...fitted, contents: listedOnly(fitted) };
    // What is left then has bounds far below the report's.
    if (held <= 2) throw new Error('a report without lists is larger than a report may be');
  }
  return fitted;
}

function withoutTexts(contents: FullReport['contents']): FullReport['contents'] {
  return contents && contents.map(({ path, path_b64 }) => ({ ...nameOf(path, path_b64), omitted: 'limit' as const }));
}

/** A content goes with its line of drift (docs/report.md 3.4.6). */
function listedOnly({ contents, drift }: FullReport): FullReport['contents'] {
  const key = ({ path, path_b64 }: { path?: string | undefined; path_b64?: string | undefined }): string =>
    path === undefined ? `b ${path_b64}` : `t ${path}`;
  const listed = new Set(drift.map(key));
  return contents && contents.filter((content) => listed.has(key(content)));
}

const nameOf = (path: string | undefined, path_b64: string | undefined) => ({
  ...(path === undefined ? {} : { path }),
  ...(path_b64 === undefined ? {} : { path_b64 }),
});

function halveHoles(tree: FullReport['trees']['usr']): FullReport['trees']['usr'] {
  const holes = tree.holes.slice(0, Math.ceil(tree.holes.length / 2));
  return { ...tree, holes, holesCapped: tree.holesCapped || holes.length < tree.holes.length };
}

function halveDrift(report: FullReport): Pick<FullReport, 'drift' | 'truncated'> {
  if (report.drift.length === 0) return report;
  const list = new DriftList(Math.floor(report.drift.length / 2));
  for (const json of report.drift) list.add(driftFromJson(json)!);
  // Of a list that was cut before, the totals are in the report already.
  return { drift: list.list().map(driftJson), truncated: report.truncated ?? list.truncated() };
}

const encoder = new TextEncoder();
const jsonBytes = (report: FullReport): number => encoder.encode(canonicalJson(report)).length;
const utf8 = (text: string): Uint8Array => encoder.encode(text);
