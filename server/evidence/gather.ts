/**
 * The first half of an export (docs/evidence.md 7.4): every host is read once, and what the bundle says of it goes to disk, with the indexes of the
 * entries that the bundle must hold. Page by page it is noted how far that is.
 */
import { mkdir, rename, rm } from 'node:fs/promises';
import { formatInstant } from '#src/clock.ts';
import type { BundleHead, DecisionFact } from '#src/evidence/facts.ts';
import { EXPORT_PAGE } from '#src/limits.ts';
import type { Policy } from '#src/policy/document.ts';
import { policyOfDocuments } from '#src/policy/documents.ts';
import { reconciliationFacts } from '#server/inventory.ts';
import { levelAt } from '#server/log/anchors.ts';
import { Lru } from '#server/lru.ts';
import { shippedPolicy } from '#server/policyfiles.ts';
import type { EvidenceExport, ExportCut, LogCut } from '#server/store/evidencerecords.ts';
import type { AuditEntry } from '#server/store/records.ts';
import type { Store } from '#server/store/store.ts';
import { earlier, workOf } from './attempts.ts';
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
import { gatherImages, type ImagesAbout } from './imagelists.ts';
import { hostsThen } from './naming.ts';
import { selectionOf, type Selection } from './selection.ts';
import {
  Snapshot,
  readState,
  writeState,
  type GatherProgress,
  type Lists,
  type ListOf,
  type Touched,
} from './snapshot.ts';
import { spooled, SpoolList } from './spool.ts';
import type { Stages } from './stages.ts';

/** An export whose act is logged. */
export type CutExport = EvidenceExport & { readonly cut: ExportCut };

export type GatherOrder = {
  readonly wanted: CutExport;
  /** The log's verifier key. */
  readonly logKey: string;
  readonly server: BundleHead['server'];
  /** Where the file and what it is made from lie. */
  readonly folder: string;
};

/** Groups of findings kept at hand: most hosts show the same ones. */
const GROUPS_KEPT = 5000;
const decoder = new TextDecoder();

/** How much of it an earlier attempt had done. */
export type TakenOver = { readonly attempt: number; readonly hosts: number; readonly whole: boolean };
export type GatheredBundle = { readonly snapshot: Snapshot; readonly takenOver: TakenOver | null };

/** Reads everything, or goes on where an earlier attempt broke off. */
export async function gather(order: GatherOrder, store: Store, stages: Stages): Promise<GatheredBundle> {
  const { folder, wanted } = order;
  const own = workOf(folder, wanted);
  for (const attempt of await earlier(folder, wanted, 'work')) {
    const from = workOf(folder, attempt);
    const state = await readState(from, order.server.version);
    if (state?.stage === 'done') {
      if ((await Snapshot.in(from, state)) === undefined) continue;
      // A process that was only taken for dead finds nothing there any more, and ends.
      await rm(own, { recursive: true, force: true });
      await rename(from, own);
      const snapshot = await Snapshot.in(own, state);
      if (snapshot === undefined) continue;
      stages.hosts = state.inScope;
      return { snapshot, takenOver: { attempt: attempt.attempts, hosts: state.inScope, whole: true } };
    }
    if (state === undefined) continue;
    const gathering = await Gathering.behind(order, store, stages, { from, state });
    if (gathering === undefined) continue;
    const takenOver = { attempt: attempt.attempts, hosts: state.seen, whole: false };
    await using going = gathering;
    return { snapshot: await going.run(), takenOver };
  }
  await rm(own, { recursive: true, force: true });
  await using gathering = await Gathering.anew(order, store, stages);
  return { snapshot: await gathering.run(), takenOver: null };
}

type HostLists = { readonly [List in 'hosts' | 'findings' | 'touched']: SpoolList<Lists[List]> };

class Gathering {
  readonly #order: GatherOrder;
  readonly #wanted: CutExport;
  readonly #folder: string;
  readonly #store: Store;
  readonly #stages: Stages;
  readonly #lists: HostLists;
  readonly #waivers = new Set<string>();
  readonly #images = new Set<string>();
  readonly #acts: number[] = [];
  readonly #selection: Selection;
  readonly #cut: LogCut;
  #at: Pick<GatherProgress, 'after' | 'seen'> = { after: '', seen: 0 };
  #policies: readonly PolicyFound[] = [];
  /** First entry of the bundle. */
  #from = 0;

  private constructor(order: GatherOrder, store: Store, stages: Stages, lists: HostLists) {
    const { wanted } = order;
    this.#order = order;
    this.#wanted = wanted;
    this.#folder = workOf(order.folder, wanted);
    this.#store = store;
    this.#stages = stages;
    this.#lists = lists;
    const { filter, scope, cut } = wanted;
    this.#selection = selectionOf(filter, scope);
    this.#cut = { log: cut.log, size: cut.size };
  }

