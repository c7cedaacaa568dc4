/**
 * Modules → one script, so that a page holds all of its code and runs from a file with no network, and the agent is one program. It knows the
 * few forms of import and export that our own code and @noble/hashes have, and refuses any other: no bundler is needed for 60 modules
 * without circles.
 */
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join, relative } from 'node:path';

const root = join(import.meta.dirname, '../..');

/** Packages by their file: zod as CommonJS, which has circles, and needs no rewriting. */
const PACKAGES: Readonly<Record<string, string>> = { zod: 'node_modules/zod/index.cjs' };
/** Messages in fifty languages that nobody reads here. */
const LOCALES = 'node_modules/zod/v4/locales/index.cjs';

/**
 * A script that runs `entry` (a path below the project) and everything that it imports. Only a script `forNode`, which has a `require` around it,
 * may have what Node itself holds (`node:fs`), and `await import(…)`, which loads a module when it is come to.
 */
export function linkModules(entry: string, { forNode = false } = {}): string {
  const modules = new Map<string, string>();
  const under = new Set<string>();
  const take = (file: string): void => {
    if (under.has(file)) {
      if (file.endsWith('.cjs')) return;
      throw new Error(`${file} imports itself, by way of others: the page cannot be linked`);
    }
    if (modules.has(file)) return;
    under.add(file);
    const { code, needs } = file.endsWith('.cjs') ? commonJs(file) : esModule(file, forNode);
    for (const need of needs) take(need);
    under.delete(file);
    modules.set(file, code);
  };
  take(entry);
  // In parentheses, because engines compile such functions at once: all of these are going to run.
  const bodies = [...modules].map(
    ([file, code]) => `${JSON.stringify(file)}:(function(module,exports,require){${code}\n})`,
  );
  const begin = forNode ? '"use strict";const builtin=require;(()=>{' : '"use strict";(()=>{';
  return `${begin}const modules={${bodies.join(',\n')}};const loaded={};
const require=(name)=>{if(name in loaded)return loaded[name].exports;const module=loaded[name]={exports:{}};modules[name](module,module.exports,require);return module.exports};
require(${JSON.stringify(entry)});})();`;
}

type Linked = { readonly code: string; readonly needs: readonly string[] };

function commonJs(file: string): Linked {
  const needs: string[] = [];
  const source =
    file === LOCALES ? 'exports.en = require("./en.cjs").default;' : readFileSync(join(root, file), 'utf8');
  const code = source.replaceAll(/\brequire\("([^"]+)"\)/g, (_, name: string) => {
    const need = resolved(name, file);
    needs.push(need);
    return `require(${JSON.stringify(need)})`;
  });
  return { code, needs };
}

function esModule(file: string, forNode: boolean): Linked {
  const source = readFileSync(join(root, file), 'utf8');
  const needs: string[] = [];
  const exported: string[] = [];
  const need = (name: string): string => {
    if (forNode && name.startsWith('node:')) return `builtin(${JSON.stringify(name)})`;
    const found = resolved(name, file);
    needs.push(found);
    return `require(${JSON.stringify(found)})`;
  };
  const renamed = (names: string) => names.replaceAll(/\bas\b/g, ':');
  const code = (file.endsWith('.ts') ? stripTypeScriptTypes(source) : source)
    .replaceAll(/^import\s*\{([^}]*)\}\s*from\s*['"]([^'"]+)['"];?/gm, (_, names: string, from: string) =>
      // Types alone: nothing is left of them, and no module of ours does anything by being loaded.
      names.trim() === '' ? '' : `const {${renamed(names)}} = ${need(from)};`,
    )
    .replaceAll(
      /^import\s*\*\s*as\s+(\w+)\s+from\s*['"]([^'"]+)['"];?/gm,
      (_, name: string, from: string) => `const ${name} = ${need(from)};`,
    )
    .replaceAll(/^export\s*\{([^}]*)\};?/gm, (_, names: string) => {
      for (const one of names.split(',').map((each) => each.trim())) {
        const [, own, as] = /^(\w+)(?:\s+as\s+(\w+))?$/.exec(one) ?? [];
        if (own !== undefined) exported.push(`${as ?? own}: ${own}`);
      }
      return '';
    })
    .replaceAll(
      /^export\s+((?:const|let|class|(?:async\s+)?function\s*\*?)\s*)(\w+)/gm,
      (_, kind: string, name: string) => {
        exported.push(name);
        return `${kind}${name}`;
      },
    );
  const linked = forNode
    ? code
        .replaceAll(/\bawait import\(['"]([^'"]+)['"]\)/g, (_, from: string) => need(from))
        // Nothing else is known of a module that has no file.
        .replaceAll(/\bimport\.meta\b/g, '({main:false})')
    : code;
  const left = /^(?:import|export)\b.*|\bimport\(.*|\bimport\.meta\b.*/m.exec(linked);
  if (left !== null)
    throw new Error(`${file}: the script cannot be linked with ${JSON.stringify(left[0].slice(0, 100))}`);
  return { code: `${linked}\nObject.assign(exports, {${exported.join(', ')}});`, needs };
}

function resolved(name: string, from: string): string {
  if (name.startsWith('#')) return name.slice(1);
  if (name.startsWith('.')) return relative(root, join(root, dirname(from), name));
  if (name.startsWith('@noble/hashes/')) return `node_modules/${name}`;
  const found = PACKAGES[name];
  if (found === undefined) throw new Error(`${from} needs ${name}, which no such script can load`);
  return found;
}
