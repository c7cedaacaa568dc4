/** What a waiver would do before it is asked for or decided, over the hosts as they stand (docs/findings.md, section 3). */
import type { Instant } from '#src/clock.ts';
import { ready, type Ready } from '#src/finding/exempt.ts';
import { UNDECIDED, type Waiver, type WaiverTerms } from '#src/finding/waiver.ts';
import { WAIVER_PREVIEW_FINDINGS, WAIVER_PREVIEW_HOSTS } from '#src/limits.ts';
import { SEVERITIES, type Severity } from '#src/policy/judgement.ts';
import type { Scope } from '#src/finding/scope.ts';
import { decideOn, standingOf, type Reaching } from '#server/exempt.ts';
import { standingAgain } from '#server/standing.ts';
import { FORECAST_GROUPS, type Foreseen } from '#server/store/decided.ts';
import type { FindingWithGroup, Host } from '#server/store/records.ts';
import { imagesOf, matching } from './waiverterms.ts';
import type { WaiverDeps } from './waivers.ts';

export type Preview = {
  readonly findings: number;
  readonly hosts: number;
  readonly groups: number;
  /** Hosts whose verdict would become compliant. */
  readonly compliant: number;
  /** False: findings, hosts and groups are at least so many; it reaches more than is counted. */
  readonly complete: boolean;
  /** False: `compliant` is at least so many; each host has to be judged for it, and only the first ones were. */
  readonly judged: boolean;
  readonly ceiling: Severity;
  readonly warnings: readonly {
    readonly code: 'MANY_HOSTS' | 'CRITICAL' | 'ANY_CONTENT' | 'NOTHING';
    readonly text: string;
  }[];
  /** In one sentence. */
  readonly text: string;
};

/** From this part of the fleet on, an exception is rather a rule. */
const MANY = 0.1;
const AT_ONCE = 200;

/** How far a preview looks before it says "at least". */
export type Most = { readonly hosts: number; readonly findings: number; readonly groups: number };
const MOST: Most = { hosts: WAIVER_PREVIEW_HOSTS, findings: WAIVER_PREVIEW_FINDINGS, groups: FORECAST_GROUPS };

export async function previewWaiver(terms: WaiverTerms, scope: Scope, deps: WaiverDeps, most = MOST): Promise<Preview> {
  const { store } = deps;
  const now = deps.clock();
  const begun: Waiver = asApproved(terms, scope, now);
  const { critical, first, ...counts } = await countReach(begun, now, most, deps);
  const compliant = await becomeCompliant(first.slice(0, most.hosts), ready(begun), deps);
  const judged = counts.complete && first.length <= most.hosts;
  const fleet = await store.read.countHosts({ now, scope }, 1_000_000);
  return {
    ...counts,
    compliant,
    judged,
    ceiling: terms.ceiling,
    warnings: warningsOf(terms, counts, fleet.count, critical),
    text: previewText({ ...counts, compliant, judged }),
  };
}

function asApproved(terms: WaiverTerms, scope: Scope, now: Instant): Waiver {
  return {
    ...terms,
    id: 'W-0',
    revision: 0,
    // As if it had begun: what it will do, not what it does before its day.
    startsAt: now,
    decision: 'approved',
    requestedBy: '',
    requestedAt: now,
    ...UNDECIDED,
    decidedAt: now,
    scope,
  };
}

type Reach = Pick<Preview, 'findings' | 'hosts' | 'groups' | 'complete'> & {
  /** A critical finding is among them. */
  readonly critical: boolean;
  /** The first hosts by id: one more than are judged, where there are more. */
  readonly first: readonly string[];
};

