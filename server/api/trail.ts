/** Entries of the trail as the API tells them. */
import { z } from '@hono/zod-openapi';
import { formatInstant } from '#src/clock.ts';
import type * as r from '#server/store/records.ts';
import { Time } from './schemas.ts';

export const AuditEntry = z
  .object({
    id: z.string(),
    at: Time,
    actor: z.string(),
    action: z.string(),
    object: z.string(),
    note: z.string().nullable(),
    before: z.unknown(),
    after: z.unknown(),
  })
  .openapi('AuditEntry', { description: 'Who did what to what, with how it was before and after.' });

export function auditJson(entry: r.AuditEntry): z.infer<typeof AuditEntry> {
  return { ...entry, at: formatInstant(entry.at) };
}
