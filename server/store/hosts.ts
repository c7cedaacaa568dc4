/** Hosts: the records, and what people decide about them. What reports change goes through intake. */
import { isDeepStrictEqual } from 'node:util';
import { covers, type Scope } from '#src/finding/scope.ts';
import { REFUSAL_DETAIL_MAX } from '#src/limits.ts';
import { writeAudit } from './audit.ts';
import type { Engine, Tx } from './engine.ts';
import { createHost, knownKey, writeLabels } from './enrol.ts';
import { hostByKeyIn, hostIn, hostOf, PULSE_COLUMNS } from './hostrow.ts';
import { intakeIn } from './intake.ts';
import { lockPulses } from './pulses.ts';
import type * as r from './records.ts';
import type { Hosts } from './store.ts';
import type { HostRow, RefusalRow } from './tables.ts';

/** The caller holds the pulse. */
async function retireIn(tx: Tx, id: string, revision: number, by: r.Act): Promise<void> {
  const open = await tx.db
    .selectFrom('finding')
    .select('group_id')
    .where('host_id', '=', id)
    .where('is_open', '=', 1)
    .execute();
  await intakeIn(tx, [
    {
      hostId: id,
      expectRevision: revision,
      at: by.at,
      images: { booted: null, staged: null, rollback: null },
      findings: open.map(({ group_id }) => ({ kind: 'absent', groupId: group_id, reason: 'host_retired' })),
    },
  ]);
  await setState(tx, id, 'retired', by, 'host.retire');
}

async function setState(tx: Tx, id: string, state: r.HostState, by: r.Act, action: string): Promise<void> {
  const before = await tx.db.selectFrom('host').select('state').where('id', '=', id).executeTakeFirstOrThrow();
  await tx.db.updateTable('host').set({ state }).where('id', '=', id).execute();
  await tx.db
    .updateTable('pulse')
    .set((eb) => ({ state, revision: eb('revision', '+', 1) }))
    .where('host_id', '=', id)
    .execute();
  await writeAudit(tx, by, { action, object: `host:${id}`, before, after: { state } });
}

async function approveIn(tx: Tx, id: string, by: r.Act, scope: Scope): Promise<boolean | 'beyond'> {
  const host = await tx.db.selectFrom('host').select('machine_id').where('id', '=', id).executeTakeFirst();
  if (host === undefined) return false;
  const kin = await tx.db
    .selectFrom('host')
    .select(['id', 'host_group'])
    .where('machine_id', '=', host.machine_id)
    .where('state', '!=', 'retired')
    .execute();
  const ids = kin.map((row) => row.id);
  const pulses = await lockPulses(tx, [...new Set([...ids, id])]);
  if (pulses.get(id)?.state !== 'pending') return false;
  if (kin.some((other) => other.id !== id && !covers(scope, other.host_group))) return 'beyond';
  for (const other of ids) {
    const pulse = pulses.get(other);
    if (other === id || pulse === undefined || pulse.state === 'retired') continue;
    await retireIn(tx, other, pulse.revision, by);
  }
  await setState(tx, id, 'active', by, 'host.approve');
  return true;
}

type Sorted = Pick<HostRow, 'name' | 'host_group' | 'labels'>;

/** Columns of the host's row alone, which intake never writes: the row's own lock is enough. */
async function locked(tx: Tx, id: string): Promise<Sorted | undefined> {
  let query = tx.db.selectFrom('host').select(['name', 'host_group', 'labels']).where('id', '=', id);
  if (tx.locks) query = query.forUpdate();
  return query.executeTakeFirst();
}

async function changeIn(
  tx: Tx,
  id: string,
  before: Sorted,
  by: r.Act,
  action: string,
  values: Partial<HostRow>,
): Promise<Sorted> {
  await tx.db.updateTable('host').set(values).where('id', '=', id).execute();
  const after = { ...before, ...values };
  if (values.labels !== undefined) await writeLabels(tx, id, JSON.parse(values.labels) as r.Labels);
  await writeAudit(tx, by, { action, object: `host:${id}`, before: facts(before), after: facts(after) });
  return after;
}

function change(engine: Engine, id: string, by: r.Act, action: string, values: Partial<HostRow>): Promise<boolean> {
  return engine.write(async (tx) => {
    const before = await locked(tx, id);
    if (before === undefined) return false;
    await changeIn(tx, id, before, by, action, values);
    return true;
  });
}

