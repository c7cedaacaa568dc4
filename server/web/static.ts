/** The few files that pages need beside themselves: one style sheet, joined from its layers; one script; the mark. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Hono } from 'hono';
import type { Env } from './services.ts';

/** In the order of their weight within a layer. */
const STYLES = [
  'tokens',
  'base',
  'layout',
  'parts',
  'table',
  'forms',
  'evidence',
  'pages',
  'fleet',
  'reference',
  'print',
] as const;

const read = (name: string): string => readFileSync(join(import.meta.dirname, 'static', name), 'utf8');

const FILES = [
  ['bootproof.css', 'text/css; charset=utf-8', STYLES.map((name) => read(`${name}.css`)).join('\n')],
  ['bootproof.js', 'text/javascript; charset=utf-8', read('bootproof.js')],
  ['mark.svg', 'image/svg+xml', read('mark.svg')],
] as const;

export function staticFiles(web: Hono<Env>): void {
  for (const [name, type, text] of FILES) {
    const tag = `"${createHash('sha256').update(text).digest('base64url').slice(0, 16)}"`;
    web.get(`/static/${name}`, (c) => {
      c.header('ETag', tag);
      c.header('Cache-Control', 'no-cache');
      if (c.req.header('if-none-match') === tag) return c.body(null, 304);
      return c.body(text, 200, { 'Content-Type': type });
    });
  }
}
