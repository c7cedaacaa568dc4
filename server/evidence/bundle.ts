/**
 * Makes a bundle out of the store (docs/evidence.md 7): what it says is gathered on disk; then the members are written forward, and each that is whole is
 * noted, so that an attempt goes on behind what an earlier one had written. In memory are one page of rows, one text of a manifest, and a bit for each
 * entry of the log.
 */
import { createHash } from 'node:crypto';
import { open, rename, rm, statfs } from 'node:fs/promises';
import { fromBase64, toBase64 } from '#src/bytes.ts';
import type { LogRecord, ProvenEntry } from '#src/evidence/bundle.ts';
import { derivedMembers } from '#src/evidence/derived.ts';
import type { Facts } from '#src/evidence/facts.ts';
import { writeBundle, type BundleParts } from '#src/evidence/writer.ts';
import type { NewMember } from '#src/evidence/zip.ts';
import { EXPORT_FREE_BYTES, LOG_BATCH_MAX } from '#src/limits.ts';
import { subtreesOf } from '#src/log/proof.ts';
import { fingerprintOf, type Signer } from '#src/signing/ed25519.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { TreeReads } from '#server/log/treereads.ts';
import type { StageProgress } from '#server/store/evidencerecords.ts';
import type { Store } from '#server/store/store.ts';
import { earlier, fileOf, journalOf, partOf } from './attempts.ts';
import { gather, type GatherOrder, type TakenOver } from './gather.ts';
import { textsOf } from './images.ts';
import { Journal } from './journal.ts';
import { EvidenceError } from './selection.ts';
import type { Snapshot } from './snapshot.ts';
import { Stages } from './stages.ts';

export type BundleOrder = GatherOrder & {
  /** A larger one is refused. */
  readonly bytesMax: number;
};

export type BundleDeps = {
  readonly store: Store;
  /** The server's key. */
  readonly signer: Signer;
  /** Hears how far it is, some times a second. */
  readonly tell: (progress: readonly StageProgress[], hosts: number | null) => void;
};

export type MadeBundle = {
  readonly sha256: string;
  readonly bytes: number;
  readonly hosts: number;
  /** What an earlier attempt had done of it: hosts that were read, and members that were written; null where there was none. */
  readonly takenOver: (TakenOver & { readonly members: number }) | null;
};

/** The finished file is there when it returns; what it was made from, too, until somebody knows of it. @throws {EvidenceError} EVIDENCE_DISK */
export async function makeBundle(order: BundleOrder, deps: BundleDeps): Promise<MadeBundle> {
  const { folder, wanted } = order;
  const stages = new Stages(deps.tell);
  const { snapshot, takenOver } = await gather(order, deps.store, stages);
  const made = await new BundleWriter(order, deps, stages, snapshot).write();
  await rename(partOf(folder, wanted), fileOf(folder, wanted));
  const { sha256, bytes, members } = made;
  return { sha256, bytes, hosts: snapshot.inScope, takenOver: takenOver && { ...takenOver, members } };
}

const decoder = new TextDecoder();
const DISK_EVERY_BYTES = 2 ** 25;

class BundleWriter {
  readonly #order: BundleOrder;
  readonly #deps: BundleDeps;
  readonly #stages: Stages;
  readonly #found: Snapshot;
  readonly #reads: TreeReads;
  /** First entry of the bundle. */
  readonly #from: number;

  constructor(order: BundleOrder, deps: BundleDeps, stages: Stages, found: Snapshot) {
    this.#order = order;
    this.#deps = deps;
    this.#stages = stages;
    this.#found = found;
    this.#from = found.head.log.from;
    this.#reads = new TreeReads(deps.store);
  }

