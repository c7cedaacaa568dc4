/** `/api/v1/policies`: versions of the host policy, what another one would change, and applying it (docs/policy.md, section 12). */
import { z } from '@hono/zod-openapi';
import { formatInstant } from '#src/clock.ts';
import { DocumentError } from '#src/document/yaml.ts';
import type { Policy } from '#src/policy/document.ts';
import { policyOfDocuments, type PolicyDocumentText } from '#src/policy/documents.ts';
import { diffPolicies } from '#server/dryrun.ts';
import type { Judged } from '#server/trial.ts';
import { isRejudging, PolicyError } from '#server/policies.ts';
import type { PolicyVersion as VersionRecord } from '#server/store/policyrecords.ts';
import { ApiError, type Fault } from './problem.ts';
import {
  Documents,
  PolicyDiff,
  PolicyList,
  PolicyVersion,
  PolicyVersionDetail,
  type PolicyRule,
  type PolicyTerms,
} from './policyschemas.ts';
import { boundTo, CURSOR, LIMIT, parseCursor, printCursor } from './query.ts';
import { actOf, adminRoute, body, json, type Api } from './route.ts';
import type { ApiServices } from './services.ts';

const listPolicies = adminRoute({
  method: 'get',
  path: '/api/v1/policies',
  operationId: 'listPolicies',
  tags: ['policies'],
  request: { query: z.strictObject({ limit: LIMIT, cursor: CURSOR }) },
  responses: {
    200: json(PolicyList, 'Versions of the policy, newest first.'),
  },
});

const VersionParam = z.object({
  version: z
    .string()
    .regex(/^[1-9][0-9]{0,8}$/, 'expected the number of a version')
    .openapi({ param: { name: 'version', in: 'path' }, type: 'integer' }),
});

const getPolicy = adminRoute({
  method: 'get',
  path: '/api/v1/policies/{version}',
  operationId: 'getPolicy',
  tags: ['policies'],
  request: { params: VersionParam },
  responses: { 200: json(PolicyVersionDetail, 'One version, with its text and its rules.') },
});

const applyPolicy = adminRoute({
  method: 'post',
  path: '/api/v1/policies',
  operationId: 'applyPolicy',
  tags: ['policies'],
  request: {
    body: body(
      z.strictObject({
        documents: Documents,
        note: z
          .string()
          .max(1000)
          .refine((text) => !text.includes('\0'), 'must not hold a NUL')
          .nullable()
          .default(null),
        expect: z
          .int()
          .min(1)
          .optional()
          .openapi({ description: 'The version that must still count; another one is a conflict.' }),
      }),
    ),
  },
  responses: {
    200: json(
      z.object({ version: z.int(), unchanged: z.boolean() }),
      'It counts from now on, and every host is judged anew. `unchanged`: it counted already.',
    ),
  },
});

const diffPolicy = adminRoute({
  method: 'post',
  path: '/api/v1/policies/diff',
  operationId: 'diffPolicy',
  tags: ['policies'],
  request: {
    body: body(
      z
        .strictObject({
          documents: Documents.optional(),
          version: z.int().min(1).optional(),
          against: z
            .union([z.strictObject({ version: z.int().min(1) }), z.strictObject({ documents: Documents })])
            .optional()
            .openapi({ description: 'What it is compared with; else the version that counts.' }),
          cursor: CURSOR,
        })
        .refine(
          ({ documents, version }) => (documents === undefined) !== (version === undefined),
          'give documents or a version',
        ),
    ),
  },
  responses: { 200: json(PolicyDiff, 'Nothing is written.') },
});

/** How long one answer is worked on: below what proxies wait for. */
const DIFF_MS = 10_000;

const HostKeys = z.strictObject({ sort: z.literal('name'), name: z.string(), id: z.string() });