/** What it would newly cover, counted by the database: at any size of the fleet the same few statements for 500 groups. */
async function countReach(waiver: Waiver, now: Instant, most: Most, { store }: WaiverDeps): Promise<Reach> {
  const { selector, ceiling } = waiver;
  const groups = (await matching(selector, store)).filter(({ severity }) => severity <= SEVERITIES.indexOf(ceiling));
  const booted = selector.image === undefined ? null : await imagesOf(selector.image, store);
  const about = (ids: readonly string[]): Foreseen => ({
    groups: ids,
    ceiling: SEVERITIES.indexOf(ceiling) as Foreseen['ceiling'],
    hosts: selector.hosts,
    booted,
    scopes: [waiver.scope],
    now,
  });
  const touched = new Set<string>();
  const named = new Set<string>();
  let findings = 0;
  let hosts = 0;
  let complete = true;
  for (let from = 0; from < groups.length; from += most.groups) {
    if (findings >= most.findings) {
      complete = false;
      break;
    }
    const portion = about(groups.slice(from, from + most.groups).map(({ id }) => id));
    const found = await store.waivers.forecast(portion);
    if (found.findings === 0) continue;
    findings += found.findings;
    hosts = Math.max(hosts, found.hosts);
    for (const id of found.groups) touched.add(id);
    // Of one portion the database counts the hosts; those of several can be the same ones, so they are told by name.
    const single = groups.length <= most.groups;
    const limit = single ? most.hosts + 1 : most.findings;
    for (const id of await store.waivers.forecastHosts(portion, limit)) named.add(id);
    if (!single) hosts = named.size;
  }
  return {
    findings,
    hosts,
    groups: touched.size,
    complete,
    critical: groups.some(({ id, severity }) => severity === 4 && touched.has(id)),
    first: [...named].sort().slice(0, most.hosts + 1),
  };
}

async function becomeCompliant(ids: readonly string[], candidate: Ready, deps: WaiverDeps): Promise<number> {
  const { store } = deps;
  let compliant = 0;
  for (let from = 0; from < ids.length; from += AT_ONCE) {
    const some = ids.slice(from, from + AT_ONCE);
    const [hosts, findings] = await Promise.all([store.hosts.getMany(some), store.findings.presentOf(some)]);
    for (const host of hosts.values())
      if (await becomesCompliant(host, findings.get(host.id) ?? [], candidate, deps)) compliant++;
    // Judging takes the processor: whoever reports goes in between.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return compliant;
}

async function becomesCompliant(
  host: Host,
  findings: readonly FindingWithGroup[],
  candidate: Ready,
  { waivers }: WaiverDeps,
): Promise<boolean> {
  const reaching = await waivers.reaching(host, host.images.booted);
  const standing = findings.map(standingOf);
  const verdict = async (by: Reaching) => {
    const decided = await decideOn(standing, by);
    return standingAgain(host, { findings: decided.findings, validUntil: null, at: reaching.now })?.verdict;
  };
  // The host was chosen by what the selector says of hosts; the findings are asked here.
  return (
    (await verdict(reaching)) !== 'compliant' &&
    (await verdict({ ...reaching, waivers: [...reaching.waivers, candidate] })) === 'compliant'
  );
}

const many = (n: number, what: string): string => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;

function previewText({
  findings,
  hosts,
  groups,
  compliant,
  complete,
  judged,
}: Pick<Preview, 'findings' | 'hosts' | 'groups' | 'compliant' | 'complete' | 'judged'>): string {
  if (findings === 0) return 'matches no open finding';
  const least = (exact: boolean): string => (exact ? '' : 'at least ');
  return `matches ${least(complete)}${many(findings, 'open finding')} on ${least(complete)}${many(hosts, 'host')}, ${least(complete)}${many(groups, 'group')}; would change ${least(judged)}${many(compliant, 'host')} to compliant`;
}

function warningsOf(
  terms: WaiverTerms,
  { hosts, findings }: { hosts: number; findings: number },
  fleet: number,
  critical: boolean,
): Preview['warnings'] {
  const out: { code: 'MANY_HOSTS' | 'CRITICAL' | 'ANY_CONTENT' | 'NOTHING'; text: string }[] = [];
  if (hosts > 0 && fleet > 0 && hosts > fleet * MANY)
    out.push({
      code: 'MANY_HOSTS',
      text: `it covers ${Math.round((hosts / fleet) * 100)} % of all hosts: what is so everywhere belongs into the policy`,
    });
  if (critical || terms.ceiling === 'critical')
    out.push({ code: 'CRITICAL', text: 'it covers critical findings: 30 days at most' });
  if (terms.selector.content === 'any')
    out.push({ code: 'ANY_CONTENT', text: 'any content is covered, also content that nobody has seen yet' });
  if (findings === 0) out.push({ code: 'NOTHING', text: 'nothing that is open matches now' });
  return out;
}
