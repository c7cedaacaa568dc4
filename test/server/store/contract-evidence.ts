/** The contract of server/store/store.ts as tests: evidence exports as rows, and what a bundle streams from (docs/evidence.md 7). */
import assert from 'node:assert/strict';
import type { EvidenceExport, ExportCut, NewExport } from '#server/store/evidencerecords.ts';
import { reportRef } from '#server/store/logpayload.ts';
import { opened, type Suite } from './contract.ts';
import { ADMIN, admit, commit, DAY, report, T0, walk } from './make.ts';

const WANTED: NewExport = {
  from: T0 - DAY,
  to: T0,
  filter: 'group:web',
  scope: ['web'],
  frameworks: ['nist-800-53'],
  sampling: { seed: 'x', size: 2 },
  parameters: { completenessMin: 0.9, answerHours: 24 },
  expiresAt: T0 + DAY,
};
const job = (id: string) => ({ kind: 'evidence-export', dedupeKey: id, runAt: T0, payload: { id } });
const CUT: ExportCut = { log: 1, origin: 'x/log', size: 3, root: 'r', note: 'n', at: T0 };

export function evidence(suite: Suite): void {
  suite('an export goes from its request to its file, and each step counts once', async (url, t) => {
    const store = await opened(t, url);
    const { exports } = store.evidence;
    const made = (await exports.create(WANTED, ADMIN, 1, job))!;
    assert.deepEqual([made.state, made.attempts, made.createdBy, made.cut], ['queued', 0, ADMIN.actor, null]);
    assert.equal(await exports.create(WANTED, ADMIN, 1, job), undefined);
    assert.equal((await store.jobs.lag(T0)).find(({ kind }) => kind === 'evidence-export')?.waiting, 1);
    const { id } = made;
    assert.equal((await exports.begin(id))?.attempts, 1);
    const act = await exports.log(id, { ...ADMIN, at: T0 + 5 });
    assert.deepEqual(await exports.log(id, { ...ADMIN, at: T0 + 9 }), act);
    assert.deepEqual(
      (await store.audit.list({ object: `evidence:${id}` }, { cursor: null, limit: 9 })).items.map(
        ({ action }) => action,
      ),
      ['evidence.export'],
    );
    assert.deepEqual(await exports.cut(id, CUT), CUT);
    assert.deepEqual(await exports.cut(id, { ...CUT, size: 9 }), CUT);
    assert.equal(await exports.oldestCut(), T0);
    assert.equal(await exports.progress(id, [{ stage: 'gather', done: 1, total: null }], 4), true);
    // A server died; what it finishes late counts for nothing.
    assert.equal((await exports.begin(id))?.attempts, 2);
    const file = { sha256: 'ab', bytes: 7 };
    assert.equal(await exports.done({ id, attempts: 1 }, file, T0), false);
    assert.equal(await exports.done({ id, attempts: 2 }, file, T0), true);
    assert.equal(await exports.begin(id), undefined);
    assert.equal(await exports.progress(id, [], null), false);
    const done = (await exports.get(id))!;
    assert.deepEqual([done.state, done.file, done.hosts, done.cut], ['done', file, 4, CUT]);
    assert.equal(await exports.oldestCut(), null);
    assert.deepEqual(await exports.expired(T0 + DAY, 9), [id]);
    assert.deepEqual(await exports.known([id, 'ev_other']), new Set([id]));
    assert.equal(await exports.remove(id, ADMIN), true);
    assert.equal(await exports.remove(id, ADMIN), false);
    assert.equal(await exports.get(id), undefined);
  });

  suite('files of exports lie in pieces, each by its attempt, and go some at a time', async (url, t) => {
    const { evidence: own, blobs } = await opened(t, url);
    const { pieces } = own;
    await blobs.put({ key: 'evidence0', encoding: 'identity', bytes: Uint8Array.of(0) });
    assert.deepEqual(await pieces.ids(), []);
    const [first, second, other] = [
      { id: 'ev_a', attempts: 1 },
      { id: 'ev_a', attempts: 12 },
      { id: 'ev_b', attempts: 1 },
    ];
    for (const file of [first, second, other]) for (let n = 0; n < 3; n++) await pieces.put(file, n, Uint8Array.of(n));
    await pieces.put(other, 2, Uint8Array.of(9));
    assert.deepEqual(await pieces.ids(), ['ev_a', 'ev_b']);
    assert.deepEqual([...(await pieces.get(other, 2))!], [9]);
    assert.equal(await pieces.get(other, 3), undefined);
    assert.deepEqual([await pieces.remove('ev_a', 12, 2), await pieces.remove('ev_a', 12, 2)], [2, 1]);
    assert.equal(await pieces.remove('ev_a', 12, 2), 0);
    assert.deepEqual([await pieces.get(first, 0), [...(await pieces.get(second, 2))!]], [undefined, [2]]);
    assert.equal(await pieces.remove('ev_a', null, 9), 3);
    assert.deepEqual(await pieces.ids(), ['ev_b']);
    assert.ok(await blobs.has('evidence0'));
  });

  suite('exports are listed newest first, to whoever sees all of their hosts', async (url, t) => {
    const { exports } = (await opened(t, url)).evidence;
    const ids: string[] = [];
    for (const [n, scope] of [['web'], ['web', 'db'], null, ['web/a']].entries())
      ids.unshift((await exports.create({ ...WANTED, scope }, { ...ADMIN, at: T0 + n }, 9, job))!.id);
    const seen = async (scope: readonly string[] | null): Promise<string[]> =>
      (await walk<EvidenceExport, { readonly id: string }>((cursor) => exports.list(scope, { cursor, limit: 1 }))).map(
        ({ id }) => id,
      );
    assert.deepEqual(await seen(null), ids);
    assert.deepEqual(await seen(['web']), [ids[0], ids[3]]);
    assert.deepEqual(await seen(['db']), []);
  });

  suite('a day’s same that was kept for an export is not logged once more when its day is over', async (url, t) => {
    const store = await opened(t, url);
    const { id } = await admit(store, 1);
    await commit(store, id, (host) => report(host, 'full', T0));
    await commit(store, id, (host) => report(host, 'same', T0 + 1000));
    assert.equal(await store.evidence.keepSames([id], T0 + 1000), 0);
    assert.equal(await store.evidence.keepSames([id], T0 + 1001), 1);
    assert.equal(await store.evidence.keepSames([id], T0 + 1001), 0);
    await commit(store, id, (host) => report(host, 'same', T0 + DAY));
    assert.equal((await store.log.receipts(reportRef(id, 2, 0))).length, 1);
    assert.equal((await store.reports.get(id, 2))?.receivedAt, T0 + 1000);
  });

  suite('entries of a host come by time, page by page, and no further than the cut', async (url, t) => {
    const store = await opened(t, url);
    const head = await store.log.begin({ origin: 'x/log', publicKey: '00'.repeat(32) }, T0);
    const { id } = await admit(store, 1);
    for (let n = 0; n < 5; n++) await commit(store, id, (host) => report(host, 'full', T0 + n * 1000));
    const { head: now } = (await store.log.sequence(head.log, 100))!;
    const cut = { log: head.log, size: now.size };
    const range = { from: T0 + 1000, to: T0 + 4000 };
    const first = await store.evidence.entries(id, 'report', cut, range, { after: null, limit: 2 });
    const rest = await store.evidence.entries(id, 'report', cut, range, { after: first.at(-1)!, limit: 9 });
    assert.deepEqual(
      [...first, ...rest].map(({ at }) => at),
      [T0 + 1000, T0 + 2000, T0 + 3000],
    );
    const before = await store.evidence.reportsBefore(id, cut, T0 + 2000, { after: null, limit: 9 });
    assert.deepEqual(
      before.map(({ at }) => at),
      [T0 + 1000, T0],
    );
    const [{ index }] = rest as [(typeof rest)[number]];
    const [record] = await store.evidence.records(head.log, [index]);
    assert.deepEqual([record?.index, record?.payload !== null, record?.salt?.length], [index, true, 32]);
    assert.equal(
      (await store.evidence.entries(id, 'report', { ...cut, size: index }, range, { after: null, limit: 9 })).length,
      2,
    );
  });
}
