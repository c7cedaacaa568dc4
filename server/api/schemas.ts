/** The shapes of the API's answers: one source for types, checks and the OpenAPI document. Times are RFC 3339 in UTC. */
import { z } from '@hono/zod-openapi';
import { VERDICTS } from '#src/finding/verdict.ts';
import { GROUP_NAME, LABEL_KEY } from '#src/finding/scope.ts';
import { printableText } from '#src/terminal.ts';
import { JUDGEMENT_KINDS, SEVERITIES, WEIGHTS } from '#src/policy/judgement.ts';

export const Time = z.string().openapi({ format: 'date-time' });
const TimeOrNull = z.string().nullable().openapi({ format: 'date-time' });
const Count = z.int().min(0);
export const Severity = z.enum(SEVERITIES);
export const Labels = z.record(z.string(), z.string());
/** The name of a host group. */
export const GroupName = z
  .string()
  .regex(GROUP_NAME, 'expected letters, digits and . _ -, in parts with one / between, such as prod/web; at most 63');
/** The key of a label. */
export const LabelKey = z.string().regex(LABEL_KEY, 'expected letters, digits and . _ / -');
/** One line that a person wrote, without what cannot be seen. */
export const oneLine = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .refine((text) => isPrintable(text), 'expected one line of printable characters');
const isPrintable = (text: string): boolean => printableText(text) === text.replaceAll('\\', '\\\\');
export const LabelValue = z
  .string()
  .max(200)
  .refine((text) => !text.includes('\0'), 'must not hold a NUL');

export const Problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string(),
    requestId: z
      .string()
      .optional()
      .openapi({ description: 'As in the header X-Request-Id; the log of the server has it.' }),
    check: z.int().optional(),
    accepts: z.array(z.int()).optional(),
    errors: z
      .array(z.object({ pointer: z.string().optional(), parameter: z.string().optional(), detail: z.string() }))
      .optional(),
  })
  .openapi('Problem', { description: 'RFC 9457; `code` is stable, `detail` is for people.' });

export const Reason = z
  .object({
    text: z.string(),
    weight: z.enum(WEIGHTS),
    severity: Severity.optional(),
    rule: z.string().optional(),
    kind: z.enum(JUDGEMENT_KINDS).optional(),
    subject: z.string().optional(),
  })
  .openapi('Reason');

const Integrity = z
  .object({
    state: z.enum(['intact', 'drifted', 'masked', 'unverifiable']),
    code: z.string().nullable(),
    allowed: Count,
    local: Count,
    waived: Count,
  })
  .openapi('Integrity', { description: 'Is it the image, as far as policy allows?' });

export const Provenance = z
  .object({
    state: z.enum(['not-assessed', 'trusted', 'unsigned', 'rejected', 'unverifiable']),
    by: z.string().optional(),
    policy: z.string().optional(),
    why: z.string().optional(),
    since: Time.optional(),
  })
  .openapi('Provenance', { description: 'Is the image ours?' });

const Freshness = z
  .object({
    state: z.enum(['current', 'late', 'silent', 'outdated']),
    since: TimeOrNull,
    lateAfter: Time,
    silentAfter: Time,
  })
  .openapi('Freshness', { description: 'Did we hear, and is it current?' });

const Drift = z.object({ added: Count, removed: Count, modified: Count });
const Open = z.object({ critical: Count, high: Count, medium: Count, low: Count, info: Count });

const Slots = z.object({
  booted: z.string().nullable(),
  staged: z.string().nullable(),
  rollback: z.string().nullable(),
});

export const Host = z
  .object({
    id: z.string(),
    name: z.string(),
    state: z.enum(['active', 'pending', 'retired']),
    group: z.string().nullable(),
    labels: Labels,
    verdict: z.enum(VERDICTS),
    sentence: z.string(),
    since: Time,
    policy: z
      .object({ digest: z.string(), version: z.int().nullable() })
      .nullable()
      .openapi({ description: 'The host policy under which it was judged; null before the first judgement.' }),
    integrity: Integrity,
    provenance: Provenance,
    freshness: Freshness,
    reasons: z.array(Reason),
    drift: Drift.nullable(),
    images: Slots,
    findings: z.object({ open: Open, acknowledged: Count, waived: Count }),
    last: z
      .object({
        seq: Count,
        kind: z.enum(['full', 'same']),
        class: z.enum(['live', 'late', 'carried', 'none']),
        startedAt: Time,
        receivedAt: Time,
      })
      .nullable(),
    enrolledAt: Time,
  })
  .openapi('Host');

export const HostDetail = Host.extend({
  publicKey: z.string(),
  rule: z
    .string()
    .nullable()
    .openapi({ description: 'What the importing bootc made of the image (docs/manifest.md 4).' }),
  agent: z.object({ version: z.string(), config: z.string() }).nullable(),
  backend: z.string().nullable(),
  chain: z.object({
    head: Count,
    full: z.object({ seq: Count, digest: z.string() }).nullable(),
    same: Count,
    gaps: z.array(z.object({ from: Count, to: Count })),
    forkedAt: TimeOrNull,
    clonedAt: TimeOrNull,
    gapAt: TimeOrNull,
  }),
  refused: z.array(z.object({ code: z.string(), count: Count, firstAt: Time, lastAt: Time, detail: z.string() })),
  history: z.array(z.object({ at: Time, from: z.string(), to: z.string(), seq: Count.nullable() })),
}).openapi('HostDetail');

