/**
 * Writes an evidence bundle (docs/evidence.md 1), forward only and in flat memory: members as they are read, each hashed on its way, the signed
 * statement over all of them last. One that broke off goes on behind its last whole member (7.5).
 */
import { fromBase64, toBase64, toHex } from '#src/bytes.ts';
import { BUNDLE_PART_BYTES } from '#src/limits.ts';
import { printInclusionFile } from '#src/log/prooffile.ts';
import { printEntryBundle } from '#src/log/tile.ts';
import { canonicalJson } from '#src/signing/canonical.ts';
import { printEnvelope, signEnvelope } from '#src/signing/dsse.ts';
import { fingerprintOf, spkiOf, type Signer } from '#src/signing/ed25519.ts';
import {
  ENTRIES,
  LISTS,
  partName,
  PREDICATE_TYPE,
  STATEMENT_MEMBER,
  STATEMENT_PAYLOAD_TYPE,
  STATEMENT_TYPE,
  type ListName,
  type LogEdge,
  type LogRecord,
  type ProvenEntry,
  type Statement,
} from './bundle.ts';
import type { Facts } from './facts.ts';
import { verifyText } from './verifytext.ts';
import type { Entry, NewMember } from './zip.ts';
import { writeZip } from './zipwriter.ts';

/** SHA-256 of bytes that come in pieces. */
export type RunningHash = { update(bytes: Uint8Array): unknown; digest(): Uint8Array };

export type BundleParts = Omit<Facts, 'logHolds'> & {
  readonly log: {
    /** The checkpoint's note, with every cosignature. */
    readonly checkpoint: string;
    /** Hashes of the whole subtrees of the entries before `head.log.from`, left to right (`subtreesOf(0, from)`). */
    readonly left: readonly Uint8Array[];
    /** Entries from `head.log.from` to the checkpoint's size, but for the first `skip`. */
    entries(skip: number): AsyncIterable<Uint8Array>;
    readonly edge: LogEdge;
    /** The last entry with its proof: for public tools. */
    readonly last: ProvenEntry;
  };
  /** What lies beside entries, by rising index, each in the list of its kind, but for the first `skip`. */
  reports(skip: number): AsyncIterable<LogRecord>;
  judgements(skip: number): AsyncIterable<LogRecord>;
  acts(skip: number): AsyncIterable<LogRecord>;
  /** Signed manifest headers, each an envelope's text. */
  headers(): AsyncIterable<string>;
  /** The other members: `manifests/texts/…`, `signatures/…`, `trust-roots/…`, `policies/…`, `controls/…`, `oscal/…`, `csv/…`, `report/…`, `log/timestamps/…`, `log/consistency/…`. */
  files(): AsyncIterable<NewMember> | Iterable<NewMember>;
};

/** A member that was written to its end. */
export type WrittenMember = {
  readonly entry: Entry;
  /** Of its content, hex. */
  readonly sha256: string;
  /** Of a part of a list: how many of the list's lines, or of the log's entries, it holds; else 0. */
  readonly pieces: number;
};

export type BundleProgress = {
  /** What stands in the file already, of the very same parts. */
  readonly before?: readonly WrittenMember[];
  /** Called when every byte of a member was taken. */
  readonly done?: (member: WrittenMember) => Promise<void>;
};

const encoder = new TextEncoder();

/** The bytes of a bundle. `signer` is the server's key, whose fingerprint auditors were given by another way. */
export function writeBundle(
  parts: BundleParts,
  signer: Signer,
  sha256: () => RunningHash,
  progress: BundleProgress = {},
): AsyncIterable<Uint8Array> {
  const { before = [], done } = progress;
  const written: WrittenMember[] = [...before];
  const hashed = new Map<string, Pick<WrittenMember, 'sha256' | 'pieces'>>();
  return writeZip(membersOf({ parts, signer, sha256, written, hashed }), {
    before: before.map(({ entry }) => entry),
    done: async (entry) => {
      const found = hashed.get(entry.name);
      // The statement itself: nothing comes behind it.
      if (found === undefined) return;
      hashed.delete(entry.name);
      written.push({ entry, ...found });
      await done?.(written.at(-1)!);
    },
  });
}

type Writing = {
  readonly parts: BundleParts;
  readonly signer: Signer;
  readonly sha256: () => RunningHash;
  /** Members that stand in the file, in their order; it grows. */
  readonly written: readonly WrittenMember[];
  /** Of the member that is being written, once it was read. */
  readonly hashed: Map<string, Pick<WrittenMember, 'sha256' | 'pieces'>>;
};
type CountedMember = NewMember & { readonly pieces?: () => number };

