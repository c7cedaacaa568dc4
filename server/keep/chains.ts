/** Each host's chain and kept reports: bytes, signatures, numbers, and that each report is there once (docs/durability.md 3.2). */
import { hash } from 'node:crypto';
import type { Digest } from '#src/digest.ts';
import { BootproofError } from '#src/error.ts';
import { CHAIN_GAPS_MAX, FSCK_PAGE_BYTES } from '#src/limits.ts';
import { openReport } from '#src/report/accept.ts';
import { verifyEnvelope } from '#src/signing/dsse.ts';
import { parsePublicKey, type PublicKey } from '#src/signing/ed25519.ts';
import { verifyInPool } from '#src/signing/node.ts';
import type { Host } from '#server/store/records.ts';
import type { SoundHost, Soundness, SoundReport } from '#server/store/sound/reads.ts';
import type { FaultKind, FaultList } from './fault.ts';

const RESTORE =
  'restore a backup that is sound, or take it as lost; the evidence log says what was taken (bootproof log verify)';
const BYTES: FaultKind = {
  code: 'REPORT_BYTES',
  table: 'report',
  means: 'an acknowledged report is not what the host sent: its bytes, or what its row says of it, were changed',
  todo: RESTORE,
};
const TWICE: FaultKind = {
  code: 'REPORT_TWICE',
  table: 'report',
  means: 'one report stands in two rows: it is counted twice',
  todo: 'report it as a fault of ours, with the two rows',
};
const BROKEN: FaultKind = {
  code: 'CHAIN',
  table: 'report',
  means: 'a report names one before it that is not here, and no gap was ever told of this host: a report was lost',
  todo: RESTORE,
};
const PULSE: FaultKind = {
  code: 'CHAIN',
  table: 'pulse',
  means: 'what is remembered of the chain does not fit the reports: the next report may be refused, or taken twice',
  todo: 'restore a backup that is sound; or let the host enrol anew (bootproof agent enroll --again)',
};

const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/** What the bytes of a report say; a text where they are wrong. */
type Said = { readonly seq: number; readonly isFull: boolean; readonly named: Digest | null; readonly count: number };

/** Walks every host with its reports; answers how many there are. */
export async function checkChains(
  sound: Soundness,
  faults: FaultList,
): Promise<{ readonly hosts: number; readonly reports: number; readonly purged: number }> {
  const seen = { hosts: 0, reports: 0, purged: 0 };
  for await (const page of sound.hosts()) {
    const chains = new Map(page.map((one) => [one.host.id, new HostChain(one, sound, faults)]));
    seen.hosts += page.length;
    let held: SoundReport[] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      // Signatures are checked in the thread pool, as many at once as there are threads; the order of what is told stays.
      const said = await Promise.all(held.map(async (report) => chains.get(report.hostId)?.read(report)));
      for (const [i, report] of held.entries()) chains.get(report.hostId)?.add(report, said[i]);
      [held, bytes] = [[], 0];
    };
    for await (const report of sound.reports(page[0]!.host.id, page.at(-1)!.host.id)) {
      seen.reports++;
      if (report.envelope.length === 0) seen.purged++;
      held.push(report);
      bytes += report.envelope.length;
      if (held.length >= 64 || bytes >= FSCK_PAGE_BYTES) await flush();
    }
    await flush();
    for (const chain of chains.values()) await chain.end();
  }
  return seen;
}

class HostChain {
  readonly #host: Host;
  readonly #same: SoundHost['same'];
  readonly #sound: Soundness;
  readonly #faults: FaultList;
  readonly #key: PublicKey | undefined;
  /** By digest: the number under which it is kept. */
  readonly #kept = new Map<Digest, number>();
  /** By number: digest of the first envelope. */
  readonly #first = new Map<number, Digest>();
  readonly #orphans: { readonly seq: number; readonly named: Digest }[] = [];
  #newestFull: { readonly seq: number; readonly digest: Digest } | null = null;

