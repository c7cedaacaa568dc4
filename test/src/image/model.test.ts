/** Random layers against the plain model, for all three rules: the same trees, the same refusals. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BackendError, deploy, type Rule } from '#src/image/backend.ts';
import type { Entry } from '#src/manifest/entry.ts';
import { deep } from '#test/depth.ts';
import { image, type Member } from './archive.ts';
import { modelComposefs, modelLines, modelOci, modelOstree, NAMES, Refused, type Model } from './model.ts';

const names = fc.constantFrom(...NAMES);
const roots = fc.constantFrom('usr/share', 'usr/lib', 'etc', 'usr/etc');
const dirs = fc.tuple(roots, fc.array(names, { maxLength: 2 })).map(([root, parts]) => [root, ...parts].join('/'));
const paths = fc.tuple(dirs, names).map((parts) => parts.join('/'));
const owner = { uid: fc.constantFrom(0, 3, 7), gid: fc.constantFrom(0, 4) };
const spelled = (name: string, spelling: number): string => ['', './', '/', './/'][spelling % 4] + name;

const member: fc.Arbitrary<Member> = fc.oneof(
  {
    arbitrary: fc.record({
      name: paths,
      data: fc.constantFrom('', 'x', 'yy'),
      mode: fc.constantFrom(0o644, 0o755, 0o4755),
      ...owner,
    }),
    weight: 6,
  },
  {
    arbitrary: fc.record({
      name: paths,
      type: fc.constant('5'),
      mode: fc.constantFrom(0o755, 0o700, 0o2775),
      ...owner,
    }),
    weight: 5,
  },
  {
    arbitrary: fc.record({ name: paths, type: fc.constant('2'), link: fc.constantFrom('x', '../a'), ...owner }),
    weight: 2,
  },
  {
    arbitrary: fc
      .tuple(dirs, names, fc.record(owner))
      .map(([dir, name, of]) => ({ name: `${dir}/.wh.${name}`, ...of })),
    weight: 3,
  },
  {
    arbitrary: fc.tuple(dirs, fc.record(owner)).map(([dir, of]) => ({ name: `${dir}/.wh..wh..opq`, ...of })),
    weight: 1,
  },
  { arbitrary: fc.record({ name: paths, type: fc.constant('1'), link: paths, ...owner }), weight: 1 },
);
/** A layer; `whole` ones have an entry for every parent before it, as composefs needs. */
const layer = fc
  .record({ members: fc.array(member, { maxLength: 14 }), whole: fc.boolean(), spelling: fc.nat(3) })
  .map(({ members, whole, spelling }) => {
    const made = new Set<string>();
    const out: Member[] = [];
    for (const entry of members) {
      const parts = entry.name.split('/');
      for (const i of whole ? parts.keys() : []) {
        const dir = parts.slice(0, i).join('/');
        if (i === 0) continue;
        if (!made.has(dir)) out.push({ name: dir, type: '5', mode: 0o755 });
        made.add(dir);
      }
      out.push({ ...entry, name: spelled(entry.name, spelling) });
      if (entry.type === '5') made.add(entry.name);
    }
    return out;
  });
const BASE: Member[] = [
  { name: 'usr', type: '5' },
  { name: 'usr/share', type: '5', mode: 0o2755, gid: 4 },
  { name: 'usr/lib', type: '5' },
  { name: 'usr/lib/base', data: 'base' },
  { name: 'etc', type: '5' },
];

function lineOf(entry: Entry): string {
  return [entry.path, entry.type, entry.mode, entry.uid, entry.gid, entry.sha256 ?? '', entry.link ?? ''].join(' ');
}

const rules: readonly (readonly [
  Rule,
  (layers: readonly (readonly Member[])[]) => Model,
  (layers: readonly (readonly Member[])[]) => boolean,
])[] = [
  // Where links lead to links, GLib's hash table decides (ghash.test.ts): not in the README's rules.
  ['ostree/1', modelOstree, (layers) => layers.every(linksApart)],
  ['composefs/1', modelComposefs, () => true],
  ['oci', modelOci, (layers) => !layers.flat().some(({ type }) => type === '2')],
];
for (const [rule, model, determined] of rules)
  test(`${rule} makes of random layers what the plain model makes of them`, async () => {
    const seen = { same: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(layer, { minLength: 1, maxLength: 4 }), async (layers) => {
        const all = [BASE, ...layers];
        fc.pre(determined(all));
        const expected = attempt(() => modelLines(model(all)), Refused);
        const { layers: read, facts } = await image(all);
        const actual = attempt(() => deploy(read, facts, rule).entries.map(lineOf).sort(), BackendError);
        assert.deepEqual(actual, expected);
        seen[expected === undefined ? 'refused' : 'same']++;
      }),
      { numRuns: deep(400, 120) },
    );
    assert.ok(seen.same > deep(50, 10), `only ${seen.same} images were accepted`);
    assert.ok(seen.refused > deep(5, 1), `only ${seen.refused} images were refused`);
  });

function attempt<T>(act: () => T, refusal: new (...args: never[]) => Error): T | undefined {
  try {
    return act();
  } catch (error) {
    if (error instanceof refusal) return undefined;
    throw error;
  }
}

function linksApart(members: readonly Member[]): boolean {
  const clean = (name: string) =>
    name
      .split('/')
      .filter((part) => part !== '' && part !== '.')
      .join('/')
      .replace(/^usr\/etc/, 'etc');
  const links = members.filter(({ type }) => type === '1');
  const own = links.map(({ name }) => clean(name));
  const targets = new Set(links.map(({ link }) => clean(link!)));
  return new Set(own).size === own.length && own.every((name) => !targets.has(name));
}
