/**
 * HTML as tagged templates. Everything interpolated is escaped, characters that hide or reorder text are shown as escapes,
 * and the two holes that escaping leaves open (unquoted attributes, `javascript:` addresses) are refused.
 */
import assert from 'node:assert/strict';
import type { ByteString } from '#src/bytes.ts';
import { printable, printableText } from '#src/terminal.ts';
import { SYMBOLS } from './icons.ts';

/** Markup that is safe to send: made by `html` alone. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  toString(): string {
    return this.text;
  }
}

export type Part = Html | string | number | null | undefined | false | readonly Part[];

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
// Controls, formats (bidirectional, zero width), surrogates and line separators; tab and line feed are white space to HTML.
const HIDDEN = /[^\P{C}\n\t]|[\u2028\u2029]/gu;

function escape(text: string): string {
  return text.replace(HIDDEN, printableText).replace(/[&<>"']/g, (char) => ENTITIES[char]!);
}

function render(part: Part): string {
  if (part === null || part === undefined || part === false) return '';
  if (part instanceof Html) return part.text;
  if (typeof part === 'string') return escape(part);
  if (typeof part === 'number') return String(part);
  return part.map(render).join('');
}

const ADDRESS = /\b(?:href|action|src|formaction)="$/;

/** @throws {AssertionError} for a template that escaping cannot make safe: our own mistake. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  let out = strings[0]!;
  for (const [index, part] of parts.entries()) {
    const before = strings[index]!;
    assert.doesNotMatch(before, /\s[a-zA-Z-]+=\s*$/, 'an attribute value must stand in quotes');
    // Only addresses of this server, as a path or a fragment: no scheme can be smuggled in.
    if (ADDRESS.test(before)) assert.match(render(part), /^(?:\/(?!\/)|#|\?)/);
    out += render(part) + strings[index + 1]!;
  }
  return new Html(out);
}

/** Markup from a constant of ours. */
function raw(text: string): Html {
  return new Html(text);
}

/** An icon beside a word; alone only where the control that it stands in has a name. */
export function icon(name: string): Html {
  assert.ok(Object.hasOwn(SYMBOLS, name), `no icon ${name}`);
  return raw(`<svg class="icon" aria-hidden="true"><use href="#i-${name}"/></svg>`);
}

/** The symbols that a page's markup uses, once. */
export function sprite(page: Html): Html {
  const used = new Set([...page.text.matchAll(/<use href="#i-([a-z-]+)"\s*\/>/g)].map((match) => match[1]!));
  const symbols = [...used].sort().map((name) => {
    const box = name === 'logo' ? 20 : 16;
    return `<symbol id="i-${name}" viewBox="0 0 ${box} ${box}">${SYMBOLS[name]}</symbol>`;
  });
  return raw(`<svg width="0" height="0" aria-hidden="true" class="sr">${symbols.join('')}</svg>`);
}

/** A file name, hostile as it may be; its middle gives way when room is short, never its end. */
export function pathHtml(path: ByteString): Html {
  const shown = printable(path);
  const cut = shown.lastIndexOf('/') + 1;
  if (cut < 2) return html`<span class="path" title="${shown}"><b>${shown}</b></span>`;
  return html`<span class="path" title="${shown}"><i>${shown.slice(0, cut)}</i><b>${shown.slice(cut)}</b></span>`;
}

/** A digest by its first 12 characters; the whole in its title. */
export function digestHtml(digest: string): Html {
  return html`<code class="digest" title="${digest}">${digest.replace(/^sha256:/, '').slice(0, 12)}</code>`;
}

/** A button that copies `text`; seen where a script runs, for nothing else can copy. `what` is its name: `Copy command`. */
export function copyHtml(text: string, what: string): Html {
  return html`<button class="copy over" type="button" hidden data-copy="${text}" title="${what}" aria-label="${what}">
    ${icon('copy')}
  </button>`;
}

/** A command to copy, on a well. */
export function commandHtml(command: string): Html {
  return html`<div class="cmd"><code>${command}</code>${copyHtml(command, 'Copy command')}</div>`;
}
