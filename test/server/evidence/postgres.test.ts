/** An export on PostgreSQL: made by one process of two, fetched from the other; gone from the database when it is deleted (docs/evidence.md 7.6). */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startPostgres } from '#test/postgres.ts';
import { DAY, OS } from '../decisions/people.ts';
import { enrol, HOUR, serverFor, T0 } from '../fleet.ts';
import { makeHere, over } from './life.ts';

test('PostgreSQL: any process gives away what one has made, in ranges, and nothing is left of it once it is deleted', async (t) => {
  const postgres = await startPostgres();
  if ('skip' in postgres) return t.skip(postgres.skip);
  t.after(() => postgres.stop());
  const storeUrl = await postgres.migrated();
  const folders = [1, 2].map(() => mkdtempSync(join(tmpdir(), 'bootproof-evidence-')));
  t.after(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));
  // Whoever looks first makes it: the other looks once an hour.
  const processes = [];
  for (const [n, folder] of folders.entries())
    processes.push(
      await serverFor(t, {
        images: [OS],
        storeUrl,
        exports: { folder: join(folder, 'evidence'), make: makeHere },
        ...(n === 0 ? {} : { jobsEveryMs: 3_600_000 }),
      }),
    );
  const [maker, other] = processes as [(typeof processes)[0], (typeof processes)[0]];
  const host = await enrol(maker, OS, { name: 'web-1' });
  await host.sendFull();
  await maker.settle();
  for (const server of processes) server.time.now = T0 + 13 * HOUR;
  const body = { from: new Date(T0 - DAY / 2).toISOString(), to: new Date(T0 + DAY / 2).toISOString(), frameworks: [] };
  const { id } = (await maker.api('/api/v1/evidence/exports', { method: 'POST', body })).body;
  const done = await over(maker, id);
  assert.deepEqual([done.state, done.hosts], ['done', 1]);
  const headers = { authorization: `Bearer ${maker.admin}` };
  const fetch = async (more: Record<string, string> = {}) => {
    const answer = await other.server.app.request(`/api/v1/evidence/exports/${id}/file`, {
      headers: { ...headers, ...more },
    });
    return { status: answer.status, bytes: Buffer.from(await answer.arrayBuffer()) };
  };
  const { bytes } = await fetch();
  assert.equal(createHash('sha256').update(bytes).digest('hex'), done.file!.sha256);
  assert.deepEqual(await fetch({ range: 'bytes=100-199' }), { status: 206, bytes: bytes.subarray(100, 200) });
  const left = () => folders.slice(0, 1).flatMap((folder) => readdirSync(join(folder, 'evidence')));
  for (let tries = 0; tries < 100 && left().length > 0; tries++) await new Promise((next) => setTimeout(next, 10));
  assert.deepEqual(left(), []);
  const { pieces } = other.server.store.evidence;
  assert.deepEqual(await pieces.ids(), [id]);
  const gone = await other.server.app.request(`/api/v1/evidence/exports/${id}`, { method: 'DELETE', headers });
  assert.equal(gone.status, 200);
  assert.deepEqual(await pieces.ids(), []);
});
