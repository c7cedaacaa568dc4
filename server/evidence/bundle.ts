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
import type {
  BundleHead,
  DecisionFact,
  Facts,
  FindingFact,
  HostFact,
  ImageFact,
  ReconciliationFact,
} from '#src/evidence/facts.ts';
import { writeBundle } from '#src/evidence/writer.ts';
import type { NewMember } from '#src/evidence/zip.ts';
import { EXPORT_BYTES_MAX, EXPORT_FREE_BYTES, EXPORT_PAGE, LOG_BATCH_MAX } from '#src/limits.ts';
import { subtreesOf } from '#src/log/proof.ts';
import type { Policy } from '#src/policy/document.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { fingerprintOf, type Signer } from '#src/signing/ed25519.ts';
import { shippedFrameworks } from '#server/controlfiles.ts';
import { reconciliationFacts } from '#server/inventory.ts';
import { levelAt, stampMembers } from '#server/log/anchors.ts';
import { TreeReads } from '#server/log/treereads.ts';
import { Lru } from '#server/lru.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import type { EvidenceExport, ExportCut, ExportStage, LogCut, StageProgress } from '#server/store/evidencerecords.ts';
import type { AuditEntry } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import {
  acknowledgementFacts,
  hostPolicies,
  imagePolicies,
  isAcknowledgement,
  waiverFacts,
  type DecisionsAbout,
  type PolicyFound,
  type Shown,
} from './decisions.ts';
import { storyOf, type StoryAbout } from './hoststory.ts';
import { headersOf, ImageCourt, textsOf } from './images.ts';
import { EvidenceError, selectionOf, type Selection } from './selection.ts';
import { IndexSet, SpoolList } from './spool.ts';

