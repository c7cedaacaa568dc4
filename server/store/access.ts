/** Accounts, role bindings, sessions and API tokens. What takes something away takes effect with the transaction that writes it. */
import type { Kysely } from 'kysely';
import type { ReadonlyKysely } from 'kysely/readonly';
import type { AccessStore, Account, ApiToken, Binding, Held, Session } from './accessrecords.ts';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { pageOf } from './read/page.ts';
import { revokeIn } from './revoke.ts';
import type { AccountRow, ApiTokenRow, RoleBindingRow, SessionRow, Tables } from './tables.ts';

type Db = ReadonlyKysely<Tables> | Kysely<Tables>;
const plain = (db: Db) => db as ReadonlyKysely<Tables>;

const accountOf = (row: AccountRow): Account => ({
  id: row.id,
  kind: row.kind as Account['kind'],
  name: row.name,
  issuer: row.issuer,
  subject: row.subject,
  email: row.email,
  claims: JSON.parse(row.claims) as string[],
  createdAt: row.created_at,
  createdBy: row.created_by,
  signedInAt: row.signed_in_at,
  disabledAt: row.disabled_at,
});

const bindingOf = (row: RoleBindingRow): Binding => ({
  id: row.id,
  holder: { kind: row.holder_kind as Binding['holder']['kind'], id: row.holder },
  role: row.role,
  group: row.host_group === '' ? null : row.host_group,
  createdAt: row.created_at,
  createdBy: row.created_by,
});

const sessionOf = (row: SessionRow): Session => ({
  hash: row.hash,
  accountId: row.account_id,
  mark: row.mark,
  createdAt: row.created_at,
  seenAt: row.seen_at,
  idleUntil: row.idle_until,
  endsAt: row.ends_at,
  address: row.address,
});

const tokenOf = (row: ApiTokenRow): ApiToken => ({
  id: row.id,
  hash: row.hash,
  name: row.name,
  owner: row.owner,
  grants: JSON.parse(row.grants) as unknown,
  createdAt: row.created_at,
  createdBy: row.created_by,
  expiresAt: row.expires_at,
  revokedAt: row.revoked_at,
  usedAt: row.used_at,
});

/** As the trail may show it. */
const shownToken = ({ hash: _hash, usedAt: _usedAt, ...rest }: ApiToken) => rest;

async function heldIn(db: Db, row: AccountRow | undefined): Promise<Held | undefined> {
  if (row === undefined) return undefined;
  const account = accountOf(row);
  const bindings = await plain(db)
    .selectFrom('role_binding')
    .selectAll()
    .where((eb) => {
      const own = eb.and([eb('holder_kind', '=', 'account'), eb('holder', '=', account.id)]);
      if (account.claims.length === 0) return own;
      return eb.or([own, eb.and([eb('holder_kind', '=', 'claim'), eb('holder', 'in', [...account.claims])])]);
    })
    .orderBy('id')
    .execute();
  return { account, bindings: bindings.map(bindingOf) };
}

const accountRow = (db: Db, id: string): Promise<AccountRow | undefined> =>
  plain(db).selectFrom('account').selectAll().where('id', '=', id).executeTakeFirst();

/** Ends the sessions of everybody whom a binding is about. */
async function endConcerned(tx: Tx, { kind, id }: Binding['holder']): Promise<void> {
  if (kind === 'account') {
    await tx.db.deleteFrom('session').where('account_id', '=', id).execute();
    return;
  }
  const signedIn = await tx.db
    .selectFrom('account')
    .select(['id', 'claims'])
    .where('id', 'in', (eb) => eb.selectFrom('session').select('account_id'))
    .execute();
  const concerned = signedIn.filter(({ claims }) => (JSON.parse(claims) as string[]).includes(id));
  for (const account of concerned) await tx.db.deleteFrom('session').where('account_id', '=', account.id).execute();
}

