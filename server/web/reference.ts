/** `/api`: every route of the API for people to read, made of the OpenAPI document alone, so that it says what the server does. */
import type { Context } from 'hono';
import { shellQuoted } from '#src/terminal.ts';
import { ROLES } from '#server/access/principal.ts';
import { commandHtml, html, icon, type Html, type Part } from './html.ts';
import { show } from './layout.ts';
import { headHtml } from './parts/page.ts';
import {
  exampleOf,
  markedHtml,
  meaningOf,
  rowsOf,
  schemaName,
  typeHtml,
  type Row,
  type Schema,
} from './parts/schema.ts';
import type { Env, WebServices } from './services.ts';
import { capital, plural } from './words.ts';

type Content = Readonly<Record<string, { readonly schema?: Schema }>>;
type Answer = { readonly $ref?: string; readonly description?: string; readonly content?: Content };
type Operation = {
  readonly operationId: string;
  readonly tags?: readonly string[];
  readonly description?: string;
  readonly security?: readonly Readonly<Record<string, unknown>>[];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
    readonly description?: string;
    readonly schema?: Schema;
  }[];
  readonly requestBody?: { readonly content: Content };
  readonly responses: Readonly<Record<string, Answer>>;
  readonly 'x-roles'?: { readonly anyOf: readonly string[]; readonly of: 'hosts' | 'fleet' };
};
type Document = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>;
    readonly responses: Readonly<Record<string, Answer>>;
  };
};
type Route = Operation & { readonly method: string; readonly path: string };

/** What a section is about; those that have no words here come after, by their name. */
const SECTIONS: Readonly<Record<string, string>> = {
  findings: 'What policy found: the same change on many hosts is one group.',
  hosts: 'The fleet: verdicts, reports, drift, and decisions about hosts.',
  images: 'Images that hosts named, who signed them, and what a newer one would meet.',
  waivers: 'Exceptions that end: asked for by one person, approved by another.',
  policies: 'Versions of the host policy, what another would change, and applying it.',
  channels: 'Where notices go: webhooks and syslog, with what was delivered and what was given up.',
  tokens: 'Enrolment tokens for new hosts.',
  sources: 'Where the server may fetch images from.',
  access: 'Accounts, roles, API tokens, sessions.',
  agents: 'What agents and hosts ask; described whole in docs/report.md.',
};

const made = new WeakMap<object, Html>();

export function referencePage(c: Context<Env>, services: WebServices): Promise<Response> {
  const document = services.apiDocument();
  let body = made.get(document);
  if (body === undefined) {
    body = bodyOf(document as Document, services.baseUrl());
    made.set(document, body);
  }
  return show(c, services, { title: 'API', now: services.clock(), body });
}

function bodyOf(document: Document, baseUrl: string): Html {
  const routes = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]): Route => ({
      ...operation,
      method: method.toUpperCase(),
      path,
    })),
  );
  const tags = [...new Set([...Object.keys(SECTIONS), ...routes.map(tagOf).sort()])];
  const sections = tags
    .map((tag) => ({ tag, own: routes.filter((route) => tagOf(route) === tag) }))
    .filter(({ own }) => own.length > 0);
  const schemas = Object.entries(document.components.schemas).sort(([a], [b]) => (a < b ? -1 : 1));
  return html`${headHtml({
      title: 'API',
      text: 'Everything that the pages show and do, for programs. Each route says what it takes, who may ask, and all that it can answer.',
      acts: html`<a class="btn" href="/api/v1/openapi.json">${icon('down')}OpenAPI 3.1 document</a>`,
    })}
    <div class="stack api">
      ${ways(baseUrl)}
      <nav class="tabs" aria-label="Sections">
        ${sections.map(({ tag, own }) => html`<a href="#${tag}">${capital(tag)} <span class="count">${own.length}</span></a>`)}
        <a href="#schemas">Schemas <span class="count">${schemas.length}</span></a>
        <a href="#refusals">Refusals</a>
      </nav>
      ${sections.map(
        ({ tag, own }) =>
          html`<section class="sheet" id="${tag}">
            <header>
              <h2>${capital(tag)}</h2>
              <span class="soft">${plural(own.length, 'route')}</span>
            </header>
            <div class="pad soft">${SECTIONS[tag]}</div>
            ${own.map((route) => routeHtml(route, document, baseUrl))}
          </section>`,
      )}
      <section class="sheet" id="schemas">
        <header><h2>Schemas</h2></header>
        <div class="pad soft">
          Answers may get more members, and enumerations more words; bodies take what is listed and nothing else.
        </div>
        ${schemas.map(
          ([name, schema]) =>
            html`<details id="schema-${name}">
              <summary>
                ${icon('right')}<code>${name}</code>
                <span class="soft grow">${markedHtml(schema.description ?? '')}</span>
              </summary>
              <div class="inner">${fieldsHtml('Member', name, rowsOf(schema).map(answered), typeHtml(schema))}</div>
            </details>`,
        )}
      </section>
      ${refusals(document)}
    </div>`;
}

