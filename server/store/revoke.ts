/** The end of a token, of enrolment or of the API: once, with how it was in the trail, and without its hash there. */
import { writeAudit } from './audit.ts';
import type { Tx } from './engine.ts';
import type * as r from './records.ts';
import type { Tables } from './tables.ts';

/** False where it is revoked already, or there is none. `shown`: as the trail may show it. */
export async function revokeIn<T extends 'token' | 'api_token'>(
  tx: Tx,
  table: T,
  id: string,
  by: r.Act,
  shown: (row: Tables[T]) => object,
): Promise<boolean> {
  const row = await tx.db
    .updateTable(table as 'token')
    .set({ revoked_at: by.at })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .returningAll()
    .executeTakeFirst();
  if (row === undefined) return false;
  const noun = table.replace('_', '-');
  const after = shown(row as Tables[T]);
  const before = { ...after, revokedAt: null };
  await writeAudit(tx, by, { action: `${noun}.revoke`, object: `${noun}:${id}`, before, after });
  return true;
}
