/** Random layers, and the trees that umoci and composefs-rs made of them (test/vectors/programs): ours are the same. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BackendError, deploy, type Rule } from '#src/image/backend.ts';
import type { Entry } from '#src/manifest/entry.ts';
import { dir, image, type Member } from './archive.ts';

type Case = { readonly layers: readonly Member[][]; readonly oci: Outcome; readonly composefs: Outcome };
type Outcome = readonly string[] | 'refused';

const BASE = ['usr', 'usr/share', 'usr/lib', 'etc', 'boot', 'sysroot'].map((name) => dir(name));
const cases = readFileSync(join(import.meta.dirname, '../../vectors/programs/random.jsonl'), 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Case);

function lineOf({ path, type, mode, uid, gid, sha256, link }: Entry): string {
  if (type === 'symlink') return [path, type, uid, gid, link].join(' ');
  return [path, type, mode, uid, gid, ...(sha256 === undefined ? [] : [sha256.slice(0, 8)])].join(' ');
}

for (const [rule, outcome] of [
  ['oci', 'oci'],
  ['composefs/1', 'composefs'],
] as const satisfies readonly (readonly [Rule, keyof Case])[])
  test(`${rule} makes of random layers what its program made of them`, async () => {
    const told = { trees: 0, refused: 0 };
    for (const [index, of] of cases.entries()) {
      const { layers, facts } = await image([BASE, ...of.layers]);
      let ours: Outcome = 'refused';
      try {
        ours = deploy(layers, facts, rule).entries.map(lineOf).sort();
      } catch (error) {
        if (!(error instanceof BackendError)) throw error;
      }
      assert.deepEqual(ours, of[outcome], `line ${index + 1}`);
      told[ours === 'refused' ? 'refused' : 'trees']++;
    }
    assert.ok(told.trees > 50 && told.refused > 30, JSON.stringify(told));
  });
