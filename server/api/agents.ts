/** The agents' routes: enrolment, reports, manifests (docs/report.md 4, 6, 7). Registered first: intake pays for nothing else. */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Context } from 'hono';
import { BodyError, isSmall, readBody } from '#server/ingest/body.ts';
import type { Hold } from '#server/ingest/quota.ts';
import { overloaded, ReportError } from '#server/ingest/reporterror.ts';
import { decodeBlob, headerOf, verityHeaderKey, verityTextKey, whyNoManifest } from '#server/ingest/known.ts';
import { bearerOf } from '#server/access/token.ts';
import { backendOf, type Rule } from '#src/image/backend.ts';
import { ENROLMENT_BYTES_MAX, REPORT_BYTES_MAX, SAME_BYTES_MAX } from '#src/limits.ts';
import { TREES, type TreeName } from '#src/manifest/entry.ts';
import { envelopeBytesMax } from '#src/signing/dsse.ts';
import { EnrolBody, NonceRequest } from '#src/wire/enrol.ts';
import { readBearer, type ManifestsPending } from '#src/wire/manifests.ts';
import { PATHS, ruleFromPath, TEXT_PARTS, type TextPart } from '#src/wire/paths.ts';
import type { z } from '@hono/zod-openapi';
import type { Blob } from '#server/store/records.ts';
import { ApiError } from './problem.ts';
import type { Api } from './route.ts';
import type { ApiServices } from './services.ts';

const gzipAsync = promisify(gzip);
const JSON_TYPE = { 'Content-Type': 'application/json' } as const;

/** Seconds after which a manifest that is being built may be there. */
const MANIFEST_RETRY_SECONDS = 10;

export function agentRoutes(app: Api, services: ApiServices): void {
  app.post(PATHS.reports, (c) => takeReport(c, services));
  app.post(PATHS.enrolNonce, async (c) => {
    const { tokenId } = await readJson(c.req.raw, 1024, NonceRequest);
    return c.json(services.enrolments.nonce(tokenId));
  });
  app.post(PATHS.enrol, async (c) => {
    const body = await readJson(c.req.raw, 4 * ENROLMENT_BYTES_MAX, EnrolBody);
    return c.json(await services.enrolments.enrol(body));
  });
  app.get(PATHS.manifests, (c) => sendHeaders(c, services));
  app.get(PATHS.manifestText, (c) => sendText(c, services));
  app.get(PATHS.manifestVerity, (c) => sendVerity(c, services));
}

/** Takes one report, and gives back the answer once it is durable. */
export async function takeReport(c: Context, { load, pipeline }: ApiServices, carried = false): Promise<Response> {
  const hold = load.open(!isSmall(c.req.raw, SAME_BYTES_MAX));
  if (hold === undefined) throw overloaded(TOO_MANY);
  try {
    const bytes = await readEnvelope(c.req.raw, hold);
    if (!hold.begin()) throw overloaded(TOO_MANY);
    return c.body(await pipeline.take(bytes, carried), 200, JSON_TYPE);
  } finally {
    hold.end();
  }
}

const TOO_MANY = 'too many reports are under way; send it again';

async function readEnvelope(request: Request, hold: Hold): Promise<Uint8Array> {
  const came = (bytes: number): void => {
    if (!hold.add(bytes)) throw overloaded(TOO_MANY);
  };
  try {
    return await readBody(request, envelopeBytesMax(REPORT_BYTES_MAX), came);
  } catch (error) {
    // report.md check 1, found before the bytes were decoded
    if (error instanceof BodyError && error.code === 'BODY_TOO_LARGE')
      throw new ReportError('REPORT_TOO_LARGE', error.message, { check: 1 });
    // Nothing is no envelope: check 2 says so. What merely does not decompress may have been cut on its way, and may come again.
    if (error instanceof BodyError && error.code === 'BODY_MISSING') return new Uint8Array();
    throw error;
  }
}

/** A small JSON document of an agent. */
async function readJson<T>(request: Request, max: number, schema: z.ZodType<T>): Promise<T> {
  const bytes = await readBody(request, max);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new ApiError('ENROL_SYNTAX', 'the body is not JSON in UTF-8');
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ApiError(
    'ENROL_SYNTAX',
    'the body is not as docs/report.md 6 says',
    parsed.error.issues.map(({ path, message }) => ({ pointer: `/${path.join('/')}`, detail: message })),
  );
}

/** A host that may fetch manifests, or a person with a token (then null). */
async function readerOf(c: Context, { clock, keys, store, access }: ApiServices): Promise<string | null> {
  const bearer = bearerOf(c.req.header('authorization'));
  if (bearer !== undefined) {
    const hostId = readBearer(bearer, clock(), keys.tickets);
    if (hostId !== undefined && (await store.hosts.get(hostId))?.state === 'active') return hostId;
    // Texts of an image are no host's; whoever reads findings reads them.
    if ((await access.bearer(bearer)) !== undefined) return null;
  }
  throw new ApiError('BEARER_INVALID', 'the bearer of the last answer is asked for; it is missing, over, or not ours');
}

