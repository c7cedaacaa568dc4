/** `/policies`: by what hosts are judged, version by version, with who and when; one version with its rules, its text and what it changed. */
import type { Context, Hono } from 'hono';
import type { Policy } from '#src/policy/document.ts';
import { isFleetWide } from '#server/access/principal.ts';
import { isRejudging, PolicyError } from '#server/policies.ts';
import type { PolicyVersion } from '#server/store/policyrecords.ts';
import { digestHtml, html, icon, type Html } from './html.ts';
import { missingPage, show } from './layout.ts';
import { emptyHtml, headHtml, noticeHtml } from './parts/page.ts';
import { lineDiffHtml } from './parts/linediff.ts';
import { policyTrials } from './policytrial.ts';
import type { Env, WebServices } from './services.ts';
import { agoHtml, count, plural, severityHtml, timeHtml, whenHtml } from './words.ts';

const PAGE = 30;

export function policyPages(web: Hono<Env>, services: WebServices): void {
  web.get('/policies', (c) => listPage(c, services));
  policyTrials(web, services);
  web.get('/policies/:n{[1-9][0-9]{0,8}}', (c) => versionPage(c, services, 'rules'));
  web.get('/policies/:n{[1-9][0-9]{0,8}}/text', (c) => versionPage(c, services, 'text'));
  web.get('/policies/:n{[1-9][0-9]{0,8}}/changes', (c) => versionPage(c, services, 'changes'));
}

async function listPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const { store, policies, clock } = services;
  const now = clock();
  const after = /^[1-9][0-9]{0,8}$/.exec(c.req.query('after') ?? '')?.[0];
  const [list, rejudging] = await Promise.all([
    store.policies.list({ cursor: after === undefined ? null : { n: Number(after) }, limit: PAGE }),
    isRejudging(services),
  ]);
  const { managed, version, current } = policies;
  const may = isFleetWide(c.get('principal'), 'policy_editor', 'admin') && managed === null;
  const body = html`${c.req.query('did') === 'applied' && version !== null && noticeHtml(`Version ${version.n} counts from now on; every host is judged anew.`)}
    ${headHtml({
      title:
        version === null ? html`The policy ${current.name} judges` : html`Version ${version.n} of the policy judges`,
      text: html`${
        version === null
          ? 'It was handed to the server when it started, and belongs to no version.'
          : html`${version.name}, since ${whenHtml(version.createdAt, now)} by ${version.createdBy}:
            ${plural(rulesIn(current), 'rule')}.`
      }
      ${rejudging && 'Hosts are being judged anew just now.'}`,
      acts: may ? html`<a class="btn first" href="/policies/try">Try another policy</a>` : undefined,
    })}
    ${managed !== null && managedNote(managed, now)}
    <section class="sheet">
      ${
        list.items.length === 0
          ? emptyHtml(
              'No version is kept',
              'Once a policy is applied here, or taken from a folder, each of its versions stands here with who and when.',
            )
          : html`<table class="list">
              <caption class="sr">
                Versions of the policy, newest first
              </caption>
              <thead>
                <tr>
                  <th class="num">Version</th>
                  <th>Name</th>
                  <th class="p2">By</th>
                  <th class="p3">From</th>
                  <th class="p3">Digest</th>
                  <th class="num">Applied</th>
                </tr>
              </thead>
              <tbody>
                ${list.items.map((each) => row(each, version?.n, now))}
              </tbody>
            </table>`
      }
      ${
        list.items.length > 0 &&
        html`<footer>
          <span
            >${plural(list.items.length, 'version')}${list.next !== null || after !== undefined ? ' and more' : ''}</span
          >
          ${(list.next !== null || after !== undefined) && html`<span class="acts">${after !== undefined && html`<a class="link" href="/policies">First page</a>`}${list.next !== null && html`<a class="link" rel="next" href="/policies?after=${list.next.n}">Next page</a>`}</span>`}
        </footer>`
      }
    </section>`;
  return show(c, services, {
    title: 'Policies',
    section: '/policies',
    now,
    body,
    ...(rejudging ? { refresh: 5 } : {}),
  });
}

