/** Enrolment: a token's use and the host that comes of it, in one transaction (PROTOCOL 4). */
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { chainRow, EMPTY_CHAIN, freshnessRow, hostByKeyIn, hostOf, standingRow } from './hostrow.ts';
import type * as r from './records.ts';
import { revokeIn } from './revoke.ts';
import type { Tokens } from './store.ts';
import type { HostRow, PulseRow, TokenRow } from './tables.ts';

export const tokenOf = (row: TokenRow): r.Token => ({
  id: row.id,
  hash: row.hash,
  labels: JSON.parse(row.labels) as r.Labels,
  group: row.host_group,
  maxUses: row.max_uses,
  uses: row.uses,
  createdAt: row.created_at,
  createdBy: row.created_by,
  expiresAt: row.expires_at,
  revokedAt: row.revoked_at,
});

/** A token as the trail may show it. */
const shown = ({ hash: _hash, ...rest }: r.Token) => rest;

export type Origin = Pick<r.Host, 'group' | 'labels' | 'tokenId'>;

/** No report yet: nothing is known, and nothing is held against the host. */
function firstStanding(at: number): r.Standing {
  return {
    verdict: 'new',
    rank: 0,
    since: at,
    integrity: 'unverifiable',
    provenance: 'not-assessed',
    allowed: 0,
    waived: 0,
    reasons: [],
    drift: null,
  };
}

function rowsOf(enrolment: r.Enrolment, origin: Origin, state: r.HostState, at: number): [HostRow, PulseRow] {
  const host: HostRow = {
    id: enrolment.hostId,
    name: enrolment.name,
    name_fold: enrolment.name.toLowerCase(),
    machine_id: enrolment.machineId,
    public_key: enrolment.publicKey,
    state,
    host_group: origin.group,
    labels: JSON.stringify(origin.labels),
    token_id: origin.tokenId,
    created_at: at,
    facts: null,
    image_booted: null,
    image_staged: null,
    image_rollback: null,
    rule: null,
    ...standingRow(firstStanding(at)),
    open0: 0,
    open1: 0,
    open2: 0,
    open3: 0,
    open4: 0,
    acknowledged: 0,
    waived_findings: 0,
  };
  const pulse: PulseRow = {
    host_id: enrolment.hostId,
    revision: 1,
    state,
    verdict: host.verdict,
    ...chainRow(EMPTY_CHAIN),
    last_seq: null,
    last_kind: null,
    last_class: null,
    last_started: null,
    last_received: null,
    ...freshnessRow({
      liveAt: null,
      interval: enrolment.interval,
      lateAfter: enrolment.lateAfter,
      silentAfter: enrolment.silentAfter,
      silenceNoted: false,
    }),
    same_seq: null,
    same_digest: null,
    same_class: null,
    same_started: null,
    same_received: null,
    same_answer: null,
    same_envelope: null,
  };
  return [host, pulse];
}

export async function writeLabels(tx: Tx, hostId: string, labels: r.Labels): Promise<void> {
  const rows = Object.entries(labels).map(([key, value]) => ({ host_id: hostId, key, value }));
  await tx.db.deleteFrom('host_label').where('host_id', '=', hostId).execute();
  await tx.bulk.insert('host_label', ['host_id', 'key', 'value'], rows);
}

/**
 * Makes the host. Two at once for one key or machine: a unique index stops the second, the engine repeats it, and it finds
 * the first one's host.
 */
export async function createHost(
  tx: Tx,
  enrolment: r.Enrolment,
  origin: Origin,
  by: r.Act,
): Promise<Extract<r.EnrolOutcome, { kind: 'enrolled' | 'pending' }>> {
  const held = await tx.db
    .selectFrom('host')
    .select('id')
    .where('machine_id', '=', enrolment.machineId)
    .where('state', '=', 'active')
    .executeTakeFirst();
  const state = held === undefined ? 'active' : 'pending';
  const [row, pulse] = rowsOf(enrolment, origin, state, by.at);
  await tx.db.insertInto('host').values(row).execute();
  await tx.db.insertInto('pulse').values(pulse).execute();
  await writeLabels(tx, row.id, origin.labels);
  const host = hostOf(row, pulse);
  await writeAudit(tx, by, {
    action: 'host.enrol',
    object: `host:${row.id}`,
    before: null,
    after: { name: row.name, machineId: row.machine_id, publicKey: row.public_key, state, heldBy: held?.id ?? null },
  });
  return held === undefined ? { kind: 'enrolled', host } : { kind: 'pending', host, heldBy: held.id };
}

/** The host that a known key belongs to, as an outcome. */
export async function knownKey(tx: Tx, publicKey: string): Promise<r.EnrolOutcome | undefined> {
  const known = await hostByKeyIn(tx.db, publicKey);
  if (known === undefined) return undefined;
  return known.state === 'retired' ? { kind: 'refused', reason: 'host-retired' } : { kind: 'same', host: known };
}

async function enrolIn(tx: Tx, tokenId: string, enrolment: r.Enrolment, at: number): Promise<r.EnrolOutcome> {
  let query = tx.db.selectFrom('token').selectAll().where('id', '=', tokenId);
  if (tx.locks) query = query.forUpdate();
  const token = await query.executeTakeFirst();
  if (token === undefined) return { kind: 'refused', reason: 'token-unknown' };
  if (token.revoked_at !== null) return { kind: 'refused', reason: 'token-revoked' };
  const known = await knownKey(tx, enrolment.publicKey);
  if (known !== undefined) return known;
  if (token.expires_at <= at) return { kind: 'refused', reason: 'token-expired' };
  if (token.max_uses !== null && token.uses >= token.max_uses) return { kind: 'refused', reason: 'token-used-up' };
  await tx.db
    .updateTable('token')
    .set({ uses: token.uses + 1 })
    .where('id', '=', tokenId)
    .execute();
  const { group, labels } = tokenOf(token);
  return createHost(tx, enrolment, { group, labels, tokenId }, { actor: `token:${tokenId}`, at });
}

export function tokensOn(engine: Engine): Tokens {
  return {
    create: (token, by) =>
      engine.write(async (tx) => {
        const row: TokenRow = {
          id: token.id,
          hash: token.hash,
          labels: JSON.stringify(token.labels),
          host_group: token.group,
          max_uses: token.maxUses,
          uses: 0,
          created_at: by.at,
          created_by: by.actor,
          expires_at: token.expiresAt,
          revoked_at: null,
        };
        const made = await tx.db
          .insertInto('token')
          .values(row)
          .onConflict((conflict) => conflict.column('id').doNothing())
          .executeTakeFirst();
        // Repeated after a lost answer: it stands already, and so does its entry in the trail.
        if ((made.numInsertedOrUpdatedRows ?? 0n) === 0n) return;
        const after = shown(tokenOf(row));
        await writeAudit(tx, by, { action: 'token.create', object: `token:${token.id}`, before: null, after });
      }),
    get: (id) =>
      engine.reading(async (db) => {
        const row = await db.selectFrom('token').selectAll().where('id', '=', id).executeTakeFirst();
        return row === undefined ? undefined : tokenOf(row);
      }),
    revoke: (id, by) => engine.write((tx) => revokeIn(tx, 'token', id, by, (row) => shown(tokenOf(row)))),
    enrol: (tokenId, enrolment, at) => engine.write((tx) => enrolIn(tx, tokenId, enrolment, at)),
  };
}