async function sendHeaders(c: Context, services: ApiServices): Promise<Response> {
  const reader = await readerOf(c, services);
  const digest = c.req.param('digest')!;
  const backend = c.req.query('backend') ?? 'unknown';
  const known = await services.images.resolve(digest);
  if (known.kind === 'not-ready') {
    const { image, state } = known;
    if (image === undefined) {
      if (!/^(?:sha256:)?[0-9a-f]{64}$/.test(digest))
        throw new ApiError('MANIFEST_UNKNOWN', 'an image is asked for by its digest');
      // A host that asks before its first report: it booted this, so it is built (PROTOCOL 2.7), within the host's share.
      if (
        reader === null ||
        !(await services.noted.note(reader, [{ reported: digest, claim: null }], services.clock()))
      )
        throw new ApiError('MANIFEST_UNKNOWN', 'no host has named this image');
    }
    if (state.state === 'not-allowed')
      throw new ApiError('IMAGE_SOURCE_NOT_ALLOWED', state.detail ?? 'no allowed source has this image');
    if (state.state === 'failed' && image?.nextTry === null)
      throw new ApiError('MANIFEST_UNKNOWN', `there is no manifest of this image: ${state.code}`);
    const pending: ManifestsPending = { retryAfter: MANIFEST_RETRY_SECONDS };
    return c.json(pending, 202, { 'Retry-After': String(MANIFEST_RETRY_SECONDS) });
  }
  const headers = known.image.manifests.filter(({ header }) => {
    const of = backendOf(header.rule as Rule);
    return backend === 'ostree' || backend === 'composefs' ? of === backend : of !== 'oci';
  });
  if (headers.length === 0) throw new ApiError('MANIFEST_UNKNOWN', whyNoManifest(known.image, backend));
  // The envelopes exactly as they were signed.
  const texts = headers.map(({ record }) => new TextDecoder().decode(record.header));
  const verity = await services.store.blobs.get(verityHeaderKey(headers[0]!.record.image));
  const more = verity === undefined ? '' : `,"verity":${new TextDecoder().decode(verity.bytes)}`;
  return c.body(`{"headers":[${texts.join(',')}]${more}}`, 200, JSON_TYPE);
}

async function sendText(c: Context, services: ApiServices): Promise<Response> {
  await readerOf(c, services);
  const { image, rule, tree, part } = c.req.param() as Record<string, string>;
  if (!TREES.includes(tree as TreeName) || !TEXT_PARTS.includes(part as TextPart))
    throw new ApiError('NOT_FOUND', 'there is no such text');
  const manifest = await services.store.images.manifest(image!, ruleFromPath(rule!));
  if (manifest === undefined)
    throw new ApiError('MANIFEST_UNKNOWN', 'there is no manifest of this image under this rule');
  const record = manifest.trees[tree as TreeName];
  const header = headerOf(manifest).trees[tree as TreeName];
  const digest = part === 'main' ? header.main.full : header.extra;
  // Weak: the same text in another coding has the same tag.
  const headers = {
    ETag: `W/"${digest}"`,
    'Cache-Control': 'private, max-age=31536000, immutable',
    Vary: 'Accept-Encoding',
    'Content-Type': 'text/plain; charset=us-ascii',
  };
  if (isKnownTag(c.req.header('if-none-match'), digest)) return c.body(null, 304, headers);
  const blob = await services.store.blobs.get(part === 'main' ? record.mainBlob : record.extraBlob);
  if (blob === undefined) throw new Error(`the store has a manifest but not its text ${record.mainBlob}`);
  const { bytes, coding } = await codedFor(blob, c.req.header('accept-encoding') ?? '');
  return c.body(
    new Uint8Array(bytes),
    200,
    coding === 'identity' ? headers : { ...headers, 'Content-Encoding': coding },
  );
}

/** The fs-verity digests of an image's contents: of those that were built before there were any, none are known until it is read again. */
async function sendVerity(c: Context, services: ApiServices): Promise<Response> {
  await readerOf(c, services);
  const blob = await services.store.blobs.get(verityTextKey(c.req.param('image')!));
  if (blob === undefined) throw new ApiError('MANIFEST_UNKNOWN', 'there are no fs-verity digests of this image');
  const { bytes, coding } = await codedFor(blob, c.req.header('accept-encoding') ?? '');
  const headers = { Vary: 'Accept-Encoding', 'Content-Type': 'text/plain; charset=us-ascii' };
  const coded = coding === 'identity' ? headers : { ...headers, 'Content-Encoding': coding };
  return c.body(new Uint8Array(bytes), 200, coded);
}

/** Whether one of the tags that the asker has is this one (RFC 9110 section 13.1.2, weak comparison). */
function isKnownTag(header: string | undefined, digest: string): boolean {
  return (header ?? '').split(',').some((tag) => tag.trim().replace(/^W\//, '') === `"${digest}"`);
}

async function codedFor(blob: Blob, accepted: string): Promise<{ bytes: Uint8Array; coding: string }> {
  const takes = (coding: string) =>
    accepted.split(',').some((part) => {
      const [name, ...parameters] = part
        .trim()
        .toLowerCase()
        .split(/\s*;\s*/);
      return name === coding && !parameters.some((parameter) => /^q=0(?:\.0*)?$/.test(parameter));
    });
  if (blob.encoding === 'identity' || takes(blob.encoding)) return { bytes: blob.bytes, coding: blob.encoding };
  const bytes = await decodeBlob(blob);
  return takes('gzip') ? { bytes: await gzipAsync(bytes), coding: 'gzip' } : { bytes, coding: 'identity' };
}