/** Policies that live in a repository are changed there: a page that could change them would be overruled by the next pull. */
export function managedNote({ place, problem }: NonNullable<WebServices['policies']['managed']>, _now: number): Html {
  return html`<div class="note ${problem !== null && 'critical'}" ${problem !== null && html` role="alert"`}>
    ${icon(problem === null ? 'file' : 'stop')}<span
      >${
        problem === null
          ? html`This policy comes from <code>${place}</code> and is read-only here. Change it there; it counts a second
              after it was written.`
          : html`<strong>The newest text in <code>${place}</code> does not count</strong>, since
              ${timeHtml(problem.at)}; the one before judges
              on.${problem.lines.slice(0, 10).map((line) => html`<br /><code>${line}</code>`)}`
      }</span
    >
  </div>`;
}

const ORIGIN_WORDS = { shipped: 'this build', api: 'a person', files: 'files' } as const;

function row(version: PolicyVersion, active: number | undefined, now: number): Html {
  const { n, name, note, createdBy, origin, place, commit, digest, createdAt } = version;
  return html`<tr>
    <td class="num">${n}</td>
    <td class="main">
      <div class="two">
        <span
          ><a class="go" href="/policies/${n}">${name}</a
          >${n === active && html` <span class="tag loud compliant">judges</span>`}</span
        >
        <span
          >${note ?? (origin === 'files' ? `${place ?? ''}${commit === null ? '' : ` at ${commit.slice(0, 12)}`}` : 'no note')}</span
        >
      </div>
    </td>
    <td class="p2 soft">${createdBy}</td>
    <td class="p3 soft">${ORIGIN_WORDS[origin]}</td>
    <td class="p3">${digestHtml(digest)}</td>
    <td class="num soft nowrap">${agoHtml(createdAt, now)}</td>
  </tr>`;
}

export const rulesIn = ({ files, accounts, state }: Policy): number => files.length + accounts.length + state.length;

type Tab = 'rules' | 'text' | 'changes';

async function versionPage(c: Context<Env>, services: WebServices, tab: Tab): Promise<Response> {
  const { policies, store, clock } = services;
  const n = Number(c.req.param('n'));
  const now = clock();
  let found: { readonly version: PolicyVersion; readonly policy: Policy };
  try {
    found = await policies.get(n);
  } catch (error) {
    if (error instanceof PolicyError) return missingPage(c, services);
    throw error;
  }
  const { version, policy } = found;
  const active = policies.version?.n === n;
  const before = n > 1 ? await store.policies.get(n - 1) : undefined;
  const may = isFleetWide(c.get('principal'), 'policy_editor', 'admin');
  const changed = before === undefined ? undefined : changesHtml(before, version);
  const body = html`${headHtml({
      crumbs: [['Policies', '/policies'], [`Version ${n}`]],
      title: active ? html`Version ${n} judges every host` : html`Version ${n} is history`,
      text: html`${version.name}, applied ${whenHtml(version.createdAt, now)} by
      ${version.createdBy}${version.note !== null && html`: “${version.note}”`}. ${policy.description}`,
      acts:
        may && !active ? html`<a class="btn first" href="/policies/${n}/dryrun">What would it change?</a>` : undefined,
    })}
    <div class="stack">
      <nav class="tabs" aria-label="Version">
        <a href="/policies/${n}" ${tab === 'rules' && html` aria-current="page"`}
          >Rules <span class="count">${count(rulesIn(policy))}</span></a
        >
        <a href="/policies/${n}/text" ${tab === 'text' && html` aria-current="page"`}>Text</a>
        <a href="/policies/${n}/changes" ${tab === 'changes' && html` aria-current="page"`}>Changes</a>
      </nav>
      ${
        tab === 'rules'
          ? html`${rulesSheet(policy)} ${deniedSheet(policy)}`
          : tab === 'text'
            ? textSheets(version)
            : html`<section class="sheet">
                <header>
                  <h2>Against the version before</h2>
                  <span class="quiet">${before === undefined ? '' : `version ${before.n} → ${n}`}</span>
                </header>
                ${before === undefined ? emptyHtml('It is the first version', 'There is nothing to hold it against.') : (changed ?? emptyHtml('The text is the same', 'The build that read it understands something else, or its files have other names.'))}
              </section>`
      }
    </div>`;
  return show(c, services, { title: `Policy, version ${n}`, section: '/policies', now, body });
}

