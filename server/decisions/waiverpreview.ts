/** What a waiver would do before it is asked for or decided, over the hosts as they stand (docs/findings.md, section 3). */
import type { Instant } from '#src/clock.ts';
import { coversFinding, reachesHost, ready, type Ready } from '#src/finding/exempt.ts';
import type { FindingFacts } from '#src/finding/verdict.ts';
import { UNDECIDED, type Waiver, type WaiverTerms } from '#src/finding/waiver.ts';
import type { Severity } from '#src/policy/judgement.ts';
import type { Principal } from '#server/access/principal.ts';
import { decideOn, standingOf, targetHost } from '#server/exempt.ts';
import { standingAgain } from '#server/standing.ts';
import { hostsAbout, matching, type WaiverDeps } from './waivers.ts';

export type Preview = {
  readonly findings: number;
  readonly hosts: number;
  readonly groups: number;
  /** Hosts whose verdict would become compliant. */
  readonly compliant: number;
  /** False: it reaches more hosts than a preview looks at, and the numbers are those of the first ones. */
  readonly complete: boolean;
  readonly ceiling: Severity;
  readonly warnings: readonly {
    readonly code: 'MANY_HOSTS' | 'CRITICAL' | 'ANY_CONTENT' | 'NOTHING';
    readonly text: string;
  }[];
  /** In one sentence. */
  readonly text: string;
};

/** Hosts that a preview looks at. */
const PREVIEW_HOSTS_MAX = 2000;
/** From this part of the fleet on, an exception is rather a rule. */
const MANY = 0.1;

export async function previewWaiver(
  terms: WaiverTerms,
  who: Pick<Principal, 'groups'>,
  deps: WaiverDeps,
): Promise<Preview> {
  const { store } = deps;
  const now = deps.clock();
  const begun: Waiver = asApproved(terms, who, now);
  const candidate = ready(begun);
  const groups = await matching(terms.selector, store);
  const counts = { findings: 0, hosts: 0, compliant: 0 };
  const touched = new Set<string>();
  let complete = true;
  let looked = 0;
  for await (const ids of hostsAbout(begun, store)) {
    for (const id of ids) {
      if (looked >= PREVIEW_HOSTS_MAX) {
        complete = false;
        break;
      }
      looked++;
      await lookAt(id, candidate, counts, touched, deps);
    }
    if (!complete) break;
  }
  const fleet = await store.read.countHosts({ now }, 1_000_000);
  return {
    ...counts,
    groups: touched.size,
    complete,
    ceiling: terms.ceiling,
    warnings: warningsOf(
      terms,
      counts,
      fleet.count,
      groups.some(({ id, severity }) => touched.has(id) && severity === 4),
    ),
    text: previewText({ ...counts, groups: touched.size, complete }),
  };
}

function asApproved(terms: WaiverTerms, { groups }: Pick<Principal, 'groups'>, now: Instant): Waiver {
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
    scope: groups,
  };
}

async function lookAt(
  id: string,
  candidate: Ready,
  counts: { findings: number; hosts: number; compliant: number },
  touched: Set<string>,
  { store, waivers }: WaiverDeps,
): Promise<void> {
  const host = await store.hosts.get(id);
  if (host === undefined || host.state === 'retired') return;
  const reaching = await waivers.reaching(host, host.images.booted);
  const target = await targetHost(host, host.images.booted, store);
  if (!reachesHost(candidate, target, reaching.now)) return;
  const standing = (await store.findings.present(id)).map(standingOf);
  const before = await decideOn(standing, reaching);
  const newly = standing.filter(({ facts }, at) => !before.findings[at]!.waived && coversFinding(candidate, facts));
  if (newly.length === 0) return;
  counts.findings += newly.length;
  counts.hosts++;
  for (const { groupId } of newly) touched.add(groupId);
  const after = await decideOn(standing, { ...reaching, waivers: [...reaching.waivers, candidate] });
  const verdict = (findings: readonly FindingFacts[]) =>
    standingAgain(host, { findings, validUntil: null, at: reaching.now })?.verdict;
  if (verdict(before.findings) !== 'compliant' && verdict(after.findings) === 'compliant') counts.compliant++;
}

const many = (n: number, what: string): string => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;

function previewText({
  findings,
  hosts,
  groups,
  compliant,
  complete,
}: Pick<Preview, 'findings' | 'hosts' | 'groups' | 'compliant' | 'complete'>): string {
  if (findings === 0) return 'matches no open finding';
  const least = complete ? '' : 'at least ';
  return `matches ${least}${many(findings, 'open finding')} on ${many(hosts, 'host')}, ${many(groups, 'group')}; would change ${least}${many(compliant, 'host')} to compliant`;
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
