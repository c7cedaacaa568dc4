/** `/problems/CODE` for people: what a code means and what to do, out of docs/errors.md. Needs no session: who is refused must be able to read it. */
import type { Context } from 'hono';
import type { Instant } from '#src/clock.ts';
import { explanations, type Explained } from '#server/problems.ts';
import { html, type Html } from './html.ts';
import { plainPage } from './layout.ts';

export function problemPage(c: Context, now: Instant): Response | Promise<Response> {
  const code = c.req.param('code')!;
  const found = explanations().get(code);
  c.header('Vary', 'Accept');
  if (found === undefined)
    return c.html(plainPage('No such code', html`<p>No refusal of this server has this code.</p>`, now), 404);
  return c.html(plainPage(code, html`${found.map(explained)}`, now));
}

function explained({ section, cells }: Explained): Html {
  return html`<section class="sheet">
    <header><h2>${section}</h2></header>
    <div class="pad">
      <dl class="facts">
        ${cells.map(
          ({ name, text }) =>
            html`<dt>${name}</dt>
              <dd>${marked(text)}</dd>`,
        )}
      </dl>
    </div>
  </section>`;
}

/** Text with what stands between backticks as code. */
function marked(text: string): Html {
  return html`${text.split('`').map((part, at) => (at % 2 === 0 ? html`${part}` : html`<code>${part}</code>`))}`;
}
