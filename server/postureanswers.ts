/**
 * The three answers about a host at a moment (docs/posture.md 6): is it the image, is the image ours, did we hear. The log tells verdicts and
 * findings; the answers follow from these, from the policy in force, and from the acts about the image.
 */
import type { Instant } from '#src/clock.ts';
import { DocumentError } from '#src/document/yaml.ts';
import { IN_INTEGRITY, BESIDE_INTEGRITY } from '#src/finding/verdict.ts';
import { POSTURE_PAGE } from '#src/limits.ts';
import type { Policy } from '#src/policy/document.ts';
import type { JudgementKind, Weight } from '#src/policy/judgement.ts';
import { PolicyError, type Policies } from './policies.ts';
import type { PolicyInForce } from './posturefacts.ts';
import type { FindingThen } from './posturefindings.ts';
import type { ImageThen, ReportThen } from './posturereports.ts';
import { rest, unknown, type Rest, type Stated } from './stated.ts';
import { auditRef } from './store/logpayload.ts';
import type { Store } from './store/store.ts';

export const INTEGRITY_THEN = ['intact', 'drifted', 'unverifiable'] as const;
export const PROVENANCE_THEN = ['trusted', 'unsigned', 'rejected', 'unverifiable', 'not-assessed'] as const;
export const FRESHNESS_THEN = ['heard', 'silent'] as const;

export type Answers = {
  readonly integrity: Stated<(typeof INTEGRITY_THEN)[number]>;
  readonly provenance: Stated<(typeof PROVENANCE_THEN)[number]>;
  readonly freshness: Stated<(typeof FRESHNESS_THEN)[number]>;
};

type About = {
  readonly at: Instant;
  readonly verdict: Stated<string>;
  readonly findings: Stated<readonly FindingThen[]>;
  readonly report: Stated<ReportThen>;
  readonly image: Stated<ImageThen>;
  readonly policy: Stated<PolicyInForce>;
};
type Deps = { readonly store: Pick<Store, 'postures'>; readonly policies: Pick<Policies, 'get'> };

export async function answersThen(about: About, deps: Deps): Promise<Answers> {
  const provenance = await provenanceOf(about, deps);
  const weights = await ruleWeights(about.policy.value, deps);
  return { integrity: integrityOf(about, weights, provenance), provenance, freshness: freshnessOf(about) };
}

const isWaived = ({ disposition }: FindingThen): boolean => disposition === 'waived';
const restsOf = (findings: readonly FindingThen[]): readonly Rest[] => findings[0]?.rests ?? [];

/** As `judgeHost` has it: what is known to differ outweighs what could not be told, and a manifest that is not there outweighs both. */
function integrityOf(
  { verdict, findings, report }: About,
  weightOf: (finding: FindingThen) => Weight,
  provenance: Answers['provenance'],
): Answers['integrity'] {
  if (verdict.value === 'compliant') return { value: 'intact', rests: verdict.rests };
  if (report.value === null) return report;
  if (findings.value === null) return findings;
  const open = findings.value.filter((one) => !isWaived(one));
  const kind = (one: FindingThen) => one.kind as JudgementKind;
  const unread = open.filter((one) => IN_INTEGRITY.has(kind(one)) && weightOf(one) === 'unverifiable');
  const unbuilt = unread.filter((one) => one.kind === 'manifest');
  if (unbuilt.length > 0) return { value: 'unverifiable', rests: restsOf(unbuilt) };
  const heavy = open.filter((one) => weightOf(one) === 'drifted' && !BESIDE_INTEGRITY.has(kind(one)));
  if (heavy.length > 0) return { value: 'drifted', rests: restsOf(heavy) };
  if (unread.length > 0) return { value: 'unverifiable', rests: restsOf(unread) };
  if (verdict.value === null) return verdict;
  const elsewhere = open.some((one) => !IN_INTEGRITY.has(kind(one)) && weightOf(one) === 'unverifiable');
  if (verdict.value === 'unverifiable' && provenance.value !== 'unverifiable' && !elsewhere)
    return unknown('not-judged', 'it could not be judged, and no finding of the log says why', verdict.rests);
  return { value: 'intact', rests: report.rests };
}

const DRIFTED: ReadonlySet<string> = new Set<JudgementKind>([
  'drift',
  'secret',
  'overlay',
  'layered',
  'karg',
  'verity',
  'transient-root',
  'account',
]);

/** What each rule of the policy in force let its findings weigh; of a rule that it does not have, what is usual for the kind. */
async function ruleWeights(
  inForce: PolicyInForce | null,
  { policies }: Pick<Deps, 'policies'>,
): Promise<(finding: FindingThen) => Weight> {
  const policy = inForce === null ? undefined : await policyOf(inForce.version, policies);
  const weights = new Map(
    [...(policy?.files ?? []), ...(policy?.accounts ?? []), ...(policy?.state ?? [])].map(({ id, verdict }) => [
      id,
      verdict,
    ]),
  );
  return ({ rule, kind, severity }) => {
    const said = weights.get(rule);
    if (said !== undefined) return said;
    if (IN_INTEGRITY.has(kind as JudgementKind)) return 'unverifiable';
    return DRIFTED.has(kind) && severity !== 'info' ? 'drifted' : 'none';
  };
}

async function policyOf(version: number, policies: Deps['policies']): Promise<Policy | undefined> {
  try {
    return (await policies.get(version)).policy;
  } catch (error) {
    // One that an older build understood.
    if (!(error instanceof PolicyError) && !(error instanceof DocumentError)) throw error;
    return undefined;
  }
}

const ANSWERED: ReadonlySet<string> = new Set(PROVENANCE_THEN);

/** What had been found about the image's signatures by then: each change of that is an act. */
async function provenanceOf({ at, image, report }: About, { store }: Deps): Promise<Answers['provenance']> {
  if (image.value === null) return report.value === null ? report : image;
  const { digest } = image.value;
  if (digest === null) return unknown('no-report', 'the host named no image by its digest', image.rests);
  const acts = await store.postures.acts(`image:${digest}`, at, POSTURE_PAGE);
  const act = acts.find(({ action }) => action === 'trust.change');
  if (act === undefined)
    return acts.length === POSTURE_PAGE
      ? unknown('too-many', `more than ${POSTURE_PAGE} acts are about the image`)
      : { value: 'not-assessed', rests: [] };
  const { state } = act.after as { readonly state: string };
  const place = (await store.postures.places([auditRef(act.id)])).get(auditRef(act.id));
  const rests = place === undefined ? [] : [rest('act', place)];
  // A word of another build.
  if (!ANSWERED.has(state)) return unknown('not-judged', `it was told as ${state}`, rests);
  return { value: state as (typeof PROVENANCE_THEN)[number], rests };
}

function freshnessOf({ verdict, report }: About): Answers['freshness'] {
  if (verdict.value === 'silent') return { value: 'silent', rests: verdict.rests };
  if (report.value === null) return report;
  return { value: 'heard', rests: report.rests };
}
