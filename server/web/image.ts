/** `/images/DIGEST`: who says that it is ours, whether it can be compared with, where it runs, and what is seen on it. */
import type { Context } from 'hono';
import type { Instant } from '#src/clock.ts';
import { isFleetWide } from '#server/access/principal.ts';
import { isOneLine, printFilter } from '#src/finding/filter.ts';
import { imageFor } from '#server/decisions/images.ts';
import { claimedSource } from '#server/decisions/sources.ts';
import type { BuildNotes } from '#server/jobs/builder.ts';
import type { Image, ImageInList, Manifest, Reason } from '#server/store/records.ts';
import type { ProvenanceFacts } from '#server/trust/provenance.ts';
import { namesOf } from './hostfilter.ts';
import { nameOf } from './home.ts';
import { commandHtml, copyHtml, digestHtml, html, icon, type Html } from './html.ts';
import { COUNTED_MAX, missingPage, show } from './layout.ts';
import { emptyHtml, headHtml, noticeHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { trustSheet } from './trust.ts';
import { bounded, count, plural, timeHtml, whenHtml } from './words.ts';

/** Notes of a build that a page shows; the API has all. */
const NOTES_MAX = 100;
/** Images that it can be compared with, the newest. */
const OTHERS_MAX = 12;
/** While it is being read. */
const REFRESH_SECONDS = 5;

export const STATE_WORDS: Readonly<Record<Image['state'], string>> = {
  pending: 'Waiting',
  building: 'Being read',
  ready: 'Ready',
  failed: 'Cannot be read',
};

/** Whether it can be compared with: quiet where it can, the code where not. */
export function stateHtml({ state, reasons }: Pick<Image, 'state' | 'reasons'>): Html {
  const [reason] = reasons;
  if (state === 'ready') return html`<span class="verdict compliant">${icon('v-compliant')}ready</span>`;
  if (state === 'failed')
    return html`<span class="verdict unverifiable" title="${reason?.text ?? ''}"
      >${icon('v-unverifiable')}cannot be read</span
    >`;
  return html`<span class="verdict silent">${icon('clock')}${state === 'building' ? 'being read' : 'waits'}</span>`;
}

export async function imagePage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock } = services;
  const found = await imageFor(c.get('principal'), c.req.param('digest')!, store);
  if (found === undefined) return missingPage(c, services);
  const now = clock();
  const scope = c.get('principal').groups;
  const { image, via } = found;
  const names = await namesOf(image.digest, store);
  const q = printFilter([{ field: 'image', negated: false, values: [image.digest] }]);
  const [aliases, manifests, signed, { facts }, booted, drifted, changes, all] = await Promise.all([
    store.read.aliases(image.digest),
    store.images.manifests(image.digest),
    trustSheet(image.digest, services, now),
    services.trust.of(image.digest),
    store.read.countHosts({ now, scope, booted: names }, COUNTED_MAX),
    store.read.countHosts({ now, scope, booted: names, verdicts: ['drifted'] }, COUNTED_MAX),
    store.read.countGroups(
      { tab: 'open', scope, now, line: [{ field: 'image', negated: false, values: [image.digest] }] },
      COUNTED_MAX,
    ),
    store.read.images({ scope }, { limit: 200, cursor: null }),
  ]);
  const listed = all.items.find(({ digest }) => digest === image.digest);
  const others = all.items
    .filter(({ digest, state }) => digest !== image.digest && state === 'ready')
    .slice(0, OTHERS_MAX);
  const href = encodeURIComponent(image.digest);
  const opened = `${bounded(changes)} ${changes.count === 1 ? 'change is' : 'changes are'} open`;
  const name = `${nameOf(image)} ${image.version ?? ''}`.trim();
  const may = isFleetWide(c.get('principal'), 'operator', 'admin');
  const body = html`${c.req.query('did') === 'rebuild' && rebuildNotice(image)}
    ${headHtml({
      crumbs: [['Images', '/images'], [nameOf(image)]],
      title: headline(name, image, facts.provenance, booted.count),
      text: html`${via !== 'digest' && `Found by its ${via === 'bare-hex' ? 'digest without algorithm' : `${via} digest`}. `}${listed !== undefined && listed.hosts.staged > 0 && `${plural(listed.hosts.staged, 'host')} ${listed.hosts.staged === 1 ? 'has' : 'have'} it staged. `}${
        changes.count === 0
          ? booted.count > 0 && 'Nothing is open on them.'
          : html`${isOneLine(image.digest) ? html`<a href="/findings?q=${encodeURIComponent(q)}">${opened}</a>` : opened}
              on its hosts, and <a href="/hosts?image=${href}&verdict=drifted">${bounded(drifted)}</a> drifted.`
      }`,
    })}
    <div class="cols aside">
      <div class="stack">
        ${image.reasons.length > 0 && whySheet(image, may, now)} ${signed}
        ${image.state === 'ready' && compareSheet(image, others)} ${warningsSheet(image)}
      </div>
      <aside class="stack" aria-label="About this image">
        ${aboutSheet(image, aliases, now)} ${manifestSheet(image, manifests, may)}
        ${rolloutSheet(listed, booted, drifted, href)}
      </aside>
    </div>`;
  const refresh = image.state === 'building' ? { refresh: REFRESH_SECONDS } : {};
  return show(c, services, { title: name, section: '/images', now, body, ...refresh });
}