  static async anew(order: GatherOrder, store: Store, stages: Stages): Promise<Gathering> {
    const own = workOf(order.folder, order.wanted);
    await mkdir(own, { recursive: true, mode: 0o700 });
    return new Gathering(order, store, stages, {
      hosts: await SpoolList.in(own, 'hosts'),
      findings: await SpoolList.in(own, 'findings'),
      touched: await SpoolList.in(own, 'touched'),
    });
  }

  /** Undefined where what an earlier attempt left is not as it was marked. */
  static async behind(
    order: GatherOrder,
    store: Store,
    stages: Stages,
    { from, state }: { readonly from: string; readonly state: GatherProgress },
  ): Promise<Gathering | undefined> {
    const own = workOf(order.folder, order.wanted);
    await mkdir(own, { recursive: true, mode: 0o700 });
    const { marks } = state;
    const hosts = await SpoolList.in<Lists['hosts']>(own, 'hosts', { folder: from, mark: marks.hosts });
    const findings = await SpoolList.in<Lists['findings']>(own, 'findings', { folder: from, mark: marks.findings });
    const touched = await SpoolList.in<Lists['touched']>(own, 'touched', { folder: from, mark: marks.touched });
    if (hosts === undefined || findings === undefined || touched === undefined) {
      for (const list of [hosts, findings, touched]) await list?.[Symbol.asyncDispose]();
      return undefined;
    }
    await writeState(own, state);
    await rm(from, { recursive: true, force: true });
    const found = new Gathering(order, store, stages, { hosts, findings, touched });
    for await (const one of spooled<Touched>(own, 'touched')) found.#note(one);
    found.#at = state;
    stages.hosts = state.inScope;
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const list of Object.values(this.#lists)) await list[Symbol.asyncDispose]();
  }

  async #touch(touched: Touched): Promise<void> {
    this.#note(touched);
    await this.#lists.touched.add(touched);
  }

  #note({ images = [], waivers = [], acts = [] }: Touched): void {
    for (const image of images) this.#images.add(image);
    for (const waiver of waivers) this.#waivers.add(waiver);
    // Of a part, acknowledgements are found among them; of the whole fleet the log is walked for those.
    if (!this.#selection.whole) this.#acts.push(...acts);
  }

