/**
 * One host's newest full report → what it changes: findings, standing, rule (PROTOCOL 2.2, 5). Called for a report on arrival and
 * by jobs for the last report that is kept; reads the store, writes nothing.
 */
import { hash } from 'node:crypto';
import type { Instant } from '#src/clock.ts';
import { compareTexts } from '#src/drift/compare.ts';
import { totalsOf, type Drift } from '#src/drift/drift.ts';
import { applyDrift } from '#src/drift/recompute.ts';
import { comparisonText } from '#src/drift/redact.ts';
import { groupOf } from '#src/finding/group.ts';
import { advance, type Cause, type Held } from '#src/finding/lifecycle.ts';
import { backendOf, type Rule } from '#src/image/backend.ts';
import { TREES, treeOf, type TreeName } from '#src/manifest/entry.ts';
import { freshnessOf, type Policy } from '#src/policy/document.ts';
import {
  evaluate,
  type Evaluation,
  type Evidence,
  type ManifestState,
  type Seen,
  type Silence,
  type Untold,
} from '#src/policy/evaluate.ts';
import {
  SEVERITIES,
  type Detail,
  type Judgement,
  type JudgementKind,
  type ReportFlag,
  type Weight,
} from '#src/policy/judgement.ts';
import {
  checkConsistency,
  readContents,
  withoutCapabilities,
  type Consistency,
  type Contents,
} from '#src/report/contradict.ts';
import type { Refused } from '#src/report/refusal.ts';
import type { FullReport } from '#src/report/report.ts';
import { CLOCK_SKEW_MS } from '#src/limits.ts';
import type { FindingChange, FindingWithGroup, Host, Severity } from '#server/store/records.ts';
import type { Lineage } from '#server/store/policyrecords.ts';
import type { HostWrite, Store } from '#server/store/store.ts';
import { hostFactsOf } from '#server/hostfacts.ts';
import type { Policies } from '#server/policies.ts';
import { decideOn, standingBy, standingOf, type KnownWaivers, type Standing } from '#server/exempt.ts';
import { standingFrom } from '#server/standing.ts';
import { onHost, type ProvenanceFacts } from '#server/trust/provenance.ts';
import { whyNoManifest, type Known, type KnownImages, type ReadyImage, type Ruled } from './known.ts';
import { ageOf, lineageOf, type KnownDefaults, type TagFacts, type Told as LineageTold } from './lineage.ts';

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** A full report with what was found out about it before the host's chain was looked at: it depends on no other report. */
export type Examined = {
  readonly kind: 'examined';
  readonly report: FullReport;
  readonly contents: Contents;
  readonly known: Known;
  readonly consistency: Consistency;
};

/** What a finding keeps for people and for the verdict: the judgement's own words and its evidence. */
export type FindingDetail = Detail & {
  readonly reason: string;
  readonly verdict: Weight;
  readonly controls: readonly string[];
};

/** Check 7 of docs/report.md for a full report, and what it needs: contents, the booted image, consistency. */
export async function examine(report: FullReport, images: KnownImages): Promise<Examined | Refused> {
  const contents = readContents(report);
  if (contents.kind === 'refused') return contents;
  const known = await images.resolve(report.deployment.booted?.image?.digest ?? null);
  const ready = known.kind === 'ready' ? known.image : undefined;
  const about = { manifest: ready && comparedWith(report, ready), booted: ready?.digest };
  const consistency = await checkConsistency(report, contents, about, sha256);
  return consistency.kind === 'refused' ? consistency : { kind: 'examined', report, contents, known, consistency };
}

function comparedWith(report: FullReport, image: ReadyImage): Ruled | undefined {
  const { manifest } = report;
  if (manifest === null) return undefined;
  return image.manifests.find(({ header }) => header.image === manifest.image && header.rule === manifest.rule);
}

/** What stands against a host's identity or chain, as of now. */
export type Doubts = {
  readonly forked: boolean;
  readonly cloned: boolean;
  readonly gap: 'none' | 'stated' | 'unstated';
};

