/** The findings of one host: what is wrong, since when and between which two reports; what people decided stays in the list. */
import { formatInstant } from '#src/clock.ts';
import { returnedText } from '#src/finding/returned.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { reportBefore } from '#server/findingorigin.ts';
import type { FindingDetail } from '#server/ingest/judge.ts';
import type { Chain, FindingWithGroup, Returned } from '#server/store/records.ts';
import type { About } from './hostabout.ts';
import { html, type Html } from './html.ts';
import { whatHtml } from './parts/finding.ts';
import { emptyHtml } from './parts/page.ts';
import type { WebServices } from './services.ts';
import { agoHtml, count, dayHtml, plural, severityHtml } from './words.ts';

const SHOWN = 100;
/** Findings of which it is looked up which report brought them. */
const TRACED = 50;

export async function findingsTab(about: About, { store }: WebServices): Promise<Html> {
  const { host, view, findings, now } = about;
  const shown = findings.slice(0, SHOWN);
  const brought = new Map(
    await Promise.all(
      shown.slice(0, TRACED).map(async ({ groupId }) => {
        const episodes = await store.findings.episodes(host.id, groupId);
        return [groupId, episodes.at(-1)?.openedSeq ?? null] as const;
      }),
    ),
  );
  // Reasons that are findings stand in the list already.
  const others = view.reasons.filter(({ rule }) => rule === undefined);
  return html`${
      others.length > 0 &&
      view.verdict !== 'compliant' &&
      html`<section class="sheet">
        <header><h2>Why ${view.verdict}</h2></header>
        <div class="pad">
          <ul class="plain">
            ${others.map(({ text }) => html`<li>${text}</li>`)}
          </ul>
        </div>
      </section>`
    }
    <section class="sheet">
      <header>
        <h2>Findings</h2>
        <span class="quiet"
          >${view.verdict === 'silent' && findings.length > 0 ? 'as they were when it was last heard' : ''}</span
        >
      </header>
      ${
        shown.length === 0
          ? emptyHtml('Nothing is open on this host', nothingText(about))
          : html`<table class="list">
              <caption class="sr">
                Findings of this host, worst first
              </caption>
              <thead>
                <tr>
                  <th>Severity</th>
                  <th>What</th>
                  <th class="p2">Status</th>
                  <th class="num">Since</th>
                </tr>
              </thead>
              <tbody>
                ${shown.map((finding) => row(finding, brought.get(finding.groupId) ?? null, host.chain, now))}
              </tbody>
            </table>`
      }
      ${
        shown.length > 0 &&
        html`<footer>
          <span
            >${shown.length < findings.length ? `${count(shown.length)} of ` : ''}${plural(findings.length, 'finding')}</span
          >
          <a class="link" href="/findings?tab=all&q=${encodeURIComponent(`host:${host.id}`)}">In the queue</a>
        </footer>`
      }
    </section>`;
}

function nothingText({ host, view }: About): string {
  if (host.last === null) return 'It has not reported yet.';
  if (view.verdict === 'unverifiable')
    return 'It could not be compared, so nothing is known against it. The three answers say why.';
  return 'Its last report shows nothing that policy forbids.';
}

function row(finding: FindingWithGroup, seq: number | null, chain: Chain, now: number): Html {
  const { group, groupId, severity, openedAt, reopened, flappingUntil } = finding;
  const detail = finding.detail as FindingDetail | null;
  return html`<tr>
    <td>${severityHtml(SEVERITIES[severity])}</td>
    <td class="main">
      <div class="two">
        <span><a class="go" href="/findings/${groupId}">${whatHtml(group)}</a></span>
        <span title="${detail?.reason ?? ''}"
          >${reopened > 0 && html`<span class="tag loud regressed">regressed</span> `}${flappingUntil !== null && flappingUntil > now && html`<span class="tag">flapping</span> `}${seq !== null && html`${between(seq, chain)} · `}rule
          <code>${group.rule}</code></span
        >
      </div>
    </td>
    <td class="p2 soft nowrap">${statusHtml(finding)}</td>
    <td class="num soft nowrap">${agoHtml(openedAt, now)}</td>
  </tr>`;
}

/** A change happened between two reports that follow each other, or it was there from the first one on. */
export function between(seq: number, chain: Pick<Chain, 'gaps'>): string {
  const before = reportBefore(seq, chain);
  return before === null ? `in report ${count(seq)}, the first` : `between reports ${count(before)} and ${count(seq)}`;
}

/** Why it is open again: `waiver W-17 expired`, with the way to it. */
export function returnedHtml(returned: Returned | null): Html | undefined {
  if (returned === null) return undefined;
  const text = returnedText(returned);
  return html`:
  ${returned.how.startsWith('waiver_') ? html`<a class="over" href="/waivers/${returned.what}" title="${formatInstant(returned.at)}">${text}</a>` : html`<span title="${formatInstant(returned.at)}">${text}</span>`}`;
}

export function statusHtml({
  status,
  waiverId,
  until,
  ack,
  returned,
}: Pick<FindingWithGroup, 'status' | 'waiverId' | 'until' | 'ack' | 'returned'>): Html {
  const ends = until === null ? undefined : html` until ${dayHtml(until)}`;
  if (status === 'waived')
    return html`<a class="over" href="/waivers/${waiverId ?? ''}"><span class="tag">waived ${waiverId ?? ''}</span></a
      >${ends}`;
  if (status === 'acknowledged')
    return html`<span title="${ack?.note ?? ''}">acknowledged${ack !== null && ` by ${ack.by}`}</span>${ends}`;
  return html`${status}${status === 'open' && returnedHtml(returned)}`;
}
