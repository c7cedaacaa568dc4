/** What the page of a host at a moment is made of: answers, what was open, both answers side by side, waivers, what it rests on. */
import type { Posture } from '#server/posture.ts';
import type { FindingThen } from '#server/posturefindings.ts';
import type { Rest, Stated } from '#server/stated.ts';
import { digestHtml, html, icon, type Html, type Part } from './html.ts';
import { emptyHtml } from './parts/page.ts';
import type { Shown } from './posture.ts';
import { answerHtml, count, dayHtml, momentHtml, plural, severityGlyph, severityHtml, timeHtml } from './words.ts';

/** Findings that the page lists; the API has all. */
const FINDINGS_SHOWN = 100;
/** Entries of the log that are named. */
const RESTS_SHOWN = 12;

const unknownHtml = (text: string): Html => html`<span class="quiet">not known: ${text}</span>`;

/** A statement, or why there is none. */
function statedHtml<Value>(stated: Stated<Value>, shown: (value: Value) => Part): Part {
  return 'why' in stated ? unknownHtml(stated.why.text) : shown(stated.value);
}

// ── three answers ────────────────────────────────────────────────────────────────────────────────────────────────────

/** `Heard`, in the look of what the host's page calls current. */
function answer(stated: Stated<string>): Html {
  if (stated.value === null) return html`<span class="verdict silent">${icon('v-unverifiable')}Not known</span>`;
  return stated.value === 'heard'
    ? html`<span class="verdict current">${icon('v-compliant')}Heard</span>`
    : answerHtml(stated.value);
}

export function answersSheet(shown: Shown): Html {
  const { told: then, later } = shown;
  const each = (title: string, of: (one: Posture) => Stated<string>, text: Part): Html => {
    const [was, is] = [of(then), of(later)];
    return html`<div>
      <h2>${title}</h2>
      ${answer(is)}
      <p>${'why' in is ? `${is.why.text.slice(0, 1).toUpperCase()}${is.why.text.slice(1)}.` : text}</p>
      ${was.value !== is.value && html`<p class="quiet">As known then: ${was.value?.replace('-', ' ') ?? 'not known'}</p>`}
    </div>`;
  };
  return html`<section class="sheet" aria-label="Three answers">
    <div class="answers">
      ${each('Was it the image?', ({ answers }) => answers.integrity, integrityText(later))}
      ${each('Was the image ours?', ({ answers }) => answers.provenance, provenanceText(shown))}
      ${each('Had we heard?', ({ answers }) => answers.freshness, freshnessText(later))}
    </div>
  </section>`;
}

function integrityText({ findings, notes }: Posture): Html {
  const all = findings.value ?? [];
  const waived = all.filter(({ disposition }) => disposition === 'waived').length;
  const open = all.length - waived;
  const noted = notes.map((note) => ` ${note.slice(0, 1).toUpperCase()}${note.slice(1)}.`);
  return html`${open === 0 ? 'No finding was open' : `${plural(open, 'finding')} ${open === 1 ? 'was' : 'were'} open`}${waived > 0 && `, ${count(waived)} waived`}.${noted}`;
}

function provenanceText({ later, named }: Shown): Html {
  const digest = later.image.value?.digest ?? null;
  if (digest === null) return html`The host named no image.`;
  const image = named.get(digest);
  return html`It ran
    <a href="/images/${encodeURIComponent(digest)}"
      >${image === undefined ? digestHtml(digest) : `${image.place} ${image.version ?? ''}`.trim()}</a
    >. ${later.answers.provenance.value === 'not-assessed' && 'Nothing had been said about its signatures by then.'}`;
}

function freshnessText({ report }: Posture): Html {
  if (report.value === null) return html`No full report.`;
  const { seq, receivedAt, madeAt, cameLater } = report.value;
  return cameLater
    ? html`Report ${count(seq)} shows it, made ${madeAt === null ? 'before then' : timeHtml(madeAt)}; it came only
      ${timeHtml(receivedAt)}.`
    : html`Report ${count(seq)} showed it, and had come ${timeHtml(receivedAt)}.`;
}

// ── what was open ────────────────────────────────────────────────────────────────────────────────────────────────────

type Known = 'both' | 'later' | 'told';
type Row = { readonly finding: FindingThen; readonly before: FindingThen | undefined; readonly known: Known };

function rowsOf({ told: then, later }: Shown): readonly Row[] {
  const [was, is] = [then.findings.value, later.findings.value ?? []];
  const before = new Map((was ?? []).map((one) => [one.group, one]));
  const now = new Set(is.map(({ group }) => group));
  return [
    ...is.map((finding): Row => {
      const other = before.get(finding.group);
      return { finding, before: other, known: other === undefined && was !== null ? 'later' : 'both' };
    }),
    ...(later.findings.value === null ? [] : (was ?? []))
      .filter(({ group }) => !now.has(group))
      .map((finding): Row => ({ finding, before: finding, known: 'told' })),
  ];
}

