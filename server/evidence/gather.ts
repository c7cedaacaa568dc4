/**
 * The first half of an export (docs/evidence.md 7.4): every host is read once, its facts go to disk, and which entries the bundle must hold is noted, a
 * bit for each entry of the log.
 */
import type { DecisionFact, FindingFact, HostFact, ImageFact, ReconciliationFact } from '#src/evidence/facts.ts';
import { EXPORT_PAGE } from '#src/limits.ts';
import type { Policy } from '#src/policy/document.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { reconciliationFacts } from '#server/inventory.ts';
import { Lru } from '#server/lru.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import type { EvidenceExport, ExportCut, LogCut } from '#server/store/evidencerecords.ts';
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
import type { StoryAbout } from './entries.ts';
import { storyOf } from './hoststory.ts';
import { ImageCourt } from './images.ts';
import { selectionOf, type Selection } from './selection.ts';
import { IndexSet, SpoolList } from './spool.ts';
import type { Stages } from './stages.ts';

/** An export whose act is logged. */
export type CutExport = EvidenceExport & { readonly cut: ExportCut };

/** Groups of findings kept at hand: most hosts show the same ones. */
const GROUPS_KEPT = 5000;
const decoder = new TextDecoder();

type Spools = {
  readonly hosts: SpoolList<HostFact>;
  readonly findings: SpoolList<FindingFact>;
  readonly decisions: SpoolList<DecisionFact>;
  readonly images: SpoolList<ImageFact>;
  readonly reconciliations: SpoolList<ReconciliationFact>;
};

export class Gathered {
  readonly #wanted: CutExport;
  readonly #store: Store;
  readonly #stages: Stages;
  readonly #waivers = new Set<string>();
  readonly #images = new Set<string>();
  readonly selection: Selection;
  readonly cut: LogCut;
  readonly spools: Spools;
  /** Entries of the log that the bundle must hold, by the list of their records. */
  readonly records: { readonly reports: IndexSet; readonly judgements: IndexSet; readonly acts: IndexSet };
  policies: readonly PolicyFound[] = [];
  court: ImageCourt | undefined;
  /** First entry of the bundle. */
  from = 0;

  private constructor(wanted: CutExport, store: Store, stages: Stages, spools: Spools) {
    this.#wanted = wanted;
    this.#store = store;
    this.#stages = stages;
    this.spools = spools;
    const { filter, scope, cut } = wanted;
    this.selection = selectionOf(filter, scope);
    this.cut = { log: cut.log, size: cut.size };
    const set = () => new IndexSet(cut.size);
    this.records = { reports: set(), judgements: set(), acts: set() };
  }

  /** Reads everything; what is kept on disk lies in `folder`. */
  static async of(wanted: CutExport, store: Store, stages: Stages, folder: string): Promise<Gathered> {
    const found = new Gathered(wanted, store, stages, {
      hosts: await SpoolList.in(folder, 'hosts'),
      findings: await SpoolList.in(folder, 'findings'),
      decisions: await SpoolList.in(folder, 'decisions'),
      images: await SpoolList.in(folder, 'images'),
      reconciliations: await SpoolList.in(folder, 'reconciliations'),
    });
    await found.#gather();
    return found;
  }

  /** Images that hosts in scope ran. */
  get images(): readonly string[] {
    return [...this.#images].sort();
  }

  get #period() {
    const { from, to } = this.#wanted;
    return { from, to };
  }

