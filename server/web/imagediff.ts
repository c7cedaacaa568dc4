/** `/images/DIGEST/diff?to=DIGEST`: what an update changes, and on which hosts files of their own would hide what it changes in /etc. */
import type { Context } from 'hono';
import { attributesOf, type Drift } from '#src/drift/drift.ts';
import { treeOf } from '#src/manifest/entry.ts';
import { printable } from '#src/terminal.ts';
import type { Principal } from '#server/access/principal.ts';
import { imageFor } from '#server/decisions/images.ts';
import { changesBetween, type ImageChanges } from '#server/imagechanges.ts';
import { previewRollout, RolloutError, type Rollout, type RolloutPath } from '#server/rollout.ts';
import { namedOf, type Named } from './hostfilter.ts';
import { compareHtml } from './hosttree.ts';
import { commandHtml, digestHtml, html, icon, pathHtml, type Html } from './html.ts';
import { missingPage, show } from './layout.ts';
import { emptyHtml, headHtml } from './parts/page.ts';
import { addressWith } from './parts/table.ts';
import type { Env, WebServices } from './services.ts';
import { count, listed, plural } from './words.ts';

const SHOWN = 200;
/** How long a page waits for the hosts to be looked at; what is left is said. */
const PREVIEW_MS = 3000;
const TREES = ['all', 'etc', 'usr'] as const;

export async function imageDiffPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, clock, images } = services;
  const [before, after] = [c.req.param('digest')!, c.req.query('to') ?? ''];
  const who = c.get('principal');
  const found = [await imageFor(who, before, store), await imageFor(who, after, store)] as const;
  if (found[0] === undefined || found[1] === undefined) return missingPage(c, services);
  const [was, is] = [namedOf(found[0].image), namedOf(found[1].image)];
  const now = clock();
  const query = new URL(c.req.url).searchParams;
  const tree = TREES.find((each) => each === query.get('tree')) ?? 'all';
  const from = /^[0-9]{1,7}$/.test(query.get('from') ?? '') ? Number(query.get('from')) : 0;
  const [changes, rollout] = await Promise.all([
    changesBetween(before, after, images),
    previewOf(before, after, who, services),
  ]);
  const body = html`${headHtml({
      crumbs: [
        ['Images', '/images'],
        [`${was.place} ${was.version ?? ''}`, `/images/${encodeURIComponent(was.digest)}`],
        ['What an update changes'],
      ],
      title: title(changes, was, is),
      text: textOf(rollout),
      acts: html`<a
        class="btn"
        href="/images/${encodeURIComponent(is.digest)}/diff?to=${encodeURIComponent(was.digest)}"
        >${icon('back')}The other way</a
      >`,
    })}
    <div class="cols aside">
      <div class="stack">
        ${
          changes.kind === 'untold'
            ? html`<section class="sheet">
                ${emptyHtml('They cannot be compared', `${changes.why}.`, html`<a class="btn" href="/images/${encodeURIComponent(was.digest)}">The older image</a><a class="btn" href="/images/${encodeURIComponent(is.digest)}">The newer image</a>`)}
              </section>`
            : changesSheet(changes, rollout, { tree, from, query, path: `/images/${encodeURIComponent(before)}/diff` })
        }
      </div>
      <aside class="stack" aria-label="The two images">
        ${sidesSheet(was, is)} ${rollout !== undefined && rolloutSheet(rollout)}
        <section class="sheet cut-on-paper">
          <header><h2>The same from a terminal</h2></header>
          <div class="pad form">${commandHtml(`bootproof image preview ${was.digest} ${is.digest}`)}</div>
        </section>
      </aside>
    </div>`;
  return show(c, services, {
    title: `${was.version ?? 'image'} → ${is.version ?? 'image'}`,
    section: '/images',
    now,
    body,
  });
}

async function previewOf(
  before: string,
  after: string,
  who: Principal,
  services: WebServices,
): Promise<Rollout | undefined> {
  const range = { cursor: null, until: services.clock() + PREVIEW_MS };
  try {
    return await previewRollout({ before, after }, range, who, services);
  } catch (error) {
    // Why they cannot be held against each other stands on the page already.
    if (error instanceof RolloutError) return undefined;
    throw error;
  }
}

