/** `/api/v1/images/{digest}/trust`, `/api/v1/trust` and `/api/v1/deny`: who signed an image and why it counts, by what that is judged, what is denied. */
import { z } from '@hono/zod-openapi';
import { formatInstant, type Instant } from '#src/clock.ts';
import { deny, undeny } from '#server/decisions/deny.ts';
import type { ImageTrust } from '#server/store/trustrecords.ts';
import { imageFor } from '#server/decisions/images.ts';
import { refreshNow } from '#server/decisions/roots.ts';
import { trustHappened } from '#server/trust/events.ts';
import { toldOf } from '#server/trust/provenance.ts';
import { rootsTold, type RootTold } from '#server/trust/rootstold.ts';
import { whoOf } from './deciding.ts';
import { ApiError } from './problem.ts';
import { ImageParam } from './query.ts';
import { actOf, adminRoute, body, json, type Api } from './route.ts';
import { provenanceJson } from './provenance.ts';
import { Provenance, Time } from './schemas.ts';
import type { ApiServices } from './services.ts';

const TextOrNull = z.string().nullable();
const TimeOrNull = Time.nullable();
const Basis = z
  .object({ policy: z.string(), roots: z.string(), deny: z.string() })
  .openapi({ description: 'Digests of what the result was reached under.' });

const Proof = z
  .object({
    by: z.string(),
    kind: z.enum(['key', 'keyless']),
    fingerprint: z.string(),
    issuer: TextOrNull,
    subject: TextOrNull,
    serial: TextOrNull,
    certificate: TextOrNull.openapi({ description: 'DER in base64.' }),
    algorithm: z.string(),
    format: z.string(),
    signs: z.string(),
    predicateType: TextOrNull,
    entries: z.array(z.object({ log: z.string(), logId: z.string(), logIndex: z.string(), at: TextOrNull })),
    times: z.array(z.object({ at: Time, by: z.string() })),
    roots: z.array(z.object({ name: z.string(), sha256: z.string() })),
    where: z.string(),
    blob: z.string(),
  })
  .openapi('Proof', { description: 'A signature that counts: who, with what, when, and where it lay.' });

const outcome = { state: z.enum(['passed', 'failed', 'unverifiable']), code: TextOrNull, reason: TextOrNull };

const Trust = z
  .object({
    image: z.string(),
    provenance: Provenance,
    assessed: z.boolean(),
    state: z.enum(['trusted', 'unsigned', 'rejected', 'unverifiable', 'not-assessed']),
    since: TimeOrNull,
    verifiedAt: TimeOrNull,
    lookedAt: TimeOrNull.openapi({ description: 'When every place last answered.' }),
    unreachableSince: TimeOrNull,
    vanishedAt: TimeOrNull.openapi({ description: 'Since when its proof is gone from where it lay.' }),
    basis: Basis.nullable(),
    lastGood: z.object({ state: z.string(), at: Time, by: TextOrNull, basis: Basis }).nullable(),
    policies: z.array(
      z.object({
        name: z.string(),
        mode: z.enum(['enforce', 'warn']),
        ...outcome,
        authorities: z.array(z.object({ name: z.string(), ...outcome, proofs: z.array(Proof) })),
      }),
    ),
    warnings: z.array(z.object({ policy: z.string(), code: z.string(), reason: z.string() })),
    checked: z.array(
      z.object({
        where: z.string(),
        format: z.string(),
        outcome: z.enum(['verified', 'failed']),
        code: TextOrNull,
        reason: TextOrNull,
      }),
    ),
    looked: z.array(
      z.object({
        where: z.string(),
        outcome: z.string(),
        count: z.int(),
        code: TextOrNull,
        reason: TextOrNull,
      }),
    ),
    hostPolicy: z
      .object({ readable: z.boolean(), code: z.string(), reason: z.string() })
      .nullable()
      .openapi({ description: 'Whether hosts that enforce containers policy could read a signature.' }),
    events: z.array(z.object({ at: Time, event: z.string(), text: z.string() })).openapi({
      description: 'What happened to it, newest first: trust.change, signature-vanished, signature-returned.',
    }),
  })
  .openapi('Trust', {
    description: 'Who signed an image, as last found out, and the first reason where it does not count.',
  });

const getTrust = adminRoute({
  method: 'get',
  path: '/api/v1/images/{digest}/trust',
  operationId: 'getImageTrust',
  tags: ['images'],
  request: {
    params: ImageParam,
  },
  responses: { 200: json(Trust, 'What is known of who signed it.') },
});

