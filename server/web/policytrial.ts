/** Trying a policy: written or chosen, held against the last report of every host, and only then applied. Nothing changes before. */
import type { Context, Hono } from 'hono';
import { DocumentError } from '#src/document/yaml.ts';
import { policyOfDocuments, type PolicyDocumentText } from '#src/policy/documents.ts';
import type { Policy } from '#src/policy/document.ts';
import { SEVERITIES } from '#src/policy/judgement.ts';
import { isFleetWide } from '#server/access/principal.ts';
import { actOf, DecisionError } from '#server/decisions/may.ts';
import { diffPolicies, type PolicyDiff } from '#server/dryrun.ts';
import { PolicyError } from '#server/policies.ts';
import { html, icon, type Html } from './html.ts';
import { missingPage, show } from './layout.ts';
import { first, inputHtml, NOTHING_WRONG, sentIn, type Sent } from './parts/form.ts';
import { emptyHtml, headHtml, refusedHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';
import { count, plural, severityHtml, verdictHtml } from './words.ts';

/** How long a page waits for the fleet; what is left is said. */
const TRIAL_MS = 8000;
const NEW_FILE = 'policy.yaml';

export function policyTrials(web: Hono<Env>, services: WebServices): void {
  web.get('/policies/try', (c) => {
    editor(c);
    return writing(c, services, currentDocuments(services), undefined);
  });
  web.post('/policies/try', (c) => tried(c, services));
  web.get('/policies/:n{[1-9][0-9]{0,8}}/dryrun', async (c) => {
    editor(c);
    try {
      const { version, policy } = await services.policies.get(Number(c.req.param('n')));
      return await trial(c, services, version.documents, policy, `Version ${version.n}`);
    } catch (error) {
      if (error instanceof PolicyError) return missingPage(c, services);
      throw error;
    }
  });
}

/** It names hosts of the whole fleet, and applying is for every host. @throws {DecisionError} */
function editor(c: Context<Env>): void {
  if (!isFleetWide(c.get('principal'), 'policy_editor', 'admin'))
    throw new DecisionError(
      'FORBIDDEN',
      'to try and apply policies is for who is policy editor or admin of the whole fleet',
    );
}

/** What counts now; the shipped policy is no document of anybody's, so a new one begins by extending it. */
function currentDocuments({ policies }: WebServices): readonly PolicyDocumentText[] {
  const { version } = policies;
  if (version !== null && version.origin !== 'shipped' && version.documents.length > 0) return version.documents;
  return [
    {
      file: NEW_FILE,
      text: `format: bootproof.policy/1\nname: ours\ndescription: What may differ on our hosts.\nextends: default\nfiles:\n  - id: motd\n    paths: [/etc/motd]\n    effect: allowed\n    reason: Each site greets in its own words.\n`,
    },
  ];
}

async function tried(c: Context<Env>, services: WebServices): Promise<Response> {
  editor(c);
  const sent = await sentIn(c);
  const documents = documentsIn(sent);
  const note = first(sent, 'note').trim();
  try {
    const { policy } = policyOfDocuments(documents, services.policies.shipped);
    if (first(sent, 'step') === 'edit') return await writing(c, services, documents, undefined);
    if (first(sent, 'step') !== 'apply') return await trial(c, services, documents, policy, 'This policy');
    const expect = Number(first(sent, 'expect'));
    const who = c.get('principal');
    const terms = { note: note === '' ? null : note.slice(0, 1000), ...(expect > 0 ? { expect } : {}) };
    await services.policies.apply(documents, terms, actOf(who, services.clock()));
    services.wake();
    return c.redirect('/policies?did=applied', 303);
  } catch (error) {
    if (error instanceof DocumentError) return writing(c, services, documents, error.lines);
    if (error instanceof PolicyError) return writing(c, services, documents, [error.message]);
    throw error;
  }
}

function documentsIn(sent: Sent): PolicyDocumentText[] {
  const files = sent.get('file') ?? [];
  const texts = sent.get('text') ?? [];
  return files.map((file, at) => ({ file: file.slice(0, 200), text: texts[at] ?? '' }));
}

function writing(
  c: Context<Env>,
  services: WebServices,
  documents: readonly PolicyDocumentText[],
  wrong: readonly string[] | undefined,
): Promise<Response> {
  const { managed } = services.policies;
  const body = html`${headHtml({
      crumbs: [['Policies', '/policies'], ['Try another one']],
      title: 'Try another policy',
      text: 'It is held against the last report of every host first: how many findings come, go, and how verdicts would change. Nothing is written until you apply it.',
    })}
    ${wrong !== undefined && refusedHtml(html`It was not taken: ${wrong.slice(0, 12).map((line) => html`<br /><code>${line}</code>`)}`)}
    ${
      managed !== null &&
      html`<p class="note">
        ${icon('file')}<span
          >What counts comes from <code>${managed.place}</code>: here it can be tried, and is applied there.</span
        >
      </p>`
    }
    <form class="form under" method="post" action="/policies/try">
      ${documents.map(
        ({ file, text }, at) =>
          html`<section class="sheet">
            <header><h2>${file}</h2></header>
            <div class="pad">
              <input type="hidden" name="file" value="${file}" />
              <label class="sr" for="text-${at}">Text of ${file}</label>
              <textarea class="input mono tall" id="text-${at}" name="text" rows="24" spellcheck="false">
${text}</textarea>
            </div>
          </section>`,
      )}
      <div class="acts">
        <button class="btn first" type="submit">Show what it would change</button
        ><a class="btn" href="/policies">Back to the versions</a>
      </div>
    </form>`;
  return show(
    c,
    services,
    { title: 'Try a policy', section: '/policies', now: services.clock(), body },
    wrong === undefined ? 200 : 422,
  );
}

async function trial(
  c: Context<Env>,
  services: WebServices,
  documents: readonly PolicyDocumentText[],
  policy: Policy,
  name: string,
): Promise<Response> {
  const { policies, clock } = services;
  const now = clock();
  const diff = await diffPolicies(
    { before: { policy: policies.current }, after: { policy, documents }, shipped: policies.shipped },
    { cursor: null, until: now + TRIAL_MS },
    services,
  );
  const { findings, hosts } = diff;
  const nothing = findings.added + findings.removed + findings.rerated === 0 && diff.verdicts.length === 0;
  const body = html`${headHtml({
      crumbs: [['Policies', '/policies'], ['Dry run']],
      title: nothing
        ? html`${name} would change nothing`
        : html`${name} would find <span class="nowrap">+${count(findings.added)}</span>,
            <span class="nowrap">−${count(findings.removed)}</span>`,
      text: html`Held against the last report of
      ${plural(hosts.judged, 'host')}${diff.next !== null && html`, the first by name; <code>bootproof policy diff</code> goes through all`}:
      ${plural(hosts.changed, 'host')} would
      change${hosts.unjudged > 0 && html`, and ${count(hosts.unjudged)} ${hosts.unjudged === 1 ? 'has' : 'have'} no report to look at`}.
      Nothing is written yet.`,
    })}
    <div class="cols aside">
      <div class="stack">${rulesSheet(diff)}</div>
      <aside class="stack" aria-label="What would follow">
        ${verdictsSheet(diff)} ${applySheet(services, documents)}
      </aside>
    </div>`;
  return show(c, services, { title: 'Dry run', section: '/policies', now, body });
}

function rulesSheet({ rules, findings }: PolicyDiff): Html {
  if (rules.every((rule) => rule.added + rule.removed + rule.rerated === 0))
    return html`<section class="sheet">
      ${emptyHtml('Every host is judged as before', 'No finding would come, go or weigh differently on any host that was looked at.')}
    </section>`;
  return html`<section class="sheet">
    <header>
      <h2>By rule</h2>
      <span class="quiet">${count(findings.rerated)} weigh differently</span>
    </header>
    <table class="list flat">
      <caption class="sr">
        What each rule would find more, no longer, or with another severity
      </caption>
      <thead>
        <tr>
          <th>Rule</th>
          <th class="p2">Severity</th>
          <th class="num">Adds</th>
          <th class="num">Removes</th>
          <th class="p3 num">Reweighs</th>
          <th class="p2 num">Hosts</th>
        </tr>
      </thead>
      <tbody>
        ${rules
          .filter((rule) => rule.added + rule.removed + rule.rerated > 0)
          .map(
            ({ rule, kind, severity, added, removed, rerated, hosts, examples }) =>
              html`<tr>
                <td class="main">
                  <div class="two">
                    <span><strong>${rule}</strong> <span class="quiet">${kind}</span></span>
                    <span>${examples.slice(0, 2).map(({ name, text }) => html`${name}: ${text} `)}</span>
                  </div>
                </td>
                <td class="p2 nowrap">${severityChange(severity)}</td>
                <td class="num">${added === 0 ? html`<span class="quiet">0</span>` : `+${count(added)}`}</td>
                <td class="num">${removed === 0 ? html`<span class="quiet">0</span>` : `−${count(removed)}`}</td>
                <td class="p3 num">${rerated === 0 ? html`<span class="quiet">0</span>` : count(rerated)}</td>
                <td class="p2 num">${count(hosts)}</td>
              </tr>`,
          )}
      </tbody>
    </table>
  </section>`;
}

function severityChange({ before, after }: PolicyDiff['rules'][number]['severity']): Html {
  const known = (severity: string | null) => SEVERITIES.find((each) => each === severity);
  const [was, is] = [known(before), known(after)];
  if (was === undefined || is === undefined || was === is) return severityHtml(is ?? was ?? 'info');
  return html`${severityHtml(was)} → ${severityHtml(is)}`;
}

function verdictsSheet({ verdicts }: PolicyDiff): Html {
  return html`<section class="sheet">
    <header><h2>Verdicts that would change</h2></header>
    ${
      verdicts.length === 0
        ? emptyHtml('None', 'Each host keeps its verdict.')
        : html`<div class="pad">
            <ul class="rows">
              ${verdicts.map(({ from, to, hosts }) => html`<li><span class="grow">${verdictHtml(from)} → ${verdictHtml(to)}</span><span>${plural(hosts, 'host')}</span></li>`)}
            </ul>
          </div>`
    }
  </section>`;
}

function applySheet({ policies }: WebServices, documents: readonly PolicyDocumentText[]): Html {
  const { managed, version } = policies;
  if (managed !== null)
    return html`<section class="sheet">
      <header><h2>Apply it</h2></header>
      <div class="pad">
        <p>What counts comes from <code>${managed.place}</code>. Write it there.</p>
      </div>
    </section>`;
  return html`<section class="sheet">
    <header><h2>Apply it</h2></header>
    <div class="pad">
      <form class="form" method="post" action="/policies/try">
        ${documents.map(
          ({ file, text }) =>
            html`<input type="hidden" name="file" value="${file}" /><textarea
                name="text"
                hidden
                aria-hidden="true"
                tabindex="-1"
              >
${text}</textarea>`,
        )}
        <input type="hidden" name="expect" value="${version?.n ?? 0}" />
        ${inputHtml({ name: 'note', label: 'Why', help: 'It stands beside the version, for who asks later.', wrong: NOTHING_WRONG }, { max: 1000 })}
        <button class="btn first wide" name="step" value="apply" type="submit">
          Apply as version ${(version?.n ?? 0) + 1}
        </button>
        <button class="btn wide" name="step" value="edit" type="submit">Change it first</button>
        <p class="quiet">Every host is judged anew at once. The version before stays, and can be applied again.</p>
      </form>
    </div>
  </section>`;
}