function rebuildNotice({ state }: Image): Html {
  return noticeHtml(
    state === 'ready'
      ? 'Its layers are read again, for where its files come from. Its manifests stay as they are.'
      : 'It is tried again now. Reading an image takes a minute or so: look again.',
  );
}

/** Reads it once more, whatever came of the last time. */
function rebuildForm({ digest }: Image, word: string, look = ''): Html {
  return html`<form method="post" action="/images/${encodeURIComponent(digest)}/rebuild">
    <button class="btn${look}" type="submit">${icon('back')}${word}</button>
  </form>`;
}

/** That there is a manifest says nothing of who built the image: a heading of the one alone would read as praise of both. */
function headline(name: string, image: Image, { state }: ProvenanceFacts['provenance'], hosts: number): string {
  const run =
    hosts === 0 ? 'and no host runs it now' : `and ${plural(hosts, 'host')} ${hosts === 1 ? 'runs' : 'run'} it`;
  if (image.state === 'failed') return `${name} cannot be read, so its hosts cannot be judged`;
  switch (state) {
    case 'trusted':
      return `${name} is ours, ${run}`;
    case 'rejected':
      return `${name} is signed, but not as policy demands, ${run}`;
    case 'unsigned':
      return `Nobody trusted signed ${name}, ${run}`;
    case 'unverifiable':
      return `Nobody can tell who signed ${name}, ${run}`;
    case 'not-assessed':
      if (image.state !== 'ready') return `The manifest of ${name} is being made, ${run}`;
      return hosts === 0
        ? `No host runs ${name} now`
        : `${plural(hosts, 'host')} ${hosts === 1 ? 'runs' : 'run'} ${name}`;
  }
}

