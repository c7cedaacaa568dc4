/** Accounts, role bindings, sessions and API tokens, on both engines (server/store/accessrecords.ts). */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Session } from '#server/store/accessrecords.ts';
import type { Store } from '#server/store/store.ts';
import { migratedSqlite } from '#test/sqlite.ts';
import { opened, openedEngine, postgresSuite, suiteOn, type Suite } from './contract.ts';
import { ADMIN, admit, backTo, DAY, hostId, MINUTE, sha, T0, walk } from './make.ts';

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'bootproof-store-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

const issuer = 'https://login.example';
const alice = {
  issuer,
  subject: 's-1',
  name: 'Alice',
  email: 'a@example.org',
  claims: ['sre'],
  ids: ['alice', 'alice-2'],
};
const person = async (store: Store, more: object = {}, at = T0) =>
  (await store.access.person({ ...alice, ...more }, at))!;
const session = (accountId: string, more: Partial<Session> = {}): Session => ({
  hash: sha(`${accountId} ${JSON.stringify(more)}`),
  accountId,
  mark: null,
  createdAt: T0,
  seenAt: T0,
  idleUntil: T0 + DAY,
  endsAt: T0 + 2 * DAY,
  address: '192.0.2.1',
  ...more,
});
const bound = (
  id: string,
  kind: 'account' | 'claim',
  holder: string,
  role = 'operator',
  group: string | null = 'lab',
) => ({
  id,
  holder: { kind, id: holder },
  role,
  group,
});
const begin = (store: Store, of: Session) =>
  store.access.beginSession(of, { actor: of.accountId, at: of.createdAt }, { after: null }, 20);
const actions = async (store: Store, object: string) =>
  (await store.audit.list({ object }, { cursor: null, limit: 50 })).items.map(({ action }) => action).sort();