export function policyRoutes(api: Api, services: ApiServices): void {
  const { store, clock, policies, wake } = services;

  api.openapi(listPolicies, async (c) => {
    const { limit, cursor } = c.req.valid('query');
    const bound = boundTo('policies', {});
    const page = await store.policies.list({
      cursor: parseCursor(cursor, bound, z.strictObject({ n: z.int() })),
      limit,
    });
    const { managed } = policies;
    return c.json(
      {
        active: policies.version?.n ?? null,
        digest: policies.current.digest,
        rejudging: await isRejudging(services),
        managed:
          managed === null
            ? null
            : {
                place: managed.place,
                problem:
                  managed.problem === null
                    ? null
                    : { at: formatInstant(managed.problem.at), lines: [...managed.problem.lines] },
              },
        items: page.items.map((version) => versionJson(version, policies.version?.n)),
        next: printCursor(page, bound),
      },
      200,
    );
  });

  api.openapi(getPolicy, async (c) => {
    const n = Number(c.req.valid('param').version);
    const { version, policy } = await told(() => policies.get(n));
    return c.json(
      {
        ...versionJson(version, policies.version?.n),
        description: policy.description,
        freshness: termsJson(policy),
        documents: version.documents.map(({ file, text }) => ({ file, text })),
        rules: rulesJson(policy),
      },
      200,
    );
  });

  api.openapi(applyPolicy, async (c) => {
    const { documents, note, expect } = c.req.valid('json');
    const applied = await told(() => policies.apply(documents, { note, expect }, actOf(c, clock())));
    wake();
    return c.json({ version: applied.version, unchanged: applied.unchanged }, 200);
  });

  api.openapi(diffPolicy, async (c) => {
    const { documents, version, against, cursor } = c.req.valid('json');
    const before = against === undefined ? { policy: policies.current } : await told(() => wanted(against, services));
    const after = await told(() => wanted({ documents, version }, services));
    const bound = boundTo('policy diff', { before: before.policy.digest, after: after.policy.digest });
    const from = parseCursor(cursor, bound, HostKeys);
    const diff = await diffPolicies(
      { before, after, shipped: policies.shipped },
      { cursor: from, until: clock() + DIFF_MS },
      services,
    );
    return c.json(
      {
        before: before.policy.digest,
        after: after.policy.digest,
        hosts: diff.hosts,
        findings: diff.findings,
        rules: diff.rules.map(({ examples, ...rule }) => ({
          ...rule,
          examples: examples.map((each) => ({ ...each })),
        })),
        verdicts: diff.verdicts.map((each) => ({ ...each })),
        next: printCursor({ items: [], next: diff.next }, bound),
      },
      200,
    );
  });
}

/** One of both. */
type Wanted = { readonly documents?: PolicyDocumentText[] | undefined; readonly version?: number | undefined };

async function wanted({ documents, version }: Wanted, { policies }: ApiServices): Promise<Judged> {
  if (documents !== undefined) return policyOfDocuments(documents, policies.shipped);
  const { version: found, policy } = await policies.get(version!);
  return { policy, documents: found.documents };
}

/** Refusals of the policy room, as problems: each mistake of a document with its place. */
async function told<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof DocumentError) {
      const faults = error.problems.map(({ line, column, message }): Fault => ({
        pointer: '/documents',
        detail: `${error.file}:${line}:${column}: ${message}`,
      }));
      throw new ApiError('POLICY_INVALID', error.message, faults);
    }
    if (error instanceof PolicyError) throw new ApiError(error.code, error.message);
    throw error;
  }
}

function versionJson(version: VersionRecord, active: number | undefined): z.infer<typeof PolicyVersion> {
  const { n, name, digest, origin, place, commit, note, createdAt, createdBy } = version;
  return {
    version: n,
    active: n === active,
    name,
    digest,
    origin,
    place,
    commit,
    note,
    at: formatInstant(createdAt),
    by: createdBy,
  };
}

function termsJson({ freshness: f }: Policy): z.infer<typeof PolicyTerms> {
  return {
    reportEveryMs: f.reportEvery,
    lateAfterMs: f.lateAfter,
    silentAfterMs: f.silentAfter,
    behindTagAfterMs: f.behindTagAfter,
    imageAgeMaxMs: f.imageAgeMax,
  };
}

function rulesJson(policy: Policy): z.infer<typeof PolicyRule>[] {
  const one = (rule: Policy['files'][number] | Policy['state'][number] | Policy['accounts'][number], on: string) => ({
    id: rule.id,
    on,
    effect: rule.effect,
    severity: rule.effect === 'forbidden' ? rule.severity : null,
    verdict: rule.effect === 'forbidden' ? rule.verdict : null,
    reason: rule.reason,
    controls: [...rule.controls],
    paths: 'paths' in rule ? rule.paths.map(({ source }) => source) : [],
    selected: rule.hosts !== undefined || rule.except !== undefined,
    file: rule.place?.file ?? null,
    line: rule.place?.line ?? null,
  });
  return [
    ...policy.files.map((rule) => one(rule, 'files')),
    ...policy.accounts.map((rule) => one(rule, 'accounts')),
    ...policy.state.map((rule) => one(rule, rule.on)),
  ];
}
