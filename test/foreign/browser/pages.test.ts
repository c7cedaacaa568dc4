/** The pages in a real browser, with and without script, light and dark, wide and narrow: what can be seen can be used by everyone. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { axe, closeBrowser, open, PHONE, serve, signIn, type How } from './browser.ts';

after(closeBrowser);

const WAYS: readonly (readonly [name: string, how: How])[] = [
  ['with script', { script: true }],
  ['without script', { script: false }],
  ['in the dark', { colorScheme: 'dark' }],
  ['on a phone', { viewport: PHONE }],
];

for (const [name, how] of WAYS)
  test(`every page is accessible ${name}`, { timeout: 300_000 }, async (t) => {
    const served = await serve(t);
    const page = await open(t, how);
    await page.goto(`${served.url}/login`);
    await axe(page);
    await signIn(page, served);
    // Breadth first over what is linked, one of each kind of page: a kind is its path without what identifies one thing.
    const kinds = new Map<string, string>();
    const waiting = ['/', ...[...served.hosts.values()].map(({ id }) => `/hosts/${id}`), '/no/such/page'];
    const seen: string[] = [];
    for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) {
      seen.push(path);
      const response = await page.goto(`${served.url}${path}`);
      assert.equal(response?.status(), path === '/no/such/page' ? 404 : 200, path);
      await axe(page);
      const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
      assert.ok(Number(overflow) <= 0, `${path} is ${String(overflow)} px too wide`);
      for (const link of await page.getByRole('link').all()) {
        const href = await link.getAttribute('href');
        const target = new URL(href ?? '', page.url());
        const kind = target.pathname.replaceAll(/\/[^/]*[0-9:][^/]*/g, '/*');
        // A signed envelope is no page: it is loaded down.
        if (kind.endsWith('/reports/*')) continue;
        if (target.origin !== served.url || kinds.has(kind) || /^\/(?:static|api|login)\b/.test(kind)) continue;
        kinds.set(kind, target.pathname);
        if (!seen.includes(target.pathname) && !waiting.includes(target.pathname))
          waiting.push(target.pathname + target.search);
      }
    }
    for (const path of ['/', '/findings', '/hosts', '/images', '/waivers', '/keys'])
      assert.ok(seen.includes(path), `${path} is linked nowhere`);
    t.diagnostic(seen.join(' '));
  });

test('a person signs in, finds the host that drifted, reads what differs, and signs out', async (t) => {
  const served = await serve(t);
  for (const script of [true, false]) {
    const page = await open(t, { script });
    await page.goto(served.url);
    assert.match(page.url(), /\/login/);
    await signIn(page, served);
    await page.getByRole('link', { name: '1 drifted' }).first().click();
    await page.getByRole('link', { name: 'db-1' }).click();
    await page.getByRole('heading', { level: 1 }).getByText('db-1').waitFor();
    const text = await page.getByRole('main').innerText();
    // A path may stand in a tree, its folders above it.
    for (const part of ['login', '.root <b>me', 'sudoers.d']) assert.ok(text.includes(part), part);
    await page.locator('summary.me').click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.waitForURL(/\/login/);
    await page.goto(`${served.url}/findings`);
    assert.match(page.url(), /\/login/);
  }
});
