/** The page /verify as it is served: one file, to everybody, under a policy that names its one script and style. What it does is tried in a browser. */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import { Script } from 'node:vm';
import { Hono } from 'hono';
import { verifierPage, verifierRoute } from '#server/verifier/page.ts';

const { html, policy } = verifierPage();
const element = (name: string) => new RegExp(`<${name}>([\\s\\S]*)</${name}>`).exec(html)![1]!;

test('the policy lets its own script and style run, and nothing else', () => {
  const sum = (name: string) => `'sha256-${hash('sha256', element(name), 'base64')}'`;
  assert.equal(
    policy,
    `default-src 'none'; script-src ${sum('script')}; style-src ${sum('style')}; base-uri 'none'; form-action 'none'`,
  );
  assert.ok(html.includes(`content="${policy}"`));
});

test('nothing in it is fetched from anywhere', () => {
  const markup = html.replace(element('script'), '').replace(element('style'), '');
  assert.doesNotMatch(markup, /\b(?:src|href|action|srcset)=/);
  assert.doesNotMatch(element('style'), /url\(|@import/);
});

test('its script is whole, and as it is linked each time', () => {
  assert.doesNotThrow(() => new Script(element('script')));
  assert.equal(verifierPage().html, html);
});

test('it is served without signing in, and may not be framed', async () => {
  const web = new Hono();
  verifierRoute(web);
  const response = await web.request('/verify');
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('Content-Security-Policy'), `${policy}; frame-ancestors 'none'`);
  assert.equal(await response.text(), html);
});
