/** What the API tells of policies: versions, rules, and what another one would change. */
import { z } from '@hono/zod-openapi';
import { POLICY_DOCUMENTS_MAX, YAML_BYTES_MAX } from '#src/limits.ts';
import { FactsJson } from '#src/manifest/json.ts';
import { Severity, Time } from './schemas.ts';

export const PolicyVersion = z
  .object({
    version: z.int().openapi({ description: 'Rises by one with each policy that is applied; the highest one judges.' }),
    active: z.boolean(),
    name: z.string(),
    digest: z.string(),
    origin: z.enum(['shipped', 'api', 'files']),
    place: z.string().nullable().openapi({ description: 'The file or folder that it came from.' }),
    commit: z.string().nullable().openapi({ description: 'Of the git repository around it.' }),
    note: z.string().nullable(),
    at: Time,
    by: z.string(),
  })
  .openapi('PolicyVersion');

const Document = z.strictObject({
  file: z
    .string()
    .min(1)
    .max(200)
    .refine((text) => !text.includes('\0'), 'must not hold a NUL')
    .openapi({ description: 'Its name, as errors show it.' }),
  text: z
    .string()
    .max(YAML_BYTES_MAX + 1)
    .refine((text) => !text.includes('\0'), 'must not hold a NUL'),
});
export const Documents = z.array(Document).min(1).max(POLICY_DOCUMENTS_MAX);

export const PolicyRule = z
  .object({
    id: z.string(),
    on: z.string().openapi({ description: '`files`, `accounts`, or the subject of a state rule.' }),
    effect: z.enum(['expected-local', 'allowed', 'forbidden']),
    severity: z.string().nullable(),
    verdict: z.string().nullable(),
    reason: z.string(),
    controls: z.array(z.string()),
    paths: z.array(z.string()),
    selected: z.boolean().openapi({ description: 'It is about some hosts only.' }),
    file: z.string().nullable(),
    line: z.int().nullable(),
  })
  .openapi('PolicyRule');

export const PolicyTerms = z.object({
  reportEveryMs: z.int(),
  lateAfterMs: z.int(),
  silentAfterMs: z.int(),
  behindTagAfterMs: z.int().nullable(),
  imageAgeMaxMs: z.int().nullable(),
});

export const PolicyVersionDetail = PolicyVersion.extend({
  description: z.string(),
  freshness: PolicyTerms,
  documents: z.array(z.object({ file: z.string(), text: z.string() })),
  rules: z
    .array(PolicyRule)
    .openapi({ description: 'As they are tried: within one subject the first that matches decides.' }),
}).openapi('PolicyVersionDetail');

export const PolicyList = z.object({
  active: z.int().nullable().openapi({ description: 'Null where the server was given a policy of no version.' }),
  digest: z.string().openapi({ description: 'Of the policy that judges.' }),
  rejudging: z.boolean().openapi({ description: 'Hosts are being judged anew under it.' }),
  managed: z
    .object({
      place: z.string(),
      problem: z
        .object({ at: Time, lines: z.array(z.string()) })
        .nullable()
        .openapi({ description: 'Why what lies there now does not count; the version before goes on judging.' }),
    })
    .nullable()
    .openapi({ description: 'The policy is changed there, and cannot be changed here.' }),
  items: z.array(PolicyVersion),
  next: z.string().nullable(),
});

const Change = z.enum(['added', 'removed', 'rerated']);
export const PolicyDiff = z
  .object({
    before: z.string().openapi({ description: 'Digest of the policy that it is compared with.' }),
    after: z.string(),
    hosts: z.object({ judged: z.int(), changed: z.int(), unjudged: z.int() }),
    findings: z.object({ added: z.int(), removed: z.int(), rerated: z.int() }),
    rules: z.array(
      z.object({
        rule: z.string(),
        kind: z.string(),
        severity: z.object({ before: Severity.nullable(), after: Severity.nullable() }),
        added: z.int(),
        removed: z.int(),
        rerated: z.int(),
        hosts: z.int(),
        examples: z.array(z.object({ host: z.string(), name: z.string(), text: z.string(), change: Change })),
      }),
    ),
    verdicts: z.array(z.object({ from: z.string(), to: z.string(), hosts: z.int() })),
    next: z
      .string()
      .nullable()
      .openapi({ description: 'Where the next part of the fleet begins; the parts add up. Null: this is all.' }),
  })
  .openapi('PolicyDiff', { description: 'What the last reports of hosts are under one policy and under another.' });

const Meets = z.enum(['shadowed', 'same', 'untold']);
export const ImagePreview = z
  .object({
    before: z.string(),
    after: z.string(),
    changed: z.int().openapi({ description: 'Paths of /etc that the newer image changes; at most 500 are told.' }),
    hosts: z.object({
      looked: z.int(),
      shadowed: z.int().openapi({ description: 'Hosts on which a file of their own hides something new.' }),
      unjudged: z.int(),
    }),
    paths: z.array(
      z.object({
        path: z.string().optional(),
        path_b64: z.string().optional(),
        change: z.enum(['added', 'removed', 'modified']),
        before: FactsJson.nullable(),
        after: FactsJson.nullable(),
        shadowed: z.int(),
        same: z.int().openapi({ description: 'Hosts whose own file is what the newer image brings.' }),
        untold: z.int().openapi({ description: 'Hosts with a secret of their own there.' }),
        examples: z.array(z.object({ host: z.string(), name: z.string(), meets: Meets })),
      }),
    ),
    next: z.string().nullable().openapi({ description: 'Where the next part of the hosts begins; the parts add up.' }),
  })
  .openapi('ImagePreview');
