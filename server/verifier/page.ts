/**
 * `/verify`: the verification of evidence bundles as one file for a browser (docs/evidence.md 4), served to everybody, and saved it runs from disk
 * with no network. Its policy names the hashes of its one script and style, and lets nothing else run or be asked.
 */
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Env, Hono } from 'hono';
import { VERSION } from '#src/version.ts';
import { linkModules } from './link.ts';

export type VerifierPage = {
  readonly html: string;
  /** For the header, which can say what a meta element cannot. */ readonly policy: string;
};

let made: VerifierPage | undefined;

/** Made once a process, when it is first asked for: some hundred milliseconds. */
export function verifierPage(): VerifierPage {
  made ??= make();
  return made;
}

function make(): VerifierPage {
  const read = (name: string) => readFileSync(join(import.meta.dirname, name), 'utf8');
  const script = linkModules('server/verifier/verify.js');
  const style = read('verify.css');
  // What would end the element is in none of the sources; if it ever is, no half page is served.
  if (/<\/script|<!--/i.test(script) || /<\/style/i.test(style))
    throw new Error('a source of the page would end its element');
  const sum = (text: string) => `'sha256-${hash('sha256', text, 'base64')}'`;
  const policy = `default-src 'none'; script-src ${sum(script)}; style-src ${sum(style)}; base-uri 'none'; form-action 'none'`;
  const html = read('verify.html')
    .replace('{{policy}}', () => policy)
    .replace('<style></style>', () => `<style>${style}</style>`)
    .replace('<script></script>', () => `<script>${script}</script>`)
    .replaceAll('{{version}}', () => VERSION);
  return { html, policy };
}

/** The route. Before everything that sets headers of its own, and before signing in: an auditor has no account. */
export function verifierRoute<E extends Env>(web: Hono<E>): void {
  web.get('/verify', (c) => {
    const { html, policy } = verifierPage();
    c.header('Content-Security-Policy', `${policy}; frame-ancestors 'none'`);
    c.header('X-Content-Type-Options', 'nosniff');
    c.header('Referrer-Policy', 'no-referrer');
    c.header('Cache-Control', 'no-cache');
    return c.html(html);
  });
}
