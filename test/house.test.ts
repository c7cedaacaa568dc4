/**
 * The laws of the house (ARCHITECTURE.md), read from the files themselves: who may import whom, and where clocks, SQL, the
 * file system and raw HTML may stand.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { globSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '..');
const ROOMS = ['src', 'agent', 'server', 'cli', 'demo', 'load'];
const files = ROOMS.flatMap((room) => globSync(`${room}/**/*.ts`, { cwd: root })).sort();
const text = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]));

/** Comments and string contents must not count as code. */
function code(file: string): string {
  return text
    .get(file)!
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/^\s*\/\/.*$/gm, '')
    .replace(/\s\/\/ .*$/gm, '');
}

function imports(file: string): string[] {
  const found = [...code(file).matchAll(/(?:\bfrom\s+|\bimport\s*\(\s*|\bimport\s+|new URL\(\s*)'([^']+)'/g)].map(
    (m) => m[1]!,
  );
  return found.map((name) => {
    if (name.startsWith('#')) return name.slice(1);
    if (name.startsWith('.')) return relative(root, join(root, dirname(file), name));
    return name;
  });
}

const isOurs = (name: string) => ROOMS.some((room) => name.startsWith(`${room}/`));
const edges = new Map(files.map((file) => [file, imports(file)]));

function breaks(where: (file: string) => boolean, forbidden: (target: string) => boolean): string[] {
  return files.filter(where).flatMap((file) =>
    edges
      .get(file)!
      .filter(forbidden)
      .map((target) => `${file} → ${target}`),
  );
}

const under =
  (...folders: string[]) =>
  (name: string) =>
    folders.some((f) => name === f || name.startsWith(`${f}/`));
const none = (found: string[]) => assert.deepEqual(found, []);

test('every import of ours names a file that is there', () => {
  none(
    files.flatMap((file) =>
      edges
        .get(file)!
        .filter((name) => isOurs(name) && !text.has(name))
        .map((name) => `${file} → ${name}`),
    ),
  );
});

// Imports go only leftward (DESIGN): a room may use those before it.
const ORDER = [
  ['error', 'bytes', 'digest', 'limits', 'clock', 'terminal', 'version'],
  ['manifest', 'signing', 'document'],
  ['image', 'deployment', 'drift'],
  ['source', 'trust'],
  ['report', 'wire'],
  ['log'],
  ['policy'],
  ['finding'],
  ['evidence'],
];
const rank = new Map(ORDER.flatMap((rooms, index) => rooms.map((room) => [room, index] as const)));
const roomOf = (file: string) => file.slice('src/'.length).replace(/\.ts$/, '').split('/')[0]!;

test('inside src, imports go only leftward', () => {
  const found: string[] = [];
  for (const file of files.filter(under('src'))) {
    const from = rank.get(roomOf(file));
    assert.ok(from !== undefined, `${file}: this room has no place in the order`);
    for (const target of edges.get(file)!.filter(under('src'))) {
      const to = rank.get(roomOf(target)) ?? Infinity;
      if (to > from) found.push(`${file} → ${target}`);
    }
  }
  none(found);
});

test('src leans on nothing around it', () =>
  none(breaks(under('src'), under('agent', 'server', 'cli', 'demo', 'load'))));
test('agent and server never meet', () => {
  none(breaks(under('agent'), under('server', 'cli', 'demo', 'load')));
  none(breaks(under('server'), under('agent', 'cli', 'demo', 'load')));
  none(breaks(under('load'), under('agent', 'server', 'cli', 'demo')));
});
test('api and web are two faces that do not see each other', () => {
  none(breaks(under('server/api'), under('server/web')));
  none(breaks(under('server/web'), under('server/api')));
});
test('the agent carries nothing of the server', () => {
  none(
    breaks(
      under('agent'),
      (name) => !isOurs(name) && !name.startsWith('node:') && name !== 'zod' && !name.startsWith('@noble/'),
    ),
  );
});

test('inside a room imports are relative, across rooms they begin with #', () => {
  const room = (name: string) =>
    name
      .split('/')
      .slice(0, name.startsWith('src/') || name.startsWith('server/') ? 2 : 1)
      .join('/');
  const found: string[] = [];
  for (const file of files) {
    for (const [, name] of code(file).matchAll(/\bfrom\s+'([#.][^']+)'/g)) {
      const target = name!.startsWith('#') ? name!.slice(1) : relative(root, join(root, dirname(file), name!));
      const deep = (f: string) => f.split('/').length > (f.startsWith('src/') || f.startsWith('server/') ? 2 : 1);
      const same = room(file) === room(target) && deep(file) && deep(target);
      if (same && name!.startsWith('#')) found.push(`${file}: ${name} is in its own room`);
      if (name!.startsWith('..') && room(file) !== room(target)) found.push(`${file}: ${name} crosses rooms without #`);
    }
  }
  none(found);
});

const mentions = (where: (file: string) => boolean, pattern: RegExp) =>
  files.filter(where).flatMap((file) => [...code(file).matchAll(pattern)].map((m) => `${file}: ${m[0]}`));

test('src has no clock, chance, environment, disk or network of its own', () => {
  none(
    mentions(
      under('src'),
      /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\bprocess\.|(?<![.\w])fetch\(|\brandomBytes\b|\brandomUUID\b/g,
    ),
  );
  none(
    breaks(under('src'), (name) =>
      /^(node:(fs|net|http|https|child_process|os|worker_threads|dns|tls|process)|undici)/.test(name),
    ),
  );
});
test('what a browser must run needs no node:', () => {
  none(
    breaks(under('src/bytes.ts', 'src/digest.ts', 'src/manifest', 'src/drift', 'src/log', 'src/report'), (name) =>
      name.startsWith('node:'),
    ),
  );
});
test('only the mains and configs read process', () => {
  const allowed = new Set(['cli/main.ts', 'agent/main.ts', 'server/main.ts', 'agent/config.ts', 'server/config.ts']);
  none(
    mentions(
      (file) => !allowed.has(file) && !under('src')(file),
      /\bprocess\.(env|argv|exit|stdout|stderr|exitCode)\b/g,
    ),
  );
});
test('SQL stands only in the store', () => {
  none(
    mentions(
      (file) => !under('server/store')(file),
      /\b(?:SELECT\s.+\sFROM|INSERT\s+INTO|DELETE\s+FROM|CREATE\s+TABLE)\s/g,
    ),
  );
  none(
    breaks(
      (file) => !under('server/store')(file),
      (name) => name === 'better-sqlite3' || name === 'pg' || name === 'kysely',
    ),
  );
});
test('raw( stands only in server/web/html.ts', () => {
  none(mentions((file) => file !== 'server/web/html.ts', /(?<![.\w])raw\(/g));
});
test('nothing is left for later in the code', () => {
  none(
    files.flatMap((file) =>
      [...text.get(file)!.matchAll(/\b(?:TODO|FIXME|XXX|HACK)\b/g)].map((m) => `${file}: ${m[0]}`),
    ),
  );
});
test('every file has an importer', () => {
  const imported = new Set([...edges.values()].flat());
  const roots = new Set(['cli/main.ts', 'agent/main.ts', 'server/main.ts']);
  none(files.filter((file) => !imported.has(file) && !roots.has(file)));
});
test('no file is an index or a drawer for the rest', () => {
  none(files.filter((file) => /(?:^|\/)(?:index|utils?|helpers?|common|misc|lib)(?:\.ts|\/)/.test(file)));
});