export function findingsSheet(shown: Shown): Html {
  const { later } = shown;
  if ('why' in later.findings)
    return html`<section class="sheet">
      <header><h2>Findings</h2></header>
      ${emptyHtml('They cannot be told', `${later.findings.why.text.slice(0, 1).toUpperCase()}${later.findings.why.text.slice(1)}.`)}
    </section>`;
  const rows = rowsOf(shown);
  const cut = rows.slice(0, FINDINGS_SHOWN);
  return html`<section class="sheet">
    <header>
      <h2>Findings</h2>
      <span class="quiet">that stood at that moment</span>
    </header>
    ${
      rows.length === 0
        ? emptyHtml('None', 'Nothing was held against the host at that moment, waived or not.')
        : html`<table class="list flat">
            <caption class="sr">
              Findings of the host at that moment, worst first
            </caption>
            <thead>
              <tr>
                <th class="p2">Severity</th>
                <th>What</th>
                <th class="p2 num">Since</th>
              </tr>
            </thead>
            <tbody>
              ${cut.map(findingRow)}
            </tbody>
          </table>`
    }
    ${rows.length > cut.length && html`<footer><span>The first ${count(cut.length)} of ${count(rows.length)}; the API and the command have all.</span></footer>`}
  </section>`;
}

const KNOWN_TAG: Readonly<Record<Exclude<Known, 'both'>, readonly [look: string, word: string]>> = {
  later: ['late', 'not known then'],
  told: ['silent', 'only as known then'],
};

function findingRow({ finding, before, known }: Row): Html {
  const { group, what, rule, severity, since } = finding;
  const tag = known === 'both' ? undefined : KNOWN_TAG[known];
  const moved =
    known === 'both' &&
    before !== undefined &&
    (before.disposition !== finding.disposition || before.waiver !== finding.waiver);
  return html`<tr>
    <td class="p2">${severity === null ? html`<span class="quiet">not logged</span>` : severityHtml(severity)}</td>
    <td class="main">
      <div class="two">
        <span
          >${severity !== null && html`<span class="only-small">${severityGlyph(severity)}</span>`}<a
            class="go"
            href="/findings/${group}"
            title="${what}"
            >${what}</a
          ></span
        >
        <span
          >${tag !== undefined && html`<span class="tag loud ${tag[0]}">${tag[1]}</span> `}${moved && html`<span class="tag loud late">decided otherwise as known then</span> `}${decidedText(finding)}
          · rule ${rule}</span
        >
      </div>
    </td>
    <td class="p2 num soft nowrap">${momentHtml(since)}</td>
  </tr>`;
}

/** In words: the waivers themselves are led to beneath. */
function decidedText({ disposition, waiver }: FindingThen): string {
  switch (disposition) {
    case 'waived':
      return waiver === null ? 'waived' : `waived by ${waiver}`;
    case 'acknowledged':
      return 'acknowledged';
    case 'none':
      return 'open';
    case null:
      return 'open, or decided about: that is not known';
  }
}

// ── side by side ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Both answers with what is equal as well: that nothing became known of a thing is found out, too. */
export function comparedSheet(shown: Shown): Html {
  const { told: then, later, isNow, named } = shown;
  const row = (word: string, of: (one: Posture) => readonly [key: unknown, shown: Part]): Html => {
    const [[a, was], [b, is]] = [of(then), of(later)];
    const differs = JSON.stringify(a) !== JSON.stringify(b);
    return html`<tr ${differs && html` class="differs"`}>
      <th scope="row">${word}</th>
      <td>${was}</td>
      <td class="sign">
        <span aria-hidden="true">${differs ? '≠' : '='}</span
        ><span class="sr">${differs ? 'differs from' : 'equals'}</span>
      </td>
      <td>${is}</td>
    </tr>`;
  };
  const image = (digest: string | null, reference: string | null): Part => {
    if (digest === null) return reference ?? html`<span class="quiet">not named</span>`;
    const known = named.get(digest);
    return html`<a href="/images/${encodeURIComponent(digest)}"
        >${known === undefined ? 'an image' : `${known.place} ${known.version ?? ''}`.trim()}</a
      >
      ${digestHtml(digest)}`;
  };
  return html`<section class="sheet">
    <header>
      <h2>Both answers</h2>
      <span class="quiet">about the same moment</span>
    </header>
    <table class="compare moments">
      <caption class="sr">
        As known then, and as known ${isNow ? 'now' : 'later'}
      </caption>
      <thead>
        <tr>
          <td></td>
          <th scope="col">As known then</th>
          <td class="sign"></td>
          <th scope="col">As known ${isNow ? 'now' : timeHtml(later.known)}</th>
        </tr>
      </thead>
      <tbody>
        ${row('Verdict', ({ verdict }) => [verdict.value, statedHtml(verdict, (value) => value)])}
        ${row('Report', ({ report }) => [
          report.value?.seq ?? null,
          statedHtml(report, ({ seq, receivedAt }) => html`${count(seq)}, came ${timeHtml(receivedAt)}`),
        ])}
        ${row('Image', (one) => [
          one.image.value?.digest ?? null,
          statedHtml(one.image, ({ digest, reference }) => image(digest, reference)),
        ])}
        ${row('Policy', ({ policy, judgedBy }) => [
          [policy.value?.version ?? null, judgedBy?.version ?? null],
          statedHtml(
            policy,
            ({ version, name, since }) =>
              html`<a href="/policies/${version}">${name}</a>, version ${version} since
                ${dayHtml(since)}${judgedBy !== null && html`; judged by version <a href="/policies/${judgedBy.version}">${judgedBy.version}</a>`}`,
          ),
        ])}
        ${row('Findings', ({ findings }) => {
          const waived = (findings.value ?? []).filter(({ disposition }) => disposition === 'waived').length;
          return [
            findings.value?.map(({ group, disposition, waiver }) => [group, disposition, waiver]) ?? null,
            statedHtml(findings, (value) => html`${count(value.length - waived)} open, ${count(waived)} waived`),
          ];
        })}
        ${row('Called', ({ host }) => [host.value, statedHtml(host, ({ name, group, state }) => html`${name}${group !== null && html`, in ${group}`}${state !== 'active' && html`, ${state}`}`)])}
      </tbody>
    </table>
  </section>`;
}

