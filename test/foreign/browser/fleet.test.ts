/** Hosts, images, policies, activity and settings in a real browser: seen by everyone, used with script and without, and on paper. */
import assert from 'node:assert/strict';
import { after, test, type TestContext } from 'node:test';
import type { Page } from 'playwright-core';
import { shippedPolicy } from '../../../server/policyfiles.ts';
import { BASE, enrol, file, image, serverFor, type TestServer } from '../../server/fleet.ts';
import { hostAs, NEXT, odd, OS, shows } from '../../server/decisions/people.ts';
import { axe, closeBrowser, open, signIn, type How } from './browser.ts';

after(closeBrowser);

const LONG = 'a-host-whose-name-is-as-long-as-names-of-hosts-may-be-64-char-xy';

type Fleet = {
  readonly url: string;
  readonly admin: string;
  readonly server: TestServer;
  readonly ids: readonly string[];
};

/** Drift, an image that nobody has, a copy that waits for approval, names as long and as odd as they come. */
async function fleet(t: TestContext): Promise<Fleet> {
  const server = await serverFor(t, { images: [OS, NEXT], policy: { kind: 'store', shipped: await shippedPolicy() } });
  server.time.now = Date.now();
  const drifted = await hostAs(server, LONG);
  drifted.state = {
    overlays: [{ path: '/usr', kind: 'usr-overlay', detail: 'transient', writable: true, masks: false, beneath: null }],
  };
  await shows(
    drifted,
    odd(),
    file('/etc/sudoers.d/all', 'ALL', 0o440),
    file(`/usr/lib/${'a-long-name/'.repeat(20)}end`, 'x'),
    file('/etc/machine-id', 'mine'),
  );
  const good = await hostAs(server, 'good-1');
  await shows(good);
  const lost = await enrol(server, image('nobody has it', BASE), { name: 'evil \u202egnp.exe <script>' });
  await lost.sendFull();
  const next = await enrol(server, NEXT, { name: 'next-1' });
  await next.sendFull();
  await enrol(server, OS, { name: 'machine-1', machine: 'ab'.repeat(16) });
  const copy = await enrol(server, OS, { name: 'copy-1', machine: 'ab'.repeat(16) });
  await server.settle();
  return { url: server.server.url, admin: server.admin, server, ids: [drifted.id, good.id, lost.id, copy.id] };
}

const WAYS: readonly (readonly [name: string, how: How])[] = [
  ['wide, light, with script', { viewport: { width: 1440, height: 900 } }],
  ['420 px, dark, without script', { script: false, colorScheme: 'dark', viewport: { width: 420, height: 800 } }],
];

const main = async (page: Page): Promise<string> => (await page.getByRole('main').innerText()).replaceAll(/\s+/g, ' ');

for (const [name, how] of WAYS)
  test(
    `each page of the fleet is accessible and no wider than the screen: ${name}`,
    { timeout: 600_000 },
    async (t) => {
      const served = await fleet(t);
      const [drifted, , lost, copy] = served.ids;
      const page = await open(t, how);
      await signIn(page, served);
      const tabs = ['', '/tree', '/deployments', '/reports', '/history', '/identity'];
      for (const path of [
        '/hosts',
        '/hosts?name=nothing',
        '/hosts?state=retired',
        ...tabs.map((tab) => `/hosts/${drifted}${tab}`),
        `/hosts/${lost}`,
        `/hosts/${copy}`,
        `/hosts/${copy}/approve`,
        '/images',
        `/images/${OS.digest}`,
        `/images/${image('nobody has it').digest}`,
        `/images/${OS.digest}/diff?to=${NEXT.digest}`,
        '/policies',
        '/policies/1',
        '/policies/1/text',
        '/policies/try',
        '/activity',
        '/settings',
        '/settings/enrol',
        '/settings/access',
        '/trust',
      ]) {
        const response = await page.goto(`${served.url}${path}`);
        assert.equal(response?.status(), 200, path);
        // What opens is judged open.
        if (how.script !== false)
          await page.evaluate("for (const d of document.querySelectorAll('main details:not(.menu)')) d.open = true");
        await axe(page);
        const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
        assert.ok(Number(overflow) <= 0, `${path} is ${String(overflow)} px too wide`);
      }
    },
  );

