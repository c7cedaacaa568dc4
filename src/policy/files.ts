/** Which file rule a path's change falls under (docs/policy.md, sections 3 and 4): the first whose glob and conditions hold. */
import type { Drift, Secret } from '#src/drift/drift.ts';
import { attributesOf } from '#src/drift/drift.ts';
import type { Facts } from '#src/manifest/entry.ts';
import { compareBytes, type ByteString } from '#src/bytes.ts';
import { POLICY_FOLDERS_MAX } from '#src/limits.ts';
import type { FileRule, Policy } from './document.ts';
import { changeOf, type PathChange } from './judgement.ts';
import { matchesGlob, reachesInto } from './paths.ts';
import type { PolicyAttribute, Trait } from './schema.ts';

/** The first rule that names the path and whose conditions hold; undefined where no rule does. */
export function fileRuleFor(policy: Pick<Policy, 'files'>, change: PathChange): FileRule | undefined {
  const { path } = change;
  const names = path.split('/');
  return candidates(policy.files, `/${names[1]}/${names[2] ?? ''}`).find(
    (rule) => rule.paths.some((glob) => matchesGlob(glob, path, names)) && holds(rule, change),
  );
}

const indexes = new WeakMap<readonly FileRule[], Map<ByteString, readonly FileRule[]>>();

/**
 * The rules that can speak of anything below a folder two levels deep, in their order. Most of a policy's globs begin with such
 * a folder, so that a path is held against five rules instead of fifty.
 */
function candidates(rules: readonly FileRule[], folder: ByteString): readonly FileRule[] {
  let index = indexes.get(rules);
  if (index === undefined) indexes.set(rules, (index = new Map()));
  let found = index.get(folder);
  if (found === undefined) {
    found = rules.filter(({ paths }) => paths.some((glob) => reachesInto(glob, folder)));
    // Names come from hosts, so there is no end to them; real ones are some hundred.
    if (index.size >= POLICY_FOLDERS_MAX) index.clear();
    index.set(folder, found);
  }
  return found;
}

/**
 * One change a path, in the order of the drift list: a secret's own entry is laid beside the drift line that shows the rest
 * of it (mode, owner), so that a path is judged once and as a whole.
 */
export function pathChanges(drift: readonly Drift[], secrets: readonly Secret[]): PathChange[] {
  const hidden = new Map<ByteString, Exclude<Secret['state'], 'same'>>();
  for (const { path, state } of secrets) if (state !== 'same') hidden.set(path, state);
  const changes: PathChange[] = drift.map((line) => {
    const secret = hidden.get(line.path);
    hidden.delete(line.path);
    return { path: line.path, drift: line, secret };
  });
  const rest = [...hidden].sort(([a], [b]) => compareBytes(a, b));
  return [...changes, ...rest.map(([path, secret]) => ({ path, drift: undefined, secret }))];
}

/** The attributes that changed, as policies name them; empty for what was added or removed. */
export function changedAttributes(change: PathChange): ReadonlySet<PolicyAttribute> {
  const out = new Set<PolicyAttribute>();
  if (changeOf(change) !== 'modified') return out;
  if (change.secret !== undefined) out.add('content');
  if (change.drift !== undefined)
    for (const name of attributesOf(change.drift)) out.add(name === 'size' || name === 'sha256' ? 'content' : name);
  return out;
}

/** Every condition must hold; one that asks for what a change does not have (the mode of a removed file) does not. */
function holds({ when }: FileRule, change: PathChange): boolean {
  const kind = changeOf(change);
  const before = change.drift !== undefined && 'expected' in change.drift ? change.drift.expected : undefined;
  const after = change.drift !== undefined && 'actual' in change.drift ? change.drift.actual : undefined;
  // `attributes` and `only` speak of modified paths: without `change` they mean those alone.
  const speaksOfModified = when.attributes !== undefined || when.only !== undefined;
  const kinds = when.change ?? (speaksOfModified ? ['modified'] : undefined);
  if (kinds !== undefined && !kinds.includes(kind)) return false;
  if (kind === 'modified' && speaksOfModified) {
    const changed = changedAttributes(change);
    if (when.attributes !== undefined && !when.attributes.some((name) => changed.has(name))) return false;
    if (when.only !== undefined && [...changed].some((name) => !when.only!.includes(name))) return false;
  }
  // A secret of which only the content differs: type, mode and owner are the image's own, so they are as they must be.
  const isOnlyContent = change.drift === undefined && change.secret === 'differs';
  if (when.type !== undefined && !isOnlyContent && !when.type.includes((after ?? before)?.type as never)) return false;
  if (when.modeWithin !== undefined && !isOnlyContent) {
    if (after === undefined || (after.mode & ~when.modeWithin) !== 0) return false;
  }
  if (when.uid !== undefined && !isOnlyContent && (after === undefined || !when.uid.includes(after.uid))) return false;
  if (when.has !== undefined && !when.has.some((trait) => isTrue(trait, before) || isTrue(trait, after))) return false;
  if (when.gains !== undefined && !when.gains.some((trait) => isTrue(trait, after) && !isTrue(trait, before)))
    return false;
  if (when.link !== undefined) {
    const target = after?.link;
    if (target === undefined || !when.link.some((glob) => matchesGlob(glob, target))) return false;
  }
  if (when.sha256 !== undefined && (after?.sha256 === undefined || !when.sha256.includes(after.sha256))) return false;
  return true;
}

function isTrue(trait: Trait, facts: Facts | undefined): boolean {
  if (facts === undefined) return false;
  const { type, mode } = facts;
  switch (trait) {
    case 'setuid':
      return type === 'file' && (mode & 0o4000) !== 0;
    case 'setgid':
      return type === 'file' && (mode & 0o2000) !== 0;
    case 'capability':
      return facts.capability !== undefined;
    case 'executable':
      return type === 'file' && (mode & 0o111) !== 0;
    case 'world-writable':
      // The sticky bit makes a shared folder safe; a symlink's mode means nothing.
      return type !== 'symlink' && (mode & 0o002) !== 0 && !(type === 'dir' && (mode & 0o1000) !== 0);
    case 'device':
      return type === 'char' || type === 'block';
    case 'not-root-owned':
      return facts.uid !== 0;
  }
}