function aboutSheet(
  image: Image,
  aliases: readonly { readonly alias: string; readonly kind: string }[],
  now: Instant,
): Html {
  const tags = [...new Set(image.claims.flatMap((claim) => /(?<=[^/]:)[\w][\w.-]{0,127}$/.exec(claim)?.[0] ?? []))];
  const words = { config: 'Config', index: 'Index' } as const;
  return html`<section class="sheet">
    <header><h2>This image</h2></header>
    <div class="pad">
      <dl class="facts">
        <dt>Digest</dt>
        <dd><code class="digest full">${image.digest}</code> ${copyHtml(image.digest, 'Copy digest')}</dd>
        <dt>Found in</dt>
        <dd>
          ${image.repositories.length === 0 ? html`<span class="quiet">no allowed source has it</span>` : image.repositories.map((place) => html`<code>${place}</code> `)}
        </dd>
        <dt>Tags seen</dt>
        <dd>
          ${tags.length === 0 ? html`<span class="quiet">–</span>` : tags.map((tag) => html`<span class="tag">${tag}</span> `)}
        </dd>
        <dt>Hosts call it</dt>
        <dd>
          ${image.claims.length === 0 ? '–' : image.claims.slice(0, 6).map((claim) => html`<code>${claim}</code> `)}
        </dd>
        <dt>First seen</dt>
        <dd>${whenHtml(image.firstSeen, now)}</dd>
        ${
          image.madeAt != null &&
          html`<dt>Made</dt>
            <dd>${timeHtml(image.madeAt)}</dd>`
        }
        ${aliases
          .filter(({ kind }) => kind !== 'bare-hex')
          .map(
            ({ alias, kind }) =>
              html`<dt>${words[kind as keyof typeof words] ?? kind}</dt>
                <dd>${digestHtml(alias)}</dd>`,
          )}
      </dl>
    </div>
  </section>`;
}

function manifestSheet(image: Image, manifests: readonly Manifest[], may: boolean): Html {
  return html`<section class="sheet">
    <header>
      <h2>File manifest</h2>
      ${stateHtml(image)}
    </header>
    <div class="pad form">
      ${
        manifests.length === 0
          ? html`<p class="quiet">${STATE_WORDS[image.state]}: until then its hosts are unverifiable.</p>`
          : manifests.map(
              ({ rule, trees, builtAt }) =>
                html`<dl class="facts">
                  <dt>Rule</dt>
                  <dd><code>${rule}</code></dd>
                  <dt>Paths</dt>
                  <dd>${count(trees.usr.entries + trees.etc.entries)}</dd>
                  <dt>/usr</dt>
                  <dd>${digestHtml(trees.usr.main.full)}</dd>
                  <dt>/etc</dt>
                  <dd>${digestHtml(trees.etc.main.full)}</dd>
                  <dt>Made here</dt>
                  <dd>${timeHtml(builtAt)}</dd>
                </dl>`,
            )
      }
      ${manifests.length > 0 && html`<p class="quiet">The digests are plain <code>sha256sum</code> of the manifest’s text.</p>`}
    </div>
    ${may && image.state === 'ready' && html`<footer>${rebuildForm(image, 'Read its layers again', ' bare')}</footer>`}
  </section>`;
}

function rolloutSheet(
  listed: ImageInList | undefined,
  booted: { readonly count: number; readonly exact: boolean },
  drifted: { readonly count: number; readonly exact: boolean },
  href: string,
): Html {
  return html`<section class="sheet">
    <header><h2>Where it runs</h2></header>
    <div class="pad">
      <ul class="rows">
        <li>
          <span class="grow">Booted</span
          >${booted.count === 0 ? html`<span class="quiet">0</span>` : html`<a href="/hosts?image=${href}">${bounded(booted)}</a>`}
        </li>
        <li>
          <span class="grow">of them drifted</span
          >${drifted.count === 0 ? html`<span class="quiet">0</span>` : html`<a href="/hosts?image=${href}&verdict=drifted">${bounded(drifted)}</a>`}
        </li>
        <li><span class="grow">Staged, waits for a restart</span>${slotHtml('staged', href, listed?.hosts.staged)}</li>
        <li><span class="grow">Kept to go back to</span>${slotHtml('rollback', href, listed?.hosts.rollback)}</li>
      </ul>
    </div>
    <footer><a class="link" href="/images/${href}/hosts">Every host that ran it, over time</a></footer>
  </section>`;
}

function slotHtml(slot: 'staged' | 'rollback', href: string, hosts: number | undefined): Html {
  if (hosts === undefined) return html`<span>–</span>`;
  return hosts === 0 ? html`<span class="quiet">0</span>` : html`<a href="/hosts?${slot}=${href}">${count(hosts)}</a>`;
}