export type Occasion = {
  readonly host: Host;
  readonly doubts: Doubts;
  /** Null where it could not be told. */
  readonly skewMs: number | null;
  readonly silence: Silence;
  readonly at: Instant;
  readonly cause: Cause;
};

export type Judged = Required<Pick<HostWrite, 'findings' | 'standing' | 'disposals' | 'waiverStamp'>> &
  Pick<HostWrite, 'rule' | 'lineage'>;

/** The policy that judges, as it is when it is asked. */
export type JudgingPolicies = Pick<Policies, 'current' | 'version'>;

export type JudgeDeps = {
  readonly store: Pick<Store, 'findings' | 'lineages'>;
  readonly waivers: KnownWaivers;
  readonly policies: JudgingPolicies;
};

/** Who built the image that a host names. */
export type Provenances = { of(reported: string | null): Promise<{ readonly facts: ProvenanceFacts }> };

/** What of the occasion the evidence is made of. */
export type Circumstances = Pick<Occasion, 'doubts' | 'skewMs' | 'silence' | 'at'> & {
  readonly host: Pick<Host, 'labels' | 'group'>;
  /** As it is stored; null where nothing is yet. */
  readonly lineage: Lineage | null;
  /** When the host was heard before; absent where nothing is kept of the judgement. */
  readonly heardAt?: Instant | null;
};

/** What a report and the server's knowledge give to judge, whatever the policy; with what else its judgement needs. */
export async function evidenceOf(
  examined: Examined,
  occasion: Circumstances,
  deps: {
    readonly images: KnownImages;
    readonly defaults: KnownDefaults;
    readonly trust: Provenances;
    /** Where the tag leads that a host claims to follow; absent where nobody asks. */
    readonly tag?: (claim: string) => Promise<TagFacts | null>;
  },
): Promise<{
  readonly evidence: Evidence;
  readonly basis: Basis;
  readonly signed: ProvenanceFacts;
  /** Where it is another than the stored one. */
  readonly lineage: Lineage | undefined;
}> {
  const { report, contents, consistency, known } = examined;
  const basis = await basisOf(examined, deps.images);
  const { facts: signed } = await deps.trust.of(report.deployment.booted?.image?.digest ?? null);
  const untold = untoldOf(examined);
  const booted = known.kind === 'ready' ? known.image.digest : (report.deployment.booted?.image?.digest ?? null);
  const { lineage, evidence: past } = await lineageOf(
    occasion.lineage,
    { ...toldBy(examined, basis, booted), heardAt: occasion.heardAt ?? null },
    occasion.at,
    deps,
  );
  const tag = await tagTold(report, deps.tag);
  const evidence: Evidence = {
    manifest: basis.state,
    drift: basis.drift,
    secrets: contents.secrets,
    trees: {
      usr: { holes: contents.holes.usr, holesCapped: report.trees.usr.holesCapped },
      etc: { holes: contents.holes.etc, holesCapped: report.trees.etc.holesCapped },
    },
    truncated: report.truncated,
    deployment: report.deployment,
    flags: flagsOf(occasion.doubts, consistency),
    skewMs: occasion.skewMs,
    silence: occasion.silence,
    ...(basis.variant === undefined ? {} : { variant: basis.variant }),
    ...(untold.length === 0 ? {} : { untold }),
    ...(signed.evidence === undefined ? {} : { provenance: onHost(signed.evidence, report.deployment) }),
    host: hostFactsOf(occasion.host, known.kind === 'ready' ? known.image : undefined),
    accounts: report.accounts,
    ...(past === undefined ? {} : { lineage: past }),
    ...(known.kind === 'ready' ? { age: ageOf(known.image, tag, occasion.at) } : {}),
  };
  return { evidence, basis, lineage, signed };
}

/** A report under a policy, before it is held against what was found on the host before. Plain data: it may come from another thread. */
export type Evaluated = Pick<Evaluation, 'judgements' | 'facts' | 'seen'> & {
  readonly signed: ProvenanceFacts;
  readonly rule: string | null;
  readonly drift: Host['standing']['drift'];
  readonly booted: string | null;
  readonly lineage: Lineage | undefined;
  /** Trees that were read, but for their capabilities. */
  readonly blind: readonly TreeName[];
};

