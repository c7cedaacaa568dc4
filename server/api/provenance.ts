/** The provenance answer as the API tells it, of hosts and of images. */
import type { z } from '@hono/zod-openapi';
import { formatInstant } from '#src/clock.ts';
import type { Provenance as Answer } from '#src/finding/verdict.ts';
import type { Provenance } from './schemas.ts';

export function provenanceJson(provenance: Answer): z.infer<typeof Provenance> {
  return provenance.state === 'unverifiable'
    ? { ...provenance, since: formatInstant(provenance.since) }
    : { ...provenance };
}