/** Another transaction may make the same person at the same time: the unique index stops one, and the engine repeats it. */
async function personIn(tx: Tx, told: Parameters<AccessStore['person']>[0], at: number): Promise<Held | undefined> {
  const { issuer, subject, name, email, ids } = told;
  const claims = JSON.stringify(told.claims);
  const known = await tx.db
    .selectFrom('account')
    .selectAll()
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .executeTakeFirst();
  if (known !== undefined) {
    const changed = { name, email, claims, signed_in_at: at };
    await tx.db.updateTable('account').set(changed).where('id', '=', known.id).execute();
    return heldIn(tx.db, { ...known, ...changed });
  }
  const taken = await tx.db
    .selectFrom('account')
    .select('id')
    .where('id', 'in', [...ids])
    .execute();
  const id = ids.find((wanted) => !taken.some((other) => other.id === wanted));
  if (id === undefined) return undefined;
  const row: AccountRow = {
    id,
    kind: 'person',
    name,
    issuer,
    subject,
    email,
    claims,
    created_at: at,
    created_by: id,
    signed_in_at: at,
    disabled_at: null,
  };
  await tx.db.insertInto('account').values(row).execute();
  await writeAudit(
    tx,
    { actor: id, at },
    { action: 'user.create', object: `user:${id}`, before: null, after: accountOf(row) },
  );
  return heldIn(tx.db, row);
}