async function* membersOf(writing: Writing): AsyncIterable<NewMember> {
  const { parts, signer, sha256, written, hashed } = writing;
  const there = new Set(written.map(({ entry }) => entry.name));
  const signed = ({ name, content, pieces }: CountedMember): NewMember => ({
    name,
    content: (async function* () {
      const hash = sha256();
      for await (const piece of content instanceof Uint8Array ? [content] : content) {
        hash.update(piece);
        yield piece;
      }
      hashed.set(name, { sha256: toHex(hash.digest()), pieces: pieces?.() ?? 0 });
    })(),
  });
  const { head, log } = parts;
  const text = (name: string, content: string): NewMember => ({ name, content: encoder.encode(content) });
  const proof = log.last.proof.map(fromBase64);
  const first: readonly NewMember[] = [
    text('VERIFY.md', verifyText(head, fingerprintOf(signer.publicKey))),
    text('server.pub.pem', pemOf(spkiOf(signer.publicKey))),
    text('log/key', `${head.log.key}\n`),
    text('log/checkpoint', log.checkpoint),
    { name: 'log/left', content: joined(log.left) },
    text('log/edge.json', `${canonicalJson(log.edge)}\n`),
    { name: 'log/last.entry', content: fromBase64(log.last.entry) },
    text('log/last.tlog-proof', printInclusionFile({ index: log.last.index, proof, checkpoint: log.checkpoint })),
  ];
  for (const member of first) if (!there.has(member.name)) yield signed(member);
  const lists: Readonly<Record<ListName, (skip: number) => AsyncIterable<unknown>>> = {
    'records/reports': (skip) => parts.reports(skip),
    'records/judgements': (skip) => parts.judgements(skip),
    'records/acts': (skip) => parts.acts(skip),
    'facts/hosts': (skip) => behind(parts.hosts(), skip),
    'facts/images': (skip) => behind(parts.images(), skip),
    'facts/findings': (skip) => behind(parts.findings(), skip),
    'facts/decisions': (skip) => behind(parts.decisions(), skip),
    'facts/policies': (skip) => behind(parts.policies(), skip),
    'facts/reconciliations': (skip) => behind(parts.reconciliations(), skip),
    'manifests/headers': (skip) => behind(enveloped(parts.headers()), skip),
  };
  const open = (list: (typeof LISTED)[number], skip: number): AsyncIterable<Uint8Array> =>
    list === ENTRIES ? framed(log.entries(skip)) : printed(lists[list](skip));
  for (const list of LISTED)
    for await (const part of inParts(list, written, (skip) => open(list, skip))) yield signed(part);
  for await (const member of parts.files()) if (!there.has(member.name)) yield signed(member);
  const subject = written.map(({ entry: { name }, sha256: digest }) => ({ name, digest: { sha256: digest } }));
  const statement: Statement = {
    _type: STATEMENT_TYPE,
    subject,
    predicateType: PREDICATE_TYPE,
    predicate: { head, counts: LISTS.map((list) => ({ list, lines: piecesOf(list, written).pieces })) },
  };
  const envelope = await signEnvelope(STATEMENT_PAYLOAD_TYPE, canonicalJson(statement), signer);
  yield { name: STATEMENT_MEMBER, content: encoder.encode(printEnvelope(envelope)) };
}

/** In their order. */
const LISTED = [ENTRIES, ...LISTS] as const;

/** Parts of a list that stand in the file, and what is in them. */
function piecesOf(name: ListName | typeof ENTRIES, written: readonly WrittenMember[]) {
  let parts = 0;
  let pieces = 0;
  for (const member of written) {
    if (member.entry.name !== partName(name, parts + 1)) continue;
    parts++;
    pieces += member.pieces;
  }
  return { parts, pieces };
}

/**
 * Members of some 256 MiB out of a list, at least one, behind those that stand there. Pieces are never parted. Each part must be read to its end
 * before the next is asked for, as `writeZip` does.
 */
async function* inParts(
  name: ListName | typeof ENTRIES,
  written: readonly WrittenMember[],
  open: (skip: number) => AsyncIterable<Uint8Array>,
): AsyncIterable<CountedMember> {
  const before = piecesOf(name, written);
  // What stands behind its last part was begun when the list was over.
  if (before.parts > 0 && written.at(-1)!.entry.name !== partName(name, before.parts)) return;
  const reader = open(before.pieces)[Symbol.asyncIterator]();
  let next = await reader.next();
  for (let part = before.parts + 1; part === 1 || !next.done; part++) {
    let pieces = 0;
    yield {
      name: partName(name, part),
      pieces: () => pieces,
      content: (async function* () {
        for (let bytes = 0; !next.done && bytes < BUNDLE_PART_BYTES; next = await reader.next()) {
          bytes += next.value.length;
          pieces++;
          yield next.value;
        }
      })(),
    };
  }
}

async function* behind<T>(values: AsyncIterable<T>, skip: number): AsyncIterable<T> {
  let at = 0;
  for await (const value of values) if (at++ >= skip) yield value;
}

async function* printed(values: AsyncIterable<unknown>): AsyncIterable<Uint8Array> {
  for await (const value of values) yield encoder.encode(`${canonicalJson(value)}\n`);
}

async function* framed(entries: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  for await (const entry of entries) yield printEntryBundle([entry]);
}

async function* enveloped(envelopes: AsyncIterable<string>): AsyncIterable<{ envelope: string }> {
  for await (const envelope of envelopes) yield { envelope };
}

function joined(hashes: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(32 * hashes.length);
  for (const [i, hash] of hashes.entries()) out.set(hash, 32 * i);
  return out;
}

/** A public key as openssl reads it. */
function pemOf(spki: Uint8Array): string {
  return `-----BEGIN PUBLIC KEY-----\n${toBase64(spki)}\n-----END PUBLIC KEY-----\n`;
}
