/** `/keys`: what the keyboard does, and how to search, as a page that works without a keyboard, too. */
import type { Context } from 'hono';
import { FILTER_FIELDS, type FilterField } from '#src/finding/filter.ts';
import { html } from './html.ts';
import { show } from './layout.ts';
import { headHtml } from './parts/page.ts';
import type { Env, WebServices } from './services.ts';

const KEYS = [
  ['j', 'Next row'],
  ['k', 'Row before'],
  ['↵', 'Open the row'],
  ['x', 'Select the row'],
  ['e', 'Acknowledge what is selected, or this change'],
  ['/', 'Search, or filter the list'],
  ['Esc', 'Leave a field, close a menu'],
  ['?', 'This page'],
] as const;

const WORDS: Readonly<Record<FilterField, readonly [example: string, meaning: string]>> = {
  sev: ['sev:>=high', 'Severity: info, low, medium, high, critical'],
  status: ['status:acknowledged', 'What people decided: open, acknowledged, waived, resolved'],
  rule: ['rule:usr-sealed', 'The rule of the policy'],
  control: ['control:nist-800-53:SI-7', 'A control of the rule, or its whole framework'],
  kind: ['kind:drift', 'Drift, overlay, provenance and the like'],
  path: ['path:/usr/lib/**', 'A glob over the path, as in policies'],
  tree: ['tree:etc', 'Below /usr or below /etc'],
  change: ['change:added', 'Added, removed, modified, differs'],
  group: ['-group:lab', 'The host group; a minus turns any word around'],
  label: ['label:site=fra', 'A label of the host'],
  host: ['host:web-1', 'One host, by name or id'],
  image: ['image:sha256:…', 'Hosts that booted this image'],
  is: ['is:regressed', 'Regressed, flapping, stale, assigned, signature'],
  age: ['age:<24h', 'Since when it is known: m, h, d, w'],
  reopened: ['reopened:<24h', 'Came back on some host within that time'],
  resolved: ['resolved:<24h', 'Ended on some host within that time'],
  assignee: ['assignee:mira', 'Who looks after it'],
  waiver: ['waiver:W-31', 'Covered by this waiver'],
  id: ['id:fg_…', 'Very certain changes, by their ids'],
  text: ['sshd', 'A bare word: part of the path or of the rule'],
};

export function keysPage(c: Context<Env>, services: WebServices): Promise<Response> {
  const body = html`${headHtml({
      title: 'Keys and filter words',
      text: 'Keys work while no field has the focus. Filter words are the same on the pages, in the API and on the command line.',
    })}
    <div class="cols two">
      <section class="sheet">
        <header><h2>Filter words</h2></header>
        <table class="list flat">
          <caption class="sr">
            Words of the filter line
          </caption>
          <thead>
            <tr>
              <th>Word</th>
              <th>Meaning</th>
            </tr>
          </thead>
          <tbody>
            ${FILTER_FIELDS.map(
              (field) =>
                html`<tr>
                  <td><code>${WORDS[field][0]}</code></td>
                  <td class="soft">${WORDS[field][1]}</td>
                </tr>`,
            )}
          </tbody>
        </table>
      </section>
      <section class="sheet">
        <header><h2>Keys</h2></header>
        <div class="pad">
          <ul class="rows">
            ${KEYS.map(([key, what]) => html`<li><span class="grow">${what}</span><kbd>${key}</kbd></li>`)}
          </ul>
        </div>
      </section>
    </div>`;
  return show(c, services, { title: 'Keys', now: services.clock(), body });
}