export const Group = z
  .object({
    id: z.string(),
    rule: z.string(),
    kind: z.string(),
    subject: z.string(),
    signature: z.unknown(),
    what: z.string().openapi({ description: 'In one line, for people.' }),
    severity: Severity,
    open: z.boolean(),
    firstSeen: Time,
    lastNewAt: Time,
    status: z
      .enum(['open', 'acknowledged', 'waived', 'resolved'])
      .openapi({ description: 'The first of these that it is on some host: the tab in which it is listed.' }),
    assignee: z.string().nullable(),
    revision: Count.openapi({ description: 'Of its assignment; If-Match names it.' }),
    regressed: z.boolean().openapi({ description: 'On some host it is back after it was resolved.' }),
    flapping: z.boolean().openapi({ description: 'On some host it opened and ended four times within a day.' }),
    hosts: z
      .object({ open: Count, acknowledged: Count, waived: Count, ever: Count, reopened: Count })
      .openapi({ description: 'Where a filter names hosts: of those alone.' }),
  })
  .openapi('FindingGroup', { description: 'The same finding on many hosts.' });

export const Finding = z
  .object({
    host: z.object({ id: z.string(), name: z.string() }),
    group: z.string(),
    rule: z.string(),
    kind: z.string(),
    subject: z.string(),
    what: z.string().openapi({ description: 'In one line, for people.' }),
    severity: Severity,
    status: z.enum(['open', 'acknowledged', 'waived', 'stale', 'resolved']),
    firstSeen: Time,
    openedAt: Time,
    resolvedAt: TimeOrNull,
    reopened: Count,
    disposition: z
      .enum(['none', 'acknowledged', 'waived'])
      .openapi({ description: 'What people decided; on a silent host the status is stale all the same.' }),
    waiver: z.string().nullable().openapi({ description: 'The waiver that covers it, or the last one that did.' }),
    until: TimeOrNull.openapi({ description: 'When the waiver or acknowledgement ends.' }),
    acknowledged: z.object({ by: z.string(), at: Time, until: Time, note: z.string().nullable() }).nullable(),
    returned: z
      .object({
        how: z.enum([
          'waiver_expired',
          'waiver_revoked',
          'waiver_changed',
          'acknowledgement_over',
          'acknowledgement_withdrawn',
        ]),
        what: z.string(),
        at: Time,
      })
      .nullable()
      .openapi({ description: 'Why it is open again that people had decided about.' }),
    regressed: z.boolean(),
    flapping: z.boolean(),
    reason: z.string().nullable(),
    controls: z.array(z.string()),
    detail: z.unknown(),
  })
  .openapi('Finding');

export const Image = z
  .object({
    digest: z.string(),
    state: z.enum(['pending', 'building', 'ready', 'failed']),
    reasons: z.array(z.object({ code: z.string(), text: z.string() })),
    attempts: Count,
    nextTry: TimeOrNull,
    firstSeen: Time,
    builtAt: TimeOrNull,
    config: z.string().nullable(),
    repositories: z.array(z.string()),
    claims: z
      .array(z.string())
      .openapi({ description: 'References as hosts claim them; nothing is fetched from there.' }),
    version: z.string().nullable(),
    provenance: Provenance,
    hosts: z.object({ booted: Count, staged: Count, rollback: Count }).optional(),
  })
  .openapi('Image');

export const ImageDetail = Image.extend({
  aliases: z.array(z.object({ alias: z.string(), kind: z.enum(['config', 'index', 'bare-hex']) })),
  warnings: z.unknown(),
  manifests: z.array(
    z.object({
      rule: z.string(),
      builtAt: Time,
      trees: z.record(
        z.string(),
        z.object({ main: z.object({ full: z.string(), comparison: z.string() }), extra: z.string(), entries: Count }),
      ),
    }),
  ),
}).openapi('ImageDetail');

export const Token = z
  .object({
    id: z.string(),
    labels: Labels,
    group: z.string().nullable(),
    maxUses: Count.nullable(),
    uses: Count,
    createdAt: Time,
    createdBy: z.string(),
    expiresAt: Time,
    revokedAt: TimeOrNull,
    usable: z.boolean(),
  })
  .openapi('Token');

export const Source = z
  .object({
    pattern: z.string(),
    plainHttp: z.boolean().openapi({ description: 'It is spoken to without TLS.' }),
    createdAt: Time,
    createdBy: z.string(),
  })
  .openapi('Source', { description: 'A repository that images may be fetched from.' });

export const ReportHead = z
  .object({
    seq: Count,
    kind: z.enum(['full', 'same', 'history', 'fork']),
    digest: z.string(),
    class: z.enum(['live', 'late', 'carried', 'none']),
    startedAt: Time,
    receivedAt: Time,
  })
  .openapi('ReportHead');