const Root = z
  .object({
    name: z.string(),
    sha256: TextOrNull.openapi({ description: 'Null: it is not here, and what needs it cannot be told.' }),
    from: z.enum(['file', 'document', 'tuf']).nullable(),
    since: TimeOrNull.openapi({ description: 'Since when it is this one here.' }),
    refresh: z
      .object({
        mirror: z.string(),
        refreshedAt: TimeOrNull.openapi({ description: 'When the repository last answered, and all was right.' }),
        triedAt: TimeOrNull,
        expires: TimeOrNull.openapi({ description: 'Until when the repository vouched that this is its newest.' }),
        failure: z.object({ since: Time, code: z.string(), reason: z.string() }).nullable(),
      })
      .nullable()
      .openapi({ description: 'Null: nobody keeps it up.' }),
    endsNext: z.object({ what: z.string(), at: Time }).nullable(),
    setAside: z.array(z.string()),
    neededBy: z.array(z.string()),
  })
  .openapi('TrustRoot');

const getRoots = adminRoute({
  method: 'get',
  path: '/api/v1/trust',
  operationId: 'getTrust',
  tags: ['images'],
  request: { query: z.strictObject({}) },
  responses: {
    200: json(
      z.object({
        basis: Basis.nullable().openapi({ description: 'Null: no image policy is configured.' }),
        noMatch: z.enum(['unsigned', 'allow', 'not-assessed']).nullable(),
        policies: z.array(
          z.object({ name: z.string(), mode: z.enum(['enforce', 'warn']), globs: z.array(z.string()) }),
        ),
        notes: z.array(
          z.object({ file: z.string(), line: z.int(), policy: z.string(), code: z.string(), message: z.string() }),
        ),
        roots: z.array(Root),
        denied: z.int(),
      }),
      'What images are judged by: policies, what their authors should know, trust roots with their age, how much is denied.',
    ),
  },
});

const refresh = adminRoute({
  method: 'post',
  path: '/api/v1/trust/roots/{name}/refresh',
  operationId: 'refreshTrustRoot',
  tags: ['images'],
  request: {
    params: z.object({
      name: z
        .string()
        .max(253)
        .openapi({ param: { name: 'name', in: 'path' } }),
    }),
  },
  responses: { 200: json(z.object({ asked: z.boolean() }), 'Its repository is asked at once.') },
});

const Identity = z.strictObject({
  issuer: z.string().max(2048).optional(),
  issuerRegExp: z.string().max(2048).optional(),
  subject: z.string().max(2048).optional(),
  subjectRegExp: z.string().max(2048).optional(),
});
export const DenyEntry = z
  .strictObject({
    image: z.string().max(80).optional(),
    key: z.string().max(80).optional(),
    identity: Identity.optional(),
    certificate: z.string().max(128).optional(),
    logEntry: z.strictObject({ log: z.string().max(64), index: z.union([z.int(), z.string().max(20)]) }).optional(),
    from: z
      .string()
      .max(40)
      .optional()
      .openapi({ format: 'date-time', description: 'What was provably signed before stays; absent: always.' }),
    reason: z
      .string()
      .max(1000)
      .refine((text) => !text.includes('\0'), 'must not hold a NUL'),
  })
  .openapi('DenyEntry', { description: 'Exactly one of image, key, identity, certificate, logEntry.' });

export const Denied = z.object({ id: z.string(), entry: DenyEntry, createdAt: Time, createdBy: z.string() });

const listDenied = adminRoute({
  method: 'get',
  path: '/api/v1/deny',
  operationId: 'listDenied',
  tags: ['images'],
  request: { query: z.strictObject({}) },
  responses: { 200: json(z.object({ items: z.array(Denied) }), 'What is denied, beside what image policies deny.') },
});

const putDenied = adminRoute({
  method: 'put',
  path: '/api/v1/deny',
  operationId: 'deny',
  tags: ['images'],
  request: { body: body(DenyEntry) },
  responses: {
    200: json(z.object({ id: z.string() }), 'Denied; every image is judged again at once, without asking a registry.'),
  },
});

const deleteDenied = adminRoute({
  method: 'delete',
  path: '/api/v1/deny/{id}',
  operationId: 'undeny',
  tags: ['images'],
  request: {
    params: z.object({
      id: z
        .string()
        .max(64)
        .openapi({ param: { name: 'id', in: 'path' } }),
    }),
  },
  responses: { 200: json(z.object({ done: z.boolean() }), 'No longer denied; false where it was not.') },
});

const timeOrNull = (at: Instant | null): string | null => (at === null ? null : formatInstant(at));