export async function evaluateReport(
  examined: Examined,
  occasion: Circumstances,
  policy: Policy,
  deps: Parameters<typeof evidenceOf>[2],
): Promise<Evaluated> {
  const { report } = examined;
  // Nobody talks to a registry about tags unless policy asks.
  const { tag, ...rest } = deps;
  const asks = freshnessOf(policy, hostFactsOf(occasion.host)).behindTagAfter !== null;
  const { evidence, basis, lineage, signed } = await evidenceOf(
    examined,
    occasion,
    asks && tag !== undefined ? { ...rest, tag } : rest,
  );
  const { judgements, facts, seen } = evaluate(evidence, policy);
  return {
    judgements,
    facts,
    seen,
    signed,
    rule: basis.rule,
    drift: basis.state.state === 'ready' ? (report.truncated ?? totalsOf(basis.drift)) : null,
    booted: report.deployment.booted?.image?.digest ?? null,
    lineage,
    blind: TREES.filter((tree) => isBlind(report, tree)),
  };
}

/** `policies`: those that it was evaluated under. */
export async function judge(evaluated: Evaluated, occasion: Occasion, deps: JudgeDeps): Promise<Judged> {
  const { judgements, facts, seen, signed, rule, drift } = evaluated;
  const { host, at } = occasion;
  const { current: policy, version } = deps.policies;
  const present = await deps.store.findings.present(host.id);
  const changes = advance(present.map(heldOf), judgements, seenWithout(evaluated, seen, present), occasion.cause);
  const findings: FindingChange[] = [
    ...changes.opened.map(({ judgement }) => presentChange(judgement)),
    ...changes.reopened.map(({ judgement }) => presentChange(judgement)),
    ...changes.resolved.map(({ held, reason }) => ({ kind: 'absent', groupId: held.group, reason }) as const),
    ...rerated(changes.rerated, judgements),
  ];
  const gone = new Set(changes.resolved.map(({ held }) => held.group));
  const reaching = await deps.waivers.reaching(host, evaluated.booted);
  const decided = await decideOn(findingsAfter(present, gone, judgements), reaching);
  const standing = standingFrom(host, {
    facts,
    findings: decided.findings,
    validUntil: decided.validUntil,
    provenance: signed.provenance,
    stamp: signed.stamp,
    policy: policy.digest,
    policyVersion: version?.n ?? null,
    skewMs: occasion.skewMs,
    drift,
    at,
  });
  return {
    findings,
    standing,
    rule,
    disposals: decided.disposals,
    waiverStamp: reaching.stamp,
    ...(evaluated.lineage === undefined ? {} : { lineage: evaluated.lineage }),
  };
}

/** Null where the host follows no tag, as one that is pinned to a digest; undefined where nobody looked where it leads. */
async function tagTold(
  { deployment }: FullReport,
  look: ((claim: string) => Promise<TagFacts | null>) | undefined,
): Promise<TagFacts | null | undefined> {
  const claim = deployment.booted?.image?.reference ?? null;
  if (look === undefined || claim === null) return undefined;
  return claim.includes('@') ? null : ((await look(claim)) ?? undefined);
}

/** What the lineage needs of a report: nothing of a tree that was not told whole. */
function toldBy({ report, contents }: Examined, basis: Basis, booted: string | null): LineageTold {
  const whole = basis.state.state === 'ready' && report.truncated === null && !report.trees.etc.holesCapped;
  const isVariant = (line: Drift): boolean => basis.variant?.(line) !== undefined;
  return {
    booted,
    rule: basis.rule,
    differs: whole ? { drift: basis.drift.filter((line) => !isVariant(line)), secrets: contents.secrets } : null,
    holes: contents.holes.etc.map(({ path }) => path),
    seq: report.seq,
    reference: report.deployment.booted?.image?.reference ?? null,
  };
}

/** What keeps a report without drift from saying that the host is its image (docs/report.md 3.4). */
function untoldOf({ report, consistency }: Examined): Untold[] {
  const out: Untold[] = [];
  if (consistency.why === 'other-secret-paths') out.push('SECRET_PATHS_UNKNOWN');
  if (TREES.some((tree) => isBlind(report, tree))) out.push('CAPABILITIES_UNREAD');
  return out;
}

