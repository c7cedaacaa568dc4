/** The journeys of people on duty, in a real browser: a drift on many hosts, what is done about it, and what follows; with script and without. */
import assert from 'node:assert/strict';
import { after, test, type TestContext } from 'node:test';
import type { Page } from 'playwright-core';
import { personAs } from '../../server/access/signedin.ts';
import { DAY, hostAs, NEXT, odd, OS, shows } from '../../server/decisions/people.ts';
import { serverFor, type TestServer } from '../../server/fleet.ts';
import { axe, closeBrowser, open, PHONE, signIn, type How } from './browser.ts';

after(closeBrowser);

const HOSTS = 5;

/** Some hosts with the same other program, one that is its image. */
async function onDuty(t: TestContext, hosts = HOSTS): Promise<{ url: string; admin: string; server: TestServer }> {
  const server = await serverFor(t, { images: [OS, NEXT] });
  server.time.now = Date.now();
  for (let n = 1; n <= hosts; n++) await shows(await hostAs(server, `web-${n}`), odd('other program'));
  await shows(await hostAs(server, 'good-1'));
  return { url: server.server.url, admin: server.admin, server };
}

const main = async (page: Page): Promise<string> => (await page.getByRole('main').innerText()).replaceAll(/\s+/g, ' ');

/** Waits until the page says so, however its words are set in lines. */
async function says(page: Page, words: RegExp): Promise<void> {
  for (let left = 100; ; left--) {
    const text = await main(page).catch(() => ''); // between two pages there is none
    if (words.test(text)) return;
    if (left === 0) assert.match(text, words);
    await page.waitForTimeout(100);
  }
}

for (const [script, hosts] of [
  [true, 40],
  [false, HOSTS],
] as const)
  test(
    `a drift on ${hosts} hosts is found, waived for 14 days by two people, and comes back (script: ${script})`,
    { timeout: 180_000 },
    async (t) => {
      const served = await onDuty(t, hosts);
      const page = await open(t, { script });
      await signIn(page, served);
      await says(page, new RegExp(`${hosts} of ${hosts + 1} hosts differ from their image`));
      // From the sentence to the one change behind it.
      await page.getByRole('link', { name: 'Open the queue' }).click();
      await says(page, new RegExp(`1 change explains ${hosts} open findings`));
      await page.locator('.list .go').first().click();
      assert.match(
        await page.getByRole('heading', { level: 1 }).innerText(),
        new RegExp(`odd was added on ${hosts} hosts`),
      );
      await axe(page);

      await page.getByText('Request waiver', { exact: true }).click();
      const day = new Date(served.server.time.now + 14 * DAY).toISOString().slice(0, 10);
      await page.getByLabel('Expires').fill(day);
      await page.getByLabel('Why is this fine until then?').fill('ok');
      await page.getByRole('button', { name: `Request waiver for ${hosts} findings` }).click();
      await says(page, /Write one full sentence/);
      await axe(page);
      assert.equal(await page.getByLabel('Expires').inputValue(), day, 'what was typed stands');
      await page.getByLabel('Why is this fine until then?').fill('The vendor needs it until the next image brings it.');
      if (!script) await page.getByRole('button', { name: 'Preview' }).click();
      await says(page, new RegExp(`${hosts} findings on ${hosts} hosts are waived`));
      await says(page, new RegExp(`${hosts} hosts become compliant`));
      await page.getByRole('button', { name: /^Request waiver for/ }).click();
      await says(page, /You asked for W-1/);
      await says(page, /another person decides/);
      assert.equal(await page.getByRole('button', { name: /^Approve/ }).count(), 0);
      await axe(page);

      // The second person, in a browser of their own: what waits is on their front page.
      const second = await open(t, { script });
      const bob = await personAs(served.server, 'bob', [{ role: 'reviewer', groups: null }]);
      await second
        .context()
        .addCookies([...bob.visitor.cookies].map(([name, value]) => ({ name, value, url: served.url })));
      await second.goto(`${served.url}/`);
      await second.getByRole('main').getByRole('link', { name: 'To decide' }).click();
      await says(second, /1 waiver waits for a decision/);
      await axe(second);
      await second.getByRole('main').getByRole('link', { name: /^W-1/ }).click();
      await says(second, /admin asks to waive .*odd/);
      await says(second, /The vendor needs it until the next image brings it/);
      await says(second, new RegExp(`${hosts} findings on ${hosts} hosts are waived`));
      await axe(second);
      await second.getByRole('button', { name: 'Approve W-1' }).click();
      await says(second, new RegExp(`You approved W-1\\. It covers findings on ${hosts} hosts`));
      await axe(second);
      await page.goto(`${served.url}/`);
      await says(page, new RegExp(`All ${hosts + 1} hosts match the image they booted`));
      await page.goto(`${served.url}/waivers?tab=active`);
      await says(page, /1 waiver is in force/);
      await axe(page);

      // Nobody does anything, and on its day it is open again.
      served.server.time.now += 15 * DAY;
      await signIn(page, served, '/findings?tab=all');
      await page.goto(`${served.url}/waivers?tab=expired`);
      await says(page, /1 waiver ended by itself/);
      await page.goto(`${served.url}/findings?q=path:/usr/**`);
      await says(page, new RegExp(`1 change explains ${hosts} open findings`));
    },
  );

