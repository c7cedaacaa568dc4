/**
 * Makes a bundle out of the store (docs/evidence.md 7): every host is read once, its facts go to disk beside the file; then the members are written
 * forward. In memory are one host, one page of rows, one text of a manifest, and a bit for each entry of the log.
 */
import { createHash } from 'node:crypto';
import { open, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { toBase64 } from '#src/bytes.ts';
import { formatInstant } from '#src/clock.ts';
import type { LogRecord, ProvenEntry } from '#src/evidence/bundle.ts';
import { derivedMembers } from '#src/evidence/derived.ts';
import type { BundleHead, Facts } from '#src/evidence/facts.ts';
import { writeBundle } from '#src/evidence/writer.ts';
import type { NewMember } from '#src/evidence/zip.ts';
import { EXPORT_BYTES_MAX, EXPORT_FREE_BYTES, LOG_BATCH_MAX } from '#src/limits.ts';
import { subtreesOf } from '#src/log/proof.ts';
import { fingerprintOf, type Signer } from '#src/signing/ed25519.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { levelAt, stampMembers } from '#server/log/anchors.ts';
import { TreeReads } from '#server/log/treereads.ts';
import type { EvidenceExport, StageProgress } from '#server/store/evidencerecords.ts';
import type { Store } from '#server/store/store.ts';
import { Gathered, type CutExport } from './gather.ts';
import { headersOf, textsOf } from './images.ts';
import { EvidenceError } from './selection.ts';
import { Stages } from './stages.ts';

export type BundleOrder = {
  readonly wanted: CutExport;
  /** The log's verifier key. */
  readonly logKey: string;
  readonly server: BundleHead['server'];
  /** Where the file and what it is made from lie. */
  readonly folder: string;
};

export type BundleDeps = {
  readonly store: Store;
  /** The server's key. */
  readonly signer: Signer;
  /** Hears how far it is, some times a second. */
  readonly tell: (progress: readonly StageProgress[], hosts: number | null) => void;
};

export type MadeBundle = { readonly sha256: string; readonly bytes: number; readonly hosts: number };

type Attempt = Pick<EvidenceExport, 'id' | 'attempts'>;
/** Each attempt has files of its own: a process that was taken for dead may be at it still. */
export const fileOf = (folder: string, { id, attempts }: Attempt): string => join(folder, `${id}.${attempts}.zip`);
const partOf = (folder: string, { id, attempts }: Attempt): string => join(folder, `${id}.${attempts}.part`);
const workOf = (folder: string, { id, attempts }: Attempt): string => join(folder, `${id}.${attempts}.work`);

/** @throws {EvidenceError} EVIDENCE_DISK */
export async function makeBundle(order: BundleOrder, deps: BundleDeps): Promise<MadeBundle> {
  const { folder, wanted } = order;
  await rm(workOf(folder, wanted), { recursive: true, force: true });
  try {
    const stages = new Stages(deps.tell);
    const found = await Gathered.of(wanted, deps.store, stages, workOf(folder, wanted));
    const made = await new BundleWriter(order, deps, stages, found).write();
    await rename(partOf(folder, wanted), fileOf(folder, wanted));
    return made;
  } finally {
    await rm(workOf(folder, wanted), { recursive: true, force: true });
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const DISK_EVERY_BYTES = 2 ** 25;

class BundleWriter {
  readonly #order: BundleOrder;
  readonly #deps: BundleDeps;
  readonly #stages: Stages;
  readonly #found: Gathered;
  readonly #reads: TreeReads;

  constructor(order: BundleOrder, deps: BundleDeps, stages: Stages, found: Gathered) {
    this.#order = order;
    this.#deps = deps;
    this.#stages = stages;
    this.#found = found;
    this.#reads = new TreeReads(deps.store);
  }

  async write(): Promise<MadeBundle> {
    const { wanted, folder } = this.#order;
    const { signer } = this.#deps;
    const head = await this.#head();
    const facts = this.#facts(head);
    const parts = {
      ...facts,
      log: {
        checkpoint: wanted.cut.note,
        left: await this.#left(),
        entries: () => this.#entryBytes(),
        edge: {
          before:
            this.#found.from > 0 && this.#found.from < this.#found.cut.size
              ? await this.#proven(this.#found.from - 1)
              : null,
          last: this.#found.from === this.#found.cut.size ? await this.#proven(this.#found.cut.size - 1) : null,
        },
        last: await this.#proven(this.#found.cut.size - 1),
      },
      reports: () => this.#recordsOf('reports', 0),
      judgements: () => this.#recordsOf('judgements', this.#found.records.reports.count),
      acts: () => this.#recordsOf('acts', this.#found.records.reports.count + this.#found.records.judgements.count),
      headers: () => headersOf(this.#found.images, this.#deps.store),
      files: () => this.#files(facts),
    };
    const hash = createHash('sha256');
    let bytes = 0;
    let checked = 0;
    await using file = await open(partOf(folder, wanted), 'w', 0o600);
    for await (const piece of writeBundle(parts, signer, () => createHash('sha256'))) {
      if (bytes - checked >= DISK_EVERY_BYTES || bytes === 0) {
        await roomFor(folder, bytes);
        checked = bytes;
      }
      hash.update(piece);
      bytes += piece.length;
      await file.writeFile(piece);
    }
    await file.sync();
    return { sha256: hash.digest('hex'), bytes, hosts: this.#stages.hosts };
  }

  async #head(): Promise<BundleHead> {
    const { wanted, logKey, server } = this.#order;
    const { store } = this.#deps;
    const { cut, from, to, frameworks, parameters, sampling, createdBy } = wanted;
    return {
      server: { ...server },
      exportedAt: formatInstant(cut.at),
      exportedBy: createdBy,
      period: { from: formatInstant(from), to: formatInstant(to) },
      selection: this.#found.selection.whole ? { hosts: 'all' } : { hosts: 'part', filter: this.#found.selection.text },
      frameworks: [...frameworks],
      parameters: { ...parameters },
      log: {
        origin: cut.origin,
        key: logKey,
        size: cut.size,
        root: cut.root,
        from: this.#found.from,
        level: await levelAt(store.anchors, cut.origin, cut.size),
      },
      notices: this.#found.selection.whole ? { ...(await store.notices.outcomes({ from, to })) } : null,
      sampling: sampling === null ? null : { method: 'sha256-order/1', ...sampling },
    };
  }

  #facts(head: BundleHead): Facts {
    const { hosts, findings, decisions, images, reconciliations } = this.#found.spools;
    const each = async function* <Value>(values: readonly Value[]): AsyncGenerator<Value> {
      yield* values;
    };
    return {
      head,
      hosts: () => hosts.read(),
      findings: () => findings.read(),
      decisions: () => decisions.read(),
      images: () => images.read(),
      policies: () => each(this.#found.policies.map(({ fact }) => fact)),
      reconciliations: () => reconciliations.read(),
      logHolds: true,
    };
  }

  async #left(): Promise<Uint8Array[]> {
    const { log, size } = this.#found.cut;
    const read = this.#reads.hashes(log, size);
    const out: Uint8Array[] = [];
    for (const node of subtreesOf(0, this.#found.from)) out.push(await read(node));
    return out;
  }

  async *#entryBytes(): AsyncGenerator<Uint8Array> {
    const { log, size } = this.#found.cut;
    const total = size - this.#found.from;
    for (let next = this.#found.from; next < size;) {
      this.#stages.step('entries', next - this.#found.from, total);
      const page = await this.#deps.store.evidence.entryBytes(log, next, Math.min(LOG_BATCH_MAX, size - next));
      if (page.length === 0) throw new Error(`entry ${next} of the log is not there: 'bootproof log verify' says more`);
      yield* page;
      next += page.length;
    }
  }

  async #proven(index: number): Promise<ProvenEntry> {
    const { log, size } = this.#found.cut;
    const [entry] = await this.#deps.store.log.entries(log, index, 1);
    if (entry?.index !== index) throw new Error(`entry ${index} of the log is not there`);
    return this.#withProof(index, entry.entry, size, log);
  }

  async #withProof(index: number, entry: Uint8Array, size: number, log: number): Promise<ProvenEntry> {
    const proof = await this.#reads.inclusion(log, index, size);
    return { index, entry: toBase64(entry), proof: proof.map(toBase64) };
  }

  async *#recordsOf(list: 'reports' | 'judgements' | 'acts', before: number): AsyncGenerator<LogRecord> {
    const { log, size } = this.#found.cut;
    const { reports, judgements, acts } = this.#found.records;
    const total = reports.count + judgements.count + acts.count;
    let done = before;
    for (const page of this.#found.records[list].pages(RECORDS_PAGE)) {
      this.#stages.step('records', done, total);
      for (const { index, entry, salt, payload } of await this.#deps.store.evidence.records(log, page)) {
        done++;
        yield {
          index,
          proven: index < this.#found.from ? await this.#withProof(index, entry, size, log) : null,
          salt: salt === null ? null : toBase64(salt),
          payload: payload === null ? null : decoder.decode(payload),
        };
      }
    }
  }

  async *#files(facts: Facts): AsyncGenerator<NewMember> {
    const { store, signer } = this.#deps;
    const { frameworks, cut } = this.#order.wanted;
    let done = 0;
    for await (const { name, bytes } of textsOf(this.#found.images, store)) {
      this.#stages.step('manifests', ++done, null);
      yield { name, content: bytes };
    }
    for (const { members } of this.#found.policies)
      for (const { name, text } of members) yield { name, content: encoder.encode(text) };
    const court = this.#found.court!;
    if (court.denials !== undefined) yield { name: 'policies/denied.yaml', content: encoder.encode(court.denials) };
    for (const image of this.#found.images)
      for (const { name, bytes } of (await court.fact(image)).members) yield { name, content: bytes };
    for (const { name, bytes } of court.roots) yield { name: `trust-roots/${name}.json`, content: bytes };
    yield* await stampMembers(store.anchors, cut.origin, { from: this.#found.from, size: cut.size });
    const mappings = (await shippedFrameworks()).filter(({ framework }) => frameworks.includes(framework.id));
    this.#stages.step('results', 0, null);
    yield* derivedMembers(facts, mappings, { fingerprint: fingerprintOf(signer.publicKey) });
  }
}

/** Records at once: each may be an envelope of some MB. */
const RECORDS_PAGE = 50;

async function roomFor(folder: string, bytes: number): Promise<void> {
  if (bytes > EXPORT_BYTES_MAX)
    throw new EvidenceError(
      'EVIDENCE_DISK',
      `the bundle is larger than ${EXPORT_BYTES_MAX / 2 ** 30} GiB: ask for a shorter period, or for a part of the hosts`,
    );
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < EXPORT_FREE_BYTES)
    throw new EvidenceError(
      'EVIDENCE_DISK',
      `less than ${EXPORT_FREE_BYTES / 2 ** 30} GiB is free on the disk of ${folder}: make room, delete older exports, or ask for less`,
    );
}
