/** Somebody who reads the pages as a browser does: signed in by a cookie, following links, sending forms with what stands in them. */
import assert from 'node:assert/strict';
import type { TestServer } from '#test/server/fleet.ts';
import { assertTame, read, type Seen } from './page.ts';

export type Visitor = {
  /** Any request with the cookie. */
  readonly visit: (path: string, init?: RequestInit) => Promise<Response>;
  /** A page that must be there, and tame. */
  readonly page: (path: string) => Promise<Seen & { readonly html: string }>;
  /** Sends a form as its own page would; answers where it leads, or the page that stays. */
  readonly send: (
    path: string,
    fields: Readonly<Record<string, string | readonly string[]>>,
  ) => Promise<{
    readonly status: number;
    readonly location: string | null;
    readonly text: string;
    readonly html: string;
  }>;
};

export async function visitor(server: TestServer): Promise<Visitor> {
  const posted = { host: 'server', origin: 'http://server', 'content-type': 'application/x-www-form-urlencoded' };
  const signedIn = await server.server.app.request('http://server/login', {
    method: 'POST',
    headers: posted,
    body: new URLSearchParams({ token: server.admin, next: '/' }),
  });
  const cookie = signedIn.headers.get('set-cookie')!.split(';')[0]!;
  const visit = (path: string, init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers);
    headers.set('cookie', cookie);
    headers.set('host', 'server');
    return Promise.resolve(server.server.app.request(`http://server${path}`, { ...init, headers }));
  };
  // Every form of this person carries it.
  const csrf = /name="csrf" value="([^"]+)"/.exec(await (await visit('/keys')).text())?.[1] ?? '';
  return {
    visit,
    page: async (path) => {
      const response = await visit(path);
      assert.equal(response.status, 200, path);
      const html = await response.text();
      const seen = read(html);
      assertTame(seen);
      return { ...seen, html };
    },
    send: async (path, fields) => {
      const body = new URLSearchParams({ csrf });
      for (const [name, values] of Object.entries(fields))
        for (const value of [values].flat()) body.append(name, value);
      const response = await visit(path, { method: 'POST', headers: posted, body: body.toString() });
      const html = await response.text();
      const location = response.headers.get('location');
      const seen = location === null ? read(html) : undefined;
      if (seen !== undefined) assertTame(seen);
      return { status: response.status, location, text: seen?.text ?? '', html };
    },
  };
}

/**
 * A link that says how many things it leads to; null where it says several numbers and none of them stands out. `here`: one that is on
 * already; its number is of the list that it stands on.
 */
export type Numbered = {
  readonly path: string;
  readonly says: number | null;
  readonly text: string;
  readonly here: boolean;
};

/** Lists of things, and the hosts of one change. */
const LISTS = /^\/(?:(?:findings|hosts|waivers|images)(?:\?[^#]*)?|findings\/fg_[0-9a-z]+#hosts)$/;
const NUMBER = /^\d{1,3}(?:,\d{3})*$/;
const wordsOf = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();

/** Links to lists with a whole number among their words: where each leads, and how much it says is there. */
export function numbered(html: string): readonly Numbered[] {
  return [...html.matchAll(/<a\s([^>]*)>([\s\S]*?)<\/a\s*>/g)].flatMap(([, attributes = '', inside = '']) => {
    const path = /href="([^"]*)"/.exec(attributes)?.[1]?.replaceAll('&amp;', '&') ?? '';
    if (!LISTS.test(path)) return [];
    // Of a part of a chart the name alone says it.
    const seen = wordsOf(inside.replaceAll(/<[^>]*>/g, ' '));
    const text = seen === '' ? (/aria-label="([^"]*)"/.exec(attributes)?.[1] ?? '') : seen;
    // What is asked already is a name, days are no things, and neither is what a name ends with.
    if (text.endsWith('(drop this filter)')) return [];
    const words = text.replaceAll(/\b\d+ days/g, '').split(' ');
    const numbers = words.filter((word) => NUMBER.test(word));
    if (numbers.length === 0) return [];
    // Of several it is the one that stands alone, and last: beside a name that holds numbers.
    const alone = inside
      .split(/<[^>]*>/)
      .map(wordsOf)
      .filter((part) => NUMBER.test(part));
    const said = numbers.length === 1 ? numbers[0] : alone.at(-1);
    const says = said === undefined ? null : Number(said.replaceAll(',', ''));
    return [{ path, says, text, here: /aria-current="true"/.test(attributes) }];
  });
}

/** How long a list is, over all of its pages: rows that lead to what they are about. */
export async function lengthOf(path: string, { page }: Visitor): Promise<number> {
  if (path.endsWith('#hosts')) {
    const { html } = await page(path.split('#')[0]!);
    return (/id="hosts"[\s\S]*?<\/section>/.exec(html)?.[0].match(/<tr\b/g)?.length ?? 1) - 1;
  }
  let rows = 0;
  for (let next: string | undefined = path; next !== undefined;) {
    const { html } = await page(next);
    const list = /<table class="list">([\s\S]*?)<\/table>/.exec(html)?.[1] ?? '';
    rows += [...list.matchAll(/<a[^>]*class="go"/g)].length;
    next = /<a[^>]*rel="next"[^>]*>/
      .exec(html)?.[0]
      .match(/href="([^"]*)"/)?.[1]
      ?.replaceAll('&amp;', '&');
  }
  return rows;
}

/** Pages of people: no answers of the API, no files, no way out. */
const PAGES = /^\/(?!api\/|static|logout|login|problems\/|metrics)[^#]*$/;
/** What a page is whatever it is about, with what is asked of it. */
function kindOf(path: string): string {
  const [place = '', query = ''] = path.split('?');
  // Words of closed lists are other pages; names, filters and places in a list are not.
  const keys = [...new URLSearchParams(query)].flatMap(([key, value]) =>
    key === 'after' ? [] : [/^(?:tab|verdict|freshness|state|status)$/.test(key) ? `${key}=${value}` : key],
  );
  return `${place.replaceAll(/[0-9a-z_]{16,}|sha256(?::|%3A)[0-9a-f]+|W-\d+|(?<=policies\/)\d+/g, '*')} ${keys.sort().join()}`;
}

/** Every kind of page that links lead to from a place, each with at most `each` examples and at most one thing asked of it. */
export async function pagesFrom(start: string, { visit }: Visitor, each: number): Promise<ReadonlyMap<string, string>> {
  const pages = new Map<string, string>();
  const kinds = new Map<string, number>();
  const known = new Set([start]);
  for (const path of known) {
    const response = await visit(path);
    if (!(response.headers.get('content-type') ?? '').startsWith('text/html')) continue;
    assert.equal(response.status, 200, path);
    const html = await response.text();
    pages.set(path, html);
    for (const [, href = ''] of html.matchAll(/<a\s[^>]*href="([^"#]*)(?:#[^"]*)?"/g)) {
      const to = href.replaceAll('&amp;', '&');
      const kind = kindOf(to);
      const seen = kinds.get(kind) ?? 0;
      if (!PAGES.test(to) || known.has(to) || seen >= each || kind.split(',').length > 1) continue;
      kinds.set(kind, seen + 1);
      known.add(to);
    }
  }
  return pages;
}
