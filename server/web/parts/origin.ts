/** Where a changed file comes from, on its finding's page: who brought it, whose file the host shows, and between which two reports it came. */
import { layerText, packageText, type PathOrigin } from '#src/image/origins.ts';
import {
  ALIKE_MAX,
  type originsElsewhere,
  type OriginElsewhere,
  rebuildCommand,
  slotText,
  toldText,
  type FindingOrigin,
  type Since,
} from '#server/findingorigin.ts';
import type { Elsewhere, Told } from '#server/origins.ts';
import type { FindingGroup } from '#server/store/records.ts';
import { commandHtml, digestHtml, html, type Html, type Part } from '../html.ts';
import { momentHtml, plural } from '../words.ts';
import { whatHtml } from './finding.ts';

/** `image`: the one that the host runs, as a page names it. */
export function originSheet(
  { told, elsewhere, since, alike }: FindingOrigin,
  {
    image,
    host,
    removed,
    others,
    named,
  }: {
    readonly image: string | null;
    readonly host: { id: string; name: string };
    readonly removed: boolean;
    /** Of the other images that these hosts run. */
    readonly others: Awaited<ReturnType<typeof originsElsewhere>>;
    readonly named: ReadonlyMap<string, { readonly place: string; readonly version: string | null }>;
  },
): Html | undefined {
  const rows: readonly (readonly [string, Part])[] = [
    ...(told === null ? [] : toldRows(told, image, removed)),
    ...(told === null ? [] : others.images.map((other) => otherRow(other, told, image, named))),
    ...(told === null || others.more === 0
      ? []
      : [
          [
            'Elsewhere',
            html`<span class="quiet">${plural(others.more, 'image')} more, not looked into here</span>`,
          ] as const,
        ]),
    ...(elsewhere === null ? [] : [['Whose file it is', elsewhereHtml(elsewhere)] as const]),
    ...(alike.length === 0 ? [] : [['The same bytes', alikeHtml(alike)] as const]),
    ...(since === null ? [] : [['Since', sinceHtml(since, host)] as const]),
  ];
  if (rows.length === 0) return undefined;
  return html`<section class="sheet" aria-labelledby="origin">
    <header>
      <h2 id="origin">Where it comes from</h2>
      ${image !== null && html`<span class="quiet">in <a class="link" href="/images/${encodeURIComponent(image)}">the image of ${host.name}</a></span>`}
    </header>
    <div class="pad">
      <dl class="facts origin">
        ${rows.map(
          ([word, what]) =>
            html`<dt>${word}</dt>
              <dd>${what}</dd>`,
        )}
      </dl>
    </div>
  </section>`;
}

/** Another image brings it too, or brings something else: one line, since its hosts have pages of their own. */
function otherRow(
  { image, told, hosts }: OriginElsewhere,
  first: Told,
  own: string | null,
  named: ReadonlyMap<string, { readonly place: string; readonly version: string | null }>,
): readonly [string, Part] {
  const known = named.get(image);
  const name = known === undefined ? 'another image' : `${known.place} ${known.version ?? ''}`.trim();
  const text = toldText(told, image);
  const isSame = told.kind === 'told' && text === toldText(first, own);
  return [
    'Elsewhere',
    html`in <a href="/images/${encodeURIComponent(image)}">${name}</a>, which
      ${plural(hosts, 'of these hosts runs', 'of these hosts run')}:
      ${text === null ? 'its manifest is being made' : isSame ? 'the same layer and package' : text}`,
  ];
}

function toldRows(told: Told, image: string | null, removed: boolean): readonly (readonly [string, Part])[] {
  if (told.kind === 'told') return originRows(told.origin, removed);
  if (told.kind === 'absent')
    return [['Brought by', html`nothing of the image: no layer and no package of it has this path`]];
  if (told.why === 'not-ready') return [];
  if (told.why === 'other-text') return [['Brought by', html`<span class="quiet">${toldText(told, image)}</span>`]];
  return [
    [
      'Brought by',
      html`<span class="quiet">not known: the image was built before layers were kept</span
        >${told.failure !== null && html`<br /><span class="quiet">It could not be read again: ${told.failure}</span>`}${commandHtml(rebuildCommand(image))}`,
    ],
  ];
}

function originRows({ layer, layers, packages, altered, database }: PathOrigin, removed: boolean) {
  const made = layerText(layer);
  const rows: (readonly [string, Part])[] = [
    [
      'Layer',
      html`${layer.number} of ${layers}
      ${digestHtml(layer.digest)}${made !== undefined && html`<br /><code class="wrap">${made.length > 400 ? `${made.slice(0, 399)}…` : made}</code>`}`,
    ],
  ];
  if (database === null) return rows;
  const names = packages.map((each) => html`<code>${packageText(each, database.kind)}</code>`);
  const listed = names.map((name, at) => html`${at > 0 && ', '}${name}`);
  rows.push([
    packages.length > 1 ? 'Packages' : 'Package',
    packages.length === 0
      ? html`<span class="quiet">none owns it: a build step ${removed ? 'had ' : ''}made it</span>`
      : html`${listed}${altered && html`<br /><span class="quiet">The image has another file there than the package brought: a later layer changed it.</span>`}`,
  ]);
  return rows;
}

function elsewhereHtml({ places, images, looked, more }: Elsewhere): Html {
  const [first] = places;
  if (first === undefined)
    return html`<span class="quiet"
      >of no known image: ${plural(looked, 'image')} looked through${more && ', and there are more'}</span
    >`;
  const slot = slotText(first.slot);
  return html`${first.same ? 'this very file' : html`<code>${first.path}</code>`} of
    <a class="link" href="/images/${encodeURIComponent(first.digest)}">${first.name}</a> ${digestHtml(first.digest)}${
      slot !== '' && html`, <strong>${slot}</strong>`
    }${images > 1 && `, and of ${plural(images - 1, 'other image')}`}`;
}

function alikeHtml(alike: readonly FindingGroup[]): Html {
  return html`${alike.map((group, at) => {
    const { open, acknowledged, waived } = group.hosts;
    return html`${at > 0 && html`<br />`}<a class="link" href="/findings/${group.id}">${whatHtml(group)}</a> on
      ${plural(open + acknowledged + waived, 'host')}`;
  })}${alike.length >= ALIKE_MAX && html`<br /><span class="quiet">These are the worst of them.</span>`}`;
}

function sinceHtml({ seq, at, before }: Since, host: { id: string; name: string }): Html {
  const on = html`<a class="link" href="/hosts/${host.id}/reports">${host.name}</a>`;
  if (before === null) return html`the first report of ${on}, number ${seq}, ${momentHtml(at)}`;
  return html`between reports ${before.seq}${before.at !== null && html` (${momentHtml(before.at)})`} and ${seq}
  (${momentHtml(at)}) of ${on}`;
}