  /** Goes on behind the members that an earlier attempt wrote of the same snapshot. */
  async write(): Promise<Pick<MadeBundle, 'sha256' | 'bytes'> & { readonly members: number }> {
    const { wanted, folder } = this.#order;
    const { signer } = this.#deps;
    const earlierOnes = (await earlier(folder, wanted, 'journal')).map((attempt) => ({
      journal: journalOf(folder, attempt),
      files: [partOf(folder, attempt), fileOf(folder, attempt)],
    }));
    await using file = await open(partOf(folder, wanted), 'w', 0o600);
    const hash = createHash('sha256');
    let bytes = 0;
    let checked = 0;
    const add = async (piece: Uint8Array): Promise<void> => {
      if (bytes - checked >= DISK_EVERY_BYTES || bytes === 0) {
        await roomFor(folder, bytes, this.#order.bytesMax);
        checked = bytes;
      }
      hash.update(piece);
      bytes += piece.length;
      await file.writeFile(piece);
    };
    await using journal = await Journal.open(journalOf(folder, wanted), this.#found.id);
    await journal.takeOver(this.#found.id, earlierOnes, add);
    for (const { journal: noted, files } of earlierOnes)
      for (const gone of [noted, ...files]) await rm(gone, { force: true });
    const before = journal.members;
    const there = new Set(before.map(({ entry }) => entry.name));
    const progress = { before: [...before], done: (member: (typeof before)[number]) => journal.add(member) };
    for await (const piece of writeBundle(await this.#parts(there), signer, () => createHash('sha256'), progress)) {
      journal.see(piece);
      await add(piece);
    }
    await file.sync();
    return { sha256: hash.digest('hex'), bytes, members: there.size };
  }

  async #parts(there: ReadonlySet<string>): Promise<BundleParts> {
    const found = this.#found;
    const { size } = found.head.log;
    const { reports, judgements } = found.records;
    const facts = this.#facts();
    return {
      ...facts,
      log: {
        checkpoint: this.#order.wanted.cut.note,
        left: await this.#left(),
        entries: (skip) => this.#entryBytes(skip),
        edge: {
          before: this.#from > 0 && this.#from < size ? await this.#proven(this.#from - 1) : null,
          last: this.#from === size ? await this.#proven(size - 1) : null,
        },
        last: await this.#proven(size - 1),
      },
      reports: (skip) => this.#recordsOf('reports', 0, skip),
      judgements: (skip) => this.#recordsOf('judgements', reports.count, skip),
      acts: (skip) => this.#recordsOf('acts', reports.count + judgements.count, skip),
      headers: async function* () {
        for await (const { envelope } of found.list('headers')) yield envelope;
      },
      files: () => this.#files(facts, there),
    };
  }

  #facts(): Facts {
    const found = this.#found;
    return {
      head: found.head,
      hosts: () => found.list('hosts'),
      findings: () => found.list('findings'),
      decisions: () => found.list('decisions'),
      images: () => found.list('images'),
      policies: async function* () {
        yield* found.policies;
      },
      reconciliations: () => found.list('reconciliations'),
      logHolds: true,
    };
  }

  get #log(): number {
    return this.#order.wanted.cut.log;
  }

  async #left(): Promise<Uint8Array[]> {
    const read = this.#reads.hashes(this.#log, this.#found.head.log.size);
    const out: Uint8Array[] = [];
    for (const node of subtreesOf(0, this.#from)) out.push(await read(node));
    return out;
  }

  async *#entryBytes(skip: number): AsyncGenerator<Uint8Array> {
    const { size } = this.#found.head.log;
    const total = size - this.#from;
    for (let next = this.#from + skip; next < size;) {
      this.#stages.step('entries', next - this.#from, total);
      const page = await this.#deps.store.evidence.entryBytes(this.#log, next, Math.min(LOG_BATCH_MAX, size - next));
      if (page.length === 0) throw new Error(`entry ${next} of the log is not there: 'bootproof log verify' says more`);
      yield* page;
      next += page.length;
    }
  }

  async #proven(index: number): Promise<ProvenEntry> {
    const [entry] = await this.#deps.store.log.entries(this.#log, index, 1);
    if (entry?.index !== index) throw new Error(`entry ${index} of the log is not there`);
    return this.#withProof(index, entry.entry);
  }

  async #withProof(index: number, entry: Uint8Array): Promise<ProvenEntry> {
    const proof = await this.#reads.inclusion(this.#log, index, this.#found.head.log.size);
    return { index, entry: toBase64(entry), proof: proof.map(toBase64) };
  }

  async *#recordsOf(list: 'reports' | 'judgements' | 'acts', before: number, skip: number): AsyncGenerator<LogRecord> {
    const { reports, judgements, acts } = this.#found.records;
    const total = reports.count + judgements.count + acts.count;
    let done = before + skip;
    for (const page of this.#found.records[list].pages(RECORDS_PAGE, skip)) {
      this.#stages.step('records', done, total);
      for (const { index, entry, salt, payload } of await this.#deps.store.evidence.records(this.#log, page)) {
        done++;
        yield {
          index,
          proven: index < this.#from ? await this.#withProof(index, entry) : null,
          salt: salt === null ? null : toBase64(salt),
          payload: payload === null ? null : decoder.decode(payload),
        };
      }
    }
  }

  async *#files(facts: Facts, there: ReadonlySet<string>): AsyncGenerator<NewMember> {
    const { store, signer } = this.#deps;
    let done = 0;
    for await (const { name, bytes } of textsOf(this.#found.list('headers'), there, store)) {
      this.#stages.step('manifests', ++done, null);
      yield { name, content: bytes };
    }
    for await (const { name, base64 } of this.#found.list('files')) yield { name, content: fromBase64(base64) };
    const { frameworks } = facts.head;
    const mappings = (await shippedFrameworks()).filter(({ framework }) => frameworks.includes(framework.id));
    this.#stages.step('results', 0, null);
    yield* derivedMembers(facts, mappings, { fingerprint: fingerprintOf(signer.publicKey) });
  }
}

/** Records at once: each may be an envelope of some MB. */
const RECORDS_PAGE = 50;

async function roomFor(folder: string, bytes: number, most: number): Promise<void> {
  if (bytes > most)
    throw new EvidenceError(
      'EVIDENCE_DISK',
      `the bundle is larger than ${most / 2 ** 30} GiB: ask for a shorter period, or for a part of the hosts`,
    );
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < EXPORT_FREE_BYTES)
    throw new EvidenceError(
      'EVIDENCE_DISK',
      `less than ${EXPORT_FREE_BYTES / 2 ** 30} GiB is free on the disk of ${folder}: make room, delete older exports, or ask for less`,
    );
}