  constructor({ host, same }: SoundHost, sound: Soundness, faults: FaultList) {
    this.#host = host;
    this.#same = same;
    this.#sound = sound;
    this.#faults = faults;
    this.#key = keyOf(host.publicKey);
    if (this.#key === undefined)
      faults.add(
        { ...PULSE, table: 'host', means: 'the key of this host is none: no report of it can be checked' },
        host.id,
      );
  }

  /** What the envelope says; a text where it is not this host's, or not what its row says. Undefined where it was purged. */
  async read({
    seq,
    digest,
    envelope,
  }: Pick<SoundReport, 'seq' | 'digest' | 'envelope'>): Promise<Said | string | undefined> {
    if (envelope.length === 0) return undefined;
    const opened = openReport(envelope, sha256);
    if (opened.kind === 'refused') return `its bytes are no report: ${opened.message}`;
    if (opened.digest !== digest) return `its row says ${digest}, its bytes are ${opened.digest}`;
    if (opened.host !== this.#host.id) return `it is a report of ${opened.host}`;
    const { seq: own, kind, previous, full, count } = opened.value as Readonly<Record<string, unknown>>;
    if (own !== seq) return `it is number ${String(own)} of the host`;
    if (this.#key !== undefined && !(await verifyEnvelope(opened.envelope, this.#key, verifyInPool)))
      return 'it is not signed by the key of its host';
    const isFull = kind === 'full';
    return { seq, isFull, named: (isFull ? previous : full) as Digest | null, count: isFull ? 0 : Number(count) };
  }

  add({ seq, copy, kind, digest }: SoundReport, said: Said | string | undefined): void {
    const { id, chain } = this.#host;
    const at = `${id} ${seq} ${copy}`;
    if (typeof said === 'string') this.#faults.add(BYTES, at, said);
    const twin = this.#kept.get(digest);
    if (twin !== undefined) this.#faults.add(TWICE, at, `it is number ${twin}, too: ${digest}`);
    this.#kept.set(digest, seq);
    if (seq > chain.headSeq)
      this.#faults.add(PULSE, id, `report ${seq} is here, and the chain ends with ${chain.headSeq}`);
    if (copy > 0 || kind === 'fork') return;
    this.#first.set(seq, digest);
    if (chain.gaps.some(({ from, to }) => from <= seq && seq <= to))
      this.#faults.add(PULSE, id, `report ${seq} is here, and the chain says that it never came`);
    if (typeof said === 'object' && kind !== 'history' && said.isFull !== (kind === 'full'))
      this.#faults.add(BYTES, at, `its row says that it is ${kind}`);
    if (kind !== 'full') return;
    if (typeof said === 'object' && said.named !== null && !this.#kept.has(said.named))
      this.#orphans.push({ seq, named: said.named });
    this.#newestFull = { seq, digest };
  }

  async end(): Promise<void> {
    const { id, chain, last } = this.#host;
    const wrong = (found: string): void => this.#faults.add(PULSE, id, found);
    const { headSeq, recent, full, gaps } = chain;
    const newest = recent.at(-1);
    if ((newest?.seq ?? 0) !== headSeq)
      wrong(`it ends with ${headSeq}, and the newest that it remembers is ${newest?.seq ?? 'none'}`);
    if ((last?.seq ?? 0) !== headSeq) wrong(`it ends with ${headSeq}, and the last report was ${last?.seq ?? 'none'}`);
    if (recent.some(({ seq }, i) => i > 0 && recent[i - 1]!.seq >= seq)) wrong('what it remembers is not in order');
    for (const { seq, digest } of recent) {
      const kept = this.#first.get(seq);
      if (kept !== undefined && kept !== digest) wrong(`it remembers ${digest} as number ${seq}, and ${kept} is kept`);
    }
    if (gaps.some(({ from, to }, i) => from > to || to > headSeq || (i > 0 && gaps[i - 1]!.to >= from)))
      wrong('its gaps are not in order');
    if ((full?.seq ?? null) !== (this.#newestFull?.seq ?? null))
      wrong(
        `it leans on the full report ${full?.seq ?? 'none'}, and the newest that is kept is ${this.#newestFull?.seq ?? 'none'}`,
      );
    await this.#checkSame(wrong);
    await this.#checkOrphans();
  }

  async #checkSame(wrong: (found: string) => void): Promise<void> {
    const { id, chain } = this.#host;
    const same = this.#same;
    if (same === null) return;
    if (same.seq > chain.headSeq) wrong(`its newest same is ${same.seq}, and the chain ends with ${chain.headSeq}`);
    const said = await this.read(same);
    if (typeof said !== 'object')
      return this.#faults.add({ ...BYTES, table: 'pulse' }, `${id} ${same.seq}`, said ?? 'it lost its bytes');
    const kept = this.#first.get(same.seq);
    // An export keeps the newest before its day is over: then it stands in both, and is one report.
    if (kept !== undefined && kept !== same.digest) wrong(`its newest same ${same.seq} is not the one that is kept`);
    if (said.isFull) wrong(`its newest same ${same.seq} is a full report`);
    if (same.seq === chain.headSeq && said.named === chain.full?.digest && said.count !== chain.sameCount)
      wrong(`its newest same was said ${said.count} times, and it counts ${chain.sameCount}`);
  }

  /** Reports that lean on one that is not here. Where a gap was told of the host, it may never have come. */
  async #checkOrphans(): Promise<void> {
    const { id, chain } = this.#host;
    const missing = this.#orphans.filter(({ named }) => !this.#kept.has(named));
    if (missing.length === 0 || chain.flags.gap !== undefined || chain.gaps.length >= CHAIN_GAPS_MAX) return;
    const untold = missing.filter(({ seq }) => !chain.gaps.some(({ from }) => from < seq));
    if (untold.length === 0 || (await this.#sound.hadGap(id))) return;
    for (const { seq, named } of untold)
      this.#faults.add(BROKEN, `${id} ${seq} 0`, `it names ${named} as the full report before it`);
  }
}

function keyOf(text: string): PublicKey | undefined {
  try {
    return parsePublicKey(text);
  } catch (error) {
    if (!(error instanceof BootproofError)) throw error;
    return undefined;
  }
}
