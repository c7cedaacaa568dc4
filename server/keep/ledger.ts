/**
 * A record of what a server acknowledged, as an agent or a load generator keeps it: lines `HOST SEQ DIGEST [full|same]`. Each is held against
 * what the store has (docs/durability.md 3.5).
 */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { isDigest, type Digest } from '#src/digest.ts';
import { FSCK_PAGE } from '#src/limits.ts';
import { HostId } from '#src/wire/hostid.ts';
import type { Soundness } from '#server/store/sound/reads.ts';
import type { Store } from '#server/store/store.ts';
import { KeepError, type FaultKind, type FaultList } from './fault.ts';

export type Acknowledged = {
  readonly host: string;
  readonly seq: number;
  readonly digest: Digest;
  /** Where the record says. */
  readonly kind?: 'full' | 'same';
};

export type LedgerChecked = {
  /** Lines. */
  readonly acknowledged: number;
  /** Envelopes that are kept, under their number and digest. */
  readonly kept: number;
  /** `same` reports that made room for a newer one: their number was taken. */
  readonly passed: number;
};

const LOST: FaultKind = {
  code: 'ACKNOWLEDGED_LOST',
  table: 'report',
  means: 'a report that was acknowledged is not here',
  todo: 'restore the newest backup that has it; the host will not send it again, because it was told that it was taken',
};
const OTHER: FaultKind = {
  ...LOST,
  code: 'ACKNOWLEDGED_OTHER',
  means: 'under the number of an acknowledged report something else is kept',
};

/** @throws {KeepError} KEEP_LEDGER for a line that is none, KEEP_FILE for a file that cannot be read. */
export async function* readLedger(path: string): AsyncGenerator<Acknowledged> {
  let line = 0;
  try {
    for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
      line++;
      if (text !== '' && !text.startsWith('#')) yield parse(text, `${path}:${line}`);
    }
  } catch (cause) {
    if (cause instanceof KeepError) throw cause;
    const { code = String(cause) } = cause as NodeJS.ErrnoException;
    throw new KeepError('KEEP_FILE', `${path} cannot be read: ${code}`, { cause });
  }
}

function parse(text: string, place: string): Acknowledged {
  const [host = '', seq = '', digest = '', kind, ...more] = text.trim().split(/\s+/);
  const isKind = kind === undefined || kind === 'full' || kind === 'same';
  if (
    !HostId.safeParse(host).success ||
    !/^[1-9][0-9]{0,15}$/.test(seq) ||
    !isDigest(digest) ||
    !isKind ||
    more.length > 0
  )
    throw new KeepError(
      'KEEP_LEDGER',
      `${place}: expected the id of a host, a number, a digest, and full or same where it is known: h_… 12 sha256:… full`,
    );
  return { host, seq: Number(seq), digest, ...(kind === undefined ? {} : { kind }) };
}

/** Holds each line against the store; flat memory, however long the record is. */
export async function checkLedger(
  lines: AsyncIterable<Acknowledged> | Iterable<Acknowledged>,
  store: Pick<Store, 'hosts'>,
  sound: Soundness,
  faults: FaultList,
): Promise<LedgerChecked> {
  const seen = { acknowledged: 0, kept: 0, passed: 0 };
  let page: Acknowledged[] = [];
  const check = async (): Promise<void> => {
    const hosts = await store.hosts.getMany([...new Set(page.map(({ host }) => host))]);
    const rows = await sound.kept(page.map(({ host, seq }) => ({ hostId: host, seq })));
    const kept = Map.groupBy(rows, ({ hostId, seq }) => `${hostId} ${seq}`);
    for (const { host: id, seq, digest, kind } of page) {
      seen.acknowledged++;
      const chain = hosts.get(id)?.chain;
      const known = (kept.get(`${id} ${seq}`) ?? []).map((row) => row.digest);
      const recent = chain?.recent.find((one) => one.seq === seq)?.digest;
      if (recent !== undefined) known.push(recent);
      const isTaken =
        chain !== undefined && seq <= chain.headSeq && !chain.gaps.some(({ from, to }) => from <= seq && seq <= to);
      if (known.includes(digest) && (kind !== 'full' || rows.some((row) => row.digest === digest))) seen.kept++;
      else if (known.length > 0 && !known.includes(digest))
        faults.add(OTHER, `${id} ${seq}`, `acknowledged was ${digest}, here is ${known.join(', ')}`);
      else if (isTaken && kind !== 'full') seen.passed++;
      else faults.add(LOST, `${id} ${seq}`, hosts.has(id) ? digest : `${digest}; nor is the host`);
    }
    page = [];
  };
  for await (const line of lines) {
    page.push(line);
    if (page.length >= FSCK_PAGE) await check();
  }
  if (page.length > 0) await check();
  return seen;
}
