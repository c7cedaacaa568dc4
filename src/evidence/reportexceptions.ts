/** Exceptions in the printed report: what fails, what waivers except and who approved them, what is over. */
import { Selector } from '#src/finding/waiver.ts';
import { duration } from './controlrules.ts';
import type { DecisionFact } from './facts.ts';
import type { ExceptionLine, ReportFold } from './reportfold.ts';
import { counted, html, short, timeOf, type Markup, type Part, type Top } from './reportmarkup.ts';
import { beyondText, DASH, table, type Page } from './reportpage.ts';
import { severityMark } from './reportstyle.ts';

function exceptionRow({ exception, hosts, example, from, to, noticedAt, longest }: ExceptionLine, who: Part): Markup {
  const { subject, cause, severity } = exception;
  return html`<tr>
    <td>${severityMark(severity)}</td>
    <td class="break">
      ${subject !== null && html`<code>${short(subject)}</code><br />`}<span class="soft">${cause}</span>${who}
    </td>
    <td>${whenText(from, to, noticedAt)}</td>
    <td class="num">${from === null ? DASH : duration(longest)}</td>
    <td class="num break">${hosts}<small>${hosts === 1 ? example : `e.g. ${example}`}</small></td>
  </tr> `;
}

function whenText(from: string | null, to: string | null, noticedAt: string | null): Part {
  if (from === null) return DASH;
  const end = to === null ? html`<span class="quiet">not over</span>` : timeOf(to);
  const noticed =
    noticedAt === null
      ? 'not noticed by Bootproof'
      : noticedAt === from
        ? 'noticed at once'
        : html`noticed ${timeOf(noticedAt)}`;
  return html`${timeOf(from)}<br />${end}<small>${noticed}</small>`;
}

const EXCEPTION_HEADS: readonly (readonly [string, string?])[] = [
  ['Severity', 'w12'],
  ['What, and why'],
  ['From, until', 'w20'],
  ['Longest', 'num'],
  ['Hosts', 'num w24'],
];

export function* failing({ fold, results }: Page): Iterable<Markup> {
  const { lines, beyond } = fold.lines('fails', 'unknown');
  const gaps = fold.gaps.items.filter(({ exception }) => exception.weight === 'fails');
  if (lines.length === 0 && gaps.length === 0) {
    yield html`<p>
      ${results.population.inScope === 0 ? 'There was no host in scope.' : results.population.belowLimit > 0 ? 'None besides the hosts that reported too little, section 2.' : 'None. Every host in scope was, over the whole period, as its rules ask.'}
    </p> `;
    return;
  }
  yield html`<p class="soft">
    Like exceptions of several hosts are one line. Every one with its host stands in <code>csv/exceptions.csv</code>.
  </p> `;
  if (lines.length > 0)
    yield* table(
      'Failing exceptions',
      EXCEPTION_HEADS,
      lines.map((line) => exceptionRow(line, answered(line))),
      beyondText(beyond, 'csv/exceptions.csv'),
    );
  if (gaps.length === 0) return;
  yield html`<h3>Gaps in reports that nobody explained</h3> `;
  yield* gapTable(gaps, Math.max(0, results.population.gaps.unexplained - gaps.length));
}

function* gapTable(gaps: ReportFold['gaps']['items'], beyond: number): Iterable<Markup> {
  yield* table(
    'Gaps',
    [['Host'], ['From, until', 'w20'], ['Noticed', 'w16'], ['Lasted', 'num'], ['Why', 'w32']],
    gaps.map(
      ({ host, exception, lasted }) =>
        html`<tr>
          <th scope="row" class="break">${host.name}</th>
          <td>${timeOf(exception.from)}<br />${timeOf(exception.to)}</td>
          <td>${timeOf(exception.noticedAt)}</td>
          <td class="num">${duration(lasted)}</td>
          <td class="break">
            ${exception.weight === 'explained' ? exception.cause.replace(/^No report for [^:]*: /, '') : html`<span class="quiet">not said</span>`}
          </td>
        </tr> `,
    ),
    beyondText(beyond, 'csv/exceptions.csv'),
  );
}

/** What people did about it, of the line's first host. */
function answered({ exception: { finding, decision, kind } }: ExceptionLine): Part {
  if (decision !== null)
    return html`<small
      >${decision.id}: asked by ${decision.requestedBy}, approved by ${decision.decidedBy ?? 'nobody'}</small
    >`;
  if (finding === null || kind === 'answer') return null;
  return html`<small
    >${finding.answeredAt === null ? 'Nobody answered it.' : html`First answered ${timeOf(finding.answeredAt)}.`}</small
  >`;
}

