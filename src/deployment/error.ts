/** What this room refuses: texts of a host that are not what their name says. */
import { BootproofError } from '#src/error.ts';

export class DeploymentError extends BootproofError<
  | 'HOST_TEXT_TOO_LARGE'
  | 'BOOTC_STATUS_YAML'
  | 'BOOTC_STATUS_SYNTAX'
  | 'BOOTC_STATUS_VERSION'
  | 'RPMOSTREE_STATUS_SYNTAX'
  | 'ORIGIN_SYNTAX'
  | 'MOUNTINFO_SYNTAX'
  | 'GVARIANT_SYNTAX'
> {}

/** @throws {DeploymentError} HOST_TEXT_TOO_LARGE beyond `limit` characters or bytes. */
export function checkLength(what: string, length: number, limit: number): void {
  if (length > limit)
    throw new DeploymentError('HOST_TEXT_TOO_LARGE', `${what} has ${length} bytes; more than ${limit} are not read`);
}
