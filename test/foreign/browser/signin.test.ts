/** The first sign-in of a person in a real browser: over the provider and back, without a role at first, then with one, and out again. */
import assert from 'node:assert/strict';
import { after, test, type TestContext } from 'node:test';
import { TestProvider } from '../../server/access/provider.ts';
import { enrol, image, serverFor, type TestServer } from '../../server/fleet.ts';
import { axe, closeBrowser, open, PHONE, type How } from './browser.ts';

after(closeBrowser);

async function world(t: TestContext): Promise<TestServer & { readonly provider: TestProvider; readonly url: string }> {
  const provider = await TestProvider.open(t);
  provider.people.set('alice', { name: 'Alice Ames', email: 'alice@example.org', groups: ['sre'] });
  const os = image('41');
  const server = await serverFor(t, { access: { oidc: provider.settings }, images: [os], clock: Date.now });
  server.time.now = Date.now();
  provider.serve(`${server.server.url}/login/callback`);
  for (const [name, group] of [
    ['lab-1', 'lab'],
    ['web-1', 'web'],
  ] as const) {
    const host = await enrol(server, os, { name });
    await server.server.store.hosts.setGroup(host.id, group, { actor: 'admin', at: Date.now() });
  }
  return { ...server, provider, url: server.server.url };
}

for (const [name, how] of [
  ['with script', { script: true }],
  ['without script, on a phone', { script: false, viewport: PHONE }],
  ['in the dark', { colorScheme: 'dark' }],
] as readonly (readonly [string, How])[])
  test(`a person signs in for the first time ${name}`, { timeout: 300_000 }, async (t) => {
    const server = await world(t);
    const page = await open(t, how);
    await page.goto(`${server.url}/hosts`);
    await axe(page);
    await page.getByRole('link', { name: /^Continue with/ }).click();
    await page.getByLabel('Name').fill('alice');
    await page.getByRole('button', { name: 'Go on' }).click();

    await page.getByRole('heading', { name: 'You have no role here' }).waitFor();
    assert.match(await page.getByRole('main').innerText(), /bootproof access bind alice@example\.org viewer/);
    await axe(page);

    const bound = await server.api('/api/v1/access/bindings', {
      method: 'POST',
      body: { holder: { kind: 'claim', id: 'sre' }, role: 'operator', group: 'lab' },
    });
    assert.equal(bound.status, 201);
    await page.goto(`${server.url}/hosts`);
    await page.getByRole('link', { name: /^Continue with/ }).click();
    // The provider knows the person by now.
    await page.waitForURL(`${server.url}/hosts`);
    const text = await page.getByRole('main').innerText();
    assert.ok(text.includes('lab-1') && !text.includes('web-1'), 'hosts of the own group alone');
    await axe(page);

    await page.locator('summary.me').click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    // The sign-out goes on at the provider, which asks, and leads back.
    await page.getByRole('button', { name: /^Yes/ }).click();
    await page.getByText(/You are signed out, here and at/).waitFor();
    await axe(page);
    await page.goto(`${server.url}/hosts`);
    assert.match(page.url(), /\/login\?next=/);
  });

test('where the provider is down a person is told so, and the admin token lets in', async (t) => {
  const server = await world(t);
  await server.provider.close();
  const page = await open(t);
  await page.goto(`${server.url}/login`);
  await page.getByRole('link', { name: /^Continue with/ }).click();
  await page.getByRole('heading', { name: 'The provider does not answer' }).waitFor();
  await axe(page);
  await page.getByRole('link', { name: 'Sign in with the admin token' }).click();
  await page.getByLabel('Admin token').fill('bp_admin_wrong');
  await page.getByRole('button', { name: /sign in with token/i }).click();
  await page.getByText('This is not the admin token of this server.').waitFor();
  await axe(page);
  await page.getByLabel('Admin token').fill(server.admin);
  await page.getByRole('button', { name: /sign in with token/i }).click();
  await page.waitForURL(`${server.url}/`);
});
