/** Random trees for the property tests: hostile names, secrets, every type, neighbours that are nearly the same. */
import { hash } from 'node:crypto';
import fc from 'fast-check';
import { comparePaths, type Entry, type Facts, type TreeName } from '#src/manifest/entry.ts';

export const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

const name = fc.oneof(
  fc.constantFrom(
    'a',
    'b',
    'a-b',
    'a.b',
    'a ',
    '\n',
    '\x1b[31m',
    '\xff\xfe',
    '[',
    '\\',
    'shadow',
    'x.key',
    'private',
    'd',
  ),
  fc.stringMatching(/^[ab!~ \\]{1,3}$/),
);
const id = fc.constantFrom(0, 1, 1000);
const common = { uid: id, gid: id };
const mode = fc.constantFrom(0o644, 0o755, 0o4755, 0o2755, 0o600, 0);
const capability = fc.constantFrom(undefined, undefined, 'AQAAAg==', 'AQAAAgAgAAAAAAAAAAAAAAAAAAA=');
const clean = (facts: Record<string, unknown>): Facts =>
  Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined)) as unknown as Facts;

const facts: fc.Arbitrary<Facts> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .record({ ...common, mode, capability, content: fc.constantFrom('', 'x', 'yy') })
      .map(({ content, ...rest }) => clean({ type: 'file', ...rest, size: content.length, sha256: sha256(content) })),
  },
  { weight: 2, arbitrary: fc.record({ ...common, mode }).map((rest) => clean({ type: 'dir', ...rest })) },
  {
    weight: 2,
    arbitrary: fc.record({ ...common, link: name }).map((rest) => clean({ type: 'symlink', mode: 0, ...rest })),
  },
  fc.record({ ...common, mode, device: fc.constantFrom('1:3', '8:0') }).map((rest) => clean({ type: 'char', ...rest })),
  fc.record({ ...common, mode }).map((rest) => clean({ type: 'fifo', ...rest })),
);

/** Entries of one tree in canonical order, its own folder first. Parents may lack: no function here relies on them. */
export function entries(tree: TreeName): fc.Arbitrary<Entry[]> {
  const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => `/${tree}/${names.join('/')}`);
  const entry = fc.tuple(path, facts).map(([path, f]): Entry => ({ ...f, path }));
  const top: Entry = { path: `/${tree}`, type: 'dir', mode: 0o755, uid: 0, gid: 0 };
  return fc
    .uniqueArray(entry, { maxLength: 25, selector: (e) => e.path })
    .map((list) => [top, ...list].sort((a, b) => comparePaths(a.path, b.path)));
}

/** Two trees, the second made from the first by leaving out, changing and adding. */
export function pair(tree: TreeName): fc.Arbitrary<[Entry[], Entry[]]> {
  const act = fc.constantFrom('keep', 'keep', 'keep', 'drop', 'change');
  return fc
    .tuple(entries(tree), entries(tree), fc.array(fc.tuple(act, facts), { minLength: 30, maxLength: 30 }))
    .map(([a, more, acts]) => {
      const b = new Map<string, Entry>();
      a.forEach((entry, i) => {
        const [what, f] = acts[i % acts.length]!;
        if (what !== 'drop' || i === 0) b.set(entry.path, what === 'change' ? { ...f, path: entry.path } : entry);
      });
      for (const entry of more.slice(0, 6)) if (!b.has(entry.path)) b.set(entry.path, entry);
      return [a, [...b.values()].sort((x, y) => comparePaths(x.path, y.path))];
    });
}
