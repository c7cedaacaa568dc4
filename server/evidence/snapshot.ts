/**
 * What the first half of an export leaves on disk (docs/evidence.md 7.4): facts, which entries of the log the bundle must hold, and everything else that
 * may change in the store before the file is written. How far it is stands in `state.json`, so that whoever comes next goes on from there.
 */
import { createHash } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  BundleHead,
  PolicyFact,
  type DecisionFact,
  type FindingFact,
  type HostFact,
  type ImageFact,
  type ReconciliationFact,
} from '#src/evidence/facts.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { IndexSet, isWhole, spooled, SpoolMark } from './spool.ts';

/** What a host, or a decision, adds to what the bundle must hold. */
export type Touched = {
  readonly images?: readonly string[];
  readonly waivers?: readonly string[];
  readonly reports?: readonly number[];
  readonly judgements?: readonly number[];
  readonly acts?: readonly number[];
};

/** A signed manifest header, and where the texts lie that it names. */
export type HeaderKept = {
  readonly envelope: string;
  readonly texts: readonly { readonly digest: string; readonly key: string }[];
};
/** A member that is small: its content in base64. */
export type FileKept = { readonly name: string; readonly base64: string };

export type Lists = {
  readonly hosts: HostFact;
  readonly findings: FindingFact;
  readonly touched: Touched;
  readonly decisions: DecisionFact;
  readonly images: ImageFact;
  readonly reconciliations: ReconciliationFact;
  readonly headers: HeaderKept;
  readonly files: FileKept;
};
export type ListOf = keyof Lists;

const Progress = z.strictObject({
  stage: z.literal('hosts'),
  /** Of the build that read them: another may read otherwise. */
  version: z.string(),
  /** The last host that was read, and how many were, in scope or not. */
  after: z.string(),
  seen: z.int().min(0),
  inScope: z.int().min(0),
  marks: z.strictObject({ hosts: SpoolMark, findings: SpoolMark, touched: SpoolMark }),
});
const Done = z.strictObject({
  stage: z.literal('done'),
  version: z.string(),
  inScope: z.int().min(0),
  head: BundleHead,
  policies: z.array(PolicyFact),
  marks: z.strictObject({
    hosts: SpoolMark,
    findings: SpoolMark,
    touched: SpoolMark,
    decisions: SpoolMark,
    images: SpoolMark,
    reconciliations: SpoolMark,
    headers: SpoolMark,
    files: SpoolMark,
  }),
});
const State = z.discriminatedUnion('stage', [Progress, Done]);
export type GatherProgress = Readonly<z.infer<typeof Progress>>;
export type GatherDone = Readonly<z.infer<typeof Done>>;

const STATE = 'state.json';

/** Told once all that it names lies on disk. */
export async function writeState(folder: string, state: GatherProgress | GatherDone): Promise<void> {
  const path = join(folder, STATE);
  await writeFile(`${path}.new`, JSON.stringify(state), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** Undefined where there is none that can be read (power may have been lost), and where another build wrote it. */
export async function readState(folder: string, version: string): Promise<GatherProgress | GatherDone | undefined> {
  try {
    const state = State.safeParse(JSON.parse(await readFile(join(folder, STATE), 'utf8'))).data;
    return state?.version === version ? state : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

export class Snapshot {
  readonly #folder: string;
  readonly #state: GatherDone;
  /** Entries of the log that the bundle must hold, by the list of their records. */
  readonly records: Readonly<Record<'reports' | 'judgements' | 'acts', IndexSet>>;

  private constructor(folder: string, state: GatherDone, records: Snapshot['records']) {
    this.#folder = folder;
    this.#state = state;
    this.records = records;
  }

  /** Undefined where something that the state names is not as it was written. */
  static async in(folder: string, state: GatherDone): Promise<Snapshot | undefined> {
    for (const [list, mark] of Object.entries(state.marks)) if (!(await isWhole(folder, list, mark))) return undefined;
    const { size } = state.head.log;
    const records = { reports: new IndexSet(size), judgements: new IndexSet(size), acts: new IndexSet(size) };
    const found = new Snapshot(folder, state, records);
    for await (const touched of found.list('touched')) found.#touch(touched);
    return found;
  }

  #touch({ reports = [], judgements = [], acts = [] }: Touched): void {
    for (const index of reports) this.records.reports.add(index);
    for (const index of judgements) this.records.judgements.add(index);
    for (const index of acts) this.records.acts.add(index);
  }

  /** Of all that is in it. */
  get id(): string {
    return createHash('sha256').update(canonicalJson(this.#state)).digest('hex');
  }

  get head(): BundleHead {
    return this.#state.head;
  }

  get policies(): readonly PolicyFact[] {
    return this.#state.policies;
  }

  /** Hosts in scope. */
  get inScope(): number {
    return this.#state.inScope;
  }

  list<List extends ListOf>(list: List): AsyncGenerator<Lists[List]> {
    return spooled<Lists[List]>(this.#folder, list);
  }
}
