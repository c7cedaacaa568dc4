/**
 * Makes docs/screens: a server with a fleet that has lived for a week, and a picture of each main view as Chromium shows it.
 *
 *     . ./node.sh && (cd test/foreign && npm ci --ignore-scripts) && "$BOOTPROOF_NODE" test/foreign/browser/screens.ts
 *
 * BROWSER names another Chromium than Debian's. With words as arguments only views whose names hold one of them are made.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { chromium, type BrowserContext } from 'playwright-core';
import { DAY } from '../../server/decisions/people.ts';
import { signIn } from './browser.ts';
import { livedIn, type Lived } from './week.ts';

const FOLDER = join(import.meta.dirname, '..', '..', '..', 'docs', 'screens');
const EXECUTABLE = process.env['BROWSER'] ?? '/usr/bin/chromium';
const WIDE = { width: 1280, height: 860 };
const NARROW = { width: 420, height: 860 };
/** Of WebP: text stays sharp, and all pictures together stay below two megabytes. */
const QUALITY = 82;

type View = { readonly name: string; readonly path: string; readonly dark?: true; readonly narrow?: true };

const views = ({ group, waiver, host, other, apart, moment, image, next }: Lived): readonly View[] => [
  { name: 'home', path: '/' },
  { name: 'home-dark', path: '/', dark: true },
  { name: 'home-narrow', path: '/', narrow: true },
  { name: 'findings', path: '/findings' },
  { name: 'findings-dark', path: '/findings', dark: true },
  { name: 'findings-narrow', path: '/findings', narrow: true },
  { name: 'group', path: `/findings/${group}` },
  { name: 'group-dark', path: `/findings/${group}`, dark: true },
  { name: 'group-narrow', path: `/findings/${group}`, narrow: true },
  { name: 'hosts', path: '/hosts' },
  { name: 'hosts-narrow', path: '/hosts', narrow: true },
  { name: 'host', path: `/hosts/${host}` },
  { name: 'host-dark', path: `/hosts/${host}`, dark: true },
  { name: 'host-tree', path: `/hosts/${host}/tree` },
  { name: 'host-deployments', path: `/hosts/${other}/deployments` },
  { name: 'host-reports', path: `/hosts/${host}/reports` },
  { name: 'host-history', path: `/hosts/${host}/history` },
  { name: 'host-posture', path: `/hosts/${apart}/posture?at=${encodeURIComponent(moment)}` },
  { name: 'host-posture-narrow', path: `/hosts/${apart}/posture?at=${encodeURIComponent(moment)}`, narrow: true },
  { name: 'images', path: '/images' },
  { name: 'image', path: `/images/${encodeURIComponent(image)}` },
  { name: 'image-narrow', path: `/images/${encodeURIComponent(image)}`, narrow: true },
  { name: 'image-diff', path: `/images/${encodeURIComponent(image)}/diff?to=${encodeURIComponent(next)}` },
  { name: 'image-hosts', path: `/images/${encodeURIComponent(image)}/hosts` },
  { name: 'waivers-period', path: '/waivers?tab=period' },
  { name: 'waivers', path: '/waivers?tab=all' },
  { name: 'waiver', path: `/waivers/${waiver}` },
  { name: 'waiver-narrow', path: `/waivers/${waiver}`, narrow: true },
  { name: 'policies', path: '/policies' },
  { name: 'activity', path: '/activity' },
  { name: 'settings', path: '/settings' },
  { name: 'access', path: '/settings/access' },
  { name: 'api', path: '/api' },
];

async function picture(context: BrowserContext, url: string, name: string): Promise<number> {
  const page = await context.newPage();
  const answer = await page.goto(url);
  if (answer?.status() !== 200) throw new Error(`${name}: ${answer?.status()} at ${url}`);
  const devtools = await context.newCDPSession(page);
  const { data } = await devtools.send('Page.captureScreenshot', { format: 'webp', quality: QUALITY });
  const bytes = Buffer.from(data, 'base64');
  writeFileSync(join(FOLDER, `${name}.webp`), bytes);
  await page.close();
  return bytes.length;
}

if (!existsSync(EXECUTABLE))
  throw new Error(`${EXECUTABLE} is missing: apt-get install chromium, or name one with BROWSER`);
const wanted = process.argv.slice(2);
const ends: (() => unknown)[] = [];
const t = { after: (end: () => unknown) => void ends.unshift(end) } as unknown as TestContext;
const browser = await chromium.launch({
  executablePath: EXECUTABLE,
  args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
});
try {
  mkdirSync(FOLDER, { recursive: true });
  const lived = await livedIn(t, 7 * DAY);
  const { url } = lived.server.server;
  const contexts = new Map<string, BrowserContext>();
  const contextOf = async ({
    dark = false,
    narrow = false,
  }: {
    dark?: boolean;
    narrow?: boolean;
  }): Promise<BrowserContext> => {
    const key = `${dark} ${narrow}`;
    const known = contexts.get(key);
    if (known !== undefined) return known;
    const made = await browser.newContext({
      viewport: narrow ? NARROW : WIDE,
      colorScheme: dark ? 'dark' : 'light',
      locale: 'en-GB',
      timezoneId: 'UTC',
      reducedMotion: 'reduce',
    });
    contexts.set(key, made);
    const page = await made.newPage();
    await signIn(page, { url, admin: lived.server.admin });
    await page.close();
    return made;
  };
  let bytes = 0;
  for (const view of views(lived)) {
    if (wanted.length > 0 && !wanted.some((word) => view.name.includes(word))) continue;
    bytes += await picture(await contextOf(view), `${url}${view.path}`, view.name);
  }
  const stranger = await browser.newContext({ viewport: WIDE, colorScheme: 'light' });
  if (wanted.length === 0 || wanted.includes('signin')) bytes += await picture(stranger, `${url}/login`, 'signin');
  process.stdout.write(`${(bytes / 1e6).toFixed(2)} MB in ${FOLDER}\n`);
} finally {
  await browser.close();
  for (const end of ends) await end();
}
