/** What lies beside the tree, held against the entries: the columns of their rows, salts, payloads, and the rows that payloads tell of. */
import { parseInstant } from '#src/clock.ts';
import { BootproofError } from '#src/error.ts';
import { LOG_CHECK_ROWS } from '#src/limits.ts';
import { parseEntry, saltedDigest, type LogEntry } from '#src/log/entry.ts';
import { sameBytes } from '#src/log/proof.ts';
import type { LoggedEntry, LogHead, LogPayload } from '#server/store/logrecords.ts';
import type { Purge } from '#server/store/retentionrecords.ts';
import type { Store } from '#server/store/store.ts';
import { hash } from 'node:crypto';
import { checkAnchors } from './checkanchors.ts';
import { TREE } from './treereads.ts';
import { MISSING, type LogFault, type RowsChecked } from './verify.ts';

const sha = (bytes: Uint8Array): Uint8Array => hash('sha256', bytes, 'buffer');

/** Rows from `from` on, as many as one step looks at, and what others signed of checkpoints of their sizes. */
export async function checkRows(
  store: Pick<Store, 'log' | 'anchors' | 'settings'>,
  head: Pick<LogHead, 'log' | 'size' | 'origin'>,
  from: number,
  limit = LOG_CHECK_ROWS,
): Promise<RowsChecked> {
  const { log } = store;
  const rows = await log.entries(head.log, from, limit);
  const payloads = await log.payloads(rows.map(({ id }) => id));
  const purged = await told(log, [...payloads.values()]);
  const faults: LogFault[] = [];
  let held = 0;
  let gone = 0;
  const judgements: { readonly place: string; readonly payload: Uint8Array }[] = [];
  let expected = from;
  const missing = (to: number): void => {
    for (; expected < Math.min(to, from + limit); expected++)
      faults.push({ place: `entry ${expected}`, detail: MISSING });
  };
  for (const row of rows) {
    missing(Math.min(row.index, head.size));
    expected = row.index + 1;
    // Written since this began: for the next time.
    if (row.index >= head.size) continue;
    const place = `entry ${row.index}`;
    const entry = parsed(row, place, faults);
    if (!sameBytes(TREE.leaf(row.entry), row.leaf))
      faults.push({ place, detail: 'its row’s leaf is not the hash of its bytes: one of them was changed' });
    const payload = payloads.get(row.id);
    const outcome = entry === undefined ? 'wrong' : fits(entry, row, payload, purged, place, faults);
    if (outcome === 'held') held++;
    if (outcome === 'purged') gone++;
    if (outcome === 'held' && entry?.kind === 'judgement') judgements.push({ place, payload: payload!.bytes! });
  }
  for (const [i, detail] of await log.judgedDiffers(judgements.map(({ payload }) => payload)))
    faults.push({ place: judgements[i]!.place, detail });
  if (rows.length < limit) missing(head.size);
  const last = rows.at(-1);
  const next = last === undefined || rows.length < limit || last.index + 1 >= head.size ? null : last.index + 1;
  // Sizes up to the last of these entries; those that no entry leads to with the last ones.
  const sizes = { from: from === 0 ? Number.MIN_SAFE_INTEGER : from + 1, below: next === null ? null : next + 1 };
  const { faults: others, ...anchors } = await checkAnchors(store, head.origin, sizes);
  const strays = next === null ? await straysIn(log) : [];
  return { next, faults: [...faults, ...others, ...strays], held, purged: gone, anchors };
}

/** What was signed under a name that no log has here. */
async function straysIn(log: Pick<Store['log'], 'head' | 'past' | 'signedNames'>): Promise<readonly LogFault[]> {
  const known = new Set([...(await log.past()), await log.head()].map((one) => one?.origin));
  return (await log.signedNames())
    .filter((name) => !known.has(name))
    .map((name) => ({
      place: `log ${name}`,
      detail: 'checkpoints, or signatures of them, are kept under this name, and no log has it: it was changed',
    }));
}

/** The entry, held against its row's columns. */
function parsed(row: LoggedEntry, place: string, faults: LogFault[]): LogEntry | undefined {
  let entry: LogEntry;
  try {
    entry = parseEntry(row.entry);
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    faults.push({ place, detail: `its bytes were changed: ${error.message}` });
    return undefined;
  }
  const columns = { at: row.at, kind: row.kind, host: row.hostId };
  const said = { at: parseInstant(entry.at), kind: entry.kind, host: entry.host };
  for (const name of ['at', 'kind', 'host'] as const)
    if (columns[name] !== said[name])
      faults.push({ place, detail: `its row’s column ${name} was changed: the entry says ${said[name]}` });
  return entry;
}

/** What entries `purge` tell, by reference: the kind, and indexes by log. */
type Told = ReadonlyMap<string, { readonly of: string; has(log: number, index: number): boolean }>;

/** Of those that stand in the log with a payload that fits; an entry is one that somebody could have written beside it otherwise. */
async function told(log: Pick<Store['log'], 'purges'>, payloads: readonly LogPayload[]): Promise<Told> {
  const refs = [...new Set(payloads.flatMap(({ purgedBy }) => purgedBy ?? []))];
  const found = new Map<string, { of: string; has(log: number, index: number): boolean }>();
  for (const [ref, { entry: bytes, salt, body }] of await log.purges(refs)) {
    const entry = entryOf(bytes);
    if (entry?.kind !== 'purge' || salt?.length !== 32 || body === null) continue;
    if (saltedDigest(salt, body, sha) !== entry.digest) continue;
    const { entries } = JSON.parse(new TextDecoder().decode(body)) as Pick<Purge, 'entries'>;
    found.set(ref, {
      of: entry.facts.of,
      has: (which, index) =>
        entries.some((one) => one.log === which && one.ranges.some(([first, last]) => index >= first && index <= last)),
    });
  }
  return found;
}

function entryOf(bytes: Uint8Array): LogEntry | undefined {
  try {
    return parseEntry(bytes);
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    return undefined;
  }
}

function fits(
  { digest, kind }: LogEntry,
  { log, index }: LoggedEntry,
  payload: LogPayload | undefined,
  purges: Told,
  place: string,
  faults: LogFault[],
): 'held' | 'purged' | 'wrong' {
  const wrong = (detail: string): 'wrong' => {
    faults.push({ place, detail });
    return 'wrong';
  };
  if (digest === null) return 'held';
  if (payload === undefined) return wrong('salt and payload are gone: the row of log_payload was removed');
  const { ref, salt, bytes, purgedAt, purgedBy } = payload;
  if (purgedAt !== null) {
    if (salt !== null) return wrong(`says that it was purged, and its salt is still there (${ref})`);
    const purge = purges.get(purgedBy ?? '');
    return purge?.of === kind && purge.has(log, index)
      ? 'purged'
      : wrong(`says that it was purged, and no entry of the log tells of that (${ref})`);
  }
  if (salt === null) return wrong(`its salt is gone, and no purge says so (${ref})`);
  if (bytes === null) return wrong(`its payload ${ref} is gone, and no purge says so`);
  if (salt.length !== 32 || saltedDigest(salt, bytes, sha) !== digest)
    return wrong(`its payload ${ref} is not what was logged: it, or its salt, was changed`);
  return 'held';
}
