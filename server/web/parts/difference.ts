/** How a host changed a text file of /etc, beside the image's own; or why that is not shown (docs/policy.md, section 14). */
import { printable } from '#src/terminal.ts';
import { HIDDEN_TEXTS, type Difference } from '#server/contents.ts';
import { rebuildCommand } from '#server/findingorigin.ts';
import { commandHtml, html, icon, type Html } from '../html.ts';
import { count } from '../words.ts';
import { changesText, hunksHtml } from './linediff.ts';

/** A sheet on a finding's page; `host` is the one whose report it is told from. */
export function differenceSheet(
  difference: Difference,
  host: { readonly id: string; readonly name: string; readonly image: string | null },
): Html {
  const shown = difference.kind === 'shown';
  return html`<section class="sheet" aria-labelledby="difference">
    <header>
      <h2 id="difference">What changed in it</h2>
      ${shown && html`<span class="quiet">${changesText(difference.hunks)}</span>`}
    </header>
    ${shown ? differenceHtml(difference, host.image) : html`<div class="pad">${differenceHtml(difference, host.image)}</div>`}
    ${
      shown &&
      html`<footer>
        <span
          >− the image’s own file, + as <a class="link" href="/hosts/${host.id}">${host.name}</a> has it in report
          ${count(difference.seq)}${difference.change === 'added' && '; the image has no such file'}</span
        >
      </footer>`
    }
  </section>`;
}

/** The lines, or the reason why there are none. */
export function differenceHtml(difference: Difference, image: string | null): Html {
  if (difference.kind === 'hidden')
    return html`<p class="note">${icon('stop')}<span>Not shown: ${HIDDEN_TEXTS[difference.why]}.</span></p>
      ${difference.why === 'image-unread' && commandHtml(rebuildCommand(image))}`;
  const { hunks, path, change } = difference;
  const name = printable(path);
  if (hunks.length === 0) return html`<p class="pad quiet">The file is empty.</p>`;
  return hunksHtml(hunks, change === 'added' ? `Lines of ${name}, which the image has not` : `What changed in ${name}`);
}