export function trustRoutes(api: Api, services: ApiServices): void {
  const { store, clock, trust, wake } = services;

  api.openapi(getTrust, async (c) => {
    const found = await imageFor(whoOf(c), c.req.valid('param').digest, store);
    if (found === undefined) throw new ApiError('IMAGE_UNKNOWN', 'no host has named this image');
    const { digest } = found.image;
    const { facts } = await trust.of(digest);
    // What an older policy found is no answer once there is none.
    const known =
      facts.provenance.state === 'not-assessed' && services.basis.current === null
        ? undefined
        : await store.trust.get(digest);
    const events = (await trustHappened(digest, store)).map(({ at, ...rest }) => ({ at: formatInstant(at), ...rest }));
    return c.json({ image: digest, provenance: provenanceJson(facts.provenance), ...trustJson(known), events }, 200);
  });

  api.openapi(getRoots, async (c) => {
    const { basis } = services;
    await basis.renew();
    const policy = basis.setup?.policy;
    const roots = await rootsTold(basis, store, clock());
    return c.json(
      {
        basis: basis.current === null ? null : { ...basis.current },
        noMatch: policy?.noMatch ?? null,
        policies: (policy?.policies ?? []).map(({ name, mode, globs }) => ({
          name,
          mode,
          globs: globs.map((glob) => glob.source),
        })),
        notes: (policy?.lints ?? []).map(({ file, line, policy: about, code, message }) => ({
          file,
          line,
          policy: about,
          code,
          message,
        })),
        roots: roots.map(rootJson),
        denied: basis.denied.length + (policy?.deny.length ?? 0),
      },
      200,
    );
  });

  api.openapi(refresh, async (c) => {
    const { name } = c.req.valid('param');
    await refreshNow(name, actOf(c, clock()), services);
    wake();
    return c.json({ asked: true }, 200);
  });

  api.openapi(listDenied, async (c) => {
    const items = await store.denials.list();
    return c.json(
      {
        items: items.map(({ id, entry, createdAt, createdBy }) => ({
          id,
          entry: entry as z.infer<typeof DenyEntry>,
          createdAt: formatInstant(createdAt),
          createdBy,
        })),
      },
      200,
    );
  });

  api.openapi(putDenied, async (c) => {
    const id = await deny(c.req.valid('json'), actOf(c, clock()), services);
    wake();
    return c.json({ id }, 200);
  });

  api.openapi(deleteDenied, async (c) => {
    const done = await undeny(c.req.valid('param').id, actOf(c, clock()), services);
    wake();
    return c.json({ done }, 200);
  });
}

function rootJson({ since, refresh: kept, endsNext, setAside, neededBy, ...rest }: RootTold): z.infer<typeof Root> {
  return {
    ...rest,
    since: timeOrNull(since),
    refresh:
      kept === null
        ? null
        : {
            mirror: kept.mirror,
            refreshedAt: timeOrNull(kept.refreshedAt),
            triedAt: timeOrNull(kept.triedAt),
            expires: timeOrNull(kept.expires),
            failure: kept.failure === null ? null : { ...kept.failure, since: formatInstant(kept.failure.since) },
          },
    endsNext: endsNext === null ? null : { what: endsNext.what, at: formatInstant(endsNext.at) },
    setAside: [...setAside],
    neededBy: [...neededBy],
  };
}

function trustJson(trust: ImageTrust | undefined): Omit<z.infer<typeof Trust>, 'image' | 'provenance' | 'events'> {
  if (trust === undefined)
    return {
      assessed: false,
      state: 'not-assessed',
      since: null,
      verifiedAt: null,
      lookedAt: null,
      unreachableSince: null,
      vanishedAt: null,
      basis: null,
      lastGood: null,
      policies: [],
      warnings: [],
      checked: [],
      looked: [],
      hostPolicy: null,
    };
  const { policies, warnings, checked, looked, hostPolicy } = toldOf(trust);
  const { lastGood } = trust;
  return {
    assessed: true,
    state: trust.state,
    since: formatInstant(trust.since),
    verifiedAt: formatInstant(trust.verifiedAt),
    lookedAt: timeOrNull(trust.lookedAt),
    unreachableSince: timeOrNull(trust.unreachableSince),
    vanishedAt: timeOrNull(trust.vanishedAt),
    basis: { ...trust.basis },
    lastGood:
      lastGood === null
        ? null
        : {
            state: lastGood.state,
            at: formatInstant(lastGood.at),
            by: toldOf(lastGood).by,
            basis: { ...lastGood.basis },
          },
    policies: policies.map((policy) => ({
      ...policy,
      authorities: policy.authorities.map((authority) => ({
        ...authority,
        proofs: authority.proofs.map((proof) => ({
          ...proof,
          entries: proof.entries.map((entry) => ({ ...entry })),
          times: proof.times.map((time) => ({ ...time })),
          roots: proof.roots.map((root) => ({ ...root })),
        })),
      })),
    })),
    warnings: warnings.map((warning) => ({ ...warning })),
    checked: checked.map((each) => ({ ...each })),
    looked: looked.map(({ where, outcome, count, code, reason }) => ({
      where,
      outcome,
      count,
      code: code ?? null,
      reason: reason ?? null,
    })),
    hostPolicy: hostPolicy === null ? null : { ...hostPolicy },
  };
}