const tagOf = ({ tags }: Operation): string => tags?.[0] ?? 'others';

/** What holds for all routes. */
function ways(baseUrl: string): Html {
  const ask = `export BOOTPROOF_TOKEN=bp_…\ncurl -sS -H "Authorization: Bearer $BOOTPROOF_TOKEN" '${baseUrl}/api/v1/hosts?verdict=drifted'`;
  return html`<section class="sheet">
    <header><h2>How to ask</h2></header>
    <div class="pad">
      <dl class="facts">
        <dt>Who asks</dt>
        <dd>
          A bearer token of your own, made under <a href="/settings">Settings</a>: it can do what you can, or less. In
          the <code>Authorization</code> header, never in the address.
        </dd>
        <dt>Lists</dt>
        <dd>
          Come in pages of <code>limit</code>; <code>next</code> of one page is <code>cursor</code> for the one after,
          and null on the last.
        </dd>
        <dt>Decisions</dt>
        <dd>
          Name what was read: <code>If-Match</code> with its <code>ETag</code>. What somebody changed meanwhile is
          answered with 412 and how it stands now.
        </dd>
        <dt>Times</dt>
        <dd>RFC 3339 in UTC.</dd>
        <dt>Refusals</dt>
        <dd>
          Problem documents (RFC 9457): <code>code</code> is stable and has a page of its own, <code>errors</code> names
          each wrong place.
        </dd>
      </dl>
      ${commandHtml(ask)}
    </div>
  </section>`;
}

function routeHtml(route: Route, document: Document, baseUrl: string): Html {
  const { method, path, operationId, parameters = [], requestBody, responses, description } = route;
  const what = description ?? okOf(responses)?.description ?? '';
  const body = requestBody?.content['application/json']?.schema;
  return html`<details id="${operationId}">
    <summary>
      ${icon('right')}<span class="method ${method.toLowerCase()}">${method}</span> <code class="path">${path}</code>
      <span class="soft grow">${markedHtml(what)}</span>
    </summary>
    <div class="inner">
      <h3>${wordsOf(operationId)}</h3>
      <p class="soft">${whoHtml(route)}</p>
      ${
        parameters.length > 0 &&
        fieldsHtml(
          'Parameter',
          operationId,
          parameters.map((each): Row => ({
            name: each.name,
            type: html`${typeHtml(each.schema ?? {})}<span class="soft">, in the ${each.in}</span>`,
            required: each.required === true,
            meaning: meaningOf({
              ...each.schema,
              ...(each.description === undefined ? {} : { description: each.description }),
            }),
          })),
        )
      }
      ${body !== undefined && fieldsHtml('Body', operationId, rowsOf(body), typeHtml(body))}
      ${answersHtml(route, document)} ${commandHtml(curlOf(route, document, baseUrl))}
    </div>
  </details>`;
}

const okOf = (responses: Operation['responses']): Answer | undefined =>
  Object.entries(responses).find(([status]) => status.startsWith('2'))?.[1];

