/** The chain of a host's reports: what came, what is missing, what was refused and why. */
import type { FindingWithGroup, ReportHead } from '#server/store/records.ts';
import type { About } from './hostabout.ts';
import { copyHtml, digestHtml, html, icon, type Html } from './html.ts';
import { emptyHtml } from './parts/page.ts';
import type { WebServices } from './services.ts';
import { agoHtml, count, momentHtml, plural, timeHtml } from './words.ts';

const REPORTS_PAGE = 50;
/** Bars of the chart. */
const BARS_MAX = 60;
/** Findings whose episodes the chart counts. */
const COUNTED_FINDINGS = 100;

export async function reportsTab(about: About, { store }: WebServices): Promise<Html> {
  const { host, now, query } = about;
  const after = /^[1-9][0-9]{0,15}$/.exec(query.get('after') ?? '')?.[0];
  const [page, newest, refusals, resolved] = await Promise.all([
    store.read.reports(host.id, { limit: REPORTS_PAGE, cursor: after === undefined ? null : { seq: Number(after) } }),
    store.read.reports(host.id, { limit: BARS_MAX, cursor: null }),
    store.read.refusals(host.id),
    store.read.hostFindings(host.id, 'resolved', { limit: COUNTED_FINDINGS, cursor: null }),
  ]);
  const open = await openAt(about, resolved.items, store);
  const { chain } = host;
  return html`<section class="sheet">
      <header>
        <h2>Chain of reports</h2>
        <span class="quiet">${chain.headSeq === 0 ? '' : `the newest is ${count(chain.headSeq)}`}</span>
      </header>
      ${
        newest.items.length === 0
          ? emptyHtml(
              'No report came yet',
              `It was enrolled; its first report is expected within ${Math.round(host.freshness.interval / 60_000)} min of each other.`,
            )
          : html`<div class="pad form">
              ${chainHtml([...newest.items].reverse(), chain.gaps, open)}
              <dl class="facts">
                <dt>Sequence</dt>
                <dd>
                  1 – ${count(chain.headSeq)},
                  ${chain.gaps.length === 0 ? 'no gap' : html`missing: ${chain.gaps.map(({ from, to }) => (from === to ? count(from) : `${count(from)} – ${count(to)}`)).join(', ')}`}
                </dd>
                ${
                  chain.full !== null &&
                  html`<dt>Last full</dt>
                    <dd>
                      report ${count(chain.full.seq)} ${digestHtml(chain.full.digest)}
                      ${copyHtml(chain.full.digest, 'Copy digest')}, said again ${plural(chain.sameCount, 'time')} since
                    </dd>`
                }
                <dt>Expected</dt>
                <dd>
                  every ${Math.round(host.freshness.interval / 60_000)} min; late after
                  ${momentHtml(host.freshness.lateAfter)}, silent after ${momentHtml(host.freshness.silentAfter)}
                </dd>
                ${
                  chain.flags.forked !== undefined &&
                  html`<dt>Forked</dt>
                    <dd>two hosts sign with one key, since ${timeHtml(chain.flags.forked)}</dd>`
                }
                ${
                  chain.flags.cloned !== undefined &&
                  html`<dt>Cloned</dt>
                    <dd>
                      two running systems alternate, since ${timeHtml(chain.flags.cloned)}: boots
                      ${chain.boots.slice(-2).join(' and ')}; on each
                      <code>cat /proc/sys/kernel/random/boot_id</code> tells which it is
                    </dd>`
                }
              </dl>
            </div>`
      }
    </section>
    ${
      refusals.length > 0 &&
      html`<section class="sheet">
        <header>
          <h2>Refused</h2>
          <span class="quiet">what did not hold, and why</span>
        </header>
        <table class="list flat">
          <caption class="sr">
            Refused reports by reason
          </caption>
          <thead>
            <tr>
              <th>Why</th>
              <th class="num">Times</th>
              <th class="num">Last</th>
            </tr>
          </thead>
          <tbody>
            ${refusals.map(
              ({ code, count: n, lastAt, detail }) =>
                html`<tr>
                  <td class="main">
                    <div class="two">
                      <span
                        ><a class="go" href="/problems/${code}"><code>${code}</code></a></span
                      ><span title="${detail}">${detail}</span>
                    </div>
                  </td>
                  <td class="num">${count(n)}</td>
                  <td class="num soft nowrap">${agoHtml(lastAt, now)}</td>
                </tr>`,
            )}
          </tbody>
        </table>
      </section>`
    }
    ${
      page.items.length > 0 &&
      html`<section class="sheet">
        <header>
          <h2>Kept reports</h2>
          <span class="quiet">every full one; of those that say the same, one a day and the newest</span>
        </header>
        <table class="list">
          <caption class="sr">
            Kept reports, newest first
          </caption>
          <thead>
            <tr>
              <th class="num">Number</th>
              <th>Kind</th>
              <th class="p2">Freshness</th>
              <th class="p3">Digest</th>
              <th>Received</th>
              <th class="num"><span class="sr">Envelope</span></th>
            </tr>
          </thead>
          <tbody>
            ${page.items.map(
              ({ seq, kind, class: of, digest, receivedAt }) =>
                html`<tr>
                  <td class="num">${count(seq)}</td>
                  <td class="main">${KIND_WORDS[kind]}</td>
                  <td class="p2 soft">${CLASS_WORDS[of]}</td>
                  <td class="p3">${digestHtml(digest)}</td>
                  <td class="soft nowrap">${timeHtml(receivedAt)}</td>
                  <td class="num">
                    ${kind !== 'fork' && html`<a class="btn icon-only over" href="/hosts/${host.id}/reports/${seq}" aria-label="Signed envelope of report ${seq}" title="Signed envelope">${icon('get')}</a>`}
                  </td>
                </tr>`,
            )}
          </tbody>
        </table>
        <footer>
          <span>${plural(page.items.length, 'report')}${page.next !== null && ' and more'}</span>
          ${(page.next !== null || after !== undefined) && html`<span class="acts">${after !== undefined && html`<a class="link" href="?">First page</a>`}${page.next !== null && html`<a class="link" rel="next" href="?after=${page.next.seq}">Next page</a>`}</span>`}
        </footer>
      </section>`
    }`;
}

