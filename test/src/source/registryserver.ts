/** A registry on loopback for tests, which behaves as it is told to. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { isDigest } from '#src/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '#src/image/ocimanifest.ts';

export type Asked = {
  readonly path: string;
  readonly method: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
};
/** Answers a request itself and returns true, or leaves it to the registry. */
export type Hook = (asked: Asked, answer: ServerResponse) => boolean | Promise<boolean>;

export type TestRegistry = AsyncDisposable & {
  /** `127.0.0.1:port` */
  readonly host: string;
  readonly asked: Asked[];
  /** Holds at any time; the first that answers wins. */
  readonly hooks: Hook[];
  readonly tags: Map<string, string>;
  readonly blobs: Map<string, Uint8Array>;
};

export async function serveRegistry(
  blobs: ReadonlyMap<string, Uint8Array>,
  tags: Record<string, string> = {},
  tls?: { key: string; cert: string },
): Promise<TestRegistry> {
  const registry = {
    host: '',
    asked: [] as Asked[],
    hooks: [] as Hook[],
    tags: new Map(Object.entries(tags)),
    blobs: new Map(blobs),
  };
  const handler = async (request: IncomingMessage, answer: ServerResponse) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const path = request.url ?? '';
    const asked = {
      path,
      method: request.method ?? '',
      headers: request.headers,
      body: Buffer.concat(parts).toString(),
    };
    registry.asked.push(asked);
    for (const hook of registry.hooks) if (await hook(asked, answer)) return;
    serve(registry, asked, answer);
  };
  const listener = (request: IncomingMessage, answer: ServerResponse) => {
    handler(request, answer).catch((error: unknown) => answer.destroy(error as Error));
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  registry.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return Object.assign(registry, {
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
}

function serve(registry: Pick<TestRegistry, 'tags' | 'blobs'>, { path, headers }: Asked, answer: ServerResponse): void {
  const [, kind, which = ''] = /^\/v2\/a\/b\/(manifests|blobs)\/([^/?]+)$/.exec(path) ?? [];
  const digest = kind === 'manifests' && !isDigest(which) ? registry.tags.get(which) : which;
  const bytes = registry.blobs.get(digest ?? '');
  if (kind === undefined || bytes === undefined) {
    answer.writeHead(404, { 'content-type': 'application/json' });
    answer.end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"\u001b[31mboo"}]}');
    return;
  }
  const from = Number(/^bytes=([0-9]+)-/.exec(headers.range ?? '')?.[1] ?? 0);
  const text = kind === 'manifests' ? new TextDecoder().decode(bytes) : '';
  answer.writeHead(from > 0 ? 206 : 200, {
    'content-type':
      kind === 'blobs' ? 'application/octet-stream' : text.includes('"manifests"') ? OCI_INDEX : OCI_MANIFEST,
    'content-length': bytes.length - from,
    // A lie: nobody may believe it.
    'docker-content-digest': `sha256:${'0'.repeat(64)}`,
    ...(from > 0 ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
  });
  answer.end(bytes.subarray(from));
}

/** The value of `Authorization` for a user and password. */
export const basic = (user: string, password: string): string => `Basic ${btoa(`${user}:${password}`)}`;

/**
 * A registry that wants a bearer token from `realm`; where the realm is its own, it also hands them out, to whoever has `password`
 * or to anyone.
 */
export function wantsToken(
  registry: { host: string },
  { realm = `http://${registry.host}/token`, password = '' } = {},
): Hook {
  return ({ path, headers, body, method }, answer) => {
    if (path.startsWith('/token')) {
      const known =
        password === '' ||
        headers.authorization === basic('user', password) ||
        (method === 'POST' && new URLSearchParams(body).get('refresh_token') === password);
      answer.writeHead(known ? 200 : 401, { 'content-type': 'application/json' });
      answer.end(known ? '{"token":"sesame"}' : '{}');
      return true;
    }
    if (headers.authorization === 'Bearer sesame' || !path.startsWith('/v2/a/')) return false;
    answer.writeHead(401, {
      'www-authenticate': `Bearer realm="${realm}",service="test",scope="repository:a/b:pull,push,delete"`,
    });
    answer.end();
    return true;
  };
}