function compareSheet(image: Image, others: readonly ImageInList[]): Html {
  return html`<section class="sheet" id="compare">
    <header>
      <h2>Compare with</h2>
      <span class="quiet">what an update changes, and whose own files would hide it</span>
    </header>
    ${
      others.length === 0
        ? emptyHtml(
            'There is no other image yet',
            'Once a second one is ready, what it changes is shown here before any host boots it.',
          )
        : html`<table class="list flat">
            <caption class="sr">
              Other images
            </caption>
            <thead>
              <tr>
                <th>Image</th>
                <th class="p2">Digest</th>
                <th class="num">Booted</th>
                <th class="num"><span class="sr">Ways to compare</span></th>
              </tr>
            </thead>
            <tbody>
              ${others.map((other) => {
                const [mine, theirs] = [encodeURIComponent(image.digest), encodeURIComponent(other.digest)];
                return html`<tr>
                  <td class="main">
                    <span class="clip">${nameOf(other)} <span class="soft">${other.version ?? ''}</span></span>
                  </td>
                  <td class="p2">${digestHtml(other.digest)}</td>
                  <td class="num">${count(other.hosts.booted)}</td>
                  <td class="num nowrap">
                    <a
                      class="link"
                      href="/images/${mine}/diff?to=${theirs}"
                      title="What changes for hosts of this image"
                      >to it</a
                    > ·
                    <a
                      class="link"
                      href="/images/${theirs}/diff?to=${mine}"
                      title="What changes for hosts of the other image"
                      >from it</a
                    >
                  </td>
                </tr>`;
              })}
            </tbody>
          </table>`
    }
  </section>`;
}

/** What a host loses or changes of this image without saying so, and which backends would refuse it. */
function warningsSheet({ warnings: told }: Image): Html | undefined {
  const { warnings = [], refused = [] } = (told ?? {}) as Partial<BuildNotes>;
  if (warnings.length + refused.length === 0) return undefined;
  return html`<section class="sheet">
    <header>
      <h2>For who builds this image</h2>
      <span class="quiet">${plural(warnings.length + refused.length, 'note')}</span>
    </header>
    <div class="pad">
      <dl class="facts">
        ${[...refused.map(({ code, text }) => ({ code, message: text, path: undefined })), ...warnings]
          .slice(0, NOTES_MAX)
          .map(
            ({ code, message, path }) =>
              html`<dt><code>${code}</code></dt>
                <dd>${path !== undefined && html`<code>${path}</code> `}${message}</dd>`,
          )}
      </dl>
    </div>
  </section>`;
}

function whySheet(image: Image, may: boolean, now: Instant): Html {
  const places = [...new Set(image.claims.flatMap((claim) => claimedSource(claim) ?? []))];
  const allowable = image.reasons.some(({ code }) => code === 'IMAGE_SOURCE_NOT_ALLOWED');
  return html`<section class="sheet waits">
    <header>
      <h2>${icon('stop')} Why it cannot be read</h2>
      ${image.nextTry !== null && html`<span class="quiet">${image.nextTry > now ? html`tried again at ${timeHtml(image.nextTry)}` : 'tried again now'}</span>`}
    </header>
    <div class="pad form">
      <dl class="facts">
        ${image.reasons.map(
          ({ code, text }: Reason) =>
            html`<dt>
                <a class="link" href="/problems/${code}"><code>${code}</code></a>
              </dt>
              <dd>${text}</dd>`,
        )}
      </dl>
      ${
        allowable &&
        places.map(
          (place) =>
            html`<div class="way">
              <form method="post" action="/sources">
                <input type="hidden" name="reference" value="${place}" />
                <button class="btn first named" type="submit">Allow images from ${place}</button>
              </form>
              ${commandHtml(`bootproof sources allow ${place}`)}
            </div>`,
        )
      }
      ${may && rebuildForm(image, 'Try again now')}
    </div>
  </section>`;
}