function textSheets({ documents }: PolicyVersion): Html {
  return html`${documents.map(
    ({ file, text }) =>
      html`<section class="sheet">
        <header>
          <h2>${file}</h2>
          <span class="quiet">${plural(text.split('\n').length, 'line')}</span>
        </header>
        <div class="pad"><pre class="block" tabindex="0" role="region" aria-label="${file}">${text}</pre></div>
      </section>`,
  )}`;
}

/** Each document against the one of its name before; undefined where nothing differs. */
function changesHtml(before: PolicyVersion, after: PolicyVersion): Html | undefined {
  const was = new Map(before.documents.map(({ file, text }) => [file, text]));
  const names = [...new Set([...was.keys(), ...after.documents.map(({ file }) => file)])];
  const is = new Map(after.documents.map(({ file, text }) => [file, text]));
  const parts = names.flatMap((name) => lineDiffHtml(was.get(name) ?? '', is.get(name) ?? '', name) ?? []);
  return parts.length === 0 ? undefined : html`${parts}`;
}

const EFFECTS = { forbidden: 'forbidden', allowed: 'allowed', 'expected-local': 'expected here' } as const;

/** Files whose lines it never lets be shown (docs/policy.md, section 14): what auditors ask about content that leaves hosts. */
function deniedSheet({ contentsDenied }: Policy): Html {
  return html`<section class="sheet">
    <header>
      <h2>Content that is never shown</h2>
      <span class="quiet">${contentsDenied.length === 0 ? '' : plural(contentsDenied.length, 'pattern')}</span>
    </header>
    ${
      contentsDenied.length === 0
        ? emptyHtml(
            'It denies nothing more',
            html`Lines of a file are shown where the agent’s configuration in the image names it; what
              <code>contents.deny</code> lists here would not be, whatever agents send.`,
          )
        : html`<div class="pad">
            <ul class="rows">
              ${contentsDenied.map(({ source }) => html`<li><code>${source}</code></li>`)}
            </ul>
          </div>`
    }
  </section>`;
}

function rulesSheet(policy: Policy): Html {
  const all = [
    ...policy.files.map((rule) => ({ rule, on: rule.paths.map(({ source }) => source).join(' ') })),
    ...policy.accounts.map((rule) => ({ rule, on: 'accounts' })),
    ...policy.state.map((rule) => ({ rule, on: rule.on })),
  ];
  return html`<section class="sheet">
    ${
      all.length === 0
        ? emptyHtml(
            'It has no rule of its own',
            'What nothing is said of is forbidden below /usr, and noted below /etc.',
          )
        : html`<table class="list">
            <caption class="sr">
              Rules of this version, in the order in which they are asked
            </caption>
            <thead>
              <tr>
                <th>Rule</th>
                <th class="p2">On</th>
                <th>Effect</th>
                <th class="p3">Controls</th>
              </tr>
            </thead>
            <tbody>
              ${all.map(
                ({ rule, on }) =>
                  html`<tr id="rule-${rule.id}">
                    <td class="main">
                      <div class="two">
                        <span
                          ><a class="go" href="/findings?tab=all&q=${encodeURIComponent(`rule:${rule.id}`)}"
                            >${rule.id}</a
                          ></span
                        >
                        <span title="${rule.reason}">${rule.reason}</span>
                      </div>
                    </td>
                    <td class="p2"><code class="clip where" title="${on}">${on}</code></td>
                    <td class="nowrap">
                      ${rule.effect === 'forbidden' ? severityHtml(rule.severity) : html`<span class="soft">${EFFECTS[rule.effect]}</span>`}
                    </td>
                    <td class="p3">
                      <span class="clip where" title="${rule.controls.join(', ')}"
                        >${rule.controls.slice(0, 3).map((control) => html`<span class="tag">${control.replace(/^[^:]*:/, '')}</span> `)}</span
                      >
                    </td>
                  </tr>`,
              )}
            </tbody>
          </table>`
    }
    <footer><span>${plural(all.length, 'rule')}; the first that matches decides</span></footer>
  </section>`;
}
