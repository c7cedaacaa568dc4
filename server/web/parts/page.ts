/** What stands at the top of a page and where there is nothing: heading, crumbs, notices, empty states (design, sections 1 and 7). */
import { commandHtml, html, icon, type Html, type Part } from '../html.ts';

export type Head = {
  /** Where the page stands, from the section down; the page itself last, without address. */
  readonly crumbs?: undefined | readonly (readonly [word: Part, href?: string])[];
  /** Before the sentence: the glyph of a severity. */
  readonly lead?: Html | undefined;
  /** The sentence that a colleague would say across the desk. */
  readonly title: Part;
  /** Cause, harm, and what happens by itself. */
  readonly text?: Part;
  readonly acts?: Html | undefined;
};

export function headHtml({ crumbs, lead, title, text, acts }: Head): Html {
  return html`<div class="head">
    ${
      crumbs !== undefined &&
      html`<nav class="crumb" aria-label="Breadcrumb">
        ${crumbs.map(
          ([word, href], at) =>
            html`${at > 0 && html`<span aria-hidden="true">/</span>`}${
              href === undefined ? html`<span>${word}</span>` : html`<a href="${href}">${word}</a>`
            }`,
        )}
      </nav>`
    }
    <h1>${lead !== undefined && html`<span class="lead">${lead}</span>`}${title}</h1>
    ${text !== undefined && html`<p>${text}</p>`} ${acts !== undefined && html`<div class="acts">${acts}</div>`}
  </div>`;
}

/** What was done to whom, as part of the page after it; with the way back where there is one. */
export function noticeHtml(
  text: Part,
  undo?: { readonly action: string; readonly fields?: Html; readonly word?: string },
): Html {
  return html`<div class="flash" role="status">
    ${icon('check')}<span>${text}</span>${
      undo !== undefined &&
      html`<form method="post" action="${undo.action}">
        ${undo.fields}<button class="btn bare" type="submit">${icon('back')}${undo.word ?? 'Undo'}</button>
      </form>`
    }
  </div>`;
}

/** What stands in an address and narrows nothing: said, so that nobody takes a longer list for what was asked. */
export function leftOutHtml(leftOut: readonly string[]): Html | undefined {
  if (leftOut.length === 0) return undefined;
  return html`<p class="note" role="alert">
    ${icon('stop')}<span
      >${leftOut.slice(0, 10).map((one, at) => html`${at > 0 && ', '}<code>${one}</code>`)}${leftOut.length > 10 && ' …'}
      was left out: nothing here is called so, or has such a word. The list is as long as without it.</span
    >
  </p>`;
}

/** What could not be done, at the top of the form or page that it was about. */
export function refusedHtml(text: Part): Html {
  return html`<div class="note critical" role="alert">${icon('stop')}<span>${text}</span></div>`;
}

/**
 * Where a list has nothing: nothing yet (what to do first), nothing wrong (since when), or nothing that matches (which one word is in the
 * way). `acts` are links or forms.
 */
export function emptyHtml(title: Part, text: Part, acts?: Html): Html {
  return html`<div class="empty">
    <h2>${title}</h2>
    <div class="say">${text}</div>
    ${acts !== undefined && html`<div class="acts">${acts}</div>`}
  </div>`;
}

/** Nothing yet: the commands that bring the first host. */
export function firstRunHtml(baseUrl: string, acts?: Html): Html {
  return html`${headHtml({
      title: 'No host has enrolled yet',
      text: 'A host appears here when it is enrolled, and is judged with its first report, within a minute.',
      acts,
    })}
    <section class="sheet">
      <div class="empty">
        <h2>Three commands bring the first one</h2>
        <p>Here, for a token that enrols one host:</p>
        ${commandHtml(`bootproof tokens create --server ${baseUrl}`)}
        <p>On the host, as root, with the token that it printed:</p>
        ${commandHtml(`BOOTPROOF_ENROLL_TOKEN=bp1.… /usr/lib/bootproof/bootproof agent enroll --server ${baseUrl}`)}
        ${commandHtml('systemctl enable --now bootproof-agent.timer')}
        <p class="quiet">
          To look around first: <code>bootproof start</code> starts a server of its own with a small fleet that drifts.
        </p>
      </div>
    </section>`;
}
