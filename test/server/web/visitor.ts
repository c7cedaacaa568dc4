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

/** Links with one number as what they say: where each leads, and how much it says is there. */
export function numbered(
  html: string,
): readonly { readonly path: string; readonly says: number; readonly text: string }[] {
  return [...html.matchAll(/<a\s([^>]*)>([\s\S]*?)<\/a\s*>/g)].flatMap(([, attributes = '', inside = '']) => {
    const path = /href="([^"]*)"/.exec(attributes)?.[1]?.replaceAll('&amp;', '&') ?? '';
    const text = inside
      .replaceAll(/<[^>]*>/g, ' ')
      .replaceAll(/\s+/g, ' ')
      .trim();
    const says = /^(?!.*(?:within \d|[0-9a-f]{12}))\D*?([0-9][0-9,]*)\D*$/.exec(text)?.[1];
    return says === undefined || !/^\/(?:findings|hosts|waivers|images)(?:\?|$)/.test(path)
      ? []
      : [{ path, says: Number(says.replaceAll(',', '')), text }];
  });
}

/** How long a list is, over all of its pages: rows that lead to what they are about. */
export async function lengthOf(path: string, { page }: Visitor): Promise<number> {
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