export type BundleOrder = {
  /** With its cut. */
  readonly wanted: EvidenceExport & { readonly cut: ExportCut };
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
  const maker = await BundleMaker.open(order, deps);
  try {
    await maker.gather();
    const made = await maker.write();
    await rename(partOf(folder, wanted), fileOf(folder, wanted));
    return made;
  } finally {
    await rm(workOf(folder, wanted), { recursive: true, force: true });
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const TELL_MS = 250;
const DISK_EVERY_BYTES = 2 ** 25;
/** Groups of findings kept at hand: most hosts show the same ones. */
const GROUPS_KEPT = 5000;

type Spools = {
  readonly hosts: SpoolList<HostFact>;
  readonly findings: SpoolList<FindingFact>;
  readonly decisions: SpoolList<DecisionFact>;
  readonly images: SpoolList<ImageFact>;
  readonly reconciliations: SpoolList<ReconciliationFact>;
};

class BundleMaker {
  readonly #order: BundleOrder;
  readonly #deps: BundleDeps;
  readonly #selection: Selection;
  readonly #reads: TreeReads;
  readonly #cut: LogCut;
  readonly #spools: Spools;
  readonly #records: { readonly reports: IndexSet; readonly judgements: IndexSet; readonly acts: IndexSet };
  readonly #images = new Set<string>();
  readonly #waivers = new Set<string>();
  readonly #progress: StageProgress[] = [];
  #told = 0;
  #hosts = 0;
  #policies: readonly PolicyFound[] = [];
  #court: ImageCourt | undefined;
  /** First entry of the bundle. */
  #from = 0;

  private constructor(order: BundleOrder, deps: BundleDeps, spools: Spools) {
    this.#order = order;
    this.#deps = deps;
    this.#spools = spools;
    const { filter, scope, cut } = order.wanted;
    this.#selection = selectionOf(filter, scope);
    this.#reads = new TreeReads(deps.store);
    this.#cut = { log: cut.log, size: cut.size };
    const set = () => new IndexSet(cut.size);
    this.#records = { reports: set(), judgements: set(), acts: set() };
  }

  static async open(order: BundleOrder, deps: BundleDeps): Promise<BundleMaker> {
    const folder = workOf(order.folder, order.wanted);
    return new BundleMaker(order, deps, {
      hosts: await SpoolList.in(folder, 'hosts'),
      findings: await SpoolList.in(folder, 'findings'),
      decisions: await SpoolList.in(folder, 'decisions'),
      images: await SpoolList.in(folder, 'images'),
      reconciliations: await SpoolList.in(folder, 'reconciliations'),
    });
  }

  get #period() {
    const { from, to } = this.#order.wanted;
    return { from, to };
  }

  get #about(): DecisionsAbout {
    return {
      store: this.#deps.store,
      cut: this.#cut,
      period: this.#period,
      exportedAt: this.#order.wanted.cut.at,
    };
  }

  /** Where it is, told a few times a second. */
  #step(stage: ExportStage, done: number, total: number | null): void {
    const last = this.#progress.at(-1);
    const isNew = last?.stage !== stage;
    if (isNew) this.#progress.push({ stage, done, total });
    else this.#progress[this.#progress.length - 1] = { stage, done, total };
    const now = performance.now();
    if (!isNew && now - this.#told < TELL_MS) return;
    this.#told = now;
    this.#deps.tell([...this.#progress], this.#hosts === 0 ? null : this.#hosts);
  }

  // ── gather ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  async gather(): Promise<void> {
    const { store } = this.#deps;
    const { cut } = this.#order.wanted;
    this.#step('cut', cut.size, cut.size);
    this.#from = this.#selection.whole ? await this.#firstEntry() : cut.size;
    this.#policies = [...(await hostPolicies(this.#about)), ...(await imagePolicies(this.#about))];
    const head = (await store.log.head())!;
    const policy = await this.#policyAtEnd();
    const rules = policy === undefined ? [] : [...policy.files, ...policy.state, ...policy.accounts];
    const controls = new Map(rules.map(({ id, controls: own }) => [id, own]));
    const groups = new Lru<string, NonNullable<Awaited<ReturnType<StoryAbout['group']>>>>(GROUPS_KEPT);
    const names = new Map<string, string>();
    const about: StoryAbout = {
      ...this.#about,
      policy,
      controls,
      beganAt: head.beganAt,
      group: async (id) => {
        const known = groups.get(id) ?? (await store.postures.groups([id])).get(id);
        if (known !== undefined) groups.set(id, known);
        return known;
      },
      image: async (reported) => {
        const known = names.get(reported) ?? (await store.images.find(reported))?.image.digest ?? reported;
        names.set(reported, known);
        return known;
      },
    };
    const total = await store.evidence.countHosts();
    let seen = 0;
    let after = '';
    for (;;) {
      const page = await store.evidence.hosts(after, EXPORT_PAGE);
      for (const host of page) {
        seen++;
        this.#step('gather', seen, total);
        if (!this.#selection.has(host)) continue;
        const story = await storyOf(host, about);
        if (story === undefined) continue;
        this.#hosts++;
        await this.#spools.hosts.add(story.host);
        for (const finding of story.findings) await this.#spools.findings.add(finding);
        for (const { image } of story.host.deployments) this.#images.add(image);
        for (const waiver of story.waivers) this.#waivers.add(waiver);
        for (const index of story.reports) this.#records.reports.add(index);
        for (const index of story.judgements) this.#records.judgements.add(index);
        for (const index of story.acts) this.#records.acts.add(index);
      }
      if (page.length < EXPORT_PAGE) break;
      after = page.at(-1)!.id;
    }
    await this.#decisions();
    await this.#reconciliations();
    await this.#imageFacts();
    for (const list of Object.values(this.#spools)) await list.close();
  }

  /** The size of a checkpoint that was signed before the period began: what is before it is older. */
  async #firstEntry(): Promise<number> {
    const { store } = this.#deps;
    const { from } = this.#period;
    const { origin, size, log } = this.#order.wanted.cut;
    let [low, high] = [0, size];
    // Times of checkpoints rise with their sizes, but for those of exports, which are a moment later.
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      const found = await store.evidence.checkpointAtMost(origin, middle);
      if (found === undefined || found.at < from) low = middle;
      else high = Math.min(found.size, middle) - 1;
    }
    for (let at = low; at > 0;) {
      const found = await store.evidence.checkpointAtMost(origin, at);
      if (found === undefined || found.size === 0) return 0;
      const [before] = await store.log.entries(log, found.size - 1, 1);
      if (found.at < from && before !== undefined && before.at < from) return found.size;
      at = found.size - 1;
    }
    return 0;
  }

  /** Undefined where it belongs to no version: hosts know what they were told. */
  async #policyAtEnd(): Promise<Policy | undefined> {
    const { store } = this.#deps;
    const { policy: shipped } = await shippedPolicy();
    const then = await store.postures.policyAt(this.#period.to - 1);
    const version = then && (await store.policies.get(then.n));
    return version && policyOfDocuments(version.documents, shipped).policy;
  }

  async #decisions(): Promise<void> {
    const { from, to } = this.#period;
    const acts: AuditEntry[] = [];
    if (this.#selection.whole) {
      // Everything that was done in the period, by the log itself.
      for await (const entry of this.#entries(['act'], this.#from)) {
        if (entry.at < from || entry.at >= to) continue;
        this.#records.acts.add(entry.index);
        const { facts } = JSON.parse(decoder.decode(entry.entry)) as { facts: { action: string } };
        if (isAcknowledgement(facts.action)) acts.push(...(await this.#actsAt([entry.index])));
      }
    } else {
      const own: number[] = [];
      for (const page of this.#records.acts.pages(EXPORT_PAGE)) own.push(...page);
      for (const act of await this.#actsAt(own))
        if (isAcknowledgement(act.action) && act.at >= from && act.at < to) acts.push(act);
    }
    for await (const fact of waiverFacts(this.#shown(), this.#about)) await this.#decision(fact);
    for (const fact of await acknowledgementFacts(acts, this.#about)) await this.#decision(fact);
    for (const { fact } of this.#policies) if (fact.index !== null) this.#records.acts.add(fact.index);
    // What was purged, that somebody said so; and where the log before ended.
    for await (const { index } of this.#entries(['purge', 'restart'], this.#selection.whole ? this.#from : 0))
      this.#records.acts.add(index);
  }

  async #decision(fact: DecisionFact): Promise<void> {
    for (const { index } of fact.history) if (index !== null) this.#records.acts.add(index);
    await this.#spools.decisions.add(fact);
  }

  /** Of a part: what covers its hosts, whole where it reaches nobody else. */
  #shown(): Shown {
    if (this.#selection.whole) return () => 'whole';
    return ({ id }) => (this.#waivers.has(id) ? 'apart' : undefined);
  }

  async *#entries(kinds: readonly string[], from: number) {
    const { store } = this.#deps;
    const { log, size } = this.#cut;
    let next = from;
    while (next < size) {
      const page = await store.evidence.entriesOf(log, kinds, { from: next, to: size }, EXPORT_PAGE);
      yield* page;
      if (page.length < EXPORT_PAGE) return;
      next = page.at(-1)!.index + 1;
    }
  }

  async #actsAt(indexes: readonly number[]): Promise<AuditEntry[]> {
    const out: AuditEntry[] = [];
    for (let at = 0; at < indexes.length; at += EXPORT_PAGE)
      for (const { payload } of await this.#deps.store.evidence.records(
        this.#cut.log,
        indexes.slice(at, at + EXPORT_PAGE),
      )) {
        if (payload === null) continue;
        const act = JSON.parse(decoder.decode(payload)) as Omit<AuditEntry, 'at'> & {
          at: string;
          before: string;
          after: string;
        };
        out.push({
          ...act,
          at: Date.parse(act.at),
          before: JSON.parse(act.before) as unknown,
          after: JSON.parse(act.after) as unknown,
        });
      }
    return out;
  }

  /** Lists of others are about the whole fleet. */
  async #reconciliations(): Promise<void> {
    if (!this.#selection.whole) return;
    const { log, size } = this.#cut;
    for await (const fact of reconciliationFacts(this.#deps.store, { ...this.#period, log })) {
      const index = fact.index !== null && fact.index < size ? fact.index : null;
      if (index !== null) this.#records.acts.add(index);
      await this.#spools.reconciliations.add({ ...fact, index });
    }
  }

  async #imageFacts(): Promise<void> {
    const images = this.#policies.filter(({ fact }) => fact.kind === 'image');
    this.#court = await ImageCourt.open(this.#deps.store, images);
    for (const image of [...this.#images].sort()) {
      const { fact } = await this.#court.fact(image);
      await this.#spools.images.add(fact);
    }
  }

  // ── write ──────────────────────────────────────────────────────────────────────────────────────────────────────────

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
          before: this.#from > 0 && this.#from < this.#cut.size ? await this.#proven(this.#from - 1) : null,
          last: this.#from === this.#cut.size ? await this.#proven(this.#cut.size - 1) : null,
        },
        last: await this.#proven(this.#cut.size - 1),
      },
      reports: () => this.#recordsOf('reports', 0),
      judgements: () => this.#recordsOf('judgements', this.#records.reports.count),
      acts: () => this.#recordsOf('acts', this.#records.reports.count + this.#records.judgements.count),
      headers: () => headersOf(this.#sortedImages(), this.#deps.store),
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
    return { sha256: hash.digest('hex'), bytes, hosts: this.#hosts };
  }

  #sortedImages = (): string[] => [...this.#images].sort();

  async #head(): Promise<BundleHead> {
    const { wanted, logKey, server } = this.#order;
    const { store } = this.#deps;
    const { cut, from, to, frameworks, parameters, sampling, createdBy } = wanted;
    return {
      server: { ...server },
      exportedAt: formatInstant(cut.at),
      exportedBy: createdBy,
      period: { from: formatInstant(from), to: formatInstant(to) },
      selection: this.#selection.whole ? { hosts: 'all' } : { hosts: 'part', filter: this.#selection.text },
      frameworks: [...frameworks],
      parameters: { ...parameters },
      log: {
        origin: cut.origin,
        key: logKey,
        size: cut.size,
        root: cut.root,
        from: this.#from,
        level: await levelAt(store.anchors, cut.origin, cut.size),
      },
      notices: this.#selection.whole ? { ...(await store.notices.outcomes({ from, to })) } : null,
      sampling: sampling === null ? null : { method: 'sha256-order/1', ...sampling },
    };
  }

  #facts(head: BundleHead): Facts {
    const { hosts, findings, decisions, images, reconciliations } = this.#spools;
    const each = async function* <Value>(values: readonly Value[]): AsyncGenerator<Value> {
      yield* values;
    };
    return {
      head,
      hosts: () => hosts.read(),
      findings: () => findings.read(),
      decisions: () => decisions.read(),
      images: () => images.read(),
      policies: () => each(this.#policies.map(({ fact }) => fact)),
      reconciliations: () => reconciliations.read(),
      logHolds: true,
    };
  }

  async #left(): Promise<Uint8Array[]> {
    const { log, size } = this.#cut;
    const read = this.#reads.hashes(log, size);
    const out: Uint8Array[] = [];
    for (const node of subtreesOf(0, this.#from)) out.push(await read(node));
    return out;
  }

  async *#entryBytes(): AsyncGenerator<Uint8Array> {
    const { log, size } = this.#cut;
    const total = size - this.#from;
    for (let next = this.#from; next < size;) {
      this.#step('entries', next - this.#from, total);
      const page = await this.#deps.store.evidence.entryBytes(log, next, Math.min(LOG_BATCH_MAX, size - next));
      if (page.length === 0) throw new Error(`entry ${next} of the log is not there: 'bootproof log verify' says more`);
      yield* page;
      next += page.length;
    }
  }

  async #proven(index: number): Promise<ProvenEntry> {
    const { log, size } = this.#cut;
    const [entry] = await this.#deps.store.log.entries(log, index, 1);
    if (entry?.index !== index) throw new Error(`entry ${index} of the log is not there`);
    return this.#withProof(index, entry.entry, size, log);
  }

  async #withProof(index: number, entry: Uint8Array, size: number, log: number): Promise<ProvenEntry> {
    const proof = await this.#reads.inclusion(log, index, size);
    return { index, entry: toBase64(entry), proof: proof.map(toBase64) };
  }

  async *#recordsOf(list: 'reports' | 'judgements' | 'acts', before: number): AsyncGenerator<LogRecord> {
    const { log, size } = this.#cut;
    const { reports, judgements, acts } = this.#records;
    const total = reports.count + judgements.count + acts.count;
    let done = before;
    for (const page of this.#records[list].pages(RECORDS_PAGE)) {
      this.#step('records', done, total);
      for (const { index, entry, salt, payload } of await this.#deps.store.evidence.records(log, page)) {
        done++;
        yield {
          index,
          proven: index < this.#from ? await this.#withProof(index, entry, size, log) : null,
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
    for await (const { name, bytes } of textsOf(this.#sortedImages(), store)) {
      this.#step('manifests', ++done, null);
      yield { name, content: bytes };
    }
    for (const { members } of this.#policies)
      for (const { name, text } of members) yield { name, content: encoder.encode(text) };
    const court = this.#court!;
    if (court.denials !== undefined) yield { name: 'policies/denied.yaml', content: encoder.encode(court.denials) };
    for (const image of this.#sortedImages())
      for (const { name, bytes } of (await court.fact(image)).members) yield { name, content: bytes };
    for (const { name, bytes } of court.roots) yield { name: `trust-roots/${name}.json`, content: bytes };
    yield* await stampMembers(store.anchors, cut.origin, { from: this.#from, size: cut.size });
    const mappings = (await shippedFrameworks()).filter(({ framework }) => frameworks.includes(framework.id));
    this.#step('results', 0, null);
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