  get #period() {
    const { from, to } = this.#wanted;
    return { from, to };
  }

  get #about(): DecisionsAbout {
    return {
      store: this.#store,
      cut: this.#cut,
      period: this.#period,
      exportedAt: this.#wanted.cut.at,
    };
  }

  async run(): Promise<Snapshot> {
    const { cut } = this.#wanted;
    this.#stages.step('cut', cut.size, cut.size);
    this.#from = this.#selection.whole ? await this.#firstEntry() : cut.size;
    this.#policies = [...(await hostPolicies(this.#about)), ...(await imagePolicies(this.#about))];
    await this.#hosts();
    const lists = {
      decisions: await this.#listed('decisions', (list) => this.#decisions(list)),
      reconciliations: await this.#listed('reconciliations', (list) => this.#reconciliations(list)),
      ...(await gatherImages(this.#imagesAbout())),
    };
    const { hosts, findings, touched } = this.#lists;
    const marks = {
      ...lists,
      hosts: await hosts.close(),
      findings: await findings.close(),
      touched: await touched.close(),
    };
    const state = {
      stage: 'done' as const,
      version: this.#order.server.version,
      inScope: this.#stages.hosts,
      head: await this.#head(),
      policies: this.#policies.map(({ fact }) => fact),
      marks,
    };
    await writeState(this.#folder, state);
    const snapshot = await Snapshot.in(this.#folder, state);
    if (snapshot === undefined) throw new Error(`${this.#folder}: what was just written there is not there`);
    return snapshot;
  }

  /** A list that is filled at once. */
  async #listed<List extends ListOf>(name: List, fill: (list: SpoolList<Lists[List]>) => Promise<void>) {
    await using list = await SpoolList.in<Lists[List]>(this.#folder, name);
    await fill(list);
    return list.close();
  }

  async #hosts(): Promise<void> {
    const store = this.#store;
    const about = await this.#storyAbout();
    const total = await store.evidence.countHosts();
    let { after, seen } = this.#at;
    for (;;) {
      const page = await store.evidence.hosts(after, EXPORT_PAGE);
      for (const { host, naming } of await hostsThen(page, this.#period.to, store)) {
        seen++;
        this.#stages.step('gather', seen, total);
        if (!this.#selection.has(host, naming)) continue;
        const story = await storyOf({ ...host, ...naming }, about);
        if (story === undefined) continue;
        this.#stages.hosts++;
        await this.#lists.hosts.add(story.host);
        for (const finding of story.findings) await this.#lists.findings.add(finding);
        const images = story.host.deployments.map(({ image }) => image);
        const { waivers, reports, judgements, acts } = story;
        await this.#touch({ images, waivers, reports, judgements, acts });
      }
      after = page.at(-1)?.id ?? after;
      const { hosts, findings, touched } = this.#lists;
      const marks = { hosts: await hosts.mark(), findings: await findings.mark(), touched: await touched.mark() };
      const { version } = this.#order.server;
      await writeState(this.#folder, { stage: 'hosts', version, after, seen, inScope: this.#stages.hosts, marks });
      if (page.length < EXPORT_PAGE) return;
    }
  }

  async #storyAbout(): Promise<StoryAbout> {
    const store = this.#store;
    const head = (await store.log.head())!;
    const policy = await this.#policyAtEnd();
    const rules = policy === undefined ? [] : [...policy.files, ...policy.state, ...policy.accounts];
    const groups = new Lru<string, NonNullable<Awaited<ReturnType<StoryAbout['group']>>>>(GROUPS_KEPT);
    const names = new Map<string, string>();
    return {
      ...this.#about,
      policy,
      controls: new Map(rules.map(({ id, controls: own }) => [id, own])),
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
  }

  async #head(): Promise<BundleHead> {
    const { logKey, server } = this.#order;
    const { cut, from, to, frameworks, parameters, sampling, createdBy } = this.#wanted;
    const { whole, text } = this.#selection;
    return {
      server: { ...server },
      exportedAt: formatInstant(cut.at),
      exportedBy: createdBy,
      period: { from: formatInstant(from), to: formatInstant(to) },
      selection: whole ? { hosts: 'all' } : { hosts: 'part', filter: text },
      frameworks: [...frameworks],
      parameters: { ...parameters },
      log: {
        origin: cut.origin,
        key: logKey,
        size: cut.size,
        root: cut.root,
        from: this.#from,
        level: await levelAt(this.#store.anchors, cut.origin, cut.size),
      },
      notices: whole ? { ...(await this.#store.notices.outcomes({ from, to })) } : null,
      sampling: sampling === null ? null : { method: 'sha256-order/1', ...sampling },
    };
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

  async #decisions(list: SpoolList<DecisionFact>): Promise<void> {
    const { from, to } = this.#period;
    const acts: AuditEntry[] = [];
    if (this.#selection.whole) {
      // Everything that was done in the period, by the log itself.
      for await (const entry of this.#entries(['act'], this.#from)) {
        if (entry.at < from || entry.at >= to) continue;
        await this.#touch({ acts: [entry.index] });
        const { facts } = JSON.parse(decoder.decode(entry.entry)) as { facts: { action: string } };
        if (isAcknowledgement(facts.action)) acts.push(...(await this.#actsAt([entry.index])));
      }
    } else {
      const own = [...new Set(this.#acts)].sort((a, b) => a - b);
      for (const act of await this.#actsAt(own))
        if (isAcknowledgement(act.action) && act.at >= from && act.at < to) acts.push(act);
    }
    const decided = async (fact: DecisionFact): Promise<void> => {
      await this.#touch({ acts: fact.history.flatMap(({ index }) => (index === null ? [] : [index])) });
      await list.add(fact);
    };
    for await (const fact of waiverFacts(this.#shown(), this.#wanted.scope, this.#about)) await decided(fact);
    for (const fact of await acknowledgementFacts(acts, this.#about)) await decided(fact);
    await this.#touch({ acts: this.#policies.flatMap(({ fact: { index } }) => (index === null ? [] : [index])) });
    // What was purged, that somebody said so; and where the log before ended.
    for await (const { index } of this.#entries(['purge', 'restart'], this.#selection.whole ? this.#from : 0))
      await this.#touch({ acts: [index] });
  }

  /** Of a part: what covers its hosts, whole where it reaches nobody else. */
  #shown(): Shown {
    if (this.#selection.whole) return () => 'whole';
    return ({ id }) => (this.#waivers.has(id) ? 'apart' : undefined);
  }

  async *#entries(kinds: readonly string[], from: number) {
    const store = this.#store;
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
      for (const { payload } of await this.#store.evidence.records(
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
  async #reconciliations(list: SpoolList<Lists['reconciliations']>): Promise<void> {
    if (!this.#selection.whole) return;
    const { log, size } = this.#cut;
    for await (const fact of reconciliationFacts(this.#store, { ...this.#period, log })) {
      const index = fact.index !== null && fact.index < size ? fact.index : null;
      if (index !== null) await this.#touch({ acts: [index] });
      await list.add({ ...fact, index });
    }
  }

  #imagesAbout(): ImagesAbout {
    const { origin, size } = this.#wanted.cut;
    return {
      store: this.#store,
      folder: this.#folder,
      images: [...this.#images].sort(),
      policies: this.#policies,
      stamps: { origin, from: this.#from, size },
    };
  }
}