// ── waivers, and what it rests on ────────────────────────────────────────────────────────────────────────────────────

export function waiversSheet({ told: then, later, readable }: Shown): Html | undefined {
  if (readable === undefined) return undefined;
  const before = new Map(then.waivers.map((waiver) => [waiver.id, waiver]));
  const mine = later.waivers.filter(({ id }) => readable.has(id));
  const gone = then.waivers.filter(({ id }) => readable.has(id) && !later.waivers.some((one) => one.id === id));
  const all = [...mine, ...gone];
  return html`<section class="sheet">
    <header>
      <h2>Waivers in force</h2>
      <span class="quiet">that reached the host</span>
    </header>
    ${
      all.length === 0
        ? emptyHtml('None', 'No waiver in force at that moment reached this host.')
        : html`<table class="list flat">
            <caption class="sr">
              Waivers that reached the host at that moment
            </caption>
            <thead>
              <tr>
                <th>Waiver</th>
                <th class="p3">Approved by</th>
                <th class="p2">From</th>
                <th class="num">Until</th>
              </tr>
            </thead>
            <tbody>
              ${all.map((waiver) => {
                const { id, title, from, until, approvedBy, covers } = waiver;
                const other = before.get(id);
                const tag = gone.includes(waiver)
                  ? 'only as known then'
                  : other === undefined
                    ? 'not known then'
                    : other.until !== until
                      ? 'end not known then'
                      : undefined;
                return html`<tr>
                  <td class="main">
                    <div class="two">
                      <span
                        ><a class="go" href="/waivers/${id}"><span class="mono quiet">${id}</span> ${title}</a></span
                      >
                      <span
                        >${tag !== undefined && html`<span class="tag loud late">${tag}</span> `}${covers === 0 ? 'covered nothing of it' : `covered ${plural(covers, 'finding')} of it`}</span
                      >
                    </div>
                  </td>
                  <td class="p3 soft nowrap">${approvedBy ?? html`<span class="quiet">–</span>`}</td>
                  <td class="p2 soft nowrap">${dayHtml(from)}</td>
                  <td class="num soft nowrap day">${dayHtml(until - 1)}</td>
                </tr>`;
              })}
            </tbody>
          </table>`
    }
  </section>`;
}

const KINDS: Readonly<Record<Rest['kind'], string>> = { judgement: 'Judgement', report: 'Report', act: 'Act' };

/** Entries of the evidence log: what an auditor looks up in a bundle. */
export function restsSheet({ told: then, later }: Shown): Html {
  const all = [then, later].flatMap(({ verdict, answers, report, image, policy, host, findings, waivers }) => [
    ...[verdict, answers.integrity, answers.provenance, report, image, policy, host].flatMap(({ rests }) => rests),
    ...(findings.value ?? []).flatMap(({ rests }) => rests),
    ...waivers.flatMap(({ rests }) => rests),
  ]);
  const rests = [...new Map(all.map((one) => [`${one.log} ${one.index}`, one])).values()].sort(
    (a, b) => b.log - a.log || b.index - a.index,
  );
  const origin = [...later.logs.origins.values()].at(-1);
  return html`<section class="sheet">
    <header><h2>What it rests on</h2></header>
    <div class="pad form">
      ${
        rests.length === 0
          ? html`<p class="quiet">No entry of the evidence log tells of this moment.</p>`
          : html`<p class="quiet">Entries of the evidence log, to be looked up in a bundle.</p>
              <ul class="rows">
                ${rests.slice(0, RESTS_SHOWN).map(
                  ({ kind, index, at }) =>
                    html`<li>
                      <span>${KINDS[kind]} <code>${index}</code></span
                      ><span class="quiet">${momentHtml(at)}</span>
                    </li>`,
                )}
              </ul>
              ${rests.length > RESTS_SHOWN && html`<p class="quiet">And ${count(rests.length - RESTS_SHOWN)} more.</p>`}`
      }
      ${origin !== undefined && html`<p class="quiet">Log <code>${origin}</code></p>`}
    </div>
  </section>`;
}
