/**
 * What a bundle says against what was logged (docs/evidence.md 4, checks `log` to `policies`), in one walk over its entries and records. Memory holds a
 * small state for each host, what lists tell of each entry, and the right edge of the tree.
 */
import type { Instant } from '#src/clock.ts';
import { parseInstant } from '#src/clock.ts';
import { toHex } from '#src/bytes.ts';
import type { Sha256 } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { LOG_DISORDER_MS } from '#src/limits.ts';
import type { Checkpoint } from '#src/log/checkpoint.ts';
import type { LogEntry } from '#src/log/entry.ts';
import type { TreeHash } from '#src/log/proof.ts';
import type { ManifestHeader } from '#src/manifest/header.ts';
import type { Verify } from '#src/signing/ed25519.ts';
import { parseVkey } from '#src/signing/note.ts';
import { LogEdge } from './bundle.ts';
import { FactCheck } from './factcheck.ts';
import {
  DecisionFact,
  FindingFact,
  HostFact,
  ImageFact,
  PolicyFact,
  ReconciliationFact,
  type BundleHead,
} from './facts.ts';
import { HostCheck } from './hostcheck.ts';
import { KeptCheck, type Files, type KeptOutcome } from './keptcheck.ts';
import { valueOf } from './lines.ts';
import { Purges } from './purges.ts';
import type { BundleReader } from './reader.ts';
import { counted, Faults, type Step } from './steps.ts';
import { edgesOf, walkLog, type Walk } from './walk.ts';
import type { RunningHash } from './writer.ts';