test('an empty server shows what to do first on each page', { timeout: 120_000 }, async (t) => {
  const server = await serverFor(t);
  server.time.now = Date.now();
  const page = await open(t);
  await signIn(page, { url: server.server.url, admin: server.admin });
  for (const [path, says] of [
    ['/hosts', 'No host has enrolled yet'],
    ['/images', 'No host has named an image yet'],
    ['/policies', 'No version is kept'],
    ['/settings/enrol', 'No token was made yet'],
    ['/settings', 'None is allowed'],
  ] as const) {
    await page.goto(`${server.server.url}${path}`);
    assert.ok((await main(page)).includes(says), `${path}: ${says}`);
    await axe(page);
  }
});

for (const script of [true, false])
  test(
    `a copy is approved, a host is labelled and retired, each after its question (script: ${script})`,
    { timeout: 180_000 },
    async (t) => {
      const served = await fleet(t);
      const page = await open(t, { script });
      await signIn(page, served, '/hosts');
      assert.match(await main(page), /One host waits for your approval/);
      await page.getByRole('link', { name: 'Approve copy-1' }).click();
      await page.getByRole('button', { name: 'Approve copy-1' }).click();
      await page.getByText('copy-1 is approved').waitFor();
      await page.goto(`${served.url}/hosts`);
      assert.doesNotMatch(await main(page), /waits for your approval/);
      assert.doesNotMatch(await main(page), /machine-1/);

      await page.getByLabel('Select good-1').check();
      await page.getByRole('button', { name: 'Label' }).click();
      await page.getByLabel('Labels').fill('nonsense');
      await page.getByRole('button', { name: 'Label 1 host' }).click();
      await page.getByText('“nonsense” is no label').waitFor();
      await axe(page);
      await page.getByLabel('Labels').fill('site=fra');
      await page.getByRole('button', { name: 'Label 1 host' }).click();
      await page.getByText('1 host labelled').waitFor();
      await page.goto(`${served.url}/hosts?label=site=fra`);
      assert.equal(await page.locator('.list .go').count(), 1);

      await page.getByLabel('Select good-1').check();
      await page.getByRole('button', { name: 'Retire' }).click();
      await axe(page);
      await page.getByRole('button', { name: 'Retire 1 host' }).click();
      await page.getByText('1 host retired').waitFor();
    },
  );

test('a policy is tried, applied, and the host it was about is compliant', { timeout: 120_000 }, async (t) => {
  const served = await fleet(t);
  const page = await open(t);
  await signIn(page, served, '/policies');
  await page.getByRole('link', { name: 'Try another policy' }).click();
  const rule = (paths: string) => `  - { id: ours, paths: [${paths}], effect: allowed, reason: Ours. }\n`;
  const text = `format: bootproof.policy/1\nname: ours\ndescription: Ours.\nextends: default\nfiles:\n${rule('/usr/bin/odd, /etc/sudoers.d/all')}`;
  await page.getByLabel(/Text of/).fill(text);
  await page.getByRole('button', { name: 'Show what it would change' }).click();
  assert.match(await page.getByRole('heading', { level: 1 }).innerText(), /would find \+0, −2/);
  await axe(page);
  await page.getByLabel('Why').fill('both are ours');
  await page.getByRole('button', { name: 'Apply as version 2' }).click();
  await page.getByText('Version 2 counts from now on').waitFor();
  assert.match(await main(page), /both are ours/);
});

test('a host on paper has no navigation, and everything that was open', { timeout: 120_000 }, async (t) => {
  const served = await fleet(t);
  const page = await open(t);
  await signIn(page, served, `/hosts/${served.ids[0]}`);
  await page.emulateMedia({ media: 'print' });
  for (const hidden of ['.top', '.tabs', '.foot'])
    assert.equal(await page.locator(hidden).first().isVisible(), false, hidden);
  for (const shown of ['h1', '.answers', '.list'])
    assert.equal(await page.locator(shown).first().isVisible(), true, shown);
});