export function* waived({ fold, results }: Page, decisions: Top<DecisionFact>, alone: number): Iterable<Markup> {
  if (decisions.seen === 0) yield html`<p>No waiver was asked for, decided or in force in the period.</p> `;
  else {
    yield html`<p class="soft">
      ${counted(decisions.seen, 'waiver was', 'waivers were')} decided or in force.
      ${alone === 0 ? 'Asker and approver were different persons in all of them.' : html`<b>In ${alone} of them one person asked and approved.</b>`}
      ${counted(fold.hostsWaived, 'host')} had something waived at the end.
    </p> `;
    yield* table(
      'Waivers',
      [['Waiver', 'w12'], ['What and why'], ['Asked, approved', 'w24'], ['In force', 'w20']],
      decisions.items.map(decisionRow),
      beyondText(decisions.beyond, 'csv/decisions.csv'),
    );
  }
  const { lines, beyond } = fold.lines('waived');
  if (lines.length === 0) return;
  yield html`<h3>${counted(results.exceptions.waived, 'exception')} that waivers cover</h3> `;
  yield* table(
    'Waived exceptions',
    EXCEPTION_HEADS,
    lines.map((line) => exceptionRow(line, answered(line))),
    beyondText(beyond, 'csv/exceptions.csv'),
  );
}

function decisionRow(waiver: DecisionFact): Markup {
  const {
    id,
    state,
    title,
    justification,
    covers,
    ticket,
    requestedBy,
    requestedAt,
    decidedBy,
    decidedAt,
    alone,
    startsAt,
    endsAt,
  } = waiver;
  return html`<tr>
    <th scope="row" class="nowrap">${id}<small>${state}</small></th>
    <td class="break">
      ${title}<small>${justification}</small
      ><small>Covers ${coversText(covers)}${ticket !== null && ` · ${ticket}`}</small>
    </td>
    <td class="break">
      ${requestedBy}<small>${timeOf(requestedAt)}</small>${decidedBy === null ? html`<span class="quiet">not decided</span>` : html`${decidedBy}${alone && html` <span class="mark">same person</span>`}<small>${timeOf(decidedAt)}</small>`}
    </td>
    <td>${timeOf(startsAt ?? decidedAt)}<br />${timeOf(endsAt)}</td>
  </tr> `;
}

/** A waiver's selector in words; what is none, as it stands. */
function coversText(covers: string): string {
  let value: unknown;
  try {
    value = JSON.parse(covers);
  } catch {
    return covers; // words already, which the facts allow
  }
  const parsed = Selector.safeParse(value);
  if (!parsed.success) return covers;
  const { rules: ids, subject, content, hosts, image } = parsed.data;
  const parts = [
    subject === undefined ? 'any subject' : 'exact' in subject ? subject.exact : subject.glob,
    content === 'any' ? 'with any content' : `with ${counted(content.pins.length, 'pinned content')}`,
    ...(ids === undefined ? [] : [`by ${ids.join(', ')}`]),
    ...(hosts?.ids === undefined ? [] : [`on ${counted(hosts.ids.length, 'named host')}`]),
    ...(hosts?.groups === undefined ? [] : [`in groups ${hosts.groups.join(', ')}`]),
    ...(hosts?.labels === undefined
      ? []
      : [`with label ${hosts.labels.map(({ key, value: is }) => `${key}=${is}`).join(' or ')}`]),
    ...(image?.repository === undefined ? [] : [`of ${image.repository}`]),
    ...(image?.digest === undefined ? [] : [`of image ${short(image.digest)}`]),
  ];
  return parts.join(', ');
}

export function* ended({ fold, results }: Page): Iterable<Markup> {
  const { lines, beyond } = fold.lines('ended');
  const gaps = fold.gaps.items.filter(({ exception }) => exception.weight === 'explained');
  if (lines.length === 0 && gaps.length === 0) {
    yield html`<p>Nothing.</p> `;
    return;
  }
  yield html`<p class="soft">
    These do not count against a control: they were noticed, and they are over. Whether they were answered in time is
    asked by R-chg.
  </p> `;
  if (lines.length > 0)
    yield* table(
      'Ended',
      EXCEPTION_HEADS,
      lines.map((line) => exceptionRow(line, endedHow(line))),
      beyondText(beyond, 'csv/exceptions.csv'),
    );
  if (gaps.length === 0) return;
  yield html`<h3>Gaps with an explanation</h3> `;
  yield* gapTable(gaps, Math.max(0, results.population.gaps.explained - gaps.length));
}

const HOW: Readonly<Record<string, string>> = {
  reverted: 'It was put back.',
  superseded: 'The path then differed in another way.',
  host_updated: 'The host booted another image.',
  policy_changed: 'Policy was changed.',
  host_retired: 'The host was retired.',
};
function endedHow({ exception: { finding } }: ExceptionLine): Part {
  const why = finding?.history.findLast(({ transition }) => transition === 'resolved')?.why ?? null;
  return why !== null && html`<small>${HOW[why] ?? why}</small>`;
}
