/** The tree of changes: only the branches in which something differs, expected beside actual per attribute (design, section 5). */
import { pathOfSubject } from '#src/finding/describe.ts';
import { attributesOf, type Drift } from '#src/drift/drift.ts';
import { TREES, type Facts } from '#src/manifest/entry.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { printable } from '#src/terminal.ts';
import { rebuildCommand, toldText } from '#server/findingorigin.ts';
import { differenceOf, isAboutContent } from '#server/contents.ts';
import type { Told } from '#server/origins.ts';
import type { FindingWithGroup } from '#server/store/records.ts';
import type { About } from './hostabout.ts';
import { statusHtml } from './hostfindings.ts';
import { commandHtml, digestHtml, html, icon, pathHtml, type Html } from './html.ts';
import { differenceHtml } from './parts/difference.ts';
import { emptyHtml } from './parts/page.ts';
import type { WebServices } from './services.ts';
import { capital, count, plural, severityHtml } from './words.ts';

/** Leaves that a page draws; the API has all. */
const LEAVES_MAX = 600;
/** Of the expected ones in a tree. */
const QUIET_MAX = 200;
/** Folders within folders that are drawn as such; what lies deeper keeps its whole name. */
const DEPTH_MAX = 24;

type Leaf = {
  readonly path: string;
  readonly change: Drift['change'] | 'hole' | 'secret';
  readonly drift?: Drift;
  /** For what is no drift: what is known of it. */
  readonly note?: string;
  readonly finding: FindingWithGroup | undefined;
  /** Where the path comes from in the booted image. */
  told?: Told | undefined;
  /** Of a text file of /etc: how its content differs. */
  content?: Html;
};
type Folder = { readonly name: string; readonly folders: Map<string, Folder>; readonly leaves: Leaf[] };

export async function treeTab({ examined, findings, host }: About, services: WebServices): Promise<Html> {
  const { origins } = services;
  if (examined === undefined)
    return html`<section class="sheet">
      <header><h2>Tree of changes</h2></header>
      ${emptyHtml('Nothing to compare yet', 'A full report shows what differs from the booted image; none is kept of this host.')}
    </section>`;
  const { contents, report } = examined;
  const byPath = worstByPath(findings);
  const leaves: Leaf[] = [
    ...contents.drift.map((drift) => ({
      path: drift.path,
      change: drift.change,
      drift,
      finding: byPath.get(drift.path),
    })),
    ...contents.secrets
      .filter(({ state }) => state !== 'same')
      .map(({ path, state }) => ({
        path,
        change: 'secret' as const,
        note: `secret, ${state === 'differs' ? 'content differs' : state}`,
        finding: byPath.get(path),
      })),
    ...[...contents.holes.usr, ...contents.holes.etc].map(({ path, kind, detail }) => ({
      path,
      change: 'hole' as const,
      note: `could not be judged, ${kind}: ${detail}`,
      finding: byPath.get(path),
    })),
  ];
  const loud = leaves.filter(({ finding }) => finding !== undefined);
  const expected = leaves.filter(({ finding }) => finding === undefined);
  const compared = report.trees.usr.entries + report.trees.etc.entries;
  const drawn = loud.slice(0, LEAVES_MAX);
  const shown = [...drawn, ...expected.slice(0, QUIET_MAX * TREES.length)].map(({ path }) => path);
  const told = await origins.of(host.images.booted, host.rule, shown);
  for (const leaf of leaves) leaf.told = told.get(leaf.path);
  const inSight = new Set(shown);
  for (const leaf of leaves)
    if (leaf.drift !== undefined && inSight.has(leaf.path) && isAboutContent(leaf.drift))
      leaf.content = differenceHtml(await differenceOf(report, leaf.drift, services), host.images.booted);
  return html`<section class="sheet">
    <header>
      <h2>Tree of changes</h2>
      <span class="quiet"
        >${count(compared)} paths compared, ${plural(loud.length, 'matters', 'matter')}, ${count(expected.length)}
        expected here</span
      >
    </header>
    ${
      leaves.length === 0
        ? emptyHtml(
            report.manifest === null ? 'Nothing was compared' : 'No path differs',
            report.manifest === null
              ? 'The host had no manifest to compare with when it reported; its next full report will.'
              : 'Each path of /usr and /etc is as the booted image has it.',
          )
        : html`<div class="pad tree">
            ${TREES.map((tree) => treeHtml(tree, drawn, expected, examined.report.deployment.overlays))}
          </div>`
    }
    ${
      [...told.values()].some((each) => each.kind === 'untold' && each.why === 'not-kept') &&
      html`<div class="pad">
        <p class="quiet">
          Which layer and package brought a file is not known: the image was built before layers were kept.
        </p>
        ${commandHtml(rebuildCommand(host.images.booted))}
      </div>`
    }
    ${
      (report.truncated !== null || loud.length > drawn.length) &&
      html`<footer>
        <span
          >${report.truncated === null ? `${count(drawn.length)} of ${plural(loud.length, 'path')}; the API has all` : `The report lists ${plural(contents.drift.length, 'path')} of ${count(report.truncated.added + report.truncated.removed + report.truncated.modified)} that differ`}</span
        >
        <span>report ${count(report.seq)} of ${host.name}</span>
      </footer>`
    }
  </section>`;
}