export function accessOn(engine: Engine): AccessStore {
  return {
    account: (id) => engine.reading(async (db) => heldIn(db, await accountRow(db, id))),
    accounts: (page) =>
      engine.reading(async (db) => {
        let query = db.selectFrom('account').selectAll().orderBy('id');
        if (page.cursor !== null) query = query.where('id', '>', page.cursor.id);
        return pageOf(await query.limit(page.limit + 1).execute(), page.limit, accountOf, ({ id }) => ({ id }));
      }),
    person: (told, at) => engine.write((tx) => personIn(tx, told, at)),
    createService: ({ id, name }, by) =>
      engine.write(async (tx) => {
        const row: AccountRow = {
          id,
          kind: 'service',
          name,
          issuer: null,
          subject: null,
          email: null,
          claims: '[]',
          created_at: by.at,
          created_by: by.actor,
          signed_in_at: null,
          disabled_at: null,
        };
        const made = await tx.db
          .insertInto('account')
          .values(row)
          .onConflict((conflict) => conflict.column('id').doNothing())
          .executeTakeFirst();
        if ((made.numInsertedOrUpdatedRows ?? 0n) === 0n) return false;
        await writeAudit(tx, by, { action: 'user.create', object: `user:${id}`, before: null, after: accountOf(row) });
        return true;
      }),
    setDisabled: (id, disabled, by) =>
      engine.write(async (tx) => {
        const before = await accountRow(tx.db, id);
        if (before === undefined || (before.disabled_at !== null) === disabled) return false;
        const disabledAt = disabled ? by.at : null;
        await tx.db.updateTable('account').set({ disabled_at: disabledAt }).where('id', '=', id).execute();
        if (disabled) await tx.db.deleteFrom('session').where('account_id', '=', id).execute();
        await writeAudit(tx, by, {
          action: disabled ? 'user.disable' : 'user.enable',
          object: `user:${id}`,
          before: { disabledAt: before.disabled_at },
          after: { disabledAt },
        });
        return true;
      }),

    bindings: () =>
      engine.reading(async (db) => {
        const rows = await db
          .selectFrom('role_binding')
          .selectAll()
          .orderBy('holder_kind')
          .orderBy('holder')
          .orderBy('role')
          .orderBy('host_group')
          .execute();
        return rows.map(bindingOf);
      }),
    bind: (binding, by) =>
      engine.write(async (tx) => {
        const row: RoleBindingRow = {
          id: binding.id,
          holder_kind: binding.holder.kind,
          holder: binding.holder.id,
          role: binding.role,
          host_group: binding.group ?? '',
          created_at: by.at,
          created_by: by.actor,
        };
        const made = await tx.db
          .insertInto('role_binding')
          .values(row)
          .onConflict((conflict) => conflict.columns(['holder_kind', 'holder', 'role', 'host_group']).doNothing())
          .executeTakeFirst();
        if ((made.numInsertedOrUpdatedRows ?? 0n) === 0n) return false;
        await endConcerned(tx, binding.holder);
        await writeAudit(tx, by, {
          action: 'role.bind',
          object: `binding:${binding.id}`,
          before: null,
          after: bindingOf(row),
        });
        return true;
      }),
    unbind: (id, by) =>
      engine.write(async (tx) => {
        const row = await tx.db.deleteFrom('role_binding').where('id', '=', id).returningAll().executeTakeFirst();
        if (row === undefined) return false;
        const before = bindingOf(row);
        await endConcerned(tx, before.holder);
        await writeAudit(tx, by, { action: 'role.unbind', object: `binding:${id}`, before, after: null });
        return true;
      }),

    beginSession: (session, by, { after }, keep) =>
      engine.write(async (tx) => {
        await tx.db
          .insertInto('session')
          .values({
            hash: session.hash,
            account_id: session.accountId,
            mark: session.mark,
            created_at: session.createdAt,
            seen_at: session.seenAt,
            idle_until: session.idleUntil,
            ends_at: session.endsAt,
            address: session.address,
          })
          .execute();
        const older = await tx.db
          .selectFrom('session')
          .select('hash')
          .where('account_id', '=', session.accountId)
          .orderBy('created_at', 'desc')
          .orderBy('hash')
          .offset(keep)
          .limit(1000)
          .execute();
        for (const { hash } of older) await tx.db.deleteFrom('session').where('hash', '=', hash).execute();
        await writeAudit(tx, by, { action: 'session.begin', object: `user:${session.accountId}`, before: null, after });
      }),
    session: (hash) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('session').selectAll().where('hash', '=', hash).executeTakeFirst();
        if (row === undefined) return undefined;
        return { session: sessionOf(row), held: await heldIn(db, await accountRow(db, row.account_id)) };
      }),
    touchSession: (hash, seenAt, idleUntil) =>
      engine.write(async ({ db }) => {
        await db
          .updateTable('session')
          .set({ seen_at: seenAt, idle_until: idleUntil })
          .where('hash', '=', hash)
          .execute();
      }),
    endSession: (hash, by) =>
      engine.write(async (tx) => {
        const row = await tx.db.deleteFrom('session').where('hash', '=', hash).returningAll().executeTakeFirst();
        if (row === undefined) return false;
        await writeAudit(tx, by, {
          action: 'session.end',
          object: `user:${row.account_id}`,
          before: null,
          after: null,
        });
        return true;
      }),
    endSessions: (accountId, by) =>
      engine.write(async (tx) => {
        const rows = await tx.db.deleteFrom('session').where('account_id', '=', accountId).returning('hash').execute();
        if (rows.length > 0)
          await writeAudit(tx, by, {
            action: 'session.end-all',
            object: `user:${accountId}`,
            before: { sessions: rows.length },
            after: { sessions: 0 },
          });
        return rows.length;
      }),
    sessions: (accountId, now, limit) =>
      engine.reading(async (db) => {
        let query = db
          .selectFrom('session')
          .selectAll()
          .where('ends_at', '>', now)
          .where('idle_until', '>', now)
          .orderBy('created_at', 'desc')
          .orderBy('hash')
          .limit(limit);
        if (accountId !== null) query = query.where('account_id', '=', accountId);
        return (await query.execute()).map(sessionOf);
      }),
    sweepSessions: (now) =>
      engine.write(async ({ db }) => {
        const ended = await db
          .deleteFrom('session')
          .where((eb) => eb.or([eb('ends_at', '<=', now), eb('idle_until', '<=', now)]))
          .executeTakeFirst();
        return Number(ended.numDeletedRows);
      }),

    createToken: (token, by) =>
      engine.write(async (tx) => {
        const row: ApiTokenRow = {
          id: token.id,
          hash: token.hash,
          name: token.name,
          owner: token.owner,
          grants: JSON.stringify(token.grants),
          created_at: by.at,
          created_by: by.actor,
          expires_at: token.expiresAt,
          revoked_at: null,
          used_at: null,
        };
        await tx.db.insertInto('api_token').values(row).execute();
        const after = shownToken(tokenOf(row));
        await writeAudit(tx, by, { action: 'api-token.create', object: `api-token:${token.id}`, before: null, after });
      }),
    token: (hash) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('api_token').selectAll().where('hash', '=', hash).executeTakeFirst();
        if (row === undefined) return undefined;
        return { token: tokenOf(row), held: await heldIn(db, await accountRow(db, row.owner)) };
      }),
    tokenById: (id) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('api_token').selectAll().where('id', '=', id).executeTakeFirst();
        return row === undefined ? undefined : tokenOf(row);
      }),
    tokens: (owner, page) =>
      engine.reading(async (db) => {
        let query = db.selectFrom('api_token').selectAll().orderBy('id');
        if (owner !== null) query = query.where('owner', '=', owner);
        if (page.cursor !== null) query = query.where('id', '>', page.cursor.id);
        return pageOf(await query.limit(page.limit + 1).execute(), page.limit, tokenOf, ({ id }) => ({ id }));
      }),
    revokeToken: (id, by) => engine.write((tx) => revokeIn(tx, 'api_token', id, by, (row) => shownToken(tokenOf(row)))),
    usedToken: (id, at) =>
      engine.write(async ({ db }) => {
        await db.updateTable('api_token').set({ used_at: at }).where('id', '=', id).execute();
      }),
  };
}