function title(changes: ImageChanges, was: Named, is: Named): Html {
  // Two builds of one version are told apart by their digests.
  const alike = was.version === is.version;
  const of = ({ version, digest }: Named): Html => (alike || version === null ? digestHtml(digest) : html`${version}`);
  const names = html`${of(was)} to ${of(is)}`;
  if (changes.kind === 'untold') return html`${names} cannot be compared`;
  const n = changes.drift.length + changes.secrets.length;
  return n === 0 ? html`${names} changes nothing` : html`${names} changes ${plural(n, 'path')}`;
}

function textOf(rollout: Rollout | undefined): string {
  if (rollout === undefined) return 'Both trees are compared as a host’s are with its image.';
  const { shadowed, looked } = rollout.hosts;
  if (looked === 0) return 'No host of the older image has a report that could be looked at.';
  if (shadowed === 0)
    return `On none of the ${plural(looked, 'host')} of the older image would a local change hide what it brings.`;
  return `On ${plural(shadowed, 'host')} of ${count(looked)} a file of their own in /etc would hide what it brings, and bootc says nothing of that.`;
}

function sidesSheet(was: Named, is: Named): Html {
  const side = (word: string, { digest, place, version }: Named): Html =>
    html`<dt>${word}</dt>
      <dd>
        <a href="/images/${encodeURIComponent(digest)}">${place} ${version ?? ''}</a><br />${digestHtml(digest)}
      </dd>`;
  return html`<section class="sheet">
    <header><h2>The two images</h2></header>
    <div class="pad"><dl class="facts">${side('From', was)}${side('To', is)}</dl></div>
  </section>`;
}

function rolloutSheet({ hosts, next, paths }: Rollout): Html {
  const same = paths.filter((path) => path.same > 0).length;
  return html`<section class="sheet">
    <header>
      <h2>If it were rolled out</h2>
      <span class="quiet"
        >${next === null ? plural(hosts.looked, 'host') : `the first ${count(hosts.looked)} hosts`}</span
      >
    </header>
    <div class="pad">
      <ul class="rows">
        <li><span class="grow">Paths that change in /etc</span><span>${count(paths.length)}</span></li>
        <li><span class="grow">Hosts that would hide some</span><span>${count(hosts.shadowed)}</span></li>
        <li><span class="grow">Local copies that become the image’s</span><span>${count(same)}</span></li>
        <li><span class="grow">Hosts without a report to look at</span><span>${count(hosts.unjudged)}</span></li>
      </ul>
    </div>
    ${
      next !== null &&
      html`<footer>
        <span>The whole fleet: <code>bootproof image preview</code></span>
      </footer>`
    }
  </section>`;
}

type Around = {
  readonly tree: (typeof TREES)[number];
  readonly from: number;
  readonly query: URLSearchParams;
  readonly path: string;
};

const TREE_WORDS = { all: 'All', etc: '/etc', usr: '/usr' } as const;

