/** A finding as a person reads it: the path with its end kept, what changed in soft words, and the sentence of its own page. */
import { describe, pathOfSubject } from '#src/finding/describe.ts';
import type { JudgementKind } from '#src/policy/judgement.ts';
import type { FindingGroup } from '#server/store/records.ts';
import { digestHtml, html, pathHtml, type Html } from '../html.ts';
import { capital, plural } from '../words.ts';

export type What = Pick<FindingGroup, 'kind' | 'subject' | 'signature'>;

/** In one line, for titles. */
export function textOf({ kind, subject, signature }: What): string {
  return describe({ kind: kind as JudgementKind, subject, signature: String(signature) });
}

/** A sentence with a capital. Whole digests say nothing to people: their first characters do, with the whole in the title. */
function sentence(text: string): Html {
  // Empty before a digest that stands first, which has no capital.
  const [begin, ...parts] = text.split(/((?:sha256:)?[0-9a-f]{64})/);
  return html`${capital(begin!)}${parts.map((part, at) => (at % 2 === 0 ? digestHtml(part) : part))}`;
}

/** What is said of the path, without it. The describer puts the path first, whichever it is. */
function restOf(what: What): string {
  return textOf({ ...what, subject: '/' })
    .slice(1)
    .replace(/^:? /, '');
}

/** In lists: path, then what changed. */
export function whatHtml(what: What): Html {
  const path = pathOfSubject(what);
  if (path === undefined) return sentence(textOf(what));
  return html`${pathHtml(path)} <span class="soft">${restOf(what)}</span>`;
}

/** The sentence of its own page, with where it is. */
export function sentenceOf(what: What, hosts: number): Html {
  const on = hosts === 0 ? '' : ` on ${plural(hosts, 'host')}`;
  const path = pathOfSubject(what);
  if (path === undefined) return html`${sentence(textOf(what))}${on}`;
  const name = pathHtml(path);
  switch (what.kind) {
    case 'secret':
    case 'drift':
      return html`${name} ${changed(String(what.signature))}${on}`;
    case 'hole':
      return html`${name} could not be judged${on}`;
    case 'overlay':
      return html`${name} ${restOf(what)}${on}`;
    default:
      return html`${name} keeps what an older image said${on}`;
  }
}

function changed(signature: string): string {
  const [change, ...fields] = signature.split(';');
  if (change === 'added') return 'was added';
  if (change === 'removed') return 'is gone';
  if (change === 'differs') return 'is not what the image has';
  const names = new Set(fields.map((field) => field.split('=', 1)[0]!));
  if (names.has('type')) return 'was replaced by something else';
  if (names.has('sha256') || names.has('differs')) return 'is another file than the image has';
  if (names.has('link')) return 'points elsewhere';
  if (names.has('mode')) return 'has another mode';
  if (names.has('uid') || names.has('gid')) return 'belongs to somebody else';
  if (names.has('capability')) return 'has other capabilities';
  return 'is not as the image has it';
}
