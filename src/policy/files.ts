/** Which file rule a path's change falls under (docs/policy.md, sections 3 and 4): the first whose glob and conditions hold. */
import type { Drift, Secret } from '#src/drift/drift.ts';
import type { Facts } from '#src/manifest/entry.ts';
import { compareBytes, type ByteString } from '#src/bytes.ts';
import { POLICY_FOLDERS_MAX } from '#src/limits.ts';
import type { FileRule, Policy } from './document.ts';
import { askOfPath } from './condition.ts';
import { decide } from './decide.ts';
import { isAbout, NO_HOST, type HostFacts } from './host.ts';
import { changedAttributes, changeOf, type PathChange } from './judgement.ts';
import { matchesGlob, reachesInto } from './paths.ts';
import type { Trait } from './schema.ts';

/** What a rule may ask beside the change itself. */
export type Setting = {
  readonly host: HostFacts;
  /** The host told which accounts are not the image's, so that what differs in /etc/passwd is judged one by one. */
  readonly accountsTold: boolean;
};

/** The first rule that names the path and whose conditions hold; undefined where no rule does. */
export function fileRuleFor(
  policy: Pick<Policy, 'files'>,
  change: PathChange,
  setting: Setting = { host: NO_HOST, accountsTold: false },
): FileRule | undefined {
  const { path } = change;
  const names = path.split('/');
  return decide(candidates(policy.files, `/${names[1]}/${names[2] ?? ''}`), (rule) =>
    rule.paths.some((glob) => matchesGlob(glob, path, names)) ? whyNot(rule, change, setting) : 'paths',
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

/** The first condition that does not hold, or `error` where CEL could not answer; undefined where the rule is about this change. */
export function whyNot(rule: FileRule, change: PathChange, { host, accountsTold }: Setting): string | undefined {
  if (!isAbout(rule, host)) return 'hosts';
  const { when } = rule;
  if (when.accounts !== undefined && (when.accounts === 'told') !== accountsTold) return 'accounts';
  const broken = unmet(when, change);
  if (broken !== undefined || when.cel === undefined) return broken;
  const { kind } = askOfPath(when.cel, change, host);
  return kind === 'true' ? undefined : kind === 'false' ? 'cel' : 'error';
}

/** A condition that asks for what a change does not have (the mode of a removed file) does not hold. */
function unmet(when: FileRule['when'], change: PathChange): string | undefined {
  const kind = changeOf(change);
  const before = change.drift !== undefined && 'expected' in change.drift ? change.drift.expected : undefined;
  const after = change.drift !== undefined && 'actual' in change.drift ? change.drift.actual : undefined;
  // `attributes` and `only` speak of modified paths: without `change` they mean those alone.
  const speaksOfModified = when.attributes !== undefined || when.only !== undefined;
  const kinds = when.change ?? (speaksOfModified ? ['modified'] : undefined);
  if (kinds !== undefined && !kinds.includes(kind)) return when.change === undefined ? 'only' : 'change';
  if (kind === 'modified' && speaksOfModified) {
    const changed = changedAttributes(change);
    if (when.attributes !== undefined && !when.attributes.some((name) => changed.has(name))) return 'attributes';
    if (when.only !== undefined && [...changed].some((name) => !when.only!.includes(name))) return 'only';
  }
  // A secret of which only the content differs: type, mode and owner are the image's own, so they are as they must be.
  const isOnlyContent = change.drift === undefined && change.secret === 'differs';
  if (when.type !== undefined && !isOnlyContent && !when.type.includes((after ?? before)?.type as never)) return 'type';
  if (when.modeWithin !== undefined && !isOnlyContent) {
    if (after === undefined || (after.mode & ~when.modeWithin) !== 0) return 'modeWithin';
  }
  if (when.uid !== undefined && !isOnlyContent && (after === undefined || !when.uid.includes(after.uid))) return 'uid';
  if (when.has !== undefined && !when.has.some((trait) => isTrue(trait, before) || isTrue(trait, after))) return 'has';
  if (when.gains !== undefined && !when.gains.some((trait) => isTrue(trait, after) && !isTrue(trait, before)))
    return 'gains';
  if (when.link !== undefined) {
    const target = after?.link;
    if (target === undefined || !when.link.some((glob) => matchesGlob(glob, target))) return 'link';
  }
  if (when.sha256 !== undefined && (after?.sha256 === undefined || !when.sha256.includes(after.sha256)))
    return 'sha256';
  return undefined;
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
