/** The API's page in a browser: fit for everybody, readable without script, on a wide screen and on a phone. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { axe, closeBrowser, open, PHONE, serve, signIn } from './browser.ts';

after(closeBrowser);

test('the page of the API opens a route by its address, and axe finds nothing', async (t) => {
  const served = await serve(t);
  for (const how of [
    { script: true, colorScheme: 'light' },
    { script: false, colorScheme: 'dark', viewport: PHONE },
  ] as const) {
    const page = await open(t, how);
    await signIn(page, served);
    await page.goto(`${served.url}/api`);
    await page.locator('#approveWaiver > summary').click();
    await page.locator('#approveWaiver').getByText('For reviewer or admin').waitFor();
    await page.locator('#createToken > summary').click();
    const wide = await page.evaluate('document.documentElement.scrollWidth > document.documentElement.clientWidth');
    assert.equal(wide, false, 'nothing is wider than the screen');
    await axe(page);
    const shots = process.env['SHOTS'];
    if (shots !== undefined) {
      await page.screenshot({ path: `${shots}/api-${how.colorScheme}-top.png` });
      await page.locator('#approveWaiver').scrollIntoViewIfNeeded();
      await page.locator('#createToken').screenshot({ path: `${shots}/api-${how.colorScheme}-route.png` });
      await page.locator('#waivers').screenshot({ path: `${shots}/api-${how.colorScheme}-waivers.png` });
    }
  }
});
