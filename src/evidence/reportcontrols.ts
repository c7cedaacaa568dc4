/** Controls in the printed report: their results, and each with what it rests on and what it does not prove. */
import { CONTROL_DATA } from '#src/policy/controls.ts';
import type { Assessment, ControlResult } from './controls.ts';
import { duration } from './controlrules.ts';
import { counted, day, html, number, type Markup } from './reportmarkup.ts';
import { DASH, table, type Page } from './reportpage.ts';
import { outcomeMark } from './reportstyle.ts';

export function* controlTables({ results, frameworks, assessment }: Page): Iterable<Markup> {
  if (frameworks.length === 0) yield html`<p>No framework was chosen for this bundle.</p>`;
  yield html`<p class="soft">
    A result speaks of what its rules compute over the whole period, never of the whole control; what it leaves open
    stands in section 12. A host that reported too little satisfies nothing.
  </p> `;
  const count = (id: string, outcome: string) =>
    results.controls.filter((each) => each.framework === id && each.outcome === outcome).length;
  yield* table(
    'Results by framework',
    [['Framework'], ['Satisfied', 'num w16'], ['Not satisfied', 'num w16'], ['Not assessed', 'num w16']],
    frameworks.map(
      ({ id, title, version }) =>
        html`<tr>
          <th scope="row">${title}, ${version}</th>
          ${['satisfied', 'not-satisfied', 'not-assessed'].map((outcome) => html`<td class="num">${count(id, outcome)}</td>`)}
        </tr> `,
    ),
  );
  for (const framework of frameworks) {
    const own = results.controls.filter((each) => each.framework === framework.id);
    const computed = own.filter(({ control }) => rulesOf(assessment, framework.id, control).length > 0);
    yield html`<h3>${framework.title}, ${framework.version}</h3> `;
    yield* table(
      `Controls of ${framework.title}`,
      [
        ['Control', 'w12'],
        ['In our words, and why'],
        ['Result', 'w16'],
        ['Hosts that satisfy it', 'num'],
        ['Waived', 'num'],
      ],
      own.map((each) => controlRow(each, rulesOf(assessment, framework.id, each.control).join(' '))),
      html`<p class="quiet">
        ${computed.length} of ${counted(own.length, 'control')} ${computed.length === 1 ? 'is' : 'are'} computed. Hosts
        in “Waived” satisfy the control only thanks to waivers; they are among those that satisfy it.
      </p> `,
    );
  }
}

const rulesOf = ({ controls }: Assessment, framework: string, id: string): readonly string[] =>
  controls.find((each) => each.framework.id === framework && each.control.id === id)!.control.rules;

function controlRow(
  { control, title, status, outcome, reasons, kept, hosts, hostsWaived }: ControlResult,
  asked: string,
): Markup {
  // What is counted of hosts is said shortly: the sentence would stand in every row.
  const said =
    asked === '' ? reasons : [...reasons.filter((reason) => !/^\d+ of \d+ hosts?: /.test(reason)), ...shortly(kept)];
  const total = hosts.satisfied + hosts['not-satisfied'] + hosts['not-assessed'];
  return html`<tr>
    <th scope="row" class="nowrap">
      ${control}${status === 'draft' && html` <small><span class="mark">draft</span></small>`}
    </th>
    <td>${title}${said.map((reason) => html`<small>${reason}</small>`)}</td>
    <td>${outcomeMark(outcome)}<small>${asked === '' ? 'not computed' : asked}</small></td>
    <td class="num">${asked === '' ? DASH : html`${hosts.satisfied} of ${total}`}</td>
    <td class="num">${asked === '' ? DASH : hostsWaived}</td>
  </tr> `;
}

const SHORT: Readonly<Record<ControlResult['kept'][number]['kind'], string>> = {
  finding: 'with an open difference',
  image: 'with an image not known to be signed',
  interval: 'checked too seldom',
  gap: 'with an unexplained gap',
  answer: 'where an answer came late',
  standing: 'that could not be told at the end',
  incomplete: 'that reported too little',
  log: '',
};
const shortly = (kept: ControlResult['kept']): string[] =>
  kept.length === 0 ? [] : [`Hosts: ${kept.map(({ kind, hosts }) => `${number(hosts)} ${SHORT[kind]}`).join(', ')}.`];

export function* details({ frameworks, results }: Page): Iterable<Markup> {
  for (const { id, title, version, about, controls } of frameworks) {
    yield html`<h3>${title}, ${version}</h3>
      <p class="soft">${about}</p>
      <div class="details">`;
    for (const control of controls) {
      const { outcome } = results.controls.find((each) => each.framework === id && each.control === control.id)!;
      yield html`<div class="control">
        <h3>
          ${control.id}&ensp;${control.title}
          ${control.reviewed === null ? html`<span class="mark">draft</span>` : html`<span class="quiet">reviewed by ${control.reviewed.by}, ${day(control.reviewed.on)}</span>`}
        </h3>
        <p>${outcomeMark(outcome)}&ensp;${control.summary}</p>
        <p class="soft">
          ${control.notComputed ?? html`Computed by ${control.rules.join(', ')}${control.interval !== null && `, at least every ${duration(control.interval)}`}.`}${control.data.length > 0 && html` Rests on ${control.data.map((each) => CONTROL_DATA[each]).join('; ')}.`}
        </p>
        <p class="soft">Does not prove: ${control.doesNotProve.join(' ')}</p>
      </div> `;
    }
    yield html`</div>`;
  }
}