/** A tree that was read, but for its capabilities. */
function isBlind({ trees }: FullReport, tree: 'usr' | 'etc'): boolean {
  return trees[tree].main !== null && trees[tree].extra === null;
}

/** Who does not look at capabilities cannot say that one is gone: what was found of them stands. */
function seenWithout({ blind }: Evaluated, seen: Seen, present: readonly FindingWithGroup[]): Seen {
  const capabilities = present.flatMap(({ group, detail }) => {
    const { change } = detail as FindingDetail;
    return change?.change === 'modified' && change.attributes.includes('capability') ? [group.subject] : [];
  });
  const tree = (name: 'usr' | 'etc') =>
    blind.includes(name)
      ? { ...seen.trees[name], holes: [...seen.trees[name].holes, ...capabilities] }
      : seen.trees[name];
  return { ...seen, trees: { usr: tree('usr'), etc: tree('etc') } };
}

export function isSkewed(skewMs: number | null): boolean {
  return skewMs !== null && Math.abs(skewMs) > CLOCK_SKEW_MS;
}

function flagsOf({ forked, cloned, gap }: Doubts, { flags }: Consistency): ReportFlag[] {
  const out: ReportFlag[] = [];
  if (forked) out.push('identity-forked');
  if (cloned) out.push('cloned');
  if (gap !== 'none') out.push(gap === 'stated' ? 'reports-dropped' : 'chain-gap');
  if (flags.includes('scan-implausible')) out.push('scan-implausible');
  return out;
}

type Basis = {
  readonly state: ManifestState;
  readonly drift: readonly Drift[];
  readonly rule: string | null;
  readonly variant?: (drift: Drift) => string | undefined;
};

/** Which manifest the report is judged with, and the drift against that one (PROTOCOL 2.2). */
async function basisOf({ report, contents, known, consistency }: Examined, images: KnownImages): Promise<Basis> {
  if (known.kind !== 'ready') return { state: known.state, drift: [], rule: null };
  const { image } = known;
  const { backend } = report.deployment;
  const candidates = image.manifests.filter(({ header }) => {
    const of = backendOf(header.rule as Rule);
    return backend === 'unknown' ? of !== 'oci' : of === backend;
  });
  const matched = candidates.find(({ header }) => isTree(report, 'usr', header));
  const compared = comparedWith(report, image);
  const chosen = matched ?? compared ?? candidates[0];
  if (chosen === undefined)
    return {
      drift: [],
      rule: null,
      state: {
        state: 'failed',
        image: image.digest,
        code: 'RULE_MISSING',
        detail: whyNoManifest(image, backend),
      },
    };
  const { rule } = chosen.header;
  const state: ManifestState = { state: 'ready', image: image.digest, rule };
  if (compared === undefined) {
    // The host had no manifest to compare with; its digests alone can only say "all the same".
    const same =
      matched !== undefined && report.secretPaths.added.length === 0 && isTree(report, 'etc', matched.header);
    return same
      ? { state, drift: [], rule }
      : waiting(image, 'COMPARISON_PENDING', 'the manifest is there; the host compares with its next report');
  }
  if (chosen === compared) {
    const variant = await variantsOf(contents.drift, image, compared, candidates, images);
    return { state, drift: contents.drift, rule, ...(variant === undefined ? {} : { variant }) };
  }
  // /usr is another rule's to the byte: the host compared with the wrong one, so what it lists is told again under the right one.
  if (consistency.kind !== 'consistent')
    return { state: { ...state, rule: compared.header.rule }, drift: contents.drift, rule };
  return { state, drift: await restate(report, contents, compared, chosen), rule };
}

function waiting(image: ReadyImage, code: string, detail: string): Basis {
  return { state: { state: 'pending', image: image.digest, code, detail }, drift: [], rule: null };
}

