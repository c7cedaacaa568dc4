/** What the demo says to its registry comes through, however long nothing was said. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { manifestSize, push } from '#demo/pack.ts';
import { digestOf } from '#src/digest.ts';

test('each request has its own connection: one that was kept may have been closed meanwhile', async (t) => {
  const used = new Set<Socket>();
  let requests = 0;
  const registry = createServer((request, response) => {
    requests++;
    used.add(request.socket);
    response.writeHead(request.method === 'PUT' ? 201 : 200, { 'content-length': request.method === 'PUT' ? 0 : 7 });
    response.end();
  }).listen(0, '127.0.0.1');
  t.after(() => registry.closeAllConnections());
  t.after(() => registry.close());
  await once(registry, 'listening');
  const { port } = registry.address() as AddressInfo;
  const host = `127.0.0.1:${port}`;
  const manifest = Buffer.from('{}');
  await push({ digest: digestOf(manifest), manifest, blobs: new Map() }, host, 'demo/os', 'latest');
  // A client that keeps connections has this one ready again by then.
  await sleep(20);
  assert.equal(await manifestSize(host, 'demo/os', 'latest'), 7);
  assert.deepEqual([requests, used.size], [2, 2]);
});