/** `listWaivers` → `List waivers`. */
const wordsOf = (operationId: string): string =>
  capital(operationId.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`));

function whoHtml({ security = [], 'x-roles': roles }: Route): Part {
  if (roles !== undefined) {
    const where = roles.of === 'fleet' ? 'held for every host group' : 'on hosts of the groups where it is held';
    const who = roles.anyOf.length === ROLES.length ? 'any role' : roles.anyOf.join(' or ').replaceAll('_', ' ');
    return html`For ${who}, ${where}.`;
  }
  if (security.length > 0) return 'For hosts, with the bearer of their last answer, and for whoever has a token.';
  return 'For hosts: what they send is signed, and that is how they are known.';
}

/** What is always there in an answer needs no word. */
const answered = (row: Row): Row => ({ ...row, required: false });

/** Members as a table; `of` names what they belong to, as regions of one page are told apart by their names. */
function fieldsHtml(title: string, of: string, rows: readonly Row[], whole?: Html): Html {
  if (rows.length === 0) return html`<p>${title}: ${whole ?? 'nothing'}</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${title} of ${of}">
    <table class="list flat">
      <caption class="sr">
        ${title} of ${of}
      </caption>
      <thead>
        <tr>
          <th>${title}</th>
          <th>Type</th>
          <th>Meaning</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          ({ name, type, required, meaning }) =>
            html`<tr>
              <td><code>${name}</code>${required && html` <span class="tag">required</span>`}</td>
              <td>${type}</td>
              <td class="soft">${meaning}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function answersHtml({ operationId, responses }: Route, document: Document): Html {
  const all = Object.entries(responses);
  const own = all.filter(([, { $ref }]) => $ref === undefined);
  const refused = all.filter(([, { $ref }]) => $ref !== undefined);
  return html`${own.map(([status, { description, content = {} }]) => {
      const [[type, answer] = []] = Object.entries(content);
      const rows = answer?.schema === undefined || answer.schema.$ref !== undefined ? [] : rowsOf(answer.schema);
      return html`<p>
          <strong>${status}</strong> ${markedHtml(description ?? '')}${
            answer?.schema !== undefined && html` <span class="soft">${typeHtml(answer.schema)}, ${type}</span>`
          }
        </p>
        ${rows.length > 0 && fieldsHtml(`Answer ${status}`, operationId, rows.map(answered))}`;
    })}
    <p class="soft codes">
      Refusals:
      ${refused.map(([status, { $ref }], at) => {
        const { description } = document.components.responses[schemaName($ref!)] ?? {};
        return html`${at > 0 && ', '}<a href="#refusals" title="${description}">${status}</a>`;
      })}
    </p>`;
}

function refusals({ components: { responses } }: Document): Html {
  return html`<section class="sheet" id="refusals">
    <header><h2>Refusals</h2></header>
    <div class="scroll" tabindex="0" role="region" aria-label="Refusals">
      <table class="list flat">
        <caption class="sr">
          Refusals by status
        </caption>
        <thead>
          <tr>
            <th>Status</th>
            <th>Meaning</th>
            <th>Codes</th>
          </tr>
        </thead>
        <tbody>
          ${Object.entries(responses).map(([name, { description, ...rest }]) => {
            const codes = (rest as { readonly 'x-codes'?: readonly string[] })['x-codes'] ?? [];
            return html`<tr>
              <td class="num">${name.replace('Refused', '')}</td>
              <td>${markedHtml(description ?? '')}</td>
              <td class="codes">
                ${codes.map((code, at) => html`${at > 0 && ' '}<a href="/problems/${code}"><code>${code}</code></a>`)}
              </td>
            </tr>`;
          })}
        </tbody>
      </table>
    </div>
  </section>`;
}

/** A command that asks this route: what only the asker knows stands as `…` or in capitals. */
function curlOf(
  { method, path, parameters = [], requestBody, security = [] }: Route,
  document: Document,
  baseUrl: string,
): string {
  const filled = path.replaceAll(/\{([^}]+)\}/g, (_, name: string) => {
    const example = parameters.find((each) => each.in === 'path' && each.name === name)?.schema?.example;
    return typeof example === 'string' ? encodeURIComponent(example) : name.toUpperCase();
  });
  const query = parameters
    .filter((each) => each.in === 'query' && each.required === true)
    .map((each) => `${each.name}=${each.name.toUpperCase()}`)
    .join('&');
  const body = requestBody?.content['application/json']?.schema;
  const header = (name: string) => parameters.some((each) => each.in === 'header' && each.name.toLowerCase() === name);
  return [
    `curl -sS${method === 'GET' ? '' : ` -X ${method}`}`,
    ...(security.length > 0 ? [`-H "Authorization: Bearer $BOOTPROOF_TOKEN"`] : []),
    ...(header('if-match') ? [`-H 'If-Match: "3"'`] : []),
    ...(header('idempotency-key') ? [`-H "Idempotency-Key: $(uuidgen)"`] : []),
    ...(body === undefined
      ? []
      : [
          `-H 'Content-Type: application/json'`,
          `-d ${shellQuoted(JSON.stringify(exampleOf(body, document.components.schemas)))}`,
        ]),
    `'${baseUrl}${filled}${query === '' ? '' : `?${query}`}'`,
  ].join(' ');
}