test('an auditor reads every page and can change nothing', { timeout: 120_000 }, async (t) => {
  const served = await onDuty(t, 1);
  const page = await open(t);
  const { visitor, csrf } = await personAs(served.server, 'eve', [{ role: 'auditor', groups: null }]);
  const cookies = [...visitor.cookies].map(([name, value]) => ({ name, value, url: served.url }));
  await page.context().addCookies(cookies);
  await page.goto(`${served.url}/findings`);
  await says(page, /1 change explains 1 open finding/);
  await page.locator('.list .go').first().click();
  assert.match(await page.getByRole('heading', { level: 1 }).innerText(), /odd was added on/);
  const group = new URL(page.url()).pathname;
  const forms = 'main form[method=post]';
  assert.equal(await page.locator(forms).count(), 0, 'no form that changes something');
  assert.equal(await page.getByRole('main').getByText('Request waiver', { exact: true }).count(), 0);
  for (const path of ['/', '/waivers', '/images', '/policies', '/activity']) {
    await page.goto(`${served.url}${path}`);
    assert.equal(await page.locator(forms).count(), 0, path);
  }
  // And what a page does not offer is refused when it is sent all the same.
  for (const [act, fields] of [
    ['acknowledge', { note: 'seen' }],
    ['assign', { to: 'me', revision: '0' }],
    ['comment', { text: 'mine' }],
    ['waiver', { kind: 'mitigated', expires: '2099-01-01', reason: 'It is fine for now.' }],
  ] as const) {
    const answer = await page.request.post(`${served.url}${group}/${act}`, {
      form: { csrf, ...fields },
      headers: { origin: served.url, 'sec-fetch-site': 'same-origin' },
      maxRedirects: 0,
    });
    assert.ok([403, 422].includes(answer.status()), `${act}: ${answer.status()}`);
  }
  const { items } = (await served.server.api('/api/v1/groups')).body;
  assert.deepEqual([items.length, items[0].status, items[0].assignee], [1, 'open', null]);
});

test(
  'with the keyboard alone: a row is found, selected, acknowledged, and the act taken back',
  { timeout: 120_000 },
  async (t) => {
    const served = await onDuty(t);
    const page = await open(t);
    await signIn(page, served, '/findings');
    await page.keyboard.press('j');
    await page.keyboard.press('x');
    await says(page, /1 change, 5 open findings selected/);
    await page.keyboard.press('e');
    await page.getByRole('heading', { level: 1, name: 'Acknowledge 5 findings on 5 hosts' }).waitFor();
    await axe(page);
    await page.getByRole('button', { name: 'Acknowledge 5 findings' }).click();
    await says(page, /You acknowledged 5 findings until/);
    await axe(page);
    await page.getByRole('button', { name: 'Undo' }).click();
    await says(page, /You took back what was done to 5 findings/);
    await page.keyboard.press('/');
    await page.keyboard.type('sev:awful');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').waitFor();
    await says(page, /there are info, low, medium, high, critical/);
    await axe(page);
    await page.keyboard.press('Escape');
    await page.keyboard.press('?');
    await page.getByRole('heading', { level: 1, name: 'Keys and filter words' }).waitFor();
    await axe(page);
  },
);

const LOOKS: readonly (readonly [string, How])[] = [
  ['dark', { colorScheme: 'dark' }],
  ['on a phone', { viewport: PHONE }],
  ['without script', { script: false }],
];
for (const [name, how] of LOOKS)
  test(`forms, notices and menus are accessible ${name}`, { timeout: 120_000 }, async (t) => {
    const served = await onDuty(t);
    const page = await open(t, how);
    await signIn(page, served, '/findings');
    // Where there is no room for boxes, a change is given to somebody on its own page.
    if (how.viewport === undefined) {
      await page.locator('.list tbody .pick').first().getByRole('checkbox').check();
      await axe(page);
      await page.getByRole('button', { name: 'Assign…' }).click();
      await page.getByLabel('Owner').fill('somebody <i>');
      await axe(page);
      await page.getByRole('button', { name: 'Assign 1 change' }).click();
      await says(page, /You assigned 1 change to somebody <i>/);
    } else {
      await page.locator('.list .go').first().click();
      await page.getByRole('button', { name: 'Take it' }).click();
      await says(page, /You look after it now/);
      await axe(page);
      await page.goto(`${served.url}/findings`);
    }
    await page.locator('summary.me').click();
    await axe(page);
    await page.getByRole('button', { name: how.colorScheme === 'dark' ? 'Light' : 'Dark' }).click();
    await page.waitForURL(/\/findings/);
    assert.equal(await page.locator('html').getAttribute('data-theme'), how.colorScheme === 'dark' ? 'light' : 'dark');
    await axe(page);
    await page.goto(`${served.url}/search?q=odd`);
    await axe(page);
    await page.goto(`${served.url}/findings?q=sev:low%20is:regressed`);
    await axe(page);
    const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
    assert.ok(Number(overflow) <= 0, `${String(overflow)} px too wide`);
  });
