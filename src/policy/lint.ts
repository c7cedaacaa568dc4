/**
 * Rules that can never decide anything (docs/policy.md, section 13.3): their conditions exclude each other, or another rule stands before
 * them for everything that they name. File rules are tried with changes made to fit them, so that what is said here can be shown; a rule
 * that asks in CEL, or is for some hosts, may be about things that were not thought of, and is left alone where it cannot be told.
 */
import type { Drift } from '#src/drift/drift.ts';
import type { Facts } from '#src/manifest/entry.ts';
import type { Account } from '#src/report/report.ts';
import { whyNotAccount } from './accounts.ts';
import { plainRule } from './canonical.ts';
import type { AccountRule, FileRule, Policy, RuleBase, Section, StateRule } from './document.ts';
import { fileRuleFor, whyNot, type Setting } from './files.ts';
import { NO_HOST } from './host.ts';
import { ACCOUNT_CHANGES, type PathChange } from './judgement.ts';
import { witnessOf } from './paths.ts';

export type Lint = {
  readonly section: Section;
  readonly rule: string;
  readonly place: RuleBase['place'];
  readonly code: 'NEVER_MATCHES' | 'SHADOWED';
  readonly message: string;
  /** Ids of the rules that decide instead. */
  readonly by: readonly string[];
};

export function lintPolicy(policy: Policy): Lint[] {
  return [
    ...policy.files.flatMap((rule) => lintFile(policy, rule)),
    ...policy.accounts.flatMap((rule, index) => lintAccount(policy, rule, index)),
    ...policy.state.flatMap((rule, index) => lintState(policy, rule, index)),
  ];
}

const never = (section: Section, { id, place }: RuleBase, why: string): Lint[] => [
  { section, rule: id, place, code: 'NEVER_MATCHES', message: `${id} is about nothing: ${why}`, by: [] },
];
const shadowed = (section: Section, { id, place }: RuleBase, by: readonly string[]): Lint[] => [
  {
    section,
    rule: id,
    place,
    code: 'SHADOWED',
    message: `${id} decides nothing: ${by.join(', ')} ${by.length === 1 ? 'stands' : 'stand'} before it`,
    by,
  },
];

const MODES = [0o644, 0o755, 0o600, 0o440, 0, 0o666, 0o777, 0o4755, 0o2755, 0o1777];
const SHA = ['a'.repeat(64), 'b'.repeat(64)] as const;
const SETTINGS: readonly Setting[] = [false, true].map((accountsTold) => ({ host: NO_HOST, accountsTold }));

function lintFile(policy: Policy, rule: FileRule): Lint[] {
  // A rule for some hosts is tried as if it were for all: what stands before it does so for those, too.
  const free: FileRule = { ...rule, hosts: undefined, except: undefined };
  let fits = false;
  const by = new Set<string>();
  for (const path of rule.paths.flatMap(witnessOf))
    for (const change of changesFor(path, rule)) {
      const settings = SETTINGS.filter((setting) => whyNot(withoutCel(free), change, setting) === undefined);
      for (const setting of settings) {
        fits = true;
        const decider = fileRuleFor(policy, change, setting);
        // A rule for some hosts is no reason that another is not for the rest.
        if (decider === undefined || decider === rule || policy.files.indexOf(decider) > policy.files.indexOf(rule))
          return [];
        // What it asks in CEL held for what was tried, and may not for the rest.
        if (decider.when.cel !== undefined) return [];
        by.add(decider.id);
      }
    }
  // What CEL asks may hold for other things than those that were tried.
  if (!fits) return rule.when.cel === undefined ? never('files', rule, 'its conditions exclude each other') : [];
  return shadowed('files', rule, [...by].sort());
}

const withoutCel = (rule: FileRule): FileRule => ({ ...rule, when: { ...rule.when, cel: undefined } });

/** Changes of a path that a rule could be about: every kind, with the facts that its conditions ask for. */
function* changesFor(path: string, { when }: FileRule): Generator<PathChange> {
  const after = factsFor(when);
  const change = (drift: Drift): PathChange => ({ path, drift, secret: undefined });
  for (const actual of after) yield change({ path, change: 'added', actual });
  for (const expected of after) yield change({ path, change: 'removed', expected });
  const before = after.filter(({ uid, sha256 }) => uid === 0 && (sha256 === undefined || sha256 === SHA[0]));
  for (const expected of before)
    for (const actual of after)
      if (JSON.stringify(expected) !== JSON.stringify(actual))
        yield change({ path, change: 'modified', expected, actual });
  for (const secret of ['differs', 'added', 'removed'] as const) yield { path, drift: undefined, secret };
}

