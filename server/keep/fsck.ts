/**
 * `bootproof server fsck`: whether a store is whole: every report once and as it was sent, chains, counters, references, bytes, the evidence
 * log, work that nobody does. Reads one moment, page by page, beside a server that runs (docs/durability.md 3).
 */
import { existsSync } from 'node:fs';
import { readCheckpoint } from '#src/log/checkpoint.ts';
import { sameBytes } from '#src/log/proof.ts';
import { BootproofError } from '#src/error.ts';
import { FSCK_TOLD, JOB_STUCK_ATTEMPTS, JOB_STUCK_MS } from '#src/limits.ts';
import { publicKeyOfSeed, verifyInPool } from '#src/signing/node.ts';
import { CheckpointFile } from '#server/log/checkpointfile.ts';
import { isRestoredNote } from '#server/log/restored.ts';
import { keyOf, storeReader } from '#server/log/storereader.ts';
import { TreeReads } from '#server/log/treereads.ts';
import { verifyLog } from '#server/log/verify.ts';
import { openMoment, type Moment } from '#server/store/moment.ts';
import type { Rule } from '#server/store/sound/rule.ts';
import { RULES, stuckRule } from '#server/store/sound/rules.ts';
import { StoreError, type Store } from '#server/store/store.ts';
import { checkBytes, checkExports } from './bytes.ts';
import { checkChains } from './chains.ts';
import { FaultList, type FaultKind, type Faults } from './fault.ts';
import { checkLedger, type Acknowledged, type LedgerChecked } from './ledger.ts';

export type FsckOptions = {
  /** As `openStore` takes it. */
  readonly url: string;
  /** Where the log's last checkpoint is kept apart from it; undefined: it is not looked at. */
  readonly checkpointFile?: string | undefined;
  /** Where exported bundles lie, likewise. */
  readonly exports?: string | undefined;
  readonly ledger?: AsyncIterable<Acknowledged> | Iterable<Acknowledged> | undefined;
  /** Told what is looked at now. */
  readonly tell?: (step: string) => void;
};

export type Fsck = {
  /** Whether no fault was found. */
  readonly sound: boolean;
  readonly engine: 'sqlite' | 'postgres';
  readonly looked: Readonly<Record<'hosts' | 'reports' | 'purged' | 'blobs' | 'texts' | 'exports' | 'entries', number>>;
  readonly ledger: LedgerChecked | null;
  readonly faults: readonly Faults[];
  /** Why the rest was not looked at; null where all was. */
  readonly ended: string | null;
};

const DAMAGE: FaultKind = {
  code: 'DATABASE_DAMAGED',
  table: 'database',
  means: 'the file itself is damaged, or an index does not hold what its table holds: rows are lost or found twice',
  todo: 'stop the server, keep the file, look at the disk, and restore a backup (bootproof server restore); an index alone is made anew by REINDEX',
};
const ROW: FaultKind = {
  code: 'ROW_SYNTAX',
  table: 'database',
  means:
    'a row holds what nothing here writes; the server fails where it reads it, and what comes behind it was not looked at',
  todo: 'somebody changed the database by hand: restore a backup that is sound',
};
const LOG: FaultKind = {
  code: 'LOG',
  table: 'log_entry',
  means: 'the evidence log, or what its entries are about, is not what was signed',
  todo: "find out who changed the database; 'bootproof log verify' tells the same with the log's key; restore a backup that is sound",
};
const LOG_KEY: FaultKind = {
  code: 'LOG_KEY',
  table: 'log_head',
  means: 'the key in the database is not the one that the log was begun with: nothing that is signed now is believed',
  todo: 'restore a backup that is sound, or begin a new log (bootproof log restart --new-origin NAME)',
};
const REWOUND: FaultKind = {
  code: 'LOG_REWOUND',
  table: 'log_head',
  means: 'more was published than the database has: it was restored from a backup, or lost what was written last',
  todo: "put the newer database back, or begin a new log that names this one: 'bootproof log restart --new-origin NAME'",
};

/** Whether the data itself may be used: work that is late does not speak against it. */
export const isUsable = ({ faults }: Pick<Fsck, 'faults'>): boolean => faults.every(({ code }) => code === 'JOB_STUCK');

