/** `manifest diff`: two trees compared, told by tree and kind for people, as drift for programs. */
import { compare } from '#src/drift/compare.ts';
import {
  attributesOf,
  driftJson,
  totalsOf,
  type Attribute,
  type Drift,
  type Secret,
  type Totals,
} from '#src/drift/drift.ts';
import type { Deployed, Rule } from '#src/image/backend.ts';
import { TREES, treeOf, type Facts, type TreeName } from '#src/manifest/entry.ts';
import { nameJson } from '#src/manifest/json.ts';
import type { Image } from '#src/source/build.ts';
import { EXIT, printable, type Exit, type Io } from '#src/terminal.ts';
import { writeParts } from '#agent/output.ts';
import { painter, sizeText } from '#agent/present.ts';
import { writeJson } from './output.ts';

export type DiffOptions = { readonly json?: boolean; readonly all?: boolean };
type Side = { readonly name: string; readonly image: Image; readonly deployed: Deployed };
type Difference = { readonly drift: readonly Drift[]; readonly secrets: readonly Secret[] };

/** What a host of the old image would see change on an update to the new one. */
export async function diffImages(
  before: Side,
  after: Side,
  options: DiffOptions & { readonly rule: Rule },
  io: Io,
): Promise<Exit> {
  const found = compare(before.deployed.entries, after.deployed.entries);
  const sides = { old: before.image.digest, new: after.image.digest, rule: options.rule };
  if (options.json) await writeJson({ ...sides, totals: totals(found.drift), ...differenceJson(found) }, io);
  else {
    await io.stdout.write(`${before.name}  ${sides.old}\n${after.name}  ${sides.new}\nrule ${options.rule}\n`);
    await writeParts(differenceText(found, options, io), io.stdout);
  }
  return isSame(found) ? EXIT.ok : EXIT.different;
}

const isSame = ({ drift, secrets }: Difference): boolean =>
  drift.length === 0 && secrets.every(({ state }) => state === 'same');

function differenceJson({ drift, secrets }: Difference) {
  return {
    drift: drift.map(driftJson),
    secrets: secrets.map(({ path, state }) => ({ ...nameJson('path', path), state })),
  };
}

function totals(drift: readonly Drift[]): Record<TreeName, Totals> {
  const of = (tree: TreeName) => totalsOf(drift.filter(({ path }) => treeOf(path) === tree));
  return { usr: of('usr'), etc: of('etc') };
}

function* differenceText(found: Difference, { all = false }: DiffOptions, io: Io): Generator<string> {
  const paint = painter(io.stdout, io.env);
  const sums = totals(found.drift);
  const changedSecrets = found.secrets.filter(({ state }) => state === 'differs');
  for (const tree of TREES) {
    const { added, removed, modified } = sums[tree];
    const secrets = changedSecrets.filter(({ path }) => treeOf(path) === tree);
    const drift = found.drift.filter(({ path }) => treeOf(path) === tree);
    yield `/${tree}: ${drift.length + secrets.length === 0 ? 'the same' : `${added} added, ${removed} removed, ${modified} modified${secrets.length === 0 ? '' : `, ${secrets.length} secrets differ`}`}\n`;
    let i = 0;
    while (i < drift.length) {
      const each = drift[i++]!;
      const below = all ? 0 : countBelow(drift, i, each);
      i += below;
      const more = below === 0 ? '' : `  (and ${below} below)`;
      if (each.change === 'added')
        yield paint('green', `  + ${printable(each.path)}`) + `  ${factsText(each.actual)}${more}\n`;
      else if (each.change === 'removed')
        yield paint('red', `  - ${printable(each.path)}`) + `  ${factsText(each.expected)}${more}\n`;
      else yield paint('yellow', `  ~ ${printable(each.path)}`) + `  ${changesText(each)}\n`;
    }
    for (const { path } of secrets) yield paint('yellow', `  ~ ${printable(path)}`) + '  content of a secret\n';
  }
}

/** How many entries after `top` only say that what is below an added or removed folder came or went with it. */
function countBelow(drift: readonly Drift[], from: number, top: Drift): number {
  let count = 0;
  for (let i = from; i < drift.length; i++, count++) {
    const { path, change } = drift[i]!;
    if (change !== top.change || !path.startsWith(`${top.path}/`)) break;
  }
  // A folder that changed into something else is a modification of its own, never this.
  return top.change === 'modified' ? 0 : count;
}

function factsText(facts: Facts): string {
  const { type, mode, uid, gid, size, link, device, capability } = facts;
  return [
    type,
    ...(type === 'symlink' ? [] : [octal(mode)]),
    ...(uid === 0 && gid === 0 ? [] : [`${uid}:${gid}`]),
    ...(size === undefined ? [] : [sizeText(size)]),
    ...(link === undefined ? [] : [`-> ${printable(link)}`]),
    ...(device === undefined ? [] : [device]),
    ...(capability === undefined ? [] : ['with a capability']),
  ].join(' ');
}

function changesText(drift: Extract<Drift, { change: 'modified' }>): string {
  const { expected, actual } = drift;
  if (expected.type !== actual.type) return `${factsText(expected)} → ${factsText(actual)}`;
  const attributes = attributesOf(drift);
  const told = (name: Attribute): string => {
    switch (name) {
      case 'sha256':
        return attributes.includes('size')
          ? `content, ${sizeText(expected.size ?? 0)} → ${sizeText(actual.size ?? 0)}`
          : 'content';
      case 'mode':
        return `mode ${octal(expected.mode)} → ${octal(actual.mode)}`;
      case 'link':
        return `link ${printable(expected.link ?? '')} → ${printable(actual.link ?? '')}`;
      case 'capability':
        return `capability ${expected.capability ?? 'none'} → ${actual.capability ?? 'none'}`;
      default:
        return `${name} ${expected[name] ?? 'none'} → ${actual[name] ?? 'none'}`;
    }
  };
  return attributes
    .filter((name) => name !== 'size' || !attributes.includes('sha256'))
    .map(told)
    .join(', ');
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');
