/** The page /verify in a real browser, from a file and with no network: it says of each bundle what the command says of it. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { verifierPage } from '../../../server/verifier/page.ts';
import { fingerprintOf } from '../../../src/signing/ed25519.ts';
import { bundleOf, checkpointAt, forkAt, goodParts, server } from '../../src/evidence/madebundle.ts';
import { parseNote } from '../../../src/signing/note.ts';
import { timestampQuery } from '../../../src/signing/timestamp.ts';
import { authority, KEYS } from '../authority.ts';
import { axe, closeBrowser, open, PHONE, serve } from './browser.ts';

const folder = mkdtempSync(join(tmpdir(), 'verify-'));
const at = (name: string) => join(folder, name);
const key = fingerprintOf(server.publicKey);
before(async () => {
  const whole = await goodParts('whole');
  const good = await bundleOf(whole);
  writeFileSync(at('verify.html'), verifierPage().html);
  writeFileSync(at('good.zip'), good);
  // The first byte of the first member's data: whatever becomes of it, it is another one.
  writeFileSync(
    at('bad.zip'),
    good.map((byte, i) => (i === 60 ? byte ^ 1 : byte)),
  );
  // Stamped by OpenSSL, with keys of two kinds: what a browser knows of them is its own.
  const text = parseNote(whole.checkpoint).text;
  const pems = Object.entries(KEYS).map(([name, kind], i) => {
    const folderOf = at(name);
    mkdirSync(folderOf);
    const { answer, pem } = authority(folderOf, kind);
    const { body } = answer(Buffer.from(timestampQuery(Buffer.from(text), Uint8Array.of(1 + i))));
    whole.files.push({ name: `log/timestamps/${i}.${whole.head.log.size}.tsr`, content: body });
    return pem;
  });
  writeFileSync(at('stamped.zip'), await bundleOf(whole));
  for (const [name, tsas] of [
    ['both', pems],
    ['one', [pems[1]]],
  ] as const)
    writeFileSync(at(`${name}.json`), JSON.stringify({ format: 'bootproof.trusted-root/1', keys: [key], tsas }));
  writeFileSync(at('kept'), await checkpointAt(whole, 9));
  writeFileSync(at('fork'), await forkAt(9));
});
after(closeBrowser);
after(() => rmSync(folder, { recursive: true }));

type Given = {
  readonly bundle: string;
  readonly root?: string;
  readonly key?: string;
  readonly known?: readonly string[];
};
const outcomes: readonly (readonly [string, Given, RegExp, RegExp])[] = [
  ['a good bundle and its key', { bundle: 'good.zip', key }, /^As signed by the key that you gave$/, /level 0/],
  [
    'a kept checkpoint',
    { bundle: 'good.zip', key, known: ['kept'] },
    /^As signed by the key that you gave$/,
    /level 1/,
  ],
  [
    'a checkpoint of a fork',
    { bundle: 'good.zip', key, known: ['fork'] },
    /^Not what was signed/,
    /1 of \d+ checks failed/,
  ],
  ['two timestamps', { bundle: 'stamped.zip', root: 'both.json' }, /^As signed by the key that you gave$/, /level 2/],
  ['one of them', { bundle: 'stamped.zip', root: 'one.json' }, /^As signed by the key that you gave$/, /level 2/],
  ['nobody who stamps', { bundle: 'stamped.zip', key }, /^As signed by the key that you gave$/, /level 0/],
  ['no key', { bundle: 'good.zip' }, /^Whose it is was not checked$/, /anybody could have made it/],
  ['another key', { bundle: 'good.zip', key: 'ab'.repeat(32) }, /^Not what was signed/, /failed/],
  ['a changed bundle', { bundle: 'bad.zip', key }, /^Not what was signed/, /failed/],
  ['no fingerprint', { bundle: 'good.zip', key: 'abc' }, /^It was not checked$/, /64 hex digits/],
];

test('the page, from a file, says what the command says', { timeout: 300_000 }, async (t) => {
  const page = await open(t);
  await page.context().setOffline(true);
  await page.goto(pathToFileURL(at('verify.html')).href);
  await axe(page);
  for (const [name, given, title, text] of outcomes) {
    await page.reload();
    await page.getByLabel('Bundle', { exact: true }).setInputFiles(at(given.bundle));
    await page.getByLabel(/^Fingerprint/).fill(given.key ?? '');
    if (given.root !== undefined) await page.getByLabel(/trusted root/i).setInputFiles(at(given.root));
    await page.getByLabel(/^Checkpoints/).setInputFiles((given.known ?? []).map(at));
    await page.getByRole('button', { name: 'Check it' }).click();
    await page.locator('#sum:not(:text("Checking"))').waitFor({ state: 'visible' });
    assert.match((await page.locator('#sum').textContent()) ?? '', title, name);
    assert.match((await page.locator('#what').textContent()) ?? '', text, name);
    if (name === 'two timestamps')
      assert.match((await page.locator('#steps').textContent()) ?? '', /Clock stamped \d+ entries at .* Clock stamped/);
  }
});

test('on a phone nothing of the outcome is cut off', { timeout: 300_000 }, async (t) => {
  const page = await open(t, { viewport: PHONE, colorScheme: 'dark' });
  await page.goto(pathToFileURL(at('verify.html')).href);
  await page.getByLabel('Bundle', { exact: true }).setInputFiles(at('good.zip'));
  await page.getByRole('button', { name: 'Check it' }).click();
  await page.locator('#not li').first().waitFor();
  await axe(page);
  assert.ok(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'));
});

test('a server serves it to whoever has no account', { timeout: 300_000 }, async (t) => {
  const { url } = await serve(t);
  const page = await open(t);
  await page.goto(`${url}/verify`);
  await page.getByLabel('Bundle', { exact: true }).setInputFiles(at('good.zip'));
  await page.getByRole('button', { name: 'Check it' }).click();
  await page.locator('#not li').first().waitFor();
  assert.equal(await page.locator('#sum').textContent(), 'Whose it is was not checked');
});
