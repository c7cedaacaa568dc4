/** What a host ran, newest first, on its tab of deployments. */
import type { Instant } from '#src/clock.ts';
import { LINEAGE_STAYS_MAX } from '#src/limits.ts';
import type { LineageStep } from '#server/hostlineage.ts';
import { sinceHtml } from './hostabout.ts';
import { namedOf } from './hostfilter.ts';
import { digestHtml, html, type Html } from './html.ts';
import { emptyHtml } from './parts/page.ts';
import { verdictHtml } from './words.ts';

export function lineageSheet(steps: readonly LineageStep[], now: Instant): Html {
  return html`<section class="sheet" id="lineage">
    <header>
      <h2>Booted so far</h2>
      <span class="quiet">newest first</span>
    </header>
    ${
      steps.length === 0
        ? emptyHtml('Nothing is known yet', 'Images appear here as the host boots them.')
        : html`<table class="list flat">
            <caption class="sr">
              Images that this host booted
            </caption>
            <thead>
              <tr>
                <th>Image</th>
                <th class="p4">Digest</th>
                <th class="p2">Signature</th>
                <th>First seen</th>
                <th class="p3">Last seen</th>
                <th>Update</th>
              </tr>
            </thead>
            <tbody>
              ${steps.map((step) => row(step, now))}
            </tbody>
          </table>`
    }
    ${steps.length >= LINEAGE_STAYS_MAX && html`<footer><span>The last ${LINEAGE_STAYS_MAX}; what was before is no longer kept.</span></footer>`}
  </section>`;
}

function row(
  { image, known, from, seq, last, running, reference, provenance, before }: LineageStep,
  now: Instant,
): Html {
  const { place, version } = known === undefined ? { place: undefined, version: null } : namedOf(known);
  const why = 'why' in provenance ? provenance.why : provenance.state === 'trusted' ? `signed by ${provenance.by}` : '';
  return html`<tr>
    <td class="main">
      <div class="two">
        <span
          ><a class="go" href="/images/${encodeURIComponent(image)}">${place ?? 'an image'} ${version ?? ''}</a>
          ${running && html`<span class="tag">running</span>`}</span
        >
        <span title="${reference ?? ''}"
          >${reference !== null && tagOf(reference)}${provenance.state === 'trusted' && html`${reference !== null && ', '}signed by ${provenance.by}`}</span
        >
      </div>
    </td>
    <td class="p4">${digestHtml(image)}</td>
    <td class="p2 nowrap" title="${why}">${verdictHtml(provenance.state)}</td>
    <td class="nowrap soft" title="${seq === null ? '' : `report ${seq}`}">${sinceHtml(from, now)}</td>
    <td class="p3 nowrap soft">${last === null ? html`<span class="quiet">not noted</span>` : sinceHtml(last, now)}</td>
    <td class="nowrap">
      ${
        before === null || before === image
          ? html`<span class="quiet">–</span>`
          : html`<a class="over link" href="/images/${encodeURIComponent(before)}/diff?to=${encodeURIComponent(image)}"
              >What it changed</a
            >`
      }
    </td>
  </tr>`;
}

/** What the host followed: the tag, or that it was pinned; the registry's name says less. */
function tagOf(reference: string): Html {
  const [, digest] = /@(sha256:[0-9a-f]{64})$/.exec(reference) ?? [];
  if (digest !== undefined) return html`pinned to ${digestHtml(digest)}`;
  return html`from <code>${reference.replace(/^[a-z-]+:\/\//, '').slice(-120)}</code>`;
}
