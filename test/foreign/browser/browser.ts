/**
 * A real browser for tests of the pages: Debian's Chromium, driven by playwright-core, judged by axe-core. Both come with
 * `npm ci --ignore-scripts` in test/foreign; a missing one fails the test, because .ci/run installs them.
 *
 *     const served = await serve(t);                       // a real server on loopback, with a small fleet that differs in all ways
 *     const page = await open(t, { script: false });       // a tab of its own; gone when the test ends
 *     await signIn(page, served);                          // by the form, as a person does; ends on the front page
 *     await page.goto(`${served.url}/findings`);
 *     await axe(page);                                     // fails with each violation, its rule and the elements
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { AxeBuilder } from '@axe-core/playwright';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { BASE, enrol, file, image, serverFor, type TestHost, type TestServer } from '../../server/fleet.ts';

// ── the browser ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** BROWSER names another Chromium than Debian's. */
const EXECUTABLE = process.env['BROWSER'] ?? '/usr/bin/chromium';

let launched: Promise<Browser> | undefined;
/** One browser for all tests of a file: contexts keep them apart. */
function browser(): Promise<Browser> {
  assert.ok(existsSync(EXECUTABLE), `${EXECUTABLE} is missing: apt-get install chromium, or name one with BROWSER`);
  // As root Chromium's sandbox does not start; the pages are our own.
  launched ??= chromium.launch({ executablePath: EXECUTABLE, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });
  return launched;
}
/** For `after(closeBrowser)` in each file: else node waits for it. */
export async function closeBrowser(): Promise<void> {
  await (await launched)?.close();
  launched = undefined;
}

export type How = {
  /** Whether pages may run scripts; every page must work without. */
  readonly script?: boolean;
  readonly colorScheme?: 'light' | 'dark';
  readonly viewport?: { readonly width: number; readonly height: number };
};
/** Tabs that may run no script, with what else they were made of. */
const withoutScript = new WeakMap<Page, BrowserContextOptions>();
export const PHONE = { width: 360, height: 740 };

/**
 * A tab with cookies of its own. The test fails at its end if a page of it threw, broke its own content security policy, or asked another
 * place than the server for anything.
 */
export async function open(t: TestContext, { script = true, ...how }: How = {}): Promise<Page> {
  const options = { locale: 'en-GB', timezoneId: 'UTC', reducedMotion: 'reduce', ...how } as const;
  const context = await (await browser()).newContext({ ...options, javaScriptEnabled: script });
  const page = await context.newPage();
  if (!script) withoutScript.set(page, options);
  page.setDefaultTimeout(30_000);
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(`thrown: ${error.message}`));
  page.on('console', (message) => {
    // A page that answers 404 or 422 is told of as an error as well, and is none.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) faults.push(message.text());
  });
  page.on('request', (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (/^https?:$/.test(protocol) && hostname !== '127.0.0.1') faults.push(`asked ${request.url()}`);
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(faults, []);
  });
  return page;
}

/** Signs in by the form with the admin token, and stands on the page that `next` names (a path; by default the front page). */
export async function signIn(page: Page, { url, admin }: Pick<Served, 'url' | 'admin'>, next = '/'): Promise<void> {
  await page.goto(`${url}/login?next=${encodeURIComponent(next)}`);
  await page.getByLabel(/token/i).fill(admin);
  await page.getByRole('button', { name: /sign in/i }).click();
  await page.waitForURL(`${url}${next}`);
}

/** WCAG 2.2 A and AA, and what axe counts as good practice. */
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/**
 * Fails with each accessibility violation on the page as it stands: rule, what is wrong, and where. A page that may run no script is judged
 * by its likeness: the same markup and styles in a tab where only axe's own script runs, for axe needs one.
 */
export async function axe(page: Page): Promise<void> {
  const likeness = withoutScript.has(page) ? await likenessOf(page) : page;
  const { violations, passes } = await new AxeBuilder({ page: likeness }).withTags(TAGS).analyze();
  if (likeness !== page) await likeness.context().close();
  const told = violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ target, failureSummary }) => `${id}: ${help}\n  ${target.join(' ')}\n  ${failureSummary ?? ''}`),
  );
  assert.equal(told.join('\n'), '', `accessibility of ${page.url()}`);
  assert.ok(passes.length > 0, 'axe judged nothing');
}

async function likenessOf(page: Page): Promise<Page> {
  const url = page.url();
  const body = await page.content();
  const context = await (await browser()).newContext({ ...withoutScript.get(page), javaScriptEnabled: true });
  await context.addCookies(await page.context().cookies());
  const headers = { 'content-security-policy': "script-src 'none'" };
  await context.route(url, (route) => route.fulfill({ contentType: 'text/html; charset=utf-8', headers, body }));
  const likeness = await context.newPage();
  await likeness.goto(url);
  return likeness;
}

// ── a server to look at ──────────────────────────────────────────────────────────────────────────────────────────────────

export type Served = {
  readonly url: string;
  readonly admin: string;
  readonly server: TestServer;
  /** By name: `web-1` is the image, `db-1` drifted, `lab-1` runs an image that no source has, `new-1` never reported. */
  readonly hosts: ReadonlyMap<string, TestHost>;
};

/** A real server on a free port of loopback, over a store of its own, with a fleet in which each state is met once. */
export async function serve(t: TestContext): Promise<Served> {
  const os = image('41');
  const server = await serverFor(t, { images: [os], clock: Date.now });
  const hosts = new Map<string, TestHost>();
  for (const [name, booted] of [
    ['web-1', os],
    ['db-1', os],
    ['lab-1', image('nobody has it')],
    ['new-1', null],
  ] as const)
    hosts.set(name, await enrol(server, booted, { name }));
  server.time.now = Date.now();
  const of = (name: string) => hosts.get(name)!;
  for (const name of ['web-1', 'db-1', 'lab-1']) await of(name).sendFull();
  await server.settle();
  of('db-1').entries = [
    ...BASE.filter(({ path }) => path !== '/usr/lib/libc.so.6' && path !== '/usr/bin/login'),
    file('/usr/bin/login', 'not login', 0o755),
    file('/usr/bin/.root <b>me</b>', 'shell', 0o4755),
    file(`/usr/lib/${'a-long-name/'.repeat(20)}end`, 'x'),
    file('/etc/sudoers.d/all', 'ALL', 0o440),
  ];
  for (const name of ['web-1', 'db-1']) {
    of(name).compareWith(os);
    const { status, body } = await of(name).sendFull();
    assert.equal(status, 200, JSON.stringify(body));
  }
  await server.settle();
  return { url: server.server.url, admin: server.admin, server, hosts };
}
