/**
 * CEL in host policies (docs/policy.md, section 4.5): what a rule asks where globs and words are not enough. Its bounds and its refusals
 * are those of image policies.
 */
import { toUtf8 } from '#src/bytes.ts';
import { parseExpression, type ConditionResult, type Expression } from '#src/document/expression.ts';
import { POLICY_CONDITION_STEPS_MAX } from '#src/limits.ts';
import type { Facts } from '#src/manifest/entry.ts';
import { vis } from '#src/manifest/vis.ts';
import type { Account } from '#src/report/report.ts';
import type { HostFacts } from './host.ts';
import { changedAttributes, changeOf, type AccountChange, type PathChange } from './judgement.ts';

const HOST: readonly [string, readonly string[]] = ['host', ['labels', 'group', 'image']];
const FACTS = ['type', 'mode', 'uid', 'gid', 'size', 'sha256', 'link', 'capability', 'device'];

/** What a condition may speak of, by what its rule is about. */
export const CONDITION_VARIABLES = {
  files: new Map<string, readonly string[] | null>([
    ['path', null],
    ['change', null],
    ['attributes', null],
    ['before', FACTS],
    ['after', FACTS],
    HOST,
  ]),
  accounts: new Map<string, readonly string[] | null>([
    ['account', ['name', 'uid', 'gid', 'shell', 'hasPassword']],
    ['change', null],
    HOST,
  ]),
  overlay: new Map<string, readonly string[] | null>([
    ['overlay', ['path', 'kind', 'detail', 'writable', 'masks']],
    HOST,
  ]),
  layered: new Map<string, readonly string[] | null>([['name', null], HOST]),
  karg: new Map<string, readonly string[] | null>([['argument', null], HOST]),
  contradiction: new Map<string, readonly string[] | null>([['text', null], HOST]),
  hole: new Map<string, readonly string[] | null>([['hole', ['path', 'kind', 'detail']], HOST]),
} as const;
export type ConditionSubject = keyof typeof CONDITION_VARIABLES;

/** @throws {ConditionError} with the place inside the expression. */
export function parsePolicyCondition(source: string, about: ConditionSubject): Expression {
  return parseExpression(source, CONDITION_VARIABLES[about], {
    steps: POLICY_CONDITION_STEPS_MAX,
    subject: 'what it is asked of',
  });
}

const textOf = (path: string): string => toUtf8(path) ?? vis(path);

function factsOf(facts: Facts | undefined): Record<string, unknown> {
  if (facts === undefined) return {};
  const { mode, uid, gid, size, link, type, ...rest } = facts;
  return {
    ...Object.fromEntries(Object.entries(rest).filter(([name, value]) => FACTS.includes(name) && value !== undefined)),
    type,
    // As everywhere in policies; CEL has no octal numbers.
    mode: mode.toString(8).padStart(4, '0'),
    // Whole numbers are CEL's int; a JavaScript number would be a double.
    uid: BigInt(uid),
    gid: BigInt(gid),
    ...(size === undefined ? {} : { size: BigInt(size) }),
    ...(link === undefined ? {} : { link: textOf(link) }),
  };
}

function hostOf({ labels, group, image }: HostFacts): Record<string, unknown> {
  return {
    labels: new Map(labels),
    group: group ?? '',
    image: { digest: image.digest ?? '', repositories: [...image.repositories], version: image.version ?? '' },
  };
}

export function askOfPath(expression: Expression, change: PathChange, host: HostFacts): ConditionResult {
  const { path, drift } = change;
  return expression.run({
    path: textOf(path),
    change: changeOf(change),
    attributes: [...changedAttributes(change)],
    before: factsOf(drift !== undefined && 'expected' in drift ? drift.expected : undefined),
    after: factsOf(drift !== undefined && 'actual' in drift ? drift.actual : undefined),
    host: hostOf(host),
  });
}

export function askOfAccount(
  expression: Expression,
  account: Account,
  change: AccountChange,
  host: HostFacts,
): ConditionResult {
  const { uid, gid, ...rest } = account;
  return expression.run({ account: { ...rest, uid: BigInt(uid), gid: BigInt(gid) }, change, host: hostOf(host) });
}

/** `facts` as `CONDITION_VARIABLES` names them, without the host. */
export function askOfState(
  expression: Expression,
  facts: Readonly<Record<string, unknown>>,
  host: HostFacts,
): ConditionResult {
  return expression.run({ ...facts, host: hostOf(host) });
}
