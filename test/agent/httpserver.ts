/** An HTTP server on loopback whose every answer a test decides, good or bad. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';

export type Seen = {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
};
export type Reply = {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: string | Uint8Array;
};
/** A reply, or something that only the response itself can do. */
export type Handler = (seen: Seen, response: ServerResponse) => Reply | undefined | Promise<Reply | undefined>;

export type TestServer = AsyncDisposable & { readonly url: string; readonly seen: Seen[]; handler: Handler };

export async function serve(handler: Handler): Promise<TestServer> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => {}); // a client that went away is what some tests are about
    request.on('end', () => void answer(request, response, Buffer.concat(chunks)));
  });
  const test: TestServer = {
    url: '',
    seen,
    handler,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  async function answer(request: IncomingMessage, response: ServerResponse, raw: Buffer): Promise<void> {
    const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(raw) : raw;
    const one: Seen = { method: request.method!, path: request.url!, headers: request.headers, body };
    seen.push(one);
    const reply = await test.handler(one, response);
    if (reply === undefined) return;
    response.writeHead(reply.status ?? 200, reply.headers);
    response.end(reply.body);
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(test, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}

export const json = (value: unknown, status = 200): Reply => ({
  status,
  headers: { 'content-type': status < 400 ? 'application/json' : 'application/problem+json' },
  body: JSON.stringify(value),
});
