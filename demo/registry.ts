/**
 * A small OCI registry (distribution-spec 1.1: pull, push, referrers) over a folder, served on loopback for the demo fleet. It checks
 * every digest that it stores and is not meant to face a network.
 */
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { digestOf, isDigest, type Digest } from '#src/digest.ts';
import { OCI_INDEX } from '#src/image/ocimanifest.ts';
import { nodeSha256 } from './pack.ts';

export type Registry = { readonly host: string; close(): Promise<void> };

const NAME = /^[a-z0-9]+(?:[._/-][a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/** Serves `folder` on 127.0.0.1; `port` 0 takes any. */
export async function serveRegistry(folder: string, port: number): Promise<Registry> {
  await mkdir(join(folder, 'blobs'), { recursive: true });
  const app = registryApp(folder);
  const server = await new Promise<ReturnType<typeof serve>>((resolve, reject) => {
    const started = serve({ fetch: app.fetch, hostname: '127.0.0.1', port }, () => resolve(started));
    started.once('error', reject);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the registry has no port');
  return {
    host: `127.0.0.1:${address.port}`,
    close: () =>
      new Promise(
        (resolve) => (server.close(() => resolve()), 'closeAllConnections' in server && server.closeAllConnections()),
      ),
  };
}

function registryApp(folder: string): Hono {
  const app = new Hono();
  const blobFile = (digest: Digest) => join(folder, 'blobs', digest.slice('sha256:'.length));
  const manifestFile = (name: string, reference: string) => join(folder, 'manifests', name, `${reference}.json`);
  const problem = (code: string, message: string) => ({ errors: [{ code, message }] });

  /** What says in its own manifest that it is about `subject` (distribution-spec, "Listing Referrers"). */
  const referrers = async (name: string, subject: Digest): Promise<object[]> => {
    const found: object[] = [];
    for (const file of (await readdir(join(folder, 'manifests', name)).catch(missing)) ?? []) {
      const digest = file.slice(0, -'.json'.length);
      if (!isDigest(digest)) continue;
      const bytes = await readFile(manifestFile(name, digest));
      const manifest = JSON.parse(bytes.toString()) as Partial<Record<string, unknown>>;
      if ((manifest['subject'] as { digest?: string } | undefined)?.digest !== subject) continue;
      const { mediaType, artifactType, annotations } = manifest;
      found.push({ mediaType, digest, size: bytes.length, artifactType, annotations });
    }
    return found;
  };

  const uploads = new Uploads();
  app.get('/v2/', (c) => c.json({}));
  app.on(['GET', 'HEAD', 'PUT', 'POST', 'PATCH'], '/v2/*', async (c) => {
    const [, name = '', kind = '', reference = ''] =
      /^\/v2\/(.+)\/(manifests|blobs|referrers)\/(.+)$/.exec(new URL(c.req.url).pathname) ?? [];
    if (!NAME.test(name)) return c.json(problem('NAME_INVALID', 'invalid repository name'), 400);
    if (kind === 'blobs' && reference === 'uploads/' && c.req.method === 'POST')
      return c.body(null, 202, { location: `/v2/${name}/blobs/uploads/${uploads.open()}` });
    const upload = /^uploads\/(\d+)$/.exec(reference)?.[1];
    if (kind === 'blobs' && upload !== undefined && c.req.method === 'PATCH') {
      const size = uploads.add(upload, new Uint8Array(await c.req.arrayBuffer()));
      return c.body(null, 202, { location: new URL(c.req.url).pathname, range: `0-${size - 1}` });
    }
    if (kind === 'blobs' && upload !== undefined && c.req.method === 'PUT') {
      const digest = c.req.query('digest') ?? '';
      uploads.add(upload, new Uint8Array(await c.req.arrayBuffer()));
      const bytes = uploads.close(upload);
      if (!isDigest(digest) || digestOf(bytes, nodeSha256) !== digest)
        return c.json(problem('DIGEST_INVALID', 'the blob has another digest'), 400);
      await store(blobFile(digest), bytes);
      return c.body(null, 201, { location: `/v2/${name}/blobs/${digest}` });
    }
    if (kind === 'manifests' && (TAG.test(reference) || isDigest(reference))) {
      if (c.req.method === 'PUT') {
        const bytes = new Uint8Array(await c.req.arrayBuffer());
        const digest = digestOf(bytes, nodeSha256);
        if (isDigest(reference) && reference !== digest)
          return c.json(problem('DIGEST_INVALID', 'the manifest has another digest'), 400);
        await store(manifestFile(name, digest), bytes);
        if (!isDigest(reference)) await store(manifestFile(name, reference), bytes);
        const { subject } = JSON.parse(Buffer.from(bytes).toString()) as { subject?: { digest: string } };
        return c.body(null, 201, {
          location: `/v2/${name}/manifests/${digest}`,
          'docker-content-digest': digest,
          ...(subject === undefined ? {} : { 'oci-subject': subject.digest }),
        });
      }
      const bytes = await readFile(manifestFile(name, reference)).catch(missing);
      if (bytes === undefined) return c.json(problem('MANIFEST_UNKNOWN', 'no such manifest'), 404);
      return answer(c.req.method === 'HEAD' ? null : new Uint8Array(bytes), {
        'content-type': JSON.parse(bytes.toString()).mediaType,
        'content-length': String(bytes.length),
        'docker-content-digest': digestOf(bytes, nodeSha256),
      });
    }
    if (kind === 'referrers' && isDigest(reference) && c.req.method === 'GET')
      return answer(
        Buffer.from(
          JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: await referrers(name, reference) }),
        ),
        { 'content-type': OCI_INDEX },
      );
    if (kind === 'blobs' && isDigest(reference) && (c.req.method === 'GET' || c.req.method === 'HEAD')) {
      const found = await stat(blobFile(reference)).catch(missing);
      if (found === undefined) return c.json(problem('BLOB_UNKNOWN', 'no such blob'), 404);
      const body = c.req.method === 'HEAD' ? null : Readable.toWeb(createReadStream(blobFile(reference)));
      return answer(body as ReadableStream | null, {
        'content-type': 'application/octet-stream',
        'content-length': String(found.size),
        'docker-content-digest': reference,
      });
    }
    return c.json(problem('UNSUPPORTED', 'not part of this small registry'), 404);
  });
  return app;
}

/** Blobs on their way in; in memory, because demo layers are small. */
class Uploads {
  readonly #chunks = new Map<string, Uint8Array[]>();
  #last = 0;

  open(): string {
    const id = String(++this.#last);
    this.#chunks.set(id, []);
    return id;
  }

  /** Bytes that the upload has now. */
  add(id: string, bytes: Uint8Array): number {
    const chunks = this.#chunks.get(id) ?? [];
    chunks.push(bytes);
    this.#chunks.set(id, chunks);
    return chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  close(id: string): Uint8Array {
    const chunks = this.#chunks.get(id) ?? [];
    this.#chunks.delete(id);
    return Buffer.concat(chunks);
  }
}

function answer(body: ReadableStream | Uint8Array<ArrayBuffer> | null, headers: Record<string, string>): Response {
  return new Response(body, { headers });
}

function missing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

async function store(file: string, bytes: Uint8Array): Promise<void> {
  await mkdir(join(file, '..'), { recursive: true });
  await writeFile(`${file}.new`, bytes);
  await rename(`${file}.new`, file);
}
