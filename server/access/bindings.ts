/** From what is bound to an account, in the store and in the server's settings, to what it may do. */
import { BootproofError } from '#src/error.ts';
import { GROUP_NAME } from '#src/finding/scope.ts';
import type { Account, Binding } from '#server/store/accessrecords.ts';
import { ROLES, type Grant, type Role } from './principal.ts';

export class BindingError extends BootproofError<'ROLE_SYNTAX'> {}

/** A role for everybody whom the provider counts to a group, from the server's settings: not changed over the API. */
export type Configured = { readonly claim: string; readonly role: Role; readonly group: string | null };

/** `CLAIM=ROLE` or `CLAIM=ROLE@GROUP`, as the setting `--oidc-role` has it. @throws {BindingError} */
export function parseConfigured(text: string): Configured {
  const at = text.lastIndexOf('=');
  const [role = '', group, ...more] = text.slice(at + 1).split('@');
  const known = ROLES.find((one) => one === role);
  if (at < 1 || more.length > 0 || (group !== undefined && !GROUP_NAME.test(group)))
    throw new BindingError(
      'ROLE_SYNTAX',
      `${text}: expected CLAIM=ROLE or CLAIM=ROLE@HOST-GROUP, such as sre=operator@prod`,
    );
  if (known === undefined)
    throw new BindingError('ROLE_SYNTAX', `${text}: no role ${JSON.stringify(role)}; there are ${ROLES.join(', ')}`);
  return { claim: text.slice(0, at), role: known, group: group ?? null };
}

/** What an account may do: bindings of the store that are about it, and those of the settings for its claims. */
export function boundGrants(
  { kind, claims }: Pick<Account, 'kind' | 'claims'>,
  bindings: readonly Binding[],
  configured: readonly Configured[],
): Grant[] {
  const theirs = kind === 'person' ? configured.filter(({ claim }) => claims.includes(claim)) : [];
  return [...bindings, ...theirs].flatMap(({ role, group }): Grant[] => {
    // A role that a newer build knew: it gives nothing here.
    const known = ROLES.find((one) => one === role);
    return known === undefined ? [] : [{ role: known, groups: group === null ? null : [group] }];
  });
}