export async function checkContent(
  reader: BundleReader,
  head: BundleHead,
  {
    checkpoint,
    manifests,
  }: { readonly checkpoint: Checkpoint; readonly manifests: ReadonlyMap<string, ManifestHeader> },
  brought: { readonly known: Files; readonly consistency: Files },
  /** Sizes at which somebody else stamped the log: `roots` of the outcome has the root at each that the bundle holds. */
  stamped: ReadonlySet<number>,
  deps: { readonly verify: Verify; readonly sha256: () => RunningHash; readonly tree: TreeHash },
): Promise<KeptOutcome & { readonly roots: ReadonlyMap<number, Uint8Array> }> {
  const steps: Step[] = [];
  const notChecked: string[] = [];
  const hashOf: Sha256 = (data) => {
    const hash = deps.sha256();
    hash.update(typeof data === 'string' ? new TextEncoder().encode(data) : data);
    return toHex(hash.digest());
  };

  const { tree, verify } = deps;
  const period = { from: parseInstant(head.period.from)!, to: parseInstant(head.period.to)! };
  const exportedAt = parseInstant(head.exportedAt)!;
  const whole = head.selection.hosts === 'all';
  const faults = {
    log: new Faults(),
    records: new Faults(),
    population: new Faults(),
    reports: new Faults(),
    completeness: new Faults(),
    findings: new Faults(),
    decisions: new Faults(),
    policies: new Faults(),
  };
  const kept = new KeptCheck(parseVkey(head.log.key), verify);
  await kept.bring(brought.known);
  const walk: Walk = {
    size: checkpoint.size,
    root: checkpoint.root,
    from: head.log.from,
    left: await reader.bytes('log/left'),
    tree,
    sha256: (bytes) => {
      const hash = deps.sha256();
      hash.update(bytes);
      return hash.digest();
    },
    sizes: new Set([...kept.sizes, ...stamped]),
    roots: new Map(),
    log: faults.log,
    records: faults.records,
  };
  const hosts = new HostCheck({ period, whole, manifests }, faults, {
    verify,
    hash: hashOf,
    echo: (where, text) => kept.echo(where, text),
  });
  const facts = new FactCheck(period, faults);
  await guarded(faults.population, async () => {
    for await (const fact of reader.list('facts/hosts', HostFact)) {
      hosts.host(fact);
      if (fact.inScope) facts.host(fact);
    }
  });
  await guarded(faults.population, async () => {
    for await (const fact of reader.list('facts/images', ImageFact)) hosts.image(fact);
  });
  await guarded(faults.findings, async () => {
    for await (const fact of reader.list('facts/findings', FindingFact)) facts.finding(fact, hosts.inScope(fact.host));
  });
  await guarded(faults.decisions, async () => {
    for await (const fact of reader.list('facts/decisions', DecisionFact)) facts.decision(fact);
  });
  await guarded(faults.policies, async () => {
    for await (const fact of reader.list('facts/policies', PolicyFact)) facts.policy(fact);
    for await (const fact of reader.list('facts/reconciliations', ReconciliationFact)) facts.reconciliation(fact);
  });
  const purges = new Purges();
  let lastAt: Instant | undefined;
  await guarded(faults.log, async () => {
    const edges = edgesOf(walk, valueOf(await reader.text('log/edge.json'), 'log/edge.json', LogEdge));
    if (edges.before !== null && parseInstant(edges.before.at)! >= period.from)
      faults.log.add(`entry ${walk.from - 1}, which is not in it, is of ${edges.before.at}: within the period`);
    if (edges.last !== null) lastAt = parseInstant(edges.last.at)!;
    let newest = -Infinity;
    for await (const walked of walkLog(walk, reader.entries(), reader.records())) {
      const { index, entry, record } = walked;
      const at = parseInstant(entry.at)!;
      // A day's last `same` is logged when the next one comes, or an export asks for it (docs/log.md 5.3).
      const isDaily = entry.kind === 'report' && entry.facts.report === 'same';
      if (!isDaily && at < newest - LOG_DISORDER_MS)
        faults.log.add(`entry ${index} is of ${entry.at}, long before one that precedes it`);
      newest = Math.max(newest, at);
      if (index === 0) hosts.began(at);
      if (index === walk.size - 1) lastAt = at;
      hosts.seen(entry, at);
      const within = at >= period.from && at < period.to;
      purges.seen(walked, at);
      if (record === undefined) {
        if (within && isNeeded(entry, hosts, whole))
          faults.records.add(
            `entry ${index}, a ${entry.kind}${entry.host === null ? '' : ` of ${entry.host}`}: what it is about was left out`,
          );
        continue;
      }
      if (entry.kind === 'report') await hosts.report(walked, at);
      else if (entry.kind === 'judgement') facts.judgement(walked, at);
      else {
        const act = facts.act(walked, at);
        if (act?.action === 'host.enrol' && entry.host !== null) hosts.enrolled(entry.host, index, act.after);
        else if (
          act === undefined &&
          entry.kind === 'act' &&
          entry.facts.action === 'host.enrol' &&
          entry.host !== null
        )
          hosts.enrolmentPurged(entry.host, index);
      }
    }
  });
  await hosts.finish(exportedAt);
  facts.finish();
  purges.finish(faults.records);
  if (lastAt === undefined ? checkpoint.size > 0 : lastAt < period.to)
    faults.log.add(
      `its last entry is of ${lastAt === undefined ? 'no time that is shown' : iso(lastAt)}, the period ends at ${head.period.to}: an older log, passed off for a newer period`,
    );
  const { counts: h } = hosts;
  const { counts: f } = facts;
  steps.push(faults.log.step('log', `entries ${walk.from} to ${walk.size} lead to the signed root`));
  const others = await kept.finish(walk, reader.entries(), brought.consistency, (host) => hosts.keyOf(host));
  steps.push(...others.steps);
  notChecked.push(...others.notChecked);
  steps.push(
    faults.records.step('records', 'every report, judgement and act of the period is there, as it was logged'),
  );
  steps.push(
    faults.population.step(
      'population',
      `${counted(h.inScope, 'host')}; every host that the log knows of in the period is among them`,
    ),
  );
  steps.push(
    faults.reports.step('reports', `${counted(h.reports, 'report')} (${h.full} full), each by its host's own key`),
  );
  steps.push(
    faults.completeness.step(
      'completeness',
      'expected and received check-ins fit what was logged, and every silent day is a gap',
    ),
  );
  steps.push(
    faults.findings.step(
      'findings',
      `${counted(f.findings, 'finding')} with ${counted(f.transitions, 'transition')}, as ${counted(f.judgements, 'judgement')} logged them`,
    ),
  );
  steps.push(
    faults.decisions.step(
      'decisions',
      `${counted(f.decisions, 'waiver or acknowledgement', 'waivers and acknowledgements')}, as logged`,
    ),
  );
  steps.push(faults.policies.step('policies', `${counted(f.policies, 'policy', 'policies')} in force, as logged`));
  const note = (count: number, what: string) => {
    if (count > 0) notChecked.push(`${count} ${what}`);
  };
  note(h.purged, 'reports that were purged under retention: their entries are there, what they said is not');
  note(h.unlinked, 'reports that say "unchanged" of a full report which is older than the bundle');
  note(
    h.breaks,
    'full reports that do not follow the one before in the bundle: dropped by the host, or forks; findings say which',
  );
  note(
    h.keysUnlogged,
    "hosts that were enrolled before the log began, or whose enrolment was purged: their keys are the server's word",
  );
  note(
    h.uncompared,
    'full reports with differences: that these make up the digests of the trees was checked by the server alone',
  );
  note(
    f.unlogged,
    whole
      ? 'events that are older than the log, and told by the server alone'
      : 'events that are older than the log, or about hosts of others too, and told by the server alone',
  );
  if (hosts.isLate)
    notChecked.push('what was before the log began: it begins within the period, and the hosts were enrolled earlier');

  return { steps, notChecked, seen: others.seen, incomplete: others.incomplete, roots: walk.roots };
}

/** A list that cannot be read is its step's fault, and the others go on. */
async function guarded(faults: Faults, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    faults.add(error.message);
  }
}

/** What must be there of an entry of the period (docs/evidence.md 3.1). */
function isNeeded({ kind, host }: LogEntry, hosts: HostCheck, whole: boolean): boolean {
  if (kind === 'report' || kind === 'judgement') return hosts.inScope(host);
  return kind === 'act' && (host === null ? whole : hosts.inScope(host));
}

const iso = (at: Instant): string => new Date(at).toISOString();