function access(suite: Suite): void {
  suite(
    'a person is the same one at every sign-in, whatever they are called now; another one gets another id',
    async (url, t) => {
      const store = await opened(t, url);
      const first = await person(store);
      assert.deepEqual([first.account.id, first.account.kind, first.bindings], ['alice', 'person', []]);
      const again = await person(store, { name: 'Alice B', claims: ['sre', 'ops'], ids: ['someone-else'] }, T0 + DAY);
      assert.deepEqual(again.account, {
        ...first.account,
        name: 'Alice B',
        claims: ['sre', 'ops'],
        signedInAt: T0 + DAY,
      });
      assert.equal((await person(store, { subject: 's-2' })).account.id, 'alice-2');
      assert.equal((await person(store, { issuer: 'https://other.example', ids: ['alice-3'] })).account.id, 'alice-3');
      assert.equal(await store.access.person({ ...alice, subject: 's-3' }, T0), undefined, 'both ids are taken');
      assert.deepEqual(await actions(store, 'user:alice'), ['user.create']);
      const ids = await walk((cursor: { id: string } | null) => store.access.accounts({ cursor, limit: 2 }));
      assert.deepEqual(
        ids.map(({ id }) => id),
        ['alice', 'alice-2', 'alice-3'],
      );
    },
  );

  suite('two first sign-ins at the same moment are one account', async (url, t) => {
    const [a, b] = [await opened(t, url), await opened(t, url)];
    const made = await Promise.all([a, b, a, b].map((store) => person(store)));
    assert.deepEqual(
      made.map(({ account }) => account.id),
      ['alice', 'alice', 'alice', 'alice'],
    );
  });

  suite('what is bound to the account or to a claim is held, and nothing else', async (url, t) => {
    const store = await opened(t, url);
    await person(store);
    assert.equal(await store.access.bind(bound('b1', 'account', 'alice'), ADMIN), true);
    assert.equal(await store.access.bind(bound('b2', 'claim', 'sre', 'viewer', null), ADMIN), true);
    assert.equal(await store.access.bind(bound('b3', 'account', 'sre'), ADMIN), true);
    assert.equal(await store.access.bind(bound('b4', 'claim', 'alice'), ADMIN), true);
    assert.equal(await store.access.bind(bound('b5', 'account', 'alice'), ADMIN), false, 'that stands');
    assert.equal(await store.access.bind(bound('b6', 'account', 'alice', 'operator', null), ADMIN), true);
    const held = async () =>
      (await store.access.account('alice'))!.bindings.map(({ id, role, group }) => [id, role, group]);
    assert.deepEqual(await held(), [
      ['b1', 'operator', 'lab'],
      ['b2', 'viewer', null],
      ['b6', 'operator', null],
    ]);
    assert.equal(await store.access.unbind('b1', ADMIN), true);
    assert.equal(await store.access.unbind('b1', ADMIN), false);
    await person(store, { claims: [] });
    assert.deepEqual(await held(), [['b6', 'operator', null]]);
    assert.equal((await store.access.bindings()).length, 4);
    assert.deepEqual(await actions(store, 'binding:b1'), ['role.bind', 'role.unbind']);
  });

  suite('a session is found until it is ended, with its account; a change of roles ends it', async (url, t) => {
    const store = await opened(t, url);
    await person(store);
    await person(store, { subject: 's-2', claims: ['ops'] });
    const own = session('alice');
    await begin(store, own);
    const other = session('alice-2');
    await begin(store, other);
    const bare = session('admin', { mark: 'abc' });
    await begin(store, bare);
    assert.deepEqual((await store.access.session(own.hash))?.session, own);
    assert.equal((await store.access.session(own.hash))?.held?.account.id, 'alice');
    assert.equal((await store.access.session(bare.hash))?.held, undefined);
    assert.equal(await store.access.session(sha('none')), undefined);
    await store.access.touchSession(own.hash, T0 + MINUTE, T0 + DAY + MINUTE);
    assert.equal((await store.access.session(own.hash))?.session.idleUntil, T0 + DAY + MINUTE);

    await store.access.bind(bound('b1', 'claim', 'ops'), ADMIN);
    assert.notEqual(await store.access.session(own.hash), undefined, 'not of that group');
    assert.equal(await store.access.session(other.hash), undefined);
    await store.access.bind(bound('b2', 'account', 'alice'), ADMIN);
    assert.equal(await store.access.session(own.hash), undefined);
    await begin(store, own);
    await store.access.unbind('b2', ADMIN);
    assert.equal(await store.access.session(own.hash), undefined);

    await begin(store, own);
    assert.equal(await store.access.endSession(own.hash, { actor: 'alice', at: T0 }), true);
    assert.equal(await store.access.endSession(own.hash, { actor: 'alice', at: T0 }), false);
    await begin(store, own);
    await begin(store, session('alice', { createdAt: T0 + 1 }));
    assert.equal(await store.access.endSessions('alice', ADMIN), 2);
    await begin(store, own);
    assert.equal(await store.access.setDisabled('alice', true, ADMIN), true);
    assert.equal(await store.access.session(own.hash), undefined);
    assert.equal(await store.access.setDisabled('alice', true, ADMIN), false);
    assert.equal((await person(store)).account.disabledAt, T0, 'signing in does not enable');
    assert.equal(await store.access.setDisabled('alice', false, ADMIN), true);
    assert.notEqual(await store.access.session(bare.hash), undefined);
  });

  suite('sessions are bounded an account, listed while they last, and swept', async (url, t) => {
    const store = await opened(t, url);
    for (let n = 0; n < 5; n++)
      await store.access.beginSession(
        session('alice', { createdAt: T0 + n, endsAt: T0 + DAY + n }),
        ADMIN,
        { after: n },
        3,
      );
    const left = await store.access.sessions('alice', T0, 10);
    assert.deepEqual(
      left.map(({ createdAt }) => createdAt - T0),
      [4, 3, 2],
    );
    await begin(store, session('bob', { idleUntil: T0 + 1 }));
    assert.equal((await store.access.sessions(null, T0, 10)).length, 4);
    assert.equal((await store.access.sessions(null, T0 + 1, 10)).length, 3);
    assert.equal(await store.access.sweepSessions(T0 + DAY + 3), 4);
    assert.equal((await store.access.sessions(null, T0, 10)).length, 0);
  });

  suite('an API token is found by its hash alone, with its owner, and once revoked stays so', async (url, t) => {
    const store = await opened(t, url);
    assert.equal(await store.access.createService({ id: 'service:ci', name: 'ci' }, ADMIN), true);
    assert.equal(await store.access.createService({ id: 'service:ci', name: 'again' }, ADMIN), false);
    await store.access.bind(bound('b1', 'account', 'service:ci'), ADMIN);
    const grants = [{ role: 'operator', groups: ['lab'] }];
    const token = { id: 't_1', hash: sha('secret'), name: 'nightly', owner: 'service:ci', grants, expiresAt: T0 + DAY };
    await store.access.createToken(token, ADMIN);
    const found = (await store.access.token(sha('secret')))!;
    assert.deepEqual(found.token, { ...token, createdAt: T0, createdBy: 'admin', revokedAt: null, usedAt: null });
    assert.deepEqual([found.held?.account.name, found.held?.bindings.length], ['ci', 1]);
    await store.access.usedToken('t_1', T0 + 5);
    assert.equal((await store.access.tokenById('t_1'))?.usedAt, T0 + 5);
    assert.equal((await store.access.tokens('service:ci', { cursor: null, limit: 5 })).items.length, 1);
    assert.equal((await store.access.tokens('alice', { cursor: null, limit: 5 })).items.length, 0);
    assert.equal(await store.access.revokeToken('t_1', { actor: 'admin', at: T0 + 9 }), true);
    assert.equal(await store.access.revokeToken('t_1', ADMIN), false);
    assert.equal((await store.access.token(sha('secret')))?.token.revokedAt, T0 + 9);
    assert.equal(await store.access.token(sha('other')), undefined);
    const trail = await store.audit.list({ object: 'api-token:t_1' }, { cursor: null, limit: 5 });
    assert.ok(!JSON.stringify(trail).includes(token.hash), 'the trail has no hash');
  });

  suite('a store of schema 4 is brought up, with what it holds', async (url, t) => {
    const { engine, store } = await openedEngine(t, url);
    await admit(store, 1);
    await backTo(engine, 4);
    const again = await opened(t, url);
    assert.equal((await again.hosts.get(hostId(1)))?.name, 'host-1');
    assert.equal((await person(again)).account.id, 'alice');
  });
}

access(suiteOn({ name: 'sqlite', fresh: (t) => migratedSqlite(join(folder(t), 'store.db')) }, () => undefined));
access(postgresSuite());
