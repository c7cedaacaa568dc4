/**
 * The report that a person reads (docs/evidence.md, report): one HTML document that needs nothing else, and prints. Written from facts and what
 * they come to, in pieces; of a fleet of any size it shows summaries and exceptions, and counts what stands in the CSV files.
 */
import { REPORT_ROWS_MAX } from '#src/limits.ts';
import { assess, type Assessment } from './controls.ts';
import { duration, percent } from './controlrules.ts';
import type { DecisionFact, PolicyFact, ReconciliationFact } from './facts.ts';
import { timeline } from './reportchart.ts';
import { controlTables, details } from './reportcontrols.ts';
import { ended, failing, waived } from './reportexceptions.ts';
import { ReportFold } from './reportfold.ts';
import { counted, html, number, periodText, short, timeOf, Top, type Markup, type Part } from './reportmarkup.ts';
import { check, glossary, limits, method } from './reportmethod.ts';
import { beyondText, DASH, table, type Page } from './reportpage.ts';
import { GLYPHS, pageStyle, STYLE, styleHash } from './reportstyle.ts';

export type ReportOptions = {
  /** Of the key that signs the bundle, hex; printed so that it can be compared with what came another way. */
  readonly fingerprint: string;
};

/** The document in pieces. @throws {ControlsError} as `assess` does. */
export async function* reportDocument(assessment: Assessment, { fingerprint }: ReportOptions): AsyncGenerator<string> {
  const { facts, controls } = assessment;
  const { head } = facts;
  const fold = new ReportFold(head);
  const results = await assess(assessment, (host) => fold.add(host));
  const decisions = new Top<DecisionFact>(REPORT_ROWS_MAX, (a, b) => (a.requestedAt < b.requestedAt ? -1 : 1));
  let alone = 0;
  for await (const decision of facts.decisions()) {
    if (decision.kind !== 'waiver') continue;
    decisions.offer(decision);
    if (decision.alone) alone++;
  }
  const policies = new Top<PolicyFact>(REPORT_ROWS_MAX, (a, b) => (a.inForce.from < b.inForce.from ? -1 : 1));
  for await (const policy of facts.policies()) policies.offer(policy);
  const reconciliations: ReconciliationFact[] = [];
  for await (const one of facts.reconciliations()) if (reconciliations.length < 20) reconciliations.push(one);
  const frameworks = head.frameworks.map((id) => controls.find(({ framework }) => framework.id === id)!.framework);
  const page = { assessment, results, fold, frameworks, fingerprint };

  const foot = pageStyle(`Bootproof evidence report · ${periodText(head.period)} · log size ${head.log.size}`);
  const policy = `default-src 'none'; style-src ${styleHash(STYLE)} ${styleHash(foot)}; base-uri 'none'; form-action 'none'`;
  yield html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content="${policy}" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="referrer" content="no-referrer" />
        <title>Evidence report, ${periodText(head.period)} · Bootproof</title>
        ${STYLE} ${foot}
      </head>
      <body>
        ${GLYPHS}
        <main>
     `.text;
  const sections: readonly (readonly [id: string, title: string, body: () => Iterable<Markup>])[] = [
    ['controls', 'Result by control', () => controlTables(page)],
    ['population', 'Population and completeness', () => populationSection(page, reconciliations)],
    ['failing', 'Exceptions that keep a control from being satisfied', () => failing(page)],
    ['waived', 'Waivers, and what they except', () => waived(page, decisions, alone)],
    ['ended', 'What began and ended, and gaps that were explained', () => ended(page)],
    ['timeline', 'The period, day by day', () => [timelineSection(page)]],
    ['images', 'What hosts ran, and who signed it', () => [images(page)]],
    ['policies', 'Rules in force', () => [rules(policies)]],
    ['method', 'How this report was made', () => method(page)],
    ['check', 'How to check it', () => [check(page)]],
    ['limits', 'What it does not prove', () => [limits(page)]],
    ['detail', 'Each control: in our words, on what it rests, what it does not prove', () => details(page)],
    ['words', 'Words', () => [glossary()]],
  ];
  yield cover(
    page,
    sections.map(([id, title]) => ({ id, title })),
  ).text;
  for (const [index, [id, title, body]] of sections.entries()) {
    yield html`<section id="${id}" ${PAGES.has(id) && PAGE}${KEPT.has(id) && KEEP}>
      <h2><span class="n">${index + 1}</span>${title}</h2>
     `.text;
    for (const piece of body()) yield piece.text;
    yield '</section>\n';
  }
  yield html`<footer><span>Bootproof ${head.server.version} · ${head.server.name}</span><span>${periodText(head.period)} · log size ${head.log.size}</span></footer>
</main>
</body>
</html>
`.text;
}

/** Sections that begin a new page on paper. */
const PAGES = new Set(['population', 'failing', 'method']);
/** Short ones that stay on one. */
const KEPT = new Set(['timeline', 'images', 'check', 'limits']);
const PAGE = html` class="page"`;
const KEEP = html` class="keep"`;

const LEVEL: readonly (readonly [name: string, means: string])[] = [
  [
    'Level 0: the server’s word',
    'When this was exported, nobody outside had kept a checkpoint of the log. Whoever holds the server’s log key could have written the log anew. Checkpoints that hosts kept, collected from the hosts themselves, raise this to level 1.',
  ],
  [
    'Level 1: hosts kept checkpoints',
    'Hosts kept checkpoints of the log and checked each against the one before. A log written anew would not fit what they kept; collect it from the hosts themselves.',
  ],
  [
    'Level 2: an independent witness or time stamp',
    'A party that does not run this server signed or time-stamped the log’s checkpoint. A log written anew would need that party’s help.',
  ],
];

function cover(
  { assessment, results, frameworks, fingerprint }: Page,
  contents: readonly { id: string; title: string }[],
): Markup {
  const { head } = assessment.facts;
  const { population: all, controls } = results;
  const [level, means] = LEVEL[head.log.level]!;
  const of = (outcome: string) => controls.filter((each) => each.outcome === outcome).length;
  const drafts = controls.filter(({ status }) => status === 'draft').length;
  const scope = head.selection.hosts === 'all' ? 'All hosts' : 'Selected hosts';
  const enough = all.inScope - all.belowLimit;
  return html`<section class="cover">
    <header>
      <span class="brand"
        ><svg aria-hidden="true"><use href="#logo" /></svg>Bootproof</span
      ><span class="quiet">Evidence report</span>
    </header>
    <h1>${scope}, ${periodText(head.period)}</h1>
    <p class="lead">
      ${all.inScope === 0 ? 'No host was in scope in this period, so nothing was assessed.' : html`${enough === all.inScope ? html`All ${counted(all.inScope, 'host')} in scope` : html`${enough} of ${counted(all.inScope, 'host')} in scope`} reported often enough to be judged. Of ${counted(controls.length, 'control')}, ${of('satisfied')} ${of('satisfied') === 1 ? 'is' : 'are'} satisfied, ${of('not-satisfied')} ${of('not-satisfied') === 1 ? 'is' : 'are'} not, and ${of('not-assessed')} could not be assessed.`}
    </p>
    <div class="figures">
      <div><b>${all.inScope}</b><span>${all.inScope === 1 ? 'host' : 'hosts'} in scope</span></div>
      <div>
        <b>${all.checkIns.expected === 0 ? '–' : percent(Math.min(1, all.checkIns.received / all.checkIns.expected))}</b
        ><span>of expected reports came</span>
      </div>
      <div><b>${results.exceptions.fails}</b><span>failing exceptions</span></div>
      <div><b>${results.exceptions.waived}</b><span>waived exceptions</span></div>
    </div>
    <dl class="facts">
      <dt>Scope</dt>
      <dd class="break">
        ${head.selection.hosts === 'all' ? 'every enrolled host' : html`<code>${head.selection.filter}</code>`}
      </dd>
      <dt>Made</dt>
      <dd>${timeOf(head.exportedAt)} UTC</dd>
      <dt>Period</dt>
      <dd>${timeOf(head.period.from)} to<br />${timeOf(head.period.to)} UTC</dd>
      <dt>Asked by</dt>
      <dd class="break">${head.exportedBy}</dd>
      <dt>${frameworks.length === 1 ? 'Framework' : 'Frameworks'}</dt>
      <dd class="wide">
        ${frameworks.length === 0 ? 'none chosen' : frameworks.map(({ title, version }) => `${title}, ${version}`).join(' · ')}
      </dd>
      <dt>Log</dt>
      <dd class="wide"><code>${head.log.origin}</code>, ${counted(head.log.size, 'entry', 'entries')}</dd>
      <dt>Root</dt>
      <dd class="wide"><code>${head.log.root}</code></dd>
      <dt>Signing key</dt>
      <dd class="wide">
        <code>${fingerprint}</code><br /><span class="quiet"
          >SHA-256 of the key that signs this bundle. It proves nothing by standing here: compare it with what you were
          given another way.</span
        >
      </dd>
    </dl>
    <div class="note">
      <p><b>${level}.</b> ${means}</p>
    </div>
    ${
      drafts > 0 &&
      html`<div class="note">
        <p>
          <b
            >${drafts === controls.length ? 'All' : drafts} of the ${counted(controls.length, 'mapping')} from facts to
            controls ${drafts === 1 ? 'is a draft' : 'are drafts'}.</b
          >
          Ids are the frameworks’, sentences are ours, and nobody with the standard at hand has reviewed those rows yet.
          They are marked <span class="mark">draft</span>.
        </p>
      </div>`
    }
    <nav aria-label="Contents">
      <h2>Contents</h2>
      <ol>
        ${contents.map(
          ({ id, title }, i) =>
            html`<li>
              <a href="#${id}"><span class="n">${i + 1}</span>${title}</a>
            </li>`,
        )}
      </ol>
    </nav>
  </section> `;
}

function* populationSection({ results, fold }: Page, reconciliations: readonly ReconciliationFact[]): Iterable<Markup> {
  const { population: all, parameters } = results;
  const row = (name: string, value: Part, note: Part = '') =>
    html`<tr>
      <th scope="row">${name}</th>
      <td class="num">${value}</td>
      <td class="soft">${note}</td>
    </tr> `;
  const silentDays = all.longest;
  yield* table(
    'Population',
    [['Population', 'w32'], ['Count', 'num w12'], ['Remark']],
    [
      row('Hosts in scope', all.inScope, html`one line each in <code>csv/population.csv</code>`),
      row('Enrolled in the period', all.enrolledInPeriod, 'judged from then on'),
      row('Retired in the period', all.retiredInPeriod, 'judged until then'),
      row('Enrolled, but not in scope', all.outOfScope, 'named by id alone'),
      row('Reports expected', all.checkIns.expected, 'whole intervals while a host was enrolled'),
      row(
        'Reports received',
        all.checkIns.received,
        all.checkIns.expected === 0
          ? ''
          : `${percent(Math.min(1, all.checkIns.received / all.checkIns.expected))} of those expected`,
      ),
      row(
        'Hosts below the completeness limit',
        all.belowLimit,
        `less than ${percent(parameters.completenessMin)} of what was expected, or nothing at all`,
      ),
      row(
        'Hosts with gaps',
        all.gaps.hosts,
        `${counted(all.gaps.unexplained, 'gap')} nobody explained, ${number(all.gaps.explained)} explained`,
      ),
      ...(silentDays === null
        ? []
        : [row('Longest without a report', duration(silentDays.seconds * 1000), silentDays.name)]),
    ],
  );
  yield html`<h3>How hosts stood at the end of the period</h3> `;
  yield* table(
    'Standing at the end',
    [['Verdict', 'w32'], ['Hosts', 'num w12'], ['Remark']],
    all.verdicts.map(({ verdict, hosts }) =>
      row(
        verdict,
        hosts,
        verdict === 'compliant' && all.compliantWaived > 0
          ? `${number(all.compliantWaived)} of these with waivers`
          : (VERDICT_TEXT[verdict] ?? ''),
      ),
    ),
  );
  if (fold.below.seen > 0) {
    yield html`<h3>Hosts below the completeness limit</h3> `;
    yield* table(
      'Below the limit',
      [['Host'], ['Group', 'w20'], ['Received', 'num'], ['Expected', 'num'], ['Share', 'num']],
      fold.below.items.map(
        ({ name, group, checkIns: { expected, received } }) =>
          html`<tr>
            <th scope="row" class="break">${name}</th>
            <td class="break">${group ?? DASH}</td>
            <td class="num">${received}</td>
            <td class="num">${expected}</td>
            <td class="num">${expected === 0 ? DASH : percent(received / expected)}</td>
          </tr> `,
      ),
      beyondText(fold.below.beyond, 'csv/population.csv'),
    );
  }
  yield html`<h3>Compared with a second list</h3> `;
  if (reconciliations.length === 0)
    yield html`<p class="soft">
      No list from elsewhere was compared in the period. That every machine is enrolled is therefore not shown.
    </p> `;
  else
    yield* table(
      'Reconciliation',
      [['List'], ['When', 'w20'], ['Theirs', 'num'], ['Ours', 'num'], ['Only theirs', 'num'], ['Only ours', 'num']],
      reconciliations.map(
        ({ source, at, theirs, ours, onlyTheirs, onlyOurs }) =>
          html`<tr>
            <th scope="row" class="break">${source}${names(onlyTheirs)}</th>
            <td>${timeOf(at)}</td>
            <td class="num">${theirs}</td>
            <td class="num">${ours}</td>
            <td class="num">${onlyTheirs.length}</td>
            <td class="num">${onlyOurs.length}</td>
          </tr> `,
      ),
    );
}

const names = (all: readonly string[]): Part =>
  all.length > 0 &&
  html`<small class="break"
    >Only theirs: ${all.slice(0, 12).join(', ')}${all.length > 12 && `, and ${number(all.length - 12)} more`}</small
  >`;

const VERDICT_TEXT: Readonly<Record<string, string>> = {
  compliant: 'matches its image, nothing excepted',
  drifted: 'something differs from the image',
  unsigned: 'the booted image had no accepted signature',
  unverifiable: 'it could not be told',
  silent: 'no report within the agreed time',
  new: 'enrolled, nothing proved yet',
};

function timelineSection({ fold }: Page): Markup {
  return html`<p class="soft">
      Each time a finding opened on a host is counted above the line, each time one ended below it. The lower row counts
      hosts that sent no report for longer than policy allows.
    </p>
    <figure>${timeline(fold.bins)}</figure> `;
}

function images({ assessment, fold }: Page): Markup {
  const rows = new Top<{ readonly image: string; readonly hosts: number }>(
    REPORT_ROWS_MAX,
    (a, b) => b.hosts - a.hosts || (a.image < b.image ? -1 : 1),
  );
  for (const image of assessment.known.images.keys()) rows.offer({ image, hosts: fold.booted.get(image) ?? 0 });
  if (rows.seen === 0) return html`<p>Nothing is known of any image.</p> `;
  const body = rows.items.map(({ image, hosts }) => {
    const { names: known, trust } = assessment.known.images.get(image)!;
    const judged =
      trust.state === 'trusted'
        ? html`${trust.by ?? 'a key of the policy'}${trust.policy !== null && html`<small>by policy ${trust.policy}</small>`}`
        : html`<b>${trust.state}</b><small>${trust.why ?? ''}</small>`;
    return html`<tr>
      <th scope="row" class="break"><code>${short(image)}</code><small>${known.slice(0, 3).join(', ')}</small></th>
      <td class="break">${judged}</td>
      <td>${timeOf(trust.verifiedAt)}</td>
      <td class="num">${hosts}</td>
    </tr> `;
  });
  return html`${[...table('Images', [['Image', 'w32'], ['Signed by'], ['Verified', 'w20'], ['Hosts at the end', 'num']], body, beyondText(rows.beyond, 'csv/deployments.csv'))]}
    <p class="quiet">When each host booted which image: <code>csv/deployments.csv</code>.</p> `;
}

function rules(policies: Top<PolicyFact>): Markup {
  if (policies.seen === 0) return html`<p>The bundle names no rules.</p> `;
  return html`${[
    ...table(
      'Rules in force',
      [['Rules', 'w24'], ['Digest'], ['Put in force by', 'w20'], ['From, until', 'w20']],
      policies.items.map(
        ({ kind, name, version, digest, by, note, inForce }) =>
          html`<tr>
            <th scope="row" class="break">${name}, version ${version}<small>${KIND[kind]}</small></th>
            <td class="break"><code>${short(digest)}</code>${note !== null && html`<small>${note}</small>`}</td>
            <td class="break">${by}</td>
            <td>
              ${timeOf(inForce.from)}<br />${inForce.to === null ? html`<span class="quiet">in force</span>` : timeOf(inForce.to)}
            </td>
          </tr> `,
      ),
      beyondText(policies.beyond, 'facts/policies'),
    ),
  ]}`;
}
const KIND = { host: 'host policy', image: 'image policy', controls: 'mapping of controls' } as const;