  get #about(): DecisionsAbout {
    return {
      store: this.#store,
      cut: this.cut,
      period: this.#period,
      exportedAt: this.#wanted.cut.at,
    };
  }

  async #gather(): Promise<void> {
    const store = this.#store;
    const { cut } = this.#wanted;
    this.#stages.step('cut', cut.size, cut.size);
    this.from = this.selection.whole ? await this.#firstEntry() : cut.size;
    this.policies = [...(await hostPolicies(this.#about)), ...(await imagePolicies(this.#about))];
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
        this.#stages.step('gather', seen, total);
        if (!this.selection.has(host)) continue;
        const story = await storyOf(host, about);
        if (story === undefined) continue;
        this.#stages.hosts++;
        await this.spools.hosts.add(story.host);
        for (const finding of story.findings) await this.spools.findings.add(finding);
        for (const { image } of story.host.deployments) this.#images.add(image);
        for (const waiver of story.waivers) this.#waivers.add(waiver);
        for (const index of story.reports) this.records.reports.add(index);
        for (const index of story.judgements) this.records.judgements.add(index);
        for (const index of story.acts) this.records.acts.add(index);
      }
      if (page.length < EXPORT_PAGE) break;
      after = page.at(-1)!.id;
    }
    await this.#decisions();
    await this.#reconciliations();
    await this.#imageFacts();
    for (const list of Object.values(this.spools)) await list.close();
  }

  /** The size of a checkpoint that was signed before the period began: what is before it is older. */
  async #firstEntry(): Promise<number> {
    const store = this.#store;
    const { from } = this.#period;
    const { origin, size, log } = this.#wanted.cut;
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
    const store = this.#store;
    const { policy: shipped } = await shippedPolicy();
    const then = await store.postures.policyAt(this.#period.to - 1);
    const version = then && (await store.policies.get(then.n));
    return version && policyOfDocuments(version.documents, shipped).policy;
  }

  async #decisions(): Promise<void> {
    const { from, to } = this.#period;
    const acts: AuditEntry[] = [];
    if (this.selection.whole) {
      // Everything that was done in the period, by the log itself.
      for await (const entry of this.#entries(['act'], this.from)) {
        if (entry.at < from || entry.at >= to) continue;
        this.records.acts.add(entry.index);
        const { facts } = JSON.parse(decoder.decode(entry.entry)) as { facts: { action: string } };
        if (isAcknowledgement(facts.action)) acts.push(...(await this.#actsAt([entry.index])));
      }
    } else {
      const own: number[] = [];
      for (const page of this.records.acts.pages(EXPORT_PAGE)) own.push(...page);
      for (const act of await this.#actsAt(own))
        if (isAcknowledgement(act.action) && act.at >= from && act.at < to) acts.push(act);
    }
    for await (const fact of waiverFacts(this.#shown(), this.#about)) await this.#decision(fact);
    for (const fact of await acknowledgementFacts(acts, this.#about)) await this.#decision(fact);
    for (const { fact } of this.policies) if (fact.index !== null) this.records.acts.add(fact.index);
    // What was purged, that somebody said so; and where the log before ended.
    for await (const { index } of this.#entries(['purge', 'restart'], this.selection.whole ? this.from : 0))
      this.records.acts.add(index);
  }

  async #decision(fact: DecisionFact): Promise<void> {
    for (const { index } of fact.history) if (index !== null) this.records.acts.add(index);
    await this.spools.decisions.add(fact);
  }

  /** Of a part: what covers its hosts, whole where it reaches nobody else. */
  #shown(): Shown {
    if (this.selection.whole) return () => 'whole';
    return ({ id }) => (this.#waivers.has(id) ? 'apart' : undefined);
  }

  async *#entries(kinds: readonly string[], from: number) {
    const store = this.#store;
    const { log, size } = this.cut;
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
      for (const { payload } of await this.#store.evidence.records(this.cut.log, indexes.slice(at, at + EXPORT_PAGE))) {
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
    if (!this.selection.whole) return;
    const { log, size } = this.cut;
    for await (const fact of reconciliationFacts(this.#store, { ...this.#period, log })) {
      const index = fact.index !== null && fact.index < size ? fact.index : null;
      if (index !== null) this.records.acts.add(index);
      await this.spools.reconciliations.add({ ...fact, index });
    }
  }

  async #imageFacts(): Promise<void> {
    const images = this.policies.filter(({ fact }) => fact.kind === 'image');
    this.court = await ImageCourt.open(this.#store, images);
    for (const image of this.images) {
      const { fact } = await this.court.fact(image);
      await this.spools.images.add(fact);
    }
  }
}
