/**
 * The log of a bundle, walked once (docs/evidence.md 4, checks `log` and `records`): every entry against the signed root, every record against
 * its entry. Memory holds the right edge of the tree.
 */
import { fromBase64 } from '#src/bytes.ts';
import type { Digest } from '#src/digest.ts';
import { EntryError, parseEntry, saltedDigest, type LogEntry } from '#src/log/entry.ts';
import {
  appendLeaf,
  HASH_BYTES,
  ProofError,
  rootOfRange,
  sameBytes,
  subtreesOf,
  verifyInclusion,
  type CompactRange,
  type TreeHash,
} from '#src/log/proof.ts';
import type { ListName, LogEdge, LogRecord, ProvenEntry } from './bundle.ts';
import type { Faults } from './steps.ts';

export type Walked = {
  readonly index: number;
  readonly entry: LogEntry;
  /** Undefined where the bundle does not hold what the entry is about. */
  readonly record: LogRecord | undefined;
  /** UTF-8, its digest checked; undefined without a record, and where it was purged or the entry has none. */
  readonly payload: string | undefined;
};

export type Walk = {
  readonly size: number;
  readonly root: Uint8Array;
  readonly from: number;
  readonly left: Uint8Array;
  readonly tree: TreeHash;
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
  /** The root at each of these sizes is wanted. */
  readonly sizes: ReadonlySet<number>;
  /** Filled on the way. */
  readonly roots: Map<number, Uint8Array>;
  /** What is wrong with entries and root, and with records. */
  readonly log: Faults;
  readonly records: Faults;
};

const LIST_OF: Readonly<Partial<Record<LogEntry['kind'], ListName>>> = {
  report: 'records/reports',
  judgement: 'records/judgements',
  act: 'records/acts',
  restart: 'records/acts',
  purge: 'records/acts',
};
const encoder = new TextEncoder();

/** Every entry that the bundle holds, by rising index; those before `from` only where a record proves them. */
export async function* walkLog(
  walk: Walk,
  entries: AsyncIterable<Uint8Array>,
  records: AsyncIterable<{ readonly list: ListName; readonly record: LogRecord }>,
): AsyncIterable<Walked> {
  const { size, from, tree, log } = walk;
  let range = leftEdge(walk);
  if (range === undefined) return;
  const note = () => {
    if (walk.sizes.has(range!.size)) walk.roots.set(range!.size, rootOfRange(range!, tree));
  };
  const pull = entries[Symbol.asyncIterator]();
  const next = async (): Promise<Uint8Array | undefined> => {
    note();
    const { done, value } = await pull.next();
    if (done === true) return undefined;
    range = appendLeaf(range!, tree.leaf(value), tree);
    return value;
  };
  for await (const { list, record } of records) {
    const { index, proven } = record;
    if (index < from) {
      const entry = proven === null ? undefined : provenIn(walk, proven, walk.records);
      if (proven === null || entry === undefined || proven.index !== index)
        walk.records.add(`${list}: entry ${index} is before those of the bundle, and has no proof of its own`);
      else yield told(walk, index, entry, list, record);
      continue;
    }
    while (range.size < index) {
      const at: number = range.size;
      const bytes = await next();
      if (bytes === undefined) break;
      const entry = entryIn(bytes, at, log);
      if (entry !== undefined) yield { index: at, entry, record: undefined, payload: undefined };
    }
    const bytes = range.size === index ? await next() : undefined;
    if (bytes === undefined) {
      walk.records.add(`${list}: there is no entry ${index} in the bundle`);
      continue;
    }
    const entry = entryIn(bytes, index, log);
    if (entry !== undefined) yield told(walk, index, entry, list, record);
  }
  for (;;) {
    const at = range.size;
    const bytes = await next();
    if (bytes === undefined) break;
    const entry = entryIn(bytes, at, log);
    if (entry !== undefined) yield { index: at, entry, record: undefined, payload: undefined };
  }
  if (range.size !== size) log.add(`it holds entries up to ${range.size}, the signed log has ${size}`);
  else if (!sameBytes(rootOfRange(range, tree), walk.root))
    log.add('its entries lead to another root than the one that was signed: one was changed, removed, added or moved');
}

/** The right edge of the entries before the first; undefined, and told, where `log/left` is not that. */
export function leftEdge({ from, left, size, log }: Walk): CompactRange | undefined {
  const whole = subtreesOf(0, from).length;
  if (from > size || left.length !== whole * HASH_BYTES) {
    log.add(`log/left has ${left.length} bytes; ${from} entries make ${whole} hashes`);
    return undefined;
  }
  const hashes = Array.from({ length: whole }, (_, i) => left.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES));
  return { size: from, hashes };
}

function entryIn(bytes: Uint8Array, index: number, faults: Faults): LogEntry | undefined {
  try {
    return parseEntry(bytes);
  } catch (error) {
    if (!(error instanceof EntryError)) throw error;
    faults.add(`entry ${index}: ${error.message}`);
    return undefined;
  }
}

/** An entry with a proof of its own; undefined, and told, where that does not lead to the signed root. */
export function provenIn(
  { size, root, tree }: Pick<Walk, 'size' | 'root' | 'tree'>,
  { index, entry, proof }: ProvenEntry,
  faults: Faults,
): LogEntry | undefined {
  const bytes = fromBase64(entry);
  try {
    verifyInclusion(tree.leaf(bytes), index, { size, root }, proof.map(fromBase64), tree);
  } catch (error) {
    if (!(error instanceof ProofError)) throw error;
    faults.add(error.message);
    return undefined;
  }
  return entryIn(bytes, index, faults);
}

function told(walk: Walk, index: number, entry: LogEntry, list: ListName, record: LogRecord): Walked {
  const { records, sha256 } = walk;
  if (LIST_OF[entry.kind] !== list) records.add(`${list}: entry ${index} is a ${entry.kind}`);
  const { salt, payload } = record;
  if ((salt === null) !== (payload === null)) records.add(`entry ${index}: half of what lies beside it is missing`);
  if (salt === null || payload === null) return { index, entry, record, payload: undefined };
  const digest: Digest | null =
    entry.digest === null ? null : saltedDigest(fromBase64(salt), encoder.encode(payload), sha256);
  if (digest === null || digest !== entry.digest) {
    records.add(
      `entry ${index}: what lies beside it is not what was logged (${entry.kind}${entry.host === null ? '' : ` of ${entry.host}`})`,
    );
    return { index, entry, record, payload: undefined };
  }
  return { index, entry, record, payload };
}

/** The entries at the edges, each proven; null where there is none to prove. */
export function edgesOf(walk: Walk, { before, last }: LogEdge): { before: LogEntry | null; last: LogEntry | null } {
  const { from, size, log } = walk;
  const edge = (proven: ProvenEntry | null, index: number, wanted: boolean): LogEntry | null => {
    if (!wanted) return null;
    if (proven?.index !== index) {
      log.add(`log/edge.json does not hold entry ${index}`);
      return null;
    }
    return provenIn(walk, proven, log) ?? null;
  };
  return {
    before: edge(before, from - 1, from > 0 && from < size),
    last: edge(last, size - 1, size > 0 && from === size),
  };
}
