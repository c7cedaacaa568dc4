/** Expected beside observed, with what is equal as well: that mode and owner agree is found out, too (design, section 6). */
import type { DriftJson } from '#src/drift/drift.ts';
import type { FactsJson } from '#src/manifest/json.ts';
import { copyHtml, digestHtml, html, type Html, type Part } from '../html.ts';
import { count } from '../words.ts';

type Line = { readonly word: string; readonly expected: Part; readonly observed: Part; readonly differs: boolean };

const NONE = html`<span class="quiet">none</span>`;
const ABSENT = html`<span class="quiet">–</span>`;

const TYPES: Readonly<Record<FactsJson['type'], string>> = {
  dir: 'directory',
  file: 'file',
  symlink: 'symbolic link',
  char: 'character device',
  block: 'block device',
  fifo: 'named pipe',
  socket: 'socket',
};

function owner({ uid, gid }: FactsJson): Html {
  return html`<code>${uid}:${gid}</code>${uid === 0 && gid === 0 && ' root'}`;
}

function content(digest: string | undefined): Part {
  return digest === undefined
    ? NONE
    : html`${digestHtml(`sha256:${digest}`)} ${copyHtml(`sha256:${digest}`, 'Copy the whole digest')}`;
}

const ROWS: readonly {
  readonly word: string;
  readonly has: (facts: FactsJson) => boolean;
  readonly value: (facts: FactsJson) => unknown;
  readonly shown: (facts: FactsJson) => Part;
}[] = [
  { word: 'Type', has: () => true, value: ({ type }) => type, shown: ({ type }) => TYPES[type] },
  {
    word: 'Content',
    has: ({ sha256 }) => sha256 !== undefined,
    value: ({ sha256 }) => sha256,
    shown: ({ sha256 }) => content(sha256),
  },
  {
    word: 'Size',
    has: ({ size }) => size !== undefined,
    value: ({ size }) => size,
    shown: ({ size }) => (size === undefined ? NONE : html`${count(size)} <span class="unit">B</span>`),
  },
  {
    word: 'Points to',
    has: ({ link, link_b64 }) => link !== undefined || link_b64 !== undefined,
    value: ({ link, link_b64 }) => link ?? link_b64,
    shown: ({ link, link_b64 }) =>
      link === undefined && link_b64 === undefined ? NONE : html`<code>${link ?? `${link_b64} (base64)`}</code>`,
  },
  {
    word: 'Mode',
    has: ({ mode }) => mode !== undefined,
    value: ({ mode }) => mode,
    shown: ({ mode }) => (mode === undefined ? NONE : html`<code>${mode}</code>`),
  },
  { word: 'Owner', has: () => true, value: ({ uid, gid }) => `${uid}:${gid}`, shown: owner },
  {
    word: 'Capabilities',
    has: ({ type }) => type === 'file',
    value: ({ xattrs }) => xattrs?.['security.capability'] ?? null,
    shown: ({ xattrs }) => (xattrs === undefined ? NONE : html`<code>${xattrs['security.capability']}</code>`),
  },
  {
    word: 'Device',
    has: ({ rdev }) => rdev !== undefined,
    value: ({ rdev }) => rdev,
    shown: ({ rdev }) => (rdev === undefined ? NONE : html`<code>${rdev}</code>`),
  },
];

function lines(expected: FactsJson | undefined, observed: FactsJson | undefined): readonly Line[] {
  return ROWS.filter(({ has }) => [expected, observed].some((facts) => facts !== undefined && has(facts))).map(
    ({ word, value, shown }) => ({
      word,
      expected: expected === undefined ? ABSENT : shown(expected),
      observed: observed === undefined ? ABSENT : shown(observed),
      differs: expected === undefined || observed === undefined || value(expected) !== value(observed),
    }),
  );
}

/** `left` and `right` say whose each side is: `The image says`, `The hosts show`. */
export function compareHtml(
  expected: FactsJson | undefined,
  observed: FactsJson | undefined,
  { caption, left, right }: { readonly caption: Part; readonly left: string; readonly right: string },
): Html {
  const whole = expected !== undefined && observed !== undefined;
  return html`<table class="compare">
    <caption class="sr">
      ${caption}
    </caption>
    <thead>
      <tr>
        <td></td>
        <th scope="col">${left}</th>
        <td class="sign"></td>
        <th scope="col">${right}</th>
      </tr>
    </thead>
    <tbody>
      ${lines(expected, observed).map(
        ({ word, expected: a, observed: b, differs }) =>
          html`<tr ${differs && whole && html` class="differs"`}>
            <th scope="row">${word}</th>
            <td>${a}</td>
            <td class="sign">
              ${whole ? html`<span aria-hidden="true">${differs ? '≠' : '='}</span><span class="sr">${differs ? 'differs from' : 'equals'}</span>` : ''}
            </td>
            <td>${b}</td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}

/** Of a changed path: what the image says and what the host shows. */
export function changeHtml(change: Pick<DriftJson, 'expected' | 'actual'>, caption: Part): Html {
  return compareHtml(change.expected, change.actual, { caption, left: 'The image says', right: 'The hosts show' });
}
