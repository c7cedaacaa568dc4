/** Judgements on accounts that are not the image's (docs/policy.md, section 5.4), from what the agent worked out on the host. */
import { fromUtf8 } from '#src/bytes.ts';
import { REPORT_LIST_MAX } from '#src/limits.ts';
import type { Account, Accounts } from '#src/report/report.ts';
import { printableText } from '#src/terminal.ts';
import { askOfAccount } from './condition.ts';
import { decide } from './decide.ts';
import type { AccountRule, Policy } from './document.ts';
import { isAbout, type HostFacts } from './host.ts';
import { accountSignature, ACCOUNT_CHANGES, type AccountChange, type Judgement } from './judgement.ts';
import { matchesGlob, type Glob } from './paths.ts';
import { judgement, UNNAMED } from './state.ts';

/** Shells that let nobody in. An empty one is /bin/sh. */
const CLOSED = new Set(['nologin', 'false', 'sync', 'shutdown', 'halt']);
export const canLogIn = ({ shell }: Pick<Account, 'shell'>): boolean =>
  !CLOSED.has(shell.slice(shell.lastIndexOf('/') + 1));

/** Whether every account that differs was told: a list that was cut says nothing of those beyond. */
export function areAccountsTold(accounts: Accounts | null | undefined): accounts is Accounts {
  return (
    accounts !== null &&
    accounts !== undefined &&
    ACCOUNT_CHANGES.every((change) => accounts[change].length < REPORT_LIST_MAX)
  );
}

const matchesOne = (globs: readonly Glob[], text: string): boolean => {
  const bytes = fromUtf8(text);
  return globs.some((glob) => matchesGlob(glob, bytes));
};
const within = (ranges: readonly (readonly [number, number])[], id: number): boolean =>
  ranges.some(([from, to]) => from <= id && id <= to);

/** The first condition that does not hold, `error`, or undefined where the rule is about this account. */
export function whyNotAccount(
  rule: AccountRule,
  account: Account,
  change: AccountChange,
  host: HostFacts,
): string | undefined {
  if (!isAbout(rule, host)) return 'hosts';
  const { when } = rule;
  if (when.change !== undefined && !when.change.includes(change)) return 'change';
  if (when.names !== undefined && !matchesOne(when.names, account.name)) return 'names';
  if (when.uids !== undefined && !within(when.uids, account.uid)) return 'uids';
  if (when.gids !== undefined && !within(when.gids, account.gid)) return 'gids';
  if (when.shells !== undefined && !matchesOne(when.shells, account.shell)) return 'shells';
  if (when.login !== undefined && when.login !== canLogIn(account)) return 'login';
  if (when.password !== undefined && when.password !== account.hasPassword) return 'password';
  if (when.cel === undefined) return undefined;
  const { kind } = askOfAccount(when.cel, account, change, host);
  return kind === 'true' ? undefined : kind === 'false' ? 'cel' : 'error';
}

export function accountRuleFor(
  policy: Pick<Policy, 'accounts'>,
  account: Account,
  change: AccountChange,
  host: HostFacts,
): AccountRule | undefined {
  return decide(policy.accounts, (rule) => whyNotAccount(rule, account, change, host));
}

/** Nothing where the policy has no rules on accounts: then the rules on /etc/passwd are all there is. */
export function judgeAccounts(
  policy: Policy,
  accounts: Accounts | null | undefined,
  host: HostFacts,
): { readonly judgements: Judgement[]; readonly allowed: number } {
  const judgements: Judgement[] = [];
  let allowed = 0;
  if (policy.accounts.length === 0 || accounts === null || accounts === undefined) return { judgements, allowed };
  for (const change of ACCOUNT_CHANGES)
    for (const account of accounts[change]) {
      const rule = accountRuleFor(policy, account, change, host) ?? UNNAMED.account;
      // What is the machine's own is counted as the file that it stands in.
      if (rule.effect === 'allowed') allowed++;
      const signature = accountSignature(change, account);
      const found = judgement(rule, 'account', printableText(account.name), signature, {
        account: { ...account, name: printableText(account.name), shell: printableText(account.shell), change },
      });
      if (found !== undefined) judgements.push(found);
    }
  return { judgements, allowed };
}