function changesSheet(
  changes: Extract<ImageChanges, { kind: 'changes' }>,
  rollout: Rollout | undefined,
  { tree, from, query, path }: Around,
): Html {
  const { drift, secrets, totals, rule } = changes;
  const met = new Map((rollout?.paths ?? []).map((each) => [each.path, each]));
  const hides = (line: Drift): number => met.get(line.path)?.shadowed ?? 0;
  // What somebody has to look at first: what hosts would hide.
  const mine = drift
    .filter((line) => tree === 'all' || treeOf(line.path) === tree)
    .map((line, at) => ({ line, at, hidden: hides(line) }))
    .sort((a, b) => b.hidden - a.hidden || a.at - b.at)
    .map(({ line }) => line);
  const shown = mine.slice(from, from + SHOWN);
  const figure = (
    word: string,
    each: { readonly added: number; readonly removed: number; readonly modified: number },
  ): Html =>
    html`<div>
      <h3>${word}</h3>
      <p class="figure">${count(each.added + each.removed + each.modified)}</p>
      <p>
        <span class="plus">+${count(each.added)}</span>
        <span class="minus">−${count(each.removed)}</span> ~${count(each.modified)}
      </p>
    </div>`;
  const size = { all: drift.length, etc: sum(totals.etc), usr: sum(totals.usr) };
  return html`<section class="sheet">
    <header>
      <h2>What it changes</h2>
      <span class="quiet">compared by rule <code>${rule}</code></span>
    </header>
    <div class="answers small">
      ${figure('Below /usr', totals.usr)} ${figure('Below /etc', totals.etc)}
      <div>
        <h3>Hidden by local changes</h3>
        <p class="figure">${rollout === undefined ? '–' : plural(rollout.hosts.shadowed, 'host')}</p>
        <p>${hiddenText(rollout)}</p>
      </div>
    </div>
    ${
      secrets.length > 0 &&
      html`<div class="pad">
        <p class="note">
          ${icon('stop')}<span
            >${listed(secrets.slice(0, 5).map((each) => printable(each.path)))}
            ${secrets.length === 1 ? 'differs' : 'differ'} as well: what is secret is not told apart further.</span
          >
        </p>
      </div>`
    }
    <div class="pad">
      <nav class="tabs" aria-label="Tree">
        ${TREES.map((each) => html`<a href="${addressWith(path, query, { tree: each === 'all' ? null : each, from: null })}" ${each === tree && html` aria-current="page"`}>${TREE_WORDS[each]} <span class="count">${count(size[each])}</span></a>`)}
      </nav>
    </div>
    ${
      mine.length === 0
        ? emptyHtml('Nothing changes here', 'Each path is the same in both images.')
        : html`<div class="pad tree flush">${shown.map((line) => lineHtml(line, met.get(line.path)))}</div>`
    }
    <footer>
      <span
        >${shown.length < mine.length ? `${count(from + 1)} – ${count(from + shown.length)} of ` : ''}${plural(mine.length, 'path')}</span
      >
      ${
        (from > 0 || from + SHOWN < mine.length) &&
        html`<span class="acts"
          >${from > 0 && html`<a class="link" href="${addressWith(path, query, { from: null })}">First page</a>`}${from + SHOWN < mine.length && html`<a class="link" rel="next" href="${addressWith(path, query, { from: String(from + SHOWN) })}">Next page</a>`}</span
        >`
      }
    </footer>
  </section>`;
}

const sum = (each: { readonly added: number; readonly removed: number; readonly modified: number }): number =>
  each.added + each.removed + each.modified;

function hiddenText(rollout: Rollout | undefined): string {
  if (rollout === undefined) return 'it cannot be told';
  const hidden = rollout.paths.filter(({ shadowed }) => shadowed > 0);
  if (hidden.length === 0) return 'each host takes all of it';
  return hidden.length === 1 ? `all in ${printable(hidden[0]!.path)}` : `in ${count(hidden.length)} files of /etc`;
}

const MARKS = { added: '+', removed: '−', modified: '~' } as const;
const NAMES = new Map([
  ['sha256', 'content'],
  ['uid', 'owner'],
  ['gid', 'group'],
]);

function lineHtml(line: Drift, met: RolloutPath | undefined): Html {
  return html`<details class="change">
    <summary>
      <span
        class="mark ${line.change === 'added' ? 'plus' : line.change === 'removed' ? 'minus' : ''}"
        aria-hidden="true"
        >${MARKS[line.change]}</span
      ><span class="sr">${line.change} </span>
      <span class="grow">${pathHtml(line.path)}</span>
      <span class="quiet wide-only"
        >${attributesOf(line)
          .map((name) => NAMES.get(name) ?? name)
          .join(', ')}</span
      >
      ${met !== undefined && met.shadowed > 0 && html`<span class="tag loud drifted">${plural(met.shadowed, 'host hides it', 'hosts hide it')}</span>`}
      ${met !== undefined && met.same > 0 && html`<span class="tag">${plural(met.same, 'host has it', 'hosts have it')}</span>`}
    </summary>
    <div class="inset">
      ${compareHtml(line, ['Older image', 'Newer image'])}
      <p class="beneath">
        <code class="digest full">${printable(line.path)}</code>
        ${met !== undefined && met.examples.length > 0 && html`<span>${met.examples.map(({ host, name, meets }) => html`<a class="link" href="/hosts/${host}/tree">${name}</a> ${MEETS[meets]} `)}</span>`}
      </p>
    </div>
  </details>`;
}

const MEETS = { shadowed: 'hides it', same: 'has the same', untold: 'has a secret there' } as const;
