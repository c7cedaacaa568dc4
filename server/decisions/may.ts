/** Who may decide what (facts of the roles: docs/findings.md, section 7), asked before anything is written. */
import { BootproofError } from '#src/error.ts';
import { covers } from '#src/finding/scope.ts';
import { acting, isFleetWide, type Principal, type Role } from '#server/access/principal.ts';
import type { Act } from '#server/store/records.ts';
import type { Instant } from '#src/clock.ts';

export class DecisionError extends BootproofError<
  /** The asker's roles do not allow it. */
  | 'FORBIDDEN'
  /** There is no such host or group of findings, or it is not the asker's to see. */
  | 'FINDING_UNKNOWN'
  | 'WAIVER_UNKNOWN'
  | 'VIEW_UNKNOWN'
  /** A name that is taken, or more than are held. */
  | 'VIEW_CONFLICT'
  | 'BULK_UNKNOWN'
  /** Somebody else changed it since it was read. */
  | 'STALE_DECISION'
  /** An end in the past, or too far away. */
  | 'UNTIL_INVALID'
  /** A selector that pins content, and nothing there to pin. */
  | 'WAIVER_EMPTY'
  /** More than one act may cover, or everything without saying so. */
  | 'BULK_TOO_WIDE'
  /** The preview is over, was applied already, or cannot be taken back any more. */
  | 'BULK_OVER'
> {
  /** What stands now, of a decision about something older. */
  readonly current: { readonly revision: number } | undefined;

  constructor(code: DecisionError['code'], message: string, current?: { readonly revision: number }) {
    super(code, message);
    this.current = current;
  }
}

/**
 * The asker as far as one of these roles reaches: their groups are those in which it is held.
 * @throws {DecisionError} FORBIDDEN where they hold none of them.
 */
export function mustBe(who: Principal, what: string, ...roles: readonly Role[]): Principal {
  const held = acting(who, ...roles);
  if (held !== undefined) return held;
  const asked = roles.length > 1 ? roles.filter((role) => role !== 'admin') : roles;
  throw new DecisionError(
    'FORBIDDEN',
    `to ${what} is for ${asked.join(' or ')}; you are ${who.roles.join(', ') || 'without a role'}`,
  );
}

/** For what belongs to no host: the role must be held for every host group. @throws {DecisionError} FORBIDDEN */
export function mustBeEverywhere(who: Principal, what: string, ...roles: readonly Role[]): void {
  mustBe(who, what, ...roles);
  if (isFleetWide(who, ...roles)) return;
  throw new DecisionError('FORBIDDEN', `to ${what} is for ${roles.join(' or ')} of every host group`);
}

/** Whether a host of this group is the asker's. */
export function isTheirs({ groups }: Pick<Principal, 'groups'>, hostGroup: string | null): boolean {
  return covers(groups, hostGroup);
}

export function actOf(who: Pick<Principal, 'id'>, at: Instant, note?: string | null): Act {
  return { actor: who.id, at, ...(note === undefined || note === null ? {} : { note }) };
}