function worstByPath(findings: readonly FindingWithGroup[]): ReadonlyMap<string, FindingWithGroup> {
  const out = new Map<string, FindingWithGroup>();
  for (const finding of findings) {
    const path = pathOfSubject({ kind: finding.group.kind, subject: finding.group.subject });
    if (path === undefined) continue;
    const known = out.get(path);
    if (known === undefined || known.severity < finding.severity) out.set(path, finding);
  }
  return out;
}

const inTree = (path: string, tree: string): boolean => path === `/${tree}` || path.startsWith(`/${tree}/`);

function treeHtml(
  tree: 'usr' | 'etc',
  loud: readonly Leaf[],
  expected: readonly Leaf[],
  overlays: readonly { readonly path: string; readonly kind: string; readonly writable: boolean }[],
): Html | undefined {
  const mine = loud.filter(({ path }) => inTree(path, tree));
  const quiet = expected.filter(({ path }) => inTree(path, tree));
  const over = overlays.filter(({ path }) => inTree(path, tree));
  if (mine.length + quiet.length + over.length === 0) return undefined;
  const root: Folder = { name: `/${tree}`, folders: new Map(), leaves: [] };
  for (const leaf of mine) insert(root, leaf, leaf.path.split('/').slice(2));
  return html`<details open>
    <summary>
      ${icon('right')}${icon('folder')}<span class="grow mono">/${tree}</span>
      ${over.map(({ path, kind, writable }) => html`<span class="tag loud masked">${kind}${path !== `/${tree}` && html` on <code>${path}</code>`}${writable && ', writable'}</span>`)}
      <span class="quiet">${count(mine.length)}</span>
    </summary>
    <ul>
      ${folderHtml(root, 1)}${quiet.length > 0 && html`<li>${expectedHtml(quiet)}</li>`}
      ${mine.length === 0 && quiet.length === 0 && html`<li><span class="leaf quiet">Nothing differs here.</span></li>`}
    </ul>
  </details>`;
}

function insert(folder: Folder, leaf: Leaf, parts: readonly string[]): void {
  let at = folder;
  for (const name of parts.slice(0, -1).slice(0, DEPTH_MAX)) {
    let next = at.folders.get(name);
    if (next === undefined) {
      next = { name, folders: new Map(), leaves: [] };
      at.folders.set(name, next);
    }
    at = next;
  }
  at.leaves.push(leaf);
}

function folderHtml(folder: Folder, depth: number): Html {
  return html`${folder.leaves.map((leaf) => html`<li>${leafHtml(leaf, depth)}</li>`)}${[...folder.folders.values()].map(
    (each) => {
      // A folder in which only one other lies is no step of its own.
      let names = each.name;
      let at = each;
      while (at.leaves.length === 0 && at.folders.size === 1) {
        at = [...at.folders.values()][0]!;
        names += `/${at.name}`;
      }
      const inside = countIn(at);
      if (inside === 1 && at.leaves.length === 1) return html`<li>${leafHtml(at.leaves[0]!, depth)}</li>`;
      return html`<li>
        <details open>
          <summary>
            ${icon('right')}${icon('folder')}<span class="grow mono">${printable(names)}</span
            ><span class="quiet">${count(inside)}</span>
          </summary>
          <ul>
            ${folderHtml(at, depth + names.split('/').length)}
          </ul>
        </details>
      </li>`;
    },
  )}`;
}

function countIn(folder: Folder): number {
  return folder.leaves.length + [...folder.folders.values()].reduce((sum, each) => sum + countIn(each), 0);
}

const MARKS = { added: '+', removed: '−', modified: '~', hole: '?', secret: '~' } as const;
const WORDS = {
  added: 'added',
  removed: 'removed',
  modified: 'modified',
  hole: 'not judged',
  secret: 'differs',
} as const;