function factsFor(when: FileRule['when']): Facts[] {
  const modes = when.modeWithin === undefined ? MODES : [...new Set([...MODES, when.modeWithin])];
  const uids = [...new Set([0, 1000, ...(when.uid ?? []).slice(0, 2)])];
  const contents = [...new Set([...SHA, ...(when.sha256 ?? []).slice(0, 2)])];
  const owner = uids.map((uid) => ({ uid, gid: 0 }));
  const asks = (trait: string) => [...(when.has ?? []), ...(when.gains ?? [])].includes(trait as never);
  const asksCapability =
    asks('capability') || [...(when.attributes ?? []), ...(when.only ?? [])].includes('capability');
  const out: Facts[] = [];
  for (const own of owner) {
    for (const mode of modes) {
      for (const sha256 of own.uid === 0 && (mode & 0o7000) === 0 ? contents : contents.slice(0, 1))
        out.push({ type: 'file', mode, ...own, size: 1, sha256 });
      if (own.uid === 0) out.push({ type: 'dir', mode, ...own });
    }
    if (asksCapability) out.push({ type: 'file', mode: 0o755, ...own, size: 1, sha256: SHA[0], capability: 'AQ==' });
  }
  for (const link of ['x', ...(when.link ?? []).flatMap(witnessOf).slice(0, 4)])
    out.push({ type: 'symlink', mode: 0, uid: 0, gid: 0, link });
  for (const type of ['char', 'block'] as const) out.push({ type, mode: 0o600, uid: 0, gid: 0, device: '1:3' });
  for (const type of ['fifo', 'socket'] as const) out.push({ type, mode: 0o600, uid: 0, gid: 0 });
  return out;
}

function lintAccount(policy: Policy, rule: AccountRule, index: number): Lint[] {
  const free: AccountRule = { ...rule, hosts: undefined, except: undefined, when: { ...rule.when, cel: undefined } };
  const { when } = rule;
  const ids = (ranges: typeof when.uids) => [0, 1, 999, 1000, 65_534, ...(ranges ?? []).flat()];
  const names = ['root', 'q7x', ...(when.names ?? []).flatMap(witnessOf)];
  const shells = ['/bin/bash', '/sbin/nologin', '', '/q7x', ...(when.shells ?? []).flatMap(witnessOf)];
  let fits = false;
  const by = new Set<string>();
  for (const name of names)
    for (const uid of ids(when.uids))
      for (const gid of when.gids === undefined ? [uid] : ids(when.gids))
        for (const shell of shells)
          for (const hasPassword of [false, true])
            for (const change of ACCOUNT_CHANGES) {
              const account: Account = { name, uid, gid, shell, hasPassword };
              if (whyNotAccount(free, account, change, NO_HOST) !== undefined) continue;
              fits = true;
              const decider = policy.accounts.find(
                (other) => whyNotAccount(other, account, change, NO_HOST) === undefined,
              );
              if (decider === undefined || policy.accounts.indexOf(decider) >= index || decider.when.cel !== undefined)
                return [];
              by.add(decider.id);
            }
  if (!fits) return when.cel === undefined ? never('accounts', rule, 'its conditions exclude each other') : [];
  return shadowed('accounts', rule, [...by].sort());
}

/** A state rule is behind another of its subject that asks for nothing else, or for the same with more choices. */
function lintState(policy: Policy, rule: StateRule, index: number): Lint[] {
  const before = policy.state
    .slice(0, index)
    .find((other) => other.on === rule.on && !isMissing(other) && !isMissing(rule) && isWider(other, rule));
  return before === undefined ? [] : shadowed('state', rule, [before.id]);
}

/** What must not be missing is looked for by every rule, whoever stands before it. */
const isMissing = ({ when }: StateRule): boolean => 'missing' in when && when.missing !== undefined;

function isWider(other: StateRule, rule: StateRule): boolean {
  const same = (a: unknown, b: unknown) => JSON.stringify(plainRule(a)) === JSON.stringify(plainRule(b));
  if (other.except !== undefined && !same(other.except, rule.except)) return false;
  if (other.hosts !== undefined && !same(other.hosts, rule.hosts)) return false;
  return Object.entries(other.when).every(([key, asked]) => {
    const own = (rule.when as Readonly<Record<string, unknown>>)[key];
    if (asked === undefined || same(asked, own)) return true;
    const choices = plainRule(asked);
    const mine = plainRule(own);
    return Array.isArray(choices) && Array.isArray(mine) && mine.every((one) => choices.includes(one));
  });
}
