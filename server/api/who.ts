/** Who asks, of a request with a bearer: a person's or service's token, or the first day's admin token. */
import type { Context } from 'hono';
import type { Principal } from '#server/access/principal.ts';
import { bearerOf } from '#server/access/token.ts';
import { ApiError } from './problem.ts';
import type { ApiServices } from './services.ts';

/** @throws {ApiError} UNAUTHENTICATED; TOO_MANY_FAILURES where an address brings nothing but wrong ones. */
export async function whoAsks(c: Context, { access, log }: Pick<ApiServices, 'access' | 'log'>): Promise<Principal> {
  const bearer = bearerOf(c.req.header('authorization'));
  if (bearer === undefined)
    throw new ApiError('UNAUTHENTICATED', 'a token is asked for: Authorization: Bearer bp_… (or the admin token)');
  const who = await access.bearer(bearer);
  if (who !== undefined) return who;
  const address = access.addressOf(c);
  const wait = access.wrongBearer(address);
  if (wait > 0)
    throw new ApiError(
      'TOO_MANY_FAILURES',
      `too many wrong tokens came from this address; the next is looked at in ${wait} seconds`,
      [],
      wait,
    );
  log('info', 'token refused', { address });
  throw new ApiError(
    'UNAUTHENTICATED',
    'this token is not known here, is over, or was revoked; make another one under Settings, or with `bootproof access tokens create`',
  );
}