function leafHtml(leaf: Leaf, depth: number): Html {
  const { change, drift, note, finding } = leaf;
  const name = leaf.path
    .split('/')
    .slice(depth + 1)
    .join('/');
  return html`<details class="change">
    <summary>
      <span
        class="mark ${finding !== undefined && finding.status === 'open' ? 'drifted' : ''}"
        title="${WORDS[change]}"
        aria-hidden="true"
        >${MARKS[change]}</span
      ><span class="sr">${WORDS[change]} </span>
      <span class="grow">${pathHtml(name)}</span>
      <span class="quiet wide-only">${note ?? shortOf(drift!)}</span>
      ${finding !== undefined && finding.status !== 'open' ? statusHtml(finding) : finding !== undefined && severityHtml(SEVERITIES[finding.severity])}
    </summary>
    <div class="inset">
      ${drift === undefined ? html`<p class="pad">${note}</p>` : compareHtml(drift)} ${leaf.content}
      ${leaf.told !== undefined && leaf.told.kind !== 'untold' && html`<p class="beneath">${capital(toldText(leaf.told, null) ?? '')}.</p>`}
      <p class="beneath">
        <code class="digest full">${printable(leaf.path)}</code>
        ${finding !== undefined && html`<a class="link" href="/findings/${finding.groupId}">Where else, and what to do</a>`}
      </p>
    </div>
  </details>`;
}

function expectedHtml(leaves: readonly Leaf[]): Html {
  const names = leaves.slice(0, 3).map(({ path }) => printable(path.split('/').at(-1)!));
  const more = leaves.length - names.length;
  return html`<details>
    <summary>
      ${icon('right')}<span class="grow quiet"
        >${count(leaves.length)} expected here: ${names.join(', ')}${more > 0 && `, ${count(more)} more`}</span
      >
    </summary>
    <ul>
      ${leaves.slice(0, QUIET_MAX).map((leaf) => html`<li>${leafHtml(leaf, 1)}</li>`)}
    </ul>
  </details>`;
}

/** What of it changed, in a few words. */
function shortOf(drift: Drift): string {
  if (drift.change === 'removed') return drift.expected.type;
  if (drift.change === 'added') {
    const { type, mode, uid, gid } = drift.actual;
    return `${type === 'file' ? '' : `${type}, `}${type === 'symlink' ? '' : `${octal(mode)} `}${uid}:${gid}`;
  }
  const names = new Map([
    ['sha256', 'content'],
    ['uid', 'owner'],
    ['gid', 'group'],
  ]);
  return attributesOf(drift)
    .map((name) => names.get(name) ?? name)
    .join(', ');
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');

const ROWS: readonly (readonly [word: string, of: (facts: Facts) => Html | undefined])[] = [
  ['Type', ({ type }) => html`${type}`],
  ['Mode', ({ type, mode }) => (type === 'symlink' ? undefined : html`<code>${octal(mode)}</code>`)],
  ['Owner', ({ uid, gid }) => html`<code>${uid}:${gid}</code>`],
  ['Size', ({ size }) => (size === undefined ? undefined : html`${count(size)} <span class="unit">B</span>`)],
  ['Content', ({ sha256 }) => (sha256 === undefined ? undefined : digestHtml(`sha256:${sha256}`))],
  ['Target', ({ link }) => (link === undefined ? undefined : html`<code>${printable(link)}</code>`)],
  [
    'Capability',
    ({ capability }) => (capability === undefined ? undefined : html`<code class="digest full">${capability}</code>`),
  ],
  ['Device', ({ device }) => (device === undefined ? undefined : html`<code>${device}</code>`)],
];

/** Expected beside actual, the equal ones as well: that mode and owner agree is known, too. */
export function compareHtml(drift: Drift, sides: readonly [string, string] = ['The image', 'This host']): Html {
  const expected = 'expected' in drift ? drift.expected : undefined;
  const actual = 'actual' in drift ? drift.actual : undefined;
  const rows = ROWS.flatMap(([word, of]) => {
    const [was, is] = [expected && of(expected), actual && of(actual)];
    return was === undefined && is === undefined ? [] : [{ word, was, is, differs: was?.text !== is?.text }];
  });
  return html`<table class="compare">
    <caption class="sr">
      ${sides[0]} beside ${sides[1].toLowerCase()}
    </caption>
    <thead>
      <tr>
        <th><span class="sr">Attribute</span></th>
        <th>${sides[0]}</th>
        <th class="sign"><span class="sr">Same or not</span></th>
        <th>${sides[1]}</th>
      </tr>
    </thead>
    <tbody>
      ${rows.map(
        ({ word, was, is, differs }) =>
          html`<tr class="${differs ? 'differs' : ''}">
            <th>${word}</th>
            <td>${was ?? html`<span class="quiet">${expected === undefined ? 'not there' : '–'}</span>`}</td>
            <td class="sign">${differs ? '≠' : '='}</td>
            <td>${is ?? html`<span class="quiet">${actual === undefined ? 'not there' : '–'}</span>`}</td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}