/** Whether a tree is the manifest's to the byte. Where capabilities were not read the rest decides; `untoldOf` says so. */
function isTree(report: FullReport, tree: 'usr' | 'etc', header: Ruled['header']): boolean {
  const said = report.trees[tree];
  const { main, extra } = header.trees[tree];
  return said.main === main.comparison && (said.extra === null || said.extra === extra);
}

/** The host's trees as manifest and drift give them, compared with another rule's manifest. */
async function restate(report: FullReport, contents: Contents, from: Ruled, to: Ruled): Promise<Drift[]> {
  const out: Drift[] = [];
  const { added } = report.secretPaths;
  for (const tree of TREES) {
    const source = await from.texts(tree);
    const seen = (extra: string) => (report.trees[tree].extra === null ? withoutCapabilities(extra) : extra);
    const claim = {
      tree,
      drift: contents.drift.filter(({ path }) => treeOf(path) === tree),
      secrets: contents.secrets.filter(({ path }) => treeOf(path) === tree),
      secretPaths: added,
    };
    const actual = applyDrift({ main: comparisonText(source.main, added), extra: seen(source.extra) }, claim);
    const target = await to.texts(tree);
    const expected = { main: comparisonText(target.main, added), extra: seen(target.extra) };
    out.push(...compareTexts(expected, actual, added).drift);
  }
  return out;
}

async function variantsOf(
  drift: readonly Drift[],
  image: ReadyImage,
  chosen: Ruled,
  candidates: readonly Ruled[],
  images: KnownImages,
): Promise<((drift: Drift) => string | undefined) | undefined> {
  if (drift.length === 0 || candidates.length < 2) return undefined;
  const others = await Promise.all(
    candidates
      .filter((other) => other !== chosen)
      .map(async (other) => ({ rule: other.header.rule, lines: await images.variants(image, chosen, other) })),
  );
  return (line) => others.find(({ lines }) => isSameDrift(lines.get(line.path), line))?.rule;
}

function isSameDrift(a: Drift | undefined, b: Drift): boolean {
  if (a === undefined || a.change !== b.change) return false;
  if (a.change === 'removed' || b.change === 'removed') return true;
  const keys = new Set([...Object.keys(a.actual), ...Object.keys(b.actual)]) as Set<keyof typeof a.actual>;
  return [...keys].every((key) => a.actual[key] === b.actual[key]);
}

function heldOf({ groupId, group, severity, present }: FindingWithGroup): Held {
  return {
    group: groupId,
    kind: group.kind as JudgementKind,
    subject: group.subject,
    severity: SEVERITIES[severity],
    observation: present ? 'present' : 'absent',
  };
}

/** A judgement as the store takes it. */
export function presentChange(judgement: Judgement): FindingChange {
  const { rule, kind, subject, signature, severity, reason, verdict, controls, detail } = judgement;
  return {
    kind: 'present',
    group: { id: groupOf(judgement), rule, kind, subject, signature },
    severity: SEVERITIES.indexOf(severity) as Severity,
    detail: { reason, verdict, controls, ...detail } satisfies FindingDetail,
  };
}

/** Open already, but policy rates it otherwise now: its judgement is among this evaluation's. */
function rerated(changes: readonly { readonly held: Held }[], judgements: readonly Judgement[]): FindingChange[] {
  const wanted = new Set(changes.map(({ held }) => held.group));
  return wanted.size === 0 ? [] : judgements.filter((judgement) => wanted.has(groupOf(judgement))).map(presentChange);
}

/** Every finding that stands after this judgement, with what was decided about it before. */
export function findingsAfter(
  present: readonly FindingWithGroup[],
  gone: ReadonlySet<string>,
  judgements: readonly Judgement[],
): Standing[] {
  const held = new Map(present.map((finding) => [finding.groupId, finding]));
  const now = new Map<string, Judgement>();
  for (const judgement of judgements) {
    const group = groupOf(judgement);
    // The first of two of one group, as `advance` takes it.
    if (!now.has(group)) now.set(group, judgement);
  }
  return [
    ...[...now].map(([group, judgement]) => standingBy(group, judgement, held.get(group))),
    // What could not be read this time stands as it was.
    ...present.filter(({ groupId }) => !now.has(groupId) && !gone.has(groupId)).map(standingOf),
  ];
}
