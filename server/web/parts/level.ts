/** How far the evidence log reaches (docs/log.md 1.1), and what each level would be worth: on its own page and on that of bundles. */
import { LEVEL_MEANS } from '#src/log/level.ts';
import type { AnchorsStanding } from '#server/log/anchors.ts';
import { html, type Html } from '../html.ts';

/** `more`: what stands behind the levels. */
export function levelHtml(title: string, { level, raise }: Pick<AnchorsStanding, 'level' | 'raise'>, more: Html): Html {
  return html`<section class="sheet">
    <header>
      <h2>${title}</h2>
      <span class="tag">level ${level}</span>
    </header>
    <div class="pad form">
      <dl class="facts">
        ${LEVEL_MEANS.map(
          (means, n) =>
            html`<dt>${n === level ? html`<strong>Level ${n}</strong>` : html`Level ${n}`}</dt>
              <dd>${n === level ? html`<strong>${means}</strong>` : means}</dd>`,
        )}
      </dl>
      ${
        raise.length > 0 &&
        html`<p>For a higher one:</p>
          <ul class="rows">
            ${raise.map((text) => html`<li>${text}</li>`)}
          </ul>`
      }
      ${more}
    </div>
  </section>`;
}
