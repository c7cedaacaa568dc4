/**
 * Tables for spreadsheets (docs/evidence.md, CSV): RFC 4180 with CRLF, UTF-8 with a byte order mark, times in ISO 8601 UTC. Host names, paths and
 * reasons are written by strangers: what could act on who reads is escaped, and no cell is a formula.
 */
import { shownText } from '#src/terminal.ts';
import { at, concerns, share } from './controlrules.ts';
import { hostResults, type Assessment, type HostResult } from './controls.ts';
import type { DecisionFact, HostInScope } from './facts.ts';
import { Draw, SAMPLE_METHOD } from './sample.ts';

export type CsvValue = string | number | null;

export const CSV_BOM = '\uFEFF';

// What spreadsheets take for the beginning of a formula, the wide forms of East Asian ones included.
const FORMULA = /^[=+\-@\t\r\uFF1D\uFF0B\uFF0D\uFF20]/;

/**
 * One cell. Text that a spreadsheet would compute, or that begins with an apostrophe, gets one apostrophe before it: whoever wants the text
 * takes one leading apostrophe away. Control and reordering characters are shown escaped, as on a terminal.
 */
export function csvCell(value: CsvValue): string {
  if (value === null) return '';
  if (typeof value === 'number') return String(value);
  const guard = FORMULA.test(value) || value.startsWith("'") ? "'" : '';
  const text = guard + shownText(value);
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The text that a guarded cell stands for. */
export const unguarded = (cell: string): string =>
  cell.startsWith("'") && (cell.startsWith("''") || FORMULA.test(cell.slice(1))) ? cell.slice(1) : cell;

export const csvRow = (cells: readonly CsvValue[]): string => `${cells.map(csvCell).join(',')}\r\n`;

const POPULATION = [
  'host',
  'name',
  'group',
  'labels',
  'enrolled_at',
  'retired_at',
  'image_at_end',
  'interval_seconds',
  'reports_expected',
  'reports_received',
  'completeness',
  'gaps',
  'longest_seconds',
  'verdict_at_end',
  'integrity_at_end',
  'provenance_at_end',
  'freshness_at_end',
  'allowed_at_end',
  'waived_at_end',
  'exceptions_failing',
  'exceptions_unknown',
  'exceptions_waived',
  'exceptions_explained',
  'exceptions_ended',
] as const;

function populationRow({ host, exceptions }: HostResult): CsvValue[] {
  const { standing, checkIns } = host;
  const of = (weight: string) => exceptions.filter((each) => each.weight === weight).length;
  return [
    host.host,
    host.name,
    host.group,
    host.labels.map(({ key, value }) => `${key}=${value}`).join('; '),
    host.enrolledAt,
    host.retiredAt,
    imageAtEnd(host),
    host.intervalSeconds,
    checkIns.expected,
    checkIns.received,
    Math.floor(share(checkIns) * 10_000) / 10_000,
    host.gaps.length,
    checkIns.longestSeconds,
    standing.verdict,
    standing.integrity,
    standing.provenance,
    standing.freshness,
    standing.allowed,
    standing.waived,
    ...['fails', 'unknown', 'waived', 'explained', 'ended'].map(of),
  ];
}

const imageAtEnd = ({ deployments }: HostInScope): string | null =>
  deployments.findLast(({ to }) => to === null)?.image ?? null;

/** Every host in scope, one a line, in the order of their ids. */
export async function* populationCsv(assessment: Assessment): AsyncGenerator<string> {
  yield CSV_BOM + csvRow(POPULATION);
  for await (const result of hostResults(assessment)) yield csvRow(populationRow(result));
}

/** The sample that the head asks for, first drawn first; undefined where it asks for none. */
export function sampleCsv(assessment: Assessment): AsyncGenerator<string> | undefined {
  const { sampling } = assessment.facts.head;
  if (sampling === null) return undefined;
  return (async function* () {
    const draw = new Draw<HostResult>(({ host }) => host.host, sampling.seed, sampling.size);
    for await (const result of hostResults(assessment)) draw.offer(result);
    yield CSV_BOM + csvRow([...POPULATION, 'drawn', 'order_sha256', 'method', 'seed']);
    for (const [index, { item, order }] of draw.drawn.entries())
      yield csvRow([...populationRow(item), index + 1, order, SAMPLE_METHOD, sampling.seed]);
  })();
}

/** Every exception of every host. */
export async function* exceptionsCsv(assessment: Assessment): AsyncGenerator<string> {
  yield (
    CSV_BOM +
    csvRow([
      'host',
      'name',
      'weight',
      'kind',
      'cause',
      'subject',
      'severity',
      'from',
      'to',
      'seconds',
      'noticed_at',
      'finding',
      'waiver',
      'asked_by',
      'approved_by',
      'same_person',
      'controls',
    ])
  );
  const { controls, known } = assessment;
  for await (const { host, exceptions } of hostResults(assessment))
    for (const one of exceptions) {
      const end = one.to ?? known.head.period.to;
      yield csvRow([
        host.host,
        host.name,
        one.weight,
        one.kind,
        one.cause,
        one.subject,
        one.severity,
        one.from,
        one.to,
        one.from === null ? null : Math.max(0, Math.floor((at(end) - at(one.from)) / 1000)),
        one.noticedAt,
        one.finding?.group ?? null,
        one.decision?.id ?? null,
        one.decision?.requestedBy ?? null,
        one.decision?.decidedBy ?? null,
        one.decision === null ? null : yesNo(one.decision.alone),
        controls
          .filter(({ asks }) => asks.some((ask) => concerns(one, ask)))
          .map(({ framework, control }) => `${framework.id}:${control.id}`)
          .join(' '),
      ]);
    }
}

/** What each host ran in the period, and who signed it. */
export async function* deploymentsCsv({ facts, known }: Assessment): AsyncGenerator<string> {
  yield (
    CSV_BOM +
    csvRow([
      'host',
      'name',
      'image',
      'image_names',
      'from',
      'to',
      'host_enforces',
      'trust',
      'signed_by',
      'policy',
      'why_not',
    ])
  );
  for await (const host of facts.hosts()) {
    if (!host.inScope) continue;
    for (const { image, from, to, enforced } of host.deployments) {
      const fact = known.images.get(image);
      const { state, by, policy, why } = fact?.trust ?? { state: 'no record', by: null, policy: null, why: null };
      const names = fact?.names.join(' ') ?? null;
      yield csvRow([
        host.host,
        host.name,
        image,
        names,
        from,
        to,
        enforced === null ? null : yesNo(enforced),
        state,
        by,
        policy,
        why,
      ]);
    }
  }
}

/** Waivers and acknowledgements, with who asked and who approved. */
export async function* decisionsCsv({ facts }: Assessment): AsyncGenerator<string> {
  yield (
    CSV_BOM +
    csvRow([
      'id',
      'kind',
      'state',
      'title',
      'justification',
      'covers',
      'ticket',
      'asked_by',
      'asked_at',
      'approved_by',
      'approved_at',
      'same_person',
      'starts_at',
      'ends_at',
      'acts',
    ])
  );
  for await (const decision of facts.decisions()) yield csvRow(decisionRow(decision));
}

function decisionRow(decision: DecisionFact): CsvValue[] {
  const { id, kind, state, title, justification, covers, ticket, requestedBy, requestedAt } = decision;
  const { decidedBy, decidedAt, alone, startsAt, endsAt, history } = decision;
  return [
    id,
    kind,
    state,
    title,
    justification,
    covers,
    ticket,
    requestedBy,
    requestedAt,
    decidedBy,
    decidedAt,
    yesNo(alone),
    startsAt,
    endsAt,
    history.length,
  ];
}

const yesNo = (value: boolean): string => (value ? 'yes' : 'no');
