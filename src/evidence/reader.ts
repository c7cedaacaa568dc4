/** A bundle as the verifier reads it (docs/evidence.md 1): lists over all their parts, records in the log's order, facts as values. */
import type { z } from 'zod';
import { BundleError, ENTRIES, LogRecord, partName, type ListName } from './bundle.ts';
import {
  DecisionFact,
  FindingFact,
  HostFact,
  ImageFact,
  PolicyFact,
  ReconciliationFact,
  type BundleHead,
  type Facts,
} from './facts.ts';
import { bytesOf, textOf, valuesOf } from './lines.ts';
import type { ZipArchive } from './zip.ts';

/** What one member may take in memory: heads, proofs, policies, results. Lists and texts are read as they come. */
const SMALL_BYTES = 64 * 2 ** 20;

export class BundleReader {
  readonly #archive: ZipArchive;
  readonly names: ReadonlySet<string>;
  /** Lines read of each list by its newest reading. */
  readonly lines = new Map<ListName, number>();

  constructor(archive: ZipArchive) {
    this.#archive = archive;
    this.names = new Set(archive.members.map(({ name }) => name));
  }

  open(name: string): AsyncIterable<Uint8Array> {
    return this.#archive.open(name);
  }

  /** @throws {BundleError | ZipError} */
  bytes(name: string, max = SMALL_BYTES): Promise<Uint8Array> {
    return bytesOf(this.open(name), name, max);
  }

  async text(name: string): Promise<string> {
    return textOf(await this.bytes(name), name);
  }

  /** A list, part after part. @throws {BundleError | ZipError} MEMBER_SYNTAX with part and line */
  async *list<Schema extends z.ZodType>(list: ListName, schema: Schema): AsyncIterable<z.infer<Schema>> {
    let lines = 0;
    for (const part of this.#parts(list))
      for await (const value of valuesOf(this.open(part), part, schema)) {
        lines++;
        yield value;
      }
    this.lines.set(list, lines);
  }

  #parts(list: ListName | typeof ENTRIES): string[] {
    const out: string[] = [];
    for (let part = 1; this.names.has(partName(list, part)); part++) out.push(partName(list, part));
    return out;
  }

  /** Entries of `log/entries`, in order. @throws {BundleError} where a part ends inside one */
  async *entries(): AsyncIterable<Uint8Array> {
    for (const part of this.#parts(ENTRIES)) {
      let held = new Uint8Array();
      for await (const piece of this.open(part)) {
        const bytes = held.length === 0 ? piece : concat(held, piece);
        let at = 0;
        while (at + 2 <= bytes.length) {
          const length = (bytes[at]! << 8) | bytes[at + 1]!;
          if (at + 2 + length > bytes.length) break;
          yield bytes.slice(at + 2, at + 2 + length);
          at += 2 + length;
        }
        held = bytes.slice(at);
      }
      if (held.length > 0) throw new BundleError('MEMBER_SYNTAX', `${part}: it ends inside an entry`);
    }
  }

  /** The records of all three lists by rising index; which list an entry's record stands in follows from its kind. */
  async *records(): AsyncIterable<{ readonly list: ListName; readonly record: LogRecord }> {
    const sources = (['records/reports', 'records/judgements', 'records/acts'] as const).map((list) => {
      const reader = this.list(list, LogRecord)[Symbol.asyncIterator]();
      return { list, reader, head: reader.next() };
    });
    let last = -1;
    for (;;) {
      let least: { index: number; list: ListName; record: LogRecord; source: (typeof sources)[number] } | undefined;
      for (const source of sources) {
        const { done, value } = await source.head;
        if (done === true || (least !== undefined && least.index <= value.index)) continue;
        least = { index: value.index, list: source.list, record: value, source };
      }
      if (least === undefined) return;
      if (least.index <= last)
        throw new BundleError(
          'MEMBER_SYNTAX',
          `${least.list}: entry ${least.index} stands behind entry ${last}, or twice`,
        );
      last = least.index;
      yield { list: least.list, record: least.record };
      least.source.head = least.source.reader.next();
    }
  }

  facts(head: BundleHead, logHolds: boolean): Facts {
    return {
      head,
      hosts: () => this.list('facts/hosts', HostFact),
      images: () => this.list('facts/images', ImageFact),
      findings: () => this.list('facts/findings', FindingFact),
      decisions: () => this.list('facts/decisions', DecisionFact),
      policies: () => this.list('facts/policies', PolicyFact),
      reconciliations: () => this.list('facts/reconciliations', ReconciliationFact),
      logHolds,
    };
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
