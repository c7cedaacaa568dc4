/** Every code of the room is explained in docs/errors.md, and nothing there is left of codes that are gone. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '../../..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

/** The literals of a union type, or of a class over one. */
function union(file: string, head: RegExp): string[] {
  const [, body = ''] = new RegExp(`${head.source}([^;{]*)`).exec(read(file)) ?? [];
  return [...body.matchAll(/'([A-Z][A-Z0-9_]+)'/g)].map((match) => match[1]!);
}
function documented(section: string): string[] {
  const [, body = ''] = new RegExp(`\n## ${section}\n([\\s\\S]*?)(?=\n## |$)`).exec(read('docs/errors.md')) ?? [];
  return [...body.matchAll(/^\| ((?:[A-Z][A-Z0-9_]+(?:, )?)+) \|/gm)].flatMap((match) => match[1]!.split(', '));
}

test('image refusals', () => {
  const codes = [
    ...union('src/image/tarheader.ts', /export type TarCode =/),
    ...union('src/image/decompress.ts', /class DecompressError extends BootproofError</),
    ...union('src/image/layer.ts', /class ImageError extends BootproofError</),
    ...union('src/image/refusal.ts', /export type RefusalCode =/),
  ];
  assert.ok(codes.length > 40);
  assert.deepEqual(documented('Image refusals').sort(), [...new Set(codes)].sort());
});

test('manifest warnings', () => {
  const codes = union('src/image/refusal.ts', /export type WarningCode =/);
  assert.ok(codes.length > 20);
  assert.deepEqual(documented('Manifest warnings').sort(), codes.sort());
});
