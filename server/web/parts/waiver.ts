/** A waiver in few words: what it is about, where it holds, in which state it is. */
import { pathOfSubject } from '#src/finding/describe.ts';
import type { Selector, Waiver, WaiverState } from '#src/finding/waiver.ts';
import { html, icon, pathHtml, type Html } from '../html.ts';
import { plural } from '../words.ts';

/** What it is about: the path where there is one, else its title. */
export function subjectHtml({ selector, title }: Pick<Waiver, 'selector' | 'title'>): Html {
  const { subject } = selector;
  if (subject !== undefined && 'exact' in subject) {
    const path = pathOfSubject({ kind: 'drift', subject: subject.exact });
    if (path !== undefined) return html`${pathHtml(path)}`;
  }
  if (subject !== undefined && 'glob' in subject) return html`<code>${subject.glob}</code>`;
  return html`${title}`;
}

/** Where it holds, in words. */
export function whereText({ hosts, image, content }: Selector): string {
  const where = [
    ...(hosts?.groups ?? []).map((name) => `group ${name}`),
    ...(hosts?.labels ?? []).map(({ key, value }) => `${key}=${value}`),
    ...(hosts?.ids === undefined ? [] : [plural(hosts.ids.length, 'host')]),
    ...(image?.repository === undefined ? [] : [`image ${image.repository}`]),
    ...(image?.digest === undefined ? [] : [`image ${image.digest.replace('sha256:', '').slice(0, 12)}`]),
  ];
  const place =
    where.length === 0
      ? 'every host'
      : where.slice(0, 4).join(', ') + (where.length > 4 ? ` and ${where.length - 4} more` : '');
  return `${content === 'any' ? 'any content' : 'pinned content'}, ${place}`;
}

const STATE_LOOK: Readonly<Record<WaiverState, readonly [icon: string, look: string]>> = {
  requested: ['clock', 'new'],
  approved: ['clock', 'current'],
  active: ['v-compliant', 'current'],
  expired: ['v-silent', 'silent'],
  revoked: ['x', 'silent'],
  rejected: ['x', 'silent'],
  withdrawn: ['back', 'silent'],
};

export function stateHtml(state: WaiverState): Html {
  const [name, look] = STATE_LOOK[state];
  return html`<span class="verdict ${look}">${icon(name)}${state}</span>`;
}