async function changeAllIn(
  tx: Tx,
  id: string,
  { name, group, labels = {} }: r.HostChange,
  by: r.Act,
): Promise<{ readonly isSorted: boolean } | undefined> {
  let now = await locked(tx, id);
  if (now === undefined) return undefined;
  const held = JSON.parse(now.labels) as r.Labels;
  const wanted = labelsAfter(held, labels);
  const isMoved = group !== undefined && group !== now.host_group;
  const isLabelled = !isDeepStrictEqual(wanted, { ...held });
  if (name !== undefined && name !== now.name) now = await changeIn(tx, id, now, by, 'host.rename', named(name));
  if (isMoved) now = await changeIn(tx, id, now, by, 'host.group', { host_group: group });
  if (isLabelled) await changeIn(tx, id, now, by, 'host.labels', { labels: JSON.stringify(wanted) });
  return { isSorted: isMoved || isLabelled };
}

const named = (name: string) => ({ name, name_fold: name.toLowerCase() });

function labelsAfter(before: r.Labels, change: Readonly<Record<string, string | null>>): Record<string, string> {
  const after = new Map(Object.entries(before));
  for (const [key, value] of Object.entries(change)) {
    if (value === null) after.delete(key);
    else after.set(key, value);
  }
  return Object.fromEntries(after);
}

const facts = (row: Pick<HostRow, 'name' | 'host_group' | 'labels'>) => ({
  name: row.name,
  group: row.host_group,
  labels: JSON.parse(row.labels) as unknown,
});

function tally(refusals: readonly r.Refusal[]): RefusalRow[] {
  const rows = new Map<string, RefusalRow>();
  for (const { hostId, code, at, detail } of refusals) {
    const key = `${hostId} ${code}`;
    const row = rows.get(key);
    const told = { last_at: at, detail: detail.slice(0, REFUSAL_DETAIL_MAX) };
    if (row === undefined) rows.set(key, { host_id: hostId, code, count: 1, first_at: at, ...told });
    else Object.assign(row, told, { count: row.count + 1 });
  }
  return [...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
}

export function hostsOn(engine: Engine): Hosts {
  return {
    get: (id) => engine.reading((db) => hostIn(db, id)),
    byKey: (publicKey) => engine.reading((db) => hostByKeyIn(db, publicKey)),
    getMany: (ids) =>
      engine.reading(async (_db, select) => {
        const unique = [...new Set(ids)];
        // The pulse first: a host written between the two reads is then newer than its revision, and conflicts.
        const pulses = await select(
          'pulse',
          PULSE_COLUMNS,
          ['host_id'],
          unique.map((host_id) => ({ host_id })),
        );
        const rows = await select(
          'host',
          HOST_COLUMNS,
          ['id'],
          pulses.map(({ host_id }) => ({ id: host_id })),
        );
        const byId = new Map(rows.map((row) => [row.id, row]));
        return new Map(pulses.map((pulse) => [pulse.host_id, hostOf(byId.get(pulse.host_id)!, pulse)]));
      }),
    admit: ({ group, labels, ...enrolment }, by) =>
      engine.write(
        async (tx) =>
          (await knownKey(tx, enrolment.publicKey)) ??
          (await createHost(tx, enrolment, { group, labels, tokenId: null }, by)),
      ),
    approve: (id, by, scope) => engine.write((tx) => approveIn(tx, id, by, scope)),
    retire: (id, by) =>
      engine.write(async (tx) => {
        const pulse = (await lockPulses(tx, [id])).get(id);
        if (pulse === undefined || pulse.state === 'retired') return false;
        await retireIn(tx, id, pulse.revision, by);
        return true;
      }),
    setGroup: (id, group, by) => change(engine, id, by, 'host.group', { host_group: group }),
    setLabels: (id, labels, by) => change(engine, id, by, 'host.labels', { labels: JSON.stringify(labels) }),
    rename: (id, name, by) => change(engine, id, by, 'host.rename', named(name)),
    change: (id, wanted, by) => engine.write((tx) => changeAllIn(tx, id, wanted, by)),
    refuse: (refusals) =>
      engine.write(async ({ db }) => {
        for (const row of tally(refusals))
          await db
            .insertInto('refusal')
            .values(row)
            .onConflict((conflict) =>
              conflict.columns(['host_id', 'code']).doUpdateSet((eb) => ({
                count: eb('refusal.count', '+', eb.ref('excluded.count')),
                last_at: eb.ref('excluded.last_at'),
                detail: eb.ref('excluded.detail'),
              })),
            )
            .execute();
      }),
  };
}

const HOST_COLUMNS = [
  'id',
  'name',
  'name_fold',
  'machine_id',
  'public_key',
  'state',
  'host_group',
  'labels',
  'token_id',
  'created_at',
  'facts',
  'image_booted',
  'image_staged',
  'image_rollback',
  'rule',
  'verdict',
  'rank',
  'since',
  'integrity',
  'provenance',
  'allowed',
  'waived',
  'reasons',
  'drift',
  'open0',
  'open1',
  'open2',
  'open3',
  'open4',
  'acknowledged',
  'waived_findings',
  'valid_until',
  'bare_verdict',
  'bare_rank',
  'bare_integrity',
] as const satisfies readonly (keyof HostRow)[];
