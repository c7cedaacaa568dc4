/**
 * HTML as tagged templates. Everything interpolated is escaped, characters that hide or reorder text are shown as escapes,
 * and the two holes that escaping leaves open (unquoted attributes, `javascript:` addresses) are refused.
 */
import assert from 'node:assert/strict';
import type { ByteString } from '#src/bytes.ts';
import { printable, printableText } from '#src/terminal.ts';

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

// The icons of the design, 16 by 16; a page carries those that it uses (design, section 11).
const SYMBOLS: Readonly<Record<string, string>> = {
  back: '<path d="M5.5 3 2.75 5.75 5.5 8.5M3 5.75h6.25a3.75 3.75 0 0 1 0 7.5H6"/>',
  check: '<path d="m3 8.5 3.25 3.25L13 5"/>',
  clock: '<circle cx="8" cy="8" r="5.75"/><path d="M8 4.75V8l2.25 1.5"/>',
  folder: '<path d="M2.25 4a1 1 0 0 1 1-1h2.9l1.5 1.75h5.1a1 1 0 0 1 1 1v6.25a1 1 0 0 1-1 1h-9.5a1 1 0 0 1-1-1z"/>',
  logo: '<rect width="20" height="20" rx="5" fill="currentColor"/><path d="M5.5 6.25h9M5.5 11.5l2.75 2.75 6.25-5" class="cut"/>',
  right: '<path d="m6 3.5 4.5 4.5L6 12.5"/>',
  's-critical':
    '<path fill-rule="evenodd" d="M5.3 1.5h5.4l3.8 3.8v5.4l-3.8 3.8H5.3l-3.8-3.8V5.3zM7.1 4.25h1.8l-.25 4.9h-1.3zM8 10.1a1 1 0 1 0 0 2 1 1 0 0 0 0-2z"/>',
  's-high': '<path d="M8.9 2.7a1 1 0 0 0-1.8 0L1.9 12.3a1 1 0 0 0 .9 1.45h10.4a1 1 0 0 0 .9-1.45z"/>',
  's-medium': '<path d="m8 2.25 5.75 5.75L8 13.75 2.25 8z"/>',
  's-low':
    '<path fill-rule="evenodd" d="M8 3.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zm0 2a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z"/>',
  stop: '<circle cx="8" cy="8" r="5.75"/><path d="M8 5v3.5M8 11h.01"/>',
  'v-compliant': '<circle cx="8" cy="8" r="6"/><path d="m5.25 8.25 2 2 3.5-4"/>',
  'v-drifted': '<circle cx="8" cy="8" r="6"/><path d="M5.25 6.5h5.5M5.25 9.5h5.5M9.25 4.75l-2.5 6.5"/>',
  'v-new': '<circle cx="8" cy="8" r="6"/><circle cx="8" cy="8" r="1.5" fill="currentColor"/>',
  'v-silent': '<circle cx="8" cy="8" r="6" stroke-dasharray="2.1 2.61"/><path d="M5.75 8h4.5"/>',
  'v-unsigned': '<circle cx="8" cy="6.25" r="4"/><path d="M5.75 9.75 5 14l3-1.5L11 14l-.75-4.25M2.5 2l11 10.5"/>',
  'v-unverifiable':
    '<circle cx="8" cy="8" r="6"/><path d="M6.25 6.5a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.85.6-.85 1.15M8 11.25h.01"/>',
};

/** An icon beside a word; never alone. */
export function icon(name: string): Html {
  assert.ok(Object.hasOwn(SYMBOLS, name), `no icon ${name}`);
  return raw(`<svg class="icon" aria-hidden="true"><use href="#${name}"/></svg>`);
}

/** The symbols that a page's markup uses, once. */
export function sprite(page: Html): Html {
  const used = new Set([...page.text.matchAll(/<use href="#([a-z-]+)"\s*\/>/g)].map((match) => match[1]!));
  const symbols = [...used].sort().map((name) => {
    const box = name === 'logo' ? 20 : 16;
    return `<symbol id="${name}" viewBox="0 0 ${box} ${box}">${SYMBOLS[name]}</symbol>`;
  });
  return raw(`<svg width="0" height="0" aria-hidden="true" class="sr">${symbols.join('')}</svg>`);
}

/** A file name, hostile as it may be; its middle gives way when room is short, never its end. */
export function pathHtml(path: ByteString): Html {
  const shown = printable(path);
  const cut = shown.lastIndexOf('/') + 1;
  return html`<span class="path" title="${shown}"><i>${shown.slice(0, cut)}</i><b>${shown.slice(cut)}</b></span>`;
}

/** A digest by its first 12 characters; the whole in its title. */
export function digestHtml(digest: string): Html {
  return html`<code class="digest" title="${digest}">${digest.replace(/^sha256:/, '').slice(0, 12)}</code>`;
}