const KIND_WORDS: Readonly<Record<ReportHead['kind'], string>> = {
  full: 'full',
  same: 'the same again',
  history: 'full, came late',
  fork: 'another under a known number',
};
const CLASS_WORDS: Readonly<Record<ReportHead['class'], string>> = {
  live: 'live',
  late: 'late',
  carried: 'carried by hand',
  none: 'without a challenge',
};

/** How many findings stood open with a report: from when each came and went. */
async function openAt(
  { host, findings }: About,
  resolved: readonly FindingWithGroup[],
  store: WebServices['store'],
): Promise<(seq: number) => number> {
  const known = [...findings.slice(0, COUNTED_FINDINGS), ...resolved];
  const episodes = (await Promise.all(known.map(({ groupId }) => store.findings.episodes(host.id, groupId)))).flat();
  return (seq) =>
    episodes.filter(
      ({ openedSeq, closedSeq, closedAt }) =>
        openedSeq !== null && openedSeq <= seq && (closedAt === null || (closedSeq ?? 0) > seq),
    ).length;
}

/** One bar a report, as high as findings were open; a missing number is a dashed outline. */
function chainHtml(
  reports: readonly ReportHead[],
  gaps: readonly { readonly from: number; readonly to: number }[],
  open: (seq: number) => number,
): Html {
  const first = reports[0]!.seq;
  const bars = [
    ...reports.map(({ seq }) => ({ seq, open: open(seq), missing: 0 })),
    ...gaps.filter(({ to }) => to >= first).map(({ from, to }) => ({ seq: from, open: 0, missing: to - from + 1 })),
  ].sort((a, b) => a.seq - b.seq);
  const most = Math.max(1, ...bars.map((bar) => bar.open));
  const step = 100 / Math.max(24, bars.length);
  const [was, is] = [open(first), open(reports.at(-1)!.seq)];
  const missing = bars.reduce((sum, bar) => sum + bar.missing, 0);
  return html`<svg
      class="chain"
      height="34"
      role="img"
      aria-label="${plural(reports.length, 'kept report')} from ${first} to ${reports.at(-1)!.seq}: ${plural(was, 'finding')} open with the first, ${is} with the newest${missing > 0 ? `; ${plural(missing, 'report is missing', 'reports are missing')}` : ''}"
    >
      ${bars.map((bar, at) => {
        const tall = bar.missing > 0 ? 30 : bar.open === 0 ? 6 : 8 + Math.round((bar.open / most) * 24);
        return html`<rect
          class="${bar.missing > 0 ? 'gap' : bar.open > 0 ? 'drifted' : ''}"
          x="${Math.round(at * step * 100) / 100}%"
          y="${33 - tall}"
          width="${Math.round(step * 70) / 100}%"
          height="${tall}"
          rx="1"
        ></rect>`;
      })}
    </svg>
    <p class="axis quiet">
      <span
        >Kept reports from ${count(first)} to ${count(reports.at(-1)!.seq)}, as high as findings were open; dashed:
        missing</span
      >
    </p>`;
}