/** @throws {StoreError | KeepError | CheckpointFileError} where nothing can be said. */
export async function fsck({ url, checkpointFile, exports, ledger, tell = () => {} }: FsckOptions): Promise<Fsck> {
  // Before the moment: a server that runs publishes on, and what it has published is then in the moment for certain.
  const published = checkpointFile === undefined ? undefined : new CheckpointFile(checkpointFile).read();
  const moment = await openMoment(url);
  const faults = new FaultList();
  const looked = { hosts: 0, reports: 0, purged: 0, blobs: 0, texts: 0, exports: 0, entries: 0 };
  let checked: LedgerChecked | null = null;
  let ended: string | null = null;
  try {
    const { store, sound } = moment;
    // A part of the file that is damaged must not hide what is wrong elsewhere.
    const step = async (what: string, look: () => Promise<void>): Promise<void> => {
      tell(what);
      try {
        await look();
      } catch (error) {
        // What a row holds as JSON or as packed bytes, and is none.
        const isRow = error instanceof SyntaxError || error instanceof RangeError || error instanceof TypeError;
        if (!isRow && (!(error instanceof StoreError) || error.code !== 'STORE_FOREIGN')) throw error;
        faults.add(isRow ? ROW : DAMAGE, what, `this could not be looked at to its end: ${error.message}`);
      }
    };
    await step('the file', async () => {
      for (const found of await sound.damage(FSCK_TOLD)) faults.add(DAMAGE, 'the file', found);
    });
    await checkRules(moment, faults, step);
    await step('reports', async () => void Object.assign(looked, await checkChains(sound, faults)));
    await step('manifests and texts', async () => void Object.assign(looked, await checkBytes(sound, faults)));
    if (exports !== undefined && existsSync(exports))
      await step('bundles', async () => void (looked.exports = await checkExports(sound, exports, faults)));
    await step('the evidence log', async () => void (looked.entries = await checkLog(store, published, faults)));
    if (ledger !== undefined)
      await step('what was acknowledged', async () => void (checked = await checkLedger(ledger, store, sound, faults)));
  } catch (error) {
    // A database that goes away ends the reading somewhere: what was found until then is told.
    if (!(error instanceof StoreError) || faults.all.length === 0) throw error;
    ended = error.message;
  } finally {
    await moment.close();
  }
  const all = faults.all;
  return { sound: all.length === 0, engine: moment.engine, looked, ledger: checked, faults: all, ended };
}

async function checkRules(
  { sound }: Moment,
  faults: FaultList,
  step: (what: string, look: () => Promise<void>) => Promise<void>,
): Promise<void> {
  let rules: readonly Rule[] = RULES;
  await step('what waits', async () => {
    const seen = await sound.lastSeen();
    if (seen !== null) rules = [...RULES, stuckRule(seen, JOB_STUCK_MS, JOB_STUCK_ATTEMPTS)];
  });
  for (const rule of rules)
    await step(`rows of ${rule.table}`, async () => {
      const { rows, count } = await sound.broken(rule, FSCK_TOLD);
      faults.addAll(rule, rows, count);
    });
}

/** Every log that was begun here; answers how many entries they have. */
async function checkLog(store: Store, published: string | undefined, faults: FaultList): Promise<number> {
  const head = await store.log.head();
  const past = await store.log.past();
  let entries = 0;
  for (const one of [...past, ...(head === undefined ? [] : [head])]) {
    const done = await verifyLog(storeReader(store, one), keyOf(one), verifyInPool);
    entries += done.size;
    const first = done.faults.map(({ place, detail }) => ({ key: `log ${one.log}, ${place}`, found: detail }));
    faults.addAll(LOG, first, first.length + done.more);
  }
  if (head !== undefined) {
    const seed = await store.settings.get('log-key-seed');
    if (seed?.length === 32 && publicKeyOfSeed(seed) !== head.publicKey)
      faults.add(LOG_KEY, head.origin, `it was begun with ${head.publicKey}`);
  }
  if (published !== undefined) await checkPublished(store, published, faults);
  return entries;
}

/** The last checkpoint that was published, as it lies apart from the database. */
async function checkPublished(store: Store, note: string, faults: FaultList): Promise<void> {
  let last;
  try {
    last = readCheckpoint(note);
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    // After a restore it is no fault that the log waits for its restart.
    if (isRestoredNote(note)) return undefined;
    return faults.add(REWOUND, 'log.checkpoint', `the file holds no checkpoint: ${error.message}`);
  }
  const { origin, size, root } = last;
  const head = await store.log.head();
  const own = [...(head === undefined ? [] : [head]), ...(await store.log.past())].find((one) => one.origin === origin);
  if (own === undefined) {
    // After a restart that named it, the file is of the old log until the new one is published.
    if (head?.previous?.origin !== origin)
      faults.add(REWOUND, origin, `${size} entries were published, and there is no such log here`);
    return;
  }
  if (own.size < size) {
    if (head?.previous?.origin !== origin)
      faults.add(REWOUND, origin, `${size} entries were published, and it has ${own.size}`);
    return;
  }
  const rootThen = await new TreeReads(store).rootAt(own.log, size);
  if (rootThen === undefined || !sameBytes(rootThen, root))
    faults.add(REWOUND, origin, `its first ${size} entries are not those that were published`);
}
