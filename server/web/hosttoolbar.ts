/** How a list of hosts is narrowed: a beginning of a name, and a menu a word; what is chosen can be dropped again one by one. */
import { shellQuoted } from '#src/terminal.ts';
import type { Host } from '#server/store/records.ts';
import { filterOf, FRESHNESS, imagesNamed, namedOf, type Asked, type Seen } from './hostfilter.ts';
import { html, icon, type Html } from './html.ts';
import { leftOutHtml } from './parts/page.ts';
import { copiesHtml } from './parts/filter.ts';
import { addressWith } from './parts/table.ts';
import type { WebServices } from './services.ts';
import { bounded } from './words.ts';

/** Choices of a menu; the filter takes any other as well. */
const CHOICES_MAX = 24;
/** Beside choices a rough number is enough, and quickly counted. */
const CHOICE_COUNTED_MAX = 1000;

const FRESH_WORDS = { current: 'In time', late: 'Late', silent: 'Silent' } as const;
const STATE_WORDS = { active: 'Active', pending: 'Waits for approval', retired: 'Retired' } as const;

export async function toolbar(
  asked: Asked,
  query: URLSearchParams,
  shown: readonly Host[],
  services: WebServices,
  of: Seen,
): Promise<Html> {
  const { words, unknown } = asked;
  const { store } = services;
  const [groups, images] = await Promise.all([
    store.read.hostGroups(of.scope),
    store.read.images({ scope: of.scope }, { limit: CHOICES_MAX, cursor: null }),
  ]);
  const labels = [
    ...new Set(shown.flatMap((host) => Object.entries(host.labels).map(([key, value]) => `${key}=${value}`))),
  ].sort();
  const slots = (['image', 'staged', 'rollback'] as const).flatMap((slot) => {
    const name = words[slot];
    return name === undefined ? [] : [[slot, name] as const];
  });
  const known = await imagesNamed(
    slots.map(([, name]) => name),
    store,
  );
  const menu = (name: keyof typeof asked.words, word: string, choices: readonly Choice[], typed?: Html) =>
    menuHtml({ name, word, choices, typed }, { asked, query, services, of });
  const chosen: readonly (readonly [name: string, word: string])[] = [
    ...slots.map(([slot, name]) => {
      const image = known.get(name);
      const told = image === undefined ? name : `${image.place} ${image.version ?? ''}`;
      return [slot, slot === 'image' ? told : `${slot === 'staged' ? 'staged' : 'back to'} ${told}`] as const;
    }),
    ...(words.group === undefined ? [] : [['group', `group ${words.group}`] as const]),
    ...(words.freshness === undefined ? [] : [['freshness', FRESH_WORDS[words.freshness]] as const]),
    ...(words.label === undefined ? [] : [['label', words.label] as const]),
    ...(words.state === undefined ? [] : [['state', STATE_WORDS[words.state]] as const]),
    ...(words.name === undefined ? [] : [['name', `${words.name}…`] as const]),
  ];
  return html`<div class="toolbar">
    <form class="query" role="search" aria-label="Hosts" method="get" action="/hosts">
      ${icon('search')}${[...query].filter(([name]) => !['name', 'after', 'did', 'n'].includes(name)).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}" />`)}
      <input
        name="name"
        aria-label="Beginning of a host’s name"
        placeholder="Beginning of a name"
        value="${words.name ?? ''}"
        maxlength="255"
        autocomplete="off"
      /><kbd>↵</kbd>
    </form>
    <div class="chips">
      ${chosen.map(
        ([name, word]) =>
          html`<a class="chip on" href="${addressWith('/hosts', query, { [name]: null })}"
            ><span class="clip">${word}</span>${icon('x')}<span class="sr"> (drop this filter)</span></a
          >`,
      )}
      ${
        words.image === undefined &&
        (await menu(
          'image',
          'Image',
          images.items.map((each) => {
            const { place, version } = namedOf(each);
            return {
              value: each.digest,
              word: html`${place} <span class="quiet">${version ?? each.digest.slice(7, 19)}</span>`,
            };
          }),
        ))
      }
      ${
        words.group === undefined &&
        (await menu(
          'group',
          'Group',
          groups.slice(0, CHOICES_MAX).map(({ name }) => ({ value: name, word: html`${name}` })),
        ))
      }
      ${
        words.freshness === undefined &&
        (await menu(
          'freshness',
          'Freshness',
          FRESHNESS.map((value) => ({ value, word: html`${FRESH_WORDS[value]}` })),
        ))
      }
      ${
        words.label === undefined &&
        (await menu(
          'label',
          'Label',
          labels.slice(0, 12).map((value) => ({ value, word: html`${value}` })),
          html`<form method="get" action="/hosts">
            ${[...query].filter(([name]) => !['label', 'after', 'did', 'n'].includes(name)).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}" />`)}
            <input class="input mono" name="label" aria-label="Label" placeholder="key=value" maxlength="301" />
          </form>`,
        ))
      }
      ${
        words.state === undefined &&
        (await menu(
          'state',
          'State',
          (['pending', 'retired'] as const).map((value) => ({ value, word: html`${STATE_WORDS[value]}` })),
        ))
      }
      <span class="push"></span>
      ${copiesHtml([
        ['as API call', apiCall(query, services.baseUrl())],
        ['as command', command(query)],
      ])}
    </div>
    ${leftOutHtml(unknown)}
  </div>`;
}

const FILTERS = ['verdict', 'freshness', 'state', 'group', 'label', 'image', 'staged', 'rollback', 'name', 'sort'];

function apiCall(query: URLSearchParams, baseUrl: string): string {
  const words = new URLSearchParams([...query].filter(([name]) => FILTERS.includes(name)));
  return `GET ${baseUrl}/api/v1/hosts${words.size === 0 ? '' : `?${words.toString()}`}`;
}

function command(query: URLSearchParams): string {
  const words = [...query].filter(([name]) => FILTERS.includes(name) && name !== 'sort');
  return ['bootproof hosts list', ...words.map(([name, value]) => `--${name} ${shellQuoted(value)}`)].join(' ');
}

type Choice = { readonly value: string; readonly word: Html };
type Around = {
  readonly asked: Asked;
  readonly query: URLSearchParams;
  readonly services: WebServices;
  readonly of: Seen;
};

async function menuHtml(
  {
    name,
    word,
    choices,
    typed,
  }: {
    readonly name: string;
    readonly word: string;
    readonly choices: readonly Choice[];
    readonly typed: Html | undefined;
  },
  { asked, query, services, of }: Around,
): Promise<Html | undefined> {
  if (choices.length === 0 && typed === undefined) return undefined;
  const counted = await Promise.all(
    choices.map(async (choice) => {
      const filter = await filterOf({ ...asked.words, [name]: choice.value }, of, services.store);
      return { ...choice, hosts: await services.store.read.countHosts(filter, CHOICE_COUNTED_MAX) };
    }),
  );
  return html`<details class="menu">
    <summary class="chip">${word}${icon('down')}</summary>
    <div class="pop">
      ${typed}
      <ul>
        ${counted.map(
          ({ value, word: shown, hosts }) =>
            html`<li>
              <a href="${addressWith('/hosts', query, { [name]: value })}"
                ><span class="clip">${shown}</span><span>${bounded(hosts)}</span></a
              >
            </li>`,
        )}
      </ul>
    </div>
  </details>`;
}
