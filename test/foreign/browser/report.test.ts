/** The evidence report in a browser: accessible, within its own content security policy, readable on a phone, and printed on A4 and Letter. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { prepare } from '../../../src/evidence/controls.ts';
import { reportDocument } from '../../../src/evidence/report.ts';
import { shippedFrameworks } from '../../../server/controlfiles.ts';
import { fleet } from '../../src/evidence/fleet.ts';
import { axe, closeBrowser, open, PHONE } from './browser.ts';

after(closeBrowser);
const folder = mkdtempSync(join(tmpdir(), 'bootproof-report-'));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'report.html');
const mappings = (await shippedFrameworks()).map(({ framework }) => framework);
let text = '';
for await (const piece of reportDocument(await prepare(fleet(400), mappings), { fingerprint: 'ab'.repeat(32) }))
  text += piece;
writeFileSync(file, text);
const url = pathToFileURL(file).href;

test('it opens as a file, breaks no policy of its own, and is accessible', async (t) => {
  const page = await open(t);
  await page.goto(url);
  assert.equal(
    await page.evaluate(() => getComputedStyle(document.querySelector('h1')!).fontWeight),
    '600',
    'its style is allowed',
  );
  await axe(page);
});

test('on a phone nothing but a table scrolls sideways', async (t) => {
  const page = await open(t, { viewport: PHONE, script: true });
  await page.goto(url);
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= PHONE.width);
});

for (const format of ['A4', 'Letter'] as const)
  test(`it prints on ${format}`, async (t) => {
    const page = await open(t);
    await page.goto(url);
    const pdf = await page.pdf({ format, printBackground: true });
    // REPORT_PDF keeps what was printed, for whoever wants to look at it.
    const kept = process.env['REPORT_PDF'];
    if (kept !== undefined) writeFileSync(join(kept, `report-${format}.pdf`), pdf);
    const pages = pdf.toString('latin1').match(/\/Type\s*\/Page\b/g)?.length ?? 0;
    assert.ok(pages > 8 && pages < 25, `${pages} pages`);
  });
