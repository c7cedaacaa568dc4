/** Which rule decides about a path's change, which ones it keeps from deciding, and what of the others does not hold (docs/policy.md, section 13.2). */
import type { FileRule, Policy } from './document.ts';
import { fileRuleFor, whyNot, type Setting } from './files.ts';
import type { PathChange } from './judgement.ts';
import { matchesGlob } from './paths.ts';
import { UNNAMED } from './state.ts';

export type Explained = {
  /** Null where no rule is about it: then it is a finding under `unnamed`. */
  readonly decides: FileRule | null;
  readonly unnamed: (typeof UNNAMED)['usr' | 'etc'] | null;
  /** Rules behind it that would decide were it not there, in their order. */
  readonly shadowed: readonly FileRule[];
  /** Rules whose globs name the path and of which something else does not hold: the first such condition; `error`: its CEL gave no answer. */
  readonly passed: readonly { readonly rule: FileRule; readonly condition: string }[];
};

export function explainPath(policy: Pick<Policy, 'files'>, change: PathChange, setting: Setting): Explained {
  const decides = fileRuleFor(policy, change, setting) ?? null;
  const shadowed: FileRule[] = [];
  const passed: { rule: FileRule; condition: string }[] = [];
  for (const rule of policy.files) {
    if (rule === decides || !rule.paths.some((glob) => matchesGlob(glob, change.path))) continue;
    const condition = whyNot(rule, change, setting);
    if (condition === undefined) shadowed.push(rule);
    else passed.push({ rule, condition });
  }
  const tree = change.path === '/etc' || change.path.startsWith('/etc/') ? 'etc' : 'usr';
  return { decides, unnamed: decides === null ? UNNAMED[tree] : null, shadowed, passed };
}
